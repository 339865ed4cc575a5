// Package pktbuf holds packet buffers outside the Go heap.
//
// A Pool is one contiguous, page-aligned region cut into equal frames, so that
// a driver can hand the whole region to a device (an AF_XDP UMEM, a DMA map)
// and a packet can go from one port to another without a copy. A Pool and all
// its packets belong to one worker: there are no locks, and ownership of a
// frame moves with the Packet value: Get → driver or caller → Put.
//
// The package knows neither devices nor protocols.
package pktbuf

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vita/internal/arena"
)

// Headroom is the room, in bytes, that Get leaves before a packet's first
// byte: enough for Ethernet with a VLAN tag, IPv6, UDP and ESP in front of an
// inner packet whose own Ethernet header has been removed.
const Headroom = 256

// Packet names a stretch of bytes within one frame. It is a small value, is
// copied freely, and carries the ownership of its frame; the zero Packet is
// frame 0 with no bytes, not "no packet".
type Packet struct {
	Frame uint32 // index of the frame in its Pool
	Off   uint16 // offset of the first byte within the frame
	Len   uint16 // length in bytes
}

// Options shapes a Pool. The zero value of a field stands for its default.
type Options struct {
	Frames    int  // number of frames; default 4096
	FrameSize int  // bytes a frame, a power of two from 2048 to 32768; default 4096
	Hugepages bool // ask for huge pages: reserved ones first, else those that the system puts together
	Node      int  // NUMA node to take the memory from while it has some, plus one; 0: any
}

// Pool is a set of equal frames with a stack of the free ones.
type Pool struct {
	region    []byte
	all       []byte // region, and HeadLen bytes that no frame has
	free      []uint32
	owned     []bool // true while a frame is outside the stack; guards against a second Put
	frameSize int
	shift     uint
	huge      bool
}

// ErrExhausted says that no frame was free.
var ErrExhausted = errors.New("packet buffer pool is empty")

// NewPool maps and touches the memory of a pool. The caller ends it by Close.
func NewPool(o Options) (*Pool, error) {
	if o.Frames == 0 {
		o.Frames = 4096
	}
	if o.FrameSize == 0 {
		o.FrameSize = 4096
	}
	if o.Frames < 1 || o.Frames > 1<<24 {
		return nil, fmt.Errorf("packet buffer pool: %d frames: want 1 to %d", o.Frames, 1<<24)
	}
	if o.FrameSize < 2048 || o.FrameSize > 32768 || o.FrameSize&(o.FrameSize-1) != 0 {
		return nil, fmt.Errorf("packet buffer pool: frame size %d: want a power of two from 2048 to 32768", o.FrameSize)
	}
	size := o.Frames * o.FrameSize
	p := &Pool{frameSize: o.FrameSize}
	for 1<<p.shift < o.FrameSize {
		p.shift++
	}
	if err := p.take(size+HeadLen, o); err != nil {
		return nil, fmt.Errorf("packet buffer pool: %w", err)
	}
	p.region = p.all[:size:size]
	p.free = make([]uint32, o.Frames)
	p.owned = make([]bool, o.Frames)
	for i := range p.free {
		p.free[i] = uint32(o.Frames - 1 - i) // frame 0 is handed out first
	}
	return p, nil
}

// take maps and touches the pool's memory.
func (p *Pool) take(size int, o Options) error {
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	const hugePage = 2 << 20
	if o.Hugepages {
		rounded := (size + hugePage - 1) &^ (hugePage - 1)
		if m, err := unix.Mmap(-1, 0, rounded, prot, flags|unix.MAP_HUGETLB); err == nil {
			p.all, p.huge = m, true
		}
	}
	if p.all == nil {
		m, err := unix.Mmap(-1, 0, size, prot, flags)
		if err != nil {
			return fmt.Errorf("map %d bytes: %w", size, err)
		}
		p.all = m
		if o.Hugepages {
			_ = unix.Madvise(m, unix.MADV_HUGEPAGE) // a kernel without them says so
		}
	}
	err := arena.Prefer(p.all, o.Node)
	if err == nil {
		err = touch(p.all)
	}
	if err != nil {
		return errors.Join(err, unix.Munmap(p.all))
	}
	return nil
}

