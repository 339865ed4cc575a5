package datastore

import (
	"encoding/binary"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// historyKept is how many commits the history has.
const historyKept = 100

// extra is what a transaction writes beside the configuration.
type extra struct{ record, confirm []byte }

func (x extra) put(tx *bbolt.Tx, seq uint64) error {
	meta := tx.Bucket(bucketMeta)
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

// copyExtra copies what is not configuration from one file to another.
func copyExtra(to, from *bbolt.Tx) error {
	if v := from.Bucket(bucketMeta).Get(keyConfirm); v != nil {
		if err := to.Bucket(bucketMeta).Put(keyConfirm, v); err != nil {
			return err
		}
	}
	past := from.Bucket(bucketPast)
	if past == nil {
		return nil
	}
	b, err := to.CreateBucketIfNotExists(bucketPast)
	if err != nil {
		return err
	}
	return past.ForEach(b.Put)
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

// History returns the newest commits, the newest first.
func (d *Datastore) History(most int) ([]*Record, error) {
	d.change.Lock()
	defer d.change.Unlock()
	return d.store.history(most)
}

// Diff returns what the commit changed, a leaf each. Secrets have no values.
func (r *Record) Diff() []Change {
	out := make([]Change, 0, len(r.journal))
	for i := range r.journal {
		c := &r.journal[i]
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
	}
	if err != nil {
		return err
	}
	for _, r := range all {
		if !r.Complete {
			return rpcerr.New("operation-failed", "", "the changes of commit %d were not kept, there are too many of them", r.ID)
		}
	}
	d.discard()
	d.candidate.Lock()
	defer d.candidate.Unlock()
	d.versions.edited()
	for _, r := range all {
		j := r.journal.Inverse().Rebase(d.candidate.tree)
		d.pending = append(d.pending, j...)
		d.checker.Touch(j)
	}
	return nil
}

// String names a commit for people.
func (r *Record) String() string {
	return fmt.Sprintf("commit %d of %s at %s", r.ID, r.User, r.At.Format("2006-01-02 15:04:05"))
}
