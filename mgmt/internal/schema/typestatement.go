package schema

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"vita/internal/yangtree"
)

var builtin = map[string]Type{
	"boolean": {Base: Bool}, "string": {Base: String}, "decimal64": {Base: Decimal},
	"enumeration": {Base: Enum}, "bits": {Base: Bits}, "binary": {Base: Binary}, "empty": {Base: Empty},
	"union": {Base: Union}, "identityref": {Base: Identity},
	"leafref": {Require: true}, "instance-identifier": {Base: Instance, Require: true},
	"uint8": {Base: Uint, Bits: 8, uints: [][2]uint64{{0, math.MaxUint8}}}, "uint16": {Base: Uint, Bits: 16, uints: [][2]uint64{{0, math.MaxUint16}}},
	"uint32": {Base: Uint, Bits: 32, uints: [][2]uint64{{0, math.MaxUint32}}}, "uint64": {Base: Uint, Bits: 64, uints: [][2]uint64{{0, math.MaxUint64}}},
	"int8": {Base: Int, Bits: 8, ints: [][2]int64{{math.MinInt8, math.MaxInt8}}}, "int16": {Base: Int, Bits: 16, ints: [][2]int64{{math.MinInt16, math.MaxInt16}}},
	"int32": {Base: Int, Bits: 32, ints: [][2]int64{{math.MinInt32, math.MaxInt32}}}, "int64": {Base: Int, Bits: 64, ints: [][2]int64{{math.MinInt64, math.MaxInt64}}},
}

// mostTypedefs bounds a chain of typedefs, which ends those in a circle.
const mostTypedefs = 32

// newType compiles a type statement of a leaf in a module. def is the default
// of the typedefs that it comes by, nil without one.
func (c *compiler) newType(st *yangtree.Statement, module string, depth int) (t *Type, def *yangtree.Statement, err error) {
	if depth > mostTypedefs {
		return nil, nil, st.Errorf("typedefs lead in a circle")
	}
	if b, ok := builtin[st.Argument]; ok {
		t = &b
	} else {
		td, err := st.Definition("typedef", st.Argument)
		if err != nil {
			return nil, nil, err
		}
		inner := td.Find("type")
		if inner == nil {
			return nil, nil, td.Errorf("it has no type")
		}
		base, d, err := c.newType(inner, module, depth+1)
		if err != nil {
			return nil, nil, err
		}
		if def = td.Find("default"); def == nil {
			def = d
		}
		copied := *base
		t = &copied
		t.restricted = nil
		_, local, _ := strings.Cut(":"+st.Argument, ":")
		local = local[strings.IndexByte(local, ':')+1:]
		if t.Base == String && canons[local] != nil {
			t.canon = canons[local]
		}
		t.XPath = t.XPath || t.Base == String && (local == "xpath1.0" || local == nodeInstance)
	}
	t.module = module
	if _, t.Name, _ = strings.Cut(st.Argument, ":"); t.Name == "" {
		t.Name = st.Argument
	}
	if t.Base == Instance {
		t.root = c.model.root
	}
	for _, r := range st.Children {
		if err := c.restrict(t, r, depth); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case t.Base == Decimal && t.ints == nil:
		t.ints = [][2]int64{{math.MinInt64, math.MaxInt64}}
	case t.Base == 0 && t.Ref == nil, t.Base == Union && t.Members == nil, t.Base == Identity && t.Bases == nil,
		(t.Base == Enum || t.Base == Bits) && t.Enums == nil:
		return nil, nil, st.Errorf("the type lacks what it needs")
	}
	return t, def, nil
}

