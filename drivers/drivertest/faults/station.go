// Package faults has what drivers of cards must survive: cards that hang, that do
// not come back from a reset, whose queues do not stop, that are taken away, while
// several ports use them. A driver's test makes a model of its card and calls Run.
//
// It also has what such tests, and fuzzers, have in common: ports with what a
// worker has.
package faults

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/internal/pktbuf"
)

// Station is a port with what a worker has.
type Station struct {
	drivers.Port
	Pool  *pktbuf.Pool
	Stats drivers.Stats
	Batch [64]pktbuf.Packet
}

// Try opens a port with a pool of its own. When the test ends it is closed, and
// all buffers must be back.
func Try(t testing.TB, open drivers.Opener, c drivers.Config) (*Station, error) {
	t.Helper()
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 1024})
	if err != nil {
		t.Fatal(err)
	}
	s := &Station{Pool: pool}
	c.Pool, c.Stats = pool, &s.Stats
	s.Port, err = open(c)
	t.Cleanup(func() {
		s.End(t)
		_ = pool.Close()
	})
	if n := pool.Available(); err != nil && n != pool.Frames() {
		t.Errorf("a port that does not open keeps %d buffers", pool.Frames()-n)
	}
	return s, err
}

// Must opens a port that has to open.
func Must(t testing.TB, open drivers.Opener, c drivers.Config) *Station {
	t.Helper()
	s, err := Try(t, open, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// End closes the port, if that was not done.
func (s *Station) End(t testing.TB) {
	t.Helper()
	if s.Port == nil {
		return
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	s.Port = nil
	s.Back(t)
}

// Back checks that all buffers are in the pool.
func (s *Station) Back(t testing.TB) {
	t.Helper()
	if n := s.Pool.Available(); n != s.Pool.Frames() {
		t.Errorf("%d of %d buffers in the pool in the end", n, s.Pool.Frames())
	}
}

// Take receives what is there, and returns the frames' contents.
func (s *Station) Take() (out []string) {
	for {
		n := s.Rx(s.Batch[:])
		for _, k := range s.Batch[:n] {
			out = append(out, string(s.Pool.Bytes(k)))
			s.Pool.Put(k)
		}
		if n == 0 {
			return out
		}
	}
}

// Put sends n frames, as many as are taken, and returns how many.
func (s *Station) Put(n, size int) (taken int) {
	for range n {
		k, ok := s.Pool.Get()
		if !ok {
			return taken
		}
		k.Len = uint16(size)
		copy(s.Pool.Bytes(k), Frame(taken, size))
		s.Batch[0] = k
		if s.Tx(s.Batch[:1]) == 0 {
			s.Pool.Put(k)
			break
		}
		taken++
	}
	s.Flush()
	return taken
}

// Rounds has workers do what they do, and Sync as well.
func Rounds(n int, all ...*Station) (frames int) {
	for range n {
		for _, s := range all {
			s.Sync()
			s.Flush()
			frames += len(s.Take())
		}
	}
	return frames
}

// Raised returns how often a descriptor's interrupt has come since it was last
// asked.
func Raised(fd int) int {
	var b [8]byte
	if n, err := unix.Read(fd, b[:]); n != 8 || err != nil {
		return 0
	}
	return int(binary.LittleEndian.Uint64(b[:]))
}

// group is an address that every card receives.
var group = [6]byte{3, 0, 0, 0, 0, 1}

// Frame makes the i-th frame of a size, to a group.
func Frame(i, size int) []byte {
	f := make([]byte, size)
	copy(f, append(group[:], 2, 0, 0, 0, 0, 2, 0x88, 0xb5, byte(i>>8), byte(i)))
	return f
}

// Flow makes a packet of IPv4 and TCP between addresses and ports that are
// nobody's yet, to a group.
func Flow(r *rand.Rand) []byte {
	f := append(group[:], 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6, 0, 0)
	f = binary.BigEndian.AppendUint64(f, r.Uint64())
	f = binary.BigEndian.AppendUint32(f, r.Uint32())
	return append(f, make([]byte, 36)...)
}
