package ske

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// The exploration below tries every order of events that two ends and a
// hostile network can bring about, up to a number of them: an end begins an
// exchange, or gives up waiting; any message that was ever sent is delivered,
// now, later, twice, or never.
//
// What must hold after every event:
//   - an initiator that has keys has the same ones as the responder, for the
//     same SPIs, each direction with its own;
//   - a responder that has keys has them from a proposal that the initiator
//     made, and from each proposal at most once;
//   - a message that is refused changes nothing: the exchange it disturbed
//     still ends well.

// step is one event.
type step struct {
	deliver int // index of a sent message; -1: the initiator begins, -2: its time is over
}

// world is two ends and all messages that were ever sent.
type world struct {
	t         *testing.T
	i         *Initiator
	r         *Responder
	now       int64
	sent      [][]byte
	toR       []bool // which end a message is for
	spis      uint32
	initiated map[uint32]Pair // by the initiator's inbound SPI
	responded map[uint32][]Pair
}

type seeded struct{ *rand.Rand }

func (s seeded) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.Uint32())
	}
	return len(b), nil
}

func newWorld(t *testing.T) *world {
	a, b := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	random := seeded{rand.New(rand.NewPCG(1, 2))}
	return &world{
		t: t, i: NewInitiator(Params{SPI: 7, PSK: [32]byte{1}, Local: a, Remote: b}, 10, random),
		r:         NewResponder(Params{SPI: 7, PSK: [32]byte{1}, Local: b, Remote: a}, random),
		initiated: map[uint32]Pair{}, responded: map[uint32][]Pair{},
	}
}

func (w *world) send(m []byte, toR bool) {
	w.sent, w.toR = append(w.sent, m), append(w.toR, toR)
}

// do carries out one event; it returns a short account of what came of it.
func (w *world) do(s step) string {
	switch s.deliver {
	case -1:
		w.spis++
		w.send(w.i.Start(w.now, 1000+w.spis), true)
		return "begin"
	case -2:
		w.now += 11
		return "time over"
	}
	m := w.sent[s.deliver]
	switch Type(m[4]) {
	case Knock:
		out, err := w.r.Knock(m)
		if err != nil {
			w.t.Fatalf("a knock is refused: %v", err)
		}
		w.send(out, false)
	case Challenge:
		out, err := w.i.Challenge(w.now, m)
		if err != nil {
			return "challenge refused"
		}
		w.send(out, true)
	case Proposal:
		w.spis++
		out, pair, err := w.r.Propose(m, 2000+w.spis)
		if err != nil {
			return "proposal refused"
		}
		w.responded[pair.OutboundSPI] = append(w.responded[pair.OutboundSPI], pair)
		w.send(out, false)
	case Agreement:
		pair, err := w.i.Agree(w.now, m)
		if err != nil {
			return "agreement refused"
		}
		if _, ok := w.initiated[pair.InboundSPI]; ok {
			w.t.Fatal("one exchange yields keys twice")
		}
		w.initiated[pair.InboundSPI] = pair
	}
	return Type(m[4]).String()
}

// check demands what must hold.
func (w *world) check(history []step) {
	for spi, mine := range w.initiated {
		if !slices.ContainsFunc(w.responded[spi], func(theirs Pair) bool {
			return mine.Inbound == theirs.Outbound && mine.Outbound == theirs.Inbound &&
				mine.InboundSPI == theirs.OutboundSPI && mine.OutboundSPI == theirs.InboundSPI
		}) {
			w.t.Fatalf("after %v: the initiator has keys that the responder has not", history)
		}
		if mine.Inbound == mine.Outbound {
			w.t.Fatalf("after %v: both directions have one key", history)
		}
	}
	seen := map[SAKeys]bool{}
	for _, pairs := range w.responded {
		for _, p := range pairs {
			if seen[p.Inbound] || seen[p.Outbound] {
				w.t.Fatalf("after %v: keys come about twice", history)
			}
			seen[p.Inbound], seen[p.Outbound] = true, true
		}
	}
}

// TestExploreAllOrders replays every history of the given length. Histories
// that lead to the same messages and states are followed once.
func TestExploreAllOrders(t *testing.T) {
	const depth = 8
	known := map[string]bool{}
	histories, agreed := 0, 0
	var explore func(history []step)
	explore = func(history []step) {
		w := newWorld(t)
		account := ""
		for _, s := range history {
			account += w.do(s) + fmt.Sprint(s.deliver) + ";"
			w.check(history)
		}
		histories++
		agreed += len(w.initiated)
		if len(history) == depth {
			return
		}
		// The same set of sent messages in the same states goes on the same.
		key := fmt.Sprint(w.i.state, w.r.challenged, w.now, len(w.initiated), len(w.responded))
		for _, m := range w.sent {
			key += fmt.Sprintf("|%x", m[4:min(len(m), 44)])
		}
		if known[key] {
			return
		}
		known[key] = true
		next := []step{{-1}, {-2}}
		for n := range w.sent {
			next = append(next, step{n})
		}
		for _, s := range next {
			explore(append(slices.Clone(history), s))
		}
	}
	explore(nil)
	t.Logf("%d histories, %d of them with keys", histories, agreed)
	if agreed == 0 {
		t.Fatal("no history led to keys: the exploration explores nothing")
	}
}

// TestEveryBitMatters flips each bit of each message of an exchange, delivers
// the forgery first and the true message after it: the forgery is refused, or
// is about what is not authentic (a nonce, say) and leads nowhere, and nothing
// it does keeps a later exchange from ending well.
func TestEveryBitMatters(t *testing.T) {
	types := []Type{Knock, Challenge, Proposal, Agreement}
	for n, kind := range types {
		size := map[Type]int{Knock: knockSize, Challenge: challengeSize, Proposal: keySize, Agreement: keySize}[kind]
		for bit := range size * 8 {
			w := newWorld(t)
			w.do(step{-1})
			for k := range n {
				w.do(step{k})
			}
			forged := slices.Clone(w.sent[n])
			forged[bit/8] ^= 1 << (bit % 8)
			spi, got, err := Parse(forged)
			if err == nil && spi == 7 && got == kind {
				w.send(forged, w.toR[n])
				w.do(step{len(w.sent) - 1})
				w.check(nil)
			}
			if kind == Proposal && bit >= 64 && len(w.responded) != 0 {
				t.Fatalf("a proposal with bit %d flipped is accepted", bit)
			}
			if kind == Agreement && bit >= 64 && len(w.initiated) != 0 {
				t.Fatalf("an agreement with bit %d flipped is accepted", bit)
			}
			// An exchange of its own afterwards ends well.
			w.do(step{-2})
			w.do(step{-1})
			for range 4 {
				w.do(step{len(w.sent) - 1})
			}
			w.check(nil)
			last := binary.BigEndian.Uint32(w.sent[len(w.sent)-1])
			if last != 7 || len(w.initiated) == 0 {
				t.Fatalf("%v with bit %d flipped: the next exchange fails", kind, bit)
			}
		}
	}
}
