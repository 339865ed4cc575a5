// Package ixgbe drives Intel's 10 Gbit/s controllers 82599 and X540.
//
// A device is used in one of two ways, which its first port decides:
//
//	RSS    ports share an address, or take what the device receives by any of
//	       them: frames are spread over their queues by a hash of their
//	       addresses. The private side.
//	pools  a port names a queue and an address of its own: what is for that
//	       address goes to that queue, by the device's own filters (VMDq), and
//	       broadcasts and groups go to all. The public side, where every worker
//	       has an address.
//
// It is written from the 82599 data sheet (revision 3.4) and the X540's
// (revision 2.9), of which sections are given; where nothing else is said, the
// 82599's.
package ixgbe

import (
	"vita/drivers"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// cards are the open devices.
var cards = nic.Cards{
	Chips: []nic.Chip{
		{Vendor: vendor, Device: 0x10fb, Name: "82599 SFP+"},
		{Vendor: vendor, Device: 0x1507, Name: "82599 SFP+ EM"},
		{Vendor: vendor, Device: 0x154d, Name: "82599 SFP+ dual"},
		{Vendor: vendor, Device: 0x1557, Name: "82599EN SFP+"},
		{Vendor: vendor, Device: 0x10f7, Name: "82599 KX4"},
		{Vendor: vendor, Device: 0x1514, Name: "82599 KX4 mezzanine"},
		{Vendor: vendor, Device: 0x1517, Name: "82599 KR"},
		{Vendor: vendor, Device: 0x10f9, Name: "82599 CX4"},
		{Vendor: vendor, Device: 0x10fc, Name: "82599 XAUI"},
		{Vendor: vendor, Device: 0x1528, Name: "X540"},
		{Vendor: vendor, Device: 0x1560, Name: "X540 single"},
	},
	Open: func(d pci.Device, c *drivers.Config) (nic.Card, error) { return openCard(d, c) },
}

const vendor = 0x8086 // Intel

// fibre tells whether a device has SFP+ modules, whose transmitters are to be
// turned on.
func fibre(id pci.ID) bool {
	switch id.Device {
	case 0x10fb, 0x1507, 0x154d, 0x1557:
		return true
	}
	return false
}

// Chips returns the devices that the driver knows.
func Chips() []drivers.Chip { return cards.Chips }

// Open opens a port of the device at the PCI address c.PCI.
func Open(c drivers.Config) (drivers.Port, error) { return nic.Open(&cards, c) }
