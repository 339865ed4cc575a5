package nic

import (
	"sync"
	"sync/atomic"
)

// Recovery resets a card that several ports use: each stops by itself, in its
// own worker, the last one resets the card, and then each starts again.
//
//	port that finds a hang       other ports
//	Ask
//	Flush: Pending               Flush: Pending
//	  Step: Halt                   Step: Halt ── ResetCard, by the last one
//	Flush: Pending               Flush: Pending
//	  Step: Restart                Step: Restart
//
// Nobody waits for another: a port whose card is not yet reset receives and
// sends nothing. Buffers that the device may still write stay with the rings
// until it is reset.
type Recovery struct {
	want atomic.Uint32 // number of the reset that was asked for
	done atomic.Uint32 // number of the last one that was carried out

	mu     sync.Mutex
	ports  int
	parked int // ports that have halted for the reset that is wanted
}

// Restarter is a port, as far as recovery is concerned. Its methods run in its
// worker.
type Restarter interface {
	Halt()      // leave the rings and the device alone
	ResetCard() // all ports have halted: reset the device, and make it ready for rings
	Restart()   // give the device the rings anew
}

// Member is a port's part in the recovery of its card.
type Member struct {
	r      *Recovery
	seen   uint32 // number of the reset that the port has started after
	halted uint32 // number of the last reset that it has halted for
}

// Join counts a port in.
func (r *Recovery) Join() Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ports++
	n := r.done.Load()
	return Member{r: r, seen: n, halted: n}
}

// Ask asks for a reset, unless one is under way.
func (r *Recovery) Ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.want.Load() == r.done.Load() {
		r.want.Add(1)
	}
}

// Resets returns how many resets were carried out.
func (r *Recovery) Resets() int { return int(r.done.Load()) }

// Pending reports whether the port has to take a step. It is asked once a round.
func (m *Member) Pending() bool { return m.r.want.Load() != m.seen }

// Step takes the port's next step towards a reset, or back to work.
func (m *Member) Step(p Restarter) {
	want := m.r.want.Load()
	if m.halted != want {
		if m.halted == m.seen {
			p.Halt()
		}
		m.halted = want
		m.r.park(p)
	}
	if m.r.done.Load() == m.halted {
		m.seen = m.halted
		p.Restart()
	}
}

func (r *Recovery) park(p Restarter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parked++
	r.carryOut(p)
}

// Leave counts a port out, which may be the one that the others wait for.
func (m *Member) Leave(p Restarter) {
	r := m.r
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ports--
	if m.halted == r.want.Load() && m.halted != r.done.Load() {
		r.parked--
	}
	r.carryOut(p)
}

// carryOut resets the card when all ports have halted. The caller holds r.mu.
func (r *Recovery) carryOut(p Restarter) {
	if r.want.Load() == r.done.Load() || r.parked < r.ports {
		return
	}
	if r.ports > 0 {
		p.ResetCard()
	}
	r.parked = 0
	r.done.Store(r.want.Load())
}
