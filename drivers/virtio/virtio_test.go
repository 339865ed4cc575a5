package virtio

import (
	"os"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/internal/pktbuf"
)

// usual is what any hypervisor of today offers.
const usual uint64 = featMAC | featStatus | featMTU | featControl | featControlRx | featEventIdx | featRingReset | featSpeedDuplex

func TestMain(m *testing.M) {
	patience = 20 * time.Millisecond
	os.Exit(m.Run())
}

// variants are devices that differ in how their rings work.
var variants = []struct {
	name     string
	features uint64
	pairs    int
	size     int
	change   func(*chip)
}{
	{"Usual", usual, 1, 256, nil},
	{"NoEventIndex", usual &^ featEventIdx, 1, 256, nil},
	{"Plain", 0, 1, 128, nil},
	{"MultiQueue", usual | featMultiQueue, 4, 256, nil},
	{"Backwards", usual, 1, 256, func(c *chip) { c.backwards = true }},
	{"SmallRing", usual, 1, 32, nil},
	{"RSS", usual | featMultiQueue | featRSS, 4, 256, nil},
	{"Packed", usual | featPacked, 1, 256, nil},
	{"PackedNoEventIndex", usual&^featEventIdx | featPacked, 1, 256, nil},
	{"PackedBackwards", usual | featPacked, 1, 256, func(c *chip) { c.backwards = true }},
	{"PackedSmallRing", usual | featPacked, 1, 32, nil},
	{"PackedRSS", usual | featMultiQueue | featRSS | featPacked, 4, 256, nil},
}

// TestSuite runs the conformance suite on devices of this process.
func TestSuite(t *testing.T) {
	for i, v := range variants {
		for _, mtu := range []int{1500, 9000} {
			if mtu == 9000 && i > 0 {
				continue // what they have to themselves does not depend on it
			}
			t.Run(v.name+drivertest.Name(mtu), func(t *testing.T) {
				drivertest.Run(t, func(t *testing.T) drivertest.Wire {
					var c [2]*chip
					for i := range c {
						c[i] = newChip(t, v.features, v.pairs, v.size)
						if v.change != nil {
							v.change(c[i])
						}
					}
					join(c[0], c[1])
					queues := 0
					if v.features&featRSS != 0 {
						queues = v.pairs
					}
					return drivertest.Wire{
						Open: func(side int, config drivers.Config) (drivers.Port, error) {
							config.MTU = mtu
							return openOn(c[side], config)
						},
						MTU: mtu, Lossless: true, Queues: queues,
					}
				})
			})
		}
	}
}

// station is a port with what a worker has.
type station struct {
	drivers.Port
	pool  *pktbuf.Pool
	stats drivers.Stats
	batch [64]pktbuf.Packet
}

func newStation(t testing.TB, c *chip, config drivers.Config) (*station, error) {
	t.Helper()
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 1024})
	if err != nil {
		t.Fatal(err)
	}
	s := &station{pool: pool}
	config.Pool, config.Stats = pool, &s.stats
	s.Port, err = openOn(c, config)
	t.Cleanup(func() {
		if s.Port != nil {
			s.end(t)
		}
		if n := pool.Available(); n != pool.Frames() {
			t.Errorf("%d of %d buffers in the pool in the end", n, pool.Frames())
		}
		_ = pool.Close()
	})
	return s, err
}

func must(t testing.TB, c *chip, config drivers.Config) *station {
	t.Helper()
	s, err := newStation(t, c, config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *station) end(t testing.TB) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	s.Port = nil
}

// take receives what is there, and returns the frames' contents.
func (s *station) take() (out []string) {
	for {
		n := s.Rx(s.batch[:])
		for _, k := range s.batch[:n] {
			out = append(out, string(s.pool.Bytes(k)))
			s.pool.Put(k)
		}
		if n == 0 {
			return out
		}
	}
}

// put sends n frames, as many as are taken, and returns how many.
func (s *station) put(n, size int) (taken int) {
	for range n {
		k, ok := s.pool.Get()
		if !ok {
			return taken
		}
		k.Len = uint16(size)
		copy(s.pool.Bytes(k), frame(taken, size))
		s.batch[0] = k
		if s.Tx(s.batch[:1]) == 0 {
			s.pool.Put(k)
			break
		}
		taken++
	}
	s.Flush()
	return taken
}

// frame makes the i-th frame of a size.
func frame(i, size int) []byte {
	f := make([]byte, size)
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, byte(i >> 8), byte(i)})
	return f
}

// rounds has workers do what they do, and Sync as well.
func rounds(n int, all ...*station) (frames int) {
	for range n {
		for _, s := range all {
			s.Sync()
			s.Flush()
			frames += len(s.take())
		}
	}
	return frames
}
