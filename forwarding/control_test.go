package forwarding

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"vita/drivers/memory"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/icmp"
	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/clock"
	"vita/internal/cpu"
)

func TestKeyExchangeMessages(t *testing.T) {
	r := newRig(t)
	got := make(chan client.Message, 10)
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- r.client.Receive(ctx, func(m client.Message) {
			m.Payload = append([]byte(nil), m.Payload...)
			got <- m
		})
	}()
	for i := range 3 {
		time.Sleep(time.Duration(i) * 5 * time.Millisecond) // with the receiver awake and asleep
		r.public.Inject(frame{
			dst: publicMAC, src: "203.0.113.2", to: "203.0.113.1", proto: wire.ProtoUDP,
			payload: udp(5555, 303, []byte{'k', byte(i)}, "203.0.113.2", "203.0.113.1"),
		}.bytes())
		select {
		case m := <-got:
			if m.Queue != 1 || m.Peer != netip.MustParseAddrPort("203.0.113.2:5555") || string(m.Payload) != string([]byte{'k', byte(i)}) {
				t.Errorf("message %+v", m)
			}
		case <-time.After(patience):
			t.Fatal("no message")
		}
	}
	if err := r.client.Receive(ctx, nil); err == nil {
		t.Error("two may receive at once")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Receive ended with %v", err)
	}

	if err := r.client.Send(client.Message{Queue: 1, Peer: netip.MustParseAddrPort("203.0.113.2:303"), Payload: []byte("answer")}); err != nil {
		t.Fatal(err)
	}
	want := frame{
		dst: testMAC, srcMAC: publicMAC, src: "203.0.113.1", to: "203.0.113.2", proto: wire.ProtoUDP,
		payload: udp(303, 303, []byte("answer"), "203.0.113.1", "203.0.113.2"),
	}.bytes()
	if f := take(t, r.public, 1)[0]; string(f) != string(want) {
		t.Errorf("sent\n%x\nwant\n%x", f, want)
	}
	if err := r.client.Send(client.Message{Queue: 2}); !errors.Is(err, client.ErrNoRoute) {
		t.Errorf("a queue that is not there: %v", err)
	}
	r.wantDrops(nil)
}

func TestRingToVitadOverflows(t *testing.T) {
	r := newRig(t)
	f := frame{
		dst: publicMAC, src: "203.0.113.2", to: "203.0.113.1", proto: wire.ProtoUDP,
		payload: udp(303, 303, []byte("x"), "203.0.113.2", "203.0.113.1"),
	}.bytes()
	for range tables.RingSize {
		r.public.Inject(f)
	}
	// Half of the ring, and what a second allows, is for the one who floods.
	const waiting, others = tables.RingSize/2 + icmp.PerSecond, 100
	r.wantDrops(map[drop.Reason]uint64{drop.KeyExchangeRate: tables.RingSize - waiting})
	for i := range others {
		from := fmt.Sprintf("203.0.113.%d", 10+i)
		r.public.Inject(frame{dst: publicMAC, src: from, to: "203.0.113.1", proto: wire.ProtoUDP, payload: udp(303, 303, []byte("x"), from, "203.0.113.1")}.bytes())
	}
	s := r.settle() // any of them may share the flood's bucket
	rate, full := s.Drops(drop.KeyExchangeRate), s.Drops(drop.KeyExchangeRingFull)
	if rate+full != others || full < others/2 {
		t.Errorf("%d dropped for their rate, %d for want of room", rate, full)
	}
	// A client that comes later finds what has waited.
	ctx, cancel := context.WithCancel(r.ctx)
	n := 0
	err := r.client.Receive(ctx, func(client.Message) {
		if n++; n == tables.RingSize {
			cancel()
		}
	})
	if n != tables.RingSize || !errors.Is(err, context.Canceled) {
		t.Errorf("%d messages, %v", n, err)
	}
}

