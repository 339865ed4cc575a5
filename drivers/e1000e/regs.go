package e1000e

import (
	"vita/drivers/internal/gbe"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// Registers that this chip has to itself (82574 data sheet, chapter 10).
const (
	regCTRLEXT  = 0x0018
	extEIAME    = 1 << 24 // an interrupt that is raised turns those in IAM off
	extPBA      = 1 << 31
	regICR      = 0x00c0
	regIMS      = 0x00d0
	regEIAC     = 0x00dc // causes that are cleared by being raised
	regIAM      = 0x00e0
	regIVAR     = 0x00e4 // which vector a cause goes to
	ivarValid   = 1 << 3
	ivarBits    = 4 // of a cause: receive queues 0 and 1 first
	causeRx0    = 1 << 20
	causeRx1    = 1 << 21
	regEITR     = 0x00e8
	regRCTL     = 0x0100
	rctlEnable  = 1 << 1
	rctlKiB     = 27 // FLXBUF: size of buffers in KiB
	regTCTL     = 0x0400
	tctlEnable  = 1 << 1
	rxQueue     = 0x2800
	txQueue     = 0x3800
	stride      = 0x100
	qHead       = 0x10
	qTail       = 0x18
	qLength     = 0x08
	qControl    = 0x28
	granularity = 1 << 24 // thresholds count descriptors
	always      = 1 << 22 // of sending: must be set (10.2.6.10)
	qARC        = 0x40    // TARC, of sending
	arcEnable   = 1 << 10
	regRFCTL    = 0x5008
	rfctlExt    = 1 << 15 // EXSTEN: descriptors of the extended format
	rssQueues   = 1       // MRQC: two queues, by RSS
	rxErrors    = 1<<24 | 1<<25 | 1<<26 | 1<<28 | 1<<31
	prefetch    = 8
	available   = 8
	vectors     = 2
)

// family is what the chip has in its own places.
//
// A frame for sending needs no context, so the descriptors of the legacy format
// do, whose words have all in the places that the later formats have (7.2.5).
// Queues cannot be turned on and off one by one: all are held while one changes.
var family = gbe.Family{
	Name:    "e1000e",
	Queues:  func(pci.ID) int { return 2 },
	RxQueue: rxQueue, TxQueue: txQueue, Stride: stride,
	ICR: regICR, IMC: 0x00d8,
	RxErrors:  rxErrors,
	RSS:       rssQueues,
	RETAShift: 7, // 10.2.5.10
	Vectors:   vectors,
}

// card is an open device.
type card struct{ gbe.Card }

// Prepare prepares interrupts and the form of descriptors.
func (k *card) Prepare() {
	k.R.Write32(regRFCTL, rfctlExt)
	k.R.Write32(regCTRLEXT, k.R.Read32(regCTRLEXT)|extEIAME|extPBA)
	k.R.Write32(regIVAR, 0)
	k.R.Write32(regEIAC, causeRx0|causeRx1)
	k.R.Write32(regIAM, causeRx0|causeRx1)
	for v := range vectors {
		k.R.Write32(regEITR+4*v, 0)
	}
	for q := range 2 { // a queue that no port has takes nothing
		k.rewind(k.RxRegisters(q))
		k.rewind(k.TxRegisters(q))
	}
}

// rewind makes a queue one without descriptors.
func (k *card) rewind(at int) {
	k.R.Write32(at+qLength, 0)
	k.R.Write32(at+qHead, 0)
	k.R.Write32(at+qTail, 0)
}

// StartRx sets the size of buffers, which all queues share: the smallest that a
// port has is right for all (10.2.5.1).
func (k *card) StartRx(q, buffer int) {
	k.R.Write32(k.RxRegisters(q)+qControl, prefetch|available<<8|granularity)
	v := k.R.Read32(regRCTL)
	if have := v >> rctlKiB & 15; have != 0 {
		buffer = min(buffer, int(have)<<10)
	}
	k.R.Write32(regRCTL, v&^(15<<rctlKiB)|uint32(buffer>>10)<<rctlKiB)
}

// StartTx turns a queue on.
func (k *card) StartTx(q int) {
	at := k.TxRegisters(q)
	k.R.Write32(at+qControl, prefetch|available<<8|always|granularity)
	k.Set(at+qARC, arcEnable)
}

// StopRx takes a queue's descriptors away.
func (k *card) StopRx(q int) bool {
	return k.Hold(regRCTL, rctlEnable, func() { k.rewind(k.RxRegisters(q)) })
}

// StopTx takes a queue's descriptors away when it has sent what it had.
func (k *card) StopTx(q int) bool {
	k.Drain(k.TxRegisters(q))
	return k.Hold(regTCTL, tctlEnable, func() { k.rewind(k.TxRegisters(q)) })
}

// SetPools has nothing to do: there are none.
func (k *card) SetPools(uint32) {}

// Dropped is none: they are counted for the device alone.
func (k *card) Dropped(int) uint64 { return 0 }

// Route sends a receive queue's interrupts to a vector (7.4.2 and 10.2.4.9).
func (k *card) Route(q, vector int) {
	shift := q * ivarBits
	v := k.R.Read32(regIVAR) &^ (15 << shift)
	k.R.Write32(regIVAR, v|uint32(ivarValid|vector)<<shift)
}

// Arm turns interrupts on, without those of frames that were taken since they
// were raised.
func (k *card) Arm(p *nic.Port) {
	var v uint32
	for _, q := range p.Queues {
		v |= causeRx0 << q
	}
	k.R.Write32(regICR, v)
	k.R.Write32(regIMS, v)
}
