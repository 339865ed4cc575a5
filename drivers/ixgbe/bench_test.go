package ixgbe

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/model"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
	"vita/internal/arena"
	"vita/internal/pktbuf"
)

// still is a card whose registers are memory: there is nothing to reset.
type still struct{ Card }

func (*still) Reset() error { return nil }
func (*still) Setup() error { return nil }

// BenchmarkRxTx receives batches and sends them on, with registers that are
// memory, and without the time that stands for the device's: the driver alone.
func BenchmarkRxTx(b *testing.B) {
	const batch, rounds = 32, 8
	id := pci.ID{Vendor: vendor, Device: 0x10fb}
	memory := make([]byte, regsSize)
	memory[regRAL] = 2
	d := model.New(model.Options{Address: "model:still", ID: id, Memory: [][]byte{memory}})
	defer backend.Provide("model:still", backend.Source{ID: id, Open: d.Open})()
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 8192, Hugepages: true})
	if err != nil {
		b.Fatal(err)
	}
	p, err := nic.Open(&nic.Cards{Chips: cards.Chips, Open: func(d pci.Device, c *drivers.Config) (nic.Card, error) {
		k := new(still)
		return k, k.Begin("ixgbe", form, k, d, c)
	}}, drivers.Config{PCI: "model:still", Pool: pool})
	if err != nil {
		b.Fatal(err)
	}
	ring := func(regs int) []uint64 {
		at := binary.LittleEndian.Uint64(memory[regs:])
		n := int(binary.LittleEndian.Uint32(memory[regs+8:]))
		return arena.View[uint64](d.At(at, n), n/8)
	}
	in, out := ring(rxQueue), ring(txQueue)
	ringSize := len(in) / 2
	if len(out) != len(in) {
		b.Fatal("rings of two sizes")
	}
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
