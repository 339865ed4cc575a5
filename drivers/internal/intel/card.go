package intel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"vita/drivers"
	"vita/drivers/internal/mmio"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// Card is what the cards of all families have in common: all that a nic.Card is
// asked about rings. A family's own card embeds it, and has the rest.
type Card struct {
	nic.Common
	R     *mmio.Window
	Max   int  // bytes of the largest frame, with a VLAN tag and without check sequence
	Pools bool // frames go to queues by their destination

	form   Form
	queues Queues
	rx     map[int]*RxRing // by queue
	tx     map[int]*TxRing
}

// Form is what a family's registers and descriptors are like.
type Form struct {
	Registers          int    // bytes of them
	Vectors            int    // interrupts that it can use, at most
	MAC                int    // register of the first address that is received
	Addresses          int    // that can be
	MaxBuffer          int    // bytes of a buffer that the device may write, at most
	RxErrors           uint64 // see RxOptions
	TxCommand, Payload uint64 // see TxOptions
}

// Queues is what a family does to its queues, one at a time.
type Queues interface {
	nic.Card
	RxRegisters(q int) int // first register of a queue for receiving
	TxRegisters(q int) int // and for sending
	StartRx(q, buffer int) // makes the size of the queue's buffers known, and turns it on
	StartTx(q int)         // turns it on
	StopRx(q int) bool     // turns it off, and reports whether it is
	StopTx(q int) bool     // the same, when what it has was sent
	Route(q, vector int)   // interrupts of a queue for receiving go to a vector
	Dropped(q int) uint64  // frames that it had no buffers for, since this was last asked
}

// Registers of a queue, from its first one on (82574 data sheet 10.2.5 and
// 10.2.6; 82576 data sheet 8.10 and 8.12; 82599 data sheet 8.2.3.8 and 8.2.3.9).
const (
	queueBaseLow  = 0x00
	queueBaseHigh = 0x04
	queueLength   = 0x08
	queueHead     = 0x10
	queueTail     = 0x18
)

// AllOnes is what all registers of a device read as that is not there.
const AllOnes = 0xffffffff

const (
	ringSize = 1024 // descriptors of a ring, at most
	kib      = 1024
)

// Begin resets a device and makes it ready for queues. What it has opened when it
// fails, it closes.
func (k *Card) Begin(driver string, f Form, q Queues, d pci.Device, c *drivers.Config) error {
	k.form, k.queues, k.rx, k.tx = f, q, make(map[int]*RxRing), make(map[int]*TxRing)
	k.Common.Begin(driver, q, d, c)
	if err := k.ChooseMTU(c.MTU, nic.MaxMTU); err != nil {
		return err
	}
	k.Max = k.MaxFrame()
	k.Way = "by hash, "
	if k.Pools {
		k.Way = "by address, "
	}
	var err error
	if k.R, err = d.BAR(0); err != nil {
		return err
	}
	if k.R.Size() < f.Registers {
		return fmt.Errorf("%d bytes of registers: want %d: %w", k.R.Size(), f.Registers, drivers.ErrUnsupported)
	}
	if err := k.Power(f.Vectors); err != nil {
		return err
	}
	if err = q.Reset(); err != nil {
		k.Lose()
	} else if err = k.readMAC(); err == nil {
		err = q.Setup()
	}
	if err != nil {
		return errors.Join(err, q.Close())
	}
	return nil
}

// readMAC reads the device's address, which the reset has loaded from the EEPROM
// into the first of the registers for addresses.
func (k *Card) readMAC() error {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], k.R.Read32(k.form.MAC))
	binary.LittleEndian.PutUint32(b[4:], k.R.Read32(k.form.MAC+4))
	copy(k.MAC[:], b[:6])
	return k.ValidMAC("'s EEPROM")
}

// WantsPool tells whether a port is one queue with an address of its own. Frames
// with tags would need the pool's VLANs, of which we know nothing.
func WantsPool(c *drivers.Config) bool {
	return c.MAC != [6]byte{} && len(c.Queues) == 1 && c.Every == 0 && !c.Tagged
}

// Rings makes a port's rings.
func (k *Card) Rings(p *nic.Port, c *drivers.Config) (rx []nic.RxRing, tx nic.TxRing, err error) {
	if err := k.admit(p, c); err != nil {
		return nil, nil, err
	}
	// The device writes whole buffers of so many KiB.
	buffer := min((c.Pool.FrameSize()-pktbuf.Headroom)&^(kib-1), k.form.MaxBuffer)
	if err := p.Room(c, k.Max, buffer); err != nil {
		return nil, nil, err
	}
	for _, q := range p.Queues {
		r, err := NewRx(k.Device, RxOptions{
			Size: p.RingSize(c, ringSize), Pool: c.Pool, IOVA: p.IOVA, Buffer: buffer, Errors: k.form.RxErrors,
			Tail: k.R, Reg: k.queues.RxRegisters(q) + queueTail,
		})
		if err != nil {
			return rx, nil, err
		}
		k.rx[q] = r
		rx = append(rx, r)
	}
	t, err := NewTx(k.Device, TxOptions{
		Size: ringSize, Pool: c.Pool, IOVA: p.IOVA, Command: k.form.TxCommand, Payload: k.form.Payload, MaxFrame: k.Max,
		Tail: k.R, Reg: k.queues.TxRegisters(p.Queues[0]) + queueTail,
	})
	if err != nil {
		return rx, nil, err
	}
	k.tx[p.Queues[0]] = t
	p.Vector, p.Event = k.Events.Take()
	return rx, t, nil
}

