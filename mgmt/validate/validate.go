// Package validate checks a configuration against the constraints of the
// model: mandatory nodes and choices, numbers of entries, unique and must.
// Types, ranges and patterns are checked where values are read, by yangenc.
//
// A Checker looks only at what a journal has touched, and at what depends on
// that, so that the cost of a commit goes with the size of the change. What is
// to be checked comes from the schema. The package must not know datastores or
// encodings.
package validate

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// mostErrors bounds the errors of one check: a client needs to see what is
// wrong, not a hundred thousand times.
const mostErrors = 50

// Tree checks a whole tree. It returns nil for one that is valid.
func Tree(tree data.Tree) rpcerr.Errors {
	return New(tree).Check(edit.Export(tree))
}

// Checker checks one tree that is changed by journals. It is not safe for
// concurrent use.
type Checker struct {
	tree data.Tree
	seed maphash.Seed

	// hints finds list entries by their values of a unique statement's leafs:
	// every entry is under the hash of its present values, but what is found
	// may be out of date and is checked against the tree.
	hints map[uint64][]*data.Place
	added int // to hints since they were made
	size  int // of hints when they were made
}

// New returns a Checker for a tree as it is now.
func New(tree data.Tree) *Checker {
	c := &Checker{tree: tree, seed: maphash.MakeSeed()}
	c.rebuild()
	return c
}

func (c *Checker) rebuild() {
	c.hints = map[uint64][]*data.Place{}
	c.added = 0
	c.index(edit.Export(c.tree))
	c.size, c.added = c.added, 0
}

// Touch tells the Checker that the changes of a journal have been carried out
// on its tree, or taken back.
func (c *Checker) Touch(j edit.Journal) {
	if c.added > c.size+4096 { // most hints are out of date
		c.rebuild()
		return
	}
	c.index(j)
}

func (c *Checker) index(j edit.Journal) {
	var last *data.Place
	for i := range j {
		p := j[i].Place
		if p == nil || p == last || len(p.Node.Unique) == 0 {
			continue
		}
		last = p // the changes of one entry follow each other
		entry := p.Find(c.tree)
		if !entry.Exists() {
			continue
		}
		for u := range p.Node.Unique {
			if h, ok := c.hash(p, entry, u); ok {
				c.add(h, p)
			}
		}
	}
}

func (c *Checker) add(h uint64, p *data.Place) {
	for _, other := range c.hints[h] {
		if same(other, p) {
			return
		}
	}
	c.hints[h] = append(c.hints[h], p)
	c.added++
}

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
		v, ok := entry.Value(leaf)
		if !ok {
			return 0, false
		}
		write(v)
	}
	return h.Sum64(), true
}

func same(a, b *data.Place) bool {
	for ; a != nil && b != nil; a, b = a.Parent, b.Parent {
		if a == b {
			return true
		}
		if a.Node != b.Node || !slices.Equal(a.Keys, b.Keys) {
			return false
		}
	}
	return a == b
}

// check is one run of Check.
type check struct {
	*Checker
	errs     rpcerr.Errors
	done     map[string]bool // instance paths of the structs that were checked
	conflict map[string]bool // pairs of entries that were reported
}

