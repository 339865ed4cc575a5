package forwarding

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"vita/asm/cksum"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// newUDPRig is newRig with a second route to the same peer: that of newRig puts
// ESP into UDP, the other one, 10.3/16, does not.
func newUDPRig(t testing.TB, u tables.UDP) *rig {
	t.Helper()
	r := newRig(t)
	r.spec.Routes[0].UDP = &u
	r.spec.Routes = append(r.spec.Routes, tables.Route{
		ID: "plain", SPI: 1002, Nets: []netip.Prefix{mustPrefix("10.3.0.0/16")}, Gateways: r.spec.Routes[0].Gateways,
	})
	r.apply()
	return r
}

// inUDPFrame wraps a payload in UDP for the public port.
func inUDPFrame(from string, src, dst uint16, payload []byte) []byte {
	b := make([]byte, wire.UDPLen+len(payload))
	wire.UDP(b).Put(src, dst, len(b))
	copy(b[wire.UDPLen:], payload)
	return frame{dst: publicMAC, src: from, to: "203.0.113.1", proto: wire.ProtoUDP, df: true, payload: b}.bytes()
}

// TestUDPOutbound: packets of routes with and without UDP go out of one batch,
// the same but for the eight bytes.
func TestUDPOutbound(t *testing.T) {
	r := newUDPRig(t, tables.UDP{Port: 4501})
	r.spec.UDPPort = 4499
	r.apply()
	for _, route := range []string{"site2", "plain"} {
		r.install(client.SA{Route: route, Direction: client.Outbound, SPI: 4711})
	}
	w, goOn := r.still()
	for range 3 {
		r.private.Inject(outFrame(100, 'x'))
		r.private.Inject(frame{dst: privateMAC, src: "10.1.0.7", to: "10.3.0.9", proto: 200, payload: bytes.Repeat([]byte{'x'}, 80)}.bytes())
	}
	w.turn()
	goOn()
	got := take(t, r.public, 6)
	for i, f := range got {
		p, check := wire.ParseIPv4(f[14:])
		if check != wire.Good || p.Src() != wire.Be32([]byte{203, 0, 113, 1}) || p.Dst() != wire.Be32([]byte{203, 0, 113, 2}) || !p.DF() {
			t.Fatalf("frame %d: outer header % x", i, f[14:34])
		}
		payload := p.Payload()
		if i%2 == 0 {
			u := wire.UDP(payload)
			if p.Protocol() != wire.ProtoUDP || u.SrcPort() != 4499 || u.DstPort() != 4501 || u.Length() != len(payload) || u.Checksum() != 0 {
				t.Fatalf("frame %d: protocol %d, UDP header % x", i, p.Protocol(), payload[:8])
			}
			payload = payload[wire.UDPLen:]
		} else if p.Protocol() != wire.ProtoESP {
			t.Fatalf("frame %d: protocol %d", i, p.Protocol())
		}
		if e := wire.ESP(payload); e.SPI() != 4711 || e.SeqLow() != uint32(i/2+1) || len(payload) != esp.Size(100) {
			t.Errorf("frame %d: %d bytes of ESP, SPI %d, sequence number %d", i, len(payload), e.SPI(), e.SeqLow())
		}
	}
	r.wantDrops(nil)
}

