package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
)

// Direction says what an SA is for.
type Direction = tables.Direction

// The directions of an SA.
const (
	Inbound  = tables.Inbound
	Outbound = tables.Outbound
)

// SA is a security association to be installed.
type SA struct {
	Route      string
	Queue      uint16
	Direction  Direction
	SPI        uint32
	Key        []byte // 16 bytes (AES-128) or 32
	Salt       [4]byte
	HardTTL    time.Duration // 0: none
	MaxBytes   uint64        // of inner packets; 0: none
	MaxPackets uint64        // 0: none
	Seq        uint64        // where it goes on: last number sent, or highest received, before which all count as received; 0: a new SA
	Owner      uint64        // told back by SAInfo, to know it again by after a restart; means nothing to the engine
}

// SARef names an installed SA. It is never 0.
type SARef uint32

// InstallSA gives an SA to the engine, which alone keeps the key. An inbound
// SA is accepted from now on, beside those that are there; an outbound one is
// not used until Activate. A second inbound SA with the same queue and SPI
// takes the place of the first. It fails with ErrNoRoute or ErrNoSpace.
func (c *Client) InstallSA(ctx context.Context, sa SA) (SARef, error) {
	if len(sa.Key) != 16 && len(sa.Key) != 32 {
		return 0, fmt.Errorf("install SA: key of %d bytes: want 16 or 32", len(sa.Key))
	}
	if sa.Direction != Inbound && sa.Direction != Outbound {
		return 0, fmt.Errorf("install SA: direction %d", sa.Direction)
	}
	c.state.Lock()
	slot, ok := c.slot(sa.Route)
	c.state.Unlock()
	if !ok {
		return 0, fmt.Errorf("install SA: route %q: %w", sa.Route, ErrNoRoute)
	}
	r := ctl.Request{
		Kind: ctl.InstallSA, Route: uint32(slot), SPI: sa.SPI, Queue: sa.Queue, Direction: sa.Direction,
		Salt: sa.Salt, HardTTL: int64(sa.HardTTL), MaxBytes: sa.MaxBytes, MaxPackets: sa.MaxPackets,
		Seq: sa.Seq, Owner: sa.Owner, KeyLen: uint8(len(sa.Key)),
	}
	copy(r.Key[:], sa.Key)
	reply, err := c.request(ctx, &r)
	clear(r.Key[:])
	if err != nil {
		return 0, fmt.Errorf("install SA for route %q, queue %d: %w", sa.Route, sa.Queue, err)
	}
	return SARef(reply.Ref), nil
}

// Activate makes an outbound SA the one that its route and queue send by: one
// atomic store. The SA before it stays installed.
func (c *Client) Activate(ref SARef) error {
	done, err := c.hold()
	if err != nil {
		return err
	}
	defer done()
	sa := c.entry(ref)
	if sa == nil || sa.Direction != Outbound {
		return ErrNoSA
	}
	word := c.mem.Active(int(sa.Worker), int(sa.Route))
	if word == nil {
		return ErrNoSA
	}
	atomic.StoreUint32(word, uint32(ref))
	// If the engine removed the SA between the look and the store, it has
	// found the word not to be its own: take it out again.
	if atomic.LoadUint32(&sa.Ref) != uint32(ref) {
		atomic.CompareAndSwapUint32(word, uint32(ref), 0)
		return ErrNoSA
	}
	return nil
}

// RemoveSA ends an SA; when it returns the engine has forgotten the key. An SA
// that is gone already is no error.
func (c *Client) RemoveSA(ctx context.Context, ref SARef) error {
	if _, err := c.request(ctx, &ctl.Request{Kind: ctl.RemoveSA, Ref: uint32(ref)}); err != nil {
		return fmt.Errorf("remove SA: %w", err)
	}
	return nil
}

func (c *Client) entry(ref SARef) *tables.SA {
	i := tables.SAIndex(uint32(ref))
	if ref == 0 || i >= len(c.mem.SAs) || atomic.LoadUint32(&c.mem.SAs[i].Ref) != uint32(ref) {
		return nil
	}
	return &c.mem.SAs[i]
}

