// Package prefetch asks for memory before it is needed, so that the waits for
// many places overlap. Asking is never wrong: what lies at a pointer is neither
// read nor checked.
//
// It must not import anything of this module.
package prefetch

import "unsafe"

//go:generate go run -C ../_gen -trimpath ./prefetch -out ../prefetch/prefetch_amd64.s -stubs ../prefetch/prefetch_amd64.go -pkg prefetch

// Line is what the processor moves at once, in bytes.
const Line = 64

// Lines asks for the first size bytes behind each pointer. Where values do not
// begin on a line of their own, size has to have room for that.
func Lines[T any](p []*T, size int) {
	if len(p) > 0 && size > 0 {
		lines((**byte)(unsafe.Pointer(unsafe.SliceData(p))), len(p), size)
	}
}
