package neigh

import (
	"net/netip"
	"testing"

	"vita/forwarding/wire"
)

func ip6(s string) [16]byte { return netip.MustParseAddr(s).As16() }

func newHop6() *Hop {
	return &Hop{MAC: ownMAC, IP6: ip6("2001:db8::1"), NextHop6: ip6("2001:db8::fe:2"), Cell: new(Cell)}
}

// message makes a packet with a solicitation or advertisement.
func message(t *testing.T, src, dst string, typ, flags uint8, target string, option uint8, mac *wire.MAC) (wire.IPv6, wire.ND) {
	t.Helper()
	b := make([]byte, wire.IPv6Len+wire.NDLen+wire.NDOptionLen)
	s, d, tg := ip6(src), ip6(dst), ip6(target)
	wire.PutIPv6(b, len(b)-wire.IPv6Len, wire.ProtoICMP6, 255, &s, &d)
	wire.PutND(b[wire.IPv6Len:], typ, flags, &tg, option, mac)
	wire.SumICMP6(b)
	m, ok := wire.ParseND(b)
	if !ok {
		t.Fatalf("not a valid message: %x", b)
	}
	return b, m
}

func TestHandleND(t *testing.T) {
	const (
		own, next, other = "2001:db8::1", "2001:db8::fe:2", "2001:db8::3"
		ns, na           = wire.ICMP6NeighbourSolicit, wire.ICMP6NeighbourAdvert
	)
	group := wire.MAC{3, 0, 0, 0, 0, 3}
	second := wire.MAC{2, 0, 0, 0, 0, 9}
	for name, c := range map[string]struct {
		src        string
		typ, flags uint8
		target     string
		option     uint8
		mac        *wire.MAC
		known      *wire.MAC
		want       Verdict
		learnt     wire.MAC
	}{
		"next hop asks for us":        {next, ns, 0, own, 1, &nextMAC, nil, Verdict{Request: true, Change: Added}, nextMAC},
		"next hop asks for another":   {next, ns, 0, other, 1, &nextMAC, nil, Verdict{Change: Added}, nextMAC},
		"another asks for us":         {other, ns, 0, own, 1, &nextMAC, nil, Verdict{Request: true}, wire.MAC{}},
		"asks with another option":    {next, ns, 0, own, 2, &nextMAC, nil, Verdict{Request: true}, wire.MAC{}},
		"asks with a group's address": {next, ns, 0, own, 1, &group, nil, Verdict{Request: true}, wire.MAC{}},
		"asks from a group":           {"ff02::1", ns, 0, own, 1, &nextMAC, nil, Verdict{}, wire.MAC{}},
		"answer":                      {next, na, wire.NDSolicited | wire.NDOverride, next, 2, &nextMAC, nil, Verdict{Reply: true, Change: Added}, nextMAC},
		"answer without override":     {next, na, wire.NDSolicited, next, 2, &second, &nextMAC, Verdict{Reply: true}, nextMAC},
		"first one without override":  {next, na, 0, next, 2, &nextMAC, nil, Verdict{Reply: true, Change: Added}, nextMAC},
		"new address":                 {next, na, wire.NDOverride, next, 2, &second, &nextMAC, Verdict{Reply: true, Change: Updated}, second},
		"same again":                  {next, na, wire.NDOverride, next, 2, &nextMAC, &nextMAC, Verdict{Reply: true}, nextMAC},
		"of another":                  {other, na, wire.NDOverride, other, 2, &second, nil, Verdict{}, wire.MAC{}},
		"without the option":          {next, na, wire.NDOverride, next, 1, &nextMAC, nil, Verdict{}, wire.MAC{}},
		"a group's address":           {next, na, wire.NDOverride, next, 2, &group, nil, Verdict{}, wire.MAC{}},
	} {
		h := newHop6()
		if c.known != nil {
			h.Cell.Store(c.known)
		}
		p, m := message(t, c.src, own, c.typ, c.flags, c.target, c.option, c.mac)
		if got := h.HandleND(p, m); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if mac, _ := h.Cell.Load(); mac != c.learnt {
			t.Errorf("%s: the next hop is %x, want %x", name, mac, c.learnt)
		}
	}
	h := newHop6()
	h.Static = true
	h.Cell.Store(&nextMAC)
	for _, typ := range []uint8{ns, na} {
		p, m := message(t, next, own, typ, wire.NDOverride, next, typ-ns+1, &second)
		h.HandleND(p, m)
	}
	if mac, _ := h.Cell.Load(); mac != nextMAC {
		t.Error("a configured address was overwritten")
	}
}

func TestFrames6(t *testing.T) {
	h := newHop6()
	f := make([]byte, FrameLen6)
	h.Solicit(f)
	p, ok := wire.ParseIPv6(f[wire.EthernetLen:])
	if e := wire.Ethernet(f); !ok || *e.Dst() != (wire.MAC{0x33, 0x33, 0xff, 0xfe, 0, 2}) || *e.Src() != ownMAC || e.Type() != wire.TypeIPv6 {
		t.Fatalf("frame %x", f)
	}
	m, ok := wire.ParseND(p)
	if !ok || !m.Solicitation() || *m.Target() != h.NextHop6 || *p.Src() != h.IP6 || *p.Dst() != ip6("ff02::1:fffe:2") || *m.MAC(wire.NDSource) != ownMAC {
		t.Errorf("solicitation %x", []byte(p))
	}
	for _, c := range []struct {
		asker, to string
		mac       wire.MAC
		solicited bool
	}{{"fe80::7", "fe80::7", nextMAC, true}, {"::", "ff02::1", wire.MAC{0x33, 0x33, 0, 0, 0, 1}, false}} {
		asker := ip6(c.asker)
		h.Advertise(f, &nextMAC, &asker)
		p, _ := wire.ParseIPv6(f[wire.EthernetLen:])
		m, ok := wire.ParseND(p)
		if !ok || m.Solicitation() || *m.Target() != h.IP6 || *p.Dst() != ip6(c.to) || *wire.Ethernet(f).Dst() != c.mac ||
			m.Solicited() != c.solicited || !m.Override() || *m.MAC(wire.NDTarget) != ownMAC {
			t.Errorf("answer to %s: %x", c.asker, f)
		}
	}
}
