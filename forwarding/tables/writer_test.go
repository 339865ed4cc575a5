package tables

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"vita/asm/lpm"
)

// changing is a gateway whose tables are changed, and the Spec that they are to
// answer like.
type changing struct {
	t          testing.TB
	r          *rand.Rand
	spec       *Spec
	w          *Writer
	mem        [2][]byte
	generation uint64
	rebuilt    int
}

const slotsForTests = 512

func newChanging(t testing.TB, r *rand.Rand, s *Spec) *changing {
	c := &changing{t: t, r: r, spec: s, mem: [2][]byte{memory(generationRoom(slotsForTests)), memory(generationRoom(slotsForTests))}}
	c.rebuild()
	return c
}

// rebuild makes the next generation of the Spec.
func (c *changing) rebuild() {
	c.t.Helper()
	c.generation++
	c.rebuilt++
	var prev *Tables
	if c.w != nil {
		prev = c.w.Tables()
	}
	var err error
	if c.w, err = NewWriter(c.mem[c.generation&1], c.spec, prev, c.generation, slotsForTests); err != nil {
		c.t.Fatal(err)
	}
}

// net returns a net that is not taken yet, and takes it.
func (c *changing) net(taken map[netip.Prefix]bool) netip.Prefix {
	for {
		a := netip.AddrFrom4([4]byte{10, byte(c.r.IntN(3)), byte(c.r.IntN(4)), byte(c.r.IntN(256))})
		n := netip.PrefixFrom(a, 8+c.r.IntN(25)).Masked()
		if c.spec.Private.OtherIP.IsValid() && c.r.IntN(3) == 0 {
			b := [16]byte{0x20, 1, 0xd, 0xb8, byte(c.r.IntN(2)), byte(c.r.IntN(4)), 15: byte(c.r.IntN(4))}
			n = netip.PrefixFrom(netip.AddrFrom16(b), 16+c.r.IntN(113)).Masked()
		}
		if !taken[n] {
			taken[n] = true
			return n
		}
	}
}

// random makes a change, and the routes as they are after it.
func (c *changing) random() (*Change, []Route) {
	after := slices.Clone(c.spec.Routes)
	change := new(Change)
	touched := map[string]bool{}
	for range c.r.IntN(4) {
		if len(after) == 0 {
			break
		}
		i := c.r.IntN(len(after))
		if id := after[i].ID; !touched[id] {
			touched[id] = true
			change.Remove = append(change.Remove, id)
			after = slices.Delete(after, i, i+1)
		}
	}
	taken := map[netip.Prefix]bool{}
	for i := range after {
		for _, n := range after[i].Nets {
			taken[n] = true
		}
	}
	for range c.r.IntN(4) {
		id := fmt.Sprint("r", c.r.IntN(60))
		if touched[id] {
			continue
		}
		touched[id] = true
		route := Route{ID: id, SPI: c.r.Uint32()}
		i := slices.IndexFunc(after, func(r Route) bool { return r.ID == id })
		if i >= 0 && c.r.IntN(2) == 0 { // some of it stays
			route.Nets = slices.Clone(after[i].Nets[:1+c.r.IntN(len(after[i].Nets))])
		}
		for range 3 - len(route.Nets) {
			if len(route.Nets) == 0 || c.r.IntN(2) == 0 {
				route.Nets = append(route.Nets, c.net(taken))
			}
		}
		for q := range uint16(3) {
			if len(route.Gateways) == 0 || c.r.IntN(2) == 0 {
				route.Gateways = append(route.Gateways, Gateway{q + 1, netip.AddrFrom4([4]byte{203, 0, byte(112 + c.r.IntN(2)), byte(10 + c.r.IntN(30))})})
			}
		}
		if c.r.IntN(8) == 0 && c.w.udp > 0 || c.r.IntN(60) == 0 {
			route.UDP = &UDP{Port: uint16(c.r.IntN(3)), Keepalive: uint16(c.r.IntN(2) * 20), Moves: c.r.IntN(2) == 0}
		}
		change.Set = append(change.Set, route)
		if i >= 0 {
			after[i] = route
		} else {
			after = append(after, route)
		}
	}
	return change, after
}

