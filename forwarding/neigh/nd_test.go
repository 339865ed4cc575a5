package neigh

import (
	"testing"

	"vita/forwarding/wire"
)

// parse checks a frame as its receiver would.
func parse(t *testing.T, f []byte) (wire.Ethernet, wire.IPv6, wire.ND) {
	t.Helper()
	e := wire.Ethernet(f)
	p, ok := wire.ParseIPv6(f[wire.EthernetLen:])
	if !ok || e.Type() != wire.TypeIPv6 || *e.Src() != ownMAC || *p.Src() != us.IP6 || p.HopLimit() != 255 {
		t.Fatalf("frame %x", f)
	}
	m, ok := wire.ParseND(p)
	if !ok {
		t.Fatalf("message %x", []byte(p))
	}
	return e, p, m
}

func TestSolicit(t *testing.T) {
	f := make([]byte, FrameLen6)
	us.Solicit(f, &it6, nil)
	e, p, m := parse(t, f)
	group := wire.SolicitedNode(&it6)
	if *e.Dst() != wire.MulticastMAC(&group) || *p.Dst() != group || *m.Target() != it6 || !m.Solicitation() || *m.MAC(wire.NDSource) != ownMAC {
		t.Errorf("by multicast: %x", f)
	}
	us.Solicit(f, &it6, &macs[1])
	e, p, m = parse(t, f)
	if *e.Dst() != macs[1] || *p.Dst() != it6 || *m.Target() != it6 || !m.Solicitation() || *m.MAC(wire.NDSource) != ownMAC {
		t.Errorf("by unicast: %x", f)
	}
}

func TestAdvertise(t *testing.T) {
	f := make([]byte, FrameLen6)
	us.Advertise(f, &macs[1], &it6)
	e, p, m := parse(t, f)
	if *e.Dst() != macs[1] || *p.Dst() != it6 || *m.Target() != us.IP6 || !m.Solicited() || !m.Override() || *m.MAC(wire.NDTarget) != ownMAC {
		t.Errorf("%x", f)
	}
	for _, write := range []func(){
		func() { us.Advertise(f, &macs[1], &[16]byte{}) }, // to one without an address
		func() { us.Announce6(f) },
	} {
		write()
		e, p, m = parse(t, f)
		if *e.Dst() != (wire.MAC{0x33, 0x33, 0, 0, 0, 1}) || *p.Dst() != wire.AllNodes || m.Solicited() || !m.Override() {
			t.Errorf("%x", f)
		}
	}
}

func TestSolicited(t *testing.T) {
	linkLocal := [16]byte{0xfe, 0x80, 15: 9}
	for name, c := range map[string]struct {
		src, target [16]byte
		typ         uint8
		want        bool
	}{
		"from a neighbour":   {it6, us.IP6, wire.ICMP6NeighbourSolicit, true},
		"from a link's own":  {linkLocal, us.IP6, wire.ICMP6NeighbourSolicit, true},
		"duplicate detected": {[16]byte{}, us.IP6, wire.ICMP6NeighbourSolicit, true},
		"for another":        {it6, linkLocal, wire.ICMP6NeighbourSolicit, false},
		"advertisement":      {it6, us.IP6, wire.ICMP6NeighbourAdvert, false},
		"from ourselves":     {us.IP6, us.IP6, wire.ICMP6NeighbourSolicit, false},
		"from a group":       {wire.AllNodes, us.IP6, wire.ICMP6NeighbourSolicit, false},
		"from loopback":      {[16]byte{15: 1}, us.IP6, wire.ICMP6NeighbourSolicit, false},
	} {
		p := make(wire.IPv6, wire.IPv6Len)
		wire.PutIPv6(p, 0, wire.ProtoICMP6, 255, &c.src, &us.IP6)
		if got := us.Solicited(p, ndOf(c.typ, 0, &c.target, nil)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
