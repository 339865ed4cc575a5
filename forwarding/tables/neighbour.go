package tables

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"vita/internal/arena"
)

// A neighbour is a station that frames are handed to: the next hop of an
// interface, or a remote gateway on the same network. What is known of one lies
// in the shared memory, in a slot that it keeps from one generation to the next
// as a route does, and is written by workers alone (forwarding/neigh has the
// rules). A generation says which slot is whose, by interface and address in
// order, so that the one that a received packet is about can be found.

// Neighbour is what is known of a station. All of it is read and written
// atomically.
type Neighbour struct {
	Word      uint64 // state and Ethernet address, see NeighbourWord
	Confirmed int64  // clock.Mono: when it was last known to be there
	Next      int64  // clock.Mono: when something is due
	Probes    uint64 // requests sent since there was an answer
}

// NeighbourState says what is known.
type NeighbourState uint8

// The states of RFC 4861, section 7.3.2, one for what nothing is known of, and
// one for what was configured. From NeighbourReachable on there is an address.
const (
	NeighbourUnknown NeighbourState = iota
	NeighbourIncomplete
	NeighbourReachable
	NeighbourStale
	NeighbourDelay
	NeighbourProbe
	NeighbourPermanent
)

var neighbourStates = [...]string{"unknown", "incomplete", "reachable", "stale", "delay", "probe", "permanent"}

// String returns the state's name as gateway-state has it.
func (s NeighbourState) String() string {
	if int(s) < len(neighbourStates) {
		return neighbourStates[s]
	}
	return "invalid"
}

// NeighbourWord makes a neighbour's word: the address in the lower 48 bits, the
// state in the three above. What lies further up is the engine's.
func NeighbourWord(s NeighbourState, addr uint64) uint64 { return uint64(s)<<48 | addr&(1<<48-1) }

// SplitNeighbourWord is the inverse of NeighbourWord.
func SplitNeighbourWord(w uint64) (NeighbourState, [6]byte) {
	return NeighbourState(w >> 48 & 7), [6]byte{byte(w >> 40), byte(w >> 32), byte(w >> 24), byte(w >> 16), byte(w >> 8), byte(w)}
}

// NeighbourEntry says whose a slot is.
type NeighbourEntry struct {
	IP   [16]byte // IPv4 addresses mapped into IPv6
	Slot uint32
	Link uint16  // number of the interface; 0 is the private one
	Keep uint8   // 1: the next hop of an interface, asked for without packets to send
	_    uint8   //
	MAC  [6]byte // as configured; zero: to be resolved
	_    [2]byte
	Born uint64 // the generation that gave it its slot
}

// OnLink in a PeerEntry's Hop says that the neighbour is the peer itself.
const OnLink = 1 << 31

// maxNeighbours is how many slots there are for a number of route slots: every
// route may have peers on two links, besides the next hops.
func maxNeighbours(routes int) int { return 2*routes + 4*WorkerSlots }

// neighbourKey is what makes a neighbour the same in two generations. With a
// configured Ethernet address it is another one than without.
type neighbourKey struct {
	linkKey
	ip  [16]byte
	mac [6]byte
}

// neighbours collects the neighbours of a Spec.
type neighbours struct {
	links   []linkKey // by number
	entries []NeighbourEntry
	at      map[neighbourKey]int // in entries
}

type linkKey struct {
	public bool
	link   Link
	vlan   uint16
}

func (i *Interface) linkKey(public bool) linkKey { return linkKey{public, i.Link, i.VLAN} }
func (p *Port) linkKey(public bool) linkKey      { return linkKey{public, p.Link, p.VLAN} }

// link returns an interface's number, and gives it one where it has none.
func (n *neighbours) link(l linkKey) int {
	if i := slices.Index(n.links, l); i >= 0 {
		return i
	}
	n.links = append(n.links, l)
	return len(n.links) - 1
}

// add enters a neighbour of an interface, if it is not there.
func (n *neighbours) add(l linkKey, ip netip.Addr, mac [6]byte, keep uint8) {
	k := neighbourKey{l, ip.As16(), mac}
	i, ok := n.at[k]
	if !ok {
		i = len(n.entries)
		n.at[k] = i
		n.entries = append(n.entries, NeighbourEntry{IP: k.ip, Link: uint16(n.link(l)), MAC: mac})
	}
	n.entries[i].Keep |= keep
}

// collect enters all neighbours of a Spec.
func (n *neighbours) collect(s *Spec) {
	n.at = make(map[neighbourKey]int)
	if p := s.Private; p != nil {
		n.add(p.linkKey(false), p.NextHop, p.NextHopMAC, 1)
		if p.OtherIP.IsValid() {
			n.add(p.linkKey(false), p.OtherNextHop, p.OtherNextHopMAC, 1)
		}
	}
	for i := range s.Public {
		p := &s.Public[i]
		n.add(p.linkKey(true), p.NextHop, p.NextHopMAC, 1)
		if p.PrefixLen == 0 {
			continue
		}
		for r := range s.Routes {
			if ip := s.Routes[r].gatewayFor(p.Queue); p.onLink(ip) {
				n.add(p.linkKey(true), ip, [6]byte{}, 0)
			}
		}
	}
}