// TestUDPLimit: the largest packet that fits is eight bytes smaller, and that is
// what senders are told; one learnt of the path holds for UDP, too.
func TestUDPLimit(t *testing.T) {
	r := newUDPRig(t, tables.UDP{})
	r.install(client.SA{Direction: client.Outbound, SPI: 7})
	limit := esp.MaxInner(1500, wire.IPv4Len+wire.UDPLen)
	packet := func(n int) []byte {
		return frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", proto: 200, df: true, payload: make([]byte, n-wire.IPv4Len)}.bytes()
	}
	toldLimit := func(n, want int) {
		t.Helper()
		r.private.Inject(packet(n))
		e := take(t, r.private, 1)[0]
		if m := wire.ICMP(e[34:]); m.Type() != wire.ICMPUnreachable || m.Code() != wire.CodeFragmentationNeeded || int(wire.Be16(m[6:])) != want {
			t.Errorf("a packet of %d bytes: told % x, want a limit of %d", n, e[34:42], want)
		}
	}
	r.private.Inject(packet(limit))
	if f := take(t, r.public, 1)[0]; len(f) > 14+1500 || len(f) < 14+1500-3 {
		t.Errorf("the largest packet is %d bytes on the wire", len(f))
	}
	toldLimit(limit+1, limit)

	// A router says of a packet sent (IP, UDP, ESP header) that it is too big.
	quote := func(udp, e int) []byte {
		b := make([]byte, wire.IPv4Len+udp+e)
		copy(b, []byte{0x45, 0, 5, 0xdc, 0, 0, 0x40, 0, 60, wire.ProtoUDP, 0, 0, 203, 0, 113, 1, 203, 0, 113, 2})
		wire.UDP(b[20:]).Put(4500, 4500, 1480)
		if e > 0 {
			copy(b[28:], []byte{0, 0, 0, 7, 0, 0, 0, 1})
		}
		return b
	}
	tooBig := func(quoted []byte) []byte {
		m := make([]byte, wire.ICMPLen+len(quoted))
		wire.ICMP(m).Put(wire.ICMPUnreachable, wire.CodeFragmentationNeeded, 1000)
		copy(m[wire.ICMPLen:], quoted)
		wire.PutBe16(m[2:], cksum.Sum(m, 0))
		return frame{dst: publicMAC, src: "198.51.100.1", to: "203.0.113.1", proto: wire.ProtoICMP, payload: m}.bytes()
	}
	r.public.Inject(tooBig(quote(8, 0))) // not enough to see that it is ours
	wrong := quote(8, 8)
	wrong[31] = 8
	r.public.Inject(tooBig(wrong)) // an SPI that we do not send by
	r.settle()
	toldLimit(limit+1, limit)
	r.public.Inject(tooBig(quote(8, 8)))
	r.settle()
	toldLimit(1200, esp.MaxInner(1000, wire.IPv4Len+wire.UDPLen))
}

