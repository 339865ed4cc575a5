// Package vfio opens PCI devices of this machine through the kernel's VFIO: their
// registers are mapped, and an IOMMU confines them to the memory that is mapped
// for them.
//
// A device is taken from its kernel driver when it is opened, and given back when
// it is closed. It comes by its own file and an iommufd where the kernel has
// them, else by its IOMMU group and a container of its own:
//
//	/dev/vfio/devices/vfio0 ─ bind ─► /dev/iommu        (cdev)
//	/dev/vfio/12 (group) ─ set container ─► /dev/vfio/vfio ─► device (legacy)
//
// Structures and numbers are those of linux/vfio.h and linux/iommufd.h.
package vfio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
	"vita/drivers/internal/pci"
)

// Options says where things are. The zero value is this machine.
type Options struct {
	Sys     pci.Sysfs // default /sys
	Dev     string    // default /dev
	NoIOMMU bool      // take a device that no IOMMU confines
	Log     func(string)
}

// Device is an open device.
type Device struct {
	f       *pci.Function
	file    *os.File
	iommu   iommu
	restore func() error
	regions [regionConfig + 1]region
	reset   bool
	vectors int
	request int // eventfd by which the system asks for the device; 0: it cannot

	mu       sync.Mutex
	asked    bool // it has
	requests [8]byte
	space    *dma.Space
	mapped   map[*byte]mapping
	maps     [][]byte // of registers
}

type mapping struct {
	iova uint64
	size int
}

// iommu maps memory for a device.
type iommu interface {
	ranges() ([]dma.Range, error)
	mapMemory(b []byte, iova uint64) error
	unmap(iova, size uint64) error
	close() error
}

// Open takes the device from the kernel.
func Open(f *pci.Function, o Options) (*Device, error) {
	if o.Sys == "" {
		o.Sys = "/sys"
	}
	if o.Dev == "" {
		o.Dev = "/dev"
	}
	d := &Device{f: f, mapped: make(map[*byte]mapping)}
	if err := d.open(&o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Usable says what keeps a device from being opened, as far as that is known
// without touching it.
func Usable(f *pci.Function, o Options) error {
	if f.Group == "" && !o.NoIOMMU {
		return fmt.Errorf("no IOMMU confines the device, which could write anywhere: turn it on in the firmware (VT-d, AMD-Vi) and by intel_iommu=on on the kernel's command line: %w", drivers.ErrUnsupported)
	}
	if others := o.users(f); len(others) > 0 {
		return fmt.Errorf("its IOMMU group %s has other devices, which Linux uses: %s: bind these to vfio-pci as well, or put the card into another slot: %w",
			f.Group, strings.Join(others, ", "), drivers.ErrUnsupported)
	}
	return o.unused(f)
}

func (d *Device) open(o *Options) error {
	f := d.f
	if err := Usable(f, *o); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(o.Dev, "vfio/vfio")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the kernel has no VFIO: load it by 'modprobe vfio-pci': %w", drivers.ErrUnsupported)
	}
	var err error
	if d.restore, err = o.Sys.Bind(f, "vfio-pci"); err != nil {
		return fmt.Errorf("take the device from Linux: %w", explain(err))
	}
	if f.Driver != "vfio-pci" {
		driver := f.Driver
		if driver == "" {
			driver = "no driver"
		}
		o.log(fmt.Sprintf("%s is taken from Linux (%s) until it is no longer used", f.Address, driver))
	}
	if err := d.attach(o); err != nil {
		return err
	}
	if err := d.describe(); err != nil {
		return err
	}
	ranges, err := d.iommu.ranges()
	if err != nil {
		return err
	}
	d.space = dma.NewSpace(prefer(ranges)...)
	return nil
}

func (o *Options) log(s string) {
	if o.Log != nil {
		o.Log(s)
	}
}

// unused checks that Linux does not use the device: it may be the one that the
// machine is managed by.
func (o *Options) unused(f *pci.Function) error {
	for _, n := range f.Netdevs {
		flags, err := os.ReadFile(filepath.Join(string(o.Sys), "bus/pci/devices", f.Address, "net", n, "flags"))
		if err != nil {
			continue // it went away
		}
		var v uint64
		if _, err := fmt.Sscanf(strings.TrimSpace(string(flags)), "0x%x", &v); err == nil && v&unix.IFF_UP != 0 {
			return fmt.Errorf("%w: Linux uses it as %s: take it down first, by 'ip link set %s down'", drivers.ErrBusy, n, n)
		}
	}
	return nil
}

// explain says what to do about an error of the system.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run vita-engine as root, or give its user access", err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %w", drivers.ErrBusy, err)
	}
	return err
}

// attach opens the device by the newest way that the kernel has.
func (d *Device) attach(o *Options) error {
	if d.f.Group == "" {
		return d.attachNoIOMMU(o)
	}
	names, _ := filepath.Glob(filepath.Join(string(o.Sys), "bus/pci/devices", d.f.Address, "vfio-dev/vfio*")) // the pattern is good
	if len(names) == 1 {
		file := filepath.Join(o.Dev, "vfio/devices", filepath.Base(names[0]))
		if _, err := os.Stat(file); err == nil {
			return d.attachCdev(o, file)
		}
	}
	return d.attachGroup(o)
}

