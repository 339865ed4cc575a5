package gbe_test

import (
	"fmt"
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/drivers/drivertest/i8257x"
	"vita/drivers/e1000e"
	"vita/drivers/igb"
)

// chips are the models, and the drivers for them.
var chips = []struct {
	name   string
	id     uint16
	open   drivers.Opener
	queues int
	pools  int
}{
	{"82576", 0x10c9, igb.Open, 16, 8},
	{"i350", 0x1521, igb.Open, 8, 8},
	{"i210", 0x1533, igb.Open, 4, 0},
	{"82574", 0x10d3, e1000e.Open, 2, 0},
}

func TestSuite(t *testing.T) {
	for _, chip := range chips {
		for _, mtu := range []int{1500, 9000} {
			if mtu == 9000 && (chip.name == "i350" || chip.name == "i210") {
				continue // as the 82576
			}
			t.Run(chip.name+drivertest.Name(mtu), func(t *testing.T) {
				drivertest.Run(t, func(t *testing.T) drivertest.Wire {
					p := i8257x.New(i8257x.Options{Chip: chip.id, Name: t.Name()})
					t.Cleanup(p.Close)
					w := drivertest.Wire{
						Open: func(side int, c drivers.Config) (drivers.Port, error) {
							c.PCI, c.MTU = fmt.Sprintf("%s:%c", t.Name(), 'a'+rune(side)), mtu
							return chip.open(c)
						},
						MTU: mtu, Cable: p.Cable, Queues: chip.queues, Pools: chip.pools, Many: 100000,
					}
					if mtu == 1500 && chip.queues <= 4 { // an i210 and an 82574
						w.Many = 1000000
					}
					t.Cleanup(func() {
						for i, c := range p.Cards {
							if n := c.Device.Faults(); n > 0 {
								t.Errorf("card %d has used memory %d times that is not its own", i, n)
							}
							if n := c.Device.Mapped(); n > 0 {
								t.Errorf("card %d: %d ranges of memory stay mapped", i, n)
							}
							if c.Device.Master() {
								t.Errorf("card %d may still use memory", i)
							}
						}
					})
					return w
				})
			})
		}
	}
}
