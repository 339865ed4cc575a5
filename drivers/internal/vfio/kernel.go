package vfio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/dma"
)

// Requests of VFIO: ';' and a number from 100 on (linux/vfio.h).
const (
	base                = ';'<<8 | 100
	getAPIVersion       = base + 0
	checkExtension      = base + 1
	setIOMMU            = base + 2
	groupGetStatus      = base + 3
	groupSetContainer   = base + 4
	groupGetDeviceFd    = base + 6
	deviceGetInfo       = base + 7
	deviceGetRegion     = base + 8
	deviceGetIRQ        = base + 9
	deviceSetIRQs       = base + 10
	deviceReset         = base + 11
	iommuGetInfo        = base + 12
	iommuMap            = base + 13
	iommuUnmap          = base + 14
	deviceBindIOMMUFD   = base + 18
	deviceAttachPT      = base + 19
	apiVersion          = 0
	type1v2             = 3
	noIOMMUType         = 8
	groupViable         = 1 << 0
	deviceCanReset      = 1 << 0
	regionMmap          = 1 << 2
	regionCaps          = 1 << 3
	regionConfig        = 7
	capSparse           = 1
	irqMSIX             = 2
	irqRequest          = 4 // the system asks for the device
	irqNone, irqEventfd = 1 << 0, 1 << 2
	irqTrigger          = 1 << 5
	mapRead, mapWrite   = 1 << 0, 1 << 1
	infoCaps            = 1 << 1
	capRanges           = 1
)

// Requests of iommufd (linux/iommufd.h).
const (
	iommufdBase               = ';'<<8 | 0x80
	ioasAlloc                 = iommufdBase + 1
	ioasRanges                = iommufdBase + 4
	ioasMap                   = iommufdBase + 5
	ioasUnmap                 = iommufdBase + 6
	ioasFixed                 = 1 << 0
	ioasWriteable             = 1 << 1
	ioasReadable              = 1 << 2
	maxRanges                 = 64
	infoSize                  = 4096 // room for a structure with its capabilities
	regionHead, iommuInfoHead = 32, 24
)

type groupStatus struct{ argsz, flags uint32 }

type deviceInfo struct {
	argsz, flags, regions, irqs uint32
	_, _                        uint32 // capabilities
}

type regionInfo struct {
	argsz, flags, index, capOffset uint32
	size, offset                   uint64
}

type irqInfo struct {
	argsz, _, index, count uint32
}

type iommuInfo struct {
	argsz, flags uint32
	pageSizes    uint64
	capOffset    uint32
	pad          uint32
}

type dmaMap struct {
	argsz, flags      uint32
	vaddr, iova, size uint64
}

type dmaUnmap struct {
	argsz, _   uint32
	iova, size uint64
}

type bindIOMMUFD struct {
	argsz, _ uint32
	iommufd  int32
	_        uint32
}

type attachPT struct {
	argsz, _, pt uint32
}

type ioasAllocate struct {
	size, _, id uint32
}

type ioasRangesInfo struct {
	size, id, n, _ uint32
	ranges, _      uint64
}

type ioasMapping struct {
	size, flags, id, _  uint32
	vaddr, length, iova uint64
}

type ioasUnmapping struct {
	size, id     uint32
	iova, length uint64
}

func sizeOf[T any](v T) uint32 { return uint32(unsafe.Sizeof(v)) }

func ptr[T any](v *T) unsafe.Pointer { return unsafe.Pointer(v) }

// request is the system call, with a pointer or a number; a test has a kernel of
// its own.
var request = func(f *os.File, number uint, arg unsafe.Pointer, v uintptr) (int, error) {
	if arg != nil {
		v = 0
	}
	r, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(number), uintptr(arg)|v)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// ioctl asks something with a structure.
func ioctl(f *os.File, number uint, arg unsafe.Pointer) error {
	_, err := request(f, number, arg, 0)
	return err
}

// ioctlValue asks something with a number.
func ioctlValue(f *os.File, number uint, v uintptr) error {
	_, err := request(f, number, nil, v)
	return err
}

// ioctlFd asks for something that is answered by a number.
func ioctlFd(f *os.File, number uint, arg *byte) (int, error) {
	return request(f, number, unsafe.Pointer(arg), 0)
}

// container is the IOMMU of a device that was opened by its group.
type container struct{ file *os.File }

