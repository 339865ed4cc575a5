package golden

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vita/forwarding/client"
	"vita/forwarding/tables"
)

// The cases of a gateway of IPv6.
var cases6 = []*testCase{
	{name: "outbound6", spec: spec6, sas: sas, input: outbound6},
	{name: "inbound6", spec: spec6, sas: sas, input: inbound6},
	{name: "icmp6", spec: spec6, sas: sas, input: icmp6},
	{name: "nd", spec: spec6, sas: sas, input: nd},
	{name: "malformed6", spec: spec6, sas: sas, input: malformed6},
	{name: "routes6", spec: routesSpec6, sas: routesSAs6, input: routes6},
	{name: "tfc6", spec: tfcSpec6, sas: sas, input: outbound6},
	{name: "no-sa6", spec: spec6, input: outbound6},
	{name: "key-exchange6", spec: spec6, input: keyExchange6},
}

func init() { cases = append(cases, cases6...) }

const (
	here6, there6  = "2001:db8:10::7", "2001:db8:20::9"
	private6       = "2001:db8:1::1" // its default MAC is made from the hash 0x15f15b5e
	public6, peer6 = "2001:db8:f::1", "2001:db8:f::2"
	privateNext6   = "2001:db8:1::2"
	publicNext6    = "fe80::ff"
	linkLocal6     = "fe80::7"
	stranger6      = "2001:db8:bad::1"
	protoTest      = layers.IPProtocol(200)
)

var (
	privateMAC6 = [6]byte{0x2a, 0xbb, 0x5e, 0x5b, 0xf1, 0x15}
	publicMAC6  = [6]byte{2, 0, 0, 0, 6, 1}
)

func spec6() tables.Spec {
	return tables.Spec{
		Private: &tables.Interface{IP: addr(private6), NextHop: addr(privateNext6), NextHopMAC: stationMAC},
		Public: []tables.PublicInterface{{
			Interface: tables.Interface{IP: addr(public6), MAC: publicMAC6, NextHop: addr(publicNext6), NextHopMAC: stationMAC}, Queue: 1,
		}},
		Routes: []tables.Route{route("site2", peer6, "2001:db8:20::/44")},
	}
}

func tfcSpec6() tables.Spec {
	s := spec6()
	s.TFC, s.MTU = true, 1400
	return s
}

func routesSpec6() tables.Spec {
	s := spec6()
	s.Routes = []tables.Route{
		route("a", "2001:db8:f::a", "2001:db8:20:1000::/52"),
		route("b", "2001:db8:f::b", "2001:db8:20::/48", "fd00::/9"),
		route("c", "2001:db8:f::c", "2001:db8:20:1000::77/128"),
		route("d", "2001:db8:f::d", "::/0"),
	}
	return s
}

var routesSAs6 = []client.SA{
	{Route: "a", Queue: 1, Direction: client.Outbound, SPI: 0xa, Key: key, Salt: salt},
	{Route: "b", Queue: 1, Direction: client.Outbound, SPI: 0xb, Key: key, Salt: salt},
	{Route: "c", Queue: 1, Direction: client.Outbound, SPI: 0xc, Key: key, Salt: salt},
	{Route: "d", Queue: 1, Direction: client.Outbound, SPI: 0xd, Key: key, Salt: salt},
	{Route: "a", Queue: 1, Direction: client.Inbound, SPI: 0xaa, Key: key, Salt: salt},
	{Route: "b", Queue: 1, Direction: client.Inbound, SPI: 0xbb, Key: key, Salt: salt},
}

// ip6 makes an IPv6 packet.
type ip6 struct {
	src, dst string
	hops     uint8
	next     layers.IPProtocol
	payload  []byte
}

func (p ip6) packet() []byte {
	if p.hops == 0 {
		p.hops = 64
	}
	l := &layers.IPv6{
		Version: 6, HopLimit: p.hops, NextHeader: p.next, TrafficClass: 0x2e << 2, FlowLabel: 0x12345,
		SrcIP: addr(p.src).AsSlice(), DstIP: addr(p.dst).AsSlice(),
	}
	return serialize(l, gopacket.Payload(p.payload))
}