func TestPrepareFailsAndNothingChanges(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	before := r.client.Ports()
	bad := r.spec
	bad.Private = new(*r.spec.Private)
	bad.Private.Link.Ifname = "mem:nothing"
	_, err := r.client.Prepare(r.ctx, &bad)
	var pe *client.PortError
	if !errors.As(err, &pe) || !errors.Is(err, client.ErrNoInterface) || pe.Link.Ifname != "mem:nothing" {
		t.Fatalf("no such interface: %v", err)
	}
	bad = r.spec
	bad.Public = []tables.PublicInterface{r.spec.Public[0], r.spec.Public[0]}
	bad.Public[1].Queue = 2
	if _, err = r.client.Prepare(r.ctx, &bad); !errors.As(err, &pe) || !errors.Is(err, client.ErrBusy) {
		t.Fatalf("one interface twice: %v", err)
	}
	other := *r.spec.Private
	other.Link.Ifname = "eth0"
	bad = tables.Spec{Private: &other, Public: r.spec.Public}
	if _, err = r.client.Prepare(r.ctx, &bad); !errors.Is(err, client.ErrUnsupported) {
		t.Fatalf("no driver: %v", err)
	}
	bad = r.spec
	bad.Routes = []tables.Route{{}}
	if _, err = r.client.Prepare(r.ctx, &bad); !errors.Is(err, tables.ErrSpec) {
		t.Fatalf("no tables: %v", err)
	}
	// One that would need the live port's device, and then another that fails:
	// the live port must come back.
	bad = r.spec
	bad.Private = new(*r.spec.Private)
	bad.Private.MAC = [6]byte{2, 0, 0, 0, 7, 7}
	bad.Public = []tables.PublicInterface{r.spec.Public[0]}
	bad.Public[0].Link.Ifname = "mem:nothing"
	if _, err = r.client.Prepare(r.ctx, &bad); !errors.Is(err, client.ErrNoInterface) {
		t.Fatalf("second port: %v", err)
	}
	r.private.Inject(outFrame(60, 'x'))
	take(t, r.public, 1)
	if after := r.client.Ports(); len(after) != 2 || after[0] != before[0] || after[1] != before[1] {
		t.Errorf("ports %+v, were %+v", after, before)
	}
	p, err := r.client.Prepare(r.ctx, &r.spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Prepare(r.ctx, &r.spec); err == nil {
		t.Error("two generations may be prepared at once")
	}
	p.Abort()
	p.Abort()
	p.Publish() // too late
	r.apply()
}

func TestPortsFollowTheConfiguration(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	// The device's address changes: the port must be opened anew.
	r.spec.Private.MAC = [6]byte{2, 0, 0, 0, 7, 7}
	r.apply()
	f := outFrame(60, 'x')
	*(*[6]byte)(f[0:6]) = r.spec.Private.MAC
	r.private.Inject(f)
	take(t, r.public, 1)
	// Another public interface in a second queue.
	name, second := newWire(t, memory.Options{})
	private, end := newWire(t, memory.Options{Queues: 2})
	r.spec.Private.Link.Ifname = private
	r.spec.Public = append(r.spec.Public, r.spec.Public[0])
	r.spec.Public[1].Queue, r.spec.Public[1].Link.Ifname, r.spec.Public[1].IP = 2, name, addr("203.0.113.3")
	r.apply()
	if got := r.client.Ports(); len(got) != 4 {
		t.Fatalf("%d ports, want 4: %+v", len(got), got)
	}
	r.install(client.SA{Direction: client.Outbound, SPI: 99, Queue: 2})
	for i := range byte(2) { // the wire's default steering looks at the addresses
		f := changed(f, func(b []byte) { b[33] = 8 + i })
		end.Inject(f)
	}
	a, b := take(t, r.public, 1)[0], take(t, second, 1)[0]
	if wire.ESP(a[34:]).SPI() != 4711 || wire.ESP(b[34:]).SPI() != 99 || wire.IPv4(b[14:]).Src() != 0xcb007103 {
		t.Errorf("frames %x and %x", a, b)
	}
	// And back to one, which then has both queues.
	r.spec.Public = r.spec.Public[:1]
	r.apply()
	if sas := r.client.SAs(); len(sas) != 2 {
		t.Errorf("%d SAs, want those of queue 1: %+v", len(sas), sas)
	}
	for i := range byte(2) {
		end.Inject(changed(f, func(b []byte) { b[33] = 8 + i }))
	}
	take(t, r.public, 2)
	// Nothing configured: no worker, no port.
	r.spec = tables.Spec{}
	r.apply()
	if p, s := r.client.Ports(), r.client.SAs(); len(p) != 0 || len(s) != 0 {
		t.Errorf("ports %+v, SAs %+v", p, s)
	}
}

func TestSAsOfARemovedRouteEnd(t *testing.T) {
	r := newRig(t)
	out, in := r.loopSAs()
	r.spec.Routes[0].ID = "other"
	r.apply()
	if got := r.client.SAs(); len(got) != 0 {
		t.Errorf("SAs %+v", got)
	}
	if err := r.client.Activate(out); !errors.Is(err, client.ErrNoSA) {
		t.Errorf("activate: %v", err)
	}
	if err := r.client.RemoveSA(r.ctx, in); err != nil {
		t.Errorf("remove: %v", err)
	}
	if _, err := r.client.InstallSA(r.ctx, client.SA{Route: "site2", Queue: 1, Direction: client.Inbound, Key: testKey}); !errors.Is(err, client.ErrNoRoute) {
		t.Errorf("install: %v", err)
	}
	for _, sa := range []client.SA{
		{Route: "other", Queue: 1, Direction: client.Inbound},
		{Route: "other", Queue: 1, Key: testKey},
	} {
		if _, err := r.client.InstallSA(r.ctx, sa); err == nil {
			t.Errorf("%+v was installed", sa)
		}
	}
	if _, err := r.client.InstallSA(r.ctx, client.SA{Route: "other", Queue: 9, Direction: client.Inbound, Key: testKey}); !errors.Is(err, client.ErrNoRoute) {
		t.Errorf("install for queue 9: %v", err)
	}
	r.private.Inject(outFrame(60, 'x'))
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoSA: 1})
}

