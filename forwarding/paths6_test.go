package forwarding

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"vita/asm/cksum"
	"vita/drivers/memory"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/icmp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// What paths_test.go does for IPv4. Golden cases have the single packets.

const (
	host6, there6 = "2001:db8:a::7", "2001:db8:b::9"
	priv6         = "2001:db8:a::1"
	pub6, peer6   = "2001:db8:f::1", "2001:db8:f::2"
	privNext6     = "2001:db8:a::2"
	pubNext6      = "2001:db8:f::fe"
	errorLen6     = 1280
	innerMTU6     = 1426 // of a public port with 1500
)

var (
	privateMAC6 = [6]byte{2, 0, 0, 0, 6, 1}
	publicMAC6  = [6]byte{2, 0, 0, 0, 6, 2}
)

func newRig6(t testing.TB) *rig {
	t.Helper()
	r := newEngine(t, Options{})
	private, p := newWire(t, memory.Options{})
	public, q := newWire(t, memory.Options{})
	r.private, r.public = p, q
	r.spec = tables.Spec{
		Private: &tables.Interface{Link: tables.Link{Ifname: private}, IP: addr(priv6), MAC: privateMAC6, NextHop: addr(privNext6), NextHopMAC: testMAC},
		Public: []tables.PublicInterface{{
			Interface: tables.Interface{Link: tables.Link{Ifname: public}, IP: addr(pub6), MAC: publicMAC6, NextHop: addr(pubNext6), NextHopMAC: testMAC},
			Queue:     1,
		}},
		Routes: []tables.Route{{
			ID: "site2", SPI: 1001, Nets: []netip.Prefix{netip.MustParsePrefix("2001:db8:b::/48")},
			Gateways: []tables.Gateway{{Queue: 1, IP: addr(peer6)}},
		}},
	}
	r.apply()
	return r
}

// packet6 makes an IPv6 packet.
func packet6(src, dst string, next, hops uint8, payload []byte) wire.IPv6 {
	b := make([]byte, wire.IPv6Len+len(payload))
	s, d := addr(src).As16(), addr(dst).As16()
	wire.PutIPv6(b, len(payload), next, hops, &s, &d)
	copy(b[wire.IPv6Len:], payload)
	return b
}

func frame6(dst, src [6]byte, p wire.IPv6) []byte {
	b := make([]byte, wire.EthernetLen, wire.EthernetLen+len(p))
	wire.Ethernet(b).Put(&dst, &src, wire.TypeIPv6)
	return append(b, p...)
}

func toPrivate6(p wire.IPv6) []byte { return frame6(privateMAC6, testMAC, p) }
func toPublic6(p wire.IPv6) []byte  { return frame6(publicMAC6, testMAC, p) }

func outPacket6(n int) wire.IPv6 {
	return packet6(host6, there6, 200, 64, bytes.Repeat([]byte{'x'}, n-wire.IPv6Len))
}

func inPacket6(n int) wire.IPv6 {
	return packet6(there6, host6, 200, 64, bytes.Repeat([]byte{'y'}, n-wire.IPv6Len))
}

func (p *remote) sealed6(seq uint64, payload []byte, next uint8) []byte {
	return toPublic6(packet6(peer6, pub6, wire.ProtoESP, 64, p.sealed(seq, payload, next)[34:]))
}

// echo6 is an echo request.
func echo6(src, dst string, n int) wire.IPv6 {
	p := packet6(src, dst, wire.ProtoICMP6, 64, make([]byte, wire.ICMPLen+n))
	wire.ICMP(p.Payload()).Put(wire.ICMP6EchoRequest, 0, 0x12340001)
	wire.SumICMP6(p)
	return p
}

func wantICMP6(t *testing.T, b []byte, src, dst string, typ, code uint8, rest uint32, excerpt []byte) {
	t.Helper()
	p, ok := wire.ParseIPv6(b)
	if !ok || *p.Src() != addr(src).As16() || *p.Dst() != addr(dst).As16() || p.Next() != wire.ProtoICMP6 {
		t.Fatalf("packet %x", b)
	}
	m, ok := icmp.Parse6(p)
	if !ok || m.Type() != typ || m.Code() != code || wire.Be32(m[4:]) != rest || !bytes.Equal(m[8:], excerpt) {
		t.Fatalf("message %x, want type %d, code %d, %#x, %x", p.Payload(), typ, code, rest, excerpt)
	}
}

func through6(t *testing.T, p *remote, f []byte) []byte {
	t.Helper()
	b := bytes.Clone(f[54:])
	batch := new(esp.Batch)
	batch.Decapsulate(&p.key, uint64(wire.ESP(b).SeqLow()), b)
	batch.Open()
	inner, next, ok := esp.Trim(b)
	if !batch.OK(0) || !ok || next != wire.ProtoIPv6 {
		t.Fatalf("what went out does not open: %d, %v", next, ok)
	}
	return inner
}

