package keeper

import (
	"container/heap"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/keying/exchange"
	"vita/keying/ske"
)

const second = int64(time.Second)

// fakeSA is an SA in a fakeEngine.
type fakeSA struct {
	client.SA
	info client.SAInfo
	key  [20]byte // with the salt
	rest [16]byte // of a key for AES-256
}

// fakeEngine holds SAs as the packet engine does, and hands messages to send.
type fakeEngine struct {
	t       *testing.T
	now     *int64
	next    client.SARef
	sas     map[client.SARef]*fakeSA
	active  map[linkKey]client.SARef
	bySPI   map[spiKey]*fakeSA // inbound
	send    func(client.Message)
	fail    error // what InstallSA answers
	failed  error // what Send answers
	sendNum int
}

func newFakeEngine(t *testing.T, now *int64) *fakeEngine {
	return &fakeEngine{t: t, now: now, sas: map[client.SARef]*fakeSA{}, active: map[linkKey]client.SARef{}, bySPI: map[spiKey]*fakeSA{}, send: func(client.Message) {}}
}

func (e *fakeEngine) InstallSA(_ context.Context, sa client.SA) (client.SARef, error) {
	if e.fail != nil {
		return 0, e.fail
	}
	if len(sa.Key) != 16 && len(sa.Key) != 32 || sa.Route == "" || sa.HardTTL < 0 {
		e.t.Errorf("bad SA %+v", sa)
	}
	e.next++
	f := &fakeSA{SA: sa}
	copy(f.rest[copy(f.key[:16], sa.Key)-16:], sa.Key[16:])
	copy(f.key[16:], sa.Salt[:])
	f.Key = nil // the caller may wipe it
	f.info = client.SAInfo{Ref: e.next, Route: sa.Route, Queue: sa.Queue, Direction: sa.Direction, SPI: sa.SPI, Created: *e.now, Owner: sa.Owner}
	if sa.HardTTL > 0 {
		f.info.Expires = *e.now + int64(sa.HardTTL)
	}
	if sa.Direction == client.Inbound {
		at := spiKey{sa.Queue, sa.SPI}
		if other := e.bySPI[at]; other != nil {
			delete(e.sas, other.info.Ref)
		}
		e.bySPI[at] = f
	}
	e.sas[e.next] = f
	return e.next, nil
}

func (e *fakeEngine) Activate(ref client.SARef) error {
	sa := e.sas[ref]
	if sa == nil || sa.Direction != client.Outbound {
		return client.ErrNoSA
	}
	e.active[linkKey{sa.Route, sa.Queue}] = ref
	return nil
}

func (e *fakeEngine) RemoveSA(_ context.Context, ref client.SARef) error {
	if sa := e.sas[ref]; sa != nil {
		if k := (linkKey{sa.Route, sa.Queue}); e.active[k] == ref {
			delete(e.active, k)
		}
	}
	if sa := e.sas[ref]; sa != nil && e.bySPI[spiKey{sa.Queue, sa.SPI}] == sa {
		delete(e.bySPI, spiKey{sa.Queue, sa.SPI})
	}
	delete(e.sas, ref)
	return nil
}

func (e *fakeEngine) SAs() []client.SAInfo {
	var out []client.SAInfo
	for _, ref := range slices.Sorted(maps.Keys(e.sas)) { // in order, so that runs can be repeated
		sa := e.sas[ref]
		i := sa.info
		i.Active = sa.Direction == client.Inbound || e.active[linkKey{sa.Route, sa.Queue}] == ref
		out = append(out, i)
	}
	return out
}

func (e *fakeEngine) Use(ref client.SARef) (client.Use, bool) {
	sa := e.sas[ref]
	if sa == nil {
		return client.Use{}, false
	}
	return client.Use{Packets: sa.info.Packets, Bytes: sa.info.Bytes, LastUsed: sa.info.LastUsed}, true
}

func (e *fakeEngine) Send(m client.Message) error {
	if e.failed != nil {
		return e.failed
	}
	e.sendNum++
	m.Payload = append([]byte(nil), m.Payload...)
	e.send(m)
	return nil
}

// outbound returns the SA that a link sends by, or nil.
func (e *fakeEngine) outbound(k linkKey) *fakeSA {
	sa := e.sas[e.active[k]]
	if sa == nil || sa.info.Expires != 0 && *e.now >= sa.info.Expires {
		return nil
	}
	return sa
}

// inbound takes a packet in and reports whether its SA is there.
func (e *fakeEngine) inbound(queue uint16, spi uint32, key [20]byte) bool {
	sa := e.bySPI[spiKey{queue, spi}]
	if sa == nil || sa.key != key || *e.now >= sa.info.Expires {
		return false
	}
	sa.info.Packets++
	sa.info.LastUsed = *e.now
	return true
}

func (e *fakeEngine) count(d client.Direction) int {
	n := 0
	for _, sa := range e.sas {
		if sa.Direction == d {
			n++
		}
	}
	return n
}

