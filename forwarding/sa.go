package forwarding

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"vita/forwarding/esp"
	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
	"vita/internal/arena"
)

// An SA has three parts, all under one index: the entry in shared memory
// (limits, sequence numbers, counters), the key, which never leaves this
// process, and for an inbound one its place in the worker's spiTable. The
// control goroutine makes and ends SAs; it lets go of a key only when no worker
// can be using it any more.

// lastSeq is the last sequence number that is used: the number after it would
// be the first again (RFC 4303, 3.3.3).
const lastSeq = 1<<64 - 2

// expiredFor is how long an SA past its time is kept for vitad to remove. It
// is not usable in that time.
const expiredFor = time.Minute

// keyStore holds the keys by SA index, in memory that no core dump holds. The
// first number of a key's room is its salt, the second says whether workers may
// use it: that orders the control goroutine's writes before their reads.
type keyStore struct {
	memory []byte
	keys   []esp.Key
}

func newKeyStore(n int) (*keyStore, error) {
	b, err := arena.Private(arena.Size[esp.Key](n))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return &keyStore{b, arena.View[esp.Key](b, n)}, nil
}

// close gives the memory back. No worker may be there any more.
func (s *keyStore) close() error { return arena.Release(s.memory) }

func ready(k *esp.Key) *uint32 { return &k.GCM.Room()[1] }

// at returns the key of SA index i, or nil where it has none.
func (s *keyStore) at(i int) *esp.Key {
	k := &s.keys[i]
	if atomic.LoadUint32(ready(k)) == 0 {
		return nil
	}
	return k
}

// set gives SA index i, which has none, a key.
func (s *keyStore) set(i int, key []byte, salt [4]byte) error {
	k := &s.keys[i]
	if err := k.GCM.Expand(key); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	k.SetSalt(salt)
	atomic.StoreUint32(ready(k), 1)
	return nil
}

// hide keeps workers from taking up the key of SA index i from now on.
func (s *keyStore) hide(i int) { atomic.StoreUint32(ready(&s.keys[i]), 0) }

// clear forgets a hidden key that no worker is using.
func (s *keyStore) clear(i int) { s.keys[i].GCM.Clear() }

// spiTable finds inbound SAs by their SPI: an open-addressed table, changed by
// the control goroutine while its worker reads it. A slot is one word, SPI in
// the upper half and SA reference in the lower.
type spiTable struct {
	slots []atomic.Uint64
	shift uint
}

const (
	spiEmpty   = 0
	spiDeleted = 1 // no reference is that small
)

// newSPITable makes a table for up to n SAs, which fill at most half of it.
func newSPITable(n int) *spiTable {
	size, shift := 64, uint(26)
	for size < 2*n {
		size, shift = size*2, shift-1
	}
	return &spiTable{slots: make([]atomic.Uint64, size), shift: shift}
}

func (t *spiTable) start(spi uint32) int {
	return int((spi * 0x9e3779b1) >> t.shift) // Fibonacci hashing: the high bits are the mixed ones
}

// slot returns where the search for an SPI begins.
func (t *spiTable) slot(spi uint32) *atomic.Uint64 { return &t.slots[t.start(spi)] }

// find returns the reference of the SA with an SPI, or 0.
func (t *spiTable) find(spi uint32) uint32 {
	mask := len(t.slots) - 1
	for i, n := t.start(spi), 0; n < len(t.slots); i, n = (i+1)&mask, n+1 {
		switch v := t.slots[i].Load(); {
		case v == spiEmpty:
			return 0
		case uint32(v>>32) == spi && v != spiDeleted:
			return uint32(v)
		}
	}
	return 0
}

// set enters an SA, in the place of one with the same SPI if there is one,
// whose reference it returns.
func (t *spiTable) set(spi, ref uint32) (old uint32) {
	mask := len(t.slots) - 1
	free := -1
	for i, n := t.start(spi), 0; n < len(t.slots); i, n = (i+1)&mask, n+1 {
		v := t.slots[i].Load()
		if v == spiEmpty || v == spiDeleted {
			if free < 0 {
				free = i
			}
			if v == spiEmpty {
				break
			}
			continue
		}
		if uint32(v>>32) == spi {
			t.slots[i].Store(uint64(spi)<<32 | uint64(ref))
			return uint32(v)
		}
	}
	t.slots[free].Store(uint64(spi)<<32 | uint64(ref)) // at most half are in use
	return 0
}

