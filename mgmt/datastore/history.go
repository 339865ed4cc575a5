package datastore

import (
	"encoding/binary"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/nacm"
)

// historyKept is how many commits the history has.
const historyKept = 100

// extra is what a transaction writes beside the configuration.
type extra struct {
	record, confirm []byte
	startup         *saved // nil: it stays as it is
}

func (x extra) put(f *file, tx *bbolt.Tx, seq uint64) error {
	meta := tx.Bucket(bucketMeta)
	if x.startup != nil {
		if err := f.save(tx, x.startup); err != nil {
			return err
		}
	}
	if x.confirm != nil {
		if err := meta.Put(keyConfirm, x.confirm); err != nil {
			return err
		}
	} else if err := meta.Delete(keyConfirm); err != nil {
		return err
	}
	if x.record == nil {
		return nil
	}
	past, err := tx.CreateBucketIfNotExists(bucketPast)
	if err != nil {
		return err
	}
	if err := past.Put(binary.BigEndian.AppendUint64(nil, seq), x.record); err != nil {
		return err
	}
	// Numbers without a commit of their own leave gaps, so that there is now
	// and then more than one to go.
	c := past.Cursor()
	for k, _ := c.First(); len(k) == 8 && binary.BigEndian.Uint64(k)+historyKept <= seq; k, _ = c.First() {
		if err := past.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// copyExtra copies from one file to another what goes with the commits.
func copyExtra(to, from *bbolt.Tx) error {
	if v := from.Bucket(bucketMeta).Get(keyConfirm); v != nil {
		if err := to.Bucket(bucketMeta).Put(keyConfirm, v); err != nil {
			return err
		}
	}
	old := from.Bucket(bucketPast)
	if old == nil {
		return nil
	}
	b, err := to.CreateBucketIfNotExists(bucketPast)
	if err != nil {
		return err
	}
	return old.ForEach(b.Put)
}

// confirmation returns the stored commit that waits to be confirmed, or nil.
func (s *store) confirmation() (stored []byte, err error) {
	err = guard(func() error {
		return s.primary.db.View(func(tx *bbolt.Tx) error {
			stored = append([]byte(nil), tx.Bucket(bucketMeta).Get(keyConfirm)...)
			return nil
		})
	})
	if len(stored) == 0 {
		stored = nil
	}
	return stored, err
}

// history returns the newest commits, the newest first.
func (s *store) history(most int) (all []*Record, err error) {
	err = guard(func() error {
		return s.primary.db.View(func(tx *bbolt.Tx) error {
			past := tx.Bucket(bucketPast)
			if past == nil {
				return nil
			}
			c := past.Cursor()
			for k, v := c.Last(); k != nil && len(all) < most; k, v = c.Prev() {
				if len(k) != 8 {
					continue
				}
				r, err := decodeRecord(binary.BigEndian.Uint64(k), v)
				if r == nil {
					return err
				}
				all = append(all, r)
			}
			return nil
		})
	})
	return all, err
}

// History returns the newest commits, the newest first, with what the session can
// read of their changes. A commit that has changed nothing else is not there.
func (d *Datastore) History(s *Session, most int) ([]*Record, error) {
	d.change.Lock()
	defer d.change.Unlock()
	read := d.Access(s).Root(nacm.Read)
	if read == nil {
		return d.store.history(most)
	}
	all, err := d.store.history(historyKept)
	var out []*Record
	g := judge{accesses{read: read}, map[*data.Place]accesses{}}
	for _, r := range all {
		if len(out) == most {
			break
		}
		kept := edit.Journal{}
		for i := range r.journal {
			if g.reads(&r.journal[i]) {
				kept = append(kept, r.journal[i])
			}
		}
		if len(kept) > 0 {
			r.journal, r.Changes = kept, len(kept)
			out = append(out, r)
		}
	}
	return out, err
}

// Diff returns what the commit changed, a leaf each. Secrets have no values. An
// entry that has got another place in its list has "moved" for its new value.
func (r *Record) Diff() []Change {
	out := make([]Change, 0, len(r.journal))
	for i := range r.journal {
		c := &r.journal[i]
		if edit.IsRank(c.Leaf) {
			if c.HadOld && c.HasNew {
				out = append(out, Change{Path: c.Place.Path(), New: "moved", HasNew: true})
			}
			continue
		}
		one := Change{Path: c.Path(), Old: shown(c.Old), New: shown(c.New), HadOld: c.HadOld, HasNew: c.HasNew}
		if c.Leaf.Secret {
			one.Old, one.New = "", ""
		}
		out = append(out, one)
	}
	return out
}

// shown is a value for people: those of a leaf-list beside each other.
func shown(value string) string { return strings.ReplaceAll(value, schema.Separator, ", ") }

// Change is a leaf that a commit changed.
type Change struct {
	Path, Old, New string
	HadOld, HasNew bool
}

// Rollback makes candidate what running was before the last n commits. What
// was pending is gone; the result is pending until it is committed.
func (d *Datastore) Rollback(s *Session, n int) error {
	d.change.Lock()
	defer d.change.Unlock()
	if err := d.free(s, Candidate); err != nil {
		return err
	}
	all, err := d.store.history(n)
	if err == nil && (n < 1 || len(all) < n) {
		err = rpcerr.New("invalid-value", "", "the history has %d commits", len(all))
		if d.Access(s).Root(nacm.Read) != nil { // who sees but some
			err = rpcerr.New("invalid-value", "", "the history has not so many commits")
		}
	}
	if err != nil {
		return err
	}
	for _, r := range all {
		if !r.Complete {
			return rpcerr.New("operation-failed", "", "the changes of commit %d were not kept, there are too many of them", r.ID)
		}
	}
	d.candidate.Lock()
	defer d.candidate.Unlock()
	d.undo(d.pending)
	var back edit.Journal
	for _, r := range all {
		j := r.journal.Inverse().Rebase(d.draft)
		back = append(back, j...)
		d.checker.Touch(j)
	}
	if err := d.writable(d.Access(s), net(back)); err != nil {
		d.undo(back)
		d.pending.Redo(d.draft)
		d.checker.Touch(d.pending)
		return err
	}
	d.pending = back
	d.versions.edited()
	return nil
}

// String names a commit for people.
func (r *Record) String() string {
	return fmt.Sprintf("commit %d of %s at %s", r.ID, r.User, r.At.Format("2006-01-02 15:04:05"))
}
