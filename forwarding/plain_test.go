package forwarding

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"vita/forwarding/client"
	"vita/forwarding/tables"
)

// TestPlainAgrees gives the same frames, most of them damaged, to two gateways,
// of which one takes no frame for plain. Both send the same, to the byte, and
// count the same.
func TestPlainAgrees(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			var w [2]*worker
			var r [2]*rig
			var sas [2][]*tables.SA
			for i := range r {
				r[i] = m.rig(t)
				for _, d := range []tables.Direction{client.Outbound, client.Inbound} {
					ref := r[i].install(client.SA{Direction: d, SPI: 4711})
					sas[i] = append(sas[i], &r[i].engine.mem.SAs[tables.SAIndex(uint32(ref))])
				}
				var goOn func()
				w[i], goOn = r[i].still()
				defer goOn()
				w[i].clock = func() int64 { return 1e15 } // so that all limits of rates agree
				w[i].turn()
			}
			w[1].a.private.us, w[1].a.public.us = nobody, nobody
			p := newRemote(t, 4711)
			seeds := [2][][]byte{m.private(p), m.public(p)}
			rnd := rand.New(rand.NewPCG(3, 4))
			scratch := make([]byte, 2048)
			for round := range 400 {
				for i := range 40 {
					side := rnd.IntN(2)
					var f []byte
					switch i % 4 {
					case 0: // good ones, in order or not
						private, public := m.good(p, sas[0][1].Seq+uint64(rnd.IntN(60)))
						if f = private; side == 1 {
							f = public
						}
					case 1:
						side = 1
						inner := m.mutate(rnd, scratch, seeds[0])
						if len(inner) <= 14 {
							continue
						}
						if !m.v6 {
							f = p.sealed(sas[0][1].Seq+uint64(i), inner[14:], byte(4+37*rnd.IntN(2)))
						} else {
							f = p.sealed6(sas[0][1].Seq+uint64(i), inner[14:], byte(4+37*rnd.IntN(2)))
						}
					default:
						f = m.mutate(rnd, scratch, seeds[side])
					}
					for _, r := range r {
						[]interface{ Inject(...[]byte) bool }{r.private, r.public}[side].Inject(f)
					}
				}
				var out [2][][]byte
				for i, w := range w {
					for w.turn() > 0 {
					}
					for e := w.mem.ToControl(w.slot).Next(); e != nil; e = w.mem.ToControl(w.slot).Next() {
						out[i] = append(out[i], bytes.Clone(e.Payload()))
						w.mem.ToControl(w.slot).Release()
					}
					out[i] = slices.Concat(out[i], r[i].private.Drain(), r[i].public.Drain())
				}
				if !slices.EqualFunc(out[0], out[1], bytes.Equal) {
					t.Fatalf("round %d: sent\n%x\nwithout plain frames\n%x", round, out[0], out[1])
				}
				if w[0].me.Drops != w[1].me.Drops || w[0].me.Counters != w[1].me.Counters {
					t.Fatalf("round %d: counted\n%v %v\nwithout plain frames\n%v %v", round, w[0].me.Drops, w[0].me.Counters, w[1].me.Drops, w[1].me.Counters)
				}
				for i := range sas[0] {
					a, b := *sas[0][i], *sas[1][i]
					a.Created, a.LastUsed, b.Created, b.LastUsed = 0, 0, 0, 0
					if a != b {
						t.Fatalf("round %d: SA\n%+v\nwithout plain frames\n%+v", round, a, b)
					}
				}
				for i, c := range w[0].routes {
					if c != w[1].routes[i] {
						t.Fatalf("round %d: route %d counts %+v, without plain frames %+v", round, i, c, w[1].routes[i])
					}
				}
			}
			if sas[0][0].Packets < 100 || sas[0][1].Packets < 100 {
				t.Errorf("only %d packets went out and %d came in", sas[0][0].Packets, sas[0][1].Packets)
			}
		})
	}
}
