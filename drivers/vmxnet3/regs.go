package vmxnet3

// VMware describes the device by no document but the layout of what it shares
// with its driver, which is what stands here: registers, commands, structures in
// memory, descriptors. All is little-endian. It is revision 1 of the interface,
// which every device has.

// Devices.
const (
	vendor = 0x15ad
	device = 0x07b0
)

// Registers of BAR 0, eight bytes apart, by queue or interrupt.
const (
	regMask = 0x000 // interrupt mask
	regTx   = 0x600 // next descriptor for sending that we fill
	regRx   = 0x800 // the same for receiving, first ring
	regStep = 8

	bar0Size = 0x1000
)

// Registers of BAR 1.
const (
	regRevision   = 0x00 // revisions it has, as bits; written: the one to be used
	regUPT        = 0x08 // the same for the part that it shares with pass-through
	regSharedLow  = 0x10
	regSharedHigh = 0x18
	regCommand    = 0x20 // read: the last command's result
	regMACLow     = 0x28
	regMACHigh    = 0x30
	regEvents     = 0x40 // written: events that we have seen

	bar1Size = 0x1000
	allOnes  = 0xffffffff
	revision = 1
)

// Commands.
const (
	cmdActivate  = 0xcafe0000
	cmdQuiesce   = 0xcafe0001
	cmdReset     = 0xcafe0002
	cmdRxMode    = 0xcafe0003
	cmdVLANs     = 0xcafe0005
	cmdRSSTable  = 0xcafe0006
	cmdGetStats  = 0xf00d0001
	cmdGetLink   = 0xf00d0002
	cmdGetMACLow = 0xf00d0003
	cmdGetMACHi  = 0xf00d0004
)

// What is shared (DriverShared), by offsets.
const (
	shMagic       = 0
	magic         = 0xbabefee1
	shVersion     = 8  // of the driver
	shGuest       = 12 // operating system
	guestLinux64  = 1<<2 | 2
	shRevisions   = 16
	shUPTs        = 20
	shFeatures    = 24
	featRSS       = 1 << 1
	shQueues      = 40 // where the queues are described
	shQueuesLen   = 52
	shMTU         = 56
	shMaxSG       = 60 // 16 bits: descriptors of a received frame
	shTxQueues    = 62 // 8 bits
	shRxQueues    = 63
	shAutoMask    = 80 // 8 bits: an interrupt that is raised masks itself
	shInterrupts  = 81
	shEventVector = 82
	shIntrControl = 108
	shRxMode      = 120
	rxUnicast     = 1 << 0
	rxBroadcast   = 1 << 2
	rxAllMulti    = 1 << 3
	rxPromisc     = 1 << 4
	shVLANs       = 136 // a bit each: those that are received
	vlanBytes     = 512
	shRSS         = 648 // version, length, place
	shEvents      = 696 // 32 bits, written by the device
	evRxError     = 1 << 0
	evTxError     = 1 << 1
	evLink        = 1 << 2
	sharedSize    = 720
)

// How a queue is described, by offsets; those of sending come first.
const (
	qdAsk       = 0 // receiving, 8 bits: the device wants to be told of new buffers
	qdRing      = 16
	qdRing2     = 24 // receiving: a second ring. Sending: headers, which we have no use for
	qdDone      = 32
	qdRingSize  = 56
	qdRing2Size = 60
	qdDoneSize  = 64
	qdVector    = 72
	qdStopped   = 80 // 8 bits
	qdMcast     = 120
	qdBcast     = 136
	qdDrops     = 152 // receiving: no buffer. Sending: errors
	qdErrors    = 160 // receiving: errors. Sending: drops
	queueSize   = 256
)

// RSS, by offsets.
const (
	rssTypes     = 0 // 16 bits each
	rssFunction  = 2
	rssKeyLen    = 4
	rssTableLen  = 6
	rssKey       = 8
	rssTable     = 48
	rssTableSize = 128
	rssSize      = 176

	rssIPv4     = 1 << 0
	rssTCPv4    = 1 << 1
	rssIPv6     = 1 << 2
	rssTCPv6    = 1 << 3
	rssToeplitz = 1
)

// Descriptors are two words of 64 bits. One that the device is to work on, or
// that it has written, is known by its generation: a bit that is 1 in the first
// pass through a ring, 0 in the second, and so on.
//
//	sending     word 0  address
//	            word 1  length(14) generation(1) ... | 32: ... end of frame(44) report(45)
//	sent        word 0  descriptor(12)
//	            word 1  ... generation(63)
//	receiving   word 0  address
//	            word 1  length(14) ... generation(31)
//	received    word 0  descriptor(12) ... end(14) start(15) queue(16, 10) | 32: hash
//	            word 1  length(14) error(14) ... generation(63)
const (
	descIndex = 1<<12 - 1
	descLen   = 1<<14 - 1

	txGen = 14
	txEnd = 1 << 44
	txAsk = 1 << 45

	rxGen = 31

	doneGen    = 63
	rxEnd      = 1 << 14
	rxStart    = 1 << 15
	rxQueue    = 16
	rxQueueMax = 1<<10 - 1
	rxError    = 1 << 14

	ringAlign = 512
)
