package i82599

// Registers, by their offsets in BAR 0 (82599 data sheet, section 8.2.3; the
// table of section 8.2.2 has them all). Those that stand here do something when
// they are read or written, or steer the model; all others of the BAR are memory.
const (
	regCTRL   = 0x00000
	regSTATUS = 0x00008
	regESDP   = 0x00020
	regI2CCTL = 0x00028

	regEICR     = 0x00800
	regEICS     = 0x00808
	regEIAC     = 0x00810
	regEITR     = 0x00820 // 24 of them
	regEIMS     = 0x00880
	regEIMC     = 0x00888
	regEIAM     = 0x00890
	regGPIE     = 0x00898
	regIVAR     = 0x00900 // 64
	regIVARMisc = 0x00A00
	regEICSEx   = 0x00A90 // 2
	regEIMSEx   = 0x00AA0 // 2
	regEIMCEx   = 0x00AB0 // 2
	regEIAMEx   = 0x00AD0 // 2
	regEITRMore = 0x12300 // from the 25th on

	// A receive queue has a block of 0x40 bytes, the first 64 from 0x1000 on, the
	// others from 0xD000 on (section 8.2.3.8).
	regRxQueues     = 0x01000
	regRxQueuesMore = 0x0D000
	rdbal           = 0x00
	rdbah           = 0x04
	rdlen           = 0x08
	rdh             = 0x10
	srrctl          = 0x14
	rdt             = 0x18
	rxdctl          = 0x28

	regRDRXCTL  = 0x02F00
	regRXCTRL   = 0x03000
	regRXPBSIZE = 0x03C00
	regHLREG0   = 0x04240
	regMSCA     = 0x0425C
	regMSRWD    = 0x04260
	regMAXFRS   = 0x04268
	regAUTOC    = 0x042A0
	regLINKS    = 0x042A4
	regAUTOC2   = 0x042A8
	regANLP1    = 0x042B0
	regDMATXCTL = 0x04A80
	regFCTRL    = 0x05080
	regVLNCTRL  = 0x05088
	regMCSTCTRL = 0x05090
	regMRQCOld  = 0x05818
	regVTCTL    = 0x051B0
	regPFVFRE   = 0x051E0 // 2
	regMTA      = 0x05200 // 128

	// A transmit queue has a block of 0x40 bytes too (section 8.2.3.9).
	regTxQueues = 0x06000
	tdbal       = 0x00
	tdbah       = 0x04
	tdlen       = 0x08
	tdh         = 0x10
	tdt         = 0x18
	txdctl      = 0x28
	tdwbal      = 0x38
	tdwbah      = 0x3C

	regPFVFTE    = 0x08110 // 2
	regMTQC      = 0x08120
	regSECRXCTRL = 0x08D00
	regSECRXSTAT = 0x08D04
	regSECTXCTRL = 0x08800
	regSECTXSTAT = 0x08804
	regVFTA      = 0x0A000 // 128
	regRAL       = 0x0A200 // 128 pairs of low and high
	regMPSAR     = 0x0A600 // 128 pairs
	regRETA      = 0x0EB00 // 32
	regRSSRK     = 0x0EB80 // 10
	regMRQC      = 0x0EC80
	regFDIRCTRL  = 0x0EE00
	regETQF      = 0x05128 // 8
	regETQS      = 0x0EC00 // 8
	regPFVML2FLT = 0x0F000 // 64
	regPFVLVF    = 0x0F100 // 64
	regPFVLVFB   = 0x0F200 // 64 pairs
	regEEC       = 0x10010
	regEERD      = 0x10014
	regSWSM      = 0x10140
	regFWSM      = 0x10148
	regSWFWSync  = 0x10160

	regRALOld    = 0x05400 // the first 16 pairs
	regRETAOld   = 0x05C00
	regRSSRKOld  = 0x05C80
	regSRRCTLOld = 0x02100 // of the first 16 queues
)

