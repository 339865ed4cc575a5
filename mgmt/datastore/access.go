package datastore

import (
	"errors"
	"strings"

	"vita/gen"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/yangenc"
	"vita/mgmt/nacm"
)

// Access control (RFC 8341) of what sessions change. A change is judged by its
// journal, which has every node that comes, goes or gets another value, whether
// the client has named it or not: what a replacement takes away, what gives way
// to another case of a choice, what somebody else has left in the candidate.
//
// A session must not learn of nodes that it cannot read, neither by an error's
// path nor by which error it is. So an edit is looked at before it is carried out,
// too: a node that cannot be read has to be one that may be written whatever it
// is, and errors that tell whether such a node exists become denials.

// Access returns what a session may do.
func (d *Datastore) Access(s *Session) *nacm.Access {
	if s == nil || s.Recovery {
		return nil
	}
	return d.o.Access.For(nacm.Session{User: s.User, Groups: s.Groups})
}

// Control returns what counts denials; nil without access control.
func (d *Datastore) Control() *nacm.Control { return d.o.Access }

// accesses are the cursors of all access operations at one place.
type accesses struct{ read, create, update, remove *nacm.Cursor }

func rootOf(a *nacm.Access) accesses {
	return accesses{a.Root(nacm.Read), a.Root(nacm.Create), a.Root(nacm.Update), a.Root(nacm.Delete)}
}

// writesAll says that everything may be written from here on.
func (a accesses) writesAll() bool { return a.create == nil && a.update == nil && a.remove == nil }

func (a accesses) writesNone() bool { return a.create.None() && a.update.None() && a.remove.None() }

func (a accesses) child(n *schema.Node) accesses {
	return accesses{a.read.Child(n), a.create.Child(n), a.update.Child(n), a.remove.Child(n)}
}

func (a accesses) entry(n *schema.Node, keys []string) accesses {
	return accesses{a.read.Entry(n, keys), a.create.Entry(n, keys), a.update.Entry(n, keys), a.remove.Entry(n, keys)}
}

// judge says whether a session may do what a journal has done.
type judge struct {
	root   accesses
	places map[*data.Place]accesses
}

func (g *judge) at(p *data.Place) accesses {
	if p == nil {
		return g.root
	}
	if a, ok := g.places[p]; ok {
		return a
	}
	up := g.at(p.Parent)
	var a accesses
	if p.Node.Kind == schema.List {
		a = up.entry(p.Node, p.Keys)
	} else {
		a = up.child(p.Node)
	}
	g.places[p] = a
	return a
}

// writable returns an error where a session may not make a change of a journal
// (RFC 8341 section 3.2.5).
func (d *Datastore) writable(a *nacm.Access, j edit.Journal) error {
	root := rootOf(a)
	if root.writesAll() {
		return nil
	}
	g := judge{root, map[*data.Place]accesses{}}
	for i := range j {
		if !g.allows(&j[i]) {
			return d.denied(g.readable(&j[i]))
		}
	}
	return nil
}

// allows judges one change. An entry comes and goes by its first key.
func (g *judge) allows(c *edit.Change) bool {
	at := g.at(c.Place)
	if at.writesAll() {
		return true
	}
	switch {
	case c.Leaf.IsKey && c.Leaf != c.Place.Node.Keys[0]:
		return true
	case c.Leaf.IsKey && c.HasNew:
		return at.create.Permits()
	case c.Leaf.IsKey:
		return at.remove.Permits()
	case c.Leaf.Parent != nil && c.Leaf.Parent.Rank == c.Leaf: // the entry's place in the user's order
		return !c.HasNew || at.update.Permits() || !c.HadOld && at.create.Permits()
	case c.Leaf.Kind == schema.LeafList:
		return g.values(at, c)
	}
	leaf := at.child(c.Leaf)
	switch {
	case !c.HadOld:
		return leaf.create.Permits()
	case !c.HasNew:
		return leaf.remove.Permits()
	}
	return leaf.update.Permits()
}

// values judges a change of a leaf-list, each of whose values is a node. Another
// order is an update of them all.
func (g *judge) values(at accesses, c *edit.Change) bool {
	before, after := map[string]bool{}, map[string]bool{}
	split := func(to map[string]bool, has bool, text string) {
		if has {
			for v := range strings.SplitSeq(text, schema.Separator) {
				to[v] = true
			}
		}
	}
	split(before, c.HadOld, c.Old)
	split(after, c.HasNew, c.New)
	moved := true
	for v := range after {
		if !before[v] {
			moved = false
			if !at.entry(c.Leaf, []string{v}).create.Permits() {
				return false
			}
		}
	}
	for v := range before {
		if !after[v] {
			moved = false
			if !at.entry(c.Leaf, []string{v}).remove.Permits() {
				return false
			}
		}
	}
	return !moved || at.child(c.Leaf).update.Permits()
}