// restrict applies a substatement of a type statement.
func (c *compiler) restrict(t *Type, r *yangtree.Statement, depth int) (err error) {
	switch r.Keyword {
	case "range":
		if t.Base == Uint {
			t.uints, err = bounds(r, t.uints, strconv.ParseUint)
			return err
		}
		parse := strconv.ParseInt
		if t.Base == Decimal {
			if t.ints == nil {
				t.ints = [][2]int64{{math.MinInt64, math.MaxInt64}}
			}
			parse = func(s string, _, _ int) (int64, error) { return decimal(s, t.Digits) }
		}
		t.ints, err = bounds(r, t.ints, parse)
	case "length":
		all := t.lengths
		if all == nil {
			all = [][2]uint64{{0, math.MaxUint64}}
		}
		t.lengths, err = bounds(r, all, strconv.ParseUint)
	case "pattern":
		re, err := CompilePattern(r.Argument)
		if err != nil {
			return r.Errorf("%w", err)
		}
		t.patterns = append(slices.Clip(t.patterns), pattern{r.Argument, re, r.Value("modifier") == "invert-match"})
	case "fraction-digits":
		if t.Digits, err = strconv.Atoi(r.Argument); err != nil || t.Digits < 1 || t.Digits > 18 {
			return r.Errorf("want 1 to 18")
		}
	case "enum":
		return c.named(t, "value", r)
	case "bit":
		return c.named(t, "position", r)
	case "type":
		m, _, err := c.newType(r, t.module, depth+1)
		if err != nil {
			return err
		}
		t.Members = append(t.Members, m)
	case "base":
		return c.base(t, r)
	case "path":
		t.Ref = &Ref{Path: r.Argument, Prefix: prefixes(r, t.module)}
	case "require-instance":
		t.Require = r.Argument == "true"
	case "description", "reference":
	default:
		if !strings.Contains(r.Keyword, ":") {
			return r.Errorf("not known in a type")
		}
	}
	return err
}

// bounds reads the parts of a range or length within those of the type that is
// restricted (section 9.2.4).
func bounds[T int64 | uint64](r *yangtree.Statement, outer [][2]T, parse func(string, int, int) (T, error)) ([][2]T, error) {
	if len(outer) == 0 {
		return nil, r.Errorf("the type has no such restriction")
	}
	var out [][2]T
	for part := range strings.SplitSeq(r.Argument, "|") {
		lo, hi, ok := strings.Cut(part, "..")
		if !ok {
			hi = lo
		}
		var b [2]T
		for i, s := range []string{lo, hi} {
			switch s = strings.TrimSpace(s); s {
			case "min":
				b[i] = outer[0][0]
			case "max":
				b[i] = outer[len(outer)-1][1]
			default:
				v, err := parse(s, 0, 64)
				if err != nil {
					return nil, r.Errorf("%w", err)
				}
				b[i] = v
			}
		}
		if b[0] > b[1] || len(out) > 0 && b[0] <= out[len(out)-1][1] ||
			!slices.ContainsFunc(outer, func(o [2]T) bool { return b[0] >= o[0] && b[1] <= o[1] }) {
			return nil, r.Errorf("%s is not within the type", part)
		}
		out = append(out, b)
	}
	return out, nil
}

// named adds an enum or a bit, or where the type has them already restricts it
// to those that are named.
func (c *compiler) named(t *Type, number string, st *yangtree.Statement) error {
	if t.restricted == nil && t.Enums != nil && t.Name != "enumeration" && t.Name != "bits" {
		t.restricted, t.Enums = t.Enums, nil
	}
	ok, err := c.set.Supported(st)
	if err != nil {
		return err
	}
	n := Named{Name: st.Argument}
	switch v := st.Find(number); {
	case t.restricted != nil:
		i := slices.IndexFunc(t.restricted, func(e Named) bool { return e.Name == n.Name })
		if i < 0 {
			return st.Errorf("the type has none of that name")
		}
		n = t.restricted[i]
	case v != nil:
		if n.Value, err = strconv.ParseInt(v.Argument, 10, 64); err != nil {
			return v.Errorf("%w", err)
		}
	default:
		n.Value = t.next
	}
	t.next = max(t.next, n.Value+1)
	if !ok {
		return nil
	}
	t.Enums = append(t.Enums, n)
	if number == "position" {
		slices.SortFunc(t.Enums, func(a, b Named) int { return int(a.Value - b.Value) })
	}
	return nil
}

