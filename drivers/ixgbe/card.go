package ixgbe

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"vita/drivers"
	"vita/drivers/internal/intel"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// Card is an open device.
type Card struct {
	intel.Card
}

const (
	headerLen = 14
	fcsLen    = 4
)

// openCard resets a device and makes it ready for queues (section 4.6.3).
func openCard(d pci.Device, c *drivers.Config) (*Card, error) {
	k := new(Card)
	k.Pools = intel.WantsPool(c)
	if err := k.Begin("ixgbe", form, k, d, c); err != nil {
		return nil, err
	}
	return k, nil
}

var form = intel.Form{
	Registers: regsSize, Vectors: maxVectors, MAC: regRAL, Addresses: addresses, MaxBuffer: maxBuffer,
	RxErrors: rxError, TxCommand: txData, Payload: txPayload,
}

// Queues returns how many queues ports can have: what the hash can tell apart,
// or as many as there are pools.
func (k *Card) Queues() int {
	if k.Pools {
		return pools
	}
	return rssQueues
}

// hardware returns the device's number for a queue: with pools, the first of
// the pool's (section 7.1.2.2).
func (k *Card) hardware(q int) int {
	if k.Pools {
		return q * queuesOfPool
	}
	return q
}

// RxRegisters returns the first register of a queue for receiving.
func (k *Card) RxRegisters(q int) int { return rxRegs(k.hardware(q)) }

// TxRegisters returns the first register of a queue for sending.
func (k *Card) TxRegisters(q int) int { return txQueue + k.hardware(q)*stride }

func rxRegs(q int) int {
	if q < 64 {
		return rxQueue + q*stride
	}
	return rxQueueMore + (q-64)*stride
}

// answers reports whether the device is still there.
func (k *Card) answers() bool { return k.R.Read32(regSTATUS) != allOnes }

// interruptsOff turns all interrupts off.
func (k *Card) interruptsOff() {
	k.R.Write32(regEIMC, 0x7fffffff)
	k.R.Write32(regEIMCEx, allOnes)
	k.R.Write32(regEIMCEx+4, allOnes)
}

// stop ends the device's use of memory (section 5.2.4.3.2). It reports whether
// the device says so; where a frame is kept back by the link, it does not, and
// what it has in hand is flushed before a reset.
func (k *Card) stop() bool {
	k.interruptsOff()
	k.Clear(regRXCTRL, rxctrlEnable)
	k.Clear(regDMATXCTL, dmatxEnable)
	k.Set(regCTRL, ctrlMasterStop)
	if k.Await(regSTATUS, statusMaster, 0, 100*time.Millisecond) {
		return true
	}
	k.Set(regHLREG0, hlregLoopback)
	k.Set(regGCREXT, gcrClearBuffers)
	time.Sleep(20 * time.Microsecond)
	k.Clear(regHLREG0, hlregLoopback)
	k.Clear(regGCREXT, gcrClearBuffers)
	return false
}

// Reset brings the device to the state after power up, as far as its functions
// are concerned (sections 4.2.1.6.1 and 4.6.3.2). The link is not concerned.
func (k *Card) Reset() error {
	if !k.answers() {
		return nic.ErrGone
	}
	times := 1
	if !k.stop() {
		times = 2 // section 5.2.4.3.2: the first one may come too early
	}
	for range times {
		k.Set(regCTRL, ctrlReset)
		time.Sleep(10 * time.Millisecond)
		if !k.Await(regCTRL, ctrlReset, 0, 100*time.Millisecond) {
			return errors.New("the device does not come out of its reset")
		}
	}
	k.Clear(regCTRL, ctrlMasterStop)
	if !k.answers() {
		return nic.ErrGone
	}
	_ = k.Await(regEEC, eecLoaded, eecLoaded, 100*time.Millisecond) // a card without an EEPROM never says so
	if !k.Await(regRDRXCTL, rdrxctlIdle, rdrxctlIdle, 100*time.Millisecond) {
		return errors.New("the device's memory is not ready after its reset")
	}
	k.interruptsOff()
	return nil
}

// Setup makes everything but the queues as we want it.
func (k *Card) Setup() error {
	k.Set(regCTRLEXT, ctrlExtDriver|ctrlExtNoSnoop)
	k.setupLink()
	k.setupReceive()
	k.setupTransmit()
	k.setupInterrupts()
	k.setupCounters()
	return k.Direct()
}

// setupLink starts the link. What kind it is the EEPROM has said (section
// 3.7.4). Pause frames are neither sent nor obeyed: one station must not stop a
// gateway.
func (k *Card) setupLink() {
	k.R.Write32(regFCCFG, 0)
	k.R.Write32(regMFLCN, mflcnDiscard)
	if fibre(k.Device.ID()) {
		k.R.Write32(regESDP, k.R.Read32(regESDP)&^esdpLaserOff|esdpLaserOut)
	}
	k.R.Write32(regAUTOC, k.R.Read32(regAUTOC)&^autocKeep|autocRestart)
}

