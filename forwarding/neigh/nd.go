package neigh

import (
	"sync/atomic"

	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// ndHopLimit shows that a packet has passed no router (RFC 4861, section 3.1).
const ndHopLimit = 255

// Solicit writes a frame that asks who has an address: all that might, or, where
// to is not nil, the station that had it last.
func (s *Self) Solicit(frame []byte, ip *[16]byte, to *wire.MAC) {
	dst := ip
	if to == nil {
		group := wire.SolicitedNode(ip)
		mac := wire.MulticastMAC(&group)
		dst, to = &group, &mac
	}
	p := s.nd(frame, to, dst)
	wire.PutND(p[wire.IPv6Len:], wire.ICMP6NeighbourSolicit, 0, ip, wire.NDSource, &s.MAC)
	wire.SumICMP6(p)
}

// nd writes the headers in front of a message.
func (s *Self) nd(frame []byte, mac *wire.MAC, dst *[16]byte) wire.IPv6 {
	wire.Ethernet(frame).Put(mac, &s.MAC, wire.TypeIPv6)
	p := wire.IPv6(frame[wire.EthernetLen:FrameLen6])
	wire.PutIPv6(p, wire.NDLen+wire.NDOptionLen, wire.ProtoICMP6, ndHopLimit, &s.IP6, dst)
	return p
}

// Solicited reports whether a message asks for our address.
func (s *Self) Solicited(p wire.IPv6, m wire.ND) bool {
	return s.Has6 && m.Solicitation() && *m.Target() == s.IP6 && (*p.Src() == [16]byte{} || wire.OneStation6(p.Src()) && *p.Src() != s.IP6)
}

// Advertise writes the frame that answers a solicitation from a station with
// the Ethernet address mac and the address src, to frame, which is not where
// src lies. Who has no address yet is answered by multicast (RFC 4861, 7.2.4).
func (s *Self) Advertise(frame []byte, mac *wire.MAC, src *[16]byte) {
	if *src == ([16]byte{}) {
		s.Announce6(frame)
		return
	}
	s.advertise(frame, mac, src, wire.NDOverride|wire.NDSolicited)
}

// Announce6 writes a frame that tells everybody who we are (RFC 4861, 7.2.6).
func (s *Self) Announce6(frame []byte) {
	mac := wire.MulticastMAC(&wire.AllNodes)
	s.advertise(frame, &mac, &wire.AllNodes, wire.NDOverride)
}

func (s *Self) advertise(frame []byte, mac *wire.MAC, dst *[16]byte, flags uint8) {
	p := s.nd(frame, mac, dst)
	wire.PutND(p[wire.IPv6Len:], wire.ICMP6NeighbourAdvert, flags, &s.IP6, wire.NDTarget, &s.MAC)
	wire.SumICMP6(p)
}

// HeardSolicitation takes in a solicitation to us from a neighbour, whose
// address is learnt from it (RFC 4861, 7.2.3).
func HeardSolicitation(n *tables.Neighbour, m wire.ND) Change {
	mac := m.MAC(wire.NDSource)
	if mac == nil || !Usable(mac) {
		return Same
	}
	addr := addrOf(mac)
	for {
		w := atomic.LoadUint64(&n.Word)
		if stateOf(w) == Permanent {
			return Same
		}
		if learn(n, w, addr) {
			return change(w, addr)
		}
	}
}

// HeardAdvertisement takes in an advertisement of a neighbour (RFC 4861, 7.2.5
// and appendix C).
func HeardAdvertisement(n *tables.Neighbour, m wire.ND, now int64) Change {
	mac := m.MAC(wire.NDTarget)
	if mac != nil && !Usable(mac) {
		return Same
	}
	for {
		w := atomic.LoadUint64(&n.Word)
		s, addr := stateOf(w), w&addrMask
		if mac != nil {
			addr = addrOf(mac)
		}
		other := addr != w&addrMask // than what is known
		done := true
		switch {
		case s == None || s == Permanent || s == Incomplete && mac == nil:
			return Same
		case s == Incomplete && !m.Solicited():
			done = learn(n, w, addr)
		case s == Incomplete:
			done = confirm(n, w, addr, now)
		case other && !m.Override():
			// Another station answers for the address: we keep ours, but do not
			// trust it any more.
			if addr = w & addrMask; s == Reachable {
				done = atomic.CompareAndSwapUint64(&n.Word, w, word(Stale, w))
			}
		case m.Solicited():
			done = confirm(n, w, addr, now)
		case other:
			done = learn(n, w, addr)
		}
		if done {
			return change(w, addr)
		}
	}
}
