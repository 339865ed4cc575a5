package gbe

import (
	"errors"
	"fmt"
	"slices"

	"vita/drivers"
	"vita/drivers/internal/intel"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// Port is one worker's part of a card.
type Port struct {
	rx    []*intel.RxRing
	tx    *intel.TxRing
	next  int // the ring that Rx looks at first
	stats *drivers.Stats
	card  *Card
	share *nic.Share[*Card]
	part  nic.Member

	mac     [6]byte // zero: the device's own
	vector  int
	event   *nic.Event
	halted  bool            // the card is being reset
	joined  bool            // its card knows of it
	started bool            // the device has had its rings
	rings   []*intel.RxRing // rx, also while halted
	out     *intel.TxRing
	buffer  int
	link    bool
	speed   int
	changes int
	stuck   uint32 // what the sender had done when Sync last looked
	waited  bool   // there was something to send then already
	skipped bool   // a receive descriptor was passed over then already
}

const (
	ringSize = 1024 // descriptors of a ring, at most
	minRing  = 32
)

// Open opens a port of a card of the family.
func Open(cards *nic.Cards[*Card], c drivers.Config) (drivers.Port, error) {
	share, err := cards.Acquire(&c)
	if err != nil {
		return nil, err
	}
	p := &Port{share: share, card: share.Card, stats: c.Stats, mac: c.MAC, vector: -1, event: &nic.Event{}}
	if p.stats == nil {
		p.stats = new(drivers.Stats)
	}
	if p.mac == ([6]byte{}) {
		p.mac = p.card.mac
	}
	if err := p.open(&c); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if c.Log != nil {
		how := "by hash"
		if p.card.pools {
			how = "by address"
		}
		c.Log(fmt.Sprintf("%s on %s: queues %v of %d, %s, %d descriptors for receiving", p.card.F.Name, share.Name, share.Queues, p.card.queues, how, p.size(&c)))
	}
	return p, nil
}

// size returns how many descriptors a ring for receiving has: no more than an
// eighth of the pool, so that several ports of a worker leave it enough to work
// with.
func (p *Port) size(c *drivers.Config) int {
	n := ringSize
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
	if k.pools && !wantsPool(c) {
		return fmt.Errorf("other ports of the device have an address and a queue each, without VLANs: %w", drivers.ErrUnsupported)
	}
	// The device writes whole buffers of so many KiB.
	p.buffer = (c.Pool.FrameSize() - pktbuf.Headroom) &^ 1023
	if k.Max > p.buffer {
		return fmt.Errorf("MTU %d needs %d bytes a frame, a buffer has %d: %w", k.mtu, k.Max, p.buffer, drivers.ErrUnsupported)
	}
	p.buffer = min(p.buffer, 15<<10)
	// Recovery takes its own lock before the card's.
	p.part, p.joined = k.recovery.Join(), true
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.admit(p); err != nil {
		return err
	}
	for _, q := range p.share.Queues {
		r, err := intel.NewRx(k.device, intel.RxOptions{
			Size: p.size(c), Pool: c.Pool, IOVA: p.share.IOVA, Buffer: p.buffer, Errors: k.F.RxErrors,
			Tail: k.R, Reg: k.F.RxQueue + q*k.F.Stride + qTail,
		})
		if err != nil {
			return err
		}
		p.rings = append(p.rings, r)
	}
	var err error
	if p.out, err = intel.NewTx(k.device, intel.TxOptions{
		Size: ringSize, Pool: c.Pool, IOVA: p.share.IOVA, Command: k.F.TxCommand, Payload: k.F.TxPayload, MaxFrame: k.Max,
		Tail: k.R, Reg: k.F.TxQueue + p.share.Queues[0]*k.F.Stride + qTail,
	}); err != nil {
		return err
	}
	p.vector, p.event = k.events.Take()
	k.ports = append(k.ports, p)
	p.started = true
	p.start()
	k.route()
	p.look()
	p.changes = 0
	return nil
}

// start gives the device the port's rings, which are as new.
func (p *Port) start() {
	k := p.card
	for i, q := range p.share.Queues {
		r := p.rings[i]
		at, n := r.IOVA()
		k.place(k.F.RxQueue+q*k.F.Stride, at, n)
		k.F.StartRx(k, q, p.buffer)
		r.Start()
		if p.vector >= 0 {
			k.F.Route(k, q, p.vector)
		}
	}
	q := p.share.Queues[0]
	at, n := p.out.IOVA()
	k.place(k.F.TxQueue+q*k.F.Stride, at, n)
	k.F.StartTx(k, q)
	p.rx, p.tx = p.rings, p.out
	p.halted, p.waited, p.skipped = false, false, false
}

// place tells a queue where its ring is.
func (k *Card) place(queue int, at uint64, n int) {
	k.R.Write32(queue+qBaseLow, uint32(at))
	k.R.Write32(queue+qBaseHigh, uint32(at>>32))
	k.R.Write32(queue+qLength, uint32(n))
	k.R.Write32(queue+qHead, 0)
	k.R.Write32(queue+qTail, 0)
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
		p.tx.Flush()
	}
}

