package gbe

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

// Family is what the chips of one driver have to themselves.
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

	Setup    func(k *Card)                       // after a reset, before queues start: interrupts, forms of descriptors
	StartRx  func(k *Card, q, buffer int)        // makes the size of the queue's buffers known, and turns it on
	StartTx  func(k *Card, q int)                // turns it on
	StopRx   func(k *Card, q int) bool           // turns it off, and reports whether it is
	StopTx   func(k *Card, q int) bool           //
	Route    func(k *Card, q, vector int)        // interrupts of a receive queue go to a vector
	Arm      func(k *Card, qs []int, vector int) // the next frame interrupts, once
	SetPools func(k *Card, open uint32)          // queues, a bit each, that get what is for their address, and all groups
	Dropped  func(k *Card, q int) uint64         // frames that a queue had no buffers for, since it was last asked
}

// Card is an open device.
type Card struct {
	F   *Family
	R   *mmio.Window
	ID  pci.ID
	Max int // bytes of the largest frame, with a VLAN tag and without check sequence

	device   pci.Device
	queues   int
	pools    bool // frames go to queues by their destination
	mac      [6]byte
	mtu      int
	rss      drivers.RSS
	recovery nic.Recovery
	gone     atomic.Bool

	mu     sync.Mutex // over what follows; ports open and close, and a reset
	events *nic.Events
	ports  []*Port
}

const (
	tagLen   = 4
	fcsLen   = 4
	maxMTU   = 9000
	regsSize = 0x10000 // bytes of registers that we use
)

// errGone says that the device no longer answers.
var errGone = errors.New("the device does not answer: it was taken away, or has failed")

