package faults

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/internal/model"
	"vita/drivers/internal/nic"
	"vita/internal/pktbuf"
)

// Card is the model of a card whose other end of the cable is the test, and its
// driver. Frames are spread over queues by hash.
type Card struct {
	Open    drivers.Opener
	Device  *model.Device
	Receive func(frame []byte) bool // a frame arrives: false if it is dropped
	Sent    func() int              // frames that the card has sent
	Link    func(up bool)
	Speed   int               // of the link, Mbit/s
	Hang    func()            // it sends nothing any more, until it is reset
	Breaks  map[string]func() // it hangs, and says so, or shows it
	Dies    map[string]func() // it hangs, and no reset brings it back
	Stick   func()            // its queue for receiving 1 does not stop before it is reset; nil: all do
	Alone   bool              // a port's queues stop without a reset of the card
	Wakes   bool              // one descriptor is for all queues of a port
	Threads bool              // several goroutines may use it
	Queues  int               // for as many ports, or at least three
}

// Run runs all; fresh is called for each part, and has the card looked after
// when that ends.
func Run(t *testing.T, fresh func(t *testing.T) *Card) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, *Card)
	}{
		{"Hang", hang},
		{"Pause", pause},
		{"Removed", removed},
		{"RemovedInReset", removedInReset},
		{"Partners", partners},
		{"Sticks", sticks},
		{"NoBuffers", noBuffers},
		{"Link", link},
		{"SeveralQueues", severalQueues},
		{"Spread", spread},
		{"Workers", workers},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, watched(t, fresh)) })
	}
	of := fresh(t)
	for name := range of.Breaks {
		t.Run(name, func(t *testing.T) {
			c := watched(t, fresh)
			breaks(t, c, c.Breaks[name])
		})
	}
	for name := range of.Dies {
		t.Run(name, func(t *testing.T) {
			c := watched(t, fresh)
			dies(t, c, c.Dies[name])
		})
	}
}

// watched looks, when all ports are closed, at what is left of their use of the
// card.
func watched(t *testing.T, fresh func(t *testing.T) *Card) *Card {
	t.Helper()
	c := fresh(t)
	t.Cleanup(func() {
		if d := c.Device; d.Mapped() != 0 || d.Master() || d.Faults() != 0 {
			t.Errorf("%d ranges mapped, master %v, memory used %d times that is not the card's", d.Mapped(), d.Master(), d.Faults())
		}
	})
	return c
}

// two opens ports of the first two queues.
func (c *Card) two(t *testing.T) []*Station {
	t.Helper()
	return []*Station{Must(t, c.Open, drivers.Config{Queues: []int{0}}), Must(t, c.Open, drivers.Config{Queues: []int{1}})}
}

// Works checks that frames come by all of some ports, and are sent by them.
func (c *Card) Works(t *testing.T, ports ...*Station) {
	t.Helper()
	const n = 300
	r := rand.New(rand.NewPCG(1, 2))
	got, all := make([]int, len(ports)), 0
	for range n {
		if !c.Receive(Flow(r)) {
			t.Fatal("a frame is dropped")
		}
		for i, p := range ports {
			m := len(p.Take())
			got[i] += m
			all += m
		}
	}
	if all != n || slices.Min(got) < n/len(ports)/2 {
		t.Fatalf("%v of %d frames come", got, n)
	}
	for i, p := range ports {
		for range 3 {
			before := c.Sent()
			if taken := p.Put(20, 100); taken != 20 || c.Sent()-before != 20 {
				t.Fatalf("port %d: %d frames taken, %d sent", i, taken, c.Sent()-before)
			}
			p.Flush()
		}
		if w := p.Info().TxWaiting; w != 0 {
			t.Fatalf("port %d: %d frames wait", i, w)
		}
	}
}

