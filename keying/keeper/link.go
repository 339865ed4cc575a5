package keeper

import (
	"net/netip"
	"slices"
	"time"

	"vita/forwarding/client"
	"vita/keying/exchange"
)

// linkKey names a link.
type linkKey struct {
	route string
	queue uint16
}

// link is the state of one route on one queue.
type link struct {
	k        *Keeper
	key      linkKey
	psk      [32]byte
	owner    uint64 // see ownerOf
	remote   netip.Addr
	messages *[exchange.NumKinds]bucket // made when the first comes: a gateway may have 100 000 routes
	due      int64                      // when tick is to be called
	timer    int32                      // place among the timers, from 1; 0: none
	place    int32                      // in order
	spi      uint32                     // of the route

	paced      bool // startAt is what the pacer has given us
	forced     bool // begin an exchange whatever the active SA's age
	unanswered bool // our last exchange came to nothing
	asking     bool // the exchange under way is the question whether the peer is there

	kex       exchange.Exchange // made when it is first needed; nil until then
	startAt   int64             // not before this
	repeatAt  int64             // send the knock again then
	proposed  int64             // when our last proposal was sent
	certainAt int64             // when we last completed an exchange of ours; 0: never
	heard     int64             // when the last packet came, at the last look
	sent      int64             // when the last one was sent
	askAfter  int64             // how long we send and hear nothing before we ask
	unheard   int64             // since when we send and hear nothing; 0: we do not
	active    *outbound
	queued    *outbound
	standby   *outbound
	inbound   []*inbound // oldest first
}

type inbound struct {
	ref              client.SARef
	spi              uint32
	created, expires int64
	ours             bool   // we have initiated
	told             bool   // ... and may have sent by its twin, by which the peer knows that we have both
	repeats          uint32 // the peer's SPI, where the peer has initiated: it names the exchange when the peer repeats it
}

type outbound struct {
	ref              client.SARef
	spi              uint32
	created, expires int64
	rekey            int64    // begin the next exchange then
	ready            int64    // take the active SA's place then
	certain          bool     // the peer has it too
	twin             *inbound // of the same exchange; nil where it does not matter
}

// local returns our end.
func (l *link) local() netip.Addr { return l.k.c.Local[l.key.queue] }

func (l *link) params() exchange.Params {
	return exchange.Params{SPI: l.spi, PSK: l.psk, Local: l.local(), Remote: l.remote}
}

// resetHandshake forgets exchanges under way; SAs stay.
func (l *link) resetHandshake() {
	if l.kex != nil {
		l.kex.Stop()
	}
	l.release()
	l.kex = nil
	l.startAt, l.paced = 0, false
}

// protocol returns the link's exchange.
func (l *link) protocol() exchange.Exchange {
	if l.kex == nil {
		l.kex = l.k.protocol.New(l.params(), l.k.c.NegotiationTTL, l.k.random)
	}
	return l.kex
}

// takes says whether a link takes another message of a kind now.
func (l *link) takes(now int64, kind uint8) bool {
	if l.messages == nil {
		l.messages = new([exchange.NumKinds]bucket)
		for k := range l.messages {
			l.messages[k] = newBucket(linkRate)
		}
	}
	return l.messages[kind].take(now)
}

// release gives back the SPI that an exchange has reserved.
func (l *link) release() {
	if spi, ok := l.k.reserved[l.key]; ok {
		delete(l.k.reserved, l.key)
		l.k.unuse(l.key.queue, spi)
	}
}

// delay is how long a new outbound SA waits while there is another.
func (l *link) delay() int64 { return int64(l.k.c.NegotiationTTL) * 3 / 2 }

// rekeyAt chooses when the exchange after an SA begins.
func (l *link) rekeyAt(created int64) int64 {
	ttl := l.k.c.SATTL
	return created + int64(ttl/2+l.k.uniform(ttl/8))
}

// send hands a message to the engine.
func (l *link) send(to netip.AddrPort, m []byte) bool {
	if err := l.k.engine.Send(client.Message{Queue: l.key.queue, Peer: to, Payload: m}); err != nil {
		l.k.log.Debug("cannot send a key exchange message", "route", l.key.route, "queue", l.key.queue, "error", err)
		return false
	}
	return true
}

