// Package xsk is an AF_XDP socket: its memory registration and its four rings
// (Linux, Documentation/networking/af_xdp.rst).
//
//	fill        we → kernel   frames to receive into
//	rx          kernel → we   frames received
//	tx          we → kernel   frames to send
//	completion  kernel → we   frames sent
//
// The package does not know what a frame or a buffer pool is. What the kernel
// writes into the rings is handed on as it is: the caller checks it.
package xsk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Desc is struct xdp_desc: a frame by its offset in the registered memory.
type Desc struct {
	Addr    uint64
	Len     uint32
	Options uint32
}

// Ring is one ring as user space sees it. Exactly one goroutine uses it.
type Ring[T any] struct {
	producer, consumer, flags *atomic.Uint32
	entries                   []T
	mask                      uint32
	ours                      uint32 // the index we own: next to produce, or next to consume
	theirs                    uint32 // the other index as last seen
	mapped                    []byte
}

// Produce returns how many entries, at most n, can be written now.
func (r *Ring[T]) Produce(n int) int {
	size := uint32(len(r.entries))
	if free := size - (r.ours - r.theirs); int(free) < n {
		r.theirs = r.consumer.Load()
	}
	free := size - (r.ours - r.theirs)
	if free > size { // the kernel's index makes no sense
		return 0
	}
	return min(int(free), n)
}

// Set writes entry i of those Produce has allowed.
func (r *Ring[T]) Set(i int, v T) { r.entries[(r.ours+uint32(i))&r.mask] = v }

// Submit hands the first n written entries to the kernel.
func (r *Ring[T]) Submit(n int) {
	r.ours += uint32(n)
	r.producer.Store(r.ours)
}

// Consume returns how many entries, at most n, can be read now.
func (r *Ring[T]) Consume(n int) int {
	if int(r.theirs-r.ours) < n {
		r.theirs = r.producer.Load()
	}
	have := r.theirs - r.ours
	if have > uint32(len(r.entries)) { // the kernel's index makes no sense
		return 0
	}
	return min(int(have), n)
}

// Get reads entry i of those Consume has allowed.
func (r *Ring[T]) Get(i int) T { return r.entries[(r.ours+uint32(i))&r.mask] }

// Release gives the first n entries read back to the kernel.
func (r *Ring[T]) Release(n int) {
	r.ours += uint32(n)
	r.consumer.Store(r.ours)
}

// Pending returns how many of our entries the kernel has not consumed.
func (r *Ring[T]) Pending() int { return int(r.ours - r.consumer.Load()) }

// Pretend makes n more entries, written by Set, look as if the kernel had
// produced them: for tests of what a hostile device could say.
func (r *Ring[T]) Pretend(n int) { r.producer.Add(uint32(n)) }

// NeedWakeup reports whether the kernel sleeps and wants a system call.
func (r *Ring[T]) NeedWakeup() bool { return r.flags.Load()&unix.XDP_RING_NEED_WAKEUP != 0 }

// Statistics is struct xdp_statistics.
type Statistics struct {
	RxDropped, RxInvalid, TxInvalid, RxRingFull, FillEmpty, TxEmpty uint64
}

// Options asks for a socket.
type Options struct {
	Ifindex, Queue int
	Memory         []byte // registered with the kernel; unused where Share is set
	FrameSize      int
	Share          *Socket // a bound socket whose registration is used too
	ZeroCopy       bool    // bind in zero-copy mode, else in copy mode; with Share as it is
	Entries        int     // of each ring, a power of two
}

// Socket is a bound AF_XDP socket.
type Socket struct {
	Fill, Completion Ring[uint64]
	Rx, Tx           Ring[Desc]

	fd     int
	shares bool
	stats  Statistics
}

