package tables

import (
	"cmp"
	"fmt"
	"net/netip"

	"vita/asm/lpm"
	"vita/internal/arena"
)

// generationMagic begins the tables of a generation.
const generationMagic = 0x73656c62_61746976 // "vitables", little endian

// genHeader begins a generation. Offsets count from its first byte.
type genHeader struct {
	Magic      uint64
	Version    uint32
	Ready      uint32 // set last by Build: tables cut short are not taken for whole ones
	Generation uint64
	Used       uint64 // bytes, this header included

	workers extent
	routes  extent
	peers   extent
	names   extent

	neighbours extent

	lpm4 extent
	lpm6 extent

	MTU          uint16
	ProtocolPort uint16
	TFC          uint8
	HasPrivate   uint8
	V6           uint8 // the gateway's family
	Resync       uint8
	ReplayWindow uint16
	OuterSet     uint8 // see Tables
	OuterCopy    uint8
	DF           DF
	Fragment     uint8
	UDPPort      uint16
	Dummies      uint16
	Private      interfaceEntry
}

type interfaceEntry struct {
	PCI        uint8 // the name is a PCI address
	NameLen    uint8
	MAC        [6]byte
	NextHopMAC [6]byte
	VLAN       uint16
	IP         [16]byte // IPv4 addresses mapped into IPv6
	NextHop    [16]byte

	OtherIP, OtherNextHop [16]byte // zero: none
	OtherNextHopMAC       [6]byte
	_                     [2]byte

	Name [MaxLink]byte
}

type workerEntry struct {
	Slot        uint16
	Queue       uint16
	DeviceQueue uint16
	_           uint16
	NATIP       [16]byte
	Public      interfaceEntry
	PrefixLen   uint8
	_           [3]byte
}

// RouteEntry is a route in its slot.
type RouteEntry struct {
	Used    uint32 // 0: no route has this slot
	SPI     uint32
	nameOff uint32
	nameLen uint32

	UDPPort   uint16 // the peer's port of ESP in UDP; 0: it is not in UDP
	Keepalive uint16 // see UDP
	Moves     uint8  // likewise
	_         [3]byte
}

// generationRoom returns the bytes that always suffice for n routes.
func generationRoom(n int) int {
	return arena.Size[genHeader](1) + arena.Size[workerEntry](MaxWorkers) + arena.Size[RouteEntry](n) +
		arena.Size[PeerEntry](n*MaxWorkers) + n*MaxID + arena.Size[NeighbourEntry](maxNeighbours(n)) +
		lpm.Size4(n) + lpm.Size6(n) + 10*align
}

// align is that of the tables' parts: cache lines, as asm/lpm wants them.
const align = 64

// cursor hands out aligned stretches of a table's memory.
type cursor struct {
	b  []byte
	at int
}

func (c *cursor) take(n int) (extent, []byte, error) {
	start := (c.at + align - 1) &^ (align - 1)
	if n < 0 || start > len(c.b) || n > len(c.b)-start {
		return extent{}, nil, specError("the tables do not fit their %d bytes of shared memory", len(c.b))
	}
	c.at = start + n
	e := extent{uint64(start), uint64(n)}
	return e, e.in(c.b), nil
}

