package datastore

import (
	"context"
	"errors"
	"time"

	"vita/gen"
	"vita/internal/atrest"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/nacm"
)

// largeCommit is of how many changes a commit is worth a burst of memory.
const largeCommit = 10000

// commit makes candidate, which is running with the changes of j, the running
// configuration, and c what waits to be confirmed from then on. The caller holds
// d.change, and puts candidate right if there is an error: everything else is as it
// was then.
func (d *Datastore) commit(ctx context.Context, j edit.Journal, by *Record, c *confirmation) error {
	if len(j) > largeCommit {
		defer atrest.Burst()()
	}
	w := d.write(j, by, c) // beside what follows; it is no fact before it is told so
	defer w.abort()        // unless it has become one
	if len(j) == 0 {       // a confirmation alone
		return w.persist(ctx)
	}
	step := d.o.OnStep

	step("validate")
	if errs := d.checker.Check(j); errs != nil {
		return errs
	}
	rules, err := d.rules(j)
	if err != nil {
		return err
	}
	var followed []func()
	for _, f := range d.o.Followers {
		if touches(j, f.Module, f.Name) {
			publish, err := f.Prepare(d.candidate.tree)
			if err != nil {
				return err
			}
			followed = append(followed, publish)
		}
	}

	step("prepare") // the last that can fail for a reason of the configuration's own
	prepared, err := d.prepare(ctx, d.candidate.tree, j)
	if err != nil {
		return applyError(err)
	}

	step("persist") // one transaction: from here on the commit is a fact
	if err := w.persist(ctx); err != nil {
		step("abort")
		prepared.Abort()
		return err
	}

	step("publish")
	d.give(j)
	prepared.Publish()
	if rules != nil {
		d.o.Access.Set(rules)
	}
	for _, publish := range followed {
		publish()
	}
	d.versions.commit(j, d.store.primary.seq)

	step("done")
	return nil
}

// give makes running what candidate is. Entries of lists at the top they have in
// common from then on.
func (d *Datastore) give(j edit.Journal) {
	d.running.Lock()
	defer d.running.Unlock()
	var rest edit.Journal // of what is not shared
	for i := range j {
		if !d.draft.Give(d.running.tree, j[i].Place) {
			rest = append(rest, j[i])
		}
	}
	rest.Redo(d.running.tree)
	d.draft.Given()
}

// writing is a commit on its way to the disk.
type writing struct {
	*transaction
	d     *Datastore
	after ahead // of startup, once it is there
}

// write begins to write a commit.
func (d *Datastore) write(j edit.Journal, by *Record, c *confirmation) *writing {
	x := extra{confirm: c.encode()}
	if len(j) > 0 {
		by.At = time.Now()
		x.record = by.encode(j)
	}
	// A client of RESTCONF has no way to save running, nor has it to: that
	// is done with its edit (RFC 8040 section 1.4).
	after := d.ahead
	after.add(j)
	if d.o.Startup && by.saves && len(j) > 0 {
		x.startup = after.saved(d.candidate.tree)
		after = ahead{known: true}
	}
	return &writing{d.store.begin(j, x), d, after}
}

// persist makes a commit durable, or leaves everything as it was.
func (w *writing) persist(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		if err = w.commit(); err == nil {
			w.d.ahead = w.after
			return nil
		}
	}
	return &rpcerr.Error{
		Type: rpcerr.Application, Tag: "operation-failed",
		Message: "the configuration could not be stored: " + err.Error(),
	}
}

// recordOf starts the history's record of a session's commit.
func recordOf(s *Session) *Record {
	return &Record{User: s.User, Transport: s.Transport, saves: s.Transport == "restconf"}
}

// rules compiles the rules of access as they are in candidate, where a journal
// changes them; nil otherwise.
func (d *Datastore) rules(j edit.Journal) (*nacm.Policy, error) {
	if d.o.Access == nil || !touches(j, "ietf-netconf-acm", "nacm") {
		return nil, nil
	}
	return d.policy(d.candidate.tree)
}

func (d *Datastore) prepare(ctx context.Context, root *gen.Vita, changes Journal) (Prepared, error) {
	if d.o.Applier == nil {
		return nothing{}, nil
	}
	return d.o.Applier.Prepare(ctx, root, changes)
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