// Open makes a socket and binds it.
func Open(o Options) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("AF_XDP socket: %w", err)
	}
	s := &Socket{fd: fd, shares: o.Share != nil}
	if err := s.bind(o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Socket) bind(o Options) error {
	if o.Share == nil {
		reg := unix.XDPUmemReg{
			Addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(o.Memory)))),
			Len:  uint64(len(o.Memory)), Size: uint32(o.FrameSize),
		}
		if err := s.setsockopt(unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg)); err != nil {
			return fmt.Errorf("register %d bytes in frames of %d: %w", len(o.Memory), o.FrameSize, err)
		}
	}
	n := uint32(o.Entries)
	for _, opt := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := s.setsockopt(opt, unsafe.Pointer(&n), 4); err != nil {
			return fmt.Errorf("ring of %d entries: %w", n, err)
		}
	}
	var off unix.XDPMmapOffsets
	if err := s.getsockopt(unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&off), unsafe.Sizeof(off)); err != nil {
		return fmt.Errorf("ring offsets: %w", err)
	}
	if err := errors.Join(
		mapRing(&s.Fill, s.fd, unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr, o.Entries),
		mapRing(&s.Completion, s.fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr, o.Entries),
		mapRing(&s.Rx, s.fd, unix.XDP_PGOFF_RX_RING, off.Rx, o.Entries),
		mapRing(&s.Tx, s.fd, unix.XDP_PGOFF_TX_RING, off.Tx, o.Entries)); err != nil {
		return err
	}
	a := unix.SockaddrXDP{Ifindex: uint32(o.Ifindex), QueueID: uint32(o.Queue)}
	switch {
	case o.Share != nil: // the mode is that of the other socket, and must not be named
		a.Flags, a.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(o.Share.fd)
	case o.ZeroCopy:
		a.Flags = unix.XDP_ZEROCOPY | unix.XDP_USE_NEED_WAKEUP
	default:
		a.Flags = unix.XDP_COPY | unix.XDP_USE_NEED_WAKEUP
	}
	if err := unix.Bind(s.fd, &a); err != nil {
		return fmt.Errorf("bind to queue %d: %w", o.Queue, err)
	}
	return nil
}

// mapRing maps a ring of the socket.
func mapRing[T any](r *Ring[T], fd int, page int64, off unix.XDPRingOffset, n int) error {
	var entry T
	m, err := unix.Mmap(fd, page, int(off.Desc)+n*int(unsafe.Sizeof(entry)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map ring: %w", err)
	}
	r.mapped = m
	r.producer = (*atomic.Uint32)(unsafe.Pointer(&m[off.Producer]))
	r.consumer = (*atomic.Uint32)(unsafe.Pointer(&m[off.Consumer]))
	r.flags = (*atomic.Uint32)(unsafe.Pointer(&m[off.Flags]))
	r.entries = unsafe.Slice((*T)(unsafe.Pointer(&m[off.Desc])), n)
	r.mask = uint32(n - 1)
	return nil
}

func (r *Ring[T]) unmap() error {
	m := r.mapped
	if m == nil {
		return nil
	}
	*r = Ring[T]{}
	return unix.Munmap(m)
}

func (s *Socket) setsockopt(opt int, p unsafe.Pointer, n uintptr) error {
	if _, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, uintptr(opt), uintptr(p), n, 0); e != 0 {
		return e
	}
	return nil
}

func (s *Socket) getsockopt(opt int, p unsafe.Pointer, n uintptr) error {
	size := uint32(n)
	if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, uintptr(opt), uintptr(p), uintptr(unsafe.Pointer(&size)), 0); e != 0 {
		return e
	}
	return nil
}

// Fd returns the socket's descriptor.
func (s *Socket) Fd() int { return s.fd }

// Shares reports whether the socket uses another one's registration.
func (s *Socket) Shares() bool { return s.shares }

// ZeroCopy reports whether the device itself reads and writes the memory.
func (s *Socket) ZeroCopy() bool {
	var flags uint32
	return s.getsockopt(unix.XDP_OPTIONS, unsafe.Pointer(&flags), 4) == nil && flags&unix.XDP_OPTIONS_ZEROCOPY != 0
}

// Send makes the kernel send what is in the tx ring, as far as it can now.
func (s *Socket) Send() error {
	_, _, e := unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// Wake makes a device that waits for frames look into the fill ring.
func (s *Socket) Wake() {
	// The result does not matter: the device asks again as long as it needs.
	_, _, _ = unix.Syscall6(unix.SYS_RECVFROM, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
}

// Statistics reads the socket's counters. It does not allocate.
func (s *Socket) Statistics() (Statistics, error) {
	err := s.getsockopt(unix.XDP_STATISTICS, unsafe.Pointer(&s.stats), unsafe.Sizeof(s.stats))
	return s.stats, err
}

// Close unbinds and ends the socket. The kernel no longer touches the memory
// for it then.
func (s *Socket) Close() error {
	err := errors.Join(s.Fill.unmap(), s.Completion.unmap(), s.Rx.unmap(), s.Tx.unmap())
	if s.fd >= 0 {
		err = errors.Join(err, unix.Close(s.fd))
		s.fd = -1
	}
	return err
}
