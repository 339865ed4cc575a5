package edit

import (
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/schema"
	"vita/mgmt/nacm"
)

// Tree returns an edit with all of a tree's configuration that may be read; a nil
// cursor permits everything. Secrets, which nobody can read, come along.
func Tree(tree data.Tree, read *nacm.Cursor) *Node {
	root := &Node{Schema: schema.Root()}
	root.fill(data.Root(tree), read)
	return root
}

// fill adds the children of a struct, which is e's.
func (e *Node) fill(s data.Struct, read *nacm.Cursor) {
	for _, c := range e.Schema.Children {
		if c.IsKey || !c.Config || !s.Has(c) {
			continue
		}
		switch c.Kind {
		case schema.Leaf:
			if v, ok := s.Leaf(c); ok && (c.Secret || read.Child(c).Permits()) {
				e.Children = append(e.Children, &Node{Schema: c, Value: v})
			}
		case schema.LeafList:
			for _, v := range s.Values(c) {
				if read.Entry(c, []string{v}).Permits() {
					e.Children = append(e.Children, &Node{Schema: c, Value: v})
				}
			}
		case schema.Container:
			in := read.Child(c)
			n := &Node{Schema: c}
			n.fill(s.Container(c), in)
			e.keep(n, in)
		case schema.List:
			for _, entry := range s.Sorted(c) {
				n := &Node{Schema: c, Keys: entry.Keys(c)}
				in := read.Entry(c, n.Keys)
				n.fill(entry, in)
				e.keep(n, in)
			}
		}
	}
}

// keep adds a child that may be read, or within which something may.
func (e *Node) keep(n *Node, read *nacm.Cursor) {
	if len(n.Children) > 0 || read.Permits() && (n.Schema.Kind == schema.List || n.Schema.Presence) {
		e.Children = append(e.Children, n)
	}
}