// onLink reports whether a remote gateway is reached without a router. The next
// hop, which may be one itself, has its own entry.
func (p *PublicInterface) onLink(peer netip.Addr) bool {
	return p.PrefixLen != 0 && peer != p.NextHop && netip.PrefixFrom(p.IP, int(p.PrefixLen)).Contains(peer)
}

// assign gives the neighbours their slots: those that prev has keep theirs, and
// new ones get slots that prev does not use.
func (n *neighbours) assign(prev *Tables, generation uint64, room int) error {
	used := make(map[uint32]bool)
	var next uint32
	if prev != nil {
		links := make([]linkKey, 0, 1+len(prev.Workers))
		if prev.Private != nil {
			links = append(links, prev.Private.linkKey(false))
		}
		for i := range prev.Workers {
			if l := prev.Workers[i].Public.linkKey(true); !slices.Contains(links, l) {
				links = append(links, l)
			}
		}
		for i := range prev.Neighbours {
			e := prev.Neighbours[i]
			used[e.Slot] = true
			if int(e.Link) >= len(links) {
				continue
			}
			if at, ok := n.at[neighbourKey{links[e.Link], e.IP, e.MAC}]; ok {
				n.entries[at].Slot, n.entries[at].Born = e.Slot, e.Born
			}
		}
	}
	for i := range n.entries {
		e := &n.entries[i]
		if e.Born != 0 {
			continue
		}
		for used[next] {
			next++
		}
		if int(next) >= room {
			return specError("%d next hops and gateways on the public networks: the engine has room for %d, old and new ones together", len(n.entries), room)
		}
		e.Slot, e.Born = next, generation
		next++
	}
	return nil
}

// buildNeighbours writes the table of neighbours, in order, and returns what
// finds a neighbour's slot.
func buildNeighbours(h *genHeader, c *cursor, s *Spec, prev *Tables, maxRoutes int) (slot func(neighbourKey) uint32, err error) {
	n := new(neighbours)
	n.collect(s)
	if err := n.assign(prev, h.Generation, maxNeighbours(maxRoutes)); err != nil {
		return nil, err
	}
	slot = func(k neighbourKey) uint32 { return n.entries[n.at[k]].Slot }
	var b []byte
	if h.neighbours, b, err = c.take(arena.Size[NeighbourEntry](len(n.entries))); err != nil {
		return nil, err
	}
	out := arena.View[NeighbourEntry](b, len(n.entries))
	copy(out, n.entries)
	slices.SortFunc(out, func(a, b NeighbourEntry) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), bytes.Compare(a.IP[:], b.IP[:]), bytes.Compare(a.MAC[:], b.MAC[:]))
	})
	return slot, nil
}

// openNeighbours gives each interface its part of the table.
func (t *Tables) openNeighbours() error {
	var links []linkKey
	give := func(l linkKey, p *Port) {
		n := slices.Index(links, l)
		if n < 0 {
			n = len(links)
			links = append(links, l)
		}
		from, _ := slices.BinarySearchFunc(t.Neighbours, n, func(e NeighbourEntry, n int) int { return int(e.Link) - n })
		to, _ := slices.BinarySearchFunc(t.Neighbours, n+1, func(e NeighbourEntry, n int) int { return int(e.Link) - n })
		p.Neighbours = t.Neighbours[from:max(from, to)]
	}
	if t.Private != nil {
		give(t.Private.linkKey(false), t.Private)
	}
	for i := range t.Workers {
		give(t.Workers[i].Public.linkKey(true), &t.Workers[i].Public)
	}
	// What is not in order would not be found by those who look for it.
	for i := 1; i < len(t.Neighbours); i++ {
		a, b := &t.Neighbours[i-1], &t.Neighbours[i]
		if a.Link > b.Link || a.Link == b.Link && bytes.Compare(a.IP[:], b.IP[:]) > 0 {
			return fmt.Errorf("%w: neighbours out of order", ErrCorrupt)
		}
	}
	return nil
}

// FindNeighbours returns the entries of an address among those of an interface:
// as a rule one, and another for each Ethernet address that was configured.
func FindNeighbours(entries []NeighbourEntry, ip *[16]byte) []NeighbourEntry {
	from, ok := slices.BinarySearchFunc(entries, ip, func(e NeighbourEntry, ip *[16]byte) int { return bytes.Compare(e.IP[:], ip[:]) })
	if !ok {
		return nil
	}
	to := from + 1
	for to < len(entries) && entries[to].IP == *ip {
		to++
	}
	return entries[from:to]
}
