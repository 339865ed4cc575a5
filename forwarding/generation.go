package forwarding

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"vita/drivers"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/arena"
	"vita/internal/pktbuf"
)

// A change of the configuration, seen from the engine:
//
//	Prepare   tables are checked; new workers made; ports that are not open yet
//	          opened; each worker given its part (assignment). May fail, and
//	          then leaves everything as it was.
//	Publish   vitad stores the word; each worker turns to its part by itself.
//	Retire    once every worker has: ports, workers and SAs without a place in
//	          the new generation end.
//	Abort     instead of Publish: undoes Prepare.
//
// A pool belongs to its worker, and a driver takes buffers when it opens and
// gives them back when it closes. So a worker whose ports change is parked for
// that moment; the frames that arrive meanwhile wait in the device's queues.

// portKey names what a port serves. Two ports whose keys overlap cannot be
// open at once.
type portKey struct {
	link   tables.Link
	queue  int // from 0; -1: all
	every  int // and each so many further on; 0: none
	mac    [6]byte
	tagged bool // frames have a VLAN tag
}

func (k portKey) overlaps(o portKey) bool {
	return k.link == o.link && (k.queue == o.queue || k.queue < 0 || o.queue < 0 || k.every != o.every)
}

// handle is an open port and whose it is.
type handle struct {
	key  portKey
	w    *worker
	side int // 0 private, 1 public
	port drivers.Port
}

// closedPort stands in for a port that had to make way.
type closedPort struct{}

func (closedPort) Rx([]pktbuf.Packet) int { return 0 }
func (closedPort) Tx([]pktbuf.Packet) int { return 0 }
func (closedPort) Flush()                 {}
func (closedPort) Sync()                  {}
func (closedPort) Fd() int                { return -1 }
func (closedPort) Info() drivers.Info     { return drivers.Info{} }
func (closedPort) Close() error           { return nil }

// returnedPort stands in for a port whose device the system has asked for, and
// got.
type returnedPort struct {
	closedPort
	info drivers.Info
}

func (p returnedPort) Info() drivers.Info { return p.info }

// change is a generation between Prepare and Retire.
type change struct {
	word      uint64
	tables    *tables.Tables
	made      []*worker // new ones
	opened    []*handle // new ones
	displaced []*handle // closed, because new ones need their device
	keep      []*handle // in use by the new generation
}

// portError says which port failed.
type portError struct {
	link tables.Link
	err  error
}

func (e *portError) Error() string { return e.err.Error() }
func (e *portError) Unwrap() error { return e.err }

// live returns the tables that Current names, or nil. The caller holds e.mu.
func (e *Engine) live() *tables.Tables {
	if c := e.pending; c != nil && c.word == e.mem.Current() {
		return c.tables
	}
	return e.current
}

// prepare makes everything ready for the generation that word names. The
// caller holds e.mu.
func (e *Engine) prepare(word uint64) error {
	if e.pending != nil {
		return errors.New("another generation is being prepared")
	}
	liveGen, livePlace := tables.Split(e.mem.Current())
	gen, place := tables.Split(word)
	if gen != liveGen+1 || liveGen != 0 && place == livePlace {
		return fmt.Errorf("generation %d in place %d cannot follow generation %d in place %d", gen, place, liveGen, livePlace)
	}
	t, err := tables.Open(e.mem.Tables(place))
	if err != nil {
		return err
	}
	if t.Generation != gen {
		return fmt.Errorf("tables of generation %d, want %d", t.Generation, gen)
	}
	if most := int(e.mem.Header.MaxRoutes); len(t.Routes) > most {
		return fmt.Errorf("%w: %d route slots, have room for %d", tables.ErrCorrupt, len(t.Routes), most)
	}
	c := &change{word: word, tables: t}
	if err := e.openAll(c); err != nil {
		e.undo(c)
		return err
	}
	if err := e.clearHops(t); err != nil {
		e.undo(c)
		return err
	}
	e.clearCounts(t)
	e.assign(c)
	e.pending = c
	return nil
}

