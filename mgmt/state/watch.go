package state

import (
	"context"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/keying/keeper"
	"vita/mgmt/notify"
)

const (
	watchEvery  = time.Second
	stormBegins = 100 // packets a second
	stormEnds   = 10
	stormQuiet  = 10 // seconds with fewer before it is over
)

// stormy are the reasons to drop a packet that an attack may be behind.
var stormy = []drop.Reason{
	drop.ESPAuthentication, drop.ESPReplay, drop.ESPNoSA, drop.KeyExchangeMalformed, drop.KeyExchangeRate, drop.KeyExchangeRingFull,
}

// Watch tells of what the engine does not report by itself, links that come and
// go and storms of packets, until ctx ends.
func Watch(ctx context.Context, engine Source, hub *notify.Hub) error {
	w := watcher{hub: hub}
	ticks := time.NewTicker(watchEvery)
	defer ticks.Stop()
	for {
		w.look(engine.Ports(), engine.Counters().Drops)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
	}
}

type portKey struct {
	name   string
	public bool
	queue  uint16
}

// watcher remembers what it saw the last time.
type watcher struct {
	hub    *notify.Hub
	up     map[portKey]bool
	storms map[drop.Reason]*storm
}

type storm struct {
	last  uint64 // the counter, at the last look
	on    bool
	since uint64 // the counter when it began
	quiet int    // looks since it was strong
}

func (w *watcher) look(ports []client.PortInfo, drops func(drop.Reason) uint64) {
	up := make(map[portKey]bool, len(ports))
	for _, p := range ports {
		k := portKey{p.Name, p.Public, p.Queue}
		up[k] = p.LinkUp
		if was, known := w.up[k]; known && was != p.LinkUp || !known && !p.LinkUp {
			side := "private"
			if p.Public {
				side = "public"
			}
			w.hub.Publish(notify.InterfaceLink(p.Name, side, p.Queue, p.LinkUp))
		}
	}
	w.up = up
	if w.storms == nil {
		w.storms = map[drop.Reason]*storm{}
	}
	for _, r := range stormy {
		s := w.storms[r]
		if s == nil {
			s = &storm{last: drops(r)}
			w.storms[r] = s
			continue
		}
		w.weather(r, s, drops(r))
	}
}

// weather takes a counter in, one watchEvery after the last time.
func (w *watcher) weather(r drop.Reason, s *storm, now uint64) {
	if now < s.last { // another engine
		s.last, s.since = now, 0
	}
	packets := now - s.last
	s.last = now
	switch {
	case !s.on && packets >= stormBegins:
		s.on, s.since, s.quiet = true, now-packets, 0
		w.hub.Publish(notify.Storm(r.String(), packets, false))
	case s.on && packets >= stormEnds:
		s.quiet = 0
	case s.on:
		if s.quiet++; s.quiet >= stormQuiet {
			s.on = false
			w.hub.Publish(notify.Storm(r.String(), now-s.since, true))
		}
	}
}

// KeyEvent turns what the keeper tells into events.
func KeyEvent(hub *notify.Hub) func(keeper.Event) {
	return func(e keeper.Event) {
		l := notify.Link{Route: e.Route, Queue: e.Queue, Peer: e.Peer.String()}
		switch e.Kind {
		case keeper.Established, keeper.Rekeyed:
			hub.Publish(notify.Association(l, e.InboundSPI, e.OutboundSPI, e.Kind == keeper.Rekeyed))
		case keeper.Expired:
			hub.Publish(notify.AssociationExpired(l, e.OutboundSPI))
		case keeper.Unreachable, keeper.Reachable:
			hub.Publish(notify.PeerUnreachable(l, e.Kind == keeper.Unreachable))
		}
	}
}
