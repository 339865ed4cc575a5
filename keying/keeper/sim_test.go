package keeper

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vita/forwarding/client"
	"vita/keying/ske"
)

func pair(s *simNet) (a, b *node) {
	return s.add(addrA, config(addrA, addrB)), s.add(addrB, config(addrB, addrA))
}

// Two gateways for hours, on networks from good to bad: no packet is ever sent
// under a key that the other side does not hold, and there always is a key.
func TestHoursOfLossAndReordering(t *testing.T) {
	seeds := uint64(4)
	if *soak {
		seeds = 80
	}
	for _, c := range []struct {
		loss     float64
		maxDelay time.Duration
		hours    int
	}{{0, time.Millisecond, 6}, {0.05, 50 * time.Millisecond, 6}, {0.2, 400 * time.Millisecond, 6}, {0.5, 900 * time.Millisecond, 6}} {
		for seed := range seeds {
			t.Run(fmt.Sprintf("loss %v delay %v seed %d", c.loss, c.maxDelay, seed), func(t *testing.T) {
				s := newSim(t, seed)
				s.loss, s.maxDelay = c.loss, c.maxDelay
				a, b := pair(s)
				var ab, ba traffic
				every := []time.Duration{100 * time.Millisecond, 7 * time.Second}[seed%2]
				s.traffic(a, b, every, &ab)
				if seed < 2 { // else one way alone, which confirms nothing
					s.traffic(b, a, every*3, &ba)
				}
				s.run(2 * time.Minute)
				// Until the first exchanges are done there is no other SA: the only
				// time that one is used of which it is not known that the peer has it.
				ab, ba = traffic{}, traffic{}
				s.run(time.Duration(c.hours) * time.Hour)
				for name, x := range map[string]traffic{"a to b": ab, "b to a": ba} {
					if x.unknown != 0 || x.unsendable != 0 || seed < 2 && x.arrived == 0 {
						t.Errorf("%s: %+v", name, x)
					}
				}
				for _, n := range []*node{a, b} {
					if i := n.engine.count(client.Inbound); i < 1 || i > maxInbound {
						t.Errorf("%d inbound SAs", i)
					}
					if o := n.engine.count(client.Outbound); o < 1 || o > 3 {
						t.Errorf("%d outbound SAs", o)
					}
					negotiated := n.keeper.Counters()["keypairs-negotiated"]
					if least, most := uint64(c.hours*5), uint64(c.hours*100); negotiated < least || negotiated > most {
						t.Errorf("%d exchanges in %d hours", negotiated, c.hours)
					}
				}
			})
		}
	}
}

// A rekey on a good network takes place between half and five eighths of
// sa-ttl, and the new SA is used 1.5 × negotiation-ttl later.
func TestRekeyTimes(t *testing.T) {
	s := newSim(t, 1)
	a, _ := pair(s)
	s.run(time.Second)
	start := s.now - second
	first := a.engine.active[theLK]
	if first == 0 {
		t.Fatal("no SA after a second: the first one must not wait")
	}
	var changes []int64
	for last := first; len(changes) < 5 && s.now < start+3600*second; s.run(100 * time.Millisecond) {
		if now := a.engine.active[theLK]; now != last {
			changes = append(changes, s.now)
			last = now
		}
	}
	if len(changes) != 5 {
		t.Fatalf("changes at %v", changes)
	}
	// The first SA was used at once, the others 7.5 s after they were made;
	// either gateway may be the first to rekey.
	last := start - int64(7500*time.Millisecond)
	for _, at := range changes {
		if d := time.Duration(at - last).Round(time.Second); d < 314*time.Second && last < start || d < 300*time.Second || d > 390*time.Second {
			t.Errorf("a new SA after %v", d)
		}
		last = at
	}
}

