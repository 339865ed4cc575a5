package edit

import (
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/schema"
)

// Change is a leaf that came, went or got another value. A list entry exists
// by its key leafs: setting one makes the entry, clearing one deletes it. A
// leaf-list changes as a whole: Old and New have all of its values. The Leaf of a
// container with presence is the container itself, without values.
type Change struct {
	Place  *data.Place // the container or entry that the leaf is in; nil for the root
	Leaf   *schema.Node
	Old    string // the value before
	New    string // and after
	HadOld bool
	HasNew bool
}

// Path returns the leaf's instance path.
func (c *Change) Path() string { return c.Place.Child(c.Leaf) }

// Journal is a sequence of changes, the first one first.
type Journal []Change

// Redo carries out the changes on a tree that is as the journal's was before.
func (j Journal) Redo(tree data.Tree) {
	for i := range j {
		c := &j[i]
		put(tree, c.Place, c.Leaf, c.New, c.HasNew)
	}
}

// Undo takes the changes back on a tree that is as the journal left it.
func (j Journal) Undo(tree data.Tree) {
	for i := len(j) - 1; i >= 0; i-- {
		c := &j[i]
		put(tree, c.Place, c.Leaf, c.Old, c.HadOld)
	}
}

func put(tree data.Tree, p *data.Place, leaf *schema.Node, value string, has bool) {
	data.Own(tree, p)
	switch {
	case has && leaf.IsKey:
		p.Ensure(tree)
	case has && leaf.Kind == schema.Container:
		p.Ensure(tree).EnsureContainer(leaf)
	case has:
		p.Ensure(tree).SetLeaf(leaf, value)
	case leaf.IsKey:
		if up := p.Parent.Find(tree); up.Exists() {
			up.DeleteEntry(p.Node, p.Keys)
			p.Parent.Prune(tree)
		}
	default:
		if s := p.Find(tree); s.Exists() {
			s.ClearLeaf(leaf) // of a container as well
			p.Prune(tree)
		}
	}
}

// Inverse returns the journal that takes this one's changes back.
func (j Journal) Inverse() Journal {
	out := make(Journal, len(j))
	for i := range j {
		c := &out[len(j)-1-i]
		*c = j[i]
		c.Old, c.New, c.HadOld, c.HasNew = c.New, c.Old, c.HasNew, c.HadOld
	}
	return out
}

// Target is a node that a journal has changed, and how: "create", "delete" or
// "replace".
type Target struct{ Path, Operation string }

// Targets returns what a journal has changed, as an observer sees it: an entry
// that came or went is one target with all that is in it. It returns nil where
// these would be more than most.
func (j Journal) Targets(most int) []Target {
	var out []Target
	whole := map[string]bool{} // entries that came or went
	for i := range j {
		c := &j[i]
		if !c.Leaf.IsKey {
			continue
		}
		path := c.Place.Path()
		if c.Leaf != c.Place.Node.Keys[0] || within(c.Place.Parent, whole) || whole[path] {
			continue
		}
		whole[path] = true
		if len(whole) > most {
			return nil
		}
	}
	for i := range j {
		c := &j[i]
		t := Target{c.Path(), "replace"}
		switch {
		case IsRank(c.Leaf):
			if t.Path = c.Place.Path(); within(c.Place, whole) {
				continue
			}
			t.Operation = "replace"
			if out = append(out, t); len(out) > most {
				return nil
			}
			continue
		case c.Leaf.IsKey && (c.Leaf != c.Place.Node.Keys[0] || within(c.Place.Parent, whole)):
			continue
		case c.Leaf.IsKey:
			t.Path = c.Place.Path()
		case within(c.Place, whole):
			continue
		}
		switch {
		case !c.HadOld:
			t.Operation = "create"
		case !c.HasNew:
			t.Operation = "delete"
		}
		if out = append(out, t); len(out) > most {
			return nil
		}
	}
	return out
}

