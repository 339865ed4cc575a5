package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Disk is a disk with a table.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Entry is a partition that has grown.
type Entry struct {
	Number      int   // from 1
	Start, Size int64 // in bytes
}

// spare is where the table's entries lie when they are not at their usual place,
// sector 2: behind that. Both are before the first partition.
const (
	usual = 2
	spare = usual + tableSize/SectorSize
)

// Grow lets the last partition, which must have a name, reach to the end of a
// disk of a size, behind which a copy of the table is put. It says whether
// anything was to do.
//
// The power may go at any moment: first the copy is written, where nothing refers
// to it yet; then the entries, at the place that is not in use; and then one
// sector, the header, which refers to both.
func Grow(disk Disk, size int64, name string) (e Entry, grown bool, err error) {
	h := make([]byte, SectorSize)
	if _, err := disk.ReadAt(h, SectorSize); err != nil {
		return e, false, err
	}
	le := binary.LittleEndian
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	at := le.Uint64(h[72:])
	switch {
	case string(h[:8]) != "EFI PART" || le.Uint32(h[8:]) != 0x10000 || le.Uint32(h[12:]) != headerSize || crc32.ChecksumIEEE(h[:headerSize]) != sum:
		return e, false, errors.New("gpt: the disk has no table")
	case le.Uint64(h[24:]) != 1 || at != usual && at != spare || le.Uint32(h[80:]) != entries || le.Uint32(h[84:]) != entrySize || le.Uint64(h[40:]) != ReservedFirst/SectorSize:
		return e, false, errors.New("gpt: the table is none of ours")
	}
	table := make([]byte, tableSize)
	if _, err := disk.ReadAt(table, int64(at)*SectorSize); err != nil {
		return e, false, err
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return e, false, errors.New("gpt: the table is damaged")
	}
	n, err := last(table, name)
	if err != nil {
		return e, false, err
	}
	entry := table[n*entrySize:]
	first, end := le.Uint64(entry[32:]), le.Uint64(entry[40:])+1 // in sectors
	sectors := uint64(size / SectorSize)
	most := uint64((size - ReservedLast) / Align * (Align / SectorSize))
	e = Entry{n + 1, int64(first) * SectorSize, int64(end-first) * SectorSize}
	if first < ReservedFirst/SectorSize || end <= first || most < end+Align/SectorSize { // not worth it, or smaller
		return e, false, nil
	}
	le.PutUint64(entry[40:], most-1)
	e.Size = int64(most-first) * SectorSize

	const tableSectors = tableSize / SectorSize
	var id GUID
	id.get(h[56:])
	to := usual + spare - at
	for _, w := range []struct {
		data []byte
		at   uint64
	}{
		{append(bytes.Clone(table), header(id, sectors, sectors-1, 1, sectors-1-tableSectors, table)...), sectors - 1 - tableSectors},
		{table, to},
		{header(id, sectors, 1, sectors-1, to, table), 1},
		{protective(sectors), 0},
	} {
		if _, err := disk.WriteAt(w.data, int64(w.at)*SectorSize); err != nil {
			return e, false, err
		}
		if err := disk.Sync(); err != nil {
			return e, false, err
		}
	}
	return e, true, nil
}

// last returns which entry is the one of a name, behind which nothing lies.
func last(table []byte, name string) (int, error) {
	want := make([]byte, 72)
	for i, c := range utf16.Encode([]rune(name)) {
		binary.LittleEndian.PutUint16(want[2*i:], c)
	}
	found, behind := -1, -1
	var start uint64
	for i := range entries {
		e := table[i*entrySize:][:entrySize]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		if s := binary.LittleEndian.Uint64(e[32:]); behind < 0 || s > start {
			behind, start = i, s
		}
		if bytes.Equal(e[56:], want) {
			found = i
		}
	}
	if found < 0 || found != behind {
		return 0, fmt.Errorf("gpt: %s is not the last partition", name)
	}
	return found, nil
}

// get reads what put writes.
func (g *GUID) get(b []byte) {
	copy(g[:], []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]})
	copy(g[8:], b[8:16])
}
