// Package gbe drives what Intel's gigabit controllers have in common: reset,
// link, addresses and counters. What they do not is in a Family, which packages
// igb and e1000e hold.
package gbe

// Registers, and their bits as far as we use them. They are described in the
// 82576 data sheet, chapter 8, and in the 82574 data sheet, chapter 10, and are
// where they are in both.
const (
	regCTRL         = 0x0000
	ctrlMasterStop  = 1 << 2  // GIO master disable: no new use of memory
	ctrlLinkUp      = 1 << 6  // SLU
	ctrlRxFlow      = 1 << 27 // RFCE
	ctrlTxFlow      = 1 << 28 // TFCE
	ctrlVLANStrip   = 1 << 30 // VME
	ctrlReset       = 1 << 26 // RST
	regSTATUS       = 0x0008
	statusLink      = 1 << 1 // LU
	statusSpeed     = 6      // two bits: 10, 100, 1000, 1000 Mbit/s
	statusMaster    = 1 << 19
	regEECD         = 0x0010
	eecdLoaded      = 1 << 9 // the registers have what the EEPROM says
	regCTRLEXT      = 0x0018
	ctrlExtDriver   = 1 << 28 // DRV_LOAD: firmware leaves the link alone
	regMDIC         = 0x0020
	mdicWrite       = 1 << 26
	mdicRead        = 2 << 26
	mdicReady       = 1 << 28
	mdicError       = 1 << 30
	icrLink         = 1 << 2 // LSC: the link has changed
	regRCTL         = 0x0100
	rctlEnable      = 1 << 1
	rctlMulticast   = 1 << 4 // MPE: all groups
	rctlLong        = 1 << 5 // LPE
	rctlBroadcast   = 1 << 15
	rctlStripFCS    = 1 << 26 // SECRC
	regTCTL         = 0x0400
	tctlEnable      = 1 << 1
	tctlPad         = 1 << 3 // PSP: short frames
	tctlCollision   = 15 << 4
	tctlDistance    = 63 << 12
	tctlRetransmit  = 1 << 24
	regRXCSUM       = 0x5000
	rxcsumPCSD      = 1 << 13 // descriptors have the hash in place of a checksum
	regRAL          = 0x5400  // eight bytes an address
	regRAH          = 0x5404
	rahPools        = 18 // POOLSEL
	rahValid        = 1 << 31
	addresses       = 16
	regMRQC         = 0x5818
	mrqcPools       = 3 // queues by address
	mrqcFirst       = 3 // Def.Q, three bits
	mrqcMostFirst   = 7
	mrqcTCP4        = 1 << 16
	mrqcIPv4        = 1 << 17
	mrqcIPv6        = 1 << 20
	regRETA         = 0x5c00
	retaSize        = 128
	regRSSRK        = 0x5c80
	allOnes         = 0xffffffff
	mtaFirst        = 0x5200
	tableRegs       = 128
	phyControl      = 0 // IEEE 802.3, 22.2.4.1
	phyRestart      = 1 << 9
	phyPowerDown    = 1 << 11
	phyNegotiate    = 1 << 12
	phyAddress      = 1 << 21 // in MDIC: the controller's own PHY
	phyRegisterBits = 16
)

// Counters. Each is zero once it has been read.
const (
	statCRC       = 0x4000 // CRCERRS
	statAlign     = 0x4004 // ALGNERRC
	statRxErr     = 0x400c // RXERRC
	statMissed    = 0x4010 // MPC: no room in the packet buffer
	statExcess    = 0x4018 // ECOL: collided too often, not sent
	statLate      = 0x4020 // LATECOL
	statLength    = 0x4040 // RLEC
	statRxBcast   = 0x4078 // BPRC
	statRxMcast   = 0x407c // MPRC
	statFragment  = 0x40a8 // RFC: short, and the check sequence wrong
	statOversize  = 0x40ac // ROC
	statJabber    = 0x40b0 // RJC
	statUndersize = 0x40a4 // RUC
	statTxMcast   = 0x40f0 // MPTC
	statTxBcast   = 0x40f4 // BPTC
)
