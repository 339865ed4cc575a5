package notify

import (
	"strconv"

	op "vita/mgmt/operational"
)

// The gateway's own events, as vita-esp-gateway-ext has them.

const gatewayModule = "vita-esp-gateway-ext"

func gateway(name string, children ...*op.Node) *op.Node {
	return op.Top(op.Name{Module: gatewayModule, Name: name}, children...)
}

// Link names a route on a queue, and its peer.
type Link struct {
	Route string
	Queue uint16
	Peer  string
}

func (l Link) leafs(more ...*op.Node) []*op.Node {
	return append([]*op.Node{op.Text("route", l.Route), op.Number("queue", uint32(l.Queue)), op.Text("peer", l.Peer)}, more...)
}

// Association tells that a route has got new SAs; rekeyed says that it had some
// before.
func Association(l Link, inboundSPI, outboundSPI uint32, rekeyed bool) *op.Node {
	name := "association-established"
	if rekeyed {
		name = "association-rekeyed"
	}
	return gateway(name, l.leafs(op.Number("inbound-spi", inboundSPI), op.Number("outbound-spi", outboundSPI))...)
}

// AssociationExpired tells that the SA by which a route sends has come to its
// end without a successor.
func AssociationExpired(l Link, spi uint32) *op.Node {
	return gateway("association-expired", l.leafs(op.Number("outbound-spi", spi))...)
}

// PeerUnreachable tells that a peer does not answer, or does again.
func PeerUnreachable(l Link, yes bool) *op.Node {
	name := "peer-reachable"
	if yes {
		name = "peer-unreachable"
	}
	return gateway(name, l.leafs()...)
}

// InterfaceLink tells that an interface has lost its link or has it again. Side
// is "private" or "public".
func InterfaceLink(name, side string, queue uint16, up bool) *op.Node {
	event := "link-down"
	if up {
		event = "link-up"
	}
	return gateway(event, op.Text("interface", name), op.Text("side", side), op.Number("queue", uint32(queue)))
}

// Storm tells that many packets a second are dropped for a reason that an attack
// may be behind, or no longer.
func Storm(reason string, packets uint64, over bool) *op.Node {
	state := "begun"
	if over {
		state = "over"
	}
	return gateway("storm", op.Text("reason", reason), op.Text("state", state), op.Text("packets", strconv.FormatUint(packets, 10)))
}

// eventsLost tells a subscription how many events it was too slow for.
func eventsLost(n uint64) *op.Node {
	return gateway("events-lost", op.Text("count", strconv.FormatUint(n, 10)))
}
