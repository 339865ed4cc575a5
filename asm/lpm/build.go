package lpm

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"unsafe"
)

// entry is a prefix as the builder sees it: its bits at the top of 128. A
// prefix before another with the same first bits is the shorter one.
type entry struct {
	hi, lo uint64
	len    int
	value  uint32
}

// slot returns the stride of e that begins at bit at.
func (e *entry) slot(at int) int {
	switch {
	case at >= 64:
		return int(e.lo << (at - 64) >> (64 - stride))
	case at == 0:
		return int(e.hi >> (64 - stride))
	default:
		return int((e.hi<<at | e.lo>>(64-at)) >> (64 - stride))
	}
}

// builder grows a trie in memory of its own: how large it gets is known only
// once it is done.
type builder struct {
	nodes  []node
	leaves []uint32
}

func build(dst []byte, prefixes []Prefix, family uint32) (int, error) {
	entries, err := sorted(prefixes, family)
	if err != nil {
		return 0, err
	}
	var b builder
	direct := b.direct(entries)
	size := tableSize(len(b.nodes), len(b.leaves))
	if len(dst) < size {
		return 0, fmt.Errorf("%w: %d bytes, need %d", ErrSpace, len(dst), size)
	}
	if len(b.nodes) >= nodeFlag || len(b.leaves) >= nodeFlag {
		return 0, fmt.Errorf("%w: more nodes than an index can name", ErrSpace)
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(dst)))%8 != 0 {
		return 0, fmt.Errorf("%w: memory not aligned to 8 bytes", ErrSpace)
	}
	clear(dst[:headerSize])
	le := binary.LittleEndian
	le.PutUint32(dst[hdrMagic:], magic)
	le.PutUint32(dst[hdrVersion:], version)
	le.PutUint32(dst[hdrFamily:], family)
	le.PutUint32(dst[hdrNodes:], uint32(len(b.nodes)))
	le.PutUint32(dst[hdrLeaves:], uint32(len(b.leaves)))
	le.PutUint64(dst[hdrSize:], uint64(size))
	t := views(dst, len(b.nodes), len(b.leaves))
	copy(t.direct, direct)
	copy(t.nodes, b.nodes)
	copy(t.leaves, b.leaves)
	return size, nil
}

// sorted checks the prefixes and brings them into the order that build relies
// on: by address, and a prefix before those inside it.
func sorted(prefixes []Prefix, family uint32) ([]entry, error) {
	out := make([]entry, 0, len(prefixes))
	for _, p := range prefixes {
		if !p.Net.IsValid() || p.Net.Addr().Is4() != (family == 4) || p.Net.Masked() != p.Net {
			return nil, fmt.Errorf("%w: %v in a table of IPv%d", ErrPrefix, p.Net, family)
		}
		if p.Value > MaxValue {
			return nil, fmt.Errorf("%w: %v has value %d, at most %d", ErrPrefix, p.Net, p.Value, MaxValue)
		}
		e := entry{len: p.Net.Bits(), value: p.Value}
		if family == 4 {
			a := p.Net.Addr().As4()
			e.hi = uint64(binary.BigEndian.Uint32(a[:])) << 32
		} else {
			a := p.Net.Addr().As16()
			e.hi, e.lo = binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo), cmp.Compare(a.len, b.len))
	})
	for i := 1; i < len(out); i++ {
		if a, b := &out[i-1], &out[i]; a.hi == b.hi && a.lo == b.lo && a.len == b.len {
			for _, p := range prefixes {
				if p.Value == b.value && p.Net.Bits() == b.len {
					return nil, fmt.Errorf("%w: %v", ErrDuplicate, p.Net)
				}
			}
			return nil, ErrDuplicate
		}
	}
	return out, nil
}

// direct fills the array of the first 16 bits and builds what hangs below it.
func (b *builder) direct(entries []entry) []uint32 {
	out := make([]uint32, directLen)
	for i := range out {
		out[i] = Miss
	}
	for i := range entries {
		if e := &entries[i]; e.len <= directBits {
			first := int(e.hi >> (64 - directBits))
			for s := first; s < first+1<<(directBits-e.len); s++ {
				out[s] = e.value
			}
		}
	}
	for len(entries) > 0 {
		s := entries[0].hi >> (64 - directBits)
		n := 1
		for n < len(entries) && entries[n].hi>>(64-directBits) == s {
			n++
		}
		inside := deeper(entries[:n], directBits)
		entries = entries[n:]
		if len(inside) > 0 {
			root := len(b.nodes)
			b.nodes = append(b.nodes, node{})
			b.fill(root, directBits, inside, out[s])
			out[s] = nodeFlag | uint32(root)
		}
	}
	return out
}

// deeper returns those of entries, which share their first at bits, that are
// longer than at. They are sorted, so the others come first.
func deeper(entries []entry, at int) []entry {
	for len(entries) > 0 && entries[0].len <= at {
		entries = entries[1:]
	}
	return entries
}

// fill makes node i, which stands at bit at, from the entries below it; inherit
// is the value of the longest prefix above.
func (b *builder) fill(i, at int, entries []entry, inherit uint32) {
	var slots [64]uint32
	for s := range slots {
		slots[s] = inherit
	}
	var n node
	for k := range entries {
		e := &entries[k]
		first := e.slot(at)
		if e.len > at+stride {
			n.children |= 1 << first
			continue
		}
		for s := first; s < first+1<<(at+stride-e.len); s++ {
			slots[s] = e.value
		}
	}
	n.leafBase = uint32(len(b.leaves))
	last := uint32(nodeFlag) // no value
	for s, v := range slots {
		if n.children>>s&1 == 0 && v != last {
			n.starts |= 1 << s
			b.leaves = append(b.leaves, v)
			last = v
		}
	}
	n.childBase = uint32(len(b.nodes))
	b.nodes = append(b.nodes, make([]node, bits.OnesCount64(n.children))...)
	b.nodes[i] = n
	child := int(n.childBase)
	for len(entries) > 0 {
		s := entries[0].slot(at)
		k := 1
		for k < len(entries) && entries[k].slot(at) == s {
			k++
		}
		inside := deeper(entries[:k], at+stride)
		entries = entries[k:]
		if len(inside) > 0 {
			b.fill(child, at+stride, inside, slots[s])
			child++
		}
	}
}
