package mgmt

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vita/gen"
	"vita/mgmt/access"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestVitactl plays the scripts of testdata/vitactl with the program itself, each
// with servers of its own.
func TestVitactl(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "vita/cmd/vitactl").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	files, err := filepath.Glob("testdata/vitactl/*.txtar")
	check(t, err)
	if len(files) < 7 {
		t.Fatalf("%d scripts", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			dir := t.TempDir()
			ca := newAuthority(t, "ours")
			check(t, access.StoreClientCA(dir, ca.pem))
			s := startAs(t, dir, how{state: counting(), access: strings.HasPrefix(filepath.Base(file), "access")})
			cert := ca.issue(user, time.Hour, x509.ExtKeyUsageClientAuth)[1]
			testscript.Run(t, testscript.Params{
				Files: []string{file}, RequireExplicitExec: true,
				Setup: func(e *testscript.Env) error {
					for k, v := range map[string]string{
						"PATH": bin + ":" + os.Getenv("PATH"), "VITA_SERVER": s.restconf, "VITA_CA": filepath.Join(dir, "tls.crt"),
						"VITA_USER": user, "VITA_PASSWORD_FILE": e.WorkDir + "/password", "CERT": cert, "TZ": "UTC", "RECOVERY": s.recovery,
					} {
						e.Setenv(k, v)
					}
					return os.WriteFile(e.WorkDir+"/password", []byte(password+"\n"), 0o600)
				},
			})
		})
	}
}

// counting returns state whose counters grow from one reading to the next.
func counting() func(*gen.Vita) {
	var n atomic.Uint64
	return func(root *gen.Vita) {
		packets := 1000 * n.Add(1)
		g := &gen.VitaEspGateway_GatewayState{}
		root.GatewayState = g
		g.PrivateInterface = &gen.VitaEspGateway_GatewayState_PrivateInterface{Rxpackets: &packets, Rxdrop: new(uint64(0))}
		g.Port = map[gen.VitaEspGateway_GatewayState_Port_Key]*gen.VitaEspGateway_GatewayState_Port{
			{Queue: 1, Side: "public"}: {Queue: new(uint16(1)), Side: new("public"), Name: new("eth2"), Driver: new("afxdp"), Mtu: new(uint32(1500)), LinkUp: new(true)},
		}
		g.Route = map[string]*gen.VitaEspGateway_GatewayState_Route{"site1": {Id: new("site1"), SentPackets: &packets}}
		g.Drop = map[string]*gen.VitaEspGateway_GatewayState_Drop{"no-route": {Reason: new("no-route"), Packets: new(uint64(7))}}
	}
}
