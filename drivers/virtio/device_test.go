package virtio

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"vita/drivers"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/model"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// chip is a virtio network device: what one does by the specification, and what
// a hostile one may do. It works when it is notified, on the goroutine that does
// so. Two of them are joined by a wire that loses nothing: a frame for which the
// receiver has no buffer stays with the sender.
type chip struct {
	m        *model.Device
	peer     *chip
	offered  uint64
	chosen   uint64
	select1  uint32 // device_feature_select
	select2  uint32
	status   uint8
	version  uint8
	config   [24]byte
	queues   []*vring
	selected uint16
	vectors  uint16 // that it takes
	wrong    []string
	commands [][]byte // of the control queue
	frames   int      // that it has received by the wire
	lawless  bool     // memory has what a fuzzer has written: what the device finds there says nothing of the driver
	working  bool     // against recursion, when peers notify each other

	hangs     bool // sends nothing any more before it is reset
	sent      int  // frames
	astray    bool // it was reset behind its driver's back, who may notify it still
	stale     bool // does not move on from where it wants to be notified
	deaf      bool // does not answer to commands
	refuses   bool // commands
	noOK      bool // does not accept features
	noReset   bool // stays as it is
	ignored   int  // how often it was asked for something, and was deaf or stayed as it is
	step      uint32
	backwards bool                                          // uses what is sent from the last on, where several wait
	lie       func(v *vring, id, n uint32) (uint32, uint32) // changes what it says of a used buffer
	jump      func(v *vring, index uint16) uint16           // and which index it says
	steer     func(frame []byte, pairs int) int             // which pair a frame goes to
	after     func(v *vring)                                // after each batch of used ones
	pairs     int                                           // in use
	scratch   []byte                                        // what is read of a buffer
	back      []buffer                                      // that are to be given back
}

// vring is the device's side of a queue.
type vring struct {
	index                int
	size, max            uint16
	desc, driver, device uint64
	vector               uint16
	on, resetting        bool
	packed               bool

	last, used uint16 // next to be taken and to be given back: indexes, or places in a packed ring
	wrap, end  bool   // wrap counters of the two
}

const (
	barSize  = 0x4000
	atCommon = 0x0000
	atConfig = 0x1000
	atNotify = 0x2000
	barHere  = 4
)

var chips int // for addresses

