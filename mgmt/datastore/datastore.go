// Package datastore holds the configuration: running, which the gateway works
// by, and candidate, which clients prepare. Both are complete trees of the
// generated structs; they differ by a journal of pending changes, so that an
// edit, a commit and a discard each cost what they change, and share the entries
// of large lists where they do not.
//
// A commit is one function, see commit.go: validate, prepare, persist,
// publish. What is committed survives the process, see store.go. The package
// must not know protocols, encodings of clients, or what the configuration
// does: that is behind Applier.
package datastore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"vita/gen"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/view"
	"vita/mgmt/nacm"
	"vita/mgmt/validate"
)

// Name names a datastore.
type Name string

// The datastores.
const (
	Running   Name = "running"
	Candidate Name = "candidate"
)

// Session is whom an operation is carried out for. Locks belong to sessions;
// ID is 0 for one that cannot hold any.
type Session struct {
	ID        uint32
	User      string
	Transport string // e.g. "netconf-ssh", "restconf"
	Peer      string
	Groups    []string // of users, as the transport knows them
	Recovery  bool     // access control does not concern it (RFC 8341 section 3.7)
}

// Applier brings a configuration into force. Prepare does all that can fail:
// it must not keep root, and must not change anything that is in force. Changes
// are what root has over the configuration that is in force; nil where that is
// not known.
type Applier interface {
	Prepare(ctx context.Context, root *gen.Vita, changes Journal) (Prepared, error)
}

// Journal is a sequence of changes of leafs.
type Journal = edit.Journal

// Prepared is a configuration that is ready: exactly one of Publish, which
// cannot fail, and Abort is called.
type Prepared interface {
	Publish()
	Abort()
}

// State fills in root.GatewayState, which is nil when it is called, with the
// children that are wanted.
type State func(root *gen.Vita, wants Wants)

// Wants says of a child of gateway-state, by its name, whether a reader needs
// it. Some are long lists: what nobody asks for is not made.
type Wants func(child string) bool

// Everything wants all children.
func Everything(string) bool { return true }

// Events is told what becomes of the configuration. Its methods are called while
// nothing else can change, and must not wait.
type Events interface {
	// Changed tells that running was changed; by is nil where the server itself
	// has done it, targets where it would be too many.
	Changed(by *Session, targets []edit.Target)

	// Confirmed tells what becomes of a confirmed commit: "start", "extend",
	// "complete", "cancel" or "timeout"; the time until it is taken back is that
	// of the first two.
	Confirmed(by *Session, event string, timeout time.Duration)
}

// mostTargets bounds what is told of one change.
const mostTargets = 100

func (d *Datastore) changed(by *Session, j edit.Journal) {
	if d.o.Events != nil && len(j) > 0 {
		d.o.Events.Changed(by, j.Targets(mostTargets))
	}
}

func (d *Datastore) confirmed(by *Session, event string, timeout time.Duration) {
	if d.o.Events != nil {
		d.o.Events.Confirmed(by, event, timeout)
	}
}

// Options shapes a Datastore. Dir is required.
type Options struct {
	Dir     string            // folder of the database files; made with mode 0700
	Applier Applier           // nil: nothing is brought into force
	Log     *slog.Logger      // nil: none
	State   State             // nil: no state
	Events  Events            // nil: nobody is told
	OnStep  func(step string) // called between the steps of a commit, for tests; nil: not called
	Access  *nacm.Control     // where the rules of access go, by which sessions are judged; nil: everything is permitted
	Startup bool              // the process begins with a configuration of its own: see startup.go

	Followers []Follower

	// Seal turns the value of a leaf as a client has sent it into the one that is
	// kept; nil: they are the same. It may take its time.
	Seal func(leaf *schema.Node, value string) (string, error)
}

