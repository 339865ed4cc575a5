package tables

import (
	"errors"
	"fmt"
	"sync/atomic"

	"vita/internal/arena"
)

// Magic and Version begin the shared memory. Version counts every change of
// any layout in this package; both processes must have the same.
const (
	Magic   = 0x656e6967_61746976 // "vitaengi", little endian
	Version = 14
)

// WorkerSlots is how many worker slots there are: twice MaxWorkers, because
// the workers of a new generation start before those of the old have ended.
const WorkerSlots = 2 * MaxWorkers

// Room kept for names that do not depend on the configuration.
const (
	counterRoom = 256
	dropRoom    = 128
)

// MaxDrops is how many drop reasons the layout has room for.
const MaxDrops = dropRoom

var _ = [counterRoom - NumCounters]struct{}{} // the counters fit their room

// ErrVersion says that memory was laid out by another version of this package.
var ErrVersion = errors.New("shared memory has another version")

// ErrCorrupt says that shared memory does not hold what it should.
var ErrCorrupt = errors.New("shared memory is damaged")

// extent is a stretch of memory, in bytes.
type extent struct{ Off, Size uint64 }

// in returns the extent's bytes, or nil where it leaves b.
func (e extent) in(b []byte) []byte {
	if e.Off > uint64(len(b)) || e.Size > uint64(len(b))-e.Off {
		return nil
	}
	return b[e.Off : e.Off+e.Size : e.Off+e.Size]
}

// Header begins the shared memory. The engine writes all of it once, but for
// Current.
type Header struct {
	Magic     uint64
	Version   uint32
	MaxRoutes uint32 // route slots
	MaxSAs    uint32
	Pid       uint32 // of the engine
	Started   int64  // clock.Mono
	tables    [2]extent
	sas       extent
	active    extent
	workers   extent
	rings     extent
	windows   extent
	routes    extent
	captures  extent
	hops      extent
	SATop     uint32 // atomic: entries from here on have never been used
	_         uint32
	Release   [64]byte // the engine's version, zero-padded
	Tier      [32]byte // implementation of AES-GCM, zero-padded
	CPUs      [16]uint64
	_         [56]byte

	// Current is the live generation: its number in the upper 63 bits, and in
	// the lowest the place (0 or 1) of its tables. vitad stores it, workers
	// load it once a batch.
	Current uint64
	_       [56]byte
}

// Word makes the value of Current for a generation in a place.
func Word(generation uint64, place int) uint64 { return generation<<1 | uint64(place&1) }

// Split is the inverse of Word.
func Split(word uint64) (generation uint64, place int) { return word >> 1, int(word & 1) }

// Direction says what an SA is for.
type Direction uint8

// The directions of an SA.
const (
	Inbound  Direction = 1 // from the public network: open
	Outbound Direction = 2 // to the public network: seal
)

// SA is what both processes see of a security association. The key is not
// here: the engine alone has it.
type SA struct {
	// The first 64 bytes: what is looked at for every packet. Written by the
	// engine's control goroutine before it sets Ref, but for what is said to be
	// the worker's.
	Ref        uint32 // atomic; 0: the entry is free
	Route      uint32 // slot
	SPI        uint32
	Queue      uint16
	Direction  Direction
	_          uint8
	Expires    int64  // clock.Mono; hard limit
	MaxBytes   uint64 // hard limit
	MaxPackets uint64 // hard limit
	LastSeq    uint64 // hard limit: the last sequence number to be used
	Worker     uint16 // slot
	Replay     uint16 // inbound: how far behind Seq a packet may come
	PMTU       uint32 // outbound, the worker's: largest outer packet that passes the path; 0: not known
	Failures   uint32 // inbound, the worker's: packets in a row that were not authentic
	_          [4]byte

	// The second: what every packet changes. Written by the SA's worker alone,
	// as all that follows.
	Seq      uint64    // outbound: last sent; inbound: highest verified
	Window   [4]uint64 // inbound: what has been seen, where Replay is at most SmallWindow; see esp
	Packets  uint64
	Bytes    uint64 // of inner packets
	LastUsed int64  // clock.Mono

	RxErrors       uint64 // too short, or past a hard limit
	ProtocolErrors uint64 // authentic but with a bad trailer or inner packet
	DecryptErrors  uint64 // not authentic, or seen before
	PMTUUntil      int64  // clock.Mono; until then PMTU holds

	Created int64  // clock.Mono; as the first part
	Owner   uint64 // likewise; vitad knows the SA again by it
	_       [16]byte

	Drops [DropSlots]uint64 // by drop.Reason's Slot
}

