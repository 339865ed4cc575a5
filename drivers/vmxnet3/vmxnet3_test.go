package vmxnet3

import (
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/drivers/drivertest/faults"
)

// TestSuite runs the conformance suite on devices of this process.
func TestSuite(t *testing.T) {
	for i, v := range []struct {
		name   string
		change func(*chip)
	}{
		{"Usual", func(*chip) {}},
		{"OneQueue", func(c *chip) { c.most = 1 }},
		{"Skips", func(c *chip) { c.skip = 1 }},
		{"ReportsAll", func(c *chip) { c.rare = 1 }},
	} {
		for _, mtu := range []int{1500, 9000} {
			if mtu == 9000 && i > 0 {
				continue // what they have to themselves does not depend on it
			}
			t.Run(v.name+drivertest.Name(mtu), func(t *testing.T) {
				drivertest.Run(t, func(t *testing.T) drivertest.Wire {
					c := [2]*chip{newChip(t), newChip(t)}
					v.change(c[0])
					v.change(c[1])
					join(c[0], c[1])
					return drivertest.Wire{
						Open: func(side int, config drivers.Config) (drivers.Port, error) {
							config.MTU = mtu
							return openOn(c[side], config)
						},
						MTU: mtu, Lossless: true,
					}
				})
			})
		}
	}
}

// TestFaults runs what any card may do wrong.
func TestFaults(t *testing.T) {
	faults.Run(t, func(t *testing.T) *faults.Card {
		c := newChip(t)
		return &faults.Card{
			Open: on(c), Device: c.m, Receive: c.receive, Sent: func() int { return c.sent }, Link: c.setLink, Speed: 10000,
			Hang: func() { c.hangs = true },
			Breaks: map[string]func(){
				"stops sending":   func() { c.hangs = true; c.note(evTxError) },
				"stops receiving": func() { c.hangs = true; c.note(evRxError) },
			},
			Dies: map[string]func(){
				"no reset":      func() { c.hangs, c.stays = true, true },
				"no activation": func() { c.hangs, c.most = true, 0 },
			},
			Queues: maxPairs,
		}
	})
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