// reads says whether a session can read what a journal has changed.
func (g *judge) reads(c *edit.Change) bool {
	at := g.at(c.Place)
	if c.Leaf.IsKey || c.Leaf.Parent != nil && c.Leaf.Parent.Rank == c.Leaf {
		return at.read.Permits()
	}
	return at.read.Child(c.Leaf).Permits()
}

// readable returns the path of a change's node, or of the nearest one around it
// that the session can read; "" where there is none.
func (g *judge) readable(c *edit.Change) string {
	at := g.at(c.Place)
	if c.Leaf.IsKey {
		if at.read.Permits() {
			return c.Place.Path()
		}
	} else if at.child(c.Leaf).read.Permits() {
		return c.Path()
	}
	for p := c.Place; p != nil; p = p.Parent {
		if g.at(p).read.Permits() {
			return p.Path()
		}
	}
	return ""
}

func (d *Datastore) denied(path string) error {
	d.o.Access.DeniedWrite()
	return &rpcerr.Error{Type: rpcerr.Application, Tag: "access-denied", Path: path, Message: "access is denied by the rules for this user"}
}

// admitted looks at an edit before it is carried out.
func (d *Datastore) admitted(a *nacm.Access, tree *gen.Vita, e *edit.Node, def edit.Op) error {
	root := rootOf(a)
	if root.read == nil || root.writesAll() {
		return nil
	}
	return d.hidden(e, data.Root(tree), root, edit.Inherit(e.Op, def), "")
}

// hidden returns an error where an edit touches nodes that the session can neither
// read nor write. s is the struct that e edits, none where there is none; path is
// that of the nearest node that the session can read.
func (d *Datastore) hidden(e *edit.Node, s data.Struct, at accesses, op edit.Op, path string) error {
	for _, c := range e.Children {
		op := edit.Inherit(c.Op, op)
		var in accesses
		var inner data.Struct
		had := s.Exists() && c.Schema.HasValue() && s.Has(c.Schema)
		switch {
		case c.Schema.Kind == schema.List && c.Keys == nil:
			if shared, ok := at.remove.Alike(c.Schema); !ok || !shared.Permits() {
				return d.denied(path)
			}
			continue
		case c.Schema.Kind == schema.List:
			in = at.entry(c.Schema, c.Keys)
			if s.Exists() {
				inner = s.Entry(c.Schema, c.Keys)
			}
		case c.Schema.Kind == schema.LeafList:
			in = at.entry(c.Schema, []string{c.Value})
		default:
			in = at.child(c.Schema)
			if s.Exists() && c.Schema.Kind == schema.Container {
				inner = s.Container(c.Schema)
			}
		}
		if in.read == nil || in.writesAll() {
			continue
		}
		if !in.read.Permits() && !in.blind(c, op, had) {
			return d.denied(path)
		}
		if c.Schema.HasValue() || op == edit.Delete || op == edit.Remove {
			continue
		}
		here := path
		if in.read.Permits() {
			here = below(path, c)
		}
		if err := d.hidden(c, inner, in, op, here); err != nil {
			return err
		}
	}
	return nil
}

// blind says whether an operation on a node that cannot be read may be carried
// out. Where an edit changes nothing, since the node is what it is to become, or is
// not there as it is not to be, it takes the same right as if it changed something.
func (a accesses) blind(e *edit.Node, op edit.Op, had bool) bool {
	switch {
	case op == edit.Delete || op == edit.Remove:
		return a.remove.Permits()
	case op == edit.Create:
		return a.create.Permits()
	case op == edit.None:
		return len(e.Children) > 0 && !a.writesNone()
	case e.Schema.HasValue() && had:
		return a.update.Permits()
	case e.Schema.HasValue():
		return a.create.Permits()
	case e.Schema.Kind == schema.Container && !e.Schema.Presence:
		return true // it is always there; what is within is looked at by itself
	case len(e.Children) > 0:
		return !a.writesNone()
	}
	return a.create.Permits()
}

func below(path string, e *edit.Node) string {
	b := []byte(path + "/")
	if path == "" || e.Schema.Parent == nil || e.Schema.Parent.Module != e.Schema.Module {
		b = append(b, e.Schema.Module+":"...)
	}
	b = append(b, e.Schema.Name...)
	if e.Schema.Kind == schema.List {
		b = schema.AppendKeys(b, e.Schema, e.Keys)
	}
	return string(b)
}

