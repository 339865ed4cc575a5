package i82599

import (
	"encoding/binary"

	"vita/drivers/drivertest/vfiouser"
	"vita/drivers/internal/model"
	"vita/drivers/internal/pci"
)

// Serve serves a device by vfio-user at a socket: for QEMU, which has a guest's
// driver use it. Memory and Interrupt of o are not used.
func Serve(path string, o Options) (*Device, *vfiouser.Server, error) {
	d := New(o)
	s, err := vfiouser.New(user{d})
	if err != nil {
		return nil, nil, err
	}
	d.mem, d.irq = &s.Memory, s.Interrupt
	return d, s, s.Listen(path)
}

// Attach makes a device for drivers of this process, to be opened by the given
// address. Memory and Interrupt of o are not used.
func Attach(address string, o Options) (*Device, *model.Device) {
	d := New(o)
	m := model.New(model.Options{
		Address: address, ID: pci.ID{Vendor: Vendor, Device: ID, SubVendor: Vendor, SubDevice: 3, Revision: 1},
		BARs: []int{0: barSize}, Chip: chip{d}, Vectors: vectors,
	})
	d.mem, d.irq, d.master = mapped{m}, func(v int) bool { m.Signal(v); return true }, m.Master
	return d, m
}

// user is the device as package vfiouser serves it.
type user struct{ *Device }

func (user) Regions() [8]int { return [8]int{0: barSize, tableBAR: 0x4000, 7: 256} }
func (user) Vectors() int    { return vectors }

const configRegion = 7

func (u user) Read(region, off int, b []byte) {
	clear(b)
	switch region {
	case 0:
		var w [4]byte
		for n := 0; n < len(b); {
			at := off + n
			binary.LittleEndian.PutUint32(w[:], u.Read32(uint32(at)))
			n += copy(b[n:], w[at%4:])
		}
	case configRegion:
		u.ReadConfig(off, b)
	}
}

// Write takes what is aligned, as the chip does (section 8.1.2); the table of
// MSI-X in the other BAR is QEMU's business.
func (u user) Write(region, off int, b []byte) {
	switch {
	case region == configRegion:
		u.WriteConfig(off, b)
	case region == 0 && off%4 == 0 && len(b)%4 == 0:
		for ; len(b) > 0; b, off = b[4:], off+4 {
			u.Write32(uint32(off), binary.LittleEndian.Uint32(b))
		}
	}
}

// chip is the device as package model has it.
type chip struct{ *Device }

func (c chip) Load(bar, off, size int) uint64 {
	if bar != 0 {
		return 0
	}
	v := uint64(c.Read32(uint32(off)))
	if size == 8 {
		v |= uint64(c.Read32(uint32(off)+4)) << 32
	}
	return v
}

func (c chip) Store(bar, off, size int, v uint64) {
	if bar != 0 || size < 4 {
		return
	}
	c.Write32(uint32(off), uint32(v))
	if size == 8 {
		c.Write32(uint32(off)+4, uint32(v>>32))
	}
}

// mapped is the memory that a driver of this process has mapped.
type mapped struct{ m *model.Device }

func (mapped) Begin() {}
func (mapped) End()   {}

func (x mapped) At(addr uint64, n int, _ bool) []byte { return x.m.At(addr, n) }
