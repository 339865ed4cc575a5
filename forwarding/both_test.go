package forwarding

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"vita/forwarding/client"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// Both families through the same tunnels. Golden cases have the single packets;
// here are batches of all sorts.

var otherMAC = [6]byte{2, 0, 0, 0, 1, 2} // the next hop of the other family

// newRigBoth is newRig or, with tunnels of IPv6, newRig6, with the other's nets
// and addresses besides.
func newRigBoth(t testing.TB, v6 bool) *rig {
	t.Helper()
	if v6 {
		r := newRig6(t)
		r.spec.Private.OtherIP, r.spec.Private.OtherNextHop, r.spec.Private.OtherNextHopMAC = addr("10.1.0.254"), addr("10.1.0.1"), otherMAC
		r.spec.Routes[0].Nets = append(r.spec.Routes[0].Nets, mustPrefix("10.2.0.0/16"))
		r.apply()
		return r
	}
	r := newRig(t)
	r.spec.Private.OtherIP, r.spec.Private.OtherNextHop, r.spec.Private.OtherNextHopMAC = addr(priv6), addr(privNext6), otherMAC
	r.spec.Routes[0].Nets = append(r.spec.Routes[0].Nets, mustPrefix("2001:db8:b::/48"))
	r.apply()
	return r
}

// bothWays is what a test needs to know of the tunnels' family.
type bothWays struct {
	v6     bool
	mac    [6]byte // private
	header int     // in front of ESP
	sealed func(p *remote, seq uint64, payload []byte, next uint8) []byte
}

var bothKinds = map[string]bothWays{
	"in IPv4": {false, privateMAC, 34, (*remote).sealed},
	"in IPv6": {true, privateMAC6, 54, (*remote).sealed6},
}

// out makes the frame of an inner packet from the private network.
func (k bothWays) out(p []byte) []byte {
	f := make([]byte, wire.EthernetLen, wire.EthernetLen+len(p))
	typ := uint16(wire.TypeIPv4)
	if p[0]>>4 == 6 {
		typ = wire.TypeIPv6
	}
	mac := k.mac
	wire.Ethernet(f).Put(&mac, &testMAC, typ)
	return append(f, p...)
}

// aged is a packet one hop further.
func aged(p []byte) []byte {
	p = bytes.Clone(p)
	if p[0]>>4 == 6 {
		wire.IPv6(p).DecrementHopLimit()
	} else {
		wire.IPv4(p).DecrementTTL()
	}
	return p
}

// TestBothFamilies puts in batches with each share of the two families, and
// finds in the tunnel, and behind it, exactly these packets: of each family in
// their order, by one sequence of numbers.
func TestBothFamilies(t *testing.T) {
	for name, k := range bothKinds {
		t.Run(name, func(t *testing.T) {
			r := newRigBoth(t, k.v6)
			r.install(client.SA{Direction: client.Outbound, SPI: 4711})
			r.install(client.SA{Direction: client.Inbound, SPI: 4712})
			w, goOn := r.still()
			defer goOn()
			p, q := newRemote(t, 4711), newRemote(t, 4712)
			for share := range batchSize + 1 {
				var frames, tunnel [][]byte
				var want, wantIn [2][][]byte // by family
				for i := range batchSize {
					six, n := 0, 60+(i*37+share*11)%1300
					out, in := outFrame(n, byte(i))[14:], inFrame(n).bytes()[14:]
					next := uint8(wire.ProtoIPv4)
					if (i*batchSize+i)%(batchSize+1) < share {
						six, next, out, in = 1, wire.ProtoIPv6, outPacket6(n), inPacket6(n)
					}
					frames = append(frames, k.out(out))
					want[six] = append(want[six], aged(out))
					q.seq++
					tunnel = append(tunnel, k.sealed(q, q.seq, in, next))
					wantIn[six] = append(wantIn[six], aged(in))
				}
				r.private.Inject(frames...)
				r.public.Inject(tunnel...)
				if n := w.turn(); n != 2*batchSize {
					t.Fatalf("%d packets met", n)
				}
				var got [2][][]byte
				for _, f := range r.public.Drain() {
					p.seq++
					b, next := p.open(t, f[k.header:])
					six := 0
					if next == wire.ProtoIPv6 {
						six = 1
					} else if next != wire.ProtoIPv4 {
						t.Fatalf("next header %d", next)
					}
					got[six] = append(got[six], b)
				}
				compareLists(t, fmt.Sprint(share, " of IPv6, out"), got, want)
				got = [2][][]byte{}
				for _, f := range r.private.Drain() {
					e := wire.Ethernet(f)
					six, mac := 0, testMAC
					if e.Type() == wire.TypeIPv6 {
						six = 1
					}
					if k.v6 != (six == 1) {
						mac = otherMAC
					}
					if *e.Dst() != mac || *e.Src() != k.mac {
						t.Fatalf("to %x from %x", *e.Dst(), *e.Src())
					}
					got[six] = append(got[six], f[14:])
				}
				compareLists(t, fmt.Sprint(share, " of IPv6, in"), got, wantIn)
			}
		})
	}
}

