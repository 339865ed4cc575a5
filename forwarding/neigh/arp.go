package neigh

import (
	"sync/atomic"

	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// Self is a worker's view of an interface: what it answers for, and asks from.
type Self struct {
	MAC  wire.MAC
	IP   uint32   // of IPv4
	IP6  [16]byte // of IPv6
	Has4 bool     // the interface speaks IPv4
	Has6 bool
}

// FrameLen is the length of the frames of ARP, and FrameLen6 of neighbour
// discovery.
const (
	FrameLen  = wire.EthernetLen + wire.ARPLen
	FrameLen6 = wire.EthernetLen + wire.IPv6Len + wire.NDLen + wire.NDOptionLen
)

var broadcast = wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Request writes a frame that asks who has an address: everybody, or, where to
// is not nil, the station that had it last (RFC 1122, 2.3.2.1).
func (s *Self) Request(frame []byte, ip uint32, to *wire.MAC) {
	if to == nil {
		to = &broadcast
	}
	wire.Ethernet(frame).Put(to, &s.MAC, wire.TypeARP)
	wire.PutARP(frame[wire.EthernetLen:], wire.ARPRequest, &s.MAC, s.IP, &wire.MAC{}, ip)
}

// Announce writes a frame that tells everybody who we are: a request for our own
// address (RFC 5227, section 3).
func (s *Self) Announce(frame []byte) { s.Request(frame, s.IP, nil) }

// Asks reports whether a packet asks for our address.
func (s *Self) Asks(a wire.ARP) bool {
	return s.Has4 && a.Op() == wire.ARPRequest && a.TargetIP() == s.IP && a.SenderIP() != s.IP && Usable(a.SenderMAC())
}

// Answer turns the frame of a request into the frame of its reply.
func (s *Self) Answer(frame []byte) {
	a := wire.ARP(frame[wire.EthernetLen:][:wire.ARPLen])
	mac, ip := *a.SenderMAC(), a.SenderIP()
	wire.Ethernet(frame).Put(&mac, &s.MAC, wire.TypeARP)
	wire.PutARP(frame[wire.EthernetLen:], wire.ARPReply, &s.MAC, s.IP, &mac, ip)
}

// HeardARP takes in a packet that a neighbour has sent. From one to us an
// address is learnt; otherwise only one that is known, or asked for, is updated
// (RFC 826, packet reception). A reply confirms that the neighbour is there if
// we have asked for it and not been answered yet, whatever else was heard since.
func HeardARP(n *tables.Neighbour, a wire.ARP, toUs bool, now int64) Change {
	if !Usable(a.SenderMAC()) {
		return Same
	}
	addr := addrOf(a.SenderMAC())
	for {
		w := atomic.LoadUint64(&n.Word)
		s := stateOf(w)
		var done bool
		switch {
		case s == Permanent || s == None && !toUs:
			return Same
		case toUs && a.Op() == wire.ARPReply && atomic.LoadUint64(&n.Probes) > 0:
			done = confirm(n, w, addr, now)
		default:
			done = learn(n, w, addr)
		}
		if done {
			return change(w, addr)
		}
	}
}
