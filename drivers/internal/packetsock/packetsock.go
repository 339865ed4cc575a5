// Package packetsock is an AF_PACKET socket that moves frames in batches, by
// recvmmsg and sendmmsg, each with a virtio_net_hdr in front (packet(7), and
// PACKET_VNET_HDR in linux/if_packet.h). It knows no buffer pool.
package packetsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Header is struct virtio_net_hdr (VIRTIO 1.2, section 5.1.6).
type Header [10]byte

// The fields of a Header that matter here, in the machine's byte order.
const (
	flagNeedsChecksum = 1
	offFlags          = 0
	offGSOType        = 1
	offChecksumStart  = 6
	offChecksumOffset = 8
)

// Checksum reports whether the sender has left a checksum unfinished, and the
// offset of its first byte and of the field that holds it.
func (h *Header) Checksum() (start, field int, unfinished bool) {
	start = int(binary.NativeEndian.Uint16(h[offChecksumStart:]))
	return start, start + int(binary.NativeEndian.Uint16(h[offChecksumOffset:])), h[offFlags]&flagNeedsChecksum != 0
}

// Segmented reports whether the frame is one that a device was to cut.
func (h *Header) Segmented() bool { return h[offGSOType] != 0 }

// mmsghdr is struct mmsghdr of sys/socket.h.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// Batch is a row of messages, made once and used again.
type Batch struct {
	msgs    []mmsghdr
	iovs    []unix.Iovec // two a message: header, frame
	headers []Header
	control []control // what the kernel says of a received frame beside it
}

// control is struct cmsghdr with a struct tpacket_auxdata (linux/if_packet.h).
type control struct {
	cmsg unix.Cmsghdr
	unix.TpacketAuxdata
	_ [4]byte
}

// Tag returns the VLAN tag that the kernel has taken off the received frame i,
// its type and control information; false where it has not.
func (b *Batch) Tag(i int) (tpid, tci uint16, ok bool) {
	c := &b.control[i]
	if b.msgs[i].hdr.Controllen < uint64(unsafe.Sizeof(c.cmsg)+unsafe.Sizeof(c.TpacketAuxdata)) ||
		c.cmsg.Level != unix.SOL_PACKET || c.cmsg.Type != unix.PACKET_AUXDATA || c.Status&unix.TP_STATUS_VLAN_VALID == 0 {
		return 0, 0, false
	}
	if tpid = unix.ETH_P_8021Q; c.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = c.Vlan_tpid
	}
	return tpid, c.Vlan_tci, true
}

// expect makes room for what the kernel says beside frame i.
func (b *Batch) expect(i int) {
	b.msgs[i].hdr.Control = (*byte)(unsafe.Pointer(&b.control[i]))
	b.msgs[i].hdr.SetControllen(int(unsafe.Sizeof(b.control[i])))
}

// NewBatch makes a batch of n messages.
func NewBatch(n int) *Batch {
	b := &Batch{msgs: make([]mmsghdr, n), iovs: make([]unix.Iovec, 2*n), headers: make([]Header, n), control: make([]control, n)}
	for i := range b.msgs {
		b.iovs[2*i].Base = &b.headers[i][0]
		b.iovs[2*i].SetLen(len(b.headers[i]))
		b.msgs[i].hdr.Iov = &b.iovs[2*i]
		b.msgs[i].hdr.SetIovlen(2)
	}
	return b
}

// Set makes frame, which must not be empty, the memory of message i.
func (b *Batch) Set(i int, frame []byte) {
	b.iovs[2*i+1].Base = unsafe.SliceData(frame)
	b.iovs[2*i+1].SetLen(len(frame))
	b.msgs[i].hdr.Flags = 0
}

// Header returns the header of message i.
func (b *Batch) Header(i int) *Header { return &b.headers[i] }

// Len returns the length of the received frame i, which may be less than 0
// after a fault of the kernel, and whether it was larger than its memory.
func (b *Batch) Len(i int) (n int, cut bool) {
	return int(b.msgs[i].len) - len(b.headers[i]), b.msgs[i].hdr.Flags&unix.MSG_TRUNC != 0
}

// Socket is a packet socket bound to one interface.
type Socket struct {
	fd    int
	stats unix.TpacketStats
}

// Open makes a socket that receives what filter lets through of the interface,
// and nothing that this machine sends there.
func Open(ifindex int, filter []unix.SockFilter, bufferBytes int) (*Socket, error) {
	// Protocol 0 receives nothing until bind names one, so that no frame comes
	// past the filter.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	s := &Socket{fd: fd}
	if err := s.bind(ifindex, filter, bufferBytes); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Socket) bind(ifindex int, filter []unix.SockFilter, bufferBytes int) error {
	p := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &p); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	for _, o := range []struct {
		level, opt, value int
		name              string
	}{
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1, "ignore outgoing"},
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1, "header of offloads"},
		{unix.SOL_PACKET, unix.PACKET_AUXDATA, 1, "VLAN tags"},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, bufferBytes, "send buffer"},
	} {
		if err := unix.SetsockoptInt(s.fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
	// The larger size needs a privilege that the plain one does not.
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes) != nil {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes); err != nil {
			return fmt.Errorf("receive buffer: %w", err)
		}
	}
	a := unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8, Ifindex: ifindex} // big endian
	if err := unix.Bind(s.fd, &a); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// Fd returns the socket's descriptor.
func (s *Socket) Fd() int { return s.fd }

// Receive fills the first n messages of b and returns how many it has filled.
// It does not wait: EAGAIN says that there is none.
func (s *Socket) Receive(b *Batch, n int) (int, error) {
	for i := range n {
		b.expect(i)
	}
	return s.call(unix.SYS_RECVMMSG, b, 0, n)
}

// Send sends messages from, from+1, ... to-1 and returns how many it has sent.
// An error is that of the first message; it does not wait.
func (s *Socket) Send(b *Batch, from, to int) (int, error) {
	return s.call(unix.SYS_SENDMMSG, b, from, to)
}

func (s *Socket) call(number uintptr, b *Batch, from, to int) (int, error) {
	if from >= to {
		return 0, nil
	}
	for {
		n, _, e := unix.Syscall6(number, uintptr(s.fd), uintptr(unsafe.Pointer(&b.msgs[from])), uintptr(to-from), unix.MSG_DONTWAIT, 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}

// Dropped returns how many frames were dropped since the last call because the
// receive buffer was full. It does not allocate.
func (s *Socket) Dropped() (uint32, error) {
	size := uint32(unsafe.Sizeof(s.stats))
	if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_PACKET, unix.PACKET_STATISTICS, uintptr(unsafe.Pointer(&s.stats)), uintptr(unsafe.Pointer(&size)), 0); e != 0 {
		return 0, e
	}
	return s.stats.Drops, nil
}

// Close ends the socket.
func (s *Socket) Close() error {
	fd := s.fd
	s.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}
