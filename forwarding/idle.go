package forwarding

import (
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// What is sent to peers to which nothing else was sent for a while: dummy
// packets (RFC 4303, 2.6), so that nobody on the way sees when a site is idle,
// and keepalives (see udp.go).

const second = int64(1e9)

// looks is how many ticks it takes to look at all routes once.
const looks = int(second / int64(tickEvery))

// idleRoutes are the routes that something is sent to when they are idle.
type idleRoutes struct {
	slots    []uint32
	lastSent []int64 // by slot, when the last keepalive was; the worker's
}

// findIdle looks for them among all routes. Those of before keep their times.
func (a *assignment) findIdle(before *idleRoutes) *idleRoutes {
	t := a.tables
	r := new(idleRoutes)
	if t.Dummies == 0 && t.UDPPort == 0 {
		return r
	}
	for slot := range t.Routes {
		if t.Has(slot) && (t.Dummies != 0 || t.Peer(uint32(slot), a.index).Keepalive != 0) {
			r.slots = append(r.slots, uint32(slot))
		}
	}
	if before != nil && len(before.lastSent) > 0 {
		r.lastSent = before.lastSent
	} else if len(r.slots) > 0 {
		r.lastSent = make([]int64, len(t.Routes))
	}
	return r
}

// lookAtIdle looks at so many routes that it has looked at all within a second.
func (w *worker) lookAtIdle(idle *idleRoutes) {
	a := w.a
	for range (len(idle.slots) + looks - 1) / looks {
		if a.nextIdle >= len(idle.slots) {
			a.nextIdle = 0
		}
		route := idle.slots[a.nextIdle]
		a.nextIdle++
		var sa outboundSA
		w.outboundSA(&sa, route)
		if sa.entry == nil {
			continue // nobody expects anything
		}
		since := w.now - max(sa.entry.LastUsed, sa.entry.Created)
		if every := int64(a.tables.Dummies) * second; every != 0 && since >= every {
			w.sendDummy(&sa)
			continue
		}
		every := int64(a.tables.Peer(route, a.index).Keepalive) * second
		if last := &idle.lastSent[route]; sa.port != 0 && every != 0 && min(since, w.now-*last) >= every {
			*last = w.now
			w.sendKeepalive(&sa)
		}
	}
}

// sendDummy sends a packet that carries nothing, as large as any packet to the
// peer may be.
func (w *worker) sendDummy(sa *outboundSA) {
	a := w.a
	if !sa.reachable {
		w.note(drop.OutboundNoNextHop)
		return
	}
	k, _, ok := w.own(0)
	if !ok {
		return
	}
	if !sa.spend(0) { // it has ended: nobody misses a dummy
		w.pool.Put(k)
		return
	}
	w.wrap(0, k, sa, 0, sa.path, wire.ProtoNone, a.tables.OuterSet, a.tables.DF != tables.DFClear)
	w.settle(sa)
	w.crypt.Seal()
	w.outer(1)
	w.crypt.Reset()
}
