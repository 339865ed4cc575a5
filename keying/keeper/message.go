package keeper

import (
	"errors"
	"fmt"
	"net/netip"

	"vita/forwarding/client"
	"vita/keying/exchange"
)

// Handle takes a message of a peer in. It keeps nothing of the payload.
func (k *Keeper) Handle(m client.Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	head, err := k.protocol.Parse(m.Payload)
	if err != nil {
		k.count(err)
		if k.logs.take(now) {
			k.log.Warn("key exchange message malformed", "queue", m.Queue, "peer", m.Peer, "error", err)
		}
		return
	}
	l := k.index[peerKey{m.Queue, head.SPI, m.Peer.Addr()}]
	if l == nil {
		k.counters.rxErrors++
		k.counters.routeErrors++
		if k.logs.take(now) {
			k.log.Warn("key exchange message for no route of ours from that address", "spi", head.SPI, "queue", m.Queue, "peer", m.Peer)
		}
		return
	}
	if err = l.receive(now, &head, &m); err == nil {
		return
	}
	k.count(err)
	if k.logs.take(now) {
		k.log.Warn("key exchange message not accepted", "route", l.key.route, "queue", m.Queue, "peer", m.Peer, "message", head.Name, "error", err)
	}
}

var (
	errUnexpected = fmt.Errorf("%w: nothing asks for it", exchange.ErrMessage)
	errExcess     = errors.New("too many of its kind")
)

// receive takes in a message from the address of the link's gateway. Limits are
// for what can be of use and costs something: a flood of what nobody waits for
// uses up nothing that the right message will need.
func (l *link) receive(now int64, head *exchange.Head, m *client.Message) error {
	k := l.k
	if !l.protocol().Awaits(head.Kind) {
		return errUnexpected
	}
	all := &k.messages
	if head.Kind == 0 {
		all = &k.openings
	}
	if !l.takes(now, head.Kind) || !all.take(now) {
		return errExcess
	}
	defer k.settled(l, now)
	o, err := l.kex.Receive(now, m.Payload, func() uint32 { return k.newSPI(l.key.queue) })
	if err == nil {
		l.act(now, m.Peer, &o)
	}
	return err
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
	case errors.Is(err, errExcess):
		c.rateErrors++
	case errors.Is(err, exchange.ErrMessage):
		c.protocolErrors++
	case errors.Is(err, exchange.ErrVersion):
		c.versionErrors++
	case errors.Is(err, exchange.ErrParameter):
		c.parameterErrors++
	case errors.Is(err, exchange.ErrAuthentication):
		c.authenticationErrors++
	case errors.Is(err, exchange.ErrPublicKey):
		c.publicKeyErrors++
	}
}

// act does what a message has brought about.
func (l *link) act(now int64, peer netip.AddrPort, o *exchange.Outcome) {
	defer o.Pair.Wipe()
	c := &l.k.counters
	switch o.Event {
	case exchange.Nothing:
	case exchange.Invited:
		if l.send(peer, o.Reply) {
			c.challengesOffered++
		}
	case exchange.Advanced:
		c.challengesAccepted++
		l.proposed = now
		if l.send(peer, o.Reply) {
			c.keypairsOffered++
		}
	case exchange.Responded:
		if l.responded(now, &o.Pair) {
			l.send(peer, o.Reply)
		}
	case exchange.Initiated:
		l.initiated(now, &o.Pair)
	}
}

// responded installs what an exchange of the peer's has yielded. Both SAs are
// there before the peer has its answer: it may send by the new one at once.
func (l *link) responded(now int64, pair *exchange.Pair) bool {
	k := l.k
	in, o, err := l.add(now, now, pair)
	if err != nil {
		k.log.Warn("cannot install SAs", "route", l.key.route, "queue", l.key.queue, "error", err)
		return false // the peer will ask again
	}
	k.counters.keypairsNegotiated++
	o.twin = in
	l.supersede(o)
	l.evict(now)
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
	k.log.Debug("SAs agreed", "route", l.key.route, "queue", l.key.queue, "initiator", l.remote, "inbound spi", pair.InboundSPI, "outbound spi", pair.OutboundSPI)
	return true
}

// initiated installs what an exchange of ours has yielded.
func (l *link) initiated(now int64, pair *exchange.Pair) {
	k := l.k
	l.release()
	in, o, err := l.add(now, l.proposed, pair)
	if err != nil {
		k.log.Warn("cannot install SAs", "route", l.key.route, "queue", l.key.queue, "error", err)
		l.startAt = now + int64(k.c.NegotiationTTL)
		return
	}
	in.ours, o.twin = true, in
	l.evict(now)
	k.counters.keypairsNegotiated++
	o.certain = true
	l.certainAt = now
	if l.unanswered {
		l.unanswered = false
		l.tell(Reachable, 0, 0)
	}
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
	k.log.Debug("SAs agreed", "route", l.key.route, "queue", l.key.queue, "initiator", l.local(), "inbound spi", pair.InboundSPI, "outbound spi", pair.OutboundSPI)
	l.settle(now)
}
