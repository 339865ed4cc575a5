package datastore

import (
	"context"
	"errors"
	"time"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
)

// commit makes candidate, which is running with the changes of j, the running
// configuration, and c what waits to be confirmed from then on. The caller holds d.change, and puts candidate right if there
// is an error: everything else is as it was then.
func (d *Datastore) commit(ctx context.Context, j edit.Journal, by *Record, c *confirmation) error {
	if len(j) == 0 { // a confirmation alone
		return d.persist(ctx, j, by, c)
	}
	step := d.o.OnStep

	step("validate")
	if errs := d.checker.Check(j); errs != nil {
		return errs
	}

	step("prepare") // the last that can fail for a reason of the configuration's own
	prepared, err := d.prepare(ctx, d.candidate.tree)
	if err != nil {
		return applyError(err)
	}

	step("persist") // one transaction: from here on the commit is a fact
	if err := d.persist(ctx, j, by, c); err != nil {
		step("abort")
		prepared.Abort()
		return err
	}

	step("publish")
	d.running.Lock()
	j.Redo(d.running.tree)
	d.running.Unlock()
	prepared.Publish()
	d.versions.commit(j, d.store.primary.seq)

	step("done")
	return nil
}

// persist makes a commit durable.
func (d *Datastore) persist(ctx context.Context, j edit.Journal, by *Record, c *confirmation) error {
	err := ctx.Err()
	if err == nil {
		var record []byte
		if len(j) > 0 {
			by.At = time.Now()
			record = by.encode(j)
		}
		err = d.store.write(j, record, c.encode())
	}
	if err == nil {
		return nil
	}
	return &rpcerr.Error{
		Type: rpcerr.Application, Tag: "operation-failed",
		Message: "the configuration could not be stored: " + err.Error(),
	}
}

// recordOf starts the history's record of a session's commit.
func recordOf(s *Session) *Record { return &Record{User: s.User, Transport: s.Transport} }

func (d *Datastore) prepare(ctx context.Context, root *gen.Vita) (Prepared, error) {
	if d.o.Applier == nil {
		return nothing{}, nil
	}
	return d.o.Applier.Prepare(ctx, root)
}

type nothing struct{}

func (nothing) Publish() {}
func (nothing) Abort()   {}

// applyError makes what an Applier says an error for clients, unless it is
// one already.
func applyError(err error) error {
	if _, ok := errors.AsType[*rpcerr.Error](err); ok {
		return err
	}
	return &rpcerr.Error{
		Type: rpcerr.Application, Tag: "operation-failed",
		Message: "the configuration cannot be applied: " + err.Error(),
	}
}
