// Package neigh resolves a next hop's Ethernet address by ARP (RFC 826) or
// neighbour discovery (RFC 4861) and answers for the gateway's own.
//
// The address found is kept in a Cell that all workers of an interface share,
// since the answer to one worker's request may arrive at another's queue. The
// package knows no port: it says what to send, the worker sends it.
package neigh

import (
	"sync/atomic"
	"time"

	"vita/forwarding/wire"
)

// How often a request is sent.
const (
	Retry   = time.Second     // until there is an answer (RFC 1122, 2.3.2.1: at most once a second)
	Refresh = 5 * time.Second // afterwards
)

// Cell holds an Ethernet address, or none. Any number of workers may use it.
type Cell struct{ v atomic.Uint64 }

const valid = 1 << 63

// Load returns the address; false where there is none.
func (c *Cell) Load() (wire.MAC, bool) {
	v := c.v.Load()
	return wire.MAC{byte(v >> 40), byte(v >> 32), byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}, v&valid != 0
}

// Store sets the address and returns what that changed.
func (c *Cell) Store(m *wire.MAC) Change {
	v := valid | uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(wire.Be32(m[2:]))
	switch c.v.Swap(v) {
	case v:
		return Same
	case 0:
		return Added
	}
	return Updated
}

// Change says what became of the next hop's address.
type Change uint8

// The changes.
const (
	Same Change = iota
	Added
	Updated
)

// Hop is one worker's view of an interface in one family: the gateway's own
// addresses and the next hop.
type Hop struct {
	MAC     wire.MAC // own
	IP      uint32   // own, of IPv4
	NextHop uint32

	IP6, NextHop6 [16]byte // of IPv6

	Static bool  // the address was configured: nothing is sent or learnt
	Cell   *Cell // nil: the interface does not speak the family
	Next   int64 // when the next request is due, clock.Mono
}

// Due reports whether a request must be sent now, and notes when the next is.
func (h *Hop) Due(now int64) bool {
	if h.Cell == nil || h.Static || now < h.Next {
		return false
	}
	wait := Retry
	if _, ok := h.Cell.Load(); ok {
		wait = Refresh
	}
	h.Next = now + int64(wait)
	return true
}

// FrameLen is the length of the frames that Request and Answer write, and
// FrameLen6 that of Solicit and Advertise.
const (
	FrameLen  = wire.EthernetLen + wire.ARPLen
	FrameLen6 = wire.EthernetLen + wire.IPv6Len + wire.NDLen + wire.NDOptionLen
)

var broadcast = wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Request writes a frame that asks for the next hop's address.
func (h *Hop) Request(frame []byte) {
	wire.Ethernet(frame).Put(&broadcast, &h.MAC, wire.TypeARP)
	wire.PutARP(frame[wire.EthernetLen:], wire.ARPRequest, &h.MAC, h.IP, &wire.MAC{}, h.NextHop)
}

// Verdict says what a received packet was and what is to be done about it.
type Verdict struct {
	Request bool // asked for our address: send an Answer
	Reply   bool // from the next hop
	Change  Change
}

// Handle takes in a received packet. The sender's address is learnt from
// requests as from replies (RFC 826, packet reception), but only the next
// hop's is of interest.
func (h *Hop) Handle(a wire.ARP) Verdict {
	var v Verdict
	op, sender := a.Op(), a.SenderIP()
	if op != wire.ARPRequest && op != wire.ARPReply {
		return v
	}
	if sender == h.NextHop && usable(a.SenderMAC()) {
		v.Reply = op == wire.ARPReply
		if !h.Static {
			v.Change = h.Cell.Store(a.SenderMAC())
		}
	}
	v.Request = op == wire.ARPRequest && a.TargetIP() == h.IP && usable(a.SenderMAC())
	return v
}

// usable reports whether m can be a station's address.
func usable(m *wire.MAC) bool { return m[0]&1 == 0 && *m != wire.MAC{} }

// Answer turns the frame of a request into the frame of its reply.
func (h *Hop) Answer(frame []byte) {
	a := wire.ARP(frame[wire.EthernetLen:][:wire.ARPLen])
	mac, ip := *a.SenderMAC(), a.SenderIP()
	wire.Ethernet(frame).Put(&mac, &h.MAC, wire.TypeARP)
	wire.PutARP(frame[wire.EthernetLen:], wire.ARPReply, &h.MAC, h.IP, &mac, ip)
}
