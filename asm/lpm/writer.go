package lpm

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"unsafe"
)

// Writer is who changes a table. It alone knows the prefixes as they were given,
// and which lines are free: both lie in its own memory. A table has one Writer,
// and a Writer is used by one goroutine at a time; readers need nothing from it.
//
// Set and Delete only prepare, and may fail; Commit carries out what they have
// prepared and cannot fail; Abort forgets it.
type Writer struct {
	family uint32
	mem    []byte
	t      table
	rib    rib

	short    []uint32 // as short in the table will be
	shortLen []uint8  // the length of the prefix that each has it from, plus one

	free []uint32 // lines that were used
	next uint32   // no line from here on ever was

	// What is prepared.
	stores   []store
	at       map[uint64]int // of stores, by place
	from, to int            // of short: what differs lies between
	made     []uint32       // lines that were taken
	ended    []uint32       // lines that will not be reached any more
	undo     []undo

	cut []uint32 // lines that are not reached any more, but perhaps still read

	scratch []entry
}

// store is an entry to be stored: of direct, or of a block.
type store struct {
	place uint64
	entry uint32
}

const inBlock = 1 << 63 // in a place: the rest is the line's number times 16 and which of its entries

// undo is how a prefix was.
type undo struct {
	e   entry
	had bool
}

// NewWriter4 writes a table of prefixes to mem, which must be aligned to 64
// bytes, and returns its writer. All of mem is the table's, as far as it can
// use it: what the prefixes do not take is room for changes; see Shrink. The
// table will be fast up to the number of prefixes that most says, where that is
// more than there are now.
func NewWriter4(mem []byte, prefixes []Prefix, most int) (*Writer, error) {
	return newWriter(mem, prefixes, 4, firstBits(max(len(prefixes), most), 4))
}

// NewWriter6 is NewWriter4 for IPv6.
func NewWriter6(mem []byte, prefixes []Prefix, most int) (*Writer, error) {
	return newWriter(mem, prefixes, 6, firstBits(max(len(prefixes), most), 6))
}

func newWriter(mem []byte, prefixes []Prefix, family uint32, k int) (*Writer, error) {
	entries, err := sorted(prefixes, family)
	if err != nil {
		return nil, err
	}
	lines := min((len(mem)-tableSize(k, 0))/lineSize, maxLines)
	if lines < 0 || tableSize(k, 0) > len(mem) {
		return nil, fmt.Errorf("%w: %d bytes, need %d", ErrSpace, len(mem), tableSize(k, 0))
	}
	if !aligned(mem) {
		return nil, fmt.Errorf("%w: memory not aligned to %d bytes", ErrSpace, lineSize)
	}
	w := &Writer{
		family: family, mem: mem, t: views(mem, k, lines),
		short: make([]uint32, 1<<(k-shortLess)), shortLen: make([]uint8, 1<<(k-shortLess)),
		at: make(map[uint64]int),
	}
	if err := w.fillAll(entries); err != nil {
		return nil, err
	}
	w.rib.fill(entries)
	clear(mem[:headerSize])
	le := binary.LittleEndian
	le.PutUint32(mem[hdrMagic:], magic)
	le.PutUint32(mem[hdrVersion:], version)
	le.PutUint32(mem[hdrFamily:], family)
	le.PutUint32(mem[hdrBits:], uint32(k))
	w.limit(lines)
	return w, nil
}

// limit says how many lines the table has.
func (w *Writer) limit(lines int) int {
	w.t.lines = w.t.lines[:lines]
	size := tableSize(w.t.bits, lines)
	binary.LittleEndian.PutUint32(w.mem[hdrLines:], uint32(lines))
	binary.LittleEndian.PutUint64(w.mem[hdrSize:], uint64(size))
	return size
}

// Shrink gives back what the table does not need, but for the room of some
// lines for changes, and returns how many bytes the table has then. No reader
// may have opened it yet.
func (w *Writer) Shrink(spare int) int {
	return w.limit(min(len(w.t.lines), int(w.next)+spare))
}

// Lines returns how many lines are in use and how many there are.
func (w *Writer) Lines() (used, all int) { return int(w.next) - len(w.free), len(w.t.lines) }

// Prefixes returns how many prefixes there are, and how many the table was laid
// out for: beyond that it gets slower, and should be built anew.
func (w *Writer) Prefixes() (n, most int) {
	k := w.t.bits
	for _, s := range sizes {
		if k == s.bits {
			return w.rib.n, s.most
		}
	}
	if k == maxBits {
		return w.rib.n, 1 << 30
	}
	return w.rib.n, 1 << (k - more(w.family))
}

func (w *Writer) take() (uint32, error) {
	var i uint32
	switch n := len(w.free); {
	case n > 0:
		i, w.free = w.free[n-1], w.free[:n-1]
	case int(w.next) < len(w.t.lines):
		i = w.next
		w.next++
	default:
		return 0, fmt.Errorf("%w: all of %d lines are used", ErrSpace, len(w.t.lines))
	}
	w.made = append(w.made, i)
	return i, nil
}

