package forwarding

import (
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

func (w *worker) classifyPrivate6(k pktbuf.Packet, f wire.Ethernet, group bool, m int) int {
	s := &w.a.private
	p, ok := wire.ParseIPv6(f[wire.EthernetLen:])
	if !ok {
		w.drop(k, drop.OutboundMalformed)
		return m
	}
	if discovery(p) {
		w.nd(s, k, f, p)
		return m
	}
	forUs := *p.Dst() == s.self.IP6
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
	w.fwd6[m], w.addr6[m] = k, *p.Dst()
	return m + 1
}

// minMTU6 is what every link carries in IPv6, and so what a tunnel must, be it
// that routers fragment the outer packets (RFC 4213, section 3.2.1).
const minMTU6 = 1280

// fit6 is fit, for the m packets of IPv6, whose ESP packets follow the out that
// are there already.
func (w *worker) fit6(out, m, transit int) int {
	a := w.a
	var sa outboundSA // of the packet before, and what fits it
	var limit, path int
	for i := range m {
		k, route := w.fwd6[i], w.value[i]
		p := wire.IPv6(w.pool.Bytes(k))
		ours := i >= transit
		if int(route) < len(a.tables.Routes) && (sa.entry == nil || sa.route != route) {
			sa = w.outboundSA(route)
			path = w.innerLimit(&sa)
			limit = max(path, min(w.innerMost(&sa), minMTU6))
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
			w.dropOut(k, &sa, drop.OutboundTTL)
			continue
		case len(p) > limit:
			if !ours {
				w.tell6(&a.private, k, p, &w.limits.tooBig, wire.ICMP6TooBig, 0, uint32(limit))
			}
			w.dropOut(k, &sa, drop.OutboundTooBig)
			continue
		case !sa.reachable:
			w.dropOut(k, &sa, drop.OutboundNoNextHop)
			continue
		}
		if !w.encapsulate(out, k, &sa, len(p), max(path, len(p)), wire.ProtoIPv6) {
			continue
		}
		w.tos[out] = a.tables.OuterSet | p.Class()&a.tables.OuterCopy
		w.df[out] = a.tables.DF != tables.DFClear && len(p) <= path // IPv6 has no flag to copy: its packets are never fragmented on the way
		if !ours {
			p.DecrementHopLimit()
		}
		out++
	}
	return out
}

func (w *worker) outer6(m int) {
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
			w.sum6(w.pool.Bytes(k), &w.peers[i])
		}
		k = k.Grow(wire.IPv6Len + wire.EthernetLen)
		f := wire.Ethernet(w.pool.Bytes(k))
		f.Put(&w.macs[i], &s.self.MAC, wire.TypeIPv6)
		p := wire.IPv6(f[wire.EthernetLen:])
		wire.PutIPv6(p, len(p)-wire.IPv6Len, proto, outerTTL, &s.self.IP6, &w.peers[i])
		p.SetClass(w.tos[i])
		w.push(s, k)
	}
}
