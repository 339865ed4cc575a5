package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/keying/ske"
)

// counts is a change of the counters, without those that have not moved.
func counts(n *node) map[string]uint64 {
	c := n.keeper.Counters()
	maps.DeleteFunc(c, func(_ string, v uint64) bool { return v == 0 })
	return c
}

func TestCountersOfTheFirstExchanges(t *testing.T) {
	s := newSim(t, 1)
	a, b := pair(s)
	if n := len(a.keeper.Counters()); n != 17 {
		t.Errorf("%d counters", n)
	}
	s.run(4 * time.Second)
	want := map[string]uint64{
		"negotiations-initiated": 1, "challenges-offered": 1, "challenges-accepted": 1, "keypairs-offered": 1, "keypairs-negotiated": 2,
	}
	for _, n := range []*node{a, b} {
		if got := counts(n); !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if n.engine.count(client.Inbound) != 2 || n.engine.outbound(theLK) == nil {
			t.Errorf("%d inbound SAs, active %v", n.engine.count(client.Inbound), n.engine.active)
		}
	}
	for _, n := range []struct{ from, to *node }{{a, b}, {b, a}} {
		sa := n.from.engine.outbound(theLK)
		if !n.to.engine.inbound(1, sa.SPI, sa.key) {
			t.Errorf("%v sends by an SA that its peer does not have", n.from.addr)
		}
	}
}

// respond makes b answer as a peer does that a's configuration disagrees with,
// or damages what is on the way.
func TestErrorCounters(t *testing.T) {
	flip := func(kind byte, at int) func(client.Message) client.Message {
		return func(m client.Message) client.Message {
			if m.Payload[4] == kind {
				m.Payload[at] ^= 1
			}
			return m
		}
	}
	zeroKey := func(m client.Message) client.Message {
		if m.Payload[4] == 14 {
			clear(m.Payload[8:40])
		}
		return m
	}
	for _, c := range []struct {
		leaf   string
		damage func(client.Message) client.Message
	}{
		{"version-errors", flip(12, 11)},
		{"parameter-errors", flip(12, 15)},
		{"authentication-errors", flip(14, 50)},
		{"public-key-errors", zeroKey},
		{"route-errors", flip(12, 3)},
		{"protocol-errors", flip(12, 4)},
		{"protocol-errors", func(m client.Message) client.Message { m.Payload = m.Payload[:len(m.Payload)-1]; return m }},
		{"route-errors", func(m client.Message) client.Message { m.Peer = netip.MustParseAddrPort("198.51.100.1:303"); return m }},
	} {
		s := newSim(t, 1)
		a := s.add(addrA, config(addrA, addrB))
		b := newSim(t, 2)
		n := b.add(addrB, config(addrB, addrA))
		a.engine.send = func(m client.Message) {
			n.keeper.Handle(client.Message{Queue: 1, Peer: netip.AddrPortFrom(addrA, 303), Payload: m.Payload})
		}
		n.engine.send = func(m client.Message) {
			if m.Payload[4] == 11 {
				return // only what it answers counts
			}
			m.Peer = netip.AddrPortFrom(addrB, 303)
			m = c.damage(m)
			s.after(0, func() { a.keeper.Handle(m) })
		}
		a.keeper.Tick()
		s.run(time.Second)
		if got := a.keeper.Counters(); got[c.leaf] == 0 || got["rxerrors"] != got[c.leaf] || got["keypairs-negotiated"] != 0 {
			t.Errorf("%s: %v", c.leaf, counts(a))
		}
	}
}

// two makes a gateway with routes r and other, each with SAs as if its peer had
// answered, and returns the refs of their SAs.
func two(t *testing.T) (*simNet, *node, *node, Config) {
	t.Helper()
	s := newSim(t, 9)
	c := config(addrA, addrB)
	c.Routes = append(c.Routes, Route{ID: "other", SPI: 1002, PSK: [32]byte{9}, Gateways: []tables.Gateway{{Queue: 1, IP: addrB}}})
	d := config(addrB, addrA)
	d.Routes = append(d.Routes, Route{ID: "other", SPI: 1002, PSK: [32]byte{9}, Gateways: []tables.Gateway{{Queue: 1, IP: addrA}}})
	a, b := s.add(addrA, c), s.add(addrB, d)
	s.run(60 * time.Second)
	return s, a, b, c
}

func refs(n *node, route string) []client.SARef {
	var out []client.SARef
	for _, i := range n.engine.SAs() {
		if i.Route == route {
			out = append(out, i.Ref)
		}
	}
	return out
}

// clone is a deep enough copy for a test to change.
func clone(c Config) Config {
	c.Routes = slices.Clone(c.Routes)
	for i := range c.Routes {
		c.Routes[i].Gateways = slices.Clone(c.Routes[i].Gateways)
	}
	c.Local = maps.Clone(c.Local)
	return c
}

