package datastore

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/validate"
)

/*
The startup datastore (RFC 6241 section 8.7) is there where Options ask for it.
It is a second configuration in the same files:

	startup       rows as in config
	meta startup  checksum of the bucket, 32 bytes; its presence says that it exists

The process begins with it: Open makes running equal to startup, by a commit of
its own, before anything is applied. Running itself stays as durable as without,
so that a crash between two commits of a session costs nothing but the choice of
which configuration to begin with.

What running has that startup has not is remembered, as long as it is little, so
that saving costs what has changed.
*/

// Startup is the configuration that the process begins with.
const Startup Name = "startup"

var (
	bucketStartup = []byte("startup")
	keyStartup    = []byte("startup")
)

// mostAhead bounds the changes of running over startup that are remembered.
// Past that startup is written as a whole.
const mostAhead = 20000

// ahead is what running has over startup.
type ahead struct {
	j     edit.Journal
	known bool
}

func (a *ahead) add(j edit.Journal) {
	if a.known = a.known && len(a.j)+len(j) <= mostAhead; a.known {
		a.j = append(a.j, j...)
	} else {
		a.j = nil
	}
}

// saved is a change of startup in the files.
type saved struct {
	j     edit.Journal
	whole bool   // j is all that startup has from then on
	batch *batch // of j; made when it is written
}

func (f *file) save(tx *bbolt.Tx, s *saved) error {
	if s.whole {
		if err := tx.DeleteBucket(bucketStartup); err != nil && tx.Bucket(bucketStartup) != nil {
			return err
		}
		f.startup = [sha256.Size]byte{}
	}
	b, err := tx.CreateBucketIfNotExists(bucketStartup)
	if err != nil {
		return err
	}
	if err := s.batch.write(b, &f.startup); err != nil {
		return err
	}
	return tx.Bucket(bucketMeta).Put(keyStartup, bytes.Clone(f.startup[:]))
}

// loadStartup checks the startup configuration of a file, and reads it into a tree
// if there is one to read it into.
func (f *file) loadStartup(tx *bbolt.Tx, tree *gen.Vita) (there bool, err error) {
	b, sum := tx.Bucket(bucketStartup), tx.Bucket(bucketMeta).Get(keyStartup)
	if sum == nil {
		return false, nil
	}
	var have [sha256.Size]byte
	digest := sha256.New()
	if b != nil {
		if err := b.ForEach(func(k, v []byte) error {
			toggle(digest, &have, k, v)
			return nil
		}); err != nil {
			return false, err
		}
	}
	if !bytes.Equal(have[:], sum) {
		return false, fmt.Errorf("%w: the checksum of the startup configuration is wrong", ErrCorrupt)
	}
	f.startup = have
	if tree == nil || b == nil {
		return true, nil
	}
	var l loader
	return true, b.ForEach(func(k, v []byte) error { return l.row(tree, k, v) })
}

// startup reads the startup configuration.
func (s *store) startup(tree *gen.Vita) (there bool, err error) {
	err = guard(func() error {
		return s.primary.db.View(func(tx *bbolt.Tx) error {
			there, err = s.primary.loadStartup(tx, tree)
			return err
		})
	})
	return there, err
}

// HasStartup says whether there is a startup datastore.
func (d *Datastore) HasStartup() bool { return d.o.Startup }

// boot makes running what startup is. It is called by Open, before anything is
// applied. A gateway that has no startup yet begins with what it has.
func (d *Datastore) boot(tree *gen.Vita) error {
	from := &gen.Vita{}
	there, err := d.store.startup(from)
	switch {
	case err != nil:
		return err
	case !there:
		err := d.save(&saved{j: edit.Export(tree), whole: true})
		d.ahead = ahead{known: err == nil}
		return err
	}
	e := edit.Tree(from, nil)
	e.Op = edit.Replace
	j, err := edit.Apply(tree, e, edit.None)
	if err != nil {
		return err
	}
	d.ahead = ahead{known: true}
	if len(j) == 0 {
		return nil
	}
	d.o.Log.Info("running begins with the startup configuration", "changes", len(j))
	rec := &Record{At: time.Now(), User: "vitad", Comment: "the gateway has started with its startup configuration"}
	if err := d.store.write(j, extra{record: rec.encode(j)}, nil); err != nil {
		return err
	}
	d.await(nil) // what was to be confirmed is not running any more
	d.versions.start(d.store.primary.seq)
	return nil
}

// save writes startup, and keeps what waits to be confirmed. How running differs
// from it then the caller has to know.
func (d *Datastore) save(s *saved) error {
	if err := d.store.write(nil, extra{confirm: d.confirm.encode(), startup: s}, nil); err != nil {
		return &rpcerr.Error{Type: rpcerr.Application, Tag: "operation-failed", Message: "the startup configuration could not be stored: " + err.Error()}
	}
	d.ahead = ahead{}
	return nil
}

// saveRunning makes startup equal to running. The caller holds d.change.
func (d *Datastore) saveRunning() error {
	s := d.ahead.saved(d.running.tree)
	if len(s.j) == 0 && !s.whole {
		return nil
	}
	if err := d.save(s); err != nil {
		return err
	}
	d.ahead = ahead{known: true}
	return nil
}

// saved returns what makes startup equal to running.
func (a *ahead) saved(running *gen.Vita) *saved {
	if a.known {
		return &saved{j: net(a.j)}
	}
	return &saved{j: edit.Export(running), whole: true}
}

// readStartup returns the startup configuration as a tree of its own.
func (d *Datastore) readStartup() (*gen.Vita, error) {
	tree := &gen.Vita{}
	if _, err := d.store.startup(tree); err != nil {
		return nil, &rpcerr.Error{Type: rpcerr.Application, Tag: "operation-failed", Message: "the startup configuration cannot be read: " + err.Error()}
	}
	return tree, nil
}

// replaceStartup replaces startup by what an edit says, as far as the session may.
// The caller holds d.change.
func (d *Datastore) replaceStartup(s *Session, e *edit.Node) error {
	tree, err := d.readStartup()
	if err != nil {
		return err
	}
	a := d.Access(s)
	e.Op = edit.Replace
	if err := d.admitted(a, tree, e, edit.None); err != nil {
		return err
	}
	j, err := edit.Apply(tree, e, edit.None)
	if err == nil {
		err = d.writable(a, j)
	}
	if err == nil {
		err = d.invalid(validate.Tree(tree))
	}
	if err != nil || len(j) == 0 {
		return d.concealed(a, err)
	}
	return d.save(&saved{j: j})
}

// DeleteStartup empties the startup datastore (RFC 6241 section 7.4).
func (d *Datastore) DeleteStartup(s *Session) error {
	d.change.Lock()
	defer d.change.Unlock()
	if !d.o.Startup {
		return rpcerr.New("operation-not-supported", "", "there is no startup datastore")
	}
	if err := d.free(s, Startup); err != nil {
		return err
	}
	return d.save(&saved{whole: true})
}
