package neigh

import "vita/forwarding/wire"

// ndHopLimit shows that a packet has passed no router (RFC 4861, section 3.1).
const ndHopLimit = 255

// Solicit writes a frame that asks for the next hop's address.
func (h *Hop) Solicit(frame []byte) {
	group := wire.SolicitedNode(&h.NextHop6)
	mac := wire.MulticastMAC(&group)
	p := h.nd(frame, &mac, &group)
	wire.PutND(p[wire.IPv6Len:], wire.ICMP6NeighbourSolicit, 0, &h.NextHop6, wire.NDSource, &h.MAC)
	wire.SumICMP6(p)
}

// nd writes the headers in front of a message.
func (h *Hop) nd(frame []byte, mac *wire.MAC, dst *[16]byte) wire.IPv6 {
	wire.Ethernet(frame).Put(mac, &h.MAC, wire.TypeIPv6)
	p := wire.IPv6(frame[wire.EthernetLen:FrameLen6])
	wire.PutIPv6(p, wire.NDLen+wire.NDOptionLen, wire.ProtoICMP6, ndHopLimit, &h.IP6, dst)
	return p
}

// HandleND takes in a received solicitation or advertisement, the payload of p.
// From a solicitation the next hop's address is learnt as from an
// advertisement (RFC 4861, 7.2.3). An advertisement without the override flag
// changes nothing that is known (7.2.5).
func (h *Hop) HandleND(p wire.IPv6, m wire.ND) Verdict {
	var v Verdict
	if m.Solicitation() {
		v.Request = *m.Target() == h.IP6 && (*p.Src() == [16]byte{} || wire.OneStation6(p.Src()))
		if mac := m.MAC(wire.NDSource); *p.Src() == h.NextHop6 && mac != nil && usable(mac) && !h.Static {
			v.Change = h.Cell.Store(mac)
		}
		return v
	}
	mac := m.MAC(wire.NDTarget)
	if *m.Target() != h.NextHop6 || mac == nil || !usable(mac) {
		return v
	}
	v.Reply = true
	if h.Static {
		return v
	}
	if _, known := h.Cell.Load(); !known || m.Override() {
		v.Change = h.Cell.Store(mac)
	}
	return v
}

// Advertise writes the frame that answers a solicitation from a station with
// the Ethernet address mac and the address src, to frame, which is not where
// src lies. Who has no address yet is answered by multicast (RFC 4861, 7.2.4).
func (h *Hop) Advertise(frame []byte, mac *wire.MAC, src *[16]byte) {
	flags := uint8(wire.NDOverride | wire.NDSolicited)
	if *src == ([16]byte{}) {
		flags = wire.NDOverride
		group := wire.MulticastMAC(&wire.AllNodes)
		mac, src = &group, &wire.AllNodes
	}
	p := h.nd(frame, mac, src)
	wire.PutND(p[wire.IPv6Len:], wire.ICMP6NeighbourAdvert, flags, &h.IP6, wire.NDTarget, &h.MAC)
	wire.SumICMP6(p)
}