// Fd turns the interrupt on and returns what it makes readable.
func (p *Port) Fd() int {
	fd := p.event.Fd()
	if fd < 0 || p.halted {
		return -1
	}
	p.event.Clear()
	p.card.F.Arm(p.card, p.share.Queues, p.vector)
	for _, r := range p.rx { // what came before the interrupt was on
		if r.Ready(0) {
			p.event.Raise()
			break
		}
	}
	return fd
}

// Sync looks at the link and whether the device still works, and reads its
// counters.
func (p *Port) Sync() {
	if p.halted || p.card.gone.Load() {
		return
	}
	before := p.changes
	if !p.look() {
		return
	}
	for _, q := range p.share.Queues {
		p.stats.RxDrop += p.card.F.Dropped(p.card, q)
	}
	if p.share.Leads() {
		p.card.count(p.stats)
		if p.card.R.Read32(p.card.F.ICR)&icrLink != 0 && p.changes == before {
			p.changes += 2 // it went and came back
		}
	}
	p.watch()
}

// look reads the state of the link. A device that is gone answers with ones.
func (p *Port) look() bool {
	v := p.card.R.Read32(regSTATUS)
	if v == allOnes {
		p.card.lost()
		p.link, p.speed = false, 0
		return false
	}
	up := v&statusLink != 0
	if up != p.link {
		p.link = up
		p.changes++
	}
	p.speed = 0
	if up {
		p.speed = [...]int{10, 100, 1000, 1000}[v>>statusSpeed&3]
	}
	return true
}

// watch asks for a reset where, since Sync was last called, the device has sent
// nothing of what waits though the link is up, or has passed over a descriptor
// for receiving.
func (p *Port) watch() {
	waits, done := p.tx.Waiting() > 0, p.tx.Done()
	if waits && p.waited && done == p.stuck && p.link {
		p.card.recovery.Ask()
	}
	p.waited, p.stuck = waits, done
	skipped := false
	for _, r := range p.rx {
		skipped = skipped || !r.Ready(0) && r.Ready(1)
	}
	if skipped && p.skipped {
		p.card.recovery.Ask()
	}
	p.skipped = skipped
}

// count adds what the device has counted since it was last read.
func (k *Card) count(s *drivers.Stats) {
	for _, c := range [...]struct {
		reg int
		to  *uint64
	}{
		{statRxMcast, &s.RxMcast},
		{statRxBcast, &s.RxBcast},
		{statTxMcast, &s.TxMcast},
		{statTxBcast, &s.TxBcast},
		{statMissed, &s.RxDrop},
		{statCRC, &s.RxErrors},
		{statAlign, &s.RxErrors},
		{statRxErr, &s.RxErrors},
		{statLength, &s.RxErrors},
		{statFragment, &s.RxErrors},
		{statOversize, &s.RxErrors},
		{statJabber, &s.RxErrors},
		{statUndersize, &s.RxErrors},
		{statExcess, &s.TxErrors},
		{statLate, &s.TxErrors},
	} {
		if v := k.R.Read32(c.reg); v != allOnes {
			*c.to += uint64(v)
		}
	}
}

