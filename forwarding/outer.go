package forwarding

import (
	"vita/asm/cksum"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// outerHead is a template of what lies in front of an ESP packet:
//
//	Ethernet | IPv4 or IPv6 | UDP, where ESP is in UDP
//
// A worker has one with all that is the same for all peers, an outboundSA one
// for its peer. What is different for each packet are the lengths, the traffic
// class, and in IPv4 identification, DF and checksum.
type outerHead struct {
	b   [pktbuf.HeadLen]byte
	n   int    // bytes
	sum uint32 // of the IPv4 header
}

const (
	ipOff = wire.EthernetLen
	// copied is how much of a template is written in one go. What that is more
	// than the headers, the ESP header is written over.
	copied4 = 48
	copied6 = pktbuf.HeadLen
)

// newOuterHead returns what the headers of all packets that a side sends into
// tunnels have in common.
func newOuterHead(s *side, v6 bool) (h outerHead) {
	if v6 {
		h.n = ipOff + wire.IPv6Len
		wire.Ethernet(h.b[:]).Put(&wire.MAC{}, &s.self.MAC, wire.TypeIPv6)
		wire.PutIPv6(h.b[ipOff:], 0, wire.ProtoESP, outerTTL, &s.self.IP6, &[16]byte{})
		return h
	}
	h.n = ipOff + wire.IPv4Len
	wire.Ethernet(h.b[:]).Put(&wire.MAC{}, &s.self.MAC, wire.TypeIPv4)
	p := h.b[ipOff:h.n]
	wire.PutIPv4(p, 0, false, outerTTL, wire.ProtoESP, s.self.IP, 0)
	wire.PutBe16(p[10:], 0)
	h.sum = cksum.Add(p, 0)
	return h
}

// to makes the template that of packets by an SA.
func (h *outerHead) to(s *outboundSA, v6 bool, udpPort uint16) {
	*(*wire.MAC)(h.b[:]) = s.mac
	proto := &h.b[ipOff+9]
	if v6 {
		*(*[16]byte)(h.b[ipOff+24:]) = s.peer
		proto = &h.b[ipOff+6]
	} else {
		*(*[4]byte)(h.b[ipOff+16:]) = [4]byte(s.peer[12:])
		peer := wire.Be32(s.peer[12:])
		h.sum += peer>>16 + peer&0xffff
	}
	if s.port == 0 {
		return
	}
	*proto = wire.ProtoUDP
	h.sum += wire.ProtoUDP - wire.ProtoESP + 0xffff // in ones' complement
	wire.UDP(h.b[h.n:]).Put(udpPort, s.port, 0)
	h.n += wire.UDPLen
}

// put4 writes the headers of IPv4 in front of an ESP packet of n bytes.
func (h *outerHead) put4(b *[pktbuf.HeadLen]byte, n int, tos uint8, id uint16, df bool) {
	*(*[copied4]byte)(b[:]) = [copied4]byte(h.b[:])
	total := uint32(n + h.n - ipOff)
	second := uint32(id) << 16
	if df {
		second |= 0x4000
	}
	b[ipOff+1] = tos
	wire.PutBe16(b[ipOff+2:], uint16(total))
	wire.PutBe32(b[ipOff+4:], second)
	sum := h.sum + uint32(tos) + total + second>>16 + second&0xffff
	sum = sum>>16 + sum&0xffff
	wire.PutBe16(b[ipOff+10:], ^uint16(sum+sum>>16))
	if h.n > ipOff+wire.IPv4Len { // no checksum: RFC 3948, 2.1
		wire.PutBe16(b[ipOff+wire.IPv4Len+4:], uint16(n+wire.UDPLen))
	}
}

// put6 writes the headers of IPv6 in front of an ESP packet of n bytes.
func (h *outerHead) put6(b *[pktbuf.HeadLen]byte, n int, tos uint8) {
	*b = h.b
	payload := uint16(n + h.n - ipOff - wire.IPv6Len)
	wire.PutBe16(b[ipOff:], 6<<12|uint16(tos)<<4)
	wire.PutBe16(b[ipOff+4:], payload)
	if h.n > ipOff+wire.IPv6Len {
		wire.PutBe16(b[ipOff+wire.IPv6Len+4:], payload) // the checksum is that of what is not yet encrypted
	}
}
