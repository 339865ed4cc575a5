package golden

import (
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vita/forwarding/tables"
)

// The cases of both families through the same tunnels: of a gateway of IPv4
// (in4) and of one of IPv6 (in6).
func init() {
	for _, v := range []struct {
		suffix string
		inside
	}{{"in4", in4}, {"in6", in6}} {
		cases = append(
			cases,
			&testCase{name: "both-" + v.suffix, spec: v.spec, sas: sas, input: v.sizes},
			&testCase{name: "both-mixed-" + v.suffix, spec: v.spec, sas: sas, input: v.mixed, batch: true},
			&testCase{name: "both-icmp-" + v.suffix, spec: v.spec, sas: sas, input: v.icmp},
			&testCase{name: "both-routes-" + v.suffix, spec: v.routesSpec, sas: routesSAs, input: v.routes},
			&testCase{name: "both-default-" + v.suffix, spec: v.defaultSpec, sas: sas, input: v.everywhere},
			&testCase{name: "both-ecn-" + v.suffix, spec: with(v.spec, func(s *tables.Spec) { s.ECN, s.CopyDSCP = true, true }), sas: sas, input: v.classes},
			&testCase{name: "both-df-" + v.suffix, spec: with(v.spec, func(s *tables.Spec) { s.DF = tables.DFCopy }), sas: sas, input: v.classes},
			&testCase{name: "both-tfc-" + v.suffix, spec: with(v.spec, func(s *tables.Spec) { s.TFC, s.MTU = true, 1400 }), sas: sas, input: v.sizes},
			&testCase{name: "both-neighbours-" + v.suffix, spec: v.spec, sas: sas, input: v.neighbours},
		)
	}
	cases = append(
		cases,
		&testCase{name: "both-pmtu-in4", spec: in4.spec, sas: sas, input: bothPMTU},
		&testCase{name: "both-fragment-in6", spec: with(in6.spec, func(s *tables.Spec) { s.MTU, s.Fragment = 401, true }), sas: sas, input: bothFragment},
		&testCase{name: "other-off-in4", spec: spec, sas: sas, input: in4.off},
		&testCase{name: "other-off-in6", spec: spec6, sas: sas, input: in6.off},
	)
}

// inside is a gateway with both families inside.
type inside struct {
	spec  func() tables.Spec
	mac   [6]byte // of its private interface
	outer func(payload []byte) []byte
	max   int // the largest inner packet
	peers []string
}

var (
	otherMAC = [6]byte{2, 0, 0, 0, 1, 2} // of the next hop of the other family
	in4      = inside{
		spec: with(spec, func(s *tables.Spec) {
			s.Private.OtherIP, s.Private.OtherNextHop, s.Private.OtherNextHopMAC = addr(private6), addr(privateNext6), otherMAC
			s.Routes = []tables.Route{route("site2", "203.0.113.2", "10.2.0.0/16", "2001:db8:20::/44", "172.16.0.0/12")}
		}),
		mac: privateMAC, outer: outer, max: 1446,
		peers: []string{"203.0.113.10", "203.0.113.11", "203.0.113.12", "203.0.113.13"},
	}
	in6 = inside{
		spec: with(spec6, func(s *tables.Spec) {
			s.Private.OtherIP, s.Private.OtherNextHop, s.Private.OtherNextHopMAC = addr("10.1.0.254"), addr("10.1.0.1"), otherMAC
			s.Routes = []tables.Route{route("site2", peer6, "2001:db8:20::/44", "10.2.0.0/16", "172.16.0.0/12")}
		}),
		mac: privateMAC6, outer: outer6, max: 1426,
		peers: []string{"2001:db8:f::a", "2001:db8:f::b", "2001:db8:f::c", "2001:db8:f::d"},
	}
)

// packet is an ip or an ip6.
type packet interface{ packet() []byte }

// out is a frame from the private network.
func (v inside) out(p packet) []byte {
	b := p.packet()
	if b[0]>>4 == 4 {
		return ethernet(v.mac, layers.EthernetTypeIPv4, b)
	}
	return ethernet(v.mac, layers.EthernetTypeIPv6, b)
}

