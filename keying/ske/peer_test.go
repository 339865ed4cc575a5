package ske

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"hash"
	"net/netip"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/curve25519"
)

// The peer of these tests is the protocol written down a second time, straight
// from its description, message by message and with nothing from the package.

func b2s(parts ...[]byte) []byte {
	h, _ := blake2s.New256(nil)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func hm(key []byte, parts ...[]byte) []byte {
	m := hmac.New(func() hash.Hash { h, _ := blake2s.New256(nil); return h }, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func gcm(key []byte) cipher.AEAD {
	b, _ := aes.NewCipher(key)
	a, _ := cipher.NewGCM(b)
	return a
}

func be32(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }

func addr16(s string) []byte {
	a := netip.MustParseAddr(s).AsSlice()
	return append(a, make([]byte, 16-len(a))...)
}

var peerAEAD = append([]byte("aes-gcm-16-icv"), make([]byte, 18)...)

// peer is either end of an exchange.
type peer struct {
	routeSPI             uint32
	psk                  []byte
	initiator, responder string // addresses
	private, public      []byte
	nonce                []byte
	ck, h                []byte
}

func (p *peer) newKey() {
	p.private = make([]byte, 32)
	_, _ = rand.Read(p.private)
	p.public, _ = curve25519.X25519(p.private, curve25519.Basepoint)
}

func (p *peer) header(kind byte) []byte { return append(be32(p.routeSPI), kind, 0xaa, 0xbb, 0xcc) }

func (p *peer) begin() {
	h := b2s([]byte("Noise_NNpsk0_25519_AESGCM_BLAKE2s"))
	p.ck = h
	pro := bytes.Join([][]byte{be32(5), be32(p.routeSPI), addr16(p.initiator), addr16(p.responder), peerAEAD, p.nonce}, nil)
	h = b2s(h, pro)
	t := hm(p.ck, p.psk) // psk
	o1 := hm(t, []byte{1})
	o2 := hm(t, o1, []byte{2})
	p.ck, p.h = o1, b2s(h, o2)
}

// mix is MixKey; it returns the key.
func (p *peer) mix(in []byte) []byte {
	t := hm(p.ck, in)
	p.ck = hm(t, []byte{1})
	return hm(t, p.ck, []byte{2})
}

var zeroNonce = make([]byte, 12)

func (p *peer) payload(spi uint32) []byte {
	return append(be32(spi), bytes.Repeat([]byte{0x5a}, 28)...) // the rest is unspecified
}

func (p *peer) knock() []byte { return append(p.header(11), be32(5)...) }
func (p *peer) challenge() []byte {
	return bytes.Join([][]byte{p.header(12), be32(5), peerAEAD, p.nonce}, nil)
}

func (p *peer) propose(challenge []byte, spi uint32) []byte {
	p.nonce = bytes.Clone(challenge[44:76])
	p.newKey()
	p.begin()
	p.h = b2s(p.h, p.public)
	c := gcm(p.mix(p.public)).Seal(nil, zeroNonce, p.payload(spi), p.h)
	p.h = b2s(p.h, c)
	return bytes.Join([][]byte{p.header(13), p.public, c}, nil)
}

func (p *peer) readProposal(m []byte) (uint32, error) {
	p.begin()
	p.h = b2s(p.h, m[8:40])
	plain, err := gcm(p.mix(m[8:40])).Open(nil, zeroNonce, m[40:], p.h)
	if err != nil {
		return 0, err
	}
	p.h = b2s(p.h, m[40:])
	return uint32(plain[0])<<24 | uint32(plain[1])<<16 | uint32(plain[2])<<8 | uint32(plain[3]), nil
}

func (p *peer) agree(proposal []byte, spi uint32) []byte {
	p.h = b2s(p.h, p.public)
	p.mix(p.public)
	ee, _ := curve25519.X25519(p.private, proposal[8:40])
	c := gcm(p.mix(ee)).Seal(nil, zeroNonce, p.payload(spi), p.h)
	return bytes.Join([][]byte{p.header(14), p.public, c}, nil)
}

func (p *peer) readAgreement(m []byte) (uint32, error) {
	if len(m) != 88 || m[4] != 14 {
		return 0, errors.New("no agreement")
	}
	p.h = b2s(p.h, m[8:40])
	p.mix(m[8:40])
	ee, err := curve25519.X25519(p.private, m[8:40])
	if err != nil {
		return 0, err
	}
	plain, err := gcm(p.mix(ee)).Open(nil, zeroNonce, m[40:], p.h)
	if err != nil {
		return 0, err
	}
	return uint32(plain[0])<<24 | uint32(plain[1])<<16 | uint32(plain[2])<<8 | uint32(plain[3]), nil
}

// keys returns the 20 bytes for the SA to the initiator, and for the other.
func (p *peer) keys() (toInitiator, toResponder []byte) {
	prk := hm(make([]byte, 32), p.ck)
	t1 := hm(prk, []byte{1})
	okm := append(bytes.Clone(t1), hm(prk, t1, []byte{2})...)
	return okm[:20], okm[20:40]
}
