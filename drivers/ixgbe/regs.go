package ixgbe

// Registers, and their bits as far as we use them. They are described in the
// 82599 data sheet, section 8.2.3, and are where they are in the X540 as well.
const (
	regCTRL         = 0x00000
	ctrlMasterStop  = 1 << 2  // no new use of memory
	ctrlReset       = 1 << 26 // RST
	regSTATUS       = 0x00008
	statusMaster    = 1 << 19
	regCTRLEXT      = 0x00018
	ctrlExtNoSnoop  = 1 << 16 // NS_DIS
	ctrlExtDriver   = 1 << 28 // DRV_LOAD: firmware leaves the link alone
	regESDP         = 0x00020
	esdpLaserOff    = 1 << 3  // SDP3: the module's transmitter is off
	esdpLaserOut    = 1 << 11 // SDP3 is an output
	regEICR         = 0x00800 // causes: ones that are written clear them
	eicrVectors     = 16      // of the first vectors
	regEIMS         = 0x00880
	regEIMC         = 0x00888
	regEIAC         = 0x00810 // causes that are cleared by being raised
	regEITR         = 0x00820 // time between interrupts, by vector, of the first 24
	regEITRMore     = 0x12300 // of the others
	regGPIE         = 0x00898
	gpieMSIX        = 1 << 4
	gpieEIAME       = 1 << 30 // an interrupt that is raised turns itself off
	gpiePBA         = 1 << 31
	regIVAR         = 0x00900 // which vector a queue's interrupts go to; two queues a register
	ivarValid       = 1 << 7
	regEIMSEx       = 0x00AA0 // interrupts that are on, by vector
	regEIMCEx       = 0x00AB0
	regEIAMEx       = 0x00AD0 // interrupts that turn themselves off
	regRDRXCTL      = 0x02F00
	rdrxctlStrip    = 1 << 1 // CRCStrip, as HLREG0 has it
	rdrxctlIdle     = 1 << 3 // DMAIDONE: memory is ready
	rdrxctlFirst    = 0x1f << 17
	rdrxctlFixed    = 1<<25 | 1<<26 // RSCACKC, FCOE_WRFIX: must be set
	regRXCTRL       = 0x03000
	rxctrlEnable    = 1 << 0
	regHLREG0       = 0x04240
	hlregCRC        = 1 << 0 // TXCRCEN
	hlregStrip      = 1 << 1 // RXCRCSTRP
	hlregJumbo      = 1 << 2
	hlregPad        = 1 << 10
	hlregLoopback   = 1 << 15
	regMAXFRS       = 0x04268 // longest frame, with check sequence, in the upper half
	regAUTOC        = 0x042A0
	autocRestart    = 1 << 12
	autocKeep       = 1 << 0 // FLU: forces the link up, whatever there is
	regLINKS        = 0x042A4
	linksUp         = 1 << 30
	linksSpeed      = 28 // two bits: none, 100, 1000, 10000 Mbit/s
	regFCCFG        = 0x03D00
	regMFLCN        = 0x04294
	mflcnDiscard    = 1 << 1 // DPF: pause frames go no further
	regRTTDCS       = 0x04900
	rttdcsHold      = 1 << 6 // ARBDIS: sending waits
	regDMATXCTL     = 0x04A80
	dmatxEnable     = 1 << 0
	regFCTRL        = 0x05080
	fctrlGroups     = 1 << 8  // MPE: all groups
	fctrlBroadcast  = 1 << 10 // BAM
	regVLNCTRL      = 0x05088
	regETQF         = 0x05128 // an EtherType...
	etqfARP         = 1<<31 | 0x0806
	regETQS         = 0x0EC00 // ...and its queue
	etqsEnable      = 1 << 31
	etqsQueue       = 16
	regVTCTL        = 0x051B0
	vtEnable        = 1 << 0
	vtNoDefault     = 1 << 29 // DIS_DEF_POOL: nobody gets what is for no pool
	vtReplicate     = 1 << 30 // groups go to all pools that want them
	regPFVFRE       = 0x051E0 // pools that receive, a bit each
	regMTA          = 0x05200
	regPFVFTE       = 0x08110 // pools that send
	regMTQC         = 0x08120
	mtqcPools       = 1<<1 | 1<<2 // queues for sending belong to 64 pools
	regPFDTXGSWC    = 0x08220     // frames from pool to pool: off
	regSECRXCTRL    = 0x08D00
	secrxHold       = 1 << 1
	regSECRXSTAT    = 0x08D04
	secrxHeld       = 1 << 0
	regVFTA         = 0x0A000
	regRAL          = 0x0A200 // eight bytes an address
	regRAH          = 0x0A204
	rahValid        = 1 << 31
	regMPSAR        = 0x0A600 // pools of an address, 64 bits
	addresses       = 128
	tableRegs       = 128 // of MTA and VFTA
	regRETA         = 0x0EB00
	retaSize        = 128
	regRSSRK        = 0x0EB80
	regMRQC         = 0x0EC80
	mrqcRSS         = 0x1
	mrqcPools       = 0x8 // 64 pools, without RSS
	mrqcTCP4        = 1 << 16
	mrqcIPv4        = 1 << 17
	mrqcIPv6        = 1 << 20
	mrqcTCP6        = 1 << 21
	regPSRTYPE      = 0x0EA00
	regPFVML2FLT    = 0x0F000 // what a pool takes besides its addresses
	l2fltUntagged   = 1 << 24
	l2fltBroadcast  = 1 << 27
	l2fltGroups     = 1 << 28
	regEEC          = 0x10010
	eecLoaded       = 1 << 9 // the registers have what the EEPROM says
	regGCREXT       = 0x11050
	gcrClearBuffers = 1 << 30
	allOnes         = 0xffffffff
	regsSize        = 0x20000 // bytes of registers
)