// IsRank says whether a leaf is the rank of an entry, which no client sees.
func IsRank(leaf *schema.Node) bool { return leaf.Parent != nil && leaf.Parent.Rank == leaf }

// within says whether a place is one of some entries, or in one.
func within(p *data.Place, entries map[string]bool) bool {
	for ; p != nil; p = p.Parent {
		if entries[p.Path()] {
			return true
		}
	}
	return false
}

// Rebase carries out the journal's changes on a tree that has changed since,
// and returns the journal of doing so. What the journal deletes and is gone
// already is passed over; an entry that it changes and that is gone comes
// back with what the journal has of it. What a when does not allow is removed.
func (j Journal) Rebase(tree data.Tree) Journal {
	ed := editor{tree: tree}
	for i := range j {
		c := &j[i]
		data.Own(tree, c.Place)
		switch {
		case c.HasNew && c.Leaf.IsKey:
			ed.ensure(c.Place)
		case c.HasNew && c.Leaf.Kind == schema.Container:
			if s := ed.ensure(c.Place); !s.Has(c.Leaf) {
				ed.appear(c.Place, s, c.Leaf)
			}
		case c.HasNew && IsRank(c.Leaf):
			entry := ed.ensure(c.Place)
			ed.setRank(c.Place, c.Place.Parent.Find(tree), entry, schema.RankNumber(c.New))
		case c.HasNew:
			ed.set(c.Place, ed.ensure(c.Place), c.Leaf, c.New)
		case c.Leaf.IsKey:
			if c.Place.Find(tree).Exists() {
				ed.removeEntry(c.Place, c.Place.Parent.Find(tree))
				c.Place.Parent.Prune(tree)
			}
		case IsRank(c.Leaf): // goes with its entry
		default:
			if s := c.Place.Find(tree); s.Exists() {
				ed.remove(c.Place, s, c.Leaf)
				c.Place.Prune(tree)
			}
		}
	}
	more, _ := Settle(tree, ed.journal, true) // lenient: there is no error
	return append(ed.journal, more...)
}

// ensure makes a place, with the choices that it is made by.
func (ed *editor) ensure(p *data.Place) data.Struct {
	if s := p.Find(ed.tree); s.Exists() {
		return s
	}
	up := ed.ensure(p.Parent)
	if p.Node.Kind == schema.List {
		return ed.create(p, up)
	}
	if p.Node.Presence {
		return ed.appear(p.Parent, up, p.Node)
	}
	ed.choose(p.Parent, up, p.Node)
	return up.EnsureContainer(p.Node)
}

// Export returns the journal that makes an empty tree equal to tree: all of
// its configuration, entries' keys first.
func Export(tree data.Tree) Journal {
	ed := editor{tree: tree}
	ed.export(nil, schema.Root(), data.Root(tree))
	return ed.journal
}

func (ed *editor) export(p *data.Place, node *schema.Node, s data.Struct) {
	add := func(leaf *schema.Node) {
		if v, ok := s.Leaf(leaf); ok {
			ed.journal = append(ed.journal, Change{Place: p, Leaf: leaf, New: v, HasNew: true})
		}
	}
	for _, k := range node.Keys {
		add(k)
	}
	if node.Rank != nil && p != nil {
		add(node.Rank)
	}
	for _, c := range node.Children {
		switch {
		case !c.Config || c.IsKey || !s.Has(c):
		case c.HasValue():
			add(c)
		case c.Kind == schema.Container:
			if c.Presence {
				ed.journal = append(ed.journal, Change{Place: p, Leaf: c, HasNew: true})
			}
			ed.export(&data.Place{Parent: p, Node: c}, c, s.Container(c))
		case c.Kind == schema.List:
			for _, entry := range s.Sorted(c) {
				ed.export(&data.Place{Parent: p, Node: c, Keys: entry.Keys(c)}, c, entry)
			}
		}
	}
}