// hang has a card send nothing any more. Its ports, in turn, see to a reset, and
// go on.
func hang(t *testing.T, c *Card) {
	ports := c.two(t)
	a, b := ports[0], ports[1]
	c.Works(t, a, b) // so that no ring is at its start
	c.Hang()
	if n := a.Put(20, 100); n != 20 {
		t.Fatalf("%d frames taken", n)
	}
	Rounds(1, a, b)
	if n := a.Info().Resets; n != 0 {
		t.Errorf("%d resets at once", n)
	}
	a.Sync()
	b.Sync()
	a.Flush()
	if a.Info().Resets != 0 || a.Rx(a.Batch[:]) != 0 || a.Put(1, 100) != 0 || a.Fd() >= 0 {
		t.Fatal("the card is reset, or used, while another port uses it")
	}
	b.Flush()
	a.Flush()
	for i, p := range ports {
		if info := p.Info(); info.Resets != 1 || info.TxWaiting != 0 || info.Fault != "" {
			t.Errorf("port %d: %+v", i, info)
		}
	}
	if a.Stats.TxDrop != 20 || b.Stats.TxDrop != 0 {
		t.Errorf("%d and %d frames dropped", a.Stats.TxDrop, b.Stats.TxDrop)
	}
	c.Works(t, a, b)
	// One that closes meanwhile does not keep the other waiting.
	c.Hang()
	a.Put(1, 100)
	a.Sync()
	a.Sync()
	a.Flush()
	b.End(t)
	a.Flush()
	if n := a.Info().Resets; n != 2 {
		t.Errorf("%d resets", n)
	}
	c.Works(t, a)
}

// breaks has a card say, or show, that it needs a reset.
func breaks(t *testing.T, c *Card, broken func()) {
	ports := c.two(t)
	c.Works(t, ports...)
	broken()
	if n := ports[0].Put(20, 100); n != 20 {
		t.Fatal(n)
	}
	ports[0].Sync()
	for range 3 { // without Sync, which has seen enough
		for _, p := range ports {
			p.Flush()
			p.Take()
		}
	}
	for i, p := range ports {
		if info := p.Info(); info.Resets != 1 || info.TxWaiting != 0 || info.Fault != "" {
			t.Errorf("port %d: %+v", i, info)
		}
	}
	if n := ports[0].Stats.TxDrop; n != 20 {
		t.Errorf("%d frames dropped", n)
	}
	c.Works(t, ports...)
}

// pause: what waits while the link is down is not the card's fault.
func pause(t *testing.T, c *Card) {
	p := Must(t, c.Open, drivers.Config{})
	c.Works(t, p)
	c.Hang()
	c.Link(false)
	p.Put(5, 100)
	Rounds(5, p)
	if i := p.Info(); i.Resets != 0 || i.TxWaiting != 5 {
		t.Errorf("%+v", i)
	}
}

// removed takes a card away: from then on all registers read as ones. Everything
// goes on without it, and all buffers come back.
func removed(t *testing.T, c *Card) {
	ports := c.two(t)
	c.Works(t, ports...)
	c.Hang()
	ports[0].Put(10, 100)
	before := ports[0].Stats
	c.Device.Remove()
	began := time.Now()
	for range 5 {
		for _, p := range ports {
			p.Put(1, 100) // is taken as long as the ring has room
			p.Take()
			p.Fd()
			p.Sync()
			p.Flush()
		}
	}
	for i, p := range ports {
		if info := p.Info(); info.Fault == "" || info.LinkUp || info.Resets != 0 {
			t.Errorf("port %d: %+v", i, info)
		}
	}
	if now := ports[0].Stats; now.RxErrors != before.RxErrors || now.RxDrop != before.RxDrop || now.RxMcast != before.RxMcast || now.TxErrors != before.TxErrors {
		t.Errorf("ones are counted: %+v", now)
	}
	if _, err := Try(t, c.Open, drivers.Config{Queues: []int{2 % c.queues()}}); err == nil {
		t.Error("a port of a card that is gone")
	}
	for range 3000 { // until the rings are full
		ports[0].Put(1, 100)
	}
	if n := ports[0].Put(1, 100); n != 0 {
		t.Error("a card that is gone sends for ever")
	}
	for _, p := range ports {
		p.End(t)
	}
	if took := time.Since(began); took > 20*time.Second { // of a busy machine: it ends
		t.Errorf("%s without the card", took)
	}
}

