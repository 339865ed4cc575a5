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
// what they name. Both directions are found by value: what a leaf refers to when
// the leaf changes, and who refers to something when that goes.
type references struct {
	referring map[*schema.Node]bool           // leafs with such a type, perhaps within a union
	by        map[*schema.Type]*reference     // the leafrefs among their types
	targets   map[*schema.Node]bool           // what leafrefs lead to
	indexed   map[*schema.Node]bool           // those of them that are looked up by value
	instances bool                            // there are instance-identifiers
	leafs     map[*schema.Node][]*schema.Node // of a leaf: what its leafrefs lead to
}

// reference is a leafref.
type reference struct {
	target *schema.Node
	expr   *xpath.Expr

	// A path without predicates is not followed but looked up, unless it leads to a
	// list's only key, which expressions look up themselves: up is how many steps
	// it goes up to what holds both ends, -1 for the root.
	lookup bool
	up     int
}

func newReferences() references {
	return references{
		referring: map[*schema.Node]bool{}, by: map[*schema.Type]*reference{}, targets: map[*schema.Node]bool{},
		indexed: map[*schema.Node]bool{}, leafs: map[*schema.Node][]*schema.Node{},
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
		ref := &reference{target: target, expr: e, up: -1}
		steps, absolute, err := schema.RefSteps(t.Ref.Path)
		if err != nil {
			panic(fmt.Sprintf("validate: leafref %s of %s: %v", t.Ref.Path, leaf.Path(), err))
		}
		predicates := strings.Contains(t.Ref.Path, "[")
		if !absolute {
			for ref.up = 0; ref.up < len(steps) && steps[ref.up] == ".."; {
				ref.up++
			}
		}
		onlyKey := target.IsKey && len(target.Parent.Keys) == 1
		ref.lookup = !onlyKey && !predicates && target.Default == nil
		r.referring[leaf], r.by[t], r.targets[target] = true, ref, true
		r.leafs[leaf] = append(r.leafs[leaf], target)
		r.indexed[target] = r.indexed[target] || ref.lookup
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
	referrer = "referrer" // leafs by the leaf that they refer to and their value
	instance = "instance" // leafs by the instance that they name
	target   = "target"   // leafs that others refer to by their value
)

func (c *Checker) valueHash(kind, path, value string) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, s := range []string{kind, path, value} {
		_, _ = h.WriteString(s) // a Hash takes every write
		_ = h.WriteByte(0)
	}
	return h.Sum64()
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
	if !m.referring[leaf] && !m.indexed[leaf] {
		return
	}
	for _, v := range values(leaf, change.New) {
		for _, t := range m.leafs[leaf] {
			c.add(c.valueHash(referrer, t.Path(), v), hint{change.Place, leaf})
		}
		if m.instances && m.referring[leaf] {
			c.add(c.valueHash(instance, "", v), hint{change.Place, leaf})
		}
		if m.indexed[leaf] {
			c.add(c.valueHash(target, leaf.Path(), v), hint{change.Place, leaf})
		}
	}
}

// referrers checks the leafs that refer to what a change has taken away.
func (k *check) referrers(m *constraints, change *edit.Change) {
	if !change.HadOld || !m.targets[change.Leaf] && !m.instances {
		return
	}
	gone := values(change.Leaf, change.Old)
	if change.HasNew {
		still := values(change.Leaf, change.New)
		gone = slices.DeleteFunc(gone, func(v string) bool { return slices.Contains(still, v) })
	}
	if m.targets[change.Leaf] {
		for _, v := range gone {
			k.revisit(k.valueHash(referrer, change.Leaf.Path(), v))
		}
	}
	if !m.instances {
		return
	}
	if change.Leaf.Kind == schema.LeafList {
		for _, v := range gone {
			k.revisit(k.valueHash(instance, "", edit.ValuePath(change.Place, change.Leaf, v)))
		}
	}
	if change.HasNew {
		return
	}
	k.revisit(k.valueHash(instance, "", change.Path()))
	for p := change.Place; p != nil; p = p.Parent {
		if p.Node.Kind != schema.List || change.Leaf.IsKey && p == change.Place {
			k.revisit(k.valueHash(instance, "", p.Path()))
		}
	}
}

func (k *check) revisit(h uint64) {
	for _, one := range k.hints[h] {
		k.visit(one.p.Entry())
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
	var common *data.Place // what both ends stand in
	if ref.up >= 0 {
		common = p
		for range ref.up - 1 {
			common = common.Parent
		}
	}
	for _, one := range k.hints[k.valueHash(target, ref.target.Path(), value)] {
		if one.leaf != ref.target {
			continue
		}
		up := one.p
		for up != nil && (common == nil || up.Node != common.Node) {
			up = up.Parent
		}
		if !up.Same(common) {
			continue
		}
		if s := one.p.Find(k.tree); s.Exists() {
			if v, ok := s.Leaf(one.leaf); ok && slices.Contains(values(one.leaf, v), value) {
				return true
			}
		}
	}
	return false
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
