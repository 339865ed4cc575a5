// Package linuxesp compares the packet engine with Linux's own ESP, which runs
// in a virtual machine: each takes what the other has sealed, packet by packet,
// and both count the same.
package linuxesp

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/test/interop/linuxesp/peer"
)

// row is one combination of what both sides are told, and traffic for it.
type row struct {
	name         string
	outer, inner int // families: 4 or 6
	key          int // bytes: 16 or 32; default 16
	seq          uint64
	window       int  // ours; default 128
	linuxWindow  int  // default: as ours
	noESN        bool // Linux without extended sequence numbers
	encap        bool // ESP in UDP
	wrongKey     bool
	flags        string // further flags of Linux's SAs
	spec         func(*rig) tables.Spec
	traffic      func(*rig) // default: both
}

func (r *row) keys() ([]byte, [4]byte) {
	key := make([]byte, r.key)
	for i := range key {
		key[i] = byte(i*7 + r.outer)
	}
	return key, [4]byte{0xa0, 0xa1, 0xa2, byte(r.inner)}
}

// TestLinux runs all rows in one guest.
func TestLinux(t *testing.T) {
	vm := bootLinux(t)
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			if r.key == 0 {
				r.key = 16
			}
			if r.window == 0 {
				r.window = 128
			}
			if r.linuxWindow == 0 {
				r.linuxWindow = r.window
			}
			if r.spec == nil {
				r.spec = (*rig).spec
			}
			if r.traffic == nil {
				r.traffic = both
			}
			g := newRig(t, vm, r)
			r.traffic(g)
			g.check()
		})
	}
}

func rows() (out []*row) {
	for _, f := range [][2]int{{4, 4}, {6, 6}, {6, 4}, {4, 6}} {
		base := row{outer: f[0], inner: f[1]}
		add := func(name string, change func(*row)) {
			r := base
			change(&r)
			r.name = fmt.Sprintf("%din%d/%s", f[1], f[0], name)
			out = append(out, &r)
		}
		for _, key := range []int{16, 32} {
			for _, s := range []struct {
				name string
				seq  uint64
			}{{"start", 0}, {"across 2^32", 1<<32 - 9}, {"upper half 7", 7<<32 + 1000}, {"across 2^33", 1<<33 - 5}} {
				add(fmt.Sprintf("aes-%d, %s", key*8, s.name), func(r *row) { r.key, r.seq = key, s.seq })
			}
		}
		// Linux's windows let packets pass twice where their size does not
		// divide 2^32: 100 against 128.
		for _, w := range [][2]int{{64, 64}, {100, 128}, {128, 128}, {1024, 1024}, {4096, 4096}} {
			add(fmt.Sprint("window ", w[0]), func(r *row) { r.window, r.linuxWindow, r.traffic = w[0], w[1], replays })
			add(fmt.Sprintf("window %d across 2^32", w[0]), func(r *row) {
				r.window, r.linuxWindow, r.traffic, r.seq = w[0], w[1], replays, 1<<32-uint64(w[0])/2
			})
		}
		add("wrong key", func(r *row) { r.wrongKey, r.traffic = true, refused })
		add("no ESN on one side", func(r *row) { r.noESN, r.linuxWindow, r.traffic = true, 32, refused })
		add("damage", func(r *row) { r.traffic = damage })
		add("traffic flow confidentiality", func(r *row) {
			r.traffic = flow
			r.spec = changed(func(s *tables.Spec) { s.TFC, s.MTU = true, 1300 })
		})
		add("DSCP and ECN", func(r *row) {
			r.traffic = classes
			r.spec = changed(func(s *tables.Spec) { s.CopyDSCP, s.ECN = true, true })
		})
		add("hops", func(r *row) { r.traffic = hops })
		add("largest packets", func(r *row) { r.traffic = largest })
		if f[1] == 6 {
			add("fragments of Linux", func(r *row) { r.traffic = linuxFragments })
		} else {
			add("fragments of Linux, sealed before", func(r *row) { r.traffic = sealedThenFragmented })
			add("fragments of ours", func(r *row) {
				r.traffic = fragments
				r.spec = changed(func(s *tables.Spec) { s.MTU, s.Fragment = 600, true })
			})
		}
		if f[0] == 4 {
			for _, df := range []tables.DF{tables.DFSet, tables.DFClear, tables.DFCopy} {
				add([]string{"DF set", "DF clear", "DF copied"}[df], func(r *row) {
					r.traffic = func(g *rig) { g.dontFragment(df) }
					r.spec = changed(func(s *tables.Spec) { s.DF = df })
				})
			}
		}
	}
	for _, f := range [][2]int{{4, 4}, {6, 6}, {6, 4}, {4, 6}} {
		add := func(name string, change func(*row)) {
			r := row{outer: f[0], inner: f[1], encap: true}
			change(&r)
			r.name = fmt.Sprintf("%din UDP in%d/%s", f[1], f[0], name)
			out = append(out, &r)
		}
		add("aes-128, across 2^32", func(r *row) { r.seq = 1<<32 - 9 })
		add("aes-256, start", func(r *row) { r.key = 32 })
		add("window 128 across 2^32", func(r *row) { r.traffic, r.seq = replays, 1<<32-64 })
		add("wrong key", func(r *row) { r.wrongKey, r.traffic = true, refused })
		add("largest packets", func(r *row) { r.traffic = largest })
		add("DSCP and ECN", func(r *row) {
			r.traffic = classes
			r.spec = changed(func(s *tables.Spec) { s.CopyDSCP, s.ECN = true, true })
		})
		add("keepalives", func(r *row) {
			r.traffic = keepalives
			r.spec = changed(func(s *tables.Spec) { s.Routes[0].UDP.Keepalive = 1 })
		})
	}
	return out
}

