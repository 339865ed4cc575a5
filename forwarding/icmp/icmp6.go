package icmp

import (
	"vita/asm/cksum"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// MaxErrorLen6 is the largest that Error6 writes: what every link carries
// (RFC 4443, 2.4 c).
const MaxErrorLen6 = 1280

// MayAnswer6 reports whether an error may be sent about a packet: none about
// another error or a redirect, a fragment that is not the first, or a packet
// whose source or destination is not one station (RFC 4443, 2.4 e).
func MayAnswer6(p wire.IPv6) bool {
	if !wire.OneStation6(p.Src()) || !wire.OneStation6(p.Dst()) {
		return false
	}
	next, at, later, ok := p.Last()
	if later || !ok {
		return false
	}
	if next != wire.ProtoICMP6 {
		return true
	}
	// Informational types have the high bit.
	return len(p) > at && p[at]&0x80 != 0 && p[at] != wire.ICMP6Redirect
}

// Error6 writes an error message about packet p to b, outside p, and returns its
// length: as much of p as fits b and MaxErrorLen6. B has at least the 48 bytes
// of the headers. The message goes from src to p's source. Rest is its second
// word.
func Error6(b []byte, p wire.IPv6, src *[16]byte, typ, code uint8, rest uint32) int {
	const head = wire.IPv6Len + wire.ICMPLen
	n := head + copy(b[head:min(len(b), MaxErrorLen6)], p)
	wire.PutIPv6(b, n-wire.IPv6Len, wire.ProtoICMP6, TTL, src, p.Src())
	wire.ICMP(b[wire.IPv6Len:]).Put(typ, code, rest)
	wire.SumICMP6(b[:n])
	return n
}

// Parse6 returns the message that a packet without extension headers carries;
// false where it is too short or its checksum is wrong.
func Parse6(p wire.IPv6) (wire.ICMP, bool) {
	b := p.Payload()
	if len(b) < wire.ICMPLen || !wire.ValidICMP6(p) {
		return nil, false
	}
	return wire.ICMP(b), true
}

// Reply6 turns a packet with an echo request, that Parse6 has checked, into its
// reply.
func Reply6(p wire.IPv6) {
	src, dst := p.Src(), p.Dst()
	*src, *dst = *dst, *src // the sum of the two stays
	p[7] = TTL
	m := p.Payload()
	old := wire.Be16(m)
	m[0] = wire.ICMP6EchoReply
	wire.PutBe16(m[2:], cksum.Update16(wire.Be16(m[2:]), old, wire.Be16(m)))
}

// The groups of IPv6: private-icmp6, public-icmp6 and inbound-icmp6.
const (
	Private6 = tables.PrivateICMP6RxErrors
	Public6  = tables.PublicICMP6RxErrors
	Inbound6 = tables.InboundICMP6RxErrors
)

// Count6 counts a received message by its type and code in one group of a
// worker's counters.
func Count6(counters []uint64, g Group, m wire.ICMP) {
	at := func(c tables.Counter) *uint64 { return &counters[g+(c-tables.PrivateICMP6RxErrors)] }
	var codes tables.Counter // the first code's counter; the others follow
	var n uint8
	switch m.Type() {
	case wire.ICMP6EchoRequest:
		*at(tables.PrivateICMP6EchoRequest)++
		return
	case wire.ICMP6TooBig:
		*at(tables.PrivateICMP6PacketTooBig)++ // its code is to be ignored (RFC 4443, 3.2)
		return
	case wire.ICMP6Unreachable:
		*at(tables.PrivateICMP6DestinationUnreachable)++
		codes, n = tables.PrivateICMP6NetUnreachable, 7
	case wire.ICMP6TimeExceeded:
		*at(tables.PrivateICMP6TimeExceeded)++
		codes, n = tables.PrivateICMP6TransitHopLimitExceeded, 2
	case wire.ICMP6ParameterProblem:
		*at(tables.PrivateICMP6ParameterProblem)++
		codes, n = tables.PrivateICMP6HeaderFieldProblem, 3
	default:
		*at(tables.PrivateICMP6TypeNotImplementedErrors)++
		return
	}
	if m.Code() >= n {
		*at(tables.PrivateICMP6CodeNotImplementedErrors)++
		return
	}
	*at(codes + tables.Counter(m.Code()))++
}
