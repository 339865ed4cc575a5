package golden

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vita/forwarding/client"
	"vita/forwarding/tables"
)

// testCase is one gateway and the frames that meet it. The frames are made by
// gopacket and the standard library, not by the code under test.
type testCase struct {
	name     string
	spec     func() tables.Spec
	sas      []client.SA
	recorded string // public input from this file instead of input
	batch    bool   // the frames of a side arrive together
	lead     int    // so many frames at the public port arrive before, together; none of them is answered
	input    func() (private, public [][]byte)

	// Of a timed case, instead of input: the frames, when the case ends, and how
	// often the gateway announces itself.
	timed         func() (private, public []stamped)
	until         time.Duration
	step          time.Duration // of its clock; default clockStep
	announcements int
}

var cases = []*testCase{
	{name: "vita-to-0", spec: vitaSpec(1), sas: vitaSAs(1), recorded: "testdata/vita/ske.pcap"},
	{name: "vita-to-1", spec: vitaSpec(2), sas: vitaSAs(2), recorded: "testdata/vita/ske.pcap"},
	{name: "outbound", spec: spec, sas: sas, input: outbound},
	{name: "inbound", spec: spec, sas: sas, input: inbound},
	{name: "replay", spec: spec, sas: sas, input: replay},
	{name: "icmp", spec: spec, sas: sas, input: icmp},
	{name: "arp", spec: spec, sas: sas, input: arp},
	{name: "malformed", spec: spec, sas: sas, input: malformed},
	{name: "routes", spec: routesSpec, sas: routesSAs, input: routes},
	{name: "tfc", spec: tfcSpec, sas: sas, input: outbound},
	{name: "no-sa", spec: spec, input: outbound},
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

var (
	stationMAC = [6]byte{2, 0, 0, 0, 1, 1}
	privateMAC = [6]byte{0x2a, 0xbb, 10, 1, 0, 254}
	publicMAC  = [6]byte{0x3a, 0xbb, 203, 0, 113, 1}
	key        = unhex("000102030405060708090a0b0c0d0e0f")
	salt       = [4]byte{0xa0, 0xa1, 0xa2, 0xa3}
)

func spec() tables.Spec {
	return tables.Spec{
		Private: &tables.Interface{IP: addr("10.1.0.254"), NextHop: addr("10.1.0.1"), NextHopMAC: stationMAC},
		Public: []tables.PublicInterface{{
			Interface: tables.Interface{IP: addr("203.0.113.1"), NextHop: addr("203.0.113.254"), NextHopMAC: stationMAC}, Queue: 1,
		}},
		Routes: []tables.Route{route("site2", "203.0.113.2", "10.2.0.0/16")},
	}
}

func route(id, gateway string, nets ...string) tables.Route {
	r := tables.Route{ID: id, SPI: 1001, Gateways: []tables.Gateway{{Queue: 1, IP: addr(gateway)}}}
	for _, n := range nets {
		r.Nets = append(r.Nets, netip.MustParsePrefix(n))
	}
	return r
}

func tfcSpec() tables.Spec {
	s := spec()
	s.TFC, s.MTU = true, 600
	return s
}

// routesSpec has prefix lengths that are no multiples of 8, and routes within
// routes.
func routesSpec() tables.Spec {
	s := spec()
	s.Routes = []tables.Route{
		route("a", "203.0.113.10", "10.10.16.0/20"),
		route("b", "203.0.113.11", "10.10.0.0/16", "172.16.0.0/12"),
		route("c", "203.0.113.12", "10.10.17.77/32"),
		route("d", "203.0.113.13", "0.0.0.0/0"),
	}
	return s
}

var sas = []client.SA{
	{Route: "site2", Queue: 1, Direction: client.Outbound, SPI: 0x1000, Key: key, Salt: salt},
	{Route: "site2", Queue: 1, Direction: client.Inbound, SPI: 0xfffffff0, Key: key, Salt: salt},
}

var routesSAs = []client.SA{
	{Route: "a", Queue: 1, Direction: client.Outbound, SPI: 0xa, Key: key, Salt: salt},
	{Route: "b", Queue: 1, Direction: client.Outbound, SPI: 0xb, Key: key, Salt: salt},
	{Route: "c", Queue: 1, Direction: client.Outbound, SPI: 0xc, Key: key, Salt: salt},
	{Route: "d", Queue: 1, Direction: client.Outbound, SPI: 0xd, Key: key, Salt: salt},
	{Route: "a", Queue: 1, Direction: client.Inbound, SPI: 0xaa, Key: key, Salt: salt},
	{Route: "b", Queue: 1, Direction: client.Inbound, SPI: 0xbb, Key: key, Salt: salt},
}

// vitaSpec is one of the two nodes of the recording: 203.0.113.<n>.
func vitaSpec(n byte) func() tables.Spec {
	return func() tables.Spec {
		other := 3 - n
		pub := netip.AddrFrom4([4]byte{203, 0, 113, n})
		peer := netip.AddrFrom4([4]byte{203, 0, 113, other})
		return tables.Spec{
			Private: &tables.Interface{IP: addr("192.0.2.254"), NextHop: addr("192.0.2.1"), NextHopMAC: stationMAC},
			Public: []tables.PublicInterface{{
				Interface: tables.Interface{IP: pub, NextHop: peer, MAC: [6]byte{2, 0, 0, 0, n - 1, 1}, NextHopMAC: [6]byte{2, 0, 0, 0, other - 1, 1}},
				Queue:     1,
			}},
			Routes: []tables.Route{route("test1", peer.String(), "10.0.0.0/8")},
			MTU:    1440,
		}
	}
}

func vitaSAs(n byte) []client.SA {
	in := client.SA{Route: "test1", Queue: 1, Direction: client.Inbound, SPI: 256}
	if n == 1 {
		in.Key, in.Salt = unhex("6a4211c792fd1550c75f1d9e65430b9f"), [4]byte{0x50, 0xaa, 0xa3, 0xaf}
	} else {
		in.Key, in.Salt = unhex("b6da32d05a936975574dc122654fce91"), [4]byte{0xb6, 0xef, 0xc7, 0xe9}
	}
	return []client.SA{in}
}

// ip makes an IPv4 packet.
type ip struct {
	src, dst string
	ttl      uint8
	proto    layers.IPProtocol
	df       bool
	payload  []byte
}

func (p ip) packet() []byte {
	if p.ttl == 0 {
		p.ttl = 64
	}
	l := &layers.IPv4{
		Version: 4, TTL: p.ttl, Protocol: p.proto, Id: 7,
		SrcIP: addr(p.src).AsSlice(), DstIP: addr(p.dst).AsSlice(),
	}
	if p.df {
		l.Flags = layers.IPv4DontFragment
	}
	return serialize(l, gopacket.Payload(p.payload))
}

func serialize(l ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		panic(err)
	}
	return bytes.Clone(b.Bytes())
}

