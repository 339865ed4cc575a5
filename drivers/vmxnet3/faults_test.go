package vmxnet3

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/nic"
	"vita/internal/pktbuf"
)

// wired makes two devices that are joined.
func wired(t testing.TB) (a, b *chip) {
	t.Helper()
	a, b = newChip(t), newChip(t)
	join(a, b)
	return a, b
}

// TestRefused has devices, and wishes, that cannot be served, and what is said
// of them.
func TestRefused(t *testing.T) {
	for _, k := range []struct {
		name   string
		change func(*chip)
		config drivers.Config
		says   string
		is     error
	}{
		{name: "no revision 1", change: func(c *chip) { c.revisions = 6 }, says: "revisions 0x6", is: drivers.ErrUnsupported},
		{name: "gone", change: func(c *chip) { c.revisions = allOnes }, says: "does not answer"},
		{name: "no address", change: func(c *chip) { c.own = [6]byte{} }, says: "no valid address"},
		{name: "the address of a group", change: func(c *chip) { c.own[0] = 1 }, says: "no valid address"},
		{name: "no reset", change: func(c *chip) { c.stays = true }, says: "refuses command 0xcafe0001"},
		{name: "no queues", change: func(c *chip) { c.most = 0 }, says: "refuses command 0xcafe0000"},
		{name: "MTU of 9001", config: drivers.Config{MTU: 9001}, says: "68 to 9000", is: drivers.ErrUnsupported},
		{name: "MTU beyond buffers", config: drivers.Config{MTU: 4000}, says: "a buffer has 3840", is: drivers.ErrUnsupported},
		{name: "a ninth queue", config: drivers.Config{Queues: []int{8}}, says: "queue 9: the device has 8", is: drivers.ErrUnsupported},
		{name: "a second queue of one", change: func(c *chip) { c.most = 1 }, config: drivers.Config{Queues: []int{1}}, says: "queue 2: the device has 1", is: drivers.ErrUnsupported},
	} {
		t.Run(k.name, func(t *testing.T) {
			c := newChip(t)
			if k.change != nil {
				k.change(c)
			}
			_, err := newStation(t, c, k.config)
			if err == nil || !strings.Contains(err.Error(), k.says) || k.is != nil && !errors.Is(err, k.is) {
				t.Fatalf("%v", err)
			}
			if c.m.Mapped() != 0 || c.m.Master() {
				t.Errorf("%d ranges mapped, master %v", c.m.Mapped(), c.m.Master())
			}
		})
	}
	if k := Chips(); len(k) != 1 || k[0].Vendor != 0x15ad || k[0].Device != 0x07b0 {
		t.Error(k)
	}
}

