package validate

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOracle has libyang, an independent implementation, judge the same
// configurations: it refuses every broken one, and takes those that are right.
func TestOracle(t *testing.T) {
	lint := func(json string) (string, error) {
		file := filepath.Join(t.TempDir(), "data.json")
		if err := os.WriteFile(file, []byte(json), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("yanglint", "-p", "../../yang/ietf", "-t", "config", "../../yang/vita-esp-gateway.yang", "../../yang/vita-esp-gateway-ext.yang",
			"-F", "ietf-system:authentication,local-users,ntp,ntp-udp-port", "../../yang/ietf/ietf-netconf-acm@2018-02-14.yang", "../../yang/ietf/ietf-system@2014-08-06.yang", "../../yang/vita-gateway-deviations.yang", file).CombinedOutput()
		return string(out), err
	}
	for name, c := range broken {
		if _, err := lint(c.json); err == nil {
			t.Errorf("%s: libyang takes %s", name, c.json)
		}
	}
	for _, json := range []string{`{}`, complete(4), complete(6), bothFamilies(4), bothFamilies(6), `{"vita-esp-gateway:sa-ttl":21}`} {
		if out, err := lint(json); err != nil {
			t.Errorf("libyang refuses %s: %s", json, out)
		}
	}
}
