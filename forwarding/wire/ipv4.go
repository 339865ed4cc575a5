package wire

import "vita/asm/cksum"

// IPv4 is a packet whose header ParseIPv4 has checked.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------+-------+---------------+-------------------------------+
//	|version|  IHL  |      TOS      |         total length          |
//	|        identification         |flags|    fragment offset      |
//	|      TTL      |   protocol    |        header checksum        |
//	|                         source address                        |
//	|                       destination address                     |
//	|                    options, if IHL is above 5                 |
type IPv4 []byte

// Check is what ParseIPv4 found.
type Check uint8

// The results of ParseIPv4.
const (
	Good Check = iota
	Malformed
	BadChecksum
)

// ParseIPv4 checks the header of the packet in b (RFC 1812, 5.2.2) and returns
// the packet without what lies behind its total length, as Ethernet padding.
func ParseIPv4(b []byte) (IPv4, Check) {
	if len(b) < IPv4Len || b[0]>>4 != 4 {
		return nil, Malformed
	}
	header, total := int(b[0]&15)*4, int(Be16(b[2:]))
	if header < IPv4Len || total < header || total > len(b) {
		return nil, Malformed
	}
	if !cksum.Valid(b[:header], 0) {
		return nil, BadChecksum
	}
	return IPv4(b[:total]), Good
}

// HeaderLen returns the header's length with its options, in bytes.
func (p IPv4) HeaderLen() int { return int(p[0]&15) * 4 }

// TotalLen returns the total length field.
func (p IPv4) TotalLen() int { return int(Be16(p[2:4])) }

// DF reports whether the packet must not be fragmented.
func (p IPv4) DF() bool { return p[6]&0x40 != 0 }

// Fragment reports whether the packet is a fragment, the first included.
func (p IPv4) Fragment() bool { return Be16(p[6:8])&0x3fff != 0 }

// LaterFragment reports whether the packet is a fragment but not the first.
func (p IPv4) LaterFragment() bool { return Be16(p[6:8])&0x1fff != 0 }

// TOS returns the type of service: DSCP and ECN field.
func (p IPv4) TOS() uint8 { return p[1] }

// SetECN sets the ECN field and mends the checksum.
func (p IPv4) SetECN(ecn uint8) {
	_ = p[11]
	old := Be16(p[0:])
	p[1] = p[1]&^3 | ecn
	PutBe16(p[10:], cksum.Update16(Be16(p[10:]), old, Be16(p[0:])))
}

// SetFragment makes the header, without options, that of a piece which begins
// offset units of 8 bytes into what it was before, and sums it anew. More says
// that another piece follows.
func (p IPv4) SetFragment(total, offset int, more bool) {
	_ = p[IPv4Len-1]
	PutBe16(p[2:], uint16(total))
	v := Be16(p[6:]) + uint16(offset) // a piece of a fragment lies behind that one's offset
	if more {
		v |= 0x2000
	}
	PutBe16(p[6:], v)
	PutBe16(p[10:], 0)
	PutBe16(p[10:], cksum.Sum(p[:IPv4Len], 0))
}

// TTL returns the time to live.
func (p IPv4) TTL() uint8 { return p[8] }

// Protocol returns the protocol of the payload.
func (p IPv4) Protocol() uint8 { return p[9] }

// Src returns the source address.
func (p IPv4) Src() uint32 { return Be32(p[12:16]) }

// Dst returns the destination address.
func (p IPv4) Dst() uint32 { return Be32(p[16:20]) }

// SrcBytes returns the source address as it lies in the packet.
func (p IPv4) SrcBytes() [4]byte { return [4]byte(p[12:16]) }

// DstBytes returns the destination address as it lies in the packet.
func (p IPv4) DstBytes() [4]byte { return [4]byte(p[16:20]) }

// Payload returns what follows the header.
func (p IPv4) Payload() []byte { return p[p.HeaderLen():] }

// DecrementTTL lowers the time to live, which is above 0, by one and mends the
// checksum (RFC 1624).
func (p IPv4) DecrementTTL() {
	_ = p[11]
	// Nothing is read back that was just written in smaller pieces: that would
	// wait until it is in the cache.
	LowerTTL((*[4]byte)(p[8:]))
}

// LowerTTL is DecrementTTL, given the word of the header that begins with the
// time to live and ends with the checksum. Equation 3 of RFC 1624 comes to this
// where the other half is less by 1<<8.
func LowerTTL(b *[4]byte) {
	v := Be32(b[:])
	sum := v&0xffff + 1<<8
	if sum >= 0xffff {
		sum++
	}
	PutBe32(b[:], (v-1<<24)&^0xffff|sum&0xffff)
}

// PutIPv4 writes a whole header without options, TOS 0, identification 0, and
// its checksum, to b of at least IPv4Len bytes.
func PutIPv4(b []byte, total int, df bool, ttl, proto uint8, src, dst uint32) {
	_ = b[IPv4Len-1]
	first := 0x45<<24 | uint32(uint16(total))
	second := uint32(0)
	if df {
		second = 0x4000
	}
	third := uint32(ttl)<<24 | uint32(proto)<<16
	// The sum is of what is written, not of the memory: to read back at once
	// what was written in smaller pieces waits until it is in the cache.
	third |= uint32(cksum.Words(first, second, third, src, dst))
	PutBe32(b[0:], first)
	PutBe32(b[4:], second)
	PutBe32(b[8:], third)
	PutBe32(b[12:], src)
	PutBe32(b[16:], dst)
}

// Martian reports whether an address is none that a packet may be forwarded
// from or to: 0.0.0.0/8, loopback, multicast, 240.0.0.0/4 with the limited
// broadcast (RFC 1812, 5.3.7).
func Martian(a uint32) bool {
	first := a >> 24
	return first == 0 || first == 127 || first >= 224
}
