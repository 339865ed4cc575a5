package client

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"vita/forwarding/drop"
	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
	"vita/internal/clock"
)

// ErrCapturing says that a capture is going on already.
var ErrCapturing = errors.New("another capture is going on: there can be one at a time")

// Captured is one captured packet.
type Captured struct {
	Queue  uint16
	Point  tables.Point
	Reason drop.Reason // where the point is Dropped
	Raw    bool        // it begins with its IP header; false: it is an Ethernet frame
	Time   time.Time
	Length int    // of the packet
	Data   []byte // what was kept of it; valid during the call only
}

// drainEvery is how often captured packets are taken from the engine.
const drainEvery = 5 * time.Millisecond

// Capture captures packets until ctx ends, f returns an error, which it then
// returns, or the engine goes. Begun is called once when packets are captured,
// idle each time that f has been given all there were. Missed tells, by queue,
// how many packets could not be kept because they came too fast.
func (c *Client) Capture(ctx context.Context, filter tables.Capture, begun func(), f func(Captured) error, idle func() error) (missed map[uint16]uint64, err error) {
	done, err := c.hold()
	if err != nil {
		return nil, err
	}
	defer done()
	if !c.capturing.CompareAndSwap(false, true) {
		return nil, ErrCapturing
	}
	defer c.capturing.Store(false)

	before := make([]uint64, len(c.mem.Workers))
	for slot := range c.mem.Workers {
		if atomic.LoadUint64(&c.mem.Workers[slot].Rounds) == 0 {
			continue // never used: reading it would take memory
		}
		r := c.mem.CaptureRing(slot)
		r.Clear()
		before[slot] = atomic.LoadUint64(&r.Missed)
	}
	if _, err := c.request(ctx, &ctl.Request{Kind: ctl.StartCapture, Capture: filter}); err != nil {
		return nil, err
	}
	begun()
	offset := time.Now().UnixNano() - clock.Mono() // between the engine's clock and the time of day
	err = c.drainCaptures(ctx, offset, f, idle)

	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, stopErr := c.request(end, &ctl.Request{Kind: ctl.StopCapture})
	if err == nil {
		err = c.takeCaptures(offset, f) // what came in the last moment
	}
	if err == nil {
		err = stopErr
	}
	missed = map[uint16]uint64{}
	for slot := range c.mem.Workers {
		w := &c.mem.Workers[slot]
		if queue := atomic.LoadUint64(&w.Queue); queue != 0 {
			missed[uint16(queue)] += atomic.LoadUint64(&c.mem.CaptureRing(slot).Missed) - before[slot]
		}
	}
	return missed, err
}

func (c *Client) drainCaptures(ctx context.Context, offset int64, f func(Captured) error, idle func() error) error {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		if err := c.takeCaptures(offset, f); err != nil {
			return err
		}
		if err := idle(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.gone:
			return ErrNoEngine
		case <-tick.C:
		}
	}
}

// takeCaptures hands over what waits now, in each worker's order.
func (c *Client) takeCaptures(offset int64, f func(Captured) error) error {
	for slot := range c.mem.Workers {
		w := &c.mem.Workers[slot]
		queue := atomic.LoadUint64(&w.Queue)
		if queue == 0 {
			continue
		}
		ring := c.mem.CaptureRing(slot)
		for e := ring.Next(); e != nil; e = ring.Next() {
			k := Captured{
				Queue: uint16(queue), Point: e.Point, Reason: drop.Reason(e.Reason), Raw: e.Raw != 0,
				Time: time.Unix(0, offset+e.Time), Length: int(e.Length), Data: e.Bytes(),
			}
			err := f(k)
			ring.Release()
			if err != nil {
				return err
			}
		}
	}
	return nil
}
