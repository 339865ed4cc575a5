// Package i82599 is a model of Intel's 82599 10 GbE controller, for tests: one
// port with its registers, EEPROM, SFP+ module, descriptor rings, filters, RSS,
// pools, MSI-X and statistics, as the data sheet tells of them. Linux's own
// driver judges it (test/qemu/nic), and it judges ours.
//
// A Device needs memory that it can reach by DMA, a function that takes the
// frames it sends, and one that takes its interrupts. What a driver does that no
// driver should is kept as a fault: a real device might do anything then.
package i82599

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// Identity of the device (section 9.3).
const (
	Vendor = 0x8086
	ID     = 0x10FB // SFP+
)

const (
	barSize  = 0x20000
	queues   = 128
	vectors  = 64
	maxFault = 16
)

// Memory is what the device reaches by DMA.
type Memory interface {
	// Begin comes before calls of At, and End behind the last use of what they
	// have returned.
	Begin()
	End()
	// At returns n bytes at an address, or nil where the device may not go.
	At(addr uint64, n int, write bool) []byte
}

// Options are what a device is made of.
type Options struct {
	MAC    [6]byte
	Memory Memory
	// Send takes a frame, without its FCS, which is the callee's until it
	// returns. Nil: the cable's end lies open.
	Send func(frame []byte)
	// Interrupt sends an MSI-X message. Nil: nobody listens.
	Interrupt func(vector int) bool
}

// Device is one port of a controller. Its methods may be called at any time.
type Device struct {
	mac    [6]byte
	mem    Memory
	send   func([]byte)
	irq    func(int) bool
	master func() bool // the bus master's bit, where it is not in config
	eeprom [4096]uint16

	mu     sync.Mutex
	reg    [barSize / 4]uint32
	config [256]byte
	link   bool // the far end of the cable is there
	frozen bool // until the next reset
	dead   bool // no reset ends
	stuck  int  // a queue for receiving, from 1 on, that does not stop before the next reset; 0 = all do
	module sfp
	wide   wideStats
	causes causes
	faults []string
	frame  []byte // received, as it is written to memory

	txMu sync.Mutex // held while what has been sent is handed on; before mu
	out  sent
	tx   [queues]txState
}

// New returns a device as it is when power comes, with its link up.
func New(o Options) *Device {
	d := &Device{mac: o.MAC, mem: o.Memory, send: o.Send, irq: o.Interrupt, link: true}
	d.fillEEPROM()
	d.resetConfig()
	d.reset()
	return d
}

// SetSend sets where frames go to from now on.
func (d *Device) SetSend(f func(frame []byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.send = f
}

// Faults returns what the driver has done that no driver should, the first of
// it at most.
func (d *Device) Faults() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.faults...)
}

func (d *Device) fault(format string, args ...any) {
	if len(d.faults) < maxFault {
		d.faults = append(d.faults, fmt.Sprintf(format, args...))
	}
}

// Reset is a function-level reset, or power that comes anew.
func (d *Device) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resetConfig()
	d.reset()
}

// reset is what CTRL.RST does (section 4.2.1.6): all registers as they were at
// first, no DMA, no interrupt.
func (d *Device) reset() {
	clear(d.reg[:])
	d.wide.init()
	d.causes.reset()
	d.tx = [queues]txState{}
	d.frozen = d.dead
	d.stuck = 0
	set := func(reg uint32, v uint32) { d.reg[reg/4] = v }
	set(regSTATUS, statusMaster)
	set(regESDP, esdpModule)
	set(regHLREG0, 0x08010403) // CRC and padding by the device, CRC stripped
	set(regRDRXCTL, rdrxctlIdle)
	set(regRXPBSIZE, 512<<10)
	set(0xCC00, 160<<10) // TXPBSIZE
	set(regMAXFRS, 1518<<16)
	set(regAUTOC, 3<<13) // 10 Gb/s serial, no negotiation
	set(regAUTOC2, 2<<16)
	set(regANLP1, 1<<16) // a state of the negotiation
	set(regSECRXSTAT, secReady)
	set(regSECTXSTAT, secReady)
	set(regEEC, eecPresent|eecAutoRead|3<<11) // 4096 words
	set(regFWSM, fwsmValid)
	for q := range uint32(queues) {
		d.reg[rxQueue(q, srrctl)/4] = 0x402
	}
	// The first address comes from the EEPROM, and is every pool's.
	set(regRAL, binary.LittleEndian.Uint32(d.mac[:]))
	set(regRAL+4, uint32(binary.LittleEndian.Uint16(d.mac[4:]))|rahValid)
	set(regMPSAR, 0xffffffff)
	set(regMPSAR+4, 0xffffffff)
	d.setLinks()
}

// SetLink plugs the cable in or pulls it out.
func (d *Device) SetLink(up bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link == up {
		return
	}
	d.link = up
	d.setLinks()
	d.raiseOther(causeLSC)
}

// Freeze has the device hang: it sends nothing more, and reports nothing, until
// it is reset.
func (d *Device) Freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen = true
}

// Kill has the device hang, and not come out of a reset any more.
func (d *Device) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen, d.dead = true, true
}

// Stick has a queue for receiving not stop before the device is reset.
func (d *Device) Stick(queue int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stuck = queue + 1
}

func (d *Device) setLinks() {
	d.reg[regLINKS/4] = 0
	if d.link {
		d.reg[regLINKS/4] = linksUp | links10G
	}
}

