package ixgbe

import (
	"fmt"
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/drivers/drivertest/i82599"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/model"
	"vita/drivers/internal/pci"
)

// cable is two models in this process, joined.
type cable struct {
	chip   [2]*i82599.Device
	device [2]*model.Device
}

func name(i int) string { return fmt.Sprintf("model:%d", i) }

func newCable(t testing.TB) *cable {
	t.Helper()
	c := &cable{}
	for i := range 2 {
		c.chip[i], c.device[i] = i82599.Attach(name(i), i82599.Options{MAC: [6]byte{0, 0x1b, 0x21, 0, 0, byte(i + 1)}})
		id := pci.ID{Vendor: i82599.Vendor, Device: i82599.ID}
		t.Cleanup(backend.Provide(name(i), backend.Source{ID: id, Open: c.device[i].Open}))
	}
	for i := range 2 {
		far := c.chip[1-i]
		c.chip[i].SetSend(func(f []byte) { far.Receive(f) })
	}
	t.Cleanup(func() {
		for i := range 2 {
			for _, f := range c.chip[i].Faults() {
				t.Errorf("model %d: %s", i, f)
			}
			if n := c.device[i].Faults(); n > 0 {
				t.Errorf("model %d: %d accesses to memory that is not there", i, n)
			}
			if n := c.device[i].Mapped(); n > 0 {
				t.Errorf("model %d: %d mappings are left", i, n)
			}
		}
	})
	return c
}

// plug pulls the cable, or plugs it in again.
func (c *cable) plug(in bool) {
	for _, d := range c.chip {
		d.SetLink(in)
	}
}

func TestConformance(t *testing.T) {
	for _, mtu := range []int{1500, 9000} {
		t.Run(fmt.Sprint("mtu ", mtu), func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Wire {
				c := newCable(t)
				w := drivertest.Wire{
					Open: func(side int, c drivers.Config) (drivers.Port, error) {
						c.PCI, c.MTU = name(side), mtu
						return Open(c)
					},
					MTU: mtu, Cable: c.plug, Queues: rssQueues, Pools: pools,
				}
				if mtu == 1500 {
					w.Many = 1000000
				}
				return w
			})
		})
	}
}

func (c *cable) mac(i int) [6]byte { return [6]byte{0, 0x1b, 0x21, 0, 0, byte(i + 1)} }
