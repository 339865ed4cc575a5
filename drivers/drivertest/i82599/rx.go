package i82599

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// Status and errors in the last words of a descriptor (sections 7.1.5 and 7.1.6).
const (
	statusDD    = 1 << 0
	statusEOP   = 1 << 1
	statusVP    = 1 << 3
	statusUDPCS = 1 << 4
	statusL4CS  = 1 << 5
	statusIPCS  = 1 << 6
	errorL4E    = 1 << 30
	errorIPE    = 1 << 31
	descLen     = 16
)

// Receive is the arrival of a frame, without its FCS, on the wire. It reports
// whether the frame was written to memory at least once.
func (d *Device) Receive(f []byte) bool {
	if len(f) < headerLen {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.link || d.reg[regRXCTRL/4]&rxctrlEnable == 0 || d.reg[regSECRXCTRL/4]&secDisable != 0 {
		return false
	}
	d.count(statTPR)
	d.wide.add(&d.wide.tor, len(f)+fcsLen)
	if !d.accepted(f) {
		return false
	}
	pools := d.destinations(f)
	if pools == 0 {
		return false
	}
	d.countRx(f)
	if !d.busMaster() {
		d.count(statMPC)
		return false
	}
	k := d.parse(f)
	d.mem.Begin()
	defer d.mem.End()
	any := false
	for ; pools != 0; pools &= pools - 1 {
		if d.deliver(d.queue(bits.TrailingZeros64(pools), &k), f, &k) {
			any = true
		}
	}
	return any
}

// deliver writes a frame into the buffers of a queue, as many as it needs, and
// their descriptors back.
func (d *Device) deliver(q int, f []byte, k *packet) bool {
	r := func(reg uint32) *uint32 { return &d.reg[rxQueue(uint32(q), reg)/4] }
	ctl, split := *r(rxdctl), *r(srrctl)
	drop := func() bool {
		if split&srrctlDropEn != 0 {
			d.count(statQPRDC + d.counterOf(regRQSMR, q)*0x40)
		} else {
			d.count(statMPC) // the packet buffer of a real one is full some time later
		}
		return false
	}
	if ctl&queueEnable == 0 {
		return drop()
	}
	size := int(split&0x1f) << 10
	n := *r(rdlen) / descLen
	legacy := split>>25&7 == 0
	switch {
	case *r(rdlen)%128 != 0 || n == 0 || *r(rdh) >= n || *r(rdt) >= n || *r(rdbal)%128 != 0:
		d.fault("receive queue %d: ring of %d bytes at %#x, head %d, tail %d", q, *r(rdlen), *r(rdbal), *r(rdh), *r(rdt))
		return drop()
	case split>>25&7 > 1 || size == 0 || size > 16<<10:
		d.fault("receive queue %d: SRRCTL %#x", q, split)
		return drop()
	}
	// What lands in memory: without the tag where the queue strips it, with the
	// FCS where nobody strips that.
	d.frame = d.frame[:0]
	status, vlan := uint32(0), uint16(0)
	if ctl&rxdctlVME != 0 && tagged(f) {
		status, vlan = statusVP, binary.BigEndian.Uint16(f[14:])
		d.frame = append(append(d.frame, f[:12]...), f[16:]...)
	} else {
		d.frame = append(d.frame, f...)
	}
	strip := d.reg[regHLREG0/4]&hlregCRCStrip != 0
	if strip != (d.reg[regRDRXCTL/4]&rdrxctlCRC != 0) && d.reg[regHLREG0/4]&hlregLoopback == 0 {
		d.fault("HLREG0.RXCRCSTRP is not RDRXCTL.CRCSTRIP") // they must agree (section 8.2.3.8.8)
	}
	if !strip {
		d.frame = binary.LittleEndian.AppendUint32(d.frame, crc32.ChecksumIEEE(f))
	}
	need := uint32((len(d.frame) + size - 1) / size)
	if free := (*r(rdt) + n - *r(rdh)) % n; need > free {
		return drop()
	}
	base := uint64(*r(rdbal)) | uint64(*r(rdbah))<<32
	for rest := d.frame; len(rest) > 0; {
		head := *r(rdh)
		desc := d.mem.At(base+uint64(head)*descLen, descLen, true)
		if desc == nil {
			d.fault("receive queue %d: no memory for descriptor %d at %#x", q, head, base)
			return drop()
		}
		part := min(len(rest), size)
		addr := binary.LittleEndian.Uint64(desc)
		buf := d.mem.At(addr, size, true)
		if buf == nil {
			d.fault("receive queue %d: no memory of %d bytes at %#x, descriptor %d", q, size, addr, head)
			return drop()
		}
		copy(buf, rest[:part])
		rest = rest[part:]
		end := uint32(statusDD)
		if len(rest) == 0 {
			end |= statusEOP
		}
		if legacy {
			end |= status
			binary.LittleEndian.PutUint64(desc[8:], uint64(part)|uint64(end)<<32|uint64(vlan)<<48)
		} else {
			binary.LittleEndian.PutUint64(desc, uint64(k.rssType|k.kind)|uint64(k.hash)<<32)
			end |= status | k.checked | k.bad
			binary.LittleEndian.PutUint64(desc[8:], uint64(end)|uint64(part)<<32|uint64(vlan)<<48)
		}
		*r(rdh) = (head + 1) % n
	}
	d.count(statRXDGPC)
	d.wide.add(&d.wide.rxdg, len(f)+fcsLen)
	set := d.counterOf(regRQSMR, q)
	d.count(statQPRC + set*0x40)
	d.count64(statQBRCL+set*0x40, statQBRCH+set*0x40, len(f)+fcsLen)
	d.raise(q, false)
	return true
}