func (c *Card) queues() int {
	if c.Queues > 0 {
		return c.Queues
	}
	return 3
}

// removedInReset has a card go while it is being reset.
func removedInReset(t *testing.T, c *Card) {
	p := Must(t, c.Open, drivers.Config{})
	c.Hang()
	p.Put(5, 100)
	p.Sync()
	p.Sync()
	c.Device.Remove()
	Rounds(3, p)
	if i := p.Info(); i.Fault == "" || i.LinkUp {
		t.Errorf("%+v", i)
	}
}

// dies has a card hang that no reset brings back. Its ports say so, move nothing,
// and close; it may use no memory before the first buffer goes back.
func dies(t *testing.T, c *Card, die func()) {
	ports := c.two(t)
	c.Works(t, ports...)
	die()
	ports[0].Put(20, 100)
	Rounds(4, ports...)
	for i, p := range ports {
		if info := p.Info(); info.Fault == "" || info.LinkUp || c.Device.Master() {
			t.Errorf("port %d: %+v, master %v", i, info, c.Device.Master())
		}
		if p.Put(5, 100) != 0 || p.Rx(p.Batch[:]) != 0 {
			t.Errorf("port %d of a dead card moves frames", i)
		}
	}
}

// partners opens and closes ports beside one that works on.
func partners(t *testing.T, c *Card) {
	first := Must(t, c.Open, drivers.Config{Queues: []int{0}})
	resets := 0
	for range 4 {
		second := Must(t, c.Open, drivers.Config{Queues: []int{1}})
		c.Works(t, first, second)
		c.Hang()
		second.Put(5, 100)
		r := rand.New(rand.NewPCG(3, 4))
		for range 10 {
			c.Receive(Flow(r))
		}
		wait := first.Info().RxWaiting
		second.End(t)
		if !c.Alone {
			for range 20 {
				if c.Receive(Flow(r)) {
					t.Fatal("the card writes to memory before its reset")
				}
			}
			resets++
			third := Must(t, c.Open, drivers.Config{Queues: []int{1}}) // while the card waits for its reset
			if third.Fd() >= 0 || third.Put(1, 100) != 0 {
				t.Error("a port works while the card is reset")
			}
			Rounds(3, first, third)
			c.Works(t, first, third)
			third.End(t)
			resets++
			Rounds(3, first)
			c.Works(t, first)
			continue
		}
		if n := len(first.Take()); n != wait || n == 0 {
			t.Errorf("%d frames of %d", n, wait)
		}
		for range 20 { // it hangs still, but for receiving
			if !c.Receive(Flow(r)) || len(first.Take()) != 1 {
				t.Fatal("a frame does not come by the port that is left")
			}
		}
		first.Put(1, 100)
		resets++ // of the hang
		Rounds(3, first)
		c.Works(t, first)
	}
	if i := first.Info(); i.Resets != resets || i.Fault != "" {
		t.Errorf("%+v, want %d resets", i, resets)
	}
}

// sticks: a card whose queue does not stop reaches no memory from then on, until
// its other port has had it reset.
func sticks(t *testing.T, c *Card) {
	if c.Stick == nil {
		return
	}
	ports := c.two(t)
	c.Works(t, ports...)
	c.Stick()
	err := ports[1].Close()
	ports[1].Port = nil
	if err == nil || !strings.Contains(err.Error(), "do not stop") {
		t.Errorf("%v", err)
	}
	if c.Device.Master() {
		t.Error("the card reaches memory still")
	}
	ports[1].Back(t)
	for range 3 {
		ports[0].Flush()
	}
	if i := ports[0].Info(); !c.Device.Master() || i.Resets != 1 || i.Fault != "" {
		t.Errorf("master %v, %+v", c.Device.Master(), i)
	}
	c.Works(t, ports[0])
}