// OpenCard resets a device and makes it ready for queues.
func OpenCard(f *Family, d pci.Device, c *drivers.Config) (*Card, error) {
	k := &Card{F: f, device: d, ID: d.ID(), queues: f.Queues(d.ID()), mtu: c.MTU, rss: drivers.RSS{Key: nic.RSSKey}}
	if k.mtu == 0 {
		k.mtu = 1500
	}
	if k.mtu < 68 || k.mtu > maxMTU {
		return nil, fmt.Errorf("MTU %d: the device has 68 to %d: %w", k.mtu, maxMTU, drivers.ErrUnsupported)
	}
	if f.Pools != nil && f.Pools(k.ID) > 0 && wantsPool(c) {
		k.pools, k.queues = true, f.Pools(k.ID)
	}
	k.Max = k.mtu + headerLen + tagLen
	if c.RSS != nil {
		k.rss = *c.RSS
	}
	var err error
	if k.R, err = d.BAR(0); err != nil {
		return nil, err
	}
	if k.R.Size() < regsSize {
		return nil, fmt.Errorf("%d bytes of registers: want %d: %w", k.R.Size(), regsSize, drivers.ErrUnsupported)
	}
	if err := pci.SetMaster(d, true); err != nil {
		return nil, err
	}
	if k.events, err = nic.OpenEvents(d, f.Vectors); err != nil {
		return nil, err
	}
	if err := k.reset(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if err := k.readMAC(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	k.setup()
	return k, nil
}

const headerLen = 14

// wantsPool tells whether a port is one queue with an address of its own. Frames
// with tags would need the pool's VLANs, of which we know nothing.
func wantsPool(c *drivers.Config) bool {
	return c.MAC != [6]byte{} && len(c.Queues) == 1 && c.Every == 0 && !c.Tagged
}

// Queues returns how many pairs of queues the device has.
func (k *Card) Queues() int { return k.queues }

// wait waits until a register has the bits of mask as in want.
func (k *Card) wait(reg int, mask, want uint32, most time.Duration) bool {
	for end := time.Now().Add(most); ; time.Sleep(50 * time.Microsecond) {
		v := k.R.Read32(reg)
		if v&mask == want {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// Wait waits up to ten milliseconds until a register has the bits of mask as in
// want.
func (k *Card) Wait(reg int, mask, want uint32) bool {
	return k.wait(reg, mask, want, 10*time.Millisecond)
}

// stop ends the device's use of memory (82576 data sheet 5.2.3.3; 82574 data
// sheet 5.2.4): the transactions under way come to their end.
func (k *Card) stop() {
	k.R.Write32(k.F.IMC, allOnes)
	k.R.Write32(regRCTL, 0)
	k.R.Write32(regTCTL, tctlPad)
	k.R.Write32(regCTRL, k.R.Read32(regCTRL)|ctrlMasterStop)
	_ = k.wait(regSTATUS, statusMaster, 0, 100*time.Millisecond) // or the reset ends them
}

// reset brings the device to the state after power up, as far as its functions
// are concerned (82576 data sheet 4.2.1.6 and 4.5; 82574 data sheet 4.6).
func (k *Card) reset() error {
	if k.R.Read32(regSTATUS) == allOnes {
		return errGone
	}
	k.stop()
	k.R.Write32(regCTRL, k.R.Read32(regCTRL)|ctrlReset)
	time.Sleep(time.Millisecond) // registers must not be read at once
	if !k.wait(regCTRL, ctrlReset, 0, 100*time.Millisecond) {
		return errors.New("the device does not come out of its reset")
	}
	if k.R.Read32(regSTATUS) == allOnes {
		return errGone
	}
	_ = k.wait(regEECD, eecdLoaded, eecdLoaded, 20*time.Millisecond) // a card without an EEPROM never says so
	k.R.Write32(k.F.IMC, allOnes)
	_ = k.R.Read32(k.F.ICR)
	return nil
}

// readMAC reads the device's address, which the reset has loaded from the
// EEPROM (82576 data sheet 8.10.15; 82574 data sheet 10.2.5.13).
func (k *Card) readMAC() error {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], k.R.Read32(regRAL))
	binary.LittleEndian.PutUint32(b[4:], k.R.Read32(regRAH))
	copy(k.mac[:], b[:6])
	if k.mac == ([6]byte{}) || k.mac[0]&1 != 0 || k.mac == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} {
		return fmt.Errorf("the device's EEPROM has no valid address: % x", k.mac)
	}
	return nil
}

// setup makes everything but the queues as we want it.
func (k *Card) setup() {
	k.R.Write32(regCTRLEXT, k.R.Read32(regCTRLEXT)|ctrlExtDriver)
	// Tags stay in the frames. Pause frames are neither sent nor obeyed: one
	// station must not stop a gateway.
	ctrl := k.R.Read32(regCTRL)
	k.R.Write32(regCTRL, ctrl&^(ctrlVLANStrip|ctrlRxFlow|ctrlTxFlow|ctrlMasterStop)|ctrlLinkUp)
	for i := range tableRegs {
		k.R.Write32(mtaFirst+4*i, 0)
	}
	k.route()
	k.R.Write32(regRXCSUM, rxcsumPCSD)
	for i := range drivers.RSSKeyLen / 4 {
		k.R.Write32(regRSSRK+4*i, binary.LittleEndian.Uint32(k.rss.Key[4*i:]))
	}
	k.F.Setup(k)
	for reg := 0x4000; reg < 0x4100; reg += 4 { // what was counted before
		_ = k.R.Read32(reg)
	}
	k.R.Write32(regTCTL, tctlEnable|tctlPad|tctlCollision|tctlDistance|tctlRetransmit)
	k.R.Write32(regRCTL, k.rxControl()|rctlEnable)
	k.negotiate()
}

// rxControl returns what RCTL is to be, but for the bit that turns receiving
// on. Groups are all received: solicited-node addresses of neighbour discovery
// are many, and the worker looks at them anyway.
func (k *Card) rxControl() uint32 {
	v := uint32(rctlMulticast | rctlBroadcast | rctlStripFCS)
	if k.mtu > 1500 {
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

// admit checks that a port's address can be received beside those of the
// others. The caller holds k.mu.
func (k *Card) admit(p *Port) error {
	have := [][6]byte{k.mac}
	for _, o := range k.ports {
		if k.pools && o.mac == p.mac {
			return fmt.Errorf("address % x is queue %d's: %w", p.mac, o.share.Queues[0]+1, drivers.ErrBusy)
		}
		if !slices.Contains(have, o.mac) {
			have = append(have, o.mac)
		}
	}
	if len(have) >= addresses && !slices.Contains(have, p.mac) {
		return fmt.Errorf("the device receives %d addresses, and has as many: %w", addresses, drivers.ErrUnsupported)
	}
	return nil
}

// route has the device receive the addresses of its ports and, unless they have
// one each, its own; and tells it which queue gets what: by address or by hash.
// The caller holds k.mu, or nobody else has the card.
func (k *Card) route() {
	if k.gone.Load() {
		return
	}
	at := 0
	filter := func(mac [6]byte, pools uint32) {
		k.R.Write32(regRAH+8*at, 0)
		k.R.Write32(regRAL+8*at, binary.LittleEndian.Uint32(mac[:]))
		k.R.Write32(regRAH+8*at, uint32(binary.LittleEndian.Uint16(mac[4:]))|pools<<rahPools|rahValid)
		at++
	}
	if !k.pools {
		filter(k.mac, 0)
	}
	var open []int
	var all uint32
	for i, p := range k.ports {
		open = append(open, p.share.Queues...)
		all |= 1 << p.share.Queues[0]
		if k.pools {
			filter(p.mac, 1<<p.share.Queues[0])
		} else if p.mac != k.mac && !slices.ContainsFunc(k.ports[:i], func(o *Port) bool { return o.mac == p.mac }) {
			filter(p.mac, 0)
		}
	}
	for ; at < addresses; at++ {
		k.R.Write32(regRAH+8*at, 0)
		k.R.Write32(regRAL+8*at, 0)
	}
	if k.pools {
		k.F.SetPools(k, all)
		k.R.Write32(regMRQC, mrqcPools)
		return
	}
	slices.Sort(open)
	var table [retaSize]uint8
	nic.Spread(table[:], open, k.rss.Table)
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

// lost notes that the device is gone.
func (k *Card) lost() { k.gone.Store(true) }

// Close stops the device.
func (k *Card) Close() error {
	if k.R.Read32(regSTATUS) != allOnes {
		k.stop()
		k.R.Write32(regCTRL, k.R.Read32(regCTRL)|ctrlReset)
		time.Sleep(time.Millisecond)
		k.R.Write32(k.F.IMC, allOnes)
	}
	return errors.Join(k.events.Close(k.device), k.master(false))
}

// master lets the device use memory, or not. One that is gone cannot.
func (k *Card) master(on bool) error {
	if err := pci.SetMaster(k.device, on); err != nil && !pci.Gone(k.device) {
		return err
	}
	return nil
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

// Drain waits up to ten milliseconds until the device has sent what a queue has.
func (k *Card) Drain(head, tail int) {
	for end := time.Now().Add(10 * time.Millisecond); k.R.Read32(head) != k.R.Read32(tail) && time.Now().Before(end); {
		time.Sleep(50 * time.Microsecond)
	}
}
