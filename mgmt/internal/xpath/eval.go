package xpath

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"vita/mgmt/internal/schema"
)

// Node is a node of a tree: the root, an element, or a leaf.
type Node interface {
	ID() any      // equal for the same node, and comparable
	Parent() Node // nil for the root
	Name() (module, local string)
	Value() string // the string-value of a leaf; "" for others
	Children(yield func(Node) bool)

	// Named yields the children of a name; module "" stands for any.
	Named(module, local string, yield func(Node) bool)

	// Lookup returns the entries of a list by the values of its keys, which may
	// be more than the keys and in any order. ok says that the node could tell.
	// Strings are compared by value: prefixes in them are resolved by resolve.
	Lookup(module, local string, keys []Key, resolve Resolve) (found []Node, ok bool)
}

// Key is a leaf of a list's entry and the value that it has to have, a string
// or a float64.
type Key struct {
	Module, Local string
	Value         any
}

// maxWork bounds what one evaluation looks at.
const maxWork = 4 << 20

var errWork = errors.New("the expression has to look at too many nodes")

// Select evaluates an expression to nodes, each once.
func (e *Expr) Select(context Node) ([]Node, error) {
	v, err := e.eval(context)
	if err != nil {
		return nil, err
	}
	nodes, ok := v.([]Node)
	if !ok {
		return nil, errors.New("the expression gives no nodes")
	}
	return nodes, nil
}

// Bool evaluates an expression to true or false.
func (e *Expr) Bool(context Node) (bool, error) {
	v, err := e.eval(context)
	return toBool(v), err
}

// Value evaluates an expression to []Node, string, float64 or bool.
func (e *Expr) Value(context Node) (any, error) { return e.eval(context) }

// Refers says whether a reference, as CompileReference has made it, leads from a
// leaf to one with a value.
func (e *Expr) Refers(leaf Node, value string) (bool, error) {
	v, err := e.with(leaf, value)
	return toBool(v), err
}

func (e *Expr) eval(context Node) (v any, err error) { return e.with(context, nil) }

func (e *Expr) with(context Node, value any) (v any, err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case errWork:
			v, err = nil, errWork
		default:
			panic(p)
		}
	}()
	run := &run{current: context, left: maxWork, resolve: e.resolve, variable: value}
	return e.root.eval(&state{run: run, node: context, position: 1, size: 1}), nil
}

// run is one evaluation.
type run struct {
	current  Node
	left     int
	resolve  Resolve
	variable any // of a reference: the value that is looked for

	// What canonical has done last: it is asked for the same again and again.
	lastType *schema.Type
	lastText string
	last     string
}

// canonical returns a string that is compared to a node in the canonical form of
// the node's type, if it is a value of that: 'ex:red' is the identity whatever
// prefixes are in use.
func (r *run) canonical(n Node, v any) any {
	text, ok := v.(string)
	typed, is := n.(interface{ Schema() *schema.Node })
	if !ok || !is || typed.Schema().Type == nil {
		return v
	}
	t := typed.Schema().Type
	switch t.Base {
	case schema.Uint, schema.Int, schema.Enum, schema.Empty, schema.Bool: // have one form, or are numbers
		return v
	}
	if t != r.lastType || text != r.lastText {
		r.lastType, r.lastText, r.last = t, text, text
		if c, err := t.Parse(text, schema.Form{Prefix: r.resolve}); err == nil {
			r.last = c
		}
	}
	return r.last
}

// state is where an evaluation is.
type state struct {
	*run
	node           Node
	position, size int
}

func (s *state) work(n int) {
	if s.left -= n; s.left < 0 {
		panic(errWork)
	}
}

type expr interface {
	eval(s *state) any // []Node, string, float64 or bool
}

type constant struct{ v any }

func (c constant) eval(*state) any { return c.v }

// variable is the value that a reference looks for.
type variable struct{}

func (variable) eval(s *state) any { return s.variable }

type negate struct {
	e        expr
	negative bool
}

func (n *negate) eval(s *state) any {
	f := toNumber(n.e.eval(s))
	if n.negative {
		return -f
	}
	return f
}

type union struct{ a, b expr }

func (u *union) eval(s *state) any {
	a, _ := u.a.eval(s).([]Node)
	b, _ := u.b.eval(s).([]Node)
	return unique(append(slices.Clip(a), b...))
}

func unique(nodes []Node) []Node {
	if len(nodes) < 2 {
		return nodes
	}
	seen := make(map[any]bool, len(nodes))
	out := nodes[:0:0]
	for _, n := range nodes {
		if id := n.ID(); !seen[id] {
			seen[id] = true
			out = append(out, n)
		}
	}
	return out
}

