// Package mmio reads and writes the registers of a device.
//
// A Window is a range of registers: memory that the device answers for (a mapped
// BAR), or a Handler where there is none to map (QEMU's qtest socket, a model in
// this process). Accesses are of exactly the width that is asked for, happen
// once each and in program order: none is elided, joined or split.
//
// On amd64 a store to a register is seen by the device after every store before
// it, to descriptors in memory too: the architecture keeps stores in order
// (Intel SDM volume 3, 9.2.2), and the compiler moves none over a call of a
// function that is not inlined. An atomic store of Go will not do: it is an
// exchange, which would read the register as well.
package mmio

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Handler answers for registers that are not memory. Size is 1, 2, 4 or 8, and
// off a multiple of it that lies in the window.
type Handler interface {
	Load(off, size int) uint64
	Store(off, size int, v uint64)
}

// Window is a range of registers. It may be used by several goroutines where
// the registers may.
type Window struct {
	b []byte
	h Handler
	n int
}

// Memory returns a window to mapped registers. b must start at a multiple of 8
// and stay mapped for as long as the window is used.
func Memory(b []byte) *Window {
	if uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 != 0 {
		panic("mmio: registers are not aligned")
	}
	return &Window{b: b, n: len(b)}
}

// Handled returns a window of size bytes that h answers for.
func Handled(size int, h Handler) *Window { return &Window{h: h, n: size} }

// Size returns the bytes of the window.
func (w *Window) Size() int { return w.n }

// Sub returns the part of n bytes from off on, as a capability of a device may
// describe it.
func (w *Window) Sub(off, n int) (*Window, error) {
	if off < 0 || n < 0 || off > w.n || n > w.n-off || off%8 != 0 {
		return nil, fmt.Errorf("registers %#x to %#x do not lie in a window of %#x bytes, or not at a multiple of 8", off, off+n, w.n)
	}
	if w.h != nil {
		return &Window{h: shifted{w.h, off}, n: n}, nil
	}
	return &Window{b: w.b[off : off+n : off+n], n: n}, nil
}

type shifted struct {
	h   Handler
	off int
}

func (s shifted) Load(off, size int) uint64     { return s.h.Load(s.off+off, size) }
func (s shifted) Store(off, size int, v uint64) { s.h.Store(s.off+off, size, v) }

// at returns the address of a mapped register.
func (w *Window) at(off, size int) unsafe.Pointer {
	return unsafe.Pointer(&w.b[off : off+size : off+size][0])
}

// check stops an access that lies outside of the window or is not aligned: a
// defect of the driver, as no device chooses the numbers of registers.
func (w *Window) check(off, size int) {
	if off < 0 || off > w.n-size || off&(size-1) != 0 {
		panic(fmt.Sprintf("mmio: access of %d bytes at %#x of %#x", size, off, w.n))
	}
}

// Read32 reads a register of 32 bits. A device that is gone answers with ones.
func (w *Window) Read32(off int) uint32 {
	w.check(off, 4)
	if w.h != nil {
		return uint32(w.h.Load(off, 4))
	}
	return atomic.LoadUint32((*uint32)(w.at(off, 4)))
}

// Write32 writes a register of 32 bits.
func (w *Window) Write32(off int, v uint32) {
	w.check(off, 4)
	if w.h != nil {
		w.h.Store(off, 4, uint64(v))
		return
	}
	store32((*uint32)(w.at(off, 4)), v)
}

// Read64 reads a register of 64 bits.
func (w *Window) Read64(off int) uint64 {
	w.check(off, 8)
	if w.h != nil {
		return w.h.Load(off, 8)
	}
	return atomic.LoadUint64((*uint64)(w.at(off, 8)))
}

// Write64 writes a register of 64 bits.
func (w *Window) Write64(off int, v uint64) {
	w.check(off, 8)
	if w.h != nil {
		w.h.Store(off, 8, v)
		return
	}
	store64((*uint64)(w.at(off, 8)), v)
}

// Read16 reads a register of 16 bits.
func (w *Window) Read16(off int) uint16 {
	w.check(off, 2)
	if w.h != nil {
		return uint16(w.h.Load(off, 2))
	}
	return load16((*uint16)(w.at(off, 2)))
}

// Write16 writes a register of 16 bits.
func (w *Window) Write16(off int, v uint16) {
	w.check(off, 2)
	if w.h != nil {
		w.h.Store(off, 2, uint64(v))
		return
	}
	store16((*uint16)(w.at(off, 2)), v)
}

// Read8 reads a register of 8 bits.
func (w *Window) Read8(off int) uint8 {
	w.check(off, 1)
	if w.h != nil {
		return uint8(w.h.Load(off, 1))
	}
	return load8((*uint8)(w.at(off, 1)))
}

// Write8 writes a register of 8 bits.
func (w *Window) Write8(off int, v uint8) {
	w.check(off, 1)
	if w.h != nil {
		w.h.Store(off, 1, uint64(v))
		return
	}
	store8((*uint8)(w.at(off, 1)), v)
}

//go:noinline
func store64(p *uint64, v uint64) { *p = v }

//go:noinline
func store32(p *uint32, v uint32) { *p = v }

//go:noinline
func store16(p *uint16, v uint16) { *p = v }

//go:noinline
func store8(p *uint8, v uint8) { *p = v }

//go:noinline
func load16(p *uint16) uint16 { return *p }

//go:noinline
func load8(p *uint8) uint8 { return *p }
