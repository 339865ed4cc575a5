package lpm

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"unsafe"
)

// fillAll writes a new table of entries, which are in order.
func (w *Writer) fillAll(entries []entry) error {
	clear(w.t.short)
	clear(w.t.direct)
	k, s := w.t.bits, w.t.bits-shortLess
	for i := range entries {
		e, n := &entries[i], int(entries[i].len)
		switch {
		case n <= s:
			w.setShort(e, e.value+1, n+1)
		case n <= k: // a prefix comes before those inside it, which so have the last word
			first := e.hi >> (64 - k)
			for d := first; d < first+1<<(k-n); d++ {
				w.t.direct[d] = e.value + 1
			}
		}
	}
	copy(w.t.short, w.short)
	w.from, w.to = 0, 0
	for len(entries) > 0 {
		d := entries[0].hi >> (64 - k)
		n := 1
		for n < len(entries) && entries[n].hi>>(64-k) == d {
			n++
		}
		inside := deeper(entries[:n], k)
		entries = entries[n:]
		e, err := w.subtree(inside, k, w.t.direct[d])
		if err != nil {
			return err
		}
		w.t.direct[d] = e
	}
	w.made = nil
	return nil
}

// deeper returns those of entries, which share their first at bits, that are
// longer than at. They are in order, so the others come first.
func deeper(entries []entry, at int) []entry {
	for len(entries) > 0 && int(entries[0].len) <= at {
		entries = entries[1:]
	}
	return entries
}

// subtree makes what stands at bit at for the entries below it, in lines that
// nobody reaches yet, and returns the entry that leads there. Inherit is the
// entry for what none of them holds.
func (w *Writer) subtree(entries []entry, at int, inherit uint32) (uint32, error) {
	if len(entries) == 0 {
		return inherit, nil
	}
	i, err := w.take()
	if err != nil {
		return 0, err
	}
	if len(entries) <= bucketSize {
		return lineFlag | bucketFlag | (i + 1), w.bucket(&w.t.lines[i], entries, inherit)
	}
	var out line
	for s := range out {
		out[s] = inherit
	}
	for k := range entries {
		if e := &entries[k]; int(e.len) <= at+stride {
			first := bitsAt(e.hi, e.lo, at)
			for s := first; s < first+1<<(at+stride-int(e.len)); s++ {
				out[s] = e.value + 1
			}
		}
	}
	for len(entries) > 0 {
		s := bitsAt(entries[0].hi, entries[0].lo, at)
		n := 1
		for n < len(entries) && bitsAt(entries[n].hi, entries[n].lo, at) == s {
			n++
		}
		inside := deeper(entries[:n], at+stride)
		entries = entries[n:]
		if out[s], err = w.subtree(inside, at+stride, out[s]); err != nil {
			return 0, err
		}
	}
	l := &w.t.lines[i]
	for s := range out {
		atomic.StoreUint32(&l[s], out[s]) // readers that are in it are lost, but must not be torn
	}
	return lineFlag | (i + 1), nil
}

// bucket writes a bucket of one to bucketSize entries to a line.
func (w *Writer) bucket(l *line, entries []entry, inherit uint32) error {
	var es [bucketSize]entry
	n := copy(es[:], entries)
	slices.SortStableFunc(es[:n], func(a, b entry) int { return int(b.len) - int(a.len) })
	for i := n; i < bucketSize; i++ {
		es[i] = es[0]
	}
	if w.family == 4 {
		b := bucket4{inherit: inherit}
		for i := range es {
			b.net[i], b.entry[i], b.shift[i] = uint32(es[i].hi>>32), es[i].value+1, 32-es[i].len
		}
		*(*bucket4)(unsafe.Pointer(l)) = b
		return nil
	}
	b := bucket6{inherit: inherit}
	if es[0].len <= 64 {
		for i := range es {
			b.hi[i], b.entry[i], b.shift[i] = es[i].hi, es[i].value+1, 64-es[i].len
		}
		*(*bucket6)(unsafe.Pointer(l)) = b
		return nil
	}
	next, err := w.take()
	if err != nil {
		return err
	}
	var low low6
	for i := range es {
		b.hi[i], b.entry[i], b.shift[i], low[i] = es[i].hi, es[i].value+1, 128-es[i].len, es[i].lo
	}
	b.next = next + 1
	*(*low6)(unsafe.Pointer(&w.t.lines[next])) = low
	*(*bucket6)(unsafe.Pointer(l)) = b
	return nil
}

// entryOf checks a prefix and returns it as an entry.
func entryOf(net netip.Prefix, value, family uint32) (entry, error) {
	if !net.IsValid() || net.Addr().Is4() != (family == 4) || net.Masked() != net {
		return entry{}, fmt.Errorf("%w: %v in a table of IPv%d", ErrPrefix, net, family)
	}
	if value > MaxValue {
		return entry{}, fmt.Errorf("%w: %v has value %d, at most %d", ErrPrefix, net, value, MaxValue)
	}
	e := entry{len: uint8(net.Bits()), value: value}
	if family == 4 {
		a := net.Addr().As4()
		e.hi = uint64(binary.BigEndian.Uint32(a[:])) << 32
	} else {
		a := net.Addr().As16()
		e.hi, e.lo = binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
	}
	return e, nil
}

// sorted checks the prefixes and returns them in order.
func sorted(prefixes []Prefix, family uint32) ([]entry, error) {
	out := make([]entry, 0, len(prefixes))
	for _, p := range prefixes {
		e, err := entryOf(p.Net, p.Value, family)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int { return order(&a, &b) })
	for i := 1; i < len(out); i++ {
		if a, b := &out[i-1], &out[i]; order(a, b) == 0 {
			return nil, fmt.Errorf("%w: %v", ErrDuplicate, b.prefix(family))
		}
	}
	return out, nil
}

// prefix is the inverse of entryOf.
func (e *entry) prefix(family uint32) netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], e.hi)
	binary.BigEndian.PutUint64(b[8:], e.lo)
	if family == 4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), int(e.len))
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), int(e.len))
}
