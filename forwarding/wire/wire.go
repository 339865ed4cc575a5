// Package wire reads and writes packet headers in place, by views: a header is
// a byte slice whose methods know the offsets.
//
// A view's methods rely on the length that its constructor has checked, and on
// nothing else. The package knows formats, not what is done about them.
package wire

import "encoding/binary"

// Length of the fixed headers, in bytes.
const (
	EthernetLen = 14
	VLANLen     = 4 // an 802.1Q tag
	ARPLen      = 28
	IPv4Len     = 20
	IPv6Len     = 40
	UDPLen      = 8
	ICMPLen     = 8
	ESPLen      = 8
)

// EtherTypes.
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeVLAN = 0x8100
	TypeIPv6 = 0x86dd
)

// Protocols of IP.
const (
	ProtoICMP  = 1
	ProtoIPv4  = 4 // an IPv4 packet as payload
	ProtoUDP   = 17
	ProtoIPv6  = 41 // an IPv6 packet as payload
	ProtoESP   = 50
	ProtoICMP6 = 58
	ProtoNone  = 59 // no next header: in ESP, a dummy packet
)

// Extension headers of IPv6.
const (
	ProtoHopByHop    = 0
	ProtoRouting     = 43
	ProtoFragment    = 44
	ProtoAH          = 51
	ProtoDestination = 60
	ProtoMobility    = 135
	ProtoHIP         = 139
	ProtoShim6       = 140
)

// Be16 reads a number of two bytes, the highest first.
func Be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// Be32 reads a number of four bytes, the highest first.
func Be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// PutBe16 writes a number of two bytes, the highest first.
func PutBe16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }

// PutBe32 writes a number of four bytes, the highest first.
func PutBe32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }

// Le16 reads a number of two bytes, the lowest first.
func Le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }

// Le32 reads a number of four bytes, the lowest first.
func Le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// Le64 reads a number of eight bytes, the lowest first.
func Le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// PutBe64 writes a number of eight bytes, the highest first.
func PutBe64(b []byte, v uint64) { binary.BigEndian.PutUint64(b, v) }

// PutLe32 writes a number of four bytes, the lowest first.
func PutLe32(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }

// PutLe64 writes a number of eight bytes, the lowest first.
func PutLe64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }

// MAC is an Ethernet address.
type MAC = [6]byte

// MACWord is an Ethernet address in the lower 48 bits, its first byte the lowest.
type MACWord uint64

// Word returns an address as a word.
func Word(m *MAC) MACWord { return MACWord(Le32(m[0:])) | MACWord(Le16(m[4:]))<<32 }

// MAC returns the address.
func (w MACWord) MAC() (m MAC) {
	PutLe32(m[0:], uint32(w))
	binary.LittleEndian.PutUint16(m[4:], uint16(w>>32))
	return m
}

// Ethernet is a frame without its FCS, of at least EthernetLen bytes.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|                     destination                               |
//	|                               |        source                 |
//	|                                                               |
//	|           type                |
type Ethernet []byte

// Dst returns the destination address.
func (e Ethernet) Dst() *MAC { return (*MAC)(e[0:6]) }

// Src returns the source address.
func (e Ethernet) Src() *MAC { return (*MAC)(e[6:12]) }

// Type returns the EtherType.
func (e Ethernet) Type() uint16 { return Be16(e[12:14]) }

// Put writes the whole header.
func (e Ethernet) Put(dst, src *MAC, typ uint16) {
	_ = e[EthernetLen-1]
	*(*MAC)(e[0:6]), *(*MAC)(e[6:12]) = *dst, *src
	PutBe16(e[12:14], typ)
}

// ARP is a packet of RFC 826 for IPv4 on Ethernet, of at least ARPLen bytes.
//
//	+-------------------------------+-------------------------------+
//	|        hardware type = 1      |     protocol type = 0x0800    |
//	| hw length = 6 | pr length = 4 |           operation           |
//	|                 sender hardware address                       |
//	|                               |   sender protocol address     |
//	|                               |   target hardware address     |
//	|                                                               |
//	|                 target protocol address                       |
type ARP []byte

