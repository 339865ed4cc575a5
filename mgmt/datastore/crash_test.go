package datastore

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vita/mgmt/internal/edit"
)

const (
	crashDir  = "VITA_TEST_CRASH_DIR"
	crashStep = "VITA_TEST_CRASH_STEP" // "STEP COUNT": die at that step of that commit
)

// TestMain is the child of TestKill when it is told so: it commits, says so,
// and commits again until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Println("error", commitForever(dir))
		os.Exit(1)
	}
	if arg := os.Getenv(confirmDir); arg != "" {
		fmt.Println("error", confirmForever(arg))
		os.Exit(1)
	}
	if dir := os.Getenv(startupDir); dir != "" {
		fmt.Println("error", saveForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// commitForever makes commits that each move a pair of routes on: commit n
// leaves routes of number n and n+10000 and no others, and mtu n.
func commitForever(dir string) error {
	step, count, _ := strings.Cut(os.Getenv(crashStep), " ")
	left, _ := strconv.Atoi(count) // 0 without one
	d, err := Open(Options{Dir: dir, OnStep: func(s string) {
		if s == step {
			if left--; left == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // until it has come
			}
		}
	}})
	if err != nil {
		return err
	}
	first, err := state(xmlOf(&testing.T{}, d, Running))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	t := &testing.T{}
	for n := first + 1; ; n++ {
		config := fmt.Sprintf(`<mtu xmlns="vita:esp-gateway">%d</mtu>`, n) + private4 + public4 + route4(n) + route4(n+10000)
		fmt.Println("begin", n)
		if n%2 == 0 {
			err = d.Edit(ctx, alice, Running, decode(t, config), EditOptions{Default: edit.Replace})
		} else if err = d.Edit(ctx, alice, Candidate, decode(t, config), EditOptions{Default: edit.Replace}); err == nil {
			err = d.Commit(ctx, alice)
		}
		if err != nil {
			return err
		}
		fmt.Println("confirmed", n)
	}
}

// state returns the number of the commit that a configuration is of, and an
// error if it is half of one.
func state(config string) (int, error) {
	if config == "" {
		return 0, nil
	}
	_, rest, ok := strings.Cut(config, "<mtu xmlns=\"vita:esp-gateway\">")
	text, _, _ := strings.Cut(rest, "<")
	n, err := strconv.Atoi(text)
	if !ok || err != nil {
		return 0, fmt.Errorf("half a commit: %s", config)
	}
	a, b := route4(n), route4(n+10000)
	if fmt.Sprint(n+10000) < fmt.Sprint(n) { // in the order of their ids
		a, b = b, a
	}
	if want := private4 + public4 + a + b + fmt.Sprintf(`<mtu xmlns="vita:esp-gateway">%d</mtu>`, n); config != want {
		return 0, fmt.Errorf("half of commit %d:\n%s\nwant\n%s", n, config, want)
	}
	return n, nil
}

// TestKill kills a process that commits, at each step of a commit in turn and
// at random moments, a hundred times. No confirmed commit is lost, and none is
// there by half.
func TestKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	steps := []string{"validate", "prepare", "persist", "publish", "done"}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 100 {
		cmd := exec.Command(self, "-test.run=^$")
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		var delay time.Duration
		if round%2 == 0 {
			cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s %d", crashStep, steps[round/2%len(steps)], 1+round%3))
		} else {
			delay = time.Duration(1+random.IntN(40_000)) * time.Microsecond
		}
		began, confirmed := runChild(t, cmd, delay)
		d, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		n, err := state(xmlOf(t, d, Running))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if confirmed > 0 && n < confirmed || began > 0 && n > began {
			t.Fatalf("round %d: commit %d is stored, %d was confirmed, %d was begun", round, n, confirmed, began)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runChild runs a child until it is dead, and returns the last commits that
// it began and confirmed. With a delay it is killed so long after it was ready.
func runChild(t *testing.T, cmd *exec.Cmd, delay time.Duration) (began, confirmed int) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := false
	watchdog := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // what comes after the last newline was cut off by the end
		}
		if err != nil {
			t.Fatal(err)
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.Atoi(rest)
		switch word {
		case "ready":
			ready = true
			if delay > 0 {
				time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
			}
		case "begin":
			began = n
		case "confirmed":
			confirmed = n
		case "error":
			t.Fatal(line)
		}
	}
	_ = cmd.Wait() // it was killed
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ready || !ok || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("child: %v, ready %v", cmd.ProcessState, ready)
	}
	return began, confirmed
}