func toPrivate6(p ip6) []byte { return ethernet(privateMAC6, layers.EthernetTypeIPv6, p.packet()) }
func toPublic6(p ip6) []byte  { return ethernet(publicMAC6, layers.EthernetTypeIPv6, p.packet()) }

func outer6(payload []byte) []byte {
	return toPublic6(ip6{src: peer6, dst: public6, next: layers.IPProtocolESP, payload: payload})
}

func tunnel6(spi uint32, seq uint64, inner []byte) []byte {
	return outer6(esp(spi, seq, inner, make([]byte, -(len(inner)+2)&3), 41))
}

func fromSite26(n int) ip6 { return ip6{src: there6, dst: here6, next: protoTest, payload: text(n)} }

func outbound6() (private, public [][]byte) {
	for _, n := range []int{0, 1, 2, 3, 4, 26, 100, 576, 1000, 1386, 1387} { // the last is too big
		private = append(private, toPrivate6(ip6{src: here6, dst: there6, next: protoTest, payload: text(n)}))
	}
	private = append(private,
		append(toPrivate6(ip6{src: here6, dst: there6, next: protoTest, payload: text(3)}), make([]byte, 23)...), // Ethernet's padding
		toPrivate6(extended(here6, there6, 64, text(30))),                                                        // extension headers are the hosts' business
	)
	return private, nil
}

// extended is a packet with a hop-by-hop, a destination options and a first
// fragment's header in front of its payload.
func extended(src, dst string, hops uint8, payload []byte) ip6 {
	return ip6{src: src, dst: dst, hops: hops, next: 0, payload: slices.Concat(
		[]byte{60, 0, 1, 4, 0, 0, 0, 0}, []byte{44, 1, 1, 12}, make([]byte, 12), []byte{200, 0, 0, 1, 0, 0, 0, 9}, payload,
	)}
}

func inbound6() (private, public [][]byte) {
	for i, n := range []int{0, 1, 2, 3, 4, 26, 100, 576, 1000, 1386} {
		public = append(public, tunnel6(inSPI, uint64(i+1), fromSite26(n).packet()))
	}
	inner := fromSite26(50).packet()
	public = append(public,
		outer6(esp(inSPI, 20, append(inner, make([]byte, 700)...), []byte{1, 2}, 41)),
		outer6(esp(inSPI, 21, inner, counted(254), 41)),
		outer6(esp(inSPI, 22, text(60), nil, 59)),
		tunnel6(inSPI, 23, extended(there6, here6, 64, text(30)).packet()),
	)
	return nil, public
}

// message makes an ICMPv6 message with its checksum.
func message6(typ, code uint8, src, dst string, hops uint8, body []byte) ip6 {
	l := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, SrcIP: addr(src).AsSlice(), DstIP: addr(dst).AsSlice()}
	m := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, code)}
	if err := m.SetNetworkLayerForChecksum(l); err != nil {
		panic(err)
	}
	return ip6{src: src, dst: dst, hops: hops, next: layers.IPProtocolICMPv6, payload: serialize(m, gopacket.Payload(body))}
}

func echo6(n int, src, dst string, hops uint8) ip6 {
	return message6(128, 0, src, dst, hops, append([]byte{0, 99, 0, 1}, text(n)...))
}

func error6(typ, code uint8, src, dst string) ip6 {
	quoted := ip6{src: dst, dst: src, next: 17, payload: text(8)}.packet()
	return message6(typ, code, src, dst, 64, append(make([]byte, 4), quoted...))
}

