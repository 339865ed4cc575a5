package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vita/test/lab"
)

var block = regexp.MustCompile("(?ms)^```(sh|python)(?: (site-[ab]))?\n(.*?)^```$")

// TestConfigureManual pastes every block of the manual where it says, and has
// packets pass between the two sites.
func TestConfigureManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/operator/configure.md")
	if err != nil {
		t.Fatal(err)
	}
	l := network(t)
	sites := map[string]*lab.Gateway{"site-a": gateway(t, l, lab.GwA), "site-b": gateway(t, l, lab.GwB)}
	for _, addr := range []string{lab.PrivAIP, lab.PubAIP, lab.PubBIP, lab.PrivBIP, lab.HostAIP, lab.HostBIP} {
		if !strings.Contains(string(text), addr) {
			t.Fatalf("the manual has other addresses than the lab: no %s", addr)
		}
	}
	programs, err := filepath.Abs(build)
	if err != nil {
		t.Fatal(err)
	}
	environment := ""
	ran := 0
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		language, site, code := m[1], m[2], strings.NewReplacer("eth1", lab.PrivIf, "eth2", lab.PubIf).Replace(m[3])
		ran++
		if site == "" {
			environment += code
			continue
		}
		g := sites[site]
		// What differs from a machine of its own: where things are.
		script := "set -eu\ncd " + l.Dir + "\nPATH=" + programs + ":$PATH\n" +
			strings.NewReplacer("/var/lib/vita", g.State, "admin.password", filepath.Join(l.Dir, "password")).Replace(environment)
		if language == "python" {
			script += "/usr/bin/python3 - <<'PYTHON'\n" + code + "\nPYTHON\n"
		} else {
			script += code
		}
		out, err := l.Run(t.Context(), g.Host, "bash", "-c", script)
		if err != nil {
			t.Fatalf("%s\n%v\n%s", code, err, out)
		}
		t.Logf("%s\n%s", code, out)
		switch {
		case strings.Contains(code, "PATCH"): // both sites are configured
			waitForPing(t, l, 30*time.Second)
		case strings.Contains(code, "keypairs-negotiated"):
			if regexp.MustCompile(`keypairs-negotiated 0`).MatchString(out) || !strings.Contains(out, "route site_b") {
				t.Errorf("the state says\n%s", out)
			}
		case strings.Contains(code, "rollback"):
			if !strings.Contains(out, "- /sa-ttl 1200") {
				t.Errorf("the rollback says\n%s", out)
			}
		case strings.Contains(code, "NETCONF/json"):
			if !strings.Contains(out, "association-rekeyed") || !strings.Contains(out, "netconf-config-change") {
				t.Errorf("the events are\n%s", out)
			}
		}
	}
	if ran < 8 {
		t.Errorf("%d blocks ran", ran)
	}
	if lost := ping(t, l, 100, 20*time.Millisecond); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
}