func TestRekeyAndRemove(t *testing.T) {
	r := newRig(t)
	first, in := r.loopSAs()
	r.private.Inject(outFrame(60, 'x'))
	take(t, r.public, 1)
	second := r.install(client.SA{Direction: client.Outbound, SPI: 4712})
	r.private.Inject(outFrame(60, 'x'))
	if f := take(t, r.public, 1)[0]; wire.ESP(f[34:]).SPI() != 4712 {
		t.Error("the new SA is not used")
	}
	if err := r.client.RemoveSA(r.ctx, first); err != nil {
		t.Fatal(err)
	}
	r.private.Inject(outFrame(60, 'x'))
	take(t, r.public, 1)
	// An inbound SA with the same SPI takes the place of the one before.
	p := newRemote(t, 4711)
	f := p.packet(inFrame(60))
	r.public.Inject(f)
	take(t, r.private, 1)
	again := r.install(client.SA{Direction: client.Inbound, SPI: 4711})
	r.public.Inject(f) // new to the new SA
	take(t, r.private, 1)
	if sas := r.client.SAs(); len(sas) != 2 {
		t.Errorf("SAs %+v, want the new ones", sas)
	}
	if err := r.client.RemoveSA(r.ctx, in); err != nil { // ended already
		t.Fatal(err)
	}
	if err := r.client.RemoveSA(r.ctx, second); err != nil {
		t.Fatal(err)
	}
	r.private.Inject(outFrame(60, 'x'))
	r.public.Inject(p.packet(inFrame(60)))
	take(t, r.private, 1)
	if err := r.client.RemoveSA(r.ctx, again); err != nil {
		t.Fatal(err)
	}
	r.public.Inject(p.packet(inFrame(60)))
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoSA: 1, drop.ESPNoSA: 1})
	if got := r.client.SAs(); len(got) != 0 {
		t.Errorf("SAs %+v", got)
	}
}

// TestActiveWordsAreNotTrusted: what vitad may have written by mistake makes a
// worker drop, not send by a foreign SA.
func TestActiveWordsAreNotTrusted(t *testing.T) {
	r := newRig(t)
	r.spec.Routes = append(r.spec.Routes, tables.Route{
		ID: "other", SPI: 5, Nets: []netip.Prefix{mustPrefix("10.3.0.0/16")}, Gateways: r.spec.Routes[0].Gateways,
	})
	r.apply()
	out, in := r.loopSAs()
	foreign := r.install(client.SA{Route: "other", Direction: client.Outbound, SPI: 9})
	ended := r.install(client.SA{Direction: client.Outbound, SPI: 10})
	if err := r.client.RemoveSA(r.ctx, ended); err != nil {
		t.Fatal(err)
	}
	r.engine.mu.Lock()
	word := r.engine.mem.Active(0, r.engine.current.RouteSlot("site2"))
	r.engine.mu.Unlock()
	n := uint64(0)
	for _, ref := range []client.SARef{in, foreign, ended, out + 1<<20, 5, 1<<32 - 1, 255 | 1<<20} {
		atomic.StoreUint32(word, uint32(ref))
		r.private.Inject(outFrame(60, 'x'))
		n++
		r.wantDrops(map[drop.Reason]uint64{drop.OutboundNoSA: n})
	}
	if err := r.client.Activate(out); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Activate(in); !errors.Is(err, client.ErrNoSA) {
		t.Errorf("an inbound SA was activated: %v", err)
	}
	r.private.Inject(outFrame(60, 'x'))
	take(t, r.public, 1)
}

