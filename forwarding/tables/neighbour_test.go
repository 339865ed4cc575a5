package tables

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// onLinkSpec has two public interfaces on one link and one on another, with
// peers on the network itself and elsewhere.
func onLinkSpec() *Spec {
	a := netip.MustParseAddr
	public := func(link, ip, next string, prefix uint8, queue uint16) PublicInterface {
		return PublicInterface{Interface: Interface{Link: Link{Ifname: link}, IP: a(ip), NextHop: a(next)}, Queue: queue, PrefixLen: prefix}
	}
	s := &Spec{
		Private: &Interface{
			Link: Link{Ifname: "lan0"}, IP: a("10.1.0.1"), NextHop: a("10.1.0.2"),
			OtherIP: a("2001:db8::1"), OtherNextHop: a("2001:db8::2"), OtherNextHopMAC: [6]byte{2, 1},
		},
		Public: []PublicInterface{
			public("wan0", "203.0.113.1", "203.0.113.254", 24, 1),
			public("wan0", "203.0.113.2", "203.0.113.254", 0, 2),
			public("wan1", "198.51.100.1", "198.51.100.254", 25, 3),
		},
	}
	for i, ip := range []string{"203.0.113.9", "203.0.113.7", "192.0.2.1", "198.51.100.9", "198.51.100.129", "203.0.113.254"} {
		s.Routes = append(s.Routes, Route{ID: fmt.Sprint("r", i), Nets: prefixes(fmt.Sprintf("10.%d.0.0/16", i+2)), Gateways: []Gateway{{1, a(ip)}}})
	}
	return s
}

// addresses of entries.
func addresses(entries []NeighbourEntry) (out []string) {
	for i := range entries {
		out = append(out, netip.AddrFrom16(entries[i].IP).Unmap().String())
	}
	return out
}

func slotOf(t *testing.T, p *Port, ip string) uint32 {
	t.Helper()
	b := netip.MustParseAddr(ip).As16()
	e := FindNeighbours(p.Neighbours, &b)
	if len(e) != 1 {
		t.Fatalf("%d neighbours with the address %s", len(e), ip)
	}
	return e[0].Slot
}

func TestNeighbours(t *testing.T) {
	_, tb := build(t, onLinkSpec(), nil, 1)
	for _, c := range []struct {
		p    *Port
		want []string
	}{
		{tb.Private, []string{"10.1.0.2", "2001:db8::2"}},
		{&tb.Workers[0].Public, []string{"203.0.113.7", "203.0.113.9", "203.0.113.254"}},
		{&tb.Workers[1].Public, []string{"203.0.113.7", "203.0.113.9", "203.0.113.254"}}, // of the link, though 2 has none there
		{&tb.Workers[2].Public, []string{"198.51.100.9", "198.51.100.254"}},
	} {
		if got := addresses(c.p.Neighbours); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.p.Link, got, c.want)
		}
	}
	seen := make(map[uint32]bool)
	for i := range tb.Neighbours {
		e := &tb.Neighbours[i]
		if seen[e.Slot] || e.Born != 1 {
			t.Errorf("%+v", e)
		}
		seen[e.Slot] = true
		ip := netip.AddrFrom16(e.IP).Unmap().String()
		if keep := e.Keep == 1; keep != slices.Contains([]string{"10.1.0.2", "2001:db8::2", "203.0.113.254", "198.51.100.254"}, ip) {
			t.Errorf("%s is kept: %v", ip, keep)
		}
		if (e.MAC != [6]byte{}) != (ip == "2001:db8::2") {
			t.Errorf("%s: %x", ip, e.MAC)
		}
	}
	for _, c := range []struct {
		route  string
		worker int
		hop    string // address of the neighbour
		onLink bool
	}{
		{"r0", 0, "203.0.113.9", true},
		{"r0", 1, "203.0.113.254", false}, // worker 1 has no prefix
		{"r0", 2, "198.51.100.254", false},
		{"r1", 0, "203.0.113.7", true},
		{"r2", 0, "203.0.113.254", false},
		{"r3", 2, "198.51.100.9", true},
		{"r4", 2, "198.51.100.254", false}, // beyond the prefix
		{"r5", 0, "203.0.113.254", false},  // the next hop itself
	} {
		p := tb.Peer(uint32(tb.RouteSlot(c.route)), c.worker)
		if want := slotOf(t, &tb.Workers[c.worker].Public, c.hop); p.Hop&^OnLink != want || (p.Hop&OnLink != 0) != c.onLink {
			t.Errorf("%s, worker %d: hop %#x, want slot %d, on the link: %v", c.route, c.worker, p.Hop, want, c.onLink)
		}
	}
	for _, ip := range []string{"203.0.113.8", "0.0.0.0", "255.255.255.255", "::"} {
		b := netip.MustParseAddr(ip).As16()
		if e := FindNeighbours(tb.Workers[0].Public.Neighbours, &b); len(e) != 0 {
			t.Errorf("%s is found: %v", ip, e)
		}
	}
}

