package lpm

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// A lookup is a chain of loads, each of which may miss the caches, so a batch
// is taken step by step: within a step the loads of different addresses do not
// wait for each other. In dst is the entry of each address, less one; words of
// 64 bits say whose is not a value yet. No branch hangs on what kind an entry
// is, which is as good as random, and nothing is stored at a place that hangs on
// what was just loaded, or the processor could not look far enough ahead.

// stripe is how many addresses go through the steps together.
const stripe = 64

// cached is how many lines the caches as good as always have.
const cached = 4096

func lookup4(t *table, dst []uint32, addrs []uint32) {
	dst = dst[:len(addrs)]
	if len(t.direct) == 0 {
		miss(dst)
		return
	}
	for len(addrs) > 0 {
		n := min(len(addrs), stripe)
		stripe4(t, dst[:n], addrs[:n])
		dst, addrs = dst[n:], addrs[n:]
	}
}

// firstGeneric is first without a kernel.
func (t *table) firstGeneric(dst []uint32, addrs []uint32) (open, ends uint64) {
	dst = dst[:len(addrs)]
	shift := uint(32-t.bits) & 31
	direct := unsafe.Pointer(unsafe.SliceData(t.direct))
	some := uint32(0)
	for i, a := range addrs {
		// In bounds: direct has an entry for every such number.
		e := atomic.LoadUint32((*uint32)(unsafe.Add(direct, uintptr(a>>shift)*4))) - 1
		dst[i] = e
		some |= e
	}
	if some>>31 == 0 {
		return 0, 0
	}
	for _, e := range dst {
		open = open>>1 | uint64(e)>>31<<63
		ends = ends>>1 | uint64(e)>>30<<63
	}
	unused := uint(stripe-len(addrs)) & 63
	return open >> unused, ends >> unused
}

func stripe4(t *table, dst []uint32, addrs []uint32) {
	open, ends := t.first(dst, addrs)
	if open != 0 {
		rest4(t, dst, addrs, open&^ends, open&ends, false)
	}
}

// rest4 goes on with the addresses whose entry is a block, and those where it is
// a bucket or none. Of one that has no prefix it is not sure at first: it may
// have looked for a long one before a change put that in, and for a short one
// after the same change took that out. So it looks once more, if this is not the
// last time.
func rest4(t *table, dst []uint32, addrs []uint32, blocks, ends uint64, last bool) {
	for at := uint(t.bits); blocks != 0; at += stride {
		if at >= 32 { // a trie deeper than an address: open refuses it
			missThose(dst, blocks)
			break
		}
		for m := blocks; m != 0; m &= m - 1 {
			i := bits.TrailingZeros64(m)
			e := uint32(0)
			if l := dst[i] & lineMask; int(l) < len(t.lines) {
				e = atomic.LoadUint32(&t.lines[l][addrs[i]<<at>>(32-stride)])
			}
			e--
			dst[i] = e
			blocks &^= uint64(e>>30&1|(e>>31^1)) << i
			ends |= uint64(e>>31&(e>>30)) << i
		}
	}
	if len(t.lines) > cached {
		t.prefetch(dst, ends)
	}
	none := uint64(0)
	for m := ends; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		e := uint32(0)
		if l := dst[i] & lineMask; int(l) < len(t.lines) {
			e = (*bucket4)(unsafe.Pointer(&t.lines[l])).find(addrs[i])
		}
		e--
		dst[i] = e
		none |= uint64(e>>31) << i
	}
	for shift := uint(32-t.bits+shortLess) & 31; none != 0; none &= none - 1 {
		i := bits.TrailingZeros64(none)
		e := t.shortAt(addrs[i] >> shift)
		if e == 0 && !last {
			var d, a [1]uint32
			a[0] = addrs[i]
			open, ends := t.firstGeneric(d[:], a[:])
			rest4(t, d[:], a[:], open&^ends, open&ends, true)
			e = d[0] + 1
		}
		dst[i] = (e - 1) & Miss
	}
}

// shortAt returns the entry of short with a number.
func (t *table) shortAt(i uint32) uint32 {
	if int(i) >= len(t.short) {
		return 0
	}
	return atomic.LoadUint32(&t.short[i])
}

// find returns the entry of an address.
func (b *bucket4) find(a uint32) uint32 {
	e := b.inherit
	// The longest prefix comes first, and so has the last word.
	e3, e2, e1, e0 := b.entry[3], b.entry[2], b.entry[1], b.entry[0]
	if (a^b.net[3])>>(b.shift[3]&31) == 0 {
		e = e3
	}
	if (a^b.net[2])>>(b.shift[2]&31) == 0 {
		e = e2
	}
	if (a^b.net[1])>>(b.shift[1]&31) == 0 {
		e = e1
	}
	if (a^b.net[0])>>(b.shift[0]&31) == 0 {
		e = e0
	}
	return e
}