func TestNoSpaceForSAs(t *testing.T) {
	r := newRig(t)
	var last error
	for i := range uint32(300) {
		if _, last = r.client.InstallSA(r.ctx, client.SA{Route: "site2", Queue: 1, Direction: client.Inbound, SPI: 256 + i, Key: testKey}); last != nil {
			break
		}
	}
	if !errors.Is(last, client.ErrNoSpace) || len(r.client.SAs()) != 256 {
		t.Errorf("%v with %d SAs", last, len(r.client.SAs()))
	}
}

func TestSPITable(t *testing.T) {
	tab := newSPITable(64)
	want := make(map[uint32]uint32)
	next := uint32(1)
	rnd := uint32(1)
	for range 100_000 {
		rnd = rnd*1664525 + 1013904223
		spi := rnd >> 24 // of few, so that they meet
		switch ref, ok := want[spi]; {
		case ok && rnd&0x10000 != 0:
			tab.remove(spi, ref)
			delete(want, spi)
		case ok:
			tab.remove(spi, ref+1<<20) // a reference that is gone
		case len(want) < 64:
			next++
			tab.set(spi, next<<20)
			want[spi] = next << 20
		}
		if got := tab.find(spi); got != want[spi] {
			t.Fatalf("SPI %d: %#x, want %#x", spi, got, want[spi])
		}
	}
	for spi := range uint32(256) {
		if got := tab.find(spi); got != want[spi] {
			t.Fatalf("SPI %d: %#x, want %#x", spi, got, want[spi])
		}
	}
	if old := tab.set(5000, 1<<20); old != 0 {
		t.Error("replaced what was not there")
	}
	if old := tab.set(5000, 2<<20); old != 1<<20 || tab.find(5000) != 2<<20 {
		t.Error("not replaced")
	}
}

func TestSecondClient(t *testing.T) {
	r := newRig(t)
	if _, err := client.Dial(r.ctx, r.socket); !errors.Is(err, client.ErrAttached) {
		t.Fatalf("second client: %v", err)
	}
	for range 20 {
		if err := r.client.Close(); err != nil {
			t.Fatal(err)
		}
		r.attach() // at once
	}
	if _, err := r.client.Prepare(r.ctx, &r.spec); err != nil {
		t.Fatal(err)
	}
}