// DropSlots is how many drop reasons are counted for each route and SA.
const DropSlots = 32

// RouteCounts are what one worker counts of a route. The packets and bytes are
// those of all the route's SAs together, past ones included.
type RouteCounts struct {
	SentPackets     uint64
	SentBytes       uint64 // of inner packets
	ReceivedPackets uint64 // authentic ones
	ReceivedBytes   uint64 // likewise
	LastUsed        int64  // clock.Mono

	// Where the peer of a route that lets it move has moved to, instead of the
	// configured address and port; see MovedFrom.
	PeerIP   [16]byte // IPv4 addresses mapped into IPv6
	PeerPort uint16   // 0: it has not
	_        uint16
	Moved    uint32

	Drops [DropSlots]uint64 // by drop.Reason's Slot
}

// MovedFrom returns what Moved has for a configured peer, so that a peer that
// is configured anew is believed to be there.
func MovedFrom(ip *[16]byte, port uint16) uint32 { return murmur3(*ip) ^ uint32(port) | 1<<31 }

// SmallWindow is the largest anti-replay window that an SA entry holds itself.
// The windows of others lie in an area of their own.
const (
	SmallWindow = 3 * 64
	windowWords = 128
)

// An SA reference names an entry and the use of it, so that a reference kept
// too long does not name a later SA in the same entry.
const refIndexBits = 20

// MaxSAs is the most SA entries that references can tell apart.
const MaxSAs = 1 << refIndexBits

// SARef makes a reference to entry index in its use-th use; use counts from 1.
func SARef(index int, use uint32) uint32 {
	return uint32(index) | (use%(1<<(32-refIndexBits)-1)+1)<<refIndexBits
}

// SAIndex returns the entry that a reference names.
func SAIndex(ref uint32) int { return int(ref & (MaxSAs - 1)) }

// PortStats are a port's statistics in the order of the model: bytes, packets,
// mcast, bcast, drop, errors received, the same six sent, dmapackets received.
type PortStats struct {
	RxBytes, RxPackets, RxMcast, RxBcast, RxDrop, RxErrors uint64
	TxBytes, TxPackets, TxMcast, TxBcast, TxDrop, TxErrors uint64
	RxDMAPackets                                           uint64
	_                                                      [3]uint64
}

// PortInfo describes an open port. Version is odd while the engine writes the
// rest; a reader that sees it odd, or changed, reads again.
type PortInfo struct {
	Version  uint64
	Open     uint8
	ZeroCopy uint8
	LinkUp   uint8
	Backlog  uint8 // the driver says the two numbers below
	MTU      uint32
	Queues   uint32
	RxWait   uint32 // frames received that the worker has not taken
	TxWait   uint32 // frames that the device has not sent
	MAC      [6]byte
	_        [2]byte
	Driver   [32]byte
	Name     [MaxLink]byte
	Resets   uint32 // times that the device hung and was reset
	Fault    PortFault
	_        [15]byte
}

// PortFault says why a port carries nothing.
type PortFault uint8

// The faults of ports.
const (
	PortWorks PortFault = iota
	PortDead
	PortGivenBack
)

func (f PortFault) String() string {
	switch f {
	case PortWorks:
		return ""
	case PortGivenBack:
		return "given back to the system, which has asked for the device"
	}
	return "device does not answer"
}

// Worker is one worker's memory. All of it but the port descriptions is
// written by that worker alone, and by no two at a time. It is never cleared:
// what it counts grows as long as the engine lives.
type Worker struct {
	Epoch  uint64 // the value of Current by which the worker works
	Rounds uint64 // grows with every turn of the worker's loop
	Busy   uint64 // nanoseconds spent in turns that found work
	Idle   uint64 // nanoseconds spent in turns that did not
	Queue  uint64 // the public interface's queue; 0: not in use
	_      [3]uint64

	Counters    [counterRoom]uint64
	Drops       [dropRoom]uint64
	Private     PortStats
	Public      PortStats
	PrivatePort PortInfo
	PublicPort  PortInfo
}