// Nothing is lost either when a side sends nothing itself and the other side
// has forgotten everything.
func TestRestartedPeer(t *testing.T) {
	for _, peerSends := range []bool{true, false} {
		s := newSim(t, 3)
		a, b := pair(s)
		s.run(100 * time.Second)
		b.engine.sas, b.engine.bySPI = map[client.SARef]*fakeSA{}, map[spiKey]*fakeSA{}
		b.start(newFakeEngine(t, &s.now)) // engine and control process
		var ab, ba traffic
		s.traffic(a, b, 50*time.Millisecond, &ab)
		if peerSends {
			s.traffic(b, a, 50*time.Millisecond, &ba)
		}
		s.run(time.Second)
		if ba.unknown != 0 || peerSends && ba.sent == 0 {
			t.Errorf("what the restarted peer sends does not arrive: %+v", ba)
		}
		if peerSends && a.engine.outbound(theLK).info.Created < s.now-second {
			t.Error("still sends by an SA from before the restart, though the peer has shown that it has a new one")
		}
		s.run(time.Second)
		ab.unknown = 0
		s.run(20 * time.Second)
		if ab.unknown != 0 {
			t.Errorf("peer sends %v: %+v from two seconds after the restart on", peerSends, ab)
		}
	}
}

// A control process that starts anew on a running engine goes on with its SAs.
func TestTakeOver(t *testing.T) {
	s := newSim(t, 4)
	a, b := pair(s)
	s.run(60 * time.Second)
	var ab, ba traffic
	s.traffic(a, b, 20*time.Millisecond, &ab)
	s.traffic(b, a, 20*time.Millisecond, &ba)
	before := fmt.Sprint(a.engine.SAs())
	initiated := b.keeper.Counters()["keypairs-negotiated"]
	a.start(a.engine)
	if after := fmt.Sprint(a.engine.SAs()); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	for _, sa := range a.keeper.SAs() {
		if age := sa.Rekey - sa.Created; sa.Role == RoleActive && (age < 300*second || age > 375*second) {
			t.Errorf("rekey at an age of %d s", age/second)
		}
	}
	s.run(200 * time.Second)
	if n := a.keeper.Counters()["negotiations-initiated"]; n != 0 || b.keeper.Counters()["keypairs-negotiated"] != initiated {
		t.Errorf("%d exchanges though the SAs are young", n)
	}
	s.run(200 * time.Second)
	if n := a.keeper.Counters()["keypairs-negotiated"]; n == 0 {
		t.Error("no rekey at the age that the SAs have")
	}
	s.run(3000 * time.Second)
	if ab.unknown+ba.unknown+ab.unsendable+ba.unsendable != 0 {
		t.Errorf("%+v %+v", ab, ba)
	}
	for _, sa := range a.engine.sas {
		if *a.engine.now > sa.info.Expires+second {
			t.Errorf("%+v has outlived its time", sa.info)
		}
	}
	// An orderly takeover while an SA is queued.
	if err := a.keeper.Rekey("r"); err != nil {
		t.Fatal(err)
	}
	a.tick = 0
	s.run(time.Second)
	a.start(a.engine)
	s.run(3000 * time.Second)
	if ab.unknown+ba.unknown+ab.unsendable+ba.unsendable != 0 {
		t.Errorf("after the second one: %+v %+v", ab, ba)
	}
}

