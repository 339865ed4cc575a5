package gbe_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/drivertest/i8257x"
	"vita/drivers/igb"
	"vita/drivers/internal/nic"
	"vita/internal/pktbuf"
)

// rig is one card under test, and the far end of its cable.
type rig struct {
	*i8257x.Pair
	t     *testing.T
	card  *i8257x.Card
	name  string
	open  drivers.Opener
	batch []pktbuf.Packet
}

// part is a port with what belongs to it.
type part struct {
	drivers.Port
	pool  *pktbuf.Pool
	stats drivers.Stats
}

func newRig(t *testing.T, chip int) *rig {
	p := i8257x.New(i8257x.Options{Chip: chips[chip].id, Name: t.Name()})
	t.Cleanup(p.Close)
	return &rig{Pair: p, t: t, card: p.Cards[0], name: t.Name() + ":a", open: chips[chip].open, batch: make([]pktbuf.Packet, 64)}
}

func (r *rig) port(c drivers.Config) *part {
	r.t.Helper()
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 1024})
	if err != nil {
		r.t.Fatal(err)
	}
	p := &part{pool: pool}
	c.PCI, c.Pool, c.Stats = r.name, pool, &p.stats
	if p.Port, err = r.open(c); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = pool.Close() })
	return p
}

// close closes a port, whose buffers must all come back.
func (r *rig) close(p *part) {
	r.t.Helper()
	began := time.Now()
	if err := p.Close(); err != nil {
		r.t.Error(err)
	}
	if n := p.pool.Available(); n != p.pool.Frames() {
		r.t.Errorf("%d of %d buffers in the pool after Close", n, p.pool.Frames())
	}
	if d := time.Since(began); d > time.Second {
		r.t.Errorf("closing took %s", d)
	}
}