// Options sizes the shared memory. Zero fields stand for defaults.
type Options struct {
	MaxRoutes int // default 131072; nets and routes of one generation
	MaxSAs    int // default 262144
}

func (o *Options) fill() error {
	if o.MaxRoutes == 0 {
		o.MaxRoutes = 1 << 17
	}
	if o.MaxSAs == 0 {
		o.MaxSAs = 1 << 18
	}
	if o.MaxRoutes < 1 || o.MaxRoutes > 1<<22 {
		return fmt.Errorf("routes: %d: want 1 to %d", o.MaxRoutes, 1<<22)
	}
	if o.MaxSAs < 2 || o.MaxSAs > MaxSAs {
		return fmt.Errorf("SAs: %d: want 2 to %d", o.MaxSAs, MaxSAs)
	}
	return nil
}

const page = 4096

func pages(n int) uint64 { return (uint64(n) + page - 1) &^ (page - 1) }

// layout places the areas one after the other and returns the whole size.
func (h *Header) layout() uint64 {
	at := pages(arena.Size[Header](1))
	place := func(e *extent, n int) {
		*e = extent{at, pages(n)}
		at += e.Size
	}
	for i := range h.tables {
		place(&h.tables[i], generationRoom(int(h.MaxRoutes)))
	}
	place(&h.sas, arena.Size[SA](int(h.MaxSAs)))
	place(&h.active, WorkerSlots*int(h.MaxRoutes)*4)
	place(&h.workers, arena.Size[Worker](WorkerSlots))
	place(&h.rings, arena.Size[ringPair](WorkerSlots))
	place(&h.windows, arena.Size[[windowWords]uint64](int(h.MaxSAs)))
	place(&h.routes, arena.Size[RouteCounts](WorkerSlots*int(h.MaxRoutes)))
	place(&h.captures, arena.Size[CaptureRing](WorkerSlots))
	place(&h.hops, arena.Size[Neighbour](maxNeighbours(int(h.MaxRoutes))))
	return at
}

// Size returns how many bytes of shared memory an engine needs.
func Size(o Options) (int, error) {
	if err := o.fill(); err != nil {
		return 0, err
	}
	h := Header{MaxRoutes: uint32(o.MaxRoutes), MaxSAs: uint32(o.MaxSAs)}
	return int(h.layout()), nil
}

// Format lays out b, which is all zero and of the size that Size returned.
func Format(b []byte, o Options) (*Memory, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	h := arena.Ptr[Header](b)
	if h == nil {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	h.MaxRoutes, h.MaxSAs = uint32(o.MaxRoutes), uint32(o.MaxSAs)
	if size := h.layout(); size > uint64(len(b)) {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrCorrupt, len(b), size)
	}
	h.Magic, h.Version = Magic, Version
	return OpenMemory(b)
}

// Memory is a view of the shared memory.
type Memory struct {
	Header   *Header
	SAs      []SA
	Workers  []Worker
	active   []uint32
	rings    []ringPair
	windows  [][windowWords]uint64
	routes   []RouteCounts
	captures []CaptureRing
	hops     []Neighbour
	tables   [2][]byte
}

