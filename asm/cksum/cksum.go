// Package cksum computes the Internet checksum of RFC 1071 and updates it in
// place after RFC 1624.
//
// All sums here are in the order of the wire: a checksum of 0x1234 is stored as
// the bytes 12 34, with binary.BigEndian.PutUint16. The package knows where no
// header field lies; it must not import anything of this module.
package cksum

import "math/bits"

// Add adds b, as a row of big-endian 16-bit words, to the partial sum initial
// and returns the new partial sum. An odd last byte counts as the high half of
// a word whose low half is zero, so only the last piece of a row of pieces may
// have an odd length.
func Add(b []byte, initial uint32) uint32 {
	return addGeneric(b, initial)
}

// Sum returns the checksum of b: the complement of the sum of initial and b.
// The checksum field inside b must be zero. Initial is 0 or the result of Add,
// Pseudo4 or Pseudo6.
func Sum(b []byte, initial uint32) uint16 {
	return ^fold(Add(b, initial))
}

// Words is Sum for the five words of an IPv4 header without options, whose
// checksum is zero.
func Words(a, b, c, d, e uint32) uint16 {
	sum := uint64(a) + uint64(b) + uint64(c) + uint64(d) + uint64(e)
	sum = sum>>32 + sum&0xffffffff
	return ^fold(uint32(sum>>48 + sum>>32&0xffff + sum>>16&0xffff + sum&0xffff))
}

// ValidWords is Valid for an IPv4 header without options, given as it lies in
// memory: its first eight bytes, the next, and the last four, as little-endian
// numbers. The order of the bytes does not matter to the sum (RFC 1071, section
// 2 (B)).
func ValidWords(x, y uint64, z uint32) bool {
	sum, carry := bits.Add64(x, y, 0)
	sum, carry = bits.Add64(sum, uint64(z), carry)
	sum += carry // cannot carry again: what was added last is below 1<<32
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	return sum>>16+sum&0xffff == 0xffff
}

// Valid reports whether b, its checksum field included, sums to what a correct
// checksum leaves (RFC 1071, section 1).
func Valid(b []byte, initial uint32) bool {
	return fold(Add(b, initial)) == 0xffff
}

// Pseudo4 returns the partial sum of the IPv4 pseudo header of RFC 768 for a
// payload of length bytes.
func Pseudo4(src, dst [4]byte, protocol uint8, length uint16) uint32 {
	s := addGeneric(src[:], uint32(protocol)+uint32(length))
	return addGeneric(dst[:], s)
}

// Pseudo6 returns the partial sum of the IPv6 pseudo header of RFC 8200,
// section 8.1, for an upper layer of length bytes.
func Pseudo6(src, dst [16]byte, next uint8, length uint32) uint32 {
	s := addGeneric(src[:], length>>16+length&0xffff+uint32(next))
	return addGeneric(dst[:], s)
}

// Update16 returns the checksum that replaces sum after one 16-bit word of the
// data has changed from old to now (RFC 1624, equation 3, which unlike that of
// RFC 1141 never yields a wrong zero).
func Update16(sum, old, now uint16) uint16 {
	return ^fold(uint32(^sum) + uint32(^old) + uint32(now))
}

// Update32 is Update16 for two adjacent words, as an IPv4 address.
func Update32(sum uint16, old, now uint32) uint16 {
	s := uint32(^sum) + uint32(^uint16(old>>16)) + uint32(^uint16(old)) + now>>16 + now&0xffff
	return ^fold(s)
}
