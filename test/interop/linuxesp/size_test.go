package linuxesp

import (
	"bytes"
	"encoding/binary"
	"slices"

	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/test/interop/linuxesp/peer"
)

// payloadOf returns how many bytes of payload make an inner packet of n bytes.
func (g *rig) payloadOf(n int) int { return n - g.inner.headerLen - 8 }

// tunnelMTU is the largest inner packet: what is left of 1500 bytes behind the
// outer header, SPI, sequence number, IV and ICV, a multiple of 4 less the pad
// length and the next header.
func (g *rig) tunnelMTU() int {
	n := 1500 - g.outer.headerLen - 8 - 8 - 16
	if g.row.encap {
		n -= 8
	}
	return n&^3 - 2
}

// largest sends packets both ways that just fit the path, and one from our side
// that does not.
func largest(g *rig) {
	n := g.payloadOf(g.tunnelMTU())
	frames := g.burst(0, true, n-1, n)
	out := g.sealed(frames)
	if len(out[1]) < 14+1497 || len(out[1]) > 14+1500 {
		g.t.Errorf("the largest packet has %d bytes", len(out[1])-14)
	}
	g.intoLinux(out...)
	g.arrived(frames)
	for _, f := range frames {
		g.got.add(len(f) - 14)
	}
	first := g.seq
	in, _ := g.intoEngine(g.public, g.guestSends(peer.Burst{DF: true, Sizes: []int{n - 1, n}}))
	if len(in) != 2 {
		g.t.Fatalf("%d packets were delivered, want 2", len(in))
	}
	for i, f := range in {
		g.delivered(f, first+uint32(i), n-1+i, 0)
		g.inb.add(len(f) - 14)
	}
	back, out := g.intoEngine(g.private, g.burst(0, true, n+1))
	m := back[0][14+g.inner.headerLen:]
	mtu := int(binary.BigEndian.Uint16(m[6:]))
	if len(out) != 0 || len(back) != 1 || m[0] != map[int]byte{4: 3, 6: 2}[g.row.inner] || mtu != g.tunnelMTU() {
		g.t.Errorf("a packet too big: %d went out, answer %x", len(out), m)
	}
	g.drops[drop.OutboundTooBig]++
}

// fragments sends packets that our engine cuts in pieces of at most 600 bytes
// before it seals them. The guest puts them together.
func fragments(g *rig) {
	frames := g.burst(0, false, 500, 1000, 1400)
	back, out := g.intoEngine(g.private, frames)
	pieces := []int{528, 20 + 576, 20 + 1008 - 576, 20 + 576, 20 + 576, 20 + 1408 - 2*576}
	if len(out) != len(pieces) || len(back) != 0 {
		g.t.Fatalf("%d packets went out, %d came back", len(out), len(back))
	}
	for _, n := range pieces {
		g.out.add(n)
		g.got.add(n)
	}
	g.intoLinux(out...)
	g.arrived(frames)
}

// linuxFragments lets Linux cut a datagram of IPv6 in pieces that fit the
// tunnel. Our engine passes them on as they are.
func linuxFragments(g *rig) {
	const n = 3000
	b := peer.Burst{Sizes: []int{n}}
	b.From, b.To, b.First = addrPort(g.inner.far, port+1), addrPort(g.inner.host, port), g.seq
	g.call("Peer.Send", b, new(peer.Sent))
	frames, err := g.wire.Take(3, patience, g.tunnelled)
	if err != nil {
		g.t.Fatal(err)
	}
	out, _ := g.intoEngine(g.public, frames)
	if len(out) != 3 {
		g.t.Fatalf("%d fragments were delivered, want 3", len(out))
	}
	var whole []byte
	slices.SortFunc(out, func(a, b []byte) int { return fragmentOffset(a) - fragmentOffset(b) })
	for _, f := range out {
		g.sent.add(len(f) - 14)
		g.inb.add(len(f) - 14)
		if fragmentOffset(f) != len(whole) {
			g.t.Fatalf("a fragment from %d on follows %d bytes", fragmentOffset(f), len(whole))
		}
		whole = append(whole, f[14+40+8:]...)
	}
	g.seq++
	if len(whole) != 8+n || !bytes.Equal(whole[8:], peer.Pattern(g.seq-1, n)) {
		g.t.Errorf("together they are not what was sent: %x", whole)
	}
}

// sealedThenFragmented lets Linux seal a datagram of IPv4 that is too big and cut
// what comes out, which is what it does. Our engine does not put the pieces together.
func sealedThenFragmented(g *rig) {
	const n = 3000
	b := peer.Burst{Sizes: []int{n}}
	b.From, b.To, b.First = addrPort(g.inner.far, port+1), addrPort(g.inner.host, port), g.seq
	g.call("Peer.Send", b, new(peer.Sent))
	g.seq++
	frames, err := g.wire.Take(3, patience, func(f []byte) bool {
		v4 := g.row.outer == 4 && f[12] == 8 && f[13] == 0 && (f[20]&0x3f != 0 || f[21] != 0)
		v6 := g.row.outer == 6 && f[12] == 0x86 && f[20] == 44
		return v4 || v6
	})
	if err != nil {
		g.t.Fatal(err)
	}
	if private, public := g.intoEngine(g.public, frames); len(private)+len(public) != 0 {
		g.t.Errorf("%d and %d frames came out", len(private), len(public))
	}
	g.sent.add(g.inner.headerLen + 8 + n)
	g.drops[drop.PublicFragment] += 3
}

func fragmentOffset(f []byte) int { return int(binary.BigEndian.Uint16(f[14+40+2:]) &^ 7) }

// dontFragment looks at the flag in the outer headers of packets with it and
// without it.
func (g *rig) dontFragment(setting tables.DF) {
	for _, inner := range []bool{false, true} {
		frames := g.burst(0, inner, 50, 51)
		out := g.sealed(frames)
		want := setting == tables.DFSet || setting == tables.DFCopy && inner && g.row.inner == 4
		if setting == tables.DFCopy && g.row.inner == 6 {
			want = true // whose packets no router may fragment
		}
		for _, f := range out {
			if got := f[20]&0x40 != 0; got != want {
				g.t.Errorf("inner flag %v: outer flag %v, want %v", inner, got, want)
			}
		}
		g.intoLinux(out...)
		g.arrived(frames)
		for _, f := range frames {
			g.got.add(len(f) - 14)
		}
	}
}
