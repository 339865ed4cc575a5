package pci_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"vita/drivers"
	"vita/drivers/internal/model"
	"vita/drivers/internal/pci"
	"vita/drivers/internal/pci/pcitest"
)

func TestNormal(t *testing.T) {
	for in, want := range map[string]string{
		"02:00.0": "0000:02:00.0", "0000:02:00.0": "0000:02:00.0", "0001:AF:1f.7": "0001:af:1f.7",
		"": "", "eth0": "", "02:00": "", "02:00.8": "", "02:20.0": "", "0:02:00.0": "", "../../etc:00.0": "", "00000:2:00.0": "", "0000:02:00.0 ": "", "+000:02:00.0": "",
	} {
		if got, err := pci.Normal(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	card := pcitest.NIC("0000:02:00.0", "0x8086", "0x1521").With("numa_node", "1").
		With("net/eth5/operstate", "up").With("net/eth5/flags", "0x1003")
	card.Driver, card.Group = "igb", "12"
	other := pcitest.NIC("0000:02:00.1", "0x8086", "0x1521")
	other.Group = "12"
	disk := pcitest.NIC("0000:03:00.0", "0x1b36", "0x0010").With("class", "0x010802")
	sys := pci.Sysfs(pcitest.Tree(t, card, other, disk))
	f, err := sys.Find("02:00.0")
	want := &pci.Function{
		Address: "0000:02:00.0", ID: pci.ID{Vendor: 0x8086, Device: 0x1521, SubVendor: 0x8086, SubDevice: 1, Revision: 1}, Class: 0x020000,
		Driver: "igb", Group: "12", Shares: []string{"0000:02:00.1"}, Node: 1, Netdevs: []string{"eth5"}, Link: "up",
	}
	if err != nil || !reflect.DeepEqual(f, want) {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := sys.Find("02:00.2"); !errors.Is(err, drivers.ErrNoInterface) {
		t.Errorf("%v", err)
	}
	all, err := sys.List()
	if err != nil || len(all) != 2 || all[1].Address != "0000:02:00.1" || all[1].Node != -1 || all[1].Driver != "" {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := pci.Sysfs(t.TempDir()).List(); err != nil || len(all) != 0 {
		t.Errorf("a machine without PCI: %v, %v", all, err)
	}
	bad := pci.Sysfs(pcitest.Tree(t, pcitest.NIC("0000:02:00.0", "8086 and more", "0x1521")))
	if _, err := bad.List(); err == nil || !strings.Contains(err.Error(), "vendor") {
		t.Errorf("%v", err)
	}
}

// TestBindUndoesWhatItDid has a kernel without the driver that a device is to be
// given to. What binds is tested in a guest.
func TestBindUndoesWhatItDid(t *testing.T) {
	card := pcitest.NIC("0000:02:00.0", "0x8086", "0x1521")
	card.Driver = "igb"
	root := pcitest.Tree(t, card)
	sys := pci.Sysfs(root)
	f, err := sys.Find("02:00.0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sys.Bind(f, "vfio-pci"); err == nil || !strings.Contains(err.Error(), "modprobe vfio-pci") {
		t.Errorf("%v", err)
	}
	// What the kernel would have taken is what was written last, at the file's
	// start: an empty line.
	if got := pcitest.Content(t, root, "bus/pci/devices/0000:02:00.0/driver_override"); !strings.HasPrefix(got, "\n") {
		t.Errorf("driver_override is left as %q", got)
	}
	if got := pcitest.Content(t, root, "bus/pci/drivers_probe"); !strings.HasPrefix(got, "0000:02:00.0") {
		t.Errorf("the device is not given back: %q", got)
	}
	if restore, err := sys.Bind(f, "igb"); err != nil || restore() != nil {
		t.Errorf("nothing to do: %v", err)
	}
	if err := os.Remove(filepath.Join(root, "bus/pci/drivers/igb/unbind")); err != nil {
		t.Fatal(err)
	}
	if _, err := sys.Bind(f, "vfio-pci"); err == nil || !strings.Contains(err.Error(), "take 0000:02:00.0 from the kernel's driver igb") {
		t.Errorf("%v", err)
	}
}

// TestRestore gives a device back that somebody has taken meanwhile, or that was
// taken out of the machine.
func TestRestore(t *testing.T) {
	for _, k := range []struct {
		name   string
		change func(dir, drivers string) error
		given  bool
	}{
		{"as it was", func(string, string) error { return nil }, true},
		{"unbound", func(dir, _ string) error { return os.Remove(filepath.Join(dir, "driver")) }, true},
		{"another driver's", func(dir, drivers string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "driver")), os.Symlink(filepath.Join(drivers, "other"), filepath.Join(dir, "driver")))
		}, false},
		{"out of the machine", func(dir, _ string) error { return os.RemoveAll(dir) }, false},
	} {
		t.Run(k.name, func(t *testing.T) {
			card := pcitest.NIC("0000:02:00.0", "0x8086", "0x1521")
			card.Driver = "vfio-pci"
			root := pcitest.Tree(t, card)
			sys := pci.Sysfs(root)
			f, err := sys.Find("02:00.0")
			if err != nil {
				t.Fatal(err)
			}
			f.Driver = "igb" // which had it before
			restore, err := sys.Bind(f, "vfio-pci")
			if err != nil {
				t.Fatal(err)
			}
			probe := filepath.Join(root, "bus/pci/drivers_probe")
			if err := os.WriteFile(probe, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := k.change(filepath.Join(root, "bus/pci/devices/0000:02:00.0"), filepath.Join(root, "bus/pci/drivers")); err != nil {
				t.Fatal(err)
			}
			if err := restore(); err != nil {
				t.Error(err)
			}
			if got := pcitest.Content(t, root, "bus/pci/drivers_probe"); (got != "") != k.given {
				t.Errorf("given to %q", got)
			}
		})
	}
}

// config is a device of configuration space alone.
type config struct {
	pci.Device
	b [256]byte
}

func (*config) Address() string { return "x" }

func (c *config) ReadConfig(off, size int) (v uint32, _ error) {
	for i := range size {
		v |= uint32(c.b[off+i]) << (8 * i)
	}
	return v, nil
}

func TestCapabilities(t *testing.T) {
	d := model.New(model.Options{ID: pci.ID{Vendor: 1, Device: 2}, Vectors: 3})
	var ids []uint8
	if err := pci.EachCapability(d, func(id uint8, _ int) bool { ids = append(ids, id); return true }); err != nil || !reflect.DeepEqual(ids, []uint8{pci.CapExpress, pci.CapMSIX}) {
		t.Errorf("%v, %v", ids, err)
	}
	// Lists of devices that lie: a loop, and one that leaves the space for them.
	for name, next := range map[string]byte{"loop": 0x40, "header": 0x10} {
		c := new(config)
		c.b[pci.Status], c.b[pci.Capabilities] = pci.StatusCapabilities, 0x40
		c.b[0x40], c.b[0x41] = pci.CapMSIX, next
		n := 0
		if err := pci.EachCapability(c, func(uint8, int) bool { n++; return true }); err == nil || n > 48 {
			t.Errorf("%s: %d capabilities, %v", name, n, err)
		}
	}
	if err := pci.EachCapability(new(config), func(uint8, int) bool { t.Error("a capability of none"); return false }); err != nil {
		t.Error(err)
	}
}

func TestMasterAndGone(t *testing.T) {
	d := model.New(model.Options{ID: pci.ID{Vendor: 1, Device: 2}})
	if err := pci.SetMaster(d, true); err != nil || !d.Master() || pci.Gone(d) {
		t.Errorf("%v, master %v, gone %v", err, d.Master(), pci.Gone(d))
	}
	if err := pci.SetMaster(d, false); err != nil || d.Master() {
		t.Errorf("%v, master %v", err, d.Master())
	}
	if id, err := pci.ReadID(d); err != nil || id != (pci.ID{Vendor: 1, Device: 2}) || id.String() != "0001:0002" {
		t.Errorf("%v, %v", id, err)
	}
	d.Remove()
	if !pci.Gone(d) {
		t.Error("a device that was taken away is there")
	}
}
