package forwarding

import (
	"vita/forwarding/drop"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// outbound6 is outbound for IPv6 and the n frames received.
func (w *worker) outbound6(n int) int {
	a := w.a
	m := 0
	for _, k := range w.rx[:n] {
		m = w.classifyPrivate6(k, m)
	}
	transit := m
	m = w.takeLocal6(m)
	if m == 0 {
		return n
	}
	a.tables.LPM6.Lookup(w.value[:m], w.addr6[:m])
	m = w.fit6(m, transit)
	w.crypt.Seal()
	w.outer6(m)
	w.crypt.Reset()
	return max(n, m)
}

func (w *worker) classifyPrivate6(k pktbuf.Packet, m int) int {
	s := &w.a.private
	f, group, ok := w.frameOf(s, k)
	if !ok {
		return m
	}
	if f.Type() != wire.TypeIPv6 {
		w.drop(k, drop.PrivateEthertype)
		return m
	}
	p, ok := wire.ParseIPv6(f[wire.EthernetLen:])
	if !ok {
		w.drop(k, drop.OutboundMalformed)
		return m
	}
	if discovery(p) {
		w.nd(s, k, f, p)
		return m
	}
	forUs := *p.Dst() == s.hop.IP6
	if group || wire.Martian6(p.Dst()) || wire.Martian6(p.Src()) && (!forUs || !wire.OneStation6(p.Src())) {
		w.drop(k, drop.OutboundMartian)
		return m
	}
	k = k.Grow(-wire.EthernetLen)
	k.Len = uint16(len(p)) // without Ethernet's padding
	if forUs {
		w.localPrivate6(k, p)
		return m
	}
	w.fwd[m], w.addr6[m] = k, *p.Dst()
	return m + 1
}

func (w *worker) takeLocal6(m int) int {
	for _, k := range w.local[:w.nlocal] {
		w.fwd[m], w.addr6[m] = k, *wire.IPv6(w.pool.Bytes(k)).Dst()
		m++
	}
	w.nlocal = 0
	return m
}

func (w *worker) fit6(m, transit int) int {
	a := w.a
	_, reachable := a.public.hop.Cell.Load()
	out := 0
	var sa outboundSA // of the packet before, and what fits it
	var limit int
	for i := range m {
		k, route := w.fwd[i], w.value[i]
		p := wire.IPv6(w.pool.Bytes(k))
		ours := i >= transit
		if int(route) < len(a.tables.Routes) && (sa.entry == nil || sa.route != route) {
			sa = w.outboundSA(route)
			limit = w.innerLimit(sa.entry, wire.IPv6Len)
		}
		switch {
		case int(route) >= len(a.tables.Routes):
			if !ours {
				w.tell6(&a.private, k, p, &w.limits.unreachable, wire.ICMP6Unreachable, wire.CodeNoRoute6, 0)
			}
			w.drop(k, drop.OutboundNoRoute)
			continue
		case !ours && p.HopLimit() <= 1:
			w.tell6(&a.private, k, p, &w.limits.timeExceeded, wire.ICMP6TimeExceeded, wire.CodeHopLimitExceeded, 0)
			w.drop(k, drop.OutboundTTL)
			continue
		case len(p) > limit:
			if !ours {
				w.tell6(&a.private, k, p, &w.limits.tooBig, wire.ICMP6TooBig, 0, uint32(limit))
			}
			w.drop(k, drop.OutboundTooBig)
			continue
		case !reachable:
			w.drop(k, drop.OutboundNoNextHop)
			continue
		}
		if !w.encapsulate(out, k, &sa, len(p), limit, wire.ProtoIPv6) {
			continue
		}
		w.tos[out] = a.tables.OuterSet | p.Class()&a.tables.OuterCopy
		if !ours {
			p.DecrementHopLimit()
		}
		out++
	}
	return out
}

func (w *worker) outer6(m int) {
	s := &w.a.public
	mac, _ := s.hop.Cell.Load()
	for i := range m {
		k := w.fwd[i]
		if !w.crypt.OK(i) {
			w.drop(k, drop.OutboundNoSA) // the key is not usable
			continue
		}
		k = k.Grow(wire.IPv6Len + wire.EthernetLen)
		f := wire.Ethernet(w.pool.Bytes(k))
		f.Put(&mac, &s.hop.MAC, wire.TypeIPv6)
		p := wire.IPv6(f[wire.EthernetLen:])
		wire.PutIPv6(p, len(p)-wire.IPv6Len, wire.ProtoESP, outerTTL, &s.hop.IP6, &w.peers[i])
		p.SetClass(w.tos[i])
		w.push(s, k)
	}
}
