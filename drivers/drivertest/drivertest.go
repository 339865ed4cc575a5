// Package drivertest is the conformance suite of the drivers: what the packet
// engine relies on, tried on two ports that are joined by a wire. A driver's
// test makes the wire and calls Run.
package drivertest

import (
	"encoding/binary"
	"errors"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/internal/pktbuf"
)

// Name names a run at an MTU.
func Name(mtu int) string { return "MTU" + strconv.Itoa(mtu) }

// Wire is a fresh pair of devices that are joined, with nothing else sending.
type Wire struct {
	// Open opens a port on side 0 or 1. Only Pool and Stats of c are set.
	Open func(side int, c drivers.Config) (drivers.Port, error)
	MTU  int // largest layer 3 packet
	// Lossless says that a full receiver makes the sender keep its frames. On
	// any other wire a receiver that cannot follow loses some.
	Lossless bool
	// Loose says that the wire keeps frames in order only as long as the receiver
	// has room for them. None comes twice in any case.
	Loose bool
	// Cable pulls the cable, or plugs it in again; nil: it cannot be pulled.
	Cable func(in bool)
	// Queues is how many ports of a queue each side 0 can have that frames are
	// spread over by hash; 0: it is not.
	Queues int
	// Pools is how many ports of side 0 can have an address and a queue each; 0:
	// queues cannot be given to addresses.
	Pools int
	// Many is how many frames are sent in a row; 0: 20 000.
	Many int
}

const (
	header    = 14
	etherType = 0x88b5 // local experimental, IEEE 802
	patience  = 30 * time.Second
	window    = 48 // frames under way at once, where none may be lost
)

// Run runs the suite; fresh is called for each part of it.
func Run(t *testing.T, fresh func(t *testing.T) Wire) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, *rig)
	}{
		{"Sizes", sizes},
		{"Order", order},
		{"BothWays", bothWays},
		{"FullRing", fullRing},
		{"SlowConsumer", slowConsumer},
		{"NoBuffers", noBuffers},
		{"StopAndStart", stopAndStart},
		{"Counters", counters},
		{"Poll", pollable},
		{"EmptyBatches", emptyBatches},
		{"NoAllocation", noAllocation},
		{"Link", link},
		{"Spread", spread},
		{"Pools", pools},
		{"Many", many},
	} {
		t.Run(part.name, func(t *testing.T) {
			r := newRig(t, fresh(t))
			part.run(t, r)
			r.close(t)
		})
	}
}

// side is one end of the wire under test.
type side struct {
	port  drivers.Port
	pool  *pktbuf.Pool
	stats drivers.Stats
	batch []pktbuf.Packet
	far   [6]byte // the other side's address
}

type rig struct {
	wire Wire
	s    [2]*side
}

func newRig(t *testing.T, w Wire) *rig {
	t.Helper()
	r := &rig{wire: w}
	for i := range r.s {
		size := 4096
		if w.MTU > 3500 {
			size = 16384
		}
		pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 4096, FrameSize: size})
		if err != nil {
			t.Fatal(err)
		}
		r.s[i] = &side{pool: pool, batch: make([]pktbuf.Packet, 64)}
		t.Cleanup(func() {
			if r.s[i].port == nil { // else something failed and a device may still write there
				_ = pool.Close()
			}
		})
	}
	r.open(t, 0)
	r.open(t, 1)
	r.awaitLink(t)
	return r
}

// awaitLink waits until both sides say that the link is there: a device of our
// own negotiates it.
func (r *rig) awaitLink(t *testing.T) {
	t.Helper()
	for _, s := range r.s {
		for end := time.Now().Add(patience); !s.port.Info().LinkUp; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no link: %+v", s.port.Info())
			}
			s.port.Sync()
		}
	}
}

func (r *rig) open(t *testing.T, i int) {
	t.Helper()
	s := r.s[i]
	var err error
	if s.port, err = r.wire.Open(i, drivers.Config{Pool: s.pool, Stats: &s.stats}); err != nil {
		t.Fatalf("open side %d: %v", i, err)
	}
	info := s.port.Info()
	r.s[1-i].far = info.MAC
	if info.Driver == "" || info.Name == "" || info.MTU != r.wire.MTU || info.Queues < 1 || info.MAC == ([6]byte{}) || info.Fault != "" {
		t.Fatalf("side %d: info %+v", i, info)
	}
}

// closeSide closes a port and checks that every buffer has come back.
func (r *rig) closeSide(t *testing.T, i int) {
	t.Helper()
	s := r.s[i]
	if err := s.port.Close(); err != nil {
		t.Fatalf("close side %d: %v", i, err)
	}
	s.port = nil
	if n := s.pool.Available(); n != s.pool.Frames() {
		t.Fatalf("side %d: %d of %d buffers in the pool after Close", i, n, s.pool.Frames())
	}
}

