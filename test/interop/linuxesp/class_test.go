package linuxesp

import (
	"encoding/binary"
	"net/netip"
	"time"

	"vita/forwarding/drop"
	"vita/test/interop/linuxesp/peer"
)

const patience = 30 * time.Second

func addrPort(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }

// class sends a packet of a TOS each way, with the outer ECN field changed to
// what a router may have made of it.
func (g *rig) class(tos, outer byte) {
	g.t.Helper()
	inner := tos & 3

	// To Linux: ours copies DSCP and ECN (RFC 6040, 4.1, normal mode).
	plain := g.burst(tos, false, 33)
	frame := g.sealed(plain)[0]
	if got := tosOf(frame); got != tos {
		g.t.Errorf("inner TOS %#x: our outer one is %#x", tos, got)
	}
	setTOS(frame, tos&^3|outer)
	g.intoLinux(frame)
	want := int(tos)
	if outer == 3 && inner != 0 {
		want |= 3
	}
	// Linux lets a packet without ECN whose outer header says CE pass, and does
	// not take codepoint 1 over: it is of before RFC 6040, 4.2.
	if d := g.arrived(plain)[0]; d.TOS != want {
		g.t.Errorf("inner %#x, outer %#x: Linux gives %#x, want %#x", tos, outer, d.TOS, want)
	}
	g.got.add(len(plain[0]) - 14)

	// To us.
	first := g.seq
	frame = g.guestSends(peer.Burst{Sizes: []int{33}, TOS: int(tos)})[0]
	if got, want := tosOf(frame), linuxOuter(tos); got != want {
		g.t.Errorf("inner TOS %#x: Linux's outer one is %#x, want %#x", tos, got, want)
	}
	setTOS(frame, tos&^3|outer)
	out, _ := g.intoEngine(g.public, [][]byte{frame})
	g.inb.add(g.inner.headerLen + 8 + 33)
	switch {
	case inner == 0 && outer == 3: // RFC 6040, 4.2: dropped
		g.drops[drop.InboundCongestion]++
		if len(out) != 0 {
			g.t.Error("a packet without ECN passes congestion")
		}
		return
	case inner != 0 && outer == 3:
		tos |= 3
	case inner == 2 && outer == 1:
		tos = tos&^3 | 1
	}
	if len(out) != 1 {
		g.t.Fatalf("inner TOS %#x, outer %#x: %d packets were delivered", tos, outer, len(out))
	}
	g.delivered(out[0], first, 33, tos)
}

// linuxOuter is Linux's outer TOS: RFC 3168, 9.1.1, full functionality: CE
// inside becomes codepoint 2 outside.
func linuxOuter(tos byte) byte {
	if tos&3 == 3 {
		return tos&^3 | 2
	}
	return tos
}

func tosOf(f []byte) byte {
	if f[12] == 8 {
		return f[15]
	}
	return f[14]<<4 | f[15]>>4
}

// setTOS is what a router does: the header's checksum follows.
func setTOS(f []byte, tos byte) {
	if f[12] != 8 {
		f[14], f[15] = f[14]&0xf0|tos>>4, tos<<4|f[15]&0xf
		return
	}
	f[15], f[24], f[25] = tos, 0, 0
	var sum uint32
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(f[24:], ^uint16(sum))
}
