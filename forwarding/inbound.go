package forwarding

import (
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"vita/asm/cksum"
	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/icmp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// inbound takes packets out of the tunnel into the private network.
//
//	public Rx -> sort -> SA by SPI -> replay check -> open -> mark -> inner header
//	  -> policy: whose source is it -> fit -> Ethernet -> private Tx
//
// As in outbound.go, inbound6.go has what is different for IPv6. Up to the
// cipher that is the family of the tunnels, behind it the one of what was in
// them.
func (w *worker) inbound() int {
	a := w.a
	n := a.public.port.Rx(w.rx[:])
	if w.capture != nil {
		w.captureRx(&a.public, n)
	}
	rx := w.rx[:n]
	if a.public.vlan != 0 {
		rx = w.untag(&a.public, rx)
	}
	m := w.sortPublic(rx)
	if m == 0 {
		return n
	}
	w.countsOf(m)
	w.crypt.Open()
	m4, m6 := w.decapsulated(m)
	w.crypt.Reset()
	if w.capture != nil {
		w.captureInbound(w.fwd[:m4])
		w.captureInbound(w.fwd6[:m6])
	}
	if m4 > 0 {
		a.tables.LPM.Lookup(w.value[:m4], w.addr[:m4])
		w.deliver(m4)
	}
	if m6 > 0 {
		a.tables.LPM6.Lookup(w.value[:m6], w.addr6[:m6])
		w.deliver6(m6)
	}
	return n
}

// classifyPublic says what a frame is. ESP packets it queues for the cipher,
// at place m of the batch, and returns the next place.
func (w *worker) classifyPublic(k pktbuf.Packet, m int) int {
	s := &w.a.public
	f, group, ok := w.frameOf(s, k)
	if !ok {
		return m
	}
	switch f.Type() {
	case wire.TypeIPv4:
	case wire.TypeARP:
		w.arp(s, k, f)
		return m
	default:
		if k, ok := w.otherType(s, k, drop.PublicEthertype); ok {
			return w.classifyPublic(k, m)
		}
		return m
	}
	p, check := wire.ParseIPv4(f[wire.EthernetLen:])
	switch {
	case check == wire.Malformed:
		w.drop(k, drop.PublicMalformed)
		return m
	case check == wire.BadChecksum:
		w.drop(k, drop.PublicChecksum)
		return m
	case group || p.Dst() != s.self.IP:
		w.drop(k, drop.PublicNotForUs)
		return m
	case p.HeaderLen() != wire.IPv4Len:
		w.drop(k, drop.PublicOptions)
		return m
	case p.Fragment():
		w.drop(k, drop.PublicFragment)
		return m
	}
	k = k.Grow(-wire.EthernetLen)
	k.Len = uint16(len(p))
	switch p.Protocol() {
	case wire.ProtoESP:
		return w.classifyESP(k.Grow(-wire.IPv4Len), m, 0)
	case wire.ProtoUDP:
		if n, ok := w.outOfUDP(k, p.Payload(), m); ok {
			return n
		}
		w.keyExchange(k, p)
	case wire.ProtoICMP:
		w.learnMTU4(p)
		w.icmpAt(s, icmp.Public, drop.PublicICMP, k, p)
	default:
		w.notSpoken(s, drop.PublicProtocol, k, p)
	}
	return m
}

// classifyESP finds the SA of an ESP packet and queues the packet, unless it
// can be seen without its key that it is not acceptable. Udp is what it came in,
// see worker.
func (w *worker) classifyESP(k pktbuf.Packet, m int, udp uint32) int {
	b := w.pool.Bytes(k)
	if len(b) < wire.ESPLen {
		w.drop(k, drop.ESPTooShort)
		return m
	}
	e := wire.ESP(b)
	ref := w.spis.find(e.SPI())
	i := tables.SAIndex(ref)
	if ref == 0 || i >= len(w.mem.SAs) {
		w.drop(k, drop.ESPNoSA)
		return m
	}
	sa, key := &w.mem.SAs[i], w.keys.at(i)
	if key == nil { // the SA is about to end
		w.drop(k, drop.ESPNoSA)
		return m
	}
	if len(b) < esp.MinLen {
		sa.RxErrors++
		w.dropIn(k, sa, drop.ESPTooShort)
		return m
	}
	if w.ended(sa, 0) {
		sa.RxErrors++
		w.dropIn(k, sa, drop.ESPSAEnded)
		return m
	}
	seq, ok := esp.Infer(sa.Seq, e.SeqLow(), sa.Replay)
	if !ok || esp.Seen(sa, w.mem.Window(sa, i), seq) {
		sa.DecryptErrors++
		w.dropIn(k, sa, drop.ESPReplay)
		return m
	}
	if sa.Failures >= esp.ResyncAfter && w.a.tables.Resync && w.now >= w.resync {
		seq = w.resynchronise(sa, key, seq, b)
	}
	w.crypt.Decapsulate(key, seq, b)
	w.fwd[m], w.sas[m], w.index[m], w.seqs[m], w.udp[m] = k, sa, i, seq, udp
	return m + 1
}

// resyncEvery is how often resynchronisation is tried at most. Somebody who
// sends forged packets can cause no more work than that.
const resyncEvery = 10 * time.Millisecond

// resynchronise returns the sequence number by which the ESP packet b of an SA
// whose packets have long not been authentic is so, if one of the next upper
// halves makes it so; otherwise seq, the one inferred. The packet itself stays
// as it is, to be opened like any other (RFC 4303, appendix A3).
func (w *worker) resynchronise(sa *tables.SA, key *esp.Key, seq uint64, b []byte) uint64 {
	w.resync = w.now + int64(resyncEvery)
	k, c, ok := w.own(len(b))
	if !ok {
		return seq
	}
	defer w.pool.Put(k)
	for n := range uint64(esp.ResyncEpochs) {
		later := seq + (n+1)<<32
		if later < seq {
			break
		}
		copy(c, b)
		w.trial.Decapsulate(key, later, c)
		w.trial.Open()
		ok := w.trial.OK(0)
		w.trial.Reset()
		if ok {
			return later
		}
	}
	return seq
}

// decapsulated keeps, of the m opened packets, what is authentic and carries a
// well-formed packet, in the part of its family: inner packets in fwd and fwd6,
// their sources in addr and addr6. It returns how many there are of each.
func (w *worker) decapsulated(m int) (m4, m6 int) {
	pool := w.pool
	has4, has6 := w.a.private.self.Has4, w.a.private.self.Has6
	var run inboundRun // packets by one SA
	for i := range m {
		k, sa := w.fwd[i], w.sas[i]
		if !w.crypt.OK(i) {
			sa.DecryptErrors++
			sa.Failures++
			w.dropIn(k, sa, drop.ESPAuthentication)
			continue
		}
		if sa != run.sa {
			run.settle(w.now)
			run.sa, run.counts, run.window = sa, w.counts(sa.Route), w.mem.Window(sa, w.index[i])
		}
		if sa.Failures != 0 {
			sa.Failures = 0
		}
		// Only now may the window move: before, anybody could move it.
		if !esp.Mark(sa, run.window, w.seqs[i]) {
			sa.DecryptErrors++
			w.dropIn(k, sa, drop.ESPReplay)
			continue
		}
		run.packets++
		b := pool.Bytes(k)
		payload, next, ok := esp.Trim(b)
		if ok && w.udp[i] == 0 {
			switch {
			case next == wire.ProtoIPv4 && has4 && w.plain4(k, payload, m4):
				w.sas[m4] = sa
				m4++
				run.bytes += uint64(len(payload))
				continue
			case next == wire.ProtoIPv6 && has6 && w.plain6(k, payload, m6):
				w.sas6[m6] = sa
				m6++
				run.bytes += uint64(len(payload))
				continue
			}
		}
		run.settle(w.now) // what follows looks at the counts
		outer := k        // from the outer header's end on
		if w.udp[i] != 0 {
			outer = k.Grow(wire.UDPLen)
			if w.seqs[i] == sa.Seq { // the newest
				w.moved(sa, run.counts, outer, uint16(w.udp[i]))
			}
		}
		switch {
		case !ok:
			sa.ProtocolErrors++
			w.dropIn(k, sa, drop.ESPTrailer)
		case next == wire.ProtoIPv4 && has4:
			m4 = w.inner(k, sa, payload, w.outerECN(outer), m4)
		case next == wire.ProtoIPv6 && has6:
			m6 = w.inner6(k, sa, payload, w.outerECN(outer), m6)
		case next == wire.ProtoNone:
			w.dropIn(k, sa, drop.ESPDummy)
		default:
			sa.ProtocolErrors++
			w.dropIn(k, sa, drop.InboundProtocol)
		}
	}
	run.settle(w.now)
	return m4, m6
}

// inboundRun is what packets by the same SA, one after the other, add to its
// counts.
type inboundRun struct {
	sa      *tables.SA // nil: none yet
	counts  *tables.RouteCounts
	window  []uint64
	packets uint64
	bytes   uint64 // of inner packets
}

// settle counts them.
func (r *inboundRun) settle(now int64) {
	if r.packets == 0 {
		return
	}
	r.sa.Packets += r.packets
	r.sa.Bytes += r.bytes
	r.sa.LastUsed = now
	r.counts.ReceivedPackets += r.packets
	r.counts.ReceivedBytes += r.bytes
	r.counts.LastUsed = now
	r.packets, r.bytes = 0, 0
}

// inner puts an inner packet at place m of its part, and returns the next place.
// Outer is the outer header's ECN field.
func (w *worker) inner(k pktbuf.Packet, sa *tables.SA, payload []byte, outer uint8, m int) int {
	sa.Bytes += uint64(len(payload))
	w.counts(sa.Route).ReceivedBytes += uint64(len(payload))
	p, check := wire.ParseIPv4(payload)
	switch {
	case check == wire.Malformed:
		sa.ProtocolErrors++
		w.dropIn(k, sa, drop.InboundMalformed)
		return m
	case check == wire.BadChecksum:
		w.dropIn(k, sa, drop.InboundChecksum)
		return m
	case wire.Martian(p.Src()) || wire.Martian(p.Dst()):
		w.dropIn(k, sa, drop.InboundMartian)
		return m
	}
	if outer != wire.NotECT {
		ecn, ok := wire.DecapsulateECN(p.TOS(), outer)
		if !ok {
			w.dropIn(k, sa, drop.InboundCongestion)
			return m
		}
		p.SetECN(ecn)
	}
	k = k.Grow(-esp.HeaderLen)
	k.Len = uint16(len(p)) // without traffic flow padding
	w.fwd[m], w.sas[m], w.addr[m] = k, sa, p.Src()
	return m + 1
}

// outerECN returns the ECN field of the header in front of a packet.
func (w *worker) outerECN(k pktbuf.Packet) uint8 {
	if w.a.v6 {
		return wire.IPv6(w.pool.Bytes(k.Grow(wire.IPv6Len))).Class() & 3
	}
	return wire.IPv4(w.pool.Bytes(k.Grow(wire.IPv4Len))).TOS() & 3
}

// deliver sends inner packets to the private network, if their source belongs
// to the route by which they came (RFC 4301, 5.2): it does if a packet to that
// source would take the same route.
func (w *worker) deliver(m int) {
	a := w.a
	s := &a.private
	mac, reachable := w.via(s, a.next4)
	head := ethernetHead(mac, &s.self.MAC, type4)
	pool, own, mtu := w.pool, s.self.IP, s.mtu
	for i := range m {
		k, sa := w.fwd[i], w.sas[i]
		f := pool.Head(k.Grow(wire.EthernetLen))
		p := (*[wire.IPv4Len]byte)(f[wire.EthernetLen:])
		if w.value[i] != sa.Route || wire.Be32(p[16:]) == own || p[8] <= 1 || int(k.Len) > mtu || !reachable {
			w.undelivered(i)
			continue
		}
		wire.LowerTTL((*[4]byte)(p[8:]))
		head.put(f)
		w.push(s, k.Grow(wire.EthernetLen))
	}
}

// undelivered takes a packet that is not to be sent to the private network.
func (w *worker) undelivered(i int) {
	s := &w.a.private
	k, sa := w.fwd[i], w.sas[i]
	p := wire.IPv4(w.pool.Bytes(k))
	switch {
	case w.value[i] != sa.Route:
		w.dropIn(k, sa, drop.InboundPolicy)
	case p.Dst() == s.self.IP:
		w.localInbound(k, p)
	case p.TTL() <= 1:
		w.tellInbound(p, &w.limits.timeExceeded, wire.ICMPTimeExceeded, wire.CodeTTLExceeded, 0)
		w.dropIn(k, sa, drop.InboundTTL)
	case len(p) > s.mtu:
		if p.DF() {
			w.tellInbound(p, &w.limits.tooBig, wire.ICMPUnreachable, wire.CodeFragmentationNeeded, uint32(s.mtu))
		}
		w.dropIn(k, sa, drop.InboundTooBig)
	default: // the next hop is not known
		w.dropIn(k, sa, drop.InboundNoNextHop)
	}
}

// keyExchange hands a datagram for the key exchange port to vitad.
func (w *worker) keyExchange(k pktbuf.Packet, p wire.IPv4) {
	s := &w.a.public
	b := p.Payload()
	if len(b) < wire.UDPLen {
		w.drop(k, drop.KeyExchangeMalformed)
		return
	}
	u := wire.UDP(b)
	if u.DstPort() != w.a.tables.ProtocolPort {
		w.notSpoken(s, drop.PublicProtocol, k, p)
		return
	}
	n := u.Length()
	if n != len(b) || u.Checksum() == 0 || !cksum.Valid(b, cksum.Pseudo4(p.SrcBytes(), p.DstBytes(), wire.ProtoUDP, uint16(n))) {
		w.drop(k, drop.KeyExchangeMalformed)
		return
	}
	w.punted(k, netip.AddrPortFrom(netip.AddrFrom4(p.SrcBytes()), u.SrcPort()), b[wire.UDPLen:])
}

// punted hands a message to vitad, and drops the packet that it came in.
func (w *worker) punted(k pktbuf.Packet, peer netip.AddrPort, message []byte) {
	ring := w.mem.ToControl(w.slot)
	if ring.Len() >= tables.RingSize/2 && !w.sources.allow(peer.Addr(), w.now) {
		w.drop(k, drop.KeyExchangeRate)
		return
	}
	ok, wake := ring.Put(peer, message)
	if wake {
		w.eventBuf = [8]byte{1}
		_, _ = unix.Write(w.punt, w.eventBuf[:]) // does not block; a full file has been signalled
	}
	if !ok {
		w.drop(k, drop.KeyExchangeRingFull)
		return
	}
	w.pool.Put(k)
}

// sources limits how many messages come from an address while vitad has more
// than enough to read, so that the flood of one sender leaves room for the
// others. Addresses share its buckets, by a rule that nobody outside can know.
type sources struct {
	seed    [2]uint64
	buckets [256]icmp.Limiter
}

func newSources() sources { return sources{seed: [2]uint64{rand.Uint64(), rand.Uint64()}} }

func (s *sources) allow(a netip.Addr, now int64) bool {
	b := a.As16()
	half := func(b []byte) uint64 { return uint64(wire.Be32(b))<<32 | uint64(wire.Be32(b[4:])) }
	hi, lo := bits.Mul64(half(b[:])^s.seed[0], half(b[8:])^s.seed[1])
	return s.buckets[uint8(hi^lo)].Allow(now)
}

// fromControl sends the key exchange messages that vitad has for us.
func (w *worker) fromControl() int {
	const most = 16 // a turn, so that packets do not wait
	ring := w.mem.FromControl(w.slot)
	for n := range most {
		e := ring.Next()
		if e == nil {
			return n
		}
		w.sendMessage(e)
		ring.Release()
	}
	return most
}

func (w *worker) sendMessage(e *tables.Entry) {
	s := &w.a.public
	peer := e.Peer()
	mac, ok := w.hopTo(peer.Addr())
	if !ok || peer.Addr().Is4() == w.a.v6 {
		w.note(drop.OutboundNoNextHop)
		return
	}
	payload := e.Payload()
	udpLen := wire.UDPLen + len(payload)
	header, typ := wire.IPv4Len, uint16(wire.TypeIPv4)
	if w.a.v6 {
		header, typ = wire.IPv6Len, wire.TypeIPv6
	}
	total := header + udpLen
	if total > s.mtu {
		w.note(drop.OutboundTooBig)
		return
	}
	k, f, ok := w.own(wire.EthernetLen + total)
	if !ok {
		return
	}
	to := mac.MAC()
	wire.Ethernet(f).Put(&to, &s.self.MAC, typ)
	p := f[wire.EthernetLen:]
	u := wire.UDP(p[header:])
	u.Put(w.a.tables.ProtocolPort, peer.Port(), udpLen)
	copy(u[wire.UDPLen:], payload)
	var pseudo uint32
	if w.a.v6 {
		to := peer.Addr().As16()
		wire.PutIPv6(p, udpLen, wire.ProtoUDP, outerTTL, &s.self.IP6, &to)
		pseudo = cksum.Pseudo6(s.self.IP6, to, wire.ProtoUDP, uint32(udpLen))
	} else {
		to := peer.Addr().As4()
		wire.PutIPv4(p, total, false, outerTTL, wire.ProtoUDP, s.self.IP, wire.Be32(to[:]))
		pseudo = cksum.Pseudo4(wire.IPv4(p).SrcBytes(), to, wire.ProtoUDP, uint16(udpLen))
	}
	u.SetChecksum(cksum.Sum(u, pseudo))
	w.push(s, k)
}
