package forwarding

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"

	"vita/asm/cksum"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

var mutated = flag.Int("frames", 400_000, "how many frames TestMutatedFrames puts in")

// mutation is a gateway and valid frames for it, from which others are made.
type mutation struct {
	name            string
	v6              bool // the tunnels
	rig             func(testing.TB) *rig
	private, public func(p *remote) [][]byte
	good            func(p *remote, seq uint64) (private, public []byte)
	mend            func(b []byte) // checksums, so that damage behind them is met
}

var mutations = []mutation{
	{
		name: "IPv4", rig: newRig,
		private: func(*remote) [][]byte {
			return [][]byte{
				outFrame(60, 'x'), outFrame(1400, 'x'), outFrame(1500, 'x'), arpFrame(wire.ARPRequest, 0x0a0100fe),
				frame{dst: privateMAC, src: "10.1.0.7", to: "10.1.0.254", proto: 1, payload: echoRequest(56)}.bytes(),
				frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", ttl: 1, proto: 17, payload: make([]byte, 30)}.bytes(),
			}
		},
		public: func(p *remote) [][]byte {
			return [][]byte{
				p.sealed(5, inFrame(60).bytes()[14:], 4), p.sealed(6, inFrame(1400).bytes()[14:], 4), p.sealed(7, nil, 59),
				frame{dst: publicMAC, src: "198.51.100.7", to: "203.0.113.1", proto: 1, payload: echoRequest(56)}.bytes(),
				frame{dst: publicMAC, src: "203.0.113.2", to: "203.0.113.1", proto: 17, payload: udp(303, 303, make([]byte, 88), "203.0.113.2", "203.0.113.1")}.bytes(),
			}
		},
		good: func(p *remote, seq uint64) ([]byte, []byte) {
			return outFrame(60, 'x'), p.sealed(seq, inFrame(60).bytes()[14:], 4)
		},
		mend: func(b []byte) {
			if n := int(b[14]&15) * 4; n >= 20 && len(b) >= 14+n {
				b[24], b[25] = 0, 0
				wire.PutBe16(b[24:], cksum.Sum(b[14:14+n], 0))
			}
		},
	},
	{
		name: "IPv6", v6: true, rig: newRig6,
		private: func(*remote) [][]byte {
			solicit := packet6(privNext6, priv6, wire.ProtoICMP6, 255, make([]byte, wire.NDLen+wire.NDOptionLen))
			target := addr(priv6).As16()
			wire.PutND(solicit.Payload(), wire.ICMP6NeighbourSolicit, 0, &target, wire.NDSource, &testMAC)
			wire.SumICMP6(solicit)
			return [][]byte{
				toPrivate6(outPacket6(60)), toPrivate6(outPacket6(1400)), toPrivate6(outPacket6(1500)), toPrivate6(solicit),
				toPrivate6(echo6(host6, priv6, 56)), toPrivate6(packet6(host6, there6, 0, 1, []byte{60, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0})),
			}
		},
		public: func(p *remote) [][]byte {
			return [][]byte{
				p.sealed6(5, inPacket6(60), 41), p.sealed6(6, inPacket6(1400), 41), p.sealed6(7, nil, 59),
				toPublic6(echo6(peer6, pub6, 56)), toPublic6(packet6(peer6, pub6, wire.ProtoUDP, 64, make([]byte, 96))),
			}
		},
		good: func(p *remote, seq uint64) ([]byte, []byte) {
			return toPrivate6(outPacket6(60)), p.sealed6(seq, inPacket6(60), 41)
		},
		mend: func(b []byte) {
			if p, ok := wire.ParseIPv6(b[14:]); ok && len(p) >= 44 && p.Next() == wire.ProtoICMP6 {
				wire.SumICMP6(p)
			}
		},
	},
}

// Both families inside: all frames of the two above, for one gateway.
func init() {
	own := func(mac [6]byte, lists ...[][]byte) (out [][]byte) {
		for _, f := range slices.Concat(lists...) {
			f = bytes.Clone(f)
			if f[0]&1 == 0 {
				copy(f, mac[:])
			}
			out = append(out, f)
		}
		return out
	}
	v4, v6 := mutations[0], mutations[1]
	mend := func(b []byte) {
		if b[14]>>4 == 4 {
			v4.mend(b)
		} else {
			v6.mend(b)
		}
	}
	mutations = append(
		mutations,
		mutation{
			name: "both in IPv4", rig: func(t testing.TB) *rig { return newRigBoth(t, false) },
			private: func(p *remote) [][]byte { return own(privateMAC, v4.private(p), v6.private(p)) },
			public: func(p *remote) [][]byte {
				return append(v4.public(p), p.sealed(8, inPacket6(60), 41), p.sealed(9, inPacket6(1400), 41))
			},
			good: v4.good, mend: mend,
		},
		mutation{
			name: "both in IPv6", v6: true, rig: func(t testing.TB) *rig { return newRigBoth(t, true) },
			private: func(p *remote) [][]byte { return own(privateMAC6, v4.private(p), v6.private(p)) },
			public: func(p *remote) [][]byte {
				return append(v6.public(p), p.sealed6(8, inFrame(60).bytes()[14:], 4), p.sealed6(9, inFrame(1400).bytes()[14:], 4))
			},
			good: v6.good, mend: mend,
		},
	)
}

