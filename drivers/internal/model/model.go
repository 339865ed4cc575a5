// Package model makes PCI devices of Go, in this process: for tests that need a
// device that misbehaves or is looked into, and for benchmarks of drivers.
//
// A test gives the registers, as a Chip or as plain memory, and has what a
// device has: the memory that the driver has mapped for it (At), and interrupts
// (Signal). What the driver must not do is counted as a fault, as an IOMMU would.
package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
	"vita/drivers/internal/pci"
)

// Chip is what a device does. Its methods run on the goroutine that accesses
// the register.
type Chip interface {
	Load(bar, off, size int) uint64
	Store(bar, off, size int, v uint64)
	Reset() // to the state after power up; memory must not be used any more
}

// Options shapes a device.
type Options struct {
	Address string // its name
	ID      pci.ID
	BARs    []int // bytes of each; 0 = none
	Chip    Chip
	Memory  [][]byte // in place of the chip, for the BARs that it has: registers that only remember
	Vectors int      // of MSI-X
	NoReset bool     // it cannot be reset as a whole
	MapFail error    // what Map answers, if not nil
}

// Device is one device. The driver's side is pci.Device.
type Device struct {
	o       Options
	gone    atomic.Bool
	master  atomic.Bool
	faults  atomic.Int64
	resets  atomic.Int64
	opened  atomic.Bool
	wanted  atomic.Bool
	mu      sync.RWMutex // over what follows
	config  [256]byte
	space   *dma.Space
	mapped  []mapping
	vectors []int
}

type mapping struct {
	iova uint64
	b    []byte
}

// Where the capabilities lie.
const (
	express = 0x40
	msix    = 0x80
)

// New makes a device.
func New(o Options) *Device {
	d := &Device{o: o, space: dma.NewSpace(dma.Range{First: 1 << 32, Last: 1<<39 - 1})}
	le := binary.LittleEndian
	c := d.config[:]
	le.PutUint16(c[pci.VendorID:], o.ID.Vendor)
	le.PutUint16(c[pci.DeviceID:], o.ID.Device)
	le.PutUint16(c[pci.SubVendorID:], o.ID.SubVendor)
	le.PutUint16(c[pci.SubDeviceID:], o.ID.SubDevice)
	c[pci.RevisionID] = o.ID.Revision
	c[0x0b] = pci.NetworkClass
	le.PutUint16(c[pci.Status:], pci.StatusCapabilities)
	c[pci.Capabilities] = express
	c[express], c[express+1] = pci.CapExpress, msix
	c[msix] = pci.CapMSIX
	le.PutUint16(c[msix+2:], uint16(max(o.Vectors, 1)-1))
	return d
}

// At returns the n bytes of memory at an I/O address, as the device accesses
// them. What is not mapped, or is accessed while the device may not use memory,
// is a fault, and nil.
func (d *Device) At(iova uint64, n int) []byte {
	if d.master.Load() && !d.gone.Load() && n >= 0 {
		d.mu.RLock()
		defer d.mu.RUnlock()
		for i := range d.mapped {
			m := &d.mapped[i]
			if off := iova - m.iova; off <= uint64(len(m.b)) && uint64(n) <= uint64(len(m.b))-off {
				return m.b[off : off+uint64(n) : off+uint64(n)]
			}
		}
	}
	d.faults.Add(1)
	return nil
}

// Faults returns how often the device has accessed memory that is not there.
func (d *Device) Faults() int { return int(d.faults.Load()) }

// Resets returns how often the device was reset.
func (d *Device) Resets() int { return int(d.resets.Load()) }

// Mapped returns how many ranges of memory are mapped for the device.
func (d *Device) Mapped() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.mapped)
}

// Master reports whether the device may use memory.
func (d *Device) Master() bool { return d.master.Load() }

// Signal raises an MSI-X interrupt.
func (d *Device) Signal(vector int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if vector < len(d.vectors) && d.vectors[vector] >= 0 {
		one := [8]byte{1}
		_, _ = unix.Write(d.vectors[vector], one[:]) // a full count wakes as well
	}
}

// Remove takes the device away: from now on all that is read is ones.
func (d *Device) Remove() { d.gone.Store(true) }

// Want has the system ask for the device, until it is closed.
func (d *Device) Want() { d.wanted.Store(true) }

// Wanted reports whether it does.
func (d *Device) Wanted() bool { return d.wanted.Load() }

// Open returns the device for a driver. It can be opened once at a time.
func (d *Device) Open() (pci.Device, error) {
	if !d.opened.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("%s: %w", d.o.Address, drivers.ErrBusy)
	}
	return d, nil
}