// openAll makes the workers and opens the ports that a generation lacks.
func (e *Engine) openAll(c *change) error {
	wanted := make([]*handle, 0, 2*len(c.tables.Workers))
	for i := range c.tables.Workers {
		wc := &c.tables.Workers[i]
		w := e.workers[wc.Slot]
		if w == nil {
			var err error
			if w, err = e.newWorker(wc); err != nil {
				return err
			}
			c.made = append(c.made, w)
			e.workers[wc.Slot] = w
			w.start(func(err error) { e.o.Log.Warn("worker", "queue", w.queue, "error", err) })
		}
		wanted = append(wanted,
			&handle{key: privateKey(c.tables, wc), w: w, side: 0},
			&handle{key: publicKey(wc), w: w, side: 1})
	}
	var missing []*handle
	for i, h := range wanted {
		for _, other := range wanted[:i] {
			if h.key.overlaps(other.key) {
				return &portError{h.key.link, fmt.Errorf(
					"%s: two interfaces share it and a queue of it, be they in different VLANs: make a kernel interface for each VLAN (ip link add link %s name NAME type vlan id N), and name those: %w",
					h.key.link, h.key.link, drivers.ErrBusy)}
			}
		}
		at := slices.IndexFunc(e.ports, func(o *handle) bool { return o.key == h.key && o.w == h.w && o.side == h.side })
		if at >= 0 {
			c.keep = append(c.keep, e.ports[at])
			continue
		}
		missing = append(missing, h)
	}
	defer e.parkFor(c, missing)()
	for _, h := range missing {
		for _, o := range slices.Clone(e.ports) {
			if o.key.overlaps(h.key) {
				e.displace(c, o)
			}
		}
	}
	for _, h := range missing {
		if err := e.open(h); err != nil {
			return &portError{h.key.link, err}
		}
		e.ports = append(e.ports, h)
		c.opened = append(c.opened, h)
		c.keep = append(c.keep, h)
	}
	return nil
}

// parkFor parks every worker whose ports are about to change, and returns what
// lets them go on.
func (e *Engine) parkFor(c *change, missing []*handle) (resume func()) {
	var parked []*worker
	stop := func(w *worker) {
		if !slices.Contains(parked, w) {
			w.park()
			parked = append(parked, w)
		}
	}
	for _, h := range missing {
		stop(h.w)
		for _, o := range e.ports {
			if o.key.overlaps(h.key) {
				stop(o.w)
			}
		}
	}
	return func() {
		for _, w := range parked {
			w.unpark()
		}
	}
}

// displace closes a port that stands in a new one's way. Its worker is parked.
func (e *Engine) displace(c *change, h *handle) {
	if err := h.port.Close(); err != nil {
		e.o.Log.Warn("close port", "interface", h.key.link.String(), "error", err)
	}
	h.port = closedPort{}
	e.plug(h)
	e.ports = slices.DeleteFunc(e.ports, func(o *handle) bool { return o == h })
	c.displaced = append(c.displaced, h)
}

// plug makes the worker, which is parked, use a handle's port at once.
func (e *Engine) plug(h *handle) { h.plug(h.w.a) }

// plug puts a handle's port into a part that its worker has, or will have.
func (h *handle) plug(a *assignment) {
	if a == nil || a.index < 0 {
		return
	}
	if h.side == 0 {
		a.private.port = h.port
	} else {
		a.public.port = h.port
	}
}

// giveBack closes the ports of devices that the system asks for. Their places in
// the configuration stay, without traffic, until it names other devices there.
func (e *Engine) giveBack() {
	e.mu.Lock()
	defer e.mu.Unlock()
	var wanted []*handle
	for _, h := range e.ports {
		if h.port.Info().Wanted {
			wanted = append(wanted, h)
		}
	}
	var told []string
	for _, h := range wanted {
		h.w.park()
		info := h.port.Info()
		e.close(h)
		info.Wanted, info.LinkUp, info.Backlog, info.Fault = false, false, false, tables.PortGivenBack.String()
		h.port = returnedPort{info: info}
		for _, a := range []*assignment{h.w.a, h.w.next[0].Load(), h.w.next[1].Load()} {
			h.plug(a)
		}
		h.w.unpark()
		if !slices.Contains(told, info.Name) {
			told = append(told, info.Name)
			e.given++
			e.o.Log.Warn("device given back to the system: its interface carries nothing until it is configured anew",
				"interface", info.Name, "devices_given_back", e.given)
		}
	}
	e.describe()
}

