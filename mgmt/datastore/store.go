package datastore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sync/errgroup"

	"vita/gen"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/schema"
)

/*
The configuration on disk is a flat map with a row for each list entry and for
each leaf that is in none, so that a commit writes what it changes and little more:

	config  /vita-esp-gateway:mtu -> 1440
	        /vita-esp-gateway:route4[id='site2'] -> its leafs, see row.go
	history number of a commit -> who made it, when and what it changed
	meta    format -> 2
	        seq    -> number of the commit, 8 bytes big endian
	        sum    -> checksum of the bucket config, 32 bytes
	        confirm -> a commit that waits to be confirmed

and where there is a startup datastore, what startup.go says.

There are two such files. A commit is confirmed when it is durable in the first;
the second follows at once, in the background, and is complete before the next
commit begins. Neither is ever half a commit: each is written by one transaction
of bbolt, and a new file gets its name when it is complete.

bbolt's pages carry no checksums, so that a damaged value would go unnoticed, and
a damaged page makes it panic. So the bucket has one: the exclusive or of a
SHA-256 over every row, which a commit can bring up to date from its
changes alone. When the files are opened it is computed anew, every step guarded
against panics and faults. A file that does not pass is moved aside, and made
anew from the other. Where both are damaged there is nothing to go on with, and
Open refuses; it never takes a damaged file for an empty configuration.

Format 1 had a row for each leaf, in list entries too. Such a file is read, and
made anew.
*/

const (
	primaryFile = "config.db"
	mirrorFile  = "config.mirror.db"
	format      = "2"
	formatLeafs = "1"
)

var (
	bucketConfig = []byte("config")
	bucketMeta   = []byte("meta")
	bucketPast   = []byte("history")
	keyFormat    = []byte("format")
	keySeq       = []byte("seq")
	keySum       = []byte("sum")
	keyConfirm   = []byte("confirm")
)

// ErrCorrupt says that a database file is damaged.
var ErrCorrupt = errors.New("database file is corrupt")

// file is one open database file.
type file struct {
	path string
	db   *bbolt.DB
	old  bool // of an older format: to be made anew, not to be written to
	seq  uint64
	sum  [sha256.Size]byte

	startup [sha256.Size]byte // checksum of the startup configuration
}

// store is the two files.
type store struct {
	log      *slog.Logger
	primary  *file
	mirror   *file         // nil while it cannot be written
	mirrored chan struct{} // closed when the mirror has what the primary has
}

// openStore opens the files in a folder and fills tree with what they have.
func openStore(dir string, tree *gen.Vita, log *slog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	paths := []string{filepath.Join(dir, primaryFile), filepath.Join(dir, mirrorFile)}
	files := make([]*file, len(paths))
	trees := make([]*gen.Vita, len(paths))
	var damaged []string
	for i, path := range paths {
		if err := removeLeftovers(path); err != nil {
			return nil, err
		}
		t := &gen.Vita{}
		f, err := openFile(path, t)
		switch {
		case err == nil:
			files[i], trees[i] = f, t
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, ErrCorrupt):
			log.Error("database file is corrupt", "file", path, "err", err)
			damaged = append(damaged, path)
		default:
			closeFiles(files)
			return nil, err
		}
	}
	best := 0
	if files[0] == nil || files[1] != nil && files[1].seq > files[0].seq {
		best = 1
	}
	if files[best] == nil {
		if len(damaged) > 0 {
			return nil, fmt.Errorf("%w: %s, and there is no other copy of the configuration: "+
				"restore one from a backup, or move it away to begin with an empty configuration",
				ErrCorrupt, strings.Join(damaged, " and "))
		}
		return createStore(paths, log)
	}
	for _, path := range damaged {
		aside := fmt.Sprintf("%s.corrupt-%s", path, time.Now().UTC().Format("20060102T150405.000Z"))
		if err := os.Rename(path, aside); err != nil {
			closeFiles(files)
			return nil, err
		}
		log.Error("the last good configuration is taken from the other database file",
			"corrupt", path, "moved to", aside, "good", paths[best], "commit", files[best].seq)
	}
	*tree = *trees[best]
	other := 1 - best
	var err error
	switch f := files[other]; {
	case f == nil:
		err = renew(files, paths, other, tree)
	case f.old || files[best].old:
		log.Info("database file is of an older format and is made anew", "file", paths[other])
		err = renew(files, paths, other, tree)
	case f.seq != files[best].seq || f.sum != files[best].sum:
		log.Warn("database file is behind and is made anew", "file", paths[other], "commit", f.seq, "newest", files[best].seq)
		err = renew(files, paths, other, tree)
	}
	if err == nil && files[best].old {
		log.Info("database file is of an older format and is made anew", "file", paths[best])
		err = renew(files, paths, best, tree)
	}
	if err != nil {
		closeFiles(files)
		return nil, err
	}
	return newStore(files[0], files[1], log), nil
}

