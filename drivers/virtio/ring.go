package virtio

import (
	"vita/drivers"
	"vita/internal/pktbuf"
)

const (
	ethernetLen = 14
	never       = 0xffff // Off of a slot whose buffer the device does not have
)

// rxRing receives by a queue. Every slot has a buffer, and the device has them
// all: one that is handed on is replaced at once, and if the pool has none, the
// frame stays where it is. The header that the device writes in front of a frame
// (5.1.6.3) lies in the buffer's headroom, so that frames start where they
// always do.
type rxRing struct {
	q     *queue
	slots []pktbuf.Packet // by id
	lazy  uint16          // buffers after which the device is told of them
	pool  *pktbuf.Pool
	base  uint64 // where the device sees the pool
	room  uint32 // bytes of a buffer, with the header
}

// newRx takes buffers for a ring of n, no more than the queue's size. It is
// ErrExhausted of the pool where that has too few.
func newRx(q *queue, n int, pool *pktbuf.Pool, iova uint64, room int) (*rxRing, error) {
	r := &rxRing{
		q: q, slots: make([]pktbuf.Packet, 0, n), lazy: uint16(max(1, min(32, n/4))),
		pool: pool, base: iova, room: uint32(room),
	}
	for range n {
		k, ok := pool.Get()
		if !ok {
			pool.PutBatch(r.slots)
			return nil, pktbuf.ErrExhausted
		}
		r.slots = append(r.slots, k)
	}
	return r, nil
}

// start gives the device all buffers. The queue is as new.
func (r *rxRing) start() {
	for i := range r.slots {
		r.arm(uint16(i), r.slots[i])
	}
	r.q.kick()
}

func (r *rxRing) arm(id uint16, k pktbuf.Packet) {
	r.q.post(id, r.base+r.pool.Offset(k)-headerLen, r.room, descWrite)
}

// Rx takes received frames. The device chooses which of its buffers, and how
// much of it, and nothing else; who names another one is not listened to any
// more.
func (r *rxRing) Rx(b []pktbuf.Packet, s *drivers.Stats) int {
	q, n := r.q, 0
	for left := q.look(len(r.slots)); left > 0 && n < len(b) && q.ready(); left-- {
		fresh, ok := r.pool.Get()
		if !ok {
			break
		}
		id, length := q.used()
		if int(id) >= len(r.slots) {
			q.quit = true
			s.RxErrors++
			r.pool.Put(fresh)
			break
		}
		k := r.slots[id]
		if length-headerLen-ethernetLen > r.room-headerLen-ethernetLen {
			s.RxDMAPackets++
			s.RxErrors++
			r.pool.Put(fresh)
			r.arm(uint16(id), k)
			continue
		}
		r.slots[id] = fresh
		r.arm(uint16(id), fresh)
		k.Len = uint16(length - headerLen)
		s.CountRx(r.pool.Bytes(k))
		b[n] = k
		n++
	}
	if q.unpublished() >= r.lazy {
		q.kick()
	}
	if q.armed && n > 0 {
		q.disarm()
	}
	return n
}

// Waiting counts the frames that have arrived.
func (r *rxRing) Waiting() int { return r.q.waiting(len(r.slots)) }

// Size returns how many buffers the ring has.
func (r *rxRing) Size() int { return len(r.slots) }

// Broken reports whether the device is not listened to any more.
func (r *rxRing) Broken() bool { return r.q.quit }

// Close gives all buffers back. The device does not use the queue any more.
func (r *rxRing) Close() error {
	r.pool.PutBatch(r.slots)
	r.slots = nil
	return nil
}

// txRing sends by a queue.
type txRing struct {
	q     *queue
	slots []pktbuf.Packet // by id; Off is never where there is none
	free  []uint16        // ids
	sent  uint32          // frames that the device has used
	pool  *pktbuf.Pool
	base  uint64
	most  int // bytes of a frame
}

func newTx(q *queue, pool *pktbuf.Pool, iova uint64, most int) *txRing {
	r := &txRing{q: q, slots: make([]pktbuf.Packet, q.size), free: make([]uint16, 0, q.size), pool: pool, base: iova, most: most}
	for i := q.size - 1; i >= 0; i-- {
		r.slots[i].Off = never
		r.free = append(r.free, uint16(i))
	}
	return r
}

// Tx queues frames until the ring is full, and returns how many it has taken. A
// frame that the device cannot send is taken and counted as an error.
func (r *txRing) Tx(b []pktbuf.Packet, s *drivers.Stats) int {
	for i, k := range b {
		if k.Len < ethernetLen || int(k.Len) > r.most {
			s.TxErrors++
			r.pool.Put(k)
			continue
		}
		if len(r.free) == 0 {
			return i
		}
		if k.Off < headerLen {
			k = r.shift(k)
		}
		head := k.Grow(headerLen)
		clear(r.pool.Bytes(head)[:headerLen])
		id := r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
		r.slots[id] = k
		s.CountTx(r.pool.Bytes(k))
		r.q.post(id, r.base+r.pool.Offset(head), uint32(head.Len), 0)
	}
	return len(b)
}

// shift makes room in front of a frame that has none. A buffer is larger than
// the largest frame by more than that.
func (r *txRing) shift(k pktbuf.Packet) pktbuf.Packet {
	to := k
	to.Off += headerLen
	copy(r.pool.Bytes(to), r.pool.Bytes(k))
	return to
}

// Flush tells the device of what is queued, and takes back what it has sent.
func (r *txRing) Flush(s *drivers.Stats) {
	q := r.q
	q.kick()
	before := r.sent
	for left := q.look(r.Waiting()); left > 0 && q.ready(); left-- {
		id, _ := q.used()
		if int(id) >= len(r.slots) || r.slots[id].Off == never {
			q.quit = true
			s.TxErrors++
			return
		}
		r.pool.Put(r.slots[id])
		r.slots[id].Off = never
		r.free = append(r.free, uint16(id)) // never grows: there are as many as slots
		r.sent++
	}
	if r.sent != before {
		q.again()
	}
}

// Waiting returns how many frames the device has not said that it has sent.
func (r *txRing) Waiting() int { return len(r.slots) - len(r.free) }

// Done returns a number that changes as the device sends.
func (r *txRing) Done() uint32 { return r.sent }

// Broken reports whether the device is not listened to any more.
func (r *txRing) Broken() bool { return r.q.quit }

// Close gives all buffers back.
func (r *txRing) Close() error {
	r.Rewind()
	return nil
}

// Rewind gives back what was not sent, and returns how many frames. The device
// does not use the queue.
func (r *txRing) Rewind() (lost int) {
	for id := range r.slots {
		if r.slots[id].Off != never {
			r.pool.Put(r.slots[id])
			r.slots[id].Off = never
			r.free = append(r.free, uint16(id))
			lost++
		}
	}
	return lost
}
