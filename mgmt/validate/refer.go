package validate

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/nav"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xpath"
)

// references are the leafrefs and instance-identifiers of the model that need
// what they name. Both directions are found by value, within what holds both ends:
// what a leaf refers to when the leaf changes, and who refers to something when
// that goes.
type references struct {
	referring map[*schema.Node]bool         // leafs with such a type, perhaps within a union
	by        map[*schema.Type]*reference   // the leafrefs among their types
	from      map[*schema.Node][]*reference // those of a leaf
	to        map[*schema.Node][]*reference // those that lead to a leaf
	instances bool                          // there are instance-identifiers
}

// reference is a leafref.
type reference struct {
	target *schema.Node
	expr   *xpath.Expr
	common *schema.Node // what the path goes up to, which holds both ends; the root for an absolute one
	key    string       // tells references apart

	// A path without predicates is not followed but looked up, unless it leads to a
	// list's only key, which expressions look up themselves.
	lookup bool
}

func newReferences() references {
	return references{
		referring: map[*schema.Node]bool{}, by: map[*schema.Type]*reference{},
		from: map[*schema.Node][]*reference{}, to: map[*schema.Node][]*reference{},
	}
}

// refer compiles what a leaf's type refers to. An expression that depends on more
// than the value at its end is given to depends.
func (r *references) refer(leaf *schema.Node, t *schema.Type, depends func(*xpath.Expr)) {
	switch {
	case t.Ref != nil && t.Require:
		target := t.Ref.Target
		e, err := xpath.CompileReference(t.Ref.Path, t.Ref.Prefix, target)
		if err != nil {
			panic(fmt.Sprintf("validate: leafref %s of %s: %v", t.Ref.Path, leaf.Path(), err))
		}
		steps, absolute, err := schema.RefSteps(t.Ref.Path)
		if err != nil {
			panic(fmt.Sprintf("validate: leafref %s of %s: %v", t.Ref.Path, leaf.Path(), err))
		}
		ref := &reference{target: target, expr: e, common: leaf, key: leaf.Path() + " " + t.Ref.Path}
		for i := 0; absolute && ref.common.Parent != nil || !absolute && i < len(steps) && steps[i] == ".."; i++ {
			ref.common = ref.common.Parent
		}
		predicates := strings.Contains(t.Ref.Path, "[")
		onlyKey := target.IsKey && len(target.Parent.Keys) == 1
		ref.lookup = !onlyKey && !predicates && target.Default == nil
		r.referring[leaf], r.by[t] = true, ref
		r.from[leaf], r.to[target] = append(r.from[leaf], ref), append(r.to[target], ref)
		if predicates || target.Default != nil {
			depends(e)
		}
	case t.Base == schema.Instance && t.Require:
		r.referring[leaf], r.instances = true, true
	}
	for _, m := range t.Members {
		r.refer(leaf, m, depends)
	}
}

// Kinds of hints, beside those of unique statements.
const (
	referrer = "referrer" // leafs by the value that they refer to
	instance = "instance" // leafs by the instance that they name
	target   = "target"   // leafs that others refer to, by their value
)

func (c *Checker) valueHash(kind string, parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.WriteString(kind) // a Hash takes every write
	for _, s := range parts {
		_ = h.WriteByte(0)
		_, _ = h.WriteString(s)
	}
	return h.Sum64()
}

// refHash is the hash of a value of a reference, one of whose ends is at a place.
func (c *Checker) refHash(kind string, ref *reference, p *data.Place, value string) uint64 {
	for p != nil && p.Node != ref.common {
		p = p.Parent
	}
	return c.valueHash(kind, ref.key, p.Path(), value)
}

func values(n *schema.Node, text string) []string {
	if n.Kind == schema.LeafList {
		return strings.Split(text, schema.Separator)
	}
	return []string{text}
}

// indexReferences adds what a change has set to the hints.
func (c *Checker) indexReferences(m *constraints, change *edit.Change) {
	leaf := change.Leaf
	if !m.referring[leaf] && m.to[leaf] == nil {
		return
	}
	at := &data.Place{Parent: change.Place, Node: leaf}
	for _, v := range values(leaf, change.New) {
		for _, ref := range m.from[leaf] {
			c.add(c.refHash(referrer, ref, change.Place, v), at)
		}
		for _, ref := range m.to[leaf] {
			if ref.lookup {
				c.add(c.refHash(target, ref, change.Place, v), at)
			}
		}
		if m.instances && m.referring[leaf] {
			c.add(c.valueHash(instance, v), at)
		}
	}
}