type binary struct {
	op   string
	a, b expr
}

func (b *binary) eval(s *state) any {
	switch b.op {
	case "or":
		return toBool(b.a.eval(s)) || toBool(b.b.eval(s))
	case "and":
		return toBool(b.a.eval(s)) && toBool(b.b.eval(s))
	}
	x, y := b.a.eval(s), b.b.eval(s)
	switch b.op {
	case "+":
		return toNumber(x) + toNumber(y)
	case "-":
		return toNumber(x) - toNumber(y)
	case "*":
		return toNumber(x) * toNumber(y)
	case "div":
		return toNumber(x) / toNumber(y)
	case "mod":
		return math.Mod(toNumber(x), toNumber(y))
	}
	return compare(s, b.op, x, y)
}

// compare carries out a comparison (section 3.4): with a node-set it holds if
// it does for any of its nodes.
func compare(s *state, op string, x, y any) bool {
	if nodes, ok := x.([]Node); ok {
		if _, isBool := y.(bool); isBool {
			return compare(s, op, toBool(x), y)
		}
		s.work(len(nodes))
		return slices.ContainsFunc(nodes, func(n Node) bool { return compare(s, op, n.Value(), s.canonical(n, y)) })
	}
	if nodes, ok := y.([]Node); ok {
		if _, isBool := x.(bool); isBool {
			return compare(s, op, x, toBool(y))
		}
		s.work(len(nodes))
		return slices.ContainsFunc(nodes, func(n Node) bool { return compare(s, op, s.canonical(n, x), n.Value()) })
	}
	if op == "=" || op == "!=" {
		_, xb := x.(bool)
		_, yb := y.(bool)
		_, xn := x.(float64)
		_, yn := y.(float64)
		var same bool
		switch {
		case xb || yb:
			same = toBool(x) == toBool(y)
		case xn || yn:
			same = toNumber(x) == toNumber(y)
		default:
			same = toString(x) == toString(y)
		}
		return same == (op == "=")
	}
	a, b := toNumber(x), toNumber(y)
	switch op {
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	}
	return a >= b
}

func toBool(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0 && !math.IsNaN(v)
	case string:
		return v != ""
	case []Node:
		return len(v) > 0
	}
	return false
}

