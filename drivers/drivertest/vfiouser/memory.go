package vfiouser

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Memory is what a device can reach of its client's memory, by the addresses
// that the client has given it. The client takes nothing back between a Begin
// and its End.
type Memory struct {
	mu    sync.RWMutex
	maps  []mapping // by address, without overlaps
	files map[fileID]*file
}

type mapping struct {
	addr  uint64
	bytes []byte
	file  *file
	write bool
}

// file is a file of which there are mappings. It is mapped here once, as behind
// an IOMMU a mapping is a page, and there are many.
type file struct {
	id    fileID
	bytes []byte
	users int
}

type fileID struct{ device, inode, size uint64 }

const maxMappings = 1 << 20

var (
	errOverlap = errors.New("overlaps a mapping")
	errNoMap   = errors.New("no such mapping")
)

// Begin comes before what At returns is used; calls do not nest.
func (m *Memory) Begin() { m.mu.RLock() }

// End ends what Begin has begun.
func (m *Memory) End() { m.mu.RUnlock() }

// At returns n bytes of the client's memory from an address on, or nil where
// they do not lie in one mapping, or the device may not write there but wants
// to. They are good until End.
func (m *Memory) At(addr uint64, n int, write bool) []byte {
	i, found := slices.BinarySearchFunc(m.maps, addr, func(e mapping, a uint64) int {
		switch {
		case a < e.addr:
			return 1
		case a-e.addr >= uint64(len(e.bytes)):
			return -1
		}
		return 0
	})
	if !found || n < 0 || write && !m.maps[i].write {
		return nil
	}
	e := &m.maps[i]
	off := addr - e.addr
	if uint64(n) > uint64(len(e.bytes))-off {
		return nil
	}
	return e.bytes[off : off+uint64(n) : off+uint64(n)]
}

// add maps a part of a file. It does not keep f.
func (m *Memory) add(f *os.File, offset, addr, size uint64, write bool) error {
	if size == 0 || size > 1<<46 || addr > math.MaxUint64-size || offset > math.MaxInt64-size {
		return fmt.Errorf("%d bytes at %#x, of the file at %#x", size, addr, offset)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at, _ := slices.BinarySearchFunc(m.maps, addr, func(e mapping, a uint64) int {
		if e.addr < a {
			return -1
		}
		return 1
	})
	if at > 0 && m.maps[at-1].addr+uint64(len(m.maps[at-1].bytes)) > addr || at < len(m.maps) && m.maps[at].addr < addr+size {
		return errOverlap
	}
	if len(m.maps) == maxMappings {
		return fmt.Errorf("more than %d mappings", maxMappings)
	}
	whole, err := m.open(f)
	if err != nil {
		return err
	}
	// Behind a file's end there is no memory, and a touch would end the process.
	if n := uint64(len(whole.bytes)); n < offset+size {
		return errors.Join(fmt.Errorf("a file of %d bytes, want %d at %#x", n, size, offset), m.release(whole))
	}
	m.maps = slices.Insert(m.maps, at, mapping{addr: addr, bytes: whole.bytes[offset : offset+size], file: whole, write: write})
	return nil
}

// open maps a file, or finds it mapped, and counts a user. The caller holds m.mu.
func (m *Memory) open(f *os.File) (*file, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	id := fileID{st.Dev, st.Ino, uint64(st.Size)}
	if x := m.files[id]; x != nil {
		x.users++
		return x, nil
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	if m.files == nil {
		m.files = make(map[fileID]*file)
	}
	x := &file{id: id, bytes: b, users: 1}
	m.files[id] = x
	return x, nil
}

// release takes back a use. The caller holds m.mu.
func (m *Memory) release(x *file) error {
	if x.users--; x.users > 0 {
		return nil
	}
	delete(m.files, x.id)
	return unix.Munmap(x.bytes)
}

// remove takes back all mappings within a range, of which there must be one.
func (m *Memory) remove(addr, size uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.maps)
	var errs []error
	m.maps = slices.DeleteFunc(m.maps, func(e mapping) bool {
		if e.addr < addr || uint64(len(e.bytes)) > size || e.addr-addr > size-uint64(len(e.bytes)) {
			return false
		}
		errs = append(errs, m.release(e.file))
		return true
	})
	if len(m.maps) == n {
		return errNoMap
	}
	return errors.Join(errs...)
}

func (m *Memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.maps {
		_ = m.release(e.file)
	}
	m.maps = nil
}
