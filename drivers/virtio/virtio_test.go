package virtio

import (
	"os"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/drivers/drivertest/faults"
)

// usual is what any hypervisor of today offers.
const usual uint64 = featMAC | featStatus | featMTU | featControl | featControlRx | featEventIdx | featRingReset | featSpeedDuplex

func TestMain(m *testing.M) {
	patience = 20 * time.Millisecond
	os.Exit(m.Run())
}

// variants are devices that differ in how their rings work.
var variants = []struct {
	name     string
	features uint64
	pairs    int
	size     int
	change   func(*chip)
}{
	{"Usual", usual, 1, 256, nil},
	{"NoEventIndex", usual &^ featEventIdx, 1, 256, nil},
	{"Plain", 0, 1, 128, nil},
	{"MultiQueue", usual | featMultiQueue, 4, 256, nil},
	{"Backwards", usual, 1, 256, func(c *chip) { c.backwards = true }},
	{"SmallRing", usual, 1, 32, nil},
	{"RSS", usual | featMultiQueue | featRSS, 4, 256, nil},
	{"Packed", usual | featPacked, 1, 256, nil},
	{"PackedNoEventIndex", usual&^featEventIdx | featPacked, 1, 256, nil},
	{"PackedBackwards", usual | featPacked, 1, 256, func(c *chip) { c.backwards = true }},
	{"PackedSmallRing", usual | featPacked, 1, 32, nil},
	{"PackedRSS", usual | featMultiQueue | featRSS | featPacked, 4, 256, nil},
}

// TestSuite runs the conformance suite on devices of this process.
func TestSuite(t *testing.T) {
	for i, v := range variants {
		for _, mtu := range []int{1500, 9000} {
			if mtu == 9000 && i > 0 {
				continue // what they have to themselves does not depend on it
			}
			t.Run(v.name+drivertest.Name(mtu), func(t *testing.T) {
				drivertest.Run(t, func(t *testing.T) drivertest.Wire {
					var c [2]*chip
					for i := range c {
						c[i] = newChip(t, v.features, v.pairs, v.size)
						if v.change != nil {
							v.change(c[i])
						}
					}
					join(c[0], c[1])
					queues := 0
					if v.features&featRSS != 0 {
						queues = v.pairs
					}
					return drivertest.Wire{
						Open: func(side int, config drivers.Config) (drivers.Port, error) {
							config.MTU = mtu
							return openOn(c[side], config)
						},
						MTU: mtu, Lossless: true, Queues: queues,
					}
				})
			})
		}
	}
}

// TestFaults runs what any card may do wrong, on devices that stop one queue by
// itself and on those that do not.
func TestFaults(t *testing.T) {
	for _, v := range []struct {
		name     string
		features uint64
	}{
		{"QueueReset", featRingReset},
		{"DeviceReset", 0},
		{"Packed", featRingReset | featPacked},
		{"PackedDeviceReset", featPacked},
	} {
		t.Run(v.name, func(t *testing.T) {
			faults.Run(t, func(t *testing.T) *faults.Card {
				c := newChip(t, usual&^featRingReset|featMultiQueue|featRSS|v.features, 4, 256)
				return &faults.Card{
					Open: on(c), Device: c.m, Receive: c.receive, Sent: func() int { return c.sent },
					Link: func(up bool) { c.set(cfgStatus, byte(flag(up))) }, Speed: 25000,
					Hang: func() { c.hangs = true },
					Breaks: map[string]func(){
						"needs a reset": func() { c.hangs = true; c.status |= statusNeedsReset },
						"was reset":     func() { c.reset(); c.astray = true },
					},
					Dies: map[string]func(){
						"no reset":    func() { c.hangs, c.noReset = true, true },
						"no features": func() { c.hangs, c.noOK = true, true },
						"no answer":   func() { c.hangs, c.deaf = true, true },
					},
					Alone: v.features&featRingReset != 0,
				}
			})
		})
	}
}

// on returns what opens ports of a device.
func on(c *chip) drivers.Opener {
	return func(config drivers.Config) (drivers.Port, error) { return openOn(c, config) }
}

type station = faults.Station

func newStation(t testing.TB, c *chip, config drivers.Config) (*station, error) {
	t.Helper()
	return faults.Try(t, on(c), config)
}

func must(t testing.TB, c *chip, config drivers.Config) *station {
	t.Helper()
	return faults.Must(t, on(c), config)
}
