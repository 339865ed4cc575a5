package forwarding

import (
	"vita/forwarding/drop"
	"vita/forwarding/icmp"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// What stands here is off the fast path: ICMP to and from the gateway
// itself. Answers on an interface go back to the station whose frame called for
// them, whether or not the next hop is resolved.

// localPrivate takes a packet from the private network to our private address.
func (w *worker) localPrivate(k pktbuf.Packet, p wire.IPv4) {
	s := &w.a.private
	switch {
	case p.Fragment():
		w.drop(k, drop.LocalFragment)
	case p.Protocol() == wire.ProtoICMP:
		w.icmpAt(s, icmp.Private, drop.PrivateICMP, k, p)
	default:
		w.notSpoken(s, drop.PrivateLocalProtocol, k, p)
	}
}

// icmpAt takes an ICMP message to us that came by an interface, and answers an
// echo request there. K begins at the IP header, behind the Ethernet header.
func (w *worker) icmpAt(s *side, g icmp.Group, malformed drop.Reason, k pktbuf.Packet, p wire.IPv4) {
	if !w.echo(g, malformed, k, p) {
		return
	}
	k = k.Grow(wire.EthernetLen)
	f := wire.Ethernet(w.pool.Bytes(k))
	to := *f.Src()
	f.Put(&to, &s.self.MAC, wire.TypeIPv4)
	w.push(s, k)
}

// echo turns an echo request into its reply and returns true. Any other
// message it counts and frees.
func (w *worker) echo(g icmp.Group, malformed drop.Reason, k pktbuf.Packet, p wire.IPv4) bool {
	m, ok := icmp.Parse(p)
	if !ok {
		w.drop(k, malformed)
		return false
	}
	icmp.Count(w.me.Counters[:], g, m)
	if m.Type() != wire.ICMPEchoRequest || wire.Martian(p.Src()) {
		w.pool.Put(k)
		return false
	}
	if !w.limits.echo.Allow(w.now) {
		w.drop(k, drop.AnswerRate)
		return false
	}
	icmp.Reply(p)
	return true
}

// notSpoken drops a packet to us of a protocol that we do not speak, and tells
// its sender.
func (w *worker) notSpoken(s *side, r drop.Reason, k pktbuf.Packet, p wire.IPv4) {
	w.tell(s, k, p, &w.limits.unreachable, wire.ICMPUnreachable, wire.CodeProtocolUnreachable, 0)
	w.drop(k, r)
}

// tellPrivate sends an ICMP error about a packet from the private network.
func (w *worker) tellPrivate(k pktbuf.Packet, p wire.IPv4, l *icmp.Limiter, typ, code uint8, rest uint32) {
	w.tell(&w.a.private, k, p, l, typ, code, rest)
}

// tell sends an ICMP error about packet p out of the interface by which its
// frame came, whose Ethernet header lies in front of k.
func (w *worker) tell(s *side, k pktbuf.Packet, p wire.IPv4, l *icmp.Limiter, typ, code uint8, rest uint32) {
	if !w.mayTell(p, l) {
		return
	}
	e, b, ok := w.own(wire.EthernetLen + icmp.MaxErrorLen)
	if !ok {
		return
	}
	to := *wire.Ethernet(w.pool.Bytes(k.Grow(wire.EthernetLen))).Src()
	wire.Ethernet(b).Put(&to, &s.self.MAC, wire.TypeIPv4)
	n := icmp.Error(b[wire.EthernetLen:], p, s.self.IP, typ, code, rest)
	e.Len = uint16(wire.EthernetLen + n)
	w.push(s, e)
}

func (w *worker) mayTell(p wire.IPv4, l *icmp.Limiter) bool { return icmp.MayAnswer(p) && w.allowed(l) }

// allowed reports whether a limiter lets an answer pass.
func (w *worker) allowed(l *icmp.Limiter) bool {
	if !l.Allow(w.now) {
		w.note(drop.AnswerRate)
		return false
	}
	return true
}

// localInbound takes a packet out of the tunnel to our private address. Its
// answer goes back through the tunnel.
func (w *worker) localInbound(k pktbuf.Packet, p wire.IPv4) {
	switch {
	case p.Fragment():
		w.drop(k, drop.LocalFragment)
	case p.Protocol() == wire.ProtoICMP:
		if w.echo(icmp.Inbound, drop.InboundICMP, k, p) {
			w.intoTunnel(k)
		}
	default:
		w.tellInbound(p, &w.limits.unreachable, wire.ICMPUnreachable, wire.CodeProtocolUnreachable, 0)
		w.drop(k, drop.InboundLocalProtocol)
	}
}

// tellInbound sends an ICMP error about a packet out of the tunnel, from our
// private address back through the tunnel, so that a traceroute shows us.
func (w *worker) tellInbound(p wire.IPv4, l *icmp.Limiter, typ, code uint8, rest uint32) {
	if !w.mayTell(p, l) {
		return
	}
	e, b, ok := w.own(icmp.MaxErrorLen)
	if !ok {
		return
	}
	e.Len = uint16(icmp.Error(b, p, w.a.private.self.IP, typ, code, rest))
	w.intoTunnel(e)
}

// intoTunnel queues a packet of our own for the next outbound batch.
func (w *worker) intoTunnel(k pktbuf.Packet) {
	if w.nlocal == len(w.local) {
		w.drop(k, drop.AnswerNoBuffer)
		return
	}
	w.local[w.nlocal] = k
	w.nlocal++
}
