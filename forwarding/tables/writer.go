package tables

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"vita/asm/lpm"
)

// Writer changes the routes of a generation in place, while workers work by it:
// what a change costs follows from the routes that it names, not from how many
// there are. One process has it, that which built the generation; a Writer is
// used by one goroutine at a time.
//
// A change goes through four steps:
//
//	Prepare  everything that may fail: what is new is written where nobody looks
//	Commit   whole words are stored, one after the other; cannot fail
//	Settle   once no worker can be at what went out of use: it is free again
//	Abort    instead of Commit
//
// Workers find a route by its nets, then its entry by slot, then its peers by
// the row that the entry names. Commit first makes the entries of new routes,
// then turns changed ones to their new rows, then the nets, and last empties the
// entries of routes that went. So for any one packet a route is as it was or as
// it will be, gateway, port and all; what a packet meets of several routes, or
// of several nets of one, is in between for some microseconds.
type Writer struct {
	spec   Spec // without routes
	v6     bool
	t      *Tables
	routes map[string]*held
	peers  []PeerEntry
	names  []byte
	named  int              // bytes of names in use, but for
	unused map[int][]uint32 // places of names that went, by their length
	slots  []uint32         // free
	rows   []uint32         // free
	udp    int              // routes in UDP
	lpm4   *lpm.Writer
	lpm6   *lpm.Writer
}

// held is a route as the Writer has it.
type held struct {
	Route
	slot, row uint32
	nameOff   uint32
}

// Change is a change of routes. No id may be in it twice.
type Change struct {
	Set    []Route  // as they shall be, be they there or not
	Remove []string // ids of routes that are there
}

// ErrRebuild says that tables cannot be changed in place as asked, and have to
// be built anew. Nothing is wrong with the change as such.
var ErrRebuild = errors.New("tables have to be built anew")

// NetError says that a net belongs to another route already.
type NetError struct {
	Route string
	Net   netip.Prefix
	Owner string
}

// Error says it in words.
func (e *NetError) Error() string {
	return fmt.Sprintf("%s: route %q: net %s belongs to route %q already", ErrSpec, e.Route, e.Net, e.Owner)
}

// Unwrap returns ErrSpec.
func (e *NetError) Unwrap() error { return ErrSpec }

// Prepared is a change that waits for Commit or Abort.
type Prepared struct {
	New     []uint32 // slots that routes are given which had none
	Removed []uint32 // slots of routes that go
	Idle    bool     // workers have to look anew which routes they send something to when they are idle

	set     []*held // as they will be
	old     []*held // as they were, in the order of set; nil: there was none
	gone    []*held
	cut     []uint32 // rows that went out of use
	lines4  []uint32 // likewise, lines of the prefix tables
	lines6  []uint32
	named   []*held // whose names are new
	udp     int
	settled bool
}

// Tables returns the generation.
func (w *Writer) Tables() *Tables { return w.t }

// Slot returns the slot of a route.
func (w *Writer) Slot(id string) (int, bool) {
	if h := w.routes[id]; h != nil {
		return int(h.slot), true
	}
	return 0, false
}

// Prepare makes a change ready. It fails with ErrRebuild, with a *NetError, or
// with another ErrSpec, and then has changed nothing.
func (w *Writer) Prepare(c *Change) (*Prepared, error) {
	p := &Prepared{udp: w.udp}
	if err := w.prepare(p, c); err != nil {
		w.Abort(p)
		return nil, err
	}
	return p, nil
}

func (w *Writer) prepare(p *Prepared, c *Change) error {
	if w.spec.Private == nil { // which says, among others, of which family the gateway is
		return ErrRebuild
	}
	one := w.spec
	one.Routes = c.Set
	if err := one.validateRoutes(w.v6); err != nil {
		return err
	}
	// What goes, goes first: a net may pass from one route to another.
	for _, id := range c.Remove {
		h := w.routes[id]
		if h == nil {
			return specError("route %q is not there", id)
		}
		if err := w.dropNets(&h.Route, nil); err != nil {
			return err
		}
		p.gone, p.Removed = append(p.gone, h), append(p.Removed, h.slot)
		p.count(&h.Route, -1)
		p.Idle = p.Idle || w.watched(&h.Route)
	}
	for i := range c.Set {
		r := &c.Set[i]
		if h := w.routes[r.ID]; h != nil {
			if err := w.dropNets(&h.Route, r); err != nil {
				return err
			}
		}
	}
	for i := range c.Set {
		if err := w.prepareRoute(p, &c.Set[i]); err != nil {
			return err
		}
	}
	if (p.udp == 0) != (w.udp == 0) { // the gateway opens or closes its port
		return ErrRebuild
	}
	for _, l := range [...]*lpm.Writer{w.lpm4, w.lpm6} {
		if n, most := l.Prefixes(); n > 2*most {
			return ErrRebuild
		}
	}
	return nil
}

