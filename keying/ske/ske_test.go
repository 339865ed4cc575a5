package ske

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	flynn "github.com/flynn/noise"
)

const wait = 5 * time.Second

var testPSK = [32]byte{0: 9, 31: 7}

func params(local, remote string) Params {
	return Params{SPI: 1001, PSK: testPSK, Local: netip.MustParseAddr(local), Remote: netip.MustParseAddr(remote)}
}

func newPeer(initiator, responder string) *peer {
	p := &peer{routeSPI: 1001, psk: testPSK[:], initiator: initiator, responder: responder, nonce: make([]byte, 32)}
	_, _ = rand.Read(p.nonce)
	p.newKey()
	return p
}

func flat(k SAKeys) []byte { return append(append([]byte{}, k.Key[:]...), k.Salt[:]...) }

var families = []struct{ a, b string }{{"203.0.113.1", "203.0.113.2"}, {"2001:db8::1", "2001:db8::2"}}

func TestInitiatorAgainstPeer(t *testing.T) {
	for _, f := range families {
		i := NewInitiator(params(f.a, f.b), wait, rand.Reader)
		p := newPeer(f.a, f.b)
		if k := i.Start(0, 256); !bytes.Equal(k, []byte{0, 0, 3, 0xe9, 11, 0, 0, 0, 0, 0, 0, 5}) {
			t.Fatalf("knock % x", k)
		}
		proposal, err := i.Challenge(1, p.challenge())
		if err != nil || len(proposal) != 88 {
			t.Fatal(len(proposal), err)
		}
		if spi, err := p.readProposal(proposal); err != nil || spi != 256 {
			t.Fatal(spi, err)
		}
		pair, err := i.Agree(2, p.agree(proposal, 0xfffffff0))
		if err != nil {
			t.Fatal(err)
		}
		in, out := p.keys()
		if pair.InboundSPI != 256 || pair.OutboundSPI != 0xfffffff0 || !bytes.Equal(flat(pair.Inbound), in) || !bytes.Equal(flat(pair.Outbound), out) {
			t.Fatalf("%+v\nwant %x and %x", pair, in, out)
		}
		if _, ok := i.Active(); ok || i.noise != nil || i.private != nil {
			t.Fatal("the exchange is not over")
		}
	}
}

func TestResponderAgainstPeer(t *testing.T) {
	for _, f := range families {
		r := NewResponder(params(f.b, f.a), rand.Reader)
		p := newPeer(f.a, f.b)
		var nonces [][]byte
		for round := range uint32(3) {
			var challenge []byte
			for range 3 { // a challenge may be repeated any number of times
				c, err := r.Knock(p.knock())
				if err != nil || len(c) != 76 || challenge != nil && !bytes.Equal(c, challenge) {
					t.Fatalf("% x %v", c, err)
				}
				challenge = c
			}
			for _, n := range nonces {
				if bytes.Equal(n, challenge[44:]) {
					t.Fatal("a nonce is used for two exchanges")
				}
			}
			nonces = append(nonces, challenge[44:])
			proposal := p.propose(challenge, 700+round)
			agreement, pair, err := r.Propose(proposal, 256+round)
			if err != nil {
				t.Fatal(err)
			}
			if spi, err := p.readAgreement(agreement); err != nil || spi != 256+round {
				t.Fatal(spi, err)
			}
			toPeer, toUs := p.keys()
			if pair.OutboundSPI != 700+round || pair.InboundSPI != 256+round || !bytes.Equal(flat(pair.Outbound), toPeer) || !bytes.Equal(flat(pair.Inbound), toUs) {
				t.Fatalf("%+v", pair)
			}
			if _, _, err := r.Propose(proposal, 1); !errors.Is(err, ErrMessage) {
				t.Fatalf("replayed proposal: %v", err)
			}
			if _, err := r.Knock(p.knock()); err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Propose(proposal, 1); !errors.Is(err, ErrAuthentication) {
				t.Fatalf("proposal for another nonce: %v", err)
			}
			pair.Wipe()
			if pair.Inbound != (SAKeys{}) || pair.Outbound != (SAKeys{}) {
				t.Fatal("keys left")
			}
		}
	}
}

