package keeper

import (
	"crypto/ecdh"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/keying/ske"
)

var soak = flag.Bool("soak", false, "run the year of 100 routes, which takes long")

// many is the configuration of a gateway with n routes to one other.
func many(n int, local, remote *node) {
	local.config = config(local.addr, remote.addr)
	local.config.Routes = nil
	for i := range n {
		r := Route{ID: fmt.Sprintf("r%d", i), SPI: uint32(1000 + i), Gateways: []tables.Gateway{{Queue: 1, IP: remote.addr}}}
		r.PSK = [32]byte{byte(i), byte(i >> 8), 1}
		local.config.Routes = append(local.config.Routes, r)
	}
}

// manyPair makes two gateways with n routes between them.
func manyPair(s *simNet, n int) (a, b *node) {
	a, b = &node{net: s, addr: addrA}, &node{net: s, addr: addrB}
	many(n, a, b)
	many(n, b, a)
	s.nodes[addrA], s.nodes[addrB] = a, b
	a.start(newFakeEngine(s.t, &s.now))
	b.start(newFakeEngine(s.t, &s.now))
	return a, b
}

// up counts the routes that a gateway can send on by an SA that the other has.
func up(from, to *node) int {
	n := 0
	keys := map[[20]byte]bool{}
	for _, sa := range to.engine.sas {
		if sa.Direction == client.Inbound {
			keys[sa.key] = true
		}
	}
	for key := range from.engine.active {
		if sa := from.engine.outbound(key); sa != nil && keys[sa.key] {
			n++
		}
	}
	return n
}

// All routes are back within a minute after one end was restarted, with
// nothing of its SAs left.
func TestManyRoutesComeBack(t *testing.T) {
	const routes = 2000 // ten thousand, in the soak
	n := routes
	if *soak {
		n = 10_000
	}
	s := newSim(t, 21)
	a, b := manyPair(s, n)
	s.run(90 * time.Second)
	if x, y := up(a, b), up(b, a); x != n || y != n {
		t.Fatalf("%d and %d of %d routes are up", x, y, n)
	}
	b.start(newFakeEngine(t, &s.now))
	begun := s.now
	for up(a, b) != n || up(b, a) != n {
		s.run(time.Second)
		if s.now-begun > 60*second {
			t.Fatalf("%d and %d of %d routes are up after a minute", up(a, b), up(b, a), n)
		}
	}
	t.Logf("%d routes are up %d s after a restart", n, (s.now-begun)/second)
}

// A flood of forged messages of all kinds in the names of one route's gateway
// and of nobody: that route and all others rekey as if there were none.
func TestFlood(t *testing.T) {
	s := newSim(t, 22)
	a, b := manyPair(s, 50)
	s.run(30 * time.Second)
	floods := 0
	forged := [][]byte{
		{0, 0, 3, 0xe8, 11, 0, 0, 0, 0, 0, 0, 5},
		append([]byte{0, 0, 3, 0xe8, 12, 0, 0, 0, 0, 0, 0, 5, 'n', 'o', 'n', 'e'}, make([]byte, 60)...),
		append([]byte{0, 0, 3, 0xe8, 13}, make([]byte, 83)...),
		append([]byte{0, 0, 3, 0xe8, 14}, make([]byte, 83)...),
		{0, 0, 3, 0xe8, 15},
	}
	messages := 300_000
	if *soak {
		messages = 1_000_000
	}
	flood := func() {
		for range 100 {
			from := addrB
			if floods%3 == 0 {
				from = addrA // nobody's gateway
			}
			a.keeper.Handle(client.Message{Queue: 1, Peer: netip.AddrPortFrom(from, 303), Payload: forged[floods%len(forged)]})
			floods++
		}
	}
	before := a.keeper.Counters()["keypairs-negotiated"]
	var flows [4]traffic
	for i, route := range []string{"r0", "r7"} {
		s.trafficOn(linkKey{route, 1}, a, b, 50*time.Millisecond, &flows[2*i])
		s.trafficOn(linkKey{route, 1}, b, a, 50*time.Millisecond, &flows[2*i+1])
	}
	for floods < messages {
		flood()
		s.run(700 * time.Second * 100 / time.Duration(messages))
	}
	if n := a.keeper.Counters()["keypairs-negotiated"] - before; n < 50 {
		t.Errorf("%d exchanges in 700 s, want one for each of the 50 routes at least", n)
	}
	for i, c := range flows {
		if c.unknown+c.unsendable != 0 || c.arrived == 0 {
			t.Errorf("flow %d: %+v", i, c)
		}
	}
	if o := a.engine.outbound(linkKey{"r0", 1}); o == nil || s.now-o.info.Created > 400*second {
		t.Errorf("the route of the flood has no fresh SA: %+v", o)
	}
	// Every message of the flood is counted as refused by its reason, but for the
	// knocks that are answered, which cost nothing.
	c := a.keeper.Counters()
	reasons := c["route-errors"] + c["protocol-errors"] + c["parameter-errors"] + c["authentication-errors"] + c["rate-errors"]
	if c["rxerrors"] != reasons || c["route-errors"] < uint64(messages)/4 || c["rate-errors"] == 0 || c["rxerrors"]+c["challenges-offered"] < uint64(messages) {
		t.Errorf("%v", c)
	}
}