// net joins nodes by a network that delays, reorders and loses.
type simNet struct {
	t        *testing.T
	now      int64
	r        *rand.Rand
	loss     float64
	minDelay time.Duration
	maxDelay time.Duration
	events   eventHeap
	seq      int
	nodes    map[netip.Addr]*node
	protocol exchange.Protocol
	blocked  func(from, to netip.Addr) bool
}

type event struct {
	at  int64
	seq int
	do  func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any) {
	if e, ok := x.(event); ok {
		*h = append(*h, e)
	}
}

func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// node is a gateway: keeper and engine.
type node struct {
	net    *simNet
	addr   netip.Addr
	engine *fakeEngine
	keeper *Keeper
	config Config
	tick   int64 // when Tick is due
}

func newSim(t *testing.T, seed uint64) *simNet {
	return &simNet{
		t: t, now: 1000 * second, r: rand.New(rand.NewPCG(seed, 99)), minDelay: time.Millisecond, maxDelay: time.Millisecond,
		nodes: map[netip.Addr]*node{}, protocol: ske.Protocol{}, blocked: func(_, _ netip.Addr) bool { return false },
	}
}

func (s *simNet) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.events, event{s.now + int64(d), s.seq, do})
}

// Read makes the simulation a source of random bytes that can be repeated.
func (s *simNet) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.r.Uint32())
	}
	return len(b), nil
}

func (s *simNet) delay() time.Duration {
	return s.minDelay + time.Duration(s.r.Int64N(int64(s.maxDelay-s.minDelay)+1))
}

var (
	addrA = netip.MustParseAddr("203.0.113.1")
	addrB = netip.MustParseAddr("203.0.113.2")
	psk   = [32]byte{1, 2, 3}
	theLK = linkKey{"r", 1}
)

// config is that of a gateway with one route.
func config(local, remote netip.Addr) Config {
	return Config{
		Routes:         []Route{{ID: "r", SPI: 1001, PSK: psk, Gateways: []tables.Gateway{{Queue: 1, IP: remote}}}},
		Local:          map[uint16]netip.Addr{1: local},
		NegotiationTTL: 5 * time.Second, SATTL: 600 * time.Second,
	}
}

func (s *simNet) add(addr netip.Addr, c Config) *node {
	n := &node{net: s, addr: addr, config: c}
	s.nodes[addr] = n
	n.start(newFakeEngine(s.t, &s.now))
	return n
}

// start starts a control process on an engine.
func (n *node) start(e *fakeEngine) {
	n.engine = e
	e.send = func(m client.Message) {
		if n.net.r.Float64() < n.net.loss || n.net.blocked(n.addr, m.Peer.Addr()) {
			return
		}
		n.net.after(n.net.delay(), func() {
			to := n.net.nodes[m.Peer.Addr()]
			if to == nil {
				return
			}
			to.keeper.Handle(client.Message{Queue: m.Queue, Peer: netip.AddrPortFrom(n.addr, 303), Payload: m.Payload})
			to.tick = 0
		})
	}
	n.keeper = New(Options{Engine: e, Protocol: n.net.protocol, Clock: func() int64 { return n.net.now }, Rand: n.net})
	n.keeper.Configure(n.config)
	n.tick = 0
}

// run lets d pass.
func (s *simNet) run(d time.Duration) {
	end := s.now + int64(d)
	for {
		at, who := end, (*node)(nil)
		for _, a := range []netip.Addr{addrA, addrB} {
			if n := s.nodes[a]; n != nil && n.tick < at {
				at, who = n.tick, n
			}
		}
		if len(s.events) > 0 && s.events[0].at < at {
			e, ok := heap.Pop(&s.events).(event)
			if !ok {
				s.t.Fatal("not an event")
			}
			s.now = max(s.now, e.at)
			e.do()
			continue
		}
		if who == nil {
			s.now = end
			return
		}
		s.now = max(s.now, at)
		who.tick = who.keeper.Tick()
		if who.tick <= s.now {
			s.t.Fatalf("Tick at %d wants to be called at %d", s.now, who.tick)
		}
	}
}

// traffic makes every node send a packet to every other at an interval.
type traffic struct {
	sent, arrived, unknown, unsendable int
}

func (s *simNet) traffic(from, to *node, every time.Duration, c *traffic) {
	s.trafficOn(theLK, from, to, every, c)
}

func (s *simNet) trafficOn(l linkKey, from, to *node, every time.Duration, c *traffic) {
	var next func()
	next = func() {
		if sa := from.engine.outbound(l); sa == nil {
			c.unsendable++
		} else {
			c.sent++
			sa.info.LastUsed = s.now
			spi, key := sa.SPI, sa.key
			s.after(s.delay(), func() {
				if to.engine.inbound(1, spi, key) {
					c.arrived++
				} else {
					c.unknown++
				}
			})
		}
		s.after(every, next)
	}
	next()
}

var errFake = errors.New("refused for the test")
