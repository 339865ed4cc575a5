// Package i8257x models two of Intel's gigabit controllers, the 82574 and the
// 82576 (of which the i350 and the i210 are grown), as far as our drivers use
// them: rings, filters, spreading by hash, interrupts, counters, link. Registers
// are written down here once more, from the data sheets, so that the driver and
// its model do not share their mistakes.
//
// Two cards are joined by a cable. All of it happens on the goroutine that
// writes a register. A test can pull the cable, let a card hang, and have it lie.
package i8257x

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"vita/drivers"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/model"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
)

// Options shapes a pair of cards.
type Options struct {
	Chip    uint16     // device id: 0x10d3 is an 82574, others are of the 82576's family
	Name    string     // their addresses are Name:a and Name:b
	MAC     [2][6]byte // default 02:00:00:00:00:0a and :0b
	Vectors int        // default 10; -1: none
}

// Pair is two cards and the cable between.
type Pair struct {
	Cards  [2]*Card
	mu     sync.Mutex // over both
	remove []func()
}

// Card is one card. What tests set is read under the pair's lock.
type Card struct {
	Device *model.Device

	pair   *Pair
	far    *Card
	chip   chip
	mac    [6]byte
	regs   []uint32
	rx, tx [16]cursor
	cable  bool
	frame  []byte
	back   [2]uint64 // what is written back
	hang   bool
	lie    func(queue int, back *[2]uint64)
	sent   atomic.Int64
	dead   bool   // no reset helps
	stuck  uint32 // a bit for the queue that does not stop
}

// cursor is how far the device is in a ring.
type cursor struct{ head uint32 }

// chip is where a chip has what it has.
type chip struct {
	queues                 int
	rxBase, txBase, stride int
	enable                 uint32 // bit of a queue's control register that turns it on
	icr                    int
	ext                    bool // of the 82576's family
	retaShift              uint
	shared                 bool // IVAR has queues n and n+8 in one register
}

const (
	rCTRL, rSTATUS, rEECD, rMDIC           = 0x0000, 0x0008, 0x0010, 0x0020
	rRCTL, rTCTL, rRFCTL, rRLPML           = 0x0100, 0x0400, 0x5008, 0x5004
	rMRQC, rRETA, rRSSRK, rRAL, rMTA       = 0x5818, 0x5c00, 0x5c80, 0x5400, 0x5200
	rEICR, rEIMS, rEIMC, rIVAR, rIVAR74    = 0x1580, 0x1524, 0x1528, 0x1700, 0x00e4
	size                                   = 0x20000
	sMPC, sROC, sGPRC, sBPRC, sMPRC, sGPTC = 0x4010, 0x40ac, 0x4074, 0x4078, 0x407c, 0x4080
	sMPTC, sBPTC                           = 0x40f0, 0x40f4
	longest                                = 16384
)

// New makes two cards, which drivers find by their addresses.
func New(o Options) *Pair {
	if o.MAC == ([2][6]byte{}) {
		o.MAC = [2][6]byte{{2, 0, 0, 0, 0, 0x0a}, {2, 0, 0, 0, 0, 0x0b}}
	}
	if o.Vectors == 0 {
		o.Vectors = 10
	}
	p := new(Pair)
	for i := range p.Cards {
		c := &Card{pair: p, mac: o.MAC[i], regs: make([]uint32, size/4), cable: true, frame: make([]byte, 0, longest)}
		c.chip = chip{queues: 16, rxBase: 0xc000, txBase: 0xe000, stride: 0x40, enable: 1 << 25, icr: 0x1500, ext: true}
		switch o.Chip {
		case 0x10d3, 0x10f6:
			c.chip = chip{queues: 2, rxBase: 0x2800, txBase: 0x3800, stride: 0x100, icr: 0xc0, retaShift: 7}
		case 0x1521, 0x150e:
			c.chip.queues = 8
		case 0x1533:
			c.chip.queues = 4
		default:
			c.chip.shared = true
		}
		name := o.Name + ":" + string('a'+rune(i))
		id := pci.ID{Vendor: 0x8086, Device: o.Chip}
		c.Device = model.New(model.Options{Address: name, ID: id, BARs: []int{size}, Chip: c, Vectors: max(o.Vectors, 0)})
		c.Reset()
		p.Cards[i] = c
		p.remove = append(p.remove, backend.Provide(name, backend.Source{ID: id, Open: c.Device.Open}))
	}
	p.Cards[0].far, p.Cards[1].far = p.Cards[1], p.Cards[0]
	return p
}

