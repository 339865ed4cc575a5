package i82599

import "encoding/binary"

// Configuration space: a device with the capabilities of section 9.3, at the
// places where the chip has them.
const (
	capPM, capMSIX, capPCIe = 0x40, 0x70, 0xA0
	tableBAR, pbaOffset     = 4, 0x2000
)

func (d *Device) resetConfig() {
	c := &d.config
	clear(c[:])
	u16 := func(off int, v uint16) { binary.LittleEndian.PutUint16(c[off:], v) }
	u32 := func(off int, v uint32) { binary.LittleEndian.PutUint32(c[off:], v) }
	u16(0x00, Vendor)
	u16(0x02, ID)
	u16(0x06, 0x10)       // there are capabilities
	u32(0x08, 0x02000001) // Ethernet controller, revision 1
	u32(0x10, 0x4)        // BAR 0 and 1: 64 bits, of registers
	u32(0x20, 0x4)        // BAR 4 and 5: of MSI-X
	u16(0x2C, Vendor)     // an X520
	u16(0x2E, 3)
	c[0x34] = capPM
	c[capPM], c[capPM+1] = 0x01, capMSIX
	u16(capPM+2, 0x0003)
	c[capMSIX], c[capMSIX+1] = 0x11, capPCIe
	u16(capMSIX+2, vectors-1)
	u32(capMSIX+4, tableBAR)
	u32(capMSIX+8, pbaOffset|tableBAR)
	c[capPCIe] = 0x10
	u16(capPCIe+2, 0x0002)        // an endpoint
	u32(capPCIe+4, 0x10008CC2)    // function-level reset, payload of 512
	u32(capPCIe+0x0C, 0x00027482) // link: 8 lanes of 5 GT/s
	u16(capPCIe+0x12, 0x0082)
}

// barMask tells which bits of a BAR can be written, by its index.
func barMask(i int) uint32 {
	switch i {
	case 0:
		return ^uint32(barSize - 1)
	case tableBAR:
		return ^uint32(0x4000 - 1)
	case 1, tableBAR + 1:
		return 0xffffffff
	}
	return 0
}

// ReadConfig fills b from the configuration space.
func (d *Device) ReadConfig(off int, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(b)
	if off >= 0 && off < len(d.config) {
		copy(b, d.config[off:])
	}
}

// WriteConfig writes to the configuration space what a driver can change there.
func (d *Device) WriteConfig(off int, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, v := range b {
		at, mask := off+i, byte(0)
		switch {
		case at == 0x04:
			mask = 0x07
		case at == 0x05:
			mask = 0x05
		case at >= 0x10 && at < 0x28:
			mask = byte(barMask((at-0x10)/4) >> (8 * (at % 4)))
		case at == 0x3C:
			mask = 0xff
		case at == capPM+4:
			mask = 0x03
		case at == capMSIX+3:
			mask = 0xC0
		case at == capPCIe+9 && v&0x80 != 0: // function-level reset
			d.resetConfig()
			d.reset()
			return
		case at == capPCIe+8, at == capPCIe+9:
			mask = 0x7f
		}
		if mask != 0 && at < len(d.config) {
			d.config[at] = d.config[at]&^mask | v&mask
		}
	}
}

// busMaster tells whether the device may reach memory.
func (d *Device) busMaster() bool {
	on := d.config[4]&4 != 0
	if d.master != nil {
		on = d.master()
	}
	return on && d.reg[regSTATUS/4]&statusMaster != 0
}
