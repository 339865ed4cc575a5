package forwarding

import (
	"math/bits"

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
//
// It is kept in words of eight bytes, of which the first is the lowest, and
// written in such words: a word can be read right after it was written, bytes
// that were written in other pieces cannot. Whatever the last word has more than
// the headers, the ESP header is written over.
type outerHead struct {
	w   [pktbuf.HeadLen / 8]uint64
	n   int    // bytes
	sum uint32 // of the IPv4 header
}

const ipOff = wire.EthernetLen

// newOuterHead returns what the headers of all packets that a side sends into
// tunnels have in common.
func newOuterHead(s *side, v6 bool) (h outerHead) {
	var b [pktbuf.HeadLen]byte
	if v6 {
		h.n = ipOff + wire.IPv6Len
		wire.Ethernet(b[:]).Put(&wire.MAC{}, &s.self.MAC, wire.TypeIPv6)
		wire.PutIPv6(b[ipOff:], 0, wire.ProtoESP, outerTTL, &s.self.IP6, &[16]byte{})
	} else {
		h.n = ipOff + wire.IPv4Len
		wire.Ethernet(b[:]).Put(&wire.MAC{}, &s.self.MAC, wire.TypeIPv4)
		wire.PutIPv4(b[ipOff:], 0, false, outerTTL, wire.ProtoESP, s.self.IP, 0)
		wire.PutBe16(b[ipOff+10:], 0)
		h.sum = cksum.Add(b[ipOff:h.n], 0)
	}
	for i := range h.w {
		h.w[i] = wire.Le64(b[8*i:])
	}
	return h
}

// to makes the template that of packets to a peer, by a station, and in UDP
// where port is not 0.
func (h *outerHead) to(mac wire.MACWord, peer *[16]byte, v6 bool, own, port uint16) {
	h.w[0] |= uint64(mac)
	lo, hi := wire.Le64(peer[0:]), wire.Le64(peer[8:])
	if v6 { // in bytes 38 to 53
		h.w[4] |= lo << 48
		h.w[5] |= lo>>16 | hi<<48
		h.w[6] |= hi >> 16
	} else { // in bytes 30 to 33
		h.w[3] |= hi >> 32 << 48
		h.w[4] |= hi >> 48
		ip := bits.ReverseBytes32(uint32(hi >> 32))
		h.sum += ip>>16 + ip&0xffff
	}
	if port == 0 {
		return
	}
	ports := uint64(bits.ReverseBytes16(own)) | uint64(bits.ReverseBytes16(port))<<16
	if v6 {
		h.w[2] ^= (wire.ProtoESP ^ wire.ProtoUDP) << 32
		h.w[6] |= ports << 48
		h.w[7] |= ports >> 16
	} else {
		h.w[2] ^= (wire.ProtoESP ^ wire.ProtoUDP) << 56
		h.sum += wire.ProtoUDP - wire.ProtoESP + 0xffff // in ones' complement
		h.w[4] |= ports << 16
	}
	h.n += wire.UDPLen
}

// put4 writes the headers of IPv4 in front of an ESP packet of n bytes.
func (h *outerHead) put4(b *[pktbuf.HeadLen]byte, n int, tos uint8, id uint16, df bool) {
	total := uint32(n + h.n - ipOff)
	flags := uint32(0)
	if df {
		flags = 0x4000
	}
	sum := h.sum + uint32(tos) + total + uint32(id) + flags
	sum = sum>>16 + sum&0xffff
	sum = uint32(^uint16(sum + sum>>16))
	wire.PutLe64(b[0:], h.w[0])
	wire.PutLe64(b[8:], h.w[1]|uint64(tos)<<56)
	lengths := uint64(bits.ReverseBytes16(uint16(total))) | uint64(bits.ReverseBytes16(id))<<16
	wire.PutLe64(b[16:], h.w[2]|lengths|uint64(flags)<<24)
	wire.PutLe64(b[24:], h.w[3]|uint64(bits.ReverseBytes16(uint16(sum))))
	if h.n == ipOff+wire.IPv4Len {
		wire.PutLe64(b[32:], h.w[4])
		return
	}
	// The checksum of UDP is 0: RFC 3948, 2.1.
	wire.PutLe64(b[32:], h.w[4]|uint64(bits.ReverseBytes16(uint16(n+wire.UDPLen)))<<48)
	wire.PutLe64(b[40:], h.w[5])
}

// put6 writes the headers of IPv6 in front of an ESP packet of n bytes.
func (h *outerHead) put6(b *[pktbuf.HeadLen]byte, n int, tos uint8) {
	payload := uint64(bits.ReverseBytes16(uint16(n + h.n - ipOff - wire.IPv6Len)))
	wire.PutLe64(b[0:], h.w[0])
	wire.PutLe64(b[8:], h.w[1]|uint64(tos>>4)<<48|uint64(tos&15)<<60)
	wire.PutLe64(b[16:], h.w[2]|payload<<16)
	for i := 3; i < 7; i++ {
		wire.PutLe64(b[8*i:], h.w[i])
	}
	if h.n > ipOff+wire.IPv6Len { // the checksum is that of what is not yet encrypted
		wire.PutLe64(b[56:], h.w[7]|payload<<16)
	}
}