func icmp6() (private, public [][]byte) {
	expired := ip6{src: here6, dst: there6, next: 17, hops: 1, payload: text(40)}
	long := expired
	long.payload = text(1300)
	expiredError := error6(3, 0, here6, there6)
	expiredError.hops = 1
	laterFragment := ip6{src: here6, dst: there6, hops: 1, next: 44, payload: append([]byte{17, 0, 0, 8, 0, 0, 0, 9}, text(30)...)}
	hidden := expiredError
	hidden.next, hidden.payload = 60, append([]byte{58, 0, 1, 4, 0, 0, 0, 0}, expiredError.payload...)
	cut := ip6{src: here6, dst: there6, hops: 1, next: 60, payload: []byte{58, 9}}
	private = [][]byte{
		toPrivate6(expired), toPrivate6(long),
		toPrivate6(ip6{src: here6, dst: there6, next: 17, payload: text(1387)}), // too big
		toPrivate6(expiredError),  // no error about an error
		toPrivate6(hidden),        // nor behind an extension header
		toPrivate6(laterFragment), // nor about a later fragment
		toPrivate6(cut),           // nor where it cannot be known
		toPrivate6(extended(here6, there6, 1, text(10))),
		toPrivate6(echo6(56, here6, private6, 1)),
		toPrivate6(echo6(56, linkLocal6, private6, 64)),
		toPrivate6(ip6{src: here6, dst: private6, next: 17, payload: text(20)}),
		toPrivate6(ip6{src: here6, dst: private6, next: 44, payload: append([]byte{58, 0, 0, 1, 0, 0, 0, 9}, text(20)...)}),
		toPrivate6(echo6(56, here6, there6, 64)), // not ours: into the tunnel
	}
	public = [][]byte{
		toPublic6(echo6(1400, stranger6, public6, 64)),
		toPublic6(ip6{src: stranger6, dst: public6, next: 6, payload: text(20)}),
		toPublic6(ip6{src: stranger6, dst: public6, next: 17, payload: text(20)}),
		toPublic6(ip6{src: stranger6, dst: public6, next: 60, payload: append([]byte{50, 0, 1, 4, 0, 0, 0, 0}, text(40)...)}),
		tunnel6(inSPI, 1, ip6{src: there6, dst: here6, next: 17, hops: 1, payload: text(40)}.packet()),
		tunnel6(inSPI, 2, echo6(56, there6, private6, 64).packet()),
		tunnel6(inSPI, 3, ip6{src: there6, dst: private6, next: 17, payload: text(20)}.packet()),
		tunnel6(inSPI, 4, ip6{src: there6, dst: private6, next: 44, payload: append([]byte{58, 0, 0, 1, 0, 0, 0, 9}, text(20)...)}.packet()),
	}
	for _, m := range [][2]uint8{
		{1, 0},
		{1, 1},
		{1, 2},
		{1, 3},
		{1, 4},
		{1, 5},
		{1, 6},
		{1, 7},
		{2, 0},
		{2, 9},
		{3, 0},
		{3, 1},
		{3, 2},
		{4, 0},
		{4, 1},
		{4, 2},
		{4, 3},
		{100, 0},
		{127, 0},
		{129, 0},
		{130, 0},
		{200, 0},
	} {
		private = append(private, toPrivate6(error6(m[0], m[1], here6, private6)))
		public = append(public,
			toPublic6(error6(m[0], m[1], stranger6, public6)),
			tunnel6(inSPI, uint64(len(public)), error6(m[0], m[1], there6, private6).packet()))
	}
	bad := toPrivate6(echo6(56, here6, private6, 64))
	bad[len(bad)-1]++
	private = append(private, bad, toPrivate6(message6(128, 0, here6, private6, 64, []byte{1, 2, 3})))
	return private, public
}

// ndFrame is a neighbour discovery frame.
func ndFrame(dst [6]byte, from, to string, hops uint8, typ, flags uint8, target string, options ...byte) []byte {
	body := slices.Concat([]byte{flags, 0, 0, 0}, addr(target).AsSlice(), options)
	return ethernet(dst, layers.EthernetTypeIPv6, message6(typ, 0, from, to, hops, body).packet())
}

func macOption(typ uint8, mac net.HardwareAddr) []byte { return append([]byte{typ, 1}, mac...) }