func TestWhatAChangedConfigurationDrops(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		drops  bool
	}{
		{"nothing", func(*Config) {}, false},
		{"psk", func(c *Config) { c.Routes[0].PSK[31] ^= 1 }, true},
		{"spi", func(c *Config) { c.Routes[0].SPI++ }, true},
		{"route removed", func(c *Config) { c.Routes = c.Routes[1:] }, true},
		{"gateway address", func(c *Config) { c.Routes[0].Gateways[0].IP = netip.MustParseAddr("203.0.113.77") }, false},
		{"own address", func(c *Config) { c.Local[1] = netip.MustParseAddr("203.0.113.78") }, false},
		{"negotiation-ttl", func(c *Config) { c.NegotiationTTL = time.Second }, false},
		{"sa-ttl", func(c *Config) { c.SATTL = 300 * time.Second }, false},
		{"order", func(c *Config) { slices.Reverse(c.Routes) }, false},
	} {
		_, a, _, cfg := two(t)
		r, other := refs(a, "r"), refs(a, "other")
		if len(r) != 3 || len(other) != 3 {
			t.Fatalf("%v %v", r, other)
		}
		cfg = clone(cfg)
		c.change(&cfg)
		a.keeper.Configure(cfg)
		if got := refs(a, "other"); !slices.Equal(got, other) {
			t.Errorf("%s: SAs of the other route: %v, before %v", c.name, got, other)
		}
		if got := refs(a, "r"); c.drops && len(got) != 0 || !c.drops && !slices.Equal(got, r) {
			t.Errorf("%s: SAs of the route: %v, before %v", c.name, got, r)
		}
	}
}

func TestNewKeyIsNegotiatedAtOnce(t *testing.T) {
	s, a, b, c := two(t)
	c = clone(c)
	c.Routes[0].PSK[0] ^= 1
	a.keeper.Configure(c)
	a.tick = 0
	s.run(6 * time.Second)
	if a.engine.outbound(theLK) != nil || a.keeper.Counters()["authentication-errors"]+b.keeper.Counters()["authentication-errors"] == 0 {
		t.Error("an SA, though the keys differ")
	}
	d := clone(b.config)
	d.Routes[0].PSK[0] ^= 1
	b.keeper.Configure(d)
	b.tick = 0
	s.run(6 * time.Second)
	if a.engine.outbound(theLK) == nil || b.engine.outbound(theLK) == nil {
		t.Error("no SA with the new key")
	}
}

func TestGatewayOfAQueue(t *testing.T) {
	one, two, three := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	gws := []tables.Gateway{{Queue: 3, IP: three}, {Queue: 1, IP: one}, {Queue: 2, IP: two}}
	for queue, want := range map[uint16]netip.Addr{1: one, 2: two, 3: three, 4: one} {
		if got, ok := gateway(gws, queue); !ok || got != want {
			t.Errorf("queue %d: %v", queue, got)
		}
	}
	if _, ok := gateway(nil, 1); ok {
		t.Error("a gateway of none")
	}
}

func TestSeveralQueues(t *testing.T) {
	s := newSim(t, 11)
	c, d := config(addrA, addrB), config(addrB, addrA)
	c.Local[2], d.Local[2] = addrA, addrB
	a, b := s.add(addrA, c), s.add(addrB, d)
	s.run(5 * time.Second)
	for _, n := range []*node{a, b} {
		for q := range uint16(2) {
			if n.engine.outbound(linkKey{"r", q + 1}) == nil {
				t.Errorf("%v queue %d has no SA", n.addr, q+1)
			}
		}
	}
	if n := len(a.keeper.SAs()); n != len(a.engine.sas) {
		t.Errorf("%d SAs listed, the engine has %d", n, len(a.engine.sas))
	}
	delete(c.Local, 2)
	a.keeper.Configure(c)
	for _, i := range a.engine.SAs() {
		if i.Queue == 2 {
			t.Errorf("%+v of a queue that is gone", i)
		}
	}
}