// count counts a route that is in UDP.
func (p *Prepared) count(r *Route, n int) {
	if r.UDP != nil {
		p.udp += n
	}
}

// watched reports whether workers send something to a route when it is idle.
func (w *Writer) watched(r *Route) bool {
	return w.spec.Dummies != 0 || r.UDP != nil && r.UDP.Keepalive != 0
}

// prepareRoute makes a route ready whose nets that go have gone.
func (w *Writer) prepareRoute(p *Prepared, r *Route) error {
	before := w.routes[r.ID]
	h := &held{Route: *r}
	if before != nil {
		h.slot, h.row, h.nameOff = before.slot, before.row, before.nameOff
		p.count(&before.Route, -1)
		p.Idle = p.Idle || w.watched(&before.Route)
	} else {
		if len(w.slots) == 0 {
			return ErrRebuild
		}
		var ok bool
		if h.nameOff, ok = w.name(r.ID); !ok {
			return ErrRebuild
		}
		p.named = append(p.named, h)
		h.slot, w.slots = w.slots[len(w.slots)-1], w.slots[:len(w.slots)-1]
		p.New = append(p.New, h.slot)
	}
	p.count(r, 1)
	p.Idle = p.Idle || w.watched(r)
	if before == nil || !w.sameRow(&before.Route, r) {
		if len(w.rows) == 0 {
			return ErrRebuild
		}
		h.row, w.rows = w.rows[len(w.rows)-1], w.rows[:len(w.rows)-1]
	}
	p.set, p.old = append(p.set, h), append(p.old, before)
	if before == nil || h.row != before.row {
		if !w.fillRow(h.row, r, w.hop) {
			return ErrRebuild
		}
	}
	for _, n := range r.Nets {
		n = n.Masked()
		l := w.lpm(n)
		if slot, has := l.Get(n); has && slot != h.slot {
			return &NetError{Route: r.ID, Net: n, Owner: w.owner(p, slot)}
		} else if has {
			continue
		}
		if err := l.Set(n, h.slot); err != nil {
			return rebuild(err)
		}
	}
	return nil
}

func (w *Writer) lpm(n netip.Prefix) *lpm.Writer {
	if n.Addr().Is4() {
		return w.lpm4
	}
	return w.lpm6
}

// rebuild is the error where a prefix table has no room.
func rebuild(err error) error {
	if errors.Is(err, lpm.ErrSpace) {
		return ErrRebuild
	}
	return err
}

// owner returns the id of the route that has, or will have, a slot.
func (w *Writer) owner(p *Prepared, slot uint32) string {
	for _, h := range p.set {
		if h.slot == slot {
			return h.ID
		}
	}
	return w.t.RouteID(int(slot))
}

// dropNets takes those of a route's nets out that it will not have.
func (w *Writer) dropNets(r, will *Route) error {
	for _, n := range r.Nets {
		n = n.Masked()
		if will != nil && will.has(n) {
			continue
		}
		if err := w.lpm(n).Delete(n); err != nil {
			return rebuild(err)
		}
	}
	return nil
}

func (r *Route) has(net netip.Prefix) bool {
	for _, n := range r.Nets {
		if n.Masked() == net {
			return true
		}
	}
	return false
}

// sameRow reports whether the peers of a route stay as they are.
func (w *Writer) sameRow(a, b *Route) bool {
	if (a.UDP == nil) != (b.UDP == nil) || a.UDP != nil && *a.UDP != *b.UDP {
		return false
	}
	for i := range w.spec.Public {
		if q := w.spec.Public[i].Queue; a.gatewayFor(q) != b.gatewayFor(q) {
			return false
		}
	}
	return true
}

