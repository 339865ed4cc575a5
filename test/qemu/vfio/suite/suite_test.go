// Package suite is run inside a virtual machine, by the test of package vfio:
// the conformance suite on cards of the guest, through its VFIO.
package suite

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/afpacket"
	"vita/drivers/drivertest"
	"vita/drivers/e1000e"
	"vita/drivers/igb"
	"vita/drivers/ixgbe"
	"vita/drivers/virtio"
	"vita/drivers/vmxnet3"
)

var (
	cards = flag.String("cards", "", "PCI addresses, or interfaces of Linux, of two cards that are joined, with a comma between")
	name  = flag.String("driver", "", "their driver")
	mtu   = flag.Int("mtu", 1500, "MTU")
	loose = flag.Bool("loose", false, "frames may be delivered out of order when the receiver has no room")
)

var open = map[string]drivers.Opener{
	"linux":   afpacket.Open,
	"igb":     igb.Open,
	"e1000e":  e1000e.Open,
	"virtio":  virtio.Open,
	"vmxnet3": vmxnet3.Open,
	"ixgbe":   ixgbe.Open,
}

func TestMain(m *testing.M) {
	flag.Parse()
	if *cards == "" {
		fmt.Println("suite: without -cards there is nothing to run: package vfio does it in a guest")
		return
	}
	os.Exit(m.Run())
}

// wire is the two cards.
func wire(t *testing.T) drivertest.Wire {
	addresses := strings.Split(*cards, ",")
	o := open[*name]
	if len(addresses) != 2 || o == nil {
		t.Fatalf("-cards %q -driver %q", *cards, *name)
	}
	return drivertest.Wire{
		Open: func(side int, c drivers.Config) (drivers.Port, error) {
			if strings.Contains(addresses[side], ":") {
				c.PCI, c.MTU = addresses[side], *mtu
			} else {
				c.Ifname = addresses[side]
			}
			return o(c)
		},
		MTU: *mtu, Loose: *loose,
	}
}

func TestSuite(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Wire { return wire(t) })
}

// TestSpeed says how many frames a second go from one card to the other.
func TestSpeed(t *testing.T) {
	best := 0.0
	for range 2 {
		best = max(best, drivertest.Speed(t, wire(t), time.Second))
	}
	fmt.Printf("speed %.0f\n", best)
}