// TestAttachLater: what needs the engine waits until the client is attached.
func TestAttachLater(t *testing.T) {
	r := newRig(t)
	if err := r.client.Close(); err != nil {
		t.Fatal(err)
	}
	r.client = client.New()
	if r.client.HasRoute("site2") || r.client.Live() != nil {
		t.Error("knows tables of no engine")
	}
	if _, err := r.client.InstallSA(r.ctx, client.SA{Route: "site2", Direction: client.Inbound, Key: make([]byte, 16)}); !errors.Is(err, client.ErrNoRoute) {
		t.Errorf("install SA: %v", err)
	}
	ended, end := context.WithCancel(r.ctx)
	end()
	if err := r.client.RemoveSA(ended, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a request whose context has ended: %v", err)
	}
	pid, prepared := make(chan int, 1), make(chan error, 1)
	go func() { pid <- r.client.Engine().Pid }()
	go func() {
		_, err := r.client.Prepare(r.ctx, &r.spec)
		prepared <- err
	}()
	if err := r.client.Attach(r.ctx, t.TempDir()+"/nobody"); !errors.Is(err, client.ErrNoEngine) {
		t.Errorf("no socket: %v", err)
	}
	select {
	case n := <-pid:
		t.Errorf("the pid of no engine is %d", n)
	case err := <-prepared:
		t.Errorf("prepared by no engine, %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := r.client.Attach(r.ctx, r.socket); err != nil {
		t.Fatal(err)
	}
	if n, err := <-pid, <-prepared; n != os.Getpid() || err != nil {
		t.Errorf("pid %d, %v", n, err)
	}
	if err := r.client.Attach(r.ctx, r.socket); !errors.Is(err, client.ErrAttached) {
		t.Errorf("once more: %v", err)
	}
}

// TestCloseUnattached: nobody waits for a client that has been closed.
func TestCloseUnattached(t *testing.T) {
	r := newRig(t)
	if err := r.client.Close(); err != nil {
		t.Fatal(err)
	}
	c := client.New()
	received, removed := make(chan error, 1), make(chan error, 1)
	go func() { received <- c.Receive(r.ctx, func(client.Message) {}) }()
	go func() { removed <- c.RemoveSA(r.ctx, 1) }()
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	<-c.Done()
	if err := <-received; !errors.Is(err, client.ErrClosed) {
		t.Errorf("receive: %v", err)
	}
	if err := <-removed; !errors.Is(err, client.ErrClosed) {
		t.Errorf("remove: %v", err)
	}
	if err := c.Attach(r.ctx, r.socket); !errors.Is(err, client.ErrClosed) {
		t.Errorf("attach: %v", err)
	}
	r.attach() // what was refused has let go of the engine
}

func TestVersionsPart(t *testing.T) {
	r := newRig(t)
	conn, err := net.Dial("unixpacket", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := ctl.Request{Kind: ctl.Hello, Version: tables.Version + 1}
	if _, err := conn.Write(hello.Bytes()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, ctl.MaxSize)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := ctl.ParseReply(b[:n]); err != nil || a.Code != ctl.WrongVersion {
		t.Errorf("reply %+v, %v", a, err)
	}
}

func TestNoEngine(t *testing.T) {
	if _, err := client.Dial(t.Context(), t.TempDir()+"/nobody"); !errors.Is(err, client.ErrNoEngine) {
		t.Errorf("no socket: %v", err)
	}
	r := newEngine(t, Options{})
	if st, err := os.Stat(r.socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	if e, err := New(Options{Socket: r.socket, Registry: r.engine.o.Registry}); err == nil {
		t.Errorf("a second engine at the same socket: %v", e)
	}
	if err := r.client.Shutdown(r.ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.client.Done():
	case <-time.After(patience):
		t.Fatal("the client does not notice")
	}
	if _, err := r.client.Prepare(r.ctx, &tables.Spec{}); !errors.Is(err, client.ErrNoEngine) {
		t.Errorf("prepare: %v", err)
	}
	if err := r.client.Receive(r.ctx, nil); !errors.Is(err, client.ErrNoEngine) {
		t.Errorf("receive: %v", err)
	}
}

func TestOldSocketIsReplaced(t *testing.T) {
	path := t.TempDir() + "/engine"
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	e, err := New(Options{Socket: path, Registry: newEngine(t, Options{}).engine.o.Registry, MaxRoutes: 1, MaxSAs: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Serve(ctx); err != nil {
		t.Error(err)
	}
}

// traffic keeps packets going through the gateway and counts those lost.
type traffic struct {
	r              *rig
	stop           atomic.Bool
	sent, received int
	done           chan struct{}
}

func (r *rig) traffic() *traffic {
	tr := &traffic{r: r, done: make(chan struct{})}
	f := outFrame(60, 'x')
	go func() {
		defer close(tr.done)
		for !tr.stop.Load() {
			if tr.sent-tr.received < 500 && r.private.Inject(f) {
				tr.sent++
			} else {
				time.Sleep(20 * time.Microsecond)
			}
			tr.received += len(r.public.Drain())
		}
		for deadline := time.Now().Add(patience); tr.received < tr.sent && time.Now().Before(deadline); {
			tr.received += len(r.public.Drain())
			time.Sleep(100 * time.Microsecond)
		}
	}()
	return tr
}

func (tr *traffic) wantNoLoss() {
	tr.r.t.Helper()
	tr.stop.Store(true)
	<-tr.done
	if tr.sent != tr.received || tr.sent < 1000 {
		tr.r.t.Errorf("%d packets sent, %d received", tr.sent, tr.received)
	}
	tr.r.wantDrops(nil)
}

func TestPublishDuringTrafficLosesNothing(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	tr := r.traffic()
	for i := range 200 {
		r.spec.Routes = append(r.spec.Routes[:1:1], tables.Route{
			ID: "r" + string(rune('a'+i%26)), SPI: uint32(i), Gateways: r.spec.Routes[0].Gateways,
			Nets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i), 0}), 24)},
		})
		r.apply()
		if i%10 == 0 { // a rekey on the way
			r.install(client.SA{Direction: client.Outbound, SPI: uint32(5000 + i)})
		}
	}
	tr.wantNoLoss()
}

