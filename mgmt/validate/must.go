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

// constraints are the model's expressions, compiled.
type constraints struct {
	root *schema.Node
	must map[*schema.Node][]*xpath.Expr // as in Node.Must

	// elsewhere says, for a leaf, which entries have to be checked wherever they
	// are when it changes: those of these lists, or the root's. A statement that
	// looks at nothing but its own entry is checked with that.
	elsewhere map[*schema.Node][]*schema.Node

	references
}

var (
	constraintsMu  sync.Mutex
	constraintsNow *constraints
)

// constraintsOf compiles the expressions of the model in use once. They are part
// of the program: one that cannot be compiled is a defect that the tests find, as
// in schema.Root.
func constraintsOf() *constraints {
	constraintsMu.Lock()
	defer constraintsMu.Unlock()
	if root := schema.Root(); constraintsNow == nil || constraintsNow.root != root {
		constraintsNow = compile(root)
	}
	return constraintsNow
}

func compile(root *schema.Node) *constraints {
	c := &constraints{
		root: root, must: map[*schema.Node][]*xpath.Expr{}, elsewhere: map[*schema.Node][]*schema.Node{},
		references: newReferences(),
	}
	seen := map[[2]*schema.Node]bool{}
	depends := func(e *xpath.Expr, context, own *schema.Node) {
		for _, r := range e.Reads(context) {
			if at := [2]*schema.Node{r.Node, own}; r.Node.Config && (!r.Own || entry(r.Node) != own) && !seen[at] {
				seen[at] = true
				c.elsewhere[r.Node] = append(c.elsewhere[r.Node], own)
			}
		}
	}
	visit := func(n *schema.Node) {
		if !n.Config {
			return
		}
		for _, m := range n.Must {
			e, err := xpath.Compile(m.Expr, m.Prefix)
			if err != nil {
				panic(fmt.Sprintf("validate: must %s of %s: %v", m.Expr, n.Path(), err))
			}
			c.must[n] = append(c.must[n], e)
			depends(e, n, entry(n))
		}
		// What is mandatory where a when holds is checked with what is around it.
		for i, e := range nav.Whens(n, n.When) {
			context := n
			if n.When[i].Around {
				context = n.Parent
			}
			depends(e, context, entry(n.Parent))
			if n.Kind == schema.List {
				depends(e, context, n)
			}
		}
		for _, choice := range n.Choices {
			for _, e := range nav.Whens(choice, choice.When) {
				depends(e, n, entry(n))
			}
		}
		if n.HasValue() {
			c.refer(n, n.Type, func(e *xpath.Expr) { depends(e, n, entry(n)) })
		}
	}
	visit(root)
	root.Walk(visit)
	return c
}

// entry returns the list around a node, itself where it is one, or the root.
func entry(n *schema.Node) *schema.Node {
	for n.Kind != schema.List && n.Parent != nil {
		n = n.Parent
	}
	return n
}

// elsewhere checks what depends on leafs that have changed, wherever it is. It
// goes through all entries of the lists concerned: in the gateway's own modules
// those of static associations, which are empty where keys are negotiated.
func (k *check) elsewhere(m *constraints, changed map[*schema.Node]bool) {
	seen := map[*schema.Node]bool{}
	for leaf := range changed {
		for _, list := range m.elsewhere[leaf] {
			if seen[list] {
				continue
			}
			seen[list] = true
			var top *data.Place
			top.Below(data.Root(k.tree), list, func(p *data.Place, _ data.Struct) bool {
				k.visit(p)
				return !k.full()
			})
		}
	}
}

// must checks the must statements of a node, and what it refers to: of the
// container or entry at a spot, or of a leaf or leaf-list in it.
func (k *check) must(s *spot, n *schema.Node) {
	m := k.m
	exprs, refers := m.must[n], m.referring[n]
	if exprs == nil && !refers {
		return
	}
	at := s.at()
	switch {
	case at == nil:
	case n.Kind == schema.Leaf:
		one := at.Child(n, at.Struct())
		path := func() string { return s.p.Child(n) }
		k.musts(n, exprs, one, path)
		if refers {
			k.refers(m, s.p, n, one, path)
		}
	case n.Kind == schema.LeafList:
		at.Named(n.Module, n.Name, func(v xpath.Node) bool {
			path := func() string { return edit.ValuePath(s.p, n, v.Value()) }
			k.musts(n, exprs, v, path)
			if refers {
				k.refers(m, s.p, n, v, path)
			}
			return true
		})
	default:
		k.musts(n, exprs, at, s.p.Path)
	}
}

func (k *check) musts(n *schema.Node, exprs []*xpath.Expr, context xpath.Node, path func() string) {
	for i, e := range exprs {
		ok, err := e.Bool(context)
		if ok && err == nil {
			continue
		}
		m := n.Must[i]
		bad := &rpcerr.Error{
			Type: rpcerr.Application, Tag: "operation-failed", AppTag: m.AppTag, Path: path(), Message: m.Message,
		}
		if bad.AppTag == "" {
			bad.AppTag = "must-violation"
		}
		if bad.Message == "" {
			bad.Message = "must " + m.Expr
		}
		if err != nil {
			bad.Message = "must " + m.Expr + ": " + err.Error()
		}
		k.fail(bad)
	}
}
