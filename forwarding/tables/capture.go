package tables

import "sync/atomic"

// Point is a place on a packet's way where it can be captured.
type Point uint8

// The points.
const (
	PrivateRx     Point = iota // as it came from the private network
	PrivateTx                  // as it goes to the private network
	PublicRx                   // as it came from the public network
	PublicTx                   // as it goes to the public network
	InnerOutbound              // an inner packet before encryption
	InnerInbound               // an inner packet after decryption
	Dropped                    // wherever it was dropped

	NumPoints = iota
)

var pointNames = [NumPoints]string{"private-rx", "private-tx", "public-rx", "public-tx", "inner-outbound", "inner-inbound", "dropped"}

// String returns the point's name.
func (p Point) String() string {
	if int(p) >= NumPoints {
		return "unknown"
	}
	return pointNames[p]
}

// Capture says which packets are captured: those of the points for which all
// that is asked for holds. It is what a worker evaluates, without further
// translation.
type Capture struct {
	Points   uint16 // bit by Point
	Snap     uint16 // bytes kept of a packet
	Family   uint8  // 4 or 6; 0: any, and what is not IP
	HasProto uint8  // 1: Proto must be the packet's protocol or next header
	Proto    uint8
	HasSPI   uint8 // 1: the packet must be ESP with SPI, or what was in it
	SPI      uint32
	SrcBits  uint8 // of Src that must agree; 0: any
	DstBits  uint8
	_        [6]byte
	Src, Dst [16]byte  // of the packet's own family
	Reasons  [2]uint64 // bit by drop.Reason: of dropped packets those; none: all
}

// CaptureData is how many bytes are kept of a packet at most.
const CaptureData = 4096 - 32

// captureSize is how many packets a ring holds; a power of two.
const captureSize = 1024

// Captured is one captured packet.
type Captured struct {
	Time   int64  // clock.Mono
	Length uint16 // of the packet
	Kept   uint16 // of data
	Point  Point
	Reason uint8 // drop.Reason, where the point is Dropped
	Raw    uint8 // 1: it begins with its IP header, 0: it is an Ethernet frame
	_      [17]byte
	Data   [CaptureData]byte
}

// Bytes returns what was kept of the packet.
func (c *Captured) Bytes() []byte { return c.Data[:min(int(c.Kept), CaptureData)] }

// CaptureRing hands captured packets from a worker to vitad. A worker never
// waits: what does not fit is counted. As with Ring, neither side trusts the
// other.
type CaptureRing struct {
	head   uint64 // next to be written; the worker's
	Missed uint64 // atomic; packets that did not fit; the worker's
	_      [48]byte
	tail   uint64 // next to be read; vitad's
	_      [56]byte

	entries [captureSize]Captured
}

// Free returns the entry for the next packet, or nil where all are taken.
// Commit makes it vitad's.
func (r *CaptureRing) Free() *Captured {
	head := atomic.LoadUint64(&r.head)
	if head-atomic.LoadUint64(&r.tail) >= captureSize {
		return nil
	}
	return &r.entries[head%captureSize]
}

// Commit hands the entry that Free returned over.
func (r *CaptureRing) Commit() { atomic.StoreUint64(&r.head, atomic.LoadUint64(&r.head)+1) }

// Next returns the oldest packet, or nil. It stays valid until Release.
func (r *CaptureRing) Next() *Captured {
	head, tail := atomic.LoadUint64(&r.head), atomic.LoadUint64(&r.tail)
	switch n := head - tail; {
	case n == 0:
		return nil
	case n > captureSize: // damage: start afresh
		atomic.StoreUint64(&r.tail, head)
		return nil
	}
	return &r.entries[tail%captureSize]
}

// Release gives the entry that Next returned back to the worker.
func (r *CaptureRing) Release() { atomic.StoreUint64(&r.tail, atomic.LoadUint64(&r.tail)+1) }

// Clear forgets what waits in the ring.
func (r *CaptureRing) Clear() { atomic.StoreUint64(&r.tail, atomic.LoadUint64(&r.head)) }

// CaptureRing returns the ring of a worker's captured packets.
func (m *Memory) CaptureRing(worker int) *CaptureRing { return &m.captures[worker] }
