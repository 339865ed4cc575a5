package client

import (
	"sync/atomic"

	"vita/forwarding/drop"
	"vita/forwarding/tables"
)

// Stats are an interface's statistics, named as in the model.
type Stats = tables.PortStats

// Load is what one worker has done so far.
type Load struct {
	Queue  uint16
	Busy   uint64 // nanoseconds spent in turns that found work
	Idle   uint64 // nanoseconds spent in turns that did not
	Rounds uint64

	Waiting int // key exchange messages that Receive has not taken yet
}

// Snapshot is what all workers have counted since the engine started.
type Snapshot struct {
	counters [tables.NumCounters]uint64
	drops    [drop.NumReasons]uint64

	Private Stats
	Public  Stats // of all public interfaces together
	Workers []Load
}

// Get returns a counter of the model.
func (s *Snapshot) Get(c tables.Counter) uint64 {
	if int(c) >= len(s.counters) {
		return 0
	}
	return s.counters[c]
}

// Drops returns how many packets were dropped for a reason.
func (s *Snapshot) Drops(r drop.Reason) uint64 {
	if int(r) >= len(s.drops) {
		return 0
	}
	return s.drops[r]
}

// Counters returns the sums over all workers. The counts of one packet may be
// only partly in them.
func (c *Client) Counters() *Snapshot {
	s := new(Snapshot)
	done, err := c.hold()
	if err != nil {
		return s
	}
	defer done()
	for i := range c.mem.Workers {
		w := &c.mem.Workers[i]
		for n := range s.counters {
			s.counters[n] += atomic.LoadUint64(&w.Counters[n])
		}
		for n := range s.drops {
			s.drops[n] += atomic.LoadUint64(&w.Drops[n])
		}
		addStats(&s.Private, &w.Private)
		addStats(&s.Public, &w.Public)
		if queue := atomic.LoadUint64(&w.Queue); queue != 0 {
			s.Workers = append(s.Workers, Load{
				Queue: uint16(queue), Busy: atomic.LoadUint64(&w.Busy),
				Idle: atomic.LoadUint64(&w.Idle), Rounds: atomic.LoadUint64(&w.Rounds),
				Waiting: c.mem.ToControl(i).Len(),
			})
		}
	}
	return s
}

func addStats(sum, s *Stats) {
	for _, f := range [...]struct{ sum, part *uint64 }{
		{&sum.RxBytes, &s.RxBytes},
		{&sum.RxPackets, &s.RxPackets},
		{&sum.RxMcast, &s.RxMcast},
		{&sum.RxBcast, &s.RxBcast},
		{&sum.RxDrop, &s.RxDrop},
		{&sum.RxErrors, &s.RxErrors},
		{&sum.TxBytes, &s.TxBytes},
		{&sum.TxPackets, &s.TxPackets},
		{&sum.TxMcast, &s.TxMcast},
		{&sum.TxBcast, &s.TxBcast},
		{&sum.TxDrop, &s.TxDrop},
		{&sum.TxErrors, &s.TxErrors},
		{&sum.RxDMAPackets, &s.RxDMAPackets},
	} {
		*f.sum += atomic.LoadUint64(f.part)
	}
}

// PortInfo describes an open port of the engine.
type PortInfo struct {
	Queue    uint16 // of its worker
	Public   bool
	Driver   string
	Name     string
	MTU      int
	MAC      [6]byte
	Queues   int // hardware queues that the port serves
	ZeroCopy bool
	LinkUp   bool

	// As of the last second, where Backlog says that the driver knows it.
	Backlog   bool
	RxWaiting int // frames received that the worker has not taken
	TxWaiting int // frames that the device has not sent

	Resets int    // times that the device hung and was reset
	Fault  string // why nothing is received or sent; "" = it is
}

// Ports describes the open ports: a private and a public one for each worker.
func (c *Client) Ports() []PortInfo {
	done, err := c.hold()
	if err != nil {
		return nil
	}
	defer done()
	var out []PortInfo
	for i := range c.mem.Workers {
		w := &c.mem.Workers[i]
		queue := uint16(atomic.LoadUint64(&w.Queue))
		if queue == 0 {
			continue
		}
		for n, p := range []*tables.PortInfo{&w.PrivatePort, &w.PublicPort} {
			if info, ok := readPort(p); ok {
				info.Queue, info.Public = queue, n == 1
				out = append(out, info)
			}
		}
	}
	return out
}

func readPort(shared *tables.PortInfo) (PortInfo, bool) {
	for range 100 { // the engine writes for nanoseconds, seldom
		before := atomic.LoadUint64(&shared.Version)
		p := *shared
		if before%2 == 0 && atomic.LoadUint64(&shared.Version) == before {
			return PortInfo{
				Driver: tables.Text(p.Driver[:]), Name: tables.Text(p.Name[:]), MTU: int(p.MTU), MAC: p.MAC,
				Queues: int(p.Queues), ZeroCopy: p.ZeroCopy != 0, LinkUp: p.LinkUp != 0,
				Backlog: p.Backlog != 0, RxWaiting: int(p.RxWait), TxWaiting: int(p.TxWait),
				Resets: int(p.Resets), Fault: p.Fault.String(),
			}, p.Open != 0
		}
	}
	return PortInfo{}, false
}
