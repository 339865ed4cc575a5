package client

import (
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
	for i := range c.mem.Workers {
		if atomic.LoadUint64(&c.mem.Workers[i].Rounds) != 0 {
			rows = append(rows, c.mem.RouteCounts(i))
		}
	}
	out := make([]RouteInfo, 0, len(live.Routes))
	for slot := range min(len(live.Routes), int(c.mem.Header.MaxRoutes)) {
		id := live.RouteID(slot)
		if id == "" {
			continue
		}
		r := RouteInfo{Route: id}
		var drops [tables.DropSlots]uint64
		for _, row := range rows {
			n := &row[slot]
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
