package xpath

import (
	"maps"
	"slices"

	"vita/mgmt/internal/schema"
)

// Read is a schema node that an expression depends on.
type Read struct {
	Node *schema.Node

	// Own says that of all its instances only one matters: the one in the
	// context's own entry, or in an entry around that.
	Own bool
}

// Reads returns the leafs on which the value of an expression may depend when
// it is evaluated at a node of the schema: more rather than fewer. For an entry
// of a list, or a container, these are the leafs by which it exists; a container
// with presence is one of them itself. What a default depends on is among them.
func (e *Expr) Reads(context *schema.Node) []Read {
	r := &reader{current: place{context, true}, found: map[Read]bool{}}
	r.exists(r.eval(e.root, r.current))
	done := map[*schema.Node]bool{}
	for before := -1; before != len(r.found); {
		before = len(r.found)
		for _, read := range slices.Collect(maps.Keys(r.found)) {
			// What stands in an entry, or in a container with presence, is there with that.
			for at := read.Node; read.Node.Default != nil && at != nil && at.Kind != schema.List && !at.Presence && !done[at]; at = at.Parent {
				done[at] = true
				r.implied(at)
			}
		}
	}
	out := make([]Read, 0, len(r.found))
	for read := range r.found {
		out = append(out, read)
	}
	return out
}

// implied notes on what it depends that a default within a node is in use: on
// the node's when, and on what stands in the cases of its choices.
func (r *reader) implied(n *schema.Node) {
	for _, w := range n.When {
		e, err := Compile(w.Expr, w.Prefix)
		if err != nil {
			continue // nav.Whens says so
		}
		context := n
		if w.Around {
			context = n.Parent
		}
		inner := &reader{current: place{context, false}, found: r.found}
		inner.exists(inner.eval(e.root, inner.current))
	}
	for in := n.Case; in != nil; in = in.Choice.Case {
		for _, c := range in.Choice.Cases {
			for _, other := range c.Nodes {
				r.exists([]place{{other, false}})
			}
		}
	}
}

// place is a node of the schema where an evaluation can be.
type place struct {
	n   *schema.Node
	own bool
}

// reader evaluates an expression on the schema instead of on data: a node-set
// becomes the set of places where its nodes can be.
type reader struct {
	current place
	found   map[Read]bool
}

// exists notes that the nodes at some places are looked at.
func (r *reader) exists(at []place) {
	for _, p := range at {
		switch p.n.Kind {
		case schema.Leaf, schema.LeafList:
			r.found[Read{p.n, p.own}] = true
		case schema.List:
			for _, k := range p.n.Keys {
				r.found[Read{k, p.own}] = true
			}
			if p.n.Rank != nil { // positions
				r.found[Read{p.n.Rank, p.own}] = true
			}
		case schema.Container: // there if something is in it
			if p.n.Presence {
				r.found[Read{p.n, p.own}] = true
				continue
			}
			p.n.Walk(func(c *schema.Node) {
				if c.HasValue() || c.Presence {
					r.found[Read{c, false}] = true
				}
			})
		}
	}
}

// eval returns the places of a node-set; nil for other values, what those
// depend on is noted.
func (r *reader) eval(e expr, at place) []place {
	switch e := e.(type) {
	case *negate:
		r.exists(r.eval(e.e, at))
	case *binary:
		r.exists(r.eval(e.a, at))
		r.exists(r.eval(e.b, at))
	case *union:
		return append(r.eval(e.a, at), r.eval(e.b, at)...)
	case *call:
		if e.name == "current" {
			return []place{r.current}
		}
		if e.name == "deref" {
			return r.deref(r.eval(e.args[0], at))
		}
		switch e.name {
		case "true", "false", "last", "position":
		default:
			if len(e.args) == 0 { // string() and the like are about the node itself
				r.exists([]place{at})
			}
		}
		for _, a := range e.args {
			r.exists(r.eval(a, at))
		}
	case *path:
		return r.path(e, at)
	}
	return nil
}

// deref returns where references lead: an instance-identifier to anywhere.
func (r *reader) deref(from []place) (out []place) {
	r.exists(from)
	var follow func(p place, t *schema.Type)
	follow = func(p place, t *schema.Type) {
		switch {
		case t.Ref != nil:
			if e, err := Compile(t.Ref.Path, t.Ref.Prefix); err == nil {
				inner := &reader{current: place{p.n, false}, found: r.found}
				out = append(out, inner.eval(e.root, inner.current)...)
			}
		case t.Base == schema.Instance:
			root := p.n
			for root.Parent != nil {
				root = root.Parent
			}
			root.Walk(func(n *schema.Node) { out = append(out, place{n, false}) })
		}
		for _, m := range t.Members {
			follow(p, m)
		}
	}
	for _, p := range from {
		if p.n.Type != nil {
			follow(p, p.n.Type)
		}
	}
	r.exists(out)
	return out
}

func (r *reader) path(p *path, at place) []place {
	here := []place{at}
	switch {
	case p.from != nil:
		here = r.eval(p.from, at)
		r.filter(p.filter, here)
	case p.absolute:
		root := at.n
		for root.Parent != nil {
			root = root.Parent
		}
		here = []place{{root, true}}
	}
	for _, s := range p.steps {
		next := map[place]bool{}
		for _, h := range here {
			r.step(s, h, func(p place) {
				if s.all || s.name == "*" || s.name == p.n.Name && (s.module == "" || s.module == p.n.Module) {
					next[p] = true
				}
			})
		}
		here = here[:0:0]
		for p := range next {
			here = append(here, p)
			if p.n.Kind == schema.List || p.n.Presence { // whether there is one decides where it goes on
				r.exists([]place{p})
			}
		}
		r.filter(s.filter, here)
	}
	return here
}

func (r *reader) filter(predicates []expr, at []place) {
	for _, f := range predicates {
		for _, p := range at {
			r.exists(r.eval(f, p))
		}
	}
}

// step calls take with the places to which an axis leads.
func (r *reader) step(s *step, at place, take func(place)) {
	if s.none {
		return
	}
	children := func(p place) {
		for _, c := range p.n.Children {
			take(place{c, p.own && c.Kind != schema.List})
		}
	}
	switch s.axis {
	case "child":
		children(at)
	case "parent", "ancestor", "ancestor-or-self":
		if s.axis == "ancestor-or-self" {
			take(at)
		}
		for up := at.n.Parent; up != nil; up = up.Parent {
			take(place{up, at.own || up.Parent == nil})
			if s.axis == "parent" {
				return
			}
		}
	case "self":
		take(at)
	case "following-sibling", "preceding-sibling":
		if up := at.n.Parent; up != nil {
			children(place{up, at.own})
		}
	case "following", "preceding": // wherever that is
		root := at.n
		for root.Parent != nil {
			root = root.Parent
		}
		root.Walk(func(c *schema.Node) { take(place{c, false}) })
	case "descendant-or-self", "descendant":
		if s.axis == "descendant-or-self" {
			take(at)
		}
		at.n.Walk(func(c *schema.Node) { take(place{c, false}) })
	}
}
