package i82599

import "encoding/binary"

// Command and type bits of transmit descriptors (section 7.2.3), in the third
// word of one, or behind the length of a legacy one, which has them at the same
// place.
const (
	cmdEOP  = 1 << 24
	cmdIFCS = 1 << 25
	cmdIC   = 1 << 26 // legacy
	cmdRS   = 1 << 27
	cmdDEXT = 1 << 29
	cmdVLE  = 1 << 30
	cmdTSE  = 1 << 31
	dtypCtx = 2
	dtypDat = 3
	popIXSM = 1 << 8 // fourth word
	popTXSM = 1 << 9

	mostTx = 15872 // bytes of a frame (section 7.2.1.1)
)

// txState is what a transmit queue keeps between descriptors.
type txState struct {
	frame    []byte // gathered so far
	first    data   // of the frame
	contexts [2]context
}

// data is what the first descriptor of a frame says of all of it.
type data struct {
	seen           bool
	cmd, options   uint32
	payload        int
	legacyVLAN     uint16
	legacyChecksum bool
}

// context is an advanced context descriptor.
type context struct {
	ipLen, macLen, l4Len, mss int
	vlan                      uint16
	l4Type                    uint32
	ipv4                      bool
}

// sent holds the frames of one look at a ring until they are handed on.
type sent struct {
	bytes []byte
	ends  []int
}

// writeTx writes a transmit queue's tail or control register, has the queue send
// what is there, and hands it on without d.mu: the far end may send at once.
func (d *Device) writeTx(q, reg, v uint32) {
	d.txMu.Lock()
	defer d.txMu.Unlock()
	d.mu.Lock()
	if reg == txdctl {
		v &^= txdctlSWFLSH
		if v&queueEnable == 0 {
			d.tx[q] = txState{frame: d.tx[q].frame[:0]}
		}
	}
	d.reg[txQueue(q, reg)/4] = v
	d.transmit(int(q))
	send := d.send
	if d.reg[regHLREG0/4]&hlregLoopback != 0 {
		send = func(f []byte) { d.Receive(f) }
	}
	d.mu.Unlock()
	start := 0
	for _, end := range d.out.ends {
		if send != nil {
			send(d.out.bytes[start:end])
		}
		start = end
	}
	d.out.bytes, d.out.ends = d.out.bytes[:0], d.out.ends[:0]
}

// transmit works a ring off.
func (d *Device) transmit(q int) {
	r := func(reg uint32) *uint32 { return &d.reg[txQueue(uint32(q), reg)/4] }
	if *r(txdctl)&queueEnable == 0 || d.reg[regDMATXCTL/4]&dmatxEnable == 0 || !d.busMaster() || d.frozen || *r(tdh) == *r(tdt) {
		return
	}
	if vt := d.reg[regVTCTL/4]&vtEnable != 0; vt != (d.reg[regMTQC/4]&mtqcVT != 0) {
		d.fault("VT_CTL.VT_Ena is not MTQC.VT_Ena") // section 8.2.3.9.15
		return
	} else if send := uint64(d.reg[regPFVFTE/4]) | uint64(d.reg[regPFVFTE/4+1])<<32; vt && send>>(q/2)&1 == 0 {
		return // the pool may not send (64 pools: two queues each)
	}
	n := *r(tdlen) / descLen
	if *r(tdlen)%128 != 0 || n == 0 || *r(tdh) >= n || *r(tdt) >= n || *r(tdbal)%128 != 0 {
		d.fault("transmit queue %d: ring of %d bytes at %#x, head %d, tail %d", q, *r(tdlen), *r(tdbal), *r(tdh), *r(tdt))
		return
	}
	d.mem.Begin()
	defer d.mem.End()
	base := uint64(*r(tdbal)) | uint64(*r(tdbah))<<32
	reported := false
	for *r(tdh) != *r(tdt) {
		desc := d.mem.At(base+uint64(*r(tdh))*descLen, descLen, true)
		if desc == nil {
			d.fault("transmit queue %d: no memory for descriptor %d at %#x", q, *r(tdh), base)
			return
		}
		cmd := binary.LittleEndian.Uint32(desc[8:])
		d.descriptor(q, desc, cmd)
		*r(tdh) = (*r(tdh) + 1) % n
		if cmd&cmdRS != 0 {
			binary.LittleEndian.PutUint32(desc[12:], binary.LittleEndian.Uint32(desc[12:])|statusDD)
			reported = true
		}
	}
	if *r(tdwbal)&headWBEnable != 0 { // section 7.2.3.5.2
		if b := d.mem.At(uint64(*r(tdwbal)&^3)|uint64(*r(tdwbah))<<32, 4, true); b != nil {
			binary.LittleEndian.PutUint32(b, *r(tdh))
		} else {
			d.fault("transmit queue %d: no memory for the head", q)
		}
	}
	if reported {
		d.raise(q, true)
	}
}

