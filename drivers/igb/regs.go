package igb

import (
	"vita/drivers/internal/gbe"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// Registers that this family has to itself (82576 data sheet, chapter 8).
const (
	regGPIE     = 0x1514 // 8.8: how interrupts are raised
	gpieNSICR   = 1 << 0 // reading ICR clears it
	gpieMSIX    = 1 << 4
	gpieEIAME   = 1 << 30 // an interrupt that is raised turns itself off
	gpiePBA     = 1 << 31
	regEICR     = 0x1580 // causes; written ones are cleared
	regEIMS     = 0x1524 // interrupts that are on, by vector
	regEIMC     = 0x1528
	regEIAC     = 0x152c // their causes are cleared by being raised
	regEIAM     = 0x1530 // and they turn themselves off
	regEITR     = 0x1680 // time between interrupts, by vector
	regIVAR     = 0x1700 // which vector a queue's interrupts go to
	ivarValid   = 1 << 7
	regRLPML    = 0x5004 // longest frame that is received, with check sequence
	maxVectors  = 16
	rxQueue     = 0xc000 // 8.10: 16 queues
	txQueue     = 0xe000 // 8.12
	stride      = 0x40
	qSRRCTL     = 0x0c
	srrctlOne   = 1 << 25 // DESCTYPE: advanced, one buffer
	srrctlDrop  = 1 << 31 // Drop_En: a frame without a buffer does not hold up other queues
	qControl    = 0x28
	qEnable     = 1 << 25
	qDropped    = 0x30 // RQDPC
	rssQueues   = 2    // MRQC: several queues, by RSS
	prefetch    = 8    // PTHRESH: descriptors on the chip below which more are fetched
	available   = 8    // HTHRESH: as far as there are so many
	dtypData    = 3 << 20
	dext        = 1 << 29
	rxErr       = 1 << 31 // RXE
	payloadMask = (1<<18 - 1) << 46
	fcsLen      = 4

	// Pools (82576 data sheet 7.10.3 and 8.14).
	pools          = 8
	regVTCTL       = 0x581c
	vtNoDefault    = 1 << 29 // what is for no pool is not received
	vtReplicate    = 1 << 30 // what is for several goes to all of them
	regVMOLR       = 0x5ad0
	vmolrLong      = 1 << 16
	vmolrUntagged  = 1 << 24 // AUPE
	vmolrTable     = 1 << 25 // ROMPE
	vmolrBroadcast = 1 << 27
	vmolrGroups    = 1 << 28
	vmolrStripFCS  = 1 << 31
	regRPLOLR      = 0x5af0 // of frames that are replicated
	regVFRE        = 0x0c8c // pools that receive
	regVFTE        = 0x0c90 // and send
	regMTA         = 0x5200
	mtaRegs        = 128
)

// family is what the chips have in their own places.
//
// Descriptors are written back as they are used (WTHRESH 0): a threshold would
// keep the last frames of a burst until a timer ends that needs interrupts. For
// sending, one report for each batch does the same without delay.
var family = gbe.Family{
	Name: "igb",
	Queues: func(id pci.ID) int { // i350 7.1.2.7; i210 7.1.2.9
		switch id.Device {
		case 0x1521, 0x150e:
			return 8
		case 0x1533, 0x157b:
			return 4
		case 0x1539:
			return 2
		}
		return 16 // 82576 7.1.1
	},
	Pools: func(id pci.ID) int { // VMDq: 82576 7.10.3, i350 7.8.3; the i210 has none
		switch id.Device {
		case 0x1533, 0x157b, 0x1539:
			return 0
		}
		return 8
	},
	RxQueue: rxQueue, TxQueue: txQueue, Stride: stride,
	ICR: 0x1500, IMC: 0x150c,
	RxErrors:  rxErr,
	TxCommand: dtypData | dext, TxPayload: payloadMask, // 7.2.2.3
	RSS:     rssQueues,
	NoHash:  true,
	Vectors: maxVectors,
}

// card is an open device.
type card struct{ gbe.Card }

// StartRx turns a queue on (4.5.9). Its tail may be written only then.
func (k *card) StartRx(q, buffer int) {
	at := k.RxRegisters(q)
	k.R.Write32(at+qSRRCTL, uint32(buffer>>10)|srrctlOne|srrctlDrop)
	k.turnOn(at)
}

// StartTx turns a queue on.
func (k *card) StartTx(q int) { k.turnOn(k.TxRegisters(q)) }

func (k *card) turnOn(at int) {
	k.R.Write32(at+qControl, prefetch|available<<8|qEnable)
	_ = k.Wait(at+qControl, qEnable, qEnable)
}

// StopRx turns a queue off.
func (k *card) StopRx(q int) bool { return k.turnOff(k.RxRegisters(q)) }

// StopTx turns a queue off.
func (k *card) StopTx(q int) bool { return k.turnOff(k.TxRegisters(q)) }

// turnOff turns a queue off. The device ends what it is at, and then says that it
// is off.
func (k *card) turnOff(at int) bool {
	k.R.Write32(at+qControl, 0)
	return k.Wait(at+qControl, qEnable, 0)
}

// Arm turns an interrupt on, without what came of frames that were taken since it
// was raised.
func (k *card) Arm(p *nic.Port) {
	k.R.Write32(regEICR, 1<<p.Vector)
	k.R.Write32(regEIMS, 1<<p.Vector)
}

// Dropped reads how many frames a queue had no buffers for.
func (k *card) Dropped(q int) uint64 { return k.Counted(k.RxRegisters(q) + qDropped) }

// Prepare prepares interrupts and the length of frames. What is longer than a
// frame with a tag may be is not received, whatever its queue's buffers have
// room for.
func (k *card) Prepare() {
	k.R.Write32(regEIMC, 1<<32-1)
	k.R.Write32(regGPIE, gpieNSICR|gpieMSIX|gpieEIAME|gpiePBA)
	k.R.Write32(regEIAC, 1<<maxVectors-1)
	k.R.Write32(regEIAM, 1<<maxVectors-1)
	for v := range maxVectors {
		k.R.Write32(regEITR+4*v, 0)
	}
	k.R.Write32(regRLPML, uint32(k.Max+fcsLen))
}

// SetPools turns pools on and off. Without a pool for it, a frame is not
// received; groups go to all pools.
func (k *card) SetPools(open uint32) {
	k.R.Write32(regVTCTL, vtReplicate|vtNoDefault)
	for i := range mtaRegs { // groups that match the table go to pools that take such
		k.R.Write32(regMTA+4*i, 1<<32-1)
	}
	for p := range pools {
		v := uint32(0)
		if open>>p&1 != 0 {
			v = vmolrUntagged | vmolrTable | vmolrBroadcast | vmolrGroups | vmolrStripFCS | vmolrLong | uint32(k.Max+fcsLen)
		}
		k.R.Write32(regVMOLR+4*p, v)
	}
	k.R.Write32(regRPLOLR, vmolrStripFCS)
	k.R.Write32(regVFRE, open)
	k.R.Write32(regVFTE, 1<<pools-1)
}

// Route sends a receive queue's interrupts to a vector. The 82576 has queues n
// and n+8 in one register, the others 2n and 2n+1 (82576 7.3.2.3; i350 7.3.2.2).
func (k *card) Route(q, vector int) {
	reg, shift := regIVAR+4*(q/2), q%2*16
	switch k.ID.Device {
	case 0x10c9, 0x10e8, 0x150a, 0x1526:
		reg, shift = regIVAR+4*(q%8), q/8*16
	}
	v := k.R.Read32(reg) &^ (0xff << shift)
	k.R.Write32(reg, v|uint32(ivarValid|vector)<<shift)
}