// attachGroup opens the device by its group, which must be ours as a whole.
func (d *Device) attachGroup(o *Options) error {
	name := filepath.Join(o.Dev, "vfio", d.f.Group)
	group, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: another program has its IOMMU group %s open", drivers.ErrBusy, d.f.Group)
	}
	if err != nil {
		return explain(err)
	}
	defer group.Close()
	var status groupStatus
	status.argsz = sizeOf(status)
	if err := ioctl(group, groupGetStatus, ptr(&status)); err != nil {
		return fmt.Errorf("state of IOMMU group %s: %w", d.f.Group, err)
	}
	if status.flags&groupViable == 0 {
		return fmt.Errorf("%w: its IOMMU group %s has devices that Linux uses, among %s", drivers.ErrUnsupported, d.f.Group, strings.Join(d.f.Shares, ", "))
	}
	container, err := openContainer(o.Dev)
	if err != nil {
		return err
	}
	d.iommu = container
	fd := int32(container.file.Fd())
	if err := ioctl(group, groupSetContainer, ptr(&fd)); err != nil {
		return fmt.Errorf("IOMMU group %s: %w", d.f.Group, explain(err))
	}
	if err := ioctlValue(container.file, setIOMMU, type1v2); err != nil {
		return fmt.Errorf("IOMMU of group %s: %w", d.f.Group, err)
	}
	return d.take(group)
}

// take gets the device's own file from its group.
func (d *Device) take(group *os.File) error {
	name := append([]byte(d.f.Address), 0)
	fd, err := ioctlFd(group, groupGetDeviceFd, &name[0])
	if err != nil {
		return fmt.Errorf("open %s: %w", d.f.Address, explain(err))
	}
	d.file = os.NewFile(uintptr(fd), "vfio:"+d.f.Address)
	return nil
}

// users lists the other devices of a group that have a driver of the kernel's.
func (o *Options) users(f *pci.Function) []string {
	var out []string
	for _, a := range f.Shares {
		to, err := os.Readlink(filepath.Join(string(o.Sys), "bus/pci/devices", a, "driver"))
		if err != nil {
			continue
		}
		if driver := filepath.Base(to); driver != "vfio-pci" && driver != "pci-stub" && driver != "pcieport" {
			out = append(out, fmt.Sprintf("%s (%s)", a, driver))
		}
	}
	return out
}

// prefer leaves out the lowest 16 MiB, and asks for addresses above 4 GiB where
// there are enough: those below are few, and some have a meaning elsewhere.
func prefer(all []dma.Range) []dma.Range {
	const low, high, enough = 16 << 20, 1 << 32, 1 << 34
	var out, below []dma.Range
	for _, r := range all {
		if r.Last >= high+enough {
			out = append(out, dma.Range{First: max(r.First, high), Last: r.Last})
		} else if r.Last > low {
			below = append(below, dma.Range{First: max(r.First, low), Last: r.Last})
		}
	}
	if len(out) > 0 {
		return out
	}
	return below
}

// Address returns the device's PCI address.
func (d *Device) Address() string { return d.f.Address }

// ID returns what the device is.
func (d *Device) ID() pci.ID { return d.f.ID }

// Node returns the device's NUMA node.
func (d *Device) Node() int { return d.f.Node }

// Physical reports whether no IOMMU stands between the device and memory.
func (d *Device) Physical() bool {
	_, ok := d.iommu.(*noIOMMU)
	return ok
}

// Vectors returns how many MSI-X vectors the device has.
func (d *Device) Vectors() int { return d.vectors }

// ReadConfig reads configuration space.
func (d *Device) ReadConfig(off, size int) (uint32, error) {
	var b [4]byte
	if err := d.config(off, size); err != nil {
		return 0, err
	}
	if _, err := d.file.ReadAt(b[:size], int64(d.regions[regionConfig].offset)+int64(off)); err != nil {
		return 0, fmt.Errorf("%s: configuration space: %w", d.f.Address, err)
	}
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24, nil
}

// WriteConfig writes configuration space.
func (d *Device) WriteConfig(off, size int, v uint32) error {
	if err := d.config(off, size); err != nil {
		return err
	}
	b := [4]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}
	if _, err := d.file.WriteAt(b[:size], int64(d.regions[regionConfig].offset)+int64(off)); err != nil {
		return fmt.Errorf("%s: configuration space: %w", d.f.Address, err)
	}
	return nil
}

func (d *Device) config(off, size int) error {
	if size != 1 && size != 2 && size != 4 || off < 0 || off%size != 0 || uint64(off+size) > d.regions[regionConfig].size {
		return fmt.Errorf("%s: access of %d bytes at %#x of configuration space", d.f.Address, size, off)
	}
	return nil
}

