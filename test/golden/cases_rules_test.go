package golden

import (
	"encoding/binary"
	"math"
	"net"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vita/forwarding/client"
	"vita/forwarding/tables"
)

// The cases of what the standards forbid, or bound.
func init() {
	resync := with(spec, func(s *tables.Spec) { s.Resync = true })
	cases = append(
		cases,
		&testCase{name: "aes256-in", spec: spec, sas: []client.SA{inboundSA(inSPI, key256, 0)}, input: inbound256},
		&testCase{name: "spis", spec: spec, sas: spiSAs(), input: spis},
		&testCase{name: "exhausted", spec: spec, sas: exhaustedSAs, input: exhausted},
		&testCase{name: "exhausted6", spec: spec6, sas: exhaustedSAs, input: exhausted6},
		&testCase{name: "resync", spec: resync, sas: []client.SA{inboundSA(inSPI, key, 1000)}, input: ahead, lead: 1024},
		&testCase{name: "resync-off", spec: spec, sas: []client.SA{inboundSA(inSPI, key, 1000)}, recorded: "testdata/resync/public-in.pcap", lead: 1024},
		&testCase{name: "pmtu-routes", spec: routesSpec, sas: routesSAs, input: pmtuRoutes},
		&testCase{name: "pmtu-age", spec: routesSpec, sas: routesSAs, timed: pmtuAge, until: 11 * time.Minute, step: time.Minute},
		&testCase{name: "rates", spec: spec, sas: sas, timed: rates, until: 1200 * time.Millisecond},
		&testCase{name: "no-errors", spec: spec, sas: sas, input: noErrors},
		&testCase{name: "no-errors6", spec: spec6, sas: sas, input: noErrors6},
		&testCase{name: "traceroute", spec: spec, sas: sas, input: traceroute},
		&testCase{name: "traceroute6", spec: spec6, sas: sas, input: traceroute6},
		&testCase{name: "no-route", spec: spec, sas: sas, input: noRoute},
		&testCase{name: "no-route6", spec: spec6, sas: sas, input: noRoute6},
	)
}

var key256 = append(key[:16:16], key...)

func inboundSA(spi uint32, key []byte, seq uint64) client.SA {
	return client.SA{Route: "site2", Queue: 1, Direction: client.Inbound, SPI: spi, Key: key, Salt: salt, Seq: seq}
}

func outboundSA(spi uint32, seq uint64) client.SA {
	return client.SA{Route: "site2", Queue: 1, Direction: client.Outbound, SPI: spi, Key: key, Salt: salt, Seq: seq}
}

func inbound256() (private, public [][]byte) {
	for i, n := range []int{0, 1, 2, 3, 4, 1000} {
		public = append(public, outer(sealWith(key256, inSPI, uint64(i+1), trailed(fromSite2(n).packet(), 4))))
	}
	return nil, append(public, tunnel(inSPI, 20, fromSite2(4).packet())) // by a key of half the length
}

// trailed adds padding and trailer.
func trailed(inner []byte, next byte) []byte {
	n := -(len(inner) + 2) & 3
	return append(append(inner, make([]byte, n)...), byte(n), next)
}

var allSPIs = []uint32{256, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, math.MaxUint32}

func spiSAs() (out []client.SA) {
	for _, spi := range allSPIs {
		out = append(out, inboundSA(spi, key, 0))
	}
	return append(out, outboundSA(math.MaxUint32, 0))
}

// spis has SPIs that need all 32 bits, and those beside them, which are nobody's.
func spis() (private, public [][]byte) {
	for i, spi := range allSPIs {
		public = append(public, tunnel(spi, 1, fromSite2(i).packet()), tunnel(spi-2, 1, fromSite2(i).packet()), tunnel(spi^1<<31, 1, fromSite2(i).packet()))
	}
	return [][]byte{toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, payload: text(30)})}, public
}

const lastSeq = math.MaxUint64 - 1

var exhaustedSAs = []client.SA{outboundSA(0x1000, lastSeq-2), inboundSA(inSPI, key, lastSeq-2)}

// exhausted has packets for SAs at their last sequence numbers: the outbound one
// sends two more, and then no packet; nothing comes after the last of the other.
func exhausted() (private, public [][]byte) {
	for range 4 {
		private = append(private, toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, payload: text(30)}))
	}
	for _, seq := range []uint64{lastSeq, lastSeq - 1, lastSeq - 2, lastSeq + 1, lastSeq + 1, 0, 1, 2} { // the last three would be the first again
		public = append(public, tunnel(inSPI, seq, fromSite2(30).packet()))
	}
	return private, public
}