// privateKey shares the private device's queues out among the workers, in the
// order of their numbers: with two, one has the first, the third and so on.
func privateKey(t *tables.Tables, wc *tables.WorkerConfig) portKey {
	k := portKey{link: t.Private.Link, queue: -1, mac: t.Private.MAC, tagged: t.Private.VLAN != 0}
	if len(t.Workers) == 1 {
		return k
	}
	k.queue, k.every = 0, len(t.Workers)
	for i := range t.Workers {
		if t.Workers[i].Queue < wc.Queue {
			k.queue++
		}
	}
	return k
}

func publicKey(wc *tables.WorkerConfig) portKey {
	return portKey{link: wc.Public.Link, queue: int(wc.DeviceQueue) - 1, mac: wc.Public.MAC, tagged: wc.Public.VLAN != 0}
}

// open opens a handle's port. Its worker is parked, or has no part yet.
func (e *Engine) open(h *handle) error {
	c := drivers.Config{
		Ifname: h.key.link.Ifname, PCI: h.key.link.PCI, MAC: h.key.mac, Tagged: h.key.tagged, Pool: h.w.pool,
		Log: func(s string) { e.o.Log.Info(s, "interface", h.key.link.String()) },
	}
	stats := &h.w.me.Private
	if h.side == 1 {
		stats = &h.w.me.Public
	}
	c.Stats = arena.Ptr[drivers.Stats](arena.Raw(stats))
	if h.key.queue >= 0 {
		c.Queues, c.Every = []int{h.key.queue}, h.key.every
	}
	p, err := e.o.Registry.Open(c)
	if err != nil {
		return err
	}
	h.port = p
	info := p.Info()
	e.o.Log.Info("port opened", "interface", info.Name, "driver", info.Driver, "queues", info.Queues,
		"mtu", info.MTU, "zero_copy", info.ZeroCopy)
	return nil
}

// assign gives every worker its part in the new generation; those without one
// too, so that they stop.
func (e *Engine) assign(c *change) {
	_, place := tables.Split(c.word)
	for slot, w := range e.workers {
		if w == nil {
			continue
		}
		a := &assignment{word: c.word, tables: c.tables, index: -1}
		for i := range c.tables.Workers {
			if c.tables.Workers[i].Slot == slot {
				e.fill(a, c, w, i)
			}
		}
		w.next[place].Store(a)
	}
}

// fill completes a worker's part.
func (e *Engine) fill(a *assignment, c *change, w *worker, index int) {
	t := c.tables
	a.index = index
	a.private = side{stats: &w.me.Private, info: &w.me.PrivatePort, kind: &privateKind, vlan: t.Private.VLAN}
	a.public = side{stats: &w.me.Public, info: &w.me.PublicPort, kind: &publicKind, vlan: t.Workers[index].Public.VLAN}
	e.interfaces(a, index)
	for _, h := range c.keep {
		if h.w != w {
			continue
		}
		s := &a.private
		if h.side == 1 {
			s = &a.public
		}
		s.port, s.resets = h.port, h.port.Info().Resets
		if slices.Contains(c.opened, h) && (h.side == 1 || s.owner) {
			s.announce = w.announcements
		}
		// Nothing larger fits a buffer, whatever the device can do.
		room := w.pool.FrameSize() - pktbuf.Headroom - wire.EthernetLen
		if s.vlan != 0 {
			room -= wire.VLANLen
		}
		s.mtu = min(h.port.Info().MTU, room)
	}
	a.outerLen, a.next4, a.next6 = wire.IPv4Len, &a.private.next, &a.private.other
	if a.v6 = t.V6; a.v6 {
		a.outerLen, a.next4, a.next6 = wire.IPv6Len, a.next6, a.next4
	}
	a.head = newOuterHead(&a.public, a.v6)
	a.innerMTU = min(t.MTU, esp.MaxInner(a.public.mtu, a.outerLen))
	a.innerUDP = min(t.MTU, esp.MaxInner(a.public.mtu, a.outerLen+wire.UDPLen))
	a.idle.Store(a.findIdle(nil))
}

