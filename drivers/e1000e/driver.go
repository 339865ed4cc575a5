// Package e1000e drives Intel's gigabit controller 82574: two queues, with
// extended descriptors for receiving.
//
// It is written from the 82574 data sheet (revision 3.4), of which sections are
// given.
package e1000e

import (
	"vita/drivers"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// cards are the open devices.
var cards = nic.Cards{
	Chips: []nic.Chip{
		{Vendor: intel, Device: 0x10d3, Name: "82574L"},
		{Vendor: intel, Device: 0x10f6, Name: "82574LA"},
	},
	Open: func(d pci.Device, c *drivers.Config) (nic.Card, error) {
		k := new(card)
		return k, k.Begin(&family, k, d, c)
	},
}

const intel = 0x8086

// Chips returns the devices that the driver knows.
func Chips() []drivers.Chip { return cards.Chips }

// Open opens a port of the device at the PCI address c.PCI.
func Open(c drivers.Config) (drivers.Port, error) { return nic.Open(&cards, c) }