func exhausted6() (private, public [][]byte) {
	for range 4 {
		private = append(private, toPrivate6(ip6{src: here6, dst: there6, next: protoTest, payload: text(30)}))
	}
	for _, seq := range []uint64{lastSeq, lastSeq - 1, lastSeq - 2, lastSeq + 1, 1} {
		public = append(public, tunnel6(inSPI, seq, fromSite26(30).packet()))
	}
	return private, public
}

// ahead is a peer three times 2^32 packets ahead. Its first 1024 packets are
// not authentic by the number that is inferred; then the right one is looked for.
func ahead() (private, public [][]byte) {
	const base = 3<<32 + 2000
	dummy := func(seq uint64) []byte { return outer(esp(inSPI, seq, nil, []byte{1, 2}, 59)) }
	for range 1024 {
		public = append(public, dummy(base))
	}
	in := func(seq uint64) []byte { return tunnel(inSPI, seq, fromSite2(20).packet()) }
	return nil, append(public, in(base+50), in(base+50), in(base+51), in(base), in(4000), in(base-100))
}

// pmtuRoutes has a router's word about one of two tunnels.
func pmtuRoutes() (private, public [][]byte) {
	send := func(n int) {
		for _, dst := range []string{"10.10.17.1", "10.10.32.1"} { // routes a and b
			private = append(private, toPrivate(ip{src: "10.1.0.7", dst: dst, proto: 200, df: true, payload: text(n - 20)}))
		}
	}
	send(1446)
	quoted := ip{src: "203.0.113.1", dst: "203.0.113.10", proto: layers.IPProtocolESP, df: true, payload: quotedESP(0xa, 1, 600)}.packet()[:28]
	m := serialize(&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1400}, gopacket.Payload(quoted))
	word := toPublic(ip{src: "198.51.100.1", dst: "203.0.113.1", proto: layers.IPProtocolICMPv4, payload: m})
	public = [][]byte{word}
	send(1347)
	send(1346)
	return private, public
}

// sentTo gives a frame another destination address.
func sentTo(f []byte, mac [6]byte) []byte {
	copy(f, mac[:])
	return f
}

var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// noErrors has packets that would be answered by an error, but for what they
// are (RFC 1122, 3.2.2): each that is answered, at last, is one of its kind that
// may be.
func noErrors() (private, public [][]byte) {
	const here, there = "10.1.0.7", "10.2.0.9"
	expired := func(src, dst string) ip { return ip{src: src, dst: dst, proto: 17, ttl: 1, payload: text(40)} }
	fragment := func(at uint16, f []byte) []byte {
		binary.BigEndian.PutUint16(f[20:], at)
		return fixed(f)
	}
	inFragment := func(at uint16, p ip) []byte { return fragment(at, toPrivate(p))[14:] }
	// About errors of each type, and what is not known to be none.
	for _, typ := range []uint8{3, 4, 5, 11, 12, 1, 200} {
		p := icmpMessage(typ, 0, here, there)
		p.ttl = 1
		q := icmpMessage(typ, 0, there, here)
		q.ttl = 1
		private = append(private, toPrivate(p))
		public = append(public, tunnel(inSPI, uint64(len(public)+1), q.packet()))
	}
	cut := ip{src: here, dst: there, ttl: 1, proto: layers.IPProtocolICMPv4}
	private = append(
		private, toPrivate(cut),
		fragment(1, toPrivate(expired(here, there))), fragment(0x2001, toPrivate(expired(here, there))), // fragments that are not the first
		sentTo(toPrivate(expired(here, there)), broadcast), sentTo(toPrivate(expired(here, there)), [6]byte{1, 0, 0x5e, 1, 1, 1}),
		toPrivate(expired(here, "255.255.255.255")), toPrivate(expired(here, "224.0.0.9")), toPrivate(expired(here, "127.0.0.1")),
		toPrivate(expired("0.0.0.0", there)), toPrivate(expired("255.255.255.255", there)), toPrivate(expired("224.0.0.9", there)), toPrivate(expired("127.0.0.1", there)),
		fragment(0x2000, toPrivate(expired(here, there))), // a first fragment: answered
		toPrivate(expired(here, there)),                   // answered
	)
	for _, src := range []string{"0.0.0.0", "255.255.255.255", "224.0.0.9", "127.0.0.1"} {
		public = append(
			public, toPublic(ip{src: src, dst: "203.0.113.1", proto: 6, payload: text(20)}), // a protocol that is not spoken
			tunnel(inSPI, uint64(len(public)+1), expired(src, here).packet()),
			toPublic(echo(8, src, "203.0.113.1", 64)))
	}
	tcp := ip{src: "198.51.100.1", dst: "203.0.113.1", proto: 6, payload: text(20)}
	public = append(
		public, sentTo(toPublic(tcp), broadcast), fragment(1, toPublic(tcp)),
		toPublic(icmpMessage(3, 2, "198.51.100.1", "203.0.113.1")),
		tunnel(inSPI, 90, expired(there, "224.0.0.9").packet()), tunnel(inSPI, 91, inFragment(1, expired(there, here))),
		tunnel(inSPI, 92, inFragment(0x2000, expired(there, here))), // answered
		tunnel(inSPI, 93, expired(there, here).packet()), toPublic(tcp),
	)
	return private, public
}

