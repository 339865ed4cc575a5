package mgmt

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestAccessManual pastes every block of docs/operator/access.md into a shell.
func TestAccessManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/operator/access.md")
	check(t, err)
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "vita/cmd/vitactl").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	s := startAs(t, t.TempDir(), how{access: true, state: counting()})
	s.must("204", "PATCH", "/data", `{"ietf-restconf:data": {
	  "vita-esp-gateway:private-interface4": {"ifname": "eth0", "ip": "10.0.0.1", "nexthop-ip": "10.0.0.2"},
	  "vita-esp-gateway:route4": [
	    {"id": "site1", "net": "10.1.0.0/16", "spi": 1001, "preshared-key": "`+strings.Repeat("01", 32)+`", "gateway": [{"ip": "203.0.113.2"}]},
	    {"id": "site2", "net": "10.2.0.0/16", "spi": 1002, "preshared-key": "`+strings.Repeat("02", 32)+`", "gateway": [{"ip": "203.0.113.3"}]}]}}`)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "admin.password"), []byte(password+"\n"), 0o600))
	environment := ""
	want := []string{ // what the blocks print, in their order
		"", "everything", "site1", "", "+ /nacm/rule-list[name=viewer]/rule[name=nothing-else]/action deny",
		"/route4[id=site1]/net", "denied-data-writes", "", "/nacm/rule-list[name=viewer]",
	}
	blocks := shellBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != len(want) {
		t.Fatalf("%d blocks, %d expected", len(blocks), len(want))
	}
	for i, m := range blocks {
		code := m[1]
		if i == 0 {
			environment = strings.NewReplacer("https://localhost", s.restconf).Replace(code)
			continue
		}
		script := "set -eu\ncd " + dir + "\nPATH=" + bin + ":$PATH\n" + strings.ReplaceAll(environment+code, "/var/lib/vita", s.dir)
		out, err := exec.Command("bash", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", code, err, out)
		}
		t.Logf("%s\n%s", code, out)
		if !strings.Contains(string(out), want[i]) {
			t.Errorf("%s\n%s\nwant %s", code, out, want[i])
		}
		if strings.Contains(code, "hide-site2") && (strings.Contains(string(out), "site2") || strings.Contains(string(out), "/system")) {
			t.Errorf("ann sees\n%s", out)
		}
	}
	// The roles are what the manual says.
	s.must("204", "PATCH", "/data", `{"ietf-restconf:data": {"ietf-system:system": {"authentication": {"user": [{"name": "olaf", "password": "$0$`+secondPassword+`"}]}}}}`)
	for _, c := range []struct{ method, path, body, status string }{
		{"PUT", "/data/vita-esp-gateway:mtu", `{"vita-esp-gateway:mtu": 1400}`, "201"},
		{"PUT", "/data/vita-esp-gateway-ext:esp/dscp", `{"vita-esp-gateway-ext:dscp": "46"}`, "201"},
		{"POST", "/operations/vita-esp-gateway-ext:clear-counters", "", "204"},
		{"POST", "/operations/vita-esp-gateway-ext:shutdown", "", "403"},
		{"DELETE", "/data/ietf-system:system/authentication/user=admin", "", "403"},
		{"GET", "/data/ietf-netconf-acm:nacm", "", "404"},
	} {
		args := []string{"-u", "olaf:" + secondPassword, "-X", c.method, s.restconf + "/restconf" + c.path, "-H", "Content-Type: application/yang-data+json"}
		if c.body != "" {
			args = append(args, "-d", c.body)
		}
		if status, answer := s.curl(args...); status != c.status {
			t.Errorf("%s %s by an operator: %s, want %s: %s", c.method, c.path, status, c.status, answer)
		}
	}
}
