package cksum

import (
	"encoding/binary"
	"math/bits"
)

// headerLen is the length of an IPv4 header without options, of which every
// packet needs a sum or two.
const headerLen = 20

// addHeader is addGeneric for it. Five words of 32 bits and the initial sum
// cannot carry out of 64.
func addHeader(b *[headerLen]byte, initial uint32) uint32 {
	x, y := binary.BigEndian.Uint64(b[0:]), binary.BigEndian.Uint64(b[8:])
	sum := uint64(initial) + x>>32 + x&0xffffffff + y>>32 + y&0xffffffff + uint64(binary.BigEndian.Uint32(b[16:]))
	sum = sum>>32 + sum&0xffffffff
	return uint32(sum>>48 + sum>>32&0xffff + sum>>16&0xffff + sum&0xffff)
}

// addGeneric sums eight bytes at a time: in ones' complement arithmetic a sum
// of 64-bit words, its carries added back, folds to the sum of the 16-bit words
// (RFC 1071, section 2 (C)).
func addGeneric(b []byte, initial uint32) uint32 {
	if len(b) == headerLen {
		return addHeader((*[headerLen]byte)(b), initial)
	}
	sum, carry := uint64(initial), uint64(0)
	for len(b) >= 16 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), carry)
		b = b[16:]
	}
	if len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	var tail uint64
	if len(b) >= 4 {
		tail = uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		tail += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		tail += uint64(b[0]) << 8
	}
	sum, carry = bits.Add64(sum, tail, carry)
	sum += carry // cannot carry again: tail is below 1<<34, so a sum that wrapped is small
	// Fold to at most 17 bits, so that a caller may add a few words more.
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	return uint32(sum>>16 + sum&0xffff)
}

// fold brings a partial sum to 16 bits.
func fold(s uint32) uint16 {
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s&0xffff)
}