func nd() (private, public [][]byte) {
	group := [6]byte{0x33, 0x33, 0xff, 0, 0, 1} // of both of our addresses
	const solicited = "ff02::1:ff00:1"
	all := [6]byte{0x33, 0x33, 0, 0, 0, 1}
	mac := stationMAC[:]
	source, target := macOption(1, mac), macOption(2, mac)
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6}
	private = [][]byte{
		ndFrame(group, privateNext6, solicited, 255, 135, 0, private6, source...),                          // answered
		ndFrame(privateMAC6, linkLocal6, private6, 255, 135, 0, private6),                                  // a probe without option: answered
		ndFrame(group, "::", solicited, 255, 135, 0, private6, nonce...),                                   // duplicate address detection: answered to all
		ndFrame(group, here6, solicited, 255, 135, 0, "2001:db8:1::9:0:1", source...),                      // another with our group
		ndFrame(privateMAC6, privateNext6, private6, 255, 136, 0x60, privateNext6, target...),              // from the next hop
		ndFrame(all, privateNext6, "ff02::1", 255, 136, 0x20, privateNext6, target...),                     // unsolicited
		ndFrame(privateMAC6, here6, private6, 255, 136, 0x60, here6, target...),                            // from another
		ndFrame(privateMAC6, privateNext6, private6, 255, 136, 0x60, privateNext6),                         // without an address
		ndFrame(all, "fe80::1", "ff02::1", 255, 134, 0, "::"),                                              // a router's
		ndFrame(group, privateNext6, solicited, 254, 135, 0, private6, source...),                          // hop limit
		ndFrame(group, privateNext6, solicited, 255, 135, 0, "ff02::1", source...),                         // target is a group
		ndFrame(group, "::", solicited, 255, 135, 0, private6, source...),                                  // nobody's address
		ndFrame(privateMAC6, "::", private6, 255, 135, 0, private6),                                        // detection by unicast
		ndFrame(group, privateNext6, solicited, 255, 135, 0, private6, 1, 0, 0, 0, 0, 0, 0, 0),             // length 0
		ndFrame(group, privateNext6, solicited, 255, 135, 0, private6, 1, 2, 0, 0, 0, 0, 0, 0),             // length beyond
		ndFrame(group, privateNext6, solicited, 255, 135, 0, private6, 1),                                  // half an option
		ndFrame(all, privateNext6, "ff02::1", 255, 136, 0x60, privateNext6, target...),                     // solicited, to a group
		ndFrame(privateMAC6, privateNext6, private6, 255, 136, 0x60, privateNext6, 2, 1, 1, 0, 0, 0, 0, 1), // a group's MAC
	}
	code := ndFrame(group, privateNext6, solicited, 255, 135, 0, private6, source...)
	code[55] = 1
	binary.BigEndian.PutUint16(code[56:], binary.BigEndian.Uint16(code[56:])-1)
	sum := ndFrame(group, privateNext6, solicited, 255, 135, 0, private6, source...)
	sum[57]++
	short := ethernet(group, layers.EthernetTypeIPv6, message6(135, 0, privateNext6, solicited, 255, make([]byte, 19)).packet())
	private = append(private, code, sum, short)
	public = [][]byte{
		ndFrame(group, publicNext6, solicited, 255, 135, 0, public6, source...),
		ndFrame(publicMAC6, publicNext6, public6, 255, 136, 0x60, publicNext6, target...),
		ndFrame(publicMAC6, publicNext6, public6, 254, 136, 0x60, publicNext6, target...),
		ndFrame(publicMAC6, stranger6, public6, 255, 136, 0x60, stranger6, target...),
	}
	return private, public
}