// Build writes the tables for a Spec to dst. Routes and workers that prev has,
// by id and queue, keep their slots; new ones get slots that prev does not
// use. Prev is nil for the first generation. MaxRoutes is the memory's number
// of route slots.
func Build(dst []byte, s *Spec, prev *Tables, generation uint64, maxRoutes int) error {
	if err := s.Validate(); err != nil {
		return err
	}
	h := arena.Ptr[genHeader](dst)
	if h == nil {
		return specError("no memory for the tables")
	}
	*h = genHeader{
		Magic: generationMagic, Version: Version, Generation: generation,
		MTU: s.MTU, ProtocolPort: s.ProtocolPort,
	}
	if h.MTU == 0 {
		h.MTU = DefaultMTU
	}
	if h.ProtocolPort == 0 {
		h.ProtocolPort = DefaultProtocolPort
	}
	if s.TFC {
		h.TFC = 1
	}
	if s.v6() {
		h.V6 = 1
	}
	if s.Resync {
		h.Resync = 1
	}
	if h.ReplayWindow = s.ReplayWindow; h.ReplayWindow == 0 {
		h.ReplayWindow = DefaultReplayWindow
	}
	if h.OuterSet = s.DSCP << 2; s.CopyDSCP {
		h.OuterSet, h.OuterCopy = 0, 0xfc
	}
	if s.ECN {
		h.OuterCopy |= 3
	}
	h.DF, h.Dummies = s.DF, s.Dummies
	if s.Fragment {
		h.Fragment = 1
	}
	if s.usesUDP() {
		h.UDPPort = s.udpPort()
	}
	if s.Private != nil {
		h.HasPrivate = 1
		h.Private = makeInterface(s.Private, 0x2a)
	}
	c := &cursor{b: dst, at: arena.Size[genHeader](1)}
	if err := buildWorkers(h, c, s, prev); err != nil {
		return err
	}
	slot, err := buildNeighbours(h, c, s, prev, maxRoutes)
	if err != nil {
		return err
	}
	if err := buildRoutes(h, c, s, prev, maxRoutes, slot); err != nil {
		return err
	}
	h.Used = uint64(c.at)
	h.Ready = 1
	return nil
}

func makeInterface(i *Interface, macPrefix byte) interfaceEntry {
	e := interfaceEntry{MAC: i.mac(macPrefix), NextHopMAC: i.NextHopMAC, IP: i.IP.As16(), NextHop: i.NextHop.As16(), VLAN: i.VLAN}
	if i.OtherIP.IsValid() {
		e.OtherIP, e.OtherNextHop, e.OtherNextHopMAC = i.OtherIP.As16(), i.OtherNextHop.As16(), i.OtherNextHopMAC
	}
	if i.Link.PCI != "" {
		e.PCI = 1
	}
	e.NameLen = uint8(copy(e.Name[:], i.Link.String()))
	return e
}

func buildWorkers(h *genHeader, c *cursor, s *Spec, prev *Tables) error {
	e, b, err := c.take(arena.Size[workerEntry](len(s.Public)))
	if err != nil {
		return err
	}
	h.workers = e
	var used [WorkerSlots]bool
	if prev != nil {
		for i := range prev.Workers {
			used[prev.Workers[i].Slot] = true
		}
	}
	out := arena.View[workerEntry](b, len(s.Public))
	for i := range s.Public {
		p := &s.Public[i]
		slot := -1
		if prev != nil {
			slot = prev.WorkerSlot(p.Queue)
		}
		for n := 0; slot < 0 && n < WorkerSlots; n++ {
			if !used[n] {
				slot = n
			}
		}
		if slot < 0 {
			return specError("no free worker for queue %d", p.Queue)
		}
		used[slot] = true
		out[i] = workerEntry{
			Slot: uint16(slot), Queue: p.Queue, DeviceQueue: p.DeviceQueue, PrefixLen: p.PrefixLen,
			Public: makeInterface(&p.Interface, 0x3a),
		}
		if p.NATIP.IsValid() {
			out[i].NATIP = p.NATIP.As16()
		}
	}
	return nil
}

