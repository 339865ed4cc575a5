package i82599

// The two wires of the module's bus (section 8.2.3.1.6), as I2CCTL has them.
const (
	i2cClockIn  = 1 << 0
	i2cClockOut = 1 << 1
	i2cDataIn   = 1 << 2
	i2cDataOut  = 1 << 3
)

// sfp is an SFP+ module: an EEPROM of 256 bytes at I2C address 0xA0 (SFF-8472).
// The driver moves both wires by register writes.
type sfp struct {
	clock, data bool // as the driver drives them
	low         bool // the module pulls the data wire down
	state       i2cState
	bit         int
	shift       byte
	at          byte // the byte that is read next
}

type i2cState int

const (
	i2cIdle    i2cState = iota
	i2cAddress          // of the device is coming
	i2cOffset           // of the byte is coming
	i2cWritten          // what comes is acknowledged and forgotten
	i2cReading          // bytes go to the driver
)

// byteAt is the module's content: an Intel module for 10GBASE-SR.
func (s *sfp) byteAt(i byte) byte {
	switch i {
	case 0:
		return 3 // SFP
	case 1:
		return 4 // known by this address alone
	case 2:
		return 7 // LC connector
	case 3:
		return 0x10 // 10GBASE-SR
	}
	const vendor, oui = 20, 37
	switch {
	case i >= vendor && i < vendor+16:
		return "Intel Corp      "[i-vendor]
	case i >= oui && i < oui+3:
		return "\x00\x1b\x21"[i-oui]
	}
	return 0
}

func (s *sfp) read() uint32 {
	v := uint32(0)
	if s.clock {
		v |= i2cClockIn | i2cClockOut
	}
	if s.data {
		v |= i2cDataOut
	}
	if s.data && !s.low {
		v |= i2cDataIn
	}
	return v
}

func (s *sfp) write(v uint32) {
	clock, data := v&i2cClockOut != 0, v&i2cDataOut != 0
	switch {
	case clock && s.clock && s.data && !data: // start
		s.state, s.bit, s.low = i2cAddress, 0, false
	case clock && s.clock && !s.data && data: // stop
		s.state, s.low = i2cIdle, false
	case clock && !s.clock:
		s.rise(data)
	case !clock && s.clock:
		s.fall()
	}
	s.clock, s.data = clock, data
}

// rise is where a bit is taken: eight of a byte, and a ninth that acknowledges.
func (s *sfp) rise(data bool) {
	if s.state == i2cIdle {
		return
	}
	if s.bit < 8 && s.state != i2cReading {
		s.shift <<= 1
		if data {
			s.shift |= 1
		}
	}
	if s.bit == 8 && s.state == i2cReading && data {
		s.state = i2cIdle // the driver wants no more
	}
	s.bit++
}

// fall is where the next bit is put on the wire.
func (s *sfp) fall() {
	s.low = false
	switch {
	case s.state == i2cIdle:
	case s.bit == 8 && s.state != i2cReading:
		if s.state == i2cAddress && s.shift&0xfe != 0xA0 {
			s.state = i2cIdle // somebody else
			return
		}
		s.low = true // acknowledged
	case s.bit == 9:
		s.bit = 0
		s.byteDone()
	}
	if s.state == i2cReading && s.bit < 8 {
		s.low = s.byteAt(s.at)>>(7-s.bit)&1 == 0
	}
	if s.state == i2cReading && s.bit == 8 {
		s.at++
	}
}

func (s *sfp) byteDone() {
	switch s.state {
	case i2cAddress:
		if s.state = i2cOffset; s.shift&1 != 0 {
			s.state = i2cReading
		}
	case i2cOffset:
		s.state, s.at = i2cWritten, s.shift
	}
}
