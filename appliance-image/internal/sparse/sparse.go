// Package sparse carries a file system without its empty blocks, and lays it down
// on a device, whole or not at all.
//
// A packed file system is compressed by gzip: its size, then blocks, each behind
// its offset. The one at offset 0 is the last, without which the device looks
// empty.
package sparse

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// BlockSize is that of the file system.
const BlockSize = 4096

// Pack writes a file system, whose first block must not be empty.
func Pack(w io.Writer, data []byte) error {
	zero := make([]byte, BlockSize)
	if len(data) == 0 || len(data)%BlockSize != 0 || bytes.Equal(data[:BlockSize], zero) {
		return errors.New("sparse: no whole blocks, or an empty first one")
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	put := func(n int, block []byte) error {
		if err := binary.Write(z, binary.LittleEndian, uint64(n)); err != nil {
			return err
		}
		_, err := z.Write(block)
		return err
	}
	if err := put(len(data), nil); err != nil {
		return err
	}
	for at := BlockSize; at < len(data); at += BlockSize {
		if block := data[at:][:BlockSize]; !bytes.Equal(block, zero) {
			if err := put(at, block); err != nil {
				return err
			}
		}
	}
	if err := put(0, data[:BlockSize]); err != nil {
		return err
	}
	return z.Close()
}

// Lay writes what Pack has packed to a device, whose first block is empty. Cut
// short anywhere, it leaves that as it was.
func Lay(f *os.File, packed io.Reader) error {
	z, err := gzip.NewReader(packed)
	if err != nil {
		return err
	}
	number := make([]byte, 8)
	if _, err := io.ReadFull(z, number); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint64(number)
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size == 0 || size%BlockSize != 0 || size > uint64(end) {
		return fmt.Errorf("sparse: %d bytes for a device of %d", size, end)
	}
	if err := Zero(f, 0, int64(size)); err != nil {
		return err
	}
	block := make([]byte, BlockSize)
	for {
		if _, err := io.ReadFull(z, number); err != nil {
			return unexpected(err)
		}
		if _, err := io.ReadFull(z, block); err != nil {
			return unexpected(err)
		}
		at := binary.LittleEndian.Uint64(number)
		if at == 0 {
			break
		}
		if at%BlockSize != 0 || at > size-BlockSize {
			return fmt.Errorf("sparse: a block at %d of %d", at, size)
		}
		if _, err := f.WriteAt(block, int64(at)); err != nil {
			return err
		}
	}
	// What comes behind is the sum over all: nothing is there before it is right.
	if n, err := io.Copy(io.Discard, z); err != nil || n > 0 {
		return errors.Join(err, fmt.Errorf("sparse: %d bytes behind the last block", n))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.WriteAt(block, 0); err != nil {
		return err
	}
	return f.Sync()
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Zero fills a part of a device with zeros: by its own means where it has some.
func Zero(f *os.File, from, to int64) error {
	const step = 64 << 20
	for ; from < to; from += step {
		n := min(step, to-from)
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, from, n)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EBUSY) { // a device that is mounted
			err = writeZeros(f, from, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writeZeros(f *os.File, at, n int64) error {
	zero := make([]byte, min(n, 1<<20))
	for n > 0 {
		m, err := f.WriteAt(zero[:min(n, int64(len(zero)))], at)
		if err != nil {
			return err
		}
		at, n = at+int64(m), n-int64(m)
	}
	return nil
}
