package vmxnet3

import (
	"encoding/binary"
	"fmt"
	"testing"

	"vita/drivers"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/model"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// chip is a vmxnet3: what one does, and what a hostile one may do. It works when
// it is told of frames to be sent, on the goroutine that does so. Two of them
// are joined by a wire that loses nothing: a frame for which the receiver has no
// buffer stays with the sender.
type chip struct {
	m    *model.Device
	peer *chip
	own  [6]byte // permanent address
	mac  [6]byte // that is received
	link uint32

	low, command uint32
	shared       uint64
	active       bool
	tx           []txQueue
	rx           []rxQueueOf
	features     uint64
	rss          [rssSize]byte
	mode         uint32
	masked, due  [maxVectors]bool
	events       uint32
	wrong        []string
	lawless      bool // memory has what a fuzzer has written: what the device finds there says nothing of the driver
	working      bool // against recursion, when peers tell each other

	most      int                                       // queues that it has
	revisions uint32                                    // that it has
	hangs     bool                                      // sends nothing any more before it is reset
	stays     bool                                      // does not obey resets
	lossy     bool                                      // drops what the receiver has no buffer for
	lie       func(q int, a, b uint64) (uint64, uint64) // changes what it says of a received frame
	lieSent   func(q int, a, b uint64) (uint64, uint64) // and of a sent one
	skip      int                                       // buffers that it passes over before each that it uses
	rare      int                                       // reports every so manyth frame that it has sent; 0 = those that it is asked for
	sent      int
}

// place is a ring from the device's side.
type place struct {
	at   uint64
	size uint32
	next uint32 // ever counting
}

func (p *place) here() uint64 { return p.at + 16*uint64(p.next%p.size) }
func (p *place) gen() uint64  { return uint64(p.next/p.size&1) ^ 1 }

type txQueue struct {
	ring, done place
	vector     uint8
	stats      [10]uint64
}

type rxQueueOf struct {
	ring, done place
	vector     uint8
	stats      [10]uint64
}

// Counters of both, in their order.
const (
	countMcast = 4
	countBcast = 6
	count8     = 8 // sent: errors; received: no buffer
	count9     = 9
)

var chips int // for addresses

func newChip(t testing.TB) *chip {
	t.Helper()
	chips++
	c := &chip{own: [6]byte{0, 0x50, 0x56, 1, byte(chips >> 8), byte(chips)}, link: 10000<<16 | 1, most: 8, revisions: 7}
	o := model.Options{
		Address: fmt.Sprintf("vmxnet3:%d", chips), ID: pci.ID{Vendor: vendor, Device: device},
		BARs: []int{bar0Size, bar1Size}, Chip: c, Vectors: maxVectors, NoReset: true,
	}
	c.m = model.New(o)
	c.Reset()
	t.Cleanup(backend.Provide(o.Address, backend.Source{ID: o.ID, Open: c.m.Open}))
	t.Cleanup(func() {
		if c.lawless {
			return
		}
		for _, w := range c.wrong {
			t.Errorf("device %s: %s", o.Address, w)
		}
		if n := c.m.Faults(); n > 0 {
			t.Errorf("device %s: %d accesses to memory that is not its own", o.Address, n)
		}
	})
	return c
}

func (c *chip) fault(format string, a ...any) { c.wrong = append(c.wrong, fmt.Sprintf(format, a...)) }

// Reset is what the reset command does.
func (c *chip) Reset() {
	c.active, c.shared, c.mac, c.hangs = false, 0, c.own, false
	for i := range c.masked {
		c.masked[i], c.due[i] = true, false
	}
}

// Load answers for registers.
func (c *chip) Load(bar, off, _ int) uint64 {
	if bar == 0 {
		return 0
	}
	switch off {
	case regRevision:
		return uint64(c.revisions)
	case regUPT:
		return 1
	case regCommand:
		return uint64(c.result())
	}
	return 0
}

func (c *chip) result() uint32 {
	var b [8]byte
	copy(b[:], c.own[:])
	switch c.command {
	case cmdActivate:
		if c.active {
			return 0
		}
		return 1
	case cmdReset, cmdQuiesce:
		if c.stays {
			return 1
		}
	case cmdGetLink:
		return c.link
	case cmdGetMACLow:
		return binary.LittleEndian.Uint32(b[:])
	case cmdGetMACHi:
		return binary.LittleEndian.Uint32(b[4:])
	}
	return 0
}

// Store is a write of a register.
func (c *chip) Store(bar, off, size int, x uint64) {
	if size != 4 || off%regStep != 0 {
		c.fault("write of %d bytes at %#x", size, off)
	}
	if bar == 0 {
		c.storeFast(off, uint32(x))
		return
	}
	switch off {
	case regRevision, regUPT:
		if x != 1 {
			c.fault("revision %d", x)
		}
	case regSharedLow:
		c.low = uint32(x)
	case regSharedHigh:
		c.shared = x<<32 | uint64(c.low)
	case regMACLow:
		binary.LittleEndian.PutUint32(c.mac[:], uint32(x))
	case regMACHigh:
		binary.LittleEndian.PutUint16(c.mac[4:], uint16(x))
	case regEvents:
		c.note(-uint32(x))
	case regCommand:
		c.command = uint32(x)
		c.obey()
	}
}

func (c *chip) storeFast(off int, x uint32) {
	switch {
	case off >= regTx && off < regTx+8*regStep:
		if !c.active || (off-regTx)/regStep >= len(c.tx) {
			c.fault("told of frames of queue %d, active %v", (off-regTx)/regStep, c.active)
			return
		}
		c.send()
	case off >= regRx && off < regRx+8*regStep:
		if c.peer != nil {
			c.peer.send()
		}
	case off < maxVectors*regStep:
		v := off / regStep
		c.masked[v] = x != 0
		c.raise(v, false)
	}
}

// raise makes an interrupt due, and signals it if it may.
func (c *chip) raise(v int, due bool) {
	c.due[v] = c.due[v] || due
	if c.due[v] && !c.masked[v] {
		c.due[v], c.masked[v] = false, true
		c.m.Signal(v)
	}
}

// note adds events to those that the driver may read, or takes some out.
func (c *chip) note(events uint32) {
	if int32(events) < 0 {
		c.events &^= -events
	} else {
		c.events |= events
	}
	if c.active {
		binary.LittleEndian.PutUint32(c.mem(c.shared+shEvents, 4), c.events)
	}
}

// setLink changes the link, as a hypervisor would.
func (c *chip) setLink(up bool) {
	c.link = 0
	if up {
		c.link = 10000<<16 | 1
	}
	c.note(evLink)
}

func (c *chip) mem(at uint64, n int) []byte {
	if b := c.m.At(at, n); b != nil {
		return b
	}
	return make([]byte, n)
}

func (c *chip) obey() {
	switch c.command {
	case cmdQuiesce:
		c.active = c.active && c.stays
	case cmdReset:
		if !c.stays {
			c.Reset()
		}
	case cmdActivate:
		c.activate()
	case cmdRxMode:
		c.mode = binary.LittleEndian.Uint32(c.mem(c.shared+shRxMode, 4))
	case cmdRSSTable:
		c.learn()
	case cmdGetStats:
		c.tell()
	case cmdVLANs:
		for i, b := range c.mem(c.shared+shVLANs, vlanBytes) {
			if b != 0xff {
				c.fault("VLANs from %d on: %#x", 8*i, b)
				break
			}
		}
	}
}

func (c *chip) learn() {
	b := c.mem(c.shared+shRSS, 16)
	if n := binary.LittleEndian.Uint32(b[4:]); n != rssSize {
		c.fault("RSS of %d bytes", n)
	}
	copy(c.rss[:], c.mem(binary.LittleEndian.Uint64(b[8:]), rssSize))
}

// queue returns how a queue is described, those for receiving from len(c.tx) on.
func (c *chip) queue(i int) []byte {
	at := binary.LittleEndian.Uint64(c.mem(c.shared+shQueues, 8))
	return c.mem(at+uint64(i)*queueSize, queueSize)
}

// activate reads what the driver shares.
func (c *chip) activate() {
	le, b := binary.LittleEndian, c.mem(c.shared, sharedSize)
	n := int(b[shTxQueues])
	if n > c.most {
		return
	}
	at := le.Uint64(b[shQueues:])
	if le.Uint32(b[shMagic:]) != magic || b[shRxQueues] != b[shTxQueues] || n == 0 || at%128 != 0 ||
		le.Uint32(b[shQueuesLen:]) != uint32(2*n*queueSize) || int(b[shInterrupts]) > maxVectors || int(b[shEventVector]) >= int(b[shInterrupts]) {
		c.fault("activated with % x", b[:128])
		return
	}
	c.features = le.Uint64(b[shFeatures:])
	c.tx, c.rx = make([]txQueue, n), make([]rxQueueOf, n)
	ring := func(b []byte, at, size int) place {
		p := place{at: le.Uint64(b[at:]), size: le.Uint32(b[size:])}
		if p.at%ringAlign != 0 || p.size%32 != 0 || p.size == 0 || c.m.At(p.at, 16*int(p.size)) == nil {
			c.fault("ring of %d descriptors at %#x", p.size, p.at)
			p.size = 32
		}
		return p
	}
	for i := range c.tx {
		b := c.queue(i)
		c.tx[i] = txQueue{ring: ring(b, qdRing, qdRingSize), done: ring(b, qdDone, qdDoneSize), vector: b[qdVector]}
		b = c.queue(n + i)
		c.rx[i] = rxQueueOf{ring: ring(b, qdRing, qdRingSize), done: ring(b, qdDone, qdDoneSize), vector: b[qdVector]}
		_ = ring(b, qdRing2, qdRing2Size)
		b[qdAsk] = 1
	}
	c.learn()
	c.mode, c.active, c.events = le.Uint32(b[shRxMode:]), true, 0
}

// tell writes the counters.
func (c *chip) tell() {
	if !c.active {
		return
	}
	for i := range c.tx {
		b, d := c.queue(i), c.queue(len(c.tx)+i)
		for j := range c.tx[i].stats {
			binary.LittleEndian.PutUint64(b[88+8*j:], c.tx[i].stats[j])
			binary.LittleEndian.PutUint64(d[88+8*j:], c.rx[i].stats[j])
		}
	}
}

func count(s *[10]uint64, frame []byte) {
	switch {
	case [6]byte(frame) == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		s[countBcast]++
	case frame[0]&1 != 0:
		s[countMcast]++
	}
}

// send puts what waits on the wire, as far as the other side takes it.
func (c *chip) send() {
	if c.working || c.hangs || !c.active {
		return
	}
	c.working = true
	defer func() { c.working = false }()
	for i := range c.tx {
		for q := &c.tx[i]; ; {
			d := c.mem(q.ring.here(), 16)
			w := binary.LittleEndian.Uint64(d[8:])
			if w>>txGen&1 != q.ring.gen() {
				break
			}
			frame := c.m.At(binary.LittleEndian.Uint64(d), int(w&descLen))
			if len(frame) < ethernetLen || w&txEnd == 0 {
				c.fault("frame to be sent of %d bytes: %#x", len(frame), w)
			} else if c.peer != nil && c.peer.active && c.peer.link&1 != 0 && !c.peer.receive(frame) {
				if !c.peer.lossy {
					break
				}
			}
			if len(frame) >= ethernetLen {
				count(&q.stats, frame)
			}
			at := q.ring.next % q.ring.size
			q.ring.next++
			c.sent++
			if w&txAsk != 0 && c.rare == 0 || c.rare > 0 && c.sent%c.rare == 0 {
				c.report(i, uint64(at), 0)
			}
		}
	}
}

// report writes that a frame was sent.
func (c *chip) report(i int, a, b uint64) {
	q := &c.tx[i]
	if c.lieSent != nil {
		a, b = c.lieSent(i, a, b)
	}
	d := c.mem(q.done.here(), 16)
	binary.LittleEndian.PutUint64(d, a)
	binary.LittleEndian.PutUint64(d[8:], b|q.done.gen()<<doneGen)
	q.done.next++
	c.raise(int(q.vector), true)
}

// takes reports whether a frame passes the filter.
func (c *chip) takes(frame []byte) bool {
	switch {
	case c.mode&rxPromisc != 0:
		return true
	case frame[0] == 0xff:
		return c.mode&rxBroadcast != 0
	case frame[0]&1 != 0:
		return c.mode&rxAllMulti != 0
	}
	return c.mode&rxUnicast != 0 && [6]byte(frame) == c.mac
}

// receive takes a frame from the wire, or has no buffer for it.
func (c *chip) receive(frame []byte) bool {
	if !c.active {
		return false
	}
	if !c.takes(frame) {
		return true
	}
	i := 0
	if c.features&featRSS != 0 {
		key := [drivers.RSSKeyLen]byte(c.rss[rssKey:])
		if hash, ok := nic.HashFrame(&key, frame, true); ok {
			i = int(c.rss[rssTable+hash%rssTableSize]) % len(c.rx)
		}
	}
	q := &c.rx[i]
	for range c.skip {
		d := c.mem(q.ring.here(), 16)
		if binary.LittleEndian.Uint64(d[8:])>>rxGen&1 == q.ring.gen() {
			q.ring.next++
		}
	}
	d := c.mem(q.ring.here(), 16)
	w := binary.LittleEndian.Uint64(d[8:])
	if w>>rxGen&1 != q.ring.gen() {
		if c.lossy {
			q.stats[count8]++
		}
		return false
	}
	room := c.m.At(binary.LittleEndian.Uint64(d), int(w&descLen))
	a, b := uint64(q.ring.next%q.ring.size)|rxStart|rxEnd|uint64(i)<<rxQueue, uint64(0)
	n := copy(room, frame)
	if n < len(frame) {
		b |= rxError
		q.stats[count9]++
	} else {
		count(&q.stats, frame)
	}
	b |= uint64(n)
	q.ring.next++
	if c.lie != nil {
		a, b = c.lie(i, a, b)
	}
	e := c.mem(q.done.here(), 16)
	binary.LittleEndian.PutUint64(e, a)
	binary.LittleEndian.PutUint64(e[8:], b&^(1<<doneGen)|q.done.gen()<<doneGen)
	q.done.next++
	c.raise(int(q.vector), true)
	return true
}

// join makes a wire between two devices.
func join(a, b *chip) { a.peer, b.peer = b, a }

func openOn(c *chip, config drivers.Config) (drivers.Port, error) {
	config.PCI = c.m.Address()
	return Open(config)
}