// noErrors6 is the same of IPv6 (RFC 4443, 2.4 e).
func noErrors6() (private, public [][]byte) {
	expired := func(src, dst string) ip6 { return ip6{src: src, dst: dst, next: 17, hops: 1, payload: text(40)} }
	fragment := func(src, dst string, at byte) ip6 {
		return ip6{src: src, dst: dst, next: 44, hops: 1, payload: append([]byte{17, 0, 0, at, 0, 0, 0, 9}, text(40)...)}
	}
	big := ip6{src: here6, dst: there6, next: 17, payload: text(1400)}
	for _, typ := range []uint8{1, 2, 3, 4, 100, 127, 137} { // 137: redirect
		p, q := error6(typ, 0, here6, there6), error6(typ, 0, there6, here6)
		p.hops, q.hops = 1, 1
		private = append(private, toPrivate6(p))
		public = append(public, tunnel6(inSPI, uint64(len(public)+1), q.packet()))
	}
	private = append(
		private,
		toPrivate6(fragment(here6, there6, 8)), toPrivate6(fragment(here6, there6, 9)),
		sentTo(toPrivate6(expired(here6, there6)), [6]byte{0x33, 0x33, 0, 0, 0, 1}), sentTo(toPrivate6(big), [6]byte{0x33, 0x33, 0, 0, 0, 1}),
		toPrivate6(expired(here6, "ff0e::1")), toPrivate6(expired(here6, "::1")), toPrivate6(expired("::", there6)), toPrivate6(expired("ff0e::1", there6)), toPrivate6(expired("::1", there6)),
		toPrivate6(fragment(here6, there6, 1)), toPrivate6(expired(here6, there6)), toPrivate6(big), // answered
	)
	for _, src := range []string{"::", "ff0e::1", "::1"} {
		public = append(
			public, toPublic6(ip6{src: src, dst: public6, next: 6, payload: text(20)}),
			tunnel6(inSPI, uint64(len(public)+1), expired(src, here6).packet()),
			toPublic6(echo6(8, src, public6, 64)))
	}
	tcp := ip6{src: stranger6, dst: public6, next: 6, payload: text(20)}
	public = append(
		public, sentTo(toPublic6(tcp), [6]byte{0x33, 0x33, 0, 0, 0, 1}), toPublic6(error6(1, 4, stranger6, public6)),
		tunnel6(inSPI, 90, expired(there6, "ff0e::1").packet()), tunnel6(inSPI, 91, fragment(there6, here6, 8).packet()),
		tunnel6(inSPI, 92, fragment(there6, here6, 1).packet()), tunnel6(inSPI, 93, expired(there6, here6).packet()), toPublic6(tcp), // answered
	)
	return private, public
}

// probe is a packet of one of traceroute's kinds.
func probe(kind layers.IPProtocol, src, dst string, hops uint8) []byte {
	a, b := net.IP(addr(src).AsSlice()), net.IP(addr(dst).AsSlice())
	var h gopacket.SerializableLayer
	var n gopacket.NetworkLayer
	if addr(src).Is4() {
		l := &layers.IPv4{Version: 4, TTL: hops, Id: 7, Protocol: kind, SrcIP: a, DstIP: b}
		h, n = l, l
	} else {
		l := &layers.IPv6{Version: 6, HopLimit: hops, NextHeader: kind, SrcIP: a, DstIP: b}
		h, n = l, l
	}
	switch kind {
	case layers.IPProtocolUDP:
		u := &layers.UDP{SrcPort: 40000, DstPort: 33434}
		if err := u.SetNetworkLayerForChecksum(n); err != nil {
			panic(err)
		}
		return serialize(h, u, gopacket.Payload(text(32)))
	case layers.IPProtocolTCP:
		t := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 1, SYN: true, Window: 5840}
		if err := t.SetNetworkLayerForChecksum(n); err != nil {
			panic(err)
		}
		return serialize(h, t)
	case layers.IPProtocolICMPv4:
		return serialize(h, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 99, Seq: 1}, gopacket.Payload(text(32)))
	default:
		return echo6(32, src, dst, hops).packet()
	}
}

