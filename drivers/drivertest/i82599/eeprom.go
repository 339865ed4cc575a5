package i82599

// fillEEPROM writes what a driver looks for in the EEPROM (section 6): nothing
// in most words, pointers that lead nowhere, and a checksum.
func (d *Device) fillEEPROM() {
	e := &d.eeprom
	for i := range e {
		e[i] = 0xffff
	}
	clear(e[:0x40])
	for p := 0x03; p <= 0x0E; p++ {
		e[p] = 0xffff // sections that are not there
	}
	// The address lies behind the pointer of the core registers on a real one;
	// drivers take it from RAL and RAH.
	const firmware, patch, init, srlr = 0x100, 0x120, 0x140, 0x150
	e[0x0F] = firmware // its list of parameters...
	for i := range 0x10 {
		e[firmware+i] = 0
	}
	e[firmware+4] = patch // ...of which one says which version it is
	for i := range 0x10 {
		e[patch+i] = 0
	}
	e[patch+7] = 9
	e[0x15], e[0x16] = 0xFAFA, 0x180 // the board's number is text
	e[0x180] = 6
	copy(e[0x181:], []uint16{0x5649, 0x5441, 0x2d4d, 0x4f44, 0x454c}) // VITA-MODEL
	// What is written to the analog core for a kind of module, by the kind's
	// number: 5 is short or long range on port 0.
	e[0x2B] = init
	e[init], e[init+1], e[init+2], e[init+3] = 3, 5, srlr, 0xffff
	e[srlr], e[srlr+1], e[srlr+2] = 2, 0x1234, 0xffff
	e[0x27], e[0x28] = 0xffff, 0xffff // addresses for storage: none
	e[0x26], e[0x37] = 0xffff, 0xffff // thermal sensor, alternate address: none
	e[0x2C] = 1 << 7                  // no loss of link by crosstalk is to be looked for
	e[0x3F] = d.checksum()
}

// checksum is what word 0x3F must be, so that the sum of the first 64 words and
// the sections that words 3 to 14 point to is 0xBABA (section 6.3.2.10).
func (d *Device) checksum() uint16 {
	sum := uint16(0)
	for _, w := range d.eeprom[:0x3F] {
		sum += w
	}
	return 0xBABA - sum
}
