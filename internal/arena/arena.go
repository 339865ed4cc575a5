// Package arena holds memory that two processes share: a memory file whose
// size is sealed, mapped by both, and typed views of its bytes.
//
// The package knows nothing of what lies in an arena. It is one of the few
// places where unsafe is allowed, so that the layouts built on it need none.
// Arena memory is outside the Go heap: the collector neither scans nor moves
// it, so no Go pointer may ever be stored there.
package arena

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seals forbid either side to change the file's size under the other's mapping
// (a shrunken file would turn reads into SIGBUS), and to take the seals off.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// ErrUnsealed says that a file handed over could still change its size.
var ErrUnsealed = errors.New("shared memory file is not sealed")

// Arena is one mapping of a shared memory file.
type Arena struct {
	b  []byte
	fd int
}

// Create makes a memory file of size bytes, all zero, and maps it. Pages are
// taken from the system when they are first touched, so a generous size costs
// nothing.
func Create(size int) (*Arena, error) {
	if size <= 0 {
		return nil, fmt.Errorf("shared memory: size %d: want more than 0", size)
	}
	fd, err := unix.MemfdCreate("vita-arena", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("shared memory: set size %d: %w", size, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("shared memory: seal: %w", err)
	}
	return mapped(fd, size)
}

// Map maps a memory file that another process created. On success the arena
// owns fd; on failure the caller keeps it.
func Map(fd int) (*Arena, error) {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("shared memory: read seals: %w", err)
	}
	if have&seals != seals {
		return nil, ErrUnsealed
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("shared memory: read size: %w", err)
	}
	if st.Size <= 0 {
		return nil, fmt.Errorf("shared memory: size %d: want more than 0", st.Size)
	}
	b, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("shared memory: map %d bytes: %w", st.Size, err)
	}
	return &Arena{b: b, fd: fd}, nil
}

func mapped(fd, size int) (*Arena, error) {
	b, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("shared memory: map %d bytes: %w", size, err)
	}
	return &Arena{b: b, fd: fd}, nil
}

// Bytes returns the whole arena. The slice is valid until Close.
func (a *Arena) Bytes() []byte { return a.b }

// Fd returns the file's descriptor, to be handed to another process.
func (a *Arena) Fd() int { return a.fd }

// Close unmaps the arena. No view of it may be used any more.
func (a *Arena) Close() error {
	if a.b == nil {
		return nil
	}
	err := unix.Munmap(a.b)
	a.b = nil
	return errors.Join(err, unix.Close(a.fd))
}

// Private returns size bytes, all zero, that no other process sees, for what
// should not get into a core dump. Pages are taken when they are first touched,
// huge ones where the system has them to give. Release gives them back.
func Private(size int) ([]byte, error) {
	if size <= 0 {
		return nil, fmt.Errorf("private memory: size %d: want more than 0", size)
	}
	const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, fmt.Errorf("private memory: map %d bytes: %w", size, err)
	}
	if err := unix.Madvise(b, unix.MADV_DONTDUMP); err != nil {
		return nil, errors.Join(fmt.Errorf("private memory: keep out of core dumps: %w", err), unix.Munmap(b))
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // a kernel without them says so
	return b, nil
}

// Release gives memory from Private back. Nothing may refer to it any more.
func Release(b []byte) error { return unix.Munmap(b) }

// Prefer asks for memory of a NUMA node, plus one, for pages of m not yet
// touched; 0 asks for nothing. A kernel that knows no nodes has nothing to choose
// from.
func Prefer(m []byte, node int) error {
	const preferred = 1 // MPOL_PREFERRED: of others where the node has none left
	if node <= 0 {
		return nil
	}
	var mask [16]uint64
	bit := node - 1
	if bit >= len(mask)*64 {
		return fmt.Errorf("NUMA node %d: want below %d", bit, len(mask)*64)
	}
	mask[bit/64] = 1 << (bit % 64)
	_, _, e := unix.Syscall6(unix.SYS_MBIND, uintptr(unsafe.Pointer(unsafe.SliceData(m))), uintptr(len(m)), preferred,
		uintptr(unsafe.Pointer(&mask)), uintptr(len(mask)*64), 0)
	if e != 0 && e != unix.ENOSYS {
		return fmt.Errorf("memory of NUMA node %d: %w", bit, e)
	}
	return nil
}

// View returns the first n values of type T in b, or nil where b is too short
// or does not start at a multiple of T's alignment. T must hold no pointer.
func View[T any](b []byte, n int) []T {
	var zero T
	size := unsafe.Sizeof(zero)
	if n < 0 || size == 0 || uintptr(n) > uintptr(len(b))/size {
		return nil
	}
	if n == 0 {
		return []T{}
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	if uintptr(p)%unsafe.Alignof(zero) != 0 {
		return nil
	}
	return unsafe.Slice((*T)(p), n)
}

// Ptr returns the value of type T at the start of b, or nil as View does.
func Ptr[T any](b []byte) *T {
	v := View[T](b, 1)
	if v == nil {
		return nil
	}
	return &v[0]
}

// Raw returns the bytes of v.
func Raw[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// Size returns the bytes that n values of type T take.
func Size[T any](n int) int {
	var zero T
	return n * int(unsafe.Sizeof(zero))
}
