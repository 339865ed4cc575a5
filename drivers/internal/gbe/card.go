package gbe

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

// Family is what the chips of one driver have in their own places.
type Family struct {
	Name   string
	Chips  []nic.Chip
	Queues func(pci.ID) int // pairs of queues of a chip that a hash can tell apart
	Pools  func(pci.ID) int // queues that addresses can be given to; nil or 0: none

	RxQueue, TxQueue, Stride int    // first registers of the queues, and how far apart they are
	ICR, IMC                 int    // registers of interrupt causes, and of those that are off
	RxErrors                 uint64 // bits of a receive descriptor's second word
	TxCommand, TxPayload     uint64 // see intel.TxOptions
	RSS                      uint32 // MRQC: hash, and spread by it
	NoHash                   bool   // MRQC says which queue frames without a hash go to
	RETAShift                uint   // where a byte of the redirection table has the queue
	RxControl                uint32 // RCTL: what descriptors and buffers are like
	Vectors                  int    // interrupts that it can use
}

// Chip is a card of one driver: what its chips do in their own way. It embeds a
// Card.
type Chip interface {
	intel.Queues
	Prepare()             // after a reset, before queues start: interrupts, forms of descriptors
	SetPools(open uint32) // queues, a bit each, that get what is for their address, and all groups
}

// Card is what an open device is for all drivers.
type Card struct {
	intel.Card
	F  *Family
	ID pci.ID

	chip Chip
	n    int // pairs of queues
}

const (
	regsSize  = 0x10000  // bytes of registers that we use
	maxBuffer = 15 << 10 // the 82574 counts KiB in four bits
)

// Begin resets a device and makes it ready for queues.
func (k *Card) Begin(f *Family, chip Chip, d pci.Device, c *drivers.Config) error {
	k.F, k.ID, k.chip, k.n = f, d.ID(), chip, f.Queues(d.ID())
	if f.Pools != nil && f.Pools(k.ID) > 0 && intel.WantsPool(c) {
		k.Pools, k.n = true, f.Pools(k.ID)
	}
	return k.Card.Begin(f.Name, intel.Form{
		Registers: regsSize, Vectors: f.Vectors, MAC: regRAL, Addresses: addresses, MaxBuffer: maxBuffer,
		RxErrors: f.RxErrors, TxCommand: f.TxCommand, Payload: f.TxPayload,
	}, chip, d, c)
}

// Queues returns how many pairs of queues the device has.
func (k *Card) Queues() int { return k.n }

// RxRegisters returns the first register of a queue for receiving.
func (k *Card) RxRegisters(q int) int { return k.F.RxQueue + q*k.F.Stride }

// TxRegisters returns the first register of a queue for sending.
func (k *Card) TxRegisters(q int) int { return k.F.TxQueue + q*k.F.Stride }

// stop ends the device's use of memory (82576 data sheet 5.2.3.3; 82574 data
// sheet 5.2.4): the transactions under way come to their end.
func (k *Card) stop() {
	k.R.Write32(k.F.IMC, allOnes)
	k.R.Write32(regRCTL, 0)
	k.R.Write32(regTCTL, tctlPad)
	k.R.Write32(regCTRL, k.R.Read32(regCTRL)|ctrlMasterStop)
	_ = k.Await(regSTATUS, statusMaster, 0, 100*time.Millisecond) // or the reset ends them
}

// Reset brings the device to the state after power up, as far as its functions
// are concerned (82576 data sheet 4.2.1.6 and 4.5; 82574 data sheet 4.6).
func (k *Card) Reset() error {
	if k.R.Read32(regSTATUS) == allOnes {
		return nic.ErrGone
	}
	k.stop()
	k.R.Write32(regCTRL, k.R.Read32(regCTRL)|ctrlReset)
	time.Sleep(time.Millisecond) // registers must not be read at once
	if !k.Await(regCTRL, ctrlReset, 0, 100*time.Millisecond) {
		return errors.New("the device does not come out of its reset")
	}
	if k.R.Read32(regSTATUS) == allOnes {
		return nic.ErrGone
	}
	_ = k.Await(regEECD, eecdLoaded, eecdLoaded, 20*time.Millisecond) // a card without an EEPROM never says so
	k.R.Write32(k.F.IMC, allOnes)
	_ = k.R.Read32(k.F.ICR)
	return nil
}

// Setup makes everything but the queues as we want it.
func (k *Card) Setup() error {
	k.R.Write32(regCTRLEXT, k.R.Read32(regCTRLEXT)|ctrlExtDriver)
	// Tags stay in the frames. Pause frames are neither sent nor obeyed: one
	// station must not stop a gateway.
	ctrl := k.R.Read32(regCTRL)
	k.R.Write32(regCTRL, ctrl&^(ctrlVLANStrip|ctrlRxFlow|ctrlTxFlow|ctrlMasterStop)|ctrlLinkUp)
	for i := range tableRegs {
		k.R.Write32(mtaFirst+4*i, 0)
	}
	_ = k.Direct()
	k.R.Write32(regRXCSUM, rxcsumPCSD)
	for i := range drivers.RSSKeyLen / 4 {
		k.R.Write32(regRSSRK+4*i, binary.LittleEndian.Uint32(k.RSS.Key[4*i:]))
	}
	k.chip.Prepare()
	for reg := 0x4000; reg < 0x4100; reg += 4 { // what was counted before
		_ = k.R.Read32(reg)
	}
	k.R.Write32(regTCTL, tctlEnable|tctlPad|tctlCollision|tctlDistance|tctlRetransmit)
	k.R.Write32(regRCTL, k.rxControl()|rctlEnable)
	k.negotiate()
	return nil
}

