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

// lookAtIdle looks at so many routes that it has looked at all within a second.
func (w *worker) lookAtIdle() {
	a := w.a
	for range (len(a.idle) + looks - 1) / looks {
		i := a.nextIdle
		a.nextIdle = (i + 1) % len(a.idle)
		route := a.idle[i]
		var sa outboundSA
		w.outboundSA(&sa, route)
		if sa.entry == nil {
			continue // nobody expects anything
		}
		idle := w.now - max(sa.entry.LastUsed, sa.entry.Created)
		if every := int64(a.tables.Dummies) * second; every != 0 && idle >= every {
			w.sendDummy(&sa)
			continue
		}
		r := &a.tables.Routes[route]
		if every := int64(r.Keepalive) * second; sa.port != 0 && every != 0 && min(idle, w.now-a.lastSent[i]) >= every {
			a.lastSent[i] = w.now
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