// Follower goes by a part of the configuration: a node at the top. Prepare is
// asked where a commit changes something of it, before that is a fact; what it
// returns is called when it is. Its error is the commit's.
type Follower struct {
	Module, Name string
	Prepare      func(root *gen.Vita) (publish func(), err error)
}

// Datastore is the configuration. Its methods are safe for concurrent use.
type Datastore struct {
	o Options

	// change is held by whatever changes a tree, from beginning to end. The
	// trees' own locks keep readers away while one is changed in place.
	change    sync.Mutex
	running   guarded
	candidate guarded
	draft     *data.Sharing     // candidate's tree, through which alone it is changed: what it shares with running must not be; guarded by change
	pending   edit.Journal      // what candidate has over running; guarded by change
	checker   *validate.Checker // of candidate; guarded by change
	store     *store            // guarded by change
	confirm   *confirmation     // pending, or nil; guarded by change
	versions  versions
	ahead     ahead // what running has over startup; guarded by change

	locks struct {
		sync.Mutex
		holder map[Name]*Session
		since  map[Name]time.Time
	}
}

type guarded struct {
	sync.RWMutex
	tree *gen.Vita
}

// Open reads the stored configuration. A folder without database files gives
// an empty one, which is made durable. The error wraps ErrCorrupt if there is
// nothing but damaged files.
func Open(o Options) (*Datastore, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnStep == nil {
		o.OnStep = func(string) {}
	}
	tree := &gen.Vita{}
	s, err := openStore(o.Dir, tree, o.Log)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	d := &Datastore{o: o, store: s}
	d.change.Lock() // what resume starts waits for the rest
	defer d.change.Unlock()
	d.versions.start(s.primary.seq)
	d.locks.holder, d.locks.since = map[Name]*Session{}, map[Name]time.Time{}
	d.running.tree = tree
	stored, err := s.confirmation()
	if err == nil {
		err = d.resume(stored)
	}
	if err == nil && o.Startup {
		err = d.boot(tree)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open configuration: %w", err), s.close())
	}
	d.draft = data.Share(tree)
	d.candidate.tree, _ = d.draft.Tree().(*gen.Vita) // as tree is one
	d.checker = validate.New(d.candidate.tree)
	if o.Access != nil {
		p, err := d.policy(tree)
		if err != nil { // it could be compiled when it was committed
			return nil, errors.Join(fmt.Errorf("the rules of access: %w: they were stored by another version of this program", err), s.close())
		}
		o.Access.Set(p)
	}
	for _, f := range o.Followers {
		publish, err := f.Prepare(tree)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the stored configuration: %w: it is of another version of this program", err), s.close())
		}
		publish()
	}
	if errs := validate.Tree(tree); errs != nil {
		// It was valid when it was committed, so the model has become
		// stricter since. The gateway goes on with it; the next commit
		// that touches the place has to mend it.
		o.Log.Warn("the stored configuration violates the model", "err", errs)
	}
	return d, nil
}

// Ahead begins to compile the model, beside what else a program begins with: the
// first datastore would wait for it, for half a second on a slow machine.
func Ahead() { go schema.Root() }

// Close ends the use of the database files. Changes that were not committed
// are lost.
func (d *Datastore) Close() error {
	d.change.Lock()
	defer d.change.Unlock()
	d.await(nil) // what is pending is on disk, and goes on with the next start
	return d.store.close()
}

// Start brings the stored configuration into force.
func (d *Datastore) Start(ctx context.Context) error {
	d.change.Lock()
	defer d.change.Unlock()
	prepared, err := d.prepare(ctx, d.running.tree, nil)
	if err != nil {
		return fmt.Errorf("apply stored configuration: %w", err)
	}
	prepared.Publish()
	return nil
}

func (d *Datastore) named(name Name) (*guarded, error) {
	switch name {
	case Running:
		return &d.running, nil
	case Candidate:
		return &d.candidate, nil
	}
	return nil, rpcerr.New("invalid-value", "", "there is no datastore %q", string(name))
}