// TestUDPInbound: ESP in UDP is what ESP without it is; what else comes to the
// port is told apart and has no effect.
func TestUDPInbound(t *testing.T) {
	p := newRemote(t, 4711)
	packet := p.packet(inFrame(100))[34:] // from its ESP header on
	from := "203.0.113.2"
	checksummed := inUDPFrame(from, 4500, 4500, packet)
	checksummed[40], checksummed[41] = 0xba, 0xad // any checksum
	short := inUDPFrame(from, 4500, 4500, packet)
	short[38], short[39] = 0, 8
	long := inUDPFrame(from, 4500, 4500, packet)
	wire.PutBe16(long[38:], wire.Be16(long[38:])+1)
	for name, c := range map[string]struct {
		frame   []byte
		reason  drop.Reason
		arrives bool
		off     bool // no route has UDP
		answer  bool
	}{
		"ESP":                   {frame: inUDPFrame(from, 4500, 4500, packet), arrives: true},
		"from another port":     {frame: inUDPFrame(from, 1024, 4500, packet), arrives: true},
		"from port 0":           {frame: inUDPFrame(from, 0, 4500, packet), arrives: true},
		"from another address":  {frame: inUDPFrame("198.51.100.7", 4500, 4500, packet), arrives: true},
		"with a checksum":       {frame: checksummed, arrives: true},
		"without UDP":           {frame: espFrame(packet), arrives: true},
		"with bytes behind":     {frame: frame{dst: publicMAC, src: from, to: "203.0.113.1", proto: wire.ProtoUDP, payload: append(bytes.Clone(inUDPFrame(from, 4500, 4500, packet)[34:]), 1, 2, 3)}.bytes(), arrives: true},
		"keepalive":             {frame: inUDPFrame(from, 4500, 4500, []byte{0xff}), reason: drop.UDPKeepalive},
		"another byte":          {frame: inUDPFrame(from, 4500, 4500, []byte{0xfe}), reason: drop.ESPTooShort},
		"IKE":                   {frame: inUDPFrame(from, 4500, 4500, make([]byte, 40)), reason: drop.UDPNotESP},
		"the marker alone":      {frame: inUDPFrame(from, 4500, 4500, make([]byte, 4)), reason: drop.UDPNotESP},
		"half a marker":         {frame: inUDPFrame(from, 4500, 4500, make([]byte, 3)), reason: drop.ESPTooShort},
		"nothing":               {frame: inUDPFrame(from, 4500, 4500, nil), reason: drop.UDPMalformed},
		"a length too short":    {frame: short, reason: drop.UDPMalformed},
		"a length too long":     {frame: long, reason: drop.UDPMalformed},
		"another SPI":           {frame: inUDPFrame(from, 4500, 4500, append([]byte{0, 0, 0, 9}, make([]byte, 60)...)), reason: drop.ESPNoSA},
		"to another port":       {frame: inUDPFrame(from, 4500, 4501, packet), reason: drop.PublicProtocol, answer: true},
		"where no route has it": {off: true, frame: inUDPFrame(from, 4500, 4500, packet), reason: drop.PublicProtocol, answer: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newUDPRig(t, tables.UDP{})
			if c.off {
				r.spec.Routes[0].UDP = nil
				r.apply()
			}
			r.install(client.SA{Direction: client.Inbound, SPI: 4711})
			r.public.Inject(c.frame)
			want := map[drop.Reason]uint64{}
			if !c.arrives {
				want[c.reason] = 1
			}
			r.wantDrops(want)
			got := r.private.Drain()
			if (len(got) == 1) != c.arrives {
				t.Errorf("%d packets arrived", len(got))
			}
			f := inFrame(100)
			f.dst, f.srcMAC, f.ttl = testMAC, privateMAC, 63
			if c.arrives && !bytes.Equal(got[0], f.bytes()) {
				t.Errorf("came in as\n%x", got[0])
			}
			if n := len(r.public.Drain()); (n == 1) != c.answer {
				t.Errorf("%d answers", n)
			}
		})
	}
}

// TestPeerMoves: the newest authentic packet says where the peer is, if the
// route lets it; nothing else does.
func TestPeerMoves(t *testing.T) {
	r := newUDPRig(t, tables.UDP{Moves: true})
	r.install(client.SA{Direction: client.Outbound, SPI: 4711})
	r.install(client.SA{Direction: client.Inbound, SPI: 4711})
	p := newRemote(t, 4711)
	esp := func(seq uint64) []byte { return p.sealed(seq, inFrame(100).bytes()[14:], 4)[34:] }
	sends := func(want string) {
		t.Helper()
		r.settle()
		r.private.Drain()
		r.private.Inject(outFrame(100, 'x'))
		f := take(t, r.public, 1)[0]
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte(f[30:34])), wire.UDP(f[34:]).DstPort())
		if f[23] != wire.ProtoUDP || a.String() != want {
			t.Errorf("sends to %v, want %s", a, want)
		}
		info, _ := r.route("site2")
		moved := len(info.Moved) == 1 && info.Moved[0].Peer.String() == want && info.Moved[0].Queue == 1
		if still := want == "203.0.113.2:4500" && len(info.Moved) == 0; !moved && !still {
			t.Errorf("says that it has moved to %+v, want %s", info.Moved, want)
		}
	}
	forged := esp(50)
	forged[len(forged)-1] ^= 1
	sends("203.0.113.2:4500")
	r.public.Inject(inUDPFrame("198.51.100.7", 1000, 4500, forged)) // not authentic
	sends("203.0.113.2:4500")
	r.public.Inject(inUDPFrame("198.51.100.7", 1000, 4500, esp(20)))
	sends("198.51.100.7:1000")
	r.public.Inject(inUDPFrame("198.51.100.8", 2000, 4500, esp(19))) // not the newest
	sends("198.51.100.7:1000")
	r.public.Inject(inUDPFrame("198.51.100.8", 2000, 4500, esp(20))) // repeated
	sends("198.51.100.7:1000")
	r.public.Inject(inUDPFrame("198.51.100.8", 0, 4500, esp(21))) // from no port
	r.public.Inject(inUDPFrame("224.0.0.1", 2000, 4500, esp(22))) // from no station
	r.public.Inject(espFrame(esp(23)))                            // without UDP
	sends("198.51.100.7:1000")
	r.public.Inject(inUDPFrame("198.51.100.8", 2000, 4500, esp(24)))
	sends("198.51.100.8:2000")

	// New keys change nothing, a new configuration of the peer does.
	r.install(client.SA{Direction: client.Outbound, SPI: 4712})
	sends("198.51.100.8:2000")
	r.spec.Routes[0].UDP.Port = 4501
	r.apply()
	r.settle()
	r.private.Inject(outFrame(100, 'x'))
	if f := take(t, r.public, 1)[0]; wire.UDP(f[34:]).DstPort() != 4501 || f[33] != 2 {
		t.Errorf("sends to % x after the peer's port was configured", f[30:38])
	}
	r.spec.Routes[0].UDP = &tables.UDP{}
	r.apply()
	r.public.Inject(inUDPFrame("198.51.100.9", 3000, 4500, esp(30)))
	sends("203.0.113.2:4500")
}

