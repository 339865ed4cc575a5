// Package intel holds what Intel network cards from the 82574 to the 82599 have
// in common: rings of descriptors, and how a card gives its queues to ports. Of
// registers it knows those that say where a queue's ring is.
package intel

import (
	"sync/atomic"

	"vita/drivers"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
	"vita/internal/pktbuf"
)

// A descriptor is two words of 64 bits. As the device has written a receive
// descriptor back, the second one is, in all of Intel's formats but the oldest:
//
//	63      48 47       32 31    20 19               0
//	┌─────────┬───────────┬────────┬──────────────────┐
//	│  VLAN   │  length   │ errors │ ... EOP(1) DD(0) │
//	└─────────┴───────────┴────────┴──────────────────┘
//
// and as we write one for transmission:
//
//	63            46 45        32 31     24 23     16 15       0
//	┌───────────────┬────────────┬─────────┬─────────┬──────────┐
//	│ PAYLEN (adv.) │ ...  DD(32)│   CMD   │ type    │  length  │
//	└───────────────┴────────────┴─────────┴─────────┴──────────┘
//
// (82574 data sheet 7.1.5 and 7.2.10; 82576 data sheet 7.1.5 and 7.2.2.3;
// 82599 data sheet 7.1.6 and 7.2.3.2.)
const (
	rxDone = 1 << 0  // DD: the device has written
	rxEnd  = 1 << 1  // EOP: the frame ends here
	txDone = 1 << 32 // DD

	txEnd    = 1 << 24 // EOP
	txFCS    = 1 << 25 // IFCS: the device adds the check sequence
	txReport = 1 << 27 // RS: the device is to set DD

	headerLen = 14
	minTx     = 17 // what the devices pad to a whole frame, but no less
)

// RxRing is a ring for receiving. Every descriptor always has a buffer: one that
// is handed on is replaced at once, and if the pool has none, the frame stays
// where it is. The device owns all descriptors but those from head on that it
// has written, and one, by which it knows a full ring from an empty one.
type RxRing struct {
	desc  []uint64
	slots []pktbuf.Packet // the buffer of each descriptor
	mask  uint32
	head  uint32 // next descriptor to look at, ever counting
	told  uint32 // head, when the device was last told
	lazy  uint32 // descriptors after which it is told

	pool   *pktbuf.Pool
	base   uint64 // where the device sees the pool
	size   uint32 // bytes of a buffer
	errors uint64 // bits of the second word that say that a frame is damaged
	tail   *mmio.Window
	reg    int
	torn   bool // the frame under way has been given up
	passed bool // a descriptor had been passed over when Broken was last asked

	mem *dma.Memory
}

// RxOptions shapes a ring for receiving.
type RxOptions struct {
	Size   int // descriptors, a power of two from 8
	Pool   *pktbuf.Pool
	IOVA   uint64 // where the device sees the pool's region
	Buffer int    // bytes that the device may write to a buffer
	Errors uint64
	Tail   *mmio.Window
	Reg    int
}

// NewRx makes a ring and fills it with buffers. It is ErrExhausted of the pool
// where that has too few.
func NewRx(m dma.Mapper, o RxOptions) (*RxRing, error) {
	q := &RxRing{
		slots: make([]pktbuf.Packet, 0, o.Size), mask: uint32(o.Size - 1), lazy: uint32(max(1, min(32, o.Size/4))),
		pool: o.Pool, base: o.IOVA, size: uint32(o.Buffer), errors: o.Errors, tail: o.Tail, reg: o.Reg,
	}
	for range o.Size {
		k, ok := q.pool.Get()
		if !ok {
			q.pool.PutBatch(q.slots)
			return nil, pktbuf.ErrExhausted
		}
		q.slots = append(q.slots, k)
	}
	var err error
	if q.mem, err = dma.Alloc(m, o.Size*16); err != nil {
		q.pool.PutBatch(q.slots)
		return nil, err
	}
	q.desc = q.mem.Words[:2*o.Size]
	return q, nil
}

