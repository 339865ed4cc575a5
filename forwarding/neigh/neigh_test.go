package neigh

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

var (
	ownMAC = wire.MAC{2, 0, 0, 0, 0, 1}
	macs   = []wire.MAC{{}, {2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 3}, {3, 0, 0, 0, 0, 4}, {}} // none, two stations, a group, zero
	us     = Self{MAC: ownMAC, IP: 0x0a000001, IP6: [16]byte{0x20, 1, 15: 1}, Has4: true, Has6: true}
	it4    = uint32(0x0a000002)
	it6    = [16]byte{0x20, 1, 15: 2}
)

const sec = int64(time.Second)

func arpOf(op uint16, mac *wire.MAC, sender, target uint32) wire.ARP {
	b := make([]byte, wire.ARPLen)
	wire.PutARP(b, op, mac, sender, &wire.MAC{}, target)
	return b
}

// ndOf is a message about target, with an option if mac is not nil.
func ndOf(typ, flags uint8, target *[16]byte, mac *wire.MAC) wire.ND {
	b := make([]byte, wire.NDLen+wire.NDOptionLen)
	if mac == nil {
		wire.PutND(b, typ, flags, target, 99, &wire.MAC{})
		return b
	}
	option := uint8(wire.NDSource)
	if typ == wire.ICMP6NeighbourAdvert {
		option = wire.NDTarget
	}
	wire.PutND(b, typ, flags, target, option, mac)
	return b
}

// event is something that happens to a neighbour.
type event struct {
	kind byte // see the constants
	mac  int  // in macs; 0: none is given
	a, b bool // by kind
	wait int64
}

const (
	evUse      = iota // a packet for it
	evTick            // a: keep
	evARP             // a: a reply, else a request; b: to us
	evSolicit         //
	evAdvert          // a: solicited; b: override
	evKinds           //
	waitShift  = 3
	eventBytes = 2
)

func eventOf(x, y byte) event {
	waits := [8]int64{0, 0, 10e6, sec / 2, sec, 3 * sec, 6 * sec, 40 * sec}
	return event{kind: x % evKinds, mac: int(y&15) % len(macs), a: y&16 != 0, b: y&32 != 0, wait: waits[x>>waitShift&7]}
}

// outcome is what an event led to.
type outcome struct {
	state  State
	mac    wire.MAC
	ok     bool // of evUse
	ask    bool // likewise
	action Action
	change Change
}

// do has an event happen to a neighbour.
func do(n *tables.Neighbour, e event, now int64) (o outcome) {
	var mac *wire.MAC
	if e.mac != 0 {
		mac = &macs[e.mac]
	}
	switch e.kind {
	case evUse:
		if word, ready := Ready(n); ready {
			o.mac, o.ok = word.MAC(), true
		} else {
			o.mac, o.ok, o.ask = Use(n, now)
		}
	case evTick:
		o.action = Tick(n, now, e.a)
	case evARP:
		op := uint16(wire.ARPRequest)
		if e.a {
			op = wire.ARPReply
		}
		o.change = HeardARP(n, arpOf(op, &macs[e.mac], it4, us.IP), e.b, now)
	case evSolicit:
		o.change = HeardSolicitation(n, ndOf(wire.ICMP6NeighbourSolicit, 0, &us.IP6, mac))
	case evAdvert:
		var flags uint8
		if e.a {
			flags |= wire.NDSolicited
		}
		if e.b {
			flags |= wire.NDOverride
		}
		o.change = HeardAdvertisement(n, ndOf(wire.ICMP6NeighbourAdvert, flags, &it6, mac), now)
	}
	o.state, o.mac = Get(n)
	return o
}

// book is the oracle: a neighbour as RFC 4861 tells of it, a field for each
// thing that it says, and nothing packed.
type book struct {
	state     State
	mac       wire.MAC
	confirmed int64
	request   int64 // when the last request was sent
	everAsked bool
	delayed   int64 // when Delay began
	sent      int   // requests in this state
	open      bool  // a request has not been answered
}

func (b *book) mayAsk(now int64) bool { return !b.everAsked || now-b.request >= sec }

func (b *book) asked(now int64) { b.request, b.everAsked, b.open = now, true, true }

// answered is what an answer to our request makes it.
func (b *book) answered(now int64) {
	b.enter(Reachable)
	b.confirmed, b.open = now, false
}

func (b *book) enter(s State) { b.state, b.sent = s, 0 }

// set is the cache's address from now on.
func (b *book) set(m wire.MAC) (c Change) {
	switch {
	case b.state == None || b.state == Incomplete:
		c = Added
	case b.mac != m:
		c = Updated
	}
	b.mac = m
	return c
}