// A restarted peer whose own messages are lost is noticed: we send and hear
// nothing.
func TestSilentPeerIsAsked(t *testing.T) {
	s := newSim(t, 23)
	a, b := pair(s)
	s.run(60 * time.Second)
	var ab, ba traffic
	s.traffic(a, b, 50*time.Millisecond, &ab)
	s.traffic(b, a, 50*time.Millisecond, &ba)
	s.run(10 * time.Second)
	before := a.keeper.Counters()["negotiations-initiated"]
	s.run(100 * time.Second)
	if n := a.keeper.Counters()["negotiations-initiated"] - before; n != 0 {
		t.Errorf("%d exchanges though packets come both ways", n)
	}
	// The peer starts anew and its knocks do not get out.
	b.start(newFakeEngine(t, &s.now))
	inner := b.engine.send
	b.engine.send = func(m client.Message) {
		if m.Payload[4] != 11 {
			inner(m)
		}
	}
	s.run(13 * time.Second)
	ab, ba = traffic{}, traffic{}
	s.run(60 * time.Second)
	if ab.unknown != 0 || ab.arrived == 0 {
		t.Errorf("what we send is still lost: %+v", ab)
	}
	// One-way traffic alone is no reason to rekey all the time.
	s2 := newSim(t, 24)
	c, d := pair(s2)
	s2.run(60 * time.Second)
	var cd traffic
	s2.traffic(c, d, 50*time.Millisecond, &cd)
	before = c.keeper.Counters()["negotiations-initiated"]
	s2.run(300 * time.Second)
	if n := c.keeper.Counters()["negotiations-initiated"] - before; n > 6 {
		t.Errorf("%d exchanges in 300 s of one-way traffic", n)
	}
	if cd.unknown+cd.unsendable != 0 {
		t.Errorf("%+v", cd)
	}
}

// An SA that has carried much is replaced before its hard limit.
func TestRekeyByVolume(t *testing.T) {
	for _, carry := range []func(*client.SAInfo){
		func(i *client.SAInfo) { i.Packets = softPackets },
		func(i *client.SAInfo) { i.Bytes = softBytes },
	} {
		s := newSim(t, 25)
		a, _ := pair(s)
		s.run(60 * time.Second)
		first := a.engine.active[theLK]
		carry(&a.engine.sas[first].info)
		if sa := a.engine.sas[first]; sa.MaxPackets != 2*softPackets || sa.MaxBytes != 2*softBytes {
			t.Errorf("hard limits %d packets, %d bytes", sa.MaxPackets, sa.MaxBytes)
		}
		s.run(10 * time.Second)
		if a.engine.active[theLK] == first {
			t.Error("the SA is still in use")
		}
	}
}

// toyKey is an ephemeral key that costs nothing and protects nothing: the year
// below takes forty million of them. All else is the real thing.
type toyKey uint32

func newToyKey(random io.Reader) (ecdh.KeyExchanger, error) {
	var b [4]byte
	_, err := io.ReadFull(random, b[:])
	return toyKey(binary.BigEndian.Uint32(b[:])), err
}

func (toyKey) Curve() ecdh.Curve { return ecdh.X25519() }

func (k toyKey) PublicKey() *ecdh.PublicKey {
	var b [32]byte
	binary.BigEndian.PutUint64(b[:], uint64(k)*7)
	p, err := ecdh.X25519().NewPublicKey(b[:])
	if err != nil {
		panic(err)
	}
	return p
}

func (k toyKey) ECDH(p *ecdh.PublicKey) ([]byte, error) {
	b := make([]byte, 32)
	binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(p.Bytes())*uint64(k))
	return b, nil
}

// A year of 100 routes, in the soak; a day of ten otherwise. Nothing is ever
// sent under a key that the other side does not hold.
func TestYear(t *testing.T) {
	routes, span := 5, 24*time.Hour
	if *soak {
		routes, span = 50, 365*24*time.Hour
	}
	for seed := range uint64(2) { // a core each
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			year(t, seed, routes, span)
		})
	}
}

func year(t *testing.T, seed uint64, routes int, span time.Duration) {
	s := newSim(t, 26+seed)
	s.protocol = ske.Protocol{NewKey: newToyKey}
	s.maxDelay = 20 * time.Millisecond
	a, b := manyPair(s, routes)
	s.run(time.Minute)
	s.loss = 0.02
	counts := make([]traffic, 2*routes)
	for i := range routes {
		l := linkKey{fmt.Sprintf("r%d", i), 1}
		s.trafficOn(l, a, b, 20*time.Second, &counts[2*i])
		s.trafficOn(l, b, a, 20*time.Second, &counts[2*i+1])
	}
	started := time.Now()
	s.run(span)
	for i, c := range counts {
		if c.unknown+c.unsendable != 0 || c.arrived == 0 {
			t.Errorf("flow %d: %+v", i, c)
		}
	}
	t.Logf("%v of %d routes in %v, %d exchanges", span, routes, time.Since(started).Round(time.Second), a.keeper.Counters()["keypairs-negotiated"])
}

// Ten thousand routes at sa-ttl 600: the share of a core, and the memory.
func BenchmarkTenThousandRoutes(b *testing.B) {
	const routes = 10_000
	var before, after runtime.MemStats
	t := &testing.T{} // the fakes report defects of the test to it
	s := newSim(t, 27)
	p, q := &node{net: s, addr: addrA}, &node{net: s, addr: addrB}
	many(routes, p, q)
	many(routes, q, p)
	s.nodes[addrA], s.nodes[addrB] = p, q
	runtime.GC()
	runtime.ReadMemStats(&before)
	p.keeper = New(Options{Engine: newFakeEngine(t, &s.now), Protocol: ske.Protocol{}, Clock: func() int64 { return s.now }, Rand: s})
	p.keeper.Configure(p.config)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/routes, "B/route")
	p.start(newFakeEngine(t, &s.now))
	q.start(newFakeEngine(t, &s.now))
	s.run(2 * time.Minute)
	b.ResetTimer()
	for b.Loop() {
		s.run(600 * time.Second) // of both gateways
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/routes, "B/route")
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(1200*time.Second)*100, "%core/gateway")
}
