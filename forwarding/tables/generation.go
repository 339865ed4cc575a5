package tables

import (
	"fmt"
	"net/netip"
	"sync/atomic"

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

	Count uint32 // of routes; atomic
	_     uint32

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

// RouteEntry is a route in its slot. Its words can change while workers read
// them, see Writer: they are read and written atomically.
type RouteEntry struct {
	Used    uint32 // 0: no route has this slot
	SPI     uint32
	row     uint32 // of peers
	nameOff uint32
	nameLen uint32
	_       [3]uint32 // so that no entry lies in two lines of the cache
}

// PeerEntry is the remote gateway of a route for a worker. Those of a route lie
// side by side, one for each worker, in a row that the route's entry names.
type PeerEntry struct {
	IP        [16]byte // an IPv4 address mapped into IPv6; zero: none
	Hop       uint32   // slot of the neighbour that frames go to, and OnLink
	UDPPort   uint16   // the peer's port of ESP in UDP; 0: it is not in UDP
	Keepalive uint16   // see UDP
	Moves     uint8    // likewise
	_         [7]byte
}

// Room for changes in place, beyond what a generation needs when it is built.
// When it is used up, the next generation is built anew.
const (
	spareRoutes = 256
	spareRows   = 512
	spareNames  = 16 << 10
	spareLines  = 2048 // of each prefix table
)

func roomForRoutes(n, most int) int { return min(n+n/4+spareRoutes, most) }
func roomForRows(routes int) int    { return routes + spareRows }
func roomForNames(bytes int) int    { return bytes + bytes/4 + spareNames }
func roomForLines(used int) int     { return used/4 + spareLines }

// generationRoom returns the bytes that always suffice for n routes.
func generationRoom(n int) int {
	return arena.Size[genHeader](1) + arena.Size[workerEntry](MaxWorkers) + arena.Size[RouteEntry](n) +
		arena.Size[PeerEntry](roomForRows(n)*MaxWorkers) + roomForNames(n*MaxID) + arena.Size[NeighbourEntry](maxNeighbours(n)) +
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
	_, err := NewWriter(dst, s, prev, generation, maxRoutes)
	return err
}

// NewWriter does as Build, and returns what the tables can be changed by later.
func NewWriter(dst []byte, s *Spec, prev *Tables, generation uint64, maxRoutes int) (*Writer, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	h := arena.Ptr[genHeader](dst)
	if h == nil {
		return nil, specError("no memory for the tables")
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
		return nil, err
	}
	slot, err := buildNeighbours(h, c, s, prev, maxRoutes)
	if err != nil {
		return nil, err
	}
	w := &Writer{spec: *s, v6: s.v6(), routes: make(map[string]*held, len(s.Routes)), unused: map[int][]uint32{}}
	w.spec.Routes = nil
	h.Count = uint32(len(s.Routes))
	if err := w.buildRoutes(h, c, s, prev, maxRoutes, slot); err != nil {
		return nil, err
	}
	h.Used = uint64(c.at)
	h.Ready = 1
	if w.t, err = Open(dst); err != nil {
		return nil, err
	}
	return w, nil
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

func (w *Writer) buildRoutes(h *genHeader, c *cursor, s *Spec, prev *Tables, maxRoutes int, hop func(neighbourKey) uint32) error {
	slots, top, err := routeSlots(s, prev, maxRoutes)
	if err != nil {
		return err
	}
	var names int
	for i := range s.Routes {
		names += len(s.Routes[i].ID)
	}
	entries := roomForRoutes(top, maxRoutes)
	var routeBytes, peerBytes []byte
	if h.routes, routeBytes, err = c.take(arena.Size[RouteEntry](entries)); err != nil {
		return err
	}
	if h.peers, peerBytes, err = c.take(arena.Size[PeerEntry](roomForRows(entries) * len(s.Public))); err != nil {
		return err
	}
	if h.names, w.names, err = c.take(roomForNames(names)); err != nil {
		return err
	}
	clear(routeBytes) // slots without a route
	clear(peerBytes)
	routes := arena.View[RouteEntry](routeBytes, entries)
	w.peers = arena.View[PeerEntry](peerBytes, roomForRows(entries)*len(s.Public))
	nets4, nets6 := make([]lpm.Prefix, 0, len(s.Routes)), []lpm.Prefix(nil)
	for i := range s.Routes {
		r, slot := &s.Routes[i], slots[i]
		// A new generation's rows are in the order of the slots.
		held := &held{Route: *r, slot: uint32(slot), row: uint32(slot)}
		w.routes[r.ID] = held
		off, ok := w.name(r.ID)
		if !ok {
			return specError("the routes' ids do not fit their memory")
		}
		held.nameOff = off
		routes[slot] = RouteEntry{Used: 1, SPI: r.SPI, row: held.row, nameOff: off, nameLen: uint32(len(r.ID))}
		w.fillRow(held.row, r, func(k neighbourKey) (uint32, bool) { return hop(k), true })
		if r.UDP != nil {
			w.udp++
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
	for slot := entries - 1; slot >= 0; slot-- {
		if routes[slot].Used == 0 {
			w.slots = append(w.slots, uint32(slot))
		}
	}
	for row := roomForRows(entries) - 1; row >= 0; row-- {
		if row >= entries || routes[row].Used == 0 {
			w.rows = append(w.rows, uint32(row))
		}
	}
	if w.lpm4, err = buildLPM(&h.lpm4, c, lpm.NewWriter4, nets4); err != nil {
		return err
	}
	w.lpm6, err = buildLPM(&h.lpm6, c, lpm.NewWriter6, nets6)
	return err
}

func buildLPM(e *extent, c *cursor, build func([]byte, []lpm.Prefix, int) (*lpm.Writer, error), prefixes []lpm.Prefix) (*lpm.Writer, error) {
	all, b, err := c.take(len(c.b) - (c.at+align-1)&^(align-1)) // as much as there is; given back below
	if err != nil {
		return nil, err
	}
	w, err := build(b, prefixes, 0)
	if err != nil {
		return nil, specError("%d nets: %w", len(prefixes), err)
	}
	used, _ := w.Lines()
	*e = extent{all.Off, uint64(w.Shrink(roomForLines(used)))}
	c.at = int(all.Off + e.Size)
	return w, nil
}

// routeSlots chooses a slot for every route and returns the number of slots up
// to the highest.
func routeSlots(s *Spec, prev *Tables, maxRoutes int) (slots []int, top int, err error) {
	used := make([]bool, maxRoutes)
	byID := make(map[string]int)
	if prev != nil {
		for i := range prev.Routes {
			if prev.Has(i) && i < maxRoutes {
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
	count        *uint32
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
		UDPPort: h.UDPPort, Dummies: h.Dummies, count: &h.Count,
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
	if len(workers) > MaxWorkers || len(t.peers) != len(workers)*roomForRows(len(t.Routes)) {
		return nil, fmt.Errorf("%w: %d workers, %d routes, %d peers", ErrCorrupt, len(workers), len(t.Routes), len(t.peers))
	}
	if err := t.openInterfaces(h, workers); err != nil {
		return nil, err
	}
	if err := t.openNeighbours(); err != nil {
		return nil, err
	}
	for i := range t.Routes {
		r := t.Routes[i].load()
		if uint64(r.nameOff)+uint64(r.nameLen) > uint64(len(t.names)) {
			return nil, fmt.Errorf("%w: name of route %d", ErrCorrupt, i)
		}
		if int64(r.row) >= int64(roomForRows(len(t.Routes))) {
			return nil, fmt.Errorf("%w: peers of route %d", ErrCorrupt, i)
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
	r := t.Routes[slot].load()
	if r.Used == 0 || uint64(r.nameOff)+uint64(r.nameLen) > uint64(len(t.names)) {
		return ""
	}
	return string(t.names[r.nameOff:][:r.nameLen])
}

// RouteSlot returns the slot of the route with an id, or -1.
func (t *Tables) RouteSlot(id string) int {
	for i := range t.Routes {
		if t.RouteID(i) == id {
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
	if int64(route) >= int64(len(t.Routes)) || worker < 0 || worker >= len(t.Workers) {
		return nil
	}
	i := int(atomic.LoadUint32(&t.Routes[route].row))*len(t.Workers) + worker
	if i >= len(t.peers) {
		return nil
	}
	return &t.peers[i]
}

// Peer returns the remote gateway of a route for the worker with an index in
// Workers; a zero one where there is none.
func (t *Tables) Peer(route uint32, worker int) PeerEntry {
	if p := t.PeerAt(route, worker); p != nil {
		return *p
	}
	return PeerEntry{}
}

// Count returns how many routes there are, about: it may just be changing.
func (t *Tables) Count() int { return int(atomic.LoadUint32(t.count)) }

// Has reports whether a route has a slot.
func (t *Tables) Has(slot int) bool {
	return slot >= 0 && slot < len(t.Routes) && atomic.LoadUint32(&t.Routes[slot].Used) != 0
}

// load returns a copy.
func (r *RouteEntry) load() (c RouteEntry) {
	c.Used = atomic.LoadUint32(&r.Used) // first: what is set before it is seen
	c.SPI, c.row = atomic.LoadUint32(&r.SPI), atomic.LoadUint32(&r.row)
	c.nameOff, c.nameLen = atomic.LoadUint32(&r.nameOff), atomic.LoadUint32(&r.nameLen)
	return c
}
