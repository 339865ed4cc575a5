package vmxnet3

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"vita/drivers"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// Card is an open device. It is told of all its queues when it is activated,
// whether a port will use them or not: those of nobody have no buffers, and no
// frames go there. A single queue cannot be stopped.
type Card struct {
	nic.Common
	fast    *mmio.Window // BAR 0
	slow    *mmio.Window // BAR 1
	pairs   []pair
	shared  *dma.Memory // and how queues are described, and RSS
	rings   *dma.Memory
	queues  int        // offset of the queues' descriptions in shared
	rss     int        // offset
	most    int        // bytes of the largest frame, with a VLAN tag
	command sync.Mutex // over the command register, whose result is read from it
}

// pair is a queue for receiving with one for sending.
type pair struct {
	rx     rxRing
	tx     txRing
	second uint64 // where the device sees the second ring for receiving, which is empty
	doneRx uint64
	doneTx uint64
	ringRx uint64
	ringTx uint64
	vector int
	event  *nic.Event

	counted [4]uint64 // received, as the device had counted when it was last asked
	sent    [4]uint64
}

const (
	maxPairs    = 8
	ringMost    = 1024 // descriptors of a ring
	secondSize  = 32
	frameMin    = 1514
	maxVectors  = 25
	queuesAt    = 768 // behind what is shared, a multiple of 128
	describedBy = 2 * queueSize
)

