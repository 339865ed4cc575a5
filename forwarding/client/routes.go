package client

import (
	"net/netip"
	"sync/atomic"

	"vita/forwarding/drop"
	"vita/forwarding/tables"
)

// RouteInfo is what all workers have counted of a route since it was made.
type RouteInfo struct {
	Route           string
	SentPackets     uint64
	SentBytes       uint64 // of inner packets
	ReceivedPackets uint64 // authentic ones
	ReceivedBytes   uint64 // likewise
	LastUsed        int64  // clock.Mono; 0: never
	Drops           []Drop // reasons that have occurred
	Moved           []Moved
}

// Moved is where the peer of a route has moved to, as one queue sees it.
type Moved struct {
	Queue uint16
	Peer  netip.AddrPort
}

// Drop is how many packets of a route or SA were dropped for a reason.
type Drop struct {
	Reason  drop.Reason
	Packets uint64
}

// Routes returns what was counted of each route of the live tables.
func (c *Client) Routes() []RouteInfo {
	done, err := c.hold()
	if err != nil {
		return nil
	}
	defer done()
	c.state.Lock()
	live := c.state.live
	c.state.Unlock()
	if live == nil {
		return nil
	}
	var rows [][]tables.RouteCounts
	var queues []uint16
	for i := range c.mem.Workers {
		if w := &c.mem.Workers[i]; atomic.LoadUint64(&w.Rounds) != 0 {
			rows, queues = append(rows, c.mem.RouteCounts(i)), append(queues, uint16(atomic.LoadUint64(&w.Queue)))
		}
	}
	out := make([]RouteInfo, 0, len(live.Routes))
	for slot := range min(len(live.Routes), int(c.mem.Header.MaxRoutes)) {
		id := c.routeID(live, slot)
		if id == "" {
			continue
		}
		r := RouteInfo{Route: id}
		var drops [tables.DropSlots]uint64
		for i, row := range rows {
			n := &row[slot]
			if at := live.Worker(queues[i]); at >= 0 && n.PeerPort != 0 {
				if peer := c.peer(live, slot, at); peer.Moves != 0 && n.Moved == tables.MovedFrom(&peer.IP, peer.UDPPort) {
					r.Moved = append(r.Moved, Moved{queues[i], netip.AddrPortFrom(netip.AddrFrom16(n.PeerIP).Unmap(), n.PeerPort)})
				}
			}
			r.SentPackets += atomic.LoadUint64(&n.SentPackets)
			r.SentBytes += atomic.LoadUint64(&n.SentBytes)
			r.ReceivedPackets += atomic.LoadUint64(&n.ReceivedPackets)
			r.ReceivedBytes += atomic.LoadUint64(&n.ReceivedBytes)
			r.LastUsed = max(r.LastUsed, atomic.LoadInt64(&n.LastUsed))
			addDrops(&drops, &n.Drops)
		}
		r.Drops = listDrops(&drops)
		out = append(out, r)
	}
	return out
}

// routeID returns the id of the route in a slot, or "".
func (c *Client) routeID(t *tables.Tables, slot int) string {
	c.rows.RLock()
	defer c.rows.RUnlock()
	return t.RouteID(slot)
}

// peer returns a peer of a route, which is not being written.
func (c *Client) peer(t *tables.Tables, slot, worker int) tables.PeerEntry {
	c.rows.RLock()
	defer c.rows.RUnlock()
	return t.Peer(uint32(slot), worker)
}

func addDrops(sum, part *[tables.DropSlots]uint64) {
	for i := range sum {
		sum[i] += atomic.LoadUint64(&part[i])
	}
}

func listDrops(n *[tables.DropSlots]uint64) (out []Drop) {
	for slot, packets := range n {
		if r, ok := drop.InSlot(slot); ok && packets != 0 {
			out = append(out, Drop{r, packets})
		}
	}
	return out
}

// HasRoute reports whether the live tables have a route.
func (c *Client) HasRoute(id string) bool {
	c.state.Lock()
	defer c.state.Unlock()
	_, has := c.slot(id)
	return has
}

// Live returns the live tables, to be looked at; nil where there are none.
func (c *Client) Live() *tables.Tables {
	c.state.Lock()
	defer c.state.Unlock()
	return c.state.live
}
