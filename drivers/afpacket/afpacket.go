// Package afpacket drives a kernel interface by an AF_PACKET socket, where
// AF_XDP does not serve: an older kernel, or an MTU beyond a page. Every frame is copied by the kernel, and the
// kernel's own stack sees it too, so the interface should have no address.
//
// What a sender on this machine leaves to a device that then does not exist,
// as on a veth pair, is dealt with here: an unfinished checksum is completed,
// a frame still to be segmented is refused and counted as an error. A VLAN tag
// that the kernel has taken off a frame is put in again.
//
// The package knows Ethernet frames and nothing above them.
package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/netif"
	"vita/drivers/internal/packetsock"
	"vita/internal/pktbuf"
)

const (
	batchSize = 64
	headerLen = 14
	tagLen    = 4

	addressesLen = 12      // the two addresses of an Ethernet header
	bufferBytes  = 4 << 20 // each way, in the kernel
)

// Port is an open interface, or some queues of one.
type Port struct {
	pool     *pktbuf.Pool
	stats    *drivers.Stats
	netif    *netif.Interface
	socket   *packetsock.Socket
	rx, tx   *packetsock.Batch
	slots    [batchSize]pktbuf.Packet // buffers of rx
	armed    [batchSize]bool          // the slot has a buffer
	queues   int
	maxFrame int
}

// Open opens the interface c.Ifname in the calling thread's network namespace.
// A port for some of its queues receives what the device has received on them;
// the kernel chooses the queue to send on.
func Open(c drivers.Config) (drivers.Port, error) {
	p := &Port{pool: c.Pool, stats: c.Stats, rx: packetsock.NewBatch(batchSize), tx: packetsock.NewBatch(batchSize)}
	if p.stats == nil {
		p.stats = new(drivers.Stats)
	}
	if err := p.open(c); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Port) open(c drivers.Config) error {
	var err error
	if p.netif, err = netif.Open(c.Ifname); err != nil {
		return err
	}
	i := p.netif
	p.maxFrame = i.MTU + headerLen + tagLen
	if room := c.Pool.FrameSize() - pktbuf.Headroom; p.maxFrame > room {
		return fmt.Errorf("MTU %d needs %d bytes a frame, a buffer has %d: %w", i.MTU, p.maxFrame, room, drivers.ErrUnsupported)
	}
	queues, err := i.Claim(c.QueuesOf(i.Queues))
	if err != nil {
		return err
	}
	p.queues = len(queues)
	if err := i.Receive(c.MAC); err != nil {
		return err
	}
	if len(queues) == i.Queues {
		queues = nil // all of them, and frames that name none
	}
	if p.socket, err = packetsock.Open(i.Index, filter(queues), bufferBytes); err != nil {
		return err
	}
	if c.Log != nil {
		c.Log("AF_PACKET on " + i.Name + ": the kernel copies every frame")
	}
	return nil
}

// filter is the socket's classic BPF program: frames of other queues than the
// given ones, if any are given, are not let through.
func filter(queues []int) []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		result = unix.BPF_RET | unix.BPF_K
		all    = 1 << 18

		// Offsets of what is not in the frame, linux/filter.h.
		ancillary = 0xfffff000
		queue     = ancillary + 24 // the receive queue plus one, or 0 for none
	)
	if queues == nil {
		return []unix.SockFilter{{Code: result, K: all}}
	}
	f := []unix.SockFilter{{Code: load, K: queue}}
	accept := func(k uint32) {
		f = append(f, unix.SockFilter{Code: equal, K: k, Jf: 1}, unix.SockFilter{Code: result, K: all})
	}
	for _, q := range queues {
		accept(uint32(q) + 1)
		if q == 0 {
			accept(0)
		}
	}
	return append(f, unix.SockFilter{Code: result, K: 0})
}

