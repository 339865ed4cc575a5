package client

import (
	"context"
	"errors"
	"time"

	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
)

// Prepared is a generation of tables that waits to be published.
type Prepared struct {
	c         *Client
	word      uint64
	tables    *tables.Tables
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
	if err := c.retirePending(ctx); err != nil {
		return nil, err
	}
	c.state.Lock()
	if c.state.pending != nil {
		c.state.Unlock()
		return nil, errors.New("another configuration is being prepared")
	}
	generation, place := tables.Split(c.mem.Current())
	p := &Prepared{c: c, word: tables.Word(generation+1, place^1)}
	c.state.pending = p
	live := c.state.live
	c.state.Unlock()

	err = c.build(ctx, p, s, live)
	if err != nil {
		c.state.Lock()
		c.state.pending = nil
		p.ended = true
		c.state.Unlock()
		return nil, err
	}
	return p, nil
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
	if err := tables.Build(mem, s, live, generation, int(c.mem.Header.MaxRoutes)); err != nil {
		return err
	}
	t, err := tables.Open(mem)
	if err != nil {
		return err
	}
	p.tables = t
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
// cannot fail. Workers turn to them with their next batch.
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
	c.mem.Publish(p.word)
	c.setLive(p.tables)
	for i := range p.tables.Workers {
		c.wake[p.tables.Workers[i].Slot].signal()
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
	c.abort(p)
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
