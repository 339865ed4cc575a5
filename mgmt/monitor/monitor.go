// Package monitor knows what the management servers are doing, and says so in
// the standard modules: ietf-netconf-monitoring (RFC 6022) with sessions,
// locks, schemas and statistics, and ietf-yang-library in both of its forms
// (RFC 8525, and RFC 7895's modules-state).
//
// The servers tell it of sessions and messages; it must not know their
// protocols' framing, nor what the gateway does.
package monitor

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vita/mgmt/datastore"
	"vita/mgmt/operational"
)

// Monitor is the state of the management servers of one gateway. It is safe
// for concurrent use.
type Monitor struct {
	store   *datastore.Datastore
	library *library
	started time.Time

	badHellos, sessionsIn, dropped atomic.Uint32
	total                          counters

	mu        sync.Mutex
	sessions  map[*Session]struct{}
	providers []operational.Provider
}

// counters are those that exist for each session and for all together (RFC
// 6022, grouping common-counters).
type counters struct{ inRPCs, inBadRPCs, outErrors, outNotifications atomic.Uint32 }

// Session is a NETCONF session that is being watched. A nil Session counts
// nothing.
type Session struct {
	of    *Monitor
	who   *datastore.Session
	since time.Time
	counters
}

// New returns a Monitor. The capabilities are those of the NETCONF server
// without the modules'.
func New(store *datastore.Datastore) *Monitor {
	m := &Monitor{store: store, library: newLibrary(store != nil && store.HasStartup()), started: time.Now(), sessions: map[*Session]struct{}{}}
	m.providers = []operational.Provider{m.library, netconfState{m}}
	return m
}

// Add makes data of another provider visible to clients.
func (m *Monitor) Add(p operational.Provider) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.providers = append(slices.Clip(m.providers), p)
}

// Providers returns whoever provides operational data beside the gateway's own.
func (m *Monitor) Providers() []operational.Provider {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.providers
}

// Begin enters a session.
func (m *Monitor) Begin(who *datastore.Session) *Session {
	s := &Session{of: m, who: who, since: time.Now()}
	m.sessionsIn.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[s] = struct{}{}
	return s
}

// End removes a session; dropped says that it was not closed by its client.
func (s *Session) End(dropped bool) {
	if dropped {
		s.of.dropped.Add(1)
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	delete(s.of.sessions, s)
}

// BadHello counts a session that ended before it began.
func (m *Monitor) BadHello() { m.badHellos.Add(1) }

func (s *Session) count(which func(*counters) *atomic.Uint32) {
	if s != nil {
		which(&s.counters).Add(1)
		which(&s.of.total).Add(1)
	}
}

// RPC counts a correct message.
func (s *Session) RPC() { s.count(func(c *counters) *atomic.Uint32 { return &c.inRPCs }) }

// BadRPC counts a message that is no correct rpc.
func (s *Session) BadRPC() { s.count(func(c *counters) *atomic.Uint32 { return &c.inBadRPCs }) }

// Refused counts a reply with an error.
func (s *Session) Refused() { s.count(func(c *counters) *atomic.Uint32 { return &c.outErrors }) }

// Notified counts a notification that was sent.
func (s *Session) Notified() {
	s.count(func(c *counters) *atomic.Uint32 { return &c.outNotifications })
}

// active returns the sessions in the order of their ids.
func (m *Monitor) active() []*Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Session, 0, len(m.sessions))
	for s := range m.sessions {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *Session) int { return int(int64(a.who.ID) - int64(b.who.ID)) })
	return out
}

// host returns the address in a session's peer, without its port.
func host(peer string) string {
	h, _, err := net.SplitHostPort(peer)
	if err != nil {
		return peer
	}
	return h
}
