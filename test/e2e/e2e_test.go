// Package e2e runs whole gateways, built as they are shipped, in a lab of
// network namespaces. It needs root.
package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vita/test/lab"
	"vita/test/scenario"
)

// build is the folder with the programs, made by TestMain.
var build string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "vita-e2e-")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer os.RemoveAll(dir)
		build = dir
		c := exec.Command("go", "build", "-o", dir, "vita/cmd/vitad", "vita/cmd/vita-engine", "vita/cmd/vitactl")
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			fmt.Printf("build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// network builds a lab that the test's end takes down. In the quick loop
// there is no root, and these tests are not part of it.
func network(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func gateway(t *testing.T, l *lab.Lab, host string, flags ...string) *lab.Gateway {
	t.Helper()
	g, err := l.NewGateway(t.Context(), host, build, flags...)
	if err != nil {
		t.Fatal(err)
	}
	start(t, g)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", host, g.Vitad().Tail(30))
		}
	})
	return g
}

func start(t *testing.T, g *lab.Gateway) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestScenario is the demo, with its demands.
func TestScenario(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	res, err := scenario.Run(ctx, scenario.Options{Build: build, Say: func(f string, a ...any) { t.Logf(f, a...) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Failures() {
		t.Error(f)
	}
	t.Logf("%+v", *res)
}

const psk = "9a1c0b5d7e2f4a6880716253443526170897a6b5c4d3e2f1000f1e2d3c4b5a69"

const configA = `{"ietf-restconf:data": {
  "vita-esp-gateway:private-interface4": {"ifname": "` + lab.PrivIf + `", "ip": "` + lab.PrivAIP + `", "nexthop-ip": "` + lab.HostAIP + `"},
  "vita-esp-gateway:public-interface4": [{"ip": "` + lab.PubAIP + `", "ifname": "` + lab.PubIf + `", "nexthop-ip": "` + lab.PubBIP + `"}],
  "vita-esp-gateway:route4": [{"id": "site_b", "net": "10.10.2.0/24", "spi": 1001, "preshared-key": "` + psk + `",
    "gateway": [{"ip": "` + lab.PubBIP + `"}]}],
  "vita-esp-gateway:negotiation-ttl": 1
}}`

func restconf(t *testing.T, g *lab.Gateway, want, method, path, body string) string {
	t.Helper()
	status, answer, err := g.Curl(t.Context(), method, path, "", body)
	if err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Fatalf("%s %s: status %s, want %s: %s", method, path, status, want, answer)
	}
	return answer
}

// TestForeignPeer lets a peer that shares no code with the gateway play both
// roles of the key exchange with it.
func TestForeignPeer(t *testing.T) {
	l := network(t)
	g := gateway(t, l, lab.GwA)
	if _, err := l.Run(t.Context(), lab.Wire, "ip", "addr", "add", lab.PubBIP+"/24", "dev", "br0"); err != nil {
		t.Fatal(err)
	}
	restconf(t, g, "204", "PATCH", "", configA)
	out, err := l.Run(t.Context(), lab.Wire, "/usr/bin/python3", "../interop/vitaske.py", "--me", lab.PubBIP, "--peer", lab.PubAIP,
		"--spi", "1001", "--psk", psk, "--inner", lab.HostBIP, "--host", lab.HostAIP)
	if err != nil || !strings.Contains(out, "responder: ok\ninitiator: ok") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestRefusedCommitChangesNothing asks for what cannot be applied, and wants
// an error with its path, and everything as it was.
func TestRefusedCommitChangesNothing(t *testing.T) {
	l := network(t)
	g := gateway(t, l, lab.GwA)
	restconf(t, g, "204", "PATCH", "", configA)
	before := restconf(t, g, "200", "GET", "?content=config", "")
	answer := restconf(t, g, "500", "PATCH", "", `{"ietf-restconf:data":{"vita-esp-gateway:private-interface4":{"ifname":"nosuch0"}}}`)
	if !strings.Contains(answer, "/vita-esp-gateway:private-interface4/ifname") || !strings.Contains(answer, "no such interface") {
		t.Errorf("the error says neither where nor why: %s", answer)
	}
	// A port that is taken: the private interface is a public one, too.
	answer = restconf(t, g, "409", "PATCH", "", `{"ietf-restconf:data":{"vita-esp-gateway:public-interface4":[{"ip":"`+lab.PubAIP+`","ifname":"`+lab.PrivIf+`"}]}}`)
	if !strings.Contains(answer, "/ifname") || !strings.Contains(answer, "in use") {
		t.Errorf("the error says neither where nor why: %s", answer)
	}
	// The machine is not the gateway's to look after: it is no appliance.
	for config, path := range map[string]string{
		`"ietf-system:system":{"hostname":"gw1"}`:                                                               "/ietf-system:system/hostname",
		`"ietf-system:system":{"ntp":{"server":[{"name":"a","udp":{"address":"192.0.2.1"}}]}}`:                  "/ietf-system:system/ntp/server[name='a']",
		`"ietf-system:system":{"dns-resolver":{"server":[{"name":"a","udp-and-tcp":{"address":"192.0.2.1"}}]}}`: "/ietf-system:system/dns-resolver/server[name='a']",
		`"vita-esp-gateway-ext:appliance":{"syslog":[{"address":"192.0.2.1"}]}`:                                 "/vita-esp-gateway-ext:appliance/syslog[address='192.0.2.1']",
	} {
		answer := restconf(t, g, "501", "PATCH", "", `{"ietf-restconf:data":{`+config+`}}`)
		if !strings.Contains(answer, path) || !strings.Contains(answer, "set it there") {
			t.Errorf("the error says neither where nor what to do: %s", answer)
		}
	}
	if after := restconf(t, g, "200", "GET", "?content=config", ""); after != before {
		t.Errorf("running changed from\n%s\nto\n%s", before, after)
	}
	// The ports are as before, too: the gateway answers on its private side.
	if lost, err := l.Ping(t.Context(), lab.HostA, lab.PrivAIP, 3, 200*time.Millisecond); err != nil || lost != 0 {
		t.Errorf("%d packets lost, %v", lost, err)
	}
}

// TestKilledControlKeepsConfirmedCommits kills vitad by SIGKILL at random
// moments while a client commits, and demands after each restart the last
// commit that was confirmed, or the one in flight, whole.
func TestKilledControlKeepsConfirmedCommits(t *testing.T) {
	l := network(t)
	g := gateway(t, l, lab.GwA)
	restconf(t, g, "204", "PATCH", "", configA)
	const rounds = 10
	confirmed := 1000
	for range rounds {
		// Each commit writes the same number to two leaves.
		done := make(chan int, 1)
		go func() {
			last := confirmed
			for n := confirmed + 1; ; n++ {
				status, _, err := g.Curl(t.Context(), "PATCH", "", "", fmt.Sprintf(
					`{"ietf-restconf:data":{"vita-esp-gateway:mtu":%d,"vita-esp-gateway:protocol-port":%d}}`, n, n))
				if err != nil || status != "204" {
					done <- last
					return
				}
				last = n
			}
		}()
		time.Sleep(time.Duration(300+rand.IntN(400)) * time.Millisecond)
		g.Vitad().Kill()
		last := <-done
		start(t, g)
		answer := restconf(t, g, "200", "GET", "?content=config", "")
		switch {
		case last == 1000 && !strings.Contains(answer, `"vita-esp-gateway:mtu"`):
		case strings.Contains(answer, fmt.Sprintf(`"vita-esp-gateway:mtu":%d`, last)) && strings.Contains(answer, fmt.Sprintf(`"vita-esp-gateway:protocol-port":%d`, last)):
		case strings.Contains(answer, fmt.Sprintf(`"vita-esp-gateway:mtu":%d`, last+1)) && strings.Contains(answer, fmt.Sprintf(`"vita-esp-gateway:protocol-port":%d`, last+1)):
			last++
		default:
			t.Fatalf("confirmed %d, found %s", last, answer)
		}
		confirmed = last
	}
	t.Logf("%d commits, %d kills", confirmed-1000, rounds)
}

// TestDamagedDatabaseFallsBack damages the newest database file while vitad
// is down: it says so and goes on with the last good state.
func TestDamagedDatabaseFallsBack(t *testing.T) {
	l := network(t)
	g := gateway(t, l, lab.GwA)
	restconf(t, g, "204", "PATCH", "", configA)
	before := restconf(t, g, "200", "GET", "?content=config", "")
	g.Vitad().Kill()
	files, err := filepath.Glob(filepath.Join(g.State, "*.db"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no database: %v", err)
	}
	if err := os.WriteFile(files[0], []byte(strings.Repeat("damage", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, g)
	if after := restconf(t, g, "200", "GET", "?content=config", ""); after != before {
		t.Errorf("running is\n%s\nwant\n%s", after, before)
	}
	if log := g.Vitad().Tail(50); !strings.Contains(log, filepath.Base(files[0])) {
		t.Errorf("the log does not name the damaged file:\n%s", log)
	}
}

// TestStopGivesInterfacesBack ends vitad by SIGTERM; the engine ends with it,
// and nothing stays attached to the interfaces.
func TestStopGivesInterfacesBack(t *testing.T) {
	l := network(t)
	g := gateway(t, l, lab.GwA)
	restconf(t, g, "204", "PATCH", "", configA)
	if out, err := l.Run(t.Context(), lab.GwA, "ip", "-d", "link", "show", lab.PubIf); err != nil || !strings.Contains(out, "xdp") {
		t.Fatalf("no XDP program is attached while the gateway runs: %v\n%s", err, out)
	}
	g.Vitad().Stop(15 * time.Second)
	if err := g.Vitad().Err(); err != nil {
		t.Errorf("vitad: %v", err)
	}
	for _, dev := range []string{lab.PrivIf, lab.PubIf} {
		if out, err := l.Run(t.Context(), lab.GwA, "ip", "-d", "link", "show", dev); err != nil || strings.Contains(out, "prog/xdp") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	out, err := exec.Command("ip", "netns", "pids", l.NS(lab.GwA)).Output()
	if err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("processes left: %s %v", out, err)
	}
}

// TestVitactl is an operator's session at the command line.
func TestVitactl(t *testing.T) {
	l := network(t)
	g := gateway(t, l, lab.GwA)
	run := func(args ...string) string {
		t.Helper()
		out, err := g.Vitactl(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	key := strings.TrimSpace(run("keygen"))
	if len(key) != 64 || key == strings.TrimSpace(run("keygen")) {
		t.Fatalf("keygen: %q", key)
	}
	file := filepath.Join(l.Dir, "config.json")
	if err := os.WriteFile(file, []byte(configA), 0o600); err != nil {
		t.Fatal(err)
	}
	run("config", "load", "merge", file)
	run("config", "set", "/route4[id=site_b]/preshared-key", key, "/mtu", "1400")
	if out := run("config", "diff"); !strings.Contains(out, "+ /mtu 1400\n") || strings.Contains(out, key) {
		t.Errorf("diff:\n%s", out)
	}
	run("config", "commit")
	if out := run("config", "get", "/mtu"); out != "/mtu 1400\n" {
		t.Errorf("get: %q", out)
	}
	if out := run("config", "get"); !strings.Contains(out, "/route4[id=site_b]/gateway[ip=203.0.113.2]/ip 203.0.113.2\n") {
		t.Errorf("get: %q", out)
	}
	if out := run("config", "diff"); out != "" {
		t.Errorf("diff after commit: %q", out)
	}
	run("config", "delete", "/mtu")
	if out := run("config", "diff"); out != "- /mtu 1400\n" {
		t.Errorf("diff: %q", out)
	}
	run("config", "discard")
	if out := run("state", "/gateway-state/private-interface"); !strings.Contains(out, "/gateway-state/private-interface/rxpackets ") {
		t.Errorf("state: %q", out)
	}
	if out := run("top", "--rounds", "2", "--interval", "100ms"); strings.Count(out, "per second") != 2 || !strings.Contains(out, "worker[queue=1]/idle") || strings.Contains(out, "route[") {
		t.Errorf("top: %q", out)
	}
	if out := run("top", "--rounds", "1", "--each"); !strings.Contains(out, "worker[queue=1]/idle") {
		t.Errorf("top --each: %q", out)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"/mtu", []string{"config", "set", "/mtu", "9999"}},
		{"nonsense", []string{"config", "get", "/nonsense"}},
		{"interval", []string{"top", "--interval", "soon"}},
	} {
		if out, err := g.Vitactl(t.Context(), c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %s %v", c.args, out, err)
		}
	}
}