func TestStaticSAs(t *testing.T) {
	now := 1000 * second
	e := newFakeEngine(t, &now)
	k := New(Options{Engine: e, Protocol: ske.Protocol{}, Clock: func() int64 { return now }, Rand: newSim(t, 1)})
	c := config(addrA, addrB)
	c.DataPlane = true
	c.Outbound = []StaticSA{{Route: "r", SPI: 300, Queue: 1, Key: [16]byte{1}}}
	c.Inbound = []StaticSA{{Route: "r", SPI: 301, Queue: 1, Key: [16]byte{2}}, {Route: "r", SPI: 302, Queue: 1, Key: [16]byte{3}}}
	e.fail = errFake
	k.Configure(c)
	if len(e.sas) != 0 {
		t.Fatal("an SA that was refused")
	}
	e.fail = nil
	k.Tick() // it is tried again
	if e.outbound(theLK) == nil || e.count(client.Inbound) != 2 || e.sendNum != 0 {
		t.Fatalf("%+v, %d messages sent", e.SAs(), e.sendNum)
	}
	refsBefore := func() []client.SARef { return slices.Sorted(maps.Keys(e.sas)) }
	before := refsBefore()
	k.Configure(c)
	for range 3 {
		now += 1000 * second
		k.Tick()
	}
	if got := refsBefore(); !slices.Equal(got, before) {
		t.Errorf("SAs %v, before %v: a static SA must not start anew", got, before)
	}
	// A control process that starts anew keeps them too.
	k = New(Options{Engine: e, Protocol: ske.Protocol{}, Clock: func() int64 { return now }, Rand: newSim(t, 1)})
	k.Configure(c)
	if got := refsBefore(); !slices.Equal(got, before) {
		t.Errorf("SAs %v, before %v after a restart", got, before)
	}
	c.Outbound[0].Key[5] = 5 // which a control process that starts anew must see
	k = New(Options{Engine: e, Protocol: ske.Protocol{}, Clock: func() int64 { return now }, Rand: newSim(t, 1)})
	k.Configure(c)
	if got := refsBefore(); len(got) != 3 || slices.Equal(got, before) || e.outbound(theLK).key[5] != 5 {
		t.Errorf("SAs %v, before %v after a restart with another key", got, before)
	}
	c.Outbound[0].Key[5] = 6
	c.Inbound = c.Inbound[:1]
	k.Configure(c)
	if e.outbound(theLK).key[5] != 6 || e.count(client.Inbound) != 1 || e.count(client.Outbound) != 1 {
		t.Errorf("%+v", e.SAs())
	}
	// A longer key is another one, for the engine and for one that starts anew.
	before = refsBefore()
	c.Outbound[0].Rest[15] = 9
	k.Configure(c)
	long := refsBefore()
	if sa := e.outbound(theLK); sa.rest[15] != 9 || sa.key[5] != 6 || slices.Equal(long, before) {
		t.Errorf("%+v", sa)
	}
	k = New(Options{Engine: e, Protocol: ske.Protocol{}, Clock: func() int64 { return now }, Rand: newSim(t, 1)})
	k.Configure(c)
	if got := refsBefore(); !slices.Equal(got, long) {
		t.Errorf("SAs %v, before %v: a long key is not recognised", got, long)
	}
	c.Outbound[0].Rest[15] = 10
	k = New(Options{Engine: e, Protocol: ske.Protocol{}, Clock: func() int64 { return now }, Rand: newSim(t, 1)})
	k.Configure(c)
	if sa := e.outbound(theLK); sa.rest[15] != 10 || e.count(client.Outbound) != 1 {
		t.Errorf("%+v after a restart with another second half", sa)
	}
	k.Handle(client.Message{Queue: 1, Peer: netip.AddrPortFrom(addrB, 303), Payload: []byte{0, 0, 3, 0xe9, 11, 0, 0, 0, 0, 0, 0, 5}})
	if e.sendNum != 0 {
		t.Error("a knock is answered though there is no key exchange")
	}
	if err := k.Rekey("r"); !errors.Is(err, ErrDataPlane) {
		t.Error(err)
	}
	c.DataPlane = false
	k.Configure(c)
	k.Tick()
	if len(e.sas) != 0 || e.sendNum != 1 {
		t.Errorf("%d static SAs left, %d messages sent", len(e.sas), e.sendNum)
	}
}

