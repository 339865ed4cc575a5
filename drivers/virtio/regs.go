package virtio

// All numbers are little-endian. Sections are those of Virtual I/O Device
// (VIRTIO) Version 1.2.

// Devices (4.1.2, 5.1.1).
const (
	vendor       = 0x1af4
	modern       = 0x1041
	transitional = 0x1000 // also speaks as devices did before 1.0, which we do not
)

// Capabilities of PCI configuration space that say where the structures are
// (4.1.4), by their type.
const (
	capType   = 3
	capBAR    = 4
	capOffset = 8
	capLength = 12
	capStep   = 16 // notifications only: 4.1.4.4

	typeCommon = 1
	typeNotify = 2
	typeDevice = 4
)

// The common structure (4.1.4.3).
const (
	deviceFeatureSelect = 0x00
	deviceFeature       = 0x04
	driverFeatureSelect = 0x08
	driverFeature       = 0x0c
	configVector        = 0x10
	numQueues           = 0x12
	deviceStatus        = 0x14
	configGeneration    = 0x15
	queueSelect         = 0x16
	queueSize           = 0x18
	queueVector         = 0x1a
	queueEnable         = 0x1c
	queueNotifyOff      = 0x1e
	queueDesc           = 0x20
	queueDriver         = 0x28
	queueDevice         = 0x30
	commonSize          = 0x38
	queueReset          = 0x3a // only with VIRTIO_F_RING_RESET
	commonResetSize     = 0x3c

	noVector = 0xffff
)

// Device status (2.1).
const (
	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	statusNeedsReset  = 64
	statusGone        = 0xff // has bits that no device sets
)

// Features, as bits (5.1.3, 6).
const (
	featMTU            = 1 << 3
	featMAC            = 1 << 5
	featStatus         = 1 << 16
	featControl        = 1 << 17 // CTRL_VQ
	featControlRx      = 1 << 18
	featMultiQueue     = 1 << 22 // MQ
	featEventIdx       = 1 << 29
	featVersion1       = 1 << 32
	featAccessPlatform = 1 << 33 // memory is reached by the IOMMU's addresses
	featPacked         = 1 << 34
	featOrderPlatform  = 1 << 36 // and in an order that other devices' drivers rely on as well
	featRingReset      = 1 << 40
	featRSS            = 1 << 60
	featSpeedDuplex    = 1 << 63

	featKnown = featMTU | featMAC | featStatus | featControl | featControlRx | featMultiQueue | featEventIdx |
		featVersion1 | featAccessPlatform | featPacked | featOrderPlatform | featRingReset | featRSS | featSpeedDuplex
)

// Configuration of a network device (5.1.4).
const (
	cfgMAC      = 0x00
	cfgStatus   = 0x06
	cfgMaxPairs = 0x08
	cfgMTU      = 0x0a
	cfgSpeed    = 0x0c
	cfgSize     = 0x0c // as far as all devices have it
	cfgSpeedEnd = 0x11
	cfgKeyMax   = 0x11 // bytes of the key of RSS
	cfgTableMax = 0x12
	cfgHashes   = 0x14 // that it can calculate
	cfgRSSEnd   = 0x18

	linkUp = 1
)

// Commands of the control queue, by class (5.1.6.5).
const (
	classRx      = 0
	rxPromisc    = 0
	rxAllMulti   = 1
	classMAC     = 1
	macTable     = 0
	classMQ      = 4
	mqPairs      = 0
	mqRSS        = 1
	answerOK     = 0
	answerNever  = 0xff // what the answer is before the device writes it
	maxTableMACs = 16
)

// headerLen is the length of the header in front of every frame (5.1.6). Its
// fields are about checksums and frames larger than the wire's, none of which
// we ask for: sent it is all zero, received it says nothing.
const headerLen = 12

// Hashes (5.1.6.4.3), as bits.
const hashWanted = 1<<0 | 1<<1 | 1<<3 | 1<<4 // IPv4, TCP over it, IPv6, TCP over it

// Descriptors and rings (2.7.5, 2.7.6, 2.7.8; 2.8.1, 2.8.10), the bits of packed
// ones by their numbers.
const (
	descNext  = 1
	descWrite = 2

	availNoInterrupt = 1
	usedNoNotify     = 1

	packedAvail = 7
	packedUsed  = 15
	eventAll    = 0
	eventNone   = 1
	eventSome   = 2 // from an index on
	eventWrap   = 1 << 15
)
