// Package ske is Vita's key exchange, version 5 ("vita-ske"): from the
// pre-shared key of a route to the keys of two SAs in four messages.
//
//	Initiator                                         Responder
//	    | -- knock ------------------------------------> |
//	    | <------------------------ challenge (nonce) -- |
//	    | -- proposal (e, {SPI of its inbound SA}) ----> |  has both SAs now
//	    | <-- agreement (e, {SPI of its inbound SA}) --- |
//	    |  has both SAs now                              |
//
// Proposal and agreement are the two messages of Noise NNpsk0; the nonce and
// all that both ends must agree on go into the prologue. Knock and challenge
// are not authentic and carry no secret. The responder learns from the
// proposal that the initiator knows the key and is not a replay, since the
// nonce is fresh; whether its agreement arrives it does not learn.
//
// The machines are pure: messages and points in time go in, messages and keys
// come out. They know no socket, no timer, no SA and no route but its SPI and
// key.
//
// Why not github.com/flynn/noise: the SA keys come from the chaining key at the
// end of the handshake, by a derivation that is not Noise's Split, and that
// package does not give the chaining key out. The test compares with it as far
// as it goes. Secrets are overwritten after use as far as Go allows: crypto/ecdh
// and crypto/aes keep copies of theirs that are only given up.
package ske

import (
	"crypto/ecdh"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"vita/keying/exchange"
)

// Params are what both ends of a route have in common.
type Params = exchange.Params

const saKeysSize = 20

// SAKeys are the secrets of one SA.
type SAKeys = exchange.Keys

// Pair is what an exchange yields, as one end sees it.
type Pair = exchange.Pair

func setKeys(k *SAKeys, b []byte) {
	copy(k.Key[:], b)
	copy(k.Salt[:], b[len(k.Key):])
}

// Responder answers knocks and proposals of one route. It keeps one nonce until
// it has agreed to a proposal. Its ephemeral key it makes only once a proposal
// is authentic: who does not know the PSK makes it do no public-key operation.
type Responder struct {
	p          Params
	random     io.Reader
	newKey     KeySource
	nonce      [nonceSize]byte
	challenged bool // there is a nonce
}

// KeySource makes an ephemeral key of X25519 from random bytes.
type KeySource func(random io.Reader) (ecdh.KeyExchanger, error)

// NewResponder returns a responder that takes its random bytes from random.
func NewResponder(p Params, random io.Reader) *Responder {
	return &Responder{p: p, random: random, newKey: newPrivate}
}

// Knock answers a knock with the current challenge.
func (r *Responder) Knock(m []byte) (challenge []byte, err error) {
	// The version in a knock is informative: the initiator decides by ours.
	if err := expect(m, r.p.SPI, Knock); err != nil {
		return nil, err
	}
	if !r.challenged {
		if _, err := io.ReadFull(r.random, r.nonce[:]); err != nil {
			return nil, fmt.Errorf("random bytes: %w", err)
		}
		r.challenged = true
	}
	return newChallenge(r.p.SPI, &r.nonce), nil
}

// Propose answers a proposal. InboundSPI names the SA on which we shall
// receive. Once it has returned an agreement, the next exchange has a fresh
// nonce: the caller may also decide not to send it. A refused proposal
// leaves everything as it was.
func (r *Responder) Propose(m []byte, inboundSPI uint32) (agreement []byte, pair Pair, err error) {
	if err := expect(m, r.p.SPI, Proposal); err != nil {
		return nil, Pair{}, err
	}
	if !r.challenged {
		return nil, Pair{}, fmt.Errorf("%w: proposal without a challenge", ErrMessage)
	}
	s := newNoise(prologue(r.p.SPI, r.p.Remote, r.p.Local, &r.nonce), &r.p.PSK)
	defer s.wipe()
	theirs := m[headerSize : headerSize+publicSize]
	peerSPI, err := s.readKey(m)
	if err != nil {
		return nil, Pair{}, err
	}
	private, err := r.newKey(r.random)
	if err != nil {
		return nil, Pair{}, fmt.Errorf("ephemeral key: %w", err)
	}
	out := header(headerSize+publicSize, r.p.SPI, Agreement)
	public := private.PublicKey().Bytes()
	copy(out[headerSize:], public)
	s.mixPublic(public)
	if err := s.mixSecret(private, theirs); err != nil {
		return nil, Pair{}, err
	}
	out = s.encryptAndHash(out, payload(inboundSPI))
	pair = Pair{InboundSPI: inboundSPI, OutboundSPI: peerSPI}
	if pair.Outbound, pair.Inbound, err = s.split(); err != nil {
		return nil, Pair{}, err
	}
	r.challenged, r.nonce = false, [nonceSize]byte{}
	return out, pair, nil
}

// readKey takes in the public key and the payload of a proposal and returns the
// SPI in it.
func (s *noise) readKey(m []byte) (spi uint32, err error) {
	s.mixPublic(m[headerSize : headerSize+publicSize])
	return s.readPayload(m)
}

