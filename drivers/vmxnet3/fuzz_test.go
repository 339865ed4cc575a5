package vmxnet3

import (
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest/faults"
)

// FuzzRings has the device write what it likes to all that it shares with the
// driver, while two ports work.
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
		z := faults.Fuzz{Ports: []func(drivers.Config) (drivers.Port, error){onQueue(a, 0), onQueue(a, 1), onQueue(b, 0)}}
		z.Device = func(kind, which byte, in *faults.Input) {
			q := which & 1
			write := func(at uint64, n int) {
				if m := a.m.At(at, n); m != nil {
					in.Fill(m)
				}
			}
			switch {
			case kind == 0:
				a.send()
			case kind == 1:
				b.receive(faults.Frame(int(which), int(in.Number(1))+14))
			case kind == 8:
				a.link = uint32(in.Number(4))
			case kind == 10:
				a.hangs = !a.hangs
			case !a.active:
			case kind == 3 && which&8 != 0: // something that it has done
				write(a.tx[q].done.here(), 16)
				a.tx[q].done.next += uint32(in.Number(1) % 2)
			case kind == 3:
				write(a.rx[q].done.here(), 16)
				a.rx[q].done.next += uint32(in.Number(1) % 2)
			case kind == 6: // anything in its rings
				write(a.rx[q].ring.at+in.Number(2), int(in.Number(1)))
			case kind == 7: // anything that is shared
				write(a.shared+in.Number(2)%2000, int(in.Number(1))%16)
			}
		}
		z.Heal = func() { a.hangs, a.link = false, 1 }
		z.Run(t, data)
	})
}

func onQueue(c *chip, queue int) func(drivers.Config) (drivers.Port, error) {
	return func(config drivers.Config) (drivers.Port, error) {
		config.Queues = []int{queue}
		return openOn(c, config)
	}
}
