package ixgbe

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"vita/drivers"
	"vita/drivers/internal/intel"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// Port is one worker's part of a card.
type Port struct {
	rx    []*intel.RxRing // rings, while the device has them
	tx    *intel.TxRing
	next  int // the ring that Rx looks at first
	stats *drivers.Stats
	card  *Card
	share *nic.Share[*Card]
	part  nic.Member

	mac     [6]byte
	vector  int
	event   *nic.Event
	joined  bool
	halted  bool // the card is being reset
	rings   []*intel.RxRing
	buffer  int // bytes of a buffer that the device may write
	link    bool
	speed   int
	changes int
	stuck   uint32 // what the sender had done when Sync last looked
	waited  bool   // there was something to send then already
	skipped bool   // a descriptor for receiving had been passed over
}

const (
	ringSize  = 1024 // descriptors of a ring, at most
	minRing   = 32
	maxBuffer = 16 << 10 // SRRCTL.BSIZEPACKET (section 8.2.3.8.7)
)

func open(c *drivers.Config) (*Port, error) {
	share, err := cards.Acquire(c)
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
	if err := p.open(c); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if c.Log != nil {
		how := "by hash"
		if p.card.pools {
			how = "by address"
		}
		c.Log(fmt.Sprintf("ixgbe on %s: queues %v of %d, %s, %d descriptors for receiving", share.Name, share.Queues, p.card.Queues(), how, p.size(c)))
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
	if !k.answers() {
		return errGone
	}
	if k.pools && !wantsPool(c) {
		return fmt.Errorf("other ports of the device have an address and a queue each, without VLANs: %w", drivers.ErrUnsupported)
	}
	// The device writes whole buffers of so many KiB.
	p.buffer = min((c.Pool.FrameSize()-pktbuf.Headroom)&^1023, maxBuffer)
	if k.max > p.buffer {
		return fmt.Errorf("MTU %d needs %d bytes a frame, a buffer has %d: %w", k.mtu, k.max, p.buffer, drivers.ErrUnsupported)
	}
	// Recovery takes its own lock before the card's.
	p.part, p.joined = k.recovery.Join(), true
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.admit(p); err != nil {
		return err
	}
	for _, q := range p.share.Queues {
		r, err := intel.NewRx(k.device, intel.RxOptions{
			Size: p.size(c), Pool: c.Pool, IOVA: p.share.IOVA, Buffer: p.buffer, Errors: rxError,
			Tail: k.r, Reg: rxRegs(k.hardware(q)) + qTail,
		})
		if err != nil {
			return err
		}
		p.rings = append(p.rings, r)
	}
	var err error
	if p.tx, err = intel.NewTx(k.device, intel.TxOptions{
		Size: ringSize, Pool: c.Pool, IOVA: p.share.IOVA, Command: txData, Payload: txPayload, MaxFrame: k.max,
		Tail: k.r, Reg: txRegs(k.hardware(p.share.Queues[0])) + qTail,
	}); err != nil {
		return err
	}
	p.vector, p.event = k.events.Take()
	k.ports = append(k.ports, p)
	p.start()
	k.route()
	p.look()
	p.changes = 0
	return nil
}

// start gives the device the port's rings, which are as new (sections 4.6.7.1
// and 4.6.8.1). A queue's tail may be written once the queue says that it is on.
func (p *Port) start() {
	k := p.card
	for i, q := range p.share.Queues {
		r := p.rings[i]
		at, n := r.IOVA()
		regs := rxRegs(k.hardware(q))
		k.place(regs, at, n)
		k.r.Write32(regs+qSRRCTL, uint32(p.buffer>>10)|srrctlOne|srrctlDrop)
		k.clear(regs+qDCA, dcaRelaxed)
		k.r.Write32(regs+qControl, queueEnable)
		_ = k.wait(regs+qControl, queueEnable, queueEnable, 10*time.Millisecond)
		r.Start()
		if p.vector >= 0 {
			k.interrupts(q, p.vector)
		}
	}
	at, n := p.tx.IOVA()
	regs := txRegs(k.hardware(p.share.Queues[0]))
	k.place(regs, at, n)
	k.r.Write32(regs+qControl, prefetch|available<<8|queueEnable)
	_ = k.wait(regs+qControl, queueEnable, queueEnable, 10*time.Millisecond)
	p.rx, p.halted, p.waited, p.skipped = p.rings, false, false, false
}

// place tells a queue where its ring is.
func (k *Card) place(regs int, at uint64, n int) {
	k.r.Write32(regs+qBaseLow, uint32(at))
	k.r.Write32(regs+qBaseHigh, uint32(at>>32))
	k.r.Write32(regs+qLength, uint32(n))
	k.r.Write32(regs+qHead, 0)
	k.r.Write32(regs+qTail, 0)
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
	k := p.card
	p.event.Clear()
	if p.vector < eicrVectors {
		// What came while the interrupt was off would raise it, but has been taken.
		k.r.Write32(regEICR, 1<<p.vector)
	}
	k.r.Write32(regEIMSEx+4*(p.vector/32), 1<<(p.vector%32))
	_ = k.r.Read32(regSTATUS) // both have arrived there
	for _, r := range p.rx {  // what came before that, or waits still
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
	if p.halted || !p.look() {
		return
	}
	k := p.card
	for _, q := range p.share.Queues {
		p.stats.RxDrop += k.dropped(q)
	}
	if p.share.Leads() {
		k.count(p.stats)
	}
	p.watch()
}

// look reads the state of the link (section 8.2.3.22.20).
func (p *Port) look() bool {
	v := p.card.r.Read32(regLINKS)
	if v == allOnes && !p.card.answers() {
		p.link, p.speed = false, 0
		return false
	}
	up := v&linksUp != 0
	if up != p.link {
		p.link = up
		p.changes++
	}
	p.speed = 0
	if up {
		p.speed = [...]int{0, 100, 1000, 10000}[v>>linksSpeed&3]
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

// count adds what the device as a whole has counted since it was last read.
func (k *Card) count(s *drivers.Stats) {
	for _, c := range [...]struct {
		reg int
		to  *uint64
	}{
		{statRxMcast, &s.RxMcast},
		{statRxBcast, &s.RxBcast},
		{statTxMcast, &s.TxMcast},
		{statTxBcast, &s.TxBcast},
		{statMissed, &s.RxDrop}, // of the one packet buffer that is used
		{statCRC, &s.RxErrors},
		{statIllegal, &s.RxErrors},
		{statByte, &s.RxErrors},
		{statLength, &s.RxErrors},
		{statShort, &s.RxErrors},
		{statFragment, &s.RxErrors},
		{statLong, &s.RxErrors},
		{statJabber, &s.RxErrors},
	} {
		if v := k.r.Read32(c.reg); v != allOnes {
			*c.to += uint64(v)
		}
	}
}

// Info describes the port.
func (p *Port) Info() drivers.Info {
	k := p.card
	i := drivers.Info{
		Driver: "ixgbe", Name: p.share.Name, MAC: k.mac, MTU: k.mtu, Queues: len(p.rings), ZeroCopy: true,
		LinkUp: p.link, LinkChanges: p.changes, Speed: p.speed, Resets: k.recovery.Resets(), Backlog: true,
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
	k := p.card
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.reset()
	if err == nil {
		err = pci.SetMaster(k.device, true) // which turnOff may have taken away
	}
	if err != nil {
		k.gone.Store(true)
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
	p.stats.TxDrop += uint64(p.tx.Rewind())
	p.start()
}

// Close stops the port's queues and gives every buffer back.
func (p *Port) Close() error {
	k := p.card
	var errs []error
	if p.joined {
		errs = append(errs, p.stop())
		p.part.Leave(p)
	}
	k.mu.Lock()
	k.events.Give(p.vector)
	last := len(k.ports) == 0
	k.mu.Unlock()
	// The last port stops the whole device first, so that no buffer goes back
	// that it might still write.
	if last && k.answers() {
		_ = k.stop() // or the reset that follows does
	}
	for _, r := range p.rings {
		errs = append(errs, r.Close())
	}
	if p.tx != nil {
		errs = append(errs, p.tx.Close())
	}
	p.rx, p.rings, p.tx, p.joined, p.halted = nil, nil, nil, false, true
	return errors.Join(append(errs, p.share.Release())...)
}

// stop turns the port's queues off, after frames go to others (sections 4.6.7.1
// and 4.6.8.1): what has been given for sending is sent, and a frame on its way
// to memory gets there.
func (p *Port) stop() error {
	if p.turnOff() {
		return nil
	}
	p.card.recovery.Ask() // which ends what the device still does
	return fmt.Errorf("queues %v do not stop: the device is being reset", p.share.Queues)
}

// turnOff reports whether the queues are off, or will be with the whole device.
func (p *Port) turnOff() bool {
	k := p.card
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ports = slices.DeleteFunc(k.ports, func(o *Port) bool { return o == p })
	if !k.answers() {
		return true
	}
	k.route()
	regs := txRegs(k.hardware(p.share.Queues[0]))
	for end := time.Now().Add(10 * time.Millisecond); k.r.Read32(regs+qHead) != k.r.Read32(regs+qTail) && time.Now().Before(end); {
		time.Sleep(50 * time.Microsecond)
	}
	stopped := k.disable(regs)
	for _, q := range p.share.Queues {
		stopped = k.disable(rxRegs(k.hardware(q))) && stopped
	}
	time.Sleep(100 * time.Microsecond)
	if stopped || len(k.ports) == 0 || !k.answers() {
		return true
	}
	// The port's buffers go back now: until the reset the device, which may still
	// write to them, reaches no memory at all.
	if err := pci.SetMaster(k.device, false); err != nil {
		k.gone.Store(true)
	}
	return false
}

func (k *Card) disable(regs int) bool {
	k.clear(regs+qControl, queueEnable)
	return k.wait(regs+qControl, queueEnable, 0, 10*time.Millisecond)
}
