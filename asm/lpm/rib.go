package lpm

import (
	"cmp"
	"slices"
)

// entry is a prefix as the writer sees it: its bits at the top of 128.
type entry struct {
	hi, lo uint64
	value  uint32
	len    uint8
}

// order puts entries in the order of their addresses, and a prefix before those
// inside it.
func order(a, b *entry) int {
	if a.hi != b.hi {
		return cmp.Compare(a.hi, b.hi)
	}
	if a.lo != b.lo {
		return cmp.Compare(a.lo, b.lo)
	}
	return int(a.len) - int(b.len)
}

// mask returns the first n bits of an address.
func mask(hi, lo uint64, n int) (uint64, uint64) {
	if n <= 64 {
		return hi &^ (^uint64(0) >> n), 0
	}
	return hi, lo &^ (^uint64(0) >> (n - 64))
}

// bitsAt returns the four bits of an address from bit at on.
func bitsAt(hi, lo uint64, at int) int {
	switch {
	case at >= 64:
		return int(lo << (at - 64) >> (64 - stride))
	default:
		return int((hi<<at | lo>>(64-at)) >> (64 - stride))
	}
}

// plus returns an address with n added to the bits that end at bit at.
func plus(hi, lo uint64, n uint64, at int) (uint64, uint64) {
	if at <= 64 {
		return hi + n<<(64-at), lo
	}
	if at-64 < stride { // n straddles the middle
		return hi + n>>(at-64), lo + n<<(128-at)
	}
	return hi, lo + n<<(128-at)
}

// rib holds all prefixes of a table, in order, in chunks of some hundred: so
// that one more, or one less, moves no more than that.
type rib struct {
	chunks [][]entry // none is empty
	lens   [129]int  // how many there are of each length
	n      int
}

const chunkMax = 512

// fill makes the rib hold entries, which are in order.
func (r *rib) fill(entries []entry) {
	for c := range slices.Chunk(entries, chunkMax/2) {
		r.chunks = append(r.chunks, append(make([]entry, 0, chunkMax), c...))
	}
	for i := range entries {
		r.lens[entries[i].len]++
	}
	r.n = len(entries)
}

// seek returns the place of the first entry that is not before e: in chunk c,
// perhaps at its end.
func (r *rib) seek(e *entry) (c, i int) {
	from, to := 0, len(r.chunks) // the last chunk that begins before e, or at it
	for to-from > 1 {
		if m := int(uint(from+to) / 2); order(&r.chunks[m][0], e) <= 0 {
			from = m
		} else {
			to = m
		}
	}
	if len(r.chunks) == 0 {
		return 0, 0
	}
	chunk := r.chunks[from]
	a, b := 0, len(chunk)
	for a < b {
		if m := int(uint(a+b) / 2); order(&chunk[m], e) < 0 {
			a = m + 1
		} else {
			b = m
		}
	}
	return from, a
}

// find returns the entry of a prefix, or nil.
func (r *rib) find(hi, lo uint64, n int) *entry {
	e := entry{hi: hi, lo: lo, len: uint8(n)}
	c, i := r.seek(&e)
	if c < len(r.chunks) && i == len(r.chunks[c]) {
		c, i = c+1, 0
	}
	if c < len(r.chunks) && order(&r.chunks[c][i], &e) == 0 {
		return &r.chunks[c][i]
	}
	return nil
}

// set enters a prefix, and returns the value that it had.
func (r *rib) set(e entry) (old uint32, had bool) {
	if f := r.find(e.hi, e.lo, int(e.len)); f != nil {
		old, f.value = f.value, e.value
		return old, true
	}
	r.n++
	r.lens[e.len]++
	if len(r.chunks) == 0 {
		r.chunks = append(r.chunks, append(make([]entry, 0, chunkMax), e))
		return 0, false
	}
	c, i := r.seek(&e)
	if len(r.chunks[c]) == chunkMax {
		half := append(make([]entry, 0, chunkMax), r.chunks[c][chunkMax/2:]...)
		r.chunks[c] = r.chunks[c][:chunkMax/2]
		r.chunks = slices.Insert(r.chunks, c+1, half)
		if i > chunkMax/2 {
			c, i = c+1, i-chunkMax/2
		}
	}
	r.chunks[c] = slices.Insert(r.chunks[c], i, e)
	return 0, false
}

// remove takes a prefix out, and returns the value that it had.
func (r *rib) remove(e *entry) (old uint32, had bool) {
	c, i := r.seek(e)
	if c < len(r.chunks) && i == len(r.chunks[c]) {
		c, i = c+1, 0
	}
	if c >= len(r.chunks) || order(&r.chunks[c][i], e) != 0 {
		return 0, false
	}
	old = r.chunks[c][i].value
	r.n--
	r.lens[e.len]--
	if r.chunks[c] = slices.Delete(r.chunks[c], i, i+1); len(r.chunks[c]) == 0 {
		r.chunks = slices.Delete(r.chunks, c, c+1)
		return old, true
	}
	if c+1 < len(r.chunks) && len(r.chunks[c])+len(r.chunks[c+1]) < chunkMax/2 {
		r.chunks[c] = append(r.chunks[c], r.chunks[c+1]...)
		r.chunks = slices.Delete(r.chunks, c+1, c+2)
	}
	return old, true
}

// below appends to dst the entries that share the first at bits of an address,
// which has no others set, and are longer than that; no more than most of them.
func (r *rib) below(dst []entry, hi, lo uint64, at, most int) []entry {
	c, i := r.seek(&entry{hi: hi, lo: lo, len: uint8(at + 1)})
	for ; c < len(r.chunks) && most > 0; c, i = c+1, 0 {
		for ; i < len(r.chunks[c]) && most > 0; i, most = i+1, most-1 {
			e := &r.chunks[c][i]
			if h, l := mask(e.hi, e.lo, at); h != hi || l != lo {
				return dst
			}
			dst = append(dst, *e)
		}
	}
	return dst
}

// cover returns the table's entry for the longest prefix of an address that has
// at most from bits and more than least; 0 where there is none.
func (r *rib) cover(hi, lo uint64, from, least int) uint32 {
	for n := from; n > least; n-- {
		if r.lens[n] == 0 {
			continue
		}
		h, l := mask(hi, lo, n)
		if e := r.find(h, l, n); e != nil {
			return e.value + 1
		}
	}
	return 0
}