// renew makes one of the two files anew from the other, which stays as it is.
func renew(files []*file, paths []string, i int, tree *gen.Vita) error {
	from := files[1-i]
	closeFiles(files[i : i+1])
	files[i] = nil
	f, err := createFile(paths[i], edit.Export(tree), from.seq, from)
	files[i] = f
	return err
}

func newStore(primary, mirror *file, log *slog.Logger) *store {
	s := &store{log: log, primary: primary, mirror: mirror, mirrored: make(chan struct{})}
	close(s.mirrored)
	return s
}

func createStore(paths []string, log *slog.Logger) (*store, error) {
	files := make([]*file, len(paths))
	var all errgroup.Group // each of them waits for the disk, several times
	for i, path := range paths {
		all.Go(func() (err error) { files[i], err = createFile(path, nil, 0, nil); return err })
	}
	if err := all.Wait(); err != nil {
		closeFiles(files)
		return nil, err
	}
	return newStore(files[0], files[1], log), nil
}

func closeFiles(files []*file) {
	for _, f := range files {
		if f != nil {
			_ = f.db.Close() // nothing was written by it
		}
	}
}

// removeLeftovers removes a file whose making was cut short.
func removeLeftovers(path string) error {
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// createFile makes a file with a configuration under another name, and gives
// it its own when it is complete and durable.
//
// What is not configuration, the history above all, is taken from another file
// where there is one.
func createFile(path string, j edit.Journal, seq uint64, from *file) (*file, error) {
	f := &file{path: path + ".new"}
	err := guard(func() error {
		db, err := openBolt(f.path)
		if err != nil {
			return err
		}
		f.db = db
		return db.Update(func(tx *bbolt.Tx) error {
			if _, err := tx.CreateBucket(bucketConfig); err != nil {
				return err
			}
			meta, err := tx.CreateBucket(bucketMeta)
			if err != nil {
				return err
			}
			if err := meta.Put(keyFormat, []byte(format)); err != nil {
				return err
			}
			if err := f.put(tx, newBatch(j), seq, extra{}); err != nil || from == nil {
				return err
			}
			return from.db.View(func(old *bbolt.Tx) error {
				if err := copyExtra(tx, old); err != nil {
					return err
				}
				startup := &gen.Vita{}
				there, err := from.loadStartup(old, startup)
				if err != nil || !there {
					return err
				}
				return f.save(tx, &saved{whole: true, batch: newBatch(edit.Export(startup))})
			})
		})
	})
	if f.db != nil {
		if cerr := f.db.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	if err := os.Rename(f.path, path); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return openFile(path, &gen.Vita{})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

const (
	// mapped is how much of a file is mapped from the start. A file that outgrows
	// its mapping in the middle of a transaction makes bbolt copy all that the
	// transaction has read and written, which was a fifth of the time of a large
	// commit. It is address space alone: memory is what is looked at.
	mapped = 1 << 30

	// headroom is by how much a file grows beyond what is needed, for the next ones.
	headroom = 64 << 10
)

func openBolt(path string) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, InitialMmapSize: mapped})
	if err == nil {
		db.AllocSize = headroom
	}
	return db, err
}

// guard turns panics and memory faults, as a damaged file causes them within
// bbolt, into ErrCorrupt.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	return fn()
}