// OpenMemory checks the frame of the shared memory, made by Format in this or
// another process, and returns the view of it.
func OpenMemory(b []byte) (*Memory, error) {
	h := arena.Ptr[Header](b)
	if h == nil || h.Magic != Magic {
		return nil, fmt.Errorf("%w: no header", ErrCorrupt)
	}
	if h.Version != Version {
		return nil, fmt.Errorf("%w: %d, want %d", ErrVersion, h.Version, Version)
	}
	o := Options{MaxRoutes: int(h.MaxRoutes), MaxSAs: int(h.MaxSAs)}
	if err := o.fill(); err != nil || o.MaxRoutes != int(h.MaxRoutes) || o.MaxSAs != int(h.MaxSAs) {
		return nil, fmt.Errorf("%w: %d routes and %d SAs", ErrCorrupt, h.MaxRoutes, h.MaxSAs)
	}
	// The layout follows from the sizes: offsets that differ are damage, and
	// a header that agrees has nothing left to check one by one.
	want := Header{MaxRoutes: h.MaxRoutes, MaxSAs: h.MaxSAs}
	size := want.layout()
	if size > uint64(len(b)) || want.tables != h.tables || want.sas != h.sas ||
		want.active != h.active || want.workers != h.workers || want.rings != h.rings ||
		want.windows != h.windows || want.routes != h.routes ||
		want.captures != h.captures || want.hops != h.hops {
		return nil, fmt.Errorf("%w: areas are not where they belong in %d bytes", ErrCorrupt, len(b))
	}
	m := &Memory{
		Header:   h,
		SAs:      arena.View[SA](h.sas.in(b), o.MaxSAs),
		Workers:  arena.View[Worker](h.workers.in(b), WorkerSlots),
		active:   arena.View[uint32](h.active.in(b), WorkerSlots*o.MaxRoutes),
		rings:    arena.View[ringPair](h.rings.in(b), WorkerSlots),
		windows:  arena.View[[windowWords]uint64](h.windows.in(b), o.MaxSAs),
		routes:   arena.View[RouteCounts](h.routes.in(b), WorkerSlots*o.MaxRoutes),
		captures: arena.View[CaptureRing](h.captures.in(b), WorkerSlots),
		hops:     arena.View[Neighbour](h.hops.in(b), maxNeighbours(o.MaxRoutes)),
		tables:   [2][]byte{h.tables[0].in(b), h.tables[1].in(b)},
	}
	if m.SAs == nil || m.Workers == nil || m.active == nil || m.rings == nil || m.windows == nil || m.routes == nil ||
		m.captures == nil || m.hops == nil {
		return nil, fmt.Errorf("%w: memory is not aligned", ErrCorrupt)
	}
	return m, nil
}

// Window returns the anti-replay window of the SA in entry i, a power of two of
// words. Sa is that entry.
func (m *Memory) Window(sa *SA, i int) []uint64 {
	if sa.Replay <= SmallWindow {
		return sa.Window[:]
	}
	return m.windows[i][:]
}

// Current returns the live generation's word, see Word.
func (m *Memory) Current() uint64 { return atomic.LoadUint64(&m.Header.Current) }

// Publish makes the generation that word names the live one.
func (m *Memory) Publish(word uint64) { atomic.StoreUint64(&m.Header.Current, word) }

// Tables returns the memory of one of the two places for tables.
func (m *Memory) Tables(place int) []byte { return m.tables[place&1] }

// Active returns the word that holds the reference of the SA by which a worker
// sends to a route, for atomic access; nil where there is no such slot.
func (m *Memory) Active(worker, route int) *uint32 {
	routes := int(m.Header.MaxRoutes)
	if worker < 0 || worker >= WorkerSlots || route < 0 || route >= routes {
		return nil
	}
	return &m.active[worker*routes+route]
}

// ActiveRow returns such words of one worker for all route slots.
func (m *Memory) ActiveRow(worker int) []uint32 {
	routes := int(m.Header.MaxRoutes)
	return m.active[worker*routes : (worker+1)*routes]
}

// RouteCounts returns what a worker counts of all route slots. Memory that no
// worker has written takes no room until it is read: readers leave out workers
// whose Rounds is 0, and slots without a route.
func (m *Memory) RouteCounts(worker int) []RouteCounts {
	routes := int(m.Header.MaxRoutes)
	return m.routes[worker*routes : (worker+1)*routes]
}

// Neighbour returns what is known of the neighbour in a slot, or nil where there
// is no such slot.
func (m *Memory) Neighbour(slot uint32) *Neighbour {
	if int(slot) >= len(m.hops) {
		return nil
	}
	return &m.hops[slot]
}

// ToControl returns the ring by which a worker hands messages to vitad.
func (m *Memory) ToControl(worker int) *Ring { return &m.rings[worker].toControl }

// FromControl returns the ring by which vitad hands messages to a worker.
func (m *Memory) FromControl(worker int) *Ring { return &m.rings[worker].fromControl }

// Text returns a zero-padded text as a string.
func Text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// SetText stores s in b, cut to its length and zero-padded.
func SetText(b []byte, s string) {
	n := copy(b, s)
	clear(b[n:])
}