// setupReceive prepares filters and the way of frames to queues (section 4.6.7).
func (k *Card) setupReceive() {
	for i := range tableRegs {
		k.R.Write32(regMTA+4*i, 0)
		k.R.Write32(regVFTA+4*i, 0)
	}
	k.R.Write32(regVLNCTRL, 0) // all VLANs, and tags stay in the frames
	hlreg := k.R.Read32(regHLREG0) | hlregCRC | hlregStrip | hlregPad
	if k.MTU > 1500 {
		hlreg |= hlregJumbo
	}
	k.R.Write32(regHLREG0, hlreg)
	// A tag does not count.
	k.R.Write32(regMAXFRS, uint32(k.MTU+headerLen+fcsLen)<<16)
	k.R.Write32(regRDRXCTL, k.R.Read32(regRDRXCTL)&^rdrxctlFirst|rdrxctlStrip|rdrxctlFixed)
	for i := range drivers.RSSKeyLen / 4 {
		k.R.Write32(regRSSRK+4*i, binary.LittleEndian.Uint32(k.RSS.Key[4*i:]))
	}
	for i := range pools {
		k.R.Write32(regPSRTYPE+4*i, 0) // no splitting
		k.R.Write32(regPFVML2FLT+4*i, 0)
	}
	if k.Pools {
		k.R.Write32(regMRQC, mrqcPools)
		k.R.Write32(regVTCTL, vtEnable|vtNoDefault|vtReplicate)
	} else {
		k.R.Write32(regMRQC, mrqcRSS|mrqcTCP4|mrqcIPv4|mrqcTCP6|mrqcIPv6)
		k.R.Write32(regVTCTL, 0)
	}
	// Groups are all received: solicited-node addresses of neighbour discovery
	// are many, and the worker looks at them anyway.
	k.R.Write32(regFCTRL, fctrlBroadcast|fctrlGroups)
	// The path opens while nothing is on it.
	k.Set(regSECRXCTRL, secrxHold)
	_ = k.Wait(regSECRXSTAT, secrxHeld, secrxHeld)
	k.Set(regRXCTRL, rxctrlEnable)
	k.Clear(regSECRXCTRL, secrxHold)
}

// setupTransmit prepares the way of frames to the wire (section 4.6.8).
func (k *Card) setupTransmit() {
	k.Set(regRTTDCS, rttdcsHold) // MTQC must not change while frames are sent
	mtqc := uint32(0)
	if k.Pools {
		mtqc = mtqcPools
	}
	k.R.Write32(regMTQC, mtqc)
	k.Clear(regRTTDCS, rttdcsHold)
	k.R.Write32(regPFDTXGSWC, 0)
	k.Set(regDMATXCTL, dmatxEnable)
}

// setupInterrupts makes an interrupt clear its cause and turn itself off
// (section 7.3.4). Nothing is on yet.
func (k *Card) setupInterrupts() {
	k.R.Write32(regGPIE, gpieMSIX|gpieEIAME|gpiePBA)
	k.R.Write32(regEIAC, 0xffff)
	k.R.Write32(regEIAMEx, allOnes)
	k.R.Write32(regEIAMEx+4, allOnes)
	for v := range maxVectors {
		reg := regEITR + 4*v
		if v >= 24 {
			reg = regEITRMore + 4*(v-24)
		}
		k.R.Write32(reg, 0)
		k.R.Write32(regIVAR+4*v, 0)
	}
}

// setupCounters gives receive queues their sets of counters, and forgets what
// was counted before.
func (k *Card) setupCounters() {
	for q := 0; q < 128; q += 4 {
		var v uint32
		for i := range 4 {
			v |= uint32(k.counters(q+i)) << (8 * i)
		}
		k.R.Write32(regRQSMR+q, v)
	}
	for reg := statFirst; reg <= statLast; reg += 4 {
		_ = k.R.Read32(reg)
	}
	for i := range counterSets {
		_ = k.R.Read32(statDropped + i*stride)
	}
}

// counters returns the set of counters of a device's queue. With pools, several
// may have one: then whose port reads it first counts what it has.
func (k *Card) counters(hardware int) int {
	if k.Pools {
		hardware /= queuesOfPool
	}
	return hardware % counterSets
}

// Dropped returns how many frames a queue had no buffers for since this was last
// asked.
func (k *Card) Dropped(q int) uint64 {
	return k.Counted(statDropped + k.counters(k.hardware(q))*stride)
}

