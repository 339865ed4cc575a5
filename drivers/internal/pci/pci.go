// Package pci says what a driver asks of a PCI device, and finds devices in
// sysfs.
//
// A Device is registers, memory and interrupts, and nothing of what they mean.
// It comes from package vfio (a device of this machine), package qtest (one of
// QEMU, with no guest) or package model (one that is made of Go), and a driver
// does not know which.
package pci

import (
	"fmt"
	"strconv"
	"strings"

	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
)

// Device is an open function of a PCI device. Opening and closing a driver's
// ports is all that calls its methods; registers are read and written through
// the windows.
type Device interface {
	dma.Mapper

	// Address is the device's name: its address where it has one.
	Address() string
	ID() ID
	// ReadConfig and WriteConfig access configuration space; size is 1, 2 or 4.
	ReadConfig(off, size int) (uint32, error)
	WriteConfig(off, size int, v uint32) error
	// BAR returns the registers behind a base address register.
	BAR(n int) (*mmio.Window, error)
	// Reset brings the device into the state it has after power up, which ends
	// its use of memory. Configuration space stays as it was, but for the bus
	// master, which is off. It is drivers.ErrUnsupported where the device has no
	// way to be reset as a whole.
	Reset() error
	// Vectors returns how many MSI-X vectors the device has and the backend can
	// deliver.
	Vectors() int
	// Interrupts makes MSI-X vector i signal the eventfd fds[i]; with none, it
	// turns interrupts off.
	Interrupts(fds []int) error
	// Node returns the NUMA node that the device is at, or -1.
	Node() int
	Close() error
}

// ID tells what a device is.
type ID struct {
	Vendor, Device       uint16
	SubVendor, SubDevice uint16
	Revision             uint8
}

func (id ID) String() string { return fmt.Sprintf("%04x:%04x", id.Vendor, id.Device) }

// Registers and bits of configuration space (PCI Local Bus Specification 3.0,
// 6.1 and 6.2; PCI Express Base Specification 3.0, 7.8).
const (
	VendorID     = 0x00
	DeviceID     = 0x02
	Command      = 0x04
	Status       = 0x06
	RevisionID   = 0x08
	BAR0         = 0x10
	SubVendorID  = 0x2c
	SubDeviceID  = 0x2e
	Capabilities = 0x34

	CommandIO     = 1 << 0
	CommandMemory = 1 << 1
	CommandMaster = 1 << 2
	CommandNoINTx = 1 << 10

	StatusCapabilities = 1 << 4

	CapMSI     = 0x05
	CapVendor  = 0x09
	CapExpress = 0x10
	CapMSIX    = 0x11
)

// ReadID reads what a device is from its configuration space.
func ReadID(d Device) (ID, error) {
	var id ID
	for _, f := range []struct {
		off int
		to  *uint16
	}{{VendorID, &id.Vendor}, {DeviceID, &id.Device}, {SubVendorID, &id.SubVendor}, {SubDeviceID, &id.SubDevice}} {
		v, err := d.ReadConfig(f.off, 2)
		if err != nil {
			return id, err
		}
		*f.to = uint16(v)
	}
	v, err := d.ReadConfig(RevisionID, 1)
	id.Revision = uint8(v)
	return id, err
}

// SetMaster lets a device use memory, or forbids it.
func SetMaster(d Device, on bool) error {
	v, err := d.ReadConfig(Command, 2)
	if err != nil {
		return err
	}
	v |= CommandMemory | CommandNoINTx
	v &^= CommandMaster
	if on {
		v |= CommandMaster
	}
	return d.WriteConfig(Command, 2, v)
}

// Physical reports whether a device sees memory at the machine's own addresses,
// with no IOMMU in between. A backend where that is so says it by a method of
// this name.
func Physical(d Device) bool {
	p, ok := d.(interface{ Physical() bool })
	return ok && p.Physical()
}

// Wanted reports whether the system asks for a device, which is to be closed then:
// because somebody takes it from the driver by which we have it, or out of the
// machine. A backend that is told so has a method of this name.
func Wanted(d Device) bool {
	w, ok := d.(interface{ Wanted() bool })
	return ok && w.Wanted()
}

// Gone reports whether a device has been taken away: nobody answers for its
// configuration space then, and all bits read one.
func Gone(d Device) bool {
	v, err := d.ReadConfig(VendorID, 2)
	return err != nil || v == 0xffff
}

// EachCapability calls f with every capability of a device, by its place in
// configuration space, until f returns false. The list comes from the device:
// it may not be endless.
func EachCapability(d Device, f func(id uint8, at int) bool) error {
	status, err := d.ReadConfig(Status, 2)
	if err != nil || status&StatusCapabilities == 0 {
		return err
	}
	at, err := d.ReadConfig(Capabilities, 1)
	for n := 0; err == nil && at&^3 != 0; n++ {
		if at &^= 3; at < 0x40 || n >= 48 {
			return fmt.Errorf("%s: the device's list of capabilities is broken at %#x", d.Address(), at)
		}
		var head uint32
		if head, err = d.ReadConfig(int(at), 2); err != nil {
			break
		}
		if !f(uint8(head), int(at)) {
			return nil
		}
		at = head >> 8
	}
	return err
}

// Normal returns a PCI address in full, as sysfs writes it: 0000:02:00.0.
func Normal(address string) (string, error) {
	a := strings.ToLower(address)
	if strings.Count(a, ":") == 1 {
		a = "0000:" + a
	}
	valid := len(a) == len("0000:02:00.0") && a[4] == ':' && a[7] == ':' && a[10] == '.'
	if valid {
		for _, part := range []struct {
			digits string
			bits   int
		}{{a[:4], 16}, {a[5:7], 8}, {a[8:10], 5}, {a[11:], 3}} {
			if _, err := strconv.ParseUint(part.digits, 16, part.bits); err != nil {
				valid = false
			}
		}
	}
	if !valid {
		return "", fmt.Errorf("%q is no PCI address: want one as lspci prints it, such as 0000:02:00.0", address)
	}
	return a, nil
}
