package forwarding

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
)

// change changes the rig's routes in place.
func (r *rig) change(c *tables.Change) {
	r.t.Helper()
	p, err := r.client.PrepareChange(r.ctx, c)
	if err != nil {
		r.t.Fatal(err)
	}
	p.Publish()
	if err := p.Retire(r.ctx); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) spare(id, net string) tables.Route {
	return tables.Route{ID: id, SPI: 7, Nets: []netip.Prefix{netip.MustParsePrefix(net)}, Gateways: r.spec.Routes[0].Gateways}
}

// TestChangesDuringTrafficLoseNothing has routes come, change and go around one
// that carries traffic, whose own nets and gateway change as well.
func TestChangesDuringTrafficLoseNothing(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	tr := r.traffic()
	main := r.spec.Routes[0]
	for i := range 300 {
		id := fmt.Sprint("r", i%26)
		r.change(&tables.Change{Set: []tables.Route{r.spare(id, fmt.Sprintf("10.9.%d.0/24", i%26)), r.spare(id+"b", fmt.Sprintf("10.2.0.%d/32", 100+i%26))}})
		switch i % 3 {
		case 0: // another gateway, and a net more
			main.Gateways = []tables.Gateway{{Queue: 1, IP: netip.AddrFrom4([4]byte{203, 0, 113, byte(2 + i%5)})}}
			main.Nets = []netip.Prefix{mustPrefix("10.2.0.0/16"), mustPrefix("10.77.0.0/16")}
			r.change(&tables.Change{Set: []tables.Route{main}})
		case 1: // its net becomes two, in both of which the traffic is
			main.Nets = []netip.Prefix{mustPrefix("10.2.0.0/16"), mustPrefix("10.2.0.0/25")}
			r.change(&tables.Change{Set: []tables.Route{main}})
		}
		r.change(&tables.Change{Remove: []string{id, id + "b"}})
		if i%10 == 0 { // a rekey on the way
			r.install(client.SA{Direction: client.Outbound, SPI: uint32(5000 + i)})
		}
	}
	tr.wantNoLoss()
}

func TestChangedRoute(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	main := r.spec.Routes[0]
	main.Gateways = []tables.Gateway{{Queue: 1, IP: addr("203.0.113.77")}}
	main.Nets = []netip.Prefix{mustPrefix("10.2.0.0/24")}
	r.change(&tables.Change{Set: []tables.Route{main}})
	r.private.Inject(outFrame(60, 'x'))
	if f := take(t, r.public, 1)[0]; [4]byte(f[30:34]) != [4]byte{203, 0, 113, 77} {
		t.Errorf("sent to %v", f[30:34])
	}
	main.Nets = []netip.Prefix{mustPrefix("10.3.0.0/16")}
	r.change(&tables.Change{Set: []tables.Route{main}})
	r.private.Inject(outFrame(60, 'x'))
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoRoute: 1})
}

// TestCountsOfARemovedRoute gives a route's slot to another, which starts at
// nothing: without SAs, and without counts.
func TestCountsOfARemovedRoute(t *testing.T) {
	r := newRig(t)
	r.change(&tables.Change{Set: []tables.Route{r.spare("a", "10.2.0.0/24")}})
	out := r.install(client.SA{Route: "a", Direction: client.Outbound, SPI: 9})
	in := r.install(client.SA{Route: "a", Direction: client.Inbound, SPI: 9})
	other := r.install(client.SA{Direction: client.Inbound, SPI: 10})
	r.private.Inject(outFrame(60, 'x'))
	take(t, r.public, 1)
	r.settle()
	counts := func(id string) client.RouteInfo {
		all := r.client.Routes()
		return all[slices.IndexFunc(all, func(i client.RouteInfo) bool { return i.Route == id })]
	}
	if n := counts("a").SentPackets; n != 1 {
		t.Fatalf("%d packets sent", n)
	}
	r.change(&tables.Change{Remove: []string{"a"}})
	if sas := r.client.SAs(); len(sas) != 1 || sas[0].Ref != other {
		t.Errorf("SAs left: %+v", sas)
	}
	if err := errors.Join(r.client.RemoveSA(r.ctx, in), r.client.RemoveSA(r.ctx, out)); err != nil {
		t.Error(err)
	}
	if _, err := r.client.InstallSA(r.ctx, client.SA{Route: "a", Queue: 1, Direction: client.Inbound, Key: testKey}); !errors.Is(err, client.ErrNoRoute) {
		t.Errorf("install: %v", err)
	}
	r.change(&tables.Change{Set: []tables.Route{r.spare("b", "10.2.0.0/24")}})
	if n := counts("b"); n.SentPackets != 0 || len(n.Drops) != 0 {
		t.Errorf("counts of a new route: %+v", n)
	}
	r.private.Inject(outFrame(60, 'x'))
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoSA: 1})
}

