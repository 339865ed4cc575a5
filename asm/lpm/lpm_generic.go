package lpm

import "encoding/binary"

func lookup4(t *table, dst []uint32, addrs []uint32) {
	dst = dst[:len(addrs)]
	if len(t.direct) != directLen {
		for i := range dst {
			dst[i] = Miss
		}
		return
	}
	for i, a := range addrs {
		e := t.direct[a>>directBits]
		if e&nodeFlag == 0 {
			dst[i] = e
			continue
		}
		e &^= nodeFlag
		key := a << directBits // the next stride at the top
		found := false
		for range levels4 {
			if e, found = t.step(e, key>>(32-stride)); found {
				break
			}
			key <<= stride
		}
		if !found { // a trie deeper than an address: open refuses it
			e = Miss
		}
		dst[i] = e
	}
}

func lookup6(t *table, dst []uint32, addrs [][16]byte) {
	dst = dst[:len(addrs)]
	if len(t.direct) != directLen {
		for i := range dst {
			dst[i] = Miss
		}
		return
	}
	for i := range addrs {
		a := &addrs[i]
		hi, lo := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
		e := t.direct[hi>>(64-directBits)]
		if e&nodeFlag == 0 {
			dst[i] = e
			continue
		}
		e &^= nodeFlag
		hi, lo = hi<<directBits|lo>>(64-directBits), lo<<directBits
		found := false
		for range levels6 {
			if e, found = t.step(e, uint32(hi>>(64-stride))); found {
				break
			}
			hi, lo = hi<<stride|lo>>(64-stride), lo<<stride
		}
		if !found {
			e = Miss
		}
		dst[i] = e
	}
}
