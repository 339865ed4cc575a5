package drivertest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/internal/nic"
	"vita/internal/pktbuf"
)

// What only devices of our own have: a cable, queues that a hash chooses, and
// the speed for a large number of frames.

// link pulls the cable and plugs it in again: both sides must see it, and what
// is sent afterwards must arrive.
func link(t *testing.T, r *rig) {
	if r.wire.Cable == nil {
		return
	}
	var seq uint32
	for range 3 {
		next := r.s[0].send(t, seq, window, fixed(200))
		r.s[1].receiveFrom(t, seq, window)
		seq = next
		var before [2]int
		for i, s := range r.s {
			before[i] = s.port.Info().LinkChanges
		}
		r.wire.Cable(false)
		for i, s := range r.s {
			for end := time.Now().Add(patience); s.port.Info().LinkUp; s.port.Sync() {
				if time.Now().After(end) {
					t.Fatalf("side %d has a link without a cable", i)
				}
			}
		}
		for range 10 { // it goes nowhere, or waits
			k := r.s[0].frame(t, seq, 100)
			seq++
			if b := []pktbuf.Packet{k}; r.s[0].port.Tx(b) == 0 {
				r.s[0].pool.Put(k)
			}
			r.s[0].port.Flush()
		}
		r.wire.Cable(true)
		r.awaitLink(t)
		for i, s := range r.s {
			if n := s.port.Info().LinkChanges - before[i]; n < 2 {
				t.Fatalf("side %d has seen %d changes of its link", i, n)
			}
		}
		r.s[0].port.Flush()
		r.s[1].collect(t, r.wire.sequence(), 64)
	}
	next := r.s[0].send(t, seq, window, fixed(200))
	r.s[1].receiveFrom(t, seq, window)
	seq = next
	r.s[1].send(t, seq, window, fixed(300))
	r.s[0].receive(t, seq, window)
}

// receiveFrom takes n frames from from on; older ones may come before them.
func (s *side) receiveFrom(t *testing.T, from uint32, n int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for got := 0; got < n; {
		m := s.port.Rx(s.batch)
		for _, k := range s.batch[:m] {
			seq := read(t, s.pool.Bytes(k))
			s.pool.Put(k)
			if got == 0 && seq < from {
				continue
			}
			if seq != from+uint32(got) {
				t.Fatalf("frame %d arrives in place of %d", seq, from+uint32(got))
			}
			got++
		}
		s.port.Flush()
		if m == 0 && time.Now().After(deadline) {
			t.Fatalf("%d of %d frames from %d within %v", got, n, from, patience)
		}
	}
}

