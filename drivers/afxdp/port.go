package afxdp

import (
	"errors"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/netif"
	"vita/drivers/internal/xsk"
	"vita/internal/pktbuf"
)

// Where a frame of the pool is, as far as this port is concerned. The kernel
// can only give back what it was given: a descriptor that says otherwise is
// counted as an error and its frame left alone.
const (
	withUs   = iota // free, or with the worker or another port
	toFill          // given to the kernel for receiving
	toKernel        // given to the kernel for sending
)

// Port is an open interface, or some queues of one.
type Port struct {
	pool     *pktbuf.Pool
	stats    *drivers.Stats
	netif    *netif.Interface
	device   *device
	queues   []*queueState
	where    []uint8 // by frame
	next     int     // the queue that is served first
	share    int     // frames a queue may hold for receiving
	maxFrame int
	epoll    int
	zeroCopy bool
}

// queueState is the socket of one queue.
type queueState struct {
	*xsk.Socket
	filled  int // frames the kernel has for receiving
	sending int // frames in the tx ring or not yet completed
	last    xsk.Statistics
}

// Rx takes received frames from the queues in turn.
func (p *Port) Rx(b []pktbuf.Packet) int {
	n := 0
	for i := range p.queues {
		if n == len(b) {
			break
		}
		q := p.queues[(p.next+i)%len(p.queues)]
		have := q.Rx.Consume(len(b) - n)
		for j := range have {
			d := q.Rx.Get(j)
			k, ok := p.pool.At(d.Addr, int(d.Len))
			if !ok || p.where[k.Frame] != toFill {
				p.stats.RxErrors++
				continue
			}
			p.where[k.Frame] = withUs
			q.filled--
			if d.Len < headerLen || d.Options != 0 { // a part of a frame larger than a buffer
				p.stats.RxErrors++
				p.pool.Put(k)
				continue
			}
			p.stats.CountRx(p.pool.Bytes(k))
			b[n] = k
			n++
		}
		if have > 0 {
			q.Rx.Release(have)
			p.fill(q)
		}
	}
	p.next++
	return n
}

// refill gives every queue its share of buffers for receiving.
func (p *Port) refill() {
	for _, q := range p.queues {
		p.fill(q)
	}
}

// fill gives one queue its share, as far as the pool has it.
func (p *Port) fill(q *queueState) {
	want := q.Fill.Produce(p.share - q.filled)
	n := 0
	for ; n < want; n++ {
		k, ok := p.pool.Get()
		if !ok {
			break
		}
		k.Off = 0
		p.where[k.Frame] = toFill
		q.Fill.Set(n, p.pool.Offset(k))
	}
	if n > 0 {
		q.Fill.Submit(n)
		q.filled += n
	}
	if q.Fill.NeedWakeup() {
		q.Wake()
	}
}

// Tx queues frames for sending, all of a call on one queue so that they stay in
// order, until that queue's ring is full.
func (p *Port) Tx(b []pktbuf.Packet) int {
	q := p.queues[0]
	room := q.Tx.Produce(min(len(b), ringEntries-q.sending))
	n, taken := 0, 0
	for _, k := range b {
		f := p.pool.Bytes(k)
		if len(f) < headerLen || len(f) > p.maxFrame {
			p.stats.TxErrors++
			p.pool.Put(k)
			taken++
			continue
		}
		if n == room {
			break
		}
		p.where[k.Frame] = toKernel
		q.Tx.Set(n, xsk.Desc{Addr: p.pool.Offset(k), Len: uint32(len(f))})
		p.stats.CountTx(f)
		n++
		taken++
	}
	if n > 0 {
		q.Tx.Submit(n)
		q.sending += n
	}
	return taken
}

// kicks bounds the system calls of one Flush: the kernel sends up to 32 frames
// a call in copy mode.
const kicks = ringEntries/32 + 4

// Flush sends what is queued, takes back what has been sent, and gives buffers
// for receiving.
func (p *Port) Flush() {
	q := p.queues[0]
	for range kicks {
		if q.Tx.Pending() == 0 || !q.Tx.NeedWakeup() {
			break
		}
		err := q.Send()
		p.complete(q)
		if err != nil && !errors.Is(err, unix.EAGAIN) { // ENOBUFS, ENETDOWN, EBUSY: next round
			break
		}
	}
	p.complete(q)
	p.refill()
}

// complete puts the frames back that the kernel has sent.
func (p *Port) complete(q *queueState) {
	n := q.Completion.Consume(ringEntries)
	if n == 0 {
		return
	}
	for i := range n {
		k, ok := p.pool.At(q.Completion.Get(i), 0)
		if !ok || p.where[k.Frame] != toKernel {
			p.stats.TxErrors++
			continue
		}
		p.where[k.Frame] = withUs
		q.sending--
		p.pool.Put(k)
	}
	q.Completion.Release(n)
}
