package validate

import (
	"fmt"
	"sync"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/nav"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xpath"
)

// constraints are the model's must statements, compiled.
type constraints struct {
	must map[*schema.Node][]*xpath.Expr // as in Node.Must

	// elsewhere says, for a leaf, which entries have to be checked wherever they
	// are when it changes: those of these lists, or the root's. A statement that
	// looks at nothing but its own entry is checked with that.
	elsewhere map[*schema.Node][]*schema.Node
}

// model compiles the statements once. They are part of the program: one that
// cannot be compiled is a defect that the tests find, as in schema.Root.
var model = sync.OnceValue(func() *constraints {
	c := &constraints{map[*schema.Node][]*xpath.Expr{}, map[*schema.Node][]*schema.Node{}}
	schema.Root().Walk(func(n *schema.Node) {
		for _, m := range n.Must {
			e, err := xpath.Compile(m.Expr, m.Prefix)
			if err != nil {
				panic(fmt.Sprintf("validate: must %s of %s: %v", m.Expr, n.Path(), err))
			}
			c.must[n] = append(c.must[n], e)
			own := entry(n)
			seen := map[*schema.Node]bool{}
			for _, r := range e.Reads(n) {
				if r.Node.Config && (!r.Own || entry(r.Node) != own) && !seen[r.Node] {
					seen[r.Node] = true
					c.elsewhere[r.Node] = append(c.elsewhere[r.Node], own)
				}
			}
		}
	})
	return c
})

// entry returns the list around a node, itself where it is one, or the root.
func entry(n *schema.Node) *schema.Node {
	for n.Kind != schema.List && n.Parent != nil {
		n = n.Parent
	}
	return n
}

// elsewhere checks what depends on leafs that have changed, wherever it is. It
// goes through all entries of the lists concerned: those of static
// associations, which are empty where keys are negotiated.
func (k *check) elsewhere(changed map[*schema.Node]bool) {
	m := model()
	seen := map[*schema.Node]bool{}
	for leaf := range changed {
		for _, list := range m.elsewhere[leaf] {
			if !seen[list] {
				seen[list] = true
				k.everywhere(nil, schema.Root(), data.Root(k.tree), list)
			}
		}
	}
}

// everywhere visits all entries of a list below s, which is node's at place p.
func (k *check) everywhere(p *data.Place, node *schema.Node, s data.Struct, list *schema.Node) {
	if node == list {
		k.visit(p)
		return
	}
	next := list
	for next.Parent != node {
		next = next.Parent
	}
	if next.Kind == schema.Container {
		if inner := s.Container(next); inner.Exists() {
			k.everywhere(&data.Place{Parent: p, Node: next}, next, inner, list)
		}
		return
	}
	s.Entries(next, func(e data.Struct) bool {
		k.everywhere(&data.Place{Parent: p, Node: next, Keys: e.Keys(next)}, next, e, list)
		return !k.full()
	})
}

// must checks the must statements of a node: of the container or entry at a
// place, or of a leaf in it.
func (k *check) must(p *data.Place, n *schema.Node) {
	exprs := model().must[n]
	if exprs == nil {
		return
	}
	at := nav.At(k.tree, p, nav.Options{Defaults: true, Secrets: true, Config: true})
	switch {
	case at == nil:
	case n.Kind == schema.Leaf:
		k.musts(n, exprs, at.Child(n, at.Struct()), func() string { return p.Child(n) })
	case n.Kind == schema.LeafList:
		at.Named(n.Module, n.Name, func(v xpath.Node) bool {
			k.musts(n, exprs, v, func() string { return edit.ValuePath(p, n, v.Value()) })
			return true
		})
	default:
		k.musts(n, exprs, at, p.Path)
	}
}

func (k *check) musts(n *schema.Node, exprs []*xpath.Expr, context xpath.Node, path func() string) {
	for i, m := range n.Must {
		ok, err := exprs[i].Bool(context)
		if ok && err == nil {
			continue
		}
		e := &rpcerr.Error{
			Type: rpcerr.Application, Tag: "operation-failed", AppTag: m.AppTag, Path: path(), Message: m.Message,
		}
		if e.AppTag == "" {
			e.AppTag = "must-violation"
		}
		if e.Message == "" {
			e.Message = "must " + m.Expr
		}
		if err != nil {
			e.Message = "must " + m.Expr + ": " + err.Error()
		}
		k.fail(e)
	}
}
