// Package aesgcm seals and opens batches of packets with AES-GCM (NIST
// SP 800-38D) as ESP uses it (RFC 4106): a 96-bit nonce, a 128-bit tag behind
// the ciphertext, 8 or 12 bytes of associated data, everything in place.
//
// The calls take whole batches because the kernels to come interleave packets;
// today there is one tier, over the standard library. The package knows no
// ESP, no SA and no sequence number: that a nonce is never used twice under a
// key is the caller's duty. It must not import anything of this module.
package aesgcm

import "errors"

// TagSize is the length of the integrity check value, in bytes.
const TagSize = 16

// ErrKeySize says that a key is neither 16 nor 32 bytes long.
var ErrKeySize = errors.New("AES-GCM key must be 16 or 32 bytes")

// Key is an expanded key. The zero Key seals and opens nothing. A Key may be
// used by several goroutines once Expand has returned.
type Key struct {
	tier genericKey
}

// Expand makes k ready for use with key (16 bytes for AES-128, 32 for AES-256),
// of which no copy is kept beyond the key schedule. It allocates.
func (k *Key) Expand(key []byte) error {
	if len(key) != 16 && len(key) != 32 {
		return ErrKeySize
	}
	return k.tier.expand(key)
}

// Clear makes k useless again. The schedule of the generic tier lies in the
// standard library's hands, and its memory is only given up, not overwritten.
func (k *Key) Clear() { *k = Key{} }

// Op is one packet of a batch.
type Op struct {
	Key   *Key
	Nonce [12]byte // RFC 4106, section 4: salt, then the explicit IV
	AAD   []byte   // 8 or 12 bytes, outside Buf
	Buf   []byte   // plaintext, then TagSize bytes of room; or ciphertext, then tag
	OK    bool     // result: the packet was sealed, or was authentic
}

// Seal encrypts every op's Buf in place, all but its last TagSize bytes, which
// receive the tag. OK is false, and Buf as it was, where the key was never
// expanded or a length is wrong.
func Seal(ops []Op) { sealGeneric(ops) }

// Open checks and decrypts every op's Buf in place. Where OK is false nothing
// of Buf may be used: its content is undefined.
func Open(ops []Op) { openGeneric(ops) }

// Tier names the implementation in use: "generic".
func Tier() string { return "generic" }

// usable reports whether an op has the shape that every tier relies on.
func (o *Op) usable() bool {
	return o.Key != nil && o.Key.tier.aead != nil && len(o.Buf) >= TagSize &&
		(len(o.AAD) == 8 || len(o.AAD) == 12)
}
