package virtio

import (
	"encoding/binary"
	"sync/atomic"

	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
)

// A split virtqueue is three areas of memory (2.7). We place the second and
// third so that what is read or written at once lies in one word of 64 bits:
//
//	descriptors    word 2i    address
//	               word 2i+1  length(32) flags(16) next(16)
//	driver's area  word 0     ......(32) flags(16) index(16)
//	               from 1 on  ids of available buffers, four a word; then used_event
//	device's area  word 0     ......(32) flags(16) index(16)
//	               from 1 on  used buffers, id(32) length(32); then avail_event
//
// Indexes count ever on and wrap at 2^16. A descriptor's number is the id of its
// buffer: each buffer is one descriptor, but for a command with its answer.
type queue struct {
	index  int  // of the device
	events bool // VIRTIO_F_EVENT_IDX: notifications from a certain index on
	size   int
	mask   uint16

	desc, driver, device []uint64
	ring                 []byte // the ids in the driver's area
	descIOVA             uint64
	driverIOVA           uint64
	deviceIOVA           uint64

	next uint16 // index of the next buffer that we make available
	told uint16 // next, as the device was last told
	seen uint16 // index of the next used buffer that we look at
	done uint16 // up to where the device has used buffers, when we last looked
	quit bool   // the device has said what cannot be; it is not believed before a reset

	bell  *mmio.Window
	reg   int
	armed bool // it interrupts
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
	v.driverIOVA += 4
	v.deviceIOVA += 4
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
	i := 2 * int(id)
	d := v.desc[i : i+2 : i+2]
	d[0] = addr
	d[1] = uint64(n) | flags<<32
	binary.LittleEndian.PutUint16(v.ring[2*int(v.next&v.mask):], id)
	v.next++
}

// postCommand makes buffers 0 and 1 available as one, which is known as 0: what
// the device reads, and what it writes.
func (v *queue) postCommand(addr uint64, n uint32, answer uint64, m uint32) {
	v.desc[2], v.desc[3] = answer, uint64(m)|descWrite<<32
	v.post(0, addr, n, descNext|1<<16)
}

// unpublished returns how many buffers the device has not been told of.
func (v *queue) unpublished() uint16 { return v.next - v.told }

// kick tells the device of the buffers that are available, in memory, and by a
// notification where it asks for one (2.7.13.3, 2.7.10).
func (v *queue) kick() {
	if v.next == v.told {
		return
	}
	v.publish() // an exchange: it is there before what follows is read
	var wants bool
	if v.events {
		event := uint16(atomic.LoadUint64(&v.device[1+v.size]))
		wants = v.next-event-1 < v.next-v.told
	} else {
		wants = atomic.LoadUint64(&v.device[0])>>32&usedNoNotify == 0
	}
	v.told = v.next
	if wants {
		v.bell.Write16(v.reg, uint16(v.index))
	}
}

func (v *queue) publish() {
	flags := uint64(availNoInterrupt)
	if v.armed || v.events {
		flags = 0
	}
	atomic.StoreUint64(&v.driver[0], flags<<32|uint64(v.next)<<48)
}

// look asks how many buffers the device has used, of which at most most can be.
func (v *queue) look(most int) int {
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

// used returns the next used buffer, of those that look has found.
func (v *queue) used() (id, n uint32) {
	w := atomic.LoadUint64(&v.device[1+int(v.seen&v.mask)])
	v.seen++
	return uint32(w), uint32(w >> 32)
}

// waits reports whether the device has used buffers that we have not looked at.
func (v *queue) waits() bool { return uint16(atomic.LoadUint64(&v.device[0])>>48) != v.seen && !v.quit }

// arm has the next used buffer interrupt (2.7.10). What is used already does not.
func (v *queue) arm() {
	v.armed = true
	if v.events {
		atomic.StoreUint64(&v.driver[1+v.size/4], uint64(v.seen))
		return
	}
	atomic.StoreUint64(&v.driver[0], uint64(v.told)<<48)
}

// disarm ends interrupts. With an index from which on they come it has passed:
// the next one comes after 65 535 buffers, which does no harm.
func (v *queue) disarm() {
	v.armed = false
	if v.events {
		atomic.StoreUint64(&v.driver[1+v.size/4], uint64(v.seen-1))
		return
	}
	atomic.StoreUint64(&v.driver[0], availNoInterrupt<<32|uint64(v.told)<<48)
}