// Direct has the device receive the ports' addresses, and tells it which queue
// gets what: by the hash, or by the address.
func (k *Card) Direct() error {
	at := 0
	filter := func(mac [6]byte, ofPools uint64) {
		k.R.Write32(regMPSAR+8*at, uint32(ofPools))
		k.R.Write32(regMPSAR+8*at+4, uint32(ofPools>>32))
		k.R.Write32(regRAL+8*at, binary.LittleEndian.Uint32(mac[:]))
		k.R.Write32(regRAH+8*at, uint32(binary.LittleEndian.Uint16(mac[4:]))|rahValid)
		at++
	}
	var all uint64
	for i, p := range k.Ports {
		bit := uint64(1) << p.Queues[0]
		all |= bit
		if k.Pools {
			filter(p.MAC, bit)
		} else if !slices.ContainsFunc(k.Ports[:i], func(o *nic.Port) bool { return o.MAC == p.MAC }) {
			filter(p.MAC, 1)
		}
	}
	for ; at < addresses; at++ {
		k.R.Write32(regRAH+8*at, 0)
		k.R.Write32(regRAL+8*at, 0)
		k.R.Write32(regMPSAR+8*at, 0)
		k.R.Write32(regMPSAR+8*at+4, 0)
	}
	if k.Pools {
		for p := range pools {
			v := uint32(0)
			if all>>p&1 != 0 {
				v = l2fltUntagged | l2fltBroadcast | l2fltGroups
			}
			k.R.Write32(regPFVML2FLT+4*p, v)
		}
		for i := range 2 {
			k.R.Write32(regPFVFRE+4*i, uint32(all>>(32*i)))
			k.R.Write32(regPFVFTE+4*i, uint32(all>>(32*i)))
		}
		return nil
	}
	open := k.Open()
	// ARP has no hash. It would go to the first of the device's queues, which may
	// be nobody's.
	if len(open) > 0 {
		k.R.Write32(regETQS, etqsEnable|uint32(open[0])<<etqsQueue)
		k.R.Write32(regETQF, etqfARP)
	}
	var table [retaSize]uint8
	nic.Spread(table[:], open, k.RSS.Table)
	for i := 0; i < retaSize; i += 4 {
		k.R.Write32(regRETA+i, binary.LittleEndian.Uint32(table[i:]))
	}
	return nil
}

// StartRx turns a queue for receiving on (section 4.6.7.1). Its tail may be
// written once it says that it is on.
func (k *Card) StartRx(q, buffer int) {
	regs := k.RxRegisters(q)
	k.R.Write32(regs+qSRRCTL, uint32(buffer>>10)|srrctlOne|srrctlDrop)
	k.Clear(regs+qDCA, dcaRelaxed)
	k.R.Write32(regs+qControl, queueEnable)
	_ = k.Wait(regs+qControl, queueEnable, queueEnable)
}

// StartTx turns a queue for sending on (section 4.6.8.1).
func (k *Card) StartTx(q int) {
	regs := k.TxRegisters(q)
	k.R.Write32(regs+qControl, prefetch|available<<8|queueEnable)
	_ = k.Wait(regs+qControl, queueEnable, queueEnable)
}

// StopTx turns a queue off when what has been given for sending is sent (section
// 4.6.8.1).
func (k *Card) StopTx(q int) bool {
	k.Drain(k.TxRegisters(q))
	return k.disable(k.TxRegisters(q))
}

// StopRx turns a queue off. A frame on its way to memory gets there meanwhile
// (section 4.6.7.1).
func (k *Card) StopRx(q int) bool {
	off := k.disable(k.RxRegisters(q))
	time.Sleep(100 * time.Microsecond)
	return off
}

func (k *Card) disable(regs int) bool {
	k.Clear(regs+qControl, queueEnable)
	return k.Wait(regs+qControl, queueEnable, 0)
}

// Route sends a receive queue's interrupts to a vector (section 8.2.3.5.16).
func (k *Card) Route(q, vector int) {
	q = k.hardware(q)
	reg, shift := regIVAR+4*(q/2), q%2*16
	v := k.R.Read32(reg) &^ (0xff << shift)
	k.R.Write32(reg, v|uint32(ivarValid|vector)<<shift)
}

// Arm turns the port's interrupt on.
func (k *Card) Arm(p *nic.Port) {
	v := p.Vector
	if v < eicrVectors {
		// What came while the interrupt was off would raise it, but has been taken.
		k.R.Write32(regEICR, 1<<v)
	}
	k.R.Write32(regEIMSEx+4*(v/32), 1<<(v%32))
	_ = k.R.Read32(regSTATUS) // both have arrived there
}

// Sync reads the link (section 8.2.3.22.20) and the counters.
func (k *Card) Sync(p *nic.Port) (nic.State, error) {
	v := k.R.Read32(regLINKS)
	if v == allOnes && !k.answers() {
		return nic.State{}, nic.ErrGone
	}
	s := p.Stats()
	k.Count(p, []intel.Counter{
		{Reg: statRxMcast, To: &s.RxMcast},
		{Reg: statRxBcast, To: &s.RxBcast},
		{Reg: statTxMcast, To: &s.TxMcast},
		{Reg: statTxBcast, To: &s.TxBcast},
		{Reg: statMissed, To: &s.RxDrop}, // of the one packet buffer that is used
		{Reg: statCRC, To: &s.RxErrors},
		{Reg: statIllegal, To: &s.RxErrors},
		{Reg: statByte, To: &s.RxErrors},
		{Reg: statLength, To: &s.RxErrors},
		{Reg: statShort, To: &s.RxErrors},
		{Reg: statFragment, To: &s.RxErrors},
		{Reg: statLong, To: &s.RxErrors},
		{Reg: statJabber, To: &s.RxErrors},
	}...)
	return nic.State{Up: v&linksUp != 0, Speed: [...]int{0, 100, 1000, 10000}[v>>linksSpeed&3]}, nil
}