// same compares the tables with new ones of the same routes.
func (c *changing) same() {
	c.t.Helper()
	mem := memory(generationRoom(slotsForTests))
	if err := Build(mem, c.spec, nil, 1, slotsForTests); err != nil {
		c.t.Fatal(err)
	}
	fresh, err := Open(mem)
	if err != nil {
		c.t.Fatal(err)
	}
	live, err := Open(c.mem[c.generation&1]) // what is checked of new tables holds for changed ones
	if err != nil {
		c.t.Fatal(err)
	}
	if live.UDPPort != fresh.UDPPort || live.Count() != fresh.Count() {
		c.t.Fatalf("port %d, %d routes; anew %d, %d", live.UDPPort, live.Count(), fresh.UDPPort, fresh.Count())
	}
	slots, rows := map[int]string{}, map[uint32]string{}
	for i := range c.spec.Routes {
		r := &c.spec.Routes[i]
		a, b := live.RouteSlot(r.ID), fresh.RouteSlot(r.ID)
		if a < 0 || slots[a] != "" {
			c.t.Fatalf("route %s is in slot %d, as is %q", r.ID, a, slots[a])
		}
		slots[a] = r.ID
		if x, y := live.Routes[a].load(), fresh.Routes[b].load(); x.SPI != y.SPI || rows[x.row] != "" {
			c.t.Fatalf("route %s: %+v, anew %+v; its row is that of %q", r.ID, x, y, rows[x.row])
		} else {
			rows[x.row] = r.ID
		}
		for w := range live.Workers {
			x, y := live.Peer(uint32(a), w), fresh.Peer(uint32(b), w)
			if whose(live, x.Hop) != whose(fresh, y.Hop) {
				c.t.Fatalf("route %s, worker %d: next hop %v, anew %v", r.ID, w, whose(live, x.Hop), whose(fresh, y.Hop))
			}
			if x.Hop, y.Hop = 0, 0; x != y {
				c.t.Fatalf("route %s, worker %d: %+v, anew %+v", r.ID, w, x, y)
			}
		}
	}
	for slot := range live.Routes {
		if live.Has(slot) != (slots[slot] != "") {
			c.t.Fatalf("slot %d: a route is there: %v, should be %q", slot, live.Has(slot), slots[slot])
		}
	}
	for _, a := range c.addresses() {
		if x, y := routeOf(live, a), routeOf(fresh, a); x != y {
			c.t.Fatalf("%v goes to %q, anew to %q", a, x, y)
		}
	}
}

// whose returns the neighbour in a slot, without what differs between tables.
func whose(t *Tables, hop uint32) (e NeighbourEntry) {
	for _, n := range t.Neighbours {
		if n.Slot == hop&^OnLink {
			e = n
		}
	}
	e.Slot, e.Born, e.Keep = 0, 0, uint8(hop>>31)
	return e
}

func routeOf(t *Tables, a netip.Addr) string {
	out := []uint32{0}
	if a.Is4() {
		t.LPM.Lookup(out, []uint32{v4(a.String())})
	} else {
		t.LPM6.Lookup(out, [][16]byte{a.As16()})
	}
	if out[0] == lpm.Miss {
		return ""
	}
	return t.RouteID(int(out[0]))
}

