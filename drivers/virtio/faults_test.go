package virtio

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest/faults"
	"vita/drivers/internal/nic"
)

// wired makes two devices that are joined.
func wired(t testing.TB, features uint64, pairs int) (a, b *chip) {
	t.Helper()
	a, b = newChip(t, features, pairs, 64), newChip(t, features, pairs, 64)
	join(a, b)
	return a, b
}

// both runs a test for split and for packed rings.
func both(t *testing.T, name string, run func(t *testing.T, form uint64)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { run(t, 0) })
	t.Run(name+"Packed", func(t *testing.T) { run(t, featPacked) })
}

// TestRefused has devices, and wishes, that cannot be served, and what is said
// of them.
func TestRefused(t *testing.T) {
	for _, k := range []struct {
		name     string
		features uint64
		change   func(*chip)
		config   drivers.Config
		says     string
		is       error
	}{
		{name: "before 1.0", change: func(c *chip) { c.offered &^= featVersion1 }, says: "VERSION_1", is: drivers.ErrUnsupported},
		{name: "round the IOMMU", change: func(c *chip) { c.offered &^= featAccessPlatform }, says: "iommu_platform=on", is: drivers.ErrUnsupported},
		{name: "no structures", change: func(c *chip) { c.put(0x81, 1, 0) }, says: "disable-legacy", is: drivers.ErrUnsupported},
		{name: "a structure in no BAR", change: func(c *chip) { c.put(0x90+capBAR, 1, 2) }, says: "no registers"},
		{name: "a structure in BAR 200", change: func(c *chip) { c.put(0x90+capBAR, 1, 200) }, says: "no registers"},
		{name: "a structure behind its BAR", change: func(c *chip) { c.put(0x90+capOffset, 4, barSize-8) }, says: "no registers"},
		{name: "a structure far behind", change: func(c *chip) { c.put(0x90+capOffset, 4, 0xfffffff0) }, says: "no registers"},
		{name: "a structure too long", change: func(c *chip) { c.put(0x90+capLength, 4, 0xffffffff) }, says: "no registers"},
		{name: "a structure too short", change: func(c *chip) { c.put(0x90+capLength, 4, commonSize-4) }, says: "no registers"},
		{name: "a structure that is not aligned", change: func(c *chip) { c.put(0x90+capOffset, 4, 2) }, says: "no registers"},
		{name: "capabilities in a ring", change: func(c *chip) { c.put(0x91, 1, 0x90) }, says: "broken"},
		{name: "notifications out of place", change: func(c *chip) { c.put(0xa8+capStep, 4, 0x1000) }, says: "is notified at 0x1000"},
		{name: "notifications far away", change: func(c *chip) { c.put(0xa8+capStep, 4, 0xffffffff) }, says: "is notified at"},
		{name: "a reset that does not end", change: func(c *chip) { c.noReset, c.status = true, 7 }, says: "does not come out of its reset"},
		{name: "features refused", change: func(c *chip) { c.noOK = true }, says: "refuses the features"},
		{name: "no address", features: featMAC, change: func(c *chip) { c.set(cfgMAC, 1, 2, 3) }, says: "no valid address"},
		{name: "queues of nothing", change: func(c *chip) { c.queues[1].max = 0 }, says: "queue 1 of the device has 0 entries"},
		{name: "small queues", change: func(c *chip) { c.queues[0].max = 4 }, says: "queue 0 of the device has 4 entries"},
		{name: "fewer queues than it says", features: featControl | featMultiQueue, change: func(c *chip) { c.set(cfgMaxPairs, 3, 0) }, says: "queue 3 of the device has 0"},
		{name: "no pairs of queues", features: featControl | featMultiQueue, change: func(c *chip) { c.set(cfgMaxPairs, 0, 0) }, says: "0 pairs"},
		{name: "too many pairs of queues", features: featControl | featMultiQueue, change: func(c *chip) { c.set(cfgMaxPairs, 1, 0x80) }, says: "32769 pairs"},
		{name: "commands not answered", features: usual, change: func(c *chip) { c.deaf = true }, says: "does not answer to command 1/0"},
		{name: "commands refused", features: usual, change: func(c *chip) { c.refuses = true }, says: "refuses command 1/0: answer 1"},
		{name: "answers to other commands", features: usual, change: func(c *chip) {
			c.lie = func(_ *vring, _, n uint32) (uint32, uint32) { return 1, n }
		}, says: "that was not given"},
		{name: "too many answers", features: usual, change: func(c *chip) {
			c.jump = func(_ *vring, index uint16) uint16 { return index + 2 }
		}, says: "does not answer"},
		{name: "interrupts refused", change: func(c *chip) { c.vectors = 0 }, says: "no interrupt 0"},
		{name: "MTU", features: featMTU, change: func(c *chip) { c.set(cfgMTU, 0x78, 5) }, config: drivers.Config{MTU: 1401}, says: "MTU 1401: the device has 68 to 1400", is: drivers.ErrUnsupported},
		{name: "MTU of 9001", config: drivers.Config{MTU: 9001}, says: "68 to 9000", is: drivers.ErrUnsupported},
		{name: "MTU beyond buffers", config: drivers.Config{MTU: 4000}, says: "a buffer has 3840", is: drivers.ErrUnsupported},
		{name: "another address", config: drivers.Config{MAC: [6]byte{2, 1}}, says: "no other address", is: drivers.ErrUnsupported},
		{name: "a second queue", config: drivers.Config{Queues: []int{1}}, says: "queue 2: the device has 1", is: drivers.ErrUnsupported},
		{name: "gone", change: func(c *chip) { c.status = statusGone }, says: "does not answer"},
	} {
		t.Run(k.name, func(t *testing.T) {
			c := newChip(t, k.features, 1, 64)
			if k.change != nil {
				k.change(c)
				for _, v := range c.queues {
					v.size = v.max
				}
				if k.name != "queues of nothing" && k.name != "small queues" {
					defer func() { c.wrong = nil }() // what it does itself
				}
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
}

// TestTaken has devices that lack something and serve all the same.
func TestTaken(t *testing.T) {
	c := newChip(t, featMTU, 1, 100) // no power of two
	c.set(cfgMTU, 0x78, 5)
	p := must(t, c, drivers.Config{})
	if i := p.Info(); i.MTU != 1400 || !i.LinkUp || i.Speed != 0 || i.MAC[0]&3 != 2 || i.Driver != "virtio" {
		t.Errorf("%+v", i)
	}
	if !c.has(featMTU) || c.queues[0].size != 64 {
		t.Errorf("features %#x, queue of %d", c.chosen, c.queues[0].size)
	}
	// All of what the device can do is promised only where it is done.
	c = newChip(t, featMTU, 1, 64)
	if i := must(t, c, drivers.Config{}).Info(); i.MTU != 1500 || c.has(featMTU) {
		t.Errorf("%+v, features %#x", i, c.chosen)
	}
	// The structures of a second kind are not looked at, nor those it cannot use.
	c = newChip(t, usual, 1, 64)
	c.put(0xa8+capOffset, 4, 0x2000)
	c.put(0xc0+0x19, 1, 0)
	if _, err := newStation(t, c, drivers.Config{Queues: []int{0}}); err != nil {
		t.Error(err)
	}
	if k := Chips(); len(k) != 2 || k[0].Vendor != 0x1af4 || k[0].Device != 0x1041 {
		t.Error(k)
	}
}

// TestLies has a device say what cannot be of buffers that it has used. Each is
// counted, and the device reset; nothing reaches the wrong owner, and all works
// as before then.
func TestLies(t *testing.T) {
	const rx, tx = 0, 1
	for _, k := range []struct {
		name   string
		queue  int
		lie    func(v *vring, id, n uint32) (uint32, uint32)
		jump   func(v *vring, index uint16) uint16
		errors uint64
		resets int
	}{
		{"received with an id beyond the ring", rx, func(_ *vring, id, n uint32) (uint32, uint32) { return id + 64, n }, nil, 1, 1},
		{"received with a huge id", rx, func(_ *vring, _, n uint32) (uint32, uint32) { return 1<<31 | 0xfff0, n }, nil, 1, 1},
		{"received too short", rx, func(_ *vring, id, _ uint32) (uint32, uint32) { return id, headerLen + 13 }, nil, 5, 0},
		{"received without a header", rx, func(_ *vring, id, _ uint32) (uint32, uint32) { return id, 11 }, nil, 5, 0},
		{"received nothing", rx, func(_ *vring, id, _ uint32) (uint32, uint32) { return id, 0 }, nil, 5, 0},
		{"received too long", rx, func(_ *vring, id, _ uint32) (uint32, uint32) { return id, headerLen + 1519 }, nil, 5, 0},
		{"received without end", rx, func(_ *vring, id, _ uint32) (uint32, uint32) { return id, 1<<32 - 1 }, nil, 5, 0},
		{"received more than it can", rx, nil, func(_ *vring, i uint16) uint16 { return i + 65 }, 0, 1},
		{"received fewer than before", rx, nil, func(_ *vring, i uint16) uint16 { return i - 7 }, 0, 1},
		{"sent with an id beyond the ring", tx, func(_ *vring, id, n uint32) (uint32, uint32) { return id + 64, n }, nil, 1, 1},
		{"sent one twice", tx, func(_ *vring, _, n uint32) (uint32, uint32) { return 0, n }, nil, 1, 1},
		{"sent more than it can", tx, nil, func(_ *vring, i uint16) uint16 { return i + 1 }, 0, 1},
		{"sent fewer than before", tx, nil, func(_ *vring, i uint16) uint16 { return i - 7 }, 0, 1},
	} {
		both(t, k.name, func(t *testing.T, form uint64) {
			if k.jump != nil && form != 0 {
				return // there is no index
			}
			a, b := wired(t, usual|form, 1)
			from, to := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
			liar, victim := b, to
			if k.queue == tx {
				liar, victim = a, from
			}
			if n := from.Put(20, 100); n != 20 || len(to.Take()) != 20 {
				t.Fatal("nothing arrives before")
			}
			on := func(v *vring) bool { return v.index == k.queue }
			if k.lie != nil {
				liar.lie = func(v *vring, id, n uint32) (uint32, uint32) {
					if on(v) {
						return k.lie(v, id, n)
					}
					return id, n
				}
			}
			if k.jump != nil {
				liar.jump = func(v *vring, i uint16) uint16 {
					if on(v) {
						return k.jump(v, i)
					}
					return i
				}
			}
			from.Put(5, 100)
			for _, f := range to.Take() {
				if len(f) > 1518 {
					t.Errorf("a frame of %d bytes", len(f))
				}
			}
			from.Flush()
			if got := victim.Stats.RxErrors + victim.Stats.TxErrors; got != k.errors {
				t.Errorf("%d errors, want %d", got, k.errors)
			}
			liar.lie, liar.jump = nil, nil
			faults.Rounds(3, from, to)
			if n := victim.Info().Resets; n != k.resets {
				t.Errorf("%d resets, want %d", n, k.resets)
			}
			for range 10 {
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

// TestOneIDForAll: a device may say again and again that it has used the same
// buffer for receiving, which it has got anew each time. It hands on that one,
// and in the end has none that it can use.
func TestOneIDForAll(t *testing.T) {
	both(t, "", func(t *testing.T, form uint64) {
		a, b := wired(t, usual|form, 1)
		from, to := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
		b.lie = func(v *vring, id, n uint32) (uint32, uint32) {
			if v.index != 0 {
				return id, n
			}
			return 3, n
		}
		for range 500 {
			from.Put(3, 100)
			to.Take()
			from.Flush()
		}
		if s := to.Stats; s.RxPackets != 1500 || s.RxErrors != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestPairs has a device that is told how many pairs of queues to use, and itself
// chooses among them, while ports come and go.
func TestPairs(t *testing.T) {
	for _, alone := range []bool{true, false} {
		both(t, map[bool]string{true: "QueueReset", false: "DeviceReset"}[alone], func(t *testing.T, form uint64) {
			features := usual | featMultiQueue | form
			if !alone {
				features &^= featRingReset
			}
			a, b := wired(t, features, 3)
			a.steer = func(f []byte, pairs int) int { return int(f[15]) % pairs }
			far := must(t, b, drivers.Config{})
			first := must(t, a, drivers.Config{Queues: []int{0}})
			for i := range 5 {
				more := must(t, a, drivers.Config{Queues: []int{1, 2}})
				far.Put(30, 100)
				if n, m := len(first.Take()), len(more.Take()); a.pairs != 3 || n != 10 || m != 20 {
					t.Fatalf("round %d: %d pairs, %d and %d frames", i, a.pairs, n, m)
				}
				if more.Fd() >= 0 {
					t.Error("one descriptor for two queues")
				}
				more.End(t)
				faults.Rounds(3, first)
				far.Put(20, 100)
				if n := len(first.Take()); a.pairs != 1 || n != 20 {
					t.Fatalf("round %d: %d pairs, %d frames after the other port has gone", i, a.pairs, n)
				}
			}
			if r := first.Info().Resets; alone != (r == 0) {
				t.Errorf("%d resets", r)
			}
		})
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
	a := newChip(t, usual|featMultiQueue|featRSS, 6, 64)
	a.set(cfgTableMax, 100) // no power of two
	var ports []*station
	for i := range 3 {
		ports = append(ports, must(t, a, drivers.Config{Queues: []int{1 + 2*i}, RSS: rss}))
	}
	f := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6, 0, 0}, make([]byte, 48)...)
	at := func(want int) {
		t.Helper()
		if !a.receive(f) {
			t.Fatal("no buffer")
		}
		for i, p := range ports {
			if n := len(p.Take()); n != 0 != (i == want) {
				t.Fatalf("%d frames at port %d, want one at %d", n, i, want)
			}
		}
	}
	for range 2000 {
		binary.BigEndian.PutUint64(f[26:], r.Uint64())
		binary.BigEndian.PutUint32(f[34:], r.Uint32())
		hash, _ := nic.HashFrame(&rss.Key, f, true)
		at(int(rss.Table[hash&3]))
	}
	f[13] = 6 // ARP
	at(0)
	// Without what it needs, a device that offers it is used all the same.
	for _, c := range []struct {
		off  int
		b    []byte
		said string
	}{{cfgKeyMax, []byte{39}, "key"}, {cfgTableMax, []byte{0, 0}, "table"}} {
		d := newChip(t, usual|featMultiQueue|featRSS, 2, 64)
		d.set(c.off, c.b...)
		_ = must(t, d, drivers.Config{Queues: []int{1}})
		if d.has(featRSS) || d.pairs != 2 {
			t.Errorf("%s: features %#x, %d pairs", c.said, d.chosen, d.pairs)
		}
	}
}

func TestLink(t *testing.T) {
	a, _ := wired(t, usual, 1)
	p := must(t, a, drivers.Config{})
	if i := p.Info(); !i.LinkUp || i.Speed != 25000 || i.LinkChanges != 0 {
		t.Fatalf("%+v", i)
	}
	for n, up := range []byte{0, 1, 0, 1} {
		a.set(cfgStatus, up)
		p.Sync()
		p.Sync()
		if i := p.Info(); i.LinkUp != (up == 1) || i.LinkChanges != n+1 || (i.Speed == 25000) != (up == 1) {
			t.Errorf("%+v", i)
		}
	}
	a.set(cfgStatus, 0)
	a.set(cfgStatus, 1)
	p.Sync()
	if i := p.Info(); i.LinkChanges != 6 {
		t.Errorf("it went and came back: %+v", i)
	}
	a.set(cfgSpeed, 0xff, 0xff, 0xff, 0xff)
	p.Sync()
	if i := p.Info(); i.Speed != 0 {
		t.Errorf("%+v", i)
	}
}

// TestAddresses looks at what the device is told to receive.
func TestAddresses(t *testing.T) {
	a, _ := wired(t, usual|featMultiQueue, 2)
	mac := [6]byte{2, 0, 0, 0, 9, 9}
	p := must(t, a, drivers.Config{Queues: []int{0}, MAC: mac})
	q := must(t, a, drivers.Config{Queues: []int{1}, MAC: p.Info().MAC})
	want := slices.Concat([]byte{classMAC, macTable, 1, 0, 0, 0}, mac[:], []byte{0, 0, 0, 0})
	last := func(class, command byte) (out []byte) {
		for _, c := range a.commands {
			if c[0] == class && c[1] == command {
				out = c
			}
		}
		return out
	}
	if got := last(classMAC, macTable); !slices.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
	if got := last(classRx, rxPromisc); !slices.Equal(got, []byte{classRx, rxPromisc, 0}) {
		t.Errorf("% x", got)
	}
	if got := last(classRx, rxAllMulti); !slices.Equal(got, []byte{classRx, rxAllMulti, 1}) {
		t.Errorf("% x", got)
	}
	q.End(t)
	p.End(t)
	_ = must(t, a, drivers.Config{})
	if got := last(classMAC, macTable); !slices.Equal(got, []byte{classMAC, macTable, 0, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("% x", got)
	}
}

// TestInterrupts counts them: none but after Fd, and then one.
func TestInterrupts(t *testing.T) {
	for _, features := range []uint64{usual, usual &^ featEventIdx, usual | featPacked} {
		a, b := wired(t, features, 1)
		far, p := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
		fd := p.Fd()
		if n := faults.Raised(fd); n != 0 {
			t.Errorf("%d interrupts for nothing", n)
		}
		far.Put(1, 100)
		if n := faults.Raised(fd); n != 1 {
			t.Errorf("%d interrupts for a frame", n)
		}
		for range 100 {
			far.Put(10, 100)
			p.Take()
		}
		if n := faults.Raised(fd); n > 10 { // until Rx has found the first ones
			t.Errorf("%d interrupts for 1000 frames that nobody waited for", n)
		}
		far.Put(1, 100)
		if fd = p.Fd(); faults.Raised(fd) == 0 {
			t.Error("no interrupt for what waits")
		}
	}
}

// TestStaleEvent: a device that has gone on, and not said from where on it is to
// be notified now, is notified all the same.
func TestStaleEvent(t *testing.T) {
	a, b := wired(t, usual|featPacked, 1)
	from, to := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
	from.Put(30, 100)
	from.Flush()
	a.stale = true
	for i := range 12 { // later on, what it says is of a lap to come
		from.Put(7, 100)
		if n := len(to.Take()); i > 0 && n != 7 {
			t.Fatalf("round %d: %d frames arrive", i, n)
		}
	}
}

// TestOddFrames sends what cannot be sent, and what has no room for a header.
func TestOddFrames(t *testing.T) {
	a, b := wired(t, usual, 1)
	from, to := must(t, a, drivers.Config{}), must(t, b, drivers.Config{})
	for _, size := range []int{0, 13, 1519, 3000} {
		from.Put(1, size)
	}
	if s := from.Stats; s.TxErrors != 4 || s.TxPackets != 0 || len(to.Take()) != 0 {
		t.Errorf("%+v", s)
	}
	for off := range uint16(14) {
		k, _ := from.Pool.Get()
		k.Off, k.Len = off, 1518
		f := faults.Frame(int(off), 1518)
		copy(from.Pool.Bytes(k), f)
		from.Batch[0] = k
		from.Tx(from.Batch[:1])
		from.Flush()
		if got := to.Take(); len(got) != 1 || got[0] != string(f) {
			t.Fatalf("frame at %d: %d frames arrive", off, len(got))
		}
	}
}

// TestQuick: a port that is closed while the device answers to nothing does not
// take long.
func TestQuick(t *testing.T) {
	a, _ := wired(t, usual|featMultiQueue, 2)
	p, q := must(t, a, drivers.Config{Queues: []int{0}}), must(t, a, drivers.Config{Queues: []int{1}})
	a.deaf, a.noReset, a.ignored = true, true, 0
	_ = q.Close()
	q.Port = nil
	// It waits once for each thing that it asks for, whatever time that takes here.
	if a.ignored == 0 || a.ignored > 4 || a.m.Master() {
		t.Errorf("%d things asked for, master %v", a.ignored, a.m.Master())
	}
	faults.Rounds(3, p)
	if p.Info().Fault == "" {
		t.Error("a device that cannot be reset works on")
	}
	a.wrong = nil
}
