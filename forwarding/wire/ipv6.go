package wire

import "vita/asm/cksum"

// IPv6 is a packet whose header ParseIPv6 has checked.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------+---------------+---------------------------------------+
//	|version| traffic class |              flow label               |
//	|        payload length         |  next header  |   hop limit   |
//	|                    source address, 16 bytes                   |
//	|                  destination address, 16 bytes                |
type IPv6 []byte

// ParseIPv6 checks the header of the packet in b (RFC 8200, section 3) and
// returns the packet without what lies behind its payload; false where it is
// malformed. Extension headers are part of the payload.
func ParseIPv6(b []byte) (IPv6, bool) {
	if len(b) < IPv6Len || b[0]>>4 != 6 {
		return nil, false
	}
	total := IPv6Len + int(Be16(b[4:]))
	if total > len(b) {
		return nil, false
	}
	return IPv6(b[:total]), true
}

// Class returns the traffic class.
func (p IPv6) Class() uint8 { return p[0]<<4 | p[1]>>4 }

// SetClass sets the traffic class.
func (p IPv6) SetClass(c uint8) { p[0], p[1] = 6<<4|c>>4, c<<4|p[1]&15 }

// Next returns the type of the header that follows.
func (p IPv6) Next() uint8 { return p[6] }

// HopLimit returns the hop limit.
func (p IPv6) HopLimit() uint8 { return p[7] }

// Src returns the source address as it lies in the packet.
func (p IPv6) Src() *[16]byte { return (*[16]byte)(p[8:24]) }

// Dst returns the destination address as it lies in the packet.
func (p IPv6) Dst() *[16]byte { return (*[16]byte)(p[24:40]) }

// Payload returns what follows the header.
func (p IPv6) Payload() []byte { return p[IPv6Len:] }

// DecrementHopLimit lowers the hop limit, which is above 0, by one.
func (p IPv6) DecrementHopLimit() { p[7]-- }

// PutIPv6 writes a whole header, traffic class and flow label 0, to b of at
// least IPv6Len bytes.
func PutIPv6(b []byte, payload int, next, hopLimit uint8, src, dst *[16]byte) {
	_ = b[IPv6Len-1]
	PutBe32(b[0:], 6<<28)
	PutBe16(b[4:], uint16(payload))
	b[6], b[7] = next, hopLimit
	*(*[16]byte)(b[8:24]), *(*[16]byte)(b[24:40]) = *src, *dst
}

// Last walks the extension headers (RFC 8200, section 4) and returns the type
// of the first header that is none, and where it begins. Later says that the
// packet is a fragment but not the first, so that what lies there is no
// header; ok is false where the packet ends before.
func (p IPv6) Last() (next uint8, at int, later, ok bool) {
	next, at = p.Next(), IPv6Len
	for {
		switch next {
		case ProtoHopByHop, ProtoRouting, ProtoDestination, ProtoMobility, ProtoHIP, ProtoShim6:
			if len(p) < at+8 {
				return next, at, false, false
			}
			next, at = p[at], at+8+8*int(p[at+1])
		case ProtoAH: // its length counts words of four bytes (RFC 4302, 2.2)
			if len(p) < at+8 {
				return next, at, false, false
			}
			next, at = p[at], at+8+4*int(p[at+1])
		case ProtoFragment:
			if len(p) < at+8 {
				return next, at, false, false
			}
			if Be16(p[at+2:])&0xfff8 != 0 {
				return p[at], at + 8, true, true
			}
			next, at = p[at], at+8
		default:
			return next, at, false, at <= len(p)
		}
	}
}

// OneStation6 reports whether an address can be that of one station: not
// unspecified, loopback, multicast, or an IPv4 address mapped into IPv6
// (RFC 4291, 2.5 and 2.7).
func OneStation6(a *[16]byte) bool {
	if a[0] == 0xff {
		return false
	}
	if Be32(a[0:])|Be32(a[4:]) != 0 {
		return true
	}
	mid, last := Be32(a[8:]), Be32(a[12:])
	return mid != 0xffff && (mid != 0 || last > 1)
}

// Martian6 reports whether an address is none that a packet may be forwarded
// from or to: what OneStation6 refuses, and link-local ones (RFC 4291, 2.5.6).
func Martian6(a *[16]byte) bool {
	return a[0] == 0xfe && a[1]&0xc0 == 0x80 || !OneStation6(a)
}

// SolicitedNode returns the solicited-node multicast address of an address
// (RFC 4291, 2.7.1).
func SolicitedNode(a *[16]byte) [16]byte {
	return [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}
}

// AllNodes is the multicast address of all nodes on a link.
var AllNodes = [16]byte{0: 0xff, 1: 2, 15: 1}

// MulticastMAC returns the Ethernet address for an IPv6 multicast address
// (RFC 2464, section 7).
func MulticastMAC(a *[16]byte) MAC { return MAC{0x33, 0x33, a[12], a[13], a[14], a[15]} }