// TestMutatedFrames puts damaged, cut and lengthened frames into both ports, and
// authentic packets with damaged content. The worker goes on, answers no more
// frames than it has got, counts each one, and loses no buffer.
func TestMutatedFrames(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) { m.run(t, *mutated/len(mutations)) })
	}
}

func (m *mutation) run(t *testing.T, frames int) {
	r := m.rig(t)
	r.install(client.SA{Direction: client.Outbound, SPI: 4711})
	ref := r.install(client.SA{Direction: client.Inbound, SPI: 4711})
	w, goOn := r.still()
	defer goOn()
	free := w.pool.Available()
	p := newRemote(t, 4711)
	seeds := [2][][]byte{m.private(p), m.public(p)}
	sa := &w.mem.SAs[tables.SAIndex(uint32(ref))]
	rnd := rand.New(rand.NewPCG(1, 2))
	scratch := make([]byte, 2048)
	const batch = 50
	for done := 0; done < frames; done += batch {
		for i := range batch {
			if i%10 == 9 { // what only a peer could send
				inner := m.mutate(rnd, scratch, seeds[0])
				_, f := m.good(p, sa.Seq+1+uint64(i))
				if len(inner) > 14 {
					f = p.sealed(sa.Seq+1+uint64(i), inner[14:], byte(4+37*rnd.IntN(2)))
					if m.v6 {
						f = p.sealed6(sa.Seq+1+uint64(i), inner[14:], byte(4+37*rnd.IntN(2)))
					}
				}
				r.public.Inject(f)
				continue
			}
			if side := rnd.IntN(2); side == 0 {
				r.private.Inject(m.mutate(rnd, scratch, seeds[0]))
			} else {
				r.public.Inject(m.mutate(rnd, scratch, seeds[1]))
			}
		}
		for w.turn() > 0 {
		}
		if out := len(r.private.Drain()) + len(r.public.Drain()); out > batch {
			t.Fatalf("%d frames came out for %d", out, batch)
		}
		for e := w.mem.ToControl(w.slot).Next(); e != nil; e = w.mem.ToControl(w.slot).Next() {
			w.mem.ToControl(w.slot).Release()
		}
		if w.pool.Available() != free {
			t.Fatalf("after %d frames %d buffers are missing", done+batch, free-w.pool.Available())
		}
	}
	out, in := m.good(p, sa.Seq+1)
	r.private.Inject(out)
	r.public.Inject(in)
	for w.turn() > 0 {
	}
	if a, b := len(r.public.Drain()), len(r.private.Drain()); a != 1 || b != 1 {
		t.Fatalf("good packets: %d went out, %d came in", a, b)
	}
	met := 0
	for d := range drop.Reason(drop.NumReasons) {
		if w.me.Drops[d] > 0 {
			met++
		}
	}
	if met < 25 {
		t.Errorf("only %d reasons to drop were met", met)
	}
	t.Logf("%d frames, %d reasons to drop were met", frames, met)
}

// mutate makes a frame out of one of the seeds.
func (m *mutation) mutate(rnd *rand.Rand, scratch []byte, seeds [][]byte) []byte {
	b := append(scratch[:0], seeds[rnd.IntN(len(seeds))]...)
	for range rnd.IntN(4) {
		switch rnd.IntN(6) {
		case 0: // a bit of the headers
			b[rnd.IntN(min(len(b), 80))] ^= 1 << rnd.IntN(8)
		case 1: // a byte anywhere
			b[rnd.IntN(len(b))] = byte(rnd.Uint32())
		case 2: // an extreme one
			b[rnd.IntN(min(len(b), 80))] = []byte{0, 1, 0x7f, 0x80, 0xff}[rnd.IntN(5)]
		case 3: // cut
			b = b[:1+rnd.IntN(len(b))]
		case 4: // lengthened
			b = append(b, bytes.Repeat([]byte{byte(rnd.Uint32())}, rnd.IntN(1+min(200, cap(scratch)-len(b))))...)
		case 5: // a piece of another
			o := seeds[rnd.IntN(len(seeds))]
			at := rnd.IntN(min(len(o), len(b)))
			copy(b[at:], o[at:])
		}
	}
	if len(b) >= 54 && rnd.IntN(3) > 0 {
		m.mend(b)
	}
	return b
}