// touch has all pages there, so that none is missing when packets flow.
func touch(m []byte) error {
	const populateWrite = 23 // MADV_POPULATE_WRITE, of Linux 5.14
	err := unix.Madvise(m, populateWrite)
	if errors.Is(err, unix.EINVAL) {
		for i := 0; i < len(m); i += 4096 {
			m[i] = 0
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("touch %d bytes: %w", len(m), err)
	}
	return nil
}

// Close unmaps the pool. No packet, slice or device may refer to it any more.
func (p *Pool) Close() error {
	r := p.all
	p.all, p.region, p.free = nil, nil, nil
	if r == nil {
		return nil
	}
	return unix.Munmap(r)
}

// Region returns all frames as one slice, for a driver to register.
func (p *Pool) Region() []byte { return p.region }

// Addr returns the region's address, for drivers that hand it to a device.
func (p *Pool) Addr() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(p.region))) }

// FrameSize returns the bytes of one frame.
func (p *Pool) FrameSize() int { return p.frameSize }

// Frames returns how many frames the pool has in all.
func (p *Pool) Frames() int { return len(p.owned) }

// Available returns how many frames are free.
func (p *Pool) Available() int { return len(p.free) }

// Hugepages reports whether the region lies on hugetlbfs pages.
func (p *Pool) Hugepages() bool { return p.huge }

// Get takes a free frame. The packet is empty and starts at Headroom.
func (p *Pool) Get() (Packet, bool) {
	n := len(p.free)
	if n == 0 {
		return Packet{}, false
	}
	f := p.free[n-1]
	p.free = p.free[:n-1]
	p.owned[f] = true
	return Packet{Frame: f, Off: Headroom}, true
}

// Put gives a packet's frame back. A second Put of the same frame would hand
// one buffer to two owners, so it panics: it is a defect of the caller and no
// packet can cause it.
func (p *Pool) Put(k Packet) {
	if !p.owned[k.Frame] {
		panic("pktbuf: frame put back twice")
	}
	p.owned[k.Frame] = false
	p.free = append(p.free, k.Frame) // never grows: the stack was made for all frames
}

// PutBatch gives all packets of b back.
func (p *Pool) PutBatch(b []Packet) {
	for i := range b {
		p.Put(b[i])
	}
}

// Bytes returns the packet's bytes; the slice's capacity ends with the frame.
func (p *Pool) Bytes(k Packet) []byte {
	start := int(k.Frame)<<(p.shift&63) + int(k.Off) // a mask, so that no shift is too large
	end := int(k.Frame+1) << (p.shift & 63)
	return p.region[start : start+int(k.Len) : end]
}

// HeadLen is how many bytes Head returns: the headers that a packet begins with.
const HeadLen = 64

// Head returns the bytes from the packet's first on, whether it is so long or
// not: what lies behind its end is not to be used. The length is a constant, so
// that the compiler need not check every access.
func (p *Pool) Head(k Packet) *[HeadLen]byte {
	return (*[HeadLen]byte)(p.all[int(k.Frame)<<(p.shift&63)+int(k.Off):])
}

// Tailroom returns the bytes between the packet's end and its frame's.
func (p *Pool) Tailroom(k Packet) int { return p.frameSize - int(k.Off) - int(k.Len) }

// Offset returns the packet's place in Region, in bytes.
func (p *Pool) Offset(k Packet) uint64 { return uint64(k.Frame)<<p.shift + uint64(k.Off) }

// At is the inverse of Offset: the packet of length n that starts at byte off
// of Region. It reports false where the packet would leave its frame or the
// region, as it may when off comes from a device.
func (p *Pool) At(off uint64, n int) (Packet, bool) {
	f := off >> p.shift
	in := int(off) & (p.frameSize - 1)
	if f >= uint64(len(p.owned)) || n < 0 || in+n > p.frameSize {
		return Packet{}, false
	}
	return Packet{Frame: uint32(f), Off: uint16(in), Len: uint16(n)}, true
}

// Grow returns k extended by n bytes at its front (n negative: shortened).
// The caller has checked that the frame has the room.
func (k Packet) Grow(n int) Packet {
	k.Off -= uint16(n)
	k.Len += uint16(n)
	return k
}