func ethernet(dst [6]byte, typ layers.EthernetType, payload []byte) []byte {
	return append(serialize(&layers.Ethernet{SrcMAC: net.HardwareAddr(stationMAC[:]), DstMAC: net.HardwareAddr(dst[:]), EthernetType: typ})[:14], payload...)
}

func toPrivate(p ip) []byte { return ethernet(privateMAC, layers.EthernetTypeIPv4, p.packet()) }
func toPublic(p ip) []byte  { return ethernet(publicMAC, layers.EthernetTypeIPv4, p.packet()) }

func text(n int) []byte {
	return bytes.Repeat([]byte("the quick brown fox "), n/20+1)[:n]
}

// esp puts a payload into ESP as RFC 4303 has it.
func esp(spi uint32, seq uint64, payload []byte, padding []byte, next uint8) []byte {
	return seal(spi, seq, slices.Concat(payload, padding, []byte{byte(len(padding)), next}))
}

// seal encrypts payload and trailer as RFC 4106 has it.
func seal(spi uint32, seq uint64, plain []byte) []byte { return sealWith(key, spi, seq, plain) }

func sealWith(key []byte, spi uint32, seq uint64, plain []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	iv := binary.BigEndian.AppendUint64(nil, ^seq) // any that is unique
	aad := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, spi), seq)
	out := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, spi), uint32(seq))
	return gcm.Seal(append(out, iv...), append(salt[:], iv...), plain, aad)
}

