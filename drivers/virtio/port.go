package virtio

import (
	"errors"
	"fmt"
	"slices"

	"vita/drivers"
	"vita/drivers/internal/nic"
	"vita/internal/pktbuf"
)

// Port is one worker's part of a card.
type Port struct {
	rx    []*rxRing // none while halted
	tx    *txRing
	next  int // the ring that Rx looks at first
	stats *drivers.Stats
	card  *Card
	share *nic.Share[*Card]
	part  nic.Member

	mac     [6]byte    // zero: the device's own
	event   *nic.Event // nil: its worker polls
	halted  bool       // the card is being reset
	joined  bool
	rings   []*rxRing // rx, also while halted
	link    bool
	speed   int
	changes int
	version uint8  // of the device's configuration, which counts its changes
	stuck   uint32 // what the sender had done when Sync last looked
	waited  bool   // there was something to send then already
}

const minRing = 32

func openPort(cards *nic.Cards[*Card], c drivers.Config) (drivers.Port, error) {
	share, err := cards.Acquire(&c)
	if err != nil {
		return nil, err
	}
	p := &Port{share: share, card: share.Card, stats: c.Stats, mac: c.MAC}
	if p.stats == nil {
		p.stats = new(drivers.Stats)
	}
	if err := p.open(&c); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if c.Log != nil {
		c.Log(fmt.Sprintf("virtio on %s: queues %v of %d, %d buffers for receiving", share.Name, share.Queues, len(p.card.pairs), len(p.rings[0].slots)))
	}
	return p, nil
}

// size returns how many buffers a queue has for receiving: no more than an
// eighth of the pool, so that several ports of a worker leave it enough to work
// with.
func (p *Port) size(c *drivers.Config, q *queue) int {
	n := q.size
	for n > minRing && n > c.Pool.Frames()/8/len(p.share.Queues) {
		n /= 2
	}
	return n
}

func (p *Port) open(c *drivers.Config) error {
	k := p.card
	if k.gone.Load() {
		return errGone
	}
	room := max(k.most, frameMin)
	if room > c.Pool.FrameSize()-pktbuf.Headroom {
		return fmt.Errorf("MTU %d needs %d bytes a frame, a buffer has %d: %w", k.mtu, room, c.Pool.FrameSize()-pktbuf.Headroom, drivers.ErrUnsupported)
	}
	p.part, p.joined = k.recovery.Join(), true // before the lock, which a reset takes
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, q := range p.share.Queues {
		v := k.pairs[q].rx
		r, err := newRx(v, p.size(c, v), c.Pool, p.share.IOVA, headerLen+room)
		if err != nil {
			return err
		}
		p.rings = append(p.rings, r)
	}
	if len(p.share.Queues) == 1 { // else no one descriptor is for all
		p.event = k.pairs[p.share.Queues[0]].event
	}
	p.tx = newTx(k.pairs[p.share.Queues[0]].tx, c.Pool, p.share.IOVA, k.most)
	k.ports = append(k.ports, p)
	if k.idle { // the reset that is under way will do it all
		p.Halt()
		return nil
	}
	for _, q := range p.share.Queues {
		if !k.pairs[q].on {
			if err := k.turnOn(q); err != nil {
				return err
			}
		}
	}
	p.start()
	if err := k.direct(); err != nil {
		return err
	}
	p.look()
	p.changes = 0
	return nil
}

// start gives the device the port's buffers.
func (p *Port) start() {
	for _, r := range p.rings {
		r.start()
	}
	p.rx = p.rings
	p.halted, p.waited = false, false
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
	if p.event == nil || p.event.Fd() < 0 || p.halted {
		return -1
	}
	p.event.Clear()
	p.rx[0].q.arm()
	if p.rx[0].waiting() > 0 { // came before the interrupt was on
		p.event.Raise()
	}
	return p.event.Fd()
}

// Sync looks at the link and whether the device still works.
func (p *Port) Sync() {
	k := p.card
	if p.halted || k.gone.Load() {
		return
	}
	status := k.common.r8(deviceStatus)
	if status == statusGone {
		k.gone.Store(true)
		p.link, p.speed = false, 0
		return
	}
	p.look()
	broken := p.tx.q.quit || status&statusNeedsReset != 0 || status&statusDriverOK == 0
	for _, r := range p.rx {
		broken = broken || r.q.quit
	}
	if broken || p.hangs() {
		k.recovery.Ask()
	}
}

// look reads the state of the link. A configuration that has changed though the
// link has not is one that went and came back (2.5).
func (p *Port) look() {
	version := p.card.common.r8(configGeneration)
	up, speed := p.card.link()
	switch {
	case up != p.link:
		p.changes++
	case version != p.version:
		p.changes += 2
	}
	p.link, p.speed, p.version = up, speed, version
}

// hangs reports whether the link is up and the device has sent nothing of what
// waits since Sync was last called.
func (p *Port) hangs() bool {
	waits, sent := p.tx.waiting() > 0, p.tx.sent
	hangs := waits && p.waited && sent == p.stuck && p.link
	p.waited, p.stuck = waits, sent
	return hangs
}

// Info describes the port.
func (p *Port) Info() drivers.Info {
	k := p.card
	i := drivers.Info{
		Driver: "virtio", Name: p.share.Name, MAC: k.mac, MTU: k.mtu, Queues: len(p.rings), ZeroCopy: true,
		LinkUp: p.link, LinkChanges: p.changes, Speed: p.speed, Resets: k.recovery.Resets(), Backlog: true,
	}
	if k.gone.Load() {
		i.Fault, i.LinkUp = "device does not answer", false
		return i
	}
	for _, r := range p.rx {
		i.RxWaiting += r.waiting()
	}
	i.TxWaiting = p.tx.waiting()
	return i
}

// Halt leaves the rings alone until the card has been reset.
func (p *Port) Halt() { p.rx, p.halted = nil, true }

// ResetCard resets the card, whose ports have all halted.
func (p *Port) ResetCard() {
	k := p.card
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.halt() != nil || k.gone.Load() || k.start() != nil {
		_ = k.halt()
		k.gone.Store(true)
	}
}

// Restart goes on after a reset. What had not been sent is lost.
func (p *Port) Restart() {
	if p.card.gone.Load() {
		return
	}
	p.stats.TxDrop += uint64(p.tx.rewind())
	p.start()
}

// Close stops the port's queues and gives every buffer back.
func (p *Port) Close() error {
	k := p.card
	var errs []error
	if p.joined {
		stopped, err := p.stop()
		if errs = append(errs, err); !stopped {
			k.recovery.Ask()
		}
		p.part.Leave(p)
	}
	for _, r := range p.rings {
		r.close()
	}
	if p.tx != nil {
		p.tx.rewind()
	}
	p.rx, p.rings, p.joined, p.halted = nil, nil, false, true
	return errors.Join(append(errs, p.share.Release())...)
}

// stop ends the device's use of the port's queues, after frames go to others.
// Where that cannot be had for one port alone it ends all use of memory, and
// reports that the card has to be reset: the other ports start again then.
func (p *Port) stop() (stopped bool, err error) {
	k := p.card
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ports = slices.DeleteFunc(k.ports, func(o *Port) bool { return o == p })
	if len(k.ports) == 0 || k.gone.Load() || k.idle {
		return true, k.halt()
	}
	stopped = k.direct() == nil
	for _, q := range p.share.Queues {
		stopped = stopped && k.turnOff(q)
	}
	if !stopped {
		err = k.halt()
	}
	return stopped, err
}
