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
	t := a.tables
	var sa outboundSA // of the packet before
	for i := range m {
		k, route := w.fwd6[i], w.value[i]
		ours := i >= transit
		if int(route) >= len(t.Routes) {
			if !ours {
				w.tell6(&a.private, k, w.pool.Bytes(k), &w.limits.unreachable, wire.ICMP6Unreachable, wire.CodeNoRoute6, 0)
			}
			w.drop(k, drop.OutboundNoRoute)
			continue
		}
		if sa.counts == nil || sa.route != route {
			w.settle(&sa)
			w.outboundSA(&sa, route)
			sa.limit = max(sa.path, min(w.innerMost(&sa), minMTU6))
		}
		h := w.pool.Head(k)
		n := int(k.Len)
		switch {
		case !ours && h[7] <= 1:
			w.tell6(&a.private, k, w.pool.Bytes(k), &w.limits.timeExceeded, wire.ICMP6TimeExceeded, wire.CodeHopLimitExceeded, 0)
			w.dropOut(k, &sa, drop.OutboundTTL)
			continue
		case n > sa.limit:
			if !ours {
				w.tell6(&a.private, k, w.pool.Bytes(k), &w.limits.tooBig, wire.ICMP6TooBig, 0, uint32(sa.limit))
			}
			w.dropOut(k, &sa, drop.OutboundTooBig)
			continue
		case !sa.reachable:
			w.dropOut(k, &sa, drop.OutboundNoNextHop)
			continue
		}
		tos := t.OuterSet | (h[0]<<4|h[1]>>4)&t.OuterCopy
		df := t.DF != tables.DFClear && n <= sa.path // IPv6 has no flag to copy: its packets are never fragmented on the way
		if !w.encapsulate(out, k, &sa, n, wire.ProtoIPv6, tos, df) {
			continue
		}
		if !ours {
			h[7]--
		}
		out++
	}
	w.settle(&sa)
	return out
}