// in is a frame from the public network with a packet in the tunnel.
func (v inside) in(spi uint32, seq int, p packet) []byte {
	b := p.packet()
	next := uint8(4)
	if b[0]>>4 == 6 {
		next = 41
	}
	return v.outer(esp(spi, uint64(seq), b, make([]byte, -(len(b)+2)&3), next))
}

// packets of n bytes.
func there4(n int) ip { return ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, payload: text(n - 20)} }

func here4(n int) ip { return ip{src: "10.2.0.9", dst: "10.1.0.7", proto: 200, payload: text(n - 20)} }

func there66(n int) ip6 {
	return ip6{src: here6, dst: there6, next: protoTest, payload: text(n - 40)}
}

func here66(n int) ip6 {
	return ip6{src: there6, dst: here6, next: protoTest, payload: text(n - 40)}
}

func (v inside) sizes() (private, public [][]byte) {
	for i, n := range []int{40, 41, 42, 43, 44, 66, 140, 616, 1280, 1400, v.max, v.max + 1} {
		private = append(private, v.out(there4(n)), v.out(there66(n)))
		public = append(public, v.in(inSPI, 2*i+1, here4(n)), v.in(inSPI, 2*i+2, here66(n)))
	}
	return private, public
}

// mixed has all that a batch can have, in no order.
func (v inside) mixed() (private, public [][]byte) {
	expired4, expired6 := there4(60), there66(80)
	expired4.ttl, expired6.hops = 1, 1
	solicit := ndFrame([6]byte{0x33, 0x33, 0xff, 0, 0, 1}, privateNext6, "ff02::1:ff00:1", 255, 135, 0, private6, macOption(1, stationMAC[:])...)
	private = [][]byte{
		v.out(there66(60)), v.out(there4(60)), v.out(there4(61)), v.out(expired6),
		arpFrame([6]byte{255, 255, 255, 255, 255, 255}, 1, "10.1.0.1", "10.1.0.254"),
		v.out(there66(61)), solicit, v.out(expired4), v.out(ip{src: "10.1.0.7", dst: "10.3.0.1", proto: 200}),
		v.out(ip6{src: here6, dst: stranger6, next: protoTest}), v.out(there4(62)), ethernet(v.mac, 0x88cc, text(60)),
		v.out(echo6(8, here6, private6, 64)), v.out(echo(8, "10.1.0.7", "10.1.0.254", 64)), v.out(there66(62)), v.out(there4(63)),
	}
	dummy, stray := v.outer(esp(inSPI, 20, text(40), nil, 59)), v.outer(esp(inSPI, 21, text(40), nil, 17))
	forged := v.in(inSPI, 22, here4(70))
	forged[len(forged)-1] ^= 1
	public = [][]byte{
		v.in(inSPI, 1, here4(60)), v.in(inSPI, 2, here66(60)), dummy, v.in(inSPI, 4, here66(61)), forged, stray, v.in(inSPI, 3, here4(61)),
		v.in(inSPI, 5, ip{src: "10.9.0.1", dst: "10.1.0.7", proto: 200}), v.in(inSPI, 6, ip6{src: stranger6, dst: here6, next: protoTest}),
		v.in(inSPI, 7, echo6(8, there6, private6, 64)), v.in(inSPI, 8, echo(8, "10.2.0.9", "10.1.0.254", 64)), v.in(inSPI, 9, here66(62)), v.in(inSPI, 10, here4(62)),
		v.in(inSPI, 9, here66(62)), // again
	}
	return private, public
}