func (b *book) happens(e event, now int64) (o outcome) {
	m := macs[e.mac]
	valid := e.mac == 1 || e.mac == 2
	switch e.kind {
	case evUse:
		switch b.state {
		case None, Incomplete:
			if b.mayAsk(now) {
				if b.state == None {
					b.enter(Incomplete)
				}
				b.sent++
				b.asked(now)
				o.ask = true
			}
		case Stale: // 7.3.3: the first packet moves it to Delay
			b.enter(Delay)
			b.delayed = now
			o.ok = true
		case Reachable, Delay, Probe, Permanent:
			o.ok = true
		}
	case evTick:
		o.action = b.tick(e.a, now)
	case evARP:
		switch {
		case !valid || b.state == None && !e.b:
		case e.a && e.b && b.open: // it answers us
			o.change = b.set(m)
			b.answered(now)
		default:
			o.change = b.unasked(m)
		}
	case evSolicit:
		if valid {
			o.change = b.unasked(m)
		}
	case evAdvert:
		o.change = b.advertised(e, m, valid, now)
	}
	o.state, o.mac = b.state, b.mac
	if b.state == None || b.state == Incomplete {
		o.mac = wire.MAC{}
	}
	return o
}

// unasked is 7.2.3: a new address makes the entry Stale, a known one nothing.
func (b *book) unasked(m wire.MAC) Change {
	if b.state >= Reachable && b.mac == m {
		return Same
	}
	c := b.set(m)
	b.enter(Stale)
	return c
}

// advertised is the table of appendix C.
func (b *book) advertised(e event, m wire.MAC, valid bool, now int64) (c Change) {
	given := e.mac != 0
	if b.state == None || given && !valid {
		return Same
	}
	if b.state == Incomplete {
		switch {
		case !given:
			return Same
		case e.a: // Solicited=1, Override=any: record, send queued packets -> REACHABLE
			c = b.set(m)
			b.answered(now)
		default: // Solicited=0 -> STALE
			c = b.set(m)
			b.enter(Stale)
		}
		return c
	}
	other := given && m != b.mac
	switch {
	case e.a && !e.b && !other, e.a && e.b && !other: // same address: -> REACHABLE
		b.answered(now)
	case e.a && e.b && other: // record -> REACHABLE
		c = b.set(m)
		b.answered(now)
	case !e.b && other && b.state == Reachable: // -> STALE
		b.enter(Stale)
	case !e.b && other: // unchanged
	case !e.a && e.b && other: // record -> STALE
		c = b.set(m)
		b.enter(Stale)
	}
	return c
}

func (b *book) tick(keep bool, now int64) Action {
	switch b.state {
	case None:
		if !keep && b.everAsked || !b.mayAsk(now) {
			return Nothing
		}
		b.enter(Incomplete)
		b.sent = 1
		b.asked(now)
		return Broadcast
	case Incomplete:
		switch {
		case !b.mayAsk(now):
		case !keep && b.sent >= 3: // MAX_MULTICAST_SOLICIT
			b.enter(None)
		default:
			b.sent++
			b.asked(now)
			return Broadcast
		}
	case Reachable:
		if now-b.confirmed >= 30*sec { // REACHABLE_TIME
			b.enter(Stale)
		}
	case Stale:
		if keep {
			return b.probe(now)
		}
	case Delay:
		if now-b.delayed >= 5*sec { // DELAY_FIRST_PROBE_TIME
			return b.probe(now)
		}
	case Probe:
		switch {
		case !b.mayAsk(now):
		case b.sent >= 3: // MAX_UNICAST_SOLICIT
			b.enter(None)
		default:
			b.sent++
			b.asked(now)
			return Unicast
		}
	case Permanent:
	}
	return Nothing
}

func (b *book) probe(now int64) Action {
	b.enter(Probe)
	b.sent = 1
	b.asked(now)
	return Unicast
}

// compare has events happen to both, and reports where they part.
func compare(t *testing.T, events []byte) {
	t.Helper()
	n, b := new(tables.Neighbour), new(book)
	now := 1000 * sec
	for i := 0; i+eventBytes <= len(events); i += eventBytes {
		e := eventOf(events[i], events[i+1])
		now += e.wait
		before := *b
		got, want := do(n, e, now), b.happens(e, now)
		if got != want {
			t.Fatalf("event %d, %+v, to %+v:\n%+v, want\n%+v", i/eventBytes, e, before, got, want)
		}
	}
}

// TestOracle compares the neighbour with the oracle over long random lives.
func TestOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 3000 {
		events := make([]byte, 200)
		for i := range events {
			events[i] = byte(r.Uint32())
		}
		compare(t, events)
	}
}

func FuzzNeighbour(f *testing.F) {
	f.Add([]byte{evUse, 0, evARP, 49, evUse, 0, 7<<waitShift | evTick, 0, evUse, 0, 6<<waitShift | evTick, 0, 4<<waitShift | evTick, 0, 4<<waitShift | evTick, 0, 4<<waitShift | evTick, 0})
	f.Add([]byte{evTick, 16, evAdvert, 17, evAdvert, 18, evAdvert, 2, evAdvert, 50, evSolicit, 1})
	f.Fuzz(compare)
}