// TestLies has a device say what cannot be of what it has done. Each is counted,
// and where it is no longer known which buffers are whose, the device is reset.
// All works as before then.
func TestLies(t *testing.T) {
	type lie = func(q int, a, b uint64) (uint64, uint64)
	for _, k := range []struct {
		name    string
		rx, tx  lie
		errors  uint64
		resets  int
		arrives int // frames that do, all the same
	}{
		{"received into a descriptor beyond the ring", func(_ int, a, b uint64) (uint64, uint64) { return a | 1<<11, b }, nil, 1, 1, 0},
		{"received into a descriptor that it does not have", func(_ int, a, b uint64) (uint64, uint64) { return a + 200, b }, nil, 1, 1, 0},
		{"received into the one before", func(_ int, a, b uint64) (uint64, uint64) { return a - 1, b }, nil, 1, 1, 0},
		{"received by another queue", func(_ int, a, b uint64) (uint64, uint64) { return a | 3<<rxQueue, b }, nil, 1, 1, 0},
		{"received by the second ring", func(_ int, a, b uint64) (uint64, uint64) { return a | 8<<rxQueue, b }, nil, 1, 1, 0},
		{"received too short", func(_ int, a, b uint64) (uint64, uint64) { return a, b&^descLen | 13 }, nil, 5, 0, 0},
		{"received nothing", func(_ int, a, b uint64) (uint64, uint64) { return a, b &^ descLen }, nil, 5, 0, 0},
		{"received too long", func(_ int, a, b uint64) (uint64, uint64) { return a, b&^descLen | 1519 }, nil, 5, 0, 0},
		{"received as long as can be said", func(_ int, a, b uint64) (uint64, uint64) { return a, b | descLen }, nil, 5, 0, 0},
		{"received without a start", func(_ int, a, b uint64) (uint64, uint64) { return a &^ rxStart, b }, nil, 5, 0, 0},
		{"received without an end", func(_ int, a, b uint64) (uint64, uint64) { return a &^ rxEnd, b }, nil, 0, 0, 0},
		{"sent a descriptor beyond the ring", nil, func(_ int, a, b uint64) (uint64, uint64) { return a | 1<<11, b }, 1, 1, 5},
		{"sent what it was not given", nil, func(_ int, a, b uint64) (uint64, uint64) { return a + 1, b }, 1, 1, 5},
		{"sent one twice", nil, func(_ int, _, b uint64) (uint64, uint64) { return 3, b }, 1, 1, 5},
	} {
		t.Run(k.name, func(t *testing.T) {
			a, b := wired(t)
			from, to := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
			for range 2 { // both halves of a generation
				if n := from.put(20, 100); n != 20 || len(to.take()) != 20 {
					t.Fatal("nothing arrives before")
				}
			}
			from.Flush()
			before := from.stats.TxErrors + to.stats.RxErrors
			b.lie, a.lieSent = k.rx, k.tx
			from.put(5, 100)
			got := to.take()
			for _, f := range got {
				if len(f) > 1518 {
					t.Errorf("a frame of %d bytes", len(f))
				}
			}
			from.Flush()
			if len(got) != k.arrives {
				t.Errorf("%d frames arrive, want %d", len(got), k.arrives)
			}
			if n := from.stats.TxErrors + to.stats.RxErrors - before; n != k.errors {
				t.Errorf("%d errors, want %d", n, k.errors)
			}
			b.lie, a.lieSent = nil, nil
			if k.name == "received without an end" { // the next whole one belongs to it
				from.put(1, 100)
				if len(to.take()) != 0 || to.stats.RxErrors != before+1 {
					t.Errorf("%+v", to.stats)
				}
			}
			rounds(3, from, to)
			if n := from.Info().Resets + to.Info().Resets; n != k.resets {
				t.Errorf("%d resets, want %d", n, k.resets)
			}
			for range 30 {
				from.put(20, 100)
				to.put(20, 100)
				if n, m := len(to.take()), len(from.take()); n != 20 || m != 20 {
					t.Fatalf("%d and %d of 20 frames arrive after", n, m)
				}
			}
			rounds(1, from, to)
			if w := from.Info().TxWaiting + to.Info().TxWaiting; w != 0 {
				t.Errorf("%d frames wait", w)
			}
		})
	}
}

// TestGone takes devices away, with frames on their way.
func TestGone(t *testing.T) {
	a, b := wired(t)
	from := must(t, a, drivers.Config{})
	ports := []*station{must(t, b, drivers.Config{Queues: []int{0}}), must(t, b, drivers.Config{Queues: []int{1}})}
	from.put(10, 100)
	a.hangs = true
	from.put(10, 100)
	a.m.Remove()
	b.m.Remove()
	rounds(3, from, ports[0], ports[1])
	for i, p := range append(ports, from) {
		if info := p.Info(); info.Fault == "" || info.LinkUp || info.Resets != 0 {
			t.Errorf("port %d: %+v", i, info)
		}
		p.put(100, 100)
	}
	if p, err := newStation(t, b, drivers.Config{Queues: []int{2}}); err == nil || p.Port != nil {
		t.Error("a port of a device that is gone")
	}
}

// flow is a frame of IPv4 between random addresses, to a group.
func flow(r *rand.Rand) []byte {
	f := append([]byte{3, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0}, make([]byte, 48)...)
	binary.BigEndian.PutUint64(f[26:], r.Uint64())
	return f
}

