package forwarding

import "time"

// A worker without work looks for some for a while before it sleeps, since to
// sleep and be woken costs a packet tens of microseconds. How long depends on
// what became of the last times: if packets came soon after it had gone to
// sleep, it should have waited for them, and waits longer; if none came for long,
// it waited in vain, and waits less.

const (
	spinLeast = 20 * time.Microsecond
	spinMost  = time.Millisecond
	spinFirst = 50 * time.Microsecond
)

// spin says how long a worker goes on without work, in nanoseconds.
type spin struct {
	limit int64 // below 0: for ever
}

func newSpin(busyPoll bool) spin {
	if busyPoll {
		return spin{-1}
	}
	return spin{int64(spinFirst)}
}

// over reports whether that was long enough.
func (s *spin) over(idle int64) bool { return s.limit >= 0 && idle > s.limit }

// slept takes in how long a sleep was.
func (s *spin) slept(d int64) {
	switch {
	case s.limit < 0:
	case d < 4*s.limit:
		s.limit = min(2*s.limit, int64(spinMost))
	case d > 16*s.limit:
		s.limit = max(s.limit/2, int64(spinLeast))
	}
}