func (r *rig) close(t *testing.T) {
	t.Helper()
	r.closeSide(t, 0)
	r.closeSide(t, 1)
}

// frame makes frame number seq of the given size in a new buffer.
func (s *side) frame(t *testing.T, seq uint32, size int) pktbuf.Packet {
	t.Helper()
	k, ok := s.pool.Get()
	if !ok {
		t.Fatal("no free buffer")
	}
	k.Len = uint16(size)
	s.write(s.pool.Bytes(k), seq)
	return k
}

func (s *side) write(b []byte, seq uint32) {
	copy(b, s.far[:])
	copy(b[6:], []byte{2, 0, 0, 0, 0, 1})
	binary.BigEndian.PutUint16(b[12:], etherType)
	binary.BigEndian.PutUint32(b[header:], seq)
	binary.BigEndian.PutUint16(b[header+4:], uint16(len(b)))
	for i := header + 6; i < len(b); i++ {
		b[i] = byte(uint32(i) + seq*7)
	}
}

// read checks a frame's content and returns its number.
func read(t *testing.T, b []byte) uint32 {
	t.Helper()
	if len(b) < 60 || binary.BigEndian.Uint16(b[12:]) != etherType {
		t.Fatalf("foreign frame: %d bytes, % x", len(b), b[:min(len(b), 32)])
	}
	if n := int(binary.BigEndian.Uint16(b[header+4:])); n != len(b) {
		t.Fatalf("frame of %d bytes arrives with %d", n, len(b))
	}
	seq := binary.BigEndian.Uint32(b[header:])
	for i := header + 6; i < len(b); i++ {
		if b[i] != byte(uint32(i)+seq*7) {
			t.Fatalf("frame %d: byte %d is %#x", seq, i, b[i])
		}
	}
	return seq
}

// send sends frames from to from+n-1, all of them, and returns the next number.
func (s *side) send(t *testing.T, from uint32, n int, size func(uint32) int) uint32 {
	t.Helper()
	deadline := time.Now().Add(patience)
	for n > 0 {
		b := s.batch[:min(n, len(s.batch))]
		for i := range b {
			b[i] = s.frame(t, from+uint32(i), size(from+uint32(i)))
		}
		from += uint32(len(b))
		n -= len(b)
		for len(b) > 0 {
			b = b[s.port.Tx(b):]
			s.port.Flush()
			if time.Now().After(deadline) {
				t.Fatalf("%d frames not taken within %v", len(b), patience)
			}
		}
	}
	return from
}

// receive takes n frames, which must be from, from+1, ...
func (s *side) receive(t *testing.T, from uint32, n int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for got := 0; got < n; {
		m := s.port.Rx(s.batch)
		for _, k := range s.batch[:m] {
			if seq := read(t, s.pool.Bytes(k)); seq != from+uint32(got) {
				t.Fatalf("frame %d arrives in place of %d", seq, from+uint32(got))
			}
			got++
			s.pool.Put(k)
		}
		s.port.Flush()
		if m == 0 && time.Now().After(deadline) {
			s.port.Sync()
			t.Fatalf("%d of %d frames from %d within %v; counters %+v", got, n, from, patience, s.stats)
		}
	}
}

// sequence checks the numbers of frames where some may be lost.
type sequence struct {
	last int64
	seen map[uint32]bool // where the order may change
}

func (w *Wire) sequence() *sequence {
	q := &sequence{last: -1}
	if w.Loose {
		q.seen = make(map[uint32]bool)
	}
	return q
}

// add takes the next frame's number, which must be higher than the one before.
func (q *sequence) add(t *testing.T, seq uint32) {
	t.Helper()
	if q.seen != nil {
		if q.seen[seq] {
			t.Fatalf("frame %d comes twice", seq)
		}
		q.seen[seq] = true
		return
	}
	if int64(seq) <= q.last {
		t.Fatalf("frame %d after frame %d", seq, q.last)
	}
	q.last = int64(seq)
}

// collect takes what arrives, at most batch frames a call, until nothing has
// for a while and some calls, and returns how many.
func (s *side) collect(t *testing.T, order *sequence, batch int) int {
	t.Helper()
	n := 0
	empty := 0 // calls: this thread may be the one that does nothing for a while
	for quiet := time.Now(); time.Since(quiet) < 100*time.Millisecond || empty < 50; {
		m := s.port.Rx(s.batch[:batch])
		s.port.Flush()
		for _, k := range s.batch[:m] {
			order.add(t, read(t, s.pool.Bytes(k)))
			s.pool.Put(k)
			n++
		}
		if empty++; m > 0 {
			quiet, empty = time.Now(), 0
		}
	}
	return n
}

func fixed(n int) func(uint32) int { return func(uint32) int { return n } }

