package validate

import (
	"hash/maphash"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/nav"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// hash returns the hash of an entry's values of a unique statement. There is
// none if a value is missing (RFC 7950 section 7.8.3). Defaults count.
func (c *Checker) hash(p *data.Place, entry data.Struct, unique int) (uint64, bool) {
	var h maphash.Hash
	h.SetSeed(c.seed)
	write := func(s string) {
		_, _ = h.WriteString(s) // a Hash takes every write
		_ = h.WriteByte(0)
	}
	write(p.Node.Path())
	_ = h.WriteByte(byte(unique))
	for up := p.Parent; up != nil; up = up.Parent {
		for _, k := range up.Keys {
			write(k)
		}
	}
	for _, leaf := range p.Node.Unique[unique] {
		v, ok := c.value(p, entry, leaf)
		if !ok {
			return 0, false
		}
		write(v)
	}
	return h.Sum64(), true
}

// value returns the value of a leaf in an entry, perhaps within containers, or
// its default if that is in use.
func (c *Checker) value(p *data.Place, entry data.Struct, leaf *schema.Node) (string, bool) {
	var way [8]*schema.Node // the containers down to the leaf, and the leaf
	down := append(way[:0], leaf)
	simple := len(leaf.When) == 0 && leaf.Case == nil // so is its default
	for at := leaf.Parent; at != p.Node; at = at.Parent {
		down = append(down, at)
		simple = simple && len(at.When) == 0 && at.Case == nil && !at.Presence
	}
	s := entry
	for i := len(down) - 1; i > 0 && s.Exists(); i-- {
		s = s.Container(down[i])
	}
	if s.Exists() {
		if v, ok := s.Leaf(leaf); ok {
			return v, true
		}
	}
	if leaf.Default == nil {
		return "", false
	}
	if simple {
		return leaf.Default[0], true
	}
	at := nav.At(c.tree, p, nav.Everything())
	for i := len(down) - 1; at != nil && i >= 0; i-- {
		n := down[i]
		if exists := at.Struct().Exists() && at.Struct().Has(n); !exists && (n.Presence || !at.InUse(n)) {
			return "", false
		}
		if i > 0 {
			at = at.Into(n)
		}
	}
	return leaf.Default[0], true
}

// unique checks that no other entry has the same values.
func (k *check) unique(p *data.Place, entry data.Struct) {
	for u, leafs := range p.Node.Unique {
		h, ok := k.hash(p, entry, u)
		if !ok {
			continue
		}
		for other := range k.under(h) {
			if other.Node != p.Node || other.Same(p) || !other.Parent.Same(p.Parent) {
				continue
			}
			o := other.Find(k.tree)
			if !o.Exists() || !k.equal(other, o, p, entry, leafs) {
				continue
			}
			a, b := other, p
			if a.Path() > b.Path() {
				a, b = b, a
			}
			pair := a.Path() + "\x00" + b.Path() + "\x00" + leafs[0].Path()
			if k.conflict[pair] {
				continue
			}
			k.conflict[pair] = true
			e := &rpcerr.Error{
				Type: rpcerr.Application, Tag: "operation-failed", AppTag: "data-not-unique", Path: b.Path(),
			}
			for i, leaf := range leafs {
				if i > 0 {
					e.Message += " and "
				}
				e.Message += leaf.Name
				e.NonUnique = append(e.NonUnique, inEntry(a, leaf), inEntry(b, leaf))
			}
			e.Message += " must be different in every entry of " + p.Node.Name
			k.fail(e)
		}
	}
}

// inEntry returns the path of a leaf in an entry, perhaps within containers.
func inEntry(p *data.Place, leaf *schema.Node) string {
	if leaf.Parent == p.Node {
		return p.Child(leaf)
	}
	return inEntry(p, leaf.Parent) + "/" + leaf.QName()
}

func (k *check) equal(p *data.Place, a data.Struct, q *data.Place, b data.Struct, leafs []*schema.Node) bool {
	for _, l := range leafs {
		v, okA := k.value(p, a, l)
		w, okB := k.value(q, b, l)
		if !okA || !okB || v != w {
			return false
		}
	}
	return true
}
