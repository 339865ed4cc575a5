// Package afxdp drives a kernel interface by AF_XDP sockets: frames go past the
// kernel's network stack, from and into the worker's own buffers.
//
//	                 ┌ queue 0 ─ XSKMAP[0] ─ socket ┐
//	interface ─ XDP ─┼ queue 1 ─ XSKMAP[1] ─ socket ┴─ Port ── Pool (the UMEM)
//	        program  └ queue 2 ─ XSKMAP[2] ─ socket ─── Port ── Pool
//
// One XDP program for each interface redirects by receive queue. It is attached
// by a BPF link, so that the kernel takes it off when the process ends, however
// that ends. A frame on a queue no port has bound goes on to the kernel's
// stack; a frame on a bound queue never does.
//
// The memory registered with the kernel (the UMEM) is the pool's region, once
// for all sockets of a worker, each with fill and completion rings of its own.
// A device that can read and write it itself (zero copy) does; for others the
// kernel copies. One socket that the kernel copies for can not share the
// registration of one that it does not, so a worker has up to two.
//
// The package knows Ethernet frames and nothing above them. Checksums: AF_XDP
// has no word for one that the sender left to the device, so the far end of a
// veth pair must have checksum and segmentation offload turned off. Nor has it
// one for a VLAN tag beside the frame: a device is made to leave tags in. The far
// end of a veth pair must have txvlan turned off for that, which this end cannot
// see to: where tags matter, it is ErrUnsupported.
package afxdp

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/netif"
	"vita/drivers/internal/xsk"
	"vita/internal/pktbuf"
)

const (
	ringEntries = 1024
	headerLen   = 14
	tagLen      = 4 // a VLAN tag on top of the MTU

	// kernelHeadroom is what the kernel leaves free in front of a received
	// frame (XDP_PACKET_HEADROOM, linux/bpf.h).
	kernelHeadroom = 256

	// busyFor is how long a queue or an interface may stay busy after its last
	// user has closed it or was killed: the kernel releases a registration
	// later, on a work queue.
	busyFor = time.Second
)

// Open opens queues of the interface c.Ifname in the calling thread's network
// namespace. It is ErrUnsupported where the interface's MTU does not fit the
// pool's frames, or where the kernel or the device has no AF_XDP.
func Open(c drivers.Config) (drivers.Port, error) {
	p := &Port{pool: c.Pool, stats: c.Stats, epoll: -1, where: make([]uint8, c.Pool.Frames())}
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
	if room := c.Pool.FrameSize() - kernelHeadroom; p.maxFrame > room {
		return fmt.Errorf("MTU %d needs %d bytes a frame, a buffer has %d: %w", i.MTU, p.maxFrame, room, drivers.ErrUnsupported)
	}
	queues, err := i.Claim(c.QueuesOf(i.Queues))
	if err != nil {
		return err
	}
	if err := p.tags(c); err != nil {
		return err
	}
	if err := i.Receive(c.MAC); err != nil {
		return err
	}
	if p.device, err = acquire(i); err != nil {
		return err
	}
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	// A port may hold an eighth of the pool for receiving, so that several
	// ports of a worker leave it enough to work with.
	p.share = max(16, min(ringEntries, c.Pool.Frames()/8/len(queues)))
	p.zeroCopy = true
	for _, q := range queues {
		if err := p.bind(q); err != nil {
			return err
		}
	}
	p.refill()
	for n, q := range queues {
		if err := p.device.sockets.Put(uint32(q), uint32(p.queues[n].Fd())); err != nil {
			return fmt.Errorf("enter queue %d into the map: %w", q, err)
		}
		e := unix.EpollEvent{Events: unix.EPOLLIN}
		if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.queues[n].Fd(), &e); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	if c.Log != nil {
		copied := "copied"
		if p.zeroCopy {
			copied = "zero copy"
		}
		c.Log(fmt.Sprintf("AF_XDP on %s: queues %v, %s program, %s", i.Name, queues, p.device.mode, copied))
	}
	return nil
}

// tags makes the device leave VLAN tags in the frames. A port that does not need
// them takes the device as it is.
func (p *Port) tags(c drivers.Config) error {
	if p.netif.Driver() == "veth" {
		if c.Tagged {
			return fmt.Errorf("a veth pair hands VLAN tags over beside the frame: %w", drivers.ErrUnsupported)
		}
		return nil
	}
	if err := p.netif.KeepTags(); err != nil && c.Tagged {
		return fmt.Errorf("%w: %w", drivers.ErrUnsupported, err)
	}
	return nil
}

// bind opens the socket of one queue: in zero-copy mode where the device does
// that, else in copy mode.
func (p *Port) bind(queue int) error {
	o := xsk.Options{
		Ifindex: p.netif.Index, Queue: queue, Entries: ringEntries,
		Memory: p.pool.Region()[:p.pool.Frames()*p.pool.FrameSize()], FrameSize: p.pool.FrameSize(),
	}
	var s *xsk.Socket
	err := error(unix.EOPNOTSUPP)
	if p.device.native && p.zeroCopy {
		o.ZeroCopy = true
		s, err = openShared(p.pool, o)
	}
	if err != nil {
		o.ZeroCopy = false
		s, err = openShared(p.pool, o)
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %w", drivers.ErrBusy, err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("%w: %w", drivers.ErrUnsupported, err)
	case err != nil:
		return err
	}
	p.zeroCopy = p.zeroCopy && s.ZeroCopy()
	p.queues = append(p.queues, &queueState{Socket: s})
	return nil
}

// Sync reads the sockets' and the device's counters and the link's state.
func (p *Port) Sync() {
	for _, q := range p.queues {
		s, err := q.Statistics()
		if err != nil {
			continue
		}
		p.stats.RxDrop += s.RxDropped + s.RxRingFull - q.last.RxDropped - q.last.RxRingFull
		p.stats.RxErrors += s.RxInvalid - q.last.RxInvalid
		p.stats.TxErrors += s.TxInvalid - q.last.TxInvalid
		q.last = s
	}
	p.netif.Sync(p.stats)
}

// Fd returns a descriptor that polls readable when a queue has frames.
func (p *Port) Fd() int { return p.epoll }

// Info describes the port.
func (p *Port) Info() drivers.Info {
	i := p.netif
	info := drivers.Info{Driver: "af-xdp", Name: i.Name, MAC: i.MAC, MTU: i.MTU, Queues: len(p.queues), ZeroCopy: p.zeroCopy, LinkUp: i.Up, Backlog: true}
	for _, q := range p.queues {
		info.RxWaiting += q.Rx.Consume(ringEntries)
		info.TxWaiting += q.sending
	}
	return info
}

// Close ends the sockets, takes the program off with the interface's last port,
// and puts every buffer back that the kernel still had.
func (p *Port) Close() error {
	var errs []error
	for _, q := range p.queues { // which takes them out of the map
		errs = append(errs, closeShared(p.pool, q.Socket))
	}
	if p.device != nil {
		errs = append(errs, p.device.drop())
	}
	if p.epoll >= 0 {
		errs = append(errs, unix.Close(p.epoll))
	}
	if p.netif != nil {
		errs = append(errs, p.netif.Close())
	}
	for f, w := range p.where {
		if w != withUs {
			p.pool.Put(pktbuf.Packet{Frame: uint32(f)})
		}
	}
	p.queues, p.device, p.netif, p.where, p.epoll = nil, nil, nil, nil, -1
	return errors.Join(errs...)
}