// Operations of ARP.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ParseARP returns the packet in b, or false where it is too short or not for
// IPv4 on Ethernet.
func ParseARP(b []byte) (ARP, bool) {
	if len(b) < ARPLen || Be32(b) != 1<<16|TypeIPv4 || Be16(b[4:]) != 6<<8|4 {
		return nil, false
	}
	return ARP(b[:ARPLen]), true
}

// Op returns the operation.
func (a ARP) Op() uint16 { return Be16(a[6:8]) }

// SenderMAC returns the sender's hardware address.
func (a ARP) SenderMAC() *MAC { return (*MAC)(a[8:14]) }

// SenderIP returns the sender's protocol address.
func (a ARP) SenderIP() uint32 { return Be32(a[14:18]) }

// TargetIP returns the target's protocol address.
func (a ARP) TargetIP() uint32 { return Be32(a[24:28]) }

// PutARP writes a whole packet to b, of at least ARPLen bytes.
func PutARP(b []byte, op uint16, senderMAC *MAC, senderIP uint32, targetMAC *MAC, targetIP uint32) {
	_ = b[ARPLen-1]
	PutBe32(b[0:], 1<<16|TypeIPv4)
	PutBe16(b[4:], 6<<8|4)
	PutBe16(b[6:], op)
	*(*MAC)(b[8:14]) = *senderMAC
	PutBe32(b[14:], senderIP)
	*(*MAC)(b[18:24]) = *targetMAC
	PutBe32(b[24:], targetIP)
}

// UDP is a header of RFC 768 and what follows, of at least UDPLen bytes.
type UDP []byte

// SrcPort returns the source port.
func (u UDP) SrcPort() uint16 { return Be16(u[0:2]) }

// DstPort returns the destination port.
func (u UDP) DstPort() uint16 { return Be16(u[2:4]) }

// Length returns the length field: header and payload, in bytes.
func (u UDP) Length() int { return int(Be16(u[4:6])) }

// Checksum returns the checksum field; 0 means that there is none.
func (u UDP) Checksum() uint16 { return Be16(u[6:8]) }

// Put writes the whole header, the checksum as 0.
func (u UDP) Put(src, dst uint16, length int) {
	_ = u[UDPLen-1]
	PutBe16(u[0:], src)
	PutBe16(u[2:], dst)
	PutBe16(u[4:], uint16(length))
	PutBe16(u[6:], 0)
}

// SetChecksum stores a computed checksum: 0 is sent as all ones (RFC 768).
func (u UDP) SetChecksum(sum uint16) {
	if sum == 0 {
		sum = 0xffff
	}
	PutBe16(u[6:8], sum)
}

// ICMP is a message of RFC 792, of at least ICMPLen bytes.
type ICMP []byte

// Types of ICMP that the gateway knows.
const (
	ICMPEchoReply        = 0
	ICMPUnreachable      = 3
	ICMPRedirect         = 5
	ICMPEchoRequest      = 8
	ICMPTimeExceeded     = 11
	ICMPParameterProblem = 12
)

// Codes that the gateway sends.
const (
	CodeNetUnreachable      = 0
	CodeProtocolUnreachable = 2
	CodeFragmentationNeeded = 4
	CodeTTLExceeded         = 0
)

// Type returns the message's type.
func (m ICMP) Type() uint8 { return m[0] }

// Code returns the message's code.
func (m ICMP) Code() uint8 { return m[1] }

// Put writes type, code and the four bytes that depend on them; the checksum
// as 0.
func (m ICMP) Put(typ, code uint8, rest uint32) {
	_ = m[ICMPLen-1]
	m[0], m[1], m[2], m[3] = typ, code, 0, 0
	PutBe32(m[4:], rest)
}

// ESP is a packet of RFC 4303, of at least ESPLen bytes.
//
//	+---------------------------------------------------------------+
//	|               security parameters index (SPI)                 |
//	|            sequence number, the low 32 bits                   |
type ESP []byte

// SPI returns the security parameters index.
func (e ESP) SPI() uint32 { return Be32(e[0:4]) }

// SeqLow returns the low half of the sequence number.
func (e ESP) SeqLow() uint32 { return Be32(e[4:8]) }
