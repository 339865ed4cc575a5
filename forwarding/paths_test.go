package forwarding

import (
	"bytes"
	"slices"
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

// peer seals packets as the remote gateway would.
type remote struct {
	key esp.Key
	seq uint64
	spi uint32
}

func newRemote(t testing.TB, spi uint32) *remote {
	t.Helper()
	p := &remote{spi: spi}
	if err := p.key.GCM.Expand(testKey); err != nil {
		t.Fatal(err)
	}
	return p
}

// espFrame wraps an ESP packet for the public port.
func espFrame(packet []byte) []byte {
	return frame{dst: publicMAC, src: "203.0.113.2", to: "203.0.113.1", proto: wire.ProtoESP, df: true, payload: packet}.bytes()
}

// sealed returns the frame with a payload of a protocol under a number.
func (p *remote) sealed(seq uint64, payload []byte, next uint8) []byte {
	b := make([]byte, esp.Size(len(payload)))
	copy(b[esp.HeaderLen:], payload)
	batch := new(esp.Batch)
	batch.Encapsulate(&p.key, p.spi, seq, b, len(payload), 0, next)
	batch.Seal()
	return espFrame(b)
}

// packet returns the frame with an inner packet, under the next number.
func (p *remote) packet(f frame) []byte {
	p.seq++
	return p.sealed(p.seq, f.bytes()[wire.EthernetLen:], wire.ProtoIPv4)
}

func inFrame(n int) frame {
	return frame{src: "10.2.0.9", to: "10.1.0.7", proto: 200, payload: bytes.Repeat([]byte{'y'}, n-wire.IPv4Len)}
}

func TestInbound(t *testing.T) {
	r := newRig(t)
	r.install(client.SA{Direction: client.Inbound, SPI: 4711})
	p := newRemote(t, 4711)
	f := inFrame(100)
	r.public.Inject(p.packet(f))
	got := take(t, r.private, 1)[0]
	f.dst, f.srcMAC, f.ttl = testMAC, privateMAC, 63
	if !bytes.Equal(got, f.bytes()) {
		t.Errorf("came in as\n%x\nwant\n%x", got, f.bytes())
	}
	r.wantDrops(nil)
}

// changed returns a copy of a frame, changed and with a right IP checksum.
func changed(b []byte, f func([]byte)) []byte {
	b = bytes.Clone(b)
	f(b)
	if len(b) >= 34 {
		n := min(int(b[14]&15)*4, len(b)-14)
		if n >= 20 {
			b[24], b[25] = 0, 0
			wire.PutBe16(b[24:], cksum.Sum(b[14:14+n], 0))
		}
	}
	return b
}

func TestOutboundDrops(t *testing.T) {
	good := outFrame(100, 'x')
	for name, c := range map[string]struct {
		frame []byte
		want  drop.Reason
	}{
		"other station":  {changed(good, func(b []byte) { b[5]++ }), drop.PrivateWrongMAC},
		"group sender":   {changed(good, func(b []byte) { b[6] = 1 }), drop.PrivateWrongMAC},
		"IPv6":           {changed(good, func(b []byte) { b[12], b[13] = 0x86, 0xdd }), drop.PrivateEthertype},
		"broadcast":      {changed(good, func(b []byte) { copy(b, "\xff\xff\xff\xff\xff\xff") }), drop.OutboundMartian},
		"version":        {changed(good, func(b []byte) { b[14] = 0x65 }), drop.OutboundMalformed},
		"cut":            {good[:60], drop.OutboundMalformed},
		"empty":          {good[:14], drop.OutboundMalformed},
		"checksum":       {slices.Concat(good[:24], []byte{good[24] ^ 1}, good[25:]), drop.OutboundChecksum},
		"to multicast":   {changed(good, func(b []byte) { b[30] = 224 }), drop.OutboundMartian},
		"from loopback":  {changed(good, func(b []byte) { b[26] = 127 }), drop.OutboundMartian},
		"short ARP":      {changed(good[:40], func(b []byte) { b[12], b[13] = 8, 6 }), drop.PrivateARP},
		"ARP for others": {arpFrame(wire.ARPRequest, 0x0a010009), drop.PrivateARPOther},
		"local fragment": {frame{dst: privateMAC, src: "10.1.0.7", to: "10.1.0.254", proto: 1, payload: echoRequest(8)}.fragment(), drop.LocalFragment},
		"bad echo":       {frame{dst: privateMAC, src: "10.1.0.7", to: "10.1.0.254", proto: 1, payload: make([]byte, 8)}.bytes(), drop.PrivateICMP},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.loopSAs()
			r.private.Inject(c.frame)
			r.wantDrops(map[drop.Reason]uint64{c.want: 1})
			if counter := c.want.Info().Counter; counter != tables.NoCounter && r.client.Counters().Get(counter) != 1 {
				t.Errorf("%s has not grown", counter)
			}
			if a, b := r.public.Drain(), r.private.Drain(); len(a)+len(b) != 0 {
				t.Errorf("something was sent: %x %x", a, b)
			}
			r.private.Inject(good)
			take(t, r.public, 1)
		})
	}
}