// TestKeepalive: a peer that nothing is sent to gets a byte in time, one that
// something is sent to does not.
func TestKeepalive(t *testing.T) {
	r := newUDPRig(t, tables.UDP{Keepalive: 2})
	w, goOn := r.still()
	start := w.now
	step := func(after time.Duration) [][]byte { // all turns up to then
		t.Helper()
		var out [][]byte
		for w.now < start+int64(after) {
			w.now += int64(tickEvery)
			w.lookAfter()
			w.send(&w.a.public)
			out = append(out, r.public.Drain()...)
		}
		return out
	}
	if got := step(5 * time.Second); len(got) != 0 {
		t.Fatalf("%d frames without an SA", len(got))
	}
	goOn()
	ref := r.install(client.SA{Direction: client.Outbound, SPI: 4711})
	w, goOn = r.still()
	e := &w.mem.SAs[tables.SAIndex(uint32(ref))]
	start = e.Created
	w.now, w.sync, w.tick = start, start+1<<60, 0
	if got := step(1900 * time.Millisecond); len(got) != 0 {
		t.Errorf("%d frames before their time", len(got))
	}
	got := step(5 * time.Second)
	want := inUDPFrame("203.0.113.1", 4500, 4500, []byte{0xff})
	want = changed(want, func(b []byte) {
		copy(b, testMAC[:])
		copy(b[6:], publicMAC[:])
		copy(b[26:], []byte{203, 0, 113, 1, 203, 0, 113, 2})
	})
	if len(got) != 2 {
		t.Errorf("%d keepalives within 5 s, want 2", len(got))
	}
	for _, f := range got {
		if !bytes.Equal(f, want) {
			t.Errorf("keepalive\n%x\nwant\n%x", f, want)
		}
	}
	e.LastUsed = start + int64(6500*time.Millisecond) // a packet
	if got := step(8400 * time.Millisecond); len(got) != 0 {
		t.Errorf("%d keepalives within 2 s after a packet", len(got))
	}
	if got := step(9 * time.Second); len(got) != 1 {
		t.Errorf("%d keepalives after that", len(got))
	}
	goOn()
}

