package forwarding

import (
	"net/netip"

	"vita/asm/cksum"
	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/icmp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

func (w *worker) classifyPublic6(k pktbuf.Packet, m int) int {
	s := &w.a.public
	f, group, ok := w.frameOf(s, k)
	if !ok {
		return m
	}
	if f.Type() != wire.TypeIPv6 {
		if k, ok := w.otherType(s, k, drop.PublicEthertype); ok {
			return w.classifyPublic6(k, m)
		}
		return m
	}
	p, ok := wire.ParseIPv6(f[wire.EthernetLen:])
	switch {
	case !ok:
		w.drop(k, drop.PublicMalformed)
		return m
	case discovery(p):
		w.nd(s, k, f, p)
		return m
	case group || *p.Dst() != s.self.IP6:
		w.drop(k, drop.PublicNotForUs)
		return m
	}
	k = k.Grow(-wire.EthernetLen)
	k.Len = uint16(len(p))
	switch p.Next() {
	case wire.ProtoESP:
		return w.classifyESP(k.Grow(-wire.IPv6Len), m, 0)
	case wire.ProtoUDP:
		if n, ok := w.outOfUDP(k, p.Payload(), m); ok {
			return n
		}
		w.keyExchange6(k, p)
	case wire.ProtoICMP6:
		w.learnMTU6(p)
		w.icmpAt6(s, icmp.Public6, drop.PublicICMP6, k, p)
	case wire.ProtoFragment:
		w.drop(k, drop.PublicFragment)
	default:
		w.notSpoken6(s, drop.PublicProtocol, k, p)
	}
	return m
}

func (w *worker) inner6(k pktbuf.Packet, sa *tables.SA, payload []byte, outer uint8, m int) int {
	sa.Bytes += uint64(len(payload))
	w.counts(sa.Route).ReceivedBytes += uint64(len(payload))
	p, ok := wire.ParseIPv6(payload)
	switch {
	case !ok:
		sa.ProtocolErrors++
		w.dropIn(k, sa, drop.InboundMalformed)
		return m
	case wire.Martian6(p.Src()) || wire.Martian6(p.Dst()):
		w.dropIn(k, sa, drop.InboundMartian)
		return m
	}
	if outer != wire.NotECT {
		ecn, ok := wire.DecapsulateECN(p.Class(), outer)
		if !ok {
			w.dropIn(k, sa, drop.InboundCongestion)
			return m
		}
		p.SetClass(p.Class()&^3 | ecn)
	}
	k = k.Grow(-esp.HeaderLen)
	k.Len = uint16(len(p)) // without traffic flow padding
	w.fwd6[m], w.sas6[m], w.addr6[m] = k, sa, *p.Src()
	return m + 1
}

func (w *worker) deliver6(m int) {
	a := w.a
	s := &a.private
	mac, reachable := w.via(s, a.next6)
	head := ethernetHead(mac, &s.self.MAC, type6)
	pool, mtu := w.pool, s.mtu
	for i := range m {
		k, sa := w.fwd6[i], w.sas6[i]
		f := pool.Head(k.Grow(wire.EthernetLen))
		p := (*[wire.IPv6Len]byte)(f[wire.EthernetLen:])
		if w.value[i] != sa.Route || *(*[16]byte)(p[24:]) == s.self.IP6 || p[7] <= 1 || int(k.Len) > mtu || !reachable {
			w.undelivered6(i)
			continue
		}
		p[7]--
		head.put(f)
		w.push(s, k.Grow(wire.EthernetLen))
	}
}

// undelivered6 takes a packet that is not to be sent to the private network.
func (w *worker) undelivered6(i int) {
	s := &w.a.private
	k, sa := w.fwd6[i], w.sas6[i]
	p := wire.IPv6(w.pool.Bytes(k))
	switch {
	case w.value[i] != sa.Route:
		w.dropIn(k, sa, drop.InboundPolicy)
	case *p.Dst() == s.self.IP6:
		w.localInbound6(k, p)
	case p.HopLimit() <= 1:
		w.tellInbound6(p, &w.limits.timeExceeded, wire.ICMP6TimeExceeded, wire.CodeHopLimitExceeded, 0)
		w.dropIn(k, sa, drop.InboundTTL)
	case len(p) > s.mtu:
		w.tellInbound6(p, &w.limits.tooBig, wire.ICMP6TooBig, 0, uint32(s.mtu))
		w.dropIn(k, sa, drop.InboundTooBig)
	default: // the next hop is not known
		w.dropIn(k, sa, drop.InboundNoNextHop)
	}
}

// keyExchange6 hands a datagram for the key exchange port to vitad. In IPv6 the
// checksum must be there (RFC 8200, section 8.1).
func (w *worker) keyExchange6(k pktbuf.Packet, p wire.IPv6) {
	b := p.Payload()
	if len(b) < wire.UDPLen {
		w.drop(k, drop.KeyExchangeMalformed)
		return
	}
	u := wire.UDP(b)
	if u.DstPort() != w.a.tables.ProtocolPort {
		w.notSpoken6(&w.a.public, drop.PublicProtocol, k, p)
		return
	}
	n := u.Length()
	if n != len(b) || u.Checksum() == 0 || !cksum.Valid(b, cksum.Pseudo6(*p.Src(), *p.Dst(), wire.ProtoUDP, uint32(n))) {
		w.drop(k, drop.KeyExchangeMalformed)
		return
	}
	w.punted(k, netip.AddrPortFrom(netip.AddrFrom16(*p.Src()), u.SrcPort()), b[wire.UDPLen:])
}