func toNumber(v any) float64 {
	switch v := v.(type) {
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		return v
	}
	text := strings.Trim(toString(v), " \t\r\n")
	if strings.Trim(text, "-0123456789.") != "" { // Go reads more than XPath does
		return math.NaN()
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

func toString(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		switch {
		case math.IsNaN(v):
			return "NaN"
		case math.IsInf(v, 1):
			return "Infinity"
		case math.IsInf(v, -1):
			return "-Infinity"
		case v == 0:
			return "0"
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []Node:
		if len(v) > 0 {
			return v[0].Value()
		}
	}
	return ""
}

// path is a location path, or an expression with predicates and steps.
type path struct {
	absolute bool
	from     expr   // nil: the context node, or the root
	filter   []expr // predicates of from
	steps    []*step
}

func (p *path) eval(s *state) any {
	at := []Node{s.node}
	switch {
	case p.from != nil:
		nodes, ok := p.from.eval(s).([]Node)
		if !ok {
			return []Node(nil)
		}
		at = s.filtered(nodes, p.filter)
	case p.absolute:
		root := s.node
		for up := root.Parent(); up != nil; up = root.Parent() {
			root = up
		}
		at = []Node{root}
	}
	for _, st := range p.steps {
		var next []Node
		for _, n := range at {
			next = append(next, st.from(s, n)...)
		}
		if len(at) > 1 {
			next = unique(next)
		}
		at = next
	}
	return at
}

// filtered returns the nodes for which all predicates hold (section 2.4).
func (s *state) filtered(nodes []Node, predicates []expr) []Node {
	for _, p := range predicates {
		var out []Node
		s.work(len(nodes))
		for i, n := range nodes {
			v := p.eval(&state{run: s.run, node: n, position: i + 1, size: len(nodes)})
			var ok bool
			if f, is := v.(float64); is {
				ok = f == float64(i+1)
			} else {
				ok = toBool(v)
			}
			if ok {
				out = append(out, n)
			}
		}
		nodes = out
	}
	return nodes
}

type step struct {
	axis         string
	all, none    bool // node(), or a type of node that data do not have
	module, name string
	filter       []expr
	keys         []keyTest // equalities among the first predicates
}

// keyTest is a predicate of the form [name = value], whose value does not
// depend on the node.
type keyTest struct {
	module, name string
	value        expr
}

// findKeys finds the predicates that an index can answer: equalities, before
// any that may be about positions.
func (s *step) findKeys() {
	if s.axis != "child" || s.all || s.none || s.name == "*" {
		return
	}
	for _, f := range s.filter {
		if !s.addKeys(f) {
			return
		}
	}
}

func (s *step) addKeys(f expr) bool {
	b, ok := f.(*binary)
	switch {
	case !ok:
		return false
	case b.op == "and":
		return s.addKeys(b.a) && s.addKeys(b.b)
	case b.op != "=":
		return false
	}
	for _, side := range [][2]expr{{b.a, b.b}, {b.b, b.a}} {
		if l, ok := side[0].(*path); ok && !l.absolute && l.from == nil && len(l.steps) == 1 {
			k := l.steps[0]
			if k.axis == "child" && !k.all && !k.none && k.name != "*" && k.filter == nil && fixed(side[1]) {
				s.keys = append(s.keys, keyTest{k.module, k.name, side[1]})
				return true
			}
		}
	}
	return true // a comparison is never about a position
}

// fixed says whether an expression has the same value for every node: a
// constant, or a path from current().
func fixed(e expr) bool {
	switch e := e.(type) {
	case constant, variable:
		return true
	case *path:
		return e.from != nil && e.filter == nil && fixed(e.from)
	case *call:
		return e.name == "current"
	}
	return false
}

// lookup asks the node's index.
func (s *step) lookup(st *state, n Node) ([]Node, bool) {
	if len(s.keys) == 0 {
		return nil, false
	}
	keys := make([]Key, 0, len(s.keys))
	for _, k := range s.keys {
		v := k.value.eval(st)
		if nodes, ok := v.([]Node); ok {
			if len(nodes) == 0 {
				return nil, true // equal to nothing
			}
			if len(nodes) > 1 {
				continue
			}
			v = nodes[0].Value()
		}
		if _, is := v.(bool); is {
			continue
		}
		keys = append(keys, Key{k.module, k.name, v})
	}
	return n.Lookup(s.module, s.name, keys, st.resolve)
}

func (s *step) matches(n Node) bool {
	if s.all {
		return true
	}
	if s.none {
		return false
	}
	module, local := n.Name()
	return local != "" && (s.name == "*" || s.name == local) && (s.module == "" || s.module == module)
}

// from returns what the step leads to from a node.
func (s *step) from(st *state, n Node) []Node {
	var out []Node
	take := func(c Node) bool {
		st.work(1)
		if s.matches(c) {
			out = append(out, c)
		}
		return true
	}
	backward := false
	switch s.axis {
	case "child":
		var ok bool
		switch {
		case s.all || s.none || s.name == "*":
			n.Children(take)
		default:
			if out, ok = s.lookup(st, n); !ok {
				n.Named(s.module, s.name, take)
			}
		}
	case "self":
		take(n)
	case "parent":
		if up := n.Parent(); up != nil {
			take(up)
		}
	case "descendant":
		descend(n, take)
	case "descendant-or-self":
		take(n)
		descend(n, take)
	case "ancestor", "ancestor-or-self":
		backward = true
		if s.axis == "ancestor-or-self" {
			take(n)
		}
		for up := n.Parent(); up != nil; up = up.Parent() {
			take(up)
		}
	case "following-sibling", "preceding-sibling":
		backward = s.axis == "preceding-sibling"
		siblings(n, backward, take)
		if backward {
			slices.Reverse(out)
		}
	case "following":
		for ; n != nil; n = n.Parent() {
			siblings(n, false, func(c Node) bool { take(c); descend(c, take); return true })
		}
	case "preceding": // in the order of the document: from the root down
		backward = true
		var line []Node
		for ; n != nil; n = n.Parent() {
			line = append(line, n)
		}
		for _, a := range slices.Backward(line) {
			siblings(a, true, func(c Node) bool { take(c); descend(c, take); return true })
		}
		slices.Reverse(out)
	}
	out = st.filtered(out, s.filter)
	if backward { // positions count from the node; sets are in the order of the document
		slices.Reverse(out)
	}
	return out
}

// siblings calls take with the node's siblings before it, or those behind it, in
// the order of the document.
func siblings(n Node, before bool, take func(Node) bool) {
	up := n.Parent()
	if up == nil {
		return
	}
	seen := false
	up.Children(func(c Node) bool {
		if c.ID() == n.ID() {
			seen = true
		} else if seen != before {
			take(c)
		}
		return true
	})
}

func descend(n Node, take func(Node) bool) {
	n.Children(func(c Node) bool {
		take(c)
		descend(c, take)
		return true
	})
}
