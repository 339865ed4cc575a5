package ske

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"vita/keying/exchange"
)

// Version is the protocol's.
const Version = 5

// AEAD names the one transform that the protocol negotiates: RFC 4106 with a
// 128-bit key.
const AEAD = "aes-gcm-16-icv"

// Type is a message's type.
type Type uint8

// The message types.
const (
	Knock     Type = 11
	Challenge Type = 12
	Proposal  Type = 13
	Agreement Type = 14
)

// String returns the type's name.
func (t Type) String() string {
	switch t {
	case Knock:
		return "knock"
	case Challenge:
		return "challenge"
	case Proposal:
		return "proposal"
	case Agreement:
		return "agreement"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Sizes in bytes. Every message has exactly one.
const (
	headerSize  = 8
	aeadSize    = 32
	nonceSize   = 32
	publicSize  = 32
	payloadSize = 32
	tagSize     = 16

	knockSize     = headerSize + 4
	challengeSize = headerSize + 4 + aeadSize + nonceSize
	keySize       = headerSize + publicSize + payloadSize + tagSize // proposal and agreement
	prologueSize  = 4 + 4 + 16 + 16 + aeadSize + nonceSize

	// MaxSize is the size of the largest message.
	MaxSize = keySize
)

// Errors of the machines. A message that yields one changes nothing.
var (
	ErrMessage        = exchange.ErrMessage
	ErrVersion        = exchange.ErrVersion
	ErrParameter      = exchange.ErrParameter
	ErrAuthentication = exchange.ErrAuthentication
	ErrPublicKey      = exchange.ErrPublicKey
)

// Parse returns the route's SPI and the type of a message, whose size is then
// the right one for that type.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------------------------------------+-+
//	|                        SPI of the route                       |
//	+---------------+-----------------------------------------------+
//	|     type      |             reserved, ignored                 |
//	+---------------+-----------------------------------------------+
//	knock:               version
//	challenge:           version, AEAD[32], nonce[32]
//	proposal, agreement: public key[32], ciphertext[32], tag[16]
func Parse(m []byte) (spi uint32, t Type, err error) {
	if len(m) < headerSize {
		return 0, 0, fmt.Errorf("%w: %d bytes", ErrMessage, len(m))
	}
	spi, t = binary.BigEndian.Uint32(m), Type(m[4])
	want := 0
	switch t {
	case Knock:
		want = knockSize
	case Challenge:
		want = challengeSize
	case Proposal, Agreement:
		want = keySize
	}
	if len(m) != want {
		return spi, t, fmt.Errorf("%w: %v of %d bytes", ErrMessage, t, len(m))
	}
	return spi, t, nil
}

func header(size int, spi uint32, t Type) []byte {
	m := make([]byte, size)
	binary.BigEndian.PutUint32(m, spi)
	m[4] = byte(t)
	return m
}

func newKnock(spi uint32) []byte {
	m := header(knockSize, spi, Knock)
	binary.BigEndian.PutUint32(m[headerSize:], Version)
	return m
}

func newChallenge(spi uint32, nonce *[nonceSize]byte) []byte {
	m := header(challengeSize, spi, Challenge)
	binary.BigEndian.PutUint32(m[headerSize:], Version)
	copy(m[headerSize+4:], AEAD)
	copy(m[headerSize+4+aeadSize:], nonce[:])
	return m
}

// readChallenge returns the nonce of a challenge that Parse has accepted.
func readChallenge(m []byte) (nonce [nonceSize]byte, err error) {
	if v := binary.BigEndian.Uint32(m[headerSize:]); v != Version {
		return nonce, fmt.Errorf("%w: %d", ErrVersion, v)
	}
	if a := [aeadSize]byte(m[headerSize+4:]); a != aeadField() {
		return nonce, fmt.Errorf("%w: %q", ErrParameter, a[:])
	}
	return [nonceSize]byte(m[headerSize+4+aeadSize:]), nil
}

// aeadField is AEAD as it is sent, filled with zeros.
func aeadField() (f [aeadSize]byte) {
	copy(f[:], AEAD)
	return f
}

// prologue is what both ends must agree on before the handshake: version,
// route, addresses, transform, nonce.
func prologue(spi uint32, initiator, responder netip.Addr, nonce *[nonceSize]byte) []byte {
	p := make([]byte, 8, prologueSize)
	binary.BigEndian.PutUint32(p, Version)
	binary.BigEndian.PutUint32(p[4:], spi)
	for _, a := range []netip.Addr{initiator, responder} {
		var field [16]byte
		copy(field[:], a.AsSlice()) // IPv4: 4 bytes and 12 zeros
		p = append(p, field[:]...)
	}
	f := aeadField()
	p = append(p, f[:]...)
	return append(p, nonce[:]...)
}
