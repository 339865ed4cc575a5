package vmxnet3

import (
	"encoding/binary"
	"testing"

	"vita/drivers"
	"vita/internal/pktbuf"
)

// FuzzRings has the device write what it likes to all that it shares with the
// driver, while two ports work. Nothing may fail, hang, or lose a buffer, and no
// frame may be longer than its buffer.
func FuzzRings(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x20, 5, 40, 0x40, 0x50, 0x10, 1, 0x18, 1, 2, 3, 4, 0x40, 0x50})
	f.Add([]byte{0x30, 0, 1, 0xc0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0x80, 0x40, 0x41, 0x50})
	f.Add([]byte{0x38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x20, 3, 3, 0x50, 0xb0, 0x70, 9, 255, 0x51})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := newChip(t), newChip(t)
		join(a, b)
		a.most, b.most = 2, 1
		a.lawless, b.lawless = true, true
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
		write := func(at uint64, n int) {
			if m := a.m.At(at, n); a.active && m != nil {
				for i := range m {
					m[i] = byte(number(1))
				}
			}
		}
		for steps := 0; len(rest) > 0 && steps < 500; steps++ {
			op := byte(number(1))
			p := ports[int(op&7)%len(ports)]
			q := int(op & 1)
			switch op >> 4 {
			case 0:
				a.send()
			case 1:
				b.receive(frame(int(op), int(number(1))+14))
			case 2:
				p.put(int(number(1)%40), 60+int(number(1)))
			case 3: // something that it has done
				if !a.active {
					continue
				}
				if op&8 != 0 {
					write(a.tx[q].done.here(), 16)
					a.tx[q].done.next += uint32(number(1) % 2)
				} else {
					write(a.rx[q].done.here(), 16)
					a.rx[q].done.next += uint32(number(1) % 2)
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
			case 6: // anything in its rings
				if a.active {
					write(a.rx[q].ring.at+number(2), int(number(1)))
				}
			case 7: // anything that is shared
				write(a.shared+number(2)%2000, int(number(1))%16)
			case 8:
				a.link = uint32(number(4))
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
		a.hangs, a.link = false, 1
		for range 6 {
			rounds(1, ports...)
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
	})
}
