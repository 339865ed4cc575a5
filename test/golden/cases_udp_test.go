package golden

import (
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vita/forwarding/client"
	"vita/forwarding/tables"
)

func init() {
	both := append(slices.Clone(sas), client.SA{Route: "plain", Queue: 1, Direction: client.Outbound, SPI: 0x2000, Key: key, Salt: salt})
	cases = append(
		cases,
		&testCase{name: "udp", spec: udpSpec, sas: both, input: udpBoth},
		&testCase{name: "udp6", spec: udpSpec6, sas: sas, input: udp6},
		&testCase{name: "udp-other", spec: udpSpec, sas: sas, input: udpOther},
		&testCase{name: "udp-none", spec: spec, sas: sas, input: udpOther},
	)
}

// udpSpec has a route in UDP and one that is not.
func udpSpec() tables.Spec {
	s := spec()
	s.Routes[0].UDP = &tables.UDP{Port: 4501}
	s.Routes = append(s.Routes, route("plain", "203.0.113.3", "10.3.0.0/16"))
	return s
}

func udpSpec6() tables.Spec {
	s := spec6()
	s.UDPPort = 4499
	s.Routes[0].UDP = &tables.UDP{}
	return s
}

// datagram is a UDP packet, with a checksum where that is asked for.
func datagram(src, dst uint16, payload []byte, network gopacket.NetworkLayer) []byte {
	u := &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
	o := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: network != nil}
	if network != nil {
		if err := u.SetNetworkLayerForChecksum(network); err != nil {
			panic(err)
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, o, u, gopacket.Payload(payload)); err != nil {
		panic(err)
	}
	return slices.Clone(b.Bytes())
}

func inUDP(payload []byte) []byte {
	return toPublic(ip{src: "203.0.113.2", dst: "203.0.113.1", proto: layers.IPProtocolUDP, df: true, payload: datagram(1024, 4500, payload, nil)})
}

func outer4(f []byte) []byte { return f[14+20:] } // what is behind the outer header

// udpBoth mixes packets of both routes, of all sizes up to what just fits and
// what just does not, and brings some back in UDP, others without.
func udpBoth() (private, public [][]byte) {
	for _, n := range []int{0, 1, 2, 3, 4, 100, 1000, 1418, 1419, 1426, 1427} {
		for _, to := range []string{"10.2.0.9", "10.3.0.9"} {
			private = append(private, toPrivate(ip{src: "10.1.0.7", dst: to, proto: 200, df: true, payload: text(n)}))
		}
	}
	_, in := inbound()
	for i, f := range in {
		if i%3 == 0 {
			public = append(public, f)
		} else {
			public = append(public, inUDP(outer4(f)))
		}
	}
	return private, public
}

// udp6 is the same of IPv6, where datagrams have checksums, with any of which
// packets come in.
func udp6() (private, public [][]byte) {
	private, _ = outbound6()
	_, in := inbound6()
	l := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, SrcIP: addr(peer6).AsSlice(), DstIP: addr(public6).AsSlice()}
	for i, f := range in {
		if len(f)+8 > 14+1500 {
			public = append(public, f) // as large as fits without UDP
			continue
		}
		b := datagram(4500, 4499, f[14+40:], l)
		if i%2 == 0 {
			b[6], b[7] = 0, 0
		}
		public = append(public, toPublic6(ip6{src: peer6, dst: public6, next: 17, payload: b}))
	}
	return private, public
}

// udpOther is what comes to the port and is no ESP, or no good one.
func udpOther() (private, public [][]byte) {
	_, in := inbound()
	good := outer4(in[5])
	forged := slices.Clone(good)
	forged[len(forged)-1] ^= 1
	long := inUDP(good)
	long[39]++
	short := inUDP(good)
	short[38], short[39] = 0, 8
	fragment := inUDP(good)
	fragment[20] |= 0x20 // more fragments; the checksum stays right by this:
	fragment[24] -= 0x20
	return nil, [][]byte{
		inUDP([]byte{0xff}), inUDP(nil), inUDP([]byte{0xff, 0xff}), inUDP(make([]byte, 4)), inUDP(make([]byte, 60)),
		inUDP([]byte{0, 0, 0, 1, 0, 0, 0, 1}), inUDP(forged), long, short, fragment,
		toPublic(ip{src: "203.0.113.2", dst: "203.0.113.1", proto: layers.IPProtocolUDP, payload: []byte{0x11, 0x94, 0x11, 0x94, 0, 8}}),
		inUDP(good), inUDP(good),
	}
}