// spread opens side 0 once for each queue and checks that each frame comes by
// the queue that a hash made here says.
func spread(t *testing.T, r *rig) {
	n := r.wire.Queues
	if n == 0 {
		return
	}
	r.closeSide(t, 0)
	ports := make([]*side, n)
	for q := range ports {
		pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 1024, FrameSize: r.s[0].pool.FrameSize()})
		if err != nil {
			t.Fatal(err)
		}
		s := &side{pool: pool, batch: make([]pktbuf.Packet, 64)}
		ports[q] = s
		if s.port, err = r.wire.Open(0, drivers.Config{Pool: pool, Stats: &s.stats, Queues: []int{q}, Every: n}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if s.port == nil {
				_ = pool.Close()
			}
		})
	}
	r.s[0].port = ports[0].port
	r.awaitLink(t)
	far := ports[0].port.Info().MAC
	rnd := rand.New(rand.NewPCG(3, 4))
	sender := r.s[1]
	came := make([]int, n)
	for range 400 {
		k, _ := sender.pool.Get()
		k.Len = 80
		f := sender.pool.Bytes(k)
		want := flow(rnd, f, far) % n
		sender.batch[0] = k
		for sender.port.Tx(sender.batch[:1]) == 0 {
			sender.port.Flush()
		}
		sender.port.Flush()
		content := string(f[:60])
		got := -1
		for end := time.Now().Add(patience); got < 0; {
			for q, s := range ports {
				if s.port.Rx(s.batch[:1]) == 1 {
					got = q
					if string(s.pool.Bytes(s.batch[0])[:60]) != content {
						t.Fatalf("another frame: % x", s.pool.Bytes(s.batch[0])[:60])
					}
					s.pool.Put(s.batch[0])
				}
				s.port.Flush()
			}
			if got < 0 && time.Now().After(end) {
				t.Fatalf("nothing comes for % x", content)
			}
		}
		sender.port.Flush()
		if got != want {
			t.Fatalf("queue %d for % x: want %d", got, content, want)
		}
		came[got]++
	}
	for q, c := range came {
		if c < 400/n/3 {
			t.Errorf("queue %d got %d of 400 frames", q, c)
		}
	}
	// A queue less: what it had goes to the others.
	for q := n - 1; q >= 0; q-- {
		s := ports[q]
		if err := s.port.Close(); err != nil {
			t.Fatal(err)
		}
		s.port = nil
		if a := s.pool.Available(); a != s.pool.Frames() {
			t.Fatalf("queue %d: %d of %d buffers in the pool after Close", q, a, s.pool.Frames())
		}
		for range min(q, 1) * 20 {
			k, _ := sender.pool.Get()
			k.Len = 80
			flow(rnd, sender.pool.Bytes(k), far)
			sender.batch[0] = k
			for sender.port.Tx(sender.batch[:1]) == 0 {
				sender.port.Flush()
			}
			sender.port.Flush()
			for end := time.Now().Add(patience); ; {
				m := 0
				for _, s := range ports[:q] {
					c := s.port.Rx(s.batch[:1])
					s.pool.PutBatch(s.batch[:c])
					s.port.Flush()
					m += c
				}
				sender.port.Flush()
				if m > 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("with %d queues a frame does not come", q)
				}
			}
		}
	}
	r.open(t, 0)
}

// pools opens side 0 with ports that have an address and a queue each, and checks
// who gets what.
func pools(t *testing.T, r *rig) {
	n := min(r.wire.Pools, 4)
	if n == 0 {
		return
	}
	r.closeSide(t, 0)
	ports := make([]*side, n)
	address := func(q int) [6]byte { return [6]byte{2, 0, 0, 0, 1, byte(q)} }
	for q := range ports {
		pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 512, FrameSize: r.s[0].pool.FrameSize()})
		if err != nil {
			t.Fatal(err)
		}
		s := &side{pool: pool, batch: make([]pktbuf.Packet, 64)}
		ports[q] = s
		if s.port, err = r.wire.Open(0, drivers.Config{Pool: pool, Stats: &s.stats, Queues: []int{q}, MAC: address(q)}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if s.port == nil {
				_ = pool.Close()
			}
		})
	}
	r.s[0].port = ports[0].port
	r.awaitLink(t)
	sender := r.s[1]
	seq := uint32(0)
	look := func(to [6]byte, want ...int) {
		t.Helper()
		sender.far = to
		sender.batch[0] = sender.frame(t, seq, 100)
		// What is for nobody is followed by one that shows when to stop.
		sender.far = address(0)
		sender.batch[1] = sender.frame(t, seq+1, 100)
		for left := sender.batch[:2]; len(left) > 0; sender.port.Flush() {
			left = left[sender.port.Tx(left):]
		}
		came := make([]int, n)
		done := false
		for end := time.Now().Add(patience); !done; {
			for q, s := range ports {
				if s.port == nil {
					continue
				}
				m := s.port.Rx(s.batch)
				for _, k := range s.batch[:m] {
					switch number := binary.BigEndian.Uint32(s.pool.Bytes(k)[header:]); {
					case number == seq:
						came[q]++
					case number == seq+1 && q == 0:
						done = true
					default:
						t.Fatalf("queue %d gets frame %d", q, number)
					}
				}
				s.pool.PutBatch(s.batch[:m])
				s.port.Flush()
			}
			sender.port.Flush()
			if time.Now().After(end) {
				t.Fatal("nothing comes")
			}
		}
		for q, c := range came {
			if slices.Contains(want, q) != (c == 1) || c > 1 {
				t.Fatalf("a frame for % x comes %d times by queue %d, wanted by %v", to, c, q, want)
			}
		}
		seq += 2
	}
	all := make([]int, n)
	for q := range all {
		all[q] = q
	}
	broadcast, group := [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, [6]byte{0x33, 0x33, 0xff, 1, 2, 3}
	for range 20 {
		for q := range ports {
			look(address(q), q)
		}
		look(broadcast, all...)
		look(group, all...)
		look(address(n + 1))
	}
	// Without one of them.
	if err := ports[n-1].port.Close(); err != nil {
		t.Fatal(err)
	}
	ports[n-1].port = nil
	look(address(n - 1))
	look(broadcast, all[:n-1]...)
	look(address(0), 0)
	for q := n - 2; q >= 0; q-- {
		if err := ports[q].port.Close(); err != nil {
			t.Fatal(err)
		}
		ports[q].port = nil
	}
	for q, s := range ports {
		if a := s.pool.Available(); a != s.pool.Frames() {
			t.Errorf("queue %d: %d of %d buffers in the pool after Close", q, a, s.pool.Frames())
		}
	}
	r.open(t, 0)
}