// newChip makes a device with pairs of queues of size entries.
func newChip(t testing.TB, features uint64, pairs, size int) *chip {
	t.Helper()
	chips++
	c := &chip{offered: features | featVersion1 | featAccessPlatform, vectors: 64, step: 4, pairs: 1}
	o := model.Options{
		Address: fmt.Sprintf("virtio:%d", chips), ID: pci.ID{Vendor: vendor, Device: modern},
		BARs: []int{0, 0, 0, 0, barSize}, Chip: c, Vectors: 8,
	}
	c.m = model.New(o)
	at := 0x90
	c.put(0x81, 1, uint32(at)) // behind MSI-X
	for i, s := range []struct{ kind, off, n, length int }{
		{typeCommon, atCommon, 0x40, 16}, {typeNotify, atNotify, 0x1000, 20}, {typeDevice, atConfig, 24, 16},
	} {
		c.put(at, 1, pci.CapVendor)
		c.put(at+2, 1, uint32(s.length))
		c.put(at+capType, 1, uint32(s.kind))
		c.put(at+capBAR, 1, barHere)
		c.put(at+capOffset, 4, uint32(s.off))
		c.put(at+capLength, 4, uint32(s.n))
		if s.kind == typeNotify {
			c.put(at+capStep, 4, c.step)
		}
		if i < 2 {
			c.put(at+1, 1, uint32(at+0x18))
		}
		at += 0x18
	}
	copy(c.config[cfgMAC:], []byte{0x52, 0x54, 0, 0, 1, byte(chips)})
	binary.LittleEndian.PutUint16(c.config[cfgStatus:], linkUp)
	binary.LittleEndian.PutUint16(c.config[cfgMaxPairs:], uint16(pairs))
	binary.LittleEndian.PutUint16(c.config[cfgMTU:], 9000)
	binary.LittleEndian.PutUint32(c.config[cfgSpeed:], 25000)
	c.config[cfgKeyMax] = drivers.RSSKeyLen
	binary.LittleEndian.PutUint16(c.config[cfgTableMax:], 128)
	binary.LittleEndian.PutUint32(c.config[cfgHashes:], 0x1ff)
	for i := range 2*pairs + 1 {
		c.queues = append(c.queues, &vring{index: i, max: uint16(size)})
	}
	c.reset()
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

func (c *chip) put(off, size int, v uint32) { _ = c.m.WriteConfig(off, size, v) }

func (c *chip) fault(format string, a ...any) { c.wrong = append(c.wrong, fmt.Sprintf(format, a...)) }

func (c *chip) has(f uint64) bool { return c.chosen&f == f }

func (c *chip) Reset() { c.reset() }

func (c *chip) reset() {
	c.status, c.chosen, c.pairs, c.hangs = 0, 0, 1, c.hangs && c.noReset
	for _, v := range c.queues {
		*v = vring{index: v.index, max: v.max, size: v.max, vector: noVector, wrap: true, end: true}
	}
}

// set changes the configuration, as a hypervisor would.
func (c *chip) set(off int, b ...byte) {
	copy(c.config[off:], b)
	c.version++
}

func (c *chip) current() *vring {
	if int(c.selected) < len(c.queues) {
		return c.queues[c.selected]
	}
	return &vring{}
}

// Load answers for registers.
func (c *chip) Load(_, off, size int) uint64 {
	if off >= atConfig && off < atConfig+len(c.config) {
		var b [8]byte
		copy(b[:size], c.config[off-atConfig:])
		return binary.LittleEndian.Uint64(b[:])
	}
	v := c.current()
	switch off - atCommon {
	case deviceFeature:
		return c.offered >> (32 * (c.select1 & 1)) & 0xffffffff
	case numQueues:
		return uint64(len(c.queues))
	case deviceStatus:
		return uint64(c.status)
	case configGeneration:
		return uint64(c.version)
	case queueSize:
		if v.index > 2 && (c.status&statusFeaturesOK == 0 || c.chosen&(featMultiQueue|featRSS) == 0) {
			return 0 // as long as the driver has not asked for them
		}
		return uint64(v.size)
	case queueVector:
		return uint64(v.vector)
	case queueEnable:
		return flag(v.on)
	case queueNotifyOff:
		return uint64(v.index)
	case queueReset:
		return flag(v.resetting)
	}
	return 0
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Store is a write of a register.
func (c *chip) Store(_, off, size int, x uint64) {
	if off >= atNotify {
		if c.astray {
			return
		}
		if size != 2 || x != uint64(off-atNotify)/uint64(c.step) || c.status&statusDriverOK == 0 {
			c.fault("notified at %#x of queue %d, %d bytes, in status %d", off, x, size, c.status)
			return
		}
		c.notified(int(x))
		return
	}
	v := c.current()
	if v.on && off >= queueSize && off < queueReset && off != queueVector {
		c.fault("queue %d is changed (%#x) while it is on", v.index, off)
	}
	half := func(p *uint64, shift int) { *p = *p&^(0xffffffff<<shift) | x<<shift }
	switch off {
	case deviceFeatureSelect:
		c.select1 = uint32(x)
	case driverFeatureSelect:
		c.select2 = uint32(x)
	case driverFeature:
		half(&c.chosen, int(32*(c.select2&1)))
	case deviceStatus:
		c.setStatus(uint8(x))
	case queueSelect:
		c.selected = uint16(x)
	case queueSize:
		v.size = uint16(x)
	case queueVector:
		v.vector = uint16(x)
		if v.vector >= c.vectors {
			v.vector = noVector
		}
	case queueEnable:
		v.on, v.packed = true, c.has(featPacked)
	case queueReset:
		if !c.has(featRingReset) {
			c.fault("queue reset that was not negotiated")
		}
		*v = vring{index: v.index, max: v.max, size: v.max, vector: noVector, wrap: true, end: true}
	case queueDesc, queueDesc + 4:
		half(&v.desc, 32*(off-queueDesc)/4)
	case queueDriver, queueDriver + 4:
		half(&v.driver, 32*(off-queueDriver)/4)
	case queueDevice, queueDevice + 4:
		half(&v.device, 32*(off-queueDevice)/4)
	}
}

func (c *chip) setStatus(x uint8) {
	switch {
	case x == 0:
		c.astray = false
		if c.noReset {
			c.ignored++
		} else {
			c.reset()
		}
		return
	case x&statusFeaturesOK != 0 && c.status&statusFeaturesOK == 0:
		if c.chosen&^c.offered != 0 {
			c.fault("features %#x that were not offered", c.chosen&^c.offered)
		}
		if c.noOK {
			x &^= statusFeaturesOK
		}
	case x&statusDriverOK != 0 && x&statusFeaturesOK == 0:
		c.fault("status %#x", x)
	}
	c.status = x
}

// mem returns memory, or none where the driver has given an address of nothing.
func (c *chip) mem(at uint64, n int) []byte {
	b := c.m.At(at, n)
	if b == nil {
		return make([]byte, n)
	}
	return b
}

func (c *chip) u16(at uint64) uint16 { return binary.LittleEndian.Uint16(c.mem(at, 2)) }
func (c *chip) put16(at uint64, x uint16) {
	binary.LittleEndian.PutUint16(c.mem(at, 2), x)
}

// buffer is what the driver makes available: parts of memory.
type buffer struct {
	places uint16 // in a packed ring
	id     uint16
	read   []byte
	write  []byte // no more than one part
}

// next returns the next available buffer.
func (c *chip) next(v *vring) (b buffer, ok bool) {
	if !v.on || c.status&statusDriverOK == 0 {
		return b, false
	}
	if v.packed {
		return c.nextPacked(v)
	}
	if c.u16(v.driver+2) == v.last {
		return b, false
	}
	b.id = c.u16(v.driver + 4 + 2*uint64(v.last%v.size))
	v.last++
	for i, n := b.id, 0; ; n++ {
		if i >= v.size || n > int(v.size) {
			c.fault("descriptor %d of queue %d", i, v.index)
			return b, false
		}
		d := c.mem(v.desc+16*uint64(i), 16)
		flags := c.part(&b, d, binary.LittleEndian.Uint16(d[12:]))
		if flags&descNext == 0 {
			return b, true
		}
		i = binary.LittleEndian.Uint16(d[14:])
	}
}

// part adds what a descriptor describes to a buffer.
func (c *chip) part(b *buffer, d []byte, flags uint16) uint16 {
	m := c.m.At(binary.LittleEndian.Uint64(d), int(binary.LittleEndian.Uint32(d[8:])))
	if flags&descWrite != 0 {
		b.write = m
	} else {
		c.scratch = append(c.scratch[:len(b.read)], m...)
		b.read = c.scratch
	}
	return flags
}

// give gives a buffer back, with n bytes written.
func (c *chip) give(v *vring, b buffer, n int) {
	id, length := uint32(b.id), uint32(n)
	if c.lie != nil {
		id, length = c.lie(v, id, length)
	}
	if v.packed {
		c.givePacked(v, b, id, length)
		return
	}
	e := c.mem(v.device+4+8*uint64(v.used%v.size), 8)
	binary.LittleEndian.PutUint32(e, id)
	binary.LittleEndian.PutUint32(e[4:], length)
	v.used++
	say := v.used
	if c.jump != nil {
		say = c.jump(v, say)
	}
	c.put16(v.device+2, say)
	interrupt := c.u16(v.driver)&availNoInterrupt == 0
	if c.has(featEventIdx) {
		interrupt = c.u16(v.driver+4+2*uint64(v.size)) == v.used-1
	}
	if interrupt && v.vector != noVector {
		c.m.Signal(int(v.vector))
	}
}

// quiet says up to where the device knows: what is made available from there on
// has to be notified.
func (c *chip) quiet(v *vring) {
	switch {
	case !v.on || !c.has(featEventIdx) || c.stale:
	case v.packed:
		c.put16(v.device, v.last|uint16(flag(v.wrap))<<15)
		c.put16(v.device+2, 2)
	default:
		c.put16(v.device+4+8*uint64(v.size), v.last)
	}
}

// notified does what there is to do.
func (c *chip) notified(index int) {
	v := c.queues[index]
	switch {
	case index == len(c.queues)-1 && c.has(featControl):
		c.control(v)
	case index%2 == 1:
		c.send()
	case c.peer != nil:
		c.quiet(v)
		c.peer.send()
	}
}

// send puts what waits on the wire, as far as the other side takes it.
func (c *chip) send() {
	if c.working || c.hangs {
		return
	}
	c.working = true
	defer func() { c.working = false }()
	for i := 1; i < len(c.queues); i += 2 {
		v := c.queues[i]
		for {
			was := *v
			b, ok := c.next(v)
			if !ok {
				break
			}
			if len(b.read) < headerLen+ethernetLen || len(b.write) > 0 || [headerLen]byte(b.read) != ([headerLen]byte{}) {
				c.fault("frame to be sent of %d bytes, header % x", len(b.read), b.read[:min(len(b.read), headerLen)])
			} else if c.peer != nil && c.peer.linked() && !c.peer.receive(b.read[headerLen:]) {
				*v = was
				break
			}
			c.sent++
			if c.backwards {
				c.back = append(c.back, b)
			} else {
				c.give(v, b, 0)
			}
		}
		for _, b := range slices.Backward(c.back) {
			c.give(v, b, 0)
		}
		c.back = c.back[:0]
		c.quiet(v)
		if c.after != nil {
			c.after(v)
		}
	}
}

// linked reports whether frames reach the device: they are lost otherwise.
func (c *chip) linked() bool {
	return c.status&statusDriverOK != 0 && c.config[cfgStatus]&linkUp != 0
}

// receive takes a frame from the wire, or has no buffer for it.
func (c *chip) receive(frame []byte) bool {
	pair := 0
	if c.steer != nil {
		pair = c.steer(frame, c.pairs)
	}
	v := c.queues[2*pair]
	b, ok := c.next(v)
	if !ok {
		return false
	}
	if len(b.write) < headerLen+len(frame) {
		c.fault("a buffer of %d bytes for a frame of %d", len(b.write), len(frame))
		return true
	}
	clear(b.write[:headerLen])
	b.write[10] = 1 // num_buffers
	copy(b.write[headerLen:], frame)
	c.frames++
	c.give(v, b, headerLen+len(frame))
	c.quiet(v)
	if c.after != nil {
		c.after(v)
	}
	return true
}

// control carries commands out.
func (c *chip) control(v *vring) {
	if c.deaf {
		c.ignored++
	}
	for !c.deaf {
		b, ok := c.next(v)
		if !ok {
			break
		}
		if len(b.read) < 2 || len(b.write) != 1 {
			c.fault("command of %d bytes, answer of %d", len(b.read), len(b.write))
			break
		}
		c.commands = append(c.commands, append([]byte(nil), b.read...))
		b.write[0] = 1
		if !c.refuses && c.obey(b.read[0], b.read[1], b.read[2:]) {
			b.write[0] = answerOK
		}
		c.give(v, b, 1)
	}
	c.quiet(v)
}

func (c *chip) obey(class, command byte, data []byte) bool {
	switch {
	case class == classRx && len(data) == 1 && (command == rxPromisc || command == rxAllMulti):
		return c.has(featControlRx)
	case class == classMAC && command == macTable && len(data) >= 8:
		return c.has(featControlRx)
	case class == classMQ && command == mqPairs && len(data) == 2:
		c.pairs = int(binary.LittleEndian.Uint16(data))
		return c.has(featMultiQueue) && c.pairs >= 1 && 2*c.pairs < len(c.queues)
	case class == classMQ && command == mqRSS:
		return c.direct(data)
	}
	return false
}

// turn goes n places on in a packed ring.
func (v *vring) turn(place *uint16, wrap *bool, n uint16) {
	for range n {
		if *place++; *place == v.size {
			*place, *wrap = 0, !*wrap
		}
	}
}

// nextPacked and givePacked are for the packed form.
func (c *chip) nextPacked(v *vring) (b buffer, ok bool) {
	for {
		d := c.mem(v.desc+16*uint64(v.last), 16)
		flags := binary.LittleEndian.Uint16(d[14:])
		if flags>>packedAvail&1 != uint16(flag(v.wrap)) || flags>>packedUsed&1 == uint16(flag(v.wrap)) {
			if b.places > 0 {
				c.fault("half a buffer in queue %d", v.index)
			}
			return b, false
		}
		c.part(&b, d, flags)
		b.id = binary.LittleEndian.Uint16(d[12:])
		b.places++
		v.turn(&v.last, &v.wrap, 1)
		if flags&descNext == 0 {
			return b, true
		}
		if b.places >= v.size {
			c.fault("a buffer of a whole ring in queue %d", v.index)
			return b, false
		}
	}
}

func (c *chip) givePacked(v *vring, b buffer, id, length uint32) {
	d := c.mem(v.desc+16*uint64(v.used), 16)
	binary.LittleEndian.PutUint32(d[8:], length)
	binary.LittleEndian.PutUint16(d[12:], uint16(id))
	flags := uint16(flag(v.end)) * (1<<packedAvail | 1<<packedUsed)
	if length > 0 {
		flags |= descWrite
	}
	binary.LittleEndian.PutUint16(d[14:], flags)
	v.turn(&v.used, &v.end, b.places)
	if c.u16(v.driver+2)&3 == eventAll && v.vector != noVector {
		c.m.Signal(int(v.vector))
	}
}

// direct is the command for RSS.
func (c *chip) direct(data []byte) bool {
	le := binary.LittleEndian
	if !c.has(featRSS) || len(data) < 8 {
		return false
	}
	n := int(le.Uint16(data[4:])) + 1
	if n&(n-1) != 0 || n > int(le.Uint16(c.config[cfgTableMax:])) || len(data) != 8+2*n+3+drivers.RSSKeyLen || le.Uint32(data)&^le.Uint32(c.config[cfgHashes:]) != 0 {
		c.fault("RSS by % x", data)
		return false
	}
	other := int(le.Uint16(data[6:]))
	table := data[8 : 8+2*n]
	rest := data[8+2*n:]
	c.pairs = int(le.Uint16(rest))
	key := [drivers.RSSKeyLen]byte(rest[3:])
	for i := range n {
		if int(le.Uint16(table[2*i:])) >= c.pairs || 2*c.pairs >= len(c.queues) || rest[2] != drivers.RSSKeyLen {
			c.fault("RSS by % x", data)
			return false
		}
	}
	table = slices.Clone(table)
	c.steer = func(frame []byte, _ int) int {
		if hash, ok := nic.HashFrame(&key, frame, true); ok {
			return int(le.Uint16(table[2*(int(hash)%n):]))
		}
		return other
	}
	return true
}

// join makes a wire between two devices.
func join(a, b *chip) { a.peer, b.peer = b, a }

// openOn opens a port of a device.
func openOn(c *chip, config drivers.Config) (drivers.Port, error) {
	config.PCI = c.m.Address()
	return Open(config)
}

var _ nic.Card = (*Card)(nil)