func changed(change func(*tables.Spec)) func(*rig) tables.Spec {
	return func(g *rig) tables.Spec {
		s := g.spec()
		change(&s)
		return s
	}
}

// refused sends packets both ways that the other side must find not authentic.
func refused(g *rig) {
	frames := g.sealed(g.burst(0, false, 0, 100, 1000))
	g.intoLinux(frames...)
	g.failed += 3
	g.linux["XfrmInStateProtoError"] += 3
	out, _ := g.intoEngine(g.public, g.guestSends(peer.Burst{Sizes: []int{0, 100, 1000}}))
	if len(out) != 0 {
		g.t.Fatalf("%d packets were delivered", len(out))
	}
	g.decrypt += 3
	g.drops[drop.ESPAuthentication] += 3
}

// damage changes a byte of every part of packets in both directions, and sends
// packets of unknown SPIs. What is whole passes.
func damage(g *rig) {
	at := 14 + g.outer.headerLen
	plain := g.burst(0, false, 40)
	good := g.sealed(plain)[0]
	fail := func(f []byte, i int) []byte {
		f = bytes.Clone(f)
		f[len(f)-1-i] ^= 0x80
		return f
	}
	n := len(good) - at - 8
	for i := range n { // IV, content, ICV
		g.intoLinux(fail(good, i))
	}
	other := bytes.Clone(good)
	other[at+3]++
	g.intoLinux(other, good)
	g.arrived(plain)
	g.got.add(len(plain[0]) - 14)
	g.failed += uint64(n)
	g.linux["XfrmInStateProtoError"] += uint64(n)
	g.linux["XfrmInNoStates"]++

	first := g.seq
	good = g.guestSends(peer.Burst{Sizes: []int{40}})[0]
	n = len(good) - at - 8
	var in [][]byte
	for i := range n {
		in = append(in, fail(good, i))
	}
	other = bytes.Clone(good)
	other[at+3]++
	out, _ := g.intoEngine(g.public, append(in, other, good))
	if len(out) != 1 {
		g.t.Fatalf("%d packets were delivered, want 1", len(out))
	}
	g.delivered(out[0], first, 40, 0)
	g.inb.add(len(out[0]) - 14)
	g.decrypt += uint64(n)
	g.drops[drop.ESPAuthentication] += uint64(n)
	g.drops[drop.ESPNoSA]++
}

// keepalives waits for one of ours, which Linux must not mind.
func keepalives(g *rig) {
	var frames [][]byte
	for deadline := time.Now().Add(patience); len(frames) == 0; time.Sleep(10 * time.Millisecond) {
		if frames = g.public.Drain(); time.Now().After(deadline) {
			g.t.Fatal("none has come")
		}
	}
	for _, f := range frames {
		if !g.isKeepalive(f) {
			g.t.Fatalf("not a keepalive: %x", f)
		}
	}
	g.intoLinux(frames...)
	g.outwards(10)
	g.inwards(10)
}

// flow pads every packet to the MTU. Linux counts the padding, we do not.
func flow(g *rig) {
	frames := g.burst(0, false, sizes...)
	out := g.sealed(frames)
	for _, f := range out {
		if len(f) != len(out[0]) || len(f) < 1300 {
			g.t.Fatalf("packets of %d and %d bytes show what is in them", len(out[0]), len(f))
		}
		g.got.add(1300)
	}
	g.intoLinux(out...)
	g.arrived(frames)
	g.inwards(sizes...)
}

// hops lets the guest's packets end at our gateway, which tells their sender
// through the tunnel.
func hops(g *rig) {
	done := make(chan error, 1)
	var sent peer.Sent
	b := peer.Burst{TTL: 1, Sizes: []int{30}}
	go func() {
		b := b
		b.From, b.To = addrPort(g.inner.far, port+2), addrPort(g.inner.host, port)
		done <- g.vm.Call("Peer.Send", b, &sent)
	}()
	frames, err := g.wire.Take(1, patience, g.tunnelled)
	if err != nil {
		g.t.Fatal(err)
	}
	g.sent.add(g.inner.headerLen + 8 + 30)
	g.inb.add(g.inner.headerLen + 8 + 30)
	g.drops[drop.InboundTTL]++
	_, answer := g.intoEngine(g.public, frames)
	if len(answer) != 1 {
		g.t.Fatalf("%d answers", len(answer))
	}
	g.intoLinux(answer...)
	if err := <-done; err != nil {
		g.t.Fatal(err)
	}
	want := peer.ICMPError{Type: 11, From: g.inner.gateway}
	n := 20 + 8 + 28 // a header, and an excerpt of 8 bytes behind another
	if g.row.inner == 6 {
		want.Type = 3
		n = 40 + 8 + 40 + 8 + 30
	}
	if len(sent.Errors) != 1 || sent.Errors[0] != want {
		g.t.Errorf("the sender was told %+v, want %+v", sent.Errors, want)
	}
	g.out.add(n)
	g.got.add(n)
}

// classes has all ECN fields in packets of a DSCP, and on the way routers that
// change the outer one.
func classes(g *rig) {
	const dscp = 0x28
	for inner := range byte(4) {
		for outer := range byte(4) {
			g.class(dscp|inner, outer)
		}
	}
}
