package linuxesp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vita/forwarding/drop"
	"vita/test/interop/linuxesp/peer"
)

// The sizes of payloads: every length of padding, the smallest and the largest
// packets.
var sizes = []int{0, 1, 2, 3, 4, 5, 6, 7, 26, 64, 100, 511, 576, 1000, 1200}

// burst makes datagrams of our host with payloads of given sizes.
func (g *rig) burst(tos byte, df bool, sizes ...int) (frames [][]byte) {
	for _, n := range sizes {
		frames = append(frames, ethernet(privateMAC, hostMAC, g.datagram(g.seq, n, tos, df)))
		g.seq++
	}
	return frames
}

// sealed lets our engine put packets into the tunnel.
func (g *rig) sealed(frames [][]byte) [][]byte {
	g.t.Helper()
	for _, f := range frames {
		g.out.add(len(f) - 14)
	}
	back, out := g.intoEngine(g.private, frames)
	if len(out) != len(frames) || len(back) != 0 {
		g.t.Fatalf("%d frames became %d, and %d came back", len(frames), len(out), len(back))
	}
	for i, f := range out {
		if !g.tunnelled(f) {
			g.t.Fatalf("frame %d is not ESP: %x", i, f)
		}
	}
	return out
}

// arrived checks that the guest's socket has received exactly the given
// datagrams, in this order.
func (g *rig) arrived(frames [][]byte) []peer.Datagram {
	g.t.Helper()
	var got []peer.Datagram
	g.call("Peer.Received", len(frames), &got)
	for i := range min(len(got), len(frames)) {
		payload := frames[i][14+g.inner.headerLen+8:]
		if !bytes.Equal(got[i].Payload, payload) || got[i].From != netip.AddrPortFrom(g.inner.host, port) {
			g.t.Fatalf("datagram %d from %s:\n%x\nwant\n%x", i, got[i].From, got[i].Payload, payload)
		}
	}
	if len(got) != len(frames) {
		g.t.Fatalf("%d datagrams came, want %d", len(got), len(frames))
	}
	return got
}

// guestSends lets the guest send datagrams and returns the ESP frames.
func (g *rig) guestSends(b peer.Burst) [][]byte {
	g.t.Helper()
	b.From, b.To, b.First = netip.AddrPortFrom(g.inner.far, port+1), netip.AddrPortFrom(g.inner.host, port), g.seq
	g.call("Peer.Send", b, new(peer.Sent))
	n := max(b.Times, 1) * len(b.Sizes)
	g.seq += uint32(n)
	frames, err := g.wire.Take(n, 10*time.Second, g.tunnelled)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := range frames {
		g.sent.add(g.inner.headerLen + 8 + b.Sizes[i%len(b.Sizes)])
	}
	return frames
}

// delivered checks a packet that our engine has taken out of the tunnel: the
// guest's datagram number seq, of n bytes, whole and one hop further.
func (g *rig) delivered(frame []byte, seq uint32, n int, tos byte) {
	g.t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	var src, dst netip.Addr
	var hops, class uint8
	switch l := p.NetworkLayer().(type) {
	case *layers.IPv4:
		src, dst, hops, class = netip.AddrFrom4([4]byte(l.SrcIP.To4())), netip.AddrFrom4([4]byte(l.DstIP.To4())), l.TTL, l.TOS
	case *layers.IPv6:
		src, dst, hops, class = netip.AddrFrom16([16]byte(l.SrcIP)), netip.AddrFrom16([16]byte(l.DstIP)), l.HopLimit, l.TrafficClass
	default:
		g.t.Fatalf("no IP packet: %x", frame)
	}
	u, ok := p.TransportLayer().(*layers.UDP)
	switch {
	case !bytes.Equal(frame[:12], append(bytes.Clone(hostMAC[:]), privateMAC[:]...)),
		src != g.inner.far, dst != g.inner.host, hops != 63, class != tos, !ok, u.DstPort != port:
		g.t.Fatalf("not the datagram that was sent (TOS %#x, hops %d):\n%s", tos, hops, p.Dump())
	case !bytes.Equal(u.Payload, peer.Pattern(seq, n)):
		g.t.Fatalf("payload\n%x\nwant\n%x", u.Payload, peer.Pattern(seq, n))
	}
	if !udpChecksum(p) {
		g.t.Fatalf("wrong checksum:\n%s", p.Dump())
	}
}

