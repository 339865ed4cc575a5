package lpm

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

//go:generate go run -C ../_gen -trimpath ./lpm -out ../lpm/kernels_amd64.s -stubs ../lpm/kernels_amd64.go -pkg lpm

// What the kernel assumes.
var _ = [1]int{}[shortLess-8]

// vectorMin is the number of addresses from which on the kernel is faster.
const vectorMin = 8

// hasVector says that the processor has what the kernel needs; vector, that it
// is used.
var (
	hasVector = cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasBMI1 && cpu.X86.HasBMI2
	vector    = hasVector && !raceDetector // which sees nothing of what a kernel reads
)

// first looks up to 64 addresses up in direct. Of the words that it returns the
// first has a bit for each address whose entry is no value, the second, among
// those, for each whose entry is none or a bucket.
func (t *table) first(dst []uint32, addrs []uint32) (open, ends uint64) {
	if !vector || len(addrs) < vectorMin || len(addrs) > stripe || len(dst) < len(addrs) {
		return t.firstGeneric(dst, addrs)
	}
	// In bounds: direct and short have an entry for every number of so many bits.
	return first512(&dst[0], &addrs[0], len(addrs), unsafe.SliceData(t.direct), unsafe.SliceData(t.short), uint64(32-t.bits))
}

// prefetch asks for the lines that the entries of the addresses in which lead
// to. They are not checked: nothing is read but into the caches.
func (t *table) prefetch(dst []uint32, which uint64) {
	if vector && which != 0 {
		prefetchLines(&dst[0], which, &t.lines[0][0])
	}
}