// TestRecovery has a device hang, or say that a queue has stopped, while two
// ports use it.
func TestRecovery(t *testing.T) {
	for name, breaks := range map[string]func(*chip){
		"hangs":  func(c *chip) { c.hangs = true },
		"stops":  func(c *chip) { c.hangs = true; c.note(evTxError) },
		"stops2": func(c *chip) { c.hangs = true; c.note(evRxError) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := wired(t)
			ports := []*station{must(t, a, drivers.Config{Queues: []int{0}}), must(t, a, drivers.Config{Queues: []int{1}})}
			far := must(t, b, drivers.Config{})
			r := rand.New(rand.NewPCG(1, 2))
			exchange := func(n int) {
				t.Helper()
				got := [2]int{}
				for range n {
					b.send()
					a.receive(flow(r))
					for i, p := range ports {
						got[i] += len(p.take())
					}
				}
				if got[0]+got[1] != n || got[0] < n/4 || got[1] < n/4 {
					t.Fatalf("%v of %d frames", got, n)
				}
			}
			exchange(300) // so that no ring is at its start
			ports[0].put(50, 100)
			rounds(1, far)
			rounds(1, ports...)
			breaks(a)
			if n := ports[0].put(20, 100); n != 20 {
				t.Fatal(n)
			}
			if name == "hangs" {
				rounds(1, ports...)
				if n := ports[0].Info().Resets; n != 0 {
					t.Errorf("%d resets at once", n)
				}
			}
			ports[0].Sync()
			a.hangs = false
			for range 4 { // without Sync, which has seen enough
				for _, p := range ports {
					p.Flush()
					p.take()
				}
			}
			for i, p := range ports {
				if info := p.Info(); info.Resets != 1 || info.TxWaiting != 0 || info.Fault != "" {
					t.Errorf("port %d: %+v", i, info)
				}
			}
			if s := ports[0].stats; s.TxDrop != 20 {
				t.Errorf("%+v", s)
			}
			far.take()
			exchange(300)
			for range 10 {
				ports[0].put(5, 100)
				ports[1].put(5, 100)
				if n := len(far.take()); n != 10 {
					t.Fatalf("%d frames are sent after the reset", n)
				}
			}
			rounds(1, ports...)
			if s, o := ports[0].stats, ports[1].stats; s.TxMcast != 100 || s.RxMcast+o.RxMcast != 600 {
				t.Errorf("counters after the reset: %+v and %+v", s, o)
			}
		})
	}
}

// TestFailedRecovery has a device not come back from its reset: its ports stand
// still, and close.
func TestFailedRecovery(t *testing.T) {
	for name, f := range map[string]func(*chip){
		"no reset":      func(c *chip) { c.stays = true },
		"no activation": func(c *chip) { c.most = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := wired(t)
			p := must(t, a, drivers.Config{})
			a.hangs = true
			p.put(20, 100)
			f(a)
			rounds(4, p)
			if i := p.Info(); i.Fault == "" {
				t.Errorf("%+v", i)
			}
			if a.m.Master() && a.active {
				t.Error("the device may still use memory")
			}
			if n := p.put(5, 100); n != 0 {
				t.Errorf("%d frames taken", n)
			}
		})
	}
}

// TestPartners opens and closes ports beside others that work.
func TestPartners(t *testing.T) {
	a, b := wired(t)
	far, first := must(t, b, drivers.Config{}), must(t, a, drivers.Config{Queues: []int{0}})
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 5 {
		second := must(t, a, drivers.Config{Queues: []int{1}})
		got := [2]int{}
		for range 100 {
			a.receive(flow(r))
			got[0] += len(first.take())
			got[1] += len(second.take())
		}
		if got[0]+got[1] != 100 || got[0] < 20 || got[1] < 20 {
			t.Fatalf("round %d: %v frames", i, got)
		}
		second.put(7, 100)
		if n := len(far.take()); n != 7 {
			t.Fatalf("round %d: %d frames sent", i, n)
		}
		a.hangs = true
		second.put(5, 100)
		second.end(t)
		a.hangs = false
		third, err := newStation(t, a, drivers.Config{Queues: []int{1}}) // while the device waits for its reset
		if err != nil {
			t.Fatal(err)
		}
		if third.Fd() >= 0 || third.put(1, 100) != 0 {
			t.Error("a port works while the device is reset")
		}
		rounds(3, first, third)
		third.put(3, 100)
		if n := len(far.take()); n != 3 {
			t.Errorf("%d frames sent after the reset", n)
		}
		third.end(t)
		rounds(3, first)
		for range 20 {
			a.receive(flow(r))
		}
		if n := len(first.take()); n != 20 {
			t.Fatalf("round %d: %d frames after the other ports have gone", i, n)
		}
	}
	if n := first.Info().Resets; n != 10 {
		t.Errorf("%d resets", n)
	}
}

