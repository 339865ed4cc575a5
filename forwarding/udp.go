package forwarding

import (
	"vita/asm/cksum"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// ESP in UDP (RFC 3948), for peers behind address translators:
//
//	IP | UDP | ESP                ESP: its SPI is never 0
//	IP | UDP | 0 0 0 0 | IKE      not ours
//	IP | UDP | ff                 keepalive
//
// A gateway has one port for all routes with it, a route the port of its peer.
// Key exchange has a port of its own and stays on it. What is authentic is taken
// with or without UDP around it, whatever the route says.

// inUDP marks in worker.udp that a packet came in UDP, whatever its source port.
const inUDP = 1 << 16

const keepalive = 0xff

// outOfUDP takes a datagram to the port of ESP in UDP, which begins with the
// outer header in k, and with the UDP header in b; it queues the ESP packet at
// place m and returns the next place. It reports false, and has done nothing,
// where the datagram is to another port. The UDP checksum does not matter: the
// ESP packet is authentic or it is not.
func (w *worker) outOfUDP(k pktbuf.Packet, b []byte, m int) (int, bool) {
	port := w.a.tables.UDPPort
	if port == 0 || len(b) < wire.UDPLen || wire.UDP(b).DstPort() != port {
		return m, false
	}
	n := wire.UDP(b).Length()
	switch {
	case n <= wire.UDPLen || n > len(b):
		w.drop(k, drop.UDPMalformed)
		return m, true
	case n == wire.UDPLen+1 && b[wire.UDPLen] == keepalive:
		w.drop(k, drop.UDPKeepalive)
		return m, true
	case n >= wire.UDPLen+4 && wire.Be32(b[wire.UDPLen:]) == 0:
		w.drop(k, drop.UDPNotESP)
		return m, true
	}
	k = k.Grow(-w.a.outerLen - wire.UDPLen)
	k.Len = uint16(n - wire.UDPLen)
	return w.classifyESP(k, m, inUDP|uint32(wire.UDP(b).SrcPort())), true
}

// moved notes where the peer of an SA has sent its newest authentic packet from,
// if its route lets it move. K begins with the UDP header, in front of which the
// outer header lies.
func (w *worker) moved(sa *tables.SA, c *tables.RouteCounts, k pktbuf.Packet, port uint16) {
	t := w.a.tables
	peer := t.Peer(sa.Route, w.a.index)
	if peer.Moves == 0 || port == 0 {
		return
	}
	var from [16]byte
	p := w.pool.Bytes(k.Grow(w.a.outerLen))
	if w.a.v6 {
		if from = *wire.IPv6(p).Src(); wire.Martian6(&from) {
			return
		}
	} else {
		if wire.Martian(wire.IPv4(p).Src()) {
			return
		}
		from[10], from[11] = 0xff, 0xff
		copy(from[12:], p[12:16])
	}
	c.PeerIP, c.PeerPort, c.Moved = from, port, tables.MovedFrom(&peer.IP, peer.UDPPort)
}

// sum6 gives the datagram in an IPv6 packet the checksum that it must have: RFC
// 6936 would let a tunnel do without, but receivers that do not know drop such
// datagrams.
func (w *worker) sum6(p wire.IPv6) {
	u := wire.UDP(p[wire.IPv6Len:])
	u.SetChecksum(cksum.Sum(u, cksum.Pseudo6(*p.Src(), *p.Dst(), wire.ProtoUDP, uint32(len(u)))))
}

func (w *worker) sendKeepalive(sa *outboundSA) {
	a := w.a
	s := &a.public
	if !sa.reachable {
		w.note(drop.OutboundNoNextHop)
		return
	}
	const udpLen = wire.UDPLen + 1
	k, f, ok := w.own(wire.EthernetLen + a.outerLen + udpLen)
	if !ok {
		return
	}
	mac := sa.mac.MAC()
	p := f[wire.EthernetLen:]
	u := p[a.outerLen:]
	wire.UDP(u).Put(a.tables.UDPPort, sa.port, udpLen)
	u[wire.UDPLen] = keepalive
	if a.v6 {
		wire.Ethernet(f).Put(&mac, &s.self.MAC, wire.TypeIPv6)
		wire.PutIPv6(p, udpLen, wire.ProtoUDP, outerTTL, &s.self.IP6, &sa.peer)
		w.sum6(p)
	} else {
		wire.Ethernet(f).Put(&mac, &s.self.MAC, wire.TypeIPv4)
		wire.PutIPv4(p, len(p), true, outerTTL, wire.ProtoUDP, s.self.IP, wire.Be32(sa.peer[12:]))
	}
	w.push(s, k)
}
