package e1000e

import (
	"vita/drivers/internal/gbe"
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

// family is what the chip has to itself.
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
	Setup:     setup,
	StartRx:   startRx,
	StartTx: func(k *gbe.Card, q int) {
		at := txQueue + q*stride
		k.R.Write32(at+qControl, prefetch|available<<8|always|granularity)
		k.R.Write32(at+qARC, k.R.Read32(at+qARC)|arcEnable)
	},
	StopRx: func(k *gbe.Card, q int) bool {
		return k.Hold(regRCTL, rctlEnable, func() { rewind(k, rxQueue+q*stride) })
	},
	StopTx: func(k *gbe.Card, q int) bool {
		at := txQueue + q*stride
		k.Drain(at+qHead, at+qTail)
		return k.Hold(regTCTL, tctlEnable, func() { rewind(k, at) })
	},
	Route:   route,
	Arm:     arm,
	Dropped: func(*gbe.Card, int) uint64 { return 0 }, // counted for the device alone
}

func setup(k *gbe.Card) {
	k.R.Write32(regRFCTL, rfctlExt)
	k.R.Write32(regCTRLEXT, k.R.Read32(regCTRLEXT)|extEIAME|extPBA)
	k.R.Write32(regIVAR, 0)
	k.R.Write32(regEIAC, causeRx0|causeRx1)
	k.R.Write32(regIAM, causeRx0|causeRx1)
	for v := range vectors {
		k.R.Write32(regEITR+4*v, 0)
	}
	for q := range 2 { // a queue that no port has takes nothing
		rewind(k, rxQueue+q*stride)
		rewind(k, txQueue+q*stride)
	}
}

// rewind makes a queue one without descriptors.
func rewind(k *gbe.Card, at int) {
	k.R.Write32(at+qLength, 0)
	k.R.Write32(at+qHead, 0)
	k.R.Write32(at+qTail, 0)
}

// startRx sets the size of buffers, which all queues share: the smallest that a
// port has is right for all (10.2.5.1).
func startRx(k *gbe.Card, q, buffer int) {
	k.R.Write32(rxQueue+q*stride+qControl, prefetch|available<<8|granularity)
	v := k.R.Read32(regRCTL)
	if have := v >> rctlKiB & 15; have != 0 {
		buffer = min(buffer, int(have)<<10)
	}
	k.R.Write32(regRCTL, v&^(15<<rctlKiB)|uint32(buffer>>10)<<rctlKiB)
}

// route sends a receive queue's interrupts to a vector (7.4.2 and 10.2.4.9).
func route(k *gbe.Card, q, vector int) {
	shift := q * ivarBits
	v := k.R.Read32(regIVAR) &^ (15 << shift)
	k.R.Write32(regIVAR, v|uint32(ivarValid|vector)<<shift)
}

func arm(k *gbe.Card, queues []int, _ int) {
	var v uint32
	for _, q := range queues {
		v |= causeRx0 << q
	}
	k.R.Write32(regICR, v) // of frames that were taken since it was raised
	k.R.Write32(regIMS, v)
}