// concealed takes out of errors what a session cannot read. Whether a node that
// it cannot read exists is not said either.
func (d *Datastore) concealed(a *nacm.Access, err error) error {
	read := a.Root(nacm.Read)
	if err == nil || read == nil {
		return err
	}
	if which, ok := errors.AsType[*EditError](err); ok {
		return &EditError{which.Index, d.concealed(a, which.Err)}
	}
	if all, ok := errors.AsType[rpcerr.Errors](err); ok {
		var out rpcerr.Errors
		seen := false // one is enough for all that is hidden
		for _, e := range all {
			shown, ok := d.conceal(read, e)
			if ok || !seen {
				out = append(out, shown)
			}
			seen = seen || !ok
		}
		return out
	}
	if e, ok := errors.AsType[*rpcerr.Error](err); ok {
		if shown, ok := d.conceal(read, e); !ok {
			return shown
		}
	}
	return err
}

// conceal returns an error as a session may see it; shown says that this is the
// error itself.
func (d *Datastore) conceal(read *nacm.Cursor, e *rpcerr.Error) (_ *rpcerr.Error, shown bool) {
	if Readable(read, e.Path) {
		others := e.NonUnique[:0:0]
		for _, path := range e.NonUnique {
			if Readable(read, path) {
				others = append(others, path)
			}
		}
		if len(others) == len(e.NonUnique) {
			return e, true
		}
		return &rpcerr.Error{
			Type: e.Type, Tag: e.Tag, AppTag: e.AppTag, Severity: e.Severity, Path: e.Path, NonUnique: others,
			Message: "a value has to be unique, and is not",
		}, true
	}
	switch e.Tag {
	case "data-exists", "data-missing", "access-denied":
		d.o.Access.DeniedWrite()
		return &rpcerr.Error{Type: rpcerr.Application, Tag: "access-denied", Message: "access is denied by the rules for this user"}, false
	}
	return &rpcerr.Error{
		Type: e.Type, Tag: "operation-failed",
		Message: "the configuration is not valid at a place that this user cannot read",
	}, false
}

// Readable says whether a cursor at the root permits to read what an instance path
// names. The root itself, and what is no path, everybody can.
func Readable(read *nacm.Cursor, path string) bool {
	if read == nil || path == "" || path == "/" {
		return true
	}
	at, err := yangenc.ParseInstance(path)
	if err != nil {
		return false
	}
	return at.Access(read).Permits()
}

// net returns what a journal comes to: each leaf once, and none that is what it
// was (RFC 8341 section 3.2.8).
func net(j edit.Journal) edit.Journal {
	type leaf struct {
		place string
		leaf  *schema.Node
	}
	index := map[leaf]int{}
	var out edit.Journal
	var last *data.Place
	path := ""
	for i := range j {
		if j[i].Place != last || i == 0 {
			last, path = j[i].Place, j[i].Place.Path()
		}
		k := leaf{path, j[i].Leaf}
		if n, ok := index[k]; ok {
			out[n].New, out[n].HasNew = j[i].New, j[i].HasNew
			continue
		}
		index[k] = len(out)
		out = append(out, j[i])
	}
	kept := out[:0]
	for _, c := range out {
		if c.HadOld != c.HasNew || c.Old != c.New {
			kept = append(kept, c)
		}
	}
	return kept
}

// seal turns the values of an edit into those that are kept. Followers' nodes alone
// have such values.
func (d *Datastore) seal(e *edit.Node) error {
	if d.o.Seal == nil {
		return nil
	}
	for _, c := range e.Children {
		for _, f := range d.o.Followers {
			if c.Schema.Name == f.Name && c.Schema.Module == f.Module {
				if err := d.sealWithin(c); err != nil {
					return err
				}
				break // of those that go by the same node
			}
		}
	}
	return nil
}

func (d *Datastore) sealWithin(e *edit.Node) error {
	if e.Schema.Kind == schema.Leaf && e.Value != "" {
		v, err := d.o.Seal(e.Schema, e.Value)
		if err != nil {
			return &rpcerr.Error{Type: rpcerr.Application, Tag: "invalid-value", Path: e.Schema.Path(), Message: err.Error()}
		}
		e.Value = v
	}
	for _, c := range e.Children {
		if err := d.sealWithin(c); err != nil {
			return err
		}
	}
	return nil
}

// policy compiles the rules of a tree.
func (d *Datastore) policy(root *gen.Vita) (*nacm.Policy, error) {
	p, err := nacm.Compile(nacm.FromTree(root))
	if e, ok := errors.AsType[*nacm.RuleError](err); ok {
		return nil, &rpcerr.Error{
			Type: rpcerr.Application, Tag: "invalid-value", Message: e.Err.Error(),
			Path: "/ietf-netconf-acm:nacm/rule-list[name=" + schema.Quote(e.List) + "]/rule[name=" + schema.Quote(e.Rule) + "]/path",
		}
	}
	return p, err
}

// touches says whether a journal changes something of a node at the top.
func touches(j edit.Journal, module, name string) bool {
	for i := range j {
		n := j[i].Leaf
		for n.Parent != nil && n.Parent.Parent != nil {
			n = n.Parent
		}
		if n.Name == name && n.Module == module {
			return true
		}
	}
	return false
}
