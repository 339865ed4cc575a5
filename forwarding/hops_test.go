package forwarding

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vita/drivers/memory"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/neigh"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// Golden cases have the life of single next hops; here are many of them, and
// several workers on one link.

// replies answers all ARP requests among frames, as the stations asked for, and
// returns them. A station's address is made of its IPv4 address.
func (r *rig) replies(frames [][]byte) (asked []wire.ARP) {
	for _, f := range frames {
		a, ok := wire.ParseARP(f[wire.EthernetLen:])
		if wire.Ethernet(f).Type() != wire.TypeARP || !ok || a.Op() != wire.ARPRequest {
			continue
		}
		asked = append(asked, a)
		mac := stationOf(a.TargetIP())
		reply := make([]byte, neigh.FrameLen)
		wire.Ethernet(reply).Put(wire.Ethernet(f).Src(), &mac, wire.TypeARP)
		wire.PutARP(reply[wire.EthernetLen:], wire.ARPReply, &mac, a.TargetIP(), a.SenderMAC(), a.SenderIP())
		r.public.Inject(reply)
	}
	return asked
}

func stationOf(ip uint32) (mac [6]byte) {
	mac[0], mac[1] = 2, 9
	wire.PutBe32(mac[2:], ip)
	return mac
}

// TestManyPeersOnLink has ten thousand gateways on the public network. They are
// asked for, kept and forgotten, and no tick of the worker does more than its
// share of that.
func TestManyPeersOnLink(t *testing.T) {
	const peers = 10_000
	r := newEngine(t, Options{MaxRoutes: 1 << 14, MaxSAs: 1 << 15})
	private, p := newWire(t, memory.Options{Depth: 4096})
	public, q := newWire(t, memory.Options{Depth: 4096})
	r.private, r.public = p, q
	r.spec = tables.Spec{
		Private: &tables.Interface{Link: tables.Link{Ifname: private}, IP: addr("10.1.0.254"), NextHop: addr("10.1.0.1"), NextHopMAC: testMAC},
		Public: []tables.PublicInterface{{
			Interface: tables.Interface{Link: tables.Link{Ifname: public}, IP: addr("172.16.255.254"), NextHop: addr("172.16.255.253")},
			Queue:     1, PrefixLen: 16,
		}},
	}
	for i := range peers {
		r.spec.Routes = append(r.spec.Routes, tables.Route{
			ID: fmt.Sprint("r", i), SPI: uint32(i + 1000), Gateways: []tables.Gateway{{Queue: 1, IP: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})}},
			Nets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100 + byte(i>>8)&63, byte(i), 0}), 24)},
		})
	}
	r.apply()
	for i := range peers {
		r.install(client.SA{Route: fmt.Sprint("r", i), Direction: client.Outbound, SPI: uint32(i + 1)})
	}
	w, goOn := r.still()
	defer goOn()
	now := w.now
	w.clock = func() int64 { return now }
	r.public.Drain()

	// round lets time pass by ticks, answers what is asked, and returns how
	// often it was.
	round := func(d time.Duration, answer bool) (asked int) {
		for range d / tickEvery {
			now += int64(tickEvery)
			w.turn()
			frames := r.public.Drain()
			n := 0
			if answer {
				n = len(r.replies(frames))
			} else {
				for _, f := range frames {
					if wire.Ethernet(f).Type() == wire.TypeARP {
						n++
					}
				}
			}
			if n > asksAtOnce {
				t.Fatalf("%d requests in a tick", n)
			}
			asked += n
		}
		return asked
	}
	states := func() (n [tables.NeighbourPermanent + 1]int) {
		for _, i := range r.client.Neighbours() {
			if i.Public {
				n[i.State]++
			}
		}
		return n
	}
	if n := round(10*time.Second, true); n < peers-peers/10 || states()[neigh.Reachable] < peers+1-64 {
		t.Fatalf("%d requests, states %v", n, states())
	}
	round(2*time.Second, true)
	if n := states(); n[neigh.Reachable] != peers+1 {
		t.Fatalf("states %v", n)
	}
	// Nobody sends: all go stale but the next hop, and nobody is asked but that.
	if n := round(45*time.Second, true); n > 3 {
		t.Errorf("%d requests with nothing to send", n)
	}
	if n := states(); n[neigh.Stale] != peers {
		t.Errorf("states %v", n)
	}
	// A packet for each: it goes out at once, to the station itself, and the
	// stations are asked 5 seconds later, one by one.
	for at := 0; at < peers; at += batchSize {
		var batch [][]byte
		for i := at; i < min(at+batchSize, peers); i++ {
			batch = append(batch, frame{dst: privateMAC, src: "10.1.0.7", to: fmt.Sprintf("10.%d.%d.1", 100+i>>8&63, i&255), proto: 200, payload: make([]byte, 8)}.bytes())
		}
		r.private.Inject(batch...)
		w.turn()
		out := r.public.Drain()
		if len(out) != len(batch) {
			t.Fatalf("%d of %d packets went out", len(out), len(batch))
		}
		for _, f := range out {
			if ip := wire.IPv4(f[14:]).Dst(); *wire.Ethernet(f).Dst() != stationOf(ip) {
				t.Fatalf("to %x, want the station of %x", f[:6], ip)
			}
		}
	}
	if n := states(); n[neigh.Delay] != peers {
		t.Errorf("states %v", n)
	}
	if n := round(20*time.Second, true); n < peers || n > peers+3 || states()[neigh.Reachable] != peers+1 {
		t.Errorf("%d requests, states %v", n, states())
	}
	// They go all at once: used, they are asked three times each by unicast and
	// given up; then only the next hop is asked for.
	round(40*time.Second, true)
	for i := range r.spec.Routes {
		peer := w.a.tables.Peer(uint32(w.a.tables.RouteSlot(r.spec.Routes[i].ID)), 0)
		if i%100 == 0 { // RouteSlot looks through all
			if _, ok := w.hopOf(&peer); !ok {
				t.Fatal("a stale neighbour is not used")
			}
		}
	}
	if n := round(20*time.Second, false); n < 3*peers/100 || n > 3*peers/100+30 {
		t.Errorf("%d requests", n)
	}
	if n := states(); n[neigh.Stale] != peers-peers/100 || n[neigh.None] != peers/100 {
		t.Errorf("states %v", n)
	}
}