// Set prepares that a prefix gets a value, be it there or not. Where it fails,
// the caller has to Abort.
func (w *Writer) Set(net netip.Prefix, value uint32) error {
	e, err := entryOf(net, value, w.family)
	if err != nil {
		return err
	}
	old, had := w.rib.set(e)
	w.undo = append(w.undo, undo{entry{e.hi, e.lo, old, e.len}, had})
	if had && old == value {
		return nil
	}
	if int(e.len) <= w.t.bits-shortLess {
		w.setShort(&e, value+1, int(e.len)+1)
		return nil
	}
	return w.derive(&e)
}

// Delete prepares that a prefix goes. One that is not there is an error.
func (w *Writer) Delete(net netip.Prefix) error {
	e, err := entryOf(net, 0, w.family)
	if err != nil {
		return err
	}
	old, had := w.rib.remove(&e)
	if !had {
		return fmt.Errorf("%w: %v is not there", ErrPrefix, net)
	}
	w.undo = append(w.undo, undo{entry{e.hi, e.lo, old, e.len}, true})
	if int(e.len) <= w.t.bits-shortLess {
		w.endShort(&e)
		return nil
	}
	return w.derive(&e)
}

// setShort enters a prefix of few bits in short, which has length-1 bits.
func (w *Writer) setShort(e *entry, value uint32, length int) {
	s := w.t.bits - shortLess
	first := int(e.hi >> (64 - s))
	last := first + 1<<(s-int(e.len))
	for i := first; i < last; i++ {
		if int(w.shortLen[i]) <= length {
			w.short[i], w.shortLen[i] = value, uint8(length)
		}
	}
	w.differs(first, last)
}

// endShort takes one out, which the rib no longer has.
func (w *Writer) endShort(e *entry) {
	value, length := uint32(0), 0
	for n := int(e.len) - 1; n >= 0 && value == 0; n-- {
		h, l := mask(e.hi, e.lo, n)
		if up := w.rib.find(h, l, n); up != nil {
			value, length = up.value+1, n+1
		}
	}
	s := w.t.bits - shortLess
	first := int(e.hi >> (64 - s))
	last := first + 1<<(s-int(e.len))
	for i := first; i < last; i++ {
		if int(w.shortLen[i]) == int(e.len)+1 {
			w.short[i], w.shortLen[i] = value, uint8(length)
		}
	}
	w.differs(first, last)
}

func (w *Writer) differs(first, last int) {
	if w.from == w.to {
		w.from, w.to = first, last
	}
	w.from, w.to = min(w.from, first), max(w.to, last)
}

// derive prepares what follows from a prefix longer than s that the rib now has,
// or no longer has.
func (w *Writer) derive(e *entry) error {
	if int(e.len) <= w.t.bits {
		return w.deriveDirect(e)
	}
	k := w.t.bits
	hi, lo := mask(e.hi, e.lo, k)
	inherit := w.rib.cover(hi, lo, k, k-shortLess)
	place := e.hi >> (64 - k)
	for at := k; ; at += stride {
		hi, lo = mask(e.hi, e.lo, at)
		cur := w.load(place)
		w.scratch = w.rib.below(w.scratch[:0], hi, lo, at, bucketSize+1)
		if cur&(lineFlag|bucketFlag) != lineFlag || len(w.scratch) <= bucketSize {
			return w.rebuild(place, hi, lo, at, inherit)
		}
		first := bitsAt(e.hi, e.lo, at)
		place = inBlock | uint64(cur&lineMask-1)<<stride | uint64(first)
		if n := int(e.len); n <= at+stride { // it ends in this block
			for s := range 1 << (at + stride - n) {
				h, l := plus(e.hi, e.lo, uint64(s), at+stride)
				own := w.rib.cover(h, l, at+stride, at)
				if own == 0 {
					own = inherit
				}
				if err := w.rebuild(place+uint64(s), h, l, at+stride, own); err != nil {
					return err
				}
			}
			return nil
		}
		if own := w.rib.cover(e.hi, e.lo, at+stride, at); own != 0 {
			inherit = own
		}
	}
}

// deriveDirect does it for one that ends in direct: of at most 128 entries.
func (w *Writer) deriveDirect(e *entry) error {
	k, n := w.t.bits, int(e.len)
	var own [1 << (shortLess - 1)]uint32
	var deep [1 << (shortLess - 1)]bool // has it from a longer prefix: nothing changes
	count := 1 << (k - n)
	up := w.rib.cover(e.hi, e.lo, n, k-shortLess)
	for i := range count {
		own[i] = up
	}
	for longer := n + 1; longer <= k; longer++ {
		if w.rib.lens[longer] == 0 {
			continue
		}
		for i := range 1 << (longer - n) {
			h, l := plus(e.hi, e.lo, uint64(i), longer)
			if w.rib.find(h, l, longer) != nil {
				for d := i << (k - longer); d < (i+1)<<(k-longer); d++ {
					deep[d] = true
				}
			}
		}
	}
	for i := range count {
		if deep[i] {
			continue
		}
		h, l := plus(e.hi, e.lo, uint64(i), k)
		place := h >> (64 - k)
		if w.load(place)&lineFlag == 0 {
			w.store(place, own[i])
		} else if err := w.rebuild(place, h, l, k, own[i]); err != nil {
			return err
		}
	}
	return nil
}

