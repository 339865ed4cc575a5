package nic

import (
	"encoding/binary"

	"vita/drivers"
)

// RSSKey is the key that cards hash by where nobody gives another: the one of
// the specification of receive side scaling, so that its examples hold.
var RSSKey = [drivers.RSSKeyLen]byte{
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
	0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
	0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
}

// Toeplitz hashes at most 36 bytes: for each bit of the input that is set, the
// 32 bits of the key that begin at the bit's number are added without carry.
func Toeplitz(key *[drivers.RSSKeyLen]byte, in []byte) uint32 {
	var hash uint32
	window := binary.BigEndian.Uint64(key[:])
	for i, b := range in {
		for bit := 7; bit >= 0; bit-- {
			if b>>bit&1 != 0 {
				hash ^= uint32(window >> 32)
			}
			window <<= 1
		}
		if i+8 < len(key) {
			window |= uint64(key[i+8])
		}
	}
	return hash
}

const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
)

// HashFrame hashes the addresses of an IP packet, and of one of TCP that is not
// a fragment also the ports (ports says that this is wanted), as cards are set
// up by our drivers. Other frames have no hash: they go to the first queue.
func HashFrame(key *[drivers.RSSKeyLen]byte, frame []byte, ports bool) (hash uint32, ok bool) {
	if len(frame) < 14 {
		return 0, false
	}
	kind, p := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	if kind == typeVLAN && len(p) >= 4 {
		kind, p = binary.BigEndian.Uint16(p[2:]), p[4:]
	}
	var in [36]byte
	var n int
	var rest []byte
	var proto byte
	switch {
	case kind == typeIPv4 && len(p) >= 20 && p[0]>>4 == 4:
		n = copy(in[:], p[12:20])
		if head := int(p[0]&15) * 4; head >= 20 && head <= len(p) && binary.BigEndian.Uint16(p[6:])&0x3fff == 0 {
			proto, rest = p[9], p[head:]
		}
	case kind == typeIPv6 && len(p) >= 40 && p[0]>>4 == 6:
		n = copy(in[:], p[8:40])
		proto, rest = p[6], p[40:]
	default:
		return 0, false
	}
	if ports && proto == 6 && len(rest) >= 20 {
		n += copy(in[n:], rest[:4])
	}
	return Toeplitz(key, in[:n]), true
}

// Spread fills a card's redirection table: the queue for each value of the
// hash's lowest bits. want, where given, says which of the open queues, by their
// place in the list, each entry names; else they are evenly used.
func Spread(table []uint8, queues []int, want []uint8) {
	for i := range table {
		at := i
		if len(want) > 0 {
			at = int(want[i%len(want)])
		}
		table[i] = 0
		if len(queues) > 0 {
			table[i] = uint8(queues[at%len(queues)])
		}
	}
}