// Start gives a device that starts at the ring's first descriptor all of them.
// What has arrived and was not taken is lost.
func (q *RxRing) Start() {
	q.head, q.told, q.torn, q.passed = 0, 0, false, false
	for i := range q.slots {
		q.arm(uint32(i), q.slots[i])
	}
	q.tail.Write32(q.reg, q.mask)
}

// arm writes the descriptor of an empty buffer.
func (q *RxRing) arm(i uint32, k pktbuf.Packet) {
	d := q.desc[2*i : 2*i+2 : 2*i+2]
	d[0] = q.base + q.pool.Offset(k)
	d[1] = 0
}

// Rx takes received frames. It believes the device nothing but that a
// descriptor is done: a length that does not fit is an error, and the buffer is
// the one that we gave.
func (q *RxRing) Rx(b []pktbuf.Packet, s *drivers.Stats) int {
	n, bytes := 0, uint64(0)
	i := q.head
	desc, slots, mask, pool := q.desc, q.slots, q.mask, q.pool
	for n < len(b) {
		at := i & mask
		d := desc[2*at : 2*at+2 : 2*at+2]
		w := atomic.LoadUint64(&d[1])
		if w&rxDone == 0 {
			break
		}
		length := uint32(w>>32) & 0xffff
		if w&(rxEnd|q.errors) != rxEnd || q.torn || length-headerLen > q.size-headerLen {
			q.bad(w, s)
			q.arm(at, slots[at])
			i++
			continue
		}
		fresh, ok := pool.Get()
		if !ok {
			break
		}
		slot := &slots[at]
		k := *slot
		*slot = fresh
		d[0] = q.base + pool.Offset(fresh)
		d[1] = 0
		k.Len = uint16(length)
		b[n] = k
		bytes += uint64(length)
		n++
		i++
	}
	if i != q.head {
		q.head = i
		s.RxDMAPackets += uint64(n)
		s.RxPackets += uint64(n)
		s.RxBytes += bytes
		if i-q.told >= q.lazy {
			q.told = i
			q.tail.Write32(q.reg, (i-1)&q.mask)
		}
	}
	return n
}

// bad counts a frame that is damaged, or longer than a buffer: all descriptors
// of that one are passed over, and count once.
func (q *RxRing) bad(w uint64, s *drivers.Stats) {
	if w&rxEnd == 0 {
		q.torn = true
		return
	}
	q.torn = false
	s.RxDMAPackets++
	s.RxErrors++
}

// Waiting counts the frames that have arrived.
func (q *RxRing) Waiting() int {
	n := uint32(0)
	for n <= q.mask && q.ready(n) {
		n++
	}
	return int(n)
}

// Size returns how many buffers the ring has.
func (q *RxRing) Size() int { return len(q.slots) }

// Broken reports whether the device has passed over a descriptor, and had so when
// this was last asked: it may be on its way.
func (q *RxRing) Broken() bool {
	before := q.passed
	q.passed = !q.ready(0) && q.ready(1)
	return q.passed && before
}

// ready reports whether the n-th descriptor from the next one on is done.
func (q *RxRing) ready(n uint32) bool {
	return atomic.LoadUint64(&q.desc[2*((q.head+n)&q.mask)+1])&rxDone != 0
}

// Close gives all buffers back. The device does not use the ring any more.
func (q *RxRing) Close() error {
	q.pool.PutBatch(q.slots)
	q.slots = nil
	return q.mem.Free()
}

// TxRing is a ring for sending. The device reports the last frame of each batch
// alone; those before it are done as well then.
type TxRing struct {
	desc  []uint64
	slots []pktbuf.Packet
	marks []uint32 // the descriptors that the device reports, oldest at markHead
	mask  uint32
	tail  uint32 // next descriptor to fill, ever counting
	told  uint32 // up to where the device has been told
	clean uint32 // oldest descriptor that the device has not reported

	markHead, markTail uint32

	pool     *pktbuf.Pool
	base     uint64
	command  uint64 // of every descriptor
	payload  uint64 // which bits of a word have the frame's length once more
	maxFrame int
	regs     *mmio.Window
	reg      int
	mem      *dma.Memory
}

