package qemu

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestGuest boots a machine with two cards and uses all that the package has.
func TestGuest(t *testing.T) {
	began := time.Now()
	vm := Start(t, Options{
		Init: "vita/test/qemu/guest/init", Modules: []string{"virtio-net", "esp4"}, Programs: []string{"ip"},
		NICs: []NIC{{MAC: [6]byte{2, 0, 0, 0, 0, 1}}, {Model: "e1000e", MAC: [6]byte{2, 0, 0, 0, 0, 2}}},
	})
	t.Logf("up after %s", time.Since(began).Round(100*time.Millisecond))
	out, err := vm.Run("ip", "link", "show", "dev", "eth0")
	if err != nil || !strings.Contains(out, "02:00:00:00:00:01") {
		t.Fatalf("%s, %v", out, err)
	}
	var modules []byte
	if err := vm.Call("Guest.ReadFile", "/proc/modules", &modules); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"xfrm_algo ", "virtio_net "} { // the first is needed by esp4
		if !bytes.Contains(modules, []byte(want)) {
			t.Errorf("no module %s in\n%s", want, modules)
		}
	}
	if _, err := vm.Feed("link set eth0 up\naddr add 192.0.2.1/24 dev eth0\n", "ip", "-batch", "-"); err != nil {
		t.Fatal(err)
	}
	request := make([]byte, 42)
	copy(request, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x09\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01\x02\x00\x00\x00\x00\x09\xc0\x00\x02\x09\x00\x00\x00\x00\x00\x00\xc0\x00\x02\x01")
	if err := vm.Wires[0].Send(request); err != nil {
		t.Fatal(err)
	}
	answers, err := vm.Wires[0].Take(1, 10*time.Second, func(f []byte) bool { return f[12] == 8 && f[13] == 6 && f[21] == 2 })
	if err != nil || !bytes.Equal(answers[0][22:28], []byte{2, 0, 0, 0, 0, 1}) {
		t.Fatalf("%x, %v", answers, err)
	}
	if _, err := vm.Run("ip", "link", "show", "dev", "nothing"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a command that fails: %v", err)
	}
	if out := vm.Console(1000); !strings.Contains(out, "vita guest: ready") {
		t.Errorf("console %q", out)
	}
}

func TestModulesThatAreNot(t *testing.T) {
	k, err := DefaultKernel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.modules([]string{"no_such"}); err == nil {
		t.Error("found")
	}
}

// TestDeath: a guest that ends by itself is an error with its last words.
func TestDeath(t *testing.T) {
	began := time.Now()
	_, err := Open(t.Context(), Options{Init: "vita/test/qemu/guest/init", Append: "init=/none rdinit=/none"})
	if err == nil || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}
