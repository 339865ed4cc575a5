package ixgbe

import (
	"slices"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/internal/intel"
	"vita/drivers/internal/model"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
	"vita/internal/arena"
	"vita/internal/pktbuf"
)

// BenchmarkRxTx receives batches and sends them on, with registers that are
// memory, and without the time that stands for the device's: the driver alone.
func BenchmarkRxTx(b *testing.B) {
	const batch, rounds = 32, 8
	d := model.New(model.Options{ID: pci.ID{Vendor: vendor, Device: 0x10fb}, Memory: [][]byte{make([]byte, regsSize)}})
	if err := pci.SetMaster(d, true); err != nil {
		b.Fatal(err)
	}
	pool, err := pktbuf.NewPool(pktbuf.Options{Hugepages: true})
	if err != nil {
		b.Fatal(err)
	}
	regs, err := d.BAR(0)
	if err != nil {
		b.Fatal(err)
	}
	p := &Port{card: &Card{device: d, r: regs}, stats: new(drivers.Stats), event: &nic.Event{}}
	p.part = p.card.recovery.Join()
	base, err := d.Map(pool.Region())
	if err != nil {
		b.Fatal(err)
	}
	rx, err := intel.NewRx(d, intel.RxOptions{Size: ringSize, Pool: pool, IOVA: base, Buffer: 3072, Errors: rxError, Tail: regs, Reg: rxQueue + qTail})
	if err != nil {
		b.Fatal(err)
	}
	p.rx = []*intel.RxRing{rx}
	if p.tx, err = intel.NewTx(d, intel.TxOptions{Size: ringSize, Pool: pool, IOVA: base, Command: txData, Payload: txPayload, MaxFrame: 1518, Tail: regs, Reg: txQueue + qTail}); err != nil {
		b.Fatal(err)
	}
	at, _ := rx.IOVA()
	in := arena.View[uint64](d.At(at, ringSize*16), 2*ringSize)
	at, _ = p.tx.IOVA()
	out := arena.View[uint64](d.At(at, ringSize*16), 2*ringSize)
	packets := make([]pktbuf.Packet, batch)
	next, sent, queued := 0, 0, 0
	round := func() {
		if n := p.Rx(packets); n != batch || p.Tx(packets) != batch {
			b.Fatalf("%d frames", n)
		}
		p.Flush()
	}
	device := func(n int) { // what was queued is sent, and n frames arrive
		for ; queued > 0; queued-- {
			out[2*sent+1] |= 1 << 32
			sent = (sent + 1) % ringSize
		}
		for range n {
			in[2*next+1] = 1 | 2 | 100<<32
			next = (next + 1) % ringSize
		}
		queued = n
	}
	var took []time.Duration
	for b.Loop() {
		device(rounds * batch)
		began := time.Now()
		for range rounds {
			round()
		}
		took = append(took, time.Since(began))
	}
	// The median: now and then somebody else has the processor.
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/(rounds*batch), "ns/packet")
	if a := testing.AllocsPerRun(100, func() { device(batch); round() }); a != 0 {
		b.Fatalf("%v allocations a batch", a)
	}
}