// Check checks what a journal has touched. The journal's changes are in the
// tree, and Touch has been told of them. It returns nil if all is well.
func (c *Checker) Check(j edit.Journal) rpcerr.Errors {
	k := &check{Checker: c, done: map[string]bool{}, conflict: map[string]bool{}}
	var last *data.Place
	first := true
	read := map[*schema.Node]bool{}
	for i := range j {
		change := &j[i]
		read[change.Leaf] = true
		if !first && change.Place == last && !change.Leaf.IsKey {
			continue
		}
		first, last = false, change.Place
		k.visit(owner(change.Place))
		if change.Leaf.IsKey { // the number of entries has changed
			k.visit(owner(change.Place.Parent))
		}
	}
	k.elsewhere(read)
	if len(k.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(k.errs, func(a, b *rpcerr.Error) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return k.errs
}

// owner returns the list entry around a place, or the root: containers are
// checked together with what they stand in, since what is mandatory in one
// without presence is so whether it exists or not (RFC 7950 section 7.6.5).
func owner(p *data.Place) *data.Place {
	for p != nil && p.Node.Kind != schema.List {
		p = p.Parent
	}
	return p
}

func (k *check) full() bool { return len(k.errs) >= mostErrors }

func (k *check) fail(e *rpcerr.Error) {
	if !k.full() {
		k.errs = append(k.errs, e)
	}
}

// visit checks a list entry or the root, once.
func (k *check) visit(p *data.Place) {
	if k.full() {
		return
	}
	path := p.Path()
	if k.done[path] {
		return
	}
	k.done[path] = true
	s := p.Find(k.tree)
	if !s.Exists() {
		return
	}
	before := len(k.errs)
	k.inside(p, p.Schema(), s)
	complete := len(k.errs) == before // what is not need not be judged as well
	if p != nil {
		k.unique(p, s)
		if complete {
			k.must(p, p.Node)
		}
	}
}

// inside checks the children of s, which is node's at place p. s is none for
// a container that does not exist.
func (k *check) inside(p *data.Place, node *schema.Node, s data.Struct) {
	for _, c := range node.Children {
		if !c.Config || !active(c.Case, s) {
			continue
		}
		switch c.Kind {
		case schema.Leaf:
			k.leaf(p, c, s)
		case schema.Container:
			var inner data.Struct
			if s.Exists() {
				inner = s.Container(c)
			}
			if c.Presence && !inner.Exists() {
				continue
			}
			at := &data.Place{Parent: p, Node: c}
			k.inside(at, c, inner)
			if inner.Exists() && (c.Presence || !inner.Empty(c)) {
				k.must(at, c)
			}
		case schema.LeafList:
			k.count(p, c, s)
			k.must(p, c)
		case schema.List:
			k.count(p, c, s)
		}
	}
	for _, choice := range node.Choices {
		if choice.Mandatory && choice.Config && active(choice.Case, s) && !chosen(choice, s) {
			k.fail(&rpcerr.Error{
				Type: rpcerr.Application, Tag: "data-missing", AppTag: "missing-choice", Path: p.Path(),
				MissingChoice: choice.Name,
				Message:       "one of " + names(choice) + " is needed",
			})
		}
	}
}

// active says whether what stands in a case is to be there: the case exists,
// and so do the cases around it. Outside of choices it always is.
func active(in *schema.Case, s data.Struct) bool {
	for ; in != nil; in = in.Choice.Case {
		if !populated(in, s) {
			return false
		}
	}
	return true
}

func populated(in *schema.Case, s data.Struct) bool {
	return s.Exists() && slices.ContainsFunc(in.Nodes, s.Has)
}

func chosen(c *schema.Choice, s data.Struct) bool {
	return slices.ContainsFunc(c.Cases, func(in *schema.Case) bool { return populated(in, s) })
}

func names(c *schema.Choice) string {
	var out []string
	for _, in := range c.Cases {
		for _, n := range in.Nodes {
			out = append(out, n.Name)
		}
	}
	return strings.Join(out, ", ")
}

func (k *check) leaf(p *data.Place, leaf *schema.Node, s data.Struct) {
	has := s.Exists() && s.Has(leaf)
	if leaf.Mandatory && !has {
		k.fail(&rpcerr.Error{
			Type: rpcerr.Application, Tag: "data-missing", Path: p.Child(leaf),
			Message: leaf.Name + " is mandatory",
		})
		return
	}
	if !has && (len(leaf.Default) == 0 || !s.Exists()) {
		return
	}
	k.must(p, leaf)
}

func (k *check) count(p *data.Place, list *schema.Node, s data.Struct) {
	n := uint64(0)
	if s.Exists() {
		n = uint64(s.Len(list)) // of a leaf-list as well
	}
	bad := &rpcerr.Error{Type: rpcerr.Application, Tag: "operation-failed", Path: p.Child(list)}
	switch {
	case n < list.Min:
		bad.AppTag, bad.Message = "too-few-elements", list.Name+" has too few entries"
		k.fail(bad)
	case list.Max > 0 && n > list.Max:
		bad.AppTag, bad.Message = "too-many-elements", list.Name+" has too many entries"
		k.fail(bad)
	}
}

// unique checks that no other entry has the same values.
func (k *check) unique(p *data.Place, entry data.Struct) {
	for u, leafs := range p.Node.Unique {
		h, ok := k.hash(p, entry, u)
		if !ok {
			continue
		}
		for _, other := range k.hints[h] {
			if same(other, p) || !same(other.Parent, p.Parent) {
				continue
			}
			o := other.Find(k.tree)
			if !o.Exists() || !equal(o, entry, leafs) {
				continue
			}
			a, b := other, p
			if a.Path() > b.Path() {
				a, b = b, a
			}
			pair := a.Path() + "\x00" + b.Path() + "\x00" + leafs[0].Name
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
				e.NonUnique = append(e.NonUnique, a.Child(leaf), b.Child(leaf))
			}
			e.Message += " must be different in every entry of " + p.Node.Name
			k.fail(e)
		}
	}
}

func equal(a, b data.Struct, leafs []*schema.Node) bool {
	for _, l := range leafs {
		v, okA := a.Value(l)
		w, okB := b.Value(l)
		if !okA || !okB || v != w {
			return false
		}
	}
	return true
}