// undo takes back what openAll has done. The caller holds e.mu.
func (e *Engine) undo(c *change) {
	for _, h := range c.opened {
		h.w.park()
		e.close(h)
		h.w.unpark()
	}
	e.ports = slices.DeleteFunc(e.ports, func(o *handle) bool { return slices.Contains(c.opened, o) })
	for _, h := range c.displaced {
		h.w.park()
		if err := e.open(h); err != nil {
			e.o.Log.Error("port that made way cannot be opened again", "interface", h.key.link.String(), "error", err)
		} else {
			e.ports = append(e.ports, h)
			e.plug(h)
		}
		h.w.unpark()
	}
	for _, w := range c.made {
		e.end(w)
	}
}

func (e *Engine) close(h *handle) {
	if err := h.port.Close(); err != nil {
		e.o.Log.Warn("close port", "interface", h.key.link.String(), "error", err)
	}
}

// abort undoes prepare. The caller holds e.mu.
func (e *Engine) abort(word uint64) {
	c := e.pending
	if c == nil || c.word != word || e.mem.Current() == word {
		return
	}
	_, place := tables.Split(word)
	for _, w := range e.workers {
		if w != nil {
			w.next[place].Store(nil)
		}
	}
	e.pending = nil
	e.undo(c)
}

// ackTime is how long workers have to turn to a generation.
const ackTime = 10 * time.Second

// retire ends what the published generation has no place for. The caller
// holds e.mu.
func (e *Engine) retire(word uint64) error {
	if e.mem.Current() != word {
		return errors.New("generation is not published")
	}
	c := e.pending
	if c == nil {
		return nil // retired before
	}
	if c.word != word {
		return errors.New("generation was not prepared")
	}
	deadline := time.Now().Add(ackTime)
	for _, w := range e.workers {
		if w == nil {
			continue
		}
		w.signal()
		for atomic.LoadUint64(&w.me.Epoch) != word {
			if time.Now().After(deadline) {
				return fmt.Errorf("worker of queue %d has not turned to generation %d", w.queue, word>>1)
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
	e.endSAsWhere(func(sa *tables.SA) bool {
		return !c.tables.Has(int(sa.Route)) || c.tables.WorkerSlot(sa.Queue) != int(sa.Worker)
	})
	e.endPorts(c)
	for slot, w := range e.workers {
		if w != nil && w.next[word&1].Load().index < 0 {
			e.end(w)
			e.workers[slot] = nil
		}
	}
	e.describe()
	e.current, e.pending = c.tables, nil
	return nil
}

// endPorts closes the ports that the generation does not use.
func (e *Engine) endPorts(c *change) {
	for _, h := range e.ports {
		if slices.Contains(c.keep, h) {
			continue
		}
		h.w.park()
		e.close(h)
		h.w.unpark()
	}
	e.ports = c.keep
}

// describe writes the descriptions of the open ports to shared memory.
func (e *Engine) describe() {
	for _, h := range e.ports {
		p := &h.w.me.PrivatePort
		if h.side == 1 {
			p = &h.w.me.PublicPort
		}
		info := h.port.Info()
		version := p.Version | 1
		atomic.StoreUint64(&p.Version, version)
		p.Open, p.MTU, p.Queues, p.MAC = 1, uint32(info.MTU), uint32(info.Queues), h.key.mac
		p.ZeroCopy, p.LinkUp = bit(info.ZeroCopy), bit(info.LinkUp)
		p.Fault, p.Resets = faultOf(&info), uint32(info.Resets)
		tables.SetText(p.Driver[:], info.Driver)
		tables.SetText(p.Name[:], info.Name)
		atomic.StoreUint64(&p.Version, version+1)
	}
}

// faultOf returns what is wrong with a port.
func faultOf(i *drivers.Info) tables.PortFault {
	switch i.Fault {
	case "":
		return tables.PortWorks
	case tables.PortGivenBack.String():
		return tables.PortGivenBack
	}
	return tables.PortDead
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