// TxOptions shapes a ring for sending.
type TxOptions struct {
	Size     int // descriptors, a power of two from 8
	Pool     *pktbuf.Pool
	IOVA     uint64
	Command  uint64 // bits that the device's format needs besides those that all have
	Payload  uint64 // where it wants the whole frame's length, a mask of the bits from 46
	MaxFrame int
	Tail     *mmio.Window
	Reg      int
}

// NewTx makes a ring.
func NewTx(m dma.Mapper, o TxOptions) (*TxRing, error) {
	q := &TxRing{
		slots: make([]pktbuf.Packet, o.Size), marks: make([]uint32, o.Size), mask: uint32(o.Size - 1),
		pool: o.Pool, base: o.IOVA, command: o.Command | txEnd | txFCS, payload: o.Payload, maxFrame: o.MaxFrame, regs: o.Tail, reg: o.Reg,
	}
	var err error
	if q.mem, err = dma.Alloc(m, o.Size*16); err != nil {
		return nil, err
	}
	q.desc = q.mem.Words[:2*o.Size]
	return q, nil
}

// Tx queues frames until the ring is full, and returns how many it has taken. A
// frame that no device can send is taken and counted as an error.
func (q *TxRing) Tx(b []pktbuf.Packet, s *drivers.Stats) int {
	room := q.mask - (q.tail - q.clean)
	first, tail := q.tail, q.tail
	bytes := uint64(0)
	n := 0
	desc, slots, mask, pool := q.desc, q.slots, q.mask, q.pool
	for ; n < len(b); n++ {
		k := b[n]
		if k.Len < minTx || int(k.Len) > q.maxFrame {
			s.TxErrors++
			pool.Put(k)
			continue
		}
		if room == 0 {
			break
		}
		room--
		at := tail & mask
		d := desc[2*at : 2*at+2 : 2*at+2]
		length := uint64(k.Len)
		d[0] = q.base + pool.Offset(k)
		d[1] = q.command | length | length<<46&q.payload
		slots[at] = k
		bytes += length
		tail++
	}
	if tail != first {
		last := (tail - 1) & q.mask
		q.desc[2*last+1] |= txReport
		q.marks[q.markTail&q.mask] = tail - 1
		q.markTail++
		q.tail = tail
		s.TxPackets += uint64(tail - first)
		s.TxBytes += bytes
	}
	return n
}

// Flush tells the device of what is queued, and takes back what it has sent.
func (q *TxRing) Flush(*drivers.Stats) {
	if q.told != q.tail {
		q.told = q.tail
		q.regs.Write32(q.reg, q.tail&q.mask)
	}
	for q.markHead != q.markTail {
		end := q.marks[q.markHead&q.mask]
		if atomic.LoadUint64(&q.desc[2*(end&q.mask)+1])&txDone == 0 {
			return
		}
		q.markHead++
		slots, mask, pool, clean := q.slots, q.mask, q.pool, q.clean
		for ; clean != end+1; clean++ {
			pool.Put(slots[clean&mask])
		}
		q.clean = clean
	}
}

// Waiting returns how many frames the device has not reported as sent.
func (q *TxRing) Waiting() int { return int(q.tail - q.clean) }

// Done returns a number that changes as the device sends.
func (q *TxRing) Done() uint32 { return q.clean }

// Broken is never so: a report that makes no sense is not looked at.
func (q *TxRing) Broken() bool { return false }

// Rewind makes the ring as new. What was not sent goes back to the pool, and is
// returned as a number. The device does not use the ring.
func (q *TxRing) Rewind() (lost int) {
	lost = q.Waiting()
	for ; q.clean != q.tail; q.clean++ {
		q.pool.Put(q.slots[q.clean&q.mask])
	}
	q.tail, q.told, q.clean, q.markHead, q.markTail = 0, 0, 0, 0, 0
	clear(q.desc)
	return lost
}

// Close gives all buffers back. The device does not use the ring any more.
func (q *TxRing) Close() error {
	q.Rewind()
	return q.mem.Free()
}
