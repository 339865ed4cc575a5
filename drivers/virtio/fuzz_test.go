package virtio

import (
	"encoding/binary"
	"testing"
	"time"

	"vita/drivers"
	"vita/internal/pktbuf"
)

// FuzzRings has the device write what it likes to all that it shares with the
// driver, while two ports work. Nothing may fail, hang, or lose a buffer, and no
// frame may be longer than its buffer.
func FuzzRings(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add([]byte{0x10, 0, 2, 0x20, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x50}, uint8(0))
	f.Add([]byte{0x12, 0xff, 0xff, 0x20, 0x40, 0x50, 0x21, 0x40, 0x60, 0x70}, uint8(1))
	f.Add([]byte{0x31, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0x11, 1, 0, 0x20, 0x21, 0x40, 0x60, 0x40, 0x40, 0x50}, uint8(1))
	f.Add([]byte{0x20, 9, 0x61, 3, 1, 0, 0, 0, 2, 0, 0x80, 0x80, 0x40, 0x50, 0x68, 1, 1, 0, 0, 0, 2, 0, 0, 0, 0x40, 0x50}, uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, form uint8) {
		features := usual | featMultiQueue
		if form&1 == 0 {
			features &^= featEventIdx
		}
		if form&2 != 0 {
			features |= featPacked
		}
		fuzzRings(t, features, data)
	})
}

func fuzzRings(t *testing.T, features uint64, data []byte) {
	a, b := newChip(t, features, 2, 16), newChip(t, features, 1, 16)
	join(a, b)
	a.steer = func(f []byte, pairs int) int { return int(f[15]) % pairs }
	a.lawless, b.lawless = true, true
	patience = time.Millisecond
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 512, FrameSize: 2048})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var ports []*station
	for i, c := range []*chip{a, a, b} {
		s := &station{pool: pool}
		if s.Port, err = openOn(c, drivers.Config{Pool: pool, Stats: &s.stats, Queues: []int{i % 2}}); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, s)
	}
	rest := data
	number := func(n int) (v uint64) {
		var b [8]byte
		rest = rest[copy(b[:n], rest):]
		return binary.LittleEndian.Uint64(b[:])
	}
	for steps := 0; len(rest) > 0 && steps < 500; steps++ {
		op := byte(number(1))
		v := a.queues[int(op&7)%4]
		p := ports[int(op&7)%len(ports)]
		switch op >> 4 {
		case 0: // work as it should
			a.notified(v.index)
		case 1: // how far it is
			c := a.m.At(v.device, 6+8*16)
			if v.on && c != nil {
				binary.LittleEndian.PutUint16(c[2:], uint16(number(2)))
			}
		case 2:
			p.put(int(number(1)%40), 60+int(number(1)))
		case 3: // a used buffer
			c := a.m.At(v.device, 6+8*16)
			if v.on && c != nil {
				at := 4 + 8*int(number(1)%16)
				binary.LittleEndian.PutUint64(c[at:], number(8))
			}
		case 4:
			for _, f := range p.take() {
				if len(f) < ethernetLen || len(f) > 1518 {
					t.Fatalf("a frame of %d bytes", len(f))
				}
			}
			p.Flush()
		case 5:
			p.Sync()
		case 6: // anything in its memory
			if c := a.m.At(v.desc, 16*16+64); v.on && c != nil {
				binary.LittleEndian.PutUint64(c[8*int(number(1)%40):], number(8))
			}
		case 7:
			a.status ^= byte(number(1)) & (statusNeedsReset | statusDriverOK)
		case 8:
			a.set(int(number(1)%16), byte(number(1)))
		case 9:
			p.Fd()
			p.Info()
		case 10:
			a.hangs = !a.hangs
		case 11:
			if p != ports[1] {
				continue
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if p.Port, err = openOn(a, drivers.Config{Pool: pool, Stats: &p.stats, Queues: []int{1}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Left to itself it works again.
	a.hangs = false
	a.set(cfgStatus, linkUp)
	for range 5 {
		rounds(1, ports...)
		a.status |= statusDriverOK
	}
	for i, p := range ports {
		if n := p.put(1, 100); n != 1 {
			t.Errorf("port %d takes no frame: %+v", i, p.Info())
		}
	}
	for _, p := range ports {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := pool.Available(); n != pool.Frames() {
		t.Errorf("%d of %d buffers in the pool in the end", n, pool.Frames())
	}
}

// FuzzCapabilities opens devices that say nonsense of where their structures
// are, and of themselves.
func FuzzCapabilities(f *testing.F) {
	caps := newChip(f, usual|featMultiQueue|featRSS, 2, 16)
	good := make([]byte, 0x48+24)
	for i := range 0x48 {
		v, err := caps.m.ReadConfig(0x90+i, 1)
		if err != nil {
			f.Fatal(err)
		}
		good[i] = byte(v)
	}
	copy(good[0x48:], caps.config[:])
	f.Add(good, usual|featMultiQueue|featRSS)
	f.Add(good[:0x30], uint64(0))
	for _, at := range []int{1, capType, capBAR, capOffset, capOffset + 3, capLength + 3, 0x18 + capStep + 1, 0x48 + cfgMaxPairs, 0x48 + cfgTableMax} {
		bad := append([]byte(nil), good...)
		bad[at] ^= 0xff
		f.Add(bad, usual|featMultiQueue|featRSS|featPacked)
	}
	f.Fuzz(func(t *testing.T, data []byte, features uint64) {
		c := newChip(t, features, 2, 16)
		c.lawless = true
		patience = time.Millisecond
		for i, b := range data {
			if i < 0x48 {
				c.put(0x90+i, 1, uint32(b))
			} else if i < 0x48+len(c.config) {
				c.config[i-0x48] = b
			}
		}
		pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 128, FrameSize: 2048})
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		p, err := openOn(c, drivers.Config{Pool: pool})
		if err == nil {
			p.Sync()
			p.Flush()
			p.Fd()
			err = p.Close()
			if err != nil {
				t.Error(err)
			}
		}
		if pool.Available() != pool.Frames() || c.m.Mapped() != 0 || c.m.Master() {
			t.Errorf("%d of %d buffers in the pool, %d ranges mapped, master %v", pool.Available(), pool.Frames(), c.m.Mapped(), c.m.Master())
		}
	})
}