// BAR maps registers. Where the kernel lets only parts be mapped, it reads and
// writes them itself.
func (d *Device) BAR(n int) (*mmio.Window, error) {
	if n < 0 || n > 5 || d.regions[n].size == 0 {
		return nil, fmt.Errorf("%s: the device has no BAR %d", d.f.Address, n)
	}
	r := &d.regions[n]
	if r.flags&regionMmap == 0 || r.sparse {
		return mmio.Handled(int(r.size), &file{d, r.offset}), nil
	}
	b, err := unix.Mmap(int(d.file.Fd()), int64(r.offset), int(r.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%s: map BAR %d: %w", d.f.Address, n, err)
	}
	d.maps = append(d.maps, b)
	return mmio.Memory(b), nil
}

// file reads and writes registers by system calls.
type file struct {
	d      *Device
	offset uint64
}

func (f *file) Load(off, size int) (v uint64) {
	var b [8]byte
	if _, err := f.d.file.ReadAt(b[:size], int64(f.offset)+int64(off)); err != nil {
		return ^uint64(0) >> (64 - 8*size) // as a device that is gone answers
	}
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return v
}

func (f *file) Store(off, size int, v uint64) {
	var b [8]byte
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
	_, _ = f.d.file.WriteAt(b[:size], int64(f.offset)+int64(off)) // there is nobody to tell, as with memory
}

// Reset resets the function.
func (d *Device) Reset() error {
	if !d.reset {
		return fmt.Errorf("%s: no reset of the function: %w", d.f.Address, drivers.ErrUnsupported)
	}
	if err := ioctlValue(d.file, deviceReset, 0); err != nil {
		return fmt.Errorf("%s: reset: %w", d.f.Address, err)
	}
	return nil
}

// Interrupts makes MSI-X vectors signal eventfds.
func (d *Device) Interrupts(fds []int) error {
	if len(fds) > d.vectors {
		return fmt.Errorf("%s: %d interrupts: the device has %d: %w", d.f.Address, len(fds), d.vectors, drivers.ErrUnsupported)
	}
	if err := setIRQs(d.file, irqMSIX, fds); err != nil {
		return fmt.Errorf("%s: interrupts: %w", d.f.Address, err)
	}
	return nil
}

// Wanted reports whether the system asks for the device. Who does waits, and asks
// again every few seconds, until it is closed.
func (d *Device) Wanted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.request > 0 && !d.asked {
		n, _ := unix.Read(d.request, d.requests[:]) // does not block
		d.asked = n == len(d.requests)
	}
	return d.asked
}

// hugePage is what addresses are a multiple of where the memory is so large: the
// IOMMU needs fewer entries then.
const hugePage = 2 << 20

// Map maps memory for the device at an address that we choose.
func (d *Device) Map(b []byte) (uint64, error) {
	const page = 4096
	if len(b) == 0 {
		return 0, fmt.Errorf("%s: no memory to be mapped", d.f.Address)
	}
	if at, ok, err := physical(d.iommu, b); ok {
		return at, err
	}
	size := (len(b) + page - 1) &^ (page - 1)
	align := uint64(page)
	if size >= hugePage {
		align = hugePage
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at, err := d.space.Take(uint64(size), align)
	if err != nil {
		return 0, err
	}
	if err := d.iommu.mapMemory(slices.Clip(b), at); err != nil {
		d.space.Give(at)
		if errors.Is(err, unix.ENOMEM) {
			return 0, fmt.Errorf("%d bytes for %s cannot be locked in memory: raise the limit (LimitMEMLOCK=infinity in the unit, ulimit -l): %w", size, d.f.Address, err)
		}
		return 0, fmt.Errorf("map %d bytes for %s: %w", size, d.f.Address, err)
	}
	d.mapped[&b[0]] = mapping{at, size}
	return at, nil
}

// Unmap takes memory from the device.
func (d *Device) Unmap(b []byte) error {
	if _, ok := d.iommu.(*noIOMMU); ok {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.mapped[&b[0]]
	if !ok {
		return fmt.Errorf("%s: %d bytes to be unmapped were not mapped", d.f.Address, len(b))
	}
	if err := d.iommu.unmap(m.iova, uint64(m.size)); err != nil {
		return fmt.Errorf("%s: unmap %d bytes: %w", d.f.Address, m.size, err)
	}
	delete(d.mapped, &b[0])
	d.space.Give(m.iova)
	return nil
}

// Close gives the device back to the driver that had it.
func (d *Device) Close() error {
	var errs []error
	for _, b := range d.maps {
		errs = append(errs, unix.Munmap(b))
	}
	d.maps = nil
	if d.file != nil {
		errs = append(errs, d.file.Close())
		d.file = nil
	}
	if d.request > 0 {
		errs = append(errs, unix.Close(d.request))
		d.request = 0
	}
	if d.iommu != nil {
		errs = append(errs, d.iommu.close())
		d.iommu = nil
	}
	if d.restore != nil {
		errs = append(errs, d.restore())
		d.restore = nil
	}
	return errors.Join(errs...)
}
