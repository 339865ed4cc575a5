package tables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"testing"

	"vita/asm/lpm"
	"vita/internal/arena"
)

// memory returns aligned memory for tests.
func memory(n int) []byte {
	a, err := arena.Create(n)
	if err != nil {
		panic(err)
	}
	return a.Bytes()
}

func sampleSpec() *Spec {
	return &Spec{
		Private: &Interface{Link: Link{Ifname: "lan0"}, IP: netip.MustParseAddr("10.1.0.1"), NextHop: netip.MustParseAddr("10.1.0.2")},
		Public: []PublicInterface{
			{
				Interface: Interface{
					Link: Link{PCI: "0000:01:00.0"}, IP: netip.MustParseAddr("203.0.113.1"), NextHop: netip.MustParseAddr("203.0.113.9"),
					MAC: [6]byte{2, 0, 0, 0, 0, 9}, NextHopMAC: [6]byte{2, 0, 0, 0, 0, 8},
				},
				Queue: 1, NATIP: netip.MustParseAddr("198.51.100.1"),
			},
			{
				Interface: Interface{Link: Link{Ifname: "wan1"}, IP: netip.MustParseAddr("203.0.113.3"), NextHop: netip.MustParseAddr("203.0.113.9")},
				Queue:     7, DeviceQueue: 2,
			},
		},
		Routes: []Route{
			{ID: "one", SPI: 1001, Nets: prefixes("10.2.0.0/16", "10.3.7.0/24"), Gateways: []Gateway{{7, netip.MustParseAddr("192.0.2.7")}, {2, netip.MustParseAddr("192.0.2.2")}}},
			{ID: "two", SPI: 1002, Nets: prefixes("10.2.128.0/17"), Gateways: []Gateway{{1, netip.MustParseAddr("192.0.2.1")}}},
		},
		TFC: true,
	}
}

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

const roomForTests = 1 << 20

func build(t testing.TB, s *Spec, prev *Tables, generation uint64) ([]byte, *Tables) {
	t.Helper()
	b := memory(roomForTests)
	if err := Build(b, s, prev, generation, 64); err != nil {
		t.Fatal(err)
	}
	tb, err := Open(b)
	if err != nil {
		t.Fatal(err)
	}
	return b, tb
}

func v4(a string) uint32 {
	b := netip.MustParseAddr(a).As4()
	return binary.BigEndian.Uint32(b[:])
}

func lookup(t *Tables, a string) uint32 {
	out := []uint32{0}
	t.LPM.Lookup(out, []uint32{v4(a)})
	return out[0]
}

func TestBuildAndOpen(t *testing.T) {
	_, tb := build(t, sampleSpec(), nil, 5)
	if tb.Generation != 5 || tb.MTU != DefaultMTU || !tb.TFC || tb.ProtocolPort != DefaultProtocolPort {
		t.Errorf("%+v", tb)
	}
	if p := tb.Private; p == nil || p.Link.Ifname != "lan0" || p.MAC != [6]byte{0x2a, 0xbb, 10, 1, 0, 1} || p.NextHop.String() != "10.1.0.2" {
		t.Errorf("private %+v", p)
	}
	if len(tb.Workers) != 2 {
		t.Fatalf("%d workers", len(tb.Workers))
	}
	w := tb.Workers[0]
	if w.Queue != 1 || w.Public.Link.PCI != "0000:01:00.0" || w.Public.MAC != [6]byte{2, 0, 0, 0, 0, 9} ||
		w.Public.NextHopMAC != [6]byte{2, 0, 0, 0, 0, 8} || w.NATIP.String() != "198.51.100.1" {
		t.Errorf("worker 0 %+v", w)
	}
	w = tb.Workers[1]
	if w.Queue != 7 || w.DeviceQueue != 2 || w.Public.MAC != [6]byte{0x3a, 0xbb, 203, 0, 113, 3} || w.NATIP.IsValid() {
		t.Errorf("worker 1 %+v", w)
	}
	one, two := tb.RouteSlot("one"), tb.RouteSlot("two")
	if one < 0 || two < 0 || one == two || tb.RouteSlot("three") >= 0 || tb.RouteID(one) != "one" || tb.Routes[two].SPI != 1002 {
		t.Fatalf("routes in slots %d and %d", one, two)
	}
	for a, want := range map[string]uint32{
		"10.2.1.1": uint32(one), "10.3.7.255": uint32(one), "10.2.200.1": uint32(two), "10.3.8.0": lpm.Miss,
	} {
		if got := lookup(tb, a); got != want {
			t.Errorf("%s is found in slot %d, want %d", a, got, want)
		}
	}
	// A queue's own gateway, else that of the lowest queue.
	for _, c := range []struct {
		route, worker int
		want          string
	}{{one, 0, "192.0.2.2"}, {one, 1, "192.0.2.7"}, {two, 0, "192.0.2.1"}, {two, 1, "192.0.2.1"}} {
		if got := tb.Peer(uint32(c.route), c.worker).IP; got != netip.MustParseAddr(c.want).As16() {
			t.Errorf("peer of route %d for worker %d is %#x, want %s", c.route, c.worker, got, c.want)
		}
	}
	if none := (PeerEntry{}); tb.Peer(9999, 0) != none || tb.Peer(0, 2) != none || tb.Peer(0, -1) != none {
		t.Error("a peer outside the table was found")
	}
}

