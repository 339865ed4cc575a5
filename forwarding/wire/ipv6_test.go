package wire

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

func ip6(s string) *[16]byte {
	a := netip.MustParseAddr(s).As16()
	return &a
}

func packet6(next uint8, payload ...byte) []byte {
	b := append(make([]byte, IPv6Len), payload...)
	PutIPv6(b, len(payload), next, 64, ip6("2001:db8::1"), ip6("2001:db8::2"))
	return b
}

func TestParseIPv6(t *testing.T) {
	b := append(packet6(17, 1, 2, 3, 4), 9, 9) // padding behind it
	b[0], b[1] = 0x6b, 0x8f
	p, ok := ParseIPv6(b)
	if !ok || len(p) != 44 || p.Class() != 0xb8 || p.Next() != 17 || p.HopLimit() != 64 ||
		*p.Src() != *ip6("2001:db8::1") || *p.Dst() != *ip6("2001:db8::2") || !bytes.Equal(p.Payload(), []byte{1, 2, 3, 4}) {
		t.Fatalf("fields of %x are misread", b)
	}
	for name, bad := range map[string][]byte{"cut header": b[:39], "cut payload": b[:43], "empty": nil, "version": append([]byte{0x45}, b[1:]...)} {
		if _, ok := ParseIPv6(bad); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, ok := ParseIPv6(packet6(59)); !ok {
		t.Error("a packet without payload is refused")
	}
}

func TestLast(t *testing.T) {
	hop, dest := []byte{60, 0, 0, 0, 0, 0, 0, 0}, append([]byte{6, 1}, make([]byte, 14)...)
	for name, c := range map[string]struct {
		p         []byte
		next      uint8
		at        int
		later, ok bool
	}{
		"none":           {packet6(17, 1), 17, 40, false, true},
		"two":            {packet6(0, slices.Concat(hop, dest, []byte{1})...), 6, 64, false, true},
		"first fragment": {packet6(44, 58, 0, 0, 1, 0, 0, 0, 0), 58, 48, false, true},
		"later fragment": {packet6(44, 58, 0, 0, 8, 0, 0, 0, 0), 58, 48, true, true},
		"AH":             {packet6(51, append([]byte{58, 4}, make([]byte, 22)...)...), 58, 64, false, true},
		"cut":            {packet6(0, 60, 0), 0, 40, false, false},
		"too long":       {packet6(60, 17, 9, 0, 0, 0, 0, 0, 0), 17, 120, false, false},
	} {
		p, _ := ParseIPv6(c.p)
		next, at, later, ok := p.Last()
		if ok != c.ok || later != c.later || ok && (next != c.next || at != c.at) {
			t.Errorf("%s: %d at %d, later %v, ok %v", name, next, at, later, ok)
		}
	}
}

func TestKindsOfAddresses(t *testing.T) {
	for a, want := range map[string][2]bool{ // one station, martian
		"::": {false, true}, "::1": {false, true}, "::2": {true, false}, "::ffff:10.0.0.1": {false, true}, "ff02::1": {false, true},
		"fe80::1": {true, true}, "febf::1": {true, true}, "fec0::1": {true, false}, "fe7f::": {true, false}, "2001:db8::1": {true, false}, "fd00::1": {true, false},
		"::1:0:0": {true, false}, "1::1": {true, false},
	} {
		if got := [2]bool{OneStation6(ip6(a)), Martian6(ip6(a))}; got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
	group := SolicitedNode(ip6("2001:db8::1:23:4567"))
	if group != *ip6("ff02::1:ff23:4567") || MulticastMAC(&group) != (MAC{0x33, 0x33, 0xff, 0x23, 0x45, 0x67}) {
		t.Errorf("%x", group)
	}
}

func solicitation() IPv6 {
	b := make([]byte, IPv6Len+NDLen+NDOptionLen)
	PutIPv6(b, len(b)-IPv6Len, ProtoICMP6, 255, ip6("fe80::1"), ip6("2001:db8::1"))
	PutND(b[IPv6Len:], ICMP6NeighbourSolicit, 0, ip6("2001:db8::1"), NDSource, &MAC{2, 0, 0, 0, 0, 1})
	SumICMP6(b)
	return b
}

func FuzzParse6(f *testing.F) {
	f.Add([]byte(solicitation()))
	f.Add(packet6(0, 60, 0, 0, 0, 0, 0, 0, 0, 6, 1))
	f.Add(packet6(44, 58, 0, 0, 1, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := ParseIPv6(b)
		if !ok {
			return
		}
		if _, at, _, ok := p.Last(); ok && at > len(p) {
			t.Fatalf("header at %d of %d", at, len(p))
		}
		// With a right checksum it gets further.
		p = bytes.Clone(p)
		if len(p) >= IPv6Len+4 {
			p[7] = 255
			SumICMP6(p)
		}
		if m, ok := ParseND(p); ok {
			for o := range 256 {
				_ = m.MAC(uint8(o))
			}
			_, _, _ = m.Target(), m.Solicited(), m.Override()
		}
	})
}
