package block

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Resize changes the size of a disk's partition in the kernel's own table
// (linux/blkpg.h), which it does not read again while one of them is in use.
func Resize(disk *os.File, number int, start, size int64) error {
	const resize = 3 // BLKPG_RESIZE_PARTITION
	part := struct {
		start, length int64
		number        int32
		names         [128]byte
		_             [4]byte
	}{start: start, length: size, number: int32(number)}
	arg := struct {
		op, flags, size int32
		data            unsafe.Pointer
	}{op: resize, size: int32(unsafe.Sizeof(part)), data: unsafe.Pointer(&part)}
	return control(disk, unix.BLKPG, unsafe.Pointer(&arg))
}

// GrowExt4 lets a file system that is mounted have more blocks. Folder is its
// root.
func GrowExt4(folder *os.File, blocks uint64) error {
	const resize = 0x40086610 // EXT4_IOC_RESIZE_FS
	return control(folder, resize, unsafe.Pointer(&blocks))
}

func control(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); e != 0 {
		return e
	}
	return nil
}
