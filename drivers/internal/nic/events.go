package nic

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vita/drivers/internal/pci"
)

// Event is a descriptor that a worker waits on, which an interrupt of a card
// makes readable.
type Event struct {
	fd  int
	buf [8]byte
}

// Fd returns the descriptor, or -1 where there is no interrupt.
func (e *Event) Fd() int { return e.fd }

// Clear makes it not readable.
func (e *Event) Clear() {
	_, _ = unix.Read(e.fd, e.buf[:]) // does not block; empty is fine
}

// Raise makes it readable, as an interrupt would.
func (e *Event) Raise() {
	e.buf = [8]byte{1}
	_, _ = unix.Write(e.fd, e.buf[:])
}

// Events are the interrupts of a card, by vector, given out one at a time. They
// are not safe for concurrent use.
type Events struct {
	all  []*Event
	used []bool
}

// OpenEvents opens up to n of a device's interrupts: as many as it has.
func OpenEvents(d pci.Device, n int) (*Events, error) {
	n = min(n, d.Vectors())
	e := &Events{used: make([]bool, n)}
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("eventfd: %w", err), e.closeAll())
		}
		fds[i] = fd
		e.all = append(e.all, &Event{fd: fd})
	}
	if n > 0 {
		if err := d.Interrupts(fds); err != nil {
			return nil, errors.Join(err, e.closeAll())
		}
	}
	return e, nil
}

// Take gives out a vector. Where none is left, it is -1, with an event that
// never comes.
func (e *Events) Take() (vector int, ev *Event) {
	for i, u := range e.used {
		if !u {
			e.used[i] = true
			return i, e.all[i]
		}
	}
	return -1, &Event{fd: -1}
}

// Give takes a vector back.
func (e *Events) Give(vector int) {
	if vector >= 0 {
		e.used[vector] = false
		e.all[vector].Clear()
	}
}

// Close turns the interrupts off.
func (e *Events) Close(d pci.Device) error {
	var err error
	if len(e.all) > 0 {
		err = d.Interrupts(nil)
	}
	return errors.Join(err, e.closeAll())
}

func (e *Events) closeAll() error {
	var errs []error
	for _, ev := range e.all {
		errs = append(errs, unix.Close(ev.fd))
	}
	e.all, e.used = nil, nil
	return errors.Join(errs...)
}
