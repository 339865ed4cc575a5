// Package icmp writes the ICMP messages that a gateway sends (RFC 792,
// RFC 1812) and tells received ones apart.
//
// It knows packets, not ports: whoever calls it decides where an answer goes.
package icmp

import (
	"time"

	"vita/asm/cksum"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// PerSecond is how many messages of a kind a worker sends at most.
const PerSecond = 100

// Limiter is a token bucket: it holds what a second brings. The zero Limiter
// is full.
type Limiter struct {
	used int64 // tokens taken and not yet refilled, in nanoseconds of refill
	last int64
}

// Allow takes a token, and reports whether there was one. Now is clock.Mono.
func (l *Limiter) Allow(now int64) bool { return l.Take(now, 1) }

// Take is Allow for several tokens at once.
func (l *Limiter) Take(now int64, tokens int64) bool {
	cost := tokens * int64(time.Second) / PerSecond
	l.used = max(l.used-max(now-l.last, 0), 0)
	l.last = now
	if l.used+cost > int64(time.Second) {
		return false
	}
	l.used += cost
	return true
}

// TTL is the time to live of the messages sent.
const TTL = 64

// excerptBehindHeader is how much of a packet's payload an error quotes.
const excerptBehindHeader = 8

// MaxErrorLen is the largest that Error writes: headers, and an excerpt with
// all the options that IPv4 allows.
const MaxErrorLen = wire.IPv4Len + wire.ICMPLen + 60 + excerptBehindHeader

// MayAnswer reports whether an error may be sent about a packet: none about
// another error, a fragment that is not the first, or a packet whose source or
// destination is not one station (RFC 1122, 3.2.2).
func MayAnswer(p wire.IPv4) bool {
	if p.LaterFragment() || wire.Martian(p.Src()) || wire.Martian(p.Dst()) {
		return false
	}
	if p.Protocol() != wire.ProtoICMP {
		return true
	}
	// Of ICMP only what is known not to be an error (RFC 1812, 4.3.2.7).
	b := p.Payload()
	if len(b) == 0 {
		return false
	}
	switch b[0] {
	case wire.ICMPEchoRequest, wire.ICMPEchoReply, 13, 14, 15, 16, 17, 18: // timestamp, information, mask
		return true
	}
	return false
}

// Error writes an error message about packet p, which has its header as it was
// received, to b, of at least MaxErrorLen bytes outside p, and returns its
// length. It goes from src to p's source. Rest is the message's second word.
func Error(b []byte, p wire.IPv4, src uint32, typ, code uint8, rest uint32) int {
	excerpt := p[:min(p.HeaderLen()+excerptBehindHeader, len(p))]
	m := wire.ICMP(b[wire.IPv4Len:])
	m.Put(typ, code, rest)
	n := wire.ICMPLen + copy(m[wire.ICMPLen:], excerpt)
	wire.PutBe16(m[2:], cksum.Sum(m[:n], 0))
	n += wire.IPv4Len
	wire.PutIPv4(b, n, false, TTL, wire.ProtoICMP, src, p.Src())
	return n
}

// Parse returns the message in a packet that is no fragment; false where it is
// too short or its checksum is wrong.
func Parse(p wire.IPv4) (wire.ICMP, bool) {
	b := p.Payload()
	if len(b) < wire.ICMPLen || !cksum.Valid(b, 0) {
		return nil, false
	}
	return wire.ICMP(b), true
}

// Reply turns a packet with an echo request, that Parse has checked, into its
// reply.
func Reply(p wire.IPv4) {
	src, dst := p.Src(), p.Dst()
	wire.PutBe32(p[12:], dst)
	wire.PutBe32(p[16:], src)
	p[8] = TTL
	wire.PutBe16(p[10:], 0)
	wire.PutBe16(p[10:], cksum.Sum(p[:p.HeaderLen()], 0))
	m := p.Payload()
	old := wire.Be16(m)
	m[0] = wire.ICMPEchoReply
	wire.PutBe16(m[2:], cksum.Update16(wire.Be16(m[2:]), old, wire.Be16(m)))
}

// Group is where a path's ICMP counters begin: private-icmp4, public-icmp4 or
// inbound-icmp4, which all have the same leaves in the same order.
type Group = tables.Counter

// The groups.
const (
	Private = tables.PrivateICMP4RxErrors
	Public  = tables.PublicICMP4RxErrors
	Inbound = tables.InboundICMP4RxErrors
)

// Count counts a received message by its type and code in one group of a worker's counters.
func Count(counters []uint64, g Group, m wire.ICMP) {
	at := func(c tables.Counter) *uint64 { return &counters[g+(c-tables.PrivateICMP4RxErrors)] }
	var codes tables.Counter // the first code's counter; the others follow
	var n uint8
	switch m.Type() {
	case wire.ICMPEchoRequest:
		*at(tables.PrivateICMP4EchoRequest)++
		return
	case wire.ICMPUnreachable:
		*at(tables.PrivateICMP4DestinationUnreachable)++
		codes, n = tables.PrivateICMP4NetUnreachable, 6
	case wire.ICMPTimeExceeded:
		*at(tables.PrivateICMP4TimeExceeded)++
		codes, n = tables.PrivateICMP4TransitTTLExceeded, 2
	case wire.ICMPRedirect:
		*at(tables.PrivateICMP4Redirect)++
		codes, n = tables.PrivateICMP4RedirectNet, 4
	case wire.ICMPParameterProblem:
		*at(tables.PrivateICMP4ParameterProblem)++
		return
	default:
		*at(tables.PrivateICMP4TypeNotImplementedErrors)++
		return
	}
	if m.Code() >= n {
		*at(tables.PrivateICMP4CodeNotImplementedErrors)++
		return
	}
	*at(codes + tables.Counter(m.Code()))++
}