// referrers checks the leafs that refer to what a change has taken away.
func (k *check) referrers(m *constraints, change *edit.Change) {
	if !change.HadOld || m.to[change.Leaf] == nil && !m.instances {
		return
	}
	gone := values(change.Leaf, change.Old)
	if change.HasNew {
		still := values(change.Leaf, change.New)
		gone = slices.DeleteFunc(gone, func(v string) bool { return slices.Contains(still, v) })
	}
	for _, ref := range m.to[change.Leaf] {
		for _, v := range gone {
			k.revisit(k.refHash(referrer, ref, change.Place, v))
		}
	}
	if !m.instances {
		return
	}
	if change.Leaf.Kind == schema.LeafList {
		for _, v := range gone {
			k.revisit(k.valueHash(instance, edit.ValuePath(change.Place, change.Leaf, v)))
		}
	}
	if change.HasNew {
		return
	}
	k.revisit(k.valueHash(instance, change.Path()))
	for p := change.Place; p != nil; p = p.Parent {
		if p.Node.Kind != schema.List || change.Leaf.IsKey && p == change.Place {
			k.revisit(k.valueHash(instance, p.Path()))
		}
	}
}

func (k *check) revisit(h uint64) {
	for one := range k.under(h) {
		k.visit(one.Entry())
	}
}

// refers checks that what a leaf, or a value of a leaf-list, names is there.
func (k *check) refers(m *constraints, p *data.Place, n *schema.Node, at xpath.Node, path func() string) {
	value := at.Value()
	if k.resolves(m, p, n.Type, at, value) {
		return
	}
	k.fail(&rpcerr.Error{
		Type: rpcerr.Application, Tag: "data-missing", AppTag: "instance-required", Path: path(),
		Message: n.Name + " refers to what is not there: " + value,
	})
}

func (k *check) resolves(m *constraints, p *data.Place, t *schema.Type, at xpath.Node, value string) bool {
	switch {
	case t.Ref != nil && t.Require:
		ref := m.by[t]
		if ref.lookup {
			return k.found(ref, p, value)
		}
		ok, err := ref.expr.Refers(at, value)
		return ok && err == nil
	case t.Base == schema.Instance && t.Require:
		return k.instance(value)
	case t.Base == schema.Union:
		return slices.ContainsFunc(t.Members, func(member *schema.Type) bool {
			v, err := member.Canonical(value)
			return err == nil && v == value && k.resolves(m, p, member, at, value)
		})
	}
	return true
}

// found looks for a value among the leafs that a path without predicates leads to
// from a leaf at a place.
func (k *check) found(ref *reference, p *data.Place, value string) bool {
	for one := range k.under(k.refHash(target, ref, p, value)) {
		if one.Node != ref.target || !sameIn(ref.common, one, p) {
			continue
		}
		if s := one.Parent.Find(k.tree); s.Exists() {
			if v, ok := s.Leaf(one.Node); ok && slices.Contains(values(one.Node, v), value) {
				return true
			}
		}
	}
	return false
}

// sameIn says whether two places are in the same instance of a node.
func sameIn(n *schema.Node, a, b *data.Place) bool {
	for a != nil && a.Node != n {
		a = a.Parent
	}
	for b != nil && b.Node != n {
		b = b.Parent
	}
	return a.Same(b)
}

// instance says whether what an instance-identifier names is there.
func (k *check) instance(value string) bool {
	steps, err := schema.InstanceSteps(schema.Root(), value, schema.Form{})
	if err != nil {
		return false
	}
	at := nav.Root(k.tree, nav.Everything())
	for _, s := range steps {
		var next *nav.Data
		switch s.Node.Kind {
		case schema.List:
			if at.Struct().Exists() {
				if e := at.Struct().Entry(s.Node, s.Keys); e.Exists() {
					next = at.Child(s.Node, e)
				}
			}
		default:
			at.Named(s.Node.Module, s.Node.Name, func(n xpath.Node) bool {
				d, ok := n.(*nav.Data)
				if ok && (s.Node.Kind != schema.LeafList || d.Value() == s.Keys[0]) {
					next = d
				}
				return next == nil
			})
		}
		if next == nil {
			return false
		}
		at = next
	}
	return true
}