// udpChecksum reports whether the checksum is what gopacket makes of the packet.
func udpChecksum(p gopacket.Packet) bool {
	u, ok := p.TransportLayer().(*layers.UDP)
	if !ok || u.SetNetworkLayerForChecksum(p.NetworkLayer()) != nil {
		return false
	}
	again := *u
	b := serialize(&again, gopacket.Payload(u.Payload))
	return binary.BigEndian.Uint16(b[6:]) == u.Checksum
}

// both sends datagrams and pings of all sizes both ways.
func both(g *rig) {
	g.outwards(sizes...)
	g.inwards(sizes...)
	g.pingGuest(56, 1000)
	g.pingUs(56, 1000)
}

// outwards sends datagrams from our host to the guest's.
func (g *rig) outwards(sizes ...int) {
	g.t.Helper()
	frames := g.burst(0, false, sizes...)
	g.intoLinux(g.sealed(frames)...)
	g.arrived(frames)
	for _, f := range frames {
		g.got.add(len(f) - 14)
	}
}

// inwards sends datagrams from the guest's host to ours.
func (g *rig) inwards(sizes ...int) {
	g.t.Helper()
	first := g.seq
	frames := g.guestSends(peer.Burst{Sizes: sizes})
	out, _ := g.intoEngine(g.public, frames)
	if len(out) != len(sizes) {
		g.t.Fatalf("%d datagrams were delivered, want %d", len(out), len(sizes))
	}
	for i, f := range out {
		g.delivered(f, first+uint32(i), sizes[i], 0)
		g.inb.add(len(f) - 14)
	}
}

// pingGuest pings the guest's host from ours.
func (g *rig) pingGuest(sizes ...int) {
	g.t.Helper()
	for i, n := range sizes {
		m := echoRequest(g.inner, g.inner.host, g.inner.far, 0x1234, uint16(i), peer.Pattern(uint32(i), n))
		g.intoLinux(g.sealed([][]byte{ethernet(privateMAC, hostMAC, m)})...)
		replies, err := g.wire.Take(1, 5*time.Second, g.tunnelled)
		if err != nil {
			g.t.Fatalf("ping of %d bytes: %v", n, err)
		}
		out, _ := g.intoEngine(g.public, replies)
		if len(out) != 1 || out[0][14+g.inner.headerLen] != g.inner.echoAnswer || !bytes.Equal(out[0][14+g.inner.headerLen+4:], m[g.inner.headerLen+4:]) {
			g.t.Fatalf("reply to ping of %d bytes: %x", n, out)
		}
		for _, v := range []*volume{&g.got, &g.sent, &g.inb} {
			v.add(len(m))
		}
	}
}

// pingUs lets the guest ping our host, which the test plays.
func (g *rig) pingUs(sizes ...int) {
	g.t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- g.vm.Call("Peer.Ping", peer.Echo{From: g.inner.far, To: g.inner.host, ID: 0x4321, Sizes: sizes}, new(struct{}))
	}()
	for _, n := range sizes {
		requests, err := g.wire.Take(1, 5*time.Second, g.tunnelled)
		if err != nil {
			g.t.Fatal(err)
		}
		out, _ := g.intoEngine(g.public, requests)
		if len(out) != 1 {
			g.t.Fatalf("ping of %d bytes: %d packets were delivered", n, len(out))
		}
		m := out[0][14+g.inner.headerLen:]
		reply := echoRequest(g.inner, g.inner.host, g.inner.far, binary.BigEndian.Uint16(m[4:]), binary.BigEndian.Uint16(m[6:]), m[8:])
		r := reply[g.inner.headerLen:]
		// The type changes by as much as the checksum must.
		sum := uint32(binary.BigEndian.Uint16(r[2:])) + uint32(r[0])<<8 + ^uint32(uint16(g.inner.echoAnswer)<<8)&0xffff
		r[0] = g.inner.echoAnswer
		for sum>>16 != 0 {
			sum = sum&0xffff + sum>>16
		}
		binary.BigEndian.PutUint16(r[2:], uint16(sum))
		g.intoLinux(g.sealed([][]byte{ethernet(privateMAC, hostMAC, reply)})...)
		for _, v := range []*volume{&g.got, &g.sent, &g.inb} {
			v.add(len(reply))
		}
	}
	if err := <-done; err != nil {
		g.t.Fatal(err)
	}
}

