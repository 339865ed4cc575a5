// Package aesgcm seals and opens batches of packets with AES-GCM (NIST
// SP 800-38D) as ESP uses it (RFC 4106): a 96-bit nonce, a 128-bit tag behind
// the ciphertext, at most 16 bytes of associated data, everything in place.
//
// Three tiers do the same work, and the best that the processor has is chosen
// at start:
//
//	avx512   AVX-512, VAES, VPCLMULQDQ: four small packets at a time, which may
//	         have four keys; large ones in chunks of 512 bytes
//	avx2     AVX2 with VAES and VPCLMULQDQ on 256-bit registers, or with AES-NI
//	         and PCLMULQDQ on 128-bit ones; cipher and GHASH of large packets
//	         run side by side, and so do neighbours that are small and as long
//	generic  crypto/cipher
//
// The package knows no ESP, no SA and no sequence number: that a nonce is never
// used twice under a key is the caller's duty. It must not import anything of
// this module.
package aesgcm

import (
	"errors"
	"fmt"
)

// TagSize is the length of the integrity check value, in bytes.
const TagSize = 16

// MaxAAD is the most associated data that an operation takes, in bytes.
const MaxAAD = 16

// ErrKeySize says that a key is neither 16 nor 32 bytes long.
var ErrKeySize = errors.New("AES-GCM key must be 16 or 32 bytes")

// ErrTier says that a tier is not known, or that the processor lacks it.
var ErrTier = errors.New("no such AES-GCM tier")

// Key is an expanded key. The zero Key seals and opens nothing. It holds no
// pointer, so it may lie in memory that the garbage collector does not know. A
// Key may be used by several goroutines once Expand has returned. A copy shares
// what the generic tier holds with the original: clear one of them only.
type Key struct{ c context }

// context is a Key as the kernels read it, at fixed offsets. What a small packet
// needs of it lies together: the last powers, the key schedule, and what there is
// room for in between.
type context struct {
	powers [40][16]byte // H^32 to H^1 and eight times zero, as the kernels multiply by them
	rounds uint32       // 10 or 14
	tier   tier         // whose context this is; 0: nobody's
	room   [2]uint32    // the caller's
	round  [15][16]byte // the key schedule of FIPS 197
	folded [32][16]byte // of each power, the sum of both halves, twice
}

// tier is an implementation.
type tier uint32

const (
	noTier tier = iota
	genericTier
	avx2Tier
	avx512Tier
)

func (t tier) String() string {
	return [...]string{"none", "generic", "avx2", "avx512"}[t]
}

// inUse is the tier of this process.
var inUse = best()

// best returns the fastest tier that the processor has.
func best() tier {
	for _, t := range []tier{avx512Tier, avx2Tier} {
		if missing(t) == "" {
			return t
		}
	}
	return genericTier
}

// Tier names the implementation in use: "avx512", "avx2" or "generic".
func Tier() string { return inUse.String() }

// Lacks names what the processor lacks for more than generic, or is "".
func Lacks() string { return missing(avx2Tier) }

// Force chooses a tier by name, for tests and benchmarks. Keys expanded before
// seal and open nothing afterwards, and nobody may use the package meanwhile.
func Force(name string) error {
	for _, t := range []tier{genericTier, avx2Tier, avx512Tier} {
		if t.String() != name {
			continue
		}
		if m := missing(t); m != "" {
			return fmt.Errorf("%w: %s needs %s, which this processor lacks", ErrTier, name, m)
		}
		inUse = t
		return nil
	}
	return fmt.Errorf("%w: %q is not avx512, avx2 or generic", ErrTier, name)
}

// Registers is how wide the registers are that the tier in use works on, in
// bits: 512, 256 or 128, and 0 for generic.
func Registers() int {
	switch {
	case inUse == avx512Tier:
		return 512
	case inUse == avx2Tier && wide:
		return 256
	case inUse == avx2Tier:
		return 128
	}
	return 0
}

// ForceRegisters makes the tier avx2 work on registers of 128 or 256 bits, for
// tests and benchmarks. Keys stay good, but nobody may use the package meanwhile.
func ForceRegisters(bits int) error {
	if bits != 128 && (bits != 256 || !hasWide()) {
		return fmt.Errorf("%w: avx2 on registers of %d bits", ErrTier, bits)
	}
	wide = bits == 256
	return nil
}

// Expand makes k ready for use with key (16 bytes for AES-128, 32 for AES-256),
// of which no copy is kept beyond the key schedule. It allocates.
func (k *Key) Expand(key []byte) error {
	k.Clear()
	if len(key) != 16 && len(key) != 32 {
		return ErrKeySize
	}
	if inUse == genericTier {
		return k.c.expandGeneric(key)
	}
	return k.c.expandAsm(key)
}

// Clear makes k useless again and overwrites it. The schedule of the generic
// tier lies in the standard library's hands, and its memory is only given up.
func (k *Key) Clear() {
	if k.c.tier == genericTier {
		k.c.releaseGeneric()
	}
	*k = Key{}
}

// Room returns two numbers that the caller may keep with a key, where using the
// key brings them into the cache. Expand and Clear set them to zero.
func (k *Key) Room() *[2]uint32 { return &k.c.room }

// Prefetch asks for what small packets need of keys, of which none may be nil.
// What is there of a Key that was never expanded does not matter.
func Prefetch(keys []*Key) {
	if inUse != genericTier && len(keys) > 0 {
		prefetchAsm(keys)
	}
}

// Op is one packet of a batch. The kernels read it at fixed offsets.
type Op struct {
	Key   *Key
	Nonce [12]byte // RFC 4106, section 4: salt, then the explicit IV
	_     [4]byte
	AAD   []byte // at most MaxAAD bytes (ESP has 8 or 12), outside Buf
	Buf   []byte // plaintext, then TagSize bytes of room; or ciphertext, then tag
	OK    bool   // result: the packet was sealed, or was authentic
}

// Seal encrypts every op's Buf in place, all but its last TagSize bytes, which
// receive the tag. OK is false, and Buf as it was, where the key was never
// expanded or a length is wrong. Bufs must not overlap.
func Seal(ops []Op) {
	if inUse == genericTier {
		sealGeneric(ops)
		return
	}
	sealAsm(ops)
}

// Open checks and decrypts every op's Buf in place. Where OK is false nothing
// of Buf may be used: its content is undefined. Bufs must not overlap.
func Open(ops []Op) {
	if inUse == genericTier {
		openGeneric(ops)
		return
	}
	openAsm(ops)
}

// usable reports whether an op has the shape that every tier relies on.
func (o *Op) usable() bool {
	return o.Key != nil && o.Key.c.tier == inUse && len(o.Buf) >= TagSize && len(o.AAD) <= MaxAAD
}