// Types of ICMPv6 that the gateway knows (RFC 4443, RFC 4861).
const (
	ICMP6Unreachable         = 1
	ICMP6TooBig              = 2
	ICMP6TimeExceeded        = 3
	ICMP6ParameterProblem    = 4
	ICMP6EchoRequest         = 128
	ICMP6EchoReply           = 129
	ICMP6RouterSolicitation  = 133
	ICMP6RouterAdvertisement = 134
	ICMP6NeighbourSolicit    = 135
	ICMP6NeighbourAdvert     = 136
	ICMP6Redirect            = 137
)

// Codes and a pointer that the gateway sends.
const (
	CodeNoRoute6          = 0
	CodeHopLimitExceeded  = 0
	CodeUnknownNextHeader = 1
	PointerNextHeader     = 6
)

// ValidICMP6 reports whether a message to or from the packet's addresses has a
// right checksum (RFC 4443, 2.3).
func ValidICMP6(p IPv6) bool {
	m := p.Payload()
	return len(m) >= 4 && cksum.Valid(m, cksum.Pseudo6(*p.Src(), *p.Dst(), ProtoICMP6, uint32(len(m))))
}

// SumICMP6 stores the checksum of the message that is the packet's payload.
func SumICMP6(p IPv6) {
	m := p.Payload()
	m[2], m[3] = 0, 0
	PutBe16(m[2:], cksum.Sum(m, cksum.Pseudo6(*p.Src(), *p.Dst(), ProtoICMP6, uint32(len(m)))))
}

// NDLen is the length of a neighbour solicitation or advertisement without
// options, and NDOptionLen that of the option with an Ethernet address.
const (
	NDLen       = 24
	NDOptionLen = 8
)

// Options of neighbour discovery.
const (
	NDSource = 1
	NDTarget = 2
)

// ND is a neighbour solicitation or advertisement of RFC 4861, 4.3 and 4.4.
//
//	|     type      |     code      |           checksum            |
//	|R|S|O|  (flags of an advertisement)                            |
//	|                     target address, 16 bytes                  |
//	|   options: type, length in units of 8 bytes, value            |
type ND []byte

// ParseND returns the solicitation or advertisement that a packet is, if it
// passes all the checks of RFC 4861, 7.1.1 and 7.1.2.
func ParseND(p IPv6) (ND, bool) {
	m := ND(p.Payload())
	if len(m) < NDLen || m[1] != 0 || p.HopLimit() != 255 || m.Target()[0] == 0xff || !ValidICMP6(p) {
		return nil, false
	}
	source := false
	for o := m[NDLen:]; len(o) > 0; {
		n := 0
		if len(o) >= 2 {
			n = int(o[1]) * 8
		}
		if n == 0 || n > len(o) {
			return nil, false
		}
		source = source || o[0] == NDSource
		o = o[n:]
	}
	switch {
	case m.Solicitation():
		solicited := p.Dst()[0] == 0xff && *p.Dst() == SolicitedNode(m.Target())
		if *p.Src() == ([16]byte{}) && (!solicited || source) {
			return nil, false
		}
	case p.Dst()[0] == 0xff && m.Solicited():
		return nil, false
	}
	return m, true
}

// Solicitation reports whether the message is a solicitation.
func (m ND) Solicitation() bool { return m[0] == ICMP6NeighbourSolicit }

// Solicited reports whether an advertisement answers a solicitation.
func (m ND) Solicited() bool { return m[4]&0x40 != 0 }

// Override reports whether an advertisement replaces what is known.
func (m ND) Override() bool { return m[4]&0x20 != 0 }

// Target returns the target address.
func (m ND) Target() *[16]byte { return (*[16]byte)(m[8:24]) }

// MAC returns the Ethernet address in the option of a type, or nil.
func (m ND) MAC(option uint8) *MAC {
	for o := m[NDLen:]; len(o) >= NDOptionLen && o[1] != 0; {
		if o[0] == option && o[1] == 1 {
			return (*MAC)(o[2:8])
		}
		n := int(o[1]) * 8
		if n > len(o) {
			break
		}
		o = o[n:]
	}
	return nil
}

// PutND writes a message with one option to b, of at least NDLen+NDOptionLen
// bytes. Its checksum depends on the packet around it: SumICMP6.
func PutND(b []byte, typ, flags uint8, target *[16]byte, option uint8, mac *MAC) {
	_ = b[NDLen+NDOptionLen-1]
	PutBe32(b[0:], uint32(typ)<<24)
	PutBe32(b[4:], uint32(flags)<<24)
	*(*[16]byte)(b[8:24]) = *target
	b[24], b[25] = option, 1
	*(*MAC)(b[26:32]) = *mac
}

// Flags of an advertisement.
const (
	NDSolicited = 0x40
	NDOverride  = 0x20
)