// TestMessagesToPeersOnLink: what vitad sends goes the same ways.
func TestMessagesToPeersOnLink(t *testing.T) {
	r := newRig(t)
	r.spec.Public[0].PrefixLen = 24 // 203.0.113.2 is in it
	far := r.spec.Routes[0]
	far.ID, far.Nets, far.Gateways = "far", []netip.Prefix{mustPrefix("10.3.0.0/16")}, []tables.Gateway{{Queue: 1, IP: addr("198.51.100.9")}}
	r.spec.Routes = append(r.spec.Routes, far)
	r.apply()
	ask := take(t, r.public, 1)
	if asked := r.replies(ask); len(asked) != 1 || asked[0].TargetIP() != 0xcb007102 {
		t.Fatalf("asked %x", ask)
	}
	r.settle()
	for peer, mac := range map[string][6]byte{"203.0.113.2": stationOf(0xcb007102), "198.51.100.9": testMAC, "203.0.113.254": testMAC} {
		if err := r.client.Send(client.Message{Queue: 1, Peer: netip.AddrPortFrom(addr(peer), 303), Payload: []byte("hello")}); err != nil {
			t.Fatal(err)
		}
		f := take(t, r.public, 1)[0]
		if a := addr(peer).As4(); *wire.Ethernet(f).Dst() != mac || wire.IPv4(f[14:]).Dst() != wire.Be32(a[:]) {
			t.Errorf("to %s: frame to %x", peer, f[:6])
		}
	}
	// One that no route has: nobody knows whether it is there.
	if err := r.client.Send(client.Message{Queue: 1, Peer: netip.AddrPortFrom(addr("203.0.113.99"), 303), Payload: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoNextHop: 1})
}

