package datastore

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
)

// A confirmed commit (RFC 6241 section 8.4) is in force at once and is taken
// back unless another commit confirms it in time, or when the session that made
// it ends. What takes it back is on disk together with the commit, so that it
// happens after a crash as well.

// CommitOptions are the parameters of a commit.
type CommitOptions struct {
	Confirmed bool
	Timeout   time.Duration // 0: ten minutes
	Persist   string        // the confirmed commit outlives its session; this names it
	PersistID string        // names the confirmed commit that is confirmed or followed up
}

const (
	defaultConfirmTime = 600 * time.Second
	revertRetry        = 5 * time.Second
)

// confirmation is a commit that waits to be confirmed.
type confirmation struct {
	undo     edit.Journal // all that was committed since the first of its commits
	deadline time.Time
	persist  string
	owner    *Session // nil: it is persistent
	ownerID  uint32
	timer    *time.Timer
}

func (c *confirmation) encode() []byte {
	if c == nil {
		return nil
	}
	b := binary.AppendUvarint(nil, 1) // version
	b = binary.AppendUvarint(b, uint64(c.deadline.UnixNano()))
	b = appendString(b, c.persist)
	return appendJournal(b, c.undo)
}

func decodeConfirmation(b []byte) (*confirmation, error) {
	r := reader{b: b}
	if v := r.uvarint(); v != 1 {
		return nil, errRecord
	}
	c := &confirmation{deadline: time.Unix(0, int64(r.uvarint())), persist: r.string()}
	var err error
	c.undo, err = r.journal()
	return c, err
}

// confirmable returns an error if a session must not commit because of a
// confirmed commit that is not its own (RFC 6241 section 8.4.1). A RESTCONF
// client confirms it by its edit, unless its name is asked for (RFC 8040
// section 1.4).
func (d *Datastore) confirmable(s *Session, id string) error {
	c := d.confirm
	switch {
	case c == nil && id != "":
		return &rpcerr.Error{Type: rpcerr.Protocol, Tag: "invalid-value", BadElement: "persist-id", Message: "no confirmed commit is pending"}
	case c == nil:
		return nil
	case c.persist != "" && id != "" && id != c.persist, c.persist == "" && id != "":
		return &rpcerr.Error{Type: rpcerr.Protocol, Tag: "invalid-value", BadElement: "persist-id", Message: "the pending confirmed commit has another persist-id"}
	case c.persist != "" && id == "":
		return pendingConfirm(c, "a confirmed commit is pending: its persist-id is needed")
	case c.persist == "" && c.owner != s && s.ID != 0:
		return pendingConfirm(c, "a confirmed commit of session "+strconv.FormatUint(uint64(c.ownerID), 10)+" is pending")
	}
	return nil
}

func pendingConfirm(c *confirmation, message string) error {
	return &rpcerr.Error{
		Type: rpcerr.Protocol, Tag: "in-use", SessionID: strconv.FormatUint(uint64(c.ownerID), 10), Message: message,
	}
}

// CommitWith makes candidate the running configuration, for good or until it is
// confirmed.
func (d *Datastore) CommitWith(ctx context.Context, s *Session, o CommitOptions) error {
	d.change.Lock()
	defer d.change.Unlock()
	if err := d.free(s, Running); err != nil {
		return err
	}
	if err := d.free(s, Candidate); err != nil {
		return err
	}
	if err := d.confirmable(s, o.PersistID); err != nil {
		return err
	}
	return d.commitPending(ctx, s, o)
}

// next returns the confirmation that is pending after a commit of j.
func (d *Datastore) next(s *Session, o CommitOptions, j edit.Journal) *confirmation {
	if !o.Confirmed {
		return nil
	}
	c := &confirmation{persist: o.Persist, owner: s, ownerID: s.ID}
	if o.Timeout == 0 {
		o.Timeout = defaultConfirmTime
	}
	c.deadline = time.Now().Add(o.Timeout)
	if before := d.confirm; before != nil {
		c.undo = before.undo
		if c.persist == "" { // a follow-up keeps its name
			c.persist = before.persist
		}
	}
	if c.persist != "" {
		c.owner = nil
	}
	c.undo = append(slices.Clip(c.undo), j...)
	return c
}

// await makes c what is to be confirmed, nil for nothing.
func (d *Datastore) await(c *confirmation) {
	if d.confirm != nil && d.confirm.timer != nil {
		d.confirm.timer.Stop()
	}
	d.confirm = c
	if c != nil {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { d.expire(c) })
	}
}

func (d *Datastore) expire(c *confirmation) {
	d.change.Lock()
	defer d.change.Unlock()
	if d.confirm == c {
		_ = d.revert(nil, "it was not confirmed in time") // it is logged, and tried again
	}
}

// CancelCommit takes the pending confirmed commit back (RFC 6241 section
// 8.4.4.1).
func (d *Datastore) CancelCommit(s *Session, id string) error {
	d.change.Lock()
	defer d.change.Unlock()
	if d.confirm == nil {
		return &rpcerr.Error{Type: rpcerr.Protocol, Tag: "operation-failed", Message: "no confirmed commit is pending"}
	}
	if err := d.confirmable(s, id); err != nil {
		return err
	}
	return d.revert(s, "it was canceled by "+s.User)
}

// revert takes the pending confirmed commit back, by is the session that it
// hangs on or that wants so, nil if its time is over. Where that is not possible
// now it is tried again. The caller holds d.change.
func (d *Datastore) revert(by *Session, why string) error {
	c := d.confirm
	inverse := c.undo.Inverse()
	d.candidate.Lock()
	defer d.candidate.Unlock()
	pending := d.pending
	d.undo(pending)
	inverse.Redo(d.draft)
	d.checker.Touch(inverse)
	err := d.commit(context.Background(), inverse, &Record{User: "vitad", Comment: "a confirmed commit was taken back: " + why}, nil)
	if err != nil {
		d.o.Log.Error("a confirmed commit cannot be taken back yet", "because", why, "err", err)
		d.undo(inverse)
		pending.Redo(d.draft)
		c.timer.Stop()
		c.timer = time.AfterFunc(revertRetry, func() { d.expire(c) })
	} else {
		d.o.Log.Warn("a confirmed commit was taken back", "because", why)
		d.pending = pending.Rebase(d.draft)
		d.await(nil)
		d.changed(nil, inverse)
		if by == nil {
			d.confirmed(nil, "timeout", 0)
		} else {
			d.confirmed(by, "cancel", 0)
		}
	}
	d.checker.Touch(pending)
	d.checker.Touch(d.pending)
	return err
}

// resume goes on with a confirmed commit that was pending when the process
// ended. One that hangs on a session is taken back, since its session has
// ended; a persistent one when its time is over. It is called by Open, before
// there are other users.
func (d *Datastore) resume(stored []byte) error {
	if stored == nil {
		return nil
	}
	c, err := decodeConfirmation(stored)
	if err != nil {
		d.o.Log.Error("the pending confirmed commit cannot be read: the configuration stays as it is", "err", err)
		return nil
	}
	if c.persist != "" && time.Now().Before(c.deadline) {
		d.await(c)
		return nil
	}
	inverse := c.undo.Inverse()
	rec := &Record{At: time.Now(), User: "vitad", Comment: "a confirmed commit was taken back: it was pending when the process ended"}
	if err := d.store.write(inverse, extra{record: rec.encode(inverse)}, nil); err != nil {
		return err
	}
	inverse.Redo(d.running.tree)
	d.versions.start(d.store.primary.seq)
	d.o.Log.Warn("a confirmed commit was taken back, which was pending when the process ended")
	return nil
}
