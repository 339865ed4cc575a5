package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vita/forwarding/tables"
)

// Message is the UDP payload of a key exchange message.
type Message struct {
	Queue   uint16
	Peer    netip.AddrPort // the remote end
	Payload []byte
}

// eventFile is one end of an eventfd. A nil eventFile signals nobody.
type eventFile struct {
	f         *os.File
	receiving atomic.Bool
}

func newEventFile(fd int) *eventFile {
	_ = unix.SetNonblock(fd, true) // so that reads can be given a deadline
	return &eventFile{f: os.NewFile(uintptr(fd), "eventfd")}
}

var eventOne = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// signal wakes whoever waits at the other end. A file that is full has been
// signalled enough.
func (e *eventFile) signal() {
	if e != nil {
		_, _ = e.f.Write(eventOne)
	}
}

// wait returns when the file was signalled or ctx has ended.
func (e *eventFile) wait(ctx context.Context) error {
	if err := e.f.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = e.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var b [8]byte
	_, err := e.f.Read(b[:])
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (e *eventFile) close() error { return e.f.Close() }

// Receive calls f for every message that peers have sent, until ctx ends or
// the engine goes. The payload is valid during the call only.
func (c *Client) Receive(ctx context.Context, f func(Message)) error {
	done, err := c.hold()
	if err != nil {
		return err
	}
	defer done()
	if !c.punt.receiving.CompareAndSwap(false, true) {
		return errReceiving
	}
	defer c.punt.receiving.Store(false)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.gone:
			cancel(ErrNoEngine)
		case <-ctx.Done():
		}
	}()
	for {
		c.drain(f)
		idle := true
		for slot := range c.mem.Workers {
			idle = c.mem.ToControl(slot).Arm() && idle
		}
		if !idle {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue
		}
		if err := c.punt.wait(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) { // of a Receive before this one
				continue
			}
			return fmt.Errorf("wait for messages: %w", err)
		}
	}
}

func (c *Client) drain(f func(Message)) {
	for slot := range c.mem.Workers {
		ring := c.mem.ToControl(slot)
		for e := ring.Next(); e != nil; e = ring.Next() {
			// A ring may still hold messages of a worker that has ended, whose
			// queue is 0 by now: nobody could answer them.
			if queue := atomic.LoadUint64(&c.mem.Workers[slot].Queue); queue != 0 {
				f(Message{Queue: uint16(queue), Peer: e.Peer(), Payload: e.Payload()})
			}
			ring.Release()
		}
	}
}

// Send hands a message to the engine, which sends it from the address and
// port of the message's queue. It fails with ErrRingFull or ErrNoRoute.
func (c *Client) Send(m Message) error {
	done, err := c.hold()
	if err != nil {
		return err
	}
	defer done()
	c.state.Lock()
	slot := -1
	if c.state.live != nil {
		slot = c.state.live.WorkerSlot(m.Queue)
	}
	c.state.Unlock()
	if slot < 0 {
		return fmt.Errorf("send from queue %d: %w", m.Queue, ErrNoRoute)
	}
	if !m.Peer.IsValid() || len(m.Payload) > tables.MaxPayload {
		return fmt.Errorf("send %d bytes to %s: no address, or too long", len(m.Payload), m.Peer)
	}
	c.send.Lock()
	ok, wake := c.mem.FromControl(slot).Put(m.Peer, m.Payload)
	c.send.Unlock()
	if !ok {
		return ErrRingFull
	}
	if wake {
		c.wake[slot].signal()
	}
	return nil
}