// replays lets packets overtake each other by as much as the window allows and
// one more, and come twice, both ways.
func replays(g *rig) {
	g.outOfOrder(g.row.linuxWindow, g.replaysToLinux())
	g.outOfOrder(g.row.window, g.replaysToUs())
}

const small = 20 // bytes of payload

// What becomes of a packet.
const (
	taken = iota
	again // it has come before
	late  // it is older than the window, and so taken for one 2^32 numbers later, which it is not
)

// outOfOrder makes w+10 packets and sends places of these in an order that
// meets all edges of a window of w.
func (g *rig) outOfOrder(w int, send func(count int) func(place, fate int)) {
	put := send(w + 10)
	for _, s := range [][2]int{
		{w, taken}, {0, late}, {1, taken}, {1, again}, {w, again},
	} {
		put(s[0], s[1])
	}
	for i := range w - 2 { // all between, in an order that is not theirs
		put(2+i*7919%(w-2), taken)
	}
	for _, s := range [][2]int{
		{2, again},
		{w / 2, again},
		{w - 1, again},
		{w + 5, taken},
		{5, late},
		{6, again},
		{w + 1, taken},
		{w + 1, again},
		{w + 9, taken},
		{9, late},
		{10, again},
	} {
		put(s[0], s[1])
	}
	put(-1, taken)
}

// replaysToLinux sends to Linux. Place -1: all have been sent.
func (g *rig) replaysToLinux() func(int) func(place, fate int) {
	return func(count int) func(place, fate int) {
		plain := g.burst(0, false, slices.Repeat([]int{small}, count)...)
		frames := g.sealed(plain)
		var want [][]byte
		return func(place, fate int) {
			if place < 0 {
				g.arrived(want)
				return
			}
			g.intoLinux(frames[place])
			switch fate {
			case taken:
				want = append(want, plain[place])
				g.got.add(len(plain[place]) - 14)
			case again:
				g.replay++
				g.linux["XfrmInStateSeqError"]++
			case late:
				g.failed++
				g.linux["XfrmInStateProtoError"]++
			}
		}
	}
}

// replaysToUs sends to our engine.
func (g *rig) replaysToUs() func(int) func(place, fate int) {
	return func(count int) func(place, fate int) {
		first := g.seq
		frames := g.guestSends(peer.Burst{Sizes: []int{small}, Times: count})
		var in [][]byte
		var places []int
		flush := func() {
			out, _ := g.intoEngine(g.public, in)
			if len(out) != len(places) {
				g.t.Fatalf("%d packets were delivered, want %d", len(out), len(places))
			}
			for i, f := range out {
				g.delivered(f, first+uint32(places[i]), small, 0)
				g.inb.add(len(f) - 14)
			}
			in, places = nil, nil
		}
		return func(place, fate int) {
			// A late packet in one batch with what makes it late is found to be
			// so only when that has been opened: it has a batch of its own here.
			if place < 0 || fate == late {
				flush()
			}
			if place < 0 {
				return
			}
			in = append(in, frames[place])
			switch fate {
			case taken:
				places = append(places, place)
			case again:
				g.decrypt++
				g.drops[drop.ESPReplay]++
			case late:
				g.decrypt++
				g.drops[drop.ESPAuthentication]++
				flush()
			}
		}
	}
}
