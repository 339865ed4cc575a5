//go:build !amd64

package lpm

const hasVector = false

var vector bool

func (t *table) first(dst []uint32, addrs []uint32) (open, ends uint64) {
	return t.firstGeneric(dst, addrs)
}

func (t *table) prefetch([]uint32, uint64) {}