// flynn/noise runs the same handshake up to the split.
func TestHandshakeAgainstFlynnNoise(t *testing.T) {
	suite := flynn.NewCipherSuite(flynn.DH25519, flynn.CipherAESGCM, flynn.HashBLAKE2s)
	p := params("203.0.113.1", "203.0.113.2")
	i := NewInitiator(p, wait, rand.Reader)
	i.Start(0, 300)
	var nonce [32]byte
	nonce[5] = 5
	proposal, err := i.Challenge(0, newChallenge(1001, &nonce))
	if err != nil {
		t.Fatal(err)
	}
	hs, err := flynn.NewHandshakeState(flynn.Config{
		CipherSuite: suite, Pattern: flynn.HandshakeNN, PresharedKey: testPSK[:], PresharedKeyPlacement: 0,
		Prologue: prologue(1001, p.Local, p.Remote, &nonce),
	})
	if err != nil {
		t.Fatal(err)
	}
	plain, _, _, err := hs.ReadMessage(nil, proposal[headerSize:])
	if err != nil || binary.BigEndian.Uint32(plain) != 300 {
		t.Fatalf("% x %v", plain, err)
	}
	out, _, _, err := hs.WriteMessage(header(headerSize, 1001, Agreement), payload(301))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := i.Agree(0, out)
	if err != nil || pair.OutboundSPI != 301 {
		t.Fatalf("%+v %v", pair, err)
	}
}

func TestBothMachines(t *testing.T) {
	i := NewInitiator(params("192.0.2.1", "192.0.2.2"), wait, rand.Reader)
	r := NewResponder(params("192.0.2.2", "192.0.2.1"), rand.Reader)
	a, b := runExchange(t, i, r)
	if a.Inbound != b.Outbound || a.Outbound != b.Inbound || a.InboundSPI != b.OutboundSPI || a.OutboundSPI != b.InboundSPI {
		t.Fatalf("%+v\n%+v", a, b)
	}
	if a.Inbound == a.Outbound {
		t.Fatal("one key for both directions")
	}
	c, _ := runExchange(t, i, r)
	if c.Inbound == a.Inbound || c.Outbound == a.Outbound {
		t.Fatal("two exchanges, one key")
	}
}

func runExchange(t *testing.T, i *Initiator, r *Responder) (initiator, responder Pair) {
	t.Helper()
	challenge, err := r.Knock(i.Start(0, 256))
	if err != nil {
		t.Fatal(err)
	}
	proposal, err := i.Challenge(0, challenge)
	if err != nil {
		t.Fatal(err)
	}
	agreement, responder, err := r.Propose(proposal, 257)
	if err != nil {
		t.Fatal(err)
	}
	initiator, err = i.Agree(0, agreement)
	if err != nil {
		t.Fatal(err)
	}
	return initiator, responder
}