func TestChangeTakenBack(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	for range 3 {
		p, err := r.client.PrepareChange(r.ctx, &tables.Change{Remove: []string{"site2"}, Set: []tables.Route{r.spare("a", "10.2.0.0/24")}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.client.PrepareChange(r.ctx, &tables.Change{Remove: []string{"site2"}}); err == nil {
			t.Error("a second change is prepared beside the first")
		}
		p.Abort()
		r.private.Inject(outFrame(60, 'x'))
		take(t, r.public, 1)
	}
	if _, err := r.client.PrepareChange(r.ctx, &tables.Change{Set: []tables.Route{r.spare("thief", "10.2.0.0/16")}}); !errors.Is(err, tables.ErrSpec) {
		t.Errorf("a net of another route: %v", err)
	}
	r.change(&tables.Change{Set: []tables.Route{r.spare("a", "10.2.0.0/24")}})
	r.apply() // a whole generation after it
	r.wantDrops(nil)
}

// TestChangeByAnotherClient has no Writer: a client that finds an engine running
// builds tables first.
func TestChangeByAnotherClient(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	r.change(&tables.Change{Set: []tables.Route{r.spare("a", "10.9.0.0/24")}})
	if err := r.client.Close(); err != nil {
		t.Fatal(err)
	}
	r.attach()
	if _, err := r.client.PrepareChange(r.ctx, &tables.Change{Remove: []string{"a"}}); !errors.Is(err, tables.ErrRebuild) {
		t.Errorf("%v", err)
	}
	if n := len(r.client.Routes()); n != 2 {
		t.Errorf("%d routes are found in changed tables", n)
	}
	r.spec.Routes = append(r.spec.Routes, r.spare("a", "10.9.0.0/24"))
	r.apply()
	r.change(&tables.Change{Remove: []string{"a"}})
	r.private.Inject(outFrame(60, 'x'))
	take(t, r.public, 1)
	r.wantDrops(nil)
}

// TestChangeRequestsAreChecked sends the engine what a damaged vitad might.
func TestChangeRequestsAreChecked(t *testing.T) {
	r := newRig(t)
	word := r.engine.mem.Current()
	r.engine.mu.Lock()
	live := r.engine.live()
	r.engine.mu.Unlock()
	slot := uint32(live.RouteSlot("site2"))
	for name, q := range map[string]ctl.Request{
		"other tables":     {Word: word + 2},
		"slot in use":      {Word: word, SlotsLen: 1, Slots: [ctl.MaxSlots]uint32{slot}},
		"no such slot":     {Word: word, SlotsLen: 1, Slots: [ctl.MaxSlots]uint32{1 << 30}},
		"too many of them": {Word: word, SlotsLen: 1 << 20},
	} {
		r.engine.mu.Lock()
		if before, after := r.engine.change(&q), r.engine.settle(&q); before == nil || after == nil {
			t.Errorf("%s: %v, %v", name, before, after)
		}
		r.engine.mu.Unlock()
	}
}

// TestKeepaliveOfANewRoute has a route come into tables that had others in UDP.
func TestKeepaliveOfANewRoute(t *testing.T) {
	r := newRig(t)
	udp := &tables.UDP{Keepalive: 1}
	r.spec.Routes[0].UDP = udp
	r.apply()
	b := r.spare("b", "10.9.0.0/24")
	b.UDP, b.Gateways = udp, []tables.Gateway{{Queue: 1, IP: addr("203.0.113.9")}}
	r.change(&tables.Change{Set: []tables.Route{b}})
	r.install(client.SA{Route: "b", Direction: client.Outbound, SPI: 9})
	if f := take(t, r.public, 1)[0]; [4]byte(f[30:34]) != [4]byte{203, 0, 113, 9} || f[42] != keepalive {
		t.Errorf("sent %x", f)
	}
}
