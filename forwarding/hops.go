package forwarding

import (
	"fmt"
	"net/netip"
	"time"

	"vita/forwarding/neigh"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// Next hops. What is known of one lies in shared memory, in a slot that the
// tables name: for the private side its router, in each family, for a route its
// gateway where that is on the public network itself, else the router there.
// A packet costs one load of that; asking, and what comes of it, is off the
// fast path. The time of an interface's neighbours is seen to by one worker, of
// a few at each tick, so that ten thousand of them cost no turn more than it
// has.

const (
	hopRound     = time.Second // how often each neighbour is looked after, at least
	hopsAtOnce   = 64          // how many at a tick, at least
	asksAtOnce   = 16          // how many are asked for at a tick, at most
	announcement = 2 * time.Second
)

// hop is a next hop of an interface.
type hop struct {
	n  *tables.Neighbour // nil: none
	ip [16]byte          // an IPv4 address mapped into IPv6
}

// via returns a next hop's address. Where there is none it sees to it that there
// will be.
func (w *worker) via(s *side, h *hop) (wire.MACWord, bool) {
	if mac, ok := neigh.Ready(h.n); ok {
		return mac, true
	}
	return w.resolve(s, h.n, &h.ip)
}

// resolve is for a neighbour that is not ready.
func (w *worker) resolve(s *side, n *tables.Neighbour, ip *[16]byte) (wire.MACWord, bool) {
	mac, ok, ask := neigh.Use(n, w.now)
	if ask {
		w.ask(s, ip, nil)
	}
	return wire.Word(&mac), ok
}

// hopOf returns the address of the neighbour that packets to a peer are handed to.
func (w *worker) hopOf(p *tables.PeerEntry) (wire.MACWord, bool) {
	s := &w.a.public
	n := w.mem.Neighbour(p.Hop &^ tables.OnLink)
	if n == nil {
		return 0, false
	}
	if mac, ok := neigh.Ready(n); ok {
		return mac, true
	}
	ip := &s.next.ip
	if p.Hop&tables.OnLink != 0 {
		ip = &p.IP
	}
	return w.resolve(s, n, ip)
}

// hopTo is hopOf for an address that vitad sends a message to, which may be that
// of no route any more.
func (w *worker) hopTo(peer netip.Addr) (wire.MACWord, bool) {
	a := w.a
	ip := peer.As16()
	if ip == a.public.next.ip || !a.onLink.Contains(peer) {
		return w.via(&a.public, &a.public.next)
	}
	for _, e := range tables.FindNeighbours(a.public.neighbours, &ip) {
		if n := w.mem.Neighbour(e.Slot); n != nil {
			return w.via(&a.public, &hop{n, ip})
		}
	}
	return 0, false
}

// ask asks for a neighbour's address: everybody, or the station that had it.
func (w *worker) ask(s *side, ip *[16]byte, to *wire.MAC) {
	if v4, ok := mapped(ip); ok {
		if k, f, ok := w.own(neigh.FrameLen); ok {
			s.self.Request(f, v4, to)
			w.push(s, k)
		}
		return
	}
	if k, f, ok := w.own(neigh.FrameLen6); ok {
		s.self.Solicit(f, ip, to)
		w.push(s, k)
	}
}

// mapped returns the IPv4 address that is mapped into an IPv6 one, if one is.
func mapped(ip *[16]byte) (uint32, bool) {
	return wire.Be32(ip[12:]), wire.Be32(ip[0:])|wire.Be32(ip[4:]) == 0 && wire.Be32(ip[8:]) == 0xffff
}

// lookAfterHops does what time calls for at some of an interface's neighbours,
// and tells everybody that we are there when a port has come up.
func (w *worker) lookAfterHops(s *side) {
	if s.announce > 0 && w.now >= s.announceAt {
		s.announce--
		s.announceAt = w.now + int64(announcement)
		w.announce(s)
	}
	if !s.owner {
		return
	}
	count := min(len(s.neighbours), max(hopsAtOnce, len(s.neighbours)/int(hopRound/tickEvery)+1))
	asked := 0
	for range count {
		if s.cursor >= len(s.neighbours) {
			s.cursor = 0
		}
		e := &s.neighbours[s.cursor]
		s.cursor++
		n := w.mem.Neighbour(e.Slot)
		if n == nil {
			continue
		}
		switch neigh.Tick(n, w.now, e.Keep != 0) {
		case neigh.Broadcast:
			w.ask(s, &e.IP, nil)
			asked++
		case neigh.Unicast:
			_, mac := neigh.Get(n)
			w.ask(s, &e.IP, &mac)
			asked++
		case neigh.Nothing:
		}
		if asked == asksAtOnce {
			return // the others come with the next ticks
		}
	}
}

// announce tells everybody on a link which station has our addresses.
func (w *worker) announce(s *side) {
	if s.self.Has4 {
		if k, f, ok := w.own(neigh.FrameLen); ok {
			s.self.Announce(f)
			w.push(s, k)
		}
	}
	if s.self.Has6 {
		if k, f, ok := w.own(neigh.FrameLen6); ok {
			s.self.Announce6(f)
			w.push(s, k)
		}
	}
}

// arp takes in an ARP packet, and answers it if it asks for us, or for another
// worker on the same link.
func (w *worker) arp(s *side, k pktbuf.Packet, f wire.Ethernet) {
	a, ok := wire.ParseARP(f[wire.EthernetLen:])
	if !ok {
		w.drop(k, s.kind.arp)
		return
	}
	if a.Op() != wire.ARPRequest && a.Op() != wire.ARPReply {
		w.drop(k, s.kind.arpOther)
		return
	}
	self := s.self
	asked, toUs := self.Asks(a), a.TargetIP() == self.IP
	for i := 0; i < len(s.siblings) && !toUs; i++ {
		if self = s.siblings[i]; a.TargetIP() == self.IP {
			asked, toUs = self.Asks(a), true
		}
	}
	sender := mapped4(a.SenderIP())
	heard := false
	for _, e := range tables.FindNeighbours(s.neighbours, &sender) {
		if n := w.mem.Neighbour(e.Slot); n != nil {
			heard = true
			w.changed(s, neigh.HeardARP(n, a, toUs, w.now))
		}
	}
	c := &w.me.Counters
	switch {
	case asked:
		c[s.kind.arpRequests]++
		self.Answer(f)
		k.Len = neigh.FrameLen
		w.push(s, k)
	case heard && toUs && a.Op() == wire.ARPReply:
		c[s.kind.arpReplies]++
		w.pool.Put(k)
	default:
		w.drop(k, s.kind.arpOther)
	}
}

func mapped4(ip uint32) (b [16]byte) {
	b[10], b[11] = 0xff, 0xff
	wire.PutBe32(b[12:], ip)
	return b
}

// changed counts what became of a neighbour's address.
func (w *worker) changed(s *side, c neigh.Change) {
	switch c {
	case neigh.Added:
		w.me.Counters[s.kind.added]++
	case neigh.Updated:
		w.me.Counters[s.kind.updated]++
	case neigh.Same:
	}
}

// discovery reports whether a packet is neighbour or router discovery, which
// never leaves a link. Extension headers do not occur in it.
func discovery(p wire.IPv6) bool {
	if p.Next() != wire.ProtoICMP6 || len(p) == wire.IPv6Len {
		return false
	}
	t := p.Payload()[0]
	return t >= wire.ICMP6RouterSolicitation && t <= wire.ICMP6Redirect
}

// nd takes in a discovery packet, and answers it if it asks for us, or for
// another worker on the same link.
func (w *worker) nd(s *side, k pktbuf.Packet, f wire.Ethernet, p wire.IPv6) {
	if t := p.Payload()[0]; t != wire.ICMP6NeighbourSolicit && t != wire.ICMP6NeighbourAdvert {
		w.drop(k, s.kind.ndOther)
		return
	}
	m, ok := wire.ParseND(p)
	if !ok {
		w.drop(k, s.kind.nd)
		return
	}
	if !m.Solicitation() {
		w.advertised(s, k, m)
		return
	}
	self := s.self
	asked := self.Solicited(p, m)
	for i := 0; i < len(s.siblings) && !asked; i++ {
		self = s.siblings[i]
		asked = self.Solicited(p, m)
	}
	if !asked {
		w.drop(k, s.kind.ndOther)
		return
	}
	for _, e := range tables.FindNeighbours(s.neighbours, p.Src()) {
		if n := w.mem.Neighbour(e.Slot); n != nil {
			w.changed(s, neigh.HeardSolicitation(n, m))
		}
	}
	w.me.Counters[s.kind.nsRequests]++
	if e, b, ok := w.own(neigh.FrameLen6); ok {
		self.Advertise(b, f.Src(), p.Src())
		w.push(s, e)
	}
	w.pool.Put(k)
}

// advertised takes in an advertisement.
func (w *worker) advertised(s *side, k pktbuf.Packet, m wire.ND) {
	heard, mac := false, m.MAC(wire.NDTarget)
	for _, e := range tables.FindNeighbours(s.neighbours, m.Target()) {
		if n := w.mem.Neighbour(e.Slot); n != nil && (mac == nil || neigh.Usable(mac)) {
			heard = true
			w.changed(s, neigh.HeardAdvertisement(n, m, w.now))
		}
	}
	if !heard {
		w.drop(k, s.kind.ndOther)
		return
	}
	w.me.Counters[s.kind.naReplies]++
	w.pool.Put(k)
}

// forSibling takes in a frame to another worker of the same link if it is ARP or
// neighbour discovery, which may arrive at any queue of the device. Whatever
// else is for that worker is not ours to take.
func (w *worker) forSibling(s *side, k pktbuf.Packet, f wire.Ethernet) bool {
	for i := range s.siblings {
		if s.siblings[i].MAC != *f.Dst() {
			continue
		}
		switch f.Type() {
		case wire.TypeARP:
			if s.self.Has4 {
				w.arp(s, k, f)
				return true
			}
		case wire.TypeIPv6:
			if p, ok := wire.ParseIPv6(f[wire.EthernetLen:]); ok && s.self.Has6 && discovery(p) {
				w.nd(s, k, f, p)
				return true
			}
		}
	}
	return false
}

// clearHops makes the neighbours that a generation is the first to have ones
// that nothing is known of. The caller holds e.mu.
func (e *Engine) clearHops(t *tables.Tables) error {
	for i := range t.Neighbours {
		b := t.Neighbours[i]
		n := e.mem.Neighbour(b.Slot)
		if n == nil {
			return fmt.Errorf("%w: neighbour in slot %d", tables.ErrCorrupt, b.Slot)
		}
		if b.Born == t.Generation {
			neigh.Reset(n, &b.MAC)
		}
	}
	return nil
}

// interfaces makes a worker's view of its two interfaces.
func (e *Engine) interfaces(a *assignment, index int) {
	t := a.tables
	wc := &t.Workers[index]
	e.view(&a.private, t.Private)
	e.view(&a.public, &wc.Public)
	a.private.owner = index == 0 // all workers have the same private interface
	a.public.owner = true
	for i := range t.Workers {
		if o := &t.Workers[i].Public; i != index && o.Link == wc.Public.Link && o.VLAN == wc.Public.VLAN {
			a.public.siblings = append(a.public.siblings, self(o))
			a.public.owner = a.public.owner && i > index
		}
	}
	if n := int(wc.PrefixLen); n > 0 {
		a.onLink = netip.PrefixFrom(wc.Public.IP, n)
	}
}

func self(p *tables.Port) neigh.Self {
	s := neigh.Self{MAC: p.MAC}
	for _, ip := range [...]netip.Addr{p.IP, p.OtherIP} {
		switch {
		case ip.Is4():
			b := ip.As4()
			s.IP, s.Has4 = wire.Be32(b[:]), true
		case ip.Is6():
			s.IP6, s.Has6 = ip.As16(), true
		}
	}
	return s
}

func (e *Engine) view(s *side, p *tables.Port) {
	s.self, s.neighbours = self(p), p.Neighbours
	s.us = uint64(wire.Word(&s.self.MAC))
	s.next = e.hop(p, p.NextHop, p.NextHopMAC)
	s.other = e.hop(p, p.OtherNextHop, p.OtherNextHopMAC)
}

// hop finds a next hop of an interface. Where the tables have it not, against
// all rules, it is one that is never found.
func (e *Engine) hop(p *tables.Port, next netip.Addr, mac wire.MAC) hop {
	if !next.IsValid() {
		return hop{}
	}
	h := hop{ip: next.As16(), n: new(tables.Neighbour)}
	for _, b := range tables.FindNeighbours(p.Neighbours, &h.ip) {
		if n := e.mem.Neighbour(b.Slot); n != nil && b.MAC == mac {
			h.n = n
		}
	}
	return h
}