// rebuild makes anew what a place leads to, which stands at bit at.
func (w *Writer) rebuild(place, hi, lo uint64, at int, inherit uint32) error {
	w.scratch = w.rib.below(w.scratch[:0], hi, lo, at, 1<<31-1)
	e, err := w.subtree(w.scratch, at, inherit)
	if err != nil {
		return err
	}
	w.end(w.load(place))
	w.store(place, e)
	return nil
}

// end notes that the lines which an entry leads to will not be reached any more.
func (w *Writer) end(e uint32) {
	if e&lineFlag == 0 {
		return
	}
	i := e&lineMask - 1
	w.ended = append(w.ended, i)
	if e&bucketFlag == 0 {
		for s := range uint64(fanout) {
			w.end(w.load(inBlock | uint64(i)<<stride | s))
		}
	} else if w.family == 6 {
		if next := (*bucket6)(unsafe.Pointer(&w.t.lines[i])).next; next != 0 {
			w.ended = append(w.ended, next-1)
		}
	}
}

// word returns the word of a place.
func (w *Writer) word(place uint64) *uint32 {
	if place&inBlock != 0 {
		return &w.t.lines[place&^inBlock>>stride][place&(fanout-1)]
	}
	return &w.t.direct[place]
}

// load returns the entry that a place will have.
func (w *Writer) load(place uint64) uint32 {
	if i, ok := w.at[place]; ok {
		return w.stores[i].entry
	}
	return *w.word(place) // which we alone write
}

func (w *Writer) store(place uint64, e uint32) {
	if i, ok := w.at[place]; ok {
		w.stores[i].entry = e
		return
	}
	w.at[place] = len(w.stores)
	w.stores = append(w.stores, store{place, e})
}

// Commit carries out what was prepared. For each address a reader meets the
// state before or after it; for all of them together it takes as long as it
// takes to store some words one after the other. Where a change takes out a
// prefix and puts in another for the same address, there is never none: what is
// added comes first. (If one of them is of few bits, and others of few bits
// change with it, a reader may meet one of those in between.)
func (w *Writer) Commit() {
	w.commitShort(func(before uint32) bool { return before == 0 })
	for _, s := range w.stores {
		if s.entry != 0 {
			atomic.StoreUint32(w.word(s.place), s.entry)
		}
	}
	w.commitShort(func(uint32) bool { return true })
	for _, s := range w.stores {
		if s.entry == 0 {
			atomic.StoreUint32(w.word(s.place), 0)
		}
	}
	w.cut = append(w.cut, w.ended...)
	w.clean()
}

// commitShort stores those entries of short that differ and are picked.
func (w *Writer) commitShort(pick func(before uint32) bool) {
	for i := w.from; i < w.to; i++ {
		if p := &w.t.short[i]; *p != w.short[i] && pick(*p) {
			atomic.StoreUint32(p, w.short[i])
		}
	}
}

// Abort forgets what was prepared.
func (w *Writer) Abort() {
	for _, u := range slices.Backward(w.undo) {
		short := int(u.e.len) <= w.t.bits-shortLess
		if u.had {
			w.rib.set(u.e)
			if short {
				w.setShort(&u.e, u.e.value+1, int(u.e.len)+1)
			}
			continue
		}
		w.rib.remove(&u.e)
		if short {
			w.endShort(&u.e)
		}
	}
	w.free = append(w.free, w.made...)
	w.clean()
}

func (w *Writer) clean() {
	w.stores, w.made, w.ended, w.undo = w.stores[:0], w.made[:0], w.ended[:0], w.undo[:0]
	w.from, w.to = 0, 0
	clear(w.at)
}

// Cut returns the lines that Commit has taken out of the table since the last
// call. They may still be read by whoever has begun a Lookup before, and go to
// Reuse when nobody has any more.
func (w *Writer) Cut() []uint32 {
	c := w.cut
	w.cut = nil
	return c
}

// Reuse takes back lines that Cut has returned.
func (w *Writer) Reuse(lines []uint32) { w.free = append(w.free, lines...) }

// Get returns the value that a prefix has, once what is prepared is carried out.
func (w *Writer) Get(net netip.Prefix) (value uint32, has bool) {
	e, err := entryOf(net, 0, w.family)
	if err != nil {
		return 0, false
	}
	f := w.rib.find(e.hi, e.lo, int(e.len))
	if f == nil {
		return 0, false
	}
	return f.value, true
}