// fillRow writes a row of peers that nobody looks at. Hop finds the slot of a
// neighbour; where there is none, it reports false, and so does fillRow.
func (w *Writer) fillRow(row uint32, r *Route, hop func(neighbourKey) (uint32, bool)) bool {
	for i := range w.spec.Public {
		p := &w.spec.Public[i]
		ip := r.gatewayFor(p.Queue)
		e := PeerEntry{IP: ip.As16()}
		k, flag := neighbourKey{p.linkKey(true), p.NextHop.As16(), p.NextHopMAC}, uint32(0)
		if p.onLink(ip) {
			k, flag = neighbourKey{linkKey: p.linkKey(true), ip: e.IP}, OnLink
		}
		slot, ok := hop(k)
		if !ok {
			return false
		}
		e.Hop = slot | flag
		if u := r.UDP; u != nil {
			e.UDPPort, e.Keepalive = cmp.Or(u.Port, DefaultUDPPort), u.Keepalive
			if u.Moves {
				e.Moves = 1
			}
		}
		w.peers[int(row)*len(w.spec.Public)+i] = e
	}
	return true
}

// hop finds a neighbour of the generation.
func (w *Writer) hop(k neighbourKey) (uint32, bool) {
	for i := range w.t.Workers {
		p := &w.t.Workers[i].Public
		if p.linkKey(true) != k.linkKey {
			continue
		}
		for _, e := range FindNeighbours(p.Neighbours, &k.ip) {
			if e.MAC == k.mac {
				return e.Slot, true
			}
		}
		return 0, false
	}
	return 0, false
}

// name adds an id to the names.
func (w *Writer) name(id string) (off uint32, ok bool) {
	if free := w.unused[len(id)]; len(free) > 0 {
		off, w.unused[len(id)] = free[len(free)-1], free[:len(free)-1]
		copy(w.names[off:], id)
		return off, true
	}
	if len(id) > len(w.names)-w.named {
		return 0, false
	}
	off = uint32(w.named)
	w.named += copy(w.names[w.named:], id)
	return off, true
}

// Commit carries a change out.
func (w *Writer) Commit(p *Prepared) {
	for i, h := range p.set {
		e := &w.t.Routes[h.slot]
		if before := p.old[i]; before != nil {
			atomic.StoreUint32(&e.SPI, h.SPI)
			if before.row != h.row {
				atomic.StoreUint32(&e.row, h.row)
				p.cut = append(p.cut, before.row)
			}
		} else {
			atomic.StoreUint32(&e.SPI, h.SPI)
			atomic.StoreUint32(&e.row, h.row)
			atomic.StoreUint32(&e.nameOff, h.nameOff)
			atomic.StoreUint32(&e.nameLen, uint32(len(h.ID)))
			atomic.StoreUint32(&e.Used, 1)
		}
		w.routes[h.ID] = h
	}
	w.lpm4.Commit()
	w.lpm6.Commit()
	for _, h := range p.gone {
		atomic.StoreUint32(&w.t.Routes[h.slot].Used, 0)
		p.cut = append(p.cut, h.row)
		delete(w.routes, h.ID)
	}
	atomic.StoreUint32(w.t.count, uint32(len(w.routes)))
	w.udp = p.udp
	p.lines4, p.lines6 = w.lpm4.Cut(), w.lpm6.Cut()
}

// Settle makes what a change took out of use free again. By then every worker
// has begun a turn since Commit.
func (w *Writer) Settle(p *Prepared) {
	if p.settled {
		return
	}
	p.settled = true
	w.slots, w.rows = append(w.slots, p.Removed...), append(w.rows, p.cut...)
	for _, h := range p.gone {
		w.unname(h)
	}
	w.lpm4.Reuse(p.lines4)
	w.lpm6.Reuse(p.lines6)
}

// Abort forgets a change that was not carried out.
func (w *Writer) Abort(p *Prepared) {
	w.lpm4.Abort()
	w.lpm6.Abort()
	w.slots = append(w.slots, p.New...)
	for i, h := range p.set {
		if before := p.old[i]; before == nil || before.row != h.row {
			w.rows = append(w.rows, h.row)
		}
	}
	for _, h := range p.named {
		w.unname(h)
	}
}

// unname makes the place of a route's name free.
func (w *Writer) unname(h *held) {
	n := len(h.ID)
	w.unused[n] = append(w.unused[n], h.nameOff)
}
