package forwarding

import (
	"sync/atomic"

	"vita/asm/aesgcm"
	"vita/asm/prefetch"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// With many routes each packet of a batch meets memory that no cache holds: its
// SA, key, counts. Waiting for each in turn would take longer than all else. So
// what a batch will need is asked for ahead, for all of its packets at once.

// manyRoutes is from how many routes on that pays: those of fewer are in the
// caches anyway.
const manyRoutes = 32

// ahead is where the pointers are collected.
type ahead struct {
	sas    [esp.BatchSize]*tables.SA
	keys   [esp.BatchSize]*aesgcm.Key
	counts [esp.BatchSize]*tables.RouteCounts
	peers  [esp.BatchSize]*tables.PeerEntry
	slots  [esp.BatchSize]*atomic.Uint64
	spis   [esp.BatchSize]uint32
	refs   [esp.BatchSize]uint32
}

// What is used of values for each packet, in bytes: their first ones.
const (
	hotSA     = 2 * prefetch.Line
	hotCounts = prefetch.Line
)

// sendsBy asks for what the packets to routes need.
func (w *worker) sendsBy(routes []uint32) {
	t := w.a.tables
	if t.Count() < manyRoutes {
		return
	}
	p := &w.ahead
	n, m := 0, 0
	for _, r := range routes {
		if int(r) >= len(t.Routes) || int(r) >= len(w.active) || int(r) >= len(w.routes) {
			continue
		}
		p.peers[n], p.counts[n] = t.PeerAt(r, w.a.index), &w.routes[r]
		n++
		if i := tables.SAIndex(atomic.LoadUint32(&w.active[r])); i < len(w.mem.SAs) {
			p.sas[m], p.keys[m] = &w.mem.SAs[i], &w.keys.keys[i].GCM
			m++
		}
	}
	prefetch.Lines(p.sas[:m], hotSA)
	prefetch.Lines(p.peers[:n], 1)
	prefetch.Lines(p.counts[:n], hotCounts)
	aesgcm.Prefetch(p.keys[:m])
}

// cameBy asks for what frames from the public network need, if they are ESP
// packets. It returns the references of their SAs, or nil where it has nothing
// to ask for.
func (w *worker) cameBy(rx []pktbuf.Packet) []uint32 {
	if w.a.tables.Count() < manyRoutes {
		return nil
	}
	p := &w.ahead
	at := wire.EthernetLen + w.a.outerLen
	spis, refs := p.spis[:len(rx)], p.refs[:len(rx)]
	for i, k := range rx {
		spis[i] = wire.Be32(w.pool.Head(k)[at&(pktbuf.HeadLen-1):])
		p.slots[i&(esp.BatchSize-1)] = w.spis.slot(spis[i])
	}
	prefetch.Lines(p.slots[:len(rx)], 1)
	m := 0
	for i, spi := range spis {
		refs[i] = w.spis.find(spi)
		if i := tables.SAIndex(refs[i]); i < len(w.mem.SAs) {
			p.sas[m], p.keys[m] = &w.mem.SAs[i], &w.keys.keys[i].GCM
			m++
		}
	}
	prefetch.Lines(p.sas[:m], hotSA)
	aesgcm.Prefetch(p.keys[:m])
	return refs
}

// countsOf asks for the counts of the m packets' routes.
func (w *worker) countsOf(m int) {
	if w.a.tables.Count() < manyRoutes {
		return
	}
	for i, sa := range w.sas[:m] {
		w.ahead.counts[i] = w.counts(sa.Route)
	}
	prefetch.Lines(w.ahead.counts[:m], hotCounts)
}
