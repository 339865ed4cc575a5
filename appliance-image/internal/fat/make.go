// Package fat makes the EFI system partition's file system, and repairs what a
// power cut leaves of it. Files in it are read and written by the kernel.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf16"
)

// A FAT32 file system for the EFI system partition (Microsoft's "FAT File
// System Specification"): clusters of one sector, two tables, every name with a
// long one beside a short one that is made up, all times the same.
const (
	sectorSize    = 512
	reserved      = 32
	entrySize     = 32
	firstCluster  = 2 // number of the first cluster
	endOfChain    = 0x0fffffff
	leastClusters = 65525      // clusters that make it FAT32
	stamp         = 0x5821     // 2024-01-01
	serial        = 0x56495441 // "VITA"
	attrFolder    = 0x10
	attrArchive   = 0x20
	attrLong      = 0x0f
)

type volume struct {
	image []byte
	table []uint32
	data  int // offset of the first cluster
	free  uint32
}

// Make returns a file system of size bytes with files, by their paths.
func Make(size int, files map[string][]byte) ([]byte, error) {
	sectors := size / sectorSize
	// Each cluster takes a sector and twice four bytes.
	tableSectors := ((sectors-reserved)*4 + sectorSize + 8 - 1) / (sectorSize + 8)
	clusters := sectors - reserved - 2*tableSectors
	if size%sectorSize != 0 || clusters < leastClusters {
		return nil, fmt.Errorf("FAT32: %d bytes are too few", size)
	}
	f := &volume{image: make([]byte, size), table: make([]uint32, tableSectors*sectorSize/4), data: (reserved + 2*tableSectors) * sectorSize, free: firstCluster}
	f.table[0], f.table[1] = 0x0ffffff8, endOfChain
	limit := uint32(clusters + firstCluster)

	root, err := f.folder("/", 0, true, files, limit)
	if err != nil {
		return nil, err
	}
	f.boot(sectors, tableSectors, root, uint32(clusters))
	for i, v := range f.table {
		for copyOf := range 2 {
			binary.LittleEndian.PutUint32(f.image[(reserved+copyOf*tableSectors)*sectorSize+4*i:], v)
		}
	}
	return f.image, nil
}

// boot writes the sectors that describe the file system, and their copies.
func (f *volume) boot(sectors, tableSectors int, root, clusters uint32) {
	b := make([]byte, sectorSize)
	le := binary.LittleEndian
	copy(b, "\xeb\x58\x90vita    ")
	le.PutUint16(b[11:], sectorSize)
	b[13] = 1 // sector a cluster
	le.PutUint16(b[14:], reserved)
	b[16] = 2 // tables
	b[21] = 0xf8
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[32:], uint32(sectors))
	le.PutUint32(b[36:], uint32(tableSectors))
	le.PutUint32(b[44:], root)
	le.PutUint16(b[48:], 1) // information
	le.PutUint16(b[50:], 6) // copies
	b[64] = 0x80
	b[66] = 0x29
	le.PutUint32(b[67:], serial)
	copy(b[71:], "VITA ESP   FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	info := make([]byte, sectorSize)
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], clusters+firstCluster-f.free)
	le.PutUint32(info[492:], f.free)
	info[510], info[511] = 0x55, 0xaa
	for _, at := range []int{0, 6} {
		copy(f.image[at*sectorSize:], b)
		copy(f.image[(at+1)*sectorSize:], info)
	}
}

// put stores data in clusters of its own and returns the first.
func (f *volume) put(data []byte, limit uint32) (uint32, error) {
	if len(data) == 0 {
		return 0, nil
	}
	first, n := f.free, uint32((len(data)+sectorSize-1)/sectorSize)
	if n > limit-first {
		return 0, errors.New("FAT32: the files do not fit")
	}
	copy(f.image[f.data+int(first-firstCluster)*sectorSize:], data)
	for c := first; c < first+n; c++ {
		f.table[c] = c + 1
	}
	f.table[first+n-1] = endOfChain
	f.free += n
	return first, nil
}

