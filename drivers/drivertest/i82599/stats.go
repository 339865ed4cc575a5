package i82599

// Statistics of 32 bits are registers, which reading clears and nobody can
// write; those of more bits have two registers, of which reading the upper one
// clears both (section 8.2.3.23).

// wide is a counter of 36 bits.
type wide struct {
	low, high uint32 // registers
	n         uint64
}

type wideStats struct{ gorc, gotc, tor, rxdg, txdg wide }

func (s *wideStats) init() {
	s.gorc = wide{low: statGORCL, high: statGORCH}
	s.gotc = wide{low: statGOTCL, high: statGOTCH}
	s.tor = wide{low: statTORL, high: statTORH}
	s.rxdg = wide{low: statRXDGBL, high: statRXDGBH}
	s.txdg = wide{low: statTXDGBL, high: statTXDGBH}
}

// half returns the counter that a register is half of.
func (s *wideStats) half(off uint32) *wide {
	for _, w := range []*wide{&s.gorc, &s.gotc, &s.tor, &s.rxdg, &s.txdg} {
		if off == w.low || off == w.high {
			return w
		}
	}
	return nil
}

func (s *wideStats) add(w *wide, n int) { w.n = (w.n + uint64(n)) & (1<<36 - 1) }

func clearsOnRead(off uint32) bool {
	switch {
	case off >= statMPC && off < statMPC+8*4, off >= statRNBC && off < statRNBC+8*4,
		off >= statCRCERR && off < statCRCERR+16, off == statRLEC,
		off >= statPRC64 && off <= statGPTC, off >= statRUC && off <= 0x040B0,
		off >= statTPR && off <= statBPTC,
		off == statRXDGPC, off == statTXDGPC,
		off >= statQPTC && off < statQPTC+16*4,
		off >= statQBTCL && off < statQBTCL+16*8,
		off >= statQPRDC && off < statQPRDC+16*0x40 && (off-statQPRDC)%0x40 == 0,
		off >= statQPRC && off < statQPRC+16*0x40 && ((off-statQPRC)%0x40 == 0 || (off-statQBRCL)%0x40 == 0 || (off-statQBRCH)%0x40 == 0):
		return true
	}
	return false
}

func (d *Device) count(reg uint32) { d.reg[reg/4]++ }

// count64 adds to a queue's counter of bytes, in two registers.
func (d *Device) count64(low, high uint32, n int) {
	v := uint64(d.reg[low/4]) | uint64(d.reg[high/4])<<32
	v = (v + uint64(n)) & (1<<36 - 1)
	d.reg[low/4], d.reg[high/4] = uint32(v), uint32(v>>32)
}

// bySize returns the register that counts frames of a size, FCS included, of
// six that begin with first.
func bySize(first uint32, n int) uint32 {
	for i, most := range []int{64, 127, 255, 511, 1023} {
		if n <= most {
			return first + uint32(i)*4
		}
	}
	return first + 20
}

const fcsLen = 4

// countRx counts a good frame that has passed the filters.
func (d *Device) countRx(f []byte) {
	n := len(f) + fcsLen
	d.count(statGPRC)
	d.count(bySize(statPRC64, n))
	d.wide.add(&d.wide.gorc, n)
	switch {
	case broadcast(f):
		d.count(statBPRC)
	case f[0]&1 != 0:
		d.count(statMPRC)
	}
}

// countTx counts a frame that went to the wire.
func (d *Device) countTx(f []byte) {
	n := len(f) + fcsLen
	d.count(statGPTC)
	d.count(statTPT)
	d.count(bySize(statPTC64, n))
	d.wide.add(&d.wide.gotc, n)
	switch {
	case broadcast(f):
		d.count(statBPTC)
	case f[0]&1 != 0:
		d.count(statMPTC)
	}
}

// counterOf returns which of the 16 sets of counters a queue has, by RQSMR or
// TQSM: four queues a register (section 8.2.3.23.70).
func (d *Device) counterOf(maps uint32, q int) uint32 {
	return d.reg[maps/4+uint32(q)/4] >> (8 * (q % 4)) & 0xf
}

func broadcast(f []byte) bool { return f[0]&f[1]&f[2]&f[3]&f[4]&f[5] == 0xff }
