package forwarding

import (
	"testing"

	"vita/drivers/memory"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/icmp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// TestRateLimits: each kind of answer has a token bucket of its own in each
// worker, whatever the side that it answers (RFC 4443, 2.4 f).
func TestRateLimits(t *testing.T) {
	p := newRemote(t, 4711)
	seq := uint64(0)
	in := func(f frame) func() []byte {
		return func() []byte { seq++; return p.sealed(seq, f.bytes()[14:], 4) }
	}
	in6 := func(q wire.IPv6) func() []byte {
		return func() []byte { seq++; return p.sealed6(seq, q, 41) }
	}
	is := func(b []byte) func() []byte { return func() []byte { return b } }
	udp := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", ttl: 1, proto: 17, payload: make([]byte, 30)}
	local := udp
	local.to, local.ttl = "10.1.0.254", 9
	lost := udp
	lost.to = "10.9.0.1"
	big := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", df: true, proto: 17, payload: make([]byte, 1480)}
	type kind struct {
		name            string
		limit           func(*worker) *icmp.Limiter
		private, public []func() []byte // frames that call for such an answer
	}
	for _, c := range []struct {
		name  string
		rig   func(testing.TB) *rig
		kinds []kind
	}{
		{"IPv4", newRig, []kind{
			{
				"unreachable", func(w *worker) *icmp.Limiter { return &w.limits.unreachable },
				[]func() []byte{is(local.bytes()), is(lost.bytes())},
				[]func() []byte{
					is(frame{dst: publicMAC, src: "198.51.100.7", to: "203.0.113.1", proto: 6, payload: make([]byte, 20)}.bytes()),
					in(frame{src: "10.2.0.9", to: "10.1.0.254", proto: 17, payload: make([]byte, 8)}),
				},
			},
			{"too big", func(w *worker) *icmp.Limiter { return &w.limits.tooBig }, []func() []byte{is(big.bytes())}, nil},
			{
				"time exceeded", func(w *worker) *icmp.Limiter { return &w.limits.timeExceeded },
				[]func() []byte{is(udp.bytes())},
				[]func() []byte{in(frame{src: "10.2.0.9", to: "10.1.0.7", ttl: 1, proto: 17, payload: make([]byte, 8)})},
			},
			{
				"echo", func(w *worker) *icmp.Limiter { return &w.limits.echo },
				[]func() []byte{is(frame{dst: privateMAC, src: "10.1.0.7", to: "10.1.0.254", proto: 1, payload: echoRequest(8)}.bytes())},
				[]func() []byte{
					is(frame{dst: publicMAC, src: "198.51.100.7", to: "203.0.113.1", proto: 1, payload: echoRequest(8)}.bytes()),
					in(frame{src: "10.2.0.9", to: "10.1.0.254", proto: 1, payload: echoRequest(8)}),
				},
			},
		}},
		{"IPv6", newRig6, []kind{
			{
				"unreachable", func(w *worker) *icmp.Limiter { return &w.limits.unreachable },
				[]func() []byte{is(toPrivate6(packet6(host6, priv6, 17, 9, make([]byte, 8)))), is(toPrivate6(packet6(host6, "2001:db8:dead::1", 17, 9, make([]byte, 8))))},
				[]func() []byte{is(toPublic6(packet6(peer6, pub6, 6, 64, make([]byte, 20)))), in6(packet6(there6, priv6, 17, 64, make([]byte, 8)))},
			},
			{"too big", func(w *worker) *icmp.Limiter { return &w.limits.tooBig }, []func() []byte{is(toPrivate6(outPacket6(1500)))}, nil},
			{
				"time exceeded", func(w *worker) *icmp.Limiter { return &w.limits.timeExceeded },
				[]func() []byte{is(toPrivate6(packet6(host6, there6, 17, 1, make([]byte, 8))))},
				[]func() []byte{in6(packet6(there6, host6, 17, 1, make([]byte, 8)))},
			},
			{
				"echo", func(w *worker) *icmp.Limiter { return &w.limits.echo },
				[]func() []byte{is(toPrivate6(echo6(host6, priv6, 8)))},
				[]func() []byte{is(toPublic6(echo6(peer6, pub6, 8))), in6(echo6(there6, priv6, 8))},
			},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.rig(t)
			r.loopSAs()
			w, goOn := r.still()
			defer goOn()
			seq = 0
			answers := func(k *kind) (sent, want int) {
				for _, f := range k.private {
					r.private.Inject(f())
				}
				for _, f := range k.public {
					r.public.Inject(f())
				}
				for w.turn() > 0 {
				}
				return len(r.private.Drain()) + len(r.public.Drain()), len(k.private) + len(k.public)
			}
			for i := range c.kinds {
				w.limits = new(worker).limits
				// One is left, and time, as the limiter sees it, stands still.
				c.kinds[i].limit(w).Take(1<<62, icmp.PerSecond-1)
				for j := range c.kinds {
					before := w.me.Drops[drop.AnswerRate]
					sent, want := answers(&c.kinds[j])
					limited := 0
					if i == j {
						want, limited = 1, want-1
					}
					if got := int(w.me.Drops[drop.AnswerRate] - before); sent != want || got != limited {
						t.Errorf("with no token for %s left: %d answers of %s and %d not sent, want %d and %d",
							c.kinds[i].name, sent, c.kinds[j].name, got, want, limited)
					}
				}
				if sent, _ := answers(&c.kinds[i]); sent != 0 {
					t.Errorf("%s: %d answers without a token", c.kinds[i].name, sent)
				}
			}
		})
	}
}

// TestRateLimitsOfWorkers: a flood at one worker does not silence another.
func TestRateLimitsOfWorkers(t *testing.T) {
	r := newRig(t)
	name, second := newWire(t, memory.Options{})
	other := r.spec.Public[0]
	other.Link, other.IP, other.Queue = tables.Link{Ifname: name}, addr("203.0.113.9"), 2
	r.spec.Public = append(r.spec.Public, other)
	private, end := newWire(t, memory.Options{Queues: 2})
	r.spec.Private.Link.Ifname, r.private = private, end
	r.apply()
	r.install(client.SA{Direction: client.Outbound, SPI: 1})
	w, goOn := r.still()
	if w.queue != 1 {
		t.Fatalf("the worker of queue %d is still", w.queue)
	}
	w.limits.unreachable.Take(1<<62, icmp.PerSecond)
	goOn()
	tcp := frame{dst: publicMAC, src: "198.51.100.7", to: "203.0.113.1", proto: 6, payload: make([]byte, 20)}
	r.public.Inject(tcp.bytes())
	tcp.to, tcp.dst = "203.0.113.9", [6]byte{0x3a, 0xbb, 203, 0, 113, 9}
	second.Inject(tcp.bytes())
	take(t, second, 1)
	r.wantDrops(map[drop.Reason]uint64{drop.PublicProtocol: 2, drop.AnswerRate: 1})
	if n := len(drain(r.public)); n != 0 {
		t.Errorf("%d answers of the worker without tokens", n)
	}
}
