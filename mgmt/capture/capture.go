// Package capture makes packet captures for management clients: options.go
// turns what a client asks for into the engine's filter, capture.go what the
// engine captures into pcapng.
//
// Like mgmt/state it stands between management and the engine; it knows neither
// the model nor a protocol. What was captured goes to the client alone, never
// to a log or a file.
package capture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/internal/pcapng"
	"vita/mgmt/internal/rpcerr"
)

// Source is where packets come from: *client.Client.
type Source interface {
	Capture(ctx context.Context, filter tables.Capture, begun func(), f func(client.Captured) error, idle func() error) (missed map[uint16]uint64, err error)
}

// Capturer makes captures.
type Capturer struct{ source Source }

// New returns a Capturer.
func New(s Source) *Capturer { return &Capturer{s} }

// Capture is one capture that a client has asked for.
type Capture struct {
	source Source
	o      *options
}

// Result is how a capture ended.
type Result struct{ Captured, Missed uint64 }

// Sink takes a capture. Begin is called once before the first byte; after an
// error before that, nothing was captured. Flush is called when there is nothing
// more to write for the moment.
type Sink interface {
	io.Writer
	Begin()
	Flush() error
}

// Ask checks the options of a capture, which are query parameters.
func (c *Capturer) Ask(q url.Values) (*Capture, error) {
	o, err := parse(q)
	if err != nil {
		return nil, err
	}
	return &Capture{c.source, o}, nil
}

var errEnough = errors.New("as many packets as were asked for")

// Run captures until a limit is reached, ctx ends or the sink fails.
func (c *Capture) Run(ctx context.Context, to Sink) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.time)
	defer cancel()
	buffer := bufio.NewWriterSize(to, 64<<10)
	w := &writer{most: c.o.packets, snap: int(c.o.filter.Snap), places: map[place]int{}}
	missed, err := c.source.Capture(ctx, c.o.filter, func() {
		to.Begin()
		w.pcap, w.err = pcapng.NewWriter(buffer, "vita")
	}, w.write, func() error {
		if w.err == nil {
			w.err = buffer.Flush()
		}
		if w.err == nil {
			w.err = to.Flush()
		}
		return w.err
	})
	switch {
	case errors.Is(err, client.ErrCapturing):
		return Result{}, &rpcerr.Error{Type: rpcerr.Application, Tag: "in-use", Message: "capture: " + err.Error()}
	case errors.Is(err, errEnough):
		err = nil
	case err != nil:
		return Result{Captured: w.count}, err
	}
	r := Result{Captured: w.count}
	for _, n := range missed {
		r.Missed += n
	}
	if err == nil {
		err = w.end(missed)
	}
	if err == nil {
		err = buffer.Flush()
	}
	if err == nil {
		err = to.Flush()
	}
	return r, err
}

// place is where packets of one queue were taken, and in which form.
type place struct {
	queue uint16
	point tables.Point
	raw   bool
}

// writer writes captured packets, each place as an interface of its own.
type writer struct {
	pcap   *pcapng.Writer
	snap   int
	most   uint64
	count  uint64
	places map[place]int
	order  []place
	counts []uint64
	err    error
}

var directions = [tables.NumPoints]pcapng.Direction{
	tables.PrivateRx: pcapng.Received, tables.PublicRx: pcapng.Received, tables.InnerInbound: pcapng.Received,
	tables.PrivateTx: pcapng.Sent, tables.PublicTx: pcapng.Sent, tables.InnerOutbound: pcapng.Sent,
}

func (w *writer) write(k client.Captured) error {
	if w.err != nil {
		return w.err
	}
	if w.count == w.most {
		return errEnough
	}
	if int(k.Point) >= tables.NumPoints {
		return nil // damage
	}
	at := place{k.Queue, k.Point, k.Raw}
	i, ok := w.places[at]
	if !ok {
		link := pcapng.Ethernet
		if k.Raw {
			link = pcapng.Raw
		}
		i, w.err = w.pcap.AddInterface(pcapng.Interface{Name: k.Point.String(), Description: fmt.Sprintf("queue %d", k.Queue), LinkType: link, Snap: w.snap})
		if w.err != nil {
			return w.err
		}
		w.places[at] = i
		w.order, w.counts = append(w.order, at), append(w.counts, 0)
	}
	p := pcapng.Packet{Interface: i, Time: k.Time, Data: k.Data, Length: k.Length, Direction: directions[k.Point]}
	if k.Point == tables.Dropped {
		p.Comment = "dropped: " + k.Reason.String()
	}
	if w.err = w.pcap.Write(p); w.err != nil {
		return w.err
	}
	w.count++
	w.counts[i]++
	if w.count == w.most {
		return errEnough
	}
	return nil
}

// end writes for each queue what it has missed, at the first of its interfaces.
func (w *writer) end(missed map[uint16]uint64) error {
	if w.err != nil {
		return w.err
	}
	now := time.Now()
	told := map[uint16]bool{}
	for i, at := range w.order {
		n := uint64(0)
		if !told[at.queue] {
			n = missed[at.queue]
		}
		told[at.queue] = true
		if err := w.pcap.WriteStatistics(i, now, w.counts[i], n); err != nil {
			return err
		}
	}
	return nil
}
