// Package nic holds what all drivers that own a network card share: the card
// that several workers use, the ports by which they do, the spreading of frames
// over their queues, and its reset while they do.
//
// A card is opened by the first of its ports and closed with the last:
//
//	worker 1 ─ Port ─ queue 0 ┐
//	worker 2 ─ Port ─ queue 1 ┼─ Share ─ Card (the driver's) ─ pci.Device
//	worker 3 ─ Port ─ queue 2 ┘
//
// Each port has queues of its own, and its worker's pool mapped for the device.
// Opening and closing happen on the engine's control goroutine and take locks;
// Rx, Tx and Flush touch nothing of this package but an atomic number.
//
// A buffer goes back to its pool only when the device cannot reach it any more:
// its queue is off, or the whole device was reset, or, where it does not even do
// that, may use no memory at all.
package nic

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"vita/drivers"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// Chip is a device that a driver knows.
type Chip = drivers.Chip

// Cards holds the open devices of one driver.
type Cards struct {
	Chips []Chip                                              // that the driver knows
	Open  func(d pci.Device, c *drivers.Config) (Card, error) // opens one: resets it and makes it ready, with bus master on
	mu    sync.Mutex
	open  map[string]*shared
}

type shared struct {
	card   Card
	device pci.Device
	shares []*Share
	pools  map[*pktbuf.Pool]*mapped
}

type mapped struct {
	iova  uint64
	users int
}

// Share is one port's part of a card.
type Share struct {
	Name   string // the device's address
	Card   Card
	Device pci.Device
	Queues []int  // of the device
	IOVA   uint64 // where the device sees the pool's region

	cards  *Cards
	shared *shared
	pool   *pktbuf.Pool
	leads  atomic.Bool
}

// QueuesOf returns the queues that a port of a device of our own is to have.
// Such a device uses as many queues as there are ports to serve them: a port
// that asks for all gets one, that all frames go to.
func QueuesOf(c *drivers.Config) []int {
	n := max(c.Every, 1)
	for _, q := range c.Queues {
		n = max(n, q+1)
	}
	return c.QueuesOf(n)
}

// Acquire gives a port its share of the device that c.PCI names, and opens the
// device if it is the first. A device of which the driver knows nothing is
// drivers.ErrUnknownDevice.
func (t *Cards) Acquire(c *drivers.Config) (*Share, error) {
	name, source, err := backend.Find(c)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(t.Chips, func(k Chip) bool { return k.Vendor == source.ID.Vendor && k.Device == source.ID.Device }) {
		return nil, fmt.Errorf("device %v: %w", source.ID, drivers.ErrUnknownDevice)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.open[name]
	if s == nil {
		if s, err = t.first(source, c); err != nil {
			return nil, err
		}
	}
	h := &Share{Name: name, Card: s.card, Device: s.device, Queues: QueuesOf(c), cards: t, shared: s, pool: c.Pool}
	if err = s.claim(h); err == nil {
		err = s.mapPool(h)
	}
	if err != nil {
		if len(s.shares) == 0 {
			err = errors.Join(err, s.close())
		}
		return nil, err
	}
	if t.open == nil {
		t.open = make(map[string]*shared)
	}
	t.open[name] = s
	s.shares = append(s.shares, h)
	s.elect()
	return h, nil
}

func (t *Cards) first(source backend.Source, c *drivers.Config) (*shared, error) {
	d, err := source.Open()
	if err != nil {
		return nil, err
	}
	s := &shared{device: d, pools: make(map[*pktbuf.Pool]*mapped)}
	if s.card, err = t.Open(d, c); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return s, nil
}

// claim checks that a port's queues are there and nobody else's.
func (s *shared) claim(h *Share) error {
	most := s.card.Queues()
	for i, q := range h.Queues {
		if q < 0 || q >= most {
			return fmt.Errorf("queue %d: the device has %d, for as many workers: %w", q+1, most, drivers.ErrUnsupported)
		}
		taken := slices.Contains(h.Queues[:i], q)
		for _, o := range s.shares {
			taken = taken || slices.Contains(o.Queues, q)
		}
		if taken {
			return fmt.Errorf("queue %d: %w", q+1, drivers.ErrBusy)
		}
	}
	if len(h.Queues) == 0 {
		return fmt.Errorf("a port without queues: %w", drivers.ErrUnsupported)
	}
	return nil
}

func (s *shared) mapPool(h *Share) error {
	m := s.pools[h.pool]
	if m == nil {
		iova, err := s.device.Map(h.pool.Region())
		if err != nil {
			return fmt.Errorf("packet buffers: %w", err)
		}
		m = &mapped{iova: iova}
		s.pools[h.pool] = m
	}
	m.users++
	h.IOVA = m.iova
	return nil
}

// elect makes one port see to what there is once a device: the one with the
// lowest queue.
func (s *shared) elect() {
	var first *Share
	for _, o := range s.shares {
		if first == nil || slices.Min(o.Queues) < slices.Min(first.Queues) {
			first = o
		}
	}
	for _, o := range s.shares {
		o.leads.Store(o == first)
	}
}

// Leads reports whether the port sees to the device's own counters, of which
// there is one set for all ports.
func (h *Share) Leads() bool { return h.leads.Load() }

// Others returns the queues of the device's other ports.
func (h *Share) Others() []int {
	h.cards.mu.Lock()
	defer h.cards.mu.Unlock()
	var out []int
	for _, o := range h.shared.shares {
		if o != h {
			out = append(out, o.Queues...)
		}
	}
	return out
}

// Release gives the share back: the device no longer reaches the pool, and is
// closed after its last port. The port's queues are stopped.
func (h *Share) Release() error {
	t, s := h.cards, h.shared
	t.mu.Lock()
	defer t.mu.Unlock()
	s.shares = slices.DeleteFunc(s.shares, func(o *Share) bool { return o == h })
	s.elect()
	var errs []error
	if len(s.shares) == 0 { // before the memory goes
		delete(t.open, h.Name)
		errs = append(errs, s.card.Close())
	}
	if m := s.pools[h.pool]; m != nil {
		if m.users--; m.users == 0 {
			delete(s.pools, h.pool)
			errs = append(errs, s.device.Unmap(h.pool.Region()))
		}
	}
	if len(s.shares) == 0 {
		errs = append(errs, s.device.Close())
	}
	return errors.Join(errs...)
}

// close closes a device of which nobody got a share.
func (s *shared) close() error { return errors.Join(s.card.Close(), s.device.Close()) }
