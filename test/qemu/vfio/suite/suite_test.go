// Package suite is run inside a virtual machine, by the test of package vfio:
// the conformance suite on cards of the guest, through its VFIO.
package suite

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/drivers/e1000e"
	"vita/drivers/igb"
	"vita/drivers/ixgbe"
	"vita/drivers/virtio"
)

var (
	cards = flag.String("cards", "", "PCI addresses of two cards that are joined, with a comma between")
	name  = flag.String("driver", "", "their driver")
	mtu   = flag.Int("mtu", 1500, "MTU")
	loose = flag.Bool("loose", false, "frames may be delivered out of order when the receiver has no room")
)

var open = map[string]drivers.Opener{
	"igb":    igb.Open,
	"e1000e": e1000e.Open,
	"virtio": virtio.Open,
	"ixgbe":  ixgbe.Open,
}

func TestMain(m *testing.M) {
	flag.Parse()
	if *cards == "" {
		fmt.Println("suite: without -cards there is nothing to run: package vfio does it in a guest")
		return
	}
	os.Exit(m.Run())
}

func TestSuite(t *testing.T) {
	addresses := strings.Split(*cards, ",")
	o := open[*name]
	if len(addresses) != 2 || o == nil {
		t.Fatalf("-cards %q -driver %q", *cards, *name)
	}
	drivertest.Run(t, func(*testing.T) drivertest.Wire {
		return drivertest.Wire{
			Open: func(side int, c drivers.Config) (drivers.Port, error) {
				c.PCI, c.MTU = addresses[side], *mtu
				return o(c)
			},
			MTU: *mtu, Loose: *loose,
		}
	})
}
