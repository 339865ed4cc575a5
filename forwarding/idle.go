package forwarding

import (
	"vita/forwarding/drop"
	"vita/forwarding/esp"
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
		sa := w.outboundSA(route)
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
	fill := w.innerLimit(sa)
	k, b, ok := w.own(esp.Size(fill))
	if !ok {
		return
	}
	if !w.spend(sa, 0) { // it has ended: nobody misses a dummy
		w.pool.Put(k)
		return
	}
	w.crypt.Encapsulate(sa.key, sa.entry.SPI, sa.entry.Seq, b, 0, fill, wire.ProtoNone)
	w.fwd[0], w.peers[0], w.macs[0], w.udp[0] = k, sa.peer, sa.mac, uint32(sa.port)
	w.tos[0], w.df[0] = a.tables.OuterSet, a.tables.DF != tables.DFClear
	w.crypt.Seal()
	if a.v6 {
		w.outer6(1)
	} else {
		w.outer(1)
	}
	w.crypt.Reset()
}
