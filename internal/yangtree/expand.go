package yangtree

import (
	"slices"
	"strings"
)

// mostDepth bounds groupings within each other, which ends those that use
// themselves.
const mostDepth = 64

// definitions are the keywords of what a tree consists of (section 7.1), with
// what stands between them.
var definitions = map[string]bool{
	"container": true, "list": true, "leaf": true, "leaf-list": true, "choice": true, "case": true,
	"anydata": true, "anyxml": true, "rpc": true, "action": true, "notification": true, "input": true, "output": true,
}

// IsDefinition says whether a statement is a node of the schema.
func (st *Statement) IsDefinition() bool { return definitions[st.Keyword] }

// clone copies a statement with all that is in it, as it is.
func (st *Statement) clone() *Statement {
	c := *st
	c.Children = make([]*Statement, len(st.Children))
	for i, sub := range st.Children {
		c.Children[i] = sub.clone()
	}
	return &c
}

// expand copies statements for a module's tree, with groupings in place of
// their uses.
func expand(list []*Statement, in *Module, depth int) ([]*Statement, error) {
	var out []*Statement
	for _, st := range list {
		switch {
		case st.Keyword == "uses":
			used, err := expandUses(st, in, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, used...)
		case definitions[st.Keyword]:
			c := *st
			c.In = in
			var err error
			if c.Children, err = expand(st.Children, in, depth+1); err != nil {
				return nil, err
			}
			if c.Keyword == "choice" {
				shorthand(&c)
			}
			if c.Keyword == "choice" || c.Keyword == "case" {
				hand(&c)
			}
			out = append(out, &c)
		case bodiless[st.Keyword]:
		default:
			out = append(out, st.clone())
		}
	}
	return out, nil
}

// bodiless are statements that define nothing where they stand.
var bodiless = map[string]bool{
	"typedef": true, "grouping": true, "identity": true, "feature": true, "extension": true, "augment": true, "deviation": true,
	"import": true, "include": true, "revision": true, "yang-version": true, "namespace": true, "prefix": true,
	"organization": true, "contact": true, "belongs-to": true,
}

// shorthand puts a choice's children that are no cases into cases of their own
// (section 7.9.2).
func shorthand(choice *Statement) {
	for i, c := range choice.Children {
		if definitions[c.Keyword] && c.Keyword != "case" {
			choice.Children[i] = &Statement{
				Keyword: "case", Argument: c.Argument, Children: []*Statement{c}, Module: c.Module, In: c.In,
				original: c.original, lexical: c.lexical, location: c.location,
			}
		}
	}
}

// hand hands the when of a choice or case down to the nodes in it, for which it
// is one about what stands around them. A choice keeps it under the keyword
// WhenOfChoice.
func hand(st *Statement) {
	whens := st.All("when")
	st.Children = slices.DeleteFunc(st.Children, func(c *Statement) bool { return c.Keyword == "when" })
	for _, w := range whens {
		around := *w
		around.Around = true
		st.add(&around)
	}
}

// WhenOfChoice is the keyword of a choice's when, which its nodes have as well.
const WhenOfChoice = "when of the choice"

// add adds a when to a node, or to the nodes of a choice or case.
func (st *Statement) add(when *Statement) {
	switch st.Keyword {
	case "choice":
		own := *when
		own.Keyword = WhenOfChoice
		st.Children = append(st.Children, &own)
	case "case":
	default:
		st.Children = append(st.Children, when)
		return
	}
	for _, c := range st.Children {
		if definitions[c.Keyword] {
			c.add(when)
		}
	}
}

// conditional makes nodes depend on what a uses or augment depends on.
func conditional(nodes []*Statement, on *Statement) {
	for _, n := range nodes {
		if !definitions[n.Keyword] {
			continue
		}
		for _, c := range on.Children {
			switch c.Keyword {
			case "when":
				around := *c
				around.Around = true
				n.add(&around)
			case "if-feature":
				n.Children = append(n.Children, c.clone())
			}
		}
	}
}

func expandUses(uses *Statement, in *Module, depth int) ([]*Statement, error) {
	if depth > mostDepth {
		return nil, uses.Errorf("groupings use each other too deeply")
	}
	g, err := uses.Definition("grouping", uses.Argument)
	if err != nil {
		return nil, err
	}
	var body []*Statement
	for _, c := range g.Children {
		if definitions[c.Keyword] || c.Keyword == "uses" {
			body = append(body, c)
		}
	}
	nodes, err := expand(body, in, depth)
	if err != nil {
		return nil, err
	}
	holder := &Statement{Children: nodes}
	for _, c := range uses.Children {
		switch c.Keyword {
		case "refine":
			target := holder.descend(c.Argument, in)
			if target == nil {
				return nil, c.Errorf("there is no such node in grouping %s", uses.Argument)
			}
			target.refine(c)
		case "augment":
			target := holder.descend(c.Argument, in)
			if target == nil {
				return nil, c.Errorf("there is no such node in grouping %s", uses.Argument)
			}
			if err := target.augment(c, in, depth); err != nil {
				return nil, err
			}
		case "when", "if-feature", "description", "reference", "status":
		default:
			if !strings.Contains(c.Keyword, ":") {
				return nil, c.Errorf("not known in uses")
			}
		}
	}
	conditional(holder.Children, uses)
	return holder.Children, nil
}