// Info describes the port.
func (p *Port) Info() drivers.Info {
	k := p.card
	i := drivers.Info{
		Driver: k.F.Name, Name: p.share.Name, MAC: k.mac, MTU: k.mtu, Queues: len(p.rings), ZeroCopy: true,
		LinkUp: p.link, LinkChanges: p.changes, Speed: p.speed, Resets: k.recovery.Resets(), Backlog: true,
	}
	if k.gone.Load() {
		i.Fault, i.LinkUp = "device does not answer", false
		return i
	}
	for _, r := range p.rx {
		i.RxWaiting += r.Waiting()
	}
	i.TxWaiting = p.out.Waiting()
	return i
}

// Halt leaves the rings alone until the card has been reset.
func (p *Port) Halt() { p.rx, p.halted = nil, true }

// ResetCard resets the card, whose ports have all halted.
func (p *Port) ResetCard() {
	k := p.card
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.reset()
	if err == nil {
		err = pci.SetMaster(k.device, true) // which turnOff may have taken away
	}
	if err != nil {
		k.lost()
		return
	}
	k.setup()
}

// Restart goes on after a reset. What had not been sent is lost.
func (p *Port) Restart() {
	if p.card.gone.Load() {
		return
	}
	p.card.mu.Lock()
	defer p.card.mu.Unlock()
	for _, r := range p.rings {
		r.Rewind()
	}
	p.stats.TxDrop += uint64(p.out.Rewind())
	p.start()
}

// Close stops the port's queues and gives every buffer back.
func (p *Port) Close() error {
	k := p.card
	var errs []error
	if p.started {
		errs = append(errs, p.stop())
	}
	if p.joined {
		p.part.Leave(p)
	}
	k.mu.Lock()
	if p.vector >= 0 {
		k.events.Give(p.vector)
	}
	last := len(k.ports) == 0
	k.mu.Unlock()
	// The last port stops the whole device first, so that no buffer goes back
	// that it might still write.
	if last && !k.gone.Load() {
		k.stop()
	}
	for _, r := range p.rings {
		errs = append(errs, r.Close())
	}
	if p.out != nil {
		errs = append(errs, p.out.Close())
	}
	p.rx, p.rings, p.out, p.joined, p.started, p.halted = nil, nil, nil, false, false, true
	return errors.Join(append(errs, p.share.Release())...)
}

// stop turns the port's queues off, after frames go to others. Where one does
// not stop, the device is reset as soon as its other ports have halted.
func (p *Port) stop() error {
	k := p.card
	if p.turnOff() {
		return nil
	}
	k.recovery.Ask()
	return fmt.Errorf("queues %v do not stop: the device is being reset", p.share.Queues)
}

// turnOff reports whether the queues are off, as far as that matters.
func (p *Port) turnOff() bool {
	k := p.card
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ports = slices.DeleteFunc(k.ports, func(o *Port) bool { return o == p })
	if k.gone.Load() {
		return true
	}
	k.route()
	stopped := k.F.StopTx(k, p.share.Queues[0])
	for _, q := range p.share.Queues {
		stopped = k.F.StopRx(k, q) && stopped
	}
	if stopped || len(k.ports) == 0 || k.R.Read32(regSTATUS) == allOnes {
		return true
	}
	// The port's buffers go back now: until the reset the device, which may still
	// write to them, reaches no memory at all.
	if err := pci.SetMaster(k.device, false); err != nil {
		k.lost()
	}
	return false
}
