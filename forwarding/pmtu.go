package forwarding

import (
	"sync/atomic"
	"time"

	"vita/forwarding/esp"
	"vita/forwarding/icmp"
	"vita/forwarding/wire"
)

// The path MTU between two gateways is learnt from what routers on the public
// network say about our ESP packets: fragmentation needed (RFC 1191) and packet
// too big (RFC 8201). Nobody has signed that, so it is believed within limits
// (RFC 4301, 8.2.1): the message must quote an SA that we send by, its peer,
// and a sequence number sent lately; it can only lower the limit, not below a
// floor, and not for long.

const (
	pmtuAge    = 10 * time.Minute // RFC 1191, 6.3
	pmtuBehind = 1 << 20          // how many packets ago the quoted one was sent, at most
	pmtuCost   = 10               // tokens a message costs, since all routes are looked through for its SA
	pmtuFloor4 = 576              // of outer packets of IPv4
	pmtuFloor6 = 1280             // of inner packets of IPv6: what every link carries
)

// innerLimit returns the largest inner packet for what a route sends by.
func (w *worker) innerLimit(sa *outboundSA) int {
	limit := w.innerMost(sa)
	if e := sa.entry; e != nil && e.PMTU != 0 && w.now < e.PMTUUntil {
		outer := w.a.outerLen
		if sa.port != 0 {
			outer += wire.UDPLen
		}
		limit = min(limit, esp.MaxInner(int(e.PMTU), outer))
	}
	return limit
}

// innerMost is innerLimit before anything is known of the path.
func (w *worker) innerMost(sa *outboundSA) int {
	if sa.port != 0 {
		return w.a.innerUDP
	}
	return w.a.innerMTU
}

// learnMTU4 takes in an ICMP message to our public address.
func (w *worker) learnMTU4(p wire.IPv4) {
	m, ok := icmp.Parse(p)
	if !ok || m.Type() != wire.ICMPUnreachable || m.Code() != wire.CodeFragmentationNeeded {
		return
	}
	// The quoted header is cut off behind 8 bytes of ESP, so its length says
	// nothing, and its checksum may have been mended on the way.
	q := m[wire.ICMPLen:]
	if len(q) < wire.IPv4Len || q[0] != 0x45 || wire.IPv4(q).Src() != w.a.public.self.IP {
		return
	}
	e := w.quoted(q[9], q[wire.IPv4Len:])
	if e == nil {
		return
	}
	var peer [16]byte // as the tables have it
	peer[10], peer[11] = 0xff, 0xff
	copy(peer[12:], q[16:20])
	w.learnMTU(&peer, e, max(int(wire.Be16(m[6:])), pmtuFloor4))
}

// quoted returns the ESP header in what a message quotes of a packet of ours
// behind its IP header, or nil where it is not all there: so little of a packet
// in UDP that one could not tell whether it is ours is not believed.
func (w *worker) quoted(proto uint8, b []byte) wire.ESP {
	if proto == wire.ProtoUDP && len(b) >= wire.UDPLen && w.a.tables.UDPPort != 0 && wire.UDP(b).SrcPort() == w.a.tables.UDPPort {
		proto, b = wire.ProtoESP, b[wire.UDPLen:]
	}
	if proto != wire.ProtoESP || len(b) < wire.ESPLen {
		return nil
	}
	return wire.ESP(b)
}

// learnMTU6 takes in an ICMPv6 message to our public address.
func (w *worker) learnMTU6(p wire.IPv6) {
	m, ok := icmp.Parse6(p)
	if !ok || m.Type() != wire.ICMP6TooBig {
		return
	}
	q := wire.IPv6(m[wire.ICMPLen:])
	if len(q) < wire.IPv6Len || q[0]>>4 != 6 || *q.Src() != w.a.public.self.IP6 {
		return
	}
	e := w.quoted(q.Next(), q[wire.IPv6Len:])
	if e == nil {
		return
	}
	floor := wire.IPv6Len + esp.Size(pmtuFloor6)
	if q.Next() == wire.ProtoUDP {
		floor += wire.UDPLen
	}
	w.learnMTU(q.Dst(), e, max(int(min(wire.Be32(m[4:]), 1<<16)), floor))
}

// learnMTU lowers the path MTU of the SA that a quoted packet was sent by.
func (w *worker) learnMTU(peer *[16]byte, q wire.ESP, mtu int) {
	if mtu >= w.a.public.mtu || !w.limits.pmtu.Take(w.now, pmtuCost) {
		return
	}
	for route := range w.a.tables.Routes {
		ref := atomic.LoadUint32(&w.active[route])
		if ref == 0 {
			continue
		}
		var sa outboundSA
		w.outboundSA(&sa, uint32(route))
		if e := sa.entry; e != nil && e.SPI == q.SPI() && sa.peer == *peer && uint32(e.Seq)-q.SeqLow() < min(pmtuBehind, uint32(min(e.Seq, 1<<31))) {
			if e.PMTU == 0 || w.now >= e.PMTUUntil || uint32(mtu) < e.PMTU {
				e.PMTU, e.PMTUUntil = uint32(mtu), w.now+int64(pmtuAge)
			}
			return
		}
	}
}