// remove takes an SA out, unless its SPI has gone to another meanwhile.
func (t *spiTable) remove(spi, ref uint32) {
	mask := len(t.slots) - 1
	for i, n := t.start(spi), 0; n < len(t.slots); i, n = (i+1)&mask, n+1 {
		v := t.slots[i].Load()
		if v == spiEmpty {
			return
		}
		if v != uint64(spi)<<32|uint64(ref) {
			continue
		}
		t.slots[i].Store(spiDeleted)
		// Nothing hangs on deleted slots in front of an empty one.
		if t.slots[(i+1)&mask].Load() == spiEmpty {
			for t.slots[i].Load() == spiDeleted {
				t.slots[i].Store(spiEmpty)
				i = (i - 1) & mask
			}
		}
		return
	}
}

// saIndex hands out indexes of SA entries, and knows which are in use for which
// route. It takes no memory once it is made.
type saIndex struct {
	free []int // given back
	next int   // never used from here on
	uses []uint32
	at   []saPlace // by index
	of   []int32   // by route slot: the first of its SAs, plus one
}

// saPlace is an SA's place among those of its route: numbers are indexes plus
// one, 0 is none.
type saPlace struct {
	route        uint32
	before, next int32
}

func newSAIndex(sas, routes int) saIndex {
	return saIndex{free: make([]int, 0, sas), uses: make([]uint32, sas), at: make([]saPlace, sas), of: make([]int32, routes)}
}

// enter notes that SA index i is of a route.
func (x *saIndex) enter(i int, route uint32) {
	first := &x.of[route]
	x.at[i] = saPlace{route: route, next: *first}
	if *first != 0 {
		x.at[*first-1].before = int32(i + 1)
	}
	*first = int32(i + 1)
}

// leave gives an index back.
func (x *saIndex) leave(i int) {
	p := x.at[i]
	if p.next != 0 {
		x.at[p.next-1].before = p.before
	}
	if p.before != 0 {
		x.at[p.before-1].next = p.next
	} else {
		x.of[p.route] = p.next
	}
	x.at[i] = saPlace{}
	x.free = append(x.free, i)
}

// all appends the indexes of a route's SAs to dst.
func (x *saIndex) all(dst []int, route uint32) []int {
	if int(route) >= len(x.of) {
		return dst
	}
	for i := x.of[route]; i != 0; i = x.at[i-1].next {
		dst = append(dst, int(i-1))
	}
	return dst
}

func (x *saIndex) take() (i int, ok bool) {
	if n := len(x.free); n > 0 {
		i, x.free = x.free[n-1], x.free[:n-1]
		return i, true
	}
	if x.next == len(x.at) {
		return 0, false
	}
	x.next++
	return x.next - 1, true
}

var errNoRoute = errors.New("no such route or queue in the live tables")