// newSharedLink starts a gateway with two workers on one public link, of which
// each has a queue. What arrives is
// steered to the queue that the test has set.
func newSharedLink(t *testing.T) (r *rig, queue *int) {
	t.Helper()
	queue = new(int)
	r = newRig(t)
	public, q := newWire(t, memory.Options{Queues: 2, Steer: func([]byte) int { return *queue }})
	private, p := newWire(t, memory.Options{Queues: 2})
	r.private, r.public = p, q
	r.spec.Private.Link.Ifname = private
	one := &r.spec.Public[0]
	one.Link.Ifname, one.DeviceQueue, one.NextHopMAC = public, 1, [6]byte{}
	two := *one
	two.Queue, two.DeviceQueue, two.IP = 2, 2, addr("203.0.113.3")
	r.spec.Public = append(r.spec.Public, two)
	r.apply()
	return r, queue
}

// TestSharedLink: ARP for one worker may arrive at another's queue. It answers
// in that one's name, and what it learns all use. Only one asks.
func TestSharedLink(t *testing.T) {
	r, queue := newSharedLink(t)
	if asked := r.replies(take(t, r.public, 1)); asked[0].TargetIP() != 0xcb0071fe || asked[0].SenderIP() != 0xcb007101 {
		t.Fatalf("asked %x", asked)
	}
	macs := [][6]byte{{0x3a, 0xbb, 203, 0, 113, 1}, {0x3a, 0xbb, 203, 0, 113, 3}}
	r.settle()
	for q := range 2 { // whichever worker it is that takes it
		*queue = q
		for i, ip := range []uint32{0xcb007101, 0xcb007103} {
			for _, dst := range [][6]byte{{255, 255, 255, 255, 255, 255}, macs[i]} {
				f := arpFrame(wire.ARPRequest, ip)
				copy(f, dst[:])
				r.public.Inject(f)
				got := take(t, r.public, 1)[0]
				if a, ok := wire.ParseARP(got[14:]); !ok || a.Op() != wire.ARPReply || a.SenderIP() != ip || *a.SenderMAC() != macs[i] || *wire.Ethernet(got).Src() != macs[i] {
					t.Errorf("queue %d, for %x: answer %x", q, ip, got)
				}
			}
		}
		// Anything else for the other worker is not taken.
		f := frame{dst: macs[1-q], src: "198.51.100.1", to: []string{"203.0.113.3", "203.0.113.1"}[q], proto: 1, payload: echoRequest(8)}
		r.public.Inject(f.bytes())
	}
	r.wantDrops(map[drop.Reason]uint64{drop.PublicWrongMAC: 2})
	// Both workers send to the next hop that one has found.
	r.install(client.SA{Direction: client.Outbound, SPI: 1, Queue: 1})
	r.install(client.SA{Direction: client.Outbound, SPI: 2, Queue: 2})
	for i := range byte(2) {
		r.private.Inject(changed(outFrame(60, 'x'), func(b []byte) { b[33] = 8 + i }))
	}
	seen := make(map[uint32]bool)
	for _, f := range take(t, r.public, 2) {
		seen[wire.ESP(f[34:]).SPI()] = true
		if *wire.Ethernet(f).Dst() != stationOf(0xcb0071fe) {
			t.Errorf("sent to %x", f[:6])
		}
	}
	if len(seen) != 2 {
		t.Errorf("SPIs %v: not both workers have sent", seen)
	}
	// The reply to one worker's request, at the other's queue, under its address.
	*queue = 1
	moved := make([]byte, neigh.FrameLen)
	next := [6]byte{2, 9, 9, 9, 9, 9}
	wire.Ethernet(moved).Put(&macs[0], &next, wire.TypeARP)
	wire.PutARP(moved[14:], wire.ARPReply, &next, 0xcb0071fe, &macs[0], 0xcb007101)
	r.public.Inject(moved)
	r.settle()
	if n := r.client.Neighbours(); len(n) != 2 || n[1].MAC != next {
		t.Errorf("%+v", n)
	}
}