// icmp has what is answered, in each family and on each way.
func (v inside) icmp() (private, public [][]byte) {
	udp4, udp6 := ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 17, ttl: 1, payload: text(40)}, ip6{src: here6, dst: there6, next: 17, hops: 1, payload: text(40)}
	big4, big6 := there4(v.max+1), there66(v.max+1)
	big4.df = true
	for _, p := range []packet{
		udp4, udp6, big4, big6,
		ip{src: "10.1.0.7", dst: "10.9.0.1", proto: 17, payload: text(8)},
		ip6{src: here6, dst: stranger6, next: 17, payload: text(8)}, // no route
		echo(56, "10.1.0.7", "10.1.0.254", 1), echo6(56, here6, private6, 1),
		ip{src: "10.1.0.7", dst: "10.1.0.254", proto: 17, payload: text(20)},
		ip6{src: here6, dst: private6, next: 17, payload: text(20)},
		icmpMessage(3, 1, "10.1.0.7", "10.1.0.254"), error6(1, 3, here6, private6),
	} {
		private = append(private, v.out(p))
	}
	udp4.src, udp4.dst, udp6.src, udp6.dst = udp4.dst, udp4.src, udp6.dst, udp6.src
	long6 := udp6
	long6.payload = text(1300)
	for i, p := range []packet{
		udp4, udp6, long6, echo(56, "10.2.0.9", "10.1.0.254", 64), echo6(56, there6, private6, 64),
		ip{src: "10.2.0.9", dst: "10.1.0.254", proto: 6, payload: text(20)},
		ip6{src: there6, dst: private6, next: 6, payload: text(20)},
		icmpMessage(11, 0, "10.2.0.9", "10.1.0.254"), error6(3, 0, there6, private6),
	} {
		public = append(public, v.in(inSPI, i+1, p))
	}
	return private, public
}

func (v inside) routesSpec() tables.Spec {
	s := v.spec()
	s.Routes = []tables.Route{
		route("a", v.peers[0], "10.10.16.0/20", "2001:db8:20:1000::/52"),
		route("b", v.peers[1], "10.10.0.0/16", "172.16.0.0/12", "2001:db8:20::/48", "fd00::/9"),
		route("c", v.peers[2], "10.10.17.77/32", "2001:db8:20:1000::77/128"),
		route("d", v.peers[3], "2001:db8:30::/48"),
	}
	return s
}

// routes has destinations in nets within nets, and sources that belong to
// another route than the one they come by, or to none, in the same family or in
// the other.
func (v inside) routes() (private, public [][]byte) {
	for _, d := range []string{"10.10.17.1", "10.10.32.1", "10.10.17.77", "172.31.0.1", "172.32.0.1"} {
		private = append(private, v.out(ip{src: "10.1.0.7", dst: d, proto: 200, payload: text(20)}))
	}
	for _, d := range []string{"2001:db8:20:1fff::1", "2001:db8:20:2000::1", "2001:db8:20:1000::77", "fd7f::1", "2001:db8:30::1", "2001:db8:31::1"} {
		private = append(private, v.out(ip6{src: here6, dst: d, next: protoTest, payload: text(20)}))
	}
	seq := 0
	for _, spi := range []uint32{0xaa, 0xbb} {
		for _, s := range []string{"10.10.17.1", "10.10.32.1", "10.10.17.77", "172.16.0.1", "8.8.8.8"} {
			seq++
			public = append(public, v.in(spi, seq, ip{src: s, dst: "10.1.0.7", proto: 200, payload: text(20)}))
		}
		for _, s := range []string{"2001:db8:20:1000::1", "2001:db8:20:2000::1", "2001:db8:20:1000::77", "fd12::1", "2001:db8:30::1", stranger6} {
			seq++
			public = append(public, v.in(spi, seq, ip6{src: s, dst: here6, next: protoTest, payload: text(20)}))
		}
	}
	// A packet of one family under the next header of the other.
	return private, append(public, v.outer(esp(0xaa, 90, ip{src: "10.10.17.1", dst: "10.1.0.7", proto: 200}.packet(), nil, 41)),
		v.outer(esp(0xaa, 91, ip6{src: "2001:db8:20:1000::1", dst: here6, next: protoTest}.packet(), nil, 4)))
}

func (v inside) defaultSpec() tables.Spec {
	s := v.spec()
	s.Routes[0].Nets = nil
	s.Routes[0] = route("site2", v.peers[0], "0.0.0.0/0", "::/0")
	return s
}

