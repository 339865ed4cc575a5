package keeper

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/keying/ske"
)

// state is what a keeper's configuration has led to, apart from order.
func state(t *testing.T, k *Keeper) map[string]string {
	t.Helper()
	out := map[string]string{}
	for i, l := range k.order {
		if int(l.place) != i || k.links[l.key] != l || l.timer == 0 || k.timers[l.timer-1] != l {
			t.Fatalf("link %v is at %d, said to be at %d; timer %d", l.key, i, l.place, l.timer)
		}
		if k.index[l.peerKey()] != l {
			t.Fatalf("link %v is not found by %v", l.key, l.peerKey())
		}
		out[fmt.Sprint(l.key)] = fmt.Sprint(l.spi, l.psk, l.owner, l.local(), l.remote, len(l.inbound), l.active != nil)
	}
	if len(k.links) != len(k.order) || len(k.index) != len(k.order) || len(k.timers) != len(k.order) {
		t.Fatalf("%d links, %d in order, %d found, %d timers", len(k.links), len(k.order), len(k.index), len(k.timers))
	}
	return out
}

// TestChangeIsConfigure changes one keeper's routes some at a time, and gives
// another the whole configuration each time.
func TestChangeIsConfigure(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	now := 1000 * second
	made := func() *Keeper {
		return New(Options{Engine: newFakeEngine(t, &now), Protocol: ske.Protocol{}, Clock: func() int64 { return now }, Rand: newSim(t, 1)})
	}
	a, b := made(), made()
	c := config(addrA, addrB)
	c.Local[2] = netip.MustParseAddr("192.0.2.99")
	c.Routes = nil
	a.Configure(c)
	b.Configure(c)
	routes := map[string]Route{}
	for range 400 {
		var set []Route
		var remove []string
		for range r.IntN(5) {
			n := r.IntN(20)
			id := fmt.Sprint("r", n)
			if slices.Contains(remove, id) || slices.ContainsFunc(set, func(s Route) bool { return s.ID == id }) {
				continue
			}
			before, had := routes[id]
			if had && r.IntN(3) == 0 {
				remove = append(remove, id)
				delete(routes, id)
				continue
			}
			if !had || r.IntN(2) == 0 {
				before.SPI, before.PSK[3] = uint32(1000*n+r.IntN(2)), byte(r.IntN(2))
			}
			before.ID = id
			before.Gateways = []tables.Gateway{{Queue: uint16(1 + r.IntN(2)), IP: netip.AddrFrom4([4]byte{198, 51, 100, byte(r.IntN(4))})}}
			set = append(set, before)
			routes[id] = before
		}
		a.Change(set, remove)
		c.Routes = slices.SortedFunc(maps.Values(routes), func(x, y Route) int { return int(x.SPI) - int(y.SPI) })
		b.Configure(c)
		if x, y := state(t, a), state(t, b); !maps.Equal(x, y) {
			t.Fatalf("changed to\n%v\nconfigured\n%v", x, y)
		}
		now += second / 10
	}
	if len(routes) < 5 {
		t.Fatalf("%d routes in the end", len(routes))
	}
}

// TestChangeLeavesOthersAlone changes and removes a route beside one with SAs.
func TestChangeLeavesOthersAlone(t *testing.T) {
	s, a, b, c := two(t)
	other := Route{ID: "third", SPI: 77, Gateways: c.Routes[0].Gateways}
	before := a.engine.SAs()
	if len(before) == 0 {
		t.Fatal("no SAs to begin with")
	}
	a.keeper.Change([]Route{other}, nil)
	a.keeper.Change([]Route{other, c.Routes[0]}, nil)
	a.keeper.Change(nil, []string{"third"})
	if got := a.engine.SAs(); !slices.EqualFunc(got, before, func(x, y client.SAInfo) bool { return x.Ref == y.Ref }) {
		t.Errorf("SAs %v, before %v", got, before)
	}
	changed := c.Routes[0]
	changed.PSK[0] ^= 1
	a.keeper.Change([]Route{changed}, nil)
	if a.engine.outbound(theLK) != nil {
		t.Error("an SA of the old key is left")
	}
	peers := b.config.Routes[0]
	peers.PSK = changed.PSK
	b.keeper.Change([]Route{peers}, nil)
	a.tick, b.tick = 0, 0
	s.run(6 * time.Second)
	if a.engine.outbound(theLK) == nil || b.engine.outbound(theLK) == nil {
		t.Error("no SA with the new key")
	}
}