// flow makes f a packet of a flow of its own and returns the entry of a table of
// 128 that its hash names.
func flow(rnd *rand.Rand, f []byte, to [6]byte) int {
	clear(f)
	copy(f, to[:])
	copy(f[6:], []byte{2, 0, 0, 0, 0, 1})
	be := binary.BigEndian
	p := f[14:]
	proto := byte(17)
	var ports int // where they are
	if rnd.IntN(2) == 0 {
		proto = 6
	}
	if rnd.IntN(3) > 0 {
		be.PutUint16(f[12:], 0x0800)
		p[0], p[8], p[9] = 0x45, 64, proto
		be.PutUint16(p[2:], uint16(len(p)))
		be.PutUint64(p[12:], rnd.Uint64())
		ports = 20
	} else {
		be.PutUint16(f[12:], 0x86dd)
		proto = 17
		p[0], p[6], p[7] = 0x60, proto, 64
		be.PutUint16(p[4:], uint16(len(p)-40))
		for i := range 4 {
			be.PutUint64(p[8+8*i:], rnd.Uint64())
		}
		ports = 40
	}
	be.PutUint32(p[ports:], rnd.Uint32())
	if proto == 6 {
		p[ports+12] = 5 << 4
	}
	hash, _ := nic.HashFrame(&nic.RSSKey, f, true)
	return int(hash & 127)
}

// many sends a large number of frames, all of which must come, in order.
func many(t *testing.T, r *rig) {
	total := r.wire.Many
	if total == 0 {
		total = 20000
	}
	for seq := uint32(0); int(seq) < total; {
		n := min(window, total-int(seq))
		next := r.s[0].send(t, seq, n, fixed(64))
		r.s[1].receive(t, seq, n)
		seq = next
	}
	if r.s[1].stats.RxPackets != uint64(total) {
		t.Fatalf("%d packets counted, of %d", r.s[1].stats.RxPackets, total)
	}
}

// Speed sends frames of 64 bytes from side 0 to side 1 for a while, as fast as
// the receiver takes them, and returns how many a second came.
func Speed(t *testing.T, w Wire, during time.Duration) float64 {
	r := newRig(t, w)
	defer r.close(t)
	from, to := r.s[0], r.s[1]
	sent, came := uint32(0), 0
	began := time.Now()
	for time.Since(began) < during {
		for int(sent)-came < window*4 {
			b := from.batch[:32]
			for i := range b {
				b[i] = from.frame(t, sent+uint32(i), 64)
			}
			n := from.port.Tx(b)
			from.pool.PutBatch(b[n:])
			from.port.Flush()
			sent += uint32(n)
			if n < len(b) {
				break
			}
		}
		n := to.port.Rx(to.batch)
		to.pool.PutBatch(to.batch[:n])
		to.port.Flush()
		from.port.Flush()
		came += n
	}
	took := time.Since(began)
	to.collect(t, w.sequence(), 64) // what is still under way
	return float64(came) / took.Seconds()
}