func buildRoutes(h *genHeader, c *cursor, s *Spec, prev *Tables, maxRoutes int, hop func(neighbourKey) uint32) error {
	slots, top, err := routeSlots(s, prev, maxRoutes)
	if err != nil {
		return err
	}
	var names, nets int
	for i := range s.Routes {
		names += len(s.Routes[i].ID)
		nets += len(s.Routes[i].Nets)
	}
	var routeBytes, peerBytes, nameBytes []byte
	if h.routes, routeBytes, err = c.take(arena.Size[RouteEntry](top)); err != nil {
		return err
	}
	if h.peers, peerBytes, err = c.take(arena.Size[PeerEntry](top * len(s.Public))); err != nil {
		return err
	}
	if h.names, nameBytes, err = c.take(names); err != nil {
		return err
	}
	clear(routeBytes) // slots without a route
	clear(peerBytes)
	routes := arena.View[RouteEntry](routeBytes, top)
	peers := arena.View[PeerEntry](peerBytes, top*len(s.Public))
	next := make([]uint32, len(s.Public))
	for w := range s.Public {
		p := &s.Public[w]
		next[w] = hop(neighbourKey{p.linkKey(true), p.NextHop.As16(), p.NextHopMAC})
	}
	nets4, nets6 := make([]lpm.Prefix, 0, nets), []lpm.Prefix(nil)
	at := 0
	for i := range s.Routes {
		r, slot := &s.Routes[i], slots[i]
		routes[slot] = RouteEntry{Used: 1, SPI: r.SPI, nameOff: uint32(at), nameLen: uint32(len(r.ID))}
		if u := r.UDP; u != nil {
			e := &routes[slot]
			e.UDPPort, e.Keepalive = cmp.Or(u.Port, DefaultUDPPort), u.Keepalive
			if u.Moves {
				e.Moves = 1
			}
		}
		at += copy(nameBytes[at:], r.ID)
		for w := range s.Public {
			p := &s.Public[w]
			ip := r.gatewayFor(p.Queue)
			e := PeerEntry{IP: ip.As16(), Hop: next[w]}
			if p.onLink(ip) {
				e.Hop = hop(neighbourKey{linkKey: p.linkKey(true), ip: e.IP}) | OnLink
			}
			peers[slot*len(s.Public)+w] = e
		}
		for _, n := range r.Nets {
			p := lpm.Prefix{Net: n.Masked(), Value: uint32(slot)}
			if n.Addr().Is4() {
				nets4 = append(nets4, p)
			} else {
				nets6 = append(nets6, p)
			}
		}
	}
	if err := buildLPM(&h.lpm4, c, lpm.Build4, nets4); err != nil {
		return err
	}
	return buildLPM(&h.lpm6, c, lpm.Build6, nets6)
}

func buildLPM(e *extent, c *cursor, build func([]byte, []lpm.Prefix) (int, error), prefixes []lpm.Prefix) error {
	all, b, err := c.take(len(c.b) - (c.at+align-1)&^(align-1)) // as much as there is; given back below
	if err != nil {
		return err
	}
	used, err := build(b, prefixes)
	if err != nil {
		return specError("%d nets: %w", len(prefixes), err)
	}
	*e = extent{all.Off, uint64(used)}
	c.at = int(all.Off) + used
	return nil
}

// routeSlots chooses a slot for every route and returns the number of slots up
// to the highest.
func routeSlots(s *Spec, prev *Tables, maxRoutes int) (slots []int, top int, err error) {
	used := make([]bool, maxRoutes)
	byID := make(map[string]int)
	if prev != nil {
		for i := range prev.Routes {
			if prev.Routes[i].Used != 0 && i < maxRoutes {
				used[i] = true
				byID[prev.RouteID(i)] = i
			}
		}
	}
	slots = make([]int, len(s.Routes))
	next := 0
	for i := range s.Routes {
		slot, ok := byID[s.Routes[i].ID]
		if !ok {
			for next < maxRoutes && used[next] {
				next++
			}
			if next == maxRoutes {
				return nil, 0, specError("%d routes: the engine has room for %d, old and new ones together", len(s.Routes), maxRoutes)
			}
			slot = next
			used[slot] = true
		}
		slots[i] = slot
		top = max(top, slot+1)
	}
	return slots, top, nil
}

// Port is an interface as a generation has it.
type Port struct {
	Link       Link
	MAC        [6]byte
	NextHopMAC [6]byte // zero: to be resolved
	IP         netip.Addr
	NextHop    netip.Addr
	VLAN       uint16 // 0: none

	OtherIP, OtherNextHop netip.Addr // of the other family; invalid: none
	OtherNextHopMAC       [6]byte

	Neighbours []NeighbourEntry // on the same link, in the order of their addresses
}

// WorkerConfig is a worker as a generation has it.
type WorkerConfig struct {
	Slot        int
	Queue       uint16
	DeviceQueue uint16
	Public      Port
	NATIP       netip.Addr // invalid: none
	PrefixLen   uint8      // see PublicInterface
}