func TestClientDeathLosesNothing(t *testing.T) {
	r := newRig(t)
	out, _ := r.loopSAs()
	tr := r.traffic()
	for i := range 60 {
		p, err := r.client.Prepare(r.ctx, &r.spec)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 1 {
			p.Publish() // and dies before it is retired
		}
		if err := r.client.Close(); err != nil {
			t.Fatal(err)
		}
		r.attach()
		sas := r.client.SAs()
		if len(sas) != 2 || sas[0].Ref != out || sas[0].Route != "site2" || !sas[0].Active {
			t.Fatalf("SAs %+v", sas)
		}
		if len(r.client.Ports()) != 2 {
			t.Fatalf("ports %+v", r.client.Ports())
		}
	}
	tr.wantNoLoss()
}

// TestKilledProcess has a real process attach and die by kill -9.
func TestKilledProcess(t *testing.T) {
	if socket := os.Getenv("VITA_TEST_ATTACH"); socket != "" {
		c, err := client.Dial(context.Background(), socket)
		if err != nil {
			os.Exit(3)
		}
		os.Stdout.WriteString("attached\n")
		_ = c.Receive(context.Background(), func(client.Message) {})
		os.Exit(4)
	}
	r := newRig(t)
	r.loopSAs()
	tr := r.traffic()
	for range 5 {
		if err := r.client.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), "VITA_TEST_ATTACH="+r.socket)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 16)
		if n, err := out.Read(b); err != nil || string(b[:n]) != "attached\n" {
			t.Fatalf("the process says %q, %v", b[:n], err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		r.attach() // the dead one's place is free at once
		_ = cmd.Wait()
	}
	tr.wantNoLoss()
}

