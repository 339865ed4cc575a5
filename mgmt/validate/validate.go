// Package validate checks a configuration against the constraints of the
// model: mandatory nodes and choices, numbers of entries, unique, must, when, and
// what leafrefs and instance-identifiers lead to. Types, ranges and patterns are
// checked where values are read, by yangenc.
//
// A Checker looks only at what a journal has touched, and at what depends on
// that, so that the cost of a commit goes with the size of the change. What is
// to be checked comes from the schema. The package must not know datastores or
// encodings.
package validate

import (
	"cmp"
	"hash/maphash"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"vita/mgmt/internal/beside"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/nav"
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

	// hints finds places by values: list entries by those of a unique statement's
	// leafs, leafs by what they refer to, and what they may refer to by its value.
	// Every place is under its present values, but what is found may be out of date
	// and is checked against the tree.
	hints map[uint64]*data.Place
	more  map[uint64][]*data.Place // under the same value as one of hints, beside that
	added int                      // to hints since they were made
	size  int                      // of hints when they were made
}

// New returns a Checker for a tree as it is now.
func New(tree data.Tree) *Checker {
	c := &Checker{tree: tree, seed: maphash.MakeSeed()}
	c.rebuild()
	return c
}

func (c *Checker) rebuild() {
	c.hints, c.more = map[uint64]*data.Place{}, map[uint64][]*data.Place{}
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
	m := constraintsOf()
	var last *data.Place
	for i := range j {
		change := &j[i]
		if change.HasNew {
			c.indexReferences(m, change)
		}
		p := change.Place.Entry()
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

// add adds a list entry to the hints, or a leaf, as the place that it would be.
func (c *Checker) add(h uint64, one *data.Place) {
	first, ok := c.hints[h]
	if !ok {
		c.hints[h] = one
		c.added++
		return
	}
	if first.Same(one) {
		return
	}
	list := c.more[h]
	// Where many refer to the same, what is there twice is left to the next rebuild.
	for _, other := range list[max(0, len(list)-mostCompared):] {
		if other.Same(one) {
			return
		}
	}
	c.more[h] = append(list, one)
	c.added++
}

// under returns the hints under a value.
func (c *Checker) under(h uint64) iter.Seq[*data.Place] {
	return func(yield func(*data.Place) bool) {
		first, ok := c.hints[h]
		if !ok || !yield(first) {
			return
		}
		for _, one := range c.more[h] {
			if !yield(one) {
				return
			}
		}
	}
}

const mostCompared = 16

// check is one run of Check.
type check struct {
	*Checker
	m        *constraints
	last     *data.Place // that was checked; most changes of an entry follow each other
	errs     rpcerr.Errors
	read     map[*schema.Node]bool // the leafs that have changed
	done     map[string]bool       // instance paths of the structs that were checked
	conflict map[string]bool       // pairs of entries that were reported
}

// Check checks what a journal has touched. The journal's changes are in the
// tree, and Touch has been told of them. It returns nil if all is well.
func (c *Checker) Check(j edit.Journal) rpcerr.Errors {
	return c.run(j).errs
}

// manyChanges are so many that they are checked on more than one processor.
const manyChanges = 4096

func (c *Checker) run(j edit.Journal) *check {
	if len(j) < manyChanges {
		k := c.part(j)
		k.elsewhere(k.m, k.read)
		k.sort()
		return k
	}
	parts := make([]*check, beside.Parts())
	size := len(j)/len(parts) + 1
	beside.Do(len(parts), func(i int) { parts[i] = c.part(j[min(i*size, len(j)):min((i+1)*size, len(j))]) })
	k := parts[0]
	for _, other := range parts[1:] {
		k.errs = append(k.errs, other.errs...)
		maps.Copy(k.read, other.read)
		maps.Copy(k.done, other.done)
	}
	k.elsewhere(k.m, k.read)
	k.sort()
	// What two parts have met is there twice.
	k.errs = slices.CompactFunc(k.errs, func(a, b *rpcerr.Error) bool { return reflect.DeepEqual(a, b) })
	k.errs = k.errs[:min(len(k.errs), mostErrors)]
	return k
}

// part checks what a part of a journal has touched. It changes nothing of the
// Checker.
func (c *Checker) part(j edit.Journal) *check {
	m := constraintsOf()
	k := &check{Checker: c, m: m, read: map[*schema.Node]bool{}, done: make(map[string]bool, len(j)/8), conflict: map[string]bool{}}
	var last *data.Place
	first := true
	for i := range j {
		change := &j[i]
		k.read[change.Leaf] = true
		k.referrers(m, change)
		if !first && change.Place == last && !change.Leaf.IsKey {
			continue
		}
		first, last = false, change.Place
		k.visit(change.Place.Entry())
		if change.Leaf.IsKey { // the number of entries has changed
			k.visit(change.Place.Parent.Entry())
		}
	}
	return k
}

func (k *check) sort() {
	slices.SortStableFunc(k.errs, func(a, b *rpcerr.Error) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
}

func (k *check) full() bool { return len(k.errs) >= mostErrors }

func (k *check) fail(e *rpcerr.Error) {
	if !k.full() {
		k.errs = append(k.errs, e)
	}
}

// visit checks a list entry or the root, once. Containers are checked together
// with what they stand in, since what is mandatory in one without presence is so
// whether it exists or not (RFC 7950 section 7.6.5).
func (k *check) visit(p *data.Place) {
	if k.full() {
		return
	}
	if p != nil && p == k.last {
		return
	}
	k.last = p
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
	if p != nil && len(p.Node.When) > 0 {
		k.when(&spot{k: k, p: p.Parent, s: p.Parent.Find(k.tree), node: p.Parent.Schema()}, p.Node, p)
	}
	k.inside(&spot{k: k, p: p, s: s, node: p.Schema()})
	complete := len(k.errs) == before // what is not need not be judged as well
	if p != nil {
		k.unique(p, s)
		if complete {
			k.must(&spot{k: k, p: p, s: s, node: p.Node}, p.Node)
		}
	}
}

// spot is a container or list entry that is checked, or the root. s is none for
// a container that is not in the structs.
type spot struct {
	k    *check
	p    *data.Place
	s    data.Struct
	node *schema.Node
	nav  *nav.Data
}

// at returns the spot for expressions, nil where they do not find it.
func (s *spot) at() *nav.Data {
	if s.nav == nil {
		s.nav = nav.At(s.k.tree, s.p, nav.Everything())
	}
	return s.nav
}

func (s *spot) has(n *schema.Node) bool { return s.s.Exists() && s.s.Has(n) }

// applies says whether a child's when holds, as far as it is one for all of its
// entries or values.
func (s *spot) applies(n *schema.Node) bool {
	return len(n.When) == 0 || s.at() != nil && s.at().Applies(n)
}

// inUse says whether a default of a child is in use.
func (s *spot) inUse(n *schema.Node) bool { return data.InCase(n.Case, s.s) && s.applies(n) }

// inside checks the children of a spot.
func (k *check) inside(s *spot) {
	for _, c := range s.node.Children {
		if !c.Config {
			continue
		}
		has := s.has(c)
		if has && len(c.When) > 0 && c.Kind != schema.List { // entries are visited themselves
			k.when(s, c, nil)
		}
		switch c.Kind {
		case schema.Leaf:
			k.leaf(s, c, has)
		case schema.LeafList:
			k.count(s, c)
			if has || c.Default != nil && s.inUse(c) {
				k.must(s, c)
			}
		case schema.Container:
			if !has && (c.Presence || !s.inUse(c)) {
				continue
			}
			inner := &spot{k: k, p: &data.Place{Parent: s.p, Node: c}, node: c}
			if s.s.Exists() {
				inner.s = s.s.Container(c)
			}
			k.inside(inner)
			k.must(inner, c)
		case schema.List:
			k.count(s, c)
		}
	}
	for _, choice := range s.node.Choices {
		if choice.Mandatory && choice.Config && active(choice.Case, s.s) && !chosen(choice, s.s) &&
			(len(choice.When) == 0 || s.at() != nil && s.at().ChoiceApplies(choice)) {
			k.fail(&rpcerr.Error{
				Type: rpcerr.Application, Tag: "data-missing", AppTag: "missing-choice", Path: s.p.Path(),
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

func (k *check) leaf(s *spot, leaf *schema.Node, has bool) {
	if !has {
		if leaf.Mandatory && active(leaf.Case, s.s) && s.applies(leaf) {
			k.fail(&rpcerr.Error{
				Type: rpcerr.Application, Tag: "data-missing", Path: s.p.Child(leaf),
				Message: leaf.Name + " is mandatory",
			})
			return
		}
		if leaf.Default == nil || !s.inUse(leaf) {
			return
		}
	}
	k.must(s, leaf)
}

// when refuses a node whose when does not hold, of a list one of its entries. Edits do not leave any behind;
// this is for what was stored, and was right once.
func (k *check) when(s *spot, n *schema.Node, entry *data.Place) {
	at := s.at()
	if at == nil {
		return
	}
	bad := func(path string) {
		k.fail(&rpcerr.Error{
			Type: rpcerr.Application, Tag: "unknown-element", Path: path, BadElement: n.Name,
			Message: n.Name + " is not there under the conditions that it has (when): " + n.When[0].Expr,
		})
	}
	switch n.Kind {
	case schema.LeafList:
		for _, v := range s.s.Values(n) {
			if !at.AppliesTo(n, at.ChildValue(n, v)) {
				bad(edit.ValuePath(s.p, n, v))
			}
		}
	case schema.List:
		if !at.AppliesTo(n, at.Child(n, s.s.Entry(n, entry.Keys))) {
			bad(entry.Path())
		}
	default:
		if !at.Applies(n) {
			bad(s.p.Child(n))
		}
	}
}

// count checks the number of entries or values.
func (k *check) count(s *spot, list *schema.Node) {
	n := uint64(0)
	if s.s.Exists() {
		n = uint64(s.s.Len(list))
	}
	bad := &rpcerr.Error{Type: rpcerr.Application, Tag: "operation-failed", Path: s.p.Child(list)}
	switch {
	case n < list.Min && active(list.Case, s.s) && s.applies(list):
		bad.AppTag, bad.Message = "too-few-elements", list.Name+" has too few entries"
		k.fail(bad)
	case list.Max > 0 && n > list.Max:
		bad.AppTag, bad.Message = "too-many-elements", list.Name+" has too many entries"
		k.fail(bad)
	}
}
