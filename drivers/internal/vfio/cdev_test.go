package vfio

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"vita/drivers/internal/pci"
	"vita/drivers/internal/pci/pcitest"
)

// No kernel that the tests can run has iommufd: here is one, that knows the
// structures by their bytes, as linux/vfio.h and linux/iommufd.h describe them.

// kernel answers requests and remembers them.
type kernel struct {
	t      *testing.T
	log    []string
	iommu  int32 // descriptor that the device was bound to
	maps   map[uint64]uint64
	irqs   []uint32
	asks   int32  // eventfd by which it asks for the device
	refuse string // the request that fails

	requests uint32 // ways to ask for the device: 1 or none
}

// words returns a structure of the caller's as 32-bit words, after checking the
// length that it says.
func (k *kernel) words(arg unsafe.Pointer, name string, n int) []byte {
	b := unsafe.Slice((*byte)(arg), n)
	if got := int(binary.LittleEndian.Uint32(b)); got < n {
		k.t.Errorf("%s: a structure of %d bytes, want %d", name, got, n)
	}
	return b
}

func (k *kernel) request(f *os.File, number uint, arg unsafe.Pointer, v uintptr) (int, error) {
	le := binary.LittleEndian
	note := func(s string) error {
		k.log = append(k.log, s)
		if s == k.refuse {
			return unix.EBUSY
		}
		return nil
	}
	switch number {
	case 0x3b76: // VFIO_DEVICE_BIND_IOMMUFD
		b := k.words(arg, "bind", 16)
		k.iommu = int32(le.Uint32(b[8:]))
		return 0, note("bind")
	case 0x3b81: // IOMMU_IOAS_ALLOC
		le.PutUint32(k.words(arg, "alloc", 12)[8:], 77)
		return 0, note("alloc")
	case 0x3b77: // VFIO_DEVICE_ATTACH_IOMMUFD_PT
		if le.Uint32(k.words(arg, "attach", 12)[8:]) != 77 {
			k.t.Error("attached to another")
		}
		return 0, note("attach")
	case 0x3b84: // IOMMU_IOAS_IOVA_RANGES
		b := k.words(arg, "ranges", 32)
		if le.Uint32(b[4:]) != 77 || le.Uint32(b[8:]) < 2 {
			k.t.Errorf("ranges % x", b)
		}
		out := unsafe.Slice(*(**uint64)(unsafe.Pointer(&b[16])), 4)
		copy(out, []uint64{0, 0xfedfffff, 0xfef00000, 1<<48 - 1})
		le.PutUint32(b[8:], 2)
		return 0, note("ranges")
	case 0x3b85: // IOMMU_IOAS_MAP
		b := k.words(arg, "map", 40)
		if le.Uint32(b[4:]) != 7 || le.Uint32(b[8:]) != 77 || le.Uint64(b[16:]) == 0 {
			k.t.Errorf("map % x", b)
		}
		k.maps[le.Uint64(b[32:])] = le.Uint64(b[24:])
		return 0, note("map")
	case 0x3b86: // IOMMU_IOAS_UNMAP
		b := k.words(arg, "unmap", 24)
		if le.Uint32(b[4:]) != 77 || k.maps[le.Uint64(b[8:])] != le.Uint64(b[16:]) {
			k.t.Errorf("unmap % x", b)
		}
		delete(k.maps, le.Uint64(b[8:]))
		return 0, note("unmap")
	case 0x3b6b: // VFIO_DEVICE_GET_INFO: can be reset, PCI, 9 regions, 5 interrupts
		b := k.words(arg, "info", 16)
		copy(b[4:], []byte{3, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0})
		return 0, note("info")
	case 0x3b6c: // VFIO_DEVICE_GET_REGION_INFO
		b := k.words(arg, "region", 32)
		switch le.Uint32(b[8:]) {
		case 0: // mapped as a whole
			le.PutUint32(b[4:], 7)
			le.PutUint64(b[16:], 8192)
			le.PutUint64(b[24:], 0)
		case 1: // in parts: a list of capabilities that says so
			b = unsafe.Slice((*byte)(arg), 64)
			le.PutUint32(b[4:], 15)
			le.PutUint32(b[12:], 32)
			le.PutUint64(b[16:], 4096)
			le.PutUint64(b[24:], 8192)
			copy(b[32:], []byte{9, 0, 1, 0, 48, 0, 0, 0})
			copy(b[48:], []byte{1, 0, 1, 0, 0, 0, 0, 0})
		case 2:
			return 0, unix.EINVAL
		case 7:
			le.PutUint32(b[4:], 3)
			le.PutUint64(b[16:], 4096)
			le.PutUint64(b[24:], 12288)
		}
		return 0, nil
	case 0x3b6d: // VFIO_DEVICE_GET_IRQ_INFO
		b := k.words(arg, "irq", 16)
		switch le.Uint32(b[8:]) {
		case 2: // MSI-X
			le.PutUint32(b[12:], 5)
		case 4: // requests
			le.PutUint32(b[12:], k.requests)
		}
		return 0, note("irq")
	case 0x3b6e: // VFIO_DEVICE_SET_IRQS
		n := int(*(*uint32)(arg)) / 4
		w := unsafe.Slice((*uint32)(arg), n)
		if w[2] == 4 {
			if !slices.Equal(w[:5], []uint32{24, 4 | 32, 4, 0, 1}) {
				k.t.Errorf("set irqs %d", w)
			}
			k.asks = int32(w[5])
			return 0, note("be asked")
		}
		k.irqs = slices.Clone(w)
		return 0, note("set irqs")
	case 0x3b6f: // VFIO_DEVICE_RESET
		if arg != nil || v != 0 {
			k.t.Error("reset has an argument")
		}
		return 0, note("reset")
	}
	k.t.Errorf("request %#x on %s", number, f.Name())
	return 0, unix.ENOTTY
}