// Registers of a queue, from its first one on (82599 8.2.3.8 and 8.2.3.9).
const (
	rxQueue     = 0x01000 // the first 64
	rxQueueMore = 0x0D000 // the others
	txQueue     = 0x06000
	stride      = 0x40

	qDCA     = 0x0C
	qSRRCTL  = 0x14
	qControl = 0x28 // RXDCTL, TXDCTL

	dcaRelaxed   = 1 << 12 // of the receive queue: must be cleared (4.6.7)
	srrctlOne    = 1 << 25 // DESCTYPE: advanced, one buffer
	srrctlDrop   = 1 << 28 // Drop_En: a frame without a buffer does not hold up other queues
	queueEnable  = 1 << 25
	prefetch     = 32 // PTHRESH: descriptors on the chip below which more are fetched
	available    = 8  // HTHRESH: as far as there are so many
	rxError      = 1 << 29
	txData       = 3<<20 | 1<<29 // DTYP and DEXT: an advanced data descriptor (7.2.3.2.4)
	txPayload    = (1<<18 - 1) << 46
	rssQueues    = 16 // RETA's entries have four bits
	pools        = 64
	queuesOfPool = 2
	counterSets  = 16
	maxVectors   = 64
	maxBuffer    = 16 << 10 // SRRCTL.BSIZEPACKET (section 8.2.3.8.7)
)

// Counters. Each is zero once it has been read (8.2.3.23).
const (
	statMissed   = 0x03FA0 // MPC: no room in a packet buffer, of which there are eight
	statCRC      = 0x04000 // CRCERRS
	statIllegal  = 0x04004 // ILLERRC
	statByte     = 0x04008 // ERRBC
	statLength   = 0x04040 // RLEC
	statRxBcast  = 0x04078 // BPRC
	statRxMcast  = 0x0407C // MPRC
	statShort    = 0x040A4 // RUC
	statFragment = 0x040A8 // RFC: short, and the check sequence wrong
	statLong     = 0x040AC // ROC
	statJabber   = 0x040B0 // RJC
	statTxMcast  = 0x040F0 // MPTC
	statTxBcast  = 0x040F4 // BPTC
	statFirst    = 0x03FA0
	statLast     = 0x040F4
	regRQSMR     = 0x02300 // which of 16 sets of counters a receive queue has; four queues a register
	statDropped  = 0x01430 // QPRDC, of a set, each 0x40 further
)
