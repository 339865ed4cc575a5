package ske

import (
	"fmt"
	"io"
	"time"

	"vita/keying/exchange"
)

// Peer is the key exchange of one route and queue: an initiator and a
// responder that know nothing of each other. It implements exchange.Exchange.
type Peer struct {
	*Initiator
	responder *Responder
}

var _ exchange.Exchange = (*Peer)(nil)

// NewPeer returns both machines of a route. Wait is how long the initiator
// waits for each answer.
func NewPeer(p Params, wait time.Duration, random io.Reader) *Peer {
	return &Peer{NewInitiator(p, wait, random), NewResponder(p, random)}
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
