package forwarding

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// TestManySAsInOneBatch has packets of many routes, each with SAs and a key of
// its own, in one batch each way. Every packet goes by its own SA, which alone
// counts it, and a forged one among them disturbs no other.
func TestManySAsInOneBatch(t *testing.T) {
	const routes = 2 * manyRoutes
	for _, c := range []struct {
		name     string
		rig      func(testing.TB) *rig
		peer     string
		net      func(i int) string
		out      func(i int) []byte // a frame to a route
		in       func(i int) []byte // an inner packet from there
		sealed   func(p *remote, seq uint64, inner []byte) []byte
		outerLen int
	}{
		{
			"IPv4", newRig, "203.0.113.2",
			func(i int) string { return fmt.Sprintf("20.%d.0.0/16", i) },
			func(i int) []byte {
				return frame{dst: privateMAC, src: "10.1.0.7", to: fmt.Sprintf("20.%d.0.9", i), proto: 200, payload: make([]byte, 40)}.bytes()
			},
			func(i int) []byte {
				return frame{src: fmt.Sprintf("20.%d.0.9", i), to: "10.1.0.7", proto: 200, payload: make([]byte, 40)}.bytes()[wire.EthernetLen:]
			},
			func(p *remote, seq uint64, inner []byte) []byte { return p.sealed(seq, inner, wire.ProtoIPv4) },
			wire.IPv4Len,
		},
		{
			"IPv6", newRig6, peer6,
			func(i int) string { return fmt.Sprintf("2001:db8:1:%x::/64", i) },
			func(i int) []byte {
				return toPrivate6(packet6(host6, fmt.Sprintf("2001:db8:1:%x::9", i), 200, 9, make([]byte, 40)))
			},
			func(i int) []byte {
				return packet6(fmt.Sprintf("2001:db8:1:%x::9", i), host6, 200, 9, make([]byte, 40))
			},
			func(p *remote, seq uint64, inner []byte) []byte { return p.sealed6(seq, inner, wire.ProtoIPv6) },
			wire.IPv6Len,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.rig(t)
			for i := range routes {
				r.spec.Routes = append(r.spec.Routes, tables.Route{
					ID: fmt.Sprint("m", i), SPI: uint32(2000 + i), Nets: []netip.Prefix{mustPrefix(c.net(i))},
					Gateways: []tables.Gateway{{Queue: 1, IP: addr(c.peer)}},
				})
			}
			r.apply()
			var peers [routes]*remote
			var sas [routes][2]*tables.SA // out, in
			for i := range peers {
				key := append([]byte(nil), testKey...)
				key[0] = byte(i)
				for d, direction := range []tables.Direction{client.Outbound, client.Inbound} {
					ref := r.install(client.SA{Route: fmt.Sprint("m", i), Direction: direction, SPI: uint32(5000 + 7*i), Key: key})
					sas[i][d] = &r.engine.mem.SAs[tables.SAIndex(uint32(ref))]
				}
				peers[i] = &remote{spi: uint32(5000 + 7*i), seq: 1000} // farther than the window, so that the short way is open
				if err := peers[i].key.GCM.Expand(key); err != nil {
					t.Fatal(err)
				}
			}
			w, goOn := r.still()
			defer goOn()
			rnd := rand.New(rand.NewPCG(7, 8))
			var sent, received, forged [routes]uint64
			for round := range 40 {
				want := 0
				var out, in [][]byte
				var to []int
				for range batchSize - 4 {
					i := rnd.IntN(routes)
					out, to = append(out, c.out(i)), append(to, i)
					sent[i]++
					i = rnd.IntN(routes)
					f := c.sealed(peers[i], peers[i].seq+1, c.in(i))
					if rnd.IntN(8) == 0 {
						f[len(f)-1]++
						forged[i]++
					} else {
						peers[i].seq++
						received[i]++
						want++
					}
					in = append(in, f)
				}
				r.private.Inject(out...)
				r.public.Inject(in...)
				for w.turn() > 0 {
				}
				got := r.public.Drain()
				if len(got) != len(out) {
					t.Fatalf("round %d: %d packets went out, want %d", round, len(got), len(out))
				}
				for j, f := range got { // in the order in which they came
					if spi := wire.Be32(f[wire.EthernetLen+c.outerLen:]); spi != peers[to[j]].spi {
						t.Fatalf("round %d: packet %d to route %d goes by SPI %d", round, j, to[j], spi)
					}
				}
				if n := len(r.private.Drain()); n != want {
					t.Fatalf("round %d: %d packets came in, want %d", round, n, want)
				}
			}
			for i := range sas {
				o, n := sas[i][0], sas[i][1]
				if o.Packets != sent[i] || n.Packets != received[i] || n.DecryptErrors != forged[i] || n.Seq != peers[i].seq {
					t.Errorf("route %d: SAs %+v\n%+v\nwant %d sent, %d received up to number %d, %d forged", i, o, n, sent[i], received[i], peers[i].seq, forged[i])
				}
				if c := w.counts(o.Route); c.SentPackets != sent[i] || c.ReceivedPackets != received[i] {
					t.Errorf("route %d counts %+v, want %d sent and %d received", i, c, sent[i], received[i])
				}
			}
			// Forged packets in a row are counted until an authentic one comes.
			for range 3 {
				f := c.sealed(peers[0], peers[0].seq+1, c.in(0))
				f[len(f)-1]++
				r.public.Inject(f)
			}
			for w.turn() > 0 {
			}
			if n := sas[0][1].Failures; n < 3 {
				t.Errorf("%d packets in a row were not authentic, it says", n)
			}
			r.public.Inject(c.sealed(peers[0], peers[0].seq+1, c.in(0)))
			for w.turn() > 0 {
			}
			if n := sas[0][1].Failures; n != 0 {
				t.Errorf("%d packets in a row, after an authentic one", n)
			}
			in := make([][]byte, 300)
			for i := range in {
				p := peers[i%routes]
				p.seq += 2
				in[i] = c.sealed(p, p.seq, c.in(i%routes))
			}
			i, out := 0, [2][]byte{c.out(3), c.out(4)}
			if n := testing.AllocsPerRun(60, func() {
				r.private.Inject(out[0], out[1])
				r.public.Inject(in[i%len(in)], in[(i+1)%len(in)])
				i += 2
				w.turn()
			}); n != 0 && !raceDetector {
				t.Errorf("%v allocations a turn, want 0", n)
			}
		})
	}
}
