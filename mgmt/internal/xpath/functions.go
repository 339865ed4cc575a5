package xpath

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"vita/mgmt/internal/schema"
)

type call struct {
	name string
	args []expr
	fn   func(s *state, args []expr) any
}

func (c *call) eval(s *state) any { return c.fn(s, c.args) }

type builtin struct {
	least, most int
	fn          func(s *state, args []expr) any
}

func text(s *state, args []expr, i int) string {
	if i < len(args) {
		return toString(args[i].eval(s))
	}
	return s.node.Value()
}

func nodes(s *state, args []expr) []Node {
	if len(args) == 0 {
		return []Node{s.node}
	}
	n, _ := args[0].eval(s).([]Node)
	return n
}

func number(fn func(float64) float64) func(*state, []expr) any {
	return func(s *state, a []expr) any { return fn(toNumber(a[0].eval(s))) }
}

func nameOf(fn func(module, local string) string) func(*state, []expr) any {
	return func(s *state, a []expr) any {
		if n := nodes(s, a); len(n) > 0 {
			return fn(n[0].Name())
		}
		return ""
	}
}

// The core library of XPath 1.0 (section 4), and YANG's (RFC 7950 section 10).
var functions map[string]builtin

func init() { // in a function, since the evaluation refers to the map
	functions = map[string]builtin{
		"last":          {0, 0, func(s *state, _ []expr) any { return float64(s.size) }},
		"position":      {0, 0, func(s *state, _ []expr) any { return float64(s.position) }},
		"count":         {1, 1, func(s *state, a []expr) any { return float64(len(nodes(s, a))) }},
		"id":            {1, 1, func(*state, []expr) any { return []Node(nil) }},
		"local-name":    {0, 1, nameOf(func(_, local string) string { return local })},
		"namespace-uri": {0, 1, nameOf(func(module, _ string) string { return schema.Namespace(module) })},
		"name": {0, 1, nameOf(func(module, local string) string {
			if module == "" {
				return local
			}
			return module + ":" + local
		})},
		"string": {0, 1, func(s *state, a []expr) any { return text(s, a, 0) }},
		"concat": {2, 64, func(s *state, a []expr) any {
			var b strings.Builder
			for i := range a {
				b.WriteString(text(s, a, i))
			}
			return b.String()
		}},
		"starts-with": {2, 2, func(s *state, a []expr) any { return strings.HasPrefix(text(s, a, 0), text(s, a, 1)) }},
		"contains":    {2, 2, func(s *state, a []expr) any { return strings.Contains(text(s, a, 0), text(s, a, 1)) }},
		"substring-before": {2, 2, func(s *state, a []expr) any {
			before, _, ok := strings.Cut(text(s, a, 0), text(s, a, 1))
			if !ok {
				return ""
			}
			return before
		}},
		"substring-after": {2, 2, func(s *state, a []expr) any {
			_, after, _ := strings.Cut(text(s, a, 0), text(s, a, 1))
			return after
		}},
		"substring":     {2, 3, substring},
		"string-length": {0, 1, func(s *state, a []expr) any { return float64(utf8.RuneCountInString(text(s, a, 0))) }},
		"normalize-space": {0, 1, func(s *state, a []expr) any {
			return strings.Join(strings.Fields(text(s, a, 0)), " ")
		}},
		"translate": {3, 3, translate},
		"boolean":   {1, 1, func(s *state, a []expr) any { return toBool(a[0].eval(s)) }},
		"not":       {1, 1, func(s *state, a []expr) any { return !toBool(a[0].eval(s)) }},
		"true":      {0, 0, func(*state, []expr) any { return true }},
		"false":     {0, 0, func(*state, []expr) any { return false }},
		"lang":      {1, 1, func(*state, []expr) any { return false }},
		"number": {0, 1, func(s *state, a []expr) any {
			if len(a) == 0 {
				return toNumber(s.node.Value())
			}
			return toNumber(a[0].eval(s))
		}},
		"sum": {1, 1, func(s *state, a []expr) any {
			sum := 0.0
			for _, n := range nodes(s, a) {
				sum += toNumber(n.Value())
			}
			return sum
		}},
		"floor":   {1, 1, number(math.Floor)},
		"ceiling": {1, 1, number(math.Ceil)},
		"round":   {1, 1, number(func(f float64) float64 { return math.Floor(f + 0.5) })},

		"current":              {0, 0, func(s *state, _ []expr) any { return []Node{s.current} }},
		"deref":                {1, 1, deref},
		"re-match":             {2, 2, reMatch},
		"derived-from":         {2, 2, func(s *state, a []expr) any { return derived(s, a, false) }},
		"derived-from-or-self": {2, 2, func(s *state, a []expr) any { return derived(s, a, true) }},
		"enum-value":           {1, 1, enumValue},
		"bit-is-set": {2, 2, func(s *state, a []expr) any {
			n := first(nodes(s, a[:1]), schema.Bits)
			return n != nil && slices.Contains(strings.Fields(n.Value()), text(s, a, 1))
		}},
	}
}