func (f frame) fragment() []byte {
	return changed(f.bytes(), func(b []byte) { b[20] |= 0x20 })
}

func arpFrame(op uint16, target uint32) []byte {
	b := make([]byte, wire.EthernetLen+wire.ARPLen)
	wire.Ethernet(b).Put(&[6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, &testMAC, wire.TypeARP)
	wire.PutARP(b[wire.EthernetLen:], op, &testMAC, 0x0a010009, &[6]byte{}, target)
	return b
}

func TestInboundDrops(t *testing.T) {
	p := newRemote(t, 4711)
	good := p.packet(inFrame(100))
	good4 := inFrame(100).bytes()[14:]
	inner := func(f func([]byte)) []byte {
		b := changed(inFrame(100).bytes(), f)
		return p.sealed(9, b[14:], wire.ProtoIPv4)
	}
	espOf := func(n int) []byte { return espFrame(good[34:][:n]) }
	udpFrame := func(port uint16, f func([]byte)) []byte {
		b := udp(303, port, []byte("message"), "203.0.113.2", "203.0.113.1")
		f(b)
		return frame{dst: publicMAC, src: "203.0.113.2", to: "203.0.113.1", proto: wire.ProtoUDP, payload: b}.bytes()
	}
	for name, c := range map[string]struct {
		frame []byte
		want  drop.Reason
	}{
		"other station":   {changed(good, func(b []byte) { b[5]++ }), drop.PublicWrongMAC},
		"IPv6":            {changed(good, func(b []byte) { b[12], b[13] = 0x86, 0xdd }), drop.PublicEthertype},
		"version":         {changed(good, func(b []byte) { b[14] = 0x65 }), drop.PublicMalformed},
		"checksum":        {slices.Concat(good[:24], []byte{good[24] ^ 1}, good[25:]), drop.PublicChecksum},
		"not for us":      {changed(good, func(b []byte) { b[33]++ }), drop.PublicNotForUs},
		"options":         {changed(slices.Concat(good[:34], make([]byte, 4), good[34:]), func(b []byte) { b[14] = 0x46; wire.PutBe16(b[16:], uint16(len(b)-14)) }), drop.PublicOptions},
		"first fragment":  {changed(good, func(b []byte) { b[20] = 0x20 }), drop.PublicFragment},
		"later fragment":  {changed(good, func(b []byte) { b[21] = 5 }), drop.PublicFragment},
		"UDP port":        {udpFrame(500, func([]byte) {}), drop.PublicProtocol},
		"UDP length":      {udpFrame(303, func(b []byte) { b[5]-- }), drop.KeyExchangeMalformed},
		"UDP checksum":    {udpFrame(303, func(b []byte) { b[9]++ }), drop.KeyExchangeMalformed},
		"no UDP checksum": {udpFrame(303, func(b []byte) { b[6], b[7] = 0, 0 }), drop.KeyExchangeMalformed},
		"checksum of 0":   {udpFrame(303, func(b []byte) { sumTo0(b) }), drop.KeyExchangeMalformed},
		"shorter UDP":     {udpFrame(303, func(b []byte) { b[5]--; resum(b) }), drop.KeyExchangeMalformed},
		"longer UDP":      {udpFrame(303, func(b []byte) { b[5]++; resum(b) }), drop.KeyExchangeMalformed},
		"7 bytes of UDP":  {frame{dst: publicMAC, src: "203.0.113.2", to: "203.0.113.1", proto: wire.ProtoUDP, payload: make([]byte, 7)}.bytes(), drop.KeyExchangeMalformed},
		"ESP of 0 bytes":  {espOf(0), drop.ESPTooShort},
		"ESP of 7 bytes":  {espOf(7), drop.ESPTooShort},
		"ESP of 8 bytes":  {espOf(8), drop.ESPTooShort},
		"ESP of 35 bytes": {espOf(esp.MinLen - 1), drop.ESPTooShort},
		"ESP of 36 bytes": {espOf(esp.MinLen), drop.ESPAuthentication},
		"SPI":             {changed(good, func(b []byte) { b[37]++ }), drop.ESPNoSA},
		"large SPI":       {changed(good, func(b []byte) { copy(b[34:], "\xff\xff\xff\xff") }), drop.ESPNoSA},
		"SPI 0":           {changed(good, func(b []byte) { clear(b[34:38]) }), drop.ESPNoSA},
		"damaged":         {changed(good, func(b []byte) { b[len(b)-1]++ }), drop.ESPAuthentication},
		"number 0":        {p.sealed(0, good[14:34], 4), drop.ESPReplay},
		"pad length":      {p.sealedTrailer(9, 200, 4), drop.ESPTrailer},
		"dummy":           {p.sealed(9, []byte("anything"), wire.ProtoNone), drop.ESPDummy},
		"IPv6 inside":     {p.sealed(9, make([]byte, 40), 41), drop.InboundProtocol},
		"ESP inside":      {p.sealed(9, make([]byte, 40), 50), drop.InboundProtocol},
		"inner version":   {inner(func(b []byte) { b[14] = 0x55 }), drop.InboundMalformed},
		"inner length":    {inner(func(b []byte) { b[16] = 1 }), drop.InboundMalformed},
		"inner checksum":  {p.sealed(9, slices.Concat(good4[:10], []byte{good4[10] ^ 1}, good4[11:]), 4), drop.InboundChecksum},
		"inner cut":       {p.sealed(9, good4[:99], 4), drop.InboundMalformed},
		"inner empty":     {p.sealed(9, nil, 4), drop.InboundMalformed},
		"inner multicast": {inner(func(b []byte) { b[30] = 225 }), drop.InboundMartian},
		"foreign source":  {inner(func(b []byte) { b[27] = 3 }), drop.InboundPolicy},
		"our own source":  {inner(func(b []byte) { b[27] = 1 }), drop.InboundPolicy},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.install(client.SA{Direction: client.Inbound, SPI: 4711})
			r.public.Inject(c.frame)
			r.wantDrops(map[drop.Reason]uint64{c.want: 1})
			if got := r.private.Drain(); len(got) != 0 {
				t.Errorf("something came in: %x", got)
			}
			if counter := c.want.Info().Counter; counter != tables.NoCounter && r.client.Counters().Get(counter) != 1 {
				t.Errorf("%s has not grown", counter)
			}
			r.public.Drain() // an ICMP error, perhaps
			r.public.Inject(newRemote(t, 4711).sealed(20, inFrame(100).bytes()[14:], 4))
			take(t, r.private, 1)
		})
	}
}