// openCard brings a device to where it has queues, and frames go to nobody.
func openCard(d pci.Device, c *drivers.Config) (*Card, error) {
	k := new(Card)
	k.Begin("vmxnet3", k, d, c)
	if err := k.ChooseMTU(c.MTU, nic.MaxMTU); err != nil {
		return nil, err
	}
	k.most = k.MaxFrame()
	if err := k.find(); err != nil {
		return nil, err
	}
	if err := k.Power(maxPairs + 1); err != nil {
		return nil, err
	}
	if err := k.layOut(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	// How many queues it has nobody says: as many as it is activated with.
	var err error
	for err = k.Setup(); err != nil && len(k.pairs) > 1 && !errors.Is(err, nic.ErrGone); err = k.Setup() {
		for _, p := range k.pairs[len(k.pairs)/2:] {
			k.Events.Give(p.vector)
		}
		k.pairs = k.pairs[:len(k.pairs)/2]
		if err = k.Reset(); err != nil {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// find resets the device, agrees on a revision, and reads its address.
func (k *Card) find() error {
	for _, b := range []struct {
		n    int
		to   **mmio.Window
		size int
	}{{0, &k.fast, bar0Size}, {1, &k.slow, bar1Size}} {
		w, err := k.Device.BAR(b.n)
		if err != nil {
			return err
		}
		if w.Size() < b.size {
			return fmt.Errorf("%d bytes of registers: want %d: %w", w.Size(), b.size, drivers.ErrUnsupported)
		}
		*b.to = w
	}
	for _, reg := range []int{regRevision, regUPT} {
		v := k.slow.Read32(reg)
		if v == allOnes {
			return nic.ErrGone
		}
		if v&revision == 0 {
			return fmt.Errorf("the device has the revisions %#x of its interface, and not the first: %w", v, drivers.ErrUnsupported)
		}
		k.slow.Write32(reg, revision)
	}
	if err := k.Reset(); err != nil {
		return err
	}
	var b [8]byte
	low, err := k.do(cmdGetMACLow)
	if err != nil {
		return err
	}
	high, err := k.do(cmdGetMACHi)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(b[:], low)
	binary.LittleEndian.PutUint32(b[4:], high)
	copy(k.MAC[:], b[:])
	return k.ValidMAC("")
}

// do gives a command and returns its result.
func (k *Card) do(command uint32) (uint32, error) {
	k.command.Lock()
	defer k.command.Unlock()
	k.slow.Write32(regCommand, command)
	v := k.slow.Read32(regCommand)
	if v == allOnes && k.slow.Read32(regRevision) == allOnes {
		return 0, nic.ErrGone
	}
	return v, nil
}

// must gives a command that has to succeed.
func (k *Card) must(command uint32) error {
	v, err := k.do(command)
	if err == nil && v != 0 {
		err = fmt.Errorf("the device refuses command %#x: result %#x", command, v)
	}
	return err
}

// Reset ends the device's use of memory, and has it forget what it was told.
func (k *Card) Reset() error {
	if err := k.must(cmdQuiesce); err != nil {
		return err
	}
	return k.must(cmdReset)
}

// layOut takes the memory that is shared with the device.
func (k *Card) layOut() error {
	const done = 2 * ringMost // no fewer than the descriptors of both rings
	const each = 2 * (ringMost + secondSize + done + ringMost + ringMost)
	var err error
	if k.rings, err = dma.Alloc(k.Device, 8*each*maxPairs); err != nil {
		return err
	}
	k.queues = queuesAt
	k.rss = k.queues + maxPairs*describedBy
	if k.shared, err = dma.Alloc(k.Device, k.rss+rssSize); err != nil {
		return err
	}
	at := 0
	cut := func(n int) (w []uint64, iova uint64) {
		w, iova = k.rings.Words[at:at+2*n:at+2*n], k.rings.IOVA+8*uint64(at)
		at += 2 * n
		return w, iova
	}
	k.pairs = make([]pair, maxPairs)
	for i := range k.pairs {
		p := &k.pairs[i]
		p.vector, p.event = k.Events.Take()
		var a, b []uint64
		a, p.ringRx = cut(ringMost)
		b, p.doneRx = cut(done)
		p.rx = rxRing{ring: newRing(a, b), queue: uint64(i), bell: k.fast, reg: regRx + regStep*i}
		_, p.second = cut(secondSize)
		a, p.ringTx = cut(ringMost)
		b, p.doneTx = cut(ringMost)
		p.tx = txRing{ring: newRing(a, b), bell: k.fast, reg: regTx + regStep*i}
	}
	return nil
}

// Setup tells a device that was reset of all, and activates it.
func (k *Card) Setup() error {
	k.describe()
	k.slow.Write32(regSharedLow, uint32(k.shared.IOVA))
	k.slow.Write32(regSharedHigh, uint32(k.shared.IOVA>>32))
	if err := k.must(cmdActivate); err != nil {
		return err
	}
	for v := range len(k.pairs) + 1 {
		k.fast.Write32(regMask+regStep*v, 1)
	}
	return k.Direct()
}

// describe writes what the device reads when it is activated.
func (k *Card) describe() {
	le, b, n := binary.LittleEndian, k.shared.Bytes, len(k.pairs)
	clear(b)
	le.PutUint32(b[shMagic:], magic)
	le.PutUint32(b[shVersion:], 1)
	le.PutUint32(b[shGuest:], guestLinux64)
	le.PutUint32(b[shRevisions:], revision)
	le.PutUint32(b[shUPTs:], revision)
	if n > 1 {
		le.PutUint64(b[shFeatures:], featRSS)
	}
	le.PutUint64(b[shQueues:], k.shared.IOVA+uint64(k.queues))
	le.PutUint32(b[shQueuesLen:], uint32(n*describedBy))
	le.PutUint32(b[shMTU:], uint32(k.MTU))
	le.PutUint16(b[shMaxSG:], 1)
	b[shTxQueues], b[shRxQueues] = uint8(n), uint8(n)
	// An interrupt for each queue that receives, and one for what nobody waits
	// for, which stays masked.
	b[shAutoMask], b[shInterrupts], b[shEventVector] = 1, uint8(n+1), uint8(n)
	for i := range vlanBytes { // tags are the worker's
		b[shVLANs+i] = 0xff
	}
	le.PutUint32(b[shRSS:], 1)
	le.PutUint32(b[shRSS+4:], rssSize)
	le.PutUint64(b[shRSS+8:], k.shared.IOVA+uint64(k.rss))
	for i := range k.pairs {
		p := &k.pairs[i]
		p.rx.wipe()
		p.tx.wipe()
		p.counted, p.sent = [4]uint64{}, [4]uint64{} // it starts anew when it is activated
		tx, rx := k.described(i)
		le.PutUint64(tx[qdRing:], p.ringTx)
		le.PutUint64(tx[qdDone:], p.doneTx)
		le.PutUint32(tx[qdRingSize:], p.tx.mask+1)
		le.PutUint32(tx[qdDoneSize:], p.tx.mask+1)
		tx[qdVector] = uint8(n)
		le.PutUint64(rx[qdRing:], p.ringRx)
		le.PutUint64(rx[qdRing2:], p.second)
		le.PutUint64(rx[qdDone:], p.doneRx)
		le.PutUint32(rx[qdRingSize:], p.rx.mask+1)
		le.PutUint32(rx[qdRing2Size:], secondSize)
		le.PutUint32(rx[qdDoneSize:], uint32(len(p.rx.done)/2))
		rx[qdVector] = uint8(i)
		p.rx.ask = rx[qdAsk : qdAsk+1 : qdAsk+1]
	}
	k.spread()
}

// described returns how a pair of queues is described.
func (k *Card) described(i int) (tx, rx []byte) {
	at := k.queues + i*queueSize
	tx = k.shared.Bytes[at : at+queueSize : at+queueSize]
	at += len(k.pairs) * queueSize
	return tx, k.shared.Bytes[at : at+queueSize : at+queueSize]
}

// events returns the events that the device has noted.
func (k *Card) events() uint32 { return binary.LittleEndian.Uint32(k.shared.Bytes[shEvents:]) }

// spread writes by which hash, and over which queues, frames are spread.
func (k *Card) spread() {
	le, b := binary.LittleEndian, k.shared.Bytes[k.rss:]
	le.PutUint16(b[rssTypes:], rssIPv4|rssTCPv4|rssIPv6|rssTCPv6)
	le.PutUint16(b[rssFunction:], rssToeplitz)
	le.PutUint16(b[rssKeyLen:], drivers.RSSKeyLen)
	le.PutUint16(b[rssTableLen:], rssTableSize)
	copy(b[rssKey:], k.RSS.Key[:])
	nic.Spread(b[rssTable:rssTable+rssTableSize], k.Open(), k.RSS.Table)
}

// Direct tells the device which frames are received, and by which queues.
func (k *Card) Direct() error {
	k.spread()
	if len(k.pairs) > 1 {
		if _, err := k.do(cmdRSSTable); err != nil {
			return err
		}
	}
	// Groups are all received: solicited-node addresses of neighbour discovery
	// are many, and the worker looks at them anyway. The device has one address
	// of its own to give up, if that is enough.
	mac, mode := k.MAC, uint32(rxUnicast|rxBroadcast|rxAllMulti)
	for i, p := range k.Ports {
		if i > 0 && p.MAC != mac {
			mac, mode = k.MAC, mode|rxPromisc
			break
		}
		mac = p.MAC
	}
	var b [8]byte
	copy(b[:], mac[:])
	k.slow.Write32(regMACLow, binary.LittleEndian.Uint32(b[:]))
	k.slow.Write32(regMACHigh, binary.LittleEndian.Uint32(b[4:]))
	binary.LittleEndian.PutUint32(k.shared.Bytes[shRxMode:], mode)
	for _, c := range []uint32{cmdVLANs, cmdRxMode} {
		if _, err := k.do(c); err != nil {
			return err
		}
	}
	return nil
}

// Rings makes a port's rings. Their memory is the card's.
func (k *Card) Rings(p *nic.Port, c *drivers.Config) (rx []nic.RxRing, tx nic.TxRing, err error) {
	room := max(k.most, frameMin)
	if err := p.Room(c, room, c.Pool.FrameSize()-pktbuf.Headroom); err != nil {
		return nil, nil, err
	}
	for _, q := range p.Queues {
		r := &k.pairs[q].rx
		if err := r.take(p.RingSize(c, ringMost)-1, c.Pool, p.IOVA, room); err != nil {
			return rx, nil, err
		}
		rx = append(rx, r)
	}
	first := &k.pairs[p.Queues[0]]
	if len(p.Queues) == 1 { // else no one descriptor is for all
		p.Event = first.event
	}
	first.tx.take(c.Pool, p.IOVA, k.most)
	return rx, &first.tx, nil
}

// Start gives the device a port's buffers.
func (k *Card) Start(p *nic.Port) error {
	for _, q := range p.Queues {
		k.pairs[q].rx.start()
	}
	return nil
}

// Stop does nothing: one port's queues cannot be stopped. All commands of the
// interface, also of its later revisions as far as they are public, are to the
// device as a whole; of a queue the device says that it has stopped, and cannot
// be told to. The table of RSS leads new frames to other queues, but leaves the
// device the buffers of this one, some of which it may have taken out of the ring
// to write to.
func (k *Card) Stop(*nic.Port) (bool, error) { return false, nil }

// Arm turns the interrupt on, which turns itself off when it is raised. The
// device remembers one that was due while it was off: it is raised at once then,
// and the worker wakes for nothing.
func (k *Card) Arm(p *nic.Port) { k.fast.Write32(regMask+regStep*p.Queues[0], 0) }

// Sync reads the link, the counters, and what has happened.
func (k *Card) Sync(p *nic.Port) (nic.State, error) {
	if _, err := k.do(cmdGetStats); err != nil {
		return nic.State{}, err
	}
	link, err := k.do(cmdGetLink)
	if err != nil {
		return nic.State{}, err
	}
	k.count(p)
	s := nic.State{Up: link&1 != 0, Speed: int(link >> 16)}
	if p.Leads() {
		events := k.events()
		if events != 0 {
			k.slow.Write32(regEvents, events)
		}
		s.Blinked, s.Broken = events&evLink != 0, events&(evRxError|evTxError) != 0
	}
	return s, nil
}

// count adds what the device has counted since it was last asked.
func (k *Card) count(p *nic.Port) {
	s := p.Stats()
	for i, q := range p.Queues {
		tx, rx := k.described(q)
		v := &k.pairs[q]
		for j, c := range [...]struct {
			from []byte
			to   *uint64
		}{
			{rx[qdMcast:], &s.RxMcast},
			{rx[qdBcast:], &s.RxBcast},
			{rx[qdDrops:], &s.RxDrop},
			{rx[qdErrors:], &s.RxErrors},
		} {
			add(&v.counted[j], c.from, c.to)
		}
		if i > 0 {
			continue // all is sent by the first one
		}
		for j, c := range [...]struct {
			from []byte
			to   *uint64
		}{
			{tx[qdMcast:], &s.TxMcast},
			{tx[qdBcast:], &s.TxBcast},
			{tx[qdDrops:], &s.TxErrors},
			{tx[qdErrors:], &s.TxDrop},
		} {
			add(&v.sent[j], c.from, c.to)
		}
	}
}

func add(before *uint64, from []byte, to *uint64) {
	v := binary.LittleEndian.Uint64(from)
	if v >= *before {
		*to += v - *before
	}
	*before = v
}

// Queues returns how many pairs of queues there are for ports.
func (k *Card) Queues() int { return len(k.pairs) }

// Close stops the device.
func (k *Card) Close() error {
	return errors.Join(k.Common.Close(), k.rings.Free(), k.shared.Free())
}