// sampleSpec6 is a gateway of IPv6.
func sampleSpec6() *Spec {
	a := netip.MustParseAddr
	return &Spec{
		Private: &Interface{Link: Link{Ifname: "lan0"}, IP: a("2001:db8:1::1"), NextHop: a("2001:db8:1::2")},
		Public: []PublicInterface{{
			Interface: Interface{Link: Link{Ifname: "wan0"}, IP: a("2001:db8:f::1"), NextHop: a("fe80::1")},
			Queue:     1, NATIP: a("2001:db8:e::1"),
		}},
		Routes: []Route{
			{ID: "one", SPI: 1, Nets: prefixes("2001:db8:2::/48", "2001:db8:3::77/128"), Gateways: []Gateway{{1, a("2001:db8:f::2")}}},
			{ID: "two", SPI: 2, Nets: prefixes("2001:db8:2:8000::/49", "::/0"), Gateways: []Gateway{{1, a("2001:db8:f::3")}}},
		},
	}
}

func TestIPv6(t *testing.T) {
	_, tb := build(t, sampleSpec6(), nil, 1)
	if !tb.V6 || tb.Workers[0].NATIP.String() != "2001:db8:e::1" || tb.Workers[0].Public.NextHop.String() != "fe80::1" {
		t.Errorf("%+v", tb)
	}
	one, two := uint32(tb.RouteSlot("one")), uint32(tb.RouteSlot("two"))
	for a, want := range map[string]uint32{
		"2001:db8:2::1": one, "2001:db8:2:7fff::1": one, "2001:db8:2:8000::1": two, "2001:db8:3::77": one, "2001:db8:3::78": two, "fd00::": two,
	} {
		out := []uint32{0}
		tb.LPM6.Lookup(out, [][16]byte{netip.MustParseAddr(a).As16()})
		if out[0] != want {
			t.Errorf("%s is found in slot %d, want %d", a, out[0], want)
		}
	}
	if tb.Peer(two, 0).IP != netip.MustParseAddr("2001:db8:f::3").As16() || lookup(tb, "10.2.0.1") != lpm.Miss {
		t.Error("peer, or a net of the other family")
	}
	for name, change := range map[string]func(*Spec){
		"IPv4 gateway":   func(s *Spec) { s.Routes[0].Gateways[0].IP = netip.MustParseAddr("192.0.2.1") },
		"IPv4 net":       func(s *Spec) { s.Routes[0].Nets = prefixes("10.0.0.0/8") },
		"IPv4 public":    func(s *Spec) { s.Public[0].IP = netip.MustParseAddr("192.0.2.1") },
		"IPv4 nat-ip":    func(s *Spec) { s.Public[0].NATIP = netip.MustParseAddr("192.0.2.1") },
		"zone":           func(s *Spec) { s.Public[0].NextHop = netip.MustParseAddr("fe80::1%eth0") },
		"mapped private": func(s *Spec) { s.Private.IP = netip.MustParseAddr("::ffff:10.0.0.1") },
	} {
		s := sampleSpec6()
		change(s)
		if err := Build(memory(roomForTests), s, nil, 1, 64); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: %v, want ErrSpec", name, err)
		}
	}
}

