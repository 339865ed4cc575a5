package virtio

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
)

// A virtqueue is three areas of memory. In the split form (2.7) we place the
// second and third so that what is read or written at once lies in one word of
// 64 bits:
//
//	descriptors    word 2i    address
//	               word 2i+1  length(32) flags(16) next(16)
//	driver's area  word 0     ......(32) flags(16) index(16)
//	               from 1 on  ids of available buffers, four a word; then used_event
//	device's area  word 0     ......(32) flags(16) index(16)
//	               from 1 on  used buffers, id(32) length(32); then avail_event
//
// A descriptor's number is the id of its buffer. In the packed form (2.8) the
// device writes what it has used in the place of what was made available, and
// the other areas are about notifications alone:
//
//	descriptors    word 2i    address
//	               word 2i+1  length(32) id(16) flags(16)
//	both areas     word 0     index(16) what is notified(16)
//
// Each buffer is one descriptor, but for a command with its answer. Indexes count
// ever on and wrap at 2^16, of which all sizes are divisors: what the packed form
// calls a wrap counter is the bit above the place in the ring.
type queue struct {
	index  int  // of the device
	packed bool // VIRTIO_F_RING_PACKED
	events bool // VIRTIO_F_EVENT_IDX: notifications from a certain index on
	size   int
	shift  int // log2 of the size
	mask   uint16

	desc, driver, device []uint64
	ring                 []byte // the ids in the driver's area
	descIOVA             uint64
	driverIOVA           uint64
	deviceIOVA           uint64

	next uint16 // index of the next buffer that we make available
	told uint16 // next, as the device was last told
	seen uint16 // index of the next used buffer that we look at
	done uint16 // split: up to where the device has used buffers, when we last looked
	quit bool   // the device has said what cannot be; it is not believed before a reset

	heldAt   int    // packed: the first descriptor since the device was told waits here:
	heldWord uint64 // as long as it is not there, those behind it are not seen

	bell  *mmio.Window
	reg   int
	armed bool // it interrupts
}

// resize sets how many entries the queue has.
func (v *queue) resize(size int) {
	v.size, v.shift, v.mask = size, bits.TrailingZeros(uint(size)), uint16(size-1)
}

// words returns how many words a queue takes, each area on lines of its own.
func words(size int) (desc, driver, device int) {
	return 2 * size, (size/4 + 2 + 7) &^ 7, (size + 2 + 7) &^ 7
}

// place gives the queue the memory from word at on, and returns the word behind.
func (v *queue) place(m *dma.Memory, at int) int {
	a, b, c := words(v.size)
	cut := func(n int) (w []uint64, iova uint64) {
		w, iova = m.Words[at:at+n:at+n], m.IOVA+uint64(at)*8
		at += n
		return w, iova
	}
	v.desc, v.descIOVA = cut(a)
	v.ring = m.Bytes[(at+1)*8 : (at+1)*8+2*v.size]
	v.driver, v.driverIOVA = cut(b)
	v.device, v.deviceIOVA = cut(c)
	if !v.packed {
		v.driverIOVA += 4
		v.deviceIOVA += 4
	}
	return at
}

// rewind makes the queue as new, for a device that was reset.
func (v *queue) rewind() {
	clear(v.desc)
	clear(v.driver)
	clear(v.device)
	v.next, v.told, v.seen, v.done, v.quit = 0, 0, 0, 0, false
	v.disarm()
}

// post makes a buffer available, from the next kick on.
func (v *queue) post(id uint16, addr uint64, n uint32, flags uint64) {
	if v.packed {
		v.put(id, addr, n, flags)
		return
	}
	i := 2 * int(id)
	d := v.desc[i : i+2 : i+2]
	d[0] = addr
	d[1] = uint64(n) | flags<<32
	binary.LittleEndian.PutUint16(v.ring[2*int(v.next&v.mask):], id)
	v.next++
}

// put fills the next descriptor of the packed form (2.8.1, 2.8.6).
func (v *queue) put(id uint16, addr uint64, n uint32, flags uint64) {
	at := 2 * int(v.next&v.mask)
	d := v.desc[at : at+2 : at+2]
	wrap := uint64(v.next>>v.shift)&1 ^ 1
	word := uint64(n) | uint64(id)<<32 | (flags|wrap<<packedAvail|(wrap^1)<<packedUsed)<<48
	d[0] = addr
	if v.next == v.told {
		v.heldAt, v.heldWord = at+1, word
	} else {
		d[1] = word
	}
	v.next++
}

// postCommand makes buffers 0 and 1 available as one, which is known as 0: what
// the device reads, and what it writes.
func (v *queue) postCommand(addr uint64, n uint32, answer uint64, m uint32) {
	if v.packed {
		v.put(0, addr, n, descNext)
		v.put(0, answer, m, descWrite)
		return
	}
	v.desc[2], v.desc[3] = answer, uint64(m)|descWrite<<32
	v.post(0, addr, n, descNext|1<<16)
}

// unpublished returns how many buffers the device has not been told of.
func (v *queue) unpublished() uint16 { return v.next - v.told }

