package gbe_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest/faults"
	"vita/drivers/drivertest/i8257x"
	"vita/internal/pktbuf"
)

// rig is one card under test, whose cable ends here.
type rig struct {
	*faults.Card
	t    *testing.T
	card *i8257x.Card
}

func newRig(t *testing.T, chip int) *rig {
	return rigOf(t, chip, i8257x.Options{Chip: chips[chip].id, Name: t.Name()})
}

func rigOf(t *testing.T, chip int, o i8257x.Options) *rig {
	p := i8257x.New(o)
	t.Cleanup(p.Close)
	a := p.Cards[0]
	c := &faults.Card{
		Open: func(c drivers.Config) (drivers.Port, error) {
			c.PCI = o.Name + ":a"
			return chips[chip].open(c)
		},
		Device: a.Device, Receive: a.Inject, Sent: a.Sent, Link: p.Cable, Speed: 1000, Hang: a.Hang,
		Dies:  map[string]func(){"no reset": a.Kill},
		Alone: true, Wakes: true, Threads: true, Queues: chips[chip].queues,
	}
	if chips[chip].id != 0x10d3 { // whose queues stop with the whole receiver
		c.Stick = func() { a.Stick(1) }
	}
	return &rig{c, t, a}
}

func (r *rig) port(c drivers.Config) *faults.Station { return faults.Must(r.t, r.Open, c) }

// plain is a frame for the card that has no hash.
func plain(size int) []byte {
	f := make([]byte, size)
	copy(f, []byte{2, 0, 0, 0, 0, 0x0a, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	return f
}

// TestFaults runs what any card may do wrong.
func TestFaults(t *testing.T) {
	for i, chip := range chips {
		t.Run(chip.name, func(t *testing.T) {
			faults.Run(t, func(t *testing.T) *faults.Card { return newRig(t, i).Card })
		})
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
				r.card.Inject(plain(60 + rnd.IntN(1400)))
				n := p.Rx(p.Batch[:])
				for _, k := range p.Batch[:n] {
					if k.Off != pktbuf.Headroom || k.Len < 14 || int(k.Off)+int(k.Len) > p.Pool.FrameSize() {
						t.Fatalf("frame %+v", k)
					}
				}
				p.Pool.PutBatch(p.Batch[:n])
				p.Flush()
			}
			if p.Stats.RxErrors < 300 || p.Stats.RxPackets < 300 || p.Stats.RxDMAPackets != p.Stats.RxPackets+p.Stats.RxErrors {
				t.Errorf("%+v", p.Stats)
			}
			r.card.Lie(nil)
			r.card.Inject(plain(60)) // ends what a frame without an end has begun
			p.Take()
			r.Works(t, p)
			if n := r.card.Device.Faults(); n > 0 {
				t.Errorf("%d times, memory was used that is not the card's", n)
			}
			p.End(t)
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
		r.card.Inject(plain(60))
	}
	if n := len(p.Take()); n != 4 {
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
	r.Works(t, p)
	p.End(t)
}

// TestAddresses gives ports addresses of their own.
func TestAddresses(t *testing.T) {
	r := newRig(t, 0)
	mac := [6]byte{2, 0, 0, 0, 7, 7}
	p, q := r.port(drivers.Config{Queues: []int{0}, Every: 16, MAC: mac}), r.port(drivers.Config{Queues: []int{1}, Every: 16, MAC: mac})
	other := plain(60)
	copy(other, mac[:])
	if !r.card.Inject(other) || !r.card.Inject(plain(60)) || len(p.Take()) != 2 {
		t.Error("what is for the port, or for the card, is not received")
	}
	other[5]++
	if r.card.Inject(other) {
		t.Error("what is for nobody here is received")
	}
	other[5]--
	p.End(t)
	if !r.card.Inject(other) || len(q.Take()) != 1 {
		t.Error("the address is forgotten though a port has it")
	}
	q.End(t)
	q = r.port(drivers.Config{})
	if r.card.Inject(other) {
		t.Error("the address is received though no port has it")
	}
	q.End(t)
	var ports []*faults.Station
	for i := range 15 {
		ports = append(ports, r.port(drivers.Config{Queues: []int{i}, Every: 16, MAC: [6]byte{2, 0, 0, 0, 8, byte(i)}}))
	}
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := r.Open(drivers.Config{Pool: pool, Queues: []int{15}, Every: 16, MAC: [6]byte{2, 0, 0, 0, 9, 9}}); !errors.Is(err, drivers.ErrUnsupported) || pool.Available() != 512 {
		t.Errorf("%v, %d buffers", err, pool.Available())
	}
	for _, p := range ports {
		p.End(t)
	}
}

// TestTags has frames with VLAN tags, which stay in them, up to the MTU.
func TestTags(t *testing.T) {
	r := newRig(t, 3)
	p := r.port(drivers.Config{Tagged: true})
	f := plain(1518)
	copy(f[12:], []byte{0x81, 0, 0, 5, 8, 0})
	if !r.card.Inject(f) || p.Rx(p.Batch[:]) != 1 || string(p.Pool.Bytes(p.Batch[0])) != string(f) {
		t.Error("a tagged frame of the largest size does not come as it was")
	}
	p.Pool.PutBatch(p.Batch[:1])
	if r.card.Inject(append(f, 0)) {
		t.Error("a frame longer than the MTU comes")
	}
	if p.Sync(); p.Stats.RxErrors != 1 {
		t.Errorf("%+v", p.Stats)
	}
	p.End(t)
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
		c.config.Pool = p.Pool
		before := p.Pool.Available()
		if _, err := r.Open(c.config); !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) || p.Pool.Available() != before {
			t.Errorf("%+v: %v, %d buffers of %d", c.config.Queues, err, p.Pool.Available(), before)
		}
	}
	f := plain(60)
	copy(f, mac[:])
	if !r.card.Inject(f) || len(p.Take()) != 1 {
		t.Error("the first port does not receive any more")
	}
	if r.card.Inject(plain(60)) {
		t.Error("the card's own address, which no port has, is received")
	}
	p.End(t)
}

func TestNoInterrupts(t *testing.T) {
	r := rigOf(t, 0, i8257x.Options{Chip: chips[0].id, Name: t.Name(), Vectors: -1})
	p := r.port(drivers.Config{})
	if fd := p.Fd(); fd != -1 {
		t.Errorf("descriptor %d", fd)
	}
	r.Works(t, p)
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
			c.config.Pool = pool
			_, err = r.Open(c.config)
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
