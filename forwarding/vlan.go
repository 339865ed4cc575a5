package forwarding

import (
	"vita/forwarding/drop"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// An interface in a VLAN has an 802.1Q tag in each frame: between the Ethernet
// addresses and the type four bytes, of which twelve bits are the VLAN's id. It
// is taken off behind Rx and put in before Tx, so that nothing in between knows
// of it.

const vlanID = 0xfff // of the tag's control information; the rest is priority

// untag takes the tags off the frames received at a side that is in a VLAN, and
// drops those of others. What is left is at the front of rx.
func (w *worker) untag(s *side, rx []pktbuf.Packet) []pktbuf.Packet {
	n := 0
	for _, k := range rx {
		f := w.pool.Bytes(k)
		if len(f) < wire.EthernetLen+wire.VLANLen || wire.Be16(f[12:]) != wire.TypeVLAN || wire.Be16(f[14:])&vlanID != s.vlan {
			w.drop(k, s.kind.vlan)
			continue
		}
		rx[n] = w.withoutTag(k, f)
		n++
	}
	return rx[:n]
}

// withoutTag moves the addresses over a frame's tag.
func (w *worker) withoutTag(k pktbuf.Packet, f []byte) pktbuf.Packet {
	copy(f[wire.VLANLen:], f[:12])
	k = k.Grow(-wire.VLANLen)
	if w.capture != nil {
		w.capture.origin[k.Frame] = k
	}
	return k
}

// otherType takes a frame whose type is none that its side speaks. At a side in
// no VLAN a tag may say that the frame has a priority and is in none either
// (802.1Q, 6.9): then it returns the frame without it. Others it drops, for r
// where they have no tag.
func (w *worker) otherType(s *side, k pktbuf.Packet, r drop.Reason) (pktbuf.Packet, bool) {
	f := w.pool.Bytes(k)
	switch {
	case wire.Be16(f[12:]) != wire.TypeVLAN || s.vlan != 0 && len(f) >= wire.EthernetLen+wire.VLANLen:
		w.drop(k, r)
		return k, false
	case len(f) < wire.EthernetLen+wire.VLANLen, wire.Be16(f[14:])&vlanID != 0, wire.Be16(f[16:]) == wire.TypeVLAN:
		w.drop(k, s.kind.vlan)
		return k, false
	}
	return w.withoutTag(k, f), true
}

// tag puts the tag of a side's VLAN into a frame.
func (w *worker) tag(s *side, k pktbuf.Packet) pktbuf.Packet {
	k = k.Grow(wire.VLANLen)
	f := w.pool.Bytes(k)
	copy(f[:12], f[wire.VLANLen:])
	wire.PutBe16(f[12:], wire.TypeVLAN)
	wire.PutBe16(f[14:], s.vlan)
	return k
}
