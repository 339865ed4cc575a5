package virtio

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"vita/drivers"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// Card is an open device. All its queues are set up before it starts, as virtio
// demands (3.1.1), whether a port will use them or not: those of nobody have no
// buffers.
type Card struct {
	nic.Common
	regs     region
	notify   region
	config   region
	step     int // between the notification registers of queues
	features uint64
	pairs    []pair
	every    int // pairs that the device has: what is behind them is the control queue
	control  *control
	mem      *dma.Memory
	most     int // bytes of the largest frame, with a VLAN tag
}

// pair is a receive queue with its transmit queue.
type pair struct {
	rx, tx *queue
	from   *rxRing // of rx, while a port has it
	on     bool    // the device uses the queues
	vector int
	event  *nic.Event

	version uint8 // of the device's configuration, which counts its changes, as its port has seen it
}

const (
	maxPairs  = 16
	queueMost = 1024 // entries of a queue
	queueMin  = 8
	frameMin  = 1514 // 5.1.6.3.1: so long at least may a received frame be
)

// patience is for what a device does at once. Tests have less of it.
var patience = 500 * time.Millisecond

// region is a structure of the device (4.1.4). Its place comes from the device
// and has been checked.
type region struct {
	w     *mmio.Window
	at, n int
}

func (r region) r8(off int) uint8        { return r.w.Read8(r.at + off) }
func (r region) r16(off int) uint16      { return r.w.Read16(r.at + off) }
func (r region) r32(off int) uint32      { return r.w.Read32(r.at + off) }
func (r region) w8(off int, v uint8)     { r.w.Write8(r.at+off, v) }
func (r region) w16(off int, v uint16)   { r.w.Write16(r.at+off, v) }
func (r region) w32(off int, v uint32)   { r.w.Write32(r.at+off, v) }
func (r region) w64(off int, v uint64)   { r.w32(off, uint32(v)); r.w32(off+4, uint32(v>>32)) } // 4.1.3.1
func (k *Card) has(features uint64) bool { return k.features&features == features }

