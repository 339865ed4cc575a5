// Package dma gives devices memory to read and write.
//
// A device sees memory at I/O virtual addresses (IOVAs), which we choose: what
// is not mapped it cannot reach, where an IOMMU stands between. What is mapped
// must stay where it is until it is unmapped, and that is done only when the
// device no longer uses it.
package dma

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"vita/internal/arena"
)

// Mapper is what maps memory for a device. Memory is named by its slice: that
// of Unmap must be that of Map. A mapper may put other memory in its place, at
// the same address and with the same content.
type Mapper interface {
	Map(b []byte) (iova uint64, err error)
	Unmap(b []byte) error
}

// Memory is memory that a device and this process share.
type Memory struct {
	Bytes []byte
	Words []uint64 // the same, by 64 bits: descriptors
	IOVA  uint64   // where the device sees it

	m Mapper
}

const (
	page     = 4096
	hugePage = 2 << 20
)

// Alloc returns memory for rings and the like, all zero, at a page's start.
func Alloc(m Mapper, size int) (*Memory, error) {
	if size <= 0 {
		return nil, fmt.Errorf("memory for a device: size %d: want more than 0", size)
	}
	// A device that no IOMMU stands before needs it in one piece, which only a
	// huge page is: that is tried where the first memory will not do.
	var first error
	for _, o := range []struct{ align, flags int }{{page, 0}, {hugePage, unix.MAP_HUGETLB}} {
		x, err := alloc(m, (size+o.align-1)&^(o.align-1), o.flags)
		if err == nil {
			return x, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func alloc(m Mapper, size, flags int) (*Memory, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|flags)
	if err != nil {
		return nil, fmt.Errorf("memory for a device: %d bytes: %w", size, err)
	}
	// Rings lie where the device is, as far as that is known.
	if d, ok := m.(interface{ Node() int }); ok {
		err = arena.Prefer(b, d.Node()+1)
	}
	clear(b) // has the pages there
	var iova uint64
	if err == nil {
		iova, err = m.Map(b)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("memory for a device: %w", err), unix.Munmap(b))
	}
	return &Memory{Bytes: b, Words: arena.View[uint64](b, size/8), IOVA: iova, m: m}, nil
}

// Free takes the memory from the device and gives it back.
func (x *Memory) Free() error {
	if x == nil || x.Bytes == nil {
		return nil
	}
	b := x.Bytes
	x.Bytes, x.Words = nil, nil
	if err := x.m.Unmap(b); err != nil {
		return fmt.Errorf("memory of a device: %w", err) // which may still write there: it stays
	}
	return unix.Munmap(b)
}

// Range is a range of addresses, both ends included.
type Range struct{ First, Last uint64 }

// Space is a set of addresses of which parts are taken. It is not safe for
// concurrent use.
type Space struct {
	ranges []Range
	taken  []Range // in order
}

// NewSpace returns a space of the given addresses.
func NewSpace(ranges ...Range) *Space {
	s := &Space{ranges: slices.Clone(ranges)}
	slices.SortFunc(s.ranges, func(a, b Range) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	})
	return s
}

// ErrSpace says that no range of addresses is free that is large enough.
var ErrSpace = errors.New("no free I/O addresses")

// Take takes size bytes at the lowest free multiple of align, a power of two.
func (s *Space) Take(size, align uint64) (uint64, error) {
	if size == 0 || align == 0 || align&(align-1) != 0 {
		return 0, fmt.Errorf("%d bytes at a multiple of %d: %w", size, align, ErrSpace)
	}
	for _, r := range s.ranges {
		at := r.First
		i := 0
		for {
			up := (at + align - 1) &^ (align - 1)
			if up < at || up > r.Last || r.Last-up < size-1 {
				break // nothing in this range
			}
			at = up
			for i < len(s.taken) && s.taken[i].Last < at {
				i++
			}
			if i == len(s.taken) || s.taken[i].First > at+size-1 {
				s.taken = slices.Insert(s.taken, i, Range{at, at + size - 1})
				return at, nil
			}
			if s.taken[i].Last == ^uint64(0) {
				break
			}
			at = s.taken[i].Last + 1
		}
	}
	return 0, fmt.Errorf("%d bytes at a multiple of %d: %w", size, align, ErrSpace)
}

// Give gives back what Take has given.
func (s *Space) Give(at uint64) {
	s.taken = slices.DeleteFunc(s.taken, func(r Range) bool { return r.First == at })
}
