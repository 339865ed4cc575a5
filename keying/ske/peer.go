package ske

import (
	"fmt"
	"io"
	"time"

	"vita/keying/exchange"
)

// Protocol is vita-ske 5 as the keeper sees it. The zero value is ready.
type Protocol struct {
	// NewKey makes the ephemeral keys, where they are kept in hardware or are
	// not worth their price, as in simulations; nil: crypto/ecdh.
	NewKey KeySource
}

var _ exchange.Protocol = Protocol{}

// Parse returns the head of a message whose size is the right one for its type.
func (Protocol) Parse(m []byte) (exchange.Head, error) {
	spi, t, err := Parse(m)
	return exchange.Head{SPI: spi, Kind: uint8(t - Knock), Name: t.String()}, err
}

// New returns both machines of a route.
func (p Protocol) New(params Params, wait time.Duration, random io.Reader) exchange.Exchange {
	peer := &Peer{NewInitiator(params, wait, random), NewResponder(params, random)}
	if p.NewKey != nil {
		peer.newKey, peer.responder.newKey = p.NewKey, p.NewKey
	}
	return peer
}

// Peer is the key exchange of one route and queue: an initiator and a
// responder that know nothing of each other. It implements exchange.Exchange.
type Peer struct {
	*Initiator
	responder *Responder
}

var _ exchange.Exchange = (*Peer)(nil)

// Awaits reports whether one of the machines waits for a message of a kind, or
// would answer it whatever its state.
func (p *Peer) Awaits(kind uint8) bool {
	switch Knock + Type(kind) {
	case Knock:
		return true
	case Challenge:
		return p.state == awaitChallenge
	case Proposal:
		return p.responder.challenged
	case Agreement:
		return p.state == awaitAgreement
	}
	return false
}

// Receive takes a message in, whichever machine it is for.
func (p *Peer) Receive(now int64, m []byte, inboundSPI func() uint32) (o exchange.Outcome, err error) {
	_, kind, err := Parse(m)
	if err != nil {
		return o, err
	}
	switch kind {
	case Knock:
		o.Event = exchange.Invited
		o.Reply, err = p.responder.Knock(m)
	case Challenge:
		o.Event = exchange.Advanced
		o.Reply, err = p.Challenge(now, m)
	case Proposal:
		o.Event = exchange.Responded
		o.Reply, o.Pair, err = p.responder.Propose(m, inboundSPI())
	case Agreement:
		o.Event = exchange.Initiated
		o.Pair, err = p.Agree(now, m)
	default:
		err = fmt.Errorf("%w: %v", ErrMessage, kind)
	}
	if err != nil {
		return exchange.Outcome{}, err
	}
	return o, nil
}
