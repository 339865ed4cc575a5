// Package notify carries what happens in the gateway to whoever wants to hear
// of it: the event stream of NETCONF (RFC 5277) and RESTCONF (RFC 8040, section
// 6), with a log of the last events to be replayed.
//
//	producers ──Publish──► log ◄── each subscription reads at its own place
//
// Publishing costs the same with any number of subscriptions, and never waits
// for one: the log is the only buffer there is. A subscription that falls behind
// by more than the log holds goes on with the oldest event in it, after one that
// tells how many were lost.
//
// base.go makes the events of RFC 6470, gateway.go the gateway's own. The package
// must not know protocols, forwarding or keying.
package notify

import (
	"context"
	"sync"
	"time"

	op "vita/mgmt/operational"
)

// Stream is the name of the one stream that there is, which RFC 5277 demands.
const Stream = "NETCONF"

// Event is something that has happened.
type Event struct {
	Time    time.Time
	Content *op.Node // at the top of its module
}

// Hub is where events come together. It is safe for concurrent use.
type Hub struct {
	started time.Time

	mu    sync.Mutex
	log   []Event       // a ring: event n is at n % len
	next  uint64        // number of the next event
	fresh chan struct{} // closed when the next event comes
}

// defaultLog is how many events are kept to be replayed.
const defaultLog = 8192

// New returns a hub that keeps so many events; 0 stands for 8192.
func New(keep int) *Hub {
	if keep == 0 {
		keep = defaultLog
	}
	return &Hub{started: time.Now(), log: make([]Event, keep), fresh: make(chan struct{})}
}

// Publish tells of an event that has happened now. A nil Hub drops it.
func (h *Hub) Publish(content *op.Node) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log[h.next%uint64(len(h.log))] = Event{time.Now(), content}
	h.next++
	close(h.fresh)
	h.fresh = make(chan struct{})
}

// LogStart returns since when events can be replayed: the creation of the log,
// and the time of the last event that it has no more room for, zero if there is
// none.
func (h *Hub) LogStart() (created, aged time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := uint64(len(h.log)); h.next > n {
		// The event that was in the place of the oldest one is not known any
		// more; the oldest one there is comes closest.
		aged = h.log[h.next%n].Time
	}
	return h.started, aged
}

// Subscription is one reader of the events. It must not be used by two
// goroutines at once.
type Subscription struct {
	h         *Hub
	at        uint64 // the next event to be read
	replay    uint64 // where what has happened before the subscription ends
	replaying bool
	start     time.Time // events before are passed over
	stop      time.Time // zero: there is no end
}

// Subscribe begins to read: events from now on, or with a start, in the past,
// those from then on as far as the log has them. With a stop, which may be in the
// past or in the future, the subscription ends there.
func (h *Hub) Subscribe(start, stop time.Time) *Subscription {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &Subscription{h: h, at: h.next, replay: h.next, start: start, stop: stop}
	if !start.IsZero() {
		s.replaying = true
		s.at = h.oldest()
	}
	return s
}

func (h *Hub) oldest() uint64 {
	if n := uint64(len(h.log)); h.next > n {
		return h.next - n
	}
	return 0
}

// What a subscription can come to.
type What uint8

// The values of What.
const (
	Happened       What = iota // the event
	ReplayComplete             // what comes from here on is new
	Complete                   // the stop is reached: nothing more will come
	Lost                       // the event tells how many could not be kept
)

// Next waits for the next event. The error is that of ctx.
func (s *Subscription) Next(ctx context.Context) (Event, What, error) {
	for {
		e, what, fresh := s.take()
		if fresh == nil {
			return e, what, nil
		}
		var end <-chan time.Time
		if !s.stop.IsZero() {
			t := time.NewTimer(time.Until(s.stop))
			defer t.Stop()
			end = t.C
		}
		select {
		case <-ctx.Done():
			return Event{}, Complete, ctx.Err()
		case <-fresh:
		case <-end:
			return Event{Time: time.Now()}, Complete, nil
		}
	}
}

// take returns what there is, or what to wait for.
func (s *Subscription) take() (e Event, what What, fresh <-chan struct{}) {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if oldest := h.oldest(); s.at < oldest {
		lost := oldest - s.at
		s.at = oldest
		if s.at > s.replay || !s.replaying { // of a replay only what the log has is promised
			return Event{time.Now(), eventsLost(lost)}, Lost, nil
		}
	}
	for {
		if s.replaying && s.at >= s.replay {
			s.replaying = false
			return Event{Time: time.Now()}, ReplayComplete, nil
		}
		if s.at == h.next {
			return Event{}, 0, h.fresh
		}
		e := h.log[s.at%uint64(len(h.log))]
		if !s.stop.IsZero() && e.Time.After(s.stop) {
			if s.replaying {
				s.at = s.replay
				continue
			}
			return Event{Time: time.Now()}, Complete, nil
		}
		s.at++
		if e.Time.Before(s.start) {
			continue
		}
		return e, Happened, nil
	}
}
