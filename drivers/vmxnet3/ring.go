package vmxnet3

import (
	"math/bits"
	"sync/atomic"

	"vita/drivers"
	"vita/drivers/internal/mmio"
	"vita/internal/pktbuf"
)

const ethernetLen = 14

// ring is a ring of descriptors that we fill, with the one in which the device
// says what it has done.
type ring struct {
	desc  []uint64
	done  []uint64
	mask  uint32
	shift int    // log2 of the size
	fill  uint32 // next descriptor to fill, ever counting
	seen  uint32 // next of what is done to look at, ever counting
	quit  bool   // the device has said what cannot be; it is not believed before a reset

	// The first descriptor that was filled since the device was last told waits
	// here: as long as it is not there, those behind it are not seen.
	held     bool
	heldAt   uint32
	heldWord uint64
}

func newRing(desc, done []uint64) ring {
	n := len(desc) / 2
	return ring{desc: desc, done: done, mask: uint32(n - 1), shift: bits.TrailingZeros(uint(n))}
}

// Broken reports whether the device is not believed any more.
func (r *ring) Broken() bool { return r.quit }

// wipe makes the ring's memory as new, for a device that is to be activated.
func (r *ring) wipe() {
	clear(r.desc)
	clear(r.done)
}

// rewind starts at the first descriptor, as the device does.
func (r *ring) rewind() { r.fill, r.seen, r.quit, r.held = 0, 0, false, false }

// put fills the next descriptor, from publish on. gen is the place of the
// generation in the second word.
func (r *ring) put(addr, word uint64, gen int) {
	at := r.fill & r.mask
	word |= uint64(r.fill>>r.shift&1^1) << gen
	d := r.desc[2*at : 2*at+2 : 2*at+2]
	d[0] = addr
	if r.held {
		d[1] = word
	} else {
		r.held, r.heldAt, r.heldWord = true, 2*at+1, word
	}
	r.fill++
}

// mark adds bits to the descriptor that was filled last, which is not published.
func (r *ring) mark(bits uint64) {
	at := 2*((r.fill-1)&r.mask) + 1
	if r.held && r.heldAt == at {
		r.heldWord |= bits
	} else {
		r.desc[at] |= bits
	}
}

// publish lets the device see what was filled.
func (r *ring) publish() {
	if r.held {
		atomic.StoreUint64(&r.desc[r.heldAt], r.heldWord)
		r.held = false
	}
}

// next returns the n-th of what the device has done and we have not seen.
func (r *ring) next(n uint32) (a, b uint64, ok bool) {
	size := uint32(len(r.done) / 2)
	i := r.seen + n
	at := 2 * (i & (size - 1))
	b = atomic.LoadUint64(&r.done[at+1])
	want := uint64(i>>bits.TrailingZeros32(size)&1) ^ 1
	if b>>doneGen != want || r.quit {
		return 0, 0, false
	}
	return atomic.LoadUint64(&r.done[at]), b, true
}

// rxRing receives. The device always has the same number of buffers: one that is
// handed on is replaced at once, and if the pool has none, the frame stays where
// it is.
type rxRing struct {
	ring
	slots []pktbuf.Packet // by descriptor: those from head to fill
	spare []pktbuf.Packet // before the ring is started
	queue uint64          // its number
	head  uint32          // descriptor that the device uses next, ever counting
	told  uint32          // fill, when the device was last told
	lazy  uint32
	ask   []byte // says in its first byte whether the device wants to be told
	torn  bool   // the frame under way has been given up

	pool *pktbuf.Pool
	base uint64 // where the device sees the pool
	room uint32 // bytes of a buffer
	bell *mmio.Window
	reg  int
}

// take takes n buffers for the ring. It is ErrExhausted of the pool where that
// has too few.
func (r *rxRing) take(n int, pool *pktbuf.Pool, iova uint64, room int) error {
	r.pool, r.base, r.room, r.lazy = pool, iova, uint32(room), uint32(max(1, min(32, n/4)))
	r.slots, r.spare = make([]pktbuf.Packet, int(r.mask)+1), make([]pktbuf.Packet, 0, n)
	r.rewind()
	r.head = 0
	for range n {
		k, ok := pool.Get()
		if !ok {
			_ = r.Close()
			return pktbuf.ErrExhausted
		}
		r.spare = append(r.spare, k)
	}
	return nil
}

// collect takes the buffers of a device that does not use the ring any more.
func (r *rxRing) collect() {
	for ; r.head != r.fill; r.head++ {
		r.spare = append(r.spare, r.slots[r.head&r.mask])
	}
}

// start gives the device all buffers. The ring's memory is as new.
func (r *rxRing) start() {
	r.collect()
	r.rewind()
	r.head, r.told, r.torn = 0, 0, false
	for _, k := range r.spare {
		r.arm(k)
	}
	r.spare = r.spare[:0]
	r.tell()
}

// arm gives the device a buffer.
func (r *rxRing) arm(k pktbuf.Packet) {
	r.slots[r.fill&r.mask] = k
	r.put(r.base+r.pool.Offset(k), uint64(r.room), rxGen)
}

func (r *rxRing) tell() {
	r.publish()
	r.told = r.fill
	if r.ask[0] != 0 {
		r.bell.Write32(r.reg, r.fill&r.mask)
	}
}