func TestBothWays6(t *testing.T) {
	r := newRig6(t)
	r.loopSAs()
	p := newRemote(t, 4711)
	out := outPacket6(100)
	r.private.Inject(toPrivate6(out))
	f := take(t, r.public, 1)[0]
	head := packet6(pub6, peer6, wire.ProtoESP, 64, make([]byte, esp.Size(100)))[:40]
	if !bytes.Equal(f[14:54], head) || *wire.Ethernet(f).Dst() != testMAC || *wire.Ethernet(f).Src() != publicMAC6 {
		t.Errorf("outer headers %x, want %x", f[:54], head)
	}
	out.DecrementHopLimit()
	if got := through6(t, p, f); !bytes.Equal(got, out) {
		t.Errorf("inner %x, want %x", got, out)
	}
	in := inPacket6(100)
	r.public.Inject(p.sealed6(1, in, wire.ProtoIPv6))
	in.DecrementHopLimit()
	if got := take(t, r.private, 1)[0]; !bytes.Equal(got, frame6(testMAC, privateMAC6, in)) {
		t.Errorf("came in as %x", got)
	}
	r.wantDrops(nil)
}

func TestErrors6(t *testing.T) {
	r := newRig6(t)
	r.loopSAs()
	p := newRemote(t, 4711)
	expired := packet6(host6, there6, 17, 1, make([]byte, 30))
	r.private.Inject(toPrivate6(expired))
	wantICMP6(t, take(t, r.private, 1)[0][14:], priv6, host6, 3, 0, 0, expired)
	big := outPacket6(innerMTU6 + 1)
	r.private.Inject(toPrivate6(big))
	wantICMP6(t, take(t, r.private, 1)[0][14:], priv6, host6, 2, 0, innerMTU6, big[:errorLen6-48])
	r.private.Inject(toPrivate6(outPacket6(innerMTU6)))
	if out := take(t, r.public, 1)[0]; len(out)-14 > 1500 {
		t.Errorf("outer packet of %d bytes", len(out)-14)
	}
	back := packet6(there6, host6, 17, 1, make([]byte, 1300))
	r.public.Inject(p.sealed6(1, back, wire.ProtoIPv6))
	wantICMP6(t, through6(t, p, take(t, r.public, 1)[0]), priv6, there6, 3, 0, 0, back[:errorLen6-48])
	toUs := packet6(there6, priv6, 17, 64, make([]byte, 30))
	r.public.Inject(p.sealed6(2, toUs, wire.ProtoIPv6))
	wantICMP6(t, through6(t, p, take(t, r.public, 1)[0]), priv6, there6, 4, 1, 6, toUs)
	// Where the tunnel takes less than 1280 bytes, so has the message to.
	r.spec.MTU = 600
	r.apply()
	r.public.Inject(p.sealed6(3, back, wire.ProtoIPv6))
	wantICMP6(t, through6(t, p, take(t, r.public, 1)[0]), priv6, there6, 3, 0, 0, back[:600-48])
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundTTL: 1, drop.OutboundTooBig: 1, drop.InboundTTL: 2, drop.InboundLocalNextHeader: 1})
}

func TestInboundTooBig6(t *testing.T) {
	r := newRig6(t)
	r.loopSAs()
	small, end := newWire(t, memory.Options{MTU: 1300})
	r.spec.Private.Link.Ifname = small
	r.apply()
	p := newRemote(t, 4711)
	in := inPacket6(1301)
	r.public.Inject(p.sealed6(1, in, wire.ProtoIPv6))
	wantICMP6(t, through6(t, p, take(t, r.public, 1)[0]), priv6, there6, 2, 0, 1300, in[:errorLen6-48])
	r.public.Inject(p.sealed6(2, inPacket6(1300), wire.ProtoIPv6))
	take(t, end, 1)
	r.wantDrops(map[drop.Reason]uint64{drop.InboundTooBig: 1})
}

func TestAnswersAreLimited6(t *testing.T) {
	r := newRig6(t)
	for name, p := range map[string]wire.IPv6{
		"echo": echo6(host6, priv6, 56), "time exceeded": packet6(host6, there6, 17, 1, make([]byte, 30)),
		"too big": outPacket6(1450), "unreachable": packet6(host6, priv6, 17, 64, make([]byte, 30)),
	} {
		start := time.Now()
		for range 500 {
			r.private.Inject(toPrivate6(p))
		}
		r.settle()
		most := icmp.PerSecond * (1 + int(time.Since(start)/time.Second+1))
		if n := len(r.private.Drain()); n < icmp.PerSecond || n > most || n == 500 {
			t.Errorf("%s: %d answers, want %d to %d", name, n, icmp.PerSecond, most)
		}
	}
}

