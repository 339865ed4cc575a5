// Package igb drives Intel's gigabit controllers 82576, 82580, i350, i210 and
// i211: queues with descriptors of the advanced formats, each with an interrupt
// of its own.
//
// It is written from the 82576 data sheet (revision 2.63), of which sections
// are given, and of the others' (i350 revision 2.3, i210 revision 3.1) where
// they differ.
package igb

import (
	"vita/drivers"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// cards are the open devices. Chips with fibre or backplane links are not among
// those that the driver knows: they negotiate in another way.
var cards = nic.Cards{
	Chips: []nic.Chip{
		{Vendor: intel, Device: 0x10c9, Name: "82576"},
		{Vendor: intel, Device: 0x10e8, Name: "82576 quad"},
		{Vendor: intel, Device: 0x150a, Name: "82576NS"},
		{Vendor: intel, Device: 0x1526, Name: "82576 quad ET2"},
		{Vendor: intel, Device: 0x150e, Name: "82580"},
		{Vendor: intel, Device: 0x1521, Name: "i350"},
		{Vendor: intel, Device: 0x1533, Name: "i210"},
		{Vendor: intel, Device: 0x157b, Name: "i210 without flash"},
		{Vendor: intel, Device: 0x1539, Name: "i211"},
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