// rxQueue is the offset of a register of a receive queue.
func rxQueue(q, reg uint32) uint32 {
	if q < 64 {
		return regRxQueues + q*0x40 + reg
	}
	return regRxQueuesMore + (q-64)*0x40 + reg
}

func txQueue(q, reg uint32) uint32 { return regTxQueues + q*0x40 + reg }

// alias returns the offset that stands for one that the predecessor had.
func alias(off uint32) uint32 {
	switch {
	case off >= regRALOld && off < regRALOld+16*8:
		return off - regRALOld + regRAL
	case off >= regRETAOld && off < regRETAOld+32*4:
		return off - regRETAOld + regRETA
	case off >= regRSSRKOld && off < regRSSRKOld+10*4:
		return off - regRSSRKOld + regRSSRK
	case off == regMRQCOld:
		return regMRQC
	case off >= regSRRCTLOld && off < regSRRCTLOld+16*4:
		return rxQueue((off-regSRRCTLOld)/4, srrctl)
	}
	return off
}

// Read32 reads a register of BAR 0.
func (d *Device) Read32(off uint32) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	off = alias(off &^ 3)
	if off >= barSize {
		return 0xffffffff
	}
	v := d.reg[off/4]
	switch {
	case d.dead && off == regCTRL:
		return v | ctrlReset
	case d.stuck > 0 && off == rxQueue(uint32(d.stuck-1), rxdctl):
		return v | queueEnable
	}
	if clearsOnRead(off) {
		d.reg[off/4] = 0
		return v
	}
	if s := d.wide.half(off); s != nil {
		// Reading the upper half clears the whole (section 8.2.3.23).
		if s.high == off {
			v = uint32(s.n >> 32)
			s.n = 0
			return v
		}
		return uint32(s.n)
	}
	switch off {
	case regI2CCTL:
		return d.module.read()
	case regEICR, regEICS, regEIMS, regEIMC, regEIMSEx, regEIMSEx + 4, regEIMCEx, regEIMCEx + 4, regEICSEx, regEICSEx + 4:
		return d.causes.read(off, d.reg[regGPIE/4])
	case regSWSM:
		d.reg[off/4] |= swsmSMBI // who reads zero has it (section 8.2.3.4.11)
	}
	return v
}

// Write32 writes a register of BAR 0.
func (d *Device) Write32(off, v uint32) {
	off = alias(off &^ 3)
	if off >= barSize {
		return
	}
	if q := (off - regTxQueues) / 0x40; off >= regTxQueues && q < queues {
		if reg := off - txQueue(q, 0); reg == tdt || reg == txdctl {
			d.writeTx(q, reg, v)
			return
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v &= writable(off)
	switch {
	case off >= regEITR && off < regEITR+24*4, off >= regEITRMore && off < regEITRMore+40*4:
		v &^= 1 << 31 // CNT_WDIS: the write alone
	case clearsOnRead(off), d.wide.half(off) != nil:
		return
	}
	switch off {
	case regCTRL:
		if v&(ctrlReset|ctrlLinkReset) != 0 {
			d.reset()
			return
		}
		d.reg[regSTATUS/4] |= statusMaster
		if v&ctrlMasterDisable != 0 {
			d.reg[regSTATUS/4] &^= statusMaster
		}
	case regSTATUS, regLINKS, regANLP1, regSECRXSTAT, regSECTXSTAT, regFWSM:
		return // read only
	case regESDP:
		v |= esdpModule
	case regI2CCTL:
		d.module.write(v)
	case regEICR, regEICS, regEIMS, regEIMC, regEICSEx, regEICSEx + 4, regEIMSEx, regEIMSEx + 4, regEIMCEx, regEIMCEx + 4:
		d.writeCauses(off, v)
		return
	case regRDRXCTL:
		v |= rdrxctlIdle
	case regMSCA:
		// No PHY answers on MDIO: the cycle ends at once, with all ones.
		v &^= mscaCommand
		d.reg[regMSRWD/4] = 0xffff0000
	case regFDIRCTRL:
		v |= fdirInitDone
	case regEEC:
		v = v&^(eecPresent|eecAutoRead|eecGrant|0xf<<11) | d.reg[off/4]&(eecPresent|eecAutoRead|0xf<<11)
		if v&eecRequest != 0 {
			v |= eecGrant
		}
	case regEERD:
		if v&eerdStart != 0 { // section 8.2.3.2.2
			v = v&0xfffc | eerdDone | uint32(d.eeprom[v>>2&0xfff])<<16
		}
	}
	d.reg[off/4] = v
}

// writable returns the bits of a register that keep what is written: bases and
// lengths of rings are multiples of 128 bytes (sections 8.2.3.8 and 8.2.3.9).
func writable(off uint32) uint32 {
	reg := uint32(0xff)
	switch {
	case off >= regRAL && off < regRAL+128*8 && off%8 == 4: // RAH
		return rahValid | 0xffff
	case off >= regRxQueues && off < regRxQueues+64*0x40, off >= regRxQueuesMore && off < regRxQueuesMore+64*0x40,
		off >= regTxQueues && off < regTxQueues+queues*0x40:
		reg = off % 0x40
	}
	switch reg {
	case rdbal:
		return 0xffffff80
	case rdlen:
		return 0x000fff80
	case rdh, rdt:
		return 0xffff
	}
	return 0xffffffff
}
