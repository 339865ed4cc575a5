// Package onqemu runs the conformance suite on the network cards that QEMU
// models, without a guest.
package onqemu

import (
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/drivers/e1000e"
	"vita/drivers/igb"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/pci"
	"vita/drivers/internal/qtest"
	"vita/drivers/virtio"
	"vita/drivers/vmxnet3"
	"vita/internal/pktbuf"
	"vita/test/qemu"
)

// models are QEMU's names of cards, and the drivers for them.
var models = []struct {
	name   string
	open   drivers.Opener
	queues int
	pools  int
	loose  bool // QEMU has two queues in front of it, that it empties in the wrong order
}{
	{"igb", igb.Open, 4, 8, false},
	{"e1000e", e1000e.Open, 2, 0, true},
	{"virtio-net-pci-non-transitional", virtio.Open, 0, 0, true},
	{"virtio-net-pci,event_idx=off", virtio.Open, 0, 0, true}, // one of before 1.0 as well
	{packed, virtio.Open, 0, 0, true},
	{"vmxnet3", vmxnet3.Open, 0, 0, false},
}

// packed has the other form of rings. QEMU loses its place in one when it throws
// frames away for want of a link, and sends nothing any more: see TestHang.
const packed = "virtio-net-pci,packed=on"

func TestSuite(t *testing.T) {
	for _, model := range models {
		for _, mtu := range []int{1500, 9000} {
			t.Run(model.name+drivertest.Name(mtu), func(t *testing.T) {
				p := newPair(t, model.name)
				drivertest.Run(t, func(*testing.T) drivertest.Wire {
					cable := func(in bool) {
						if err := p.Cable(in); err != nil {
							t.Error(err)
						}
					}
					if model.name == packed {
						cable = nil
					}
					many := 0
					if mtu == 1500 {
						many = 1000000
					}
					return drivertest.Wire{
						Many: many,
						Open: func(side int, c drivers.Config) (drivers.Port, error) {
							c.PCI, c.MTU = p.names[side], mtu
							return model.open(c)
						},
						MTU: mtu, Loose: model.loose, Queues: model.queues, Pools: model.pools,
						Cable: cable,
					}
				})
			})
		}
	}
}

// TestHang has a device of QEMU's hang, by a fault of its own: it is reset, and
// works again.
func TestHang(t *testing.T) {
	p := newPair(t, packed)
	var ports [2]drivers.Port
	var stats [2]drivers.Stats
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 2048})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for i := range ports {
		if ports[i], err = virtio.Open(drivers.Config{PCI: p.names[i], Pool: pool, Stats: &stats[i]}); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ports[i].Close() }()
	}
	send := func(n int) {
		t.Helper()
		for range n {
			k, ok := pool.Get()
			if !ok {
				t.Fatal("no free buffer")
			}
			k.Len = 100
			to := ports[1].Info().MAC
			copy(pool.Bytes(k), to[:])
			if ports[0].Tx([]pktbuf.Packet{k}) == 0 {
				t.Fatal("not taken")
			}
			ports[0].Flush()
		}
	}
	got := 0
	await := func(what string, done func() bool) {
		t.Helper()
		batch := make([]pktbuf.Packet, 64)
		for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
			for _, q := range ports {
				q.Sync()
				q.Flush()
				n := q.Rx(batch)
				pool.PutBatch(batch[:n])
				got += n
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %+v %+v", what, ports[0].Info(), stats)
			}
		}
	}
	await("no link", func() bool { return ports[0].Info().LinkUp && ports[1].Info().LinkUp })
	send(10)
	await("nothing arrives", func() bool { return got == 10 })
	for _, in := range []bool{false, true} {
		if err := p.Cable(in); err != nil {
			t.Fatal(err)
		}
		send(10)
	}
	await("no reset", func() bool { return ports[0].Info().Resets == 1 && ports[0].Info().TxWaiting == 0 })
	if stats[0].TxDrop == 0 {
		t.Errorf("%+v", stats[0])
	}
	before := got
	send(10)
	await("nothing arrives after the reset", func() bool { return got == before+10 })
}

// pair is a machine with two cards that are joined.
type pair struct {
	*qtest.Machine
	devices [2]*qtest.Device
	names   [2]string
}

func newPair(t *testing.T, model string) *pair {
	t.Helper()
	tree, err := qemu.DefaultTree()
	if err != nil {
		t.Fatal(err)
	}
	words, env, err := tree.Emulator()
	if err != nil {
		t.Fatal(err)
	}
	p := new(pair)
	if p.Machine, err = qtest.Pair(qtest.Options{Command: words, Env: env}, model); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	for i := range p.devices {
		d, err := p.Device(4 + 2*i)
		if err != nil {
			t.Fatal(err)
		}
		p.devices[i], p.names[i] = d, d.Address()
		t.Cleanup(backend.Provide(d.Address(), backend.Source{ID: d.ID(), Open: func() (pci.Device, error) { return d, nil }}))
	}
	return p
}