// Rx takes received frames.
func (p *Port) Rx(b []pktbuf.Packet) int {
	want := min(len(b), batchSize)
	for i := range want {
		if p.armed[i] {
			continue
		}
		k, ok := p.pool.Get()
		if !ok {
			want = i // frames wait in the kernel's buffer
			break
		}
		k.Len = uint16(p.pool.FrameSize() - int(k.Off))
		p.slots[i], p.armed[i] = k, true
		p.rx.Set(i, p.pool.Bytes(k))
	}
	got, err := p.socket.Receive(p.rx, want)
	if err != nil {
		return 0 // none there, or the interface is down
	}
	n := 0
	for i := range got {
		k := p.slots[i]
		p.armed[i] = false
		size, cut := p.rx.Len(i)
		if cut || size < headerLen || size > p.maxFrame || p.rx.Header(i).Segmented() {
			p.stats.RxErrors++
			p.pool.Put(k)
			continue
		}
		k.Len = uint16(size)
		f := p.pool.Bytes(k)
		if !complete(p.rx.Header(i), f) {
			p.stats.RxErrors++
			p.pool.Put(k)
			continue
		}
		if tpid, tci, ok := p.rx.Tag(i); ok {
			k = k.Grow(tagLen) // there is headroom: the frame begins at it
			f = p.pool.Bytes(k)
			copy(f[:addressesLen], f[tagLen:])
			binary.BigEndian.PutUint16(f[addressesLen:], tpid)
			binary.BigEndian.PutUint16(f[addressesLen+2:], tci)
		}
		p.stats.CountRx(f)
		b[n] = k
		n++
	}
	return n
}

// complete finishes a checksum that the sender has left to the device: the
// field holds the sum of the pseudo header, to which that of the bytes from
// start on is added (VIRTIO 1.2, section 5.1.6.2). It reports false where the
// header names bytes outside the frame.
func complete(h *packetsock.Header, f []byte) bool {
	start, field, unfinished := h.Checksum()
	if !unfinished {
		return true
	}
	if start > field || field+2 > len(f) {
		return false
	}
	var sum uint32
	b := f[start:]
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	c := ^uint16(sum)
	if c == 0 { // zero means "no checksum" in UDP (RFC 768), and equals this one
		c = 0xffff
	}
	binary.BigEndian.PutUint16(f[field:], c)
	return true
}

// Tx sends frames until the kernel takes no more.
func (p *Port) Tx(b []pktbuf.Packet) int {
	taken := 0
	for taken < len(b) {
		m := 0
		for ; m < batchSize && taken+m < len(b); m++ {
			f := p.pool.Bytes(b[taken+m])
			if len(f) < headerLen || len(f) > p.maxFrame {
				break
			}
			p.tx.Set(m, f)
		}
		if m == 0 {
			p.refuse(b[taken])
			taken++
			continue
		}
		n, err := p.socket.Send(p.tx, 0, m)
		for _, k := range b[taken : taken+n] {
			p.stats.CountTx(p.pool.Bytes(k))
			p.pool.Put(k)
		}
		taken += n
		switch {
		case errors.Is(err, unix.EMSGSIZE), errors.Is(err, unix.EINVAL): // this frame, for instance since the MTU has shrunk
			p.refuse(b[taken])
			taken++
		case errors.Is(err, unix.ENOBUFS): // the kernel has dropped it: a full queue, or veth's far end
			p.stats.TxDrop++
			p.pool.Put(b[taken])
			taken++
		case err != nil: // EAGAIN, ENETDOWN: later
			return taken
		}
	}
	return taken
}

// refuse drops a frame that cannot be sent.
func (p *Port) refuse(k pktbuf.Packet) {
	p.stats.TxErrors++
	p.pool.Put(k)
}

// Flush has nothing to do: Tx hands the kernel copies.
func (p *Port) Flush() {}

// Sync reads the socket's and the device's counters and the link's state.
func (p *Port) Sync() {
	if n, err := p.socket.Dropped(); err == nil {
		p.stats.RxDrop += uint64(n)
	}
	p.netif.Sync(p.stats)
}

// Fd returns the socket.
func (p *Port) Fd() int { return p.socket.Fd() }

// Info describes the port.
func (p *Port) Info() drivers.Info {
	i := p.netif
	return drivers.Info{Driver: "af-packet", Name: i.Name, MAC: i.MAC, MTU: i.MTU, Queues: p.queues, LinkUp: i.Up}
}

// Close ends the socket and puts the port's buffers back.
func (p *Port) Close() error {
	var errs []error
	if p.socket != nil {
		errs = append(errs, p.socket.Close())
	}
	if p.netif != nil {
		errs = append(errs, p.netif.Close())
	}
	for i, a := range p.armed {
		if a {
			p.pool.Put(p.slots[i])
		}
	}
	p.armed, p.netif, p.socket = [batchSize]bool{}, nil, nil
	return errors.Join(errs...)
}