// Of two outbound SAs the one in use is taken over; nobody knows whether the
// peer has the other. What no route wants, or never ends, is removed.
func TestTakeOverChooses(t *testing.T) {
	now := 1000 * second
	e := newFakeEngine(t, &now)
	var refs []client.SARef
	for i, sa := range []client.SA{
		{Route: "r", Queue: 1, Direction: client.Outbound, SPI: 300, HardTTL: time.Minute},
		{Route: "r", Queue: 1, Direction: client.Outbound, SPI: 301, HardTTL: time.Minute},
		{Route: "r", Queue: 1, Direction: client.Inbound, SPI: 302, HardTTL: time.Minute},
		{Route: "r", Queue: 2, Direction: client.Inbound, SPI: 303, HardTTL: time.Minute},
		{Route: "gone", Queue: 1, Direction: client.Inbound, SPI: 304, HardTTL: time.Minute},
		{Route: "r", Queue: 1, Direction: client.Inbound, SPI: 305},
		{Route: "r", Queue: 1, Direction: client.Inbound, SPI: 306, HardTTL: time.Minute},
	} {
		sa.Key = []byte{15: byte(i)}
		if sa.SPI != 306 { // of a pre-shared key that the route no longer has
			sa.Owner = ownerOf(psk[:], 1001)
		}
		ref, err := e.InstallSA(t.Context(), sa)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	if err := e.Activate(refs[1]); err != nil {
		t.Fatal(err)
	}
	k := New(Options{Engine: e, Protocol: ske.Protocol{}, Clock: func() int64 { return now }, Rand: newSim(t, 1)})
	k.Configure(config(addrA, addrB))
	if len(e.sas) != 2 || e.sas[refs[1]] == nil || e.sas[refs[2]] == nil {
		t.Errorf("%+v", e.SAs())
	}
	if len(k.SAs()) != 2 {
		t.Errorf("%+v", k.SAs())
	}
}

func TestForcedRekey(t *testing.T) {
	s := newSim(t, 5)
	a, b := pair(s)
	s.run(60 * time.Second)
	var ab, ba traffic
	s.traffic(a, b, 10*time.Millisecond, &ab)
	s.traffic(b, a, 10*time.Millisecond, &ba)
	for i := range 5 {
		before := a.engine.outbound(theLK).key
		if err := a.keeper.Rekey("r"); err != nil {
			t.Fatal(err)
		}
		a.tick = 0
		// At the latest after 1.5 × negotiation-ttl; sooner if the peer takes
		// the untimely exchange for a restart, and so shows that it has the key.
		s.run(8 * time.Second)
		if a.engine.outbound(theLK).key == before {
			t.Errorf("rekey %d: the old key is still in use", i)
		}
	}
	if ab.unknown+ba.unknown+ab.unsendable+ba.unsendable != 0 {
		t.Errorf("%+v %+v", ab, ba)
	}
	if err := a.keeper.Rekey("none"); err == nil {
		t.Error("rekey of a route that does not exist")
	}
}

// The engine refuses SAs for a while; messages cannot be sent for a while.
func TestEngineRefuses(t *testing.T) {
	s := newSim(t, 6)
	a, b := pair(s)
	a.engine.fail, b.engine.failed = errFake, errFake
	s.run(60 * time.Second)
	if len(a.engine.sas) != 0 {
		t.Fatal("an SA out of nothing")
	}
	b.engine.failed = nil
	s.run(30 * time.Second)
	a.engine.fail = nil
	s.run(20 * time.Second)
	var ab, ba traffic
	s.traffic(a, b, 10*time.Millisecond, &ab)
	s.traffic(b, a, 10*time.Millisecond, &ba)
	s.run(20 * time.Second)
	if ab.arrived == 0 || ba.arrived == 0 || ab.unknown+ba.unknown != 0 {
		t.Errorf("%+v %+v", ab, ba)
	}
}

// The peer is away for longer than SAs last, and comes back.
func TestLongSilence(t *testing.T) {
	s := newSim(t, 7)
	a, b := pair(s)
	s.run(60 * time.Second)
	s.blocked = func(_, _ netip.Addr) bool { return true }
	s.run(1000 * time.Second)
	if len(a.engine.sas) != 0 || len(b.engine.sas) != 0 {
		t.Errorf("%d and %d SAs are left after their time", len(a.engine.sas), len(b.engine.sas))
	}
	c := a.keeper.Counters()
	if c["inbound-sa-expired"] == 0 || c["outbound-sa-expired"] == 0 || c["negotiations-expired"] < 100 {
		t.Errorf("%v", c)
	}
	s.blocked = func(_, _ netip.Addr) bool { return false }
	s.run(6 * time.Second)
	if a.engine.outbound(theLK) == nil || b.engine.outbound(theLK) == nil {
		t.Error("no SA six seconds after the peer is back")
	}
}

// One way only: our knocks do not arrive, the peer's do. The peer's exchange
// serves both directions in the end.
func TestOneWayInitiation(t *testing.T) {
	s := newSim(t, 8)
	a, b := pair(s)
	inner := a.engine.send
	a.engine.send = func(m client.Message) {
		if !bytes.Equal(m.Payload[4:5], []byte{11}) {
			inner(m)
		}
	}
	s.run(10 * time.Second)
	var ab, ba traffic
	s.traffic(a, b, 10*time.Millisecond, &ab)
	s.traffic(b, a, 10*time.Millisecond, &ba)
	s.run(4000 * time.Second)
	if ab.unknown+ba.unknown+ab.unsendable+ba.unsendable != 0 || ab.arrived == 0 || ba.arrived == 0 {
		t.Errorf("%+v %+v", ab, ba)
	}
}
