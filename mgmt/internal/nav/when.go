package nav

import (
	"fmt"
	"sync"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xpath"
)

// mostWhens bounds when statements that depend on each other, which the modules
// must not have in a circle (RFC 7950 section 7.21.5).
const mostWhens = 16

// whens are the compiled when statements, by node or choice.
var whens sync.Map

// Whens returns the expressions of a node's or choice's when statements. They are
// part of the program: one that cannot be compiled is a defect that the tests
// find, as in schema.Root.
func Whens(of any, list []schema.When) []*xpath.Expr {
	if stored, ok := whens.Load(of); ok {
		if e, ok := stored.([]*xpath.Expr); ok {
			return e
		}
	}
	var out []*xpath.Expr
	for _, w := range list {
		e, err := xpath.Compile(w.Expr, w.Prefix)
		if err != nil {
			panic(fmt.Sprintf("nav: when %s: %v", w.Expr, err))
		}
		out = append(out, e)
	}
	whens.Store(of, out)
	return out
}

// Applies says whether the when statements of a child of d hold, of one that
// exists or of one that could (section 7.21.5).
func (d *Data) Applies(n *schema.Node) bool {
	if len(n.When) == 0 {
		return true
	}
	var context *Data
	switch n.Kind {
	case schema.Container:
		context = d.container(n)
	case schema.List:
		context = d.Child(n, data.Struct{})
	default:
		context = d.Child(n, d.s)
	}
	return d.AppliesTo(n, context)
}

// AppliesTo is Applies for one of several instances: an entry or a value.
func (d *Data) AppliesTo(n *schema.Node, instance *Data) bool {
	if len(n.When) == 0 {
		return true
	}
	if d.o.depth++; d.o.depth > mostWhens {
		d.o.depth--
		return false
	}
	defer func() { d.o.depth-- }()
	for i, e := range Whens(n, n.When) {
		context := instance
		if n.When[i].Around {
			context = d
		}
		if ok, err := e.Bool(context); !ok || err != nil {
			return false
		}
	}
	return true
}

// ChoiceApplies says whether a choice within d is to be there: its when holds.
func (d *Data) ChoiceApplies(c *schema.Choice) bool {
	for _, e := range Whens(c, c.When) {
		if ok, err := e.Bool(d); !ok || err != nil {
			return false
		}
	}
	return true
}

// InUse says whether a default of a child of d is in use, or a container without
// presence is there: its case is the one that is, and its when holds.
func (d *Data) InUse(n *schema.Node) bool { return data.InCase(n.Case, d.s) && d.Applies(n) }