// add installs the two SAs of an exchange: inbound first, so that whatever the
// peer sends by it is taken. The peer has its end since begun at the earliest,
// and ours must not outlive it. Inbound SAs last a little longer than sa-ttl,
// for packets that are still under way.
func (l *link) add(now, begun int64, pair *exchange.Pair) (*inbound, *outbound, error) {
	k := l.k
	kind := Rekeyed
	if l.active == nil && l.queued == nil && l.standby == nil {
		kind = Established
	}
	ttl := k.c.SATTL
	in := &inbound{spi: pair.InboundSPI, created: now, expires: now + int64(ttl+k.c.NegotiationTTL)}
	o := &outbound{spi: pair.OutboundSPI, created: now, expires: begun + int64(ttl), rekey: l.rekeyAt(now)}
	var err error
	sa := client.SA{Route: l.key.route, Queue: l.key.queue, Direction: client.Inbound, SPI: in.spi, Key: pair.Inbound.Key[:], Salt: pair.Inbound.Salt, HardTTL: time.Duration(in.expires - now), Owner: l.owner}
	if in.ref, err = k.install(sa); err != nil {
		return nil, nil, err
	}
	sa = client.SA{
		Route: l.key.route, Queue: l.key.queue, Direction: client.Outbound, SPI: o.spi, Key: pair.Outbound.Key[:], Salt: pair.Outbound.Salt,
		HardTTL: time.Duration(o.expires - now), MaxPackets: 2 * softPackets, MaxBytes: 2 * softBytes, Owner: l.owner,
	}
	if o.ref, err = k.install(sa); err != nil {
		k.remove(in.ref)
		return nil, nil, err
	}
	l.inbound = append(l.inbound, in)
	k.use(l.key.queue, in.spi)
	l.tell(kind, in.spi, o.spi)
	return in, o, nil
}

// evict keeps the inbound SAs within their number.
func (l *link) evict(now int64) {
	for len(l.inbound) > maxInbound {
		l.removeInbound(l.dispensable(now))
	}
}

// dispensable chooses the inbound SA that the peer is least likely to send by.
//
// By what is older than the newest that a packet has come by it never sends
// again, though packets may still be under way. Of what is newer it may have any
// in use without a packet so far. But of the exchanges that we have initiated it
// has the last one alone, and one more if it has had a packet of ours by its
// twin: those in between pile up while its own exchanges fail.
func (l *link) dispensable(now int64) *inbound {
	used, last := -1, -1
	busy := make([]bool, len(l.inbound))
	for i, in := range l.inbound {
		if sa, ok := l.k.engine.Use(in.ref); ok && sa.LastUsed != 0 {
			used, busy[i] = i, now-sa.LastUsed < int64(l.k.c.NegotiationTTL)
		}
		if in.ours {
			last = i
		}
	}
	for _, may := range []func(i int, in *inbound) bool{
		func(i int, _ *inbound) bool { return i < used && !busy[i] },
		func(i int, in *inbound) bool { return in.ours && !in.told && !busy[i] && i != used && i != last },
		func(i int, _ *inbound) bool { return i != used && !busy[i] },
	} {
		for i, in := range l.inbound {
			if may(i, in) {
				return in
			}
		}
	}
	return l.inbound[0]
}

func (l *link) removeInbound(in *inbound) {
	l.k.remove(in.ref)
	l.k.unuse(l.key.queue, in.spi)
	l.inbound = slices.DeleteFunc(l.inbound, func(o *inbound) bool { return o == in })
}

// supersede ends the SAs of an exchange that the peer has initiated before by,
// and repeats: it has chosen the same SPI again, so the agreement did not reach
// it, or it was restarted. Either way it has nothing of the old.
func (l *link) supersede(by *outbound) {
	for _, o := range []**outbound{&l.active, &l.queued, &l.standby} {
		if *o != nil && (*o).spi == by.spi {
			l.k.counters.outboundSAUpdated++
			l.end(o)
		}
	}
	for _, in := range slices.Clone(l.inbound) {
		if in != by.twin && in.repeats != 0 && in.repeats == by.spi {
			l.removeInbound(in)
		}
	}
	by.twin.repeats = by.spi
}

// end removes an outbound SA.
func (l *link) end(o **outbound) {
	l.k.remove((*o).ref)
	*o = nil
}

// drop ends all SAs and exchanges of the link.
func (l *link) drop() {
	l.resetHandshake()
	l.k.timers.remove(l)
	delete(l.k.waiting, l)
	for _, o := range []**outbound{&l.active, &l.queued, &l.standby} {
		if *o != nil {
			l.end(o)
		}
	}
	for _, in := range slices.Clone(l.inbound) {
		l.removeInbound(in)
	}
	l.psk = [32]byte{}
}

// tick does what is due and returns when something is due next.
func (l *link) tick(now int64) int64 {
	l.expire(now)
	l.settle(now)
	next := l.exchange(now)
	for _, in := range l.inbound {
		next = min(next, in.expires)
	}
	if l.active != nil {
		next = min(next, l.active.expires)
		if l.active.rekey > now {
			next = min(next, l.active.rekey)
		}
	}
	for _, o := range []*outbound{l.queued, l.standby} {
		if o != nil {
			next = min(next, o.expires)
			if o.ready > now {
				next = min(next, o.ready)
			}
		}
	}
	return next
}

// expire ends what is too old.
func (l *link) expire(now int64) {
	for _, in := range slices.Clone(l.inbound) {
		if now >= in.expires {
			l.k.counters.inboundSAExpired++
			l.removeInbound(in)
		}
	}
	for _, o := range []**outbound{&l.active, &l.queued, &l.standby} {
		if *o != nil && now >= (*o).expires {
			if o == &l.active {
				if l.queued == nil && l.standby == nil {
					l.tell(Expired, 0, (*o).spi)
				}
				l.k.log.Warn("the outbound SA has expired: the peer does not answer", "route", l.key.route, "queue", l.key.queue, "peer", l.remote)
			}
			l.k.counters.outboundSAExpired++
			l.end(o)
		}
	}
}

