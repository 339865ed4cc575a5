package keeper

import "net/netip"

// EventKind says what has happened to a route on a queue.
type EventKind uint8

// The kinds of events.
const (
	Established EventKind = iota + 1 // it has SAs, and had none to send by
	Rekeyed                          // it has new ones beside those that it had
	Expired                          // the SA that it sends by has ended, and there is no other
	Unreachable                      // the peer does not answer our exchange
	Reachable                        // it has answered again
)

// Event is something that an operator may want to hear of.
type Event struct {
	Kind        EventKind
	Route       string
	Queue       uint16
	Peer        netip.Addr
	InboundSPI  uint32 // of Established and Rekeyed
	OutboundSPI uint32 // likewise, and of Expired
}

func (l *link) tell(kind EventKind, inboundSPI, outboundSPI uint32) {
	if l.k.event != nil {
		l.k.event(Event{kind, l.key.route, l.key.queue, l.remote, inboundSPI, outboundSPI})
	}
}