// openFile opens an existing file, checks it, and reads it into tree.
func openFile(path string, tree *gen.Vita) (*file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 { // bbolt would make a new database of it
		return nil, fmt.Errorf("%w: %s is empty", ErrCorrupt, path)
	}
	f := &file{path: path}
	err = guard(func() error {
		db, err := openBolt(path)
		switch {
		case errors.Is(err, berrors.ErrTimeout):
			return fmt.Errorf("%s is in use by another process", path)
		case errors.Is(err, fs.ErrPermission):
			return err
		case err != nil:
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
		}
		f.db = db
		return db.View(func(tx *bbolt.Tx) error { return f.load(tx, tree) })
	})
	if err != nil {
		if f.db != nil {
			_ = guard(f.db.Close) // the first error says more
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func (f *file) load(tx *bbolt.Tx, tree *gen.Vita) error {
	meta, config := tx.Bucket(bucketMeta), tx.Bucket(bucketConfig)
	if meta == nil || config == nil {
		return fmt.Errorf("%w: no configuration in it", ErrCorrupt)
	}
	v := meta.Get(keyFormat)
	if f.old = string(v) == formatLeafs; !f.old && string(v) != format {
		return fmt.Errorf("format %q is not known: the file is of another version of this program, or corrupt", v)
	}
	seq, sum := meta.Get(keySeq), meta.Get(keySum)
	if len(seq) != 8 || len(sum) != sha256.Size {
		return fmt.Errorf("%w: no checksum in it", ErrCorrupt)
	}
	f.seq = binary.BigEndian.Uint64(seq)
	digest := sha256.New()
	err := config.ForEach(func(k, v []byte) error {
		toggle(digest, &f.sum, k, v)
		return nil
	})
	if err != nil {
		return err
	}
	if !bytes.Equal(f.sum[:], sum) {
		return fmt.Errorf("%w: its checksum is wrong", ErrCorrupt)
	}
	if _, err := f.loadStartup(tx, nil); err != nil {
		return err
	}
	var l loader
	return config.ForEach(func(k, v []byte) error { return l.row(tree, k, v) })
}

// loader puts leafs into a tree. Neighbours in the file are mostly in the same
// list entry, whose place it keeps.
type loader struct {
	prefix string
	place  *data.Place
	parent *schema.Node
}

func (l *loader) add(tree *gen.Vita, path, value string) error {
	place, leaf, err := l.resolve(path)
	if err != nil {
		return err
	}
	v, err := leaf.Stored(value)
	if err != nil {
		return unknown(path, err)
	}
	edit.Journal{{Place: place, Leaf: leaf, New: v, HasNew: true}}.Redo(tree)
	return nil
}

// unknown is the error for an intact file whose content the model does not
// have. It is not to be thrown away.
func unknown(path string, err error) error {
	return fmt.Errorf("stored leaf %s: %w: the file is of another version of this program", path, err)
}

// put writes changes, the commit's number and the checksum.
func (f *file) put(tx *bbolt.Tx, b *batch, seq uint64, x extra) error {
	config, meta := tx.Bucket(bucketConfig), tx.Bucket(bucketMeta)
	if err := b.write(config, &f.sum); err != nil {
		return err
	}
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], seq)
	if err := meta.Put(keySeq, n[:]); err != nil {
		return err
	}
	if err := meta.Put(keySum, bytes.Clone(f.sum[:])); err != nil {
		return err
	}
	return x.put(f, tx, seq)
}

// errAborted ends a transaction that is not to be.
var errAborted = errors.New("the commit was given up")

// write makes a commit durable in the file, or leaves it as it was. Whether it is
// to be it asks when all else is done; nil says yes.
func (f *file) write(b *batch, seq uint64, x extra, really func() bool) error {
	sum, startup := f.sum, f.startup
	err := guard(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error {
			if err := f.put(tx, b, seq, x); err != nil {
				return err
			}
			if really != nil && !really() {
				return errAborted
			}
			return nil
		})
	})
	if err != nil {
		f.sum, f.startup = sum, startup
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	f.seq = seq
	return nil
}

// largeBatch is how many rows leave so much garbage that it goes back to the
// system at once. Else a gateway that was configured in one large step holds on to
// several times what it needs for minutes, and to half of that for good.
const largeBatch = 3000

// transaction is a commit that is being written while it is still being examined.
type transaction struct {
	really chan bool
	result chan error
	ended  bool
}

// begin begins to write a commit: nothing of it counts before the transaction is
// committed. It is to be committed or aborted before the next one begins, and the
// journal must not be changed until then.
func (s *store) begin(j edit.Journal, x extra) *transaction {
	t := &transaction{really: make(chan bool, 1), result: make(chan error, 1)}
	go func() { t.result <- s.write(j, x, func() bool { return <-t.really }) }()
	return t
}

// commit makes the commit durable. When it returns without an error the commit is
// in the primary file, and on its way to the mirror.
func (t *transaction) commit() error {
	t.ended = true
	t.really <- true
	return <-t.result
}

// abort leaves everything as it was. After commit it does nothing.
func (t *transaction) abort() {
	if t.ended {
		return
	}
	t.ended = true
	t.really <- false
	<-t.result //nolint:errcheck // whatever it is: nothing has become of the commit
}

// write makes a commit durable, if it really is to be; nil says yes.
func (s *store) write(j edit.Journal, x extra, really func() bool) error {
	b := newBatch(j)
	if x.startup != nil {
		x.startup.batch = newBatch(x.startup.j)
	}
	<-s.mirrored
	seq := s.primary.seq + 1
	if err := s.primary.write(b, seq, x, really); err != nil {
		return err
	}
	if s.mirror == nil {
		return nil
	}
	s.mirrored = make(chan struct{})
	go func() {
		defer close(s.mirrored)
		if err := s.mirror.write(b, seq, x, nil); err != nil {
			s.log.Error("the second database file cannot be written any more: the configuration is in the first alone", "err", err)
			_ = guard(s.mirror.db.Close) // it is given up; the next start makes it anew
			s.mirror = nil
		}
		if len(b.rows) > largeBatch {
			b = nil
			debug.FreeOSMemory()
		}
	}()
	return nil
}

func (s *store) close() error {
	<-s.mirrored
	err := s.primary.db.Close()
	if s.mirror != nil {
		err = errors.Join(err, s.mirror.db.Close())
	}
	return err
}