// settle decides which outbound SA packets are sent by.
func (l *link) settle(now int64) {
	if o := l.standby; o != nil && (o.certain || l.active == nil && l.queued == nil && now >= o.ready) {
		l.standby = nil
		l.activate(o)
	}
	if o := l.queued; o != nil && (now >= o.ready || l.active == nil) {
		l.queued = nil
		l.activate(o)
	}
}

// activate makes o the SA to send by. What is older is removed.
func (l *link) activate(o *outbound) {
	if err := l.k.engine.Activate(o.ref); err != nil {
		l.k.log.Warn("cannot activate an SA", "route", l.key.route, "queue", l.key.queue, "error", err)
		l.k.remove(o.ref)
		return
	}
	old := l.active
	l.active = o
	if o.twin != nil {
		o.twin.told = true
	}
	if old != nil {
		l.k.remove(old.ref)
	} else {
		l.k.log.Info("the route has an outbound SA", "route", l.key.route, "queue", l.key.queue, "peer", l.remote)
	}
	for _, other := range []**outbound{&l.queued, &l.standby} {
		if *other != nil && (*other).created < o.created {
			l.end(other)
		}
	}
}

// exchange gives up an exchange that was not answered and begins one where one
// is needed. It returns when to look again.
func (l *link) exchange(now int64) int64 {
	const far = 1<<63 - 1
	var deadline int64
	running := false
	if l.kex != nil {
		deadline, running = l.kex.Active()
	}
	if running && now < deadline {
		if m := l.kex.Repeat(); m != nil {
			if now >= l.repeatAt {
				l.repeatAt = now + int64(repeatInterval)
				if l.k.knocks.take(now) {
					l.send(netip.AddrPortFrom(l.remote, l.k.c.Port), m)
				}
			}
			return min(deadline, l.repeatAt)
		}
		return deadline
	}
	if running {
		l.kex.Stop()
		if !l.unanswered {
			l.tell(Unreachable, 0, 0)
			if l.active != nil {
				l.k.log.Warn("the peer does not answer", "route", l.key.route, "queue", l.key.queue, "peer", l.remote)
			}
		}
		l.unanswered = true
		l.k.counters.negotiationsExpired++
	}
	if !l.needed(now) {
		l.release()
		l.paced = false
		return far
	}
	if now < l.startAt {
		return l.startAt
	}
	if !l.paced {
		pace := &l.k.starts
		if l.unanswered {
			pace = &l.k.retries
		}
		if at := pace.reserve(now); at > now {
			l.startAt, l.paced = at, true
			return at
		}
	}
	l.paced = false
	// The same SPI as for an exchange that came to nothing: the peer then
	// replaces what it has of that.
	spi, ok := l.k.reserved[l.key]
	if !ok {
		spi = l.k.newSPI(l.key.queue)
		l.k.reserved[l.key] = spi
		l.k.use(l.key.queue, spi)
	}
	l.send(netip.AddrPortFrom(l.remote, l.k.c.Port), l.protocol().Start(now, spi))
	l.k.counters.negotiationsInitiated++
	l.repeatAt = now + int64(repeatInterval)
	deadline, _ = l.kex.Active()
	return min(deadline, l.repeatAt)
}

// needed reports whether a new outbound SA is wanted.
func (l *link) needed(now int64) bool {
	switch {
	case l.queued != nil:
		return false
	case l.forced, l.active == nil:
		return true
	}
	return now >= l.active.rekey
}

// watch looks at what the SAs in use have carried: it asks for new ones before
// a limit is reached, and asks the peer when we send and hear nothing.
func (l *link) watch(now int64) {
	if l.active == nil || l.forced {
		return
	}
	out, ok := l.k.engine.Use(l.active.ref)
	if !ok { // the engine has ended it
		l.active = nil
		l.k.soon(l)
		return
	}
	if out.Packets >= softPackets || out.Bytes >= softBytes {
		l.forced = true
		l.k.soon(l)
		return
	}
	var heard int64
	for _, in := range l.inbound {
		if sa, ok := l.k.engine.Use(in.ref); ok {
			heard = max(heard, sa.LastUsed)
		}
	}
	sent := out.LastUsed
	switch {
	case heard > l.heard:
		if l.heard, l.unheard = heard, 0; !l.asking {
			l.askAfter -= l.askAfter / 64 // slowly: some traffic just has pauses
		}
		l.askAfter = max(l.askAfter, silence*int64(l.k.c.NegotiationTTL))
	case sent <= l.sent:
	case l.unheard == 0:
		l.unheard = now
	case now-l.unheard >= l.askAfter:
		l.unheard, l.askAfter = now, min(2*l.askAfter, int64(l.k.c.SATTL)/2)
		l.forced, l.asking = true, true
		l.k.soon(l)
	}
	l.sent = sent
}
