package dma

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// none is a Mapper that may refuse.
type none struct {
	mapped   int
	err      error
	unmapErr error
}

func (n *none) Map([]byte) (uint64, error) { n.mapped++; return 0x1000, n.err }
func (n *none) Unmap([]byte) error         { n.mapped--; return n.unmapErr }

func TestAlloc(t *testing.T) {
	m := new(none)
	x, err := Alloc(m, 5000)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Bytes) != 8192 || len(x.Words) != 1024 || x.IOVA != 0x1000 {
		t.Fatalf("%d bytes, %d words at %#x", len(x.Bytes), len(x.Words), x.IOVA)
	}
	x.Words[1] = 0x0102
	if x.Bytes[8] != 2 || x.Bytes[9] != 1 {
		t.Fatal("words and bytes are not the same memory")
	}
	if err := errors.Join(x.Free(), x.Free()); err != nil || m.mapped != 0 {
		t.Fatalf("%v, %d mapped", err, m.mapped)
	}
	if _, err := Alloc(m, 0); err == nil {
		t.Error("no bytes were given")
	}
	m.err = errors.New("refused")
	if _, err := Alloc(m, 1); !errors.Is(err, m.err) {
		t.Errorf("%v", err)
	}
	m.err = nil
	if x, err = Alloc(m, 1); err != nil {
		t.Fatal(err)
	}
	m.unmapErr = errors.New("busy")
	if err := x.Free(); !errors.Is(err, m.unmapErr) {
		t.Errorf("%v", err)
	}
}

// at is a Mapper of a device at a NUMA node.
type at struct {
	none
	node int
}

func (a *at) Node() int { return a.node }

// TestNode finds the policy of a ring's memory in what the kernel says of it.
func TestNode(t *testing.T) {
	maps := func() string {
		b, err := os.ReadFile("/proc/self/numa_maps")
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal("this kernel knows no NUMA nodes: what is asked for here cannot be tested")
			}
			t.Skip("this kernel knows no NUMA nodes")
		}
		return string(b)
	}
	x, err := Alloc(&at{node: 0}, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(maps(), fmt.Sprintf("\n%x", unsafe.Pointer(&x.Bytes[0])))
	line, _, _ = strings.Cut(line, "\n")
	if !strings.HasPrefix(line, " prefer:0 ") {
		t.Errorf("%q", line)
	}
	if err := x.Free(); err != nil {
		t.Fatal(err)
	}
	if x, err = Alloc(&at{node: -1}, 1); err != nil || x.Free() != nil {
		t.Errorf("a device whose node is not known: %v", err)
	}
	if _, err := Alloc(&at{node: 5000}, 1); err == nil {
		t.Error("memory of a node that cannot be")
	}
}

func TestSpace(t *testing.T) {
	s := NewSpace(Range{0x10000, 0x1ffff}, Range{0x1001, 0x4fff})
	take := func(size, align, want uint64) {
		t.Helper()
		if got, err := s.Take(size, align); err != nil || got != want {
			t.Errorf("%#x of align %#x: %#x, %v; want %#x", size, align, got, err, want)
		}
	}
	take(0x1000, 0x1000, 0x2000)
	take(0x2000, 0x1000, 0x3000)
	take(0x10, 0x10, 0x1010) // in front of them
	take(0x1000, 0x1000, 0x10000)
	take(0x8000, 0x8000, 0x18000)
	s.Give(0x3000)
	take(0x1000, 0x1000, 0x3000)
	for _, c := range [][2]uint64{{0x10000, 1}, {0, 1}, {1, 3}, {1, 0}, {^uint64(0), 1}, {1, 1 << 63}} {
		if at, err := s.Take(c[0], c[1]); !errors.Is(err, ErrSpace) {
			t.Errorf("%#x of align %#x: %#x, %v", c[0], c[1], at, err)
		}
	}
	top := NewSpace(Range{^uint64(0) - 0xfff, ^uint64(0)})
	if at, err := top.Take(0x1000, 0x1000); err != nil || at != ^uint64(0)-0xfff {
		t.Errorf("%#x %v", at, err)
	}
	if _, err := top.Take(1, 1); !errors.Is(err, ErrSpace) {
		t.Errorf("%v", err)
	}
}

// TestSpaceAgainstAMap takes and gives at random and compares with a set of
// single addresses.
func TestSpaceAgainstAMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := NewSpace(Range{100, 227}, Range{300, 400})
	used := map[uint64]bool{}
	have := map[uint64]uint64{}
	for range 20000 {
		if len(have) > 0 && rnd.IntN(2) == 0 {
			for at, n := range have {
				s.Give(at)
				for i := range n {
					delete(used, at+i)
				}
				delete(have, at)
				break
			}
			continue
		}
		size, align := 1+rnd.Uint64N(40), uint64(1)<<rnd.IntN(5)
		at, err := s.Take(size, align)
		fits := func(at uint64) bool {
			for i := range size {
				if a := at + i; used[a] || a < 100 || a > 227 && a < 300 || a > 400 {
					return false
				}
			}
			return at%align == 0
		}
		if err != nil {
			for a := uint64(100); a <= 400; a++ {
				if fits(a) {
					t.Fatalf("%d of align %d: %v, but %d is free", size, align, err, a)
				}
			}
			continue
		}
		if !fits(at) {
			t.Fatalf("%d of align %d: %d is not free", size, align, at)
		}
		have[at] = size
		for i := range size {
			used[at+i] = true
		}
	}
}
