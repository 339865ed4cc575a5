package virtio

import (
	"testing"

	"vita/drivers"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
	"vita/internal/pktbuf"
)

// bell counts notifications.
type bell int

func (b *bell) Load(int, int) uint64       { return 0 }
func (b *bell) Store(int, int, uint64)     { *b++ }
func (b *bell) taken() (rung bool)         { rung, *b = *b > 0, 0; return rung }
func eventAt(next uint16, size int) uint64 { return uint64(place(next, size)) | 2<<16 }

// place is an index as an event has it: the place in the ring, and the wrap counter.
func place(i uint16, size int) uint16 {
	return i%uint16(size) | (i/uint16(size)&1^1)<<15
}

// TestUnseenEvent: a device of the packed form that has gone on from where it asked
// to be notified, without asking anew, as QEMU does, is notified all the same, also
// when we learn that it has gone on after we have made more available: it would wait
// for ever, and so would we.
func TestUnseenEvent(t *testing.T) {
	const size = 16
	for start := range uint16(5 * size) {
		for went := uint16(1); went < size; went++ {
			for more := uint16(1); more <= size-went; more++ {
				pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 64, FrameSize: 2048})
				if err != nil {
					t.Fatal(err)
				}
				b := new(bell)
				a, c, d := words(size)
				q := &queue{packed: true, events: true, bell: mmio.Handled(8, b)}
				q.resize(size)
				q.place(&dma.Memory{Words: make([]uint64, a+c+d), Bytes: make([]byte, 8*(a+c+d))}, 0)
				q.rewind()
				r, s := newTx(q, pool, 0, 1514), new(drivers.Stats)
				device := uint16(0) // the next descriptor that it looks at
				use := func(n uint16) {
					for range n {
						w := &q.desc[2*int(device%size)+1]
						wrap := uint64(device/size)&1 ^ 1
						*w = *w&(0xffff<<32) | (wrap<<packedAvail|wrap<<packedUsed)<<48
						device++
					}
				}
				send := func(n uint16) {
					for range n {
						k, ok := pool.Get()
						if !ok {
							t.Fatal("no free buffer")
						}
						k.Len = 60
						if r.Tx([]pktbuf.Packet{k}, s) != 1 {
							t.Fatal("not taken")
						}
					}
					r.Flush(s)
				}
				for device < start {
					n := min(size, start-device)
					q.device[0] = eventAt(device, size)
					send(n)
					use(n)
					r.Flush(s)
				}
				q.device[0] = eventAt(device, size)
				b.taken()
				send(went)
				if !b.taken() {
					t.Fatalf("from %d: %d frames, and it is not notified", start, went)
				}
				use(went) // and asks for nothing else
				send(more)
				if !b.taken() {
					t.Fatalf("from %d: it has gone on by %d, and is not notified of %d more", start, went, more)
				}
				use(more)
				r.Flush(s)
				if r.Waiting() != 0 || r.Broken() {
					t.Fatalf("%d wait, %v", r.Waiting(), r.Broken())
				}
				if b.taken() {
					t.Fatal("notified of nothing")
				}
				if err := pool.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
