package ske

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"encoding/binary"
	"hash"
	"io"

	"golang.org/x/crypto/blake2s"
)

const (
	protocolName = "Noise_NNpsk0_25519_AESGCM_BLAKE2s"
	hashSize     = blake2s.Size
)

// noise is the state of a handshake: SymmetricState and CipherState of the
// Noise specification (revision 34, sections 5.1 and 5.2).
type noise struct {
	ck, h, k [hashSize]byte
	n        uint64
}

func newHash() hash.Hash {
	h, err := blake2s.New256(nil)
	if err != nil { // only a key of the wrong length makes one
		panic("ske: " + err.Error())
	}
	return h
}

func newNoise(prologue []byte, psk *[32]byte) *noise {
	// The name is longer than a hash, so it is hashed (section 5.2).
	s := &noise{h: blake2s.Sum256([]byte(protocolName))}
	s.ck = s.h
	s.mixHash(prologue)
	s.mixKeyAndHash(psk[:])
	return s
}

// wipe overwrites the secrets.
func (s *noise) wipe() { *s = noise{} }

func (s *noise) mixHash(data []byte) {
	h := newHash()
	h.Write(s.h[:])
	h.Write(data)
	h.Sum(s.h[:0])
}

// derive is HKDF as in section 4.3 of the Noise specification: two or three
// outputs from the chaining key and some input.
func derive(ck *[hashSize]byte, input []byte, out ...*[hashSize]byte) {
	mac := hmac.New(newHash, ck[:])
	mac.Write(input)
	var temp [hashSize]byte
	mac.Sum(temp[:0])
	mac = hmac.New(newHash, temp[:])
	var last []byte
	for i, o := range out {
		mac.Reset()
		mac.Write(last)
		mac.Write([]byte{byte(i + 1)})
		mac.Sum(o[:0])
		last = o[:]
	}
	clear(temp[:])
}

func (s *noise) mixKey(input []byte) {
	var ck, k [hashSize]byte
	derive(&s.ck, input, &ck, &k)
	s.ck, s.k, s.n = ck, k, 0
	clear(ck[:])
	clear(k[:])
}

func (s *noise) mixKeyAndHash(input []byte) {
	var ck, h, k [hashSize]byte
	derive(&s.ck, input, &ck, &h, &k)
	s.mixHash(h[:])
	s.ck, s.k, s.n = ck, k, 0
	clear(ck[:])
	clear(h[:])
	clear(k[:])
}

// aead returns the cipher under the current key, and the next nonce.
func (s *noise) aead() (cipher.AEAD, []byte) {
	b, err := aes.NewCipher(s.k[:])
	if err != nil {
		panic("ske: " + err.Error()) // only a key of the wrong length makes one
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic("ske: " + err.Error())
	}
	nonce := make([]byte, 12)
	binary.BigEndian.PutUint64(nonce[4:], s.n)
	s.n++
	return a, nonce
}

// encryptAndHash appends the ciphertext and tag of plain to dst.
func (s *noise) encryptAndHash(dst, plain []byte) []byte {
	a, nonce := s.aead()
	out := a.Seal(dst, nonce, plain, s.h[:])
	s.mixHash(out[len(dst):])
	return out
}

// decryptAndHash returns the plaintext of a ciphertext with its tag. The state
// is of no use any more where it reports false.
func (s *noise) decryptAndHash(text []byte) ([]byte, bool) {
	a, nonce := s.aead()
	plain, err := a.Open(nil, nonce, text, s.h[:])
	if err != nil {
		return nil, false
	}
	s.mixHash(text)
	return plain, true
}

// mixPublic is the token "e": in a handshake with a PSK the public key goes
// into the chaining key too (section 9.2).
func (s *noise) mixPublic(public []byte) {
	s.mixHash(public)
	s.mixKey(public)
}

// mixSecret is the token "ee". An all-zero result, that of a public key of low
// order, is refused (RFC 7748, section 6.1).
func (s *noise) mixSecret(private ecdh.KeyExchanger, public []byte) error {
	p, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return ErrPublicKey
	}
	secret, err := private.ECDH(p)
	if err != nil {
		return ErrPublicKey
	}
	s.mixKey(secret)
	clear(secret)
	return nil
}

// split derives the keys of the two SAs. It is not Noise's Split: one row of 40
// bytes by RFC 5869 from the chaining key, with a salt of zeros.
func (s *noise) split() (toInitiator, toResponder SAKeys, err error) {
	okm, err := hkdf.Key(newHash, s.ck[:], make([]byte, hashSize), "", 2*saKeysSize)
	if err != nil {
		return toInitiator, toResponder, err
	}
	setKeys(&toInitiator, okm[:saKeysSize])
	setKeys(&toResponder, okm[saKeysSize:])
	clear(okm)
	return toInitiator, toResponder, nil
}

// newPrivate makes an ephemeral key from 32 bytes of random.
func newPrivate(random io.Reader) (ecdh.KeyExchanger, error) {
	var b [32]byte
	defer clear(b[:])
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, err
	}
	return ecdh.X25519().NewPrivateKey(b[:])
}
