package vmxnet3

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"vita/drivers"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// Card is an open device. It is told of all its queues when it is activated,
// whether a port will use them or not: those of nobody have no buffers, and no
// frames go there. A single queue cannot be stopped.
type Card struct {
	device   pci.Device
	fast     *mmio.Window // BAR 0
	slow     *mmio.Window // BAR 1
	pairs    []pair
	shared   *dma.Memory // and how queues are described, and RSS
	rings    *dma.Memory
	queues   int // offset of the queues' descriptions in shared
	rss      int // offset
	want     drivers.RSS
	mac      [6]byte
	mtu      int
	most     int // bytes of the largest frame, with a VLAN tag
	recovery nic.Recovery
	gone     atomic.Bool
	command  sync.Mutex // over the command register, whose result is read from it

	mu     sync.Mutex // over what follows; ports open and close, and a reset
	events *nic.Events
	ports  []*Port
	idle   bool // it was reset, and does nothing before it is activated again
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
}

const (
	tagLen      = 4
	maxMTU      = 9000
	maxPairs    = 8
	ringMost    = 1024 // descriptors of a ring
	secondSize  = 32
	frameMin    = 1514
	maxVectors  = 25
	queuesAt    = 768 // behind what is shared, a multiple of 128
	describedBy = 2 * queueSize
)

// errGone says that the device no longer answers.
var errGone = errors.New("the device does not answer: it was taken away, or has failed")

// openCard brings a device to where it has queues, and frames go to nobody.
func openCard(d pci.Device, c *drivers.Config) (*Card, error) {
	k := &Card{device: d, mtu: c.MTU, want: drivers.RSS{Key: nic.RSSKey}, idle: true}
	if k.mtu == 0 {
		k.mtu = 1500
	}
	if k.mtu < 68 || k.mtu > maxMTU {
		return nil, fmt.Errorf("MTU %d: the device has 68 to %d: %w", k.mtu, maxMTU, drivers.ErrUnsupported)
	}
	k.most = k.mtu + ethernetLen + tagLen
	if c.RSS != nil {
		k.want = *c.RSS
	}
	if err := k.find(); err != nil {
		return nil, err
	}
	if err := pci.SetMaster(d, true); err != nil {
		return nil, err
	}
	var err error
	if k.events, err = nic.OpenEvents(d, maxPairs+1); err != nil {
		return nil, err
	}
	if err := k.layOut(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	// How many queues it has nobody says: as many as it is activated with.
	for err = k.start(); err != nil && len(k.pairs) > 1 && !errors.Is(err, errGone); err = k.start() {
		for _, p := range k.pairs[len(k.pairs)/2:] {
			k.events.Give(p.vector)
		}
		k.pairs = k.pairs[:len(k.pairs)/2]
		if err = k.reset(); err != nil {
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
		w, err := k.device.BAR(b.n)
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
			return errGone
		}
		if v&revision == 0 {
			return fmt.Errorf("the device has the revisions %#x of its interface, and not the first: %w", v, drivers.ErrUnsupported)
		}
		k.slow.Write32(reg, revision)
	}
	if err := k.reset(); err != nil {
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
	copy(k.mac[:], b[:])
	if k.mac == ([6]byte{}) || k.mac[0]&1 != 0 {
		return fmt.Errorf("the device has no valid address: % x", k.mac)
	}
	return nil
}

// do gives a command and returns its result.
func (k *Card) do(command uint32) (uint32, error) {
	k.command.Lock()
	defer k.command.Unlock()
	k.slow.Write32(regCommand, command)
	v := k.slow.Read32(regCommand)
	if v == allOnes && k.slow.Read32(regRevision) == allOnes {
		return 0, errGone
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

// reset ends the device's use of memory, and has it forget what it was told.
func (k *Card) reset() error {
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
	if k.rings, err = dma.Alloc(k.device, 8*each*maxPairs); err != nil {
		return err
	}
	k.queues = queuesAt
	k.rss = k.queues + maxPairs*describedBy
	if k.shared, err = dma.Alloc(k.device, k.rss+rssSize); err != nil {
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
		p.vector, p.event = k.events.Take()
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

// start tells a device that was reset of all, and activates it. The caller holds
// k.mu, or nobody else has the card.
func (k *Card) start() error {
	k.describe()
	k.slow.Write32(regSharedLow, uint32(k.shared.IOVA))
	k.slow.Write32(regSharedHigh, uint32(k.shared.IOVA>>32))
	if err := k.must(cmdActivate); err != nil {
		return err
	}
	for v := range len(k.pairs) + 1 {
		k.fast.Write32(regMask+regStep*v, 1)
	}
	k.idle = false
	return k.direct()
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
	le.PutUint32(b[shMTU:], uint32(k.mtu))
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

// events32 returns the events that the device has noted.
func (k *Card) events32() uint32 { return binary.LittleEndian.Uint32(k.shared.Bytes[shEvents:]) }

// spread writes by which hash, and over which queues, frames are spread. The
// caller holds k.mu, or nobody else has the card.
func (k *Card) spread() {
	var open []int
	for _, p := range k.ports {
		open = append(open, p.share.Queues...)
	}
	slices.Sort(open)
	le, b := binary.LittleEndian, k.shared.Bytes[k.rss:]
	le.PutUint16(b[rssTypes:], rssIPv4|rssTCPv4|rssIPv6|rssTCPv6)
	le.PutUint16(b[rssFunction:], rssToeplitz)
	le.PutUint16(b[rssKeyLen:], drivers.RSSKeyLen)
	le.PutUint16(b[rssTableLen:], rssTableSize)
	copy(b[rssKey:], k.want.Key[:])
	nic.Spread(b[rssTable:rssTable+rssTableSize], open, k.want.Table)
}

// direct tells the device which frames are received, and by which queues. The
// caller holds k.mu, or nobody else has the card.
func (k *Card) direct() error {
	k.spread()
	if len(k.pairs) > 1 {
		if _, err := k.do(cmdRSSTable); err != nil {
			return err
		}
	}
	// Groups are all received: solicited-node addresses of neighbour discovery
	// are many, and the worker looks at them anyway. The device has one address
	// of its own to give up, if that is enough.
	mac, mode := k.mac, uint32(rxUnicast|rxBroadcast|rxAllMulti)
	for i, p := range k.ports {
		want := p.mac
		if want == ([6]byte{}) {
			want = k.mac
		}
		if i > 0 && want != mac {
			mac, mode = k.mac, mode|rxPromisc
			break
		}
		mac = want
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

// halt ends the device's use of memory, for good or until start. The caller
// holds k.mu.
func (k *Card) halt() error {
	k.idle = true
	if k.gone.Load() {
		return nil
	}
	if err := k.reset(); err != nil {
		k.gone.Store(true) // one that cannot be reset is as good as gone
		if !errors.Is(err, errGone) {
			return errors.Join(err, k.master(false))
		}
	}
	return nil
}

// master lets the device use memory, or not. One that is gone cannot.
func (k *Card) master(on bool) error {
	if err := pci.SetMaster(k.device, on); err != nil && !pci.Gone(k.device) {
		return err
	}
	return nil
}

// Queues returns how many pairs of queues there are for ports.
func (k *Card) Queues() int { return len(k.pairs) }

// Close stops the device.
func (k *Card) Close() error {
	return errors.Join(k.halt(), k.events.Close(k.device), k.master(false), k.rings.Free(), k.shared.Free())
}