// Rx takes received frames. The device chooses how much of a buffer it has
// written, and which of those that it has it passes over.
func (r *rxRing) Rx(b []pktbuf.Packet, s *drivers.Stats) int {
	n, bytes := 0, uint64(0)
	for range r.mask {
		if n == len(b) {
			break
		}
		id, w, ok := r.next(0)
		if !ok {
			break
		}
		skip := (uint32(id&descIndex) - r.head) & r.mask
		if id&descIndex > uint64(r.mask) || r.fill-r.head <= skip || id>>rxQueue&rxQueueMax != r.queue {
			r.quit = true
			s.RxErrors++
			break
		}
		length := uint32(w & descLen)
		whole := id&(rxStart|rxEnd) == rxStart|rxEnd && w&rxError == 0 && !r.torn
		good := whole && length-ethernetLen <= r.room-ethernetLen
		var fresh pktbuf.Packet
		if good {
			if fresh, ok = r.pool.Get(); !ok {
				break
			}
		}
		r.seen++
		for range skip {
			r.arm(r.slots[r.head&r.mask])
			r.head++
		}
		k := r.slots[r.head&r.mask]
		r.head++
		if good {
			r.arm(fresh)
			k.Len = uint16(length)
			b[n] = k
			n++
			bytes += uint64(length)
		} else {
			r.arm(k)
			r.bad(id, w, s)
		}
	}
	s.RxDMAPackets += uint64(n)
	s.RxPackets += uint64(n)
	s.RxBytes += bytes
	if r.fill-r.told >= r.lazy {
		r.tell()
	}
	return n
}

// bad counts a frame that is not right, of all its descriptors once. What the
// device itself says to be damaged it has counted.
func (r *rxRing) bad(id, w uint64, s *drivers.Stats) {
	if id&rxEnd == 0 {
		r.torn = true
		return
	}
	r.torn = false
	s.RxDMAPackets++
	if w&rxError == 0 {
		s.RxErrors++
	}
}

// Waiting counts what has arrived.
func (r *rxRing) Waiting() int {
	n := uint32(0)
	for n < r.fill-r.head {
		if _, _, ok := r.next(n); !ok {
			break
		}
		n++
	}
	return int(n)
}

// Size returns how many buffers the ring has.
func (r *rxRing) Size() int { return cap(r.spare) }

// Close gives all buffers back. The device does not use the ring any more.
func (r *rxRing) Close() error {
	r.collect()
	r.pool.PutBatch(r.spare)
	r.spare = r.spare[:0]
	return nil
}

// txRing sends. The device reports the last frame of each batch; those before it
// are done as well then.
type txRing struct {
	ring
	slots []pktbuf.Packet
	clean uint32 // oldest descriptor that the device has not reported, ever counting
	told  uint32

	pool *pktbuf.Pool
	base uint64
	most int // bytes of a frame
	bell *mmio.Window
	reg  int
}

// take makes the ring one of a pool.
func (r *txRing) take(pool *pktbuf.Pool, iova uint64, most int) {
	r.pool, r.base, r.most = pool, iova, most
	r.slots = make([]pktbuf.Packet, int(r.mask)+1)
	r.Rewind()
}

// Rewind starts anew, and gives back what was not sent, which it returns as a
// number. The device does not use the ring.
func (r *txRing) Rewind() (lost int) {
	lost = r.Waiting()
	for ; r.clean != r.fill; r.clean++ {
		r.pool.Put(r.slots[r.clean&r.mask])
	}
	r.rewind()
	r.clean, r.told = 0, 0
	return lost
}

// Tx queues frames until the ring is full, and returns how many it has taken. A
// frame that no device can send is taken and counted as an error.
func (r *txRing) Tx(b []pktbuf.Packet, s *drivers.Stats) int {
	room := r.mask - (r.fill - r.clean)
	bytes, sent := uint64(0), uint64(0)
	n := 0
	for ; n < len(b); n++ {
		k := b[n]
		if k.Len < ethernetLen || int(k.Len) > r.most {
			s.TxErrors++
			r.pool.Put(k)
			continue
		}
		if room == 0 {
			break
		}
		room--
		r.slots[r.fill&r.mask] = k
		r.put(r.base+r.pool.Offset(k), uint64(k.Len)|txEnd, txGen)
		bytes += uint64(k.Len)
		sent++
	}
	if sent > 0 {
		r.mark(txAsk)
		s.TxPackets += sent
		s.TxBytes += bytes
	}
	return n
}

// Flush tells the device of what is queued, and takes back what it has sent.
func (r *txRing) Flush(s *drivers.Stats) {
	if r.told != r.fill {
		r.publish()
		r.told = r.fill
		r.bell.Write32(r.reg, r.fill&r.mask)
	}
	for range r.mask {
		id, _, ok := r.next(0)
		if !ok {
			return
		}
		n := (uint32(id&descIndex) - r.clean) & r.mask
		if id&descIndex > uint64(r.mask) || r.told-r.clean <= n {
			r.quit = true
			s.TxErrors++
			return
		}
		r.seen++
		for range n + 1 {
			r.pool.Put(r.slots[r.clean&r.mask])
			r.clean++
		}
	}
}

// Waiting returns how many frames the device has not reported as sent.
func (r *txRing) Waiting() int { return int(r.fill - r.clean) }

// Done returns a number that changes as the device sends.
func (r *txRing) Done() uint32 { return r.clean }

// Close gives all buffers back.
func (r *txRing) Close() error {
	r.Rewind()
	return nil
}