// open opens the ESP packet with the remote's number and returns what it
// carries.
func (p *remote) open(t *testing.T, b []byte) (inner []byte, next uint8) {
	t.Helper()
	if seq := wire.ESP(b).SeqLow(); seq != uint32(p.seq) {
		t.Fatalf("sequence number %d, want %d", seq, p.seq)
	}
	batch := new(esp.Batch)
	batch.Decapsulate(&p.key, p.seq, b)
	batch.Open()
	inner, next, ok := esp.Trim(b)
	if !batch.OK(0) || !ok {
		t.Fatal("what went out does not open")
	}
	return inner, next
}

func compareLists(t *testing.T, what string, got, want [2][][]byte) {
	t.Helper()
	for six := range want {
		if !slices.EqualFunc(got[six], want[six], bytes.Equal) {
			t.Fatalf("%s: IPv%d: %d packets, want %d, or others", what, 4+2*six, len(got[six]), len(want[six]))
		}
	}
}

func TestBothFamiliesDoNotAllocate(t *testing.T) {
	for name, k := range bothKinds {
		t.Run(name, func(t *testing.T) {
			r := newRigBoth(t, k.v6)
			r.install(client.SA{Direction: client.Outbound, SPI: 4711})
			r.install(client.SA{Direction: client.Inbound, SPI: 4712})
			w, goOn := r.still()
			defer goOn()
			p := newRemote(t, 4712)
			out := [][]byte{k.out(outFrame(60, 'x')[14:]), k.out(outPacket6(60)), k.out(packet6(host6, there6, 17, 1, make([]byte, 30)))}
			var in [][]byte
			for range 200 {
				p.seq += 2
				in = append(in, k.sealed(p, p.seq-1, inFrame(60).bytes()[14:], 4), k.sealed(p, p.seq, inPacket6(60), 41))
			}
			i, met := 0, 0
			n := testing.AllocsPerRun(100, func() {
				r.private.Inject(out...)
				r.public.Inject(in[i%len(in)], in[(i+1)%len(in)])
				i += 2
				met += w.turn()
			})
			if met < 500 || n != 0 && !raceDetector {
				t.Errorf("%v allocations a turn, want 0; %d packets", n, met)
			}
		})
	}
}

// FuzzBothFamilies puts any bytes, as packets of either family, into either
// port and into the tunnel: good ones of both still pass, and no buffer is lost.
func FuzzBothFamilies(f *testing.F) {
	type gate struct {
		*rig
		bothWays
		w   *worker
		sa  *tables.SA
		all int
	}
	var gates []gate
	for _, name := range []string{"in IPv4", "in IPv6"} {
		k := bothKinds[name]
		r := newRigBoth(f, k.v6)
		r.install(client.SA{Direction: client.Outbound, SPI: 4711})
		ref := r.install(client.SA{Direction: client.Inbound, SPI: 4711})
		w, goOn := r.still()
		f.Cleanup(goOn)
		gates = append(gates, gate{r, k, w, &w.mem.SAs[tables.SAIndex(uint32(ref))], w.pool.Available()})
	}
	p := newRemote(f, 4711)
	for _, seed := range [][]byte{outFrame(60, 'x')[14:], outPacket6(60), inFrame(60).bytes()[14:], inPacket6(60), echo6(host6, priv6, 8), echo6(there6, priv6, 8)} {
		f.Add(false, seed)
		f.Add(true, seed)
	}
	f.Fuzz(func(t *testing.T, v6 bool, b []byte) {
		if len(b) == 0 || len(b) > 1400 {
			return
		}
		g := gates[0]
		if v6 {
			g = gates[1]
		}
		g.private.Inject(g.out(b), g.out(outFrame(60, 'x')[14:]), g.out(outPacket6(61)))
		g.public.Inject(
			g.sealed(p, g.sa.Seq+1, b, b[0]), g.sealed(p, g.sa.Seq+2, b, 4), g.sealed(p, g.sa.Seq+3, b, 41),
			g.sealed(p, g.sa.Seq+4, inFrame(60).bytes()[14:], 4), g.sealed(p, g.sa.Seq+5, inPacket6(61), 41))
		for g.w.turn() > 0 {
		}
		out, in := g.public.Drain(), g.private.Drain()
		if len(out) < 2 || len(in) < 2 || len(out)+len(in) > 8 {
			t.Fatalf("%d packets went out, %d came in", len(out), len(in))
		}
		if g.w.pool.Available() != g.all {
			t.Fatalf("%d buffers are missing", g.all-g.w.pool.Available())
		}
	})
}
