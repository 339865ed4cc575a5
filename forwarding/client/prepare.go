package client

import (
	"context"
	"errors"
	"time"

	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
)

// Prepared is a generation of tables, or a change of the live one, that waits to
// be published.
type Prepared struct {
	c         *Client
	word      uint64
	writer    *tables.Writer
	change    *tables.Prepared // nil: a generation
	ids       *tables.Change   // likewise
	published bool
	ended     bool
}

// Prepare builds the tables for a Spec in the idle place of the shared memory;
// the engine checks them and opens the ports they name. The live tables stay
// as they are. It fails with a *PortError where a port cannot be opened, and
// with tables.ErrSpec where the Spec cannot be built. A generation that was
// published and not retired is retired first; one that was neither published
// nor aborted stands in the way.
func (c *Client) Prepare(ctx context.Context, s *tables.Spec) (*Prepared, error) {
	done, err := c.hold()
	if err != nil {
		return nil, err
	}
	defer done()
	p, live, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	generation, place := tables.Split(p.word)
	p.word = tables.Word(generation+1, place^1)
	if err := c.build(ctx, p, s, live); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// begin makes what is going to be prepared the only one of its kind. Its word is
// that of the live tables.
func (c *Client) begin(ctx context.Context) (*Prepared, *tables.Tables, error) {
	if err := c.retirePending(ctx); err != nil {
		return nil, nil, err
	}
	c.state.Lock()
	defer c.state.Unlock()
	if c.state.pending != nil {
		return nil, nil, errors.New("another configuration is being prepared")
	}
	p := &Prepared{c: c, word: c.mem.Current()}
	c.state.pending = p
	return p, c.state.live, nil
}

// PrepareChange prepares a change of some routes in the live tables, whose cost
// follows from the change alone. Everything else is to stay as it was prepared
// last. It fails with tables.ErrRebuild where the tables have to be built anew,
// by Prepare, and with tables.ErrSpec where the change cannot be made.
func (c *Client) PrepareChange(ctx context.Context, change *tables.Change) (*Prepared, error) {
	done, err := c.hold()
	if err != nil {
		return nil, err
	}
	defer done()
	p, _, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	p.ids = change
	if err := c.prepareChange(ctx, p); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func (c *Client) prepareChange(ctx context.Context, p *Prepared) (err error) {
	c.state.Lock()
	p.writer = c.state.writer
	c.state.Unlock()
	if p.writer == nil {
		return tables.ErrRebuild
	}
	c.rows.Lock()
	p.change, err = p.writer.Prepare(p.ids)
	c.rows.Unlock()
	if err != nil || len(p.change.New) == 0 {
		return err
	}
	if err = c.slots(ctx, ctl.Request{Kind: ctl.Change, Word: p.word}, p.change.New); err != nil {
		c.rows.Lock()
		p.writer.Abort(p.change)
		c.rows.Unlock()
	}
	return err
}

// slots sends a request about slots, in parts.
func (c *Client) slots(ctx context.Context, r ctl.Request, slots []uint32) error {
	for {
		n := copy(r.Slots[:], slots)
		r.SlotsLen = uint32(n)
		slots = slots[n:]
		if _, err := c.request(ctx, &r); err != nil || len(slots) == 0 {
			return err
		}
		r.Idle = 0
	}
}

// settle waits until every worker has begun a new turn, by when SAs of routes
// that went have ended, and gives back what the change took out of use.
func (p *Prepared) settle(ctx context.Context) error {
	c := p.c
	r := ctl.Request{Kind: ctl.Settle, Word: p.word}
	if p.change.Idle {
		r.Idle = 1
	}
	if err := c.slots(ctx, r, p.change.Removed); err != nil {
		return err
	}
	p.writer.Settle(p.change)
	p.end()
	return nil
}

func (c *Client) retirePending(ctx context.Context) error {
	c.state.Lock()
	p := c.state.pending
	published := p != nil && p.published
	c.state.Unlock()
	if !published {
		return nil
	}
	return p.Retire(ctx)
}

func (c *Client) build(ctx context.Context, p *Prepared, s *tables.Spec, live *tables.Tables) error {
	generation, place := tables.Split(p.word)
	mem := c.mem.Tables(place)
	var err error
	if p.writer, err = tables.NewWriter(mem, s, live, generation, int(c.mem.Header.MaxRoutes)); err != nil {
		return err
	}
	_, err = c.request(ctx, &ctl.Request{Kind: ctl.Prepare, Word: p.word})
	if err != nil && ctx.Err() != nil {
		// The engine may still be at it: what it opens must not stay open.
		c.abort(p)
	}
	return err
}

func (c *Client) abort(p *Prepared) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// Where this fails the engine has gone, or notices that we have.
	_, _ = c.request(ctx, &ctl.Request{Kind: ctl.Abort, Word: p.word})
}

// Publish makes the prepared tables the live ones: one atomic store, which
// cannot fail. Workers turn to them with their next batch. A change it carries
// out in the live tables, route by route (see tables.Writer).
func (p *Prepared) Publish() {
	c := p.c
	done, err := c.hold()
	if err != nil {
		return
	}
	defer done()
	c.state.Lock()
	defer c.state.Unlock()
	if p.ended || p.published {
		return
	}
	p.published = true
	if p.change != nil {
		p.writer.Commit(p.change)
		return
	}
	c.mem.Publish(p.word)
	t := p.writer.Tables()
	c.state.live, c.state.writer, c.state.routes = t, p.writer, nil
	for i := range t.Workers {
		c.wake[t.Workers[i].Slot].signal()
	}
}

// Retire waits until every worker works by the published tables; the ports and
// SAs that they no longer name are then gone.
func (p *Prepared) Retire(ctx context.Context) error {
	c := p.c
	c.state.Lock()
	if p.ended {
		c.state.Unlock()
		return nil
	}
	if !p.published {
		c.state.Unlock()
		return errors.New("tables were not published")
	}
	c.state.Unlock()
	if p.change != nil {
		return p.settle(ctx)
	}
	if _, err := c.request(ctx, &ctl.Request{Kind: ctl.Retire, Word: p.word}); err != nil {
		return err
	}
	p.end()
	return nil
}

// Abort undoes Prepare. It does nothing once Publish was called.
func (p *Prepared) Abort() {
	c := p.c
	c.state.Lock()
	if p.ended || p.published {
		c.state.Unlock()
		return
	}
	p.ended = true
	c.state.Unlock()
	if p.change != nil {
		c.rows.Lock()
		p.writer.Abort(p.change)
		c.rows.Unlock()
	} else {
		c.abort(p)
	}
	p.end()
}

func (p *Prepared) end() {
	c := p.c
	c.state.Lock()
	defer c.state.Unlock()
	p.ended = true
	if c.state.pending == p {
		c.state.pending = nil
	}
}
