package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"vita/test/lab"
)

// TestConfined looks at what both programs have kept, in each of their threads,
// while a gateway runs with interfaces open.
func TestConfined(t *testing.T) {
	l := network(t)
	g := gateway(t, l, lab.GwA)
	restconf(t, g, "204", "PATCH", "", configA)
	out, err := exec.Command("ip", "netns", "pids", l.NS(lab.GwA)).Output()
	if err != nil {
		t.Fatal(err)
	}
	// A machine may not have had all of them to give.
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(own), "CapPrm:\t")
	value, _, _ = strings.Cut(value, "\n")
	have, err := strconv.ParseUint(value, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	const engine = 1<<12 | 1<<13 | 1<<14 | 1<<17 | 1<<23 | 1<<24 | 1<<39 // CAP_NET_ADMIN, NET_RAW, IPC_LOCK, SYS_RAWIO, SYS_NICE, SYS_RESOURCE, BPF
	capabilities := map[string]string{"vitad": fmt.Sprintf("%016x", 0), "vita-engine": fmt.Sprintf("%016x", engine&have)}
	seen := map[string]bool{}
	for pid := range strings.FieldsSeq(string(out)) {
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			t.Fatal(err)
		}
		program := strings.TrimSpace(string(name))
		caps, ok := capabilities[program]
		if !ok {
			continue
		}
		seen[program] = true
		threads, err := filepath.Glob("/proc/" + pid + "/task/*/status")
		if err != nil || len(threads) < 3 {
			t.Fatalf("threads of %s: %v %v", program, threads, err)
		}
		for _, file := range threads {
			status, err := os.ReadFile(file)
			if err != nil {
				continue // the thread has ended
			}
			for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapEff:\t" + caps + "\n", "CapPrm:\t" + caps + "\n", "CapBnd:\t" + caps + "\n"} {
				if !strings.Contains(string(status), want) {
					t.Errorf("%s, %s: no %q", program, file, want)
				}
			}
		}
	}
	if len(seen) != len(capabilities) {
		t.Errorf("of the programs only %v run", seen)
	}
	if log := g.Vitad().Tail(200); strings.Contains(log, "confines") {
		t.Errorf("this kernel confines but in part:\n%s", log)
	}
}