// Close makes the addresses unknown again.
func (p *Pair) Close() {
	for _, r := range p.remove {
		r()
	}
}

// Cable plugs the cable in or pulls it.
func (p *Pair) Cable(in bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.Cards {
		c.cable = in
		c.regs[c.chip.icr/4] |= 1 << 2 // LSC
	}
}

// Hang makes a card send nothing until it is reset.
func (c *Card) Hang() {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	c.hang = true
}

// Stick makes a receive queue of the 82576's family one that does not stop until
// the card is reset.
func (c *Card) Stick(queue int) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	c.stuck = 1 << queue
}

// Kill makes a card one that no reset brings back.
func (c *Card) Kill() {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	c.hang, c.dead = true, true
}

// SetMAC changes the address that the EEPROM has.
func (c *Card) SetMAC(mac [6]byte) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	c.mac = mac
}

// Lie has f change what the card writes back for a frame that it received.
func (c *Card) Lie(f func(queue int, back *[2]uint64)) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	c.lie = f
}

// Sent returns how many frames the card has sent.
func (c *Card) Sent() int { return int(c.sent.Load()) }

// Inject lets a frame arrive from the cable, and reports whether it was taken.
func (c *Card) Inject(frame []byte) bool {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	return c.receive(frame)
}

// Reset brings the registers to what they are after power up.
func (c *Card) Reset() {
	clear(c.regs)
	c.rx, c.tx = [16]cursor{}, [16]cursor{}
	c.regs[rEECD/4] = 1 << 9
	c.regs[rRAL/4] = binary.LittleEndian.Uint32(c.mac[:])
	c.regs[rRAL/4+1] = uint32(binary.LittleEndian.Uint16(c.mac[4:])) | 1<<31
	c.hang = c.hang && c.dead
	c.stuck = 0
}

// Load reads a register.
func (c *Card) Load(_, off, n int) uint64 {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	if n != 4 {
		return 0 // the chips know no other width
	}
	v := c.regs[off/4]
	switch {
	case off == rCTRL && c.dead:
		return uint64(v) | 1<<26 // the reset does not end
	case off == rSTATUS:
		v = 0
		if c.regs[rCTRL/4]&(1<<2) == 0 {
			v |= 1 << 19
		}
		if c.cable && c.regs[rCTRL/4]&(1<<6) != 0 {
			v |= 1<<1 | 2<<6
		}
	case off == c.chip.rxBase+0x28+bits.TrailingZeros32(c.stuck)*c.chip.stride && c.stuck != 0:
		v |= c.chip.enable
	case off == c.chip.icr || off >= 0x4000 && off < 0x4100:
		c.regs[off/4] = 0
	case c.chip.ext && off >= c.chip.rxBase && off < c.chip.rxBase+16*c.chip.stride && off%c.chip.stride == 0x30:
		c.regs[off/4] = 0 // RQDPC
	}
	return uint64(v)
}

// Store writes a register.
func (c *Card) Store(_, off, n int, v64 uint64) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	v := uint32(v64)
	if n != 4 {
		return
	}
	at := &c.regs[off/4]
	switch {
	case off == rCTRL && v&(1<<26) != 0:
		c.Reset()
	case off == rMDIC:
		*at = v&0x0fffffff | 1<<28
	case off == c.chip.icr || off == rEICR && c.chip.ext:
		*at &^= v
	case off == rEIMS && c.chip.ext:
		*at |= v
		c.interrupt(0)
	case off == rEIMC && c.chip.ext:
		c.regs[rEIMS/4] &^= v
	case off == 0xd0 && !c.chip.ext:
		*at |= v
		c.interrupt(0)
	case off == 0xd8 && !c.chip.ext:
		c.regs[0xd0/4] &^= v
	case off == rSTATUS:
	default:
		*at = v
		for q := range c.chip.queues {
			if off == c.chip.txBase+q*c.chip.stride+0x18 {
				c.transmit(q)
			}
			if off == c.chip.rxBase+q*c.chip.stride+0x10 {
				c.rx[q].head = v
			}
			if off == c.chip.txBase+q*c.chip.stride+0x10 {
				c.tx[q].head = v
			}
		}
	}
}