// TestMurmur has values of another program, which gives 0xba6bd213 for "test" as
// the hash's author does.
func TestMurmur(t *testing.T) {
	for in, want := range map[[16]byte]uint32{
		{}: 0x8134cdf8,
		netip.MustParseAddr("2001:db8:1::1").As16(): 0x15f15b5e,
	} {
		if got := murmur3(in); got != want {
			t.Errorf("%x: %#x, want %#x", in, got, want)
		}
	}
}

func TestSlotsStay(t *testing.T) {
	s := sampleSpec()
	_, first := build(t, s, nil, 1)
	one, two, seven := first.RouteSlot("one"), first.RouteSlot("two"), first.WorkerSlot(7)
	s.Routes = []Route{
		{ID: "new", SPI: 1003, Nets: prefixes("10.9.0.0/16"), Gateways: []Gateway{{1, netip.MustParseAddr("192.0.2.9")}}},
		s.Routes[1],
	}
	s.Public = []PublicInterface{s.Public[1], s.Public[0]}
	s.Public[1].Queue = 3
	_, second := build(t, s, first, 2)
	if second.RouteSlot("two") != two || second.WorkerSlot(7) != seven {
		t.Error("a route or worker that stays has changed its slot")
	}
	// What hangs on the old slots ends only later.
	if n := second.RouteSlot("new"); n == one || n == two {
		t.Errorf("the new route got slot %d, which a route of the last generation has", n)
	}
	if n := second.WorkerSlot(3); n == seven || n == first.WorkerSlot(1) {
		t.Errorf("the new worker got slot %d, which one of the last generation has", n)
	}
	s.Routes = append(s.Routes, Route{ID: "three", SPI: 1, Nets: prefixes("10.10.0.0/16"), Gateways: []Gateway{{1, netip.MustParseAddr("192.0.2.9")}}})
	_, third := build(t, s, second, 3)
	if third.RouteSlot("three") != one {
		t.Errorf("slot %d is free again, but the new route got %d", one, third.RouteSlot("three"))
	}
}

func TestEmptySpec(t *testing.T) {
	_, tb := build(t, &Spec{}, nil, 1)
	if tb.Private != nil || len(tb.Workers) != 0 || lookup(tb, "10.2.0.1") != lpm.Miss {
		t.Error("an interface, a worker or a route in tables of nothing")
	}
	for slot := range tb.Routes {
		if tb.Has(slot) || tb.RouteID(slot) != "" {
			t.Errorf("a route in slot %d", slot)
		}
	}
}

