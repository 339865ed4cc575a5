package datastore

import (
	"context"
	"errors"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
)

// commit makes candidate, which is running with the changes of j, the running
// configuration. The caller holds d.change, and puts candidate right if there
// is an error: everything else is as it was then.
func (d *Datastore) commit(ctx context.Context, j edit.Journal) error {
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
	err = ctx.Err()
	if err == nil {
		err = d.store.write(j)
	}
	if err != nil {
		step("abort")
		prepared.Abort()
		return &rpcerr.Error{
			Type: rpcerr.Application, Tag: "operation-failed",
			Message: "the configuration could not be stored: " + err.Error(),
		}
	}

	step("publish")
	d.running.Lock()
	j.Redo(d.running.tree)
	d.running.Unlock()
	prepared.Publish()

	step("done")
	return nil
}

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