// everywhere has addresses at the edges of what there is, for a default route.
func (v inside) everywhere() (private, public [][]byte) {
	for i, a := range []string{"1.0.0.0", "8.8.8.8", "126.255.255.255", "128.0.0.0", "223.255.255.255", "224.0.0.1", "0.1.2.3"} {
		private = append(private, v.out(ip{src: "10.1.0.7", dst: a, proto: 200}))
		public = append(public, v.in(inSPI, i+1, ip{src: a, dst: "10.1.0.7", proto: 200}))
	}
	for i, a := range []string{"::2", "64:ff9b::1", "2001::1", "fdff::1", "fe7f:ffff::1", "fec0::1", "fe80::9", "ff02::1"} {
		private = append(private, v.out(ip6{src: here6, dst: a, next: protoTest}))
		public = append(public, v.in(inSPI, i+20, ip6{src: a, dst: here6, next: protoTest}))
	}
	return private, public
}

// classes has all pairs of inner and outer ECN fields, and DSCPs, with DF and
// without.
func (v inside) classes() (private, public [][]byte) {
	mark := func(f []byte, tos byte) []byte {
		if f[14]>>4 == 6 {
			return class6(f, tos)
		}
		return marked(f, tos)
	}
	for i := range byte(4) {
		p := there4(60)
		p.df = i%2 == 0
		private = append(private, mark(v.out(p), 0xb8|i), mark(v.out(there66(60)), 0x28|i))
		for j := range byte(4) {
			a, b := raw(mark(v.out(here4(60)), 0x50|i)[14:]), raw(mark(v.out(here66(60)), 0x28|i)[14:])
			public = append(public, mark(v.in(inSPI, len(public)+1, a), 0x48|j), mark(v.in(inSPI, len(public)+2, b), 0x48|j))
		}
	}
	return private, public
}

type raw []byte

func (r raw) packet() []byte { return r }

// neighbours has resolution in both families on the private side; on the public
// one there is only one.
func (v inside) neighbours() (private, public [][]byte) {
	p, _ := arp()
	q, r := nd()
	for _, f := range slices.Concat(p, q) {
		f = slices.Clone(f)
		if f[0]&1 == 0 {
			copy(f, v.mac[:])
		}
		private = append(private, f)
	}
	_, s := arp()
	return private, slices.Concat(r, s)
}

// off has packets of the other family for a gateway that has it not.
func (v inside) off() (private, public [][]byte) {
	private = [][]byte{
		v.out(there4(60)), v.out(there66(60)), v.out(echo(8, "10.1.0.7", "10.1.0.254", 64)), v.out(echo6(8, here6, private6, 64)),
		arpFrame([6]byte{255, 255, 255, 255, 255, 255}, 1, "10.1.0.1", "10.1.0.254"),
	}
	return private, [][]byte{v.in(inSPI, 1, here4(60)), v.in(inSPI, 2, here66(60))}
}

// bothPMTU has a narrow path: below what IPv6 must be given, its packets go out
// without DF.
func bothPMTU() (private, public [][]byte) {
	send := func(p packet) { private = append(private, in4.out(p)) }
	say := func(mtu uint16, seq uint32) {
		quoted := ip{src: "203.0.113.1", dst: "203.0.113.2", proto: layers.IPProtocolESP, df: true, payload: quotedESP(0x1000, seq, 600)}.packet()[:28]
		m := serialize(&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: mtu}, gopacket.Payload(quoted))
		public = append(public, toPublic(ip{src: "198.51.100.1", dst: "203.0.113.1", proto: layers.IPProtocolICMPv4, payload: m}))
	}
	df := func(n int) ip { p := there4(n); p.df = true; return p }
	send(there66(1446))
	say(1400, 1) // 1346 bytes
	send(there66(1347))
	say(600, 1) // 546 bytes, and for IPv6 as many as ever
	for _, p := range []packet{df(547), df(546), there66(1281), there66(1280), there66(547), there66(546)} {
		send(p)
	}
	return private, public
}

// bothFragment has packets too big for a tunnel of IPv6 that takes 401 bytes.
func bothFragment() (private, public [][]byte) {
	for _, n := range []int{401, 402, 1149} {
		private = append(private, in6.out(there4(n)), in6.out(there66(n)))
	}
	return private, nil
}
