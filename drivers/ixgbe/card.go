package ixgbe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vita/drivers"
	"vita/drivers/internal/mmio"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// Card is an open device.
type Card struct {
	device   pci.Device
	r        *mmio.Window
	mac      [6]byte
	mtu      int
	max      int // bytes of the largest frame, with a VLAN tag and without check sequence
	rss      drivers.RSS
	pools    bool // frames go to queues by their destination
	recovery nic.Recovery
	gone     atomic.Bool

	mu     sync.Mutex // over what follows; ports open and close, and a reset
	events *nic.Events
	ports  []*Port
}

const (
	headerLen = 14
	tagLen    = 4
	fcsLen    = 4
	minMTU    = 68
	maxMTU    = 9000
)

// errGone says that the device no longer answers.
var errGone = errors.New("the device does not answer: it was taken away, or has failed")

// openCard resets a device and makes it ready for queues (section 4.6.3).
func openCard(d pci.Device, c *drivers.Config) (*Card, error) {
	k := &Card{device: d, mtu: c.MTU, rss: drivers.RSS{Key: nic.RSSKey}, pools: wantsPool(c)}
	if k.mtu == 0 {
		k.mtu = 1500
	}
	if k.mtu < minMTU || k.mtu > maxMTU {
		return nil, fmt.Errorf("MTU %d: the device has %d to %d: %w", k.mtu, minMTU, maxMTU, drivers.ErrUnsupported)
	}
	k.max = k.mtu + headerLen + tagLen
	if c.RSS != nil {
		k.rss = *c.RSS
	}
	var err error
	if k.r, err = d.BAR(0); err != nil {
		return nil, err
	}
	if k.r.Size() < regsSize {
		return nil, fmt.Errorf("%d bytes of registers: want %d: %w", k.r.Size(), regsSize, drivers.ErrUnsupported)
	}
	if err := pci.SetMaster(d, true); err != nil {
		return nil, err
	}
	if k.events, err = nic.OpenEvents(d, maxVectors); err != nil {
		return nil, err
	}
	if err = k.reset(); err == nil {
		err = k.readMAC()
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	k.setup()
	return k, nil
}

// wantsPool tells whether a port is one queue with an address of its own. Frames
// with tags would need the pool's VLANs, of which we know nothing.
func wantsPool(c *drivers.Config) bool {
	return c.MAC != [6]byte{} && len(c.Queues) == 1 && c.Every == 0 && !c.Tagged
}

// Queues returns how many queues ports can have: what the hash can tell apart,
// or as many as there are pools.
func (k *Card) Queues() int {
	if k.pools {
		return pools
	}
	return rssQueues
}

// hardware returns the device's number for a queue: with pools, the first of
// the pool's (section 7.1.2.2).
func (k *Card) hardware(q int) int {
	if k.pools {
		return q * queuesOfPool
	}
	return q
}

func rxRegs(q int) int {
	if q < 64 {
		return rxQueue + q*stride
	}
	return rxQueueMore + (q-64)*stride
}

func txRegs(q int) int { return txQueue + q*stride }

// wait waits until a register has the bits of mask as in want.
func (k *Card) wait(reg int, mask, want uint32, most time.Duration) bool {
	for end := time.Now().Add(most); ; time.Sleep(50 * time.Microsecond) {
		if k.r.Read32(reg)&mask == want {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// set and clear change bits of a register.
func (k *Card) set(reg int, bits uint32)   { k.r.Write32(reg, k.r.Read32(reg)|bits) }
func (k *Card) clear(reg int, bits uint32) { k.r.Write32(reg, k.r.Read32(reg)&^bits) }

// answers reports whether the device is still there.
func (k *Card) answers() bool {
	if k.r.Read32(regSTATUS) == allOnes {
		k.gone.Store(true)
	}
	return !k.gone.Load()
}

// interruptsOff turns all interrupts off.
func (k *Card) interruptsOff() {
	k.r.Write32(regEIMC, 0x7fffffff)
	k.r.Write32(regEIMCEx, allOnes)
	k.r.Write32(regEIMCEx+4, allOnes)
}

// stop ends the device's use of memory (section 5.2.4.3.2). It reports whether
// the device says so; where a frame is kept back by the link, it does not, and
// what it has in hand is flushed before a reset.
func (k *Card) stop() bool {
	k.interruptsOff()
	k.clear(regRXCTRL, rxctrlEnable)
	k.clear(regDMATXCTL, dmatxEnable)
	k.set(regCTRL, ctrlMasterStop)
	if k.wait(regSTATUS, statusMaster, 0, 100*time.Millisecond) {
		return true
	}
	k.set(regHLREG0, hlregLoopback)
	k.set(regGCREXT, gcrClearBuffers)
	time.Sleep(20 * time.Microsecond)
	k.clear(regHLREG0, hlregLoopback)
	k.clear(regGCREXT, gcrClearBuffers)
	return false
}

// reset brings the device to the state after power up, as far as its functions
// are concerned (sections 4.2.1.6.1 and 4.6.3.2). The link is not concerned.
func (k *Card) reset() error {
	if !k.answers() {
		return errGone
	}
	times := 1
	if !k.stop() {
		times = 2 // section 5.2.4.3.2: the first one may come too early
	}
	for range times {
		k.set(regCTRL, ctrlReset)
		time.Sleep(10 * time.Millisecond)
		if !k.wait(regCTRL, ctrlReset, 0, 100*time.Millisecond) {
			return errors.New("the device does not come out of its reset")
		}
	}
	k.clear(regCTRL, ctrlMasterStop)
	if !k.answers() {
		return errGone
	}
	_ = k.wait(regEEC, eecLoaded, eecLoaded, 100*time.Millisecond) // a card without an EEPROM never says so
	if !k.wait(regRDRXCTL, rdrxctlIdle, rdrxctlIdle, 100*time.Millisecond) {
		return errors.New("the device's memory is not ready after its reset")
	}
	k.interruptsOff()
	return nil
}

// readMAC reads the device's address, which the reset has loaded from the EEPROM
// (section 8.2.3.7.9).
func (k *Card) readMAC() error {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], k.r.Read32(regRAL))
	binary.LittleEndian.PutUint32(b[4:], k.r.Read32(regRAH))
	copy(k.mac[:], b[:6])
	if k.mac == ([6]byte{}) || k.mac[0]&1 != 0 {
		return fmt.Errorf("the device's EEPROM has no valid address: % x", k.mac)
	}
	return nil
}

// setup makes everything but the queues as we want it.
func (k *Card) setup() {
	k.set(regCTRLEXT, ctrlExtDriver|ctrlExtNoSnoop)
	k.setupLink()
	k.setupReceive()
	k.setupTransmit()
	k.setupInterrupts()
	k.setupCounters()
	k.route()
}

// setupLink starts the link. What kind it is the EEPROM has said (section
// 3.7.4). Pause frames are neither sent nor obeyed: one station must not stop a
// gateway.
func (k *Card) setupLink() {
	k.r.Write32(regFCCFG, 0)
	k.r.Write32(regMFLCN, mflcnDiscard)
	if fibre(k.device.ID()) {
		k.r.Write32(regESDP, k.r.Read32(regESDP)&^esdpLaserOff|esdpLaserOut)
	}
	k.r.Write32(regAUTOC, k.r.Read32(regAUTOC)&^autocKeep|autocRestart)
}

// setupReceive prepares filters and the way of frames to queues (section 4.6.7).
func (k *Card) setupReceive() {
	for i := range tableRegs {
		k.r.Write32(regMTA+4*i, 0)
		k.r.Write32(regVFTA+4*i, 0)
	}
	k.r.Write32(regVLNCTRL, 0) // all VLANs, and tags stay in the frames
	hlreg := k.r.Read32(regHLREG0) | hlregCRC | hlregStrip | hlregPad
	if k.mtu > 1500 {
		hlreg |= hlregJumbo
	}
	k.r.Write32(regHLREG0, hlreg)
	// A tag does not count.
	k.r.Write32(regMAXFRS, uint32(k.mtu+headerLen+fcsLen)<<16)
	k.r.Write32(regRDRXCTL, k.r.Read32(regRDRXCTL)&^rdrxctlFirst|rdrxctlStrip|rdrxctlFixed)
	for i := range drivers.RSSKeyLen / 4 {
		k.r.Write32(regRSSRK+4*i, binary.LittleEndian.Uint32(k.rss.Key[4*i:]))
	}
	for i := range pools {
		k.r.Write32(regPSRTYPE+4*i, 0) // no splitting
		k.r.Write32(regPFVML2FLT+4*i, 0)
	}
	if k.pools {
		k.r.Write32(regMRQC, mrqcPools)
		k.r.Write32(regVTCTL, vtEnable|vtNoDefault|vtReplicate)
	} else {
		k.r.Write32(regMRQC, mrqcRSS|mrqcTCP4|mrqcIPv4|mrqcTCP6|mrqcIPv6)
		k.r.Write32(regVTCTL, 0)
	}
	// Groups are all received: solicited-node addresses of neighbour discovery
	// are many, and the worker looks at them anyway.
	k.r.Write32(regFCTRL, fctrlBroadcast|fctrlGroups)
	// The path opens while nothing is on it.
	k.set(regSECRXCTRL, secrxHold)
	_ = k.wait(regSECRXSTAT, secrxHeld, secrxHeld, 10*time.Millisecond)
	k.set(regRXCTRL, rxctrlEnable)
	k.clear(regSECRXCTRL, secrxHold)
}

// setupTransmit prepares the way of frames to the wire (section 4.6.8).
func (k *Card) setupTransmit() {
	k.set(regRTTDCS, rttdcsHold) // MTQC must not change while frames are sent
	mtqc := uint32(0)
	if k.pools {
		mtqc = mtqcPools
	}
	k.r.Write32(regMTQC, mtqc)
	k.clear(regRTTDCS, rttdcsHold)
	k.r.Write32(regPFDTXGSWC, 0)
	k.set(regDMATXCTL, dmatxEnable)
}

// setupInterrupts makes an interrupt clear its cause and turn itself off
// (section 7.3.4). Nothing is on yet.
func (k *Card) setupInterrupts() {
	k.r.Write32(regGPIE, gpieMSIX|gpieEIAME|gpiePBA)
	k.r.Write32(regEIAC, 0xffff)
	k.r.Write32(regEIAMEx, allOnes)
	k.r.Write32(regEIAMEx+4, allOnes)
	for v := range maxVectors {
		reg := regEITR + 4*v
		if v >= 24 {
			reg = regEITRMore + 4*(v-24)
		}
		k.r.Write32(reg, 0)
		k.r.Write32(regIVAR+4*v, 0)
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
		k.r.Write32(regRQSMR+q, v)
	}
	for reg := statFirst; reg <= statLast; reg += 4 {
		_ = k.r.Read32(reg)
	}
	for i := range counterSets {
		_ = k.r.Read32(statDropped + i*stride)
	}
}

// counters returns the set of counters of a device's queue. With pools, several
// may have one: then whose port reads it first counts what it has.
func (k *Card) counters(hardware int) int {
	if k.pools {
		hardware /= queuesOfPool
	}
	return hardware % counterSets
}

// dropped returns how many frames a queue had no buffers for since this was last
// asked.
func (k *Card) dropped(q int) uint64 {
	if v := k.r.Read32(statDropped + k.counters(k.hardware(q))*stride); v != allOnes {
		return uint64(v)
	}
	return 0
}

// admit checks that a port's address can be received beside those of the
// others. The caller holds k.mu.
func (k *Card) admit(p *Port) error {
	var have [][6]byte
	for _, o := range k.ports {
		if k.pools && o.mac == p.mac {
			return fmt.Errorf("address % x is queue %d's: %w", p.mac, o.share.Queues[0]+1, drivers.ErrBusy)
		}
		have = append(have, o.mac)
	}
	slices.SortFunc(have, func(a, b [6]byte) int { return slices.Compare(a[:], b[:]) })
	if len(slices.Compact(have)) >= addresses-1 && !slices.Contains(have, p.mac) {
		return fmt.Errorf("the device receives %d addresses, and has as many: %w", addresses, drivers.ErrUnsupported)
	}
	return nil
}

// route has the device receive the ports' addresses, and tells it which queue
// gets what: by the hash, or by the address. The caller holds k.mu, or is alone.
func (k *Card) route() {
	if k.gone.Load() {
		return
	}
	at := 0
	filter := func(mac [6]byte, ofPools uint64) {
		k.r.Write32(regMPSAR+8*at, uint32(ofPools))
		k.r.Write32(regMPSAR+8*at+4, uint32(ofPools>>32))
		k.r.Write32(regRAL+8*at, binary.LittleEndian.Uint32(mac[:]))
		k.r.Write32(regRAH+8*at, uint32(binary.LittleEndian.Uint16(mac[4:]))|rahValid)
		at++
	}
	var open []int
	var all uint64
	for i, p := range k.ports {
		open = append(open, p.share.Queues...)
		bit := uint64(1) << p.share.Queues[0]
		all |= bit
		if k.pools {
			filter(p.mac, bit)
		} else if !slices.ContainsFunc(k.ports[:i], func(o *Port) bool { return o.mac == p.mac }) {
			filter(p.mac, 1)
		}
	}
	for ; at < addresses; at++ {
		k.r.Write32(regRAH+8*at, 0)
		k.r.Write32(regRAL+8*at, 0)
		k.r.Write32(regMPSAR+8*at, 0)
		k.r.Write32(regMPSAR+8*at+4, 0)
	}
	if k.pools {
		for p := range pools {
			v := uint32(0)
			if all>>p&1 != 0 {
				v = l2fltUntagged | l2fltBroadcast | l2fltGroups
			}
			k.r.Write32(regPFVML2FLT+4*p, v)
		}
		for i := range 2 {
			k.r.Write32(regPFVFRE+4*i, uint32(all>>(32*i)))
			k.r.Write32(regPFVFTE+4*i, uint32(all>>(32*i)))
		}
		return
	}
	slices.Sort(open)
	// ARP has no hash. It would go to the first of the device's queues, which may
	// be nobody's.
	if len(open) > 0 {
		k.r.Write32(regETQS, etqsEnable|uint32(open[0])<<etqsQueue)
		k.r.Write32(regETQF, etqfARP)
	}
	var table [retaSize]uint8
	nic.Spread(table[:], open, k.rss.Table)
	for i := 0; i < retaSize; i += 4 {
		k.r.Write32(regRETA+i, binary.LittleEndian.Uint32(table[i:]))
	}
}

// interrupts sends a receive queue's interrupts to a vector (section 8.2.3.5.16).
func (k *Card) interrupts(q, vector int) {
	q = k.hardware(q)
	reg, shift := regIVAR+4*(q/2), q%2*16
	v := k.r.Read32(reg) &^ (0xff << shift)
	k.r.Write32(reg, v|uint32(ivarValid|vector)<<shift)
}

// Close stops the device.
func (k *Card) Close() error {
	if k.answers() {
		_ = k.reset()
	}
	err := k.events.Close(k.device)
	if e := pci.SetMaster(k.device, false); e != nil && !pci.Gone(k.device) {
		err = errors.Join(err, e)
	}
	return err
}