// frame returns a frame for the card.
func (r *rig) frame(size int) []byte {
	f := make([]byte, size)
	copy(f, []byte{2, 0, 0, 0, 0, 0x0a, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	return f
}

// send sends n frames and returns how many the port has taken.
func (r *rig) send(p *part, n int) (taken int) {
	for range n {
		k, ok := p.pool.Get()
		if !ok {
			break
		}
		k.Len = 100
		copy(p.pool.Bytes(k), []byte{2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
		if r.batch[0] = k; p.Tx(r.batch[:1]) == 1 {
			taken++
		} else {
			p.pool.Put(k)
		}
	}
	p.Flush()
	return taken
}

// receive takes what has come.
func (r *rig) receive(p *part) (n int) {
	for {
		m := p.Rx(r.batch)
		p.pool.PutBatch(r.batch[:m])
		p.Flush()
		if n += m; m == 0 {
			return n
		}
	}
}

// works checks that frames go both ways.
func (r *rig) works(p *part) {
	r.t.Helper()
	sent := r.card.Sent()
	if n := r.send(p, 20); n != 20 || r.card.Sent() != sent+20 {
		r.t.Errorf("%d frames taken, %d sent", n, r.card.Sent()-sent)
	}
	for range 20 {
		r.card.Inject(r.frame(200))
	}
	if n := r.receive(p); n != 20 {
		r.t.Errorf("%d of 20 frames come", n)
	}
}

// TestLies has a card that writes back what it likes. The driver must survive,
// count, never hand on a frame that does not fit its buffer, and work again when
// the card does.
func TestLies(t *testing.T) {
	for i, chip := range chips {
		t.Run(chip.name, func(t *testing.T) {
			r := newRig(t, i)
			p := r.port(drivers.Config{})
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			r.card.Lie(func(_ int, back *[2]uint64) {
				back[0] = rnd.Uint64()
				switch rnd.IntN(4) {
				case 0:
					back[1] = rnd.Uint64() | 1
				case 1:
					back[1] = 3 | uint64(rnd.IntN(1<<16))<<32
				case 2:
					back[1] ^= 1 << rnd.IntN(64)
					back[1] |= 1
				}
			})
			for range 3000 {
				r.card.Inject(r.frame(60 + rnd.IntN(1400)))
				n := p.Rx(r.batch)
				for _, k := range r.batch[:n] {
					if k.Off != pktbuf.Headroom || k.Len < 14 || int(k.Off)+int(k.Len) > p.pool.FrameSize() {
						t.Fatalf("frame %+v", k)
					}
				}
				p.pool.PutBatch(r.batch[:n])
				p.Flush()
			}
			if p.stats.RxErrors < 300 || p.stats.RxPackets < 300 || p.stats.RxDMAPackets != p.stats.RxPackets+p.stats.RxErrors {
				t.Errorf("%+v", p.stats)
			}
			r.card.Lie(nil)
			r.card.Inject(r.frame(60)) // ends what a frame without an end has begun
			r.receive(p)
			r.works(p)
			if n := r.card.Device.Faults(); n > 0 {
				t.Errorf("%d times, memory was used that is not the card's", n)
			}
			r.close(p)
		})
	}
}

// TestSkippedDescriptor has a card that leaves a descriptor out: what comes
// behind it could wait for ever.
func TestSkippedDescriptor(t *testing.T) {
	r := newRig(t, 0)
	p := r.port(drivers.Config{})
	n := 0
	r.card.Lie(func(_ int, back *[2]uint64) {
		if n++; n == 5 {
			back[1] = 0
		}
	})
	for range 10 {
		r.card.Inject(r.frame(60))
	}
	if n := r.receive(p); n != 4 {
		t.Fatalf("%d frames come", n)
	}
	p.Sync()
	if p.Flush(); p.Info().Resets != 0 {
		t.Error("reset at once")
	}
	p.Sync()
	p.Flush()
	if n := p.Info().Resets; n != 1 {
		t.Fatalf("%d resets", n)
	}
	r.works(p)
	r.close(p)
}

// TestHang has a card that sends nothing any more. Its ports, in turn, see to a
// reset, and go on.
func TestHang(t *testing.T) {
	for i, chip := range chips {
		t.Run(chip.name, func(t *testing.T) {
			r := newRig(t, i)
			a, b := r.port(drivers.Config{Queues: []int{0}, Every: 2}), r.port(drivers.Config{Queues: []int{1}, Every: 2})
			r.works(a)
			r.card.Hang()
			if n := r.send(a, 30); n != 30 {
				t.Fatalf("%d frames taken", n)
			}
			for range 2 { // of a worker's time, a second each
				a.Sync()
				b.Sync()
			}
			a.Flush()
			if a.Info().Resets != 0 || a.Rx(r.batch) != 0 || r.send(a, 1) != 0 {
				t.Fatal("the card was reset while a port used it")
			}
			b.Flush()
			a.Flush()
			if a.Info().Resets != 1 || a.stats.TxDrop != 30 || b.stats.TxDrop != 0 {
				t.Fatalf("%d resets, %d and %d frames dropped", a.Info().Resets, a.stats.TxDrop, b.stats.TxDrop)
			}
			r.works(a)
			// One that closes meanwhile does not keep the other waiting.
			r.card.Hang()
			r.send(a, 1)
			for range 2 {
				a.Sync()
			}
			a.Flush()
			r.close(b)
			a.Flush()
			if a.Info().Resets != 2 {
				t.Errorf("%d resets", a.Info().Resets)
			}
			r.works(a)
			r.close(a)
			if d := r.card.Device; d.Mapped() != 0 || d.Master() || d.Faults() != 0 {
				t.Errorf("%d ranges mapped, master %v, %d faults", d.Mapped(), d.Master(), d.Faults())
			}
		})
	}
}

// TestQueueDoesNotStop: a card whose queue does not stop reaches no memory from
// then on, until its other port has had it reset.
func TestQueueDoesNotStop(t *testing.T) {
	for i, chip := range chips {
		if chip.name == "82574" {
			continue // its queues stop with the whole receiver
		}
		t.Run(chip.name, func(t *testing.T) {
			r := newRig(t, i)
			a, b := r.port(drivers.Config{Queues: []int{0}, Every: 2}), r.port(drivers.Config{Queues: []int{1}, Every: 2})
			r.works(a)
			r.card.Stick(1)
			if err := b.Close(); err == nil || !strings.Contains(err.Error(), "do not stop") {
				t.Errorf("%v", err)
			}
			if r.card.Device.Master() {
				t.Error("the card reaches memory still")
			}
			for range 3 {
				a.Flush()
			}
			if i := a.Info(); !r.card.Device.Master() || i.Resets != 1 || i.Fault != "" {
				t.Errorf("master %v, %+v", r.card.Device.Master(), i)
			}
			r.works(a)
			r.close(a)
		})
	}
}

// TestWorkers has ports that are used, opened and closed at the same time, on a
// card that hangs again and again: nobody waits for ever, and no buffer is lost.
func TestWorkers(t *testing.T) {
	r := newRig(t, 0)
	const workers = 3
	stop := make(chan struct{})
	var done sync.WaitGroup
	var resets atomic.Int64
	for w := range workers {
		pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 1024})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pool.Close() })
		done.Go(func() {
			batch := make([]pktbuf.Packet, 32)
			for n := 0; ; n++ {
				p, err := igb.Open(drivers.Config{PCI: r.name, Pool: pool, Queues: []int{w}, Every: workers})
				if err != nil {
					t.Error(err)
					return
				}
				for range 200 + 100*w {
					for i := range batch {
						k, ok := pool.Get()
						if !ok {
							batch = batch[:i]
							break
						}
						k.Len = 100
						batch[i] = k
					}
					taken := p.Tx(batch)
					pool.PutBatch(batch[taken:])
					p.Flush()
					p.Sync()
					m := p.Rx(batch[:cap(batch)])
					pool.PutBatch(batch[:m])
					batch = batch[:cap(batch)]
					runtime.Gosched()
				}
				resets.Store(int64(p.Info().Resets))
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				if a := pool.Available(); a != pool.Frames() {
					t.Errorf("%d of %d buffers in the pool after Close", a, pool.Frames())
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	most := int64(0)
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		r.card.Hang()
		r.card.Inject(r.frame(100))
		most = max(most, resets.Load())
	}
	close(stop)
	ended := make(chan struct{})
	go func() { done.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("a worker waits for ever")
	}
	if most == 0 {
		t.Error("the card was never reset")
	}
	if d := r.card.Device; d.Mapped() != 0 || d.Faults() != 0 {
		t.Errorf("%d ranges mapped, %d faults", d.Mapped(), d.Faults())
	}
}

// TestDeath has a card that a reset does not bring back, and one that is taken
// away. Its port must say so, move nothing, and close.
func TestDeath(t *testing.T) {
	for name, die := range map[string]func(*rig){
		"no reset": func(r *rig) { r.card.Kill() },
		"removed":  func(r *rig) { r.card.Device.Remove() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 0)
			p := r.port(drivers.Config{})
			r.works(p)
			die(r)
			r.send(p, 10)
			for range 3 {
				p.Sync()
				p.Flush()
			}
			i := p.Info()
			if i.LinkUp || i.Fault == "" || name == "no reset" && r.card.Device.Master() { // before any buffer goes back
				t.Errorf("%+v, master %v", i, r.card.Device.Master())
			}
			for range 3000 { // until the ring is full, if it takes them at all
				r.send(p, 1)
			}
			if n := r.send(p, 1); n != 0 {
				t.Error("a dead card sends")
			}
			if p.Rx(r.batch) != 0 {
				t.Error("a dead card receives")
			}
			r.close(p)
		})
	}
}

// TestAddresses gives ports addresses of their own.
func TestAddresses(t *testing.T) {
	r := newRig(t, 0)
	mac := [6]byte{2, 0, 0, 0, 7, 7}
	p, q := r.port(drivers.Config{Queues: []int{0}, Every: 16, MAC: mac}), r.port(drivers.Config{Queues: []int{1}, Every: 16, MAC: mac})
	other := r.frame(60)
	copy(other, mac[:])
	if !r.card.Inject(other) || !r.card.Inject(r.frame(60)) || r.receive(p) != 2 {
		t.Error("what is for the port, or for the card, is not received")
	}
	other[5]++
	if r.card.Inject(other) {
		t.Error("what is for nobody here is received")
	}
	other[5]--
	r.close(p)
	if !r.card.Inject(other) || r.receive(q) != 1 {
		t.Error("the address is forgotten though a port has it")
	}
	r.close(q)
	q = r.port(drivers.Config{})
	if r.card.Inject(other) {
		t.Error("the address is received though no port has it")
	}
	r.close(q)
	var ports []*part
	for i := range 15 {
		ports = append(ports, r.port(drivers.Config{Queues: []int{i}, Every: 16, MAC: [6]byte{2, 0, 0, 0, 8, byte(i)}}))
	}
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := igb.Open(drivers.Config{PCI: r.name, Pool: pool, Queues: []int{15}, Every: 16, MAC: [6]byte{2, 0, 0, 0, 9, 9}}); !errors.Is(err, drivers.ErrUnsupported) || pool.Available() != 512 {
		t.Errorf("%v, %d buffers", err, pool.Available())
	}
	for _, p := range ports {
		r.close(p)
	}
}

// TestRSS gives a card a key and a table of our own.
func TestRSS(t *testing.T) {
	for i, chip := range chips {
		t.Run(chip.name, func(t *testing.T) {
			r := newRig(t, i)
			rnd := rand.New(rand.NewPCG(9, uint64(i)))
			rss := &drivers.RSS{Table: []uint8{0, 0, 1}}
			for i := range rss.Key {
				rss.Key[i] = byte(rnd.Uint32())
			}
			ports := []*part{r.port(drivers.Config{Queues: []int{0}, Every: 2, RSS: rss}), r.port(drivers.Config{Queues: []int{1}, Every: 2})}
			came := [2]int{}
			for range 300 {
				f := r.frame(60)
				copy(f[12:], []byte{8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 50})
				binary.LittleEndian.PutUint64(f[26:], rnd.Uint64())
				hash, ok := nic.HashFrame(&rss.Key, f, true)
				want := int(rss.Table[hash&127%3])
				if !ok || !r.card.Inject(f) || r.receive(ports[want]) != 1 {
					t.Fatalf("hash %#x: no frame by queue %d", hash, want)
				}
				came[want]++
			}
			if came[0] < 150 || came[1] < 50 { // two thirds, one third
				t.Errorf("%v", came)
			}
			r.close(ports[0])
			r.close(ports[1])
		})
	}
}

// TestTags has frames with VLAN tags, which stay in them, up to the MTU.
func TestTags(t *testing.T) {
	r := newRig(t, 3)
	p := r.port(drivers.Config{Tagged: true})
	f := r.frame(1518)
	copy(f[12:], []byte{0x81, 0, 0, 5, 8, 0})
	if !r.card.Inject(f) || p.Rx(r.batch) != 1 || string(p.pool.Bytes(r.batch[0])) != string(f) {
		t.Error("a tagged frame of the largest size does not come as it was")
	}
	p.pool.PutBatch(r.batch[:1])
	if r.card.Inject(append(f, 0)) {
		t.Error("a frame longer than the MTU comes")
	}
	if p.Sync(); p.stats.RxErrors != 1 {
		t.Errorf("%+v", p.stats)
	}
	r.close(p)
}

// TestPools has ports that do not fit among those with an address and a queue
// each. What the pools do is in the suite.
func TestPools(t *testing.T) {
	r := newRig(t, 0)
	mac := [6]byte{2, 0, 0, 0, 7, 7}
	p := r.port(drivers.Config{Queues: []int{3}, MAC: mac})
	for _, c := range []struct {
		config drivers.Config
		err    error
		says   string
	}{
		{drivers.Config{Queues: []int{4}, MAC: mac}, drivers.ErrBusy, "queue 4's"},
		{drivers.Config{Queues: []int{3}, MAC: [6]byte{2, 0, 0, 0, 7, 8}}, drivers.ErrBusy, "queue 4"},
		{drivers.Config{Queues: []int{8}, MAC: [6]byte{2, 0, 0, 0, 7, 8}}, drivers.ErrUnsupported, "the device has 8"},
		{drivers.Config{Queues: []int{4}}, drivers.ErrUnsupported, "an address and a queue each"},
		{drivers.Config{Queues: []int{4}, MAC: [6]byte{2, 0, 0, 0, 7, 8}, Tagged: true}, drivers.ErrUnsupported, "without VLANs"},
	} {
		c.config.PCI, c.config.Pool = r.name, p.pool
		before := p.pool.Available()
		if _, err := igb.Open(c.config); !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) || p.pool.Available() != before {
			t.Errorf("%+v: %v, %d buffers of %d", c.config.Queues, err, p.pool.Available(), before)
		}
	}
	f := r.frame(60)
	copy(f, mac[:])
	if !r.card.Inject(f) || r.receive(p) != 1 {
		t.Error("the first port does not receive any more")
	}
	if r.card.Inject(r.frame(60)) {
		t.Error("the card's own address, which no port has, is received")
	}
	r.close(p)
}

func TestNoInterrupts(t *testing.T) {
	p := i8257x.New(i8257x.Options{Chip: 0x10c9, Name: t.Name(), Vectors: -1})
	defer p.Close()
	r := &rig{Pair: p, t: t, card: p.Cards[0], name: t.Name() + ":a", open: igb.Open, batch: make([]pktbuf.Packet, 64)}
	port := r.port(drivers.Config{})
	if fd := port.Fd(); fd != -1 {
		t.Errorf("descriptor %d", fd)
	}
	r.works(port)
	r.close(port)
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		config drivers.Config
		frames pktbuf.Options
		spoil  func(*i8257x.Card)
		says   string
	}{
		{"MTU too large", drivers.Config{MTU: 9001}, pktbuf.Options{FrameSize: 16384}, nil, "68 to 9000"},
		{"MTU too small", drivers.Config{MTU: 67}, pktbuf.Options{}, nil, "68 to 9000"},
		{"buffers too small", drivers.Config{MTU: 9000}, pktbuf.Options{}, nil, "a buffer has 3072"},
		{"too few buffers", drivers.Config{}, pktbuf.Options{Frames: 16}, nil, "pool is empty"},
		{"queue out of range", drivers.Config{Queues: []int{16}}, pktbuf.Options{}, nil, "the device has 16"},
		{"gone", drivers.Config{}, pktbuf.Options{}, func(c *i8257x.Card) { c.Device.Remove() }, "does not answer"},
		{"no reset", drivers.Config{}, pktbuf.Options{}, func(c *i8257x.Card) { c.Kill() }, "does not come out of its reset"},
		{"no address", drivers.Config{}, pktbuf.Options{}, func(c *i8257x.Card) { c.SetMAC([6]byte{}) }, "no valid address"},
		{"a group's address", drivers.Config{}, pktbuf.Options{}, func(c *i8257x.Card) { c.SetMAC([6]byte{1, 2, 3, 4, 5, 6}) }, "no valid address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 0)
			if c.frames.Frames == 0 {
				c.frames.Frames = 256
			}
			pool, err := pktbuf.NewPool(c.frames)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			if c.spoil != nil {
				c.spoil(r.card)
			}
			c.config.PCI, c.config.Pool = r.name, pool
			_, err = igb.Open(c.config)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if pool.Available() != pool.Frames() || r.card.Device.Mapped() != 0 || r.card.Device.Master() {
				t.Errorf("%d of %d buffers, %d ranges mapped, master %v", pool.Available(), pool.Frames(), r.card.Device.Mapped(), r.card.Device.Master())
			}
			if d, err := r.card.Device.Open(); err != nil {
				t.Errorf("the device stays open: %v", err)
			} else {
				_ = d.Close()
			}
		})
	}
}
