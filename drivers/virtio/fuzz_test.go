package virtio

import (
	"encoding/binary"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/drivertest/faults"
	"vita/internal/pktbuf"
)

// FuzzRings has the device write what it likes to all that it shares with the
// driver, while two ports work.
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
	f := faults.Fuzz{Ports: []func(drivers.Config) (drivers.Port, error){onQueue(a, 0), onQueue(a, 1), onQueue(b, 0)}}
	f.Device = func(kind, which byte, in *faults.Input) {
		v := a.queues[int(which&7)%4]
		used := a.m.At(v.device, 6+8*16)
		switch {
		case kind == 0: // work as it should
			a.notified(v.index)
		case kind == 1 && v.on && used != nil: // how far it is
			binary.LittleEndian.PutUint16(used[2:], uint16(in.Number(2)))
		case kind == 3 && v.on && used != nil: // a used buffer
			at := 4 + 8*int(in.Number(1)%16)
			binary.LittleEndian.PutUint64(used[at:], in.Number(8))
		case kind == 6: // anything in its memory
			if c := a.m.At(v.desc, 16*16+64); v.on && c != nil {
				binary.LittleEndian.PutUint64(c[8*int(in.Number(1)%40):], in.Number(8))
			}
		case kind == 7:
			a.status ^= byte(in.Number(1)) & (statusNeedsReset | statusDriverOK)
		case kind == 8:
			a.set(int(in.Number(1)%16), byte(in.Number(1)))
		case kind == 10:
			a.hangs = !a.hangs
		}
	}
	f.Heal = func() {
		a.hangs = false
		a.set(cfgStatus, linkUp)
		a.status |= statusDriverOK
	}
	f.Run(t, data)
}

func onQueue(c *chip, queue int) func(drivers.Config) (drivers.Port, error) {
	return func(config drivers.Config) (drivers.Port, error) {
		config.Queues = []int{queue}
		return openOn(c, config)
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
