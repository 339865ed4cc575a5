package nic

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"vita/drivers"
	"vita/drivers/internal/pci"
)

// Card is a driver's part of an open device: what differs from one kind of
// device to the next. It embeds a Common, which has the rest.
//
// All but Sync and Arm are called under the card's lock, or by the one who alone
// has the card.
type Card interface {
	// Queues returns how many pairs of queues there are for ports.
	Queues() int
	// Rings makes the rings of a port's queues, all of whose frames are sent by
	// the first one, and says by which interrupt its worker is woken. What it has
	// made when it fails is closed by the caller.
	Rings(p *Port, c *drivers.Config) ([]RxRing, TxRing, error)
	// Start gives the device a port's rings, which are as new.
	Start(p *Port) error
	// Direct tells the device which frames are received, and by which queues:
	// those of k.Ports.
	Direct() error
	// Stop ends the device's use of a port's rings, after frames go to the
	// others. It reports whether the use has ended; where that can be had for the
	// whole device alone, it does nothing.
	Stop(p *Port) (bool, error)
	// Reset brings the device to the state after power up, which ends its use of
	// memory. It is ErrGone where nobody answers.
	Reset() error
	// Setup makes a device that was reset ready for rings, and directs frames.
	Setup() error
	// Sync reads the state of the device and adds up what it has counted. It is
	// ErrGone where nobody answers. The port's worker calls it.
	Sync(p *Port) (State, error)
	// Arm has the next frame interrupt, once. The port's worker calls it.
	Arm(p *Port)
	// Close stops the device, so that it no longer uses memory, and frees what
	// the card has. The device itself is closed by the caller.
	Close() error

	common() *Common
}

// State is what a device says of itself.
type State struct {
	Up      bool // the link
	Speed   int  // Mbit/s; 0 = unknown
	Blinked bool // the link went and came back since this was last asked
	Broken  bool // it has to be reset
}

// Common is what all drivers have of a card.
type Common struct {
	Driver string
	Device pci.Device
	MAC    [6]byte // the device's own address
	MTU    int
	RSS    drivers.RSS
	Way    string // how frames go to queues, where that may differ: for the log

	card     Card
	recovery Recovery
	gone     atomic.Bool // it does not answer, or not as it must
	wanted   atomic.Bool // the system asks for the device

	mu     sync.Mutex // over what follows, and what the driver has; ports open and close, and a reset
	Events *Events
	Ports  []*Port
	idle   bool // it uses no memory, and does nothing, before it has been reset and set up
}

// MaxMTU is the largest MTU that any device is asked for.
const MaxMTU = 9000

const (
	minMTU    = 68
	usualMTU  = 1500
	headerLen = 14
	tagLen    = 4
)

// ErrGone says that the device no longer answers.
var ErrGone = errors.New("the device does not answer: it was taken away, or has failed")

func (k *Common) common() *Common { return k }

// Begin says what a card is, before anything is asked of the device.
func (k *Common) Begin(driver string, card Card, d pci.Device, c *drivers.Config) {
	k.Driver, k.card, k.Device, k.RSS = driver, card, d, drivers.RSS{Key: RSSKey}
	if c.RSS != nil {
		k.RSS = *c.RSS
	}
}

// ChooseMTU takes what is asked for, and else what is usual, or less where the
// device has no more.
func (k *Common) ChooseMTU(want, most int) error {
	most = min(most, MaxMTU)
	if k.MTU = want; want == 0 {
		k.MTU = min(usualMTU, most)
	}
	if k.MTU < minMTU || k.MTU > most {
		return fmt.Errorf("MTU %d: the device has %d to %d: %w", k.MTU, minMTU, most, drivers.ErrUnsupported)
	}
	return nil
}

// MaxFrame returns the bytes of the largest frame, with a VLAN tag and without
// check sequence.
func (k *Common) MaxFrame() int { return k.MTU + headerLen + tagLen }

// Power lets the device use memory, and opens up to n of its interrupts.
func (k *Common) Power(n int) error {
	if err := pci.SetMaster(k.Device, true); err != nil {
		return err
	}
	var err error
	k.Events, err = OpenEvents(k.Device, n)
	return err
}

// ValidMAC checks the device's own address, which comes from somewhere.
func (k *Common) ValidMAC(from string) error {
	if k.MAC == ([6]byte{}) || k.MAC[0]&1 != 0 {
		return fmt.Errorf("the device%s has no valid address: % x", from, k.MAC)
	}
	return nil
}

// Open returns the queues that ports have, in order.
func (k *Common) Open() []int {
	var open []int
	for _, p := range k.Ports {
		open = append(open, p.Queues...)
	}
	slices.Sort(open)
	return open
}

// Gone reports whether the device is of no use any more.
func (k *Common) Gone() bool { return k.gone.Load() }

// Lose gives the device up: it does not answer, or not as it must. One that is
// there all the same reaches no memory any more.
func (k *Common) Lose() {
	if !k.gone.Swap(true) {
		_ = k.master(false)
	}
}

// master lets the device use memory, or not. One that is gone cannot.
func (k *Common) master(on bool) error {
	if err := pci.SetMaster(k.Device, on); err != nil && !pci.Gone(k.Device) {
		return err
	}
	return nil
}

// halt ends the device's use of memory, all of it, until it is restarted. One
// that cannot be reset is as good as gone. The caller holds k.mu.
func (k *Common) halt() error {
	k.idle = true
	if k.gone.Load() {
		return nil
	}
	err := k.card.Reset()
	if err != nil {
		k.Lose()
	}
	if errors.Is(err, ErrGone) {
		return nil
	}
	return errors.Join(err, k.master(false))
}

// restart resets the device and sets it up again. Where that fails, it is given
// up. The caller holds k.mu.
func (k *Common) restart() {
	if k.gone.Load() {
		return
	}
	err := k.card.Reset()
	if err == nil {
		err = pci.SetMaster(k.Device, true) // which halt has taken away
	}
	if err == nil {
		err = k.card.Setup()
	}
	if err != nil {
		_ = k.halt()
		k.Lose()
		return
	}
	k.idle = false
}

// Close stops the device.
func (k *Common) Close() error {
	var err error
	if !k.idle {
		err = k.halt()
	}
	return errors.Join(err, k.Events.Close(k.Device), k.master(false))
}
