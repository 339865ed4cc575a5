package forwarding

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// captured is what a test has captured, its bytes kept.
type captured struct {
	point  tables.Point
	reason drop.Reason
	raw    bool
	length int
	data   []byte
}

// capture captures while do runs, and returns what there was.
func (r *rig) capture(filter tables.Capture, do func()) (got []captured, missed uint64) {
	r.t.Helper()
	if filter.Snap == 0 {
		filter.Snap = tables.CaptureData
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	begun, done := make(chan struct{}), make(chan error)
	var all map[uint16]uint64
	go func() {
		var err error
		all, err = r.client.Capture(ctx, filter, func() { close(begun) }, func(k client.Captured) error {
			if since := time.Since(k.Time); since < 0 || since > time.Minute || k.Queue != 1 {
				r.t.Errorf("captured at %v, queue %d", k.Time, k.Queue)
			}
			got = append(got, captured{k.Point, k.Reason, k.Raw, k.Length, bytes.Clone(k.Data)})
			return nil
		}, func() error { return nil })
		done <- err
	}()
	<-begun
	do()
	r.settle()
	cancel()
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	return got, all[1]
}

func points(p ...tables.Point) (bits uint16) {
	for _, p := range p {
		bits |= 1 << p
	}
	return bits
}

func wantCaptured(t *testing.T, got, want []captured) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d packets captured, want %d: %+v", len(got), len(want), got)
	}
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if w.length == 0 {
			w.length = len(w.data)
		}
		if g.point != w.point || g.reason != w.reason || g.raw != w.raw || g.length != w.length || !bytes.Equal(g.data, w.data) {
			t.Errorf("packet %d: at %s for %s, raw %v, %d bytes:\n%x\nwant at %s for %s, raw %v, %d bytes:\n%x",
				i, g.point, g.reason, g.raw, g.length, g.data, w.point, w.reason, w.raw, w.length, w.data)
		}
	}
}

// TestCapturePoints follows one packet each way.
func TestCapturePoints(t *testing.T) {
	r := newRig(t)
	r.install(client.SA{Direction: client.Outbound, SPI: 4711})
	r.install(client.SA{Direction: client.Inbound, SPI: 4712})
	p := newRemote(t, 4712)
	out, in := outFrame(100, 'x'), p.packet(inFrame(100))
	var sent, received []byte
	got, _ := r.capture(tables.Capture{Points: 1<<tables.NumPoints - 1}, func() {
		r.private.Inject(out)
		sent = take(t, r.public, 1)[0]
		r.public.Inject(in)
		received = take(t, r.private, 1)[0]
	})
	ttl := func(b []byte) []byte { // as the gateway has lowered it
		return changed(b, func(b []byte) { b[22]-- })[14:]
	}
	wantCaptured(t, got, []captured{
		{point: tables.PrivateRx, data: out},
		{point: tables.InnerOutbound, raw: true, data: ttl(out)},
		{point: tables.PublicTx, data: sent},
		{point: tables.PublicRx, data: in},
		{point: tables.InnerInbound, raw: true, data: inFrame(100).bytes()[14:]},
		{point: tables.PrivateTx, data: received},
	})
}

