package keeper

import (
	"errors"
	"net/netip"

	"vita/forwarding/client"
	"vita/keying/ske"
)

// Handle takes a message of a peer in. It keeps nothing of the payload.
func (k *Keeper) Handle(m client.Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	spi, kind, err := ske.Parse(m.Payload)
	if err != nil {
		k.counters.rxErrors++
		k.counters.protocolErrors++
		return
	}
	l := k.index[peerKey{m.Queue, spi, m.Peer.Addr()}]
	if l == nil {
		k.counters.rxErrors++
		k.counters.routeErrors++
		return
	}
	// Only what comes from the address of a gateway counts towards the limits.
	mine := &l.messages
	if kind == ske.Knock {
		mine = &l.knocks
	}
	if !mine.take(now) || !k.messages.take(now) {
		k.counters.rxErrors++
		return
	}
	defer k.soon(l)
	switch kind {
	case ske.Knock:
		err = l.knock(m)
	case ske.Challenge:
		err = l.challenge(now, m)
	case ske.Proposal:
		err = l.proposal(now, m)
	case ske.Agreement:
		err = l.agreement(now, m)
	}
	if err != nil {
		k.count(err)
		if !k.logs.take(now) {
			return
		}
		k.log.Warn("key exchange message not accepted", "route", l.route.ID, "queue", m.Queue, "peer", m.Peer, "message", kind.String(), "error", err)
	}
}

// peerKey is what a message says of the link it belongs to.
type peerKey struct {
	queue uint16
	spi   uint32
	peer  netip.Addr
}

// count counts a message that was not accepted.
func (k *Keeper) count(err error) {
	c := &k.counters
	c.rxErrors++
	switch {
	case errors.Is(err, ske.ErrMessage):
		c.protocolErrors++
	case errors.Is(err, ske.ErrVersion):
		c.versionErrors++
	case errors.Is(err, ske.ErrParameter):
		c.parameterErrors++
	case errors.Is(err, ske.ErrAuthentication):
		c.authenticationErrors++
	case errors.Is(err, ske.ErrPublicKey):
		c.publicKeyErrors++
	}
}

// knock answers a knock with a challenge.
func (l *link) knock(m client.Message) error {
	out, err := l.responder.Knock(m.Payload)
	if err != nil {
		return err
	}
	if l.send(m.Peer, out) {
		l.k.counters.challengesOffered++
	}
	return nil
}

// challenge answers a challenge with a proposal.
func (l *link) challenge(now int64, m client.Message) error {
	out, err := l.initiator.Challenge(now, m.Payload)
	if err != nil {
		return err
	}
	l.k.counters.challengesAccepted++
	l.proposed = now
	if l.send(m.Peer, out) {
		l.k.counters.keypairsOffered++
	}
	return nil
}

// proposal answers a proposal with an agreement. Both SAs are installed before:
// the peer may send by the new one as soon as it has the agreement.
func (l *link) proposal(now int64, m client.Message) error {
	k := l.k
	out, pair, err := l.responder.Propose(m.Payload, k.newSPI(l.key.queue))
	if err != nil {
		return err
	}
	defer pair.Wipe()
	in, o, err := l.add(now, now, &pair)
	if err != nil {
		k.log.Warn("cannot install SAs", "route", l.route.ID, "queue", l.key.queue, "error", err)
		return nil // the peer will ask again
	}
	k.counters.keypairsNegotiated++
	o.twin = in
	l.supersede(o)
	l.evict()
	if l.standby != nil {
		l.end(&l.standby)
	}
	o.ready = now + l.delay()
	l.standby = o
	k.waiting[l] = struct{}{}
	if l.certainAt == 0 || now-l.certainAt > 2*int64(k.c.NegotiationTTL) {
		l.forced = true // see the package comment
		// Long before an SA is due for rekey nobody who has it begins an
		// exchange: the peer has most likely lost it.
		if l.active != nil && now < l.active.created+int64(k.c.SATTL)/2 {
			l.asking = true
		}
	}
	k.log.Debug("SAs agreed", "route", l.route.ID, "queue", l.key.queue, "initiator", m.Peer.Addr(), "inbound spi", pair.InboundSPI, "outbound spi", pair.OutboundSPI)
	l.send(m.Peer, out)
	return nil
}

// agreement ends an exchange that we have initiated.
func (l *link) agreement(now int64, m client.Message) error {
	k := l.k
	pair, err := l.initiator.Agree(now, m.Payload)
	if err != nil {
		return err
	}
	defer pair.Wipe()
	l.release()
	_, o, err := l.add(now, l.proposed, &pair)
	if err != nil {
		k.log.Warn("cannot install SAs", "route", l.route.ID, "queue", l.key.queue, "error", err)
		l.startAt = now + int64(k.c.NegotiationTTL)
		return nil
	}
	l.evict()
	k.counters.keypairsNegotiated++
	o.certain = true
	l.certainAt = now
	l.unanswered = false
	l.forced = false
	if l.queued != nil {
		l.end(&l.queued)
	}
	o.ready = now + l.delay()
	switch {
	case l.active == nil:
		o.ready = now
	case l.asking: // what we send by the active one is probably lost
		o.ready = now + int64(k.c.NegotiationTTL)/10
	}
	l.asking = false
	l.queued = o
	k.log.Debug("SAs agreed", "route", l.route.ID, "queue", l.key.queue, "initiator", l.local, "inbound spi", pair.InboundSPI, "outbound spi", pair.OutboundSPI)
	l.settle(now)
	return nil
}
