package ixgbe

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/drivertest/faults"
	"vita/drivers/drivertest/i82599"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/model"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// plain is a frame of ARP.
func plain(to [6]byte, size int) []byte {
	f := append(to[:], 2, 0, 0, 0, 0, 1, 0x08, 0x06)
	return append(f, make([]byte, size-len(f))...)
}

// TestDrops: frames without a buffer are counted by their queue, damaged ones by
// the device, for the port that has the first queue.
func TestDrops(t *testing.T) {
	c := newCable(t)
	ports := []*station{must(t, drivers.Config{Queues: []int{0}}), must(t, drivers.Config{Queues: []int{1}})}
	r := rand.New(rand.NewPCG(1, 2))
	var f []byte // for the second queue
	for f == nil {
		try := packet(r, c.mac(0))
		if hash, ok := nic.HashFrame(&nic.RSSKey, try, true); ok && hash&1 == 1 {
			f = try
		}
	}
	for range 300 {
		c.chip[0].Receive(f)
	}
	for range 7 {
		c.chip[0].Receive(plain(c.mac(0), 40))
	}
	for range 5 {
		c.chip[0].Receive(plain(c.mac(0), 1519))
	}
	ports[1].Sync()
	ports[0].Sync()
	got := len(ports[1].Take())
	if a := ports[0].Stats; a != (drivers.Stats{RxErrors: 12}) {
		t.Errorf("first port: %+v", a)
	}
	if b := ports[1].Stats; got == 0 || b.RxDrop != uint64(300-got) || b.RxPackets != uint64(got) || b.RxErrors != 0 {
		t.Errorf("%d frames arrive; second port: %+v", got, b)
	}
	// Asking again counts nothing twice.
	before := ports[1].Stats
	ports[1].Sync()
	ports[0].Sync()
	if ports[0].Stats.RxErrors != 12 || ports[1].Stats != before {
		t.Errorf("later: %+v, %+v", ports[0].Stats, ports[1].Stats)
	}
	// The next port counts for the device when the first has gone.
	ports[0].End(t)
	c.chip[0].Receive(plain(c.mac(0), 40))
	ports[1].Sync()
	if ports[1].Stats.RxErrors != 1 {
		t.Errorf("second port, alone: %+v", ports[1].Stats)
	}
}

// TestInterrupts: an interrupt comes once, for what waits as well as for what
// comes, and not again until it is asked for.
func TestInterrupts(t *testing.T) {
	c := newCable(t)
	p := must(t, drivers.Config{Queues: []int{3}})
	f := plain(c.mac(0), 100)
	fd := p.Fd()
	if n := faults.Raised(fd); n != 0 {
		t.Errorf("%d interrupts though nothing came", n)
	}
	for range 5 {
		c.chip[0].Receive(f)
	}
	if n := faults.Raised(fd); n != 1 {
		t.Errorf("%d interrupts for 5 frames", n)
	}
	// They wait still: for want of buffers, for example.
	p.Fd()
	if faults.Raised(fd) == 0 {
		t.Error("no interrupt while frames wait")
	}
	p.Fd()
	if faults.Raised(fd) == 0 {
		t.Error("no interrupt while frames still wait")
	}
	p.Take()
	for range 2 { // more comes, and is taken, without an interrupt
		c.chip[0].Receive(f)
		p.Take()
		p.Fd()
		if n := faults.Raised(fd); n != 0 {
			t.Errorf("%d interrupts though nothing waits", n)
		}
		c.chip[0].Receive(f)
		if n := faults.Raised(fd); n != 1 {
			t.Errorf("%d interrupts for a frame", n)
		}
	}
}

// TestFaults runs what any card may do wrong.
func TestFaults(t *testing.T) {
	faults.Run(t, func(t *testing.T) *faults.Card {
		c := newCable(t)
		var sent atomic.Int64
		c.chip[0].SetSend(func([]byte) { sent.Add(1) })
		return &faults.Card{
			Open: on0, Device: c.device[0], Receive: c.chip[0].Receive, Sent: func() int { return int(sent.Load()) },
			Link: c.chip[0].SetLink, Speed: 10000, Hang: c.chip[0].Freeze,
			Dies:  map[string]func(){"no reset": c.chip[0].Kill},
			Stick: func() { c.chip[0].Stick(1) },
			Alone: true, Wakes: true, Threads: true, Queues: rssQueues,
		}
	})
}