// Both ends must agree on all of it.
func TestDisagreementIsNotAuthentic(t *testing.T) {
	for name, change := range map[string]func(*Params){
		"psk":    func(p *Params) { p.PSK[31] ^= 1 },
		"local":  func(p *Params) { p.Local = netip.MustParseAddr("192.0.2.9") },
		"remote": func(p *Params) { p.Remote = netip.MustParseAddr("192.0.2.9") },
	} {
		p := params("192.0.2.2", "192.0.2.1")
		change(&p)
		i := NewInitiator(params("192.0.2.1", "192.0.2.2"), wait, rand.Reader)
		r := NewResponder(p, rand.Reader)
		challenge, err := r.Knock(i.Start(0, 256))
		if err != nil {
			t.Fatal(err)
		}
		proposal, err := i.Challenge(0, challenge)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Propose(proposal, 257); !errors.Is(err, ErrAuthentication) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every bit of a proposal and of an agreement counts, but for the reserved
// bytes and the version of a knock; and a refused one leaves the state usable.
func TestEveryBitCounts(t *testing.T) {
	i := NewInitiator(params("192.0.2.1", "192.0.2.2"), wait, rand.Reader)
	r := NewResponder(params("192.0.2.2", "192.0.2.1"), rand.Reader)
	challenge, err := r.Knock(i.Start(0, 256))
	if err != nil {
		t.Fatal(err)
	}
	proposal, err := i.Challenge(0, challenge)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(m []byte, f func([]byte) error) {
		for bit := range len(m) * 8 {
			if byteAt := bit / 8; byteAt >= 5 && byteAt < 8 {
				continue
			}
			bad := bytes.Clone(m)
			bad[bit/8] ^= 0x80 >> (bit % 8)
			if bit/8 == 39 && bit%8 == 0 {
				continue // the top bit of a public key is not used (RFC 7748, section 5), yet hashed: below
			}
			if err := f(bad); err == nil {
				t.Fatalf("%v with bit %d changed is accepted", Type(m[4]), bit)
			}
		}
		bad := bytes.Clone(m)
		bad[39] ^= 0x80
		if err := f(bad); !errors.Is(err, ErrAuthentication) {
			t.Fatalf("top bit of the public key: %v", err)
		}
	}
	forge(proposal, func(m []byte) error { _, _, err := r.Propose(m, 257); return err })
	agreement, want, err := r.Propose(proposal, 257)
	if err != nil {
		t.Fatal(err)
	}
	forge(agreement, func(m []byte) error { _, err := i.Agree(0, m); return err })
	got, err := i.Agree(0, agreement)
	if err != nil || got.Inbound != want.Outbound {
		t.Fatalf("the right agreement after wrong ones: %v", err)
	}
}

// Points of low order give a shared secret of zeros (RFC 7748, section 6.1).
func TestLowOrderPublicKeys(t *testing.T) {
	for _, first := range []byte{0, 1} {
		p := newPeer("192.0.2.1", "192.0.2.2")
		r := NewResponder(params("192.0.2.2", "192.0.2.1"), rand.Reader)
		challenge, err := r.Knock(p.knock())
		if err != nil {
			t.Fatal(err)
		}
		p.nonce = challenge[44:]
		p.public = make([]byte, 32)
		p.public[0] = first
		p.begin()
		p.h = b2s(p.h, p.public)
		c := gcm(p.mix(p.public)).Seal(nil, zeroNonce, p.payload(1), p.h)
		if _, _, err := r.Propose(bytes.Join([][]byte{p.header(13), p.public, c}, nil), 2); !errors.Is(err, ErrPublicKey) {
			t.Errorf("responder, point %d: %v", first, err)
		}
		i := NewInitiator(params("192.0.2.2", "192.0.2.1"), wait, rand.Reader)
		i.Start(0, 256)
		q := newPeer("192.0.2.2", "192.0.2.1")
		if _, err := i.Challenge(0, q.challenge()); err != nil {
			t.Fatal(err)
		}
		if _, err := i.Agree(0, bytes.Join([][]byte{q.header(14), p.public, make([]byte, 48)}, nil)); !errors.Is(err, ErrPublicKey) {
			t.Errorf("initiator, point %d: %v", first, err)
		}
	}
}

func TestChallengesThatDoNotFit(t *testing.T) {
	i := NewInitiator(params("192.0.2.1", "192.0.2.2"), wait, rand.Reader)
	p := newPeer("192.0.2.1", "192.0.2.2")
	if _, err := i.Challenge(0, p.challenge()); !errors.Is(err, ErrMessage) {
		t.Errorf("without a knock: %v", err)
	}
	if i.Repeat() != nil {
		t.Error("a knock to repeat before the first")
	}
	if k := i.Start(0, 256); !bytes.Equal(k, i.Repeat()) {
		t.Error("the repeated knock differs")
	}
	for want, at := range map[error]int{ErrVersion: 11, ErrParameter: 43, ErrMessage: 3} {
		m := p.challenge()
		m[at]++
		if _, err := i.Challenge(0, m); !errors.Is(err, want) {
			t.Errorf("byte %d: %v, want %v", at, err, want)
		}
	}
	if _, err := i.Challenge(int64(wait), p.challenge()); !errors.Is(err, ErrMessage) {
		t.Errorf("too late: %v", err)
	}
	if _, err := i.Challenge(int64(wait)-1, p.challenge()); err != nil {
		t.Errorf("in time, after ones that did not fit: %v", err)
	}
	if i.Repeat() != nil {
		t.Error("a knock to repeat after the challenge")
	}
	if _, err := i.Challenge(int64(wait)-1, p.challenge()); !errors.Is(err, ErrMessage) {
		t.Errorf("a second one: %v", err)
	}
	if d, ok := i.Active(); !ok || d != 2*int64(wait)-1 {
		t.Errorf("waits until %d (%v)", d, ok)
	}
}

func TestParse(t *testing.T) {
	sizes := map[byte]int{11: 12, 12: 76, 13: 88, 14: 88}
	for kind := range 256 {
		for n := range 200 {
			m := make([]byte, n)
			if n > 4 {
				m[4] = byte(kind)
			}
			_, _, err := Parse(m)
			if want, ok := sizes[byte(kind)]; (err == nil) != (ok && want == n) {
				t.Fatalf("type %d of %d bytes: %v", kind, n, err)
			}
		}
	}
}

func FuzzMessages(f *testing.F) {
	p := newPeer("192.0.2.1", "192.0.2.2")
	f.Add(p.knock())
	f.Add(p.challenge())
	f.Add(p.propose(p.challenge(), 1))
	f.Add(append(p.header(14), make([]byte, 80)...))
	f.Fuzz(func(t *testing.T, m []byte) {
		i := NewInitiator(params("192.0.2.1", "192.0.2.2"), wait, rand.Reader)
		r := NewResponder(params("192.0.2.2", "192.0.2.1"), rand.Reader)
		knock := i.Start(0, 256)
		challenge, err := r.Knock(knock)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = r.Knock(m)
		if _, _, err := r.Propose(m, 1); err == nil {
			t.Fatal("a proposal out of nothing")
		}
		if _, err := i.Agree(0, m); err == nil {
			t.Fatal("an agreement out of nothing")
		}
		proposal, err := i.Challenge(0, challenge)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = i.Challenge(0, m)
		if _, err := i.Agree(0, m); err == nil {
			t.Fatal("a forged agreement")
		}
		agreement, _, err := r.Propose(proposal, 257)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := i.Agree(0, agreement); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzSequences interleaves and damages the messages of both ends: whatever
// comes, keys that both have must be the same.
func FuzzSequences(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3})
	f.Add([]byte{0, 1, 1, 2, 0, 1, 2, 3, 3, 0, 1, 2, 3})
	f.Add([]byte{0, 1, 0x12, 2, 0x13, 3, 4, 0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, steps []byte) {
		i := NewInitiator(params("192.0.2.1", "192.0.2.2"), wait, rand.Reader)
		r := NewResponder(params("192.0.2.2", "192.0.2.1"), rand.Reader)
		var m [4][]byte // the last message of each type
		responder := map[string]SAKeys{}
		now := int64(0)
		for n, s := range steps[:min(len(steps), 64)] {
			take := func(k int) []byte {
				c := bytes.Clone(m[k])
				if s&0xf0 != 0 && len(c) > 0 {
					c[int(s>>4)*len(c)/16] ^= 1
				}
				return c
			}
			switch s & 7 {
			case 0:
				m[0] = i.Start(now, uint32(256+n))
			case 1:
				if c, err := r.Knock(take(0)); err == nil {
					m[1] = c
				}
			case 2:
				if c, err := i.Challenge(now, take(1)); err == nil {
					m[2] = c
				}
			case 3:
				if c, pair, err := r.Propose(take(2), uint32(512+n)); err == nil {
					m[3] = c
					responder[fmt.Sprint(pair.InboundSPI, pair.OutboundSPI)] = pair.Inbound
				}
			case 4:
				now += int64(wait) / 2
			default:
				if pair, err := i.Agree(now, take(3)); err == nil {
					if k, ok := responder[fmt.Sprint(pair.OutboundSPI, pair.InboundSPI)]; !ok || k != pair.Outbound {
						t.Fatal("the ends have different keys")
					}
				}
			}
		}
	})
}