// SAInfo describes an installed SA.
type SAInfo struct {
	Ref       SARef
	Route     string // "" where the live tables no longer have its route
	Queue     uint16
	Direction Direction
	SPI       uint32
	Active    bool // outbound: the route and queue send by it; inbound: always
	Owner     uint64
	Created   int64 // clock.Mono
	Expires   int64 // clock.Mono; 0: never
	LastUsed  int64 // clock.Mono; 0: never
	Packets   uint64
	Bytes     uint64 // of inner packets
	Seq       uint64 // last sent, or highest received

	MaxPackets uint64 // hard limit; 0: none
	MaxBytes   uint64 // hard limit, of inner packets; 0: none
	LastSeq    uint64 // hard limit

	RxErrors, ProtocolErrors, DecryptErrors uint64

	Drops []Drop // reasons that have occurred
}

// SAs returns all SAs that the engine holds.
func (c *Client) SAs() []SAInfo {
	done, err := c.hold()
	if err != nil {
		return nil
	}
	defer done()
	c.state.Lock()
	live := c.state.live
	c.state.Unlock()
	var out []SAInfo
	top := min(int(atomic.LoadUint32(&c.mem.Header.SATop)), len(c.mem.SAs))
	for i := range c.mem.SAs[:top] {
		if info, ok := c.info(&c.mem.SAs[i], live); ok {
			out = append(out, info)
		}
	}
	return out
}

// Use is what an SA has carried so far.
type Use struct {
	Packets  uint64
	Bytes    uint64 // of inner packets
	LastUsed int64  // clock.Mono; 0: never
}

// Use returns what an SA has carried; it reports false where it is gone. It is
// for those who look at many SAs often.
func (c *Client) Use(ref SARef) (Use, bool) {
	done, err := c.hold()
	if err != nil {
		return Use{}, false
	}
	defer done()
	sa := c.entry(ref)
	if sa == nil {
		return Use{}, false
	}
	u := Use{Packets: atomic.LoadUint64(&sa.Packets), Bytes: atomic.LoadUint64(&sa.Bytes), LastUsed: atomic.LoadInt64(&sa.LastUsed)}
	return u, atomic.LoadUint32(&sa.Ref) == uint32(ref)
}

// info reads an entry; it reports false for one that is, or becomes, free.
func (c *Client) info(sa *tables.SA, live *tables.Tables) (SAInfo, bool) {
	ref := atomic.LoadUint32(&sa.Ref)
	if ref == 0 {
		return SAInfo{}, false
	}
	info := SAInfo{
		Ref: SARef(ref), Queue: sa.Queue, Direction: sa.Direction, SPI: sa.SPI, Active: true, Owner: sa.Owner,
		Created: sa.Created, Expires: sa.Expires, LastUsed: atomic.LoadInt64(&sa.LastUsed),
		Packets: atomic.LoadUint64(&sa.Packets), Bytes: atomic.LoadUint64(&sa.Bytes), Seq: atomic.LoadUint64(&sa.Seq),
		RxErrors:       atomic.LoadUint64(&sa.RxErrors),
		ProtocolErrors: atomic.LoadUint64(&sa.ProtocolErrors),
		DecryptErrors:  atomic.LoadUint64(&sa.DecryptErrors),
		MaxPackets:     sa.MaxPackets, MaxBytes: sa.MaxBytes, LastSeq: sa.LastSeq,
	}
	var drops [tables.DropSlots]uint64
	addDrops(&drops, &sa.Drops)
	info.Drops = listDrops(&drops)
	if live != nil {
		info.Route = c.routeID(live, int(sa.Route))
	}
	if sa.Direction == Outbound {
		word := c.mem.Active(int(sa.Worker), int(sa.Route))
		info.Active = word != nil && atomic.LoadUint32(word) == ref
	}
	return info, atomic.LoadUint32(&sa.Ref) == ref // still the SA that was read
}

var errReceiving = errors.New("another goroutine receives already")
