package forwarding

import (
	"vita/forwarding/drop"
	"vita/forwarding/icmp"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// What local.go does for IPv4 stands here for IPv6.

// localPrivate6 takes a packet from the private network to our private address.
func (w *worker) localPrivate6(k pktbuf.Packet, p wire.IPv6) {
	s := &w.a.private
	switch p.Next() {
	case wire.ProtoFragment:
		w.drop(k, drop.LocalFragment)
	case wire.ProtoICMP6:
		w.icmpAt6(s, icmp.Private6, drop.PrivateICMP6, k, p)
	default:
		w.notSpoken6(s, drop.PrivateLocalNextHeader, k, p)
	}
}

func (w *worker) icmpAt6(s *side, g icmp.Group, malformed drop.Reason, k pktbuf.Packet, p wire.IPv6) {
	if !w.echo6(g, malformed, k, p) {
		return
	}
	k = k.Grow(wire.EthernetLen)
	f := wire.Ethernet(w.pool.Bytes(k))
	to := *f.Src()
	f.Put(&to, &s.self.MAC, wire.TypeIPv6)
	w.push(s, k)
}

func (w *worker) echo6(g icmp.Group, malformed drop.Reason, k pktbuf.Packet, p wire.IPv6) bool {
	m, ok := icmp.Parse6(p)
	if !ok {
		w.drop(k, malformed)
		return false
	}
	icmp.Count6(w.me.Counters[:], g, m)
	if m.Type() != wire.ICMP6EchoRequest || !wire.OneStation6(p.Src()) {
		w.pool.Put(k)
		return false
	}
	if !w.limits.echo.Allow(w.now) {
		w.drop(k, drop.AnswerRate)
		return false
	}
	icmp.Reply6(p)
	return true
}

// notSpoken6 drops a packet to us with a next header that we do not speak, and
// tells its sender where in the packet that stands.
func (w *worker) notSpoken6(s *side, r drop.Reason, k pktbuf.Packet, p wire.IPv6) {
	w.tell6(s, k, p, &w.limits.unreachable, wire.ICMP6ParameterProblem, wire.CodeUnknownNextHeader, wire.PointerNextHeader)
	w.drop(k, r)
}

func (w *worker) tell6(s *side, k pktbuf.Packet, p wire.IPv6, l *icmp.Limiter, typ, code uint8, rest uint32) {
	if !icmp.MayAnswer6(p) || !w.allowed(l) {
		return
	}
	e, b, ok := w.own(wire.EthernetLen + icmp.MaxErrorLen6)
	if !ok {
		return
	}
	to := *wire.Ethernet(w.pool.Bytes(k.Grow(wire.EthernetLen))).Src()
	wire.Ethernet(b).Put(&to, &s.self.MAC, wire.TypeIPv6)
	e.Len = uint16(wire.EthernetLen + icmp.Error6(b[wire.EthernetLen:], p, &s.self.IP6, typ, code, rest))
	w.push(s, e)
}

// localInbound6 takes a packet out of the tunnel to our private address.
func (w *worker) localInbound6(k pktbuf.Packet, p wire.IPv6) {
	switch p.Next() {
	case wire.ProtoFragment:
		w.drop(k, drop.LocalFragment)
	case wire.ProtoICMP6:
		if w.echo6(icmp.Inbound6, drop.InboundICMP6, k, p) {
			w.intoTunnel(k)
		}
	default:
		w.tellInbound6(p, &w.limits.unreachable, wire.ICMP6ParameterProblem, wire.CodeUnknownNextHeader, wire.PointerNextHeader)
		w.drop(k, drop.InboundLocalNextHeader)
	}
}

func (w *worker) tellInbound6(p wire.IPv6, l *icmp.Limiter, typ, code uint8, rest uint32) {
	room := min(icmp.MaxErrorLen6, w.a.innerMTU) // the message, too, has to fit the tunnel
	if room < wire.IPv6Len+wire.ICMPLen || !icmp.MayAnswer6(p) || !w.allowed(l) {
		return
	}
	e, b, ok := w.own(room)
	if !ok {
		return
	}
	e.Len = uint16(icmp.Error6(b, p, &w.a.private.self.IP6, typ, code, rest))
	w.intoTunnel(e)
}
