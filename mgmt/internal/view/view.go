// Package view shows of a tree what somebody may read (RFC 8341 section 3.2.4).
//
// A view is a tree of its own, which shares with the whole one whatever may be
// read with all that is in it. So whoever gets it, an encoder, a filter, an
// expression, cannot tell what is hidden from what is not there, and a reader
// whom no rule concerns gets the tree itself.
//
// The package must not know encodings or the datastore.
package view

import (
	"vita/gen"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/schema"
	"vita/mgmt/nacm"
)

// View is what may be read of a tree. It holds as long as the tree does not
// change.
type View struct {
	Root *gen.Vita

	hidden map[place]bool
}

// place is a child of a struct.
type place struct {
	address uintptr
	n       *schema.Node
}

// Of returns what a cursor at the root permits to read of a tree.
func Of(tree *gen.Vita, read *nacm.Cursor) *View {
	if read.Plain() {
		return &View{Root: tree}
	}
	v := &View{hidden: map[place]bool{}}
	root, ok := v.part(data.Root(tree), schema.Root(), read).Tree().(*gen.Vita)
	if !ok { // it is a copy of one
		root = &gen.Vita{}
	}
	v.Root = root
	return v
}

// Hidden says whether a child of a struct of the view may not be read. A leaf of
// which this is not said is not there, and has its default.
func (v *View) Hidden(s data.Struct, n *schema.Node) bool {
	return v != nil && v.hidden != nil && s.Exists() && v.hidden[place{s.Address(), n}]
}

// part returns what may be read of a struct, which is node's.
func (v *View) part(s data.Struct, node *schema.Node, read *nacm.Cursor) data.Struct {
	out := s.Shallow()
	for _, c := range node.Children {
		if c.IsKey { // it comes along with the entry
			continue
		}
		switch c.Kind {
		case schema.Leaf:
			if !read.Child(c).Permits() {
				v.hide(out, c)
				out.ClearLeaf(c)
			}
		case schema.LeafList:
			v.values(out, c, read)
		case schema.Container:
			v.container(s, out, c, read.Child(c))
		case schema.List:
			v.list(out, c, read)
		}
	}
	return out
}

func (v *View) hide(s data.Struct, n *schema.Node) { v.hidden[place{s.Address(), n}] = true }

func (v *View) values(out data.Struct, c *schema.Node, read *nacm.Cursor) {
	shared, alike := read.Alike(c)
	switch {
	case alike && shared.Permits():
	case alike:
		v.hide(out, c)
		out.ClearLeaf(c)
	case out.Has(c):
		out.SiftValues(c, func(value string) bool { return read.Entry(c, []string{value}).Permits() })
	}
}

func (v *View) container(s, out data.Struct, c *schema.Node, read *nacm.Cursor) {
	switch {
	case read.Plain():
		return
	case read.None():
		v.hide(out, c)
		out.ClearContainer(c)
		return
	}
	in := s.Container(c)
	if !in.Exists() {
		// Its defaults show, but not those that are hidden: they need a struct
		// that says which.
		if c.Presence {
			return
		}
		in = s.Shallow().EnsureContainer(c)
	}
	part := v.part(in, c, read)
	if c.Presence && part.Empty(c) && !read.Permits() {
		v.hide(out, c)
		out.ClearContainer(c)
		return
	}
	out.PutContainer(c, part)
}

func (v *View) list(out data.Struct, c *schema.Node, read *nacm.Cursor) {
	shared, alike := read.Alike(c)
	switch {
	case out.Len(c) == 0 || alike && shared.Plain():
	case alike && shared.None():
		out.ClearContainer(c) // of a list as well
	default:
		out.Sift(c, func(e data.Struct) data.Struct {
			in := shared
			if !alike {
				in = read.Entry(c, e.Keys(c))
			}
			switch {
			case in.Plain():
				return e
			case in.None():
				return data.Struct{}
			}
			part := v.part(e, c, in)
			if !in.Permits() && !inside(part, c) {
				return data.Struct{}
			}
			return part
		})
	}
}

// inside says whether there is something in an entry beside its keys.
func inside(e data.Struct, list *schema.Node) bool {
	for _, c := range list.Children {
		if !c.IsKey && !c.Secret && e.Has(c) {
			return true
		}
	}
	return false
}