func TestSpecRefused(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"no private":      func(s *Spec) { s.Private = nil },
		"no link":         func(s *Spec) { s.Private.Link = Link{} },
		"two links":       func(s *Spec) { s.Private.Link = Link{PCI: "a", Ifname: "b"} },
		"IPv6":            func(s *Spec) { s.Private.IP = netip.MustParseAddr("2001:db8::1") },
		"no next hop":     func(s *Spec) { s.Public[0].NextHop = netip.Addr{} },
		"group MAC":       func(s *Spec) { s.Public[0].NextHopMAC = [6]byte{1} },
		"queue 0":         func(s *Spec) { s.Public[0].Queue = 0 },
		"queue twice":     func(s *Spec) { s.Public[0].Queue = 7 },
		"IPv6 nat-ip":     func(s *Spec) { s.Public[0].NATIP = netip.MustParseAddr("2001:db8::1") },
		"id twice":        func(s *Spec) { s.Routes[0].ID = "two" },
		"no id":           func(s *Spec) { s.Routes[0].ID = "" },
		"long id":         func(s *Spec) { s.Routes[0].ID = fmt.Sprintf("%0256d", 0) },
		"no net":          func(s *Spec) { s.Routes[0].Nets = nil },
		"no gateway":      func(s *Spec) { s.Routes[0].Gateways = nil },
		"net twice":       func(s *Spec) { s.Routes[0].Nets = prefixes("10.2.129.1/17") },
		"IPv6 net":        func(s *Spec) { s.Routes[0].Nets = prefixes("2001:db8::/32") },
		"IPv6 gateway":    func(s *Spec) { s.Routes[0].Gateways[0].IP = netip.MustParseAddr("2001:db8::1") },
		"gateway queue":   func(s *Spec) { s.Routes[0].Gateways[0].Queue = 2 },
		"too many routes": func(s *Spec) { s.Routes = manyRoutes(65) },
		"prefix length":   func(s *Spec) { s.Public[0].PrefixLen = 33 },
		"other ip alone":  func(s *Spec) { s.Private.OtherIP = netip.MustParseAddr("2001:db8::1") },
		"other hop alone": func(s *Spec) { s.Private.OtherNextHop = netip.MustParseAddr("2001:db8::1") },
		"other MAC alone": func(s *Spec) { s.Private.OtherNextHopMAC = [6]byte{2} },
		"other is the same": func(s *Spec) {
			s.Private.OtherIP, s.Private.OtherNextHop = s.Private.IP, s.Private.NextHop
		},
		"other group MAC": func(s *Spec) {
			s.Private.OtherIP, s.Private.OtherNextHop = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
			s.Private.OtherNextHopMAC = [6]byte{3}
		},
		"other in public": func(s *Spec) {
			s.Public[0].OtherIP, s.Public[0].OtherNextHop = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
		},
		"too many links": func(s *Spec) {
			for i := range MaxWorkers + 1 {
				s.Public = append(s.Public, s.Public[0])
				s.Public[i].Queue = uint16(i + 1)
			}
		},
	} {
		s := sampleSpec()
		change(s)
		b := memory(roomForTests)
		if err := Build(b, s, nil, 1, 64); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: %v, want ErrSpec", name, err)
		}
		if _, err := Open(b); err == nil {
			t.Errorf("%s: the half-built tables open", name)
		}
	}
	for _, size := range []int{0, 100, 600, 3000, 30_000} {
		if err := Build(memory(size + 8)[:size], sampleSpec(), nil, 1, 64); !errors.Is(err, ErrSpec) {
			t.Errorf("%d bytes: %v, want ErrSpec", size, err)
		}
	}
}

func manyRoutes(n int) (out []Route) {
	for i := range n {
		out = append(out, Route{
			ID: fmt.Sprint("r", i), SPI: uint32(i), Gateways: []Gateway{{1, netip.MustParseAddr("192.0.2.1")}},
			Nets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)},
		})
	}
	return out
}

// use calls everything that a worker calls on tables, with indexes of all kinds.
func use(t *Tables) {
	for i := range t.Workers {
		if w := &t.Workers[i]; w.Slot >= WorkerSlots || w.Queue == 0 || !w.Public.IP.Is4() {
			panic("a worker that cannot be")
		}
	}
	for i := -1; i <= len(t.Routes); i++ {
		_ = t.RouteID(i)
		for w := -1; w <= len(t.Workers); w++ {
			t.Peer(uint32(i), w)
		}
	}
	t.RouteSlot("one")
	t.WorkerSlot(7)
	out := make([]uint32, 3)
	t.LPM.Lookup(out, []uint32{0, 0x0a020001, 1<<32 - 1})
}

func TestOpenRefusesDamage(t *testing.T) {
	b, _ := build(t, sampleSpec(), nil, 1)
	used := int(arena.Ptr[genHeader](b).Used)
	header := arena.Size[genHeader](1)
	accepted := 0
	for i := range int(arena.Ptr[genHeader](b).lpm4.Off) {
		for _, x := range []byte{1, 0x80, 0xff} {
			b[i] ^= x
			if tb, err := Open(b); err == nil {
				accepted++
				use(tb)
			}
			b[i] ^= x
		}
	}
	// Numbers without a rule, as the MTU, may be anything.
	if accepted == 0 {
		t.Error("no change was accepted")
	}
	for _, c := range []struct{ at, size int }{
		{0, 8}, {8, 4}, {12, 4}, {24, 8}, // magic, version, ready, used
	} {
		for i := range c.size {
			b[c.at+i] ^= 0x40
			if _, err := Open(b); err == nil && c.at != 24 {
				t.Errorf("byte %d of the header changed: accepted", c.at+i)
			}
			b[c.at+i] ^= 0x40
		}
	}
	for n := range used {
		if n < header || n%97 == 0 {
			if _, err := Open(b[:n]); err == nil {
				t.Fatalf("tables of %d bytes open in %d", used, n)
			}
		}
	}
	if _, err := Open(b[1:]); err == nil {
		t.Error("misaligned tables open")
	}
}