func pseudo(b []byte) uint32 {
	return cksum.Pseudo4(addr("203.0.113.2").As4(), addr("203.0.113.1").As4(), wire.ProtoUDP, wire.Be16(b[4:]))
}

// resum gives a datagram the checksum that is right for its length field.
func resum(b []byte) {
	wire.PutBe16(b[6:], 0)
	wire.UDP(b).SetChecksum(cksum.Sum(b, pseudo(b)))
}

// sumTo0 changes a datagram so that without a checksum it sums to what one
// with a right checksum does.
func sumTo0(b []byte) {
	wire.PutBe16(b[6:], 0)
	wire.PutBe16(b[8:], 0)
	wire.PutBe16(b[8:], cksum.Sum(b, pseudo(b)))
}

// sealedTrailer seals a packet whose pad length is wrong.
func (p *remote) sealedTrailer(seq uint64, pad, next uint8) []byte {
	b := make([]byte, 20)
	b[18], b[19] = pad, next
	full := make([]byte, esp.HeaderLen+len(b)+16)
	copy(full[esp.HeaderLen:], b)
	batch := new(esp.Batch)
	batch.Encapsulate(&p.key, p.spi, seq, full, 18, 0, next)
	full[esp.HeaderLen+18] = pad
	batch.Seal()
	return espFrame(full)
}

