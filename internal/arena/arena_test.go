package arena

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestTwoMappingsShareTheirBytes(t *testing.T) {
	a, err := Create(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	fd, err := unix.Dup(a.Fd())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Map(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if len(a.Bytes()) != 1<<16 || len(b.Bytes()) != 1<<16 {
		t.Fatalf("sizes %d and %d, want %d", len(a.Bytes()), len(b.Bytes()), 1<<16)
	}
	a.Bytes()[4097] = 42
	if b.Bytes()[4097] != 42 {
		t.Fatal("a write through one mapping is not seen through the other")
	}
}

func TestSizeIsSealed(t *testing.T) {
	a, err := Create(8192)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, size := range []int64{4096, 16384} {
		if err := unix.Ftruncate(a.Fd(), size); !errors.Is(err, unix.EPERM) {
			t.Errorf("changing the size to %d: %v, want EPERM", size, err)
		}
	}
}

func TestMapRefusesAnUnsealedFile(t *testing.T) {
	fd, err := unix.MemfdCreate("test", unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := Map(fd); !errors.Is(err, ErrUnsealed) {
		t.Fatalf("Map = %v, want ErrUnsealed", err)
	}
}

func TestView(t *testing.T) {
	a, err := Create(64)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b := a.Bytes()
	for _, c := range []struct {
		from, to, n int
		ok          bool
	}{
		{0, 64, 8, true},
		{0, 64, 0, true},
		{64, 64, 0, true},
		{8, 64, 7, true},
		{0, 64, 9, false},
		{0, 63, 8, false},
		{1, 64, 7, false},
		{0, 64, -1, false},
		{60, 64, 1, false},
	} {
		v := View[uint64](b[c.from:c.to], c.n)
		if (v != nil) != c.ok || c.ok && len(v) != c.n {
			t.Errorf("View of bytes %d to %d as %d values: %v, want ok %v", c.from, c.to, c.n, v, c.ok)
		}
	}
	*Ptr[uint32](b[4:]) = 0x01020304
	if b[4] != 4 || View[uint32](b, 2)[1] != 0x01020304 {
		t.Error("a value written through a view is not in the bytes")
	}
	if Ptr[uint64](b[60:]) != nil {
		t.Error("Ptr reached past the end")
	}
	x := uint32(5)
	if r := Raw(&x); len(r) != 4 || r[0] != 5 {
		t.Errorf("Raw = %v", r)
	}
}

// Private memory is as long as asked for, zero, and marked to stay out of core
// dumps (dd in the flags of its mapping).
func TestPrivate(t *testing.T) {
	if _, err := Private(0); err == nil {
		t.Error("no bytes were given")
	}
	b, err := Private(3*4096 + 5)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 3*4096+5 || b[0] != 0 || b[len(b)-1] != 0 {
		t.Fatalf("%d bytes, the first %d, the last %d", len(b), b[0], b[len(b)-1])
	}
	b[0], b[len(b)-1] = 1, 2
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(maps), fmt.Sprintf("%x-", unsafe.Pointer(&b[0])))
	if at < 0 {
		t.Fatal("the mapping is not there")
	}
	flags := string(maps)[at:]
	flags = flags[strings.Index(flags, "VmFlags:"):]
	if flags, _, _ = strings.Cut(flags, "\n"); !strings.Contains(flags, " dd") {
		t.Errorf("not kept out of core dumps: %s", flags)
	}
	if err := Release(b); err != nil {
		t.Fatal(err)
	}
}
