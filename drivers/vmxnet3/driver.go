// Package vmxnet3 drives the network device of VMware's hypervisors.
//
// It speaks revision 1 of the interface, as old and new hypervisors do. Of what
// the device offers it uses the moving of frames, filters, the spreading over
// queues, and counters.
package vmxnet3

import (
	"vita/drivers"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// cards are the open devices.
var cards = nic.Cards{
	Chips: []drivers.Chip{{Vendor: vendor, Device: device, Name: "vmxnet3"}},
	Open:  func(d pci.Device, c *drivers.Config) (nic.Card, error) { return openCard(d, c) },
}

// Chips returns the devices that the driver knows.
func Chips() []drivers.Chip { return cards.Chips }

// Open opens a port of the device at the PCI address c.PCI.
func Open(c drivers.Config) (drivers.Port, error) { return nic.Open(&cards, c) }