func TestHardLimits(t *testing.T) {
	for name, c := range map[string]struct {
		sa   client.SA
		pass int
	}{
		"packets": {client.SA{MaxPackets: 3}, 3},
		"bytes":   {client.SA{MaxBytes: 250}, 2},
		"time":    {client.SA{HardTTL: time.Nanosecond}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c.sa.Direction, c.sa.SPI = client.Outbound, 7
			r.install(c.sa)
			f := outFrame(100, 'x')
			r.private.Inject(f, f, f, f, f) // in one batch
			take(t, r.public, c.pass)
			r.wantDrops(map[drop.Reason]uint64{drop.OutboundSAEnded: uint64(5 - c.pass)})
			// One by one, by an SA that is as new.
			c.sa.SPI = 8
			r.install(c.sa)
			c.sa.Direction, c.sa.SPI = client.Inbound, 4711
			r.install(c.sa)
			for range 5 {
				r.private.Inject(f)
				r.settle()
			}
			take(t, r.public, c.pass)
			r.wantDrops(map[drop.Reason]uint64{drop.OutboundSAEnded: uint64(2 * (5 - c.pass))})
			// Inbound, only what has passed counts: the limit stops what follows.
			p := newRemote(t, 4711)
			for range 5 {
				r.public.Inject(p.packet(inFrame(100)))
				r.settle()
			}
			want := c.pass
			if c.sa.MaxBytes != 0 {
				want++ // the packet that crosses the limit has been received
			}
			take(t, r.private, want)
			r.wantDrops(map[drop.Reason]uint64{drop.OutboundSAEnded: uint64(2 * (5 - c.pass)), drop.ESPSAEnded: uint64(5 - want)})
		})
	}
}

func TestLastSequenceNumber(t *testing.T) {
	r := newRig(t)
	ref := r.install(client.SA{Direction: client.Outbound, SPI: 7})
	r.settle()
	r.engine.mem.SAs[tables.SAIndex(uint32(ref))].Seq = lastSeq - 1
	r.private.Inject(outFrame(100, 'x'))
	r.private.Inject(outFrame(100, 'x'))
	out := take(t, r.public, 1)
	if got := wire.ESP(out[0][34:]).SeqLow(); got != 0xfffffffe {
		t.Errorf("last number %#x", got)
	}
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundSAEnded: 1})
}

func TestSequenceAcross32Bits(t *testing.T) {
	r := newRig(t)
	out, in := r.loopSAs()
	r.settle()
	const start = 1<<32 - 50
	for _, ref := range []client.SARef{out, in} {
		r.engine.mem.SAs[tables.SAIndex(uint32(ref))].Seq = start
	}
	r.spec.Routes[0].Nets = append(r.spec.Routes[0].Nets, r.spec.Routes[0].Nets[0])
	r.spec.Routes[0].Nets[1] = mustPrefix("10.1.0.0/16") // so that what comes back is welcome
	r.apply()
	for range 100 {
		r.private.Inject(outFrame(60, 'x'))
	}
	frames := take(t, r.public, 100)
	slices.Reverse(frames) // as late as the window allows
	for _, f := range frames {
		r.public.Inject(changed(f, func(b []byte) { turnRound(b) }))
	}
	take(t, r.private, 100)
	r.wantDrops(nil)
}