// openCard brings a device to where it has queues, and frames go to nobody.
func openCard(d pci.Device, c *drivers.Config) (*Card, error) {
	k := new(Card)
	k.Begin("virtio", k, d, c)
	if err := k.find(); err != nil {
		return nil, err
	}
	if err := k.choose(c.MTU); err != nil {
		return nil, err
	}
	if err := k.Power(maxPairs); err != nil {
		return nil, err
	}
	if err := k.negotiate(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if err := k.layOut(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if err := k.run(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// find finds the device's structures by its capabilities (4.1.4). Of each it is
// the first that lies in memory.
func (k *Card) find() error {
	var failed error
	read := func(at, size int) int {
		v, err := k.Device.ReadConfig(at, size)
		failed = errors.Join(failed, err)
		return int(v)
	}
	err := pci.EachCapability(k.Device, func(id uint8, at int) bool {
		if id != pci.CapVendor {
			return true
		}
		var to *region
		var least int
		switch read(at+capType, 1) {
		case typeCommon:
			to, least = &k.regs, commonSize
		case typeNotify:
			to, least = &k.notify, 2
		case typeDevice:
			to, least = &k.config, cfgSize
		default:
			return true
		}
		off, n := read(at+capOffset, 4), read(at+capLength, 4)
		w, err := k.Device.BAR(read(at+capBAR, 1))
		if to.w != nil || err != nil || failed != nil || off%4 != 0 || n < least || off > w.Size() || n > w.Size()-off {
			return true // another one may do
		}
		*to = region{w, off, n}
		if to == &k.notify {
			k.step = read(at+capStep, 4)
		}
		return true
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if k.regs.w == nil || k.notify.w == nil || k.config.w == nil {
		return fmt.Errorf("the device has no registers of virtio 1.x in its memory: a hypervisor that can turns them on by disable-legacy=on or the like: %w", drivers.ErrUnsupported)
	}
	return nil
}

// choose resets the device and chooses among its features.
func (k *Card) choose(mtu int) error {
	if err := k.Reset(); err != nil {
		return err
	}
	k.regs.w8(deviceStatus, statusAcknowledge|statusDriver)
	k.regs.w32(deviceFeatureSelect, 0)
	offered := uint64(k.regs.r32(deviceFeature))
	k.regs.w32(deviceFeatureSelect, 1)
	offered |= uint64(k.regs.r32(deviceFeature)) << 32
	k.features = offered & featKnown
	if !k.has(featVersion1) {
		return fmt.Errorf("the device offers no VIRTIO_F_VERSION_1: %w", drivers.ErrUnsupported)
	}
	// 6.1: else its addresses are the machine's own, whatever an IOMMU has.
	if !k.has(featAccessPlatform) && !pci.Physical(k.Device) {
		return fmt.Errorf("the device goes round the IOMMU (no VIRTIO_F_ACCESS_PLATFORM): have the hypervisor send it through, in QEMU by iommu_platform=on: %w", drivers.ErrUnsupported)
	}
	if !k.has(featControl) {
		k.features &^= featControlRx | featMultiQueue | featRSS // 5.1.3.1
	}
	if k.config.n < cfgRSSEnd || k.has(featRSS) && (k.config.r8(cfgKeyMax) < drivers.RSSKeyLen || k.config.r16(cfgTableMax) == 0) {
		k.features &^= featRSS
	}
	if k.regs.n < commonResetSize {
		k.features &^= featRingReset
	}
	if k.config.n < cfgSpeedEnd {
		k.features &^= featSpeedDuplex
	}
	k.every = 1
	if k.features&(featMultiQueue|featRSS) != 0 {
		if k.every = int(k.config.r16(cfgMaxPairs)); k.every < 1 || k.every > 0x8000 {
			return fmt.Errorf("the device says that it has %d pairs of queues", k.every)
		}
	}
	if err := k.chooseMTU(mtu); err != nil {
		return err
	}
	return k.chooseMAC()
}

// chooseMTU takes what is asked for, and else what is usual, or less where the
// device has no more. The feature is a promise to use all of what the device
// says (5.1.4.2).
func (k *Card) chooseMTU(want int) error {
	most := nic.MaxMTU
	if k.has(featMTU) {
		most = min(most, int(k.config.r16(cfgMTU)))
	}
	if err := k.ChooseMTU(want, most); err != nil {
		return err
	}
	if k.MTU != most {
		k.features &^= featMTU
	}
	k.most = k.MaxFrame()
	return nil
}

// chooseMAC reads the device's address. One that has none gets one of those that
// anybody may use (5.1.4.2).
func (k *Card) chooseMAC() error {
	if !k.has(featMAC) {
		if _, err := rand.Read(k.MAC[:]); err != nil {
			return err
		}
		k.MAC[0] = k.MAC[0]&^1 | 2
		return nil
	}
	for i := range k.MAC {
		k.MAC[i] = k.config.r8(cfgMAC + i)
	}
	return k.ValidMAC("")
}

// layOut makes the queues, each as large as the device has it, up to what is of
// use.
func (k *Card) layOut() error {
	n := min(k.every, maxPairs)
	var all []*queue
	total := 0
	add := func(index int) (*queue, error) {
		v := &queue{index: index, events: k.has(featEventIdx), packed: k.has(featPacked)}
		k.regs.w16(queueSelect, uint16(index))
		n := queueMost
		for n > int(k.regs.r16(queueSize)) {
			n /= 2
		}
		v.resize(n)
		if v.size < queueMin || index >= int(k.regs.r16(numQueues)) {
			return nil, fmt.Errorf("queue %d of the device has %d entries: want %d", index, v.size, queueMin)
		}
		v.bell, v.reg = k.notify.w, int(k.regs.r16(queueNotifyOff))*k.step
		if v.reg%2 != 0 || v.reg > k.notify.n-2 {
			return nil, fmt.Errorf("queue %d of the device is notified at %#x of %#x", index, v.reg, k.notify.n)
		}
		v.reg += k.notify.at
		a, b, c := words(v.size)
		total += a + b + c
		all = append(all, v)
		return v, nil
	}
	for i := range n {
		p := pair{vector: -1}
		var err error
		if p.rx, err = add(2 * i); err != nil {
			return err
		}
		if p.tx, err = add(2*i + 1); err != nil {
			return err
		}
		p.vector, p.event = k.Events.Take()
		k.pairs = append(k.pairs, p)
	}
	if k.has(featControl) {
		v, err := add(2 * k.every)
		if err != nil {
			return err
		}
		k.control = &control{q: v, device: k.Device}
	}
	var err error
	if k.mem, err = dma.Alloc(k.Device, 8*(total+controlWords)); err != nil {
		return err
	}
	at := 0
	for _, v := range all {
		at = v.place(k.mem, at)
	}
	if k.control != nil {
		k.control.buffer, k.control.iova = k.mem.Bytes[8*at:8*(at+controlWords)], k.mem.IOVA+uint64(8*at)
	}
	return nil
}

// Reset brings the device to the state after power up, which ends its use of
// memory (2.4, 4.1.4.3.2).
func (k *Card) Reset() error {
	if k.regs.r8(deviceStatus) == statusGone {
		return nic.ErrGone
	}
	k.regs.w8(deviceStatus, 0)
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Microsecond) {
		switch k.regs.r8(deviceStatus) {
		case 0:
			return nil
		case statusGone:
			return nic.ErrGone
		}
		if time.Now().After(end) {
			return errors.New("the device does not come out of its reset")
		}
	}
}

// Setup has a device that was reset use its queues (3.1.1).
func (k *Card) Setup() error {
	if err := k.negotiate(); err != nil {
		return err
	}
	return k.run()
}

// negotiate tells a device that was reset which features are used. It shows its
// queues as they are only then.
func (k *Card) negotiate() error {
	k.regs.w8(deviceStatus, statusAcknowledge|statusDriver)
	k.regs.w32(driverFeatureSelect, 0)
	k.regs.w32(driverFeature, uint32(k.features))
	k.regs.w32(driverFeatureSelect, 1)
	k.regs.w32(driverFeature, uint32(k.features>>32))
	k.regs.w8(deviceStatus, statusAcknowledge|statusDriver|statusFeaturesOK)
	if k.regs.r8(deviceStatus)&statusFeaturesOK == 0 {
		return fmt.Errorf("the device refuses the features %#x, which it offers", k.features)
	}
	return nil
}

// run has it use the queues.
func (k *Card) run() error {
	k.regs.w16(configVector, noVector) // the link is looked at by Sync
	for i := range k.pairs {
		if err := k.turnOn(i); err != nil {
			return err
		}
	}
	if k.control != nil {
		if err := k.enable(k.control.q, -1); err != nil {
			return err
		}
	}
	k.regs.w8(deviceStatus, statusAcknowledge|statusDriver|statusFeaturesOK|statusDriverOK)
	return k.Direct()
}

// Rings makes a port's rings. Their memory is the card's.
func (k *Card) Rings(p *nic.Port, c *drivers.Config) (rx []nic.RxRing, tx nic.TxRing, err error) {
	room := max(k.most, frameMin)
	if err := p.Room(c, room, c.Pool.FrameSize()-pktbuf.Headroom); err != nil {
		return nil, nil, err
	}
	for _, q := range p.Queues {
		x := &k.pairs[q]
		if x.from, err = newRx(x.rx, p.RingSize(c, x.rx.size), c.Pool, p.IOVA, headerLen+room); err != nil {
			return rx, nil, err
		}
		rx = append(rx, x.from)
	}
	first := &k.pairs[p.Queues[0]]
	if len(p.Queues) == 1 { // else no one descriptor is for all
		p.Event = first.event
	}
	return rx, newTx(first.tx, c.Pool, p.IOVA, k.most), nil
}

// Start gives the device a port's buffers.
func (k *Card) Start(p *nic.Port) error {
	for _, q := range p.Queues {
		if !k.pairs[q].on {
			if err := k.turnOn(q); err != nil {
				return err
			}
		}
	}
	for _, q := range p.Queues {
		k.pairs[q].from.start()
	}
	return nil
}

// Stop ends the device's use of a port's queues, if it can do so without that of
// the others. With the last port the whole device is reset.
func (k *Card) Stop(p *nic.Port) (bool, error) {
	if len(k.Ports) == 0 || k.Direct() != nil {
		return false, nil
	}
	for _, q := range p.Queues {
		if !k.turnOff(q) {
			return false, nil
		}
	}
	return true, nil
}

// Arm has the next frame interrupt.
func (k *Card) Arm(p *nic.Port) { k.pairs[p.Queues[0]].rx.arm() }

// Sync looks at the state of the device. A configuration that has changed though
// the link has not is of a link that went and came back (2.5).
func (k *Card) Sync(p *nic.Port) (nic.State, error) {
	status := k.regs.r8(deviceStatus)
	if status == statusGone {
		return nic.State{}, nic.ErrGone
	}
	v := &k.pairs[p.Queues[0]]
	s := nic.State{Broken: status&statusNeedsReset != 0 || status&statusDriverOK == 0}
	version := k.regs.r8(configGeneration)
	s.Up, s.Speed = k.link()
	s.Blinked = version != v.version
	v.version = version
	return s, nil
}

// turnOn has the device use a pair of queues, which are as new.
func (k *Card) turnOn(i int) error {
	p := &k.pairs[i]
	if err := k.enable(p.rx, p.vector); err != nil {
		return err
	}
	p.on = true
	return k.enable(p.tx, -1)
}

// enable tells the device of a queue (4.1.5.1.3).
func (k *Card) enable(v *queue, vector int) error {
	v.rewind()
	c := k.regs
	c.w16(queueSelect, uint16(v.index))
	c.w16(queueSize, uint16(v.size))
	c.w64(queueDesc, v.descIOVA)
	c.w64(queueDriver, v.driverIOVA)
	c.w64(queueDevice, v.deviceIOVA)
	want := uint16(noVector)
	if vector >= 0 {
		want = uint16(vector)
	}
	c.w16(queueVector, want)
	if got := c.r16(queueVector); got != want {
		return fmt.Errorf("queue %d: the device has no interrupt %d", v.index, vector)
	}
	c.w16(queueEnable, 1)
	return nil
}

// turnOff ends the device's use of a pair of queues, where it can do so without
// that of the others (2.6.1, 4.1.4.3), and reports whether it has ended.
func (k *Card) turnOff(i int) bool {
	if !k.has(featRingReset) {
		return false
	}
	for _, v := range []*queue{k.pairs[i].rx, k.pairs[i].tx} {
		k.regs.w16(queueSelect, uint16(v.index))
		k.regs.w16(queueReset, 1)
		for end := time.Now().Add(patience); k.regs.r16(queueReset) != 0; time.Sleep(50 * time.Microsecond) {
			if time.Now().After(end) {
				return false
			}
		}
	}
	k.pairs[i].on = false
	return true
}

// Queues returns how many pairs of queues there are for ports.
func (k *Card) Queues() int { return len(k.pairs) }

// Close stops the device.
func (k *Card) Close() error {
	return errors.Join(k.Common.Close(), k.mem.Free())
}

// link reads the state of the link (5.1.4).
func (k *Card) link() (up bool, speed int) {
	up = !k.has(featStatus) || k.config.r16(cfgStatus)&linkUp != 0
	if up && k.has(featSpeedDuplex) {
		if v := k.config.r32(cfgSpeed); v <= 0x7fffffff {
			speed = int(v)
		}
	}
	return up, speed
}

// wanted returns the addresses that are received besides the device's own.
func (k *Card) wanted() [][6]byte {
	var out [][6]byte
	for _, p := range k.Ports {
		if p.MAC != k.MAC {
			out = append(out, p.MAC)
		}
	}
	return out
}

// Direct tells the device which frames are received, and by which queues.
func (k *Card) Direct() error {
	if err := k.filter(); err != nil {
		return err
	}
	open, n := k.Open(), 1
	if len(open) > 0 {
		n = open[len(open)-1] + 1
	}
	switch {
	case k.has(featRSS):
		return k.control.do(classMQ, mqRSS, k.hashing(open, n))
	case !k.has(featMultiQueue):
		return nil
	}
	// The device uses the first queues, whoever has them: ports are opened from
	// the first one on.
	return k.control.do(classMQ, mqPairs, binary.LittleEndian.AppendUint16(nil, uint16(n)))
}

// hashing describes by which hash, and over which queues, frames are spread
// (5.1.6.5.7.1). What has no hash goes to the first open queue.
func (k *Card) hashing(open []int, senders int) []byte {
	size := 1
	for size < 128 && 2*size <= int(k.config.r16(cfgTableMax)) {
		size *= 2
	}
	table := make([]uint8, size)
	nic.Spread(table, open, k.RSS.Table)
	le := binary.LittleEndian
	out := le.AppendUint32(nil, hashWanted&k.config.r32(cfgHashes))
	out = le.AppendUint16(out, uint16(size-1))
	first := uint16(0)
	if len(open) > 0 {
		first = uint16(open[0])
	}
	out = le.AppendUint16(out, first)
	for _, q := range table {
		out = le.AppendUint16(out, uint16(q))
	}
	out = le.AppendUint16(out, uint16(senders))
	return append(append(out, drivers.RSSKeyLen), k.RSS.Key[:]...)
}

// filter has the device receive what is meant for the ports, and all groups:
// solicited-node addresses of neighbour discovery are many, and the worker looks
// at them anyway (5.1.6.5.1).
func (k *Card) filter() error {
	macs := k.wanted()
	if !k.has(featControlRx) {
		if len(macs) > 0 {
			return fmt.Errorf("the device receives no other address than its own, % x: %w", k.MAC, drivers.ErrUnsupported)
		}
		return nil
	}
	if len(macs) > maxTableMACs {
		return fmt.Errorf("more than %d addresses: %w", maxTableMACs, drivers.ErrUnsupported)
	}
	table := binary.LittleEndian.AppendUint32(nil, uint32(len(macs)))
	for _, m := range macs {
		table = append(table, m[:]...)
	}
	table = binary.LittleEndian.AppendUint32(table, 0) // groups
	for _, c := range []struct {
		class, command uint8
		data           []byte
	}{{classMAC, macTable, table}, {classRx, rxAllMulti, []byte{1}}, {classRx, rxPromisc, []byte{0}}} {
		if err := k.control.do(c.class, c.command, c.data); err != nil {
			return err
		}
	}
	return nil
}