// TestTwoEngines joins two gateways by their public wires.
func TestTwoEngines(t *testing.T) {
	a, b := newEngine(t, Options{}), newEngine(t, Options{})
	w, err := memory.NewWire("mem:pub-a", "mem:pub-b", memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	build := func(r *rig, me, other byte, public string) {
		name, end := newWire(t, memory.Options{})
		r.private = end
		net4 := func(b ...byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
		r.spec = tables.Spec{
			Private: &tables.Interface{
				Link: tables.Link{Ifname: name}, IP: net4(10, me, 0, 254), NextHop: net4(10, me, 0, 1), NextHopMAC: testMAC,
			},
			Public: []tables.PublicInterface{{
				Interface: tables.Interface{
					Link: tables.Link{Ifname: public}, IP: net4(203, 0, 113, me), NextHop: net4(203, 0, 113, other),
				},
				Queue: 1,
			}},
			Routes: []tables.Route{{
				ID: "site2", SPI: 1001, Nets: []netip.Prefix{netip.PrefixFrom(net4(10, other, 0, 0), 16)},
				Gateways: []tables.Gateway{{Queue: 1, IP: net4(203, 0, 113, other)}},
			}},
		}
		r.apply()
		r.install(client.SA{Direction: client.Outbound, SPI: 1000 + uint32(other)})
		r.install(client.SA{Direction: client.Inbound, SPI: 1000 + uint32(me)})
	}
	build(a, 1, 2, "mem:pub-a")
	build(b, 2, 1, "mem:pub-b")
	a.client.Counters()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // ARP
		if a.client.Counters().Get(tables.PublicNextHopAddressesAdded) == 1 && b.client.Counters().Get(tables.PublicNextHopAddressesAdded) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the gateways do not find each other")
		}
	}
	const n = 1000
	for i := range n {
		a.private.Inject(outFrame(60+i%1300, byte(i)))
		if i%64 == 63 {
			a.settle()
		}
	}
	got := take(t, b.private, n)
	for i, f := range got {
		want := outFrame(60+i%1300, byte(i))
		copy(want, testMAC[:])
		copy(want[6:], []byte{0x2a, 0xbb, 10, 2, 0, 254})
		want = changed(want, func(b []byte) { b[22] -= 2 }) // two gateways, two hops
		if string(f) != string(want) {
			t.Fatalf("packet %d:\n%x\nwant\n%x", i, f, want)
		}
	}
	// Traceroute shows both gateways.
	for ttl, hop := range map[uint8]string{1: "10.1.0.254", 2: "10.2.0.254"} {
		f := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", ttl: ttl, proto: 17, payload: make([]byte, 32)}.bytes()
		a.private.Inject(f)
		p, check := wire.ParseIPv4(take(t, a.private, 1)[0][14:])
		if check != wire.Good || p.SrcBytes() != addr(hop).As4() || p.Payload()[0] != wire.ICMPTimeExceeded {
			t.Errorf("TTL %d: answer %x, want one from %s", ttl, []byte(p), hop)
		}
	}
	// And the remote gateway's private address answers.
	a.private.Inject(frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.254", proto: 1, payload: echoRequest(100)}.bytes())
	p, _ := wire.ParseIPv4(take(t, a.private, 1)[0][14:])
	if p.SrcBytes() != addr("10.2.0.254").As4() || p.Payload()[0] != wire.ICMPEchoReply {
		t.Errorf("answer %x", []byte(p))
	}
	b.wantDrops(map[drop.Reason]uint64{drop.InboundTTL: 1})
	a.wantDrops(map[drop.Reason]uint64{drop.OutboundTTL: 1})
}

// TestUnknownGenerationIsNotObeyed: a word in shared memory that the engine has
// not prepared for, as damage may write, changes nothing.
func TestUnknownGenerationIsNotObeyed(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	good := r.engine.mem.Current()
	for _, word := range []uint64{0, good + 2, good ^ 1, 1<<64 - 1} {
		r.engine.mem.Publish(word)
		r.private.Inject(outFrame(60, 'x'))
		take(t, r.public, 1)
	}
	w, goOn := r.still()
	if w.word != good {
		t.Errorf("the worker works by %#x, want %#x", w.word, good)
	}
	goOn()
	r.engine.mem.Publish(good)
	r.apply()
}

func TestRetireNeedsPublish(t *testing.T) {
	r := newRig(t)
	p, err := r.client.Prepare(r.ctx, &r.spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Retire(r.ctx); err == nil {
		t.Error("the client retires what was not published")
	}
	generation, place := tables.Split(r.engine.mem.Current())
	r.engine.mu.Lock()
	err = r.engine.retire(tables.Word(generation+1, place^1))
	r.engine.mu.Unlock()
	if err == nil {
		t.Error("the engine retires what was not published")
	}
	p.Publish()
	if err := p.Retire(r.ctx); err != nil {
		t.Error(err)
	}
	r.engine.mu.Lock()
	err = r.engine.prepare(tables.Word(generation+5, place))
	r.engine.mu.Unlock()
	if err == nil {
		t.Error("a generation out of order was prepared")
	}
}

func TestEngineInfo(t *testing.T) {
	cpus, err := cpu.Allowed()
	if err != nil {
		t.Fatal(err)
	}
	before := clock.Mono()
	r := newEngine(t, Options{CPUs: cpus[:1], Release: "1.2.3", Hugepages: true})
	i := r.client.Engine()
	if i.Pid != os.Getpid() || i.Version != "1.2.3" || i.Started < before || i.Started > clock.Mono() || !slices.Equal(i.CPUs, cpus[:1]) || i.Tier == "" {
		t.Errorf("%+v", i)
	}
	if _, err := New(Options{Socket: t.TempDir() + "/e", Registry: r.engine.o.Registry, CPUs: []int{5000}}); err == nil {
		t.Error("a cpu that cannot be was accepted")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("an engine without a socket")
	}
	if _, err := New(Options{Socket: "/nowhere/e", Registry: r.engine.o.Registry}); err == nil {
		t.Error("a socket in a folder that is not there")
	}
}
