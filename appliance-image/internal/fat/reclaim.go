package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Device is a partition that is not mounted.
type Device interface {
	io.ReaderAt
	io.WriterAt
}

// ErrForeign says that a partition has no file system as Make makes it.
var ErrForeign = errors.New("no FAT32 file system as this program makes them")

// Most of what is believed of a partition.
const (
	maxClusters = 1 << 20
	maxDepth    = 8
)

// reader walks through a file system.
type reader struct {
	d       Device
	perClus int64 // bytes
	data    int64 // offset of the first cluster
	table   []uint32
	used    []bool
}

// Reclaim frees the clusters that no file has any more. A power cut leaves such
// where a file was being written; without it the partition would be full some
// day. It returns how many there were. What files have stays, also where two
// names are of one file.
func Reclaim(d Device) (lost int, err error) {
	head := make([]byte, sectorSize)
	if _, err := d.ReadAt(head, 0); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	perSector, tables, tableSectors := int64(head[13]), int64(head[16]), int64(le.Uint32(head[36:]))
	sectors, begin := int64(le.Uint32(head[32:])), int64(le.Uint16(head[14:]))
	if le.Uint16(head[11:]) != sectorSize || head[510] != 0x55 || head[511] != 0xaa || perSector == 0 || tables < 1 || tables > 2 || begin == 0 ||
		tableSectors == 0 || tableSectors > maxClusters/128 || le.Uint16(head[22:]) != 0 {
		return 0, ErrForeign
	}
	dataAt := begin + tables*tableSectors
	clusters := (sectors - dataAt) / perSector
	if clusters < leastClusters || clusters > maxClusters || clusters+firstCluster > tableSectors*sectorSize/4 {
		return 0, ErrForeign
	}
	raw := make([]byte, tableSectors*sectorSize)
	if _, err := d.ReadAt(raw, begin*sectorSize); err != nil {
		return 0, err
	}
	r := &reader{d: d, perClus: perSector * sectorSize, data: dataAt * sectorSize, table: make([]uint32, clusters+firstCluster), used: make([]bool, clusters+firstCluster)}
	for i := range r.table {
		r.table[i] = le.Uint32(raw[4*i:]) & 0x0fffffff
	}
	if err := r.folder(le.Uint32(head[44:])&0x0fffffff, 0); err != nil {
		return 0, err
	}
	const bad = 0x0ffffff7 // a cluster that the medium has lost stays
	dirty := make(map[int64]bool)
	for i := firstCluster; i < len(r.table); i++ {
		if v := r.table[i]; v != 0 && v != bad && !r.used[i] {
			lost++
			le.PutUint32(raw[4*i:], le.Uint32(raw[4*i:])&0xf0000000)
			dirty[int64(4*i/sectorSize)] = true
		}
	}
	if lost == 0 {
		return 0, nil
	}
	for sector := range dirty {
		for t := range tables {
			if _, err := d.WriteAt(raw[sector*sectorSize:][:sectorSize], (begin+t*tableSectors+sector)*sectorSize); err != nil {
				return lost, err
			}
		}
	}
	// How many are free is not known any more: the kernel counts them.
	if info := int64(le.Uint16(head[48:])); info > 0 && info < begin {
		if _, err := d.WriteAt([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, info*sectorSize+488); err != nil {
			return lost, err
		}
	}
	return lost, nil
}

// chain marks the clusters of a file and returns them. One that is marked already
// ends it: it is that of another name.
func (r *reader) chain(first uint32) (all []uint32, err error) {
	for c := first; c >= firstCluster && c < 0x0ffffff8; c = r.table[c] {
		if int64(c) >= int64(len(r.table)) {
			return nil, fmt.Errorf("a chain leads to cluster %d of %d: %w", c, len(r.table), ErrForeign)
		}
		if r.used[c] {
			break
		}
		r.used[c] = true
		all = append(all, c)
	}
	return all, nil
}

// folder marks what is in a folder, and the folder.
func (r *reader) folder(first uint32, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("folders in folders: %w", ErrForeign)
	}
	all, err := r.chain(first)
	if err != nil {
		return err
	}
	b := make([]byte, r.perClus)
	for _, c := range all {
		if _, err := r.d.ReadAt(b, r.data+int64(c-firstCluster)*r.perClus); err != nil {
			return err
		}
		for e := b; len(e) >= entrySize; e = e[entrySize:] {
			switch {
			case e[0] == 0:
				return nil // the end
			case e[0] == 0xe5, e[11]&attrLong == attrLong, e[11]&0x08 != 0, e[0] == '.':
				continue // removed, part of a name, the label, this folder or the one around it
			}
			begin := uint32(binary.LittleEndian.Uint16(e[20:]))<<16 | uint32(binary.LittleEndian.Uint16(e[26:]))
			if e[11]&attrFolder != 0 {
				err = r.folder(begin, depth+1)
			} else {
				_, err = r.chain(begin)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
