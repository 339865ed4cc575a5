package nic

import (
	"errors"
	"fmt"
	"slices"

	"vita/drivers"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// RxRing is a queue for receiving, and the buffers that the device has for it.
type RxRing interface {
	Rx(b []pktbuf.Packet, s *drivers.Stats) int
	Waiting() int // frames that have arrived
	Size() int    // buffers
	// Broken reports whether the device has done what cannot be, and is to be
	// reset. It is asked once a second.
	Broken() bool
	// Close gives all buffers back. The device does not use the ring any more.
	Close() error
}

// TxRing is a queue for sending.
type TxRing interface {
	Tx(b []pktbuf.Packet, s *drivers.Stats) int
	// Flush tells the device of what is queued, and takes back what it has sent.
	Flush(s *drivers.Stats)
	Waiting() int // frames that the device has not reported as sent
	Done() uint32 // a number that changes as the device sends
	Broken() bool
	// Rewind makes the ring as new, and returns how many frames were not sent:
	// they go back to the pool. The device does not use the ring.
	Rewind() (lost int)
	Close() error
}

// Port is one worker's part of a card: the same for all drivers. Of the rings,
// and through them of the device, its methods ask once a batch.
type Port struct {
	rx    []RxRing // none while halted
	tx    TxRing
	next  int // the ring that Rx looks at first
	stats *drivers.Stats
	k     *Common
	part  Member

	Queues []int   // of the device
	IOVA   uint64  // where the device sees the pool's region
	MAC    [6]byte // to be received
	Vector int     // an interrupt of the port's own, or -1
	Event  *Event  // what its worker is woken by

	share   *Share
	rings   []RxRing // rx, also while halted
	joined  bool     // recovery counts on it
	listed  bool     // its card knows of it, and the device may have its rings
	halted  bool     // the card is being reset
	link    bool
	speed   int
	changes int
	stuck   uint32 // what the sender had done when Sync last looked
	waited  bool   // there was something to send then already
}

const minRing = 32

// Open opens a port of the device that c.PCI names.
func Open(cards *Cards, c drivers.Config) (drivers.Port, error) {
	share, err := cards.Acquire(&c)
	if err != nil {
		return nil, err
	}
	k := share.Card.common()
	p := &Port{
		share: share, k: k, stats: c.Stats, Queues: share.Queues, IOVA: share.IOVA, MAC: c.MAC,
		Vector: -1, Event: &Event{fd: -1},
	}
	if p.stats == nil {
		p.stats = new(drivers.Stats)
	}
	if p.MAC == ([6]byte{}) {
		p.MAC = k.MAC
	}
	if err := p.open(&c); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if p.halted { // or it waits for a reset that is under way
		k.recovery.Ask()
	}
	if c.Log != nil {
		c.Log(fmt.Sprintf("%s on %s: queues %v of %d, %s%d buffers for receiving", k.Driver, share.Name, p.Queues, k.card.Queues(), k.Way, p.rings[0].Size()))
	}
	return p, nil
}

func (p *Port) open(c *drivers.Config) error {
	k := p.k
	p.part, p.joined = k.recovery.Join(), true // before the card's lock, which a reset takes
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone.Load() {
		return ErrGone
	}
	var err error
	if p.rings, p.tx, err = k.card.Rings(p, c); err != nil {
		return err
	}
	k.Ports = append(k.Ports, p)
	p.listed = true
	if k.idle { // a reset will do it all
		p.Halt()
		return nil
	}
	if err := p.start(); err != nil {
		return err
	}
	if err := k.card.Direct(); err != nil {
		return err
	}
	s, err := k.card.Sync(p)
	if err == nil {
		p.look(s)
		p.changes = 0
	}
	return err
}

// RingSize returns how many buffers a queue has for receiving, where the device
// has most: no more than an eighth of the pool, so that several ports of a worker
// leave it enough to work with.
func (p *Port) RingSize(c *drivers.Config, most int) int {
	for most > minRing && most > c.Pool.Frames()/8/len(p.Queues) {
		most /= 2
	}
	return most
}

// Room checks that buffers have room for the largest frame, of so many bytes.
func (p *Port) Room(c *drivers.Config, need, have int) error {
	if need > have {
		return fmt.Errorf("MTU %d needs %d bytes a frame, a buffer has %d: %w", p.k.MTU, need, have, drivers.ErrUnsupported)
	}
	return nil
}

// Leads reports whether the port sees to the device's own counters, of which
// there is one set for all ports.
func (p *Port) Leads() bool { return p.share.Leads() }

// Stats is where the port counts.
func (p *Port) Stats() *drivers.Stats { return p.stats }

// start gives the device the port's rings, which are as new. The caller holds
// k.mu.
func (p *Port) start() error {
	if err := p.k.card.Start(p); err != nil {
		return err
	}
	p.rx, p.halted, p.waited = p.rings, false, false
	return nil
}

// Rx takes received frames from the queues in turn.
func (p *Port) Rx(b []pktbuf.Packet) int {
	if len(p.rx) == 1 {
		return p.rx[0].Rx(b, p.stats)
	}
	n := 0
	for i := range p.rx {
		n += p.rx[(p.next+i)%len(p.rx)].Rx(b[n:], p.stats)
	}
	p.next++
	return n
}

// Tx queues frames for sending.
func (p *Port) Tx(b []pktbuf.Packet) int {
	if p.halted {
		return 0
	}
	return p.tx.Tx(b, p.stats)
}

// Flush has the device send what is queued, and takes back what it has sent.
func (p *Port) Flush() {
	if p.part.Pending() {
		p.part.Step(p)
	}
	if !p.halted {
		p.tx.Flush(p.stats)
	}
}

// Fd turns the interrupt on and returns what it makes readable.
func (p *Port) Fd() int {
	fd := p.Event.Fd()
	if fd < 0 || p.halted {
		return -1
	}
	p.Event.Clear()
	p.k.card.Arm(p)
	for _, r := range p.rx { // what came before the interrupt was on
		if r.Waiting() > 0 {
			p.Event.Raise()
			break
		}
	}
	return fd
}

// Sync looks at the link and whether the device still works, and reads its
// counters.
func (p *Port) Sync() {
	k := p.k
	if p.Leads() && pci.Wanted(k.Device) {
		k.wanted.Store(true)
	}
	if p.halted || k.gone.Load() {
		return
	}
	s, err := k.card.Sync(p)
	if err != nil {
		k.Lose()
		p.link, p.speed = false, 0
		return
	}
	p.look(s)
	broken := p.hangs() || p.tx.Broken() || s.Broken
	for _, r := range p.rx {
		broken = r.Broken() || broken
	}
	if broken {
		k.recovery.Ask()
	}
}

// look notes the state of the link.
func (p *Port) look(s State) {
	switch {
	case s.Up != p.link:
		p.changes++
	case s.Blinked:
		p.changes += 2
	}
	p.link, p.speed = s.Up, 0
	if s.Up {
		p.speed = s.Speed
	}
}

// hangs reports whether the link is up and the device has sent nothing of what
// waits since Sync was last called.
func (p *Port) hangs() bool {
	waits, done := p.tx.Waiting() > 0, p.tx.Done()
	hangs := waits && p.waited && done == p.stuck && p.link
	p.waited, p.stuck = waits, done
	return hangs
}

// Info describes the port.
func (p *Port) Info() drivers.Info {
	k := p.k
	i := drivers.Info{
		Driver: k.Driver, Name: p.share.Name, MAC: k.MAC, MTU: k.MTU, Queues: len(p.rings), ZeroCopy: true,
		LinkUp: p.link, LinkChanges: p.changes, Speed: p.speed, Resets: k.recovery.Resets(), Backlog: true,
		Wanted: k.wanted.Load(),
	}
	if k.gone.Load() {
		i.Fault, i.LinkUp = "device does not answer", false
		return i
	}
	for _, r := range p.rx {
		i.RxWaiting += r.Waiting()
	}
	i.TxWaiting = p.tx.Waiting()
	return i
}

// Halt leaves the rings alone until the card has been reset.
func (p *Port) Halt() { p.rx, p.halted = nil, true }

// ResetCard resets the card, whose ports have all halted.
func (p *Port) ResetCard() {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	p.k.restart()
}

// Restart goes on after a reset. What had not been sent is lost.
func (p *Port) Restart() {
	k := p.k
	if k.gone.Load() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.idle {
		return // halted again meanwhile: another reset is to come
	}
	p.stats.TxDrop += uint64(p.tx.Rewind())
	if p.start() != nil {
		k.Lose()
	}
}

// Close stops the port's queues and gives every buffer back.
func (p *Port) Close() error {
	k := p.k
	var errs []error
	if p.listed {
		reset, err := p.stop()
		if errs = append(errs, err); reset {
			k.recovery.Ask()
		}
	}
	if p.joined {
		p.part.Leave(p)
	}
	if p.Vector >= 0 {
		k.mu.Lock()
		k.Events.Give(p.Vector)
		k.mu.Unlock()
	}
	for _, r := range p.rings {
		errs = append(errs, r.Close())
	}
	if p.tx != nil {
		errs = append(errs, p.tx.Close())
	}
	p.rx, p.rings, p.Vector, p.joined, p.listed, p.halted = nil, nil, -1, false, false, true
	return errors.Join(append(errs, p.share.Release())...)
}

// stop ends the device's use of the port's rings, before their buffers go back.
// Where that cannot be had for one port alone, or the device does not do it, the
// device reaches no memory at all from now on, and is to be reset: the other
// ports start again then.
func (p *Port) stop() (reset bool, err error) {
	k := p.k
	k.mu.Lock()
	defer k.mu.Unlock()
	k.Ports = slices.DeleteFunc(k.Ports, func(o *Port) bool { return o == p })
	if k.idle || k.gone.Load() {
		return false, nil
	}
	stopped, err := k.card.Stop(p)
	switch {
	case len(k.Ports) == 0:
		return false, k.halt()
	case stopped:
		return false, nil
	}
	halted := k.halt()
	if halted == nil && k.gone.Load() {
		err = nil // what is not there does not stop
	}
	return true, errors.Join(err, halted)
}