// TestAnnouncements: an interface that comes up tells everybody on its link, and
// so does one whose link comes back. Another commit is no reason.
func TestAnnouncements(t *testing.T) {
	r := newEngine(t, Options{Announcements: 2})
	private, p := newWire(t, memory.Options{})
	public, q := newWire(t, memory.Options{})
	r.private, r.public = p, q
	r.spec = newRig(t).spec
	r.spec.Private.Link.Ifname, r.spec.Public[0].Link.Ifname = private, public
	r.apply()
	want := func(e *memory.End, mac [6]byte, ip uint32) {
		t.Helper()
		f := take(t, e, 1)[0]
		a, ok := wire.ParseARP(f[14:])
		if !ok || *wire.Ethernet(f).Dst() != [6]byte{255, 255, 255, 255, 255, 255} || a.SenderIP() != ip || a.TargetIP() != ip || *a.SenderMAC() != mac {
			t.Fatalf("announcement %x", f)
		}
	}
	want(r.private, privateMAC, 0x0a0100fe)
	want(r.public, publicMAC, 0xcb007101)
	w, goOn := r.still()
	now := w.now
	w.clock = func() int64 { return now }
	tick := func(d time.Duration) (public int) {
		for range d / (100 * time.Millisecond) {
			now += int64(100 * time.Millisecond)
			w.turn()
		}
		r.private.Drain()
		return len(r.public.Drain())
	}
	if n := tick(10 * time.Second); n != 1 {
		t.Errorf("%d more announcements, want 1", n)
	}
	w.a.public.down = true // as when it was looked after last
	if n := tick(10 * time.Second); n != 2 {
		t.Errorf("%d announcements when the link came back, want 2", n)
	}
	goOn()
	r.spec.MTU = 1400
	r.apply()
	w, goOn = r.still()
	defer goOn()
	if n := tick(10 * time.Second); n != 0 {
		t.Errorf("%d announcements after a commit", n)
	}
}

// TestSlotsOfOthers: what a generation says of neighbours is checked, and one
// that gives a slot anew does not begin with what another has left there.
func TestSlotsOfOthers(t *testing.T) {
	r := newRig(t)
	r.spec.Public[0].NextHopMAC = [6]byte{}
	r.apply()
	r.replies(take(t, r.public, 1))
	r.settle()
	for _, next := range []string{"203.0.113.253", "203.0.113.252", "203.0.113.251"} { // the third gets the first's slot
		r.spec.Public[0].NextHop = addr(next)
		r.apply()
		if asked := take(t, r.public, 1); wire.ARP(asked[0][14:]).TargetIP()&255 != uint32(addr(next).As4()[3]) {
			t.Errorf("%s: asked %x", next, asked)
		}
		if n := r.client.Neighbours(); n[1].IP != addr(next) || n[1].State != neigh.Incomplete || n[1].MAC != [6]byte{} || n[1].Confirmed != 0 {
			t.Errorf("%+v", n[1])
		}
	}
	r.engine.mu.Lock()
	defer r.engine.mu.Unlock()
	bad := *r.engine.current
	bad.Neighbours = []tables.NeighbourEntry{{Slot: 1 << 30}}
	if err := r.engine.clearHops(&bad); err == nil {
		t.Error("a slot that does not exist is accepted")
	}
}