// turnRound makes a frame that the gateway has sent one for it.
func turnRound(b []byte) {
	*(*[6]byte)(b[0:6]) = publicMAC
	src := [4]byte(b[26:30])
	*(*[4]byte)(b[26:30]) = [4]byte(b[30:34])
	*(*[4]byte)(b[30:34]) = src
}

func TestTTLExceededOutbound(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	f := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", ttl: 1, proto: 17, payload: make([]byte, 30)}.bytes()
	r.private.Inject(f)
	wantICMP(t, take(t, r.private, 1)[0][14:], "10.1.0.254", "10.1.0.7", 11, 0, 0, f[14:42])
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundTTL: 1})
}

func wantICMP(t *testing.T, b []byte, src, dst string, typ, code uint8, rest uint32, excerpt []byte) {
	t.Helper()
	p, check := wire.ParseIPv4(b)
	if check != wire.Good || p.SrcBytes() != addr(src).As4() || p.DstBytes() != addr(dst).As4() || p.Protocol() != wire.ProtoICMP {
		t.Fatalf("packet %x", b)
	}
	m, ok := icmp.Parse(p)
	if !ok || m.Type() != typ || m.Code() != code || wire.Be32(m[4:]) != rest || !bytes.Equal(m[8:], excerpt) {
		t.Fatalf("message %x, want type %d, code %d, %#x, %x", p.Payload(), typ, code, rest, excerpt)
	}
}

// throughTunnel opens a frame that went out of the public port by an SA of the
// tests' key.
func throughTunnel(t *testing.T, p *remote, f []byte) []byte {
	t.Helper()
	b := bytes.Clone(f[34:])
	batch := new(esp.Batch)
	batch.Decapsulate(&p.key, uint64(wire.ESP(b).SeqLow()), b)
	batch.Open()
	if !batch.OK(0) {
		t.Fatal("what went out does not open")
	}
	inner, next, ok := esp.Trim(b)
	if !ok || next != wire.ProtoIPv4 {
		t.Fatalf("trailer: %d, %v", next, ok)
	}
	return inner
}

func TestAnswersGoBackThroughTheTunnel(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	p := newRemote(t, 4711)

	f := inFrame(60)
	f.ttl = 1
	r.public.Inject(p.packet(f))
	wantICMP(t, throughTunnel(t, p, take(t, r.public, 1)[0]), "10.1.0.254", "10.2.0.9", 11, 0, 0, f.bytes()[14:42])

	f = frame{src: "10.2.0.9", to: "10.1.0.254", proto: wire.ProtoICMP, payload: echoRequest(40)}
	r.public.Inject(p.packet(f))
	reply := wire.IPv4(throughTunnel(t, p, take(t, r.public, 1)[0]))
	if m, ok := icmp.Parse(reply); !ok || m.Type() != wire.ICMPEchoReply || !bytes.Equal(m[4:], f.payload[4:]) ||
		reply.SrcBytes() != addr("10.1.0.254").As4() || reply.DstBytes() != addr("10.2.0.9").As4() {
		t.Errorf("reply %x", []byte(reply))
	}

	f = frame{src: "10.2.0.9", to: "10.1.0.254", proto: wire.ProtoUDP, payload: udp(1, 33434, nil, "10.2.0.9", "10.1.0.254")}
	r.public.Inject(p.packet(f))
	wantICMP(t, throughTunnel(t, p, take(t, r.public, 1)[0]), "10.1.0.254", "10.2.0.9", 3, 2, 0, f.bytes()[14:42])

	r.wantDrops(map[drop.Reason]uint64{drop.InboundTTL: 1, drop.InboundLocalProtocol: 1})
	s := r.client.Counters()
	if s.Get(tables.InboundICMP4EchoRequest) != 1 || s.Get(tables.InboundICMP4ProtocolErrors) != 1 {
		t.Error("inbound-icmp4 has not counted")
	}
}