// rxControl returns what RCTL is to be, but for the bit that turns receiving
// on. Groups are all received: solicited-node addresses of neighbour discovery
// are many, and the worker looks at them anyway.
func (k *Card) rxControl() uint32 {
	v := uint32(rctlMulticast | rctlBroadcast | rctlStripFCS)
	if k.MTU > 1500 {
		v |= rctlLong
	}
	return v | k.F.RxControl
}

// negotiate starts the negotiation of the link. A PHY that has just been reset
// does so by itself, but not all of them (IEEE 802.3, 22.2.4.1 and 28).
func (k *Card) negotiate() {
	v, ok := k.phyRead(phyControl)
	if !ok {
		return // a card whose link is no copper
	}
	k.phyWrite(phyControl, v&^phyPowerDown|phyNegotiate|phyRestart)
}

// phyRead reads a register of the PHY (82576 data sheet 8.2.4; 82574 data sheet
// 10.2.2.7).
func (k *Card) phyRead(reg int) (uint16, bool) {
	k.R.Write32(regMDIC, mdicRead|phyAddress|uint32(reg)<<phyRegisterBits)
	if !k.Wait(regMDIC, mdicReady, mdicReady) {
		return 0, false
	}
	v := k.R.Read32(regMDIC)
	return uint16(v), v&mdicError == 0
}

func (k *Card) phyWrite(reg int, v uint16) {
	k.R.Write32(regMDIC, mdicWrite|phyAddress|uint32(reg)<<phyRegisterBits|uint32(v))
	_ = k.Wait(regMDIC, mdicReady, mdicReady)
}

// Direct has the device receive the addresses of its ports and, unless they have
// one each, its own; and tells it which queue gets what: by address or by hash.
func (k *Card) Direct() error {
	at := 0
	filter := func(mac [6]byte, pools uint32) {
		k.R.Write32(regRAH+8*at, 0)
		k.R.Write32(regRAL+8*at, binary.LittleEndian.Uint32(mac[:]))
		k.R.Write32(regRAH+8*at, uint32(binary.LittleEndian.Uint16(mac[4:]))|pools<<rahPools|rahValid)
		at++
	}
	if !k.Pools {
		filter(k.MAC, 0)
	}
	var all uint32
	for i, p := range k.Ports {
		all |= 1 << p.Queues[0]
		if k.Pools {
			filter(p.MAC, 1<<p.Queues[0])
		} else if p.MAC != k.MAC && !slices.ContainsFunc(k.Ports[:i], func(o *nic.Port) bool { return o.MAC == p.MAC }) {
			filter(p.MAC, 0)
		}
	}
	for ; at < addresses; at++ {
		k.R.Write32(regRAH+8*at, 0)
		k.R.Write32(regRAL+8*at, 0)
	}
	if k.Pools {
		k.chip.SetPools(all)
		k.R.Write32(regMRQC, mrqcPools)
		return nil
	}
	open := k.Open()
	var table [retaSize]uint8
	nic.Spread(table[:], open, k.RSS.Table)
	for i := range table {
		table[i] <<= k.F.RETAShift
	}
	for i := 0; i < retaSize; i += 4 {
		k.R.Write32(regRETA+i, binary.LittleEndian.Uint32(table[i:]))
	}
	first := 0
	if len(open) > 0 {
		first = open[0]
	}
	k.R.Write32(regMRQC, k.mrqc(first))
	return nil
}

// mrqc returns what MRQC is to be. What has no hash, as ARP, goes to the lowest
// queue that is open, where the chip can be told.
func (k *Card) mrqc(first int) uint32 {
	v := k.F.RSS | mrqcTCP4 | mrqcIPv4 | mrqcIPv6
	if k.F.NoHash && first <= mrqcMostFirst {
		v |= uint32(first) << mrqcFirst
	}
	return v
}

// Sync reads the link and the counters.
func (k *Card) Sync(p *nic.Port) (nic.State, error) {
	v := k.R.Read32(regSTATUS)
	if v == allOnes {
		return nic.State{}, nic.ErrGone
	}
	s := p.Stats()
	k.Count(p, []intel.Counter{
		{Reg: statRxMcast, To: &s.RxMcast},
		{Reg: statRxBcast, To: &s.RxBcast},
		{Reg: statTxMcast, To: &s.TxMcast},
		{Reg: statTxBcast, To: &s.TxBcast},
		{Reg: statMissed, To: &s.RxDrop},
		{Reg: statCRC, To: &s.RxErrors},
		{Reg: statAlign, To: &s.RxErrors},
		{Reg: statRxErr, To: &s.RxErrors},
		{Reg: statLength, To: &s.RxErrors},
		{Reg: statFragment, To: &s.RxErrors},
		{Reg: statOversize, To: &s.RxErrors},
		{Reg: statJabber, To: &s.RxErrors},
		{Reg: statUndersize, To: &s.RxErrors},
		{Reg: statExcess, To: &s.TxErrors},
		{Reg: statLate, To: &s.TxErrors},
	}...)
	return nic.State{
		Up:      v&statusLink != 0,
		Speed:   [...]int{10, 100, 1000, 1000}[v>>statusSpeed&3],
		Blinked: p.Leads() && k.R.Read32(k.F.ICR)&icrLink != 0,
	}, nil
}

// Hold turns receiving or sending off while f changes something that must not
// change meanwhile, and reports whether the device was there to do so.
func (k *Card) Hold(reg int, enable uint32, f func()) bool {
	v := k.R.Read32(reg)
	if v == allOnes {
		return false
	}
	k.R.Write32(reg, v&^enable)
	_ = k.R.Read32(regSTATUS)          // the write has arrived
	time.Sleep(100 * time.Microsecond) // for the frame that is on its way: 9 KB take 74
	f()
	k.R.Write32(reg, v)
	return true
}
