package forwarding

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"vita/asm/cksum"
	"vita/drivers"
	"vita/drivers/memory"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// What the tests share: an engine over wires of memory, its client, and frames.

var wireNumber atomic.Int64

// rig is an engine with its client and its two wires.
type rig struct {
	t       testing.TB
	engine  *Engine
	client  *client.Client
	private *memory.End // the test's end of the private wire
	public  *memory.End
	spec    tables.Spec
	served  chan error
	cancel  context.CancelFunc
	ctx     context.Context
	socket  string
}

var (
	testMAC    = [6]byte{2, 0, 0, 0, 1, 1} // the test's stations
	privateMAC = [6]byte{0x2a, 0xbb, 10, 1, 0, 254}
	publicMAC  = [6]byte{0x3a, 0xbb, 203, 0, 113, 1}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// newEngine starts an engine on a socket.
func newEngine(t testing.TB, o Options) *rig {
	t.Helper()
	r := &rig{t: t, socket: filepath.Join(t.TempDir(), "engine")}
	reg := new(drivers.Registry)
	reg.Register("memory", drivers.LinkIfname, memory.Open)
	o.Socket = r.socket
	if o.Registry == nil {
		o.Registry = reg
	}
	if o.Log == nil && testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	if o.Announcements == 0 {
		o.Announcements = -1
	}
	if o.MaxRoutes == 0 {
		o.MaxRoutes, o.MaxSAs = 256, 256
	}
	var err error
	if r.engine, err = New(o); err != nil {
		t.Fatal(err)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.served = make(chan error, 1)
	go func() { r.served <- r.engine.Serve(r.ctx) }()
	t.Cleanup(r.end)
	r.attach()
	return r
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

func (r *rig) attach() {
	r.t.Helper()
	var err error
	if r.client, err = client.Dial(r.ctx, r.socket); err != nil {
		r.t.Fatal(err)
	}
}

// end stops everything and checks that no buffer was lost.
func (r *rig) end() {
	r.cancel()
	if err := <-r.served; err != nil {
		r.t.Errorf("engine ended: %v", err)
	}
	if r.client != nil {
		_ = r.client.Close()
	}
	if n := r.engine.lost.Load(); n != 0 {
		r.t.Errorf("%d packet buffers were lost", n)
	}
}

// newWire makes a wire and returns the name of the engine's end and the test's
// end.
func newWire(t testing.TB, o memory.Options) (string, *memory.End) {
	t.Helper()
	n := wireNumber.Add(1)
	name := fmt.Sprintf("mem:e%d", n)
	w, err := memory.NewWire(name, fmt.Sprintf("mem:t%d", n), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return name, w.End(0)
}

// newRig starts a gateway with one route: 10.1/16 here, 10.2/16 behind
// 203.0.113.2. Next hops are static, so that nothing happens by itself.
func newRig(t testing.TB) *rig { t.Helper(); return newRigWith(t, Options{}) }

func newRigWith(t testing.TB, o Options) *rig {
	t.Helper()
	r := newEngine(t, o)
	private, p := newWire(t, memory.Options{})
	public, q := newWire(t, memory.Options{})
	r.private, r.public = p, q
	r.spec = tables.Spec{
		Private: &tables.Interface{
			Link: tables.Link{Ifname: private}, IP: addr("10.1.0.254"), NextHop: addr("10.1.0.1"), NextHopMAC: testMAC,
		},
		Public: []tables.PublicInterface{{
			Interface: tables.Interface{
				Link: tables.Link{Ifname: public}, IP: addr("203.0.113.1"), NextHop: addr("203.0.113.254"), NextHopMAC: testMAC,
			},
			Queue: 1,
		}},
		Routes: []tables.Route{{
			ID: "site2", SPI: 1001, Nets: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")},
			Gateways: []tables.Gateway{{Queue: 1, IP: addr("203.0.113.2")}},
		}},
	}
	r.apply()
	return r
}

// apply makes the rig's Spec live.
func (r *rig) apply() {
	r.t.Helper()
	p, err := r.client.Prepare(r.ctx, &r.spec)
	if err != nil {
		r.t.Fatal(err)
	}
	p.Publish()
	if err := p.Retire(r.ctx); err != nil {
		r.t.Fatal(err)
	}
}

var testKey = []byte("0123456789abcdef")

func (r *rig) install(sa client.SA) client.SARef {
	r.t.Helper()
	if sa.Route == "" {
		sa.Route = "site2"
	}
	if sa.Queue == 0 {
		sa.Queue = 1
	}
	if sa.Key == nil {
		sa.Key = testKey
	}
	ref, err := r.client.InstallSA(r.ctx, sa)
	if err != nil {
		r.t.Fatal(err)
	}
	if sa.Direction == client.Outbound {
		if err := r.client.Activate(ref); err != nil {
			r.t.Fatal(err)
		}
	}
	return ref
}

// loopSAs installs an outbound SA and an inbound one with the same SPI and
// key, so that what goes out can be turned round.
func (r *rig) loopSAs() (out, in client.SARef) {
	r.t.Helper()
	return r.install(client.SA{Direction: client.Outbound, SPI: 4711}),
		r.install(client.SA{Direction: client.Inbound, SPI: 4711})
}

// frame is an Ethernet frame with an IPv4 packet.
type frame struct {
	dst, srcMAC [6]byte
	src, to     string
	ttl         uint8
	proto       uint8
	df          bool
	payload     []byte
}

func (f frame) bytes() []byte {
	if f.ttl == 0 {
		f.ttl = 64
	}
	if f.srcMAC == [6]byte{} {
		f.srcMAC = testMAC
	}
	b := make([]byte, wire.EthernetLen+wire.IPv4Len+len(f.payload))
	wire.Ethernet(b).Put(&f.dst, &f.srcMAC, wire.TypeIPv4)
	s, d := addr(f.src).As4(), addr(f.to).As4()
	wire.PutIPv4(b[14:], len(b)-14, f.df, f.ttl, f.proto, wire.Be32(s[:]), wire.Be32(d[:]))
	copy(b[34:], f.payload)
	return b
}

// outFrame is an ordinary packet from the private network to the remote one.
func outFrame(n int, payload byte) []byte {
	return frame{
		dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", proto: 200,
		payload: bytes.Repeat([]byte{payload}, n-wire.IPv4Len),
	}.bytes()
}

func udp(src, dst uint16, payload []byte, from, to string) []byte {
	b := make([]byte, wire.UDPLen+len(payload))
	wire.UDP(b).Put(src, dst, len(b))
	copy(b[wire.UDPLen:], payload)
	wire.UDP(b).SetChecksum(cksum.Sum(b, cksum.Pseudo4(addr(from).As4(), addr(to).As4(), wire.ProtoUDP, uint16(len(b)))))
	return b
}

func echoRequest(n int) []byte {
	b := make([]byte, wire.ICMPLen+n)
	wire.ICMP(b).Put(wire.ICMPEchoRequest, 0, 0x12340001)
	for i := range n {
		b[wire.ICMPLen+i] = byte(i)
	}
	wire.PutBe16(b[2:], cksum.Sum(b, 0))
	return b
}

const patience = 30 * time.Second

// take waits for n frames at an end and returns them.
func take(t testing.TB, e *memory.End, n int) [][]byte {
	t.Helper()
	var out [][]byte
	for deadline := time.Now().Add(patience); ; {
		out = append(out, drain(e)...)
		if len(out) >= n {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d frames came, want %d", len(out), n)
		}
		time.Sleep(50 * time.Microsecond)
	}
	if len(out) > n {
		t.Fatalf("%d frames came, want %d: %x", len(out), n, out)
	}
	return out
}

// The engine holds end 0 of each wire; what it sends is drained there, and
// frames for it are injected there.
func drain(e *memory.End) [][]byte { return e.Drain() }

// settle waits until the workers have met all that was put in: until two turns
// in a row, the second of which began after the call, have found nothing.
func (r *rig) settle() *client.Snapshot {
	r.t.Helper()
	e := r.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	for deadline := time.Now().Add(patience); ; {
		quiet := true
		for _, w := range e.workers {
			if w == nil {
				continue
			}
			busy := atomic.LoadUint64(&w.me.Busy)
			e.awaitTurn(w)
			e.awaitTurn(w)
			quiet = quiet && atomic.LoadUint64(&w.me.Busy) == busy
		}
		if quiet {
			return r.client.Counters()
		}
		if time.Now().After(deadline) {
			r.t.Fatal("the workers do not come to rest")
		}
	}
}

// wantDrops checks that exactly the given reasons have been counted.
func (r *rig) wantDrops(want map[drop.Reason]uint64) {
	r.t.Helper()
	s := r.settle()
	for reason := range drop.Reason(drop.NumReasons) {
		if got := s.Drops(reason); got != want[reason] {
			r.t.Errorf("%s: %d, want %d", reason, got, want[reason])
		}
	}
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
