// Package vfio tests the drivers for network cards of our own on cards that
// QEMU models, inside a guest, as on a machine: through the kernel's VFIO and an
// IOMMU (that QEMU models as well).
package vfio

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vita/drivers/drivertest/i82599"
	"vita/test/qemu"
	"vita/test/qemu/guest"
)

// pair is two cards of a model that are joined by a hub of QEMU's.
type pair struct {
	driver string // ours
	model  string // QEMU's; "": ours of the 82599
	slot   int    // of the first; the second is two further on
	loose  bool   // see drivertest.Wire
}

var pairs = []pair{
	{"igb", "igb", 0x08, false},
	{"e1000e", "e1000e", 0x04, true},
	{"virtio", "virtio-net-pci-non-transitional,iommu_platform=on", 0x0c, true},
	{"virtio", "virtio-net-pci-non-transitional,iommu_platform=on,packed=on", 0x1c, true},
	{"vmxnet3", "vmxnet3", 0x10, false},
	{"ixgbe", "", 0x14, false},
}

func (p *pair) address(i int) string { return fmt.Sprintf("0000:00:%02x.0", p.slot+2*i) }

func (p *pair) args(t *testing.T, hub int) (out []string) {
	if p.model == "" {
		return p.serve(t)
	}
	for i := range 2 {
		out = append(out,
			"-netdev", fmt.Sprintf("hubport,id=hub%d.%d,hubid=%d", hub, i, hub),
			"-device", fmt.Sprintf("%s,netdev=hub%d.%d,addr=%02x.0,mac=52:54:00:00:%02x:%02x,romfile=", p.model, hub, i, p.slot+2*i, hub, 1+i))
	}
	return out
}

// serve has QEMU use two models of this process, and joins them.
func (p *pair) serve(t *testing.T) (out []string) {
	t.Helper()
	var chips [2]*i82599.Device
	for i := range chips {
		socket := filepath.Join(t.TempDir(), "s")
		d, s, err := i82599.Serve(socket, i82599.Options{MAC: [6]byte{0, 0x1b, 0x21, 0, 0, byte(1 + i)}})
		if err != nil {
			t.Fatal(err)
		}
		chips[i] = d
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			for _, f := range d.Faults() {
				t.Errorf("82599 %d: %s", i, f)
			}
		})
		device, err := json.Marshal(map[string]any{
			"driver": "vfio-user-pci", "addr": fmt.Sprintf("%02x.0", p.slot+2*i),
			"socket": map[string]string{"type": "unix", "path": socket},
		})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, "-device", string(device))
	}
	for i, d := range chips {
		d.SetSend(func(f []byte) { chips[1-i].Receive(f) })
	}
	return out
}

// iommu is what a machine needs to have an IOMMU, and its modules.
var (
	iommu   = []string{"-machine", "kernel-irqchip=split", "-device", "intel-iommu,intremap=on,caching-mode=on"}
	modules = []string{"vfio_iommu_type1", "vfio_pci"}
)

// testProgram builds the tests of a package as a program for a guest.
func testProgram(t *testing.T, pkg string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), filepath.Base(pkg)+".test")
	build := exec.Command("go", "test", "-c", "-o", name, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return name
}

func TestSuite(t *testing.T) {
	o := qemu.Options{
		Init: "vita/test/qemu/guest/init", Modules: modules, Memory: 1024, Shared: true, Append: "intel_iommu=on",
		Files: map[string]string{"/suite.test": testProgram(t, "vita/test/qemu/vfio/suite")}, Args: iommu,
	}
	for i := range pairs {
		o.Args = append(o.Args, pairs[i].args(t, i)...)
	}
	vm := qemu.Start(t, o)
	for _, p := range pairs {
		t.Run(p.driver, func(t *testing.T) {
			var r guest.Result
			if err := vm.Call("Guest.Run", guest.Command{Args: []string{
				"/suite.test", "-test.v", "-test.run", "TestSuite", "-driver", p.driver,
				"-cards", p.address(0) + "," + p.address(1), fmt.Sprintf("-loose=%v", p.loose),
			}}, &r); err != nil {
				t.Fatal(err)
			}
			if r.Error != "" || !strings.Contains(r.Output, "--- PASS: TestSuite/Counters") {
				t.Fatalf("%s\n%s", r.Error, r.Output)
			}
			t.Log(r.Output)
		})
	}
}

// TestSpeed compares our driver for an 82576 with Linux's own and packet sockets,
// on the same two cards of the same guest: ours must not be slower.
func TestSpeed(t *testing.T) {
	p := pairs[0]
	vm := qemu.Start(t, qemu.Options{
		Init: "vita/test/qemu/guest/init", Modules: append([]string{"af_packet", "igb"}, modules...), Memory: 1024,
		Append: "intel_iommu=on ipv6.disable=1", // Linux is to send nothing of its own
		Files:  map[string]string{"/suite.test": testProgram(t, "vita/test/qemu/vfio/suite")}, Args: append(p.args(t, 0), iommu...),
	})
	measure := func(driver, cards string) (pps float64) {
		var r guest.Result
		if err := vm.Call("Guest.Run", guest.Command{Args: []string{"/suite.test", "-test.run", "TestSpeed", "-driver", driver, "-cards", cards}}, &r); err != nil {
			t.Fatal(err)
		}
		if _, after, ok := strings.Cut(r.Output, "speed "); r.Error != "" || !ok {
			t.Fatalf("%s: %s\n%s", driver, r.Error, r.Output)
		} else if _, err := fmt.Sscan(after, &pps); err != nil {
			t.Fatal(err)
		}
		return pps
	}
	linux, ours := measure("linux", "eth0,eth1"), measure(p.driver, p.address(0)+","+p.address(1))
	t.Logf("frames a second: Linux's igb with packet sockets %.0f, ours %.0f", linux, ours)
	if ours < linux {
		t.Errorf("ours has %.0f frames a second, Linux's igb %.0f", ours, linux)
	}
}