func openContainer(dev string) (*container, error) {
	f, err := os.OpenFile(filepath.Join(dev, "vfio/vfio"), os.O_RDWR, 0)
	if err != nil {
		return nil, explain(err)
	}
	c := &container{f}
	v, err := ioctlFd(f, getAPIVersion, nil)
	if err == nil && v != apiVersion {
		err = fmt.Errorf("VFIO of version %d: want %d: %w", v, apiVersion, drivers.ErrUnsupported)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

// ranges returns the addresses that the device can be given.
func (c *container) ranges() ([]dma.Range, error) {
	b := make([]byte, infoSize)
	info := (*iommuInfo)(unsafe.Pointer(&b[0]))
	info.argsz = infoSize
	if err := ioctl(c.file, iommuGetInfo, ptr(info)); err != nil {
		return nil, fmt.Errorf("what the IOMMU is: %w", err)
	}
	all := []dma.Range{{First: 0, Last: 1<<39 - 1}} // of a kernel that does not say
	if info.flags&infoCaps == 0 {
		return all, nil
	}
	for at := info.capOffset; at >= iommuInfoHead && int(at)+16 <= len(b); {
		id, next := uint16(b[at])|uint16(b[at+1])<<8, le32(b[at+4:])
		if id == capRanges {
			all = nil
			for i := range int(le32(b[at+8:])) {
				r := int(at) + 16 + 16*i
				if r+16 > len(b) {
					break
				}
				all = append(all, dma.Range{First: le64(b[r:]), Last: le64(b[r+8:])})
			}
			break
		}
		if next <= at {
			break
		}
		at = next
	}
	return all, nil
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func le64(b []byte) uint64 { return uint64(le32(b)) | uint64(le32(b[4:]))<<32 }

// whole is the length of memory in whole pages.
func whole(b []byte) uint64 { return (uint64(len(b)) + 4095) &^ 4095 }

func (c *container) mapMemory(b []byte, iova uint64) error {
	m := dmaMap{flags: mapRead | mapWrite, vaddr: uint64(uintptr(unsafe.Pointer(&b[0]))), iova: iova, size: whole(b)}
	m.argsz = sizeOf(m)
	return ioctl(c.file, iommuMap, ptr(&m))
}

func (c *container) unmap(iova, size uint64) error {
	m := dmaUnmap{iova: iova, size: size}
	m.argsz = sizeOf(m)
	return ioctl(c.file, iommuUnmap, ptr(&m))
}

func (c *container) close() error { return c.file.Close() }

// ioas is the IOMMU of a device that was opened by its own file.
type ioas struct {
	file *os.File
	id   uint32
}

// attachCdev opens the device by its own file.
func (d *Device) attachCdev(o *Options, name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return explain(err)
	}
	d.file = f
	iommu, err := os.OpenFile(filepath.Join(o.Dev, "iommu"), os.O_RDWR, 0)
	if err != nil {
		return explain(err)
	}
	s := &ioas{file: iommu}
	d.iommu = s
	bind := bindIOMMUFD{iommufd: int32(iommu.Fd())}
	bind.argsz = sizeOf(bind)
	if err := ioctl(f, deviceBindIOMMUFD, ptr(&bind)); err != nil {
		return fmt.Errorf("bind to an IOMMU: %w", explain(err))
	}
	a := ioasAllocate{}
	a.size = sizeOf(a)
	if err := ioctl(iommu, ioasAlloc, ptr(&a)); err != nil {
		return fmt.Errorf("addresses of an IOMMU: %w", err)
	}
	s.id = a.id
	pt := attachPT{pt: a.id}
	pt.argsz = sizeOf(pt)
	if err := ioctl(f, deviceAttachPT, ptr(&pt)); err != nil {
		return fmt.Errorf("attach to an IOMMU: %w", explain(err))
	}
	return nil
}

func (s *ioas) ranges() ([]dma.Range, error) {
	out := make([]dma.Range, maxRanges)
	var pin runtime.Pinner // the kernel gets its address as a number
	pin.Pin(&out[0])
	defer pin.Unpin()
	r := ioasRangesInfo{id: s.id, n: maxRanges, ranges: uint64(uintptr(unsafe.Pointer(&out[0])))}
	r.size = sizeOf(r)
	if err := ioctl(s.file, ioasRanges, ptr(&r)); err != nil {
		return nil, fmt.Errorf("addresses of the IOMMU: %w", err)
	}
	return out[:min(r.n, maxRanges)], nil
}

func (s *ioas) mapMemory(b []byte, iova uint64) error {
	m := ioasMapping{flags: ioasFixed | ioasReadable | ioasWriteable, id: s.id, vaddr: uint64(uintptr(unsafe.Pointer(&b[0]))), length: whole(b), iova: iova}
	m.size = sizeOf(m)
	return ioctl(s.file, ioasMap, ptr(&m))
}

func (s *ioas) unmap(iova, size uint64) error {
	m := ioasUnmapping{id: s.id, iova: iova, length: size}
	m.size = sizeOf(m)
	return ioctl(s.file, ioasUnmap, ptr(&m))
}

func (s *ioas) close() error { return s.file.Close() }

// region is a part of the device's file.
type region struct {
	flags        uint32
	size, offset uint64
	sparse       bool // only parts of it can be mapped
}

// describe reads what the device has.
func (d *Device) describe() error {
	var info deviceInfo
	info.argsz = sizeOf(info)
	if err := ioctl(d.file, deviceGetInfo, ptr(&info)); err != nil {
		return fmt.Errorf("what %s has: %w", d.f.Address, err)
	}
	d.reset = info.flags&deviceCanReset != 0
	for i := range min(len(d.regions), int(info.regions)) {
		if err := d.describeRegion(i); err != nil {
			return fmt.Errorf("region %d of %s: %w", i, d.f.Address, err)
		}
	}
	irqs := func(index uint32) (int, error) {
		if index >= info.irqs {
			return 0, nil
		}
		irq := irqInfo{index: index}
		irq.argsz = sizeOf(irq)
		err := ioctl(d.file, deviceGetIRQ, ptr(&irq))
		return int(irq.count), err
	}
	var err error
	if d.vectors, err = irqs(irqMSIX); err != nil {
		return fmt.Errorf("interrupts of %s: %w", d.f.Address, err)
	}
	// A kernel that has no way to ask for the device waits until it is closed.
	if n, err := irqs(irqRequest); err != nil || n == 0 {
		return nil
	}
	if d.request, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	if err := setIRQs(d.file, irqRequest, []int{d.request}); err != nil {
		return fmt.Errorf("being asked for %s: %w", d.f.Address, err)
	}
	return nil
}

func (d *Device) describeRegion(i int) error {
	b := make([]byte, infoSize)
	r := (*regionInfo)(unsafe.Pointer(&b[0]))
	r.argsz, r.index = infoSize, uint32(i)
	if err := ioctl(d.file, deviceGetRegion, ptr(r)); err != nil {
		if errors.Is(err, unix.EINVAL) {
			return nil // the device has none
		}
		return err
	}
	out := region{flags: r.flags, size: r.size, offset: r.offset}
	if r.flags&regionCaps != 0 {
		for at := r.capOffset; at >= regionHead && int(at)+8 <= len(b); {
			out.sparse = out.sparse || uint16(b[at])|uint16(b[at+1])<<8 == capSparse
			next := le32(b[at+4:])
			if next <= at {
				break
			}
			at = next
		}
	}
	d.regions[i] = out
	return nil
}

// setIRQs makes the interrupts of a kind signal eventfds; with none, it turns them
// off.
func setIRQs(f *os.File, kind uint32, fds []int) error {
	words := make([]uint32, 5, 5+len(fds)) // argsz, flags, index, start, count, and the eventfds
	words[1], words[2], words[4] = irqNone|irqTrigger, kind, uint32(len(fds))
	if len(fds) > 0 {
		words[1] = irqEventfd | irqTrigger
	}
	for _, fd := range fds {
		words = append(words, uint32(fd))
	}
	words[0] = uint32(4 * len(words))
	return ioctl(f, deviceSetIRQs, unsafe.Pointer(&words[0]))
}

// noIOMMU stands where nothing confines the device: it uses the addresses of the
// machine's memory.
type noIOMMU struct{ container }

func (*noIOMMU) ranges() ([]dma.Range, error) { return nil, nil }

// attachNoIOMMU opens a device that nothing confines.
func (d *Device) attachNoIOMMU(o *Options) error {
	o.log(fmt.Sprintf("WARNING: no IOMMU confines %s: a fault of the card or of its driver can overwrite any memory of this machine", d.f.Address))
	names, _ := filepath.Glob(filepath.Join(o.Dev, "vfio/noiommu-*")) // the pattern is good
	link, err := os.Readlink(filepath.Join(string(o.Sys), "bus/pci/devices", d.f.Address, "iommu_group"))
	if err != nil || len(names) == 0 {
		return fmt.Errorf("the kernel does not give out devices without an IOMMU: 'echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode' before the device is bound: %w", drivers.ErrUnsupported)
	}
	group, err := os.OpenFile(filepath.Join(o.Dev, "vfio/noiommu-"+filepath.Base(link)), os.O_RDWR, 0)
	if err != nil {
		return explain(err)
	}
	defer group.Close()
	c, err := openContainer(o.Dev)
	if err != nil {
		return err
	}
	d.iommu = &noIOMMU{*c}
	fd := int32(c.file.Fd())
	if err := ioctl(group, groupSetContainer, ptr(&fd)); err != nil {
		return explain(err)
	}
	if err := ioctlValue(c.file, setIOMMU, noIOMMUType); err != nil {
		return err
	}
	return d.take(group)
}

// physical returns where memory lies in the machine, if the device uses such
// addresses. It must be in one piece there, as within a huge page.
func physical(m iommu, b []byte) (at uint64, ok bool, err error) {
	if _, ok := m.(*noIOMMU); !ok {
		return 0, false, nil
	}
	pages, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, true, explain(err)
	}
	defer pages.Close()
	const page, present, number = 4096, 1 << 63, 1<<55 - 1
	va := uint64(uintptr(unsafe.Pointer(&b[0])))
	for i := uint64(0); i < whole(b); i += page {
		var e [8]byte
		if _, err := pages.ReadAt(e[:], int64((va+i)/page*8)); err != nil {
			return 0, true, err
		}
		v := le64(e[:])
		here := v & number * page
		switch {
		case v&present == 0 || here == 0:
			return 0, true, errors.New("where memory lies is not known: without an IOMMU, vita-engine must run as root")
		case i == 0:
			at = here + va%page
		case here != at+i:
			return 0, true, fmt.Errorf("%d bytes do not lie in one piece: a device without an IOMMU needs huge pages: %w", len(b), drivers.ErrUnsupported)
		}
	}
	return at, true, unix.Mlock(b)
}