func tunnel(spi uint32, seq uint64, inner []byte) []byte {
	padding := make([]byte, -(len(inner)+2)&3) // zeros, as Vita has them
	return outer(esp(spi, seq, inner, padding, 4))
}

func outer(payload []byte) []byte {
	return toPublic(ip{src: "203.0.113.2", dst: "203.0.113.1", proto: layers.IPProtocolESP, df: true, payload: payload})
}

const inSPI = 0xfffffff0

func fromSite2(n int) ip {
	return ip{src: "10.2.0.9", dst: "10.1.0.7", proto: 200, payload: text(n)}
}

func outbound() (private, public [][]byte) {
	for _, n := range []int{0, 1, 2, 3, 4, 26, 100, 576, 1000, 1426} {
		private = append(private, toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, payload: text(n)}))
	}
	// Ethernet pads short frames: the padding stays here.
	private = append(private, append(toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, payload: text(3)}), make([]byte, 23)...))
	return private, nil
}

func inbound() (private, public [][]byte) {
	for i, n := range []int{0, 1, 2, 3, 4, 26, 100, 576, 1000, 1426} {
		public = append(public, tunnel(inSPI, uint64(i+1), fromSite2(n).packet()))
	}
	inner := fromSite2(50).packet()
	public = append(public,
		outer(esp(inSPI, 20, append(inner, make([]byte, 700)...), []byte{1, 2}, 4)), // padded to hide its length
		outer(esp(inSPI, 21, inner, counted(254), 4)),                               // the longest padding
		outer(esp(inSPI, 22, text(60), nil, 59)),                                    // a dummy
		outer(esp(inSPI, 23, inner, bytes.Repeat([]byte{9}, 6), 4)),                 // padding of no kind
	)
	return nil, public
}

// counted is padding as RFC 4303 has it.
func counted(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return b
}

func replay() (private, public [][]byte) {
	in := func(seq uint64) []byte { return tunnel(inSPI, seq, fromSite2(int(seq%7)).packet()) }
	for _, seq := range []uint64{
		1, 1, 2, 5, 3, 3, 4, 0, 5, // each once, 0 never
		200, 73, 72, 73, 199, 200, // 128 back from 200 is 73; 72 is too old
		1<<32 - 1, 1<<32 - 1, 1 << 32, 1<<32 + 5, 1<<32 - 100, 1<<32 - 100, 1<<32 - 123, 1<<32 - 122, // across 2^32
		3 << 32, // far ahead: its low half is taken for 2^32, which has been
		1<<32 + 6,
	} {
		public = append(public, in(seq))
	}
	// A forged number far ahead moves nothing.
	forged := in(1<<32 + 7)
	binary.BigEndian.PutUint32(forged[38:], 0x70000000)
	return nil, append(public, forged, in(1<<32+7))
}

func echo(n int, src, dst string, ttl uint8) ip {
	b := serialize(&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 99, Seq: 1}, gopacket.Payload(text(n)))
	return ip{src: src, dst: dst, proto: layers.IPProtocolICMPv4, ttl: ttl, payload: b}
}

func icmpMessage(typ, code uint8, src, dst string) ip {
	quoted := ip{src: dst, dst: src, proto: 17, payload: text(8)}.packet()
	b := serialize(&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, code)}, gopacket.Payload(quoted))
	return ip{src: src, dst: dst, proto: layers.IPProtocolICMPv4, payload: b}
}

