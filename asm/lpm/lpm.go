// Package lpm finds the longest matching prefix of IPv4 and IPv6 addresses in
// a flat table that lies in memory of the caller's, shared between processes
// as it may be, and changes such a table while others read it.
//
//	header (64 bytes)  magic, version, family, how large the rest is
//	short  [2^s]u32    by the first s bits: prefixes of up to s bits
//	direct [2^k]u32    by the first k bits: prefixes of up to k bits, or what is below
//	lines  [n]line     what is below: cache lines of 64 bytes
//
// An entry of direct is 0 where no prefix longer than s bits matches: then short
// has the answer. Otherwise it is a value plus one, or the number of a line plus
// one, with the upper bit set. A line is of one of two kinds:
//
//	block   16 such entries, by the next four bits of the address
//	bucket  up to four prefixes, longest first, and the entry for what is in
//	        none of them; those of IPv6 have 64 bits here and, where one of them
//	        is longer, the other 64 in a line of their own
//
// A bucket holds whole prefixes, so that a few of them cost one line however
// long they are; a block is made where there are more than four. k follows from
// the number of prefixes (firstBits): it is what makes a large table fast, since
// as good as all its prefixes then cost a single access, and what keeps a small
// one small. The short prefixes lie apart so that no change has to write more
// than 2^s words that hang together, nor build more than 128 subtrees anew.
//
// A line that can be reached is never written but for whole entries of a block,
// by one atomic store each. A change builds what is new in lines that nobody can
// reach and then stores one entry that leads there. A reader meets the state
// before or after it, for each address. Lines that were taken out may be written
// again once no reader can still be in them (Writer.Cut, Writer.Reuse).
//
// Everything is an index, nothing a pointer. Lookups check each index, since
// whoever shares the memory can change it at any time: from a damaged table come
// wrong values, no more than that. The package knows addresses and values, not
// routes; it must not import anything of this module.
package lpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"unsafe"
)

// Miss is what a lookup yields for an address without a prefix.
const Miss = 1<<31 - 1

// MaxValue is the largest value a prefix can have.
const MaxValue = Miss - 1

// Prefix is an entry of a table.
type Prefix struct {
	Net   netip.Prefix
	Value uint32 // at most MaxValue
}

// Errors of Build, Open and Writer.
var (
	ErrSpace     = errors.New("lpm: memory too small for the table")
	ErrPrefix    = errors.New("lpm: bad prefix")
	ErrDuplicate = errors.New("lpm: prefix given twice")
	ErrCorrupt   = errors.New("lpm: not a table, or a damaged one")
)

// The parts of an entry. An entry less one has them at the same places, and all
// bits set where the entry is 0: so the lookups take it.
const (
	lineFlag   = 1 << 31 // the rest is about a line
	bucketFlag = 1 << 30 // which is a bucket
	lineMask   = bucketFlag - 1

	maxLines = lineMask - 1
)

const (
	stride     = 4
	fanout     = 1 << stride
	bucketSize = 4 // prefixes

	maxBits   = 24 // of direct
	shortLess = 8  // s is so much less than k

	headerSize = 64
	lineSize   = 64
)

// line is a block as it is.
type line [fanout]uint32

// bucket4 is a bucket of IPv4. What it has room for beyond its prefixes repeats
// the first one.
type bucket4 struct {
	net     [bucketSize]uint32
	entry   [bucketSize]uint32
	shift   [bucketSize]uint8 // 32 less the prefix's bits
	inherit uint32
	_       [6]uint32
}

// bucket6 is one of IPv6.
type bucket6 struct {
	hi      [bucketSize]uint64
	entry   [bucketSize]uint32
	shift   [bucketSize]uint8 // 64 less the prefix's bits; 128 less where there is a next line
	inherit uint32
	next    uint32 // number of the line with the other bits, plus one; 0: none
	_       uint32
}

// low6 is that other line.
type low6 [8]uint64

// Header fields, little endian as the machine, by offset in bytes.
const (
	hdrMagic   = 0  // u32
	hdrVersion = 4  // u32
	hdrFamily  = 8  // u32: 4 or 6
	hdrBits    = 12 // u32: k
	hdrLines   = 16 // u32: how many
	hdrSize    = 24 // u64: bytes of the whole table

	magic   = 0x4d504c56 // "VLPM"
	version = 2
)

// sizes are k for small tables: of 16 and 256 KB. Any other has at least 4 MB.
var sizes = [...]struct{ most, bits int }{{16, minBits}, {256, 16}}