// A knock costs a challenge: more than 20 a second of one gateway are not
// answered, and nobody else has to wait for them.
func TestMessageLimit(t *testing.T) {
	s := newSim(t, 12)
	c := config(addrA, addrB)
	knocks := []client.Message{}
	c.Routes = nil
	for i := range uint32(10) {
		from := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
		c.Routes = append(c.Routes, Route{ID: fmt.Sprint(i), SPI: 1000 + i, Gateways: []tables.Gateway{{Queue: 1, IP: from}}})
		knocks = append(knocks, client.Message{Queue: 1, Peer: netip.AddrPortFrom(from, 303), Payload: []byte{0, 0, 3, 0xe8 + byte(i), 11, 0, 0, 0, 0, 0, 0, 5}})
	}
	a := s.add(addrA, c)
	offered := func() uint64 { return a.keeper.Counters()["challenges-offered"] }
	for n := range 3000 { // three seconds
		a.keeper.Handle(knocks[n%10])
		s.now += second / 1000
	}
	if n := offered(); n < 780 || n > 801 {
		t.Errorf("%d challenges to ten gateways in 3 seconds and a burst", n)
	}
	if c := a.keeper.Counters(); c["rxerrors"]+c["challenges-offered"] != 3000 {
		t.Errorf("%v", c)
	}
	s.now += 2 * second
	before := offered()
	for range 1000 {
		a.keeper.Handle(knocks[0])
	}
	if n := offered() - before; n != 20 {
		t.Errorf("%d challenges to one gateway at once", n)
	}
	// What does not come from a gateway takes nobody's place.
	elsewhere := knocks[1]
	elsewhere.Peer = netip.MustParseAddrPort("192.0.2.7:303")
	for range 1000 {
		a.keeper.Handle(elsewhere)
	}
	before = offered()
	for _, k := range knocks[1:] {
		a.keeper.Handle(k)
	}
	if n := offered() - before; n != 9 {
		t.Errorf("a flood keeps %d of 9 gateways out", 9-n)
	}
	// Nor do knocks in the name of a gateway keep its other messages out: these
	// are refused for what they are.
	before = a.keeper.Counters()["protocol-errors"]
	proposal := knocks[0]
	proposal.Payload = append([]byte{0, 0, 3, 0xe8, 13}, make([]byte, 83)...)
	for range 1000 {
		a.keeper.Handle(knocks[0])
	}
	a.keeper.Handle(proposal)
	if n := a.keeper.Counters()["protocol-errors"] + a.keeper.Counters()["authentication-errors"] - before; n != 1 {
		t.Errorf("a proposal is not looked at behind a flood of knocks: %v", a.keeper.Counters())
	}
}

// A thousand routes at start do not knock all at once.
func TestStartIsPaced(t *testing.T) {
	s := newSim(t, 13)
	c := config(addrA, addrB)
	c.Routes = nil
	for i := range 1000 {
		c.Routes = append(c.Routes, Route{ID: fmt.Sprint(i), SPI: uint32(1000 + i), PSK: [32]byte{byte(i), byte(i >> 8)}, Gateways: []tables.Gateway{{Queue: 1, IP: addrB}}})
	}
	d := clone(c)
	d.Local[1] = addrB
	for i := range d.Routes {
		d.Routes[i].Gateways[0].IP = addrA
	}
	a, b := s.add(addrA, c), s.add(addrB, d)
	s.run(70 * time.Second)
	for _, n := range []*node{a, b} {
		if active := len(n.engine.active); active != 1000 {
			t.Errorf("%d of 1000 routes have an SA after 70 s", active)
		}
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	var now int64
	e := newFakeEngine(t, &now)
	sent := make(chan struct{}, 1)
	e.send = func(client.Message) {
		select {
		case sent <- struct{}{}:
		default:
		}
	}
	k := New(Options{Engine: e, Protocol: ske.Protocol{}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	k.Configure(config(addrA, addrB))
	<-sent
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestKeysAreWiped(t *testing.T) {
	s := newSim(t, 14)
	a, _ := pair(s)
	var keys [][]byte
	a.keeper.engine = keyRecorder{a.engine, &keys}
	s.run(2 * time.Second)
	if len(keys) != 4 {
		t.Fatalf("%d keys installed", len(keys))
	}
	for _, k := range keys {
		if !bytes.Equal(k, make([]byte, 16)) {
			t.Error("a key is still there after it was installed")
		}
	}
	l := a.keeper.links[theLK]
	a.keeper.Configure(Config{})
	if l.psk != ([32]byte{}) {
		t.Error("the pre-shared key of a removed route is still there")
	}
}

type keyRecorder struct {
	*fakeEngine
	keys *[][]byte
}

func (r keyRecorder) InstallSA(ctx context.Context, sa client.SA) (client.SARef, error) {
	*r.keys = append(*r.keys, sa.Key)
	return r.fakeEngine.InstallSA(ctx, sa)
}

func FuzzHandle(f *testing.F) {
	f.Add([]byte{0, 0, 3, 0xe9, 11, 0, 0, 0, 0, 0, 0, 5}, uint16(1))
	f.Add([]byte{0, 0, 3, 0xe9, 14}, uint16(1))
	f.Add(append([]byte{0, 0, 3, 0xe9, 13, 0, 0, 0}, make([]byte, 80)...), uint16(1))
	f.Add(append([]byte{0, 0, 3, 0xe9, 12, 0, 0, 0, 0, 0, 0, 5}, make([]byte, 64)...), uint16(2))
	f.Fuzz(func(t *testing.T, b []byte, queue uint16) {
		s := newSim(t, 15)
		a, bb := pair(s)
		_ = bb
		forged := client.Message{Queue: queue, Peer: netip.AddrPortFrom(addrB, 303), Payload: b}
		for range 8 { // before, between and after the messages of an exchange
			a.keeper.Handle(forged)
			s.run(time.Millisecond)
		}
		s.run(10 * time.Second)
		if a.engine.outbound(theLK) == nil {
			t.Fatal("a forged message prevents the exchange")
		}
	})
}