// descriptor takes one descriptor in, and sends the frame that it ends.
func (d *Device) descriptor(q int, desc []byte, cmd uint32) {
	s := &d.tx[q]
	w3 := binary.LittleEndian.Uint32(desc[12:])
	if cmd&cmdDEXT != 0 && cmd>>20&0xf == dtypCtx {
		w0 := binary.LittleEndian.Uint32(desc)
		s.contexts[w3>>4&1] = context{
			ipLen: int(w0 & 0x1ff), macLen: int(w0 >> 9 & 0x7f), vlan: uint16(w0 >> 16),
			l4Len: int(w3 >> 8 & 0xff), mss: int(w3 >> 16), l4Type: cmd >> 11 & 3, ipv4: cmd>>10&1 != 0,
		}
		return
	}
	if cmd&cmdDEXT != 0 && cmd>>20&0xf != dtypDat {
		d.fault("transmit queue %d: descriptor of type %d", q, cmd>>20&0xf)
		return
	}
	if !s.first.seen {
		s.first = data{seen: true, cmd: cmd, options: w3, payload: int(w3 >> 14)}
		if cmd&cmdDEXT == 0 {
			s.first.legacyVLAN, s.first.legacyChecksum = uint16(w3>>16), cmd&cmdIC != 0
		}
	}
	part := int(cmd & 0xffff)
	addr := binary.LittleEndian.Uint64(desc)
	buf := d.mem.At(addr, part, false)
	switch {
	case part == 0 || buf == nil:
		d.fault("transmit queue %d: no memory of %d bytes at %#x, descriptor %d", q, part, addr, d.reg[txQueue(uint32(q), tdh)/4])
	case len(s.frame)+part > 1<<18:
		d.fault("transmit queue %d: a frame of more than 256 KiB", q)
	default:
		s.frame = append(s.frame, buf...)
	}
	if cmd&cmdEOP == 0 {
		return
	}
	d.finish(q, s)
	s.frame, s.first = s.frame[:0], data{}
}

// finish does what the descriptors ask for besides sending.
func (d *Device) finish(q int, s *txState) {
	f, first := s.frame, s.first
	if first.cmd&cmdDEXT == 0 {
		if first.legacyChecksum {
			d.fault("transmit queue %d: checksum offload of a legacy descriptor, which the model does not have", q)
		}
		if first.cmd&cmdVLE != 0 {
			f = d.tag(q, f, first.legacyVLAN)
		}
		d.put(q, f)
		return
	}
	c := s.contexts[first.options>>4&1]
	payload := len(f)
	if first.cmd&cmdTSE != 0 {
		payload -= c.macLen + c.ipLen + c.l4Len
	}
	if first.payload != payload {
		d.fault("transmit queue %d: PAYLEN %d of a frame of %d", q, first.payload, payload)
	}
	if first.cmd&cmdTSE != 0 {
		d.segment(q, f, &c, first)
		return
	}
	d.complete(q, f, &c, first)
}

