package vmxnet3

import (
	"errors"
	"strings"
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest/faults"
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
				if n := from.Put(20, 100); n != 20 || len(to.Take()) != 20 {
					t.Fatal("nothing arrives before")
				}
			}
			from.Flush()
			before := from.Stats.TxErrors + to.Stats.RxErrors
			b.lie, a.lieSent = k.rx, k.tx
			from.Put(5, 100)
			got := to.Take()
			for _, f := range got {
				if len(f) > 1518 {
					t.Errorf("a frame of %d bytes", len(f))
				}
			}
			from.Flush()
			if len(got) != k.arrives {
				t.Errorf("%d frames arrive, want %d", len(got), k.arrives)
			}
			if n := from.Stats.TxErrors + to.Stats.RxErrors - before; n != k.errors {
				t.Errorf("%d errors, want %d", n, k.errors)
			}
			b.lie, a.lieSent = nil, nil
			if k.name == "received without an end" { // the next whole one belongs to it
				from.Put(1, 100)
				if len(to.Take()) != 0 || to.Stats.RxErrors != before+1 {
					t.Errorf("%+v", to.Stats)
				}
			}
			faults.Rounds(3, from, to)
			if n := from.Info().Resets + to.Info().Resets; n != k.resets {
				t.Errorf("%d resets, want %d", n, k.resets)
			}
			for range 30 {
				from.Put(20, 100)
				to.Put(20, 100)
				if n, m := len(to.Take()), len(from.Take()); n != 20 || m != 20 {
					t.Fatalf("%d and %d of 20 frames arrive after", n, m)
				}
			}
			faults.Rounds(1, from, to)
			if w := from.Info().TxWaiting + to.Info().TxWaiting; w != 0 {
				t.Errorf("%d frames wait", w)
			}
		})
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
		from.Put(100, 100)
	}
	faults.Rounds(1, from, to)
	size := uint64(to.Info().RxWaiting) // 0: they were taken
	if s := to.Stats; size != 0 || s.RxPackets+s.RxDrop != 1000 || s.RxDrop == 0 || s.RxMcast != s.RxPackets || s.RxErrors != 0 || s.RxDMAPackets != s.RxPackets {
		t.Errorf("%+v", s)
	}
	if s := from.Stats; s.TxPackets != 1000 || s.TxMcast != 1000 || s.TxBytes != 100_000 || s.TxErrors != 0 {
		t.Errorf("%+v", s)
	}
	before := to.Stats
	b.receive(make([]byte, 1519))
	b.receive(append([]byte{3}, make([]byte, 1600)...))
	faults.Rounds(2, to)
	if n := to.Stats.RxErrors - before.RxErrors; n != 1 || to.Stats.RxPackets != before.RxPackets { // the first was for somebody else
		t.Errorf("%+v", to.Stats)
	}
	// The device counts anew after a reset.
	a.hangs = true
	from.Put(5, 100)
	faults.Rounds(3, from)
	from.Put(7, 100)
	faults.Rounds(2, from)
	if s := from.Stats; from.Info().Resets != 1 || s.TxMcast != 1007 || s.TxDrop != 5 {
		t.Errorf("after a reset: %+v", s)
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
	q.End(t)
	faults.Rounds(3, p)
	if a.mac != mac || a.mode != plain {
		t.Errorf("% x, mode %#x", a.mac, a.mode)
	}
}

// TestInterrupts counts them: none but after Fd, and then one, or two where some
// came before.
func TestInterrupts(t *testing.T) {
	a, b := wired(t)
	far, p := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
	fd := p.Fd()
	if n := faults.Raised(fd); n != 0 {
		t.Errorf("%d interrupts for nothing", n)
	}
	for range 10 {
		far.Put(10, 100)
		p.Take()
	}
	if n := faults.Raised(fd); n != 1 {
		t.Errorf("%d interrupts for 100 frames", n)
	}
	_ = p.Fd()
	if n := faults.Raised(fd); n != 1 {
		t.Errorf("%d interrupts for what came while they were off", n)
	}
	_ = p.Fd()
	if n := faults.Raised(fd); n != 0 {
		t.Errorf("%d interrupts though nothing came", n)
	}
	far.Put(1, 100)
	_ = faults.Raised(fd)
	if _ = p.Fd(); faults.Raised(fd) == 0 {
		t.Error("no interrupt for what waits")
	}
}

// TestOddFrames sends what cannot be sent, among what can.
func TestOddFrames(t *testing.T) {
	a, b := wired(t)
	from, to := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
	var batch []pktbuf.Packet
	for _, size := range []uint16{0, 60, 13, 1518, 1519, 14, 3000} {
		k, _ := from.Pool.Get()
		k.Len = size
		copy(from.Pool.Bytes(k), faults.Frame(0, 3000))
		batch = append(batch, k)
	}
	if n := from.Tx(batch); n != len(batch) {
		t.Fatal(n)
	}
	from.Flush()
	from.Flush()
	if s := from.Stats; s.TxErrors != 4 || s.TxPackets != 3 || len(to.Take()) != 3 || from.Info().TxWaiting != 0 {
		t.Errorf("%+v, %+v", s, from.Info())
	}
}