// Read calls fn with a datastore's tree, for running with the state in it that
// is wanted; nil wants none. fn must not keep or change the tree, and must not wait for a
// client: changes of the datastore wait for it.
func (d *Datastore) Read(name Name, wants Wants, fn func(root *gen.Vita) error) error {
	if name == Startup && d.o.Startup {
		d.change.Lock()
		tree, err := d.readStartup()
		d.change.Unlock()
		if err != nil {
			return err
		}
		return fn(tree)
	}
	g, err := d.named(name)
	if err != nil {
		return err
	}
	g.RLock()
	defer g.RUnlock()
	if name != Running || d.o.Access == nil && (wants == nil || d.o.State == nil) {
		return fn(g.tree)
	}
	whole := *g.tree // shares what is in it, and has places of its own for the state
	if d.o.Access != nil {
		whole.Nacm = d.o.Access.State(whole.Nacm)
	}
	if wants != nil && d.o.State != nil {
		whole.GatewayState = nil
		d.o.State(&whole, wants)
	}
	return fn(&whole)
}

// ReadAs is Read with what a session may read of the tree.
func (d *Datastore) ReadAs(s *Session, name Name, wants Wants, fn func(v *view.View) error) error {
	read := d.Access(s).Root(nacm.Read)
	return d.Read(name, wants, func(root *gen.Vita) error { return fn(view.Of(root, read)) })
}

// Test says how an edit is tested (RFC 6241 section 7.2).
type Test uint8

// The values of test-option.
const (
	TestThenSet Test = iota // the default
	Set
	TestOnly
)

// EditOptions are the parameters of an edit.
type EditOptions struct {
	Default edit.Op // operation of nodes that have none, and inherit none
	Test    Test
	If      Precondition // nil: none
	Done    func()       // called after a successful edit, before anything else can change; nil: not called
}

// Edit changes a datastore, whole or not at all.
//
// An edit of candidate may leave it invalid, since more edits may follow: it is
// validated as a whole by Validate and Commit, or here with TestOnly, which
// changes nothing. An edit of running is a commit: it is validated, in force
// and durable when Edit returns. Pending changes of candidate stay pending,
// on top of the new running.
func (d *Datastore) Edit(ctx context.Context, s *Session, name Name, e *edit.Node, o EditOptions) error {
	return d.Edits(ctx, s, name, []*edit.Node{e}, o)
}

// EditError says which of several edits has failed.
type EditError struct {
	Index int
	Err   error
}