// TestNeighboursStay: a neighbour keeps its slot as long as interface, address
// and configured Ethernet address are the same; others get slots that the last
// generation does not use.
func TestNeighboursStay(t *testing.T) {
	s := onLinkSpec()
	_, first := build(t, s, nil, 1)
	was := func(link int, ip string) uint32 { return slotOf(t, &first.Workers[link].Public, ip) }
	used := make(map[uint32]bool)
	for i := range first.Neighbours {
		used[first.Neighbours[i].Slot] = true
	}
	// The interfaces change places, a gateway goes, another comes, and the next
	// hop of the second link gets a configured address.
	s.Public = []PublicInterface{s.Public[2], s.Public[0]}
	s.Public[0].NextHopMAC = [6]byte{2, 9}
	s.Routes[0].Gateways[0].IP = netip.MustParseAddr("203.0.113.77")
	_, second := build(t, s, first, 2)
	wan1, wan0 := &second.Workers[0].Public, &second.Workers[1].Public
	if slotOf(t, wan0, "203.0.113.7") != was(0, "203.0.113.7") || slotOf(t, wan0, "203.0.113.254") != was(0, "203.0.113.254") ||
		slotOf(t, wan1, "198.51.100.9") != was(2, "198.51.100.9") || second.Private.Neighbours[0].Slot != first.Private.Neighbours[0].Slot {
		t.Error("a neighbour that stays has changed its slot")
	}
	for _, n := range []uint32{slotOf(t, wan0, "203.0.113.77"), slotOf(t, wan1, "198.51.100.254")} {
		if used[n] {
			t.Errorf("slot %d of the last generation is given to another", n)
		}
	}
	for i := range second.Neighbours {
		if e := &second.Neighbours[i]; (e.Born == 2) == used[e.Slot] {
			t.Errorf("slot %d is from generation %d", e.Slot, e.Born)
		}
	}
	// In the one after, the slots that came free are used again.
	s.Routes[0].Gateways[0].IP = netip.MustParseAddr("203.0.113.78")
	_, third := build(t, s, second, 3)
	if n := slotOf(t, &third.Workers[1].Public, "203.0.113.78"); n != was(0, "203.0.113.9") && n != was(2, "198.51.100.254") {
		t.Errorf("slot %d, though others are free", n)
	}
}

// TestNeighboursOfVLANs: on one link, each VLAN is a network of its own.
func TestNeighboursOfVLANs(t *testing.T) {
	s := onLinkSpec()
	s.Public[1].VLAN = 7
	_, first := build(t, s, nil, 1)
	a, b := &first.Workers[0].Public, &first.Workers[1].Public
	if got := addresses(b.Neighbours); !slices.Equal(got, []string{"203.0.113.254"}) || slotOf(t, a, "203.0.113.254") == slotOf(t, b, "203.0.113.254") {
		t.Errorf("in the VLAN: %v", got)
	}
	s.Public[1].VLAN = 8
	_, second := build(t, s, first, 2)
	if n := slotOf(t, &second.Workers[1].Public, "203.0.113.254"); n == slotOf(t, b, "203.0.113.254") {
		t.Error("the next hop in another VLAN has the slot of the one before")
	}
}

func TestTooManyNeighbours(t *testing.T) {
	s := onLinkSpec()
	s.Public[0].PrefixLen = 1
	s.Public[1].PrefixLen, s.Public[1].Link.Ifname = 1, "wan2"
	s.Public[2].PrefixLen, s.Public[2].Link.Ifname = 1, "wan3"
	s.Routes = nil
	for i := range 60 {
		r := manyRoutes(i + 1)[i]
		r.Gateways[0].IP = netip.AddrFrom4([4]byte{203, 1, 0, byte(i + 1)})
		s.Routes = append(s.Routes, r)
	}
	if err := Build(memory(roomForTests), s, nil, 1, 60); err != nil { // 3 * 60 + 4 of 248
		t.Fatal(err)
	}
	for range 4 { // each on one more link
		p := s.Public[0]
		p.Queue = uint16(len(s.Public) + 1)
		p.Link.Ifname = fmt.Sprint("wan", p.Queue)
		s.Public = append(s.Public, p)
	}
	if err := Build(memory(roomForTests), s, nil, 1, 60); !errors.Is(err, ErrSpec) {
		t.Errorf("%v, want ErrSpec", err)
	}
}

func TestNeighbourWord(t *testing.T) {
	for s := NeighbourUnknown; s <= NeighbourPermanent; s++ {
		got, mac := SplitNeighbourWord(NeighbourWord(s, 0xffff_020304050607))
		if got != s || mac != [6]byte{2, 3, 4, 5, 6, 7} || s.String() == "invalid" {
			t.Errorf("%s: %s, %x", s, got, mac)
		}
	}
	if NeighbourState(9).String() != "invalid" {
		t.Error("a state that does not exist has a name")
	}
}