func TestEcho(t *testing.T) {
	r := newRig(t)
	f := frame{dst: privateMAC, src: "10.1.0.7", to: "10.1.0.254", proto: wire.ProtoICMP, ttl: 3, payload: echoRequest(56)}
	r.private.Inject(f.bytes())
	want := frame{dst: testMAC, srcMAC: privateMAC, src: "10.1.0.254", to: "10.1.0.7", proto: wire.ProtoICMP, payload: echoRequest(56)}
	want.payload[0] = wire.ICMPEchoReply
	wire.PutBe16(want.payload[2:], 0)
	wire.PutBe16(want.payload[2:], cksum.Sum(want.payload, 0))
	if got := take(t, r.private, 1)[0]; !bytes.Equal(got, want.bytes()) {
		t.Errorf("private:\n%x\nwant\n%x", got, want.bytes())
	}
	f.dst, f.src, f.to = publicMAC, "198.51.100.7", "203.0.113.1"
	r.public.Inject(f.bytes())
	want.srcMAC, want.src, want.to = publicMAC, "203.0.113.1", "198.51.100.7"
	if got := take(t, r.public, 1)[0]; !bytes.Equal(got, want.bytes()) {
		t.Errorf("public:\n%x\nwant\n%x", got, want.bytes())
	}
	s := r.settle()
	if s.Get(tables.PrivateICMP4EchoRequest) != 1 || s.Get(tables.PublicICMP4EchoRequest) != 1 {
		t.Error("echo requests are not counted")
	}
}

func TestAnswersAreLimited(t *testing.T) {
	r := newRig(t)
	for name, f := range map[string]frame{
		"echo":          {to: "10.1.0.254", proto: wire.ProtoICMP, payload: echoRequest(56)},
		"time exceeded": {to: "10.2.0.9", proto: 17, ttl: 1, payload: make([]byte, 30)},
		"too big":       {to: "10.2.0.9", proto: 17, df: true, payload: make([]byte, 1440)},
		"unreachable":   {to: "10.1.0.254", proto: 17, payload: make([]byte, 30)},
	} {
		f.dst, f.src = privateMAC, "10.1.0.7"
		start := time.Now()
		for range 500 {
			r.private.Inject(f.bytes())
		}
		r.settle()
		most := icmp.PerSecond * (1 + int(time.Since(start)/time.Second+1))
		if n := len(r.private.Drain()); n < icmp.PerSecond || n > most || n == 500 {
			t.Errorf("%s: %d answers, want %d to %d", name, n, icmp.PerSecond, most)
		}
	}
}

func TestFragmentationNeeded(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	const mtu = 1446 // of a public port with 1500
	big := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", proto: 17, df: true, payload: make([]byte, mtu+1-20)}
	r.private.Inject(big.bytes())
	wantICMP(t, take(t, r.private, 1)[0][14:], "10.1.0.254", "10.1.0.7", 3, 4, mtu, big.bytes()[14:42])
	noDF := big
	noDF.df = false
	r.private.Inject(noDF.bytes())
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundTooBig: 2})
	if got := r.private.Drain(); len(got) != 0 {
		t.Errorf("an error about a packet without DF: %x", got)
	}
	fits := big
	fits.payload = fits.payload[1:]
	r.private.Inject(fits.bytes())
	if out := take(t, r.public, 1)[0]; len(out)-14 > 1500 {
		t.Errorf("outer packet of %d bytes", len(out)-14)
	}
	if n := r.client.Counters().Get(tables.PrivateRouterMTUErrors); n != 2 {
		t.Errorf("mtu-errors %d, want 2", n)
	}
	r.spec.MTU = 1000
	r.apply()
	r.private.Inject(fits.bytes())
	wantICMP(t, take(t, r.private, 1)[0][14:], "10.1.0.254", "10.1.0.7", 3, 4, 1000, fits.bytes()[14:42])
}

func TestInboundTooBig(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	small, end := newWire(t, memory.Options{MTU: 1000})
	r.spec.Private.Link.Ifname = small
	r.apply()
	p := newRemote(t, 4711)
	f := inFrame(1001)
	f.df = true
	r.public.Inject(p.packet(f))
	wantICMP(t, throughTunnel(t, p, take(t, r.public, 1)[0]), "10.1.0.254", "10.2.0.9", 3, 4, 1000, f.bytes()[14:42])
	r.public.Inject(p.packet(inFrame(1000)))
	take(t, end, 1)
	r.wantDrops(map[drop.Reason]uint64{drop.InboundTooBig: 1})
}