// TestPoolsRecover has the device hang while two ports with an address each use
// it, and all that work as before after the reset.
func TestPoolsRecover(t *testing.T) {
	c := newCable(t)
	var ports []*station
	macs := [][6]byte{{2, 0, 0, 0, 0, 0}, {2, 0, 0, 0, 0, 1}}
	for i, mac := range macs {
		ports = append(ports, must(t, drivers.Config{Queues: []int{i}, MAC: mac}))
	}
	r := rand.New(rand.NewPCG(1, 2))
	c.chip[0].Freeze()
	ports[0].Put(20, 100)
	for range 3 { // nothing waits at the second port: the first one finds out
		faults.Rounds(1, ports...)
	}
	for n, p := range ports {
		if i := p.Info(); i.Resets != 1 || i.TxWaiting != 0 || i.Fault != "" {
			t.Errorf("port %d: %+v", n, i)
		}
	}
	for i := range 200 {
		if !c.chip[0].Receive(packet(r, macs[i%2])) || len(ports[i%2].Take()) != 1 {
			t.Fatal("nothing is received after the reset")
		}
	}
	for n, p := range ports {
		p.Put(40, 100)
		p.Flush()
		if w := p.Info().TxWaiting; w != 0 {
			t.Errorf("port %d: %d frames wait after the reset", n, w)
		}
	}
}

// TestSlowIsNoHang: a device that sends something each time is none that hangs.
func TestSlowIsNoHang(t *testing.T) {
	c := newCable(t)
	p := must(t, drivers.Config{})
	c.chip[0].Freeze()
	for range 6 {
		p.Put(1, 100)
	}
	base := c.ring(txQueue)
	for i := range uint64(5) {
		p.Sync()
		c.device[0].At(base+i*16+12, 1)[0] |= 1 // done
		p.Flush()
	}
	if i := p.Info(); i.Resets != 0 || i.TxWaiting != 1 {
		t.Errorf("%+v", i)
	}
}

// descriptor is the i-th of the port's ring for receiving, as the device sees it.
func descriptor(t *testing.T, c *cable, i int) []byte {
	t.Helper()
	base := c.ring(rxQueue)
	b := c.device[0].At(base+uint64(i)*16, 16)
	if b == nil {
		t.Fatal("no ring")
	}
	return b
}

// ring is where the ring of a queue is, by the queue's first registers.
func (c *cable) ring(regs uint32) uint64 {
	return uint64(c.chip[0].Read32(regs)) | uint64(c.chip[0].Read32(regs+4))<<32
}

// TestLyingDevice writes descriptors that no device should write.
func TestLyingDevice(t *testing.T) {
	const done, end = 1, 2
	for _, k := range []struct {
		name   string
		words  []uint64 // second words, from the first descriptor on
		errors uint64
	}{
		{"no length", []uint64{done | end}, 1},
		{"shorter than a header", []uint64{done | end | 13<<32}, 1},
		{"longer than the buffer", []uint64{done | end | 3073<<32}, 1},
		{"longer than any", []uint64{done | end | 0xffff<<32}, 1},
		{"all ones", []uint64{^uint64(0)}, 1},
		{"an error", []uint64{done | end | rxError | 100<<32}, 1},
		{"in parts", []uint64{done | 3072<<32, done | 3072<<32, done | end | 10<<32}, 1},
		{"a part that does not end", []uint64{done | 100<<32}, 0},
		{"not done", []uint64{end | 100<<32}, 0},
	} {
		t.Run(k.name, func(t *testing.T) {
			c := newCable(t)
			p := must(t, drivers.Config{})
			for i, w := range k.words {
				d := descriptor(t, c, i)
				binary.LittleEndian.PutUint64(d, ^uint64(0)) // its address is not believed
				binary.LittleEndian.PutUint64(d[8:], w)
			}
			if got := p.Take(); len(got) != 0 {
				t.Fatalf("%d frames arrive", len(got))
			}
			if p.Stats.RxErrors != k.errors || p.Stats.RxPackets != 0 {
				t.Errorf("%+v", p.Stats)
			}
		})
	}
	t.Run("any", func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		c := newCable(t)
		p := must(t, drivers.Config{})
		n := p.Info().RxWaiting
		for range 2000 {
			for range r.IntN(8) {
				d := descriptor(t, c, r.IntN(128))
				binary.LittleEndian.PutUint64(d, r.Uint64())
				binary.LittleEndian.PutUint64(d[8:], r.Uint64()&^(r.Uint64()&0xffff<<40)|uint64(r.IntN(4)))
			}
			for _, f := range p.Take() {
				if len(f) < headerLen || len(f) > 3072 {
					t.Fatalf("a frame of %d bytes", len(f))
				}
			}
			if p.Info().RxWaiting < n || p.Info().RxWaiting > 128 {
				t.Fatalf("%d frames wait", p.Info().RxWaiting)
			}
		}
	})
	t.Run("sent what was not", func(t *testing.T) {
		c := newCable(t)
		p := must(t, drivers.Config{})
		c.chip[0].Freeze()
		p.Put(5, 100)
		base := c.ring(txQueue)
		for i := range uint64(1024) { // the whole ring
			binary.LittleEndian.PutUint64(c.device[0].At(base+i*16+8, 8), ^uint64(0))
		}
		p.Flush()
		p.Flush()
		if w := p.Info().TxWaiting; w != 0 || p.Stats.TxPackets != 5 {
			t.Errorf("%d frames wait: %+v", w, p.Stats)
		}
	})
}

// broken is a device of which a register says something else.
type broken struct {
	*i82599.Device
	load func(off int, v uint32) uint32
}

