package onqemu

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"vita/drivers/internal/dma"
	"vita/drivers/internal/pci"
)

// TestBackend looks at what drivers take for granted of a device: memory that
// keeps its content when it is mapped and unmapped and has one address for all
// of the machine's devices, and a reset that leaves registers where they are and
// the bus master off.
func TestBackend(t *testing.T) {
	p := newPair(t, "igb")
	a, b := p.devices[0], p.devices[1]
	memory, err := unix.Mmap(-1, 0, 3*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(memory) }()
	for i := range memory {
		memory[i] = byte(i / 7)
	}
	before := bytes.Clone(memory)
	part := memory[:2*4096+100] // not a whole number of pages
	at, err := a.Map(part)
	if err != nil || !bytes.Equal(memory, before) {
		t.Fatalf("%v, content as it was: %v", err, bytes.Equal(memory, before))
	}
	if _, err := a.Map(part); err == nil {
		t.Error("mapped twice")
	}
	if _, err := b.Map(part[:100]); err == nil {
		t.Error("mapped again, in another length")
	}
	if again, err := b.Map(part); err != nil || again != at {
		t.Errorf("the second device has it at %#x, the first at %#x: %v", again, at, err)
	}
	if _, err := a.Map(memory[8:100]); err == nil {
		t.Error("mapped what does not start with a page")
	}
	ring, err := dma.Alloc(a, 4096)
	if err != nil || ring.IOVA == at {
		t.Fatalf("%v, %#x", err, ring.IOVA)
	}
	if err := a.Close(); err == nil {
		t.Error("closed with memory mapped")
	}
	for _, unmap := range []func() error{func() error { return a.Unmap(part) }, func() error { return b.Unmap(part) }, ring.Free} {
		if err := unmap(); err != nil || !bytes.Equal(memory, before) {
			t.Errorf("%v, content as it was: %v", err, bytes.Equal(memory, before))
		}
	}
	if err := a.Unmap(part); err == nil {
		t.Error("unmapped twice")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}

	regs, err := a.BAR(0)
	if err != nil || regs.Size() != 128<<10 {
		t.Fatalf("%v", err)
	}
	if _, err := a.BAR(5); err == nil {
		t.Error("a BAR that the device does not have")
	}
	const rlpml = 0x5004 // a register that a reset brings back to what it was
	fresh := regs.Read32(rlpml)
	regs.Write32(rlpml, 0x1234)
	if err := pci.SetMaster(a, true); err != nil || regs.Read32(rlpml) != 0x1234 {
		t.Fatalf("%v, %#x", err, regs.Read32(rlpml))
	}
	if err := a.Reset(); err != nil {
		t.Fatal(err)
	}
	command, err := a.ReadConfig(pci.Command, 2)
	if err != nil || command&pci.CommandMaster != 0 || regs.Read32(rlpml) != fresh {
		t.Errorf("after a reset: %v, command %#x, register %#x", err, command, regs.Read32(rlpml))
	}
	if id, err := pci.ReadID(a); err != nil || id.String() != "8086:10c9" {
		t.Errorf("%v, %v", id, err)
	}
	express, msix := 0, 0
	if err := pci.EachCapability(a, func(id uint8, at int) bool {
		switch id {
		case pci.CapExpress:
			express = at
		case pci.CapMSIX:
			msix = at
		}
		return true
	}); err != nil || express == 0 || msix == 0 {
		t.Errorf("%v, capabilities at %#x and %#x", err, express, msix)
	}
	if _, err := p.Device(0x1e); err == nil {
		t.Error("a device in an empty slot")
	}
}
