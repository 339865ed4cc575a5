// Package devmapper makes block devices of the kernel's device mapper, of one
// target each, by the ioctls of linux/dm-ioctl.h.
package devmapper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets within struct dm_ioctl and struct dm_target_spec.
const (
	ioctlSize = unix.SizeofDmIoctl
	atVersion = 0
	atSize    = 12
	atStart   = 16
	atCount   = 20
	atFlags   = 28
	atDev     = 40
	atName    = 48
	maxName   = 127

	specSize   = unix.SizeofDmTargetSpec
	specLength = 8
	specNext   = 20
	specType   = 24
	maxType    = 15
)

const readOnly = 1

// message is a struct dm_ioctl with a table of one target behind it, or none.
func message(name, kind, params string, sectors uint64) ([]byte, error) {
	if len(name) > maxName || len(kind) > maxType {
		return nil, errors.New("a name is too long")
	}
	size := ioctlSize
	if kind != "" {
		size += (specSize + len(params) + 1 + 7) &^ 7
	}
	b := make([]byte, size)
	put := binary.LittleEndian.PutUint32
	put(b[atVersion:], 4) // of the interface, which has been 4 since 2003
	put(b[atSize:], uint32(size))
	put(b[atStart:], ioctlSize)
	copy(b[atName:], name)
	if kind != "" {
		put(b[atCount:], 1)
		put(b[atFlags:], readOnly)
		spec := b[ioctlSize:]
		binary.LittleEndian.PutUint64(spec[specLength:], sectors)
		put(spec[specNext:], uint32(len(spec)))
		copy(spec[specType:], kind)
		copy(spec[specSize:], params)
	}
	return b, nil
}

// Create makes a read-only device of one target, and returns the device's
// number. control is usually /dev/mapper/control.
func Create(control, name, kind, params string, sectors uint64) (dev uint64, err error) {
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	call := func(number uintptr, kind string) ([]byte, error) {
		b, err := message(name, kind, params, sectors)
		if err != nil {
			return nil, err
		}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), number, uintptr(unsafe.Pointer(unsafe.SliceData(b)))); e != 0 {
			return nil, e
		}
		return b, nil
	}
	b, err := call(unix.DM_DEV_CREATE, "")
	if err != nil {
		return 0, fmt.Errorf("make the device %s: %w", name, err)
	}
	dev = binary.LittleEndian.Uint64(b[atDev:])
	if _, err := call(unix.DM_TABLE_LOAD, kind); err != nil {
		return 0, fmt.Errorf("load the table of %s, %q: %w", name, params, err)
	}
	// Without the flag of that name it is the opposite of a suspension.
	if _, err := call(unix.DM_DEV_SUSPEND, ""); err != nil {
		return 0, fmt.Errorf("start %s: %w", name, err)
	}
	return dev, nil
}
