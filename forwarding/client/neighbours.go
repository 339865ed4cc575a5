package client

import (
	"net/netip"
	"sync/atomic"

	"vita/forwarding/tables"
)

// NeighbourInfo describes a station that packets are handed to: a next hop, or a
// remote gateway on the public network.
type NeighbourInfo struct {
	Link      tables.Link
	Public    bool
	IP        netip.Addr
	State     tables.NeighbourState
	MAC       [6]byte // where the state says that there is one
	Confirmed int64   // clock.Mono: when it was last known to be there; 0: never
}

// Neighbours returns the neighbours that the live tables have, those of an
// interface in the order of their addresses.
func (c *Client) Neighbours() []NeighbourInfo {
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
	var out []NeighbourInfo
	type link struct {
		tables.Link
		vlan uint16
	}
	links := make(map[link]bool) // of the public side: workers may share one
	add := func(public bool, p *tables.Port) {
		for i := range p.Neighbours {
			e := p.Neighbours[i]
			n := c.mem.Neighbour(e.Slot)
			if n == nil {
				continue
			}
			info := NeighbourInfo{Link: p.Link, Public: public, IP: netip.AddrFrom16(e.IP).Unmap(), Confirmed: atomic.LoadInt64(&n.Confirmed)}
			if info.State, info.MAC = tables.SplitNeighbourWord(atomic.LoadUint64(&n.Word)); info.State < tables.NeighbourReachable {
				info.MAC = [6]byte{}
			}
			out = append(out, info)
		}
	}
	if live.Private != nil {
		add(false, live.Private)
	}
	for i := range live.Workers {
		p := &live.Workers[i].Public
		if l := (link{p.Link, p.VLAN}); !links[l] {
			links[l] = true
			add(true, p)
		}
	}
	return out
}
