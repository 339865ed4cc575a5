// Package gpt writes partition tables (UEFI specification, chapter 5).
package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

// SectorSize of the disks that the table is for. A disk of sectors of 4096
// bytes needs another one.
const SectorSize = 512

// Align is where partitions begin: a multiple of it.
const Align = 1 << 20

// Reserved is what a table takes at the beginning, and at the end of a disk.
const (
	ReservedFirst = Align
	ReservedLast  = (1 + entries*entrySize/SectorSize) * SectorSize
)

const (
	entries    = 128
	entrySize  = 128
	headerSize = 92
	tableSize  = entries * entrySize
)

// GUID is in the order of bytes in which it is written.
type GUID [16]byte

// Types of partitions. The roots and the state have types of their own, so that
// no other system takes them for its own.
var (
	TypeESP   = GUID{0xc1, 0x2a, 0x73, 0x28, 0xf8, 0x1f, 0x11, 0xd2, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
	TypeRoot  = GUID{0x6d, 0x1c, 0x5b, 0x0a, 0x3e, 0x2b, 0x4b, 0x8f, 0x9c, 0x1e, 0x76, 0x69, 0x74, 0x61, 0x00, 0x01}
	TypeState = GUID{0x6d, 0x1c, 0x5b, 0x0a, 0x3e, 0x2b, 0x4b, 0x8f, 0x9c, 0x1e, 0x76, 0x69, 0x74, 0x61, 0x00, 0x02}
)

// put writes a GUID as it lies on disk: its first three fields little-endian.
func (g GUID) put(b []byte) {
	copy(b, []byte{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6]})
	copy(b[8:16], g[8:])
}

// Partition is an entry of a table.
type Partition struct {
	Name        string
	Type, ID    GUID
	Start, Size int64 // in bytes
}

// Table returns what stands at the beginning of a disk, and at its end.
func Table(disk GUID, size int64, parts []Partition) (first, last []byte, err error) {
	if size%SectorSize != 0 || len(parts) > entries {
		return nil, nil, errors.New("gpt: the disk has no whole number of sectors, or there are too many partitions")
	}
	table := make([]byte, tableSize)
	free := int64(ReservedFirst)
	for i, p := range parts {
		name := utf16.Encode([]rune(p.Name))
		if len(name) > 36 || p.Start%Align != 0 || p.Start < free || p.Size <= 0 || p.Size%SectorSize != 0 || p.Start+p.Size > size-ReservedLast {
			return nil, nil, fmt.Errorf("gpt: partition %q does not fit: %d bytes at %d, on a disk of %d", p.Name, p.Size, p.Start, size)
		}
		free = p.Start + p.Size
		e := table[i*entrySize:]
		p.Type.put(e)
		p.ID.put(e[16:])
		binary.LittleEndian.PutUint64(e[32:], uint64(p.Start/SectorSize))
		binary.LittleEndian.PutUint64(e[40:], uint64(free/SectorSize-1))
		for j, c := range name {
			binary.LittleEndian.PutUint16(e[56+2*j:], c)
		}
	}
	sectors := uint64(size / SectorSize)
	const tableSectors = tableSize / SectorSize
	first = append(protective(sectors), header(disk, sectors, 1, sectors-1, 2, table)...)
	first = append(first, table...)
	last = append(table, header(disk, sectors, sectors-1, 1, sectors-1-tableSectors, table)...)
	return first, last, nil
}

// header is the sector that says where the table is.
func header(disk GUID, sectors, here, other, at uint64, table []byte) []byte {
	h := make([]byte, SectorSize)
	le := binary.LittleEndian
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 0x10000)
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], here)
	le.PutUint64(h[32:], other)
	le.PutUint64(h[40:], ReservedFirst/SectorSize)
	le.PutUint64(h[48:], sectors-ReservedLast/SectorSize-1)
	disk.put(h[56:])
	le.PutUint64(h[72:], at)
	le.PutUint32(h[80:], entries)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
	return h
}

// protective is the old master boot record, which says that all is taken.
func protective(sectors uint64) []byte {
	b := make([]byte, SectorSize)
	e := b[446:]
	copy(e, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(sectors-1, 0xffffffff)))
	b[510], b[511] = 0x55, 0xaa
	return b
}