func lookup6(t *table, dst []uint32, addrs [][16]byte) {
	dst = dst[:len(addrs)]
	if len(t.direct) == 0 {
		miss(dst)
		return
	}
	for len(addrs) > 0 {
		n := min(len(addrs), stripe)
		stripe6(t, dst[:n], addrs[:n])
		dst, addrs = dst[n:], addrs[n:]
	}
}

func stripe6(t *table, dst []uint32, addrs [][16]byte) {
	var head [stripe]uint32 // the first bits of each
	for i := range addrs {
		head[i&(stripe-1)] = binary.BigEndian.Uint32(addrs[i][:])
	}
	open, ends := t.first(dst, head[:len(addrs)])
	if open != 0 {
		rest6(t, dst, addrs, open&^ends, open&ends, false)
	}
}

// rest6 is rest4 for IPv6.
func rest6(t *table, dst []uint32, addrs [][16]byte, blocks, ends uint64, last bool) {
	for at := uint(t.bits); blocks != 0; at += stride {
		if at >= 128 {
			missThose(dst, blocks)
			break
		}
		for m := blocks; m != 0; m &= m - 1 {
			i := bits.TrailingZeros64(m)
			e := uint32(0)
			if l := dst[i] & lineMask; int(l) < len(t.lines) {
				hi, lo := binary.BigEndian.Uint64(addrs[i][:8]), binary.BigEndian.Uint64(addrs[i][8:])
				// Shifted by 64 or more, as by less than nothing, a word is 0.
				v := hi<<at | lo>>(64-at) | lo<<(at-64)
				e = atomic.LoadUint32(&t.lines[l][v>>(64-stride)])
			}
			e--
			dst[i] = e
			blocks &^= uint64(e>>30&1|(e>>31^1)) << i
			ends |= uint64(e>>31&(e>>30)) << i
		}
	}
	if len(t.lines) > cached {
		t.prefetch(dst, ends)
	}
	none := uint64(0)
	for m := ends; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		e := uint32(0)
		if l := dst[i] & lineMask; int(l) < len(t.lines) {
			e = t.find6((*bucket6)(unsafe.Pointer(&t.lines[l])), &addrs[i])
		}
		e--
		dst[i] = e
		none |= uint64(e>>31) << i
	}
	for shift := uint(32-t.bits+shortLess) & 31; none != 0; none &= none - 1 {
		i := bits.TrailingZeros64(none)
		head := [1]uint32{binary.BigEndian.Uint32(addrs[i][:])}
		e := t.shortAt(head[0] >> shift)
		if e == 0 && !last {
			var d [1]uint32
			open, ends := t.firstGeneric(d[:], head[:])
			rest6(t, d[:], addrs[i:i+1], open&^ends, open&ends, true)
			e = d[0] + 1
		}
		dst[i] = (e - 1) & Miss
	}
}

// find6 returns the entry of an address in a bucket.
func (t *table) find6(b *bucket6, addr *[16]byte) uint32 {
	a := binary.BigEndian.Uint64(addr[:8])
	if b.next != 0 {
		return t.findLong(b, a, binary.BigEndian.Uint64(addr[8:]))
	}
	e := b.inherit
	e3, e2, e1, e0 := b.entry[3], b.entry[2], b.entry[1], b.entry[0]
	if (a^b.hi[3])>>(b.shift[3]&63) == 0 {
		e = e3
	}
	if (a^b.hi[2])>>(b.shift[2]&63) == 0 {
		e = e2
	}
	if (a^b.hi[1])>>(b.shift[1]&63) == 0 {
		e = e1
	}
	if (a^b.hi[0])>>(b.shift[0]&63) == 0 {
		e = e0
	}
	return e
}

// findLong is find6 where prefixes have more than 64 bits.
func (t *table) findLong(b *bucket6, hi, lo uint64) uint32 {
	next := b.next - 1
	if int(next) >= len(t.lines) {
		return 0
	}
	low := (*low6)(unsafe.Pointer(&t.lines[next]))
	for i := range bucketSize {
		x, y, s := hi^b.hi[i], lo^low[i], b.shift[i]
		if s < 64 && x|y>>s == 0 || s >= 64 && x>>(s-64) == 0 {
			return b.entry[i]
		}
	}
	return b.inherit
}

func miss(dst []uint32) {
	for i := range dst {
		dst[i] = Miss
	}
}

func missThose(dst []uint32, which uint64) {
	for ; which != 0; which &= which - 1 {
		dst[bits.TrailingZeros64(which)] = Miss
	}
}
