package mmio

import (
	"testing"

	"golang.org/x/sys/unix"
)

// log is a Handler that remembers.
type log struct {
	off, size int
	v         uint64
}

func (l *log) Load(off, size int) uint64     { l.off, l.size = off, size; return 0x1122334455667788 }
func (l *log) Store(off, size int, v uint64) { l.off, l.size, l.v = off, size, v }

func TestWidths(t *testing.T) {
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	w := Memory(b)
	w.Write64(8, 0x8877665544332211)
	if w.Read8(8) != 0x11 || w.Read16(10) != 0x4433 || w.Read32(12) != 0x88776655 || w.Read64(8) != 0x8877665544332211 {
		t.Fatalf("% x", b[8:16])
	}
	w.Write8(8, 1)
	w.Write16(10, 0x0203)
	w.Write32(12, 0x04050607)
	if w.Read64(8) != 0x0405060702032201 {
		t.Fatalf("%#x", w.Read64(8))
	}
	l := new(log)
	w, err = Handled(64, l).Sub(16, 32)
	if err != nil {
		t.Fatal(err)
	}
	if v := w.Read8(3); v != 0x88 || l.off != 19 || l.size != 1 {
		t.Errorf("%#x %+v", v, l)
	}
	if v := w.Read16(2); v != 0x7788 || l.off != 18 || l.size != 2 {
		t.Errorf("%#x %+v", v, l)
	}
	if v := w.Read32(28); v != 0x55667788 || l.off != 44 || l.size != 4 {
		t.Errorf("%#x %+v", v, l)
	}
	if v := w.Read64(24); v != 0x1122334455667788 || l.size != 8 {
		t.Errorf("%#x %+v", v, l)
	}
	w.Write8(1, 9)
	w.Write16(2, 9)
	w.Write32(4, 9)
	w.Write64(8, 10)
	if *l != (log{24, 8, 10}) {
		t.Errorf("%+v", l)
	}
}

func TestOutsideOfTheWindow(t *testing.T) {
	h := Handled(64, new(log))
	for _, c := range []struct{ off, n int }{{-8, 8}, {64, 8}, {8, 64}, {4, 8}, {8, -1}} {
		if _, err := h.Sub(c.off, c.n); err == nil {
			t.Errorf("part %d of %d bytes was given", c.off, c.n)
		}
	}
	for _, off := range []int{-4, 61, 62, 64, 2, 1 << 62} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("register %#x was read", off)
				}
			}()
			h.Read32(off)
		}()
	}
}