// Statistics, which reading clears (section 8.2.3.23).
const (
	statMPC    = 0x03FA0 // 8, of packet buffers
	statRNBC   = 0x03FC0 // 8
	statCRCERR = 0x04000
	statRLEC   = 0x04040
	statPRC64  = 0x0405C // and five more, of longer frames
	statGPRC   = 0x04074
	statBPRC   = 0x04078
	statMPRC   = 0x0407C
	statGPTC   = 0x04080
	statGORCL  = 0x04088
	statGORCH  = 0x0408C
	statGOTCL  = 0x04090
	statGOTCH  = 0x04094
	statRUC    = 0x040A4
	statROC    = 0x040AC
	statTORL   = 0x040C0
	statTORH   = 0x040C4
	statTPR    = 0x040D0
	statTPT    = 0x040D4
	statPTC64  = 0x040D8 // and five more
	statMPTC   = 0x040F0
	statBPTC   = 0x040F4
	statRXDGPC = 0x02F50
	statRXDGBL = 0x02F54
	statRXDGBH = 0x02F58
	statTXDGPC = 0x087A0
	statTXDGBL = 0x087A4
	statTXDGBH = 0x087A8
	regRQSMR   = 0x02300 // 32: which of the 16 counters below a receive queue has
	regTQSM    = 0x08600 // 32
	statQPRC   = 0x01030 // 16, each 0x40 further
	statQBRCL  = 0x01034
	statQBRCH  = 0x01038
	statQPRDC  = 0x01430
	statQPTC   = 0x08680 // 16, each 4 further
	statQBTCL  = 0x08700 // 16, each 8 further
	statQBTCH  = 0x08704
)

// Bits of registers.
const (
	ctrlMasterDisable = 1 << 2
	ctrlLinkReset     = 1 << 3
	ctrlReset         = 1 << 26
	statusMaster      = 1 << 19
	esdpModule        = 1 << 2 // SDP2: a module is in the cage

	gpieMSIX  = 1 << 4
	gpieOCD   = 1 << 5
	gpieEIAME = 1 << 30
	causeLSC  = 1 << 20
	causeMask = 0xffff0000 // of EICR: what is not a queue's

	queueEnable   = 1 << 25 // RXDCTL, TXDCTL
	rxdctlVME     = 1 << 30
	txdctlSWFLSH  = 1 << 26
	srrctlDropEn  = 1 << 28
	rxctrlEnable  = 1 << 0
	rdrxctlCRC    = 1 << 1
	rdrxctlIdle   = 1 << 3
	hlregTxCRC    = 1 << 0
	hlregCRCStrip = 1 << 1
	hlregJumbo    = 1 << 2
	hlregTxPad    = 1 << 10
	hlregLoopback = 1 << 15
	dmatxEnable   = 1 << 0
	fctrlMPE      = 1 << 8
	fctrlUPE      = 1 << 9
	fctrlBAM      = 1 << 10
	vlnctrlVFE    = 1 << 30
	mcstctrlMFE   = 1 << 2
	rahValid      = 1 << 31
	secDisable    = 1 << 1
	secReady      = 1 << 0
	fdirInitDone  = 1 << 3

	vtEnable     = 1 << 0
	vtNoDefault  = 1 << 29
	vtReplicate  = 1 << 30
	mtqcVT       = 1 << 1
	etqfEnable   = 1 << 31
	etqsEnable   = 1 << 31
	l2fltAUPE    = 1 << 24
	l2fltROMPE   = 1 << 25
	l2fltBAM     = 1 << 27
	l2fltMPE     = 1 << 28
	vlvfValid    = 1 << 31
	linksUp      = 1 << 30
	links10G     = 3 << 28
	mscaCommand  = 1 << 30
	eecPresent   = 1 << 8
	eecAutoRead  = 1 << 9
	eecRequest   = 1 << 6
	eecGrant     = 1 << 7
	eerdStart    = 1 << 0
	eerdDone     = 1 << 1
	swsmSMBI     = 1 << 0
	headWBEnable = 1 << 0
	fwsmValid    = 1 << 15
)