func sizes(t *testing.T, r *rig) {
	var seq uint32
	for dir := range 2 {
		from, to := r.s[dir], r.s[1-dir]
		for size := 60; size <= r.wire.MTU+header; {
			n := min(window, r.wire.MTU+header-size+1)
			base := size
			start := seq
			seq = from.send(t, seq, n, func(s uint32) int { return base + int(s-start) })
			to.receive(t, start, n)
			size += n
		}
	}
}

// order sends enough to wrap every ring several times.
func order(t *testing.T, r *rig) {
	var seq uint32
	for round := range 1200 {
		n := 1 + round%window
		next := r.s[0].send(t, seq, n, func(s uint32) int { return 60 + int(s*37%uint32(r.wire.MTU+header-59)) })
		r.s[1].receive(t, seq, n)
		seq = next
	}
}

func bothWays(t *testing.T, r *rig) {
	var seq [2]uint32
	for range 400 {
		a := r.s[0].send(t, seq[0], window/2, fixed(100))
		b := r.s[1].send(t, seq[1], window/2, fixed(1000))
		r.s[1].receive(t, seq[0], window/2)
		r.s[0].receive(t, seq[1], window/2)
		seq = [2]uint32{a, b}
	}
}

// fullRing sends until the port refuses or the receiver must be long full, and
// then lets the receiver look.
func fullRing(t *testing.T, r *rig) {
	a, b := r.s[0], r.s[1]
	var seq uint32
	arrived := r.wire.sequence()
	for range 3 {
		first, refused := seq, 0
		for refused < 100 && seq-first < 10000 {
			k := a.frame(t, seq, 200)
			a.batch[0] = k
			if a.port.Tx(a.batch[:1]) == 1 {
				seq++
				refused = 0
			} else {
				a.pool.Put(k)
				refused++
			}
			a.port.Flush()
		}
		if r.wire.Lossless && refused == 0 {
			t.Fatalf("%d frames taken though nobody receives", seq-first)
		}
		got := b.collect(t, arrived, len(b.batch))
		if got == 0 || r.wire.Lossless && uint32(got) != seq-first {
			t.Fatalf("%d of %d frames arrive", got, seq-first)
		}
	}
	// It must work as before now.
	for range 20 {
		next := a.send(t, seq, window, fixed(300))
		b.receive(t, seq, window)
		seq = next
	}
}

func slowConsumer(t *testing.T, r *rig) {
	a, b := r.s[0], r.s[1]
	var seq uint32
	arrived, got := r.wire.sequence(), 0
	one := make([]pktbuf.Packet, 1)
	for range 150 {
		for range 40 {
			k := a.frame(t, seq, 60+int(seq%1000))
			a.batch[0] = k
			if a.port.Tx(a.batch[:1]) == 1 {
				seq++
			} else {
				a.pool.Put(k)
			}
		}
		a.port.Flush()
		for range 4 {
			if b.port.Rx(one) == 1 {
				arrived.add(t, read(t, b.pool.Bytes(one[0])))
				got++
				b.pool.Put(one[0])
			}
		}
		b.port.Flush()
	}
	got += b.collect(t, arrived, 1)
	if got == 0 || uint32(got) > seq || r.wire.Lossless && uint32(got) != seq {
		t.Fatalf("%d of %d frames arrive", got, seq)
	}
	b.port.Sync()
	if n := b.stats.RxPackets; n != uint64(got) {
		t.Fatalf("%d packets counted, %d received", n, got)
	}
	next := a.send(t, seq, window, fixed(300))
	b.receive(t, seq, window)
	_ = next
}

// noBuffers lets the receiver's pool run dry, and recover.
func noBuffers(t *testing.T, r *rig) {
	a, b := r.s[0], r.s[1]
	var held []pktbuf.Packet
	for {
		k, ok := b.pool.Get()
		if !ok {
			break
		}
		held = append(held, k)
	}
	var seq uint32
	arrived := r.wire.sequence()
	refused := 0
	var taken []pktbuf.Packet
	for seq < 8000 && refused < 100 { // more than a pool, and what comes is not given back
		k := a.frame(t, seq, 100)
		a.batch[0] = k
		if a.port.Tx(a.batch[:1]) == 1 {
			seq++
			refused = 0
		} else {
			a.pool.Put(k)
			refused++
		}
		a.port.Flush()
		n := b.port.Rx(b.batch)
		for _, k := range b.batch[:n] {
			arrived.add(t, read(t, b.pool.Bytes(k)))
			taken = append(taken, k)
		}
		b.port.Flush()
	}
	if len(taken)+len(held) > b.pool.Frames() {
		t.Fatalf("%d frames received and %d held, of %d", len(taken), len(held), b.pool.Frames())
	}
	b.pool.PutBatch(taken)
	b.pool.PutBatch(held)
	b.collect(t, arrived, len(b.batch))
	for range 20 {
		next := a.send(t, seq, window, fixed(300))
		b.receive(t, seq, window)
		seq = next
	}
}