// Tables is a checked view of a generation. Routes, peers and the prefix table
// stay in shared memory, which the other process could still change: whoever
// takes an index from there checks it.
type Tables struct {
	Generation   uint64
	MTU          int
	TFC          bool
	ProtocolPort uint16
	Private      *Port // nil: none
	Workers      []WorkerConfig
	Routes       []RouteEntry // by slot
	V6           bool         // the gateway's family: that of the tunnels
	Resync       bool         // see Spec
	ReplayWindow uint16
	OuterSet     uint8 // the outer traffic class, or TOS
	OuterCopy    uint8 // bits of it that come from the inner header
	DF           DF
	Fragment     bool
	UDPPort      uint16           // own port of ESP in UDP; 0: no route has it
	Dummies      uint16           // see Spec
	LPM          lpm.Table4       // the nets of IPv4; values are route slots
	LPM6         lpm.Table6       // those of IPv6
	Neighbours   []NeighbourEntry // of all interfaces
	peers        []PeerEntry
	names        []byte
}

// Open checks the tables at the start of b, every offset of them, and returns
// the view.
func Open(b []byte) (*Tables, error) {
	h := arena.Ptr[genHeader](b)
	if h == nil || h.Magic != generationMagic || h.Ready != 1 {
		return nil, fmt.Errorf("%w: no tables", ErrCorrupt)
	}
	if h.Version != Version {
		return nil, fmt.Errorf("%w: tables of %d, want %d", ErrVersion, h.Version, Version)
	}
	if h.Used < uint64(arena.Size[genHeader](1)) || h.Used > uint64(len(b)) {
		return nil, fmt.Errorf("%w: tables of %d bytes in %d", ErrCorrupt, h.Used, len(b))
	}
	b = b[:h.Used]
	t := &Tables{
		Generation: h.Generation, MTU: int(h.MTU), TFC: h.TFC != 0, ProtocolPort: h.ProtocolPort,
		V6: h.V6 != 0, Resync: h.Resync != 0, ReplayWindow: h.ReplayWindow,
		OuterSet: h.OuterSet, OuterCopy: h.OuterCopy, DF: h.DF, Fragment: h.Fragment != 0,
		UDPPort: h.UDPPort, Dummies: h.Dummies,
	}
	if t.ReplayWindow < MinReplayWindow || t.ReplayWindow > MaxReplayWindow {
		return nil, fmt.Errorf("%w: replay window %d", ErrCorrupt, t.ReplayWindow)
	}
	workers := arena.View[workerEntry](h.workers.in(b), int(h.workers.Size)/arena.Size[workerEntry](1))
	t.Routes = arena.View[RouteEntry](h.routes.in(b), int(h.routes.Size)/arena.Size[RouteEntry](1))
	t.peers = arena.View[PeerEntry](h.peers.in(b), int(h.peers.Size)/arena.Size[PeerEntry](1))
	t.Neighbours = arena.View[NeighbourEntry](h.neighbours.in(b), int(h.neighbours.Size)/arena.Size[NeighbourEntry](1))
	t.names = h.names.in(b)
	if workers == nil || t.Routes == nil || t.peers == nil || t.Neighbours == nil || t.names == nil {
		return nil, fmt.Errorf("%w: a table lies outside its memory", ErrCorrupt)
	}
	if len(workers) > MaxWorkers || len(t.peers) != len(workers)*len(t.Routes) {
		return nil, fmt.Errorf("%w: %d workers, %d routes, %d peers", ErrCorrupt, len(workers), len(t.Routes), len(t.peers))
	}
	if err := t.openInterfaces(h, workers); err != nil {
		return nil, err
	}
	if err := t.openNeighbours(); err != nil {
		return nil, err
	}
	for i := range t.Routes {
		r := &t.Routes[i]
		if uint64(r.nameOff)+uint64(r.nameLen) > uint64(len(t.names)) {
			return nil, fmt.Errorf("%w: name of route %d", ErrCorrupt, i)
		}
	}
	nets4, nets6 := h.lpm4.in(b), h.lpm6.in(b)
	if nets4 == nil || nets6 == nil {
		return nil, fmt.Errorf("%w: prefix table lies outside its memory", ErrCorrupt)
	}
	var err error
	if t.LPM, err = lpm.Open4(nets4); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if t.LPM6, err = lpm.Open6(nets6); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return t, nil
}