// onKernel puts a kernel in the place of the machine's, and makes the files of a
// device that it has.
func onKernel(t *testing.T, refuse string) (*kernel, *pci.Function, Options) {
	t.Helper()
	k := &kernel{t: t, maps: map[uint64]uint64{}, refuse: refuse, requests: 1}
	before := request
	request = k.request
	t.Cleanup(func() { request = before })
	card := pcitest.NIC(address, "0x8086", "0x1521").With("vfio-dev/vfio3/dev", "1:2")
	card.Group, card.Driver = "12", "vfio-pci"
	o := Options{Sys: pci.Sysfs(pcitest.Tree(t, card)), Dev: t.TempDir()}
	for name, size := range map[string]int{"vfio/vfio": 0, "vfio/devices/vfio3": 4 * 4096, "iommu": 0} {
		file := filepath.Join(o.Dev, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, make([]byte, size), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := o.Sys.Find(address)
	if err != nil {
		t.Fatal(err)
	}
	return k, f, o
}

func TestCdev(t *testing.T) {
	k, f, o := onKernel(t, "")
	d, err := Open(f, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(k.log, " "); got != "bind alloc attach info irq irq be asked ranges" || k.iommu <= 2 {
		t.Errorf("%s, IOMMU %d", got, k.iommu)
	}
	if d.Vectors() != 5 || d.ID().Device != 0x1521 || d.Address() != address {
		t.Errorf("%d vectors", d.Vectors())
	}
	b := make([]byte, 3*4096+1)
	at, err := d.Map(b)
	if err != nil || at != 1<<32 || k.maps[at] != 4*4096 {
		t.Errorf("%#x, %v, maps %x", at, err, k.maps)
	}
	if err := d.Unmap(b); err != nil || len(k.maps) != 0 {
		t.Errorf("%v, maps %x", err, k.maps)
	}
	if err := d.Interrupts([]int{40, 41}); err != nil || !slices.Equal(k.irqs, []uint32{28, 4 | 32, 2, 0, 2, 40, 41}) {
		t.Errorf("%v, %d", err, k.irqs)
	}
	if err := d.Interrupts(nil); err != nil || !slices.Equal(k.irqs, []uint32{20, 1 | 32, 2, 0, 0}) {
		t.Errorf("%v, %d", err, k.irqs)
	}
	if err := d.Reset(); err != nil {
		t.Error(err)
	}
	// Configuration space, registers that are mapped, and registers that the
	// kernel reads and writes are all in the device's file.
	if err := d.WriteConfig(4, 2, 0x1234); err != nil {
		t.Error(err)
	}
	whole, err := d.BAR(0)
	if err != nil || whole.Size() != 8192 {
		t.Fatalf("%v", err)
	}
	parts, err := d.BAR(1)
	if err != nil || parts.Size() != 4096 {
		t.Fatalf("%v", err)
	}
	whole.Write32(8, 0xaabbccdd)
	parts.Write16(2, 0xeeff)
	if v, err := d.ReadConfig(4, 4); err != nil || v != 0x1234 || whole.Read8(9) != 0xcc || parts.Read32(0) != 0xeeff0000 {
		t.Errorf("%#x, %v, %#x, %#x", v, err, whole.Read8(9), parts.Read32(0))
	}
	content, err := os.ReadFile(filepath.Join(o.Dev, "vfio/devices/vfio3"))
	if err != nil || content[8] != 0xdd || content[8192+2] != 0xff || content[12288+4] != 0x34 {
		t.Errorf("%v", err)
	}
	if _, err := d.BAR(2); err == nil {
		t.Error("a BAR that the device does not have")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestCdevRefused has a kernel that refuses one thing after the other.
func TestCdevRefused(t *testing.T) {
	for _, what := range []string{"bind", "alloc", "attach", "info", "irq", "be asked", "ranges"} {
		t.Run(what, func(t *testing.T) {
			_, f, o := onKernel(t, what)
			if d, err := Open(f, o); !errors.Is(err, unix.EBUSY) {
				t.Errorf("%v, %v", d, err)
			}
		})
	}
}

// TestWanted has a kernel that asks for the device, and one that cannot.
func TestWanted(t *testing.T) {
	k, f, o := onKernel(t, "")
	d, err := Open(f, o)
	if err != nil {
		t.Fatal(err)
	}
	if pci.Wanted(d) {
		t.Error("the device is asked for at once")
	}
	for range 2 { // as the kernel does as long as it waits
		if _, err := unix.Write(int(k.asks), []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if !pci.Wanted(d) {
				t.Error("nobody notices that the device is asked for")
			}
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := unix.FcntlInt(uintptr(k.asks), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("its descriptor stays open: %v", err)
	}
	k, f, o = onKernel(t, "")
	k.requests = 0
	if d, err = Open(f, o); err != nil {
		t.Fatal(err)
	}
	if pci.Wanted(d) || slices.Contains(k.log, "be asked") {
		t.Error(k.log)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
