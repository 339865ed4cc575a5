// Package tiers runs what encrypts on processors that lack what the fast
// implementations need, in virtual machines: TCG has no AVX-512 and no
// VPCLMULQDQ, and a model of QEMU's that is old enough has no AES either.
package tiers

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"vita/test/qemu"
	"vita/test/qemu/guest"
)

// build makes the programs and the tests of asm/aesgcm for a guest.
func build(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"build", "-trimpath", "-o", dir, "vita/cmd/vitad", "vita/cmd/vita-engine", "vita/cmd/vitactl", "vita/cmd/vitabench"},
		{"test", "-c", "-trimpath", "-o", filepath.Join(dir, "aesgcm.test"), "vita/asm/aesgcm"},
	} {
		c := exec.Command("go", args...)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	files := map[string]string{}
	for _, name := range []string{"vitad", "vita-engine", "vitactl", "vitabench", "aesgcm.test"} {
		files["/vita/"+name] = filepath.Join(dir, name)
	}
	files["/vita/admin.pub"] = filepath.Join(dir, "admin.pub")
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files["/vita/admin.pub"], ssh.MarshalAuthorizedKey(key), 0o600); err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTiersInGuests(t *testing.T) {
	files := build(t)
	for _, c := range []struct {
		model, tier string
		registers   int
		has, hasNot []string // flags of the processor
		refused     map[string]string
	}{
		{
			"max", "avx2", 128,
			[]string{"aes", "pclmulqdq", "avx2"},
			[]string{"avx512f", "vpclmulqdq"},
			map[string]string{"avx512": "AVX512"},
		},
		{
			"qemu64", "generic", 0,
			nil,
			[]string{"aes", "pclmulqdq", "avx2"},
			map[string]string{"avx512": "AES-NI", "avx2": "AES-NI"},
		},
	} {
		t.Run(c.model, func(t *testing.T) {
			began := time.Now()
			vm := qemu.Start(t, qemu.Options{
				Init: "vita/test/qemu/guest/init", Programs: []string{"ip"}, Model: c.model, Memory: 1024, Files: files,
			})
			var info []byte
			if err := vm.Call("Guest.ReadFile", "/proc/cpuinfo", &info); err != nil {
				t.Fatal(err)
			}
			flags := " " + strings.Join(strings.Fields(string(info)), " ") + " "
			for _, f := range c.has {
				if !strings.Contains(flags, " "+f+" ") {
					t.Errorf("the guest lacks %s", f)
				}
			}
			for _, f := range c.hasNot {
				if strings.Contains(flags, " "+f+" ") {
					t.Errorf("the guest has %s", f)
				}
			}
			// All tests of the package, of which those that take long are thinned.
			out, err := vm.Run("/vita/aesgcm.test", "-test.v", "-thin")
			if err != nil {
				t.Fatalf("asm/aesgcm in the guest: %v", err)
			}
			name := c.tier
			if c.registers > 0 {
				name += fmt.Sprint("-", c.registers)
			}
			for _, want := range []string{"TestEveryLength/" + name, "TestNIST/" + name, "TestWycheproof/generic"} {
				if !strings.Contains(out, "--- PASS: "+want) {
					t.Errorf("%s has not run in the guest:\n%s", want, out)
				}
			}
			bench(t, vm, c.tier, c.registers, c.refused)
			gateway(t, vm, c.tier)
			t.Logf("%s", time.Since(began).Round(time.Second))
		})
	}
}

// bench asks vitabench which tier it takes, and for those that are not there.
func bench(t *testing.T, vm *qemu.VM, tier string, registers int, refused map[string]string) {
	out, err := vm.Run("/vita/vitabench", "aead", "--sizes", "64", "--rounds", "1", "--json")
	var got struct {
		Tier      string
		Registers int
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &got)
	}
	if err != nil || got.Tier != tier || got.Registers != registers {
		t.Errorf("vitabench: %v, %s, want tier %s on %d bits", err, out, tier, registers)
	}
	for other, lacks := range refused {
		for _, what := range [][]string{{"aead", "--sizes", "64", "--rounds", "1"}, {"softbench", "--seconds", "0.1"}} {
			out, err := vm.Run(append(append([]string{"/vita/vitabench"}, what...), "--tier", other)...)
			if err == nil || !strings.Contains(out, `"`+other+`"`) || !strings.Contains(out, lacks) {
				t.Errorf("vitabench %s --tier %s: %v, %s; want a refusal that names %s", what[0], other, err, out, lacks)
			}
		}
	}
}

// gateway starts a gateway and reads what it says of its cipher: the engine at
// its start, and gateway-state.
func gateway(t *testing.T, vm *qemu.VM, tier string) {
	const log = "/tmp/vitad.log"
	if _, err := vm.Run("ip", "link", "set", "lo", "up"); err != nil {
		t.Fatal(err)
	}
	if out, err := vm.Run("/vita/vitad", "init", "--state-dir", "/tmp/state", "--admin", "admin", "--ssh-key", "/vita/admin.pub"); err != nil {
		t.Fatal(out, err)
	}
	if err := vm.Call("Guest.Start", guest.Daemon{Args: []string{"/vita/vitad", "run", "--state-dir", "/tmp/state"}, Log: log}, new(struct{})); err != nil {
		t.Fatal(err)
	}
	said := func() string {
		var b []byte
		if err := vm.Call("Guest.ReadFile", log, &b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := fmt.Sprintf("%q:%q", "vita-esp-gateway-ext:crypto-tier", tier)
	var out string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		var err error
		out, err = vm.Run("/vita/vitactl", "--server", "unix:/tmp/state/recovery.sock", "state", "--json")
		if err == nil && strings.Contains(strings.ReplaceAll(out, " ", ""), want) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("gateway-state has no %s: %v\n%s\n%s", want, err, out, said())
		}
	}
	lines := said()
	slow := strings.Contains(lines, "encryption is slow") && strings.Contains(lines, "lacks=AES-NI")
	if !strings.Contains(lines, "crypto="+tier) || slow != (tier == "generic") {
		t.Errorf("at its start the engine says\n%s", lines)
	}
}
