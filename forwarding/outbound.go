package forwarding

import (
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
//	private Rx -> classify -> look routes up -> fit, choose SA -> seal -> outer header -> public Tx
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
	m4, m6 := 0, 0
	for _, k := range rx {
		m4, m6 = w.classifyPrivate(k, m4, m6)
	}
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
		m = w.fit(m4, transit4)
	}
	if m6 > 0 {
		a.tables.LPM6.Lookup(w.value[:m6], w.addr6[:m6])
		m = w.fit6(m, m6, transit6)
	}
	if w.capture != nil {
		w.captureOutbound(m)
	}
	w.crypt.Seal()
	if a.v6 {
		w.outer6(m)
	} else {
		w.outer(m)
	}
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
	out := 0
	var sa outboundSA // of the packet before, and what fits it
	var limit int
	for i := range m {
		k, route := w.fwd[i], w.value[i]
		p := wire.IPv4(w.pool.Bytes(k))
		ours := i >= transit
		if int(route) < len(a.tables.Routes) && (sa.entry == nil || sa.route != route) {
			sa = w.outboundSA(route)
			limit = w.innerLimit(&sa)
		}
		switch {
		case int(route) >= len(a.tables.Routes): // lpm.Miss is larger than any
			if !ours {
				w.tellPrivate(k, p, &w.limits.unreachable, wire.ICMPUnreachable, wire.CodeNetUnreachable, 0)
			}
			w.drop(k, drop.OutboundNoRoute)
			continue
		case !ours && p.TTL() <= 1:
			w.tellPrivate(k, p, &w.limits.timeExceeded, wire.ICMPTimeExceeded, wire.CodeTTLExceeded, 0)
			w.dropOut(k, &sa, drop.OutboundTTL)
			continue
		case len(p) > limit && a.tables.Fragment && !ours && !p.DF() && w.fragment(k, p, limit):
			continue
		case len(p) > limit:
			if !ours && p.DF() {
				w.tellPrivate(k, p, &w.limits.tooBig, wire.ICMPUnreachable, wire.CodeFragmentationNeeded, uint32(limit))
			}
			w.dropOut(k, &sa, drop.OutboundTooBig)
			continue
		case !sa.reachable:
			w.dropOut(k, &sa, drop.OutboundNoNextHop)
			continue
		}
		if !w.encapsulate(out, k, &sa, len(p), limit, wire.ProtoIPv4) {
			continue
		}
		w.tos[out] = a.tables.OuterSet | p.TOS()&a.tables.OuterCopy
		w.df[out] = a.tables.DF == tables.DFSet || a.tables.DF == tables.DFCopy && p.DF()
		if !ours {
			p.DecrementTTL()
		}
		out++
	}
	return out
}