func TestResolution6(t *testing.T) {
	r := newRig6(t)
	r.loopSAs()
	r.spec.Public[0].NextHopMAC = [6]byte{}
	r.apply()
	p, _ := wire.ParseIPv6(take(t, r.public, 1)[0][14:])
	if m, ok := wire.ParseND(p); !ok || !m.Solicitation() || *m.Target() != addr(pubNext6).As16() {
		t.Fatalf("solicitation %x", []byte(p))
	}
	r.private.Inject(toPrivate6(outPacket6(60)))
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoNextHop: 1})
	nextHop := [6]byte{2, 0, 0, 0, 9, 9}
	answer := packet6(pubNext6, pub6, wire.ProtoICMP6, 255, make([]byte, wire.NDLen+wire.NDOptionLen))
	target := addr(pubNext6).As16()
	wire.PutND(answer.Payload(), wire.ICMP6NeighbourAdvert, wire.NDSolicited|wire.NDOverride, &target, wire.NDTarget, &nextHop)
	wire.SumICMP6(answer)
	r.public.Inject(frame6(publicMAC6, nextHop, answer))
	r.settle()
	r.private.Inject(toPrivate6(outPacket6(60)))
	for _, f := range r.until(r.public, func(f []byte) bool { return f[20] == wire.ProtoESP }) {
		if *wire.Ethernet(f).Dst() != nextHop {
			t.Errorf("sent to %x, want %x", f[:6], nextHop)
		}
	}
	s := r.settle()
	if s.Get(tables.PublicNextHopNAReplies) != 1 || s.Get(tables.PublicNextHopAddressesAdded) != 1 {
		t.Error("public-next-hop has not counted")
	}
}

// TestMessages6 passes key exchange to vitad and back.
func TestMessages6(t *testing.T) {
	r := newRig6(t)
	datagram := func(src, dst string) wire.IPv6 {
		p := packet6(src, dst, wire.ProtoUDP, 64, append(make([]byte, wire.UDPLen), "message"...))
		u := wire.UDP(p.Payload())
		u.Put(303, 303, len(u))
		u.SetChecksum(cksum.Sum(u, cksum.Pseudo6(*p.Src(), *p.Dst(), wire.ProtoUDP, uint32(len(u)))))
		return p
	}
	r.public.Inject(toPublic6(datagram(peer6, pub6)))
	got := make(chan client.Message, 1)
	go func() {
		_ = r.client.Receive(r.ctx, func(m client.Message) { got <- client.Message{Queue: m.Queue, Peer: m.Peer} }) // ends with the rig
	}()
	select {
	case m := <-got:
		if m.Queue != 1 || m.Peer != netip.AddrPortFrom(addr(peer6), 303) {
			t.Fatalf("%+v", m)
		}
	case <-time.After(patience):
		t.Fatal("no message came")
	}
	send := func(to netip.Addr) {
		t.Helper()
		if err := r.client.Send(client.Message{Queue: 1, Peer: netip.AddrPortFrom(to, 303), Payload: []byte("message")}); err != nil {
			t.Fatal(err)
		}
	}
	send(addr(peer6))
	if f := take(t, r.public, 1)[0]; !bytes.Equal(f, frame6(testMAC, publicMAC6, datagram(pub6, peer6))) {
		t.Errorf("went out as %x", f)
	}
	send(addr("192.0.2.1")) // of the other family: nowhere to go
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoNextHop: 1})
}

func TestPathsDoNotAllocate6(t *testing.T) {
	r := newRig6(t)
	r.loopSAs()
	w, goOn := r.still()
	defer goOn()
	p := newRemote(t, 4711)
	out, ping, expired := toPrivate6(outPacket6(60)), toPrivate6(echo6(host6, priv6, 56)), toPrivate6(packet6(host6, there6, 17, 1, make([]byte, 30)))
	in := make([][]byte, 0, 200)
	for range cap(in) {
		in = append(in, p.sealed6(uint64(len(in)+1), inPacket6(60), wire.ProtoIPv6))
	}
	met, i := 0, 0
	n := testing.AllocsPerRun(100, func() {
		r.private.Inject(out)
		r.private.Inject(ping)
		r.private.Inject(expired)
		r.public.Inject(in[i])
		i++
		met += w.turn()
	})
	if met < 400 {
		t.Fatalf("only %d packets met", met)
	}
	if n != 0 && !raceDetector {
		t.Errorf("%v allocations a turn, want 0", n)
	}
}
