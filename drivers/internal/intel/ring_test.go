package intel

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/mmio"
	"vita/drivers/internal/model"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// bench is a pair of rings whose device is the test: it writes descriptors as a
// device does.
type bench struct {
	rx    *RxRing
	tx    *TxRing
	pool  *pktbuf.Pool
	stats drivers.Stats
	regs  []byte
	batch [32]pktbuf.Packet
	at    uint32 // the device's place in the ring for receiving
}

const (
	rxTail, txTail = 0, 8
	buffer         = 3072
)

func newBench(t testing.TB, frames, size int) *bench {
	t.Helper()
	b := new(bench)
	var err error
	if b.regs, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		t.Fatal(err)
	}
	if b.pool, err = pktbuf.NewPool(pktbuf.Options{Frames: frames}); err != nil {
		t.Fatal(err)
	}
	d := model.New(model.Options{ID: pci.ID{Vendor: 1, Device: 2}})
	iova, err := d.Map(b.pool.Region())
	if err != nil {
		t.Fatal(err)
	}
	regs := mmio.Memory(b.regs)
	if b.rx, err = NewRx(d, RxOptions{Size: size, Pool: b.pool, IOVA: iova, Buffer: buffer, Errors: 1 << 31, Tail: regs, Reg: rxTail}); err != nil {
		t.Fatal(err)
	}
	if b.tx, err = NewTx(d, TxOptions{Size: size, Pool: b.pool, IOVA: iova, Command: 3<<20 | 1<<29, Payload: (1<<18 - 1) << 46, MaxFrame: buffer, Tail: regs, Reg: txTail}); err != nil {
		t.Fatal(err)
	}
	b.rx.Start()
	t.Cleanup(func() {
		if b.rx != nil {
			if err := b.rx.Close(); err != nil {
				t.Error(err)
			}
			if err := b.tx.Close(); err != nil {
				t.Error(err)
			}
			if n := b.pool.Available(); n != frames {
				t.Errorf("%d of %d buffers in the pool after Close", n, frames)
			}
		}
		_ = b.pool.Close()
		_ = unix.Munmap(b.regs)
	})
	return b
}

// arrive lets n frames arrive.
func (b *bench) arrive(n int, word uint64) {
	for range n {
		b.rx.desc[2*(b.at&b.rx.mask)+1] = word
		b.at++
	}
}

// depart has the device send what it was told of.
func (b *bench) depart() {
	for i := b.tx.clean; i != b.tx.told; i++ {
		if d := &b.tx.desc[2*(i&b.tx.mask)+1]; *d&txReport != 0 {
			*d |= txDone
		}
	}
}

// turn receives a batch and sends it on.
func (b *bench) turn() int {
	n := b.rx.Rx(b.batch[:], &b.stats)
	b.tx.Tx(b.batch[:n], &b.stats)
	b.tx.Flush(nil)
	return n
}

// BenchmarkForward is what a packet costs that is received and sent on, in
// batches of 32, with what the device does in memory.
func BenchmarkForward(b *testing.B) {
	r := newBench(b, 4096, 512)
	b.ReportAllocs()
	for n := 0; n < b.N; n += 32 {
		r.arrive(32, 3|64<<32)
		if r.turn() != 32 {
			b.Fatal("frames do not come")
		}
		r.depart()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(r.stats.RxPackets), "ns/packet")
}

func TestNoAllocation(t *testing.T) {
	r := newBench(t, 1024, 128)
	if n := testing.AllocsPerRun(1000, func() {
		r.arrive(32, 3|64<<32)
		r.turn()
		r.depart()
	}); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

// TestDescriptors looks at what the device is told.
func TestDescriptors(t *testing.T) {
	r := newBench(t, 64, 8)
	if at := r.rx.mem.IOVA; at%4096 != 0 || r.rx.Size() != 8 {
		t.Errorf("ring at %#x, %d buffers", at, r.rx.Size())
	}
	if tail := binary.LittleEndian.Uint32(r.regs[rxTail:]); tail != 7 {
		t.Errorf("tail %d", tail)
	}
	r.arrive(3, 3|64<<32)
	r.turn()
	if tail := binary.LittleEndian.Uint32(r.regs[rxTail:]); tail != 2 || r.rx.desc[0] == 0 || r.rx.desc[1] != 0 {
		t.Errorf("tail %d, descriptor %#x", tail, r.rx.desc[:2])
	}
	if tail := binary.LittleEndian.Uint32(r.regs[txTail:]); tail != 3 || r.tx.Waiting() != 3 {
		t.Errorf("tail %d, %d wait", tail, r.tx.Waiting())
	}
	const want = uint64(64) | 3<<20 | 1<<24 | 1<<25 | 1<<29 | 64<<46
	if d := r.tx.desc[1]; d != want {
		t.Errorf("descriptor %#x, want %#x", d, want)
	}
	if d := r.tx.desc[5]; d != want|1<<27 {
		t.Errorf("last descriptor %#x, want %#x", d, want|1<<27)
	}
	r.tx.desc[1] |= txDone // a report that was not asked for says nothing
	if r.tx.Flush(nil); r.tx.Waiting() != 3 {
		t.Errorf("%d wait", r.tx.Waiting())
	}
	r.depart()
	if r.tx.Flush(nil); r.tx.Waiting() != 0 {
		t.Errorf("%d wait", r.tx.Waiting())
	}
	// A full ring takes one frame less than it has descriptors.
	for i := range r.batch[:10] {
		k, _ := r.pool.Get()
		k.Len = uint16(100 + i)
		r.batch[i] = k
	}
	r.batch[1].Len, r.batch[2].Len = 16, buffer+1 // no device sends these
	if n := r.tx.Tx(r.batch[:10], &r.stats); n != 9 || r.stats.TxErrors != 2 || r.tx.Waiting() != 7 {
		t.Errorf("%d taken, %d errors, %d wait", n, r.stats.TxErrors, r.tx.Waiting())
	}
	r.pool.Put(r.batch[9])
	r.tx.Flush(nil)
	if n := r.tx.Rewind(); n != 7 || r.tx.Waiting() != 0 {
		t.Errorf("%d lost, %d wait", n, r.tx.Waiting())
	}
}

// FuzzRx has a device that writes anything into descriptors. Whatever it is, a
// frame that comes lies in its own buffer, and no buffer is lost.
func FuzzRx(f *testing.F) {
	word := binary.LittleEndian.AppendUint64
	f.Add(word(nil, 3|64<<32))
	f.Add(word(word(nil, 1|1024<<32), 3|64<<32))
	f.Add(word(word(nil, 3|0xffff<<32), 3|13<<32))
	f.Add(word(word(nil, 3|1<<31|64<<32), 0))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newBench(t, 64, 16)
		for len(in) >= 8 {
			for range 3 {
				if len(in) >= 8 {
					r.arrive(1, binary.LittleEndian.Uint64(in))
					in = in[8:]
				}
			}
			n := r.rx.Rx(r.batch[:], &r.stats)
			for _, k := range r.batch[:n] {
				if k.Len < headerLen || k.Len > buffer || k.Off != pktbuf.Headroom {
					t.Fatalf("%+v", k)
				}
			}
			r.pool.PutBatch(r.batch[:n])
			r.at = r.rx.head // a descriptor that is not done is written again
		}
		if r.stats.RxDMAPackets != r.stats.RxPackets+r.stats.RxErrors {
			t.Errorf("%+v", r.stats)
		}
	})
}
