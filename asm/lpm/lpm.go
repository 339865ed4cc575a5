// Package lpm finds the longest matching prefix of IPv4 and IPv6 addresses in
// a flat table that lies in memory of the caller's, shared between processes
// as it may be.
//
// A table is a multibit trie after Asai and Ohara, "Poptrie" (SIGCOMM 2015):
// the first 16 bits index an array directly, every further node takes 6 bits.
//
//	header (64 bytes)  magic, version, family, where the rest lies
//	direct [65536]u32  a value, or nodeFlag | index of a node
//	nodes  []node      two 64-bit vectors and two bases, 24 bytes each
//	leaves []u32       values
//
// In a node, bit v of children says that slot v has a node below it: number
// childBase + how many bits of children lie below v. Otherwise slot v is a
// leaf, and runs of equal leaves are stored once: bit v of starts says that a
// run begins at slot v, and its value is leaf leafBase + how many bits of
// starts lie at or below v, less one. A lookup costs one access for a prefix of
// up to 16 bits, and two more for each 6 bits beyond.
//
// Everything is an index, nothing a pointer, and each step of a lookup hangs on
// one 32-bit load of an index: a later version can change a table in place by
// building a subtree in free space and storing its index. The package knows
// addresses and values, not routes; it must not import anything of this module.
package lpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
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

// Errors of Build and Open.
var (
	ErrSpace     = errors.New("lpm: memory too small for the table")
	ErrPrefix    = errors.New("lpm: bad prefix")
	ErrDuplicate = errors.New("lpm: prefix given twice")
	ErrCorrupt   = errors.New("lpm: not a table, or a damaged one")
)

const (
	directBits = 16
	directLen  = 1 << directBits
	stride     = 6
	nodeFlag   = 1 << 31 // in a direct entry: the rest is the index of a node

	levels4 = (32 - directBits + stride - 1) / stride
	levels6 = (128 - directBits + stride - 1) / stride

	headerSize = 64
	nodeSize   = 24
	leafSize   = 4
)

// node is 6 bits of a trie; see the package comment.
type node struct {
	children  uint64
	starts    uint64
	leafBase  uint32
	childBase uint32
}

// Header fields, little endian as the machine, by offset in bytes.
const (
	hdrMagic   = 0  // u32
	hdrVersion = 4  // u32
	hdrFamily  = 8  // u32: 4 or 6
	hdrNodes   = 12 // u32: number of nodes
	hdrLeaves  = 16 // u32: number of leaves
	hdrSize    = 24 // u64: bytes of the whole table

	magic   = 0x4d504c56 // "VLPM"
	version = 1
)

// Size4 returns the memory, in bytes, that always suffices for n IPv4 prefixes.
func Size4(n int) int { return sizeFor(n, levels4) }

// Size6 returns the memory, in bytes, that always suffices for n IPv6 prefixes.
// It allows for prefixes of 128 bits; shorter ones use less.
func Size6(n int) int { return sizeFor(n, levels6) }

// sizeFor follows from the shape: a prefix makes at most one node a level, and
// k prefixes that end in a node make at most 2k+1 runs of leaves there.
func sizeFor(n, levels int) int {
	nodes := n * levels
	return tableSize(nodes, 2*n+nodes)
}

func tableSize(nodes, leaves int) int {
	return (headerSize + directLen*4 + nodes*nodeSize + leaves*leafSize + 7) &^ 7
}

// table is an opened table of either family. Its slices lie in the caller's
// memory.
type table struct {
	direct []uint32
	nodes  []node
	leaves []uint32
}

// open checks mem and makes the views of it. Every index in the table is
// checked here, so that a damaged table is refused as a whole; the lookups
// check again, since whoever shares the memory can still change it.
func open(mem []byte, family uint32, levels int) (table, error) {
	if len(mem) < tableSize(0, 0) {
		return table{}, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(mem))
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(mem)))%8 != 0 {
		return table{}, fmt.Errorf("%w: memory not aligned to 8 bytes", ErrCorrupt)
	}
	le := binary.LittleEndian
	if m, v, f := le.Uint32(mem[hdrMagic:]), le.Uint32(mem[hdrVersion:]), le.Uint32(mem[hdrFamily:]); m != magic || v != version || f != family {
		return table{}, fmt.Errorf("%w: magic %#x version %d family %d, want %#x %d %d", ErrCorrupt, m, v, f, magic, version, family)
	}
	nodes, leaves, size := le.Uint32(mem[hdrNodes:]), le.Uint32(mem[hdrLeaves:]), le.Uint64(mem[hdrSize:])
	if nodes >= nodeFlag || leaves >= nodeFlag || size > uint64(len(mem)) || uint64(tableSize(int(nodes), int(leaves))) != size {
		return table{}, fmt.Errorf("%w: %d nodes, %d leaves, %d bytes", ErrCorrupt, nodes, leaves, size)
	}
	t := views(mem, int(nodes), int(leaves))
	if err := t.check(levels); err != nil {
		return table{}, err
	}
	return t, nil
}

