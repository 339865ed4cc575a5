package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vita/test/lab"
)

var manyRoutes = flag.Int("routes", 300, "routes of TestManyRoutes; 10000 in the soak")

// routes returns n routes to the other gateway as JSON, in nets of their own
// below base.
func routes(n int, base byte, peer string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `{"id":"r%d","net":"100.%d.%d.%d/30","spi":%d,"preshared-key":"%064x","gateway":[{"ip":%q}]}`,
			i, int(base)+i>>14, i>>6&255, i<<2&255, 2000+i, i+1, peer)
	}
	return b.String()
}

// cpu returns the processor time that a process has used.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	user, err := strconv.Atoi(f[11])
	if err != nil {
		t.Fatal(err)
	}
	system, err := strconv.Atoi(f[12])
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident returns a process's memory in KiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestManyRoutes negotiates keys for many routes between two real gateways,
// restarts one of them as a whole, and wants all routes back within a minute.
func TestManyRoutes(t *testing.T) {
	n := *manyRoutes
	l := network(t)
	a, b := sideA(), sideB()
	a.more, b.more = `"vita-esp-gateway:mtu": 1400`, `"vita-esp-gateway:mtu": 1400` // the default times
	gwA, gwB := twoGateways(t, l, a, b)
	empty := resident(t, gwA.Vitad().Cmd.Process.Pid)
	for _, g := range []struct {
		gw   *lab.Gateway
		base byte
		peer string
	}{{gwA, 64, lab.PubBIP}, {gwB, 96, lab.PubAIP}} {
		file := filepath.Join(l.Dir, "routes.json")
		doc := `{"ietf-restconf:data":{"vita-esp-gateway:route4":[` + routes(n, g.base, g.peer) + `]}}`
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := g.gw.Vitactl(t.Context(), "config", "load", "merge", file); err != nil {
			t.Fatal(err)
		}
		if _, err := g.gw.Vitactl(t.Context(), "config", "commit"); err != nil {
			t.Fatal(err)
		}
	}
	up := func(g *lab.Gateway) int {
		out, err := g.Vitactl(t.Context(), "state", "/gateway-state/inbound-sa")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(out, "/sa-state/rxerrors ")
	}
	wait := func(what string) time.Duration {
		begun := time.Now()
		// Each route has two inbound SAs once both ends have initiated, and
		// one is enough for packets.
		for up(gwA) < n+1 || up(gwB) < n+1 {
			if time.Since(begun) > 100*time.Second {
				t.Fatalf("%s: %d and %d inbound SAs of %d routes", what, up(gwA), up(gwB), n)
			}
			time.Sleep(time.Second)
		}
		return time.Since(begun)
	}
	t.Logf("%d routes: up after %v", n, wait("start").Round(time.Second))
	gwB.Vitad().Stop(20 * time.Second)
	start(t, gwB)
	took := wait("restart")
	t.Logf("up %v after the restart of one end", took.Round(time.Second))
	if took > time.Minute {
		t.Errorf("not all routes were up within a minute")
	}
	pid := gwA.Vitad().Cmd.Process.Pid
	t.Logf("vitad has %d MiB, %d MiB without the routes", resident(t, pid)>>10, empty>>10)
	if n >= 10_000 { // a whole sa-ttl, with its rekeys
		before := cpu(t, pid)
		time.Sleep(600 * time.Second)
		t.Logf("vitad used %.2f %% of a core over sa-ttl", (cpu(t, pid)-before).Seconds()/6)
	}
}