func TestPermanent(t *testing.T) {
	n := new(tables.Neighbour)
	Reset(n, &macs[1])
	r := rand.New(rand.NewPCG(1, 1))
	for range 10_000 {
		e := eventOf(byte(r.Uint32()), byte(r.Uint32()))
		if o := do(n, e, int64(r.IntN(100))*sec); o.state != Permanent || o.mac != macs[1] || o.ask || o.action != Nothing || o.change != Same || e.kind == evUse && !o.ok {
			t.Fatalf("%+v: %+v", e, o)
		}
	}
}

// TestDamage: a word that is none of ours, as the other process could write,
// yields no address and no endless loop.
func TestDamage(t *testing.T) {
	for s := range 256 {
		for e := range 256 {
			n := &tables.Neighbour{Word: uint64(s)<<48&^ready | 5, Next: -1 << 62, Probes: 1 << 40}
			do(n, eventOf(byte(e), 17), 100*sec)
		}
	}
}

// TestRequestsAreFew has several workers use a neighbour that does not answer:
// together they ask once a second.
func TestRequestsAreFew(t *testing.T) {
	n := new(tables.Neighbour)
	var clock, asks atomic.Int64
	clock.Store(sec)
	var workers sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				runtime.Gosched()
				if _, _, ask := Use(n, clock.Load()); ask {
					asks.Add(1)
				}
				if i == 0 && Tick(n, clock.Load(), true) != Nothing {
					asks.Add(1)
				}
			}
		})
	}
	for second := int64(1); second <= 50; second++ {
		for deadline := time.Now().Add(30 * time.Second); asks.Load() < second && time.Now().Before(deadline); {
			runtime.Gosched()
		}
		time.Sleep(200 * time.Microsecond) // for those that there must not be
		if got := asks.Load(); got != second {
			t.Errorf("%d requests in %d seconds", got, second)
			break
		}
		clock.Add(sec)
	}
	close(stop)
	workers.Wait()
}

func TestARPFrames(t *testing.T) {
	f := make([]byte, FrameLen)
	for _, c := range []struct {
		write  func()
		dst    wire.MAC
		target uint32
	}{
		{func() { us.Request(f, it4, nil) }, broadcast, it4},
		{func() { us.Request(f, it4, &macs[1]) }, macs[1], it4},
		{func() { us.Announce(f) }, broadcast, us.IP},
	} {
		c.write()
		a, ok := wire.ParseARP(f[wire.EthernetLen:])
		if e := wire.Ethernet(f); !ok || *e.Dst() != c.dst || *e.Src() != ownMAC || e.Type() != wire.TypeARP ||
			a.Op() != wire.ARPRequest || *a.SenderMAC() != ownMAC || a.SenderIP() != us.IP || a.TargetIP() != c.target {
			t.Errorf("%x", f)
		}
	}
	wire.Ethernet(f).Put(&broadcast, &macs[1], wire.TypeARP)
	wire.PutARP(f[14:], wire.ARPRequest, &macs[1], it4, &wire.MAC{}, us.IP)
	us.Answer(f)
	a, ok := wire.ParseARP(f[wire.EthernetLen:])
	if e := wire.Ethernet(f); !ok || *e.Dst() != macs[1] || *e.Src() != ownMAC || a.Op() != wire.ARPReply ||
		*a.SenderMAC() != ownMAC || a.SenderIP() != us.IP || a.TargetIP() != it4 {
		t.Errorf("answer %x", f)
	}
}

func TestAsks(t *testing.T) {
	for name, c := range map[string]struct {
		a    wire.ARP
		want bool
	}{
		"request":                    {arpOf(wire.ARPRequest, &macs[1], it4, us.IP), true},
		"probe (RFC 5227)":           {arpOf(wire.ARPRequest, &macs[1], 0, us.IP), true},
		"for another":                {arpOf(wire.ARPRequest, &macs[1], it4, 9), false},
		"reply":                      {arpOf(wire.ARPReply, &macs[1], it4, us.IP), false},
		"from a group":               {arpOf(wire.ARPRequest, &macs[3], it4, us.IP), false},
		"from nobody":                {arpOf(wire.ARPRequest, &macs[4], it4, us.IP), false},
		"our address, by a stranger": {arpOf(wire.ARPRequest, &macs[1], us.IP, us.IP), false},
	} {
		if got := us.Asks(c.a); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	deaf := Self{MAC: ownMAC}
	if deaf.Asks(arpOf(wire.ARPRequest, &macs[1], it4, 0)) {
		t.Error("an interface without IPv4 is asked")
	}
}