func stopAndStart(t *testing.T, r *rig) {
	var seq uint32
	for i := range 6 {
		next := r.s[0].send(t, seq, window, fixed(500))
		r.s[1].receive(t, seq, window)
		seq = next
		if i%3 == 2 { // with frames waiting in the queue
			seq = r.s[0].send(t, seq, 20, fixed(500))
			seq = r.s[1].send(t, seq, 20, fixed(500))
		}
		r.closeSide(t, (i+1)%2)
		if i%3 == 2 {
			r.s[i%2].collect(t, r.wire.sequence(), 64)
		}
		r.open(t, (i+1)%2)
		r.awaitLink(t)
	}
	next := r.s[0].send(t, seq, window, fixed(500))
	r.s[1].receive(t, seq, window)
	r.s[1].send(t, next, window, fixed(500))
	r.s[0].receive(t, next, window)
}

func counters(t *testing.T, r *rig) {
	a, b := r.s[0], r.s[1]
	var want drivers.Stats
	a.stats, b.stats = drivers.Stats{}, drivers.Stats{}
	for seq := range uint32(300) {
		size := 60 + int(seq*5%uint32(r.wire.MTU+header-59))
		k := a.frame(t, seq, size)
		f := a.pool.Bytes(k)
		switch seq % 3 {
		case 1:
			copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
			want.TxBcast++
		case 2:
			copy(f, []byte{0x33, 0x33, 0, 0, 0, 1})
			want.TxMcast++
		}
		want.TxPackets++
		want.TxBytes += uint64(size)
		a.batch[0] = k
		for a.port.Tx(a.batch[:1]) == 0 {
			a.port.Flush()
		}
		a.port.Flush()
		b.receive(t, seq, 1)
	}
	a.port.Sync()
	b.port.Sync()
	if a.stats != want {
		t.Errorf("sender counts %+v, want %+v", a.stats, want)
	}
	want = drivers.Stats{RxBytes: want.TxBytes, RxPackets: want.TxPackets, RxMcast: want.TxMcast, RxBcast: want.TxBcast, RxDMAPackets: want.TxPackets}
	if b.stats != want {
		t.Errorf("receiver counts %+v, want %+v", b.stats, want)
	}
}

// pollable checks that a worker that sleeps on Fd is woken, and not for nothing.
func pollable(t *testing.T, r *rig) {
	a, b := r.s[0], r.s[1]
	if b.port.Fd() < 0 {
		return // the worker polls by calling Rx
	}
	readable := func(ms int) bool {
		fd := b.port.Fd() // which may turn an interrupt on that turns itself off
		for {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(p, ms)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			return n == 1 && p[0].Revents&unix.POLLIN != 0
		}
	}
	var seq uint32
	for range 50 {
		// An interrupt may be under way for what has just been taken.
		for end := time.Now().Add(patience / 5); readable(0); {
			if time.Now().After(end) {
				t.Fatal("readable though nothing waits")
			}
		}
		next := a.send(t, seq, 3, fixed(64))
		if !readable(int(patience / time.Millisecond)) {
			t.Fatal("not readable though frames wait")
		}
		b.receive(t, seq, 3)
		seq = next
	}
}

func emptyBatches(t *testing.T, r *rig) {
	for _, s := range r.s {
		if n := s.port.Rx(nil); n != 0 {
			t.Fatalf("Rx(nil) = %d", n)
		}
		if n := s.port.Rx(s.batch); n != 0 {
			t.Fatalf("Rx = %d on an idle wire", n)
		}
		if n := s.port.Tx(nil); n != 0 {
			t.Fatalf("Tx(nil) = %d", n)
		}
		s.port.Flush()
		s.port.Sync()
		if s.stats != (drivers.Stats{}) {
			t.Fatalf("counters of an idle wire: %+v", s.stats)
		}
	}
}

func noAllocation(t *testing.T, r *rig) {
	a, b := r.s[0], r.s[1]
	n := testing.AllocsPerRun(200, func() {
		for i := range 16 {
			k, _ := a.pool.Get()
			k.Len = 100
			a.write(a.pool.Bytes(k), 1)
			a.batch[i] = k
		}
		for left := a.batch[:16]; len(left) > 0; {
			left = left[a.port.Tx(left):]
			a.port.Flush()
		}
		for range 50 {
			m := b.port.Rx(b.batch)
			b.pool.PutBatch(b.batch[:m])
			b.port.Flush()
		}
		a.port.Sync()
		b.port.Sync()
	})
	if n != 0 {
		t.Fatalf("%v allocations a round", n)
	}
}