// TestNoBuffers has a port that is refused for want of buffers beside one that
// works, which must not notice.
func TestNoBuffers(t *testing.T) {
	a, b := wired(t)
	far, first := must(t, b, drivers.Config{}), must(t, a, drivers.Config{Queues: []int{0}})
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 256})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var taken []pktbuf.Packet
	for range 250 {
		k, _ := pool.Get()
		taken = append(taken, k)
	}
	if _, err := openOn(a, drivers.Config{Queues: []int{1}, Pool: pool}); !errors.Is(err, pktbuf.ErrExhausted) {
		t.Errorf("%v", err)
	}
	pool.PutBatch(taken)
	first.put(3, 100)
	rounds(3, first)
	if n, i := len(far.take()), first.Info(); n != 3 || i.Resets != 0 {
		t.Errorf("%d frames arrive; %+v", n, i)
	}
}

// TestRSS compares which queue a frame comes by with what the hash says, by a
// key and a table of somebody's own.
func TestRSS(t *testing.T) {
	rss := &drivers.RSS{Table: []uint8{2, 0, 1, 1}}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range rss.Key {
		rss.Key[i] = byte(r.Uint32())
	}
	a, _ := wired(t)
	var ports []*station
	for i := range 3 {
		ports = append(ports, must(t, a, drivers.Config{Queues: []int{2 * i}, RSS: rss}))
	}
	for range 2000 {
		f := flow(r)
		f[23] = 6 // TCP, whose ports count as well
		hash, _ := nic.HashFrame(&rss.Key, f, true)
		a.receive(f)
		for i, p := range ports {
			if n := len(p.take()); n != 0 != (i == int(rss.Table[hash&3])) {
				t.Fatalf("hash %#x: %d frames at port %d", hash, n, i)
			}
		}
	}
}

func TestLink(t *testing.T) {
	a, _ := wired(t)
	p, q := must(t, a, drivers.Config{}), must(t, a, drivers.Config{Queues: []int{1}})
	if i := p.Info(); !i.LinkUp || i.Speed != 10000 || i.LinkChanges != 0 {
		t.Fatalf("%+v", i)
	}
	for n, up := range []bool{false, true, false, true} {
		a.setLink(up)
		p.Sync()
		q.Sync()
		p.Sync()
		if i := p.Info(); i.LinkUp != up || i.LinkChanges != n+1 || (i.Speed == 10000) != up {
			t.Errorf("%+v", i)
		}
		if i := q.Info(); i.LinkUp != up || i.LinkChanges != n+1 {
			t.Errorf("%+v", i)
		}
	}
	a.setLink(false)
	a.setLink(true)
	p.Sync()
	p.Sync()
	if i := p.Info(); i.LinkChanges != 6 {
		t.Errorf("it went and came back: %+v", i)
	}
}

// TestCounters has frames without a buffer, and frames that the device knows to
// be damaged.
func TestCounters(t *testing.T) {
	a, b := wired(t)
	b.lossy = true
	from, to := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
	for range 10 {
		from.put(100, 100)
	}
	rounds(1, from, to)
	size := uint64(to.Info().RxWaiting) // 0: they were taken
	if s := to.stats; size != 0 || s.RxPackets+s.RxDrop != 1000 || s.RxDrop == 0 || s.RxMcast != s.RxPackets || s.RxErrors != 0 || s.RxDMAPackets != s.RxPackets {
		t.Errorf("%+v", s)
	}
	if s := from.stats; s.TxPackets != 1000 || s.TxMcast != 1000 || s.TxBytes != 100_000 || s.TxErrors != 0 {
		t.Errorf("%+v", s)
	}
	before := to.stats
	b.receive(make([]byte, 1519))
	b.receive(append([]byte{3}, make([]byte, 1600)...))
	rounds(2, to)
	if n := to.stats.RxErrors - before.RxErrors; n != 1 || to.stats.RxPackets != before.RxPackets { // the first was for somebody else
		t.Errorf("%+v", to.stats)
	}
}

