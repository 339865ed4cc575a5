package tables

import (
	"net/netip"
	"sync/atomic"
)

// RingSize is how many messages a ring holds; a power of two.
const RingSize = 256

// MaxPayload is the most bytes of a message: one UDP datagram on any network
// that carries Ethernet frames of 1500 bytes and a little more.
const MaxPayload = 2048 - 32

// Entry is one message in a ring.
type Entry struct {
	peer [16]byte // IPv4 addresses mapped into IPv6
	port uint16
	len  uint16
	_    [12]byte
	data [MaxPayload]byte
}

// Peer returns the remote end of the message.
func (e *Entry) Peer() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(e.peer).Unmap(), e.port)
}

// Payload returns the message's bytes.
func (e *Entry) Payload() []byte { return e.data[:min(int(e.len), MaxPayload)] }

// Ring passes messages from one goroutine to one other, in two processes as it
// may be. Neither side trusts the other: whatever the counters say, no index
// leaves the ring.
type Ring struct {
	head  uint64 // next to be written; the producer's
	_     [56]byte
	tail  uint64 // next to be read; the consumer's
	armed uint32 // 1: the consumer waits and wants to be woken
	_     [52]byte

	entries [RingSize]Entry
}

type ringPair struct{ toControl, fromControl Ring }

// Put appends a message. Ok is false where the ring is full or the message too
// long; wake says that the consumer waits to be woken by its event file.
func (r *Ring) Put(peer netip.AddrPort, payload []byte) (ok, wake bool) {
	head, tail := atomic.LoadUint64(&r.head), atomic.LoadUint64(&r.tail)
	if head-tail >= RingSize || len(payload) > MaxPayload {
		return false, false
	}
	e := &r.entries[head%RingSize]
	e.peer = peer.Addr().As16()
	e.port = peer.Port()
	e.len = uint16(copy(e.data[:], payload))
	atomic.StoreUint64(&r.head, head+1)
	return true, atomic.LoadUint32(&r.armed) == 1 && atomic.CompareAndSwapUint32(&r.armed, 1, 0)
}

// Next returns the oldest message, or nil. It stays valid until Release.
func (r *Ring) Next() *Entry {
	head, tail := atomic.LoadUint64(&r.head), atomic.LoadUint64(&r.tail)
	switch n := head - tail; {
	case n == 0:
		return nil
	case n > RingSize: // damage: start afresh
		atomic.StoreUint64(&r.tail, head)
		return nil
	}
	return &r.entries[tail%RingSize]
}

// Release gives the message that Next returned back to the producer.
func (r *Ring) Release() { atomic.StoreUint64(&r.tail, atomic.LoadUint64(&r.tail)+1) }

// Arm announces that the consumer is about to wait. It returns false where a
// message has come meanwhile, so that waiting would be wrong.
func (r *Ring) Arm() bool {
	atomic.StoreUint32(&r.armed, 1)
	return atomic.LoadUint64(&r.head) == atomic.LoadUint64(&r.tail)
}

// Len returns how many messages wait in the ring.
func (r *Ring) Len() int {
	return int(min(atomic.LoadUint64(&r.head)-atomic.LoadUint64(&r.tail), RingSize))
}

// Empty reports whether nothing waits in the ring.
func (r *Ring) Empty() bool {
	return atomic.LoadUint64(&r.head) == atomic.LoadUint64(&r.tail)
}
