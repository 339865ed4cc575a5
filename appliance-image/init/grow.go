package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"vita/appliance-image/internal/block"
	"vita/appliance-image/internal/gpt"
	"vita/appliance-image/internal/logring"

	"golang.org/x/sys/unix"
)

// growPartition lets the state's partition reach to the end of its disk, which
// may be larger than the image, or have been made larger. It returns the partition
// as it is then.
func (a *appliance) growPartition(p block.Partition) (block.Partition, error) {
	disk, err := os.OpenFile("/dev/"+p.Disk, os.O_RDWR, 0)
	if err != nil {
		return p, err
	}
	err = func() error {
		sector, err := unix.IoctlGetInt(int(disk.Fd()), unix.BLKSSZGET)
		if err != nil {
			return err
		}
		if sector != gpt.SectorSize {
			return fmt.Errorf("its sectors have %d bytes", sector)
		}
		size, err := disk.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		e, grown, err := gpt.Grow(disk, size, block.State)
		if err != nil || !grown {
			return err
		}
		a.say(logring.Notice, "the state's partition has %d MiB now", e.Size>>20)
		if err := block.Resize(disk, e.Number, e.Start, e.Size); err != nil {
			return fmt.Errorf("the kernel sees that after the next start: %w", err)
		}
		p.Size = uint64(e.Size)
		return nil
	}()
	return p, errors.Join(err, disk.Close())
}

// growFileSystem lets the state's file system, which is mounted, fill its
// partition. The kernel does so by its journal: the power may go.
func (a *appliance) growFileSystem(p block.Partition) error {
	f, err := os.Open(p.Device)
	if err != nil {
		return err
	}
	super := make([]byte, 1024)
	_, err = f.ReadAt(super, 1024)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	has, want := blocksOf(super), p.Size/headSize
	if has == 0 || want < has+minGrowth {
		return nil
	}
	d, err := os.Open(stateDir)
	if err != nil {
		return err
	}
	if err := errors.Join(block.GrowExt4(d, want), d.Close()); err != nil {
		return err
	}
	a.say(logring.Notice, "the state's file system has grown from %d to %d MiB", has*headSize>>20, want*headSize>>20)
	return nil
}

// minGrowth is below what a file system is left as it is, in its blocks: a few
// may be too few for another group of them.
const minGrowth = 256

// blocksOf reads how many blocks of 4096 bytes a file system has from its
// superblock (ext4); 0 where it has others.
func blocksOf(super []byte) uint64 {
	le := binary.LittleEndian
	if le.Uint16(super[0x38:]) != 0xef53 || le.Uint32(super[0x18:]) != 2 {
		return 0
	}
	n := uint64(le.Uint32(super[4:]))
	const wide = 0x80 // 64bit
	if le.Uint32(super[0x60:])&wide != 0 {
		n |= uint64(le.Uint32(super[0x150:])) << 32
	}
	return n
}