func FuzzOpen(f *testing.F) {
	small := &Spec{MTU: 1400}
	b, _ := build(f, small, nil, 1)
	f.Add(uint32(0), []byte{}, b[:arena.Size[genHeader](1)])
	b, _ = build(f, sampleSpec(), nil, 1)
	f.Add(uint32(40), []byte{1, 2, 3}, b[:2000])
	whole, _ := build(f, sampleSpec(), nil, 1)
	scratch := memory(roomForTests)
	f.Fuzz(func(t *testing.T, at uint32, change, front []byte) {
		copy(scratch, whole)
		copy(scratch, front)
		copy(scratch[int(at)%4096:], change)
		if tb, err := Open(scratch); err == nil {
			use(tb)
		}
	})
}

func TestMemory(t *testing.T) {
	o := Options{MaxRoutes: 16, MaxSAs: 8}
	size, err := Size(o)
	if err != nil {
		t.Fatal(err)
	}
	b := memory(size)
	m, err := Format(b, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.SAs) != 8 || len(m.Workers) != WorkerSlots || len(m.ActiveRow(WorkerSlots-1)) != 16 {
		t.Errorf("%d SAs, %d workers, %d routes", len(m.SAs), len(m.Workers), len(m.ActiveRow(0)))
	}
	if m.Active(-1, 0) != nil || m.Active(0, 16) != nil || m.Active(WorkerSlots, 0) != nil || m.Active(0, -1) != nil {
		t.Error("a word outside the table was found")
	}
	*m.Active(3, 4) = 7
	if m.ActiveRow(3)[4] != 7 {
		t.Error("Active and ActiveRow differ")
	}
	m.Publish(Word(9, 1))
	if g, p := Split(m.Current()); g != 9 || p != 1 {
		t.Errorf("generation %d in place %d", g, p)
	}
	if err := Build(m.Tables(1), sampleSpec(), nil, 9, 16); err != nil {
		t.Error(err)
	}
	if m.Header.SATop != 0 || m.Header.Current&7 == 0 {
		t.Error("areas overlap")
	}
	again, err := OpenMemory(b)
	if err != nil || again.Current() != m.Current() {
		t.Fatalf("open again: %v", err)
	}
	for i, want := range map[int]error{0: ErrCorrupt, 8: ErrVersion, 12: ErrCorrupt, 16: ErrCorrupt, 32: ErrCorrupt, 40: ErrCorrupt, 64: ErrCorrupt, 96: ErrCorrupt} {
		b[i] ^= 0x10
		if _, err := OpenMemory(b); !errors.Is(err, want) {
			t.Errorf("byte %d changed: %v, want %v", i, err, want)
		}
		b[i] ^= 0x10
	}
	if _, err := OpenMemory(b[:size-1]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("cut short: %v", err)
	}
	if _, err := Size(Options{MaxSAs: MaxSAs + 1}); err == nil {
		t.Error("too many SAs are accepted")
	}
}

func FuzzOpenMemory(f *testing.F) {
	o := Options{MaxRoutes: 1, MaxSAs: 2}
	size, err := Size(o)
	if err != nil {
		f.Fatal(err)
	}
	b := memory(size)
	if _, err := Format(b, o); err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte(nil), b[:arena.Size[Header](1)]...))
	f.Fuzz(func(t *testing.T, front []byte) {
		if len(front) > arena.Size[Header](1) {
			return
		}
		copy(b, front)
		if m, err := OpenMemory(b); err == nil && (len(m.SAs) != 2 || len(m.ActiveRow(0)) != 1) {
			t.Fatal("memory of another size opened")
		}
	})
}