// TestAddresses looks at what the device is told to receive.
func TestAddresses(t *testing.T) {
	a, _ := wired(t)
	mac := [6]byte{2, 0, 0, 0, 9, 9}
	const plain = rxUnicast | rxBroadcast | rxAllMulti
	p := must(t, a, drivers.Config{Queues: []int{0}, MAC: mac})
	if a.mac != mac || a.mode != plain {
		t.Errorf("% x, mode %#x", a.mac, a.mode)
	}
	q := must(t, a, drivers.Config{Queues: []int{1}})
	if a.mac != a.own || a.mode != plain|rxPromisc {
		t.Errorf("% x, mode %#x", a.mac, a.mode)
	}
	q.end(t)
	rounds(3, p)
	if a.mac != mac || a.mode != plain {
		t.Errorf("% x, mode %#x", a.mac, a.mode)
	}
}

// TestInterrupts counts them: none but after Fd, and then one, or two where some
// came before.
func TestInterrupts(t *testing.T) {
	a, b := wired(t)
	far, p := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
	raised := func(fd int) int {
		var n [8]byte
		if _, err := unix.Read(fd, n[:]); err != nil {
			return 0
		}
		return int(binary.LittleEndian.Uint64(n[:]))
	}
	fd := p.Fd()
	if n := raised(fd); n != 0 {
		t.Errorf("%d interrupts for nothing", n)
	}
	for range 10 {
		far.put(10, 100)
		p.take()
	}
	if n := raised(fd); n != 1 {
		t.Errorf("%d interrupts for 100 frames", n)
	}
	_ = p.Fd()
	if n := raised(fd); n != 1 {
		t.Errorf("%d interrupts for what came while they were off", n)
	}
	_ = p.Fd()
	if n := raised(fd); n != 0 {
		t.Errorf("%d interrupts though nothing came", n)
	}
	far.put(1, 100)
	_ = raised(fd)
	if _ = p.Fd(); raised(fd) == 0 {
		t.Error("no interrupt for what waits")
	}
}

// TestSeveralQueues has one port receive by three queues.
func TestSeveralQueues(t *testing.T) {
	a, _ := wired(t)
	p := must(t, a, drivers.Config{Queues: []int{0, 1, 2}})
	r := rand.New(rand.NewPCG(1, 2))
	for range 600 {
		a.receive(flow(r))
		if n := len(p.take()); n != 1 {
			t.Fatalf("%d frames", n)
		}
	}
	p.Sync()
	if p.Fd() >= 0 || p.Info().Queues != 3 || p.stats.RxMcast != 600 {
		t.Errorf("descriptor %d, %+v, %+v", p.Fd(), p.Info(), p.stats)
	}
}

// TestOddFrames sends what cannot be sent, among what can.
func TestOddFrames(t *testing.T) {
	a, b := wired(t)
	from, to := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
	var batch []pktbuf.Packet
	for _, size := range []uint16{0, 60, 13, 1518, 1519, 14, 3000} {
		k, _ := from.pool.Get()
		k.Len = size
		copy(from.pool.Bytes(k), frame(0, 3000))
		batch = append(batch, k)
	}
	if n := from.Tx(batch); n != len(batch) {
		t.Fatal(n)
	}
	from.Flush()
	from.Flush()
	if s := from.stats; s.TxErrors != 4 || s.TxPackets != 3 || len(to.take()) != 3 || from.Info().TxWaiting != 0 {
		t.Errorf("%+v, %+v", s, from.Info())
	}
}
