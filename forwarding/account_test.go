package forwarding

import (
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"vita/drivers/memory"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
)

// route returns what the engine has counted of a route; it reports false where
// there is none of that name.
func (r *rig) route(id string) (client.RouteInfo, bool) {
	all := r.client.Routes()
	i := slices.IndexFunc(all, func(i client.RouteInfo) bool { return i.Route == id })
	if i < 0 {
		return client.RouteInfo{}, false
	}
	return all[i], true
}

func (r *rig) wantRoute(id string, sent, received uint64, drops ...client.Drop) {
	r.t.Helper()
	r.settle()
	got, ok := r.route(id)
	if !ok || got.SentPackets != sent || got.SentBytes != 100*sent || got.ReceivedPackets != received || !slices.Equal(got.Drops, drops) {
		r.t.Errorf("route %s: %+v, want %d sent, %d received, drops %v", id, got, sent, received, drops)
	}
	if used := sent+received > 0; used != (got.LastUsed != 0) {
		r.t.Errorf("route %s: last used %d", id, got.LastUsed)
	}
}

// TestRouteCountsOutliveKeys: each route counts for itself, on through other
// SAs, and its drops are those that are its own.
func TestRouteCountsOutliveKeys(t *testing.T) {
	r := newRig(t)
	r.spec.Routes = append(r.spec.Routes, tables.Route{
		ID: "other", SPI: 1002, Nets: []netip.Prefix{mustPrefix("10.3.0.0/16")}, Gateways: r.spec.Routes[0].Gateways,
	})
	r.apply()
	r.private.Inject(outFrame(100, 'x')) // no SA yet
	r.settle()
	for rekey := range uint32(2) {
		r.install(client.SA{Direction: client.Outbound, SPI: 4711 + rekey})
		r.install(client.SA{Direction: client.Inbound, SPI: 4711 + rekey})
		p := newRemote(t, 4711+rekey)
		for range 3 {
			r.private.Inject(outFrame(100, 'x'))
			r.public.Inject(p.packet(inFrame(100)))
		}
		take(t, r.public, 3)
		take(t, r.private, 3)
		p.seq = 0
		r.public.Inject(p.packet(inFrame(100)))                                                                                         // again
		r.private.Inject(frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", ttl: 1, proto: 17, payload: make([]byte, 30)}.bytes()) // expired
		r.private.Inject(frame{dst: privateMAC, src: "10.1.0.7", to: "10.3.0.9", proto: 17, payload: make([]byte, 30)}.bytes())         // the other route
		r.private.Inject(frame{dst: privateMAC, src: "10.1.0.7", to: "10.9.0.9", proto: 17, payload: make([]byte, 30)}.bytes())         // no route
		r.public.Inject(p.sealed(100, frame{src: "10.3.0.9", to: "10.1.0.7", proto: 200, payload: make([]byte, 80)}.bytes()[14:], 4))   // of the other's net
		r.settle()
		drain(r.private)
	}
	r.wantRoute("site2", 6, 8, client.Drop{Reason: drop.OutboundTTL, Packets: 2}, client.Drop{Reason: drop.OutboundNoSA, Packets: 1},
		client.Drop{Reason: drop.ESPReplay, Packets: 2}, client.Drop{Reason: drop.InboundPolicy, Packets: 2})
	r.wantRoute("other", 0, 0, client.Drop{Reason: drop.OutboundNoSA, Packets: 2})
	for _, sa := range r.client.SAs() {
		want := []client.Drop{{Reason: drop.OutboundTTL, Packets: 1}}
		if sa.Direction == client.Inbound {
			want = []client.Drop{{Reason: drop.ESPReplay, Packets: 1}, {Reason: drop.InboundPolicy, Packets: 1}}
		}
		if !slices.Equal(sa.Drops, want) {
			t.Errorf("SA %d: drops %v, want %v", sa.SPI, sa.Drops, want)
		}
	}
}

// TestRouteSlotsAreReused: a route starts at zero in a slot that another one
// had, and goes on through changes of others and of its own.
func TestRouteSlotsAreReused(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	stays := tables.Route{ID: "stays", SPI: 1002, Nets: []netip.Prefix{mustPrefix("10.3.0.0/16")}, Gateways: r.spec.Routes[0].Gateways}
	r.spec.Routes = append(r.spec.Routes, stays)
	r.apply()
	toStays := frame{dst: privateMAC, src: "10.1.0.7", to: "10.3.0.9", proto: 200, payload: make([]byte, 80)}.bytes()
	r.install(client.SA{Route: "stays", Direction: client.Outbound, SPI: 4800})
	r.private.Inject(outFrame(100, 'x'))
	r.private.Inject(toStays)
	take(t, r.public, 2)
	r.wantRoute("site2", 1, 0)

	old := r.spec.Routes[0]
	r.spec.Routes = []tables.Route{stays}
	r.apply()
	if got, ok := r.route("site2"); ok {
		t.Errorf("a route that is gone: %+v", got)
	}
	old.ID = "new"
	r.spec.Routes = []tables.Route{stays, old}
	r.apply()
	r.wantRoute("new", 0, 0)
	r.wantRoute("stays", 1, 0)
	r.install(client.SA{Route: "new", Direction: client.Outbound, SPI: 4711})
	r.private.Inject(outFrame(100, 'x'))
	take(t, r.public, 1)
	r.wantRoute("new", 1, 0)

	// A change that is not published clears nothing that is in use.
	r.spec.Routes[1].ID = "never"
	p, err := r.client.Prepare(r.ctx, &r.spec)
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
	r.wantRoute("new", 1, 0)
	r.wantRoute("stays", 1, 0)
}

// TestRouteCountsAddWorkersUp: a route's counts are those of all workers, past
// ones included.
func TestRouteCountsAddWorkersUp(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	r.private.Inject(outFrame(100, 'x'))
	take(t, r.public, 1)
	name, end := newWire(t, memory.Options{})
	r.spec.Public[0].Link.Ifname, r.public = name, end
	r.spec.Public[0].Queue = 2 // another worker
	r.apply()
	r.install(client.SA{Direction: client.Outbound, SPI: 4712, Queue: 2})
	r.private.Inject(outFrame(100, 'x'))
	take(t, r.public, 1)
	r.wantRoute("site2", 2, 0)
}

// TestDamagedSARoute: an SA entry that names a slot beyond the memory costs no
// worker its life.
func TestDamagedSARoute(t *testing.T) {
	r := newRig(t)
	ref := r.install(client.SA{Direction: client.Inbound, SPI: 4711})
	r.engine.mem.SAs[tables.SAIndex(uint32(ref))].Route = 1<<32 - 1
	p := newRemote(t, 4711)
	r.public.Inject(p.packet(inFrame(100)))
	r.wantDrops(map[drop.Reason]uint64{drop.InboundPolicy: 1})
	r.wantRoute("site2", 0, 0)
}

// BenchmarkRoutes reads what was counted of 10 000 routes.
func BenchmarkRoutes(b *testing.B) {
	const n = 10_000
	r := newEngine(b, Options{MaxRoutes: 1 << 14, MaxSAs: 16})
	private, _ := newWire(b, memory.Options{})
	public, _ := newWire(b, memory.Options{})
	r.spec.Private = &tables.Interface{Link: tables.Link{Ifname: private}, IP: addr("10.1.0.254"), NextHop: addr("10.1.0.1"), NextHopMAC: testMAC}
	r.spec.Public = []tables.PublicInterface{{
		Interface: tables.Interface{Link: tables.Link{Ifname: public}, IP: addr("203.0.113.1"), NextHop: addr("203.0.113.254"), NextHopMAC: testMAC}, Queue: 1,
	}}
	for i := range n {
		r.spec.Routes = append(r.spec.Routes, tables.Route{
			ID: strconv.Itoa(i), SPI: uint32(1000 + i), Nets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 24)},
			Gateways: []tables.Gateway{{Queue: 1, IP: addr("203.0.113.2")}},
		})
	}
	r.apply()
	for b.Loop() {
		if len(r.client.Routes()) != n {
			b.Fatal("not all routes")
		}
	}
}
