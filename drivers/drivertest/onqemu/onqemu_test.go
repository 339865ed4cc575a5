// Package onqemu runs the conformance suite on the network cards that QEMU
// models, without a guest.
package onqemu

import (
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/drivers/e1000e"
	"vita/drivers/igb"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/pci"
	"vita/drivers/internal/qtest"
	"vita/drivers/virtio"
	"vita/drivers/vmxnet3"
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
	{"vmxnet3", vmxnet3.Open, 0, 0, false},
}

func TestSuite(t *testing.T) {
	for _, model := range models {
		for _, mtu := range []int{1500, 9000} {
			t.Run(model.name+drivertest.Name(mtu), func(t *testing.T) {
				p := newPair(t, model.name)
				drivertest.Run(t, func(*testing.T) drivertest.Wire {
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
						Cable: func(in bool) {
							if err := p.Cable(in); err != nil {
								t.Error(err)
							}
						},
					}
				})
			})
		}
	}
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