func TestTrafficFlowConfidentiality(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	r.spec.TFC, r.spec.MTU = true, 1200
	r.apply()
	for _, n := range []int{20, 21, 700, 1200} {
		r.private.Inject(outFrame(n, 'x'))
		f := take(t, r.public, 1)[0]
		if len(f) != 34+esp.Size(1200) {
			t.Errorf("%d bytes make a frame of %d, want %d", n, len(f), 34+esp.Size(1200))
		}
		inner := throughTunnel(t, newRemote(t, 4711), f)
		if p, check := wire.ParseIPv4(inner); check != wire.Good || len(p) != n || len(inner) != 1200 {
			t.Errorf("%d bytes come out as %d in %d", n, len(p), len(inner))
		}
	}
	// And what is filled is trimmed on its way in.
	p := newRemote(t, 4711)
	payload := append(inFrame(100).bytes()[14:], make([]byte, 300)...)
	r.public.Inject(p.sealed(1, payload, wire.ProtoIPv4))
	if got := take(t, r.private, 1)[0]; len(got) != 114 {
		t.Errorf("frame of %d bytes, want 114", len(got))
	}
}

func TestResolution(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	r.spec.Public[0].NextHopMAC = [6]byte{}
	r.spec.Private.NextHopMAC = [6]byte{}
	r.apply()
	ask := take(t, r.public, 1)[0]
	a, ok := wire.ParseARP(ask[14:])
	if !ok || a.Op() != wire.ARPRequest || a.TargetIP() != 0xcb0071fe || a.SenderIP() != 0xcb007101 || *a.SenderMAC() != publicMAC {
		t.Fatalf("request %x", ask)
	}
	take(t, r.private, 1)
	r.private.Inject(outFrame(60, 'x'))
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoNextHop: 1})

	nextHop := [6]byte{2, 0, 0, 0, 9, 9}
	reply := make([]byte, wire.EthernetLen+wire.ARPLen)
	wire.Ethernet(reply).Put(&publicMAC, &nextHop, wire.TypeARP)
	wire.PutARP(reply[14:], wire.ARPReply, &nextHop, 0xcb0071fe, &publicMAC, 0xcb007101)
	r.public.Inject(reply)
	r.settle()
	r.private.Inject(outFrame(60, 'x'))
	for _, f := range r.until(r.public, func(f []byte) bool { return wire.Ethernet(f).Type() == wire.TypeIPv4 }) {
		if *wire.Ethernet(f).Dst() != nextHop {
			t.Errorf("sent to %x, want %x", f[:6], nextHop)
		}
	}
	s := r.settle()
	if s.Get(tables.PublicNextHopARPReplies) != 1 || s.Get(tables.PublicNextHopAddressesAdded) != 1 || s.Get(tables.PublicNextHopAddressesUpdated) != 0 {
		t.Error("public-next-hop has not counted")
	}

	// Our own address is asked for, and answered.
	r.private.Drain()
	r.private.Inject(arpFrame(wire.ARPRequest, 0x0a0100fe))
	answers := r.until(r.private, func(f []byte) bool {
		a, ok := wire.ParseARP(f[14:])
		return ok && a.Op() == wire.ARPReply
	})
	if a := wire.ARP(answers[0][14:]); *a.SenderMAC() != privateMAC || a.SenderIP() != 0x0a0100fe || *wire.Ethernet(answers[0]).Dst() != testMAC {
		t.Errorf("answer %x", answers[0])
	}
	if n := r.settle().Get(tables.PrivateNextHopARPRequests); n != 1 {
		t.Errorf("private arp-requests %d, want 1", n)
	}
}

// until waits for a frame of a kind and returns it with others of that kind.
func (r *rig) until(e *memory.End, kind func([]byte) bool) (out [][]byte) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); len(out) == 0; {
		for _, f := range e.Drain() {
			if kind(f) {
				out = append(out, f)
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatal("the awaited frame has not come")
		}
		time.Sleep(100 * time.Microsecond)
	}
	return out
}