func (c *changing) addresses() (out []netip.Addr) {
	for i := range c.spec.Routes {
		for _, n := range c.spec.Routes[i].Nets {
			out = append(out, n.Addr())
			for _, a := range []netip.Addr{n.Addr().Prev(), n.Addr().Next()} {
				if a.IsValid() {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

func changingSpec(other, onLink bool) *Spec {
	s := sampleSpec()
	s.Routes = nil
	if onLink { // some gateways are on its network: only those that are known are no reason for new tables
		s.Public[1].PrefixLen = 24
	}
	if other {
		s.Private.OtherIP, s.Private.OtherNextHop = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	}
	return s
}

// TestChangesAnswerLikeNewTables makes random changes, of which some are taken
// back, some are refused and some need new tables, and compares.
func TestChangesAnswerLikeNewTables(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	changed, aborted, refused, rebuilt := 0, 0, 0, 0
	for round := range 6 {
		c := newChanging(t, r, changingSpec(round%2 == 0, round == 0))
		for range 120 {
			change, after := c.random()
			before := map[string]int{}
			for i := range c.spec.Routes {
				before[c.spec.Routes[i].ID], _ = c.w.Slot(c.spec.Routes[i].ID)
			}
			p, err := c.w.Prepare(change)
			switch {
			case errors.Is(err, ErrRebuild):
				c.same() // nothing has changed
				c.spec.Routes = after
				c.rebuild()
			case err != nil:
				t.Fatal(err)
			case r.IntN(6) == 0:
				c.w.Abort(p)
				aborted++
			default:
				if len(c.spec.Routes) > 0 && r.IntN(4) == 0 {
					c.w.Abort(p)
					c.steal()
					refused++
					if p, err = c.w.Prepare(change); err != nil {
						t.Fatal(err)
					}
				}
				c.w.Commit(p)
				c.spec.Routes = after
				c.same()
				c.w.Settle(p)
				changed++
			}
			c.same()
			for i := range c.spec.Routes {
				id := c.spec.Routes[i].ID
				if slot, had := before[id]; had && !slices.Contains(change.Remove, id) {
					if now, ok := c.w.Slot(id); !ok || now != slot {
						t.Fatalf("route %s has moved from slot %d to %d", id, slot, now)
					}
				}
			}
		}
		rebuilt += c.rebuilt - 1
	}
	t.Logf("%d changes in place, %d taken back, %d refused, %d times built anew", changed, aborted, refused, rebuilt)
	if changed < 100 || aborted < 20 || refused < 10 || rebuilt == 0 || rebuilt > changed {
		t.Errorf("%d changes in place, %d taken back, %d refused, %d times built anew", changed, aborted, refused, rebuilt)
	}
}

// steal asks for a net of another route: refused, and nothing is different.
func (c *changing) steal() {
	c.t.Helper()
	victim := c.spec.Routes[c.r.IntN(len(c.spec.Routes))]
	thief := Route{ID: "thief", SPI: 1, Nets: victim.Nets[:1], Gateways: []Gateway{{1, netip.MustParseAddr("192.0.2.1")}}}
	_, err := c.w.Prepare(&Change{Set: []Route{thief}})
	var ne *NetError
	if !errors.As(err, &ne) || !errors.Is(err, ErrSpec) || ne.Owner != victim.ID || ne.Route != "thief" || ne.Net != victim.Nets[0] {
		c.t.Fatalf("%v", err)
	}
	c.same()
}

// TestNetsPassFromRouteToRoute exchanges the nets of two routes in one change.
func TestNetsPassFromRouteToRoute(t *testing.T) {
	s := sampleSpec()
	c := newChanging(t, rand.New(rand.NewPCG(1, 1)), s)
	a, b := s.Routes[0], s.Routes[1]
	a.Nets, b.Nets = b.Nets, a.Nets
	p, err := c.w.Prepare(&Change{Set: []Route{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	c.w.Commit(p)
	s.Routes = []Route{a, b}
	c.same()
	if got := routeOf(c.w.Tables(), netip.MustParseAddr("10.3.7.1")); got != "two" {
		t.Errorf("10.3.7.1 goes to %q", got)
	}
}

// TestChangesThatNeedNewTables are refused with ErrRebuild, whatever else is in
// them, and leave the tables as they are, byte for byte of what is in use.
func TestChangesThatNeedNewTables(t *testing.T) {
	far := []Gateway{{1, netip.MustParseAddr("192.0.2.1")}}
	for name, change := range map[string]func(*Spec) *Change{
		"first route in UDP": func(*Spec) *Change {
			return &Change{Set: []Route{{ID: "new", SPI: 1, Nets: prefixes("10.77.0.0/16"), Gateways: far, UDP: new(UDP)}}}
		},
		"last route in UDP": func(s *Spec) *Change {
			s.Routes[0].UDP = new(UDP)
			return &Change{Remove: []string{"one"}}
		},
		"new station on the link": func(s *Spec) *Change {
			s.Public[0].PrefixLen = 24
			return &Change{Set: []Route{{ID: "new", SPI: 1, Nets: prefixes("10.77.0.0/16"), Gateways: []Gateway{{1, netip.MustParseAddr("203.0.113.77")}}}}}
		},
		"no interfaces": func(s *Spec) *Change {
			s.Private, s.Public = nil, nil
			return &Change{Remove: []string{"one"}}
		},
		"more routes than there is room for": func(*Spec) *Change {
			return &Change{Set: manyRoutes(slotsForTests)}
		},
		"many more nets": func(*Spec) *Change {
			r := Route{ID: "new", SPI: 1, Gateways: far}
			for i := range 40 {
				r.Nets = append(r.Nets, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, byte(i), 0}), 24))
			}
			return &Change{Set: []Route{r}}
		},
	} {
		s := sampleSpec()
		ch := change(s)
		c := newChanging(t, rand.New(rand.NewPCG(1, 1)), s)
		free := fmt.Sprint(len(c.w.slots), len(c.w.rows), c.w.udp)
		header := slices.Clone(c.mem[1][:256])
		if _, err := c.w.Prepare(ch); !errors.Is(err, ErrRebuild) {
			t.Errorf("%s: %v", name, err)
		}
		if now := fmt.Sprint(len(c.w.slots), len(c.w.rows), c.w.udp); now != free || !bytes.Equal(header, c.mem[1][:256]) {
			t.Errorf("%s: free before %s, after %s", name, free, now)
		}
		c.same()
	}
}

func TestChangesRefused(t *testing.T) {
	far := []Gateway{{1, netip.MustParseAddr("192.0.2.1")}}
	for name, change := range map[string]*Change{
		"route that is not there": {Remove: []string{"nobody"}},
		"removed twice":           {Remove: []string{"one", "one"}},
		"set twice":               {Set: []Route{{ID: "x", Nets: prefixes("10.9.0.0/16"), Gateways: far}, {ID: "x", Nets: prefixes("10.8.0.0/16"), Gateways: far}}},
		"without a net":           {Set: []Route{{ID: "x", Gateways: far}}},
		"without a gateway":       {Set: []Route{{ID: "x", Nets: prefixes("10.9.0.0/16")}}},
		"without an id":           {Set: []Route{{Nets: prefixes("10.9.0.0/16"), Gateways: far}}},
		"net of both":             {Set: []Route{{ID: "x", Nets: prefixes("10.9.0.0/16"), Gateways: far}, {ID: "y", Nets: prefixes("10.9.0.0/16"), Gateways: far}}},
		"gateway of IPv6":         {Set: []Route{{ID: "x", Nets: prefixes("10.9.0.0/16"), Gateways: []Gateway{{1, netip.MustParseAddr("2001:db8::1")}}}}},
	} {
		c := newChanging(t, rand.New(rand.NewPCG(1, 1)), sampleSpec())
		if _, err := c.w.Prepare(change); !errors.Is(err, ErrSpec) && !errors.Is(err, lpm.ErrPrefix) {
			t.Errorf("%s: %v", name, err)
		}
		c.same()
	}
}

func BenchmarkChange(b *testing.B) {
	s := sampleSpec()
	s.Routes = manyRoutes(60000)
	w, err := NewWriter(memory(generationRoom(70000)), s, nil, 1, 70000)
	if err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		r := s.Routes[i%len(s.Routes)]
		i++
		for _, c := range []*Change{{Remove: []string{r.ID}}, {Set: []Route{r}}} {
			p, err := w.Prepare(c)
			if err != nil {
				b.Fatal(err)
			}
			w.Commit(p)
			w.Settle(p)
		}
	}
}