// Address returns the device's name.
func (d *Device) Address() string { return d.o.Address }

// ID returns what the device is.
func (d *Device) ID() pci.ID { return d.o.ID }

// Node returns no NUMA node.
func (d *Device) Node() int { return -1 }

func (d *Device) checkConfig(off, size int) error {
	if size != 1 && size != 2 && size != 4 || off < 0 || off+size > len(d.config) || off%size != 0 {
		return fmt.Errorf("%s: access of %d bytes at %#x of configuration space", d.o.Address, size, off)
	}
	return nil
}

// ReadConfig reads configuration space.
func (d *Device) ReadConfig(off, size int) (uint32, error) {
	if err := d.checkConfig(off, size); err != nil {
		return 0, err
	}
	var b [4]byte
	if d.gone.Load() {
		b = [4]byte{0xff, 0xff, 0xff, 0xff}
		return binary.LittleEndian.Uint32(b[:]) >> (32 - 8*size), nil
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	copy(b[:size], d.config[off:])
	return binary.LittleEndian.Uint32(b[:]), nil
}

// WriteConfig writes configuration space: the command register, and what a
// capability has behind its head.
func (d *Device) WriteConfig(off, size int, v uint32) error {
	if err := d.checkConfig(off, size); err != nil {
		return err
	}
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	d.mu.Lock()
	defer d.mu.Unlock()
	if off == pci.Command || off >= express+4 {
		copy(d.config[off:off+size], b[:])
	}
	d.master.Store(d.config[pci.Command]&pci.CommandMaster != 0)
	return nil
}

// BAR returns a window to the chip's registers.
func (d *Device) BAR(n int) (*mmio.Window, error) {
	if n >= 0 && n < len(d.o.Memory) && d.o.Memory[n] != nil {
		return mmio.Memory(d.o.Memory[n]), nil
	}
	if n < 0 || n >= len(d.o.BARs) || d.o.BARs[n] == 0 {
		return nil, fmt.Errorf("%s: the device has no BAR %d", d.o.Address, n)
	}
	return mmio.Handled(d.o.BARs[n], bar{d, n}), nil
}

type bar struct {
	d *Device
	n int
}

func (b bar) Load(off, size int) uint64 {
	if b.d.gone.Load() {
		return ^uint64(0) >> (64 - 8*size)
	}
	return b.d.o.Chip.Load(b.n, off, size)
}

func (b bar) Store(off, size int, v uint64) {
	if !b.d.gone.Load() {
		b.d.o.Chip.Store(b.n, off, size, v)
	}
}

// Reset resets the chip.
func (d *Device) Reset() error {
	if d.o.NoReset {
		return fmt.Errorf("%s: no reset of the function: %w", d.o.Address, drivers.ErrUnsupported)
	}
	d.mu.Lock()
	d.config[pci.Command] &^= pci.CommandMaster
	d.master.Store(false)
	d.mu.Unlock()
	d.resets.Add(1)
	if d.o.Chip != nil {
		d.o.Chip.Reset()
	}
	return nil
}

// Vectors returns how many interrupts the device has.
func (d *Device) Vectors() int { return d.o.Vectors }

// Interrupts sets where they are signalled.
func (d *Device) Interrupts(fds []int) error {
	if len(fds) > d.o.Vectors {
		return fmt.Errorf("%s: %d interrupts: the device has %d: %w", d.o.Address, len(fds), d.o.Vectors, drivers.ErrUnsupported)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.vectors = append([]int(nil), fds...)
	return nil
}

// Map maps memory for the device.
func (d *Device) Map(b []byte) (uint64, error) {
	if d.o.MapFail != nil {
		return 0, d.o.MapFail
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at, err := d.space.Take(uint64(len(b)), 4096)
	if err != nil {
		return 0, err
	}
	d.mapped = append(d.mapped, mapping{at, b})
	return at, nil
}

// Unmap takes memory from the device.
func (d *Device) Unmap(b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.mapped {
		if m := &d.mapped[i]; &m.b[0] == &b[0] && len(m.b) == len(b) {
			d.space.Give(m.iova)
			d.mapped = append(d.mapped[:i], d.mapped[i+1:]...)
			return nil
		}
	}
	return fmt.Errorf("%s: %d bytes to be unmapped were not mapped", d.o.Address, len(b))
}

// Close ends the driver's use of the device. It is an error while memory is
// mapped.
func (d *Device) Close() error {
	d.mu.Lock()
	n := len(d.mapped)
	d.vectors = nil
	d.mu.Unlock()
	d.opened.Store(false)
	d.wanted.Store(false)
	if n > 0 {
		return errors.New(d.o.Address + ": closed with memory mapped")
	}
	return nil
}