// TestManyKeepalives: all of many routes are looked at within a second, a few at
// a time.
func TestManyKeepalives(t *testing.T) {
	r := newRig(t)
	const n = 200
	gateways := r.spec.Routes[0].Gateways
	r.spec.Routes = nil
	for i := range n {
		r.spec.Routes = append(r.spec.Routes, tables.Route{
			ID: string(rune('a'+i/26)) + string(rune('a'+i%26)), SPI: uint32(1000 + i), UDP: &tables.UDP{Keepalive: 1},
			Nets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i), 0}), 24)}, Gateways: gateways,
		})
	}
	r.apply()
	for i := range n {
		r.install(client.SA{Route: r.spec.Routes[i].ID, Direction: client.Outbound, SPI: uint32(1000 + i)})
	}
	w, goOn := r.still()
	defer goOn()
	w.now += 3 * second
	w.sync = w.now + 1<<60
	most, all := 0, 0
	for range int(second / int64(tickEvery)) {
		w.now += int64(tickEvery)
		w.lookAfter()
		w.send(&w.a.public)
		got := len(r.public.Drain())
		most, all = max(most, got), all+got
	}
	if all != n || most > 2 {
		t.Errorf("%d keepalives, at most %d at once; want %d, at most 2", all, most, n)
	}
}

// FuzzUDP puts any datagram to the port of ESP in UDP.
func FuzzUDP(f *testing.F) {
	p := newRemote(f, 4711)
	f.Add(uint16(4500), uint16(4500), p.packet(inFrame(60))[34:])
	f.Add(uint16(4500), uint16(9), []byte{0xff})
	f.Add(uint16(4500), uint16(8), []byte{})
	f.Add(uint16(0), uint16(12), []byte{0, 0, 0, 0})
	r := newUDPRig(f, tables.UDP{Moves: true, Keepalive: 1})
	r.install(client.SA{Direction: client.Outbound, SPI: 4711})
	ref := r.install(client.SA{Direction: client.Inbound, SPI: 4711})
	w, goOn := r.still()
	f.Cleanup(goOn)
	free := w.pool.Available()
	f.Fuzz(func(t *testing.T, src, length uint16, payload []byte) {
		b := inUDPFrame("203.0.113.2", src, 4500, payload)
		r.public.Inject(b)
		wire.PutBe16(b[38:], length)
		r.public.Inject(b)
		seq := w.mem.SAs[tables.SAIndex(uint32(ref))].Seq
		r.public.Inject(inUDPFrame("203.0.113.2", src, 4500, p.sealed(seq+1, payload, 4)[34:]))
		r.public.Inject(inUDPFrame("203.0.113.2", src, 4500, p.sealed(seq+2, inFrame(60).bytes()[14:], 4)[34:]))
		r.private.Inject(outFrame(60, 'x'))
		for w.turn() > 0 {
		}
		if in, out := len(r.private.Drain()), len(r.public.Drain()); in < 1 || out < 1 || out > 4 {
			t.Fatalf("%d frames came in, %d went out", in, out)
		}
		if w.pool.Available() != free {
			t.Fatalf("%d buffers are missing", free-w.pool.Available())
		}
		for e := w.mem.ToControl(w.slot).Next(); e != nil; e = w.mem.ToControl(w.slot).Next() {
			w.mem.ToControl(w.slot).Release()
		}
	})
}

// TestUDPDoesNotAllocate: neither way, nor for keepalives.
func TestUDPDoesNotAllocate(t *testing.T) {
	r := newUDPRig(t, tables.UDP{Moves: true, Keepalive: 1})
	r.loopSAs()
	w, goOn := r.still()
	defer goOn()
	p := newRemote(t, 4711)
	var in [][]byte
	for range 200 {
		in = append(in, inUDPFrame("203.0.113.2", 4500, 4500, p.packet(inFrame(60))[34:]))
	}
	out := outFrame(60, 'x')
	i := 0
	n := testing.AllocsPerRun(100, func() {
		r.private.Inject(out)
		r.public.Inject(in[i%len(in)])
		i++
		w.turn()
		w.sendKeepalive(&outboundSA{peer: [16]byte{10: 0xff, 11: 0xff, 12: 203}, port: 4500, reachable: true})
	})
	if n != 0 && !raceDetector {
		t.Errorf("%v allocations a turn, want 0", n)
	}
}