func TestNetUnreachable(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	f := changed(outFrame(100, 'x'), func(b []byte) { b[31] = 3 })
	r.private.Inject(f)
	wantICMP(t, take(t, r.private, 1)[0][14:], "10.1.0.254", "10.1.0.7", 3, 0, 0, f[14:42])
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoRoute: 1})
	if n := r.client.Counters().Get(tables.PrivateRouterRouteErrors); n != 1 {
		t.Errorf("route-errors %d, want 1", n)
	}
	r6 := newRig6(t)
	p := packet6(host6, "2001:db8:c::1", 200, 64, make([]byte, 20))
	r6.private.Inject(toPrivate6(p))
	wantICMP6(t, take(t, r6.private, 1)[0][14:], priv6, host6, 1, 0, 0, p)
	r6.wantDrops(map[drop.Reason]uint64{drop.OutboundNoRoute: 1})
}

// TestResynchronisation: after more than 2^32 lost packets the inferred number
// is wrong; the receiver finds it again if it may, and not before many packets
// have failed.
func TestResynchronisation(t *testing.T) {
	for name, c := range map[string]struct {
		on    bool
		ahead uint64
		found bool
	}{
		"three spans ahead": {true, 3 << 32, true},
		"eight":             {true, 8 << 32, true},
		"too far":           {true, 9 << 32, false},
		"not allowed":       {false, 3 << 32, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.spec.Resync = c.on
			r.apply()
			r.install(client.SA{Direction: client.Inbound, SPI: 4711})
			p := newRemote(t, 4711)
			r.public.Inject(p.sealed(1000, inFrame(100).bytes()[14:], wire.ProtoIPv4))
			take(t, r.private, 1)
			for i := range uint64(esp.ResyncAfter) {
				r.public.Inject(p.sealed(c.ahead+1001+i, inFrame(100).bytes()[14:], wire.ProtoIPv4))
				if i%500 == 0 {
					r.settle()
				}
			}
			r.wantDrops(map[drop.Reason]uint64{drop.ESPAuthentication: esp.ResyncAfter})
			next := c.ahead + 5000
			r.public.Inject(p.sealed(next, inFrame(100).bytes()[14:], wire.ProtoIPv4))
			if !c.found {
				r.wantDrops(map[drop.Reason]uint64{drop.ESPAuthentication: esp.ResyncAfter + 1})
				return
			}
			take(t, r.private, 1)
			r.public.Inject(p.sealed(next+1, inFrame(100).bytes()[14:], wire.ProtoIPv4))
			r.public.Inject(p.sealed(next, inFrame(100).bytes()[14:], wire.ProtoIPv4))
			take(t, r.private, 1)
			r.wantDrops(map[drop.Reason]uint64{drop.ESPAuthentication: esp.ResyncAfter, drop.ESPReplay: 1})
		})
	}
}

// TestPathMTUAges: what was learnt is forgotten after a while, so that a path
// that has become better is used again.
func TestPathMTUAges(t *testing.T) {
	r := newRig(t)
	ref := r.install(client.SA{Direction: client.Outbound, SPI: 7})
	w, goOn := r.still()
	defer goOn()
	e := &w.mem.SAs[tables.SAIndex(uint32(ref))]
	e.Seq = 10
	quoted := append([]byte{0, 0, 0, 7, 0, 0, 0, 10}, make([]byte, 8)...)
	w.learnMTU(&[16]byte{10: 0xff, 11: 0xff, 12: 203, 13: 0, 14: 113, 15: 2}, quoted, 1000)
	if got, want := w.innerLimit(&outboundSA{entry: e}), esp.MaxInner(1000, wire.IPv4Len); got != want {
		t.Fatalf("limit %d, want %d", got, want)
	}
	w.now += int64(pmtuAge)
	if got := w.innerLimit(&outboundSA{entry: e}); got != w.a.innerMTU {
		t.Errorf("after %v the limit is still %d", pmtuAge, got)
	}
}