// FuzzResolution puts any ARP or neighbour discovery, or anything else, into a
// gateway whose next hops are not known, on both sides and in both families.
// Whatever comes, the worker asks on, answers no more than once a frame, loses
// no buffer, and takes the right answer when it comes.
func FuzzResolution(f *testing.F) {
	type gate struct {
		*rig
		bothWays
		w   *worker
		now *int64
		all int
	}
	var gates []gate
	for _, name := range []string{"in IPv4", "in IPv6"} {
		k := bothKinds[name]
		r := newRigBoth(f, k.v6)
		none := [6]byte{}
		r.spec.Private.NextHopMAC, r.spec.Private.OtherNextHopMAC, r.spec.Public[0].NextHopMAC = none, none, none
		r.spec.Public[0].PrefixLen = 24
		r.apply()
		r.install(client.SA{Direction: client.Outbound, SPI: 4711})
		w, goOn := r.still()
		f.Cleanup(goOn)
		now := w.now
		w.clock = func() int64 { return now }
		gates = append(gates, gate{r, k, w, &now, w.pool.Available()})
	}
	solicit := make([]byte, neigh.FrameLen6)
	us := neigh.Self{MAC: testMAC, IP: 0x0a010001, IP6: addr(privNext6).As16()}
	own6 := addr(priv6).As16()
	us.Solicit(solicit, &own6, nil)
	f.Add(false, true, solicit)
	us.Announce6(solicit)
	f.Add(true, false, solicit)
	f.Add(true, true, arpFrame(wire.ARPRequest, 0x0a0100fe))
	f.Add(false, true, arpFrame(wire.ARPReply, 0xcb007101))
	station := uint16(0)
	f.Fuzz(func(t *testing.T, v6, public bool, b []byte) {
		if len(b) < wire.EthernetLen || len(b) > 1500 {
			return
		}
		g := gates[0]
		if v6 {
			g = gates[1]
		}
		port := g.private
		if public {
			port = g.public
		}
		mine := changed(b, func(b []byte) { copy(b, g.w.a.private.self.MAC[:]); b[6] &^= 1 })
		if public {
			copy(mine, g.w.a.public.self.MAC[:])
		}
		if p, ok := wire.ParseIPv6(mine[wire.EthernetLen:]); ok && len(p) >= wire.IPv6Len+4 && p.Next() == wire.ProtoICMP6 {
			wire.SumICMP6(p)
		}
		port.Inject(b, mine)
		for g.w.turn() > 0 {
		}
		if sent := len(g.private.Drain()) + len(g.public.Drain()); sent > 4 { // and what a tick may ask for
			t.Fatalf("%d frames came out", sent)
		}
		*g.now += int64(40 * time.Second) // whatever was believed is asked for again
		for range 3 {
			g.w.turn()
			*g.now += int64(2 * time.Second)
		}
		g.private.Drain()
		g.public.Drain()
		// The peer says who it is, by a request to us, and packets go there.
		station++ // one that was known, and silent for long, would not be believed for saying the same again
		next := [6]byte{2, 7, 7}
		wire.PutBe16(next[4:], station)
		hop := neigh.Self{MAC: next, IP: 0xcb007102, IP6: addr(peer6).As16(), Has4: true, Has6: true} // the peer, which is on the link
		var ask []byte
		if v6 {
			ask = make([]byte, neigh.FrameLen6)
			ip := addr(pub6).As16()
			hop.Solicit(ask, &ip, nil)
		} else {
			ask = make([]byte, neigh.FrameLen)
			hop.Request(ask, 0xcb007101, nil)
		}
		g.public.Inject(ask)
		g.w.turn()
		g.public.Drain()
		g.private.Inject(g.out(outFrame(60, 'x')[14:]))
		g.w.turn()
		got := g.public.Drain()
		ok := false
		for _, f := range got {
			ok = ok || *wire.Ethernet(f).Dst() == next && len(f) > 100
		}
		if !ok {
			t.Fatalf("the packet went elsewhere: %x; %+v", got, g.client.Neighbours())
		}
		if g.w.pool.Available() != g.all {
			t.Fatalf("%d buffers are missing", g.all-g.w.pool.Available())
		}
	})
}
