package forwarding

import (
	"net"
	"testing"
	"time"

	"vita/drivers/memory"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
	"vita/internal/pktbuf"
)

// still stops the rig's worker between two turns, so that a test can do its
// turns itself.
func (r *rig) still() (w *worker, goOn func()) {
	r.settle()
	r.engine.mu.Lock()
	defer r.engine.mu.Unlock()
	for _, x := range r.engine.workers {
		if x != nil {
			x.park()
			return x, x.unpark
		}
	}
	r.t.Fatal("no worker")
	return nil, nil
}

func TestPathsDoNotAllocate(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	r.install(client.SA{Direction: client.Inbound, SPI: 4712})
	w, goOn := r.still()
	defer goOn()
	out := outFrame(60, 'x')
	in := make([][]byte, 0, 200)
	p := newRemote(t, 4712)
	for range cap(in) {
		in = append(in, p.packet(inFrame(60)))
	}
	ping := frame{dst: privateMAC, src: "10.1.0.7", to: "10.1.0.254", proto: 1, payload: echoRequest(56)}.bytes()
	expired := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", ttl: 1, proto: 17, payload: make([]byte, 30)}.bytes()
	i := 0
	met := 0
	n := testing.AllocsPerRun(100, func() {
		r.private.Inject(out)
		r.private.Inject(ping)
		r.private.Inject(expired)
		r.public.Inject(in[i%len(in)])
		i++
		met += w.turn()
	})
	if met < 400 {
		t.Fatalf("only %d packets met", met)
	}
	if n != 0 && !raceDetector {
		t.Errorf("%v allocations a turn, want 0", n)
	}
}

// TestCopiesInOneBatch: the replay check comes before decryption, and both
// copies pass it when they are in one batch.
func TestCopiesInOneBatch(t *testing.T) {
	r := newRig(t)
	r.install(client.SA{Direction: client.Inbound, SPI: 4711})
	w, goOn := r.still()
	p := newRemote(t, 4711)
	f := p.packet(inFrame(60))
	for range 3 {
		r.public.Inject(f)
	}
	if n := w.turn(); n != 3 {
		t.Fatalf("%d packets in the turn, want 3", n)
	}
	if got := r.private.Drain(); len(got) != 1 {
		t.Errorf("%d copies came in", len(got))
	}
	goOn()
	r.wantDrops(map[drop.Reason]uint64{drop.ESPReplay: 2})
}

// TestTransmitQueueFull: what a port does not take is dropped and counted, and
// its buffers come back.
func TestTransmitQueueFull(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	name, small := newWire(t, memory.Options{Depth: 8})
	r.spec.Public[0].Link.Ifname = name
	r.apply()
	w, goOn := r.still()
	for range 20 {
		r.private.Inject(outFrame(60, 'x'))
	}
	w.turn()
	goOn()
	if got := small.Drain(); len(got) != 8 {
		t.Errorf("%d frames went out, want 8", len(got))
	}
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundTxFull: 12})
	if s := r.client.Counters(); s.Public.TxDrop != 12 {
		t.Errorf("txdrop %d, want 12", s.Public.TxDrop)
	}
}

// TestNoBuffers: with all buffers in use the worker goes on and says so.
func TestNoBuffers(t *testing.T) {
	r := newRig(t)
	w, goOn := r.still()
	var held []pktbuf.Packet
	expired := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", ttl: 1, proto: 17, payload: make([]byte, 30)}.bytes()
	r.private.Inject(expired)
	for w.pool.Available() > 1 {
		k, _ := w.pool.Get()
		held = append(held, k)
	}
	w.turn() // takes the last one for the packet, and has none for the answer
	w.pool.PutBatch(held)
	goOn()
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundTTL: 1, drop.AnswerNoBuffer: 1})
}

// FuzzRequests sends the engine requests of any content: it answers each one
// and forwards on.
func FuzzRequests(f *testing.F) {
	r := newRig(f)
	if err := r.client.Close(); err != nil {
		f.Fatal(err)
	}
	r.client = nil
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: r.socket, Net: "unixpacket"})
	if err != nil {
		f.Fatal(err)
	}
	b := make([]byte, ctl.MaxSize)
	ask := func(t testing.TB, request []byte) ctl.Reply {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		a, err := ctl.ParseReply(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	hello := ctl.Request{Kind: ctl.Hello, Version: tables.Version}
	if a := ask(f, hello.Bytes()); a.Code != ctl.OK {
		f.Fatalf("greeting: %+v", a)
	}
	size := len(hello.Bytes())
	for k := ctl.Hello; k <= ctl.StopCapture+1; k++ {
		q := ctl.Request{Kind: k, Word: tables.Word(2, 1), Queue: 1, Direction: tables.Inbound, KeyLen: 16, SPI: 5}
		f.Add(append([]byte(nil), q.Bytes()...))
		q.KeyLen, q.Direction, q.Word = 200, 9, tables.Word(2, 0)
		f.Add(append([]byte(nil), q.Bytes()...))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		request = append(request, make([]byte, size)...)[:size]
		q, err := ctl.ParseRequest(request)
		if err != nil {
			t.Fatal(err)
		}
		if q.Kind == ctl.Shutdown {
			return
		}
		if a := ask(t, request); a.ID != q.ID {
			t.Fatalf("request %d, reply %d", q.ID, a.ID)
		}
		if a := ask(t, (&ctl.Request{Kind: ctl.RemoveSA, ID: 77}).Bytes()); a.ID != 77 || a.Code != ctl.OK {
			t.Fatalf("reply %+v", a)
		}
		r.engine.mu.Lock()
		defer r.engine.mu.Unlock()
		if r.engine.workers[0] == nil {
			t.Fatal("the worker has ended")
		}
	})
}

// BenchmarkDuplex60 measures one packet of 60 bytes out of the private network
// and another of that size in: one encapsulation and one decapsulation. The
// figure is ns/pair, the time of the worker's turns with the wires' copies in
// them; filling and emptying the wires is not in it.
func BenchmarkDuplex60(b *testing.B) { benchmarkDuplex(b, 60) }

// BenchmarkDuplex1440 is BenchmarkDuplex60 with packets of 1440 bytes.
func BenchmarkDuplex1440(b *testing.B) { benchmarkDuplex(b, 1440) }

func benchmarkDuplex(b *testing.B, n int) {
	r := newRig(b)
	r.install(client.SA{Direction: client.Outbound, SPI: 4711})
	in := r.install(client.SA{Direction: client.Inbound, SPI: 4712})
	w, goOn := r.still()
	defer goOn()
	sa := &w.mem.SAs[tables.SAIndex(uint32(in))]
	p := newRemote(b, 4712)
	out := outFrame(n, 'x')
	frames := make([][]byte, batchSize)
	for i := range frames {
		frames[i] = p.packet(inFrame(n))
	}
	var spent time.Duration
	pairs := 0
	for b.Loop() {
		sa.Seq, sa.Window = 0, [4]uint64{} // so that the same frames are new again
		for _, f := range frames {
			r.private.Inject(out)
			r.public.Inject(f)
		}
		start := time.Now()
		if w.turn() != 2*batchSize {
			b.Fatal("not a whole batch")
		}
		spent += time.Since(start)
		pairs += batchSize
		if len(r.private.Drain()) != batchSize || len(r.public.Drain()) != batchSize {
			b.Fatal("packets were lost")
		}
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(pairs), "ns/pair")
	b.ReportMetric(0, "ns/op")
}