// kick tells the device of the buffers that are available, in memory, and by a
// notification where it asks for one.
func (v *queue) kick() {
	if v.next == v.told {
		return
	}
	v.publish() // an exchange: it is there before what follows is read
	wants := v.wanted()
	v.told = v.next
	if wants {
		v.bell.Write16(v.reg, uint16(v.index))
	}
}

func (v *queue) publish() {
	if v.packed {
		atomic.StoreUint64(&v.desc[v.heldAt], v.heldWord)
		return
	}
	flags := uint64(availNoInterrupt)
	if v.armed || v.events {
		flags = 0
	}
	atomic.StoreUint64(&v.driver[0], flags<<32|uint64(v.next)<<48)
}

// wanted reports whether the device wants to be notified of what was published
// (2.7.10, 2.7.13.3; 2.8.7, 2.8.14).
func (v *queue) wanted() bool {
	switch {
	case v.packed:
		w := atomic.LoadUint64(&v.device[0])
		switch w >> 16 & 3 {
		case eventAll:
			return true
		case eventNone:
			return false
		}
		behind := v.behind(w)
		return behind-1 < v.next-v.told || v.stale(behind)
	case v.events:
		event := uint16(atomic.LoadUint64(&v.device[1+v.size]))
		return v.next-event-1 < v.next-v.told
	}
	return atomic.LoadUint64(&v.device[0])>>32&usedNoNotify == 0
}

// behind returns how far an event of the packed form lies behind what we have made
// available; it may also lie before it.
func (v *queue) behind(w uint64) uint16 {
	event := uint16(w) &^ eventWrap
	if uint16(w)&eventWrap>>15 == v.next>>v.shift&1 { // the wrap counter is the other one
		event -= uint16(v.size)
	}
	return v.next&v.mask - event
}

// stale reports whether an event lies behind what the device has used. It does not
// wait there any more, and was to move it on. QEMU forgets to, when it has gone on
// after the receiver had no room.
func (v *queue) stale(behind uint16) bool {
	return behind > v.next-v.seen && behind < eventWrap
}

// again notifies the device of what it was told, if we have learnt since that its
// event is stale: it would not look by itself.
func (v *queue) again() {
	if !v.packed || v.seen == v.told {
		return
	}
	if w := atomic.LoadUint64(&v.device[0]); w>>16&3 == eventSome && v.stale(v.behind(w)) {
		v.bell.Write16(v.reg, uint16(v.index))
	}
}

// look asks how many buffers the device may have used, of which at most most can
// be. Each is to be asked for by ready then.
func (v *queue) look(most int) int {
	if v.packed {
		return most
	}
	v.done = uint16(atomic.LoadUint64(&v.device[0]) >> 48)
	n := int(v.done - v.seen)
	if n > most {
		v.quit = true
	}
	if v.quit {
		return 0
	}
	return n
}

// ready reports whether there is a used buffer, after look.
func (v *queue) ready() bool { return v.readyAt(v.seen) }

func (v *queue) readyAt(i uint16) bool {
	if !v.packed {
		return i != v.done
	}
	w := atomic.LoadUint64(&v.desc[2*int(i&v.mask)+1]) >> 48
	wrap := uint64(i>>v.shift)&1 ^ 1
	return w>>packedAvail&1 == wrap && w>>packedUsed&1 == wrap && !v.quit
}

// used returns the next used buffer, which is ready.
func (v *queue) used() (id, n uint32) {
	i := int(v.seen & v.mask)
	v.seen++
	if v.packed {
		w := atomic.LoadUint64(&v.desc[2*i+1])
		return uint32(w>>32) & 0xffff, uint32(w)
	}
	w := atomic.LoadUint64(&v.device[1+i])
	return uint32(w), uint32(w >> 32)
}

// usedCommand is used for a command with its answer.
func (v *queue) usedCommand() (id uint32) {
	id, _ = v.used()
	if v.packed {
		v.seen++
	}
	return id
}

// waiting counts used buffers that we have not looked at, up to most.
func (v *queue) waiting(most int) (n int) {
	for most = v.look(most); n < most && v.readyAt(v.seen+uint16(n)); {
		n++
	}
	return n
}

// arm has the next used buffer interrupt (2.7.10, 2.8.10). What is used already
// does not.
func (v *queue) arm() {
	v.armed = true
	switch {
	case v.packed:
		atomic.StoreUint64(&v.driver[0], eventAll<<16)
	case v.events:
		atomic.StoreUint64(&v.driver[1+v.size/4], uint64(v.seen))
	default:
		atomic.StoreUint64(&v.driver[0], uint64(v.told)<<48)
	}
}

// disarm ends interrupts. With an index from which on they come it has passed:
// the next one comes after 65 535 buffers, which does no harm.
func (v *queue) disarm() {
	v.armed = false
	switch {
	case v.packed:
		atomic.StoreUint64(&v.driver[0], eventNone<<16)
	case v.events:
		atomic.StoreUint64(&v.driver[1+v.size/4], uint64(v.seen-1))
	default:
		atomic.StoreUint64(&v.driver[0], availNoInterrupt<<32|uint64(v.told)<<48)
	}
}