// folder stores a folder, whose own first cluster is needed by its children: it
// is taken before they are.
func (f *volume) folder(dir string, parent uint32, isRoot bool, files map[string][]byte, limit uint32) (uint32, error) {
	children := make(map[string]bool) // name: is a folder
	for p := range files {
		if rest, ok := strings.CutPrefix(p, strings.TrimSuffix(dir, "/")+"/"); ok {
			name, _, deeper := strings.Cut(rest, "/")
			children[name] = deeper
		}
	}
	var names []string
	size := 2
	for n := range children {
		names = append(names, n)
		size += 1 + (len(utf16.Encode([]rune(n)))+12)/13
	}
	slices.Sort(names)
	own, err := f.put(make([]byte, size*entrySize), limit)
	if err != nil {
		return 0, err
	}
	var b []byte
	if isRoot {
		b = append(b, shortEntry("VITA ESP   ", 0x08, 0, 0)...)
	} else {
		b = append(b, shortEntry(".          ", attrFolder, own, 0)...)
		b = append(b, shortEntry("..         ", attrFolder, parent, 0)...)
	}
	for i, name := range names {
		p := path.Join(dir, name)
		short, long := fmt.Sprintf("VITA%04d   ", i), []byte(nil)
		if base, ext, _ := strings.Cut(name, "."); isShort(base, 8) && (ext == "" || isShort(ext, 3)) {
			short = fmt.Sprintf("%-8s%-3s", base, ext)
		} else {
			long = longEntries(name, short)
		}
		var first uint32
		attr := byte(attrArchive)
		if children[name] {
			attr = attrFolder
			up := own
			if isRoot {
				up = 0 // as the specification has it
			}
			first, err = f.folder(p, up, false, files, limit)
		} else {
			first, err = f.put(files[p], limit)
		}
		if err != nil {
			return 0, err
		}
		b = append(b, long...)
		b = append(b, shortEntry(short, attr, first, len(files[p]))...)
	}
	copy(f.image[f.data+int(own-firstCluster)*sectorSize:], b)
	return own, nil
}

// isShort says whether a part of a name needs no long one.
func isShort(s string, most int) bool {
	return s != "" && len(s) <= most && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

func shortEntry(name string, attr byte, first uint32, size int) []byte {
	e := make([]byte, entrySize)
	copy(e, name)
	e[11] = attr
	for _, at := range []int{16, 18, 24} {
		binary.LittleEndian.PutUint16(e[at:], stamp)
	}
	binary.LittleEndian.PutUint16(e[20:], uint16(first>>16))
	binary.LittleEndian.PutUint16(e[26:], uint16(first))
	binary.LittleEndian.PutUint32(e[28:], uint32(size))
	return e
}

// longEntries holds a name in pieces of 13 characters, the last piece first.
func longEntries(name, short string) []byte {
	var sum byte
	for _, c := range []byte(short[:11]) {
		sum = sum>>1 | sum<<7
		sum += c
	}
	chars := utf16.Encode([]rune(name))
	n := (len(chars) + 12) / 13
	var out []byte
	for i := n - 1; i >= 0; i-- {
		e := make([]byte, entrySize)
		e[0] = byte(i + 1)
		if i == n-1 {
			e[0] |= 0x40
		}
		e[11], e[13] = attrLong, sum
		for j := range 13 {
			at := 1 + 2*j
			if j >= 5 {
				at = 14 + 2*(j-5)
			}
			if j >= 11 {
				at = 28 + 2*(j-11)
			}
			c := uint16(0xffff)
			if k := i*13 + j; k < len(chars) {
				c = chars[k]
			} else if k == len(chars) {
				c = 0
			}
			binary.LittleEndian.PutUint16(e[at:], c)
		}
		out = append(out, e...)
	}
	return out
}
