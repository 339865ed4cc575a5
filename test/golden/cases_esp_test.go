package golden

import (
	"encoding/binary"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vita/forwarding/client"
	"vita/forwarding/tables"
)

// The cases of what an ESP gateway can be told to do.
func init() {
	cases = append(
		cases,
		&testCase{name: "aes256", spec: spec, sas: sas256, input: outbound},
		&testCase{name: "window64", spec: with(spec, func(s *tables.Spec) { s.ReplayWindow = 64 }), sas: sas, input: windows},
		&testCase{name: "window100", spec: with(spec, func(s *tables.Spec) { s.ReplayWindow = 100 }), sas: sas, input: windows},
		&testCase{name: "window4096", spec: with(spec, func(s *tables.Spec) { s.ReplayWindow = 4096 }), sas: sas, input: windows},
		&testCase{name: "ecn", spec: with(spec, func(s *tables.Spec) { s.ECN = true }), sas: sas, input: ecn},
		&testCase{name: "ecn-off", spec: spec, sas: sas, input: ecn},
		&testCase{name: "dscp-copy", spec: with(spec, func(s *tables.Spec) { s.CopyDSCP = true }), sas: sas, input: classes},
		&testCase{name: "dscp-set", spec: with(spec, func(s *tables.Spec) { s.DSCP, s.ECN = 46, true }), sas: sas, input: classes},
		&testCase{name: "df-clear", spec: with(spec, func(s *tables.Spec) { s.DF = tables.DFClear }), sas: sas, input: classes},
		&testCase{name: "df-copy", spec: with(spec, func(s *tables.Spec) { s.DF = tables.DFCopy }), sas: sas, input: classes},
		&testCase{name: "ecn6", spec: with(spec6, func(s *tables.Spec) { s.ECN = true }), sas: sas, input: ecn6},
		&testCase{name: "dscp-copy6", spec: with(spec6, func(s *tables.Spec) { s.CopyDSCP = true }), sas: sas, input: ecn6},
		&testCase{name: "fragment", spec: with(spec, func(s *tables.Spec) { s.MTU, s.Fragment = 401, true }), sas: sas, input: fragment},
		&testCase{name: "pmtu", spec: spec, sas: sas, input: pmtu},
		&testCase{name: "pmtu6", spec: spec6, sas: sas, input: pmtu6},
	)
}

func with(spec func() tables.Spec, change func(*tables.Spec)) func() tables.Spec {
	return func() tables.Spec {
		s := spec()
		change(&s)
		return s
	}
}

var sas256 = []client.SA{{Route: "site2", Queue: 1, Direction: client.Outbound, SPI: 0x1000, Key: slices.Concat(key, key), Salt: salt}}

// windows has numbers at the edges of windows of 64, 100 and 4096.
func windows() (private, public [][]byte) {
	for _, seq := range []uint64{
		1, 10_000, 10_000, 9_937, 9_936, 9_937, 9_901, 9_900, 9_901, 5_905, 5_904, 5_905, 9_936, // 64, 100 and 4096 behind, and one less
		1<<32 + 63, 1<<32 - 0, 1<<32 - 1, 1<<32 - 37, 1<<32 - 36, 1<<32 - 4032, 1<<32 - 4033, 1<<32 + 64,
	} {
		public = append(public, tunnel(inSPI, seq, fromSite2(int(seq%7)).packet()))
	}
	return nil, public
}

// marked gives a frame, and the packet in it, a TOS.
func marked(f []byte, tos byte) []byte {
	f = slices.Clone(f)
	f[15] = tos
	return fixed(f)
}

// ecn has all pairs of inner and outer ECN fields.
func ecn() (private, public [][]byte) {
	for inner := range byte(4) {
		private = append(private, marked(toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, payload: text(30)}), 0xb8|inner))
		for outer := range byte(4) {
			p := marked(toPrivate(fromSite2(30)), 0x28|inner)[14:]
			public = append(public, marked(tunnel(inSPI, uint64(len(public)+1), p), 0x48|outer))
		}
	}
	return private, public
}

// classes has packets of several DSCPs, with DF and without.
func classes() (private, public [][]byte) {
	for i, tos := range []byte{0, 0x28, 0xb8, 0xfc, 0xff, 0x02} {
		private = append(private, marked(toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, df: i%2 == 0, payload: text(30)}), tos))
	}
	return private, public
}