const (
	minBits  = 12
	manyBits = 20
)

// firstBits returns k for n prefixes of a family. Those of IPv4 fill direct so
// far that most of them end in it. Those of IPv6 are longer than that, as a
// rule: more bits would only spread them.
func firstBits(n int, family uint32) int {
	for _, s := range sizes {
		if n <= s.most {
			return s.bits
		}
	}
	return min(max(bits.Len(uint(n-1))+more(family), manyBits), maxBits)
}

func more(family uint32) int {
	if family == 6 {
		return 3
	}
	return 5
}

// Size4 returns the memory, in bytes, that always suffices for n IPv4 prefixes.
func Size4(n int) int { return tableSize(firstBits(n, 4), linesFor(n, 32)) }

// Size6 returns the memory, in bytes, that always suffices for n IPv6 prefixes.
// Such as there are in practice take a small part of it.
func Size6(n int) int { return tableSize(firstBits(n, 6), linesFor(n, 128)) }

// linesFor follows from the shape: of each level's blocks every one has more
// than four prefixes below that no other has, and every bucket has one. Buckets
// of IPv6 may have two lines.
func linesFor(n, width int) int {
	levels := (width - minBits + stride - 1) / stride
	blocks, buckets := n*levels/(bucketSize+1), n
	if width == 128 {
		buckets *= 2
	}
	return blocks + buckets
}

func tableSize(k, lines int) int {
	return headerSize + 4<<(k-shortLess) + 4<<k + lines*lineSize
}

// table is an opened table of either family. Its slices lie in the caller's
// memory.
type table struct {
	short  []uint32
	direct []uint32
	lines  []line
	bits   int
}

// open checks mem and makes the views of it. Every index in the table is
// checked here, so that a damaged table is refused as a whole.
func open(mem []byte, family uint32) (table, error) {
	if len(mem) < headerSize {
		return table{}, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(mem))
	}
	if !aligned(mem) {
		return table{}, fmt.Errorf("%w: memory not aligned to %d bytes", ErrCorrupt, lineSize)
	}
	le := binary.LittleEndian
	if m, v, f := le.Uint32(mem[hdrMagic:]), le.Uint32(mem[hdrVersion:]), le.Uint32(mem[hdrFamily:]); m != magic || v != version || f != family {
		return table{}, fmt.Errorf("%w: magic %#x version %d family %d, want %#x %d %d", ErrCorrupt, m, v, f, magic, version, family)
	}
	k, lines, size := le.Uint32(mem[hdrBits:]), le.Uint32(mem[hdrLines:]), le.Uint64(mem[hdrSize:])
	if k < minBits || k > maxBits || lines > maxLines || size > uint64(len(mem)) || uint64(tableSize(int(k), int(lines))) != size {
		return table{}, fmt.Errorf("%w: %d bits, %d lines, %d bytes", ErrCorrupt, k, lines, size)
	}
	t := views(mem, int(k), int(lines))
	return t, t.check(family)
}

func aligned(mem []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(mem)))%lineSize == 0 }

// views cuts mem, which is large enough and aligned, into a table's parts.
func views(mem []byte, k, lines int) table {
	t := table{bits: k}
	at := headerSize
	t.short = unsafe.Slice((*uint32)(unsafe.Pointer(&mem[at])), 1<<(k-shortLess))
	at += 4 << (k - shortLess)
	t.direct = unsafe.Slice((*uint32)(unsafe.Pointer(&mem[at])), 1<<k)
	if lines > 0 {
		t.lines = unsafe.Slice((*line)(unsafe.Pointer(&mem[at+4<<k])), lines)
	}
	return t
}

// check walks everything that a lookup can reach. In a whole table each line is
// reached once: so this ends, and takes no longer than the table is large.
func (t *table) check(family uint32) error {
	c := checker{t: t, seen: make([]uint64, (len(t.lines)+63)/64), width: 32}
	if family == 6 {
		c.width = 128
	}
	for i := range t.short {
		if e := atomic.LoadUint32(&t.short[i]); e&lineFlag != 0 {
			return fmt.Errorf("%w: entry %d of the short prefixes is %#x", ErrCorrupt, i, e)
		}
	}
	for i := range t.direct {
		if e := atomic.LoadUint32(&t.direct[i]); e&lineFlag != 0 {
			if err := c.below(e, t.bits); err != nil {
				return err
			}
		}
	}
	return nil
}

type checker struct {
	t     *table
	seen  []uint64
	width int
}

