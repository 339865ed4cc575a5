// Package edit carries out edits on a configuration tree and remembers them.
//
// An edit is a tree of nodes with operations (RFC 6241 section 7.2), decoded
// by yangenc. Applying it changes the generated structs in place and returns
// a Journal: what was changed, leaf by leaf, with what was there before. A
// journal is carried out again on another copy of the tree, taken back,
// validated, or stored, each in time proportional to its own length.
//
// The package must not know encodings, constraints or datastores: a tree may
// well be invalid after an edit.
package edit

import (
	"slices"
	"strings"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// Op is the operation of a node of an edit. A node with None inherits the
// operation of its parent, the topmost the edit's default operation; None as
// the default is RFC 6241's "none": such nodes have to exist and are left as
// they are.
type Op uint8

// The operations of RFC 6241 section 7.2.
const (
	None Op = iota
	Merge
	Replace
	Create
	Delete
	Remove
)

func (o Op) String() string {
	return [...]string{"none", "merge", "replace", "create", "delete", "remove"}[o]
}

// Node is a node of an edit. The topmost stands for the root of the tree.
type Node struct {
	Schema   *schema.Node
	Op       Op
	Keys     []string // of a list entry: canonical; nil, with Delete or Remove: all entries
	Value    string   // of a leaf, or of one value of a leaf-list: canonical
	Children []*Node  // without the key leafs

	// Insert says where an entry or value goes that is new, or is moved, in a list
	// or leaf-list that users order (RFC 7950 sections 7.7.9, 7.8.6). Point is the
	// one before or after which that is: its keys, or the value.
	Insert Insert
	Point  []string
}

// Insert is a place in the order of a list.
type Insert uint8

// The values of the attribute insert. Stay is none: a new entry becomes the
// last, others stay where they are.
const (
	Stay Insert = iota
	First
	Last
	Before
	After
)

// Apply carries out an edit, whole or not at all. Errors are *rpcerr.Error.
func Apply(tree data.Tree, e *Node, def Op) (Journal, error) {
	ed := editor{tree: tree}
	if n := e.size(); n > 1000 {
		ed.journal = make(Journal, 0, n)
	}
	if err := ed.root(e, Inherit(e.Op, def)); err != nil {
		ed.journal.Undo(tree)
		return nil, err
	}
	return ed.journal, nil
}

// size returns how many leafs an edit names, keys among them.
func (e *Node) size() int {
	n := len(e.Keys)
	if e.Schema.HasValue() {
		n = 1
	}
	for _, c := range e.Children {
		n += c.size()
	}
	return n
}

// Inherit returns the operation of a node: its own, or the one of what is above.
func Inherit(own, above Op) Op {
	if own != None {
		return own
	}
	return above
}

type editor struct {
	tree    data.Tree
	journal Journal
	orders  map[listAt]*order
}

func (ed *editor) root(e *Node, op Op) error {
	s := data.Root(ed.tree)
	if op == Delete || op == Remove {
		ed.removeWithin(nil, e.Schema, s)
		return nil
	}
	return ed.inside(e, nil, s, op)
}

// inside carries out the children of e, which is the struct s at place p.
func (ed *editor) inside(e *Node, p *data.Place, s data.Struct, op Op) error {
	if op == Replace {
		ed.removeOthers(e, p, s)
	}
	var done map[*schema.Node]bool // leaf-lists, and lists that were put in order
	above := op
	for _, c := range e.Children {
		op := Inherit(c.Op, above)
		var err error
		switch {
		case c.Schema.Kind == schema.Leaf:
			err = ed.leaf(c, p, s, op)
		case c.Schema.Kind == schema.Container:
			err = ed.container(c, p, s, op)
		case c.Schema.Kind == schema.LeafList:
			if !done[c.Schema] {
				err = ed.leafList(c.Schema, e, p, s, above)
			}
		case c.Keys == nil:
			err = ed.wholeList(c, p, s, op)
		default:
			err = ed.entry(c, p, s, op)
		}
		if err != nil {
			return err
		}
		if c.Schema.Kind == schema.LeafList {
			if done == nil {
				done = map[*schema.Node]bool{}
			}
			done[c.Schema] = true
		}
	}
	if above == Replace {
		ed.arrange(e, p, s)
	}
	return nil
}

func exists(path string) error {
	return rpcerr.New("data-exists", path, "it exists already")
}

func missing(path string) error {
	return rpcerr.New("data-missing", path, "it does not exist")
}

func (ed *editor) leaf(e *Node, p *data.Place, s data.Struct, op Op) error {
	value, had := s.Leaf(e.Schema)
	switch {
	case e.Schema.IsKey && (op == Delete || op == Remove || op != None && value != e.Value):
		return rpcerr.New("invalid-value", p.Child(e.Schema), "a key cannot be changed: create another entry, or delete this one")
	case op == Create && had:
		return exists(p.Child(e.Schema))
	case (op == Delete || op == None) && !had:
		return missing(p.Child(e.Schema))
	case op == Delete || op == Remove:
		ed.clear(p, s, e.Schema)
	case op != None:
		ed.set(p, s, e.Schema, e.Value)
	}
	return nil
}

func (ed *editor) container(e *Node, p *data.Place, s data.Struct, op Op) error {
	had := s.Has(e.Schema)
	switch {
	case op == Create && had:
		return exists(p.Child(e.Schema))
	case op == Delete && !had, op == None && !had && e.Schema.Presence:
		return missing(p.Child(e.Schema))
	case op == Delete || op == Remove:
		ed.remove(p, s, e.Schema)
		return nil
	case e.Schema.Presence && !had:
		ed.appear(p, s, e.Schema)
	}
	// A container always exists as far as a client is concerned (RFC 7950
	// section 7.5.1), so that even None makes the struct for what is inside.
	at := &data.Place{Parent: p, Node: e.Schema}
	err := ed.inside(e, at, s.EnsureContainer(e.Schema), op)
	switch has := s.Has(e.Schema); {
	case !has:
		s.ClearContainer(e.Schema)
	case !had && !e.Schema.Presence:
		ed.choose(p, s, e.Schema)
	}
	return err
}

// appear makes a container with presence.
func (ed *editor) appear(p *data.Place, s data.Struct, c *schema.Node) data.Struct {
	ed.choose(p, s, c)
	inner := s.EnsureContainer(c)
	ed.journal = append(ed.journal, Change{Place: p, Leaf: c, HasNew: true})
	return inner
}

func (ed *editor) entry(e *Node, p *data.Place, s data.Struct, op Op) error {
	at := &data.Place{Parent: p, Node: e.Schema, Keys: e.Keys}
	data.Own(ed.tree, at)
	entry := s.Entry(e.Schema, e.Keys)
	had := entry.Exists()
	switch {
	case op == Create && had:
		return exists(at.Path())
	case (op == Delete || op == None) && !had:
		return missing(at.Path())
	case op == Delete || op == Remove:
		if had {
			ed.removeEntry(at, s)
		}
		return nil
	case !had:
		if slices.Equal(e.Point, e.Keys) {
			return noPoint(at.Path()) // it is not there yet
		}
		entry = ed.create(at, s)
	}
	if e.Insert != Stay {
		if err := ed.move(e, at, s, entry); err != nil {
			return err
		}
	}
	return ed.inside(e, at, entry, op)
}

// wholeList deletes all entries of a list.
func (ed *editor) wholeList(e *Node, p *data.Place, s data.Struct, op Op) error {
	switch {
	case op != Delete && op != Remove:
		return rpcerr.New("missing-element", p.Child(e.Schema), "%s of a list needs the keys of an entry", op)
	case op == Delete && !s.Has(e.Schema):
		return missing(p.Child(e.Schema))
	}
	ed.remove(p, s, e.Schema)
	return nil
}

// set gives a leaf that is no key a value.
func (ed *editor) set(p *data.Place, s data.Struct, leaf *schema.Node, value string) {
	old, had := s.Leaf(leaf)
	if had && old == value {
		return
	}
	ed.choose(p, s, leaf)
	s.SetLeaf(leaf, value)
	ed.journal = append(ed.journal, Change{Place: p, Leaf: leaf, Old: old, HadOld: had, New: value, HasNew: true})
}

// create makes a list entry with its keys.
func (ed *editor) create(at *data.Place, s data.Struct) data.Struct {
	ed.choose(at.Parent, s, at.Node)
	entry := s.EnsureEntry(at.Node, at.Keys)
	for i, k := range at.Node.Keys {
		ed.journal = append(ed.journal, Change{Place: at, Leaf: k, New: at.Keys[i], HasNew: true})
	}
	if at.Node.Rank != nil {
		ed.setRank(at, s, entry, ed.order(at.Node, s).last())
	}
	return entry
}

// choose makes room for node within s: what stands in other cases of the
// choices around it goes (RFC 7950 section 7.9).
func (ed *editor) choose(p *data.Place, s data.Struct, node *schema.Node) {
	for in := node.Case; in != nil; in = in.Choice.Case {
		for _, other := range in.Choice.Cases {
			if other == in {
				continue
			}
			for _, n := range other.Nodes {
				ed.remove(p, s, n)
			}
		}
	}
}

// clear removes a leaf that is no key.
func (ed *editor) clear(p *data.Place, s data.Struct, leaf *schema.Node) {
	if old, had := s.Leaf(leaf); had {
		s.ClearLeaf(leaf)
		ed.journal = append(ed.journal, Change{Place: p, Leaf: leaf, Old: old, HadOld: true})
	}
}

// remove removes a child of s with all that is in it.
func (ed *editor) remove(p *data.Place, s data.Struct, n *schema.Node) {
	if !n.Config || !s.Has(n) {
		return
	}
	switch n.Kind {
	case schema.Leaf, schema.LeafList:
		ed.clear(p, s, n)
	case schema.Container:
		ed.removeWithin(&data.Place{Parent: p, Node: n}, n, s.Container(n))
		s.ClearContainer(n)
		if n.Presence {
			ed.journal = append(ed.journal, Change{Place: p, Leaf: n, HadOld: true})
		}
	case schema.List:
		for _, entry := range s.Sorted(n) {
			ed.removeEntry(&data.Place{Parent: p, Node: n, Keys: entry.Keys(n)}, s)
		}
	}
}

// removeWithin removes everything in s but key leafs.
func (ed *editor) removeWithin(p *data.Place, node *schema.Node, s data.Struct) {
	for _, c := range node.Children {
		if !c.IsKey {
			ed.remove(p, s, c)
		}
	}
}

// removeEntry removes a list entry. Its keys come last in the journal, so
// that they are the first to come back when it is taken back.
func (ed *editor) removeEntry(at *data.Place, s data.Struct) {
	data.Own(ed.tree, at)
	entry := s.Entry(at.Node, at.Keys)
	ed.removeWithin(at, at.Node, entry)
	if at.Node.Rank != nil {
		ed.setRank(at, s, entry, 0)
	}
	for i, k := range at.Node.Keys {
		ed.journal = append(ed.journal, Change{Place: at, Leaf: k, Old: at.Keys[i], HadOld: true})
	}
	s.DeleteEntry(at.Node, at.Keys)
}

// removeOthers removes what is in s but not in e.
func (ed *editor) removeOthers(e *Node, p *data.Place, s data.Struct) {
	kept := make(map[*schema.Node]map[string]bool, len(e.Children))
	for _, c := range e.Children {
		if kept[c.Schema] == nil {
			kept[c.Schema] = map[string]bool{}
		}
		if c.Keys != nil {
			kept[c.Schema][joined(c.Keys)] = true
		}
	}
	for _, c := range e.Schema.Children {
		keys, named := kept[c]
		switch {
		case c.IsKey || !c.Config || named && c.Kind == schema.LeafList:
		case !named:
			ed.remove(p, s, c)
		case c.Kind == schema.List:
			for _, entry := range s.Sorted(c) {
				if k := entry.Keys(c); !keys[joined(k)] {
					ed.removeEntry(&data.Place{Parent: p, Node: c, Keys: k}, s)
				}
			}
		}
	}
}

// joined makes a map key of a list's keys. No value has a zero byte in it.
func joined(keys []string) string {
	if len(keys) == 1 {
		return keys[0]
	}
	return strings.Join(keys, "\x00")
}