func (s *noise) readPayload(m []byte) (spi uint32, err error) {
	plain, ok := s.decryptAndHash(m[headerSize+publicSize:])
	if !ok {
		return 0, ErrAuthentication
	}
	return binary.BigEndian.Uint32(plain), nil // and 28 bytes that say nothing
}

// payload is what a proposal and an agreement carry: an SPI, and zeros.
func payload(spi uint32) []byte {
	p := make([]byte, payloadSize)
	binary.BigEndian.PutUint32(p, spi)
	return p
}

func expect(m []byte, spi uint32, t Type) error {
	switch s, got, err := Parse(m); {
	case err != nil:
		return err
	case got != t || s != spi:
		return fmt.Errorf("%w: %v for route SPI %d", ErrMessage, got, s)
	}
	return nil
}

// Initiator begins exchanges for one route. Points in time are nanoseconds of
// any monotonic clock.
type Initiator struct {
	p        Params
	random   io.Reader
	newKey   KeySource
	wait     time.Duration
	state    state
	deadline int64
	spi      uint32
	noise    *noise            // while an agreement is awaited
	private  ecdh.KeyExchanger // likewise
}

type state uint8

const (
	idle state = iota
	awaitChallenge
	awaitAgreement
)

// NewInitiator returns an initiator that waits for each answer as long as wait,
// and takes its random bytes from random.
func NewInitiator(p Params, wait time.Duration, random io.Reader) *Initiator {
	return &Initiator{p: p, random: random, newKey: newPrivate, wait: wait}
}

// Start begins an exchange, instead of the one under way if there is one, and
// returns the knock. InboundSPI names the SA on which we shall receive; after
// an exchange that came to nothing it should be the same again, so that the
// responder can replace what it has for that one.
func (i *Initiator) Start(now int64, inboundSPI uint32) (knock []byte) {
	i.Stop()
	i.state, i.spi, i.deadline = awaitChallenge, inboundSPI, now+int64(i.wait)
	return newKnock(i.p.SPI)
}

// Repeat returns the knock again while a challenge is awaited, else nil: one
// that got lost need not cost the whole wait.
func (i *Initiator) Repeat() (knock []byte) {
	if i.state != awaitChallenge {
		return nil
	}
	return newKnock(i.p.SPI)
}

// Stop ends the exchange under way.
func (i *Initiator) Stop() {
	if i.noise != nil {
		i.noise.wipe()
	}
	i.noise, i.private, i.state = nil, nil, idle
}

// Active reports whether an exchange is under way, and until when it waits.
func (i *Initiator) Active() (deadline int64, ok bool) { return i.deadline, i.state != idle }

// SPI returns the SPI that Start was called with.
func (i *Initiator) SPI() uint32 { return i.spi }

// Challenge answers a challenge with a proposal. One that is refused leaves
// everything as it was: the right one may still come.
func (i *Initiator) Challenge(now int64, m []byte) (proposal []byte, err error) {
	if err := expect(m, i.p.SPI, Challenge); err != nil {
		return nil, err
	}
	if i.state != awaitChallenge || now >= i.deadline {
		return nil, fmt.Errorf("%w: challenge without a knock", ErrMessage)
	}
	nonce, err := readChallenge(m)
	if err != nil {
		return nil, err
	}
	private, err := i.newKey(i.random)
	if err != nil {
		return nil, fmt.Errorf("ephemeral key: %w", err)
	}
	s := newNoise(prologue(i.p.SPI, i.p.Local, i.p.Remote, &nonce), &i.p.PSK)
	out := header(headerSize+publicSize, i.p.SPI, Proposal)
	public := private.PublicKey().Bytes()
	copy(out[headerSize:], public)
	s.mixPublic(public)
	out = s.encryptAndHash(out, payload(i.spi))
	i.noise, i.private = s, private
	i.state, i.deadline = awaitAgreement, now+int64(i.wait)
	return out, nil
}

// Agree takes an agreement in and returns the keys. One that is refused leaves
// everything as it was.
func (i *Initiator) Agree(now int64, m []byte) (Pair, error) {
	if err := expect(m, i.p.SPI, Agreement); err != nil {
		return Pair{}, err
	}
	if i.state != awaitAgreement || now >= i.deadline {
		return Pair{}, fmt.Errorf("%w: agreement without a proposal", ErrMessage)
	}
	s := *i.noise // a copy: a forged agreement must not spoil the state
	defer s.wipe()
	theirs := m[headerSize : headerSize+publicSize]
	s.mixPublic(theirs)
	if err := s.mixSecret(i.private, theirs); err != nil {
		return Pair{}, err
	}
	spi, err := s.readPayload(m)
	if err != nil {
		return Pair{}, err
	}
	pair := Pair{InboundSPI: i.spi, OutboundSPI: spi}
	if pair.Inbound, pair.Outbound, err = s.split(); err != nil {
		return Pair{}, err
	}
	i.Stop()
	return pair, nil
}