func (t *Tables) openInterfaces(h *genHeader, workers []workerEntry) error {
	if h.HasPrivate == 0 && len(workers) > 0 {
		return fmt.Errorf("%w: workers without a private interface", ErrCorrupt)
	}
	if h.HasPrivate != 0 {
		p, ok := openInterface(&h.Private, t.V6)
		if !ok {
			return fmt.Errorf("%w: private interface", ErrCorrupt)
		}
		t.Private = &p
	}
	var slots [WorkerSlots]bool
	queues := make(map[uint16]bool)
	for i := range workers {
		e := workers[i] // a copy: the checks must hold for what is used later
		p, ok := openInterface(&e.Public, t.V6)
		if !ok || int(e.Slot) >= WorkerSlots || slots[e.Slot] || e.Queue == 0 || queues[e.Queue] {
			return fmt.Errorf("%w: worker %d", ErrCorrupt, i)
		}
		slots[e.Slot], queues[e.Queue] = true, true
		w := WorkerConfig{Slot: int(e.Slot), Queue: e.Queue, DeviceQueue: e.DeviceQueue, Public: p, PrefixLen: e.PrefixLen}
		if e.NATIP != [16]byte{} {
			w.NATIP = netip.AddrFrom16(e.NATIP).Unmap()
		}
		t.Workers = append(t.Workers, w)
	}
	return nil
}

func openInterface(shared *interfaceEntry, v6 bool) (Port, bool) {
	e := *shared
	if e.NameLen == 0 || int(e.NameLen) > len(e.Name) || e.VLAN > MaxVLAN {
		return Port{}, false
	}
	p := Port{
		MAC: e.MAC, NextHopMAC: e.NextHopMAC, VLAN: e.VLAN,
		IP: netip.AddrFrom16(e.IP).Unmap(), NextHop: netip.AddrFrom16(e.NextHop).Unmap(),
	}
	if name := string(e.Name[:e.NameLen]); e.PCI != 0 {
		p.Link.PCI = name
	} else {
		p.Link.Ifname = name
	}
	if e.OtherIP != [16]byte{} {
		p.OtherIP, p.OtherNextHop = netip.AddrFrom16(e.OtherIP).Unmap(), netip.AddrFrom16(e.OtherNextHop).Unmap()
		p.OtherNextHopMAC = e.OtherNextHopMAC
		if !of(!v6, p.OtherIP) || !of(!v6, p.OtherNextHop) {
			return Port{}, false
		}
	}
	return p, of(v6, p.IP) && of(v6, p.NextHop)
}

// RouteID returns the id of the route in a slot, or "".
func (t *Tables) RouteID(slot int) string {
	if slot < 0 || slot >= len(t.Routes) {
		return ""
	}
	r := t.Routes[slot] // a copy, see Tables
	if r.Used == 0 || uint64(r.nameOff)+uint64(r.nameLen) > uint64(len(t.names)) {
		return ""
	}
	return string(t.names[r.nameOff:][:r.nameLen])
}

// RouteSlot returns the slot of the route with an id, or -1.
func (t *Tables) RouteSlot(id string) int {
	for i := range t.Routes {
		if t.Routes[i].Used != 0 && t.RouteID(i) == id {
			return i
		}
	}
	return -1
}

// Worker returns the index in Workers of the worker for a queue, or -1.
func (t *Tables) Worker(queue uint16) int {
	for i := range t.Workers {
		if t.Workers[i].Queue == queue {
			return i
		}
	}
	return -1
}

// WorkerSlot returns the slot of the worker for a queue, or -1.
func (t *Tables) WorkerSlot(queue uint16) int {
	if i := t.Worker(queue); i >= 0 {
		return t.Workers[i].Slot
	}
	return -1
}

// PeerAt returns where the entry lies that Peer returns, or nil. What is there
// may change meanwhile, if the other process is damaged: it is not to be read.
func (t *Tables) PeerAt(route uint32, worker int) *PeerEntry {
	i := int(route)*len(t.Workers) + worker
	if worker < 0 || worker >= len(t.Workers) || i >= len(t.peers) {
		return nil
	}
	return &t.peers[i]
}

// Peer returns the remote gateway of a route for the worker with an index in
// Workers; a zero one where there is none.
func (t *Tables) Peer(route uint32, worker int) PeerEntry {
	i := int(route)*len(t.Workers) + worker
	if worker < 0 || worker >= len(t.Workers) || i >= len(t.peers) {
		return PeerEntry{}
	}
	return t.peers[i]
}