func TestSARef(t *testing.T) {
	seen := make(map[uint32]bool)
	for use := range uint32(5000) {
		ref := SARef(5, use)
		if SAIndex(ref) != 5 || ref>>refIndexBits == 0 {
			t.Fatalf("use %d: reference %#x", use, ref)
		}
		seen[ref] = true
	}
	if len(seen) != 1<<(32-refIndexBits)-1 {
		t.Errorf("%d different references", len(seen))
	}
	if SAIndex(SARef(MaxSAs-1, 1)) != MaxSAs-1 {
		t.Error("the highest index does not fit")
	}
}

func TestCounters(t *testing.T) {
	seen := make(map[string]bool)
	for c := range Counter(NumCounters) {
		if c.Path() == "" || c.Doc() == "" || seen[c.Path()] {
			t.Errorf("counter %d: %q, %q", c, c.Path(), c.Doc())
		}
		seen[c.Path()] = true
	}
	if PrivateRouterRouteErrors.String() != "gateway-state/private-router/route-errors" || NoCounter.Path() != "" || NoCounter.Doc() != "" {
		t.Error("a path is wrong")
	}
	// The ICMP groups are alike, which icmp.Count relies on.
	for i := range PrivateICMP4EchoRequest - PrivateICMP4RxErrors + 1 {
		leaf := path.Base((PrivateICMP4RxErrors + i).Path())
		for _, group := range []Counter{PublicICMP4RxErrors, InboundICMP4RxErrors} {
			if got := path.Base((group + i).Path()); got != leaf {
				t.Errorf("%s has %s where private-icmp4 has %s", group, got, leaf)
			}
		}
	}
}

func TestRing(t *testing.T) {
	r := new(Ring)
	peer := netip.MustParseAddrPort("192.0.2.1:303")
	if r.Next() != nil || !r.Empty() {
		t.Fatal("a new ring is not empty")
	}
	for round := range 3 {
		for i := range RingSize {
			if ok, wake := r.Put(peer, []byte{byte(round), byte(i)}); !ok || wake {
				t.Fatalf("message %d: ok %v, wake %v", i, ok, wake)
			}
		}
		if ok, _ := r.Put(peer, nil); ok {
			t.Fatal("a full ring takes a message")
		}
		if r.Arm() {
			t.Fatal("armed with messages waiting")
		}
		for i := range RingSize {
			e := r.Next()
			if e == nil || e.Peer() != peer || string(e.Payload()) != string([]byte{byte(round), byte(i)}) {
				t.Fatalf("message %d: %v", i, e)
			}
			r.Release()
		}
		r.armed = 0
	}
	if !r.Arm() {
		t.Fatal("an empty ring does not arm")
	}
	if ok, wake := r.Put(peer, make([]byte, MaxPayload)); !ok || !wake {
		t.Fatalf("ok %v, wake %v", ok, wake)
	}
	if ok, wake := r.Put(peer, nil); !ok || wake {
		t.Fatalf("woken twice: ok %v, wake %v", ok, wake)
	}
	if ok, _ := r.Put(peer, make([]byte, MaxPayload+1)); ok {
		t.Fatal("too long a message is taken")
	}
	// Counters that the other side has spoilt lead nowhere.
	r.head = r.tail + RingSize + 1
	if r.Next() != nil || !r.Empty() {
		t.Fatal("a ring with impossible counters was not reset")
	}
	r.Put(peer, []byte("x"))
	e := r.Next()
	e.len = 65535
	if len(e.Payload()) != MaxPayload {
		t.Fatal("a payload leaves its entry")
	}
}

func TestText(t *testing.T) {
	var b [4]byte
	for _, c := range []struct{ in, want string }{{"", ""}, {"ab", "ab"}, {"abcd", "abcd"}, {"abcde", "abcd"}, {"x", "x"}} {
		SetText(b[:], c.in)
		if Text(b[:]) != c.want {
			t.Errorf("%q is read as %q", c.in, Text(b[:]))
		}
	}
}

func BenchmarkBuild1000(b *testing.B) {
	s := sampleSpec()
	s.Routes = manyRoutes(1000)
	mem := memory(8 << 20)
	for b.Loop() {
		if err := Build(mem, s, nil, 1, 4096); err != nil {
			b.Fatal(err)
		}
	}
}