// interrupt adds causes, a bit for each receive queue, and signals those
// vectors that are on; they turn themselves off.
func (c *Card) interrupt(queues uint32) {
	if !c.chip.ext {
		c.regs[c.chip.icr/4] |= queues << 20
		for q := range 2 {
			bit := uint32(1) << (20 + q)
			if c.regs[c.chip.icr/4]&c.regs[0xd0/4]&bit == 0 {
				continue
			}
			if v := c.regs[rIVAR74/4] >> (4 * q) & 15; v&8 != 0 {
				c.regs[0xd0/4] &^= bit
				c.regs[c.chip.icr/4] &^= bit
				c.Device.Signal(int(v & 7))
			}
		}
		return
	}
	for q := range c.chip.queues {
		if queues>>q&1 == 0 {
			continue
		}
		reg, shift := rIVAR+4*(q/2), q%2*16
		if c.chip.shared {
			reg, shift = rIVAR+4*(q%8), q/8*16
		}
		if v := c.regs[reg/4] >> shift & 0xff; v&0x80 != 0 {
			c.regs[rEICR/4] |= 1 << (v & 31)
		}
	}
	for v := range 25 {
		if c.regs[rEICR/4]&c.regs[rEIMS/4]>>v&1 != 0 {
			c.regs[rEICR/4] &^= 1 << v
			c.regs[rEIMS/4] &^= 1 << v
			c.Device.Signal(v)
		}
	}
}

// queue returns the registers of a queue: where its ring is, and how long.
func (c *Card) queue(base, q int) (ring uint64, n, tail, control uint32) {
	r := c.regs[(base+q*c.chip.stride)/4:]
	return uint64(r[0]) | uint64(r[1])<<32, r[2] / 16, r[0x18/4], r[0x28/4]
}

// transmit sends what a queue has.
func (c *Card) transmit(q int) {
	ring, n, tail, control := c.queue(c.chip.txBase, q)
	if c.hang || n == 0 || c.regs[rTCTL/4]&2 == 0 || control&c.chip.enable != c.chip.enable || !c.cable {
		return
	}
	le := binary.LittleEndian
	for h := &c.tx[q].head; *h != tail%n; *h = (*h + 1) % n {
		d := c.Device.At(ring+uint64(*h)*16, 16)
		if d == nil {
			c.hang = true
			return
		}
		word := le.Uint64(d[8:])
		length := int(word & 0xffff)
		if c.chip.ext && (word>>20&15 != 3 || word>>29&1 == 0 || int(word>>46) != length) { // no advanced data descriptor
			c.hang = true
			return
		}
		data := c.Device.At(le.Uint64(d), length)
		if data == nil || word&(1<<24|1<<25) != 1<<24|1<<25 {
			c.hang = true
			return
		}
		c.frame = append(c.frame[:0], data...)
		for len(c.frame) < 60 {
			c.frame = append(c.frame, 0)
		}
		c.count(sGPTC, sMPTC, sBPTC, c.frame)
		c.sent.Add(1)
		c.far.receive(c.frame)
		if word&(1<<27) != 0 {
			le.PutUint64(d[8:], word|1<<32)
		}
		c.regs[(c.chip.txBase+q*c.chip.stride+0x10)/4] = (*h + 1) % n
	}
}

func (c *Card) count(all, multicast, broadcast int, f []byte) {
	c.regs[all/4]++
	if f[0]&f[1]&f[2]&f[3]&f[4]&f[5] == 0xff {
		c.regs[broadcast/4]++
	} else if f[0]&1 != 0 {
		c.regs[multicast/4]++
	}
}

// wanted applies the filters of addresses.
func (c *Card) wanted(f []byte) bool {
	rctl := c.regs[rRCTL/4]
	switch {
	case f[0]&f[1]&f[2]&f[3]&f[4]&f[5] == 0xff:
		return rctl&(1<<15) != 0
	case f[0]&1 != 0:
		return rctl&(1<<4) != 0
	}
	if c.regs[rMRQC/4]&7 == 3 {
		return true // pools look at it
	}
	for i := range 16 {
		low, high := c.regs[rRAL/4+2*i], c.regs[rRAL/4+2*i+1]
		if high>>31 != 0 && binary.LittleEndian.Uint32(f) == low && binary.LittleEndian.Uint16(f[4:]) == uint16(high) {
			return true
		}
	}
	return false
}

