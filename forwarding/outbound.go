package forwarding

import (
	"math"
	"sync/atomic"

	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// outerRoom is the room that the tunnel's headers take in front of an inner
// packet, at most.
const outerRoom = wire.EthernetLen + wire.VLANLen + wire.IPv6Len + wire.UDPLen + esp.HeaderLen

// outerTTL is the time to live of ESP packets and key exchange.
const outerTTL = 64

// outbound takes packets from the private network into the tunnel.
//
//	private Rx -> sort -> look routes up -> fit, choose SA, all headers -> seal -> public Tx
//
// Packets of both families go through the same SAs. What depends on the inner
// one stands here for IPv4, and in outbound6.go under the same names for IPv6:
// classify parts the batch, and a part that is empty costs nothing. The outer
// family is the gateway's and is asked for once a batch.
func (w *worker) outbound() int {
	a := w.a
	n := a.private.port.Rx(w.rx[:])
	if w.capture != nil {
		w.captureRx(&a.private, n)
	}
	rx := w.rx[:n]
	if a.private.vlan != 0 {
		rx = w.untag(&a.private, rx)
	}
	m4, m6 := w.sortPrivate(rx)
	transit4, transit6 := m4, m6
	if w.nlocal > 0 {
		m4, m6 = w.takeLocal(m4, m6)
	}
	if m4+m6 == 0 {
		return n
	}
	m := 0
	if m4 > 0 {
		a.tables.LPM.Lookup(w.value[:m4], w.addr[:m4])
		w.sendsBy(w.value[:m4])
		m = w.fit(m4, transit4)
	}
	if m6 > 0 {
		a.tables.LPM6.Lookup(w.value[:m6], w.addr6[:m6])
		w.sendsBy(w.value[:m6])
		m = w.fit6(m, m6, transit6)
	}
	if w.capture != nil {
		w.captureOutbound(m)
	}
	w.crypt.Seal()
	w.outer(m)
	w.crypt.Reset()
	return max(n, m)
}

// classifyPrivate says what a frame is. What is to be forwarded it puts, from
// its IP header on, at the end of its family's part of the batch; m4 and m6 are
// the lengths of the two, as they were and as they are then.
func (w *worker) classifyPrivate(k pktbuf.Packet, m4, m6 int) (int, int) {
	s := &w.a.private
	f, group, ok := w.frameOf(s, k)
	if !ok {
		return m4, m6
	}
	switch t := f.Type(); {
	case t == wire.TypeIPv4 && s.self.Has4:
		return w.classifyPrivate4(k, f, group, m4), m6
	case t == wire.TypeIPv6 && s.self.Has6:
		return m4, w.classifyPrivate6(k, f, group, m6)
	case t == wire.TypeARP && s.self.Has4:
		w.arp(s, k, f)
	default:
		if k, ok := w.otherType(s, k, drop.PrivateEthertype); ok {
			return w.classifyPrivate(k, m4, m6)
		}
	}
	return m4, m6
}

func (w *worker) classifyPrivate4(k pktbuf.Packet, f wire.Ethernet, group bool, m int) int {
	s := &w.a.private
	p, check := wire.ParseIPv4(f[wire.EthernetLen:])
	switch {
	case check == wire.Malformed:
		w.drop(k, drop.OutboundMalformed)
		return m
	case check == wire.BadChecksum:
		w.drop(k, drop.OutboundChecksum)
		return m
	case group || wire.Martian(p.Src()) || wire.Martian(p.Dst()):
		w.drop(k, drop.OutboundMartian)
		return m
	}
	k = k.Grow(-wire.EthernetLen)
	k.Len = uint16(len(p)) // without Ethernet's padding
	if p.Dst() == s.self.IP {
		w.localPrivate(k, p)
		return m
	}
	w.fwd[m], w.addr[m] = k, p.Dst()
	return m + 1
}

// takeLocal adds to the batch the packets of our own that go into the tunnel.
func (w *worker) takeLocal(m4, m6 int) (int, int) {
	for _, k := range w.local[:w.nlocal] {
		if p := w.pool.Bytes(k); p[0]>>4 == 4 {
			w.fwd[m4], w.addr[m4] = k, wire.IPv4(p).Dst()
			m4++
		} else {
			w.fwd6[m6], w.addr6[m6] = k, *wire.IPv6(p).Dst()
			m6++
		}
	}
	w.nlocal = 0
	return m4, m6
}

// fit drops what cannot go through the tunnel and tells its senders, and
// queues the rest for the cipher: ESP packets in fwd, where they go in peers.
// Packets from place transit on are our own. It returns how many there are.
func (w *worker) fit(m, transit int) int {
	a := w.a
	t := a.tables
	setDF, copyDF := t.DF == tables.DFSet, t.DF == tables.DFCopy
	out := 0
	var sa outboundSA // of the packet before
	for i := range m {
		k, route := w.fwd[i], w.value[i]
		if int(route) >= len(t.Routes) { // lpm.Miss is larger than any
			if i < transit {
				w.tellPrivate(k, w.pool.Bytes(k), &w.limits.unreachable, wire.ICMPUnreachable, wire.CodeNetUnreachable, 0)
			}
			w.drop(k, drop.OutboundNoRoute)
			continue
		}
		if sa.counts == nil || sa.route != route {
			w.settle(&sa)
			w.outboundSA(&sa, route)
		}
		h := w.pool.Head(k)
		n, tos, df := int(k.Len), h[1], setDF || copyDF && h[6]&0x40 != 0
		if i < transit {
			if h[8] <= 1 || n > sa.limit || !sa.reachable {
				w.unfit(k, &sa)
				continue
			}
			if !w.encapsulate(out, k, &sa, n, wire.ProtoIPv4, t.OuterSet|tos&t.OuterCopy, df) {
				continue
			}
			wire.LowerTTL((*[4]byte)(h[8:]))
			out++
			continue
		}
		switch {
		case n > sa.limit:
			w.dropOut(k, &sa, drop.OutboundTooBig)
		case !sa.reachable:
			w.dropOut(k, &sa, drop.OutboundNoNextHop)
		case w.encapsulate(out, k, &sa, n, wire.ProtoIPv4, t.OuterSet|tos&t.OuterCopy, df):
			out++
		}
	}
	w.settle(&sa)
	return out
}

// unfit drops a packet in transit that cannot go through the tunnel, or sends it
// in pieces.
func (w *worker) unfit(k pktbuf.Packet, sa *outboundSA) {
	p := wire.IPv4(w.pool.Bytes(k))
	switch {
	case p.TTL() <= 1:
		w.tellPrivate(k, p, &w.limits.timeExceeded, wire.ICMPTimeExceeded, wire.CodeTTLExceeded, 0)
		w.dropOut(k, sa, drop.OutboundTTL)
	case len(p) <= sa.limit: // the next hop is not known
		w.dropOut(k, sa, drop.OutboundNoNextHop)
	case p.DF():
		w.tellPrivate(k, p, &w.limits.tooBig, wire.ICMPUnreachable, wire.CodeFragmentationNeeded, uint32(sa.limit))
		w.dropOut(k, sa, drop.OutboundTooBig)
	case w.a.tables.Fragment && w.fragment(k, p, sa.limit):
	default:
		w.dropOut(k, sa, drop.OutboundTooBig)
	}
}

// encapsulate puts all headers around a packet of n bytes, of the protocol next,
// and queues it for the cipher at place out of the batch. Tos and df are those
// of the outer header; where df is false that gets an identification. Where
// encapsulate returns false it has dropped the packet.
func (w *worker) encapsulate(out int, k pktbuf.Packet, sa *outboundSA, n int, next, tos uint8, df bool) bool {
	fill := 0
	if w.a.tables.TFC {
		fill = max(sa.path-n, 0)
	}
	size := esp.Size(n + fill)
	switch {
	case sa.entry == nil:
		w.dropOut(k, sa, drop.OutboundNoSA)
		return false
	case int(k.Off) < outerRoom || size-esp.HeaderLen > n+w.pool.Tailroom(k):
		w.dropOut(k, sa, drop.OutboundNoRoom)
		return false
	case !sa.spend(n):
		w.dropOut(k, sa, drop.OutboundSAEnded)
		return false
	}
	w.wrap(out, k, sa, n, fill, next, tos, df)
	return true
}

// wrap is encapsulate when nothing can go wrong any more, with fill bytes behind
// the packet.
func (w *worker) wrap(out int, k pktbuf.Packet, sa *outboundSA, n, fill int, next, tos uint8, df bool) {
	size := esp.Size(n + fill)
	k = k.Grow(esp.HeaderLen)
	k.Len = uint16(size)
	w.fwd[out], w.headers[out] = k, uint8(sa.head.n)
	h := w.pool.Head(k.Grow(sa.head.n))
	if w.a.v6 {
		sa.head.put6(h, size, tos)
	} else {
		id := uint16(0)
		if !df { // then fragments must be told apart (RFC 6864, section 4)
			w.ident++
			id = w.ident
		}
		sa.head.put4(h, size, tos, id, df)
	}
	w.crypt.Encapsulate(sa.key, sa.spi, sa.seq, w.pool.Bytes(k), n, fill, next)
}

// fragment sends a packet that may be fragmented in pieces of at most limit
// bytes (RFC 791, section 3.2), with the next batch, and frees it. It returns
// false, and has done nothing, where it cannot: the packet has options, of which
// some would go into all pieces, or there is no room for so many.
func (w *worker) fragment(k pktbuf.Packet, p wire.IPv4, limit int) bool {
	room := (limit - wire.IPv4Len) &^ 7
	if p.HeaderLen() != wire.IPv4Len || room < 8 {
		return false
	}
	payload := p.Payload()
	if int(wire.Be16(p[6:])&0x1fff)+len(payload)/8 > 0x1fff {
		return false // ends beyond what a packet can have: nobody could put it together
	}
	n := (len(payload) + room - 1) / room
	if n > len(w.local)-w.nlocal || n > w.pool.Available() {
		return false
	}
	p.DecrementTTL()
	for at := 0; at < len(payload); at += room {
		part := payload[at:min(at+room, len(payload))]
		e, b, ok := w.own(wire.IPv4Len + len(part))
		if !ok {
			break // the receiver does without the rest, as with any loss
		}
		f := wire.IPv4(b)
		copy(f, p[:wire.IPv4Len])
		copy(f[wire.IPv4Len:], part)
		f.SetFragment(len(f), at/8, at+len(part) < len(payload))
		w.intoTunnel(e)
	}
	w.pool.Put(k)
	return true
}

// outboundSA is what a route sends by; entry is nil where it has nothing. What
// is sent is counted here first, and at the SA by settle.
type outboundSA struct {
	route  uint32
	counts *tables.RouteCounts // nil: of no route yet
	entry  *tables.SA
	key    *esp.Key
	peer   [16]byte
	port   uint16 // of ESP in UDP; 0: it is not in UDP

	mac       wire.MACWord // of the next hop on the way to the peer
	reachable bool         // it is known
	limit     int          // the largest packet that may be sent, bytes
	path      int          // the largest that goes unfragmented, as far as one knows

	spi     uint32
	seq     uint64 // the last one used
	left    uint64 // packets that a hard limit still allows
	room    uint64 // bytes, likewise
	packets uint64 // sent and not yet counted
	bytes   uint64

	head outerHead
}

// outboundSA looks up what a route sends by. The reference comes from memory
// that vitad writes: everything about it is checked.
func (w *worker) outboundSA(s *outboundSA, route uint32) {
	a := w.a
	peer := a.tables.Peer(route, a.index)
	s.route, s.counts, s.entry, s.left, s.packets, s.bytes = route, w.counts(route), nil, 0, 0, 0
	s.port = peer.UDPPort
	s.mac, s.reachable = w.hopOf(&peer)
	s.path = w.innerMost(s)
	s.limit = s.path
	ref := atomic.LoadUint32(&w.active[route])
	i := tables.SAIndex(ref)
	if ref == 0 || i >= len(w.mem.SAs) {
		return
	}
	e := &w.mem.SAs[i]
	if atomic.LoadUint32(&e.Ref) != ref || e.Route != route || e.Direction != tables.Outbound || int(e.Worker) != w.slot {
		return
	}
	key := w.keys.at(i)
	if key == nil || peer.IP == [16]byte{} {
		return
	}
	s.entry, s.key, s.peer = e, key, peer.IP
	if c := s.counts; s.port != 0 && c.PeerPort != 0 && peer.Moves != 0 && c.Moved == tables.MovedFrom(&s.peer, s.port) {
		if c.PeerIP != s.peer { // whoever moves is behind a router
			s.mac, s.reachable = w.via(&a.public, &a.public.next)
		}
		s.peer, s.port = c.PeerIP, c.PeerPort
	}
	s.path = w.innerLimit(s)
	s.limit = s.path
	s.allow(w.now)
	s.head = a.head
	s.head.to(s.mac, &s.peer, a.v6, a.tables.UDPPort, s.port)
}

// allow notes what the SA's hard limits leave (RFC 4301, 4.4.2.1).
func (s *outboundSA) allow(now int64) {
	e := s.entry
	s.spi, s.seq = e.SPI, e.Seq
	if e.Expires != 0 && now >= e.Expires || e.Seq >= e.LastSeq {
		return
	}
	s.left, s.room = e.LastSeq-e.Seq, math.MaxUint64
	if e.MaxPackets != 0 {
		s.left = min(s.left, e.MaxPackets-min(e.Packets, e.MaxPackets))
	}
	if e.MaxBytes != 0 {
		s.room = e.MaxBytes - min(e.Bytes, e.MaxBytes)
	}
}

// spend takes the next sequence number for a packet of n bytes, or reports that
// a hard limit forbids it.
func (s *outboundSA) spend(n int) bool {
	if s.left == 0 || uint64(n) > s.room {
		return false
	}
	s.seq++
	s.left--
	s.room -= uint64(n)
	s.packets++
	s.bytes += uint64(n)
	return true
}

// settle counts what was sent by an SA.
func (w *worker) settle(s *outboundSA) {
	if s.packets == 0 {
		return
	}
	e, c := s.entry, s.counts
	e.Seq = s.seq
	e.Packets += s.packets
	e.Bytes += s.bytes
	e.LastUsed = w.now
	c.SentPackets += s.packets
	c.SentBytes += s.bytes
	c.LastUsed = w.now
	s.packets, s.bytes = 0, 0
}

// ended reports whether an SA has reached a limit of time or volume.
func (w *worker) ended(e *tables.SA, n int) bool {
	return e.Expires != 0 && w.now >= e.Expires ||
		e.MaxPackets != 0 && e.Packets >= e.MaxPackets ||
		e.MaxBytes != 0 && e.Bytes+uint64(n) > e.MaxBytes
}

// outer sends the sealed packets, in front of which their headers lie.
func (w *worker) outer(m int) {
	s := &w.a.public
	for i := range m {
		k := w.fwd[i]
		if !w.crypt.OK(i) {
			w.drop(k, drop.OutboundNoSA) // the key is not usable
			continue
		}
		k = k.Grow(int(w.headers[i]))
		if w.a.v6 && w.headers[i] > wire.EthernetLen+wire.IPv6Len {
			w.sum6(w.pool.Bytes(k)[wire.EthernetLen:])
		}
		w.push(s, k)
	}
}
