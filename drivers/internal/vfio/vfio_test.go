package vfio

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/pci"
	"vita/drivers/internal/pci/pcitest"
)

const address = "0000:02:00.0"

// TestRefused has machines on which a device cannot be had. Each says what to do.
// Devices that can are in package test/qemu/vfio.
func TestRefused(t *testing.T) {
	card := pcitest.NIC(address, "0x8086", "0x1521")
	card.Group = "12"
	alone := card
	alone.Group = ""
	mate := pcitest.NIC("0000:02:00.1", "0x8086", "0x1521")
	mate.Group, mate.Driver = "12", "igb"
	ours := card
	ours.Driver = "vfio-pci"
	linux := card.With("net/eth5/flags", "0x1003")
	linux.Driver = "igb"
	for _, c := range []struct {
		name  string
		cards []pcitest.Card
		dev   map[string]string // files below /dev
		o     Options
		err   error
		says  string
	}{
		{"no IOMMU", []pcitest.Card{alone}, nil, Options{}, drivers.ErrUnsupported, "intel_iommu=on"},
		{"no IOMMU, allowed, but not by the kernel", []pcitest.Card{func() pcitest.Card { a := alone; a.Driver = "vfio-pci"; return a }()}, map[string]string{"vfio/vfio": ""}, Options{NoIOMMU: true}, drivers.ErrUnsupported, "enable_unsafe_noiommu_mode"},
		{"in a group with others", []pcitest.Card{card, mate}, nil, Options{}, drivers.ErrUnsupported, "0000:02:00.1 (igb): bind these to vfio-pci as well"},
		{"used by Linux", []pcitest.Card{linux}, nil, Options{}, drivers.ErrBusy, "ip link set eth5 down"},
		{"no VFIO", []pcitest.Card{card}, nil, Options{}, drivers.ErrUnsupported, "modprobe vfio-pci"},
		{"no driver to bind to", []pcitest.Card{card}, map[string]string{"vfio/vfio": ""}, Options{}, nil, "is it loaded (modprobe vfio-pci)"},
		{"no group file", []pcitest.Card{ours}, map[string]string{"vfio/vfio": ""}, Options{}, fs.ErrNotExist, "vfio/12"},
		{"files that are no VFIO", []pcitest.Card{ours}, map[string]string{"vfio/vfio": "", "vfio/12": ""}, Options{}, unix.ENOTTY, "state of IOMMU group 12"},
		{"a cdev that is none", []pcitest.Card{ours.With("vfio-dev/vfio3/dev", "1:2")}, map[string]string{"vfio/vfio": "", "vfio/devices/vfio3": "", "iommu": ""}, Options{}, unix.ENOTTY, "bind to an IOMMU"},
		{"no iommufd", []pcitest.Card{ours.With("vfio-dev/vfio3/dev", "1:2")}, map[string]string{"vfio/vfio": "", "vfio/devices/vfio3": ""}, Options{}, fs.ErrNotExist, "iommu"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Sys, c.o.Dev = pci.Sysfs(pcitest.Tree(t, c.cards...)), t.TempDir()
			for n, v := range c.dev {
				name := filepath.Join(c.o.Dev, n)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(v), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			var lines []string
			c.o.Log = func(s string) { lines = append(lines, s) }
			f, err := c.o.Sys.Find(address)
			if err != nil {
				t.Fatal(err)
			}
			d, err := Open(f, c.o)
			if err == nil {
				t.Fatalf("opened: %+v", d)
			}
			if c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\nwant %v and %q", err, c.err, c.says)
			}
			if c.o.NoIOMMU && (len(lines) != 1 || !strings.HasPrefix(lines[0], "WARNING: no IOMMU")) {
				t.Errorf("no warning: %q", lines)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct{ err, is error }{{unix.EACCES, fs.ErrPermission}, {unix.EBUSY, drivers.ErrBusy}, {unix.EIO, unix.EIO}} {
		if err := explain(c.err); !errors.Is(err, c.is) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	if err := explain(unix.EACCES); !strings.Contains(err.Error(), "as root") {
		t.Errorf("%v", err)
	}
}

func TestPreferredAddresses(t *testing.T) {
	for _, c := range []struct{ in, want []dma.Range }{
		{ // an Intel IOMMU of 39 bits, as the kernel tells of it
			[]dma.Range{{First: 0, Last: 0xfedfffff}, {First: 0xfef00000, Last: 1<<39 - 1}},
			[]dma.Range{{First: 1 << 32, Last: 1<<39 - 1}},
		},
		{ // nothing above
			[]dma.Range{{First: 0, Last: 0xfedfffff}, {First: 0xfef00000, Last: 1<<32 - 1}},
			[]dma.Range{{First: 16 << 20, Last: 0xfedfffff}, {First: 0xfef00000, Last: 1<<32 - 1}},
		},
		{nil, nil},
		{[]dma.Range{{First: 0, Last: 4095}}, nil},
	} {
		if got := prefer(c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%x: %x, want %x", c.in, got, c.want)
		}
	}
}

// limited is an IOMMU that maps nothing.
type limited struct {
	iommu
	err error
}

func (l limited) mapMemory([]byte, uint64) error { return l.err }
func (l limited) unmap(uint64, uint64) error     { return l.err }
func (l limited) close() error                   { return nil }

func TestMapRefused(t *testing.T) {
	d := &Device{
		f: &pci.Function{Address: address}, iommu: limited{err: unix.ENOMEM}, mapped: map[*byte]mapping{},
		space: dma.NewSpace(dma.Range{First: 1 << 32, Last: 1<<33 - 1}),
	}
	b := make([]byte, 8192)
	if _, err := d.Map(b); !errors.Is(err, unix.ENOMEM) || !strings.Contains(err.Error(), "LimitMEMLOCK") {
		t.Errorf("%v", err)
	}
	d.iommu = limited{err: unix.EINVAL}
	if _, err := d.Map(b); !errors.Is(err, unix.EINVAL) {
		t.Errorf("%v", err)
	}
	d.iommu = limited{}
	at, err := d.Map(b)
	if err != nil || at != 1<<32 { // what failed holds no addresses
		t.Errorf("%#x, %v", at, err)
	}
	huge := make([]byte, hugePage)
	if at, err := d.Map(huge); err != nil || at != 1<<32+hugePage {
		t.Errorf("%#x, %v", at, err)
	}
	if err := errors.Join(d.Unmap(b), d.Unmap(huge)); err != nil {
		t.Error(err)
	}
	if err := d.Unmap(b); err == nil {
		t.Error("unmapped twice")
	}
	if _, err := d.Map(nil); err == nil {
		t.Error("nothing was mapped")
	}
	if _, err := d.BAR(0); err == nil {
		t.Error("a BAR that is not there")
	}
	for _, c := range [][2]int{{0, 3}, {-4, 4}, {1, 2}, {256, 1}} {
		if _, err := d.ReadConfig(c[0], c[1]); err == nil {
			t.Errorf("%v was read", c)
		}
	}
	if err := d.Reset(); !errors.Is(err, drivers.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if err := d.Interrupts([]int{1}); !errors.Is(err, drivers.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// TestPhysical needs memory whose place the kernel tells, as root's.
func TestPhysical(t *testing.T) {
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if _, ok, _ := physical(limited{}, b); ok {
		t.Error("an IOMMU uses physical addresses")
	}
	at, ok, err := physical(&noIOMMU{}, b)
	if !ok || (err == nil) == (at == 0) {
		t.Errorf("%#x, %v, %v", at, ok, err)
	}
	if os.Geteuid() == 0 && err != nil {
		t.Error(err)
	}
}