// visit marks the line with a number plus one.
func (c *checker) visit(number uint32) (*line, error) {
	i := number - 1
	if int64(i) >= int64(len(c.t.lines)) {
		return nil, fmt.Errorf("%w: line %d of %d", ErrCorrupt, i, len(c.t.lines))
	}
	if bit := uint64(1) << (i % 64); c.seen[i/64]&bit != 0 {
		return nil, fmt.Errorf("%w: line %d is reached twice", ErrCorrupt, i)
	} else {
		c.seen[i/64] |= bit
	}
	return &c.t.lines[i], nil
}

// below checks what an entry with lineFlag leads to, at bit at of the address.
func (c *checker) below(e uint32, at int) error {
	l, err := c.visit(e & lineMask)
	if err != nil {
		return err
	}
	if e&bucketFlag != 0 {
		return c.bucket(l)
	}
	if at >= c.width {
		return fmt.Errorf("%w: a block below the last bit of an address", ErrCorrupt)
	}
	for i := range l {
		if e := atomic.LoadUint32(&l[i]); e&lineFlag != 0 {
			if err := c.below(e, at+stride); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) bucket(l *line) error {
	entries, inherit, shifts, most := (*bucket4)(unsafe.Pointer(l)).parts()
	if c.width == 128 {
		b := (*bucket6)(unsafe.Pointer(l))
		entries, inherit, shifts, most = b.parts()
		if b.next != 0 {
			if _, err := c.visit(b.next); err != nil {
				return err
			}
		}
	}
	for i, e := range entries {
		if e == 0 || e&lineFlag != 0 || shifts[i] >= most {
			return fmt.Errorf("%w: a bucket with entry %#x for %d bits", ErrCorrupt, e, shifts[i])
		}
	}
	if inherit&lineFlag != 0 {
		return fmt.Errorf("%w: a bucket that inherits %#x", ErrCorrupt, inherit)
	}
	return nil
}

func (b *bucket4) parts() (entries [bucketSize]uint32, inherit uint32, shifts [bucketSize]uint8, most uint8) {
	return b.entry, b.inherit, b.shift, 32
}

func (b *bucket6) parts() (entries [bucketSize]uint32, inherit uint32, shifts [bucketSize]uint8, most uint8) {
	if b.next != 0 {
		return b.entry, b.inherit, b.shift, 128
	}
	return b.entry, b.inherit, b.shift, 64
}

// Table4 is an opened table of IPv4 prefixes. The zero Table4 has none. It is
// valid as long as the memory it was opened on, also while a Writer changes
// that.
type Table4 struct{ t table }

// Table6 is an opened table of IPv6 prefixes. The zero Table6 has none. It is
// valid as Table4 is.
type Table6 struct{ t table }

// Build4 writes a table of prefixes to dst, which must be aligned to 64 bytes,
// and returns how many bytes it takes: at most Size4(len(prefixes)). It
// refuses a prefix with bits beyond its length, and one that stands there
// twice.
func Build4(dst []byte, prefixes []Prefix) (used int, err error) { return build(dst, prefixes, 4) }

// Build6 is Build4 for IPv6.
func Build6(dst []byte, prefixes []Prefix) (used int, err error) { return build(dst, prefixes, 6) }

func build(dst []byte, prefixes []Prefix, family uint32) (int, error) {
	w, err := newWriter(dst, prefixes, family, firstBits(len(prefixes), family))
	if err != nil {
		return 0, err
	}
	return w.Shrink(0), nil
}

// Open4 checks the table at the start of mem, every index of it, and returns it
// for lookups, without a copy.
func Open4(mem []byte) (Table4, error) {
	t, err := open(mem, 4)
	return Table4{t}, err
}

// Open6 is Open4 for IPv6.
func Open6(mem []byte) (Table6, error) {
	t, err := open(mem, 6)
	return Table6{t}, err
}

// Lookup stores in dst[i] the value of the longest prefix that holds addrs[i],
// an address in host byte order (192.0.2.1 is 0xc0000201), or Miss. Dst must
// be at least as long as addrs.
func (t *Table4) Lookup(dst []uint32, addrs []uint32) { lookup4(&t.t, dst, addrs) }

// Lookup stores in dst[i] the value of the longest prefix that holds addrs[i],
// an address as it lies in the packet, or Miss. Dst must be at least as long
// as addrs.
func (t *Table6) Lookup(dst []uint32, addrs [][16]byte) { lookup6(&t.t, dst, addrs) }
