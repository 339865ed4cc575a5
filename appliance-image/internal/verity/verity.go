// Package verity makes and recognises the hash tree by which dm-verity checks
// a read-only partition, block by block (the kernel's document
// "device-mapper/verity", version 1 of the format, SHA-256, no salt, no
// superblock).
//
//	partition:  data blocks | top level | ... | level of the data's hashes
//	                          ^ hash of it is the root
package verity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// BlockSize is that of data and of hashes.
const BlockSize = 4096

// Root names a checked partition: whoever trusts it can trust all the data.
type Root struct {
	Hash   [sha256.Size]byte
	Blocks uint64 // of data
}

// maxBlocks bounds what is believed of a command line: 16 GiB.
const maxBlocks = 1 << 22

// String returns the root as the kernel's command line has it, HASH:BLOCKS.
func (r Root) String() string { return fmt.Sprintf("%x:%d", r.Hash, r.Blocks) }

// ParseRoot is the inverse of String.
func ParseRoot(s string) (Root, error) {
	var r Root
	hash, blocks, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(hash)
	if !ok || err != nil || len(b) != len(r.Hash) {
		return Root{}, fmt.Errorf("root %q: want 64 hexadecimal digits, a colon and the number of blocks", s)
	}
	copy(r.Hash[:], b)
	if r.Blocks, err = strconv.ParseUint(blocks, 10, 32); err != nil || r.Blocks == 0 || r.Blocks > maxBlocks {
		return Root{}, fmt.Errorf("root %q: the number of blocks is not within 1..%d", s, maxBlocks)
	}
	return r, nil
}

// Table returns the parameters of a device-mapper target of the kind verity
// over a partition. A block that is not what it was stops the machine.
func (r Root) Table(device string) string {
	return fmt.Sprintf("1 %s %s %d %d %d %d sha256 %x - 1 panic_on_corruption",
		device, device, BlockSize, BlockSize, r.Blocks, r.Blocks, r.Hash)
}

// Sectors returns the size of the data in sectors of 512 bytes.
func (r Root) Sectors() uint64 { return r.Blocks * (BlockSize / 512) }

// Build reads data, whose size must be a multiple of BlockSize, and returns
// the hash tree that belongs behind it.
func Build(data io.Reader) (tree []byte, root Root, err error) {
	var level []byte // of hashes
	block := make([]byte, BlockSize)
	for {
		if _, err := io.ReadFull(data, block); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, Root{}, fmt.Errorf("verity: data of no whole number of blocks: %w", err)
		}
		sum := sha256.Sum256(block)
		level = append(level, sum[:]...)
		root.Blocks++
	}
	if root.Blocks == 0 || root.Blocks > maxBlocks {
		return nil, Root{}, fmt.Errorf("verity: %d blocks of data, want 1..%d", root.Blocks, maxBlocks)
	}
	for {
		level = append(level, make([]byte, -len(level)&(BlockSize-1))...)
		tree = append(level, tree...) // the higher level lies before the lower
		if len(level) == BlockSize {
			root.Hash = sha256.Sum256(level)
			return tree, root, nil
		}
		var above []byte
		for b := range slices.Chunk(level, BlockSize) {
			sum := sha256.Sum256(b)
			above = append(above, sum[:]...)
		}
		level = above
	}
}

// Is says whether a partition is the one that a root names, by the top of its
// hash tree. The kernel checks the rest as it is read.
func (r Root) Is(partition io.ReaderAt) bool {
	top := make([]byte, BlockSize)
	if _, err := partition.ReadAt(top, int64(r.Blocks*BlockSize)); err != nil {
		return false
	}
	return sha256.Sum256(top) == r.Hash
}
