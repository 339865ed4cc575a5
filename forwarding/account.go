package forwarding

import (
	"sync/atomic"

	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/internal/pktbuf"
)

// What is counted of each route lies in shared memory: a row of slots for each
// worker, which alone writes it. vitad adds the rows up. Rows outlive workers
// and SAs, so that a route's counts grow as long as it has its slot, through
// all changes of keys and of queues.

// counts returns what the worker counts of a route. A slot that is not there,
// as damaged shared memory may name one, counts where nobody looks.
func (w *worker) counts(route uint32) *tables.RouteCounts {
	if int(route) < len(w.routes) {
		return &w.routes[route]
	}
	return &w.none
}

// dropOut drops a packet to a route, and counts it there and at the SA that it
// would have gone by.
func (w *worker) dropOut(k pktbuf.Packet, sa *outboundSA, r drop.Reason) {
	if slot := r.Slot(); slot >= 0 {
		sa.counts.Drops[slot]++
		if sa.entry != nil {
			sa.entry.Drops[slot]++
		}
	}
	w.drop(k, r)
}

// dropIn drops a packet that has come by an SA, and counts it there and at the
// SA's route.
func (w *worker) dropIn(k pktbuf.Packet, sa *tables.SA, r drop.Reason) {
	if slot := r.Slot(); slot >= 0 {
		sa.Drops[slot]++
		w.counts(sa.Route).Drops[slot]++
	}
	w.drop(k, r)
}

// clearCounts sets the counts of slots to zero that had another route before.
// No worker writes there before the tables are published. The caller holds
// e.mu.
func (e *Engine) clearCounts(t *tables.Tables) {
	live := e.live()
	for slot := range min(len(t.Routes), e.slotsUsed) {
		if !t.Has(slot) || live != nil && live.Has(slot) {
			continue
		}
		e.clearCount(slot)
	}
	e.slotsUsed = max(e.slotsUsed, len(t.Routes))
}

// clearCount sets the counts of a slot to zero that no worker counts in.
func (e *Engine) clearCount(slot int) {
	for i := range e.mem.Workers {
		if atomic.LoadUint64(&e.mem.Workers[i].Rounds) != 0 {
			e.mem.RouteCounts(i)[slot] = tables.RouteCounts{}
		}
	}
}