// traceroute has probes of each kind that end here on their way out (hop 1),
// and such that the other gateway has let through and end here on their way in
// (hop 2); and those of a hop more, which pass.
func traceroute() (private, public [][]byte) {
	for _, kind := range []layers.IPProtocol{layers.IPProtocolUDP, layers.IPProtocolICMPv4, layers.IPProtocolTCP} {
		for hops := range uint8(3) {
			private = append(private, ethernet(privateMAC, layers.EthernetTypeIPv4, probe(kind, "10.1.0.7", "10.2.0.9", hops)))
			public = append(public, tunnel(inSPI, uint64(len(public)+1), probe(kind, "10.2.0.9", "10.1.0.7", hops)))
		}
	}
	return private, public
}

func traceroute6() (private, public [][]byte) {
	for _, kind := range []layers.IPProtocol{layers.IPProtocolUDP, layers.IPProtocolICMPv6, layers.IPProtocolTCP} {
		for hops := uint8(1); hops < 3; hops++ {
			private = append(private, ethernet(privateMAC6, layers.EthernetTypeIPv6, probe(kind, here6, there6, hops)))
			public = append(public, tunnel6(inSPI, uint64(len(public)+1), probe(kind, there6, here6, hops)))
		}
	}
	return private, public
}

// noRoute has packets to nets that no route has: net unreachable; and the
// answer of our own to a packet out of the tunnel that cannot go back.
func noRoute() (private, public [][]byte) {
	for _, dst := range []string{"10.3.0.1", "10.1.255.255", "10.1.0.8", "8.8.8.8"} {
		private = append(private, toPrivate(ip{src: "10.1.0.7", dst: dst, proto: 17, ttl: 1, payload: text(20)}))
	}
	return append(private, toPrivate(icmpMessage(3, 1, "10.1.0.7", "8.8.8.8"))), nil // an error: not answered
}

func noRoute6() (private, public [][]byte) {
	for _, dst := range []string{"2001:db8:30::1", "2001:db8:10::8", "fd00::1"} {
		private = append(private, toPrivate6(ip6{src: here6, dst: dst, next: 17, hops: 1, payload: text(20)}))
	}
	return append(private, toPrivate6(error6(1, 3, here6, stranger6))), nil
}

// rates has more packets that call for answers than are sent in a second, and
// some more when a tenth of them, and when all, may be sent again: 100 at first,
// of each kind, 10, and 100.
func rates() (private, _ []stamped) {
	const here, there = "10.1.0.7", "10.2.0.9"
	expired := toPrivate(ip{src: here, dst: there, proto: 17, ttl: 1, payload: text(8)})
	ping := toPrivate(echo(8, here, "10.1.0.254", 64))
	stray := toPrivate(ip{src: here, dst: "10.1.0.254", proto: 17, payload: text(8)})
	for _, s := range []struct {
		at    time.Duration
		n     int
		frame []byte
	}{
		{0, 102, expired},
		{0, 101, ping},
		{0, 103, stray},
		{100 * time.Millisecond, 12, expired},
		{100 * time.Millisecond, 10, ping},
		{1100 * time.Millisecond, 101, expired},
	} {
		for range s.n {
			private = append(private, stamped{s.at, s.frame})
		}
	}
	return private, nil
}

// pmtuAge has a router's word that is believed for ten minutes.
func pmtuAge() (private, public []stamped) {
	frames, words := pmtuRoutes()
	first, tooBig := frames[0], frames[2]
	for _, s := range []struct {
		minutes int
		frame   []byte
	}{{0, first}, {1, tooBig}, {9, tooBig}, {10, tooBig}, {11, tooBig}, {11, first}} {
		private = append(private, stamped{time.Duration(s.minutes) * time.Minute, s.frame})
	}
	return private, []stamped{{0, words[0]}}
}
