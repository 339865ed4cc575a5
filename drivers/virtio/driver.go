// Package virtio drives the network devices of hypervisors, and of hardware that
// poses as one: virtio 1.x over PCI. What spoke virtio before 1.0 only is not
// taken.
//
// It is written from Virtual I/O Device (VIRTIO) Version 1.2, of which sections
// are given. What the device may do for its driver beyond moving frames (check
// sums, segmentation, frames in several buffers) is not asked for: it costs what
// a gateway cannot use.
package virtio

import (
	"vita/drivers"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// cards are the open devices.
var cards = nic.Cards{
	Chips: []nic.Chip{
		{Vendor: vendor, Device: modern, Name: "virtio-net 1.x"},
		{Vendor: vendor, Device: transitional, Name: "virtio-net, transitional"},
	},
	Open: func(d pci.Device, c *drivers.Config) (nic.Card, error) { return openCard(d, c) },
}

// Chips returns the devices that the driver knows.
func Chips() []drivers.Chip { return cards.Chips }

// Open opens a port of the device at the PCI address c.PCI.
func Open(c drivers.Config) (drivers.Port, error) { return nic.Open(&cards, c) }
