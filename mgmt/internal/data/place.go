package data

import (
	"slices"

	"vita/mgmt/internal/schema"
)

// Place names a container or list entry. Places are shared and must not be
// changed. A nil Place is the root.
type Place struct {
	Parent *Place
	Node   *schema.Node
	Keys   []string // canonical; of a list entry
}

// Schema returns the place's schema node, the root's for a nil Place.
func (p *Place) Schema() *schema.Node {
	if p == nil {
		return schema.Root()
	}
	return p.Node
}

// Same says whether two places are the same.
func (p *Place) Same(o *Place) bool {
	for ; p != nil && o != nil; p, o = p.Parent, o.Parent {
		if p == o {
			return true
		}
		if p.Node != o.Node || !slices.Equal(p.Keys, o.Keys) {
			return false
		}
	}
	return p == o
}

// Entry returns the list entry that the place is, or is in; nil for none.
func (p *Place) Entry() *Place {
	for p != nil && p.Node.Kind != schema.List {
		p = p.Parent
	}
	return p
}

// Below calls fn with every place of a container or list below p that exists, or
// with p itself where it is one of these. s is the struct at p.
func (p *Place) Below(s Struct, node *schema.Node, fn func(*Place, Struct) bool) bool {
	at := p.Schema()
	if at == node {
		return fn(p, s)
	}
	next := node
	for next != nil && next.Parent != at {
		next = next.Parent
	}
	if next == nil {
		return true // it is not below
	}
	if next.Kind == schema.Container {
		inner := s.Container(next)
		return !inner.Exists() || (&Place{Parent: p, Node: next}).Below(inner, node, fn)
	}
	ok := true
	s.Entries(next, func(e Struct) bool {
		ok = (&Place{Parent: p, Node: next, Keys: e.Keys(next)}).Below(e, node, fn)
		return ok
	})
	return ok
}

// Find returns the struct at the place, or none.
func (p *Place) Find(tree Tree) Struct {
	if p == nil {
		return Root(tree)
	}
	up := p.Parent.Find(tree)
	switch {
	case !up.Exists():
		return up
	case p.Node.Kind == schema.List:
		return up.Entry(p.Node, p.Keys)
	}
	return up.Container(p.Node)
}

// Ensure returns the struct at the place and makes what is missing of it.
func (p *Place) Ensure(tree Tree) Struct {
	if p == nil {
		return Root(tree)
	}
	up := p.Parent.Ensure(tree)
	if p.Node.Kind == schema.List {
		return up.EnsureEntry(p.Node, p.Keys)
	}
	return up.EnsureContainer(p.Node)
}

// Prune removes containers that are empty and mean nothing by themselves, from the
// place upwards.
func (p *Place) Prune(tree Tree) {
	for ; p != nil && p.Node.Kind == schema.Container; p = p.Parent {
		s := p.Find(tree)
		if s.Exists() && (p.Node.Presence || !s.Empty(p.Node)) {
			return
		}
		if up := p.Parent.Find(tree); up.Exists() {
			up.ClearContainer(p.Node)
		}
	}
}

// Path returns the instance path of the place, "" for the root, for example
// "/vita-esp-gateway:route4[id='site2']/gateway[ip='203.0.113.2']".
func (p *Place) Path() string {
	if p == nil {
		return ""
	}
	var room [128]byte
	return string(p.AppendPath(room[:0]))
}

// AppendPath appends what Path returns.
func (p *Place) AppendPath(b []byte) []byte {
	if p == nil {
		return b
	}
	return p.Node.AppendStep(p.Parent.AppendPath(b), p.Keys)
}

// Child returns the instance path of a child of the place.
func (p *Place) Child(n *schema.Node) string {
	var room [128]byte
	return string(n.AppendStep(p.AppendPath(room[:0]), nil))
}