// admit checks that a port is one of the kind that the others are, and that its
// address can be received beside theirs.
func (k *Card) admit(p *nic.Port, c *drivers.Config) error {
	if k.Pools && !WantsPool(c) {
		return fmt.Errorf("other ports of the device have an address and a queue each, without VLANs: %w", drivers.ErrUnsupported)
	}
	have := [][6]byte{k.MAC}
	for _, o := range k.Ports {
		if k.Pools && o.MAC == p.MAC {
			return fmt.Errorf("address % x is queue %d's: %w", p.MAC, o.Queues[0]+1, drivers.ErrBusy)
		}
		if !slices.Contains(have, o.MAC) {
			have = append(have, o.MAC)
		}
	}
	if len(have) >= k.form.Addresses && !slices.Contains(have, p.MAC) {
		return fmt.Errorf("the device receives %d addresses, and has as many: %w", k.form.Addresses, drivers.ErrUnsupported)
	}
	return nil
}

// Start gives the device a port's rings.
func (k *Card) Start(p *nic.Port) error {
	for _, q := range p.Queues {
		r := k.rx[q]
		k.place(k.queues.RxRegisters(q), r.mem.IOVA, len(r.desc)*8)
		k.queues.StartRx(q, int(r.size))
		r.Start()
		if p.Vector >= 0 {
			k.queues.Route(q, p.Vector)
		}
	}
	q := p.Queues[0]
	t := k.tx[q]
	k.place(k.queues.TxRegisters(q), t.mem.IOVA, len(t.desc)*8)
	k.queues.StartTx(q)
	return nil
}

// place tells a queue where its ring is.
func (k *Card) place(queue int, at uint64, n int) {
	k.R.Write32(queue+queueBaseLow, uint32(at))
	k.R.Write32(queue+queueBaseHigh, uint32(at>>32))
	k.R.Write32(queue+queueLength, uint32(n))
	k.R.Write32(queue+queueHead, 0)
	k.R.Write32(queue+queueTail, 0)
}

// Stop turns a port's queues off, after frames go to others.
func (k *Card) Stop(p *nic.Port) (bool, error) {
	if err := k.queues.Direct(); err != nil {
		return false, err
	}
	stopped := k.queues.StopTx(p.Queues[0])
	for _, q := range p.Queues {
		stopped = k.queues.StopRx(q) && stopped
	}
	if stopped {
		return true, nil
	}
	return false, fmt.Errorf("queues %v do not stop: the device is being reset", p.Queues)
}

// Drain waits up to ten milliseconds until the device has sent what a queue has.
func (k *Card) Drain(queue int) {
	for end := time.Now().Add(10 * time.Millisecond); k.R.Read32(queue+queueHead) != k.R.Read32(queue+queueTail) && time.Now().Before(end); {
		time.Sleep(50 * time.Microsecond)
	}
}

// Await waits until a register has the bits of mask as in want.
func (k *Card) Await(reg int, mask, want uint32, most time.Duration) bool {
	for end := time.Now().Add(most); ; time.Sleep(50 * time.Microsecond) {
		if k.R.Read32(reg)&mask == want {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// Wait waits so for up to ten milliseconds.
func (k *Card) Wait(reg int, mask, want uint32) bool {
	return k.Await(reg, mask, want, 10*time.Millisecond)
}

// Set sets bits of a register.
func (k *Card) Set(reg int, bits uint32) { k.R.Write32(reg, k.R.Read32(reg)|bits) }

// Clear clears bits of a register.
func (k *Card) Clear(reg int, bits uint32) { k.R.Write32(reg, k.R.Read32(reg)&^bits) }

// Counter is a register that counts, and is zero once it has been read.
type Counter struct {
	Reg int
	To  *uint64
}

// Count adds up what a port's queues, and the device's counters, have counted
// since they were last read. Those of the device the port that leads asks for.
func (k *Card) Count(p *nic.Port, device ...Counter) {
	for _, q := range p.Queues {
		p.Stats().RxDrop += k.queues.Dropped(q)
	}
	if p.Leads() {
		for _, c := range device {
			*c.To += k.Counted(c.Reg)
		}
	}
}

// Counted reads a register that counts. A device that goes meanwhile answers with
// ones, which count nothing.
func (k *Card) Counted(reg int) uint64 {
	if v := k.R.Read32(reg); v != AllOnes {
		return uint64(v)
	}
	return 0
}
