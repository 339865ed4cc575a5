package i82599

import "time"

// causes are the reasons for interrupts (section 7.3): one bit for each MSI-X
// vector that a queue is mapped to, and the other ones, bits 16 to 31 of EICR.
type causes struct {
	vectors, vectorMask uint64
	other, otherMask    uint32
	last                [vectors]time.Time
	waits               [vectors]bool // for the end of an EITR interval
	epoch               int           // so that what waits over a reset does nothing
}

func (c *causes) reset() { *c = causes{epoch: c.epoch + 1} }

// read returns EICR, which it clears but for what GPIE.OCD keeps, or one of the
// masks.
func (c *causes) read(off, gpie uint32) uint32 {
	switch off {
	case regEICR:
		v := c.other | uint32(c.vectors)&0xffff
		if gpie&gpieOCD == 0 {
			c.vectors &^= 0xffff
		}
		c.other = 0
		return v
	case regEICS:
		return c.other | uint32(c.vectors)&0xffff
	case regEIMS, regEIMC:
		return c.otherMask | uint32(c.vectorMask)&0xffff
	case regEIMSEx, regEIMCEx:
		return uint32(c.vectorMask)
	case regEIMSEx + 4, regEIMCEx + 4:
		return uint32(c.vectorMask >> 32)
	}
	return 0
}

// writeCauses writes EICR (ones clear), EICS (ones raise), EIMS (ones allow),
// EIMC (ones forbid), and the same for all vectors, 32 a register.
func (d *Device) writeCauses(off, v uint32) {
	c := &d.causes
	low, high, other := uint64(v&0xffff), uint64(v), v&causeMask
	switch off {
	case regEICSEx, regEIMSEx, regEIMCEx:
		low, other = high, 0
	case regEICSEx + 4, regEIMSEx + 4, regEIMCEx + 4:
		low, other = high<<32, 0
	}
	switch off {
	case regEICR:
		c.vectors &^= low
		c.other &^= other
		return
	case regEIMC, regEIMCEx, regEIMCEx + 4:
		c.vectorMask &^= low
		c.otherMask &^= other
		return
	case regEICS, regEICSEx, regEICSEx + 4:
		c.vectors |= low
		c.other |= other
	case regEIMS, regEIMSEx, regEIMSEx + 4:
		c.vectorMask |= low
		c.otherMask |= other
	}
	for i := range vectors {
		if c.vectors&c.vectorMask>>i&1 != 0 {
			d.fire(i)
		}
	}
	d.fireOther()
}

// raise is a queue's cause, by its entry in IVAR: two of receive and two of
// transmit queues a register, each with a valid bit (section 8.2.3.5.16).
func (d *Device) raise(queue int, transmit bool) {
	shift := 16 * (queue % 2)
	if transmit {
		shift += 8
	}
	entry := d.reg[regIVAR/4+queue/2] >> shift
	if entry&0x80 == 0 {
		return
	}
	v := int(entry & 0x3f)
	d.causes.vectors |= 1 << v
	d.fire(v)
}

func (d *Device) raiseOther(cause uint32) {
	d.causes.other |= cause
	d.fireOther()
}

func (d *Device) fireOther() {
	if d.causes.other&d.causes.otherMask == 0 || d.reg[regGPIE/4]&gpieMSIX == 0 {
		return
	}
	if entry := d.reg[regIVARMisc/4] >> 8; entry&0x80 != 0 && d.irq != nil {
		d.irq(int(entry & 0x3f))
	}
}

// interval is the shortest time between two messages of a vector, in units of
// 2.048 µs (section 8.2.3.5.12).
func (d *Device) interval(v int) time.Duration {
	reg := regEITR/4 + v
	if v >= 24 {
		reg = regEITRMore/4 + v - 24
	}
	return time.Duration(d.reg[reg]>>3&0x1ff) * 2048 * time.Nanosecond
}

// fire sends a vector's message, now or when its interval is over, if it is
// allowed, and clears and masks by itself what EIAC and EIAM say.
func (d *Device) fire(v int) {
	c := &d.causes
	bit := uint64(1) << v
	if c.vectors&c.vectorMask&bit == 0 || c.waits[v] || d.irq == nil || d.reg[regGPIE/4]&gpieMSIX == 0 {
		return
	}
	if every := d.interval(v); every > 0 {
		now := time.Now()
		if wait := every - now.Sub(c.last[v]); wait > 0 {
			c.waits[v] = true
			epoch := c.epoch
			time.AfterFunc(wait, func() {
				d.mu.Lock()
				defer d.mu.Unlock()
				if c.epoch == epoch {
					c.waits[v] = false
					d.fire(v)
				}
			})
			return
		}
		c.last[v] = now
	}
	d.irq(v)
	if v >= 16 || d.reg[regEIAC/4]>>v&1 != 0 {
		c.vectors &^= bit
	}
	auto := uint64(d.reg[regEIAMEx/4]) | uint64(d.reg[regEIAMEx/4+1])<<32 | uint64(d.reg[regEIAM/4]&0xffff)
	if d.reg[regGPIE/4]&gpieEIAME != 0 && auto&bit != 0 {
		c.vectorMask &^= bit
	}
}