func icmp() (private, public [][]byte) {
	const here, there = "10.1.0.7", "10.2.0.9"
	expired := ip{src: here, dst: there, proto: 17, ttl: 1, payload: text(40)}
	big := ip{src: here, dst: there, proto: 17, df: true, payload: text(1440)}
	bigNoDF := big
	bigNoDF.df = false
	expiredError := icmpMessage(11, 0, here, there)
	expiredError.ttl = 1
	lastFragment := toPrivate(expired)
	binary.BigEndian.PutUint16(lastFragment[20:], 5)
	private = [][]byte{
		toPrivate(expired), toPrivate(big), toPrivate(bigNoDF),
		toPrivate(expiredError), // no error about an error
		fixed(lastFragment),     // nor about a later fragment
		toPrivate(echo(56, here, "10.1.0.254", 1)),
		toPrivate(ip{src: here, dst: "10.1.0.254", proto: 17, payload: text(20)}),
		toPrivate(echo(56, here, there, 64)), // not ours: into the tunnel
	}
	public = [][]byte{
		toPublic(echo(1400, "198.51.100.1", "203.0.113.1", 64)),
		toPublic(ip{src: "198.51.100.1", dst: "203.0.113.1", proto: layers.IPProtocolTCP, payload: text(20)}),
		toPublic(ip{src: "198.51.100.1", dst: "203.0.113.1", proto: layers.IPProtocolUDP, payload: text(20)}),
		tunnel(inSPI, 1, ip{src: there, dst: here, proto: 17, ttl: 1, payload: text(40)}.packet()),
		tunnel(inSPI, 2, echo(56, there, "10.1.0.254", 64).packet()),
		tunnel(inSPI, 3, ip{src: there, dst: "10.1.0.254", proto: 17, payload: text(20)}.packet()),
	}
	for _, m := range [][2]uint8{{0, 0}, {3, 0}, {3, 1}, {3, 2}, {3, 3}, {3, 4}, {3, 5}, {3, 13}, {4, 0}, {5, 0}, {5, 1}, {5, 2}, {5, 3}, {11, 0}, {11, 1}, {11, 2}, {12, 0}, {13, 0}, {200, 0}} {
		private = append(private, toPrivate(icmpMessage(m[0], m[1], here, "10.1.0.254")))
		public = append(public,
			toPublic(icmpMessage(m[0], m[1], "198.51.100.1", "203.0.113.1")),
			tunnel(inSPI, uint64(len(public)), icmpMessage(m[0], m[1], there, "10.1.0.254").packet()))
	}
	return private, public
}

// fixed returns a frame with a right IPv4 header checksum.
func fixed(f []byte) []byte {
	f = bytes.Clone(f)
	h := f[14 : 14+int(f[14]&15)*4]
	h[10], h[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return f
}

func arpFrame(dst [6]byte, op uint16, sender, target string) []byte {
	a := &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: stationMAC[:], SourceProtAddress: addr(sender).AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: addr(target).AsSlice(),
	}
	return ethernet(dst, layers.EthernetTypeARP, append(serialize(a), make([]byte, 18)...))
}