// class6 gives a frame a traffic class.
func class6(f []byte, class byte) []byte {
	f = slices.Clone(f)
	f[14], f[15] = 0x60|class>>4, class<<4|f[15]&15
	return f
}

func ecn6() (private, public [][]byte) {
	for inner := range byte(4) {
		private = append(private, class6(toPrivate6(ip6{src: here6, dst: there6, next: protoTest, payload: text(30)}), 0xb8|inner))
		for outer := range byte(4) {
			p := class6(toPrivate6(fromSite26(30)), 0x28|inner)[14:]
			public = append(public, class6(tunnel6(inSPI, uint64(len(public)+1), p), 0x48|outer))
		}
	}
	return private, public
}

// pmtu has routers' words about our ESP packets, of which all but two are not to
// be believed. The gateway takes 1446 bytes at first.
func pmtu() (private, public [][]byte) {
	send := func(n int) {
		private = append(private, toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, df: true, payload: text(n - 20)}))
	}
	say := func(mtu uint16, src, dst string, spi, seq uint32, code uint8) {
		quoted := ip{src: src, dst: dst, proto: layers.IPProtocolESP, df: true, payload: quotedESP(spi, seq, 600)}.packet()[:28]
		m := serialize(&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, code), Seq: mtu}, gopacket.Payload(quoted))
		public = append(public, toPublic(ip{src: "198.51.100.1", dst: "203.0.113.1", proto: layers.IPProtocolICMPv4, payload: m}))
	}
	const us, peer = "203.0.113.1", "203.0.113.2"
	send(1446)
	say(1300, us, peer, 0x1001, 1, 4) // another SPI
	send(1446)
	say(1300, us, peer, 0x1000, 3, 4) // a number not yet sent
	send(1446)
	say(1300, us, "203.0.113.3", 0x1000, 1, 4) // another peer
	send(1446)
	say(1300, "203.0.113.9", peer, 0x1000, 1, 4) // not from us
	send(1446)
	say(1300, us, peer, 0x1000, 0, 4) // a number never sent
	send(1446)
	say(1400, us, peer, 0x1000, 2, 4) // believed: 1346 bytes
	send(1347)
	say(1450, us, peer, 0x1000, 2, 4) // no raise
	send(1346)
	say(68, us, peer, 0x1000, 7, 4) // believed down to 576: 522 bytes
	send(523)
	send(522)
	return private, public
}

func quotedESP(spi, seq uint32, n int) []byte {
	return append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, spi), seq), text(n)...)
}

func pmtu6() (private, public [][]byte) {
	send := func(n int) {
		private = append(private, toPrivate6(ip6{src: here6, dst: there6, next: protoTest, payload: text(n - 40)}))
	}
	say := func(mtu uint32, dst string, spi, seq uint32) {
		quoted := ip6{src: public6, dst: dst, next: 50, payload: quotedESP(spi, seq, 600)}.packet()
		public = append(public, toPublic6(message6(2, 0, stranger6, public6, 64, append(binary.BigEndian.AppendUint32(nil, mtu), quoted...))))
	}
	send(1426)
	say(1400, peer6, 0x1001, 1)
	send(1426)
	say(1400, "2001:db8:f::3", 0x1000, 1)
	send(1426)
	say(1400, peer6, 0x1000, 9)
	send(1426)
	say(1400, peer6, 0x1000, 4) // believed: 1326 bytes
	send(1327)
	say(1<<31, peer6, 0x1000, 4)
	send(1326)
	say(1280, peer6, 0x1000, 5) // believed as far as 1280 bytes still fit
	send(1283)
	send(1280)
	return private, public
}

// fragment has packets too big for a tunnel that takes 401 bytes.
func fragment() (private, public [][]byte) {
	frame := func(n int, change func(b []byte)) {
		f := toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 17, payload: text(n - 20)})
		change(f[14:])
		private = append(private, fixed(f))
	}
	none := func([]byte) {}
	frame(401, none)
	frame(402, none)                            // two pieces
	frame(20+3*376, none)                       // three, all full
	frame(20+3*376+1, none)                     // and one of a byte
	frame(700, func(b []byte) { b[6] = 0x40 })  // may not be: answered
	frame(700, func(b []byte) { b[8] = 1 })     // too old: answered
	frame(1220, func(b []byte) { b[6] = 0x20 }) // a first fragment: all pieces have others behind
	frame(1220, func(b []byte) { b[7] = 150 })  // the last fragment, from 1200 on
	big := toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 17, payload: text(700)})
	private = append(private, options(big)) // options: dropped
	return private, nil
}