// installSA makes an SA. The caller holds e.mu.
func (e *Engine) installSA(r *ctl.Request) (uint32, ctl.Code, error) {
	live := e.live()
	if live == nil {
		return 0, ctl.NoRoute, errNoRoute
	}
	slot := live.WorkerSlot(r.Queue)
	if slot < 0 || !live.Has(int(r.Route)) || e.workers[slot] == nil {
		return 0, ctl.NoRoute, errNoRoute
	}
	if r.Direction != tables.Inbound && r.Direction != tables.Outbound || int(r.KeyLen) > len(r.Key) {
		return 0, ctl.Failed, errors.New("malformed SA")
	}
	i, ok := e.saIndex.take()
	if !ok {
		return 0, ctl.NoSpace, errors.New("no room for another SA")
	}
	if err := e.keys.set(i, r.Key[:r.KeyLen], r.Salt); err != nil {
		e.saIndex.free = append(e.saIndex.free, i)
		return 0, ctl.Failed, err
	}
	e.saIndex.uses[i]++
	e.saIndex.enter(i, r.Route)
	ref := tables.SARef(i, e.saIndex.uses[i])
	sa := &e.mem.SAs[i]
	now := e.o.Clock()
	*sa = tables.SA{
		Route: r.Route, SPI: r.SPI, Queue: r.Queue, Direction: r.Direction, Worker: uint16(slot),
		Created: now, MaxBytes: r.MaxBytes, MaxPackets: r.MaxPackets, LastSeq: lastSeq, Replay: live.ReplayWindow,
		Owner: r.Owner,
	}
	clear(e.mem.Window(sa, i))
	if r.Seq > 0 {
		esp.Resume(sa, e.mem.Window(sa, i), r.Seq)
	}
	if r.HardTTL > 0 {
		sa.Expires = now + r.HardTTL
	}
	atomic.StoreUint32(&sa.Ref, ref)
	if top := uint32(e.saIndex.next); top > atomic.LoadUint32(&e.mem.Header.SATop) {
		atomic.StoreUint32(&e.mem.Header.SATop, top)
	}
	if r.Direction == tables.Inbound {
		if old := e.workers[slot].spis.set(r.SPI, ref); old != 0 {
			e.endSAs([]int{tables.SAIndex(old)})
		}
	}
	return ref, ctl.OK, nil
}

// removeSA ends the SA that a reference names, if it is there. The caller
// holds e.mu.
func (e *Engine) removeSA(ref uint32) {
	i := tables.SAIndex(ref)
	if ref != 0 && i < e.saIndex.next && atomic.LoadUint32(&e.mem.SAs[i].Ref) == ref {
		e.endSAs([]int{i})
	}
}

// endSAs ends SAs: they are taken out of the workers' sight, the workers'
// turns awaited, and only then the keys cleared. The caller holds e.mu.
func (e *Engine) endSAs(indexes []int) {
	if len(indexes) == 0 {
		return
	}
	var busy [tables.WorkerSlots]bool
	for _, i := range indexes {
		sa := &e.mem.SAs[i]
		ref := atomic.LoadUint32(&sa.Ref)
		atomic.StoreUint32(&sa.Ref, 0)
		e.keys.hide(i)
		slot := int(sa.Worker)
		if slot >= tables.WorkerSlots {
			continue // damage by the other process; no worker uses such an entry
		}
		busy[slot] = true
		if word := e.mem.Active(slot, int(sa.Route)); word != nil {
			atomic.CompareAndSwapUint32(word, ref, 0)
		}
		if w := e.workers[slot]; w != nil {
			w.spis.remove(sa.SPI, ref)
		}
	}
	for slot, w := range e.workers {
		if w != nil && busy[slot] {
			e.awaitTurn(w)
		}
	}
	for _, i := range indexes {
		e.keys.clear(i)
	}
	for _, i := range indexes {
		e.saIndex.leave(i)
	}
}

// endSAsWhere ends all SAs that a function picks. The caller holds e.mu.
func (e *Engine) endSAsWhere(pick func(*tables.SA) bool) {
	var indexes []int
	for i := range e.saIndex.next {
		if sa := &e.mem.SAs[i]; atomic.LoadUint32(&sa.Ref) != 0 && pick(sa) {
			indexes = append(indexes, i)
		}
	}
	e.endSAs(indexes)
}

// sweep ends SAs that are long past their time, as they may be while vitad is
// away.
func (e *Engine) sweep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.o.Clock()
	e.endSAsWhere(func(sa *tables.SA) bool { return sa.Expires != 0 && now > sa.Expires+int64(expiredFor) })
}

// awaitTurn returns when the worker has begun its turn anew since the call, so
// that nothing it had looked up before is in use. The caller holds e.mu.
func (e *Engine) awaitTurn(w *worker) {
	before := w.turns.Load()
	w.signal()
	for pause := 20 * time.Microsecond; w.turns.Load() == before; pause = min(2*pause, time.Millisecond) {
		select {
		case <-w.done:
			return
		case <-time.After(pause):
		}
	}
}
