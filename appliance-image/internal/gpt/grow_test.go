package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const mib = 1 << 20

var diskID = GUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// memory is a disk that loses its power after some sectors: those that were
// written after the last Sync may be there or not.
type memory struct {
	data  []byte
	left  int  // sectors that can still be written
	tears bool // what was not synced is lost
	undo  []func()
}

var errPower = errors.New("the power is gone")

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(b, at)
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if at%SectorSize != 0 || len(b)%SectorSize != 0 || at+int64(len(b)) > int64(len(m.data)) {
		return 0, io.ErrShortWrite
	}
	for n := 0; n < len(b); n += SectorSize {
		if m.left == 0 {
			if m.tears {
				for _, f := range m.undo {
					f()
				}
			}
			return n, errPower
		}
		m.left--
		place := m.data[at+int64(n):][:SectorSize]
		old := bytes.Clone(place)
		m.undo = append(m.undo, func() { copy(place, old) })
		copy(place, b[n:])
	}
	return len(b), nil
}

func (m *memory) Sync() error {
	m.undo = nil
	return nil
}

// disk makes one with a table for its old size, of two partitions.
func disk(t testing.TB, old, size int64) *memory {
	t.Helper()
	first, last, err := Table(diskID, old, []Partition{
		{Name: "vita-root-a", Type: TypeRoot, ID: GUID{1}, Start: mib, Size: 2 * mib},
		{Name: "vita-state", Type: TypeState, ID: GUID{2}, Start: 3 * mib, Size: old - 4*mib},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{data: make([]byte, size), left: -1}
	copy(m.data, first)
	copy(m.data[old-int64(len(last)):], last)
	return m
}

// read reads a table as a firmware would, and returns where the state ends; -1
// where there is no table.
func read(data []byte, header int64) (end int64) {
	le := binary.LittleEndian
	h := bytes.Clone(data[header*SectorSize:][:SectorSize])
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	if string(h[:8]) != "EFI PART" || crc32.ChecksumIEEE(h[:headerSize]) != sum || le.Uint64(h[24:]) != uint64(header) {
		return -1
	}
	table := data[le.Uint64(h[72:])*SectorSize:][:tableSize]
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return -1
	}
	return int64(le.Uint64(table[entrySize+40:])+1) * SectorSize
}

// TestGrow: a larger disk's last partition reaches to its end, with a copy of the
// table behind it; another program reads them so; again and again.
func TestGrow(t *testing.T) {
	const old = 8 * mib
	m := disk(t, old, 64*mib+7*SectorSize)
	for _, size := range []int64{16 * mib, 16*mib + 5*SectorSize, 40*mib + SectorSize, 64*mib + 7*SectorSize} {
		whole := m.data
		m.data = m.data[:size]
		before := read(m.data, 1)
		e, grown, err := Grow(m, size, "vita-state")
		if err != nil {
			t.Fatal(err)
		}
		want := (size - ReservedLast) / Align * Align
		if grown != (before < want) || e.Number != 2 || e.Start != 3*mib || e.Start+e.Size != want {
			t.Errorf("%d: %+v, grown %v", size, e, grown)
		}
		if got := read(m.data, 1); got != want {
			t.Errorf("%d: ends at %d, want %d", size, got, want)
		}
		if got := read(m.data, size/SectorSize-1); grown && got != want {
			t.Errorf("%d: by the copy it ends at %d, want %d", size, got, want)
		}
		if _, grown, err := Grow(m, size, "vita-state"); grown || err != nil {
			t.Errorf("%d: once more: %v, %v", size, grown, err)
		}
		if grown {
			verify(t, m.data, want)
		}
		m.data = whole
	}
}

// verify lets another program read both tables.
func verify(t *testing.T, data []byte, end int64) {
	t.Helper()
	for _, without := range []int64{-1, 1} { // the first header
		data := bytes.Clone(data)
		if without > 0 {
			clear(data[without*SectorSize:][:SectorSize])
		}
		name := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("partx", "--show", "--noheadings", "--output", "NR,START,END,NAME", name).CombinedOutput() // of util-linux
		want := fmt.Sprintf("1 2048 6143 vita-root-a 2 6144 %d vita-state", end/SectorSize-1)
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != want {
			t.Errorf("%s, want %s, %v", got, want, err)
		}
	}
}

// TestPowerCut: cut short after any number of sectors, the disk has a table that
// is either the old or the new one, and growing it once more ends the work.
func TestPowerCut(t *testing.T) {
	const old, size = 8 * mib, 16 * mib
	full := disk(t, old, size)
	full.left = 1 << 20
	if _, _, err := Grow(full, size, "vita-state"); err != nil {
		t.Fatal(err)
	}
	sectors := 1<<20 - full.left
	if sectors < 60 {
		t.Fatalf("only %d sectors were written", sectors)
	}
	for _, tears := range []bool{false, true} {
		for n := range sectors {
			m := disk(t, old, size)
			m.left, m.tears = n, tears
			if _, _, err := Grow(m, size, "vita-state"); !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			if end := read(m.data, 1); end != old-mib && end != size-mib {
				t.Fatalf("after %d sectors: the state ends at %d", n, end)
			}
			m.left = -1
			if _, _, err := Grow(m, size, "vita-state"); err != nil {
				t.Fatal(err)
			}
			if read(m.data, 1) != size-mib || read(m.data, size/SectorSize-1) != size-mib {
				t.Fatalf("after %d sectors, and again: the tables differ", n)
			}
		}
	}
}

// TestGrowRefuses: nothing is written where the table is not what was expected.
func TestGrowRefuses(t *testing.T) {
	const old, size = 8 * mib, 16 * mib
	for what, spoil := range map[string]func(m *memory){
		"no table":        func(m *memory) { m.data[SectorSize] = 'x' },
		"header's sum":    func(m *memory) { m.data[SectorSize+60] ^= 1 },
		"entries' sum":    func(m *memory) { m.data[2*SectorSize+40] ^= 1 },
		"another's table": func(m *memory) { rewrite(m, func(h []byte) { binary.LittleEndian.PutUint64(h[72:], 5) }) },
		"larger entries":  func(m *memory) { rewrite(m, func(h []byte) { binary.LittleEndian.PutUint32(h[84:], 256) }) },
	} {
		m := disk(t, old, size)
		spoil(m)
		before := bytes.Clone(m.data)
		if _, grown, err := Grow(m, size, "vita-state"); err == nil || grown {
			t.Errorf("%s: %v", what, grown)
		}
		if !bytes.Equal(before, m.data) {
			t.Errorf("%s: the disk has changed", what)
		}
	}
	m := disk(t, old, size)
	for _, name := range []string{"vita-root-a", "none"} {
		if _, _, err := Grow(m, size, name); err == nil {
			t.Errorf("%s has grown", name)
		}
	}
}

func rewrite(m *memory, change func(h []byte)) {
	h := m.data[SectorSize:][:SectorSize]
	change(h)
	binary.LittleEndian.PutUint32(h[16:], 0)
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
}

// FuzzGrow: a disk may hold anything.
func FuzzGrow(f *testing.F) {
	m := disk(f, 6*mib, 6*mib)
	f.Add(m.data[:40<<10], uint32(8*mib))
	f.Fuzz(func(t *testing.T, head []byte, size uint32) {
		m := &memory{data: make([]byte, min(int64(size), 8*mib)), left: -1}
		copy(m.data, head)
		le := binary.LittleEndian
		if len(m.data) > 20*1024 { // sums that are right: what follows them shall be reached
			h := m.data[SectorSize:][:SectorSize]
			if at := le.Uint64(h[72:]); at == usual || at == spare {
				le.PutUint32(h[88:], crc32.ChecksumIEEE(m.data[at*SectorSize:][:tableSize]))
			}
			rewrite(m, func([]byte) {})
		}
		e, grown, err := Grow(m, int64(len(m.data)), "vita-state")
		if grown && (err != nil || e.Start < ReservedFirst || e.Start+e.Size > int64(len(m.data))-ReservedLast) {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