// descend finds a node by the path of a refine or of an augment within uses:
// all its names are of the module that the grouping is used in.
func (st *Statement) descend(path string, in *Module) *Statement {
	for name := range strings.SplitSeq(path, "/") {
		if _, local, ok := strings.Cut(name, ":"); ok {
			name = local
		}
		if st = st.node(in, name); st == nil {
			return nil
		}
	}
	return st
}

// node returns the child that defines a node of a name.
func (st *Statement) node(in *Module, name string) *Statement {
	for _, c := range st.Children {
		if definitions[c.Keyword] && c.Argument == name && c.In.Name == in.Name || c.Keyword == name && (name == "input" || name == "output") {
			return c
		}
	}
	return nil
}

// refine puts the substatements of a refine into a node (section 7.13.2).
func (st *Statement) refine(r *Statement) {
	replaced := map[string]bool{}
	for _, c := range r.Children {
		switch c.Keyword {
		case "must", "if-feature": // come in addition
		default:
			if !replaced[c.Keyword] && !strings.Contains(c.Keyword, ":") {
				replaced[c.Keyword] = true
				st.Children = slices.DeleteFunc(st.Children, func(o *Statement) bool { return o.Keyword == c.Keyword })
			}
		}
		st.Children = append(st.Children, c.clone())
	}
}

// augment adds the nodes of an augment, which are of a module, to a node.
func (st *Statement) augment(a *Statement, in *Module, depth int) error {
	nodes, err := expand(a.Children, in, depth)
	if err != nil {
		return err
	}
	conditional(nodes, a)
	for _, n := range nodes {
		if !definitions[n.Keyword] {
			continue
		}
		if st.node(n.In, n.Argument) != nil {
			return n.Errorf("%s has a node of that name already", st.Argument)
		}
		st.Children = append(st.Children, n)
	}
	if st.Keyword == "choice" {
		shorthand(st)
	}
	return nil
}

// augment carries out the augments of all implemented modules. Some may need
// others first.
func (s *Set) augment() error {
	var open []*Statement
	for _, m := range s.Implemented {
		for _, in := range append([]*Module{m}, m.included...) {
			open = append(open, in.Statement.All("augment")...)
		}
	}
	for len(open) > 0 {
		var later []*Statement
		for _, a := range open {
			target, err := s.target(a)
			if err != nil {
				return err
			}
			if target == nil {
				later = append(later, a)
				continue
			}
			if err := target.augment(a, s.byName[a.Module.Name], 0); err != nil {
				return err
			}
		}
		if len(later) == len(open) {
			return open[0].Errorf("there is no such node")
		}
		open = later
	}
	return nil
}

// target finds the node that an augment or deviation names, nil where there is
// none.
func (s *Set) target(st *Statement) (*Statement, error) {
	var at *Statement
	for i, step := range strings.Split(st.Argument, "/") {
		if i == 0 && step == "" {
			continue
		}
		m, name, err := st.Resolve(step)
		if err != nil {
			return nil, err
		}
		if at == nil {
			if !slices.Contains(s.Implemented, m) {
				return nil, st.Errorf("module %s is not implemented", m.Name)
			}
			at = &Statement{Children: m.Body}
		}
		if at = at.node(m, name); at == nil {
			return nil, nil //nolint:nilnil // the caller asks whether there is one
		}
	}
	return at, nil
}

// deviate carries out deviations (section 7.20.3).
func (s *Set) deviate() error {
	for _, m := range s.Implemented {
		for _, d := range m.Statement.All("deviation") {
			target, err := s.target(d)
			if err != nil {
				return err
			}
			if target == nil {
				return d.Errorf("there is no such node")
			}
			if of := target.In; !slices.Contains(of.DeviatedBy, m.Name) {
				of.DeviatedBy = append(of.DeviatedBy, m.Name)
			}
			for _, how := range d.All("deviate") {
				if err := target.deviate(how); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (st *Statement) deviate(how *Statement) error {
	switch how.Argument {
	case "not-supported":
		st.Keyword = "not-supported"
	case "add":
		for _, c := range how.Children {
			st.Children = append(st.Children, c.clone())
		}
	case "replace":
		for _, c := range how.Children {
			st.Children = slices.DeleteFunc(st.Children, func(o *Statement) bool { return o.Keyword == c.Keyword })
		}
		for _, c := range how.Children {
			st.Children = append(st.Children, c.clone())
		}
	case "delete":
		for _, c := range how.Children {
			before := len(st.Children)
			st.Children = slices.DeleteFunc(st.Children, func(o *Statement) bool { return o.Keyword == c.Keyword && o.Argument == c.Argument })
			if len(st.Children) == before {
				return c.Errorf("the node has no such statement")
			}
		}
	default:
		return how.Errorf("not known")
	}
	return nil
}

// prune leaves out what is not supported: by deviations, or since it depends on
// features that a server does not have.
func (s *Set) prune(list []*Statement) ([]*Statement, error) {
	out := list[:0:0]
	for _, st := range list {
		if st.Keyword == "not-supported" {
			continue
		}
		ok, err := s.has(st)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if st.Children, err = s.prune(st.Children); err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// has says whether all features that a statement depends on are there.
func (s *Set) has(st *Statement) (bool, error) {
	for _, c := range st.All("if-feature") {
		ok, err := s.featureExpression(c)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// Supported says whether all features that a statement outside of the tree
// depends on are there: an enum or a bit of a typedef.
func (s *Set) Supported(st *Statement) (bool, error) { return s.has(st) }