// encapsulate queues a packet of n bytes, of the protocol next, for the cipher,
// at place out of the batch. Limit is the largest that passes. Where it returns
// false it has dropped the packet.
func (w *worker) encapsulate(out int, k pktbuf.Packet, sa *outboundSA, n, limit int, next uint8) bool {
	fill := 0
	if w.a.tables.TFC {
		fill = limit - n
	}
	size := esp.Size(n + fill)
	switch {
	case sa.entry == nil:
		w.dropOut(k, sa, drop.OutboundNoSA)
		return false
	case int(k.Off) < outerRoom || size-esp.HeaderLen > n+w.pool.Tailroom(k):
		w.dropOut(k, sa, drop.OutboundNoRoom)
		return false
	case !w.spend(sa, n):
		w.dropOut(k, sa, drop.OutboundSAEnded)
		return false
	}
	k = k.Grow(esp.HeaderLen)
	k.Len = uint16(size)
	w.crypt.Encapsulate(sa.key, sa.entry.SPI, sa.entry.Seq, w.pool.Bytes(k), n, fill, next)
	w.fwd[out], w.peers[out], w.macs[out], w.udp[out] = k, sa.peer, sa.mac, uint32(sa.port)
	return true
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

// outboundSA is what a route sends by; entry is nil where it has nothing.
type outboundSA struct {
	route  uint32
	counts *tables.RouteCounts
	entry  *tables.SA
	key    *esp.Key
	peer   [16]byte
	port   uint16 // of ESP in UDP; 0: it is not in UDP

	mac       wire.MAC // of the next hop on the way to the peer
	reachable bool     // it is known
}

// outboundSA looks up what a route sends by. The reference comes from memory
// that vitad writes: everything about it is checked.
func (w *worker) outboundSA(route uint32) outboundSA {
	peer := w.a.tables.Peer(route, w.a.index)
	none := outboundSA{route: route, counts: w.counts(route), port: w.a.tables.Routes[route].UDPPort}
	none.mac, none.reachable = w.hopOf(&peer)
	ref := atomic.LoadUint32(&w.active[route])
	i := tables.SAIndex(ref)
	if ref == 0 || i >= len(w.mem.SAs) {
		return none
	}
	e := &w.mem.SAs[i]
	if atomic.LoadUint32(&e.Ref) != ref || e.Route != route || e.Direction != tables.Outbound || int(e.Worker) != w.slot {
		return none
	}
	s := none
	if s.entry, s.key, s.peer = e, w.keys.at(i), peer.IP; s.key == nil || s.peer == [16]byte{} {
		return none
	}
	if c := s.counts; s.port != 0 && c.PeerPort != 0 && w.a.tables.Routes[route].Moves != 0 && c.Moved == tables.MovedFrom(&s.peer, s.port) {
		if c.PeerIP != s.peer { // whoever moves is behind a router
			s.mac, s.reachable = w.via(&w.a.public, &w.a.public.next)
		}
		s.peer, s.port = c.PeerIP, c.PeerPort
	}
	return s
}

// spend takes the next sequence number of an SA for a packet of n bytes, or
// reports that a hard limit forbids it (RFC 4301, 4.4.2.1).
func (w *worker) spend(sa *outboundSA, n int) bool {
	e, c := sa.entry, sa.counts
	if w.ended(e, n) || e.Seq >= e.LastSeq {
		return false
	}
	e.Seq++
	e.Packets++
	e.Bytes += uint64(n)
	e.LastUsed = w.now
	c.SentPackets++
	c.SentBytes += uint64(n)
	c.LastUsed = w.now
	return true
}

// ended reports whether an SA has reached a limit of time or volume.
func (w *worker) ended(e *tables.SA, n int) bool {
	return e.Expires != 0 && w.now >= e.Expires ||
		e.MaxPackets != 0 && e.Packets >= e.MaxPackets ||
		e.MaxBytes != 0 && e.Bytes+uint64(n) > e.MaxBytes
}

// outer writes the headers in front of the sealed packets and sends them.
func (w *worker) outer(m int) {
	s := &w.a.public
	for i := range m {
		k := w.fwd[i]
		if !w.crypt.OK(i) {
			w.drop(k, drop.OutboundNoSA) // the key is not usable
			continue
		}
		proto := uint8(wire.ProtoESP)
		if w.udp[i] != 0 {
			k, proto = w.intoUDP(k, uint16(w.udp[i])), wire.ProtoUDP
		}
		k = k.Grow(wire.IPv4Len + wire.EthernetLen)
		f := wire.Ethernet(w.pool.Bytes(k))
		f.Put(&w.macs[i], &s.self.MAC, wire.TypeIPv4)
		id := uint16(0)
		if !w.df[i] { // then fragments must be told apart (RFC 6864, section 4)
			w.ident++
			id = w.ident
		}
		wire.PutTunnel4(f[wire.EthernetLen:], len(f)-wire.EthernetLen, w.tos[i], id, w.df[i], outerTTL, proto, s.self.IP, wire.Be32(w.peers[i][12:]))
		w.push(s, k)
	}
}