// steer chooses the queue of a frame.
func (c *Card) steer(f []byte) int {
	if c.regs[rMRQC/4]&3 == 0 {
		return 0
	}
	var key [drivers.RSSKeyLen]byte
	for i := range key {
		key[i] = byte(c.regs[rRSSRK/4+i/4] >> (i % 4 * 8))
	}
	hash, ok := nic.HashFrame(&key, f, c.regs[rMRQC/4]&(1<<16) != 0)
	if !ok {
		if c.chip.ext {
			return int(c.regs[rMRQC/4] >> 3 & 7)
		}
		return 0
	}
	at := hash & 127
	return int(c.regs[rRETA/4+int(at/4)]>>(at%4*8)&0xff) >> c.chip.retaShift
}

// receive takes a frame from the cable.
func (c *Card) receive(f []byte) bool {
	if !c.cable || c.regs[rRCTL/4]&2 == 0 || !c.wanted(f) {
		return false
	}
	tag := 0
	if f[12] == 0x81 && f[13] == 0 {
		tag = 4
	}
	most := 1514 + tag
	if c.regs[rRCTL/4]&(1<<5) != 0 {
		most = longest - 4
		if c.chip.ext {
			most = int(c.regs[rRLPML/4]&0x3fff) - 4
		}
	}
	if len(f) > most {
		c.regs[sROC/4]++
		return false
	}
	if c.regs[rMRQC/4]&7 != 3 {
		return c.deliver(c.steer(f), f)
	}
	taken := false
	for q := range 8 {
		if c.poolWants(q, f) && c.deliver(q, f) {
			taken = true
		}
	}
	return taken
}

// poolWants applies the filters of a pool.
func (c *Card) poolWants(q int, f []byte) bool {
	v := c.regs[(0x5ad0+4*q)/4] // VMOLR
	if c.regs[0x0c8c/4]>>q&1 == 0 || len(f)+4 > int(v&0x3fff) {
		return false
	}
	if f[0]&1 != 0 {
		bit := 28
		if f[0]&f[1]&f[2]&f[3]&f[4]&f[5] == 0xff {
			bit = 27
		}
		return v>>bit&1 != 0
	}
	for i := range 16 {
		low, high := c.regs[rRAL/4+2*i], c.regs[rRAL/4+2*i+1]
		if high>>31 != 0 && high>>(18+q)&1 != 0 && binary.LittleEndian.Uint32(f) == low && binary.LittleEndian.Uint16(f[4:]) == uint16(high) {
			return true
		}
	}
	return false
}

// deliver writes a frame to a queue.
func (c *Card) deliver(q int, f []byte) bool {
	ring, n, tail, control := c.queue(c.chip.rxBase, q)
	buffer := int(c.regs[rRCTL/4]>>27&15) << 10
	if c.chip.ext {
		buffer = int(c.regs[(c.chip.rxBase+q*c.chip.stride+0x0c)/4]&0x7f) << 10
	}
	if n == 0 || buffer == 0 || control&c.chip.enable != c.chip.enable || !c.chip.ext && c.regs[rRFCTL/4]&(1<<15) == 0 {
		return false
	}
	h := &c.rx[q].head
	need := uint32((len(f) + buffer - 1) / buffer)
	if (tail%n+n-*h)%n < need {
		c.regs[sMPC/4]++
		return false
	}
	le := binary.LittleEndian
	for rest := f; len(rest) > 0; *h = (*h + 1) % n {
		d := c.Device.At(ring+uint64(*h)*16, 16)
		if d == nil {
			return false
		}
		part := rest[:min(len(rest), buffer)]
		rest = rest[len(part):]
		data := c.Device.At(le.Uint64(d), len(part))
		if data == nil {
			return false
		}
		copy(data, part)
		back := &c.back
		*back = [2]uint64{0, 1 | uint64(len(part))<<32}
		if len(rest) == 0 {
			back[1] |= 2
		}
		if c.lie != nil {
			c.lie(q, back)
		}
		le.PutUint64(d, back[0])
		le.PutUint64(d[8:], back[1])
	}
	c.count(sGPRC, sMPRC, sBPRC, f)
	c.interrupt(1 << q)
	return true
}