// TestCaptureDrops: what was not decrypted shows as it came, but for what may
// not be used; the rest as inner packets. Packets of our own show, too.
func TestCaptureDrops(t *testing.T) {
	r := newRig(t)
	r.install(client.SA{Direction: client.Inbound, SPI: 4712})
	p := newRemote(t, 4712)
	inner := func(f frame) []byte { return f.bytes()[14:] }
	good := p.packet(inFrame(100))
	forged := bytes.Clone(p.sealed(5, inner(inFrame(100)), 4))
	forged[len(forged)-1] ^= 1
	elsewhere := frame{src: "10.9.0.9", to: "10.1.0.7", proto: 200, payload: make([]byte, 30)}
	expired := frame{src: "10.2.0.9", to: "10.1.0.7", ttl: 1, proto: 200, payload: make([]byte, 30)}
	out := outFrame(100, 'x')
	tooShort := frame{dst: publicMAC, src: "203.0.113.2", to: "203.0.113.1", proto: 50, df: true, payload: []byte("1234567")}.bytes()
	noSA := espFrame(append([]byte{0, 0, 0, 9}, make([]byte, 60)...))
	wrongMAC := changed(out, func(b []byte) { b[5]++ })
	noRoute := frame{dst: privateMAC, src: "10.1.0.7", to: "10.8.0.9", proto: 17, payload: make([]byte, 30)}.bytes()
	header := 14 + 20 + esp.HeaderLen
	got, _ := r.capture(tables.Capture{Points: points(tables.Dropped)}, func() {
		for _, f := range [][]byte{wrongMAC, noRoute, out} {
			r.private.Inject(f)
			r.settle()
		}
		for _, f := range [][]byte{
			good, good, forged, tooShort, noSA, p.sealed(10, inner(elsewhere), 4), p.sealed(11, make([]byte, 20), 59),
			p.sealed(12, []byte("no packet"), 4), p.sealed(13, inner(expired), 4),
		} {
			r.public.Inject(f)
			r.settle()
		}
	})
	expiredAnswer := got[len(got)-1]
	wantCaptured(t, got[:len(got)-1], []captured{
		{point: tables.Dropped, reason: drop.PrivateWrongMAC, data: wrongMAC},
		{point: tables.Dropped, reason: drop.OutboundNoRoute, data: noRoute},
		{point: tables.Dropped, reason: drop.OutboundNoSA, data: out},
		{point: tables.Dropped, reason: drop.ESPReplay, data: good[:header], length: len(good)},
		{point: tables.Dropped, reason: drop.ESPAuthentication, data: forged[:header], length: len(forged)},
		{point: tables.Dropped, reason: drop.ESPTooShort, data: tooShort},
		{point: tables.Dropped, reason: drop.ESPNoSA, data: noSA},
		{point: tables.Dropped, reason: drop.InboundPolicy, raw: true, data: inner(elsewhere)},
		{point: tables.Dropped, reason: drop.ESPDummy, raw: true, data: append(make([]byte, 20), 1, 2, 2, 59)[:24]},
		{point: tables.Dropped, reason: drop.InboundMalformed, raw: true, data: append([]byte("no packet"), 1, 1, 4)},
		{point: tables.Dropped, reason: drop.InboundTTL, raw: true, data: inner(expired)},
	})
	// The answer to the expired packet has no SA to go by.
	if e := expiredAnswer; e.reason != drop.OutboundNoSA || !e.raw || wire.IPv4(e.data).Protocol() != wire.ProtoICMP {
		t.Errorf("%+v", e)
	}
	drain(r.private)
	r.engine.mu.Lock()
	defer r.engine.mu.Unlock()
	if r.engine.capture != nil {
		t.Error("the capture goes on")
	}
}