func arp() (private, public [][]byte) {
	all := [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	private = [][]byte{
		arpFrame(all, 1, "10.1.0.1", "10.1.0.254"),        // answered
		arpFrame(privateMAC, 1, "10.1.0.1", "10.1.0.254"), // a probe, by unicast: answered
		arpFrame(all, 1, "0.0.0.0", "10.1.0.254"),         // RFC 5227: answered
		arpFrame(all, 1, "10.1.0.1", "10.1.0.9"),          // for others
		arpFrame(privateMAC, 2, "10.1.0.1", "10.1.0.254"), // from the next hop
		arpFrame(privateMAC, 2, "10.1.0.9", "10.1.0.254"), // from another
	}
	public = [][]byte{
		arpFrame(all, 1, "203.0.113.254", "203.0.113.1"),
		arpFrame(publicMAC, 2, "203.0.113.254", "203.0.113.1"),
		ethernet(all, layers.EthernetTypeARP, text(20)),
		ethernet(all, layers.EthernetTypeARP, text(28)),
	}
	return private, public
}

// malformed has every frame that must be dropped, and good ones at the end.
func malformed() (private, public [][]byte) {
	good := toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, payload: text(60)})
	damage := func(f []byte, at int, v ...byte) []byte {
		f = bytes.Clone(f)
		copy(f[at:], v)
		return f
	}
	for n := 14; n < len(good); n += 7 {
		private = append(private, good[:n])
	}
	private = append(private,
		damage(good, 14, 0x44), damage(good, 14, 0x65), damage(good, 16, 0, 19), damage(good, 16, 0xff, 0xff), damage(good, 24, 0, 0),
		damage(good, 12, 0x86, 0xdd), damage(good, 0, 2, 9), damage(good, 6, 1),
		toPrivate(ip{src: "127.0.0.1", dst: "10.2.0.9", proto: 200}),
		toPrivate(ip{src: "10.1.0.7", dst: "239.1.1.1", proto: 200}),
		toPrivate(ip{src: "10.1.0.7", dst: "10.3.0.9", proto: 200}),
		good,
	)
	in := tunnel(inSPI, 1, fromSite2(60).packet())
	for n := range 37 {
		public = append(public, outer(in[34:][:n])) // ESP of every length that is too short
	}
	public = append(public,
		damage(in, 24, 0, 0), fixed(damage(in, 20, 0x20)), fixed(damage(in, 21, 1)), fixed(damage(in, 33, 9)), fixed(damage(in, 33, 255)),
		damage(in, 34, 0, 0, 0, 0), damage(in, 34, 0, 1, 0, 0), damage(in, len(in)-1, in[len(in)-1]^1), damage(in, 45, in[45]^1),
		outer(esp(inSPI, 2, text(30), nil, 41)),
		outer(esp(inSPI, 3, nil, nil, 4)),
		outer(esp(inSPI, 4, text(30), nil, 4)),
		outer(esp(inSPI, 5, append(fromSite2(60).packet()[:79], 0xff), nil, 4)[:40]),
		badPadding(6),
		tunnel(inSPI, 7, ip{src: "10.3.0.9", dst: "10.1.0.7", proto: 200}.packet()),
		tunnel(inSPI, 8, ip{src: "10.1.0.9", dst: "10.1.0.7", proto: 200}.packet()),
		tunnel(inSPI, 9, ip{src: "10.2.0.9", dst: "224.0.0.1", proto: 200}.packet()),
		options(in), in,
	)
	return private, public
}

// badPadding is an authentic packet whose pad length is beyond its start.
func badPadding(seq uint64) []byte {
	return outer(seal(inSPI, seq, append(text(20), 21, 4)))
}

func options(f []byte) []byte {
	f = slices.Concat(f[:34], []byte{7, 4, 4, 0}, f[34:]) // record route
	f[14] = 0x46
	binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	return fixed(f)
}

func routes() (private, public [][]byte) {
	for _, dst := range []string{
		"10.10.16.0", "10.10.17.1", "10.10.31.255", "10.10.32.1", "10.10.15.255", "10.10.17.77", "10.10.17.76",
		"172.15.0.1", "172.16.0.1", "172.31.255.255", "172.32.0.1", "8.8.8.8", "198.51.100.1",
	} {
		private = append(private, toPrivate(ip{src: "10.1.0.7", dst: dst, proto: 200, payload: text(20)}))
	}
	// A route may send from its own nets, not from those within them that
	// belong to another.
	for i, c := range []struct {
		spi uint32
		src string
	}{{0xaa, "10.10.17.1"}, {0xbb, "10.10.17.1"}, {0xaa, "10.10.32.1"}, {0xbb, "10.10.32.1"}, {0xbb, "172.20.0.1"}, {0xaa, "10.10.17.77"}, {0xbb, "8.8.8.8"}} {
		public = append(public, tunnel(c.spi, uint64(i+1), ip{src: c.src, dst: "10.1.0.7", proto: 200, payload: text(20)}.packet()))
	}
	return private, public
}