// base adds a base of an identityref: with several, an identity has to be
// derived from all.
func (c *compiler) base(t *Type, st *yangtree.Statement) error {
	m, local, err := st.Resolve(st.Argument)
	if err != nil {
		return err
	}
	name := m.Name + ":" + local
	if !c.set.Identity(name) {
		return st.Errorf("there is no such identity")
	}
	derived := map[string]bool{}
	for _, d := range c.set.Derived(name) {
		if t.identities == nil || t.identities[d] {
			derived[d] = true
		}
	}
	t.identities, t.Bases = derived, append(slices.Clip(t.Bases), name)
	return nil
}

// prefixes resolves the prefixes of an expression in a node that is in a module:
// names without one are of that, also where the statement is in a grouping (RFC
// 7950 section 6.4.1).
func prefixes(st *yangtree.Statement, module string) func(string) (string, bool) {
	return func(prefix string) (string, bool) {
		if prefix == "" {
			return module, true
		}
		m := st.Module.Prefixed(prefix)
		if m == nil {
			return "", false
		}
		return m.Name, true
	}
}

// link finds what leafrefs refer to. A leafref then has the type of that, with
// the reference in it.
func (c *compiler) link(leaf *Node, t *Type, depth int) error {
	for _, m := range t.Members {
		if err := c.link(leaf, m, depth); err != nil {
			return err
		}
	}
	if t.Ref == nil || t.Ref.Target != nil {
		return nil
	}
	if depth > mostTypedefs {
		return fmt.Errorf("%s: leafrefs lead in a circle", leaf.path)
	}
	target, err := refTarget(leaf, t.Ref)
	if err != nil {
		return fmt.Errorf("%s: leafref %s: %w", leaf.path, t.Ref.Path, err)
	}
	if err := c.link(target, target.Type, depth+1); err != nil {
		return err
	}
	ref, require, name := t.Ref, t.Require, t.Name
	ref.Target = target
	*t = *target.Type
	t.Ref, t.Require, t.Name = ref, require, name
	return nil
}

// refTarget follows a leafref's path on the schema.
func refTarget(leaf *Node, r *Ref) (*Node, error) {
	steps, absolute, err := RefSteps(r.Path)
	if err != nil {
		return nil, err
	}
	at := leaf
	if absolute {
		for at.Parent != nil {
			at = at.Parent
		}
	}
	for _, s := range steps {
		if s == ".." {
			if at = at.Parent; at == nil {
				return nil, fmt.Errorf("it leads out of the tree")
			}
			continue
		}
		prefix, name, ok := strings.Cut(s, ":")
		if !ok {
			prefix, name = "", s
		}
		module, ok := r.Prefix(prefix)
		if !ok {
			return nil, fmt.Errorf("prefix %q is not declared", prefix)
		}
		next := at.find(module, name)
		if next == nil {
			return nil, fmt.Errorf("there is no %s in %s", s, at.path)
		}
		at = next
	}
	if at.Kind != Leaf && at.Kind != LeafList {
		return nil, fmt.Errorf("%s is no leaf", at.path)
	}
	if leaf.Config && !at.Config {
		return nil, fmt.Errorf("%s is state", at.path)
	}
	return at, nil
}

// RefSteps returns the steps of a leafref's path without their predicates.
func RefSteps(path string) (steps []string, absolute bool, err error) {
	rest := strings.TrimSpace(path)
	if rest, absolute = strings.CutPrefix(rest, "/"); rest == "" {
		return nil, false, fmt.Errorf("malformed path")
	}
	depth := 0
	var b strings.Builder
	end := func() error {
		s := strings.TrimSpace(b.String())
		b.Reset()
		if s == "" {
			return fmt.Errorf("malformed path")
		}
		steps = append(steps, s)
		return nil
	}
	for _, r := range rest {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case depth > 0:
		case r == '/':
			if err := end(); err != nil {
				return nil, false, err
			}
		default:
			b.WriteRune(r)
		}
	}
	if strings.HasPrefix(rest, "deref(") {
		return nil, false, fmt.Errorf("deref() is not supported")
	}
	return steps, absolute, end()
}
