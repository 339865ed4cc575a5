package icmp

import (
	"bytes"
	"testing"
	"time"

	"vita/asm/cksum"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

func packet(proto uint8, src, dst uint32, payload []byte) wire.IPv4 {
	b := make([]byte, wire.IPv4Len+len(payload))
	wire.PutIPv4(b, len(b), true, 9, proto, src, dst)
	copy(b[wire.IPv4Len:], payload)
	return b
}

func message(typ, code uint8, n int) []byte {
	m := make([]byte, wire.ICMPLen+n)
	wire.ICMP(m).Put(typ, code, 0x00010002)
	for i := range n {
		m[wire.ICMPLen+i] = byte(i)
	}
	wire.PutBe16(m[2:], cksum.Sum(m, 0))
	return m
}

const here, there = 0x0a000001, 0x0a000002

func TestError(t *testing.T) {
	orig := packet(200, there, 0x0a090909, []byte("0123456789"))
	before := bytes.Clone(orig)
	b := bytes.Repeat([]byte{0xee}, MaxErrorLen)
	n := Error(b, orig, here, wire.ICMPUnreachable, wire.CodeFragmentationNeeded, 1446)
	if n != 20+8+28 {
		t.Fatalf("%d bytes, want 56", n)
	}
	p, check := wire.ParseIPv4(b[:n])
	if check != wire.Good || len(p) != n || p.Src() != here || p.Dst() != there || p.Protocol() != wire.ProtoICMP || p.TTL() != TTL {
		t.Errorf("header %x", b[:20])
	}
	m, ok := Parse(p)
	if !ok || m.Type() != 3 || m.Code() != 4 || wire.Be32(m[4:]) != 1446 {
		t.Errorf("message %x", []byte(m))
	}
	if !bytes.Equal(m[8:], orig[:28]) {
		t.Errorf("excerpt %x, want %x", []byte(m[8:]), []byte(orig[:28]))
	}
	if !bytes.Equal(before, orig) {
		t.Error("the packet was changed")
	}
	// With options, and with less than 8 bytes behind the header.
	long := append(bytes.Clone(orig[:20]), make([]byte, 40+3)...)
	long[0] = 0x4f
	if n := Error(b, wire.IPv4(long), here, 11, 0, 0); n != 28+63 {
		t.Errorf("with options: %d bytes, want %d", n, 28+63)
	}
}

func TestMayAnswer(t *testing.T) {
	fragment := func(v uint16) wire.IPv4 {
		p := packet(17, there, here, make([]byte, 8))
		wire.PutBe16(p[6:], v)
		return p
	}
	for name, c := range map[string]struct {
		p    wire.IPv4
		want bool
	}{
		"UDP":                 {packet(17, there, here, make([]byte, 8)), true},
		"first fragment":      {fragment(0x2000), true},
		"later fragment":      {fragment(0x2001), false},
		"last fragment":       {fragment(0x0001), false},
		"echo request":        {packet(1, there, here, message(8, 0, 0)), true},
		"echo reply":          {packet(1, there, here, message(0, 0, 0)), true},
		"unreachable":         {packet(1, there, here, message(3, 1, 28)), false},
		"source quench":       {packet(1, there, here, message(4, 0, 28)), false},
		"redirect":            {packet(1, there, here, message(5, 1, 28)), false},
		"time exceeded":       {packet(1, there, here, message(11, 0, 28)), false},
		"parameter problem":   {packet(1, there, here, message(12, 0, 28)), false},
		"unknown type":        {packet(1, there, here, message(200, 0, 28)), false},
		"empty ICMP":          {packet(1, there, here, nil), false},
		"to multicast":        {packet(17, there, 0xe0000001, make([]byte, 8)), false},
		"to broadcast":        {packet(17, there, 0xffffffff, make([]byte, 8)), false},
		"from multicast":      {packet(17, 0xe0000001, here, make([]byte, 8)), false},
		"from nobody":         {packet(17, 0, here, make([]byte, 8)), false},
		"from loopback":       {packet(17, 0x7f000001, here, make([]byte, 8)), false},
		"from all ones":       {packet(17, 0xffffffff, here, make([]byte, 8)), false},
		"from class E":        {packet(17, 0xf0000001, here, make([]byte, 8)), false},
		"timestamp":           {packet(1, there, here, message(13, 0, 12)), true},
		"router solicitation": {packet(1, there, here, message(10, 0, 0)), false},
	} {
		if got := MayAnswer(c.p); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestReply(t *testing.T) {
	p := packet(wire.ProtoICMP, there, here, message(wire.ICMPEchoRequest, 0, 33))
	m, ok := Parse(p)
	if !ok {
		t.Fatal("a good request is refused")
	}
	data := bytes.Clone(m[4:])
	Reply(p)
	q, check := wire.ParseIPv4(p)
	if check != wire.Good || q.Src() != here || q.Dst() != there || q.TTL() != TTL {
		t.Errorf("header %x", []byte(p[:20]))
	}
	if m, ok = Parse(q); !ok || m.Type() != wire.ICMPEchoReply || !bytes.Equal(m[4:], data) {
		t.Errorf("reply %x", []byte(p))
	}
}

func TestParseRefuses(t *testing.T) {
	if _, ok := Parse(packet(1, there, here, message(8, 0, 0)[:7])); ok {
		t.Error("7 bytes are a message")
	}
	m := message(8, 0, 5)
	m[9] ^= 1
	if _, ok := Parse(packet(1, there, here, m)); ok {
		t.Error("a wrong checksum is right")
	}
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		typ, code uint8
		want      []tables.Counter
	}{
		{8, 0, []tables.Counter{tables.PublicICMP4EchoRequest}},
		{3, 0, []tables.Counter{tables.PublicICMP4DestinationUnreachable, tables.PublicICMP4NetUnreachable}},
		{3, 1, []tables.Counter{tables.PublicICMP4DestinationUnreachable, tables.PublicICMP4HostUnreachable}},
		{3, 2, []tables.Counter{tables.PublicICMP4DestinationUnreachable, tables.PublicICMP4ProtocolUnreachable}},
		{3, 3, []tables.Counter{tables.PublicICMP4DestinationUnreachable, tables.PublicICMP4PortUnreachable}},
		{3, 4, []tables.Counter{tables.PublicICMP4DestinationUnreachable, tables.PublicICMP4FragmentationNeeded}},
		{3, 5, []tables.Counter{tables.PublicICMP4DestinationUnreachable, tables.PublicICMP4SourceRouteFailed}},
		{3, 6, []tables.Counter{tables.PublicICMP4DestinationUnreachable, tables.PublicICMP4CodeNotImplementedErrors}},
		{11, 0, []tables.Counter{tables.PublicICMP4TimeExceeded, tables.PublicICMP4TransitTTLExceeded}},
		{11, 1, []tables.Counter{tables.PublicICMP4TimeExceeded, tables.PublicICMP4FragmentReassemblyTimeExceeded}},
		{11, 255, []tables.Counter{tables.PublicICMP4TimeExceeded, tables.PublicICMP4CodeNotImplementedErrors}},
		{5, 0, []tables.Counter{tables.PublicICMP4Redirect, tables.PublicICMP4RedirectNet}},
		{5, 3, []tables.Counter{tables.PublicICMP4Redirect, tables.PublicICMP4RedirectTOSHost}},
		{5, 4, []tables.Counter{tables.PublicICMP4Redirect, tables.PublicICMP4CodeNotImplementedErrors}},
		{12, 0, []tables.Counter{tables.PublicICMP4ParameterProblem}},
		{0, 0, []tables.Counter{tables.PublicICMP4TypeNotImplementedErrors}},
		{255, 255, []tables.Counter{tables.PublicICMP4TypeNotImplementedErrors}},
	} {
		counters := make([]uint64, tables.NumCounters)
		Count(counters, Public, message(c.typ, c.code, 0))
		for _, w := range c.want {
			if counters[w] != 1 {
				t.Errorf("%d/%d: %s is %d", c.typ, c.code, w, counters[w])
			}
			counters[w] = 0
		}
		for i, n := range counters {
			if n != 0 {
				t.Errorf("%d/%d: %s is %d", c.typ, c.code, tables.Counter(i), n)
			}
		}
	}
}

func TestLimiter(t *testing.T) {
	var l Limiter
	now := int64(1e15)
	sent := 0
	for range 1000 {
		if l.Allow(now) {
			sent++
		}
	}
	if sent != PerSecond {
		t.Errorf("%d at once, want %d", sent, PerSecond)
	}
	for range 10_000 { // ten seconds, ten tries each time there could be one
		now += int64(time.Millisecond)
		if l.Allow(now) {
			sent++
		}
	}
	if sent != 11*PerSecond {
		t.Errorf("%d in ten seconds, want %d", sent, 11*PerSecond)
	}
	if !l.Allow(now + int64(time.Hour)) {
		t.Error("nothing after an hour")
	}
	if l.Allow(now); l.used < 0 { // a clock that goes back must not fill the bucket
		t.Error("more tokens than it holds")
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(packet(1, there, here, message(8, 0, 5))))
	f.Add([]byte(packet(1, there, here, message(3, 4, 28))))
	counters := make([]uint64, tables.NumCounters)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, check := wire.ParseIPv4(b)
		if check != wire.Good {
			return
		}
		out := make([]byte, MaxErrorLen)
		if MayAnswer(p) {
			n := Error(out, p, here, 11, 0, 0)
			if q, check := wire.ParseIPv4(out[:n]); check != wire.Good || MayAnswer(q) {
				t.Fatalf("error %x may be answered, or is malformed", out[:n])
			}
		}
		m, ok := Parse(p)
		if !ok {
			return
		}
		Count(counters, Inbound, m)
		if m.Type() == wire.ICMPEchoRequest {
			Reply(p)
			if _, ok := Parse(p); !ok {
				t.Fatalf("reply %x has a wrong checksum", []byte(p))
			}
		}
	})
}