// typed is a node that has a schema.
type typed interface{ Schema() *schema.Node }

// typeOf returns the type of a node's value, of a union the member that it is of.
func typeOf(n Node) *schema.Type {
	t, ok := n.(typed)
	if !ok || t.Schema().Type == nil {
		return nil
	}
	return t.Schema().Type.Of(n.Value())
}

// first returns the first of some nodes, if its value is of a type.
func first(list []Node, base schema.Base) Node {
	if len(list) > 0 {
		if t := typeOf(list[0]); t != nil && t.Base == base {
			return list[0]
		}
	}
	return nil
}

// deref returns what the first node refers to (RFC 7950 section 10.3.1).
func deref(s *state, a []expr) any {
	list := nodes(s, a)
	if len(list) == 0 {
		return []Node(nil)
	}
	n := list[0]
	switch t := typeOf(n); {
	case t == nil:
	case t.Ref != nil:
		e, err := Compile(t.Ref.Path, t.Ref.Prefix)
		if err != nil {
			break
		}
		inner := &run{current: n, left: s.left, resolve: e.resolve}
		all, _ := e.root.eval(&state{run: inner, node: n, position: 1, size: 1}).([]Node)
		s.left = inner.left
		return slices.DeleteFunc(slices.Clone(all), func(o Node) bool { return o.Value() != n.Value() })
	case t.Base == schema.Instance:
		return instance(n, n.Value())
	}
	return []Node(nil)
}

// instance returns what an instance-identifier names, from anywhere in the tree.
func instance(from Node, value string) []Node {
	steps, err := schema.InstanceSteps(schema.Root(), value, schema.Form{})
	if err != nil {
		return nil
	}
	for up := from.Parent(); up != nil; up = from.Parent() {
		from = up
	}
	at := []Node{from}
	for _, st := range steps {
		var next []Node
		if st.Node.Kind == schema.List {
			keys := make([]Key, len(st.Keys))
			for i, k := range st.Keys {
				keys[i] = Key{st.Node.Module, st.Node.Keys[i].Name, k}
			}
			next, _ = at[0].Lookup(st.Node.Module, st.Node.Name, keys, func(p string) (string, bool) { return p, true })
		} else {
			at[0].Named(st.Node.Module, st.Node.Name, func(c Node) bool {
				if st.Node.Kind != schema.LeafList || c.Value() == st.Keys[0] {
					next = append(next, c)
				}
				return next == nil
			})
		}
		if len(next) == 0 {
			return nil
		}
		at = next[:1]
	}
	return at
}

// derived says whether any of the nodes has an identity derived from another
// (sections 10.4.1, 10.4.2).
func derived(s *state, a []expr, orSelf bool) bool {
	name := text(s, a, 1)
	prefix, local, ok := strings.Cut(name, ":")
	if !ok {
		prefix, local = "", name
	}
	if s.resolve == nil {
		return false
	}
	module, ok := s.resolve(prefix)
	if !ok {
		return false
	}
	base := module + ":" + local
	return slices.ContainsFunc(nodes(s, a[:1]), func(n Node) bool {
		t := typeOf(n)
		return t != nil && t.Base == schema.Identity && (schema.DerivedFrom(n.Value(), base) || orSelf && n.Value() == base)
	})
}

func enumValue(s *state, a []expr) any {
	n := first(nodes(s, a), schema.Enum)
	if n == nil {
		return math.NaN()
	}
	for _, e := range typeOf(n).Enums {
		if e.Name == n.Value() {
			return float64(e.Value)
		}
	}
	return math.NaN()
}

func substring(s *state, a []expr) any {
	round := func(f float64) float64 { return math.Floor(f + 0.5) }
	from := round(toNumber(a[1].eval(s)))
	to := math.Inf(1)
	if len(a) == 3 {
		to = from + round(toNumber(a[2].eval(s)))
	}
	var b strings.Builder
	at := 0.0
	for _, r := range text(s, a, 0) {
		if at++; at >= from && at < to { // false for NaN, as it has to be
			b.WriteRune(r)
		}
	}
	return b.String()
}

func translate(s *state, a []expr) any {
	from, to := []rune(text(s, a, 1)), []rune(text(s, a, 2))
	table := map[rune]rune{}
	for i, r := range from {
		if _, twice := table[r]; twice {
			continue
		}
		table[r] = -1
		if i < len(to) {
			table[r] = to[i]
		}
	}
	return strings.Map(func(r rune) rune {
		if t, ok := table[r]; ok {
			return t
		}
		return r
	}, text(s, a, 0))
}

// reMatch matches the whole string with a pattern of XML Schema.
func reMatch(s *state, a []expr) any {
	re, err := schema.CompilePattern(text(s, a, 1))
	return err == nil && re.MatchString(text(s, a, 0))
}