func (b broken) Load(_, off, _ int) uint64     { return uint64(b.load(off, b.Read32(uint32(off)))) }
func (b broken) Store(_, off, _ int, v uint64) { b.Write32(uint32(off), uint32(v)) }

// openBroken opens a port of a broken device.
func openBroken(t *testing.T, load func(off int, v uint32) uint32, cfg drivers.Config, frame int) (*i82599.Device, *model.Device, *pktbuf.Pool, drivers.Port, error) {
	t.Helper()
	chip := i82599.New(i82599.Options{MAC: [6]byte{0, 0x1b, 0x21, 0, 0, 1}})
	id := pci.ID{Vendor: vendor, Device: 0x10fb}
	d := model.New(model.Options{Address: "model:broken", ID: id, BARs: []int{regsSize}, Chip: broken{chip, load}, Vectors: 4})
	t.Cleanup(backend.Provide("model:broken", backend.Source{ID: id, Open: d.Open}))
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 256, FrameSize: frame})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	cfg.PCI, cfg.Pool = "model:broken", pool
	p, err := Open(cfg)
	return chip, d, pool, p, err
}

// TestPassedOver: a device that leaves a descriptor out is reset.
func TestPassedOver(t *testing.T) {
	c := newCable(t)
	p := must(t, drivers.Config{})
	binary.LittleEndian.PutUint64(descriptor(t, c, 1)[8:], 1|2|100<<32) // behind the first
	p.Take()
	p.Sync()
	if p.Flush(); p.Info().Resets != 0 {
		t.Error("reset at once, though the descriptor may be on its way")
	}
	p.Sync()
	p.Flush()
	p.Flush()
	if i := p.Info(); i.Resets != 1 {
		t.Errorf("%+v", i)
	}
	if !c.chip[0].Receive(plain(c.mac(0), 60)) || len(p.Take()) != 1 {
		t.Error("nothing is received after the reset")
	}
}

// TestCountersGone: counters that read as ones, as they do when the device goes
// while they are read, count nothing.
func TestCountersGone(t *testing.T) {
	gone := false
	var stats drivers.Stats
	_, _, _, p, err := openBroken(t, func(off int, v uint32) uint32 {
		if gone && off != regLINKS && off != regSTATUS {
			return allOnes
		}
		return v
	}, drivers.Config{Stats: &stats}, 4096)
	if err != nil {
		t.Fatal(err)
	}
	gone = true
	p.Sync()
	gone = false
	if stats != (drivers.Stats{}) {
		t.Errorf("%+v", stats)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	as := func(reg int, v uint32) func(int, uint32) uint32 {
		return func(off int, was uint32) uint32 {
			if off == reg {
				return v
			}
			return was
		}
	}
	honest := func(_ int, v uint32) uint32 { return v }
	for _, k := range []struct {
		name   string
		load   func(off int, v uint32) uint32
		config drivers.Config
		frame  int
		says   string
	}{
		{"MTU too large", honest, drivers.Config{MTU: 9001}, 16384, "MTU 9001: the device has 68 to 9000"},
		{"MTU too small", honest, drivers.Config{MTU: 67}, 4096, "MTU 67"},
		{"buffers too small", honest, drivers.Config{MTU: 9000}, 8192, "MTU 9000 needs 9018 bytes a frame, a buffer has 7168"},
		{"no address", as(regRAL, 0), drivers.Config{}, 4096, ""},
		{"a group's address", as(regRAL, 1), drivers.Config{}, 4096, "no valid address"},
		{"a reset without end", as(regCTRL, ctrlReset), drivers.Config{}, 4096, "does not come out of its reset"},
		{"memory that is never ready", as(regRDRXCTL, 0), drivers.Config{}, 4096, "memory is not ready"},
		{"all ones", func(int, uint32) uint32 { return allOnes }, drivers.Config{}, 4096, "does not answer"},
		{"memory that goes on", as(regSTATUS, statusMaster), drivers.Config{}, 4096, ""},
	} {
		t.Run(k.name, func(t *testing.T) {
			began := time.Now()
			_, d, pool, p, err := openBroken(t, k.load, k.config, k.frame)
			if k.says == "" && err == nil { // it is of use all the same
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), k.says) {
				t.Errorf("%v", err)
			}
			if took := time.Since(began); took > 20*time.Second { // of a busy machine: it ends
				t.Errorf("it took %s", took)
			}
			if d.Mapped() != 0 || d.Master() || pool.Available() != pool.Frames() {
				t.Errorf("left: %d mappings, master %v, %d of %d buffers", d.Mapped(), d.Master(), pool.Available(), pool.Frames())
			}
		})
	}
	for _, id := range []pci.ID{{Vendor: vendor, Device: 0x1234}, {Vendor: 0x1234, Device: 0x10fb}} {
		remove := backend.Provide("model:other", backend.Source{ID: id})
		if _, err := Open(drivers.Config{PCI: "model:other"}); !errors.Is(err, drivers.ErrUnknownDevice) || !strings.Contains(err.Error(), id.String()) {
			t.Errorf("%v: %v", id, err)
		}
		remove()
	}
}
