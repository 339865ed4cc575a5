// Package neigh keeps what is known of next hops: the Ethernet address of each,
// found by ARP (RFC 826) or neighbour discovery (RFC 4861), and whether it is
// still there (RFC 4861, section 7.3, for both).
//
//	None -> Incomplete -> Reachable -> Stale -> Delay -> Probe -> None
//	         asked          answered    30 s     sent to  5 s, 3 requests by unicast
//
// A neighbour lies in memory that all workers of an interface share, since the
// answer to one worker's request may arrive at another's queue: one word with
// state and address, which is replaced as a whole, and times beside it. Anybody
// may use and hear (Use, HeardARP, ...), one worker of the interface sees to the
// time (Tick).
//
// The package knows no port: it says what to send, and writes it where it is
// told; the worker sends it. It must not know what the next hop is used for.
package neigh

import (
	"math/bits"
	"sync/atomic"
	"time"

	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// The times and numbers of RFC 4861, section 10, which ARP goes by as well
// (RFC 1122, 2.3.2.1: at most one request a second).
const (
	ReachableTime   = 30 * time.Second // without confirmation
	RetransTimer    = time.Second      // between requests
	DelayFirstProbe = 5 * time.Second  // for traffic to go on unprobed
	MaxRequests     = 3                // by multicast, and by unicast
)

// State is what is known of a neighbour.
type State = tables.NeighbourState

// The states, under shorter names.
const (
	None       = tables.NeighbourUnknown
	Incomplete = tables.NeighbourIncomplete
	Reachable  = tables.NeighbourReachable
	Stale      = tables.NeighbourStale
	Delay      = tables.NeighbourDelay
	Probe      = tables.NeighbourProbe
	Permanent  = tables.NeighbourPermanent
)

// Above a word's state stands whether there is an address and nothing to do
// about it, so that one load and one test do for a packet.
const ready = 1 << 63

// word makes a neighbour's word, see tables.NeighbourWord. Of addr the lower 48
// bits count.
func word(s State, addr uint64) uint64 {
	w := tables.NeighbourWord(s, addr)
	switch s {
	case Reachable, Delay, Probe, Permanent:
		w |= ready
	case None, Incomplete, Stale:
	}
	return w
}

const addrMask = 1<<48 - 1

func stateOf(w uint64) State {
	s, _ := tables.SplitNeighbourWord(w)
	return s
}

func macOf(w uint64) wire.MAC {
	_, m := tables.SplitNeighbourWord(w)
	return m
}

func addrOf(m *wire.MAC) uint64 {
	return uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(wire.Be32(m[2:]))
}

// Reset makes a neighbour one that nothing is known of, or one with a configured
// address. Nobody may be using it.
func Reset(n *tables.Neighbour, mac *wire.MAC) {
	*n = tables.Neighbour{}
	if *mac != (wire.MAC{}) {
		n.Word = word(Permanent, addrOf(mac))
	}
}

// Get returns what is known of a neighbour.
func Get(n *tables.Neighbour) (State, wire.MAC) {
	w := atomic.LoadUint64(&n.Word)
	return stateOf(w), macOf(w)
}

// Ready returns the neighbour's address; false where there is something to do
// first, for Use to say.
func Ready(n *tables.Neighbour) (wire.MACWord, bool) {
	w := atomic.LoadUint64(&n.Word)
	return wire.MACWord(bits.ReverseBytes64(w << 16)), w&ready != 0
}

// claim takes the right to send a request: whoever gets it sends one, and nobody
// else does before the timer has run out.
func claim(n *tables.Neighbour, now int64) bool {
	next := atomic.LoadInt64(&n.Next)
	return now >= next && atomic.CompareAndSwapInt64(&n.Next, next, now+int64(RetransTimer))
}

// Use is for whoever has a packet for a neighbour: it returns the address, if
// there is one, and whether to ask for it now.
func Use(n *tables.Neighbour, now int64) (mac wire.MAC, ok, ask bool) {
	for {
		w := atomic.LoadUint64(&n.Word)
		switch stateOf(w) {
		case None, Incomplete:
			if !claim(n, now) {
				return mac, false, false
			}
			if stateOf(w) == None {
				atomic.StoreUint64(&n.Probes, 0)
				atomic.CompareAndSwapUint64(&n.Word, w, word(Incomplete, 0))
			}
			atomic.AddUint64(&n.Probes, 1)
			return mac, false, true
		case Stale:
			atomic.StoreInt64(&n.Next, now+int64(DelayFirstProbe))
			if !atomic.CompareAndSwapUint64(&n.Word, w, word(Delay, w)) {
				continue
			}
			return macOf(w), true, false
		case Reachable, Delay, Probe, Permanent:
			return macOf(w), true, false
		default: // no word of ours
			return mac, false, false
		}
	}
}

// Action is what a neighbour's time calls for.
type Action uint8

// The actions.
const (
	Nothing   Action = iota
	Broadcast        // ask by broadcast or multicast
	Unicast          // ask by unicast
)

// Tick does what time calls for. It is called now and then, by one worker. Keep
// says that the neighbour is in use even when no packet says so.
func Tick(n *tables.Neighbour, now int64, keep bool) Action {
	w := atomic.LoadUint64(&n.Word)
	switch stateOf(w) {
	case None:
		// Whoever is new is asked for once, so that the first packet finds it.
		if !keep && atomic.LoadInt64(&n.Next) != 0 || !claim(n, now) {
			return Nothing
		}
		atomic.StoreUint64(&n.Probes, 1)
		atomic.CompareAndSwapUint64(&n.Word, w, word(Incomplete, 0))
		return Broadcast
	case Incomplete:
		if !keep && atomic.LoadUint64(&n.Probes) >= MaxRequests {
			if now >= atomic.LoadInt64(&n.Next) {
				atomic.CompareAndSwapUint64(&n.Word, w, word(None, 0))
			}
			return Nothing
		}
		if !claim(n, now) {
			return Nothing
		}
		atomic.AddUint64(&n.Probes, 1)
		return Broadcast
	case Reachable:
		if now-atomic.LoadInt64(&n.Confirmed) >= int64(ReachableTime) {
			atomic.CompareAndSwapUint64(&n.Word, w, word(Stale, w))
		}
	case Stale:
		if keep {
			return probe(n, w, now)
		}
	case Delay:
		if now >= atomic.LoadInt64(&n.Next) {
			return probe(n, w, now)
		}
	case Probe:
		switch {
		case now < atomic.LoadInt64(&n.Next):
		case atomic.LoadUint64(&n.Probes) < MaxRequests:
			if claim(n, now) {
				atomic.AddUint64(&n.Probes, 1)
				return Unicast
			}
		default: // it has gone, or has another address: the next request is by multicast
			atomic.CompareAndSwapUint64(&n.Word, w, word(None, 0))
		}
	case Permanent:
	}
	return Nothing
}

// probe sends the first of the requests by unicast.
func probe(n *tables.Neighbour, w uint64, now int64) Action {
	atomic.StoreInt64(&n.Next, now+int64(RetransTimer))
	atomic.StoreUint64(&n.Probes, 1)
	if !atomic.CompareAndSwapUint64(&n.Word, w, word(Probe, w)) {
		return Nothing
	}
	return Unicast
}

// Change says what became of a neighbour's address.
type Change uint8

// The changes.
const (
	Same Change = iota
	Added
	Updated
)

func change(before, after uint64) Change {
	switch {
	case known(before) && before&addrMask == after&addrMask:
		return Same
	case known(before):
		return Updated
	}
	return Added
}

func known(w uint64) bool { return stateOf(w) >= Reachable }

// confirm makes a neighbour reachable at an address.
func confirm(n *tables.Neighbour, w, addr uint64, now int64) bool {
	atomic.StoreInt64(&n.Confirmed, now)
	atomic.StoreUint64(&n.Probes, 0)
	return atomic.CompareAndSwapUint64(&n.Word, w, word(Reachable, addr))
}

// learn takes over an address that nobody has asked for: one that is new is used
// at once, and probed when it is (RFC 4861, 7.2.3). It says nothing about one
// that is known already.
func learn(n *tables.Neighbour, w, addr uint64) bool {
	return known(w) && w&addrMask == addr || atomic.CompareAndSwapUint64(&n.Word, w, word(Stale, addr))
}

// Usable reports whether m can be a station's address.
func Usable(m *wire.MAC) bool { return m[0]&1 == 0 && *m != wire.MAC{} }