// views cuts mem, which is large enough and aligned, into a table's parts.
func views(mem []byte, nodes, leaves int) table {
	var t table
	at := headerSize
	t.direct = unsafe.Slice((*uint32)(unsafe.Pointer(&mem[at])), directLen)
	at += directLen * 4
	if nodes > 0 {
		t.nodes = unsafe.Slice((*node)(unsafe.Pointer(&mem[at])), nodes)
	}
	at += nodes * nodeSize
	if leaves > 0 {
		t.leaves = unsafe.Slice((*uint32)(unsafe.Pointer(&mem[at])), leaves)
	}
	return t
}

// check walks everything a lookup can reach by index.
func (t *table) check(levels int) error {
	for i, e := range t.direct {
		if e&nodeFlag != 0 && int(e&^nodeFlag) >= len(t.nodes) {
			return fmt.Errorf("%w: direct entry %d points at node %d of %d", ErrCorrupt, i, e&^nodeFlag, len(t.nodes))
		}
	}
	for i := range t.nodes {
		n := &t.nodes[i]
		if int(n.childBase)+bits.OnesCount64(n.children) > len(t.nodes) ||
			int(n.leafBase)+bits.OnesCount64(n.starts) > len(t.leaves) {
			return fmt.Errorf("%w: node %d points outside the table", ErrCorrupt, i)
		}
		if n.children != 0 && int(n.childBase) <= i {
			return fmt.Errorf("%w: node %d has children before itself", ErrCorrupt, i)
		}
		// The first leaf slot must begin a run, or it would belong to none.
		if first := bits.TrailingZeros64(^n.children); first < 64 && n.starts&(1<<first) == 0 || n.starts&n.children != 0 {
			return fmt.Errorf("%w: node %d has a leaf without a value", ErrCorrupt, i)
		}
	}
	for i, v := range t.leaves {
		if v > Miss {
			return fmt.Errorf("%w: leaf %d is %#x", ErrCorrupt, i, v)
		}
	}
	return t.checkDepth(levels)
}

// checkDepth refuses a trie that is deeper than an address is long. Children
// come after their parents, so one pass in order knows every depth.
func (t *table) checkDepth(levels int) error {
	depth := make([]uint8, len(t.nodes))
	for _, e := range t.direct {
		if e&nodeFlag != 0 {
			depth[e&^nodeFlag] = 1
		}
	}
	for i := range t.nodes {
		n := &t.nodes[i]
		if n.children == 0 || depth[i] == 0 { // a node that nothing refers to is harmless
			continue
		}
		if int(depth[i]) >= levels {
			return fmt.Errorf("%w: node %d is below the last bit of an address", ErrCorrupt, i)
		}
		for c := range bits.OnesCount64(n.children) {
			d := &depth[int(n.childBase)+c]
			*d = max(*d, depth[i]+1)
		}
	}
	return nil
}

// Table4 is an opened table of IPv4 prefixes. The zero Table4 has none. It is
// valid as long as the memory it was opened on.
type Table4 struct{ t table }

// Table6 is an opened table of IPv6 prefixes. The zero Table6 has none. It is
// valid as long as the memory it was opened on.
type Table6 struct{ t table }

// Build4 writes a table of prefixes to dst, which must be aligned to 8 bytes,
// and returns how many bytes it takes: at most Size4(len(prefixes)). It
// refuses a prefix with bits beyond its length, and one that stands there
// twice.
func Build4(dst []byte, prefixes []Prefix) (used int, err error) { return build(dst, prefixes, 4) }

// Build6 is Build4 for IPv6.
func Build6(dst []byte, prefixes []Prefix) (used int, err error) { return build(dst, prefixes, 6) }

// Open4 checks the table at the start of mem, every index of it, and returns it
// for lookups, without a copy.
func Open4(mem []byte) (Table4, error) {
	t, err := open(mem, 4, levels4)
	return Table4{t}, err
}

// Open6 is Open4 for IPv6.
func Open6(mem []byte) (Table6, error) {
	t, err := open(mem, 6, levels6)
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