// TestCaptureFilters evaluates filters on known packets.
func TestCaptureFilters(t *testing.T) {
	v4 := outFrame(100, 'x') // 10.1.0.7 to 10.2.0.9, protocol 200
	tagged := slices.Concat(v4[:12], []byte{0x81, 0, 0, 5}, v4[12:])
	espPacket := espFrame(append([]byte{0, 0, 0x12, 0x67}, make([]byte, 60)...))
	v6 := make([]byte, 14+40)
	wire.PutBe16(v6[12:], wire.TypeIPv6)
	a, b := addr("2001:db8:1::7").As16(), addr("2001:db8:2::9").As16()
	wire.PutIPv6(v6[14:], 0, 58, 64, &a, &b)
	address := func(s string, bits uint8) (c tables.Capture) {
		c.SrcBits = bits
		copy(c.Src[:], addr(s).AsSlice())
		return c
	}
	to := func(c tables.Capture) tables.Capture {
		c.Dst, c.DstBits, c.Src, c.SrcBits = c.Src, c.SrcBits, [16]byte{}, 0
		return c
	}
	arp := arpFrame(wire.ARPRequest, 0x0a0100fe)
	for name, c := range map[string]struct {
		filter tables.Capture
		frame  []byte
		want   bool
	}{
		"all":                 {tables.Capture{}, v4, true},
		"all, ARP":            {tables.Capture{}, arp, true},
		"family":              {tables.Capture{Family: 4}, v4, true},
		"family, ARP":         {tables.Capture{Family: 4}, arp, false},
		"family, tagged":      {tables.Capture{Family: 4}, tagged, true},
		"other family":        {tables.Capture{Family: 6}, v4, false},
		"IPv6":                {tables.Capture{Family: 6, HasProto: 1, Proto: 58}, v6, true},
		"protocol":            {tables.Capture{HasProto: 1, Proto: 200}, v4, true},
		"protocol 0":          {tables.Capture{HasProto: 1}, v4, false},
		"source":              {address("10.1.0.7", 32), v4, true},
		"other source":        {address("10.1.0.6", 32), v4, false},
		"source, 31":          {address("10.1.0.6", 31), v4, true},
		"source, 15":          {address("10.0.0.0", 15), v4, true},
		"source, 16":          {address("10.0.0.0", 16), v4, false},
		"destination":         {to(address("10.2.0.0", 16)), v4, true},
		"other destination":   {to(address("10.1.0.0", 16)), v4, false},
		"IPv6 source":         {address("2001:db8:1::", 48), v6, true},
		"IPv6 bits of IPv4":   {address("10.1.0.7", 33), v4, false},
		"IPv6 destination":    {to(address("2001:db8:2::9", 128)), v6, true},
		"SPI":                 {tables.Capture{HasSPI: 1, SPI: 0x1267}, espPacket, true},
		"other SPI":           {tables.Capture{HasSPI: 1, SPI: 0x1268}, espPacket, false},
		"SPI of something":    {tables.Capture{HasSPI: 1, SPI: 0x78787878}, v4, false},
		"SPI and destination": {tables.Capture{HasSPI: 1, SPI: 0x1267, DstBits: 8, Dst: [16]byte{10}}, espPacket, false},
	} {
		k := &capture{Capture: c.filter}
		if got := k.match(false, c.frame, 0); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	inUDP := inUDPFrame("203.0.113.2", 1024, 4500, append([]byte{0, 0, 0x12, 0x67}, make([]byte, 60)...))
	for port, want := range map[uint16]bool{4500: true, 4501: false, 0: false} {
		if k := (&capture{Capture: tables.Capture{HasSPI: 1, SPI: 0x1267}, udpPort: port}); k.match(false, inUDP, 0) != want {
			t.Errorf("SPI in UDP, own port %d: want %v", port, want)
		}
	}
	k := &capture{Capture: tables.Capture{HasSPI: 1, SPI: 7}}
	if !k.match(true, v4[14:], 7) || k.match(true, v4[14:], 8) || k.match(true, v4[14:], 0) {
		t.Error("the SPI of an inner packet")
	}
}

// TestCaptureReasonsAndSnap keeps a part of some of the dropped packets.
func TestCaptureReasonsAndSnap(t *testing.T) {
	r := newRig(t)
	noRoute := frame{dst: privateMAC, src: "10.1.0.7", to: "10.8.0.9", proto: 17, payload: make([]byte, 300)}.bytes()
	var reasons [2]uint64
	reasons[drop.OutboundNoRoute>>6] |= 1 << (drop.OutboundNoRoute & 63)
	reasons[drop.InboundCongestion>>6] |= 1 << (drop.InboundCongestion & 63)
	got, _ := r.capture(tables.Capture{Points: points(tables.Dropped), Reasons: reasons, Snap: 50}, func() {
		r.private.Inject(outFrame(100, 'x')) // no SA
		r.private.Inject(noRoute)
	})
	wantCaptured(t, got, []captured{{point: tables.Dropped, reason: drop.OutboundNoRoute, data: noRoute[:50], length: len(noRoute)}})
}

// TestCaptureNeverWaits: a ring that nobody reads makes the worker count, not
// wait, and costs no packet.
func TestCaptureNeverWaits(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	const n = 1500
	blocked, free := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(r.ctx)
	result := make(chan uint64)
	got := 0
	go func() {
		missed, err := r.client.Capture(ctx, tables.Capture{Points: points(tables.PrivateRx), Snap: 64}, func() { close(blocked) }, func(client.Captured) error {
			if got++; got == 1 {
				<-free
			}
			return nil
		}, func() error { return nil })
		if err != nil {
			t.Error(err)
		}
		result <- missed[1]
	}()
	<-blocked
	for i := range n {
		r.private.Inject(outFrame(60, 'x'))
		if i%100 == 99 {
			take(t, r.public, 100)
		}
	}
	close(free)
	r.settle()
	cancel()
	missed := <-result
	if missed == 0 || uint64(got)+missed != n {
		t.Errorf("%d captured, %d missed, want %d together and some missed", got, missed, n)
	}
	r.wantDrops(nil)
}

// TestOneCaptureAtATime: a second one is refused, and one whose client goes
// ends with it.
func TestOneCaptureAtATime(t *testing.T) {
	r := newRig(t)
	nothing := func() error { return nil }
	filter := tables.Capture{Points: points(tables.PrivateRx), Snap: 64}
	r.capture(filter, func() {
		_, err := r.client.Capture(r.ctx, filter, func() { t.Error("began") }, nil, nothing)
		if !errors.Is(err, client.ErrCapturing) {
			t.Errorf("second capture: %v", err)
		}
	})
	stop := errors.New("enough")
	begun := make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := r.client.Capture(r.ctx, filter, func() { close(begun) }, func(client.Captured) error { return stop }, nothing)
		done <- err
	}()
	<-begun
	r.private.Inject(outFrame(60, 'x'))
	if err := <-done; !errors.Is(err, stop) {
		t.Errorf("a capture that its reader ends: %v", err)
	}
	for _, bad := range []tables.Capture{{}, {Points: 1 << tables.NumPoints, Snap: 64}, {Points: 1, Snap: tables.CaptureData + 1}, {Points: 1, SrcBits: 129}} {
		if _, err := r.client.Capture(r.ctx, bad, func() { t.Error("began") }, nil, nothing); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	begun = make(chan struct{})
	go func() {
		_, err := r.client.Capture(r.ctx, filter, func() { close(begun) }, func(client.Captured) error { return nil }, nothing)
		done <- err
	}()
	<-begun
	closed := make(chan error)
	go func() { closed <- r.client.Close() }()
	if err := <-done; !errors.Is(err, client.ErrNoEngine) {
		t.Errorf("a capture whose client is closed: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	r.attach()
	r.engine.mu.Lock()
	defer r.engine.mu.Unlock()
	if r.engine.capture != nil {
		t.Error("the engine still captures for a client that has gone")
	}
}

// TestCaptureDoesNotAllocate: neither on nor off.
func TestCaptureDoesNotAllocate(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	w, goOn := r.still()
	defer goOn()
	all := tables.Capture{Points: 1<<tables.NumPoints - 1, Snap: 128, Family: 4, HasProto: 1, Proto: 200, SrcBits: 16, Src: [16]byte{10, 1}}
	w.filter.Store(newCapture(&all, w))
	out := outFrame(60, 'x')
	expired := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", ttl: 1, proto: 200, payload: make([]byte, 30)}.bytes()
	ring := w.mem.CaptureRing(w.slot)
	kept := 0
	n := testing.AllocsPerRun(100, func() {
		r.private.Inject(out)
		r.private.Inject(expired)
		w.turn()
		for ring.Next() != nil {
			ring.Release()
			kept++
		}
	})
	if n != 0 && !raceDetector {
		t.Errorf("%v allocations a turn, want 0", n)
	}
	if kept < 400 {
		t.Errorf("%d packets captured", kept)
	}
	w.filter.Store(nil)
}

// FuzzCaptureMatch lets filters look at any bytes.
func FuzzCaptureMatch(f *testing.F) {
	f.Add(false, outFrame(60, 'x'), uint8(4), uint8(1), uint8(50), uint8(1), uint32(7), uint8(8), uint8(129))
	f.Add(true, espFrame(make([]byte, 40))[14:], uint8(0), uint8(0), uint8(0), uint8(1), uint32(0), uint8(32), uint8(0))
	f.Add(false, []byte{12: 0x81, 0, 0, 5, 0x81, 0, 0, 6, 0x86, 0xdd, 0x60}, uint8(6), uint8(0), uint8(0), uint8(0), uint32(0), uint8(0), uint8(128))
	f.Fuzz(func(t *testing.T, raw bool, b []byte, family, hasProto, proto, hasSPI uint8, spi uint32, src, dst uint8) {
		c := &capture{Capture: tables.Capture{Family: family, HasProto: hasProto, Proto: proto, HasSPI: hasSPI, SPI: spi, SrcBits: src % 129, DstBits: dst % 129}}
		before := bytes.Clone(b)
		matched := c.match(raw, b, 0)
		if !bytes.Equal(before, b) {
			t.Fatal("the packet was changed")
		}
		if matched && family != 0 && family != 4 && family != 6 {
			t.Fatal("a packet of no family matches")
		}
		inner(b)
	})
}