// complete writes checksums and the tag, and sends.
func (d *Device) complete(q int, f []byte, c *context, first data) {
	ip, l4 := c.macLen, c.macLen+c.ipLen
	if first.options&popIXSM != 0 && c.ipv4 && l4 <= len(f) && c.ipLen >= 20 {
		b := f[ip:l4]
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^sum(b, 0))
	}
	if first.options&popTXSM != 0 {
		at := l4 + map[uint32]int{0: 6, 1: 16}[c.l4Type] // UDP, TCP
		if c.l4Type > 1 || l4 == 0 || at+2 > len(f) {
			d.fault("transmit queue %d: L4 checksum of type %d of a frame of %d", q, c.l4Type, len(f))
			return
		}
		// The driver has put the pseudo header's sum there.
		v := ^sum(f[l4:], 0)
		if v == 0 && c.l4Type == 0 {
			v = 0xffff
		}
		binary.BigEndian.PutUint16(f[at:], v)
	}
	if first.cmd&cmdVLE != 0 {
		f = d.tag(q, f, c.vlan)
	}
	d.put(q, f)
}

// tag inserts a VLAN tag.
func (d *Device) tag(q int, f []byte, vlan uint16) []byte {
	if len(f) < headerLen {
		return f
	}
	s := &d.tx[q]
	f = append(f, 0, 0, 0, 0)
	copy(f[16:], f[12:len(f)-4])
	binary.BigEndian.PutUint16(f[12:], typeVLAN)
	binary.BigEndian.PutUint16(f[14:], vlan)
	s.frame = f[:0]
	return f
}

// segment sends a large TCP packet in parts of the MSS (section 7.2.4).
func (d *Device) segment(q int, f []byte, c *context, first data) {
	head := c.macLen + c.ipLen + c.l4Len
	if c.l4Type != 1 || c.mss == 0 || c.l4Len < 20 || head > len(f) || c.ipLen < 20 || c.macLen < headerLen {
		d.fault("transmit queue %d: segments of %+v of a frame of %d", q, *c, len(f))
		return
	}
	const fin, push = 1, 8
	headers := append([]byte(nil), f[:head]...)
	payload := append([]byte(nil), f[head:]...)
	first.cmd &^= cmdTSE
	first.options |= popTXSM
	for number := 0; number == 0 || len(payload) > 0; number++ {
		n := min(c.mss, len(payload))
		part := append(append(make([]byte, 0, head+n+4), headers...), payload[:n]...)
		payload = payload[n:]
		ip, l4 := part[c.macLen:], part[c.macLen+c.ipLen:]
		if c.ipv4 {
			binary.BigEndian.PutUint16(ip[2:], uint16(c.ipLen+len(l4)))
			binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(number))
		} else {
			binary.BigEndian.PutUint16(ip[4:], uint16(c.ipLen-40+len(l4)))
		}
		binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(number*c.mss))
		if len(payload) > 0 {
			l4[13] &^= fin | push
		}
		// The pseudo header's sum that the driver has put there lacks the length.
		binary.BigEndian.PutUint16(l4[16:], sum(nil, uint32(binary.BigEndian.Uint16(l4[16:]))+uint32(len(l4))))
		d.complete(q, part, c, first)
	}
}

// put has a frame on the wire, padded if that is wanted.
func (d *Device) put(q int, f []byte) {
	switch {
	case len(f) < headerLen || len(f) > mostTx:
		d.fault("transmit queue %d: a frame of %d bytes", q, len(f))
		return
	case len(f) < 60 && d.reg[regHLREG0/4]&hlregTxPad == 0:
		d.fault("transmit queue %d: a frame of %d bytes, and no padding", q, len(f))
	case d.tx[q].first.cmd&cmdIFCS == 0 || d.reg[regHLREG0/4]&hlregTxCRC == 0:
		d.fault("transmit queue %d: a frame without FCS", q)
	}
	if !d.link {
		return // it stays in the device on a real one, and is lost with the next reset
	}
	start := len(d.out.bytes)
	d.out.bytes = append(d.out.bytes, f...)
	for len(d.out.bytes)-start < 60 {
		d.out.bytes = append(d.out.bytes, 0)
	}
	f = d.out.bytes[start:]
	d.out.ends = append(d.out.ends, len(d.out.bytes))
	d.countTx(f)
	d.count(statTXDGPC)
	d.wide.add(&d.wide.txdg, len(f)+fcsLen)
	set := d.counterOf(regTQSM, q)
	d.count(statQPTC + set*4)
	d.count64(statQBTCL+set*8, statQBTCH+set*8, len(f)+fcsLen)
}