func (e *EditError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the edit itself.
func (e *EditError) Unwrap() error { return e.Err }

// Edits carries out edits in their order, all or none. Where one of several is
// at fault the error is an EditError.
func (d *Datastore) Edits(ctx context.Context, s *Session, name Name, e []*edit.Node, o EditOptions) error {
	if _, err := d.named(name); err != nil {
		return err
	}
	for i, one := range e {
		if err := d.seal(one); err != nil {
			return indexed(i, len(e), err)
		}
	}
	d.change.Lock()
	defer d.change.Unlock()
	if err := d.free(s, name); err != nil {
		return err
	}
	if err := d.permitted(name, o.If); err != nil {
		return err
	}
	a := d.Access(s)
	tree := d.running.tree
	if name == Candidate {
		tree = d.candidate.tree // nobody changes either while d.change is held
	}
	for i, one := range e {
		if err := d.admitted(a, tree, one, o.Default); err != nil {
			return indexed(i, len(e), err)
		}
	}
	if name == Running && o.Test != TestOnly {
		if err := d.confirmable(s, ""); err != nil {
			return err
		}
	}
	err := d.concealed(a, d.edit(ctx, s, name, e, o))
	if err == nil && o.Done != nil {
		o.Done()
	}
	return err
}

func (d *Datastore) edit(ctx context.Context, s *Session, name Name, e []*edit.Node, o EditOptions) error {
	if o.Test == TestOnly || name == Running {
		return d.direct(ctx, s, e, name, o)
	}
	d.candidate.Lock()
	defer d.candidate.Unlock()
	j, err := d.apply(s, e, o.Default)
	if d.pending == nil {
		d.pending = j
	} else {
		d.pending = append(d.pending, j...)
	}
	if len(j) > 0 {
		d.versions.edited()
	}
	return err
}

// indexed says which of several edits an error is of.
func indexed(i, of int, err error) error {
	if of > 1 {
		return &EditError{i, err}
	}
	return err
}

// apply carries out a session's edits on candidate, as far as it may.
func (d *Datastore) apply(s *Session, es []*edit.Node, def edit.Op) (all edit.Journal, err error) {
	a := d.Access(s)
	for i, e := range es {
		j, err := edit.Apply(d.draft, e, def)
		d.checker.Touch(j)
		if err == nil {
			if err = d.writable(a, j); err != nil {
				d.undo(j)
			}
		}
		if err != nil {
			d.undo(all)
			return nil, indexed(i, len(es), err)
		}
		if all == nil {
			all = j
		} else {
			all = append(all, j...)
		}
	}
	more, err := edit.Settle(d.draft, all, false)
	if err == nil {
		if err = d.writable(a, more); err != nil {
			d.undo(more)
		}
	}
	if err != nil {
		d.undo(all)
		return nil, err
	}
	if len(more) > 0 {
		d.checker.Touch(more)
		all = append(all, more...)
	}
	return all, nil
}

// undo takes a journal back from candidate.
func (d *Datastore) undo(j edit.Journal) {
	j.Undo(d.draft)
	d.checker.Touch(j)
}

// direct edits running by way of candidate, from which the pending changes are
// taken for as long; or tests an edit of either.
func (d *Datastore) direct(ctx context.Context, s *Session, e []*edit.Node, name Name, o EditOptions) error {
	d.candidate.Lock()
	defer d.candidate.Unlock()
	pending := d.pending
	if name == Candidate {
		j, err := d.apply(s, e, o.Default)
		if err != nil {
			return err
		}
		defer d.undo(j)
		return d.invalid(d.checker.Check(append(slices.Clip(pending), j...)))
	}
	d.undo(pending)
	j, err := d.apply(s, e, o.Default)
	if err == nil {
		if o.Test == TestOnly {
			err = d.invalid(d.checker.Check(j))
		} else {
			if err = d.commit(ctx, j, recordOf(s), nil); err == nil {
				d.changed(s, j)
				if d.confirm != nil {
					d.confirmed(s, "complete", 0)
				}
				d.await(nil) // as a commit, it confirms what is pending
			}
		}
		if err != nil || o.Test == TestOnly {
			d.undo(j)
			j = nil
		}
	}
	if len(j) == 0 { // running is what it was
		pending.Redo(d.draft)
	} else {
		d.pending = pending.Rebase(d.draft)
	}
	d.checker.Touch(pending)
	d.checker.Touch(d.pending)
	return err
}

func (d *Datastore) invalid(errs rpcerr.Errors) error {
	if len(errs) == 0 {
		return nil
	}
	return errs
}

// Commit makes candidate the running configuration.
func (d *Datastore) Commit(ctx context.Context, s *Session) error {
	return d.CommitWith(ctx, s, CommitOptions{})
}

func (d *Datastore) commitPending(ctx context.Context, s *Session, o CommitOptions) error {
	if len(d.pending) == 0 && d.confirm == nil && !o.Confirmed {
		return nil
	}
	a := d.Access(s)
	if !rootOf(a).writesAll() {
		if err := d.writable(a, net(d.pending)); err != nil {
			return err
		}
	}
	c := d.next(s, o, d.pending)
	if err := d.commit(ctx, d.pending, recordOf(s), c); err != nil {
		return d.concealed(a, err)
	}
	d.changed(s, d.pending)
	switch before := d.confirm; {
	case c != nil && before == nil:
		d.confirmed(s, "start", time.Until(c.deadline))
	case c != nil:
		d.confirmed(s, "extend", time.Until(c.deadline))
	case before != nil:
		d.confirmed(s, "complete", 0)
	}
	d.await(c)
	d.pending = nil
	return nil
}

// Discard makes candidate equal to running.
func (d *Datastore) Discard(s *Session) error {
	d.change.Lock()
	defer d.change.Unlock()
	if err := d.free(s, Candidate); err != nil {
		return err
	}
	d.discard()
	return nil
}

func (d *Datastore) discard() {
	d.candidate.Lock()
	defer d.candidate.Unlock()
	d.undo(d.pending)
	d.pending = nil
	d.versions.edited()
}

// Copy replaces a datastore by another (RFC 6241 section 7.3), as far as the
// session may read the one and write the other (RFC 8341 section 3.2.6): what it
// cannot read is not there for it, and what is not there is deleted. To save
// running as startup nothing but the operation is asked for.
func (d *Datastore) Copy(ctx context.Context, s *Session, from, to Name) error {
	a := d.Access(s)
	if from == to || !d.has(from) || !d.has(to) {
		return rpcerr.New("invalid-value", "", "cannot copy %s to %s", string(from), string(to))
	}
	if from == Running && to == Candidate && a.Root(nacm.Read) == nil && rootOf(a).writesAll() {
		return d.Discard(s)
	}
	if from == Candidate && to == Running && a.Root(nacm.Read) == nil {
		d.change.Lock()
		defer d.change.Unlock()
		if err := d.free(s, Running); err != nil {
			return err
		}
		if err := d.confirmable(s, ""); err != nil {
			return err
		}
		return d.commitPending(ctx, s, CommitOptions{})
	}
	if to == Startup {
		d.change.Lock()
		defer d.change.Unlock()
		if err := d.free(s, Startup); err != nil {
			return err
		}
		if from == Running {
			return d.saveRunning()
		}
		return d.replaceStartup(s, edit.Tree(d.candidate.tree, a.Root(nacm.Read)))
	}
	var e *edit.Node
	err := d.Read(from, nil, func(root *gen.Vita) error {
		e = edit.Tree(root, a.Root(nacm.Read))
		return nil
	})
	if err != nil {
		return err
	}
	return d.Edit(ctx, s, to, e, EditOptions{Default: edit.Replace})
}

// Replace replaces a datastore by a configuration that a client has sent.
func (d *Datastore) Replace(ctx context.Context, s *Session, e *edit.Node, to Name) error {
	if to != Startup || !d.o.Startup {
		return d.Edit(ctx, s, to, e, EditOptions{Default: edit.Replace})
	}
	if err := d.seal(e); err != nil {
		return err
	}
	d.change.Lock()
	defer d.change.Unlock()
	if err := d.free(s, Startup); err != nil {
		return err
	}
	return d.replaceStartup(s, e)
}

// has says whether there is a datastore of a name.
func (d *Datastore) has(name Name) bool {
	return name == Running || name == Candidate || name == Startup && d.o.Startup
}

// Validate checks a datastore against the model.
func (d *Datastore) Validate(_ context.Context, s *Session, name Name) error {
	if !d.has(name) {
		return rpcerr.New("invalid-value", "", "there is no datastore %q", string(name))
	}
	d.change.Lock()
	defer d.change.Unlock()
	a := d.Access(s)
	switch name {
	case Running:
		return d.concealed(a, d.invalid(validate.Tree(d.running.tree)))
	case Startup:
		tree, err := d.readStartup()
		if err != nil {
			return err
		}
		return d.concealed(a, d.invalid(validate.Tree(tree)))
	}
	return d.concealed(a, d.invalid(d.checker.Check(d.pending)))
}