// malformed6 has every frame that must be dropped, and good ones at the end.
func malformed6() (private, public [][]byte) {
	good := toPrivate6(ip6{src: here6, dst: there6, next: protoTest, payload: text(60)})
	damage := func(f []byte, at int, v ...byte) []byte {
		f = bytes.Clone(f)
		copy(f[at:], v)
		return f
	}
	for n := 14; n < len(good); n += 7 {
		private = append(private, good[:n])
	}
	private = append(private,
		damage(good, 14, 0x45), damage(good, 18, 0xff, 0xff), damage(good, 12, 8, 0), damage(good, 12, 8, 6), damage(good, 0, 2, 9), damage(good, 6, 1),
		damage(good, 0, 0x33, 0x33), // to a group's MAC
	)
	for _, a := range []string{"::", "::1", "ff02::1", "ff0e::1", "::ffff:10.0.0.1", linkLocal6} {
		private = append(private,
			toPrivate6(ip6{src: a, dst: there6, next: protoTest}), toPrivate6(ip6{src: here6, dst: a, next: protoTest}),
			toPrivate6(echo6(8, a, private6, 64))) // the last is answered to the link-local one
	}
	private = append(private, toPrivate6(ip6{src: here6, dst: stranger6, next: protoTest}), good)
	in := tunnel6(inSPI, 1, fromSite26(60).packet())
	for n := range 37 {
		public = append(public, outer6(in[54:][:n])) // ESP of every length that is too short
	}
	public = append(public,
		in[:53], damage(in, 14, 0x45), damage(in, 18, 0xff), damage(in, 12, 8, 0), damage(in, 53, 9), damage(in, 0, 0x33, 0x33),
		damage(in, 54, 0, 0, 0, 0), damage(in, 54, 0, 1, 0, 0), damage(in, len(in)-1, in[len(in)-1]^1), damage(in, 65, in[65]^1),
		outer6(esp(inSPI, 2, text(30), nil, 4)), // IPv4 inside
		outer6(esp(inSPI, 3, nil, nil, 41)),
		outer6(esp(inSPI, 4, text(46), nil, 41)),
		outer6(seal(inSPI, 6, append(text(20), 21, 41))), // pad length
		tunnel6(inSPI, 7, ip6{src: stranger6, dst: here6, next: protoTest}.packet()),
		tunnel6(inSPI, 8, ip6{src: here6, dst: here6, next: protoTest}.packet()),
		tunnel6(inSPI, 9, ip6{src: there6, dst: "ff0e::1", next: protoTest}.packet()),
		tunnel6(inSPI, 10, ip6{src: linkLocal6, dst: here6, next: protoTest}.packet()),
		tunnel6(inSPI, 11, fromSite26(60).packet()[:99]),
		toPublic6(ip6{src: peer6, dst: public6, next: 44, payload: append([]byte{50, 0, 0, 1, 0, 0, 0, 9}, in[54:]...)}),
		in, in, // the second is a replay
	)
	return private, public
}

func routes6() (private, public [][]byte) {
	for _, dst := range []string{
		"2001:db8:20:1000::", "2001:db8:20:1fff:ffff::1", "2001:db8:20:2000::1", "2001:db8:20:fff::1", "2001:db8:20:1000::77", "2001:db8:20:1000::76",
		"fcff::1", "fd00::1", "fd7f::1", "fd80::1", "2001:db8:21::1", stranger6,
	} {
		private = append(private, toPrivate6(ip6{src: here6, dst: dst, next: protoTest, payload: text(20)}))
	}
	for i, c := range []struct {
		spi uint32
		src string
	}{
		{0xaa, "2001:db8:20:1000::1"},
		{0xbb, "2001:db8:20:1000::1"},
		{0xaa, "2001:db8:20:2000::1"},
		{0xbb, "2001:db8:20:2000::1"},
		{0xbb, "fd12::1"},
		{0xaa, "2001:db8:20:1000::77"},
		{0xbb, stranger6},
	} {
		public = append(public, tunnel6(c.spi, uint64(i+1), ip6{src: c.src, dst: here6, next: protoTest, payload: text(20)}.packet()))
	}
	return private, public
}

func keyExchange6() (private, public [][]byte) {
	datagram := func(port layers.UDPPort, n int) []byte {
		l := &layers.IPv6{Version: 6, NextHeader: 17, HopLimit: 64, SrcIP: addr(peer6).AsSlice(), DstIP: addr(public6).AsSlice()}
		u := &layers.UDP{SrcPort: 303, DstPort: port}
		if err := u.SetNetworkLayerForChecksum(l); err != nil {
			panic(err)
		}
		return ethernet(publicMAC6, layers.EthernetTypeIPv6, serialize(l, u, gopacket.Payload(text(n))))
	}
	good := datagram(303, 12)
	change := func(at int, v ...byte) []byte {
		f := bytes.Clone(good)
		copy(f[at:], v)
		return f
	}
	return nil, [][]byte{good, datagram(303, 88), datagram(500, 12), change(60, 0, 0), change(59, 19), change(70, 0xee), good[:60]}
}
