package lpm

import (
	"encoding/binary"
	"math/bits"
)

// A lookup is a chain of loads, each of which may miss the caches, so a batch
// is taken level by level: within a level the loads of different addresses do
// not wait for each other. What is not found yet has a node in dst, and its
// place in a list that shrinks from level to level.

// stripe is how many addresses go through the levels together.
const stripe = 64

func lookup4(t *table, dst []uint32, addrs []uint32) {
	dst = dst[:len(addrs)]
	if len(t.direct) != directLen {
		miss(dst)
		return
	}
	for len(addrs) > 0 {
		n := min(len(addrs), stripe)
		stripe4(t, dst[:n], addrs[:n])
		dst, addrs = dst[n:], addrs[n:]
	}
}

func stripe4(t *table, dst []uint32, addrs []uint32) {
	var open, slot [stripe]uint8 // which are not found yet; their slots in the next node
	n := 0
	for i, a := range addrs {
		e := t.direct[a>>directBits]
		dst[i] = e
		open[n&(stripe-1)] = uint8(i)
		n += int(e >> 31) // nodeFlag
	}
	for shift := uint(directBits); n > 0 && shift < directBits+levels4*stride; shift += stride {
		for _, i := range open[:n] {
			slot[i] = uint8(addrs[i] << shift >> (32 - stride))
		}
		n = t.level(dst, &slot, &open, n)
	}
	for _, i := range open[:n] { // a trie deeper than an address: open refuses it
		dst[i] = Miss
	}
}

// level takes the n addresses in open one node further and returns how many are
// open then. Whether a slot has a node or a leaf is as good as random, so no
// branch hangs on it: a wrong guess would cost more than the rest.
func (t *table) level(dst []uint32, slot, open *[stripe]uint8, n int) int {
	var found [stripe]uint8
	nodes, leaves := t.nodes, t.leaves
	m, k := 0, 0
	for _, i := range open[:n] {
		e := dst[i] &^ nodeFlag
		if int(e) >= len(nodes) { // not in a table that Open has checked
			dst[i] = Miss
			continue
		}
		v := slot[i] & 63
		nd := &nodes[e]
		children := nd.children
		child := uint32(children >> v & 1)
		below := uint64(2)<<v - 1
		c := nd.childBase + uint32(bits.OnesCount64(children&below))
		l := nd.leafBase + uint32(bits.OnesCount64(nd.starts&below))
		dst[i] = (l ^ (l^c)&-child) - 1
		open[m&(stripe-1)], found[k&(stripe-1)] = i, i
		m += int(child)
		k += int(1 - child)
	}
	for _, i := range found[:k] {
		l := dst[i]
		if int(l) >= len(leaves) {
			dst[i] = Miss
			continue
		}
		dst[i] = leaves[l] & Miss
	}
	return m
}

func lookup6(t *table, dst []uint32, addrs [][16]byte) {
	dst = dst[:len(addrs)]
	if len(t.direct) != directLen {
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
	var open, slot [stripe]uint8
	n := 0
	for i := range addrs {
		e := t.direct[binary.BigEndian.Uint16(addrs[i][:])]
		dst[i] = e
		open[n&(stripe-1)] = uint8(i)
		n += int(e >> 31)
	}
	for shift := uint(directBits); n > 0 && shift < directBits+levels6*stride; shift += stride {
		for _, i := range open[:n] {
			hi, lo := binary.BigEndian.Uint64(addrs[i][:8]), binary.BigEndian.Uint64(addrs[i][8:])
			// Shifted by 64 or more, as by less than nothing, a word is 0.
			v := hi<<shift | lo>>(64-shift) | lo<<(shift-64)
			slot[i] = uint8(v >> (64 - stride))
		}
		n = t.level(dst, &slot, &open, n)
	}
	for _, i := range open[:n] {
		dst[i] = Miss
	}
}

func miss(dst []uint32) {
	for i := range dst {
		dst[i] = Miss
	}
}