// noBuffers has a port that is refused for want of buffers beside one that works,
// which must not notice.
func noBuffers(t *testing.T, c *Card) {
	first := Must(t, c.Open, drivers.Config{Queues: []int{0}})
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 256})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	var taken []pktbuf.Packet
	for pool.Available() > 8 {
		k, _ := pool.Get()
		taken = append(taken, k)
	}
	if _, err := c.Open(drivers.Config{Queues: []int{1}, Pool: pool}); !errors.Is(err, pktbuf.ErrExhausted) || pool.Available() != 8 {
		t.Errorf("%v, %d buffers", err, pool.Available())
	}
	pool.PutBatch(taken)
	Rounds(3, first)
	if i := first.Info(); i.Resets != 0 {
		t.Errorf("%+v", i)
	}
	c.Works(t, first)
}

// link counts its changes.
func link(t *testing.T, c *Card) {
	ports := c.two(t)
	Rounds(2, ports...)
	if i := ports[0].Info(); !i.LinkUp || i.Speed != c.Speed || i.LinkChanges != 0 {
		t.Fatalf("%+v", i)
	}
	for n, up := range []bool{false, true, false, true} {
		c.Link(up)
		Rounds(2, ports...)
		for i, p := range ports {
			if info := p.Info(); info.LinkUp != up || info.LinkChanges != n+1 || up != (info.Speed == c.Speed) || !up && info.Speed != 0 {
				t.Errorf("link %v: port %d: %+v", up, i, info)
			}
		}
	}
	c.Works(t, ports...)
}

// severalQueues has one port receive by all queues that there are, up to three.
func severalQueues(t *testing.T, c *Card) {
	n := min(3, c.queues())
	p := Must(t, c.Open, drivers.Config{Queues: []int{0, 1, 2}[:n]})
	c.Works(t, p)
	if i := p.Info(); i.Queues != n {
		t.Errorf("%+v", i)
	}
	if fd := p.Fd(); (fd >= 0) != c.Wakes {
		t.Errorf("descriptor %d", fd)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		fd := p.Fd()
		if !c.Receive(Flow(r)) || c.Wakes && Raised(fd) == 0 {
			t.Error("a frame wakes nobody")
		}
		p.Take()
	}
}

// spread compares which queue a frame comes by with what the hash says, by a key
// and a table of somebody's own.
func spread(t *testing.T, c *Card) {
	rss := &drivers.RSS{Table: []uint8{2, 0, 1, 1}}
	if c.queues() < 3 {
		rss.Table = []uint8{0, 0, 1, 0}
	}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range rss.Key {
		rss.Key[i] = byte(r.Uint32())
	}
	var ports []*Station
	for q := range min(3, c.queues()) {
		ports = append(ports, Must(t, c.Open, drivers.Config{Queues: []int{q}, RSS: rss}))
	}
	for range 1000 {
		f := Flow(r)
		hash, ok := nic.HashFrame(&rss.Key, f, true)
		if !ok || !c.Receive(f) {
			t.Fatal("a frame is dropped")
		}
		for i, p := range ports {
			if n := len(p.Take()); n != 0 != (i == int(rss.Table[hash&3])) {
				t.Fatalf("hash %#x: %d frames at port %d", hash, n, i)
			}
		}
	}
}

// workers has ports that are used, opened and closed at the same time, on a card
// that hangs again and again: nobody waits for ever, and no buffer is lost.
func workers(t *testing.T, c *Card) {
	if !c.Threads {
		return
	}
	n := min(3, c.queues())
	stop := make(chan struct{})
	var done sync.WaitGroup
	var resets atomic.Int64
	for w := range n {
		pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 1024})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pool.Close() })
		done.Go(func() {
			for {
				s := &Station{Pool: pool}
				var err error
				if s.Port, err = c.Open(drivers.Config{Pool: pool, Stats: &s.Stats, Queues: []int{w}}); err != nil {
					t.Error(err)
					return
				}
				for range 200 + 100*w {
					s.Put(32, 100)
					Rounds(1, s)
					runtime.Gosched()
				}
				resets.Store(int64(s.Info().Resets))
				s.End(t)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	most := int64(0)
	began := time.Now()
	for ; time.Since(began) < 500*time.Millisecond || most == 0 && time.Since(began) < 30*time.Second; time.Sleep(2 * time.Millisecond) {
		c.Hang()
		c.Receive(Frame(0, 100))
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
}
