package edit_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/modeltest"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xpath"
	"vita/mgmt/internal/yangenc"
	"vita/mgmt/validate"
)

var edits = flag.Int("edits", 3000, "how many random edits are compared with the reference")

// The reference: a tree of nodes in the order in which they stand, without keys,
// ranks, journals or indexes. It does what RFC 6241 and RFC 7950 say by looking at
// everything.
type plain struct {
	n     *schema.Node
	up    *plain
	value string
	kids  []*plain
}

func (p *plain) add(n *schema.Node, value string) *plain {
	c := &plain{n: n, up: p, value: value}
	p.kids = append(p.kids, c)
	return c
}

func (p *plain) keys() []string {
	var out []string
	for _, k := range p.n.Keys {
		for _, c := range p.kids {
			if c.n == k {
				out = append(out, c.value)
			}
		}
	}
	return out
}

// named finds the child that an edit's node is about, or nil.
func (p *plain) named(n *schema.Node, keys []string, value string) *plain {
	for _, c := range p.kids {
		if c.n != n {
			continue
		}
		if n.Kind == schema.List && !slices.Equal(c.keys(), keys) || n.Kind == schema.LeafList && c.value != value {
			continue
		}
		return c
	}
	return nil
}

func (p *plain) remove(c *plain) {
	p.kids = slices.DeleteFunc(p.kids, func(o *plain) bool { return o == c })
}

// exists says whether a node is there: a container without presence is if
// something in it is.
func (p *plain) exists() bool {
	return p != nil && (p.n.Kind != schema.Container || p.n.Presence || slices.ContainsFunc(p.kids, (*plain).exists))
}

func (p *plain) has(n *schema.Node) bool {
	return slices.ContainsFunc(p.kids, func(c *plain) bool { return c.n == n && c.exists() })
}

func (p *plain) path() string {
	if p.up == nil {
		return ""
	}
	return p.up.path() + "/" + step(p.n, p.keys(), p.value)
}

func step(n *schema.Node, keys []string, value string) string {
	if n.Kind == schema.LeafList {
		keys = []string{value}
	}
	return string(schema.AppendKeys([]byte(n.QName()), n, keys))
}

func (p *plain) clone(up *plain) *plain {
	c := &plain{n: p.n, up: up, value: p.value}
	for _, k := range p.kids {
		c.kids = append(c.kids, k.clone(c))
	}
	return c
}

func (p *plain) elements() []*modeltest.Element {
	var out []*modeltest.Element
	for _, c := range p.kids {
		if c.exists() {
			out = append(out, &modeltest.Element{Node: c.n, Value: c.value, Children: c.elements()})
		}
	}
	return out
}

type refusal struct{ tag, path string }

func (r *refusal) Error() string { return r.tag + " at " + r.path }

func op(own, above edit.Op) edit.Op {
	if own != edit.None {
		return own
	}
	return above
}

// apply carries out the children of an edit's node.
func (p *plain) apply(e *edit.Node, above edit.Op) error {
	if above == edit.Replace {
		p.kids = slices.DeleteFunc(p.kids, func(c *plain) bool {
			return !c.n.IsKey && !slices.ContainsFunc(e.Children, func(o *edit.Node) bool { return p.named(o.Schema, o.Keys, o.Value) == c })
		})
	}
	var replaced []*plain // in the order of the edit
	for _, c := range e.Children {
		n, op := c.Schema, op(c.Op, above)
		at := p.named(n, c.Keys, c.Value)
		if n.Kind == schema.Leaf {
			at = p.named(n, nil, "")
		}
		had := at.exists()
		path := p.path() + "/" + step(n, c.Keys, c.Value)
		implicit := n.Kind == schema.Container && !n.Presence
		switch {
		case op == edit.Create && had:
			return &refusal{"data-exists", path}
		case (op == edit.Delete || op == edit.None && !implicit) && !had:
			return &refusal{"data-missing", path}
		case op == edit.Delete || op == edit.Remove:
			if at != nil {
				p.remove(at)
			}
			continue
		}
		if !had && !implicit {
			p.choose(n)
			at = p.add(n, c.Value)
			for i, k := range n.Keys {
				at.add(k, c.Keys[i])
			}
		}
		if at == nil {
			at = p.add(n, "")
		}
		if n.Kind == schema.Leaf && op != edit.None {
			at.value = c.Value
		}
		if c.Insert != edit.Stay {
			if err := p.insert(at, c, path, had); err != nil {
				return err
			}
		}
		if !n.HasValue() {
			if err := at.apply(c, op); err != nil {
				return err
			}
			if implicit && !had && at.exists() {
				p.choose(n)
			}
		}
		replaced = append(replaced, at)
	}
	if above == edit.Replace { // all are in the order of the edit
		p.kids = append(slices.DeleteFunc(p.kids, func(c *plain) bool { return slices.Contains(replaced, c) }), replaced...)
	}
	return nil
}

// choose removes what stands in other cases than a node.
func (p *plain) choose(n *schema.Node) {
	for in := n.Case; in != nil; in = in.Choice.Case {
		for _, other := range in.Choice.Cases {
			if other != in {
				p.kids = slices.DeleteFunc(p.kids, func(c *plain) bool { return slices.Contains(other.Nodes, c.n) })
			}
		}
	}
}

func (p *plain) insert(at *plain, e *edit.Node, path string, had bool) error {
	if !e.Schema.ByUser {
		return &refusal{"bad-attribute", path}
	}
	var point *plain
	if e.Insert == edit.Before || e.Insert == edit.After {
		value := ""
		if len(e.Point) > 0 {
			value = e.Point[0]
		}
		if point = p.named(e.Schema, e.Point, value); point == nil {
			return &refusal{"bad-attribute", path}
		}
		if point == at && !had {
			return &refusal{"bad-attribute", path}
		}
		if point == at {
			return nil
		}
	}
	p.remove(at)
	i := 0
	switch e.Insert {
	case edit.Last:
		i = len(p.kids)
	case edit.Before:
		i = slices.Index(p.kids, point)
	case edit.After:
		i = slices.Index(p.kids, point) + 1
	}
	p.kids = slices.Insert(p.kids, i, at)
	return nil
}

// settle removes nodes whose when does not hold, until all do. One that is not as
// it was before is an error.
func (p *plain) settle(before *plain) error {
	for again := true; again; {
		again = false
		var err error
		schema.Root().Walk(func(n *schema.Node) {
			if err == nil && len(n.When) > 0 {
				var removed bool
				removed, err = p.without(n, before)
				again = again || removed
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *plain) without(n *schema.Node, before *plain) (removed bool, err error) {
	for _, c := range slices.Clone(p.kids) {
		if c.n != n {
			if below(n, c.n) {
				r, err := c.without(n, before)
				if removed = removed || r; err != nil {
					return removed, err
				}
			}
			continue
		}
		if !c.exists() || holds(n, &view{p: p, n: p.n}, &view{p: c, n: n}) {
			continue
		}
		if !c.same(before.find(c)) {
			return removed, &refusal{"unknown-element", c.path()}
		}
		p.remove(c)
		removed = true
	}
	return removed, nil
}

func below(n, up *schema.Node) bool {
	for ; n != nil; n = n.Parent {
		if n == up {
			return true
		}
	}
	return false
}

// find returns the node of another tree at the same path.
func (p *plain) find(c *plain) *plain {
	if c.up == nil {
		return p
	}
	up := p.find(c.up)
	if up == nil {
		return nil
	}
	if c.n.Kind == schema.Leaf {
		return up.named(c.n, nil, "")
	}
	return up.named(c.n, c.keys(), c.value)
}

// same says whether everything in a node was in another, as it is.
func (p *plain) same(o *plain) bool {
	return o != nil && p.value == o.value && !slices.ContainsFunc(p.kids, func(c *plain) bool {
		return c.exists() && (c.n.Kind != schema.Leaf && !c.same(o.named(c.n, c.keys(), c.value)) || c.n.Kind == schema.Leaf && !c.same(o.named(c.n, nil, "")))
	})
}

func holds(n *schema.Node, around, own *view) bool {
	for _, w := range n.When {
		e, err := xpath.Compile(w.Expr, w.Prefix)
		if err != nil {
			panic(err)
		}
		context := own
		if w.Around {
			context = around
		}
		if ok, err := e.Bool(context); !ok || err != nil {
			return false
		}
	}
	return true
}

// view is what expressions see of a plain tree: defaults, and containers without
// presence that nobody has made.
type view struct {
	p     *plain // nil: it is implied
	n     *schema.Node
	up    *view
	value string
}

func (v *view) ID() any { return v.string() }
func (v *view) string() string {
	if v.Parent() == nil {
		return ""
	}
	up, _ := v.Parent().(*view)
	if v.p != nil {
		return v.p.path()
	}
	return up.string() + "/" + step(v.n, nil, v.value)
}
func (v *view) Schema() *schema.Node { return v.n }
func (v *view) Parent() xpath.Node {
	switch {
	case v.up != nil:
		return v.up
	case v.p == nil || v.p.up == nil:
		return nil
	}
	return &view{p: v.p.up, n: v.p.up.n}
}
func (v *view) Name() (module, local string) { return v.n.Module, v.n.Name }
func (v *view) Value() string {
	if v.p != nil {
		return v.p.value
	}
	return v.value
}

func (v *view) Children(yield func(xpath.Node) bool) {
	v.children(func(*schema.Node) bool { return true }, yield)
}

func (v *view) children(wanted func(*schema.Node) bool, yield func(xpath.Node) bool) {
	if v.n.HasValue() {
		return
	}
	here := v.p
	if here == nil {
		here = &plain{n: v.n}
	}
	for _, n := range v.n.Children {
		if !wanted(n) {
			continue
		}
		for _, c := range here.kids {
			if c.n == n && c.exists() && !yield(&view{p: c, n: n, up: v}) {
				return
			}
		}
		implied := n.HasValue() && n.Default != nil || n.Kind == schema.Container && !n.Presence
		if here.has(n) || !implied || !here.inCase(n) || !holds(n, v, &view{n: n, up: v}) {
			continue
		}
		values := n.Default
		if n.Kind == schema.Container {
			values = []string{""}
		}
		for _, d := range values {
			if !yield(&view{n: n, up: v, value: d}) {
				return
			}
		}
	}
}

func (p *plain) inCase(n *schema.Node) bool {
	for in := n.Case; in != nil; in = in.Choice.Case {
		if slices.ContainsFunc(in.Nodes, p.has) {
			continue
		}
		if in.Choice.Default != in || slices.ContainsFunc(in.Choice.Cases, func(c *schema.Case) bool { return slices.ContainsFunc(c.Nodes, p.has) }) {
			return false
		}
	}
	return true
}

func (v *view) Named(module, local string, yield func(xpath.Node) bool) {
	v.children(func(n *schema.Node) bool { return n.Name == local && (module == "" || module == n.Module) }, yield)
}

func (*view) Lookup(string, string, []xpath.Key, xpath.Resolve) ([]xpath.Node, bool) {
	return nil, false
}

// generator makes random edits.
type generator struct{ *modeltest.Generator }

func (g *generator) edit(list []*modeltest.Element, n *schema.Node, quiet bool) *edit.Node {
	e := &edit.Node{Schema: n}
	chosen := map[*schema.Choice]*schema.Case{}
	seen := map[string]bool{}
	for _, el := range list {
		c := el.Node
		if c.IsKey {
			v, err := c.Type.Canonical(el.Value)
			if err != nil {
				return nil
			}
			e.Keys = append(e.Keys, v)
			continue
		}
		conflict := false
		for in := c.Case; in != nil; in = in.Choice.Case {
			if chosen[in.Choice] == nil {
				chosen[in.Choice] = in
			}
			conflict = conflict || chosen[in.Choice] != in
		}
		own := edit.None
		if !quiet && g.IntN(6) == 0 {
			own = []edit.Op{edit.Merge, edit.Merge, edit.Replace, edit.Create, edit.Delete, edit.Remove, edit.Remove}[g.IntN(7)]
		}
		child := g.edit(el.Children, c, quiet || own == edit.Replace)
		if child == nil || conflict {
			continue
		}
		if child.Op = own; c.HasValue() {
			v, err := c.Type.Canonical(el.Value)
			if err != nil {
				continue
			}
			child.Value = v
		}
		if key := step(c, child.Keys, child.Value); c.Kind != schema.Leaf && seen[key] {
			continue
		} else {
			seen[key] = true
		}
		if !quiet && c.ByUser && g.IntN(2) == 0 {
			child.Insert = edit.Insert(1 + g.IntN(4))
			if child.Insert >= edit.Before {
				point := c.Keys
				if c.Kind == schema.LeafList {
					point = []*schema.Node{c}
				}
				for _, k := range point {
					v, err := k.Type.Canonical(g.Value(k))
					if err != nil {
						child.Insert = edit.Last
						break
					}
					child.Point = append(child.Point, v)
				}
			}
		}
		e.Children = append(e.Children, child)
	}
	if len(e.Keys) < len(n.Keys) {
		return nil
	}
	return e
}

// conditions is an edit of what other nodes depend on, with one of them.
func (g *generator) conditions() *edit.Node {
	root := schema.Root()
	condition := &edit.Node{Schema: root.Child("every", "condition")}
	set := func(parent *edit.Node, name, value string) *edit.Node {
		module, local, ok := strings.Cut(name, ":")
		if !ok {
			module, local = "", name
		}
		c := &edit.Node{Schema: parent.Schema.Child(module, local), Value: value}
		parent.Children = append(parent.Children, c)
		return c
	}
	mode := []string{"list", "uses", "choice", "list"}[g.IntN(4)]
	if g.IntN(2) == 0 {
		set(condition, "flag", fmt.Sprint(g.IntN(2) == 0))
	}
	if g.IntN(2) == 0 {
		set(condition, "mode", mode)
		if mode == "choice" {
			set(condition, "first", "1")
		}
	}
	switch g.IntN(8) {
	case 0:
		set(condition, "a", "1")
	case 1:
		set(set(condition, "b", ""), "c", "2")
	case 2:
		set(set(condition, "b", ""), "d", []string{"d", "e"}[g.IntN(2)])
	case 3:
		set(condition, "reads-default", "r")
	case 4:
		l := set(condition, "l", "")
		l.Keys = []string{fmt.Sprint(1 + g.IntN(3))}
		set(l, "v", "x")
	case 5:
		set(condition, "values", "v")
		set(condition, "label", "ab")
	case 6:
		set(condition, "more:extra", "5")
		set(set(condition, "more:more", ""), "extra", "6")
	}
	return &edit.Node{Schema: root, Children: []*edit.Node{condition}}
}

// references is an edit of what others refer to, or of what refers.
func (g *generator) references(t testing.TB) *edit.Node {
	pick := func(list ...string) string { return list[g.IntN(len(list))] }
	name, no := pick("a", "b"), pick("1", "2")
	config := pick(
		`{"every:device":[{"name":"`+name+`","port":[{"no":`+no+`,"speed":`+no+`}]}]}`,
		`{"every:device":[{"name":"`+name+`","port":[{"no":`+no+`,"speed":3}],"uplink":`+no+`,"fastest":3}]}`,
		`{"every:device":[{"name":"`+name+`"}]}`,
		`{"every:device":[{"name":"`+name+`","port":[{"no":`+no+`}]}]}`,
		`{"every:refer":{"device":"`+name+`"}}`,
		`{"every:refer":{"device":"`+name+`","port":`+no+`}}`,
		`{"every:refer":{"speed":`+no+`}}`,
		`{"every:refer":{"mixed":"`+name+`"}}`,
		`{"every:refer":{"letter":"`+name+`"}}`,
		`{"every:types":{"by-user":["`+name+`"]}}`,
		`{"every:types":{"where":"/every:types/by-user[.='`+name+`']"}}`,
		`{"every:types":{"where":"/every:device[name='`+name+`']/port[no='`+no+`']"}}`,
		`{"every:item":[{"name":"`+name+`"}]}`,
		`{"every:item":[{"name":"`+name+`","friend":["`+pick("a", "b", "c")+`"]}]}`,
		`{"every:item":[{"name":"c","peer":"`+name+`"}]}`,
	)
	e, err := yangenc.DecodeJSON([]byte(config), nil)
	if err != nil {
		t.Fatal(err)
	}
	if g.IntN(3) == 0 { // the innermost goes
		at := e.Children[len(e.Children)-1]
		for len(at.Children) > 0 && g.IntN(3) > 0 {
			at = at.Children[len(at.Children)-1]
		}
		at.Op = edit.Remove
	}
	return e
}

func text(t testing.TB, tree any) string {
	t.Helper()
	var b bytes.Buffer
	if err := yangenc.EncodeJSON(&b, tree, yangenc.Opts{Secrets: true}); err != nil {
		t.Fatal(err)
	}
	return modeltest.Normal(t, b.String())
}

// flat returns the leafs of a tree by their paths, as an empty tree would get them.
func flat(tree any) map[string]string {
	out := map[string]string{}
	for _, c := range edit.Export(tree) {
		if !isRank(&c) {
			out[c.Path()] = c.New
		}
	}
	return out
}

func isRank(c *edit.Change) bool { return c.Leaf.Name == schema.RankName }

// net returns what a journal has changed in the end: old and new value by path.
func net(j edit.Journal) map[string][2]string {
	out := map[string][2]string{}
	for _, c := range j {
		if isRank(&c) {
			continue
		}
		v := [2]string{"-", "-"}
		if first, ok := out[c.Path()]; ok {
			v[0] = first[0]
		} else if c.HadOld {
			v[0] = "+" + c.Old
		}
		if c.HasNew {
			v[1] = "+" + c.New
		}
		out[c.Path()] = v
	}
	for path, v := range out {
		if v[0] == v[1] {
			delete(out, path)
		}
	}
	return out
}

func diff(a, b map[string]string) map[string][2]string {
	out := map[string][2]string{}
	for path, v := range a {
		if w, ok := b[path]; !ok {
			out[path] = [2]string{"+" + v, "-"}
		} else if v != w {
			out[path] = [2]string{"+" + v, "+" + w}
		}
	}
	for path, w := range b {
		if _, ok := a[path]; !ok {
			out[path] = [2]string{"-", "+" + w}
		}
	}
	return out
}

// TestReference makes random edits of modules with every construct and compares
// with the reference: the same tree, the same refusals, the journal says what has
// changed and nothing else, goes back and forth, and a Checker that is told of it
// says the same as one that looks at everything.
func TestReference(t *testing.T) {
	newTree := modeltest.Use(t)
	g := &generator{&modeltest.Generator{Rand: rand.New(rand.NewPCG(11, 13)), Density: 0.25, Paths: []string{"/every:types/flag", "/every:item[name='a']", "/every:present"}}}
	tree, mirror := newTree(), newTree()
	reference := &plain{n: schema.Root()}
	checker := validate.New(tree)
	refused, whens, moved := map[string]int{}, 0, 0
	for i := range *edits {
		g.Density = []float64{0.05, 0.15, 0.3}[g.IntN(3)]
		e := g.edit(g.Document(), schema.Root(), false)
		def := []edit.Op{edit.Merge, edit.Merge, edit.Merge, edit.None, edit.Replace}[g.IntN(5)]
		if def == edit.Replace {
			e = g.edit(g.Document(), schema.Root(), true)
		}
		if i%4 == 0 {
			e, def = g.conditions(), edit.Merge
		}
		if i%4 == 1 {
			e, def = g.references(t), edit.Merge
		}
		before, beforeFlat := text(t, tree), flat(tree)

		after := reference.clone(nil)
		want := after.apply(e, def)
		if want == nil {
			want = after.settle(reference)
		}
		j, err := edit.Apply(tree, e, def)
		if err == nil {
			var more edit.Journal
			if more, err = edit.Settle(tree, j, false); err != nil {
				j.Undo(tree)
			}
			whens += len(more)
			j = append(j, more...)
		}
		if !sameRefusal(err, want) {
			t.Fatalf("edit %d of %s:\n%s\n%v\nwant %v", i, before, show(e, 0), err, want)
		}
		if err != nil {
			e, _ := errors.AsType[*rpcerr.Error](err) // sameRefusal has seen that it is one
			refused[e.Tag]++
			if got := text(t, tree); got != before {
				t.Fatalf("edit %d is refused and has changed\n%s\nto\n%s", i, before, got)
			}
			continue
		}
		if got, want := text(t, tree), modeltest.Normal(t, modeltest.JSON(after.elements())); got != want {
			t.Fatalf("edit %d of\n%s\n%s\ngives\n%s\nwant\n%s", i, before, show(e, 0), got, want)
		}
		if got, want := net(j), diff(beforeFlat, flat(tree)); !reflect.DeepEqual(got, want) {
			t.Fatalf("edit %d of\n%s\n%s\nthe journal says\n%v\nwant\n%v", i, before, show(e, 0), got, want)
		}
		if slices.ContainsFunc(j, func(c edit.Change) bool { return isRank(&c) && c.HadOld && c.HasNew }) {
			moved++
		}
		checker.Touch(j)
		if some, all := errorText(checker.Check(j)), errorText(validate.Tree(tree)); some != all {
			t.Fatalf("edit %d of\n%s\n%s\nwhat was touched:\n%s\neverything:\n%s", i, before, show(e, 0), some, all)
		} else if all != "" { // not to be committed
			j.Undo(tree)
			checker.Touch(j)
			if got := text(t, tree); got != before {
				t.Fatalf("edit %d is taken back:\n%s\nwas\n%s", i, got, before)
			}
			refused["invalid"]++
			continue
		}
		j.Redo(mirror)
		if !reflect.DeepEqual(tree, mirror) {
			t.Fatalf("edit %d is carried out again:\n%s\nwant\n%s", i, text(t, mirror), text(t, tree))
		}
		j.Inverse().Redo(mirror)
		if got := text(t, mirror); got != before {
			t.Fatalf("edit %d is taken back by its inverse:\n%s\nwas\n%s", i, got, before)
		}
		j.Redo(mirror)
		reference = after
		refused["ok"]++
	}
	t.Logf("%v, %d changes by when, %d moves", refused, whens, moved)
	for _, tag := range []string{"ok", "invalid", "data-exists", "data-missing", "bad-attribute", "unknown-element"} {
		if refused[tag] < *edits/300 {
			t.Errorf("%d of %d are %s: the test tests little", refused[tag], *edits, tag)
		}
	}
	if whens < *edits/300 || moved < *edits/1000 {
		t.Errorf("%d changes by when, %d moves: the test tests little", whens, moved)
	}
}

func errorText(errs rpcerr.Errors) string {
	if errs == nil {
		return ""
	}
	return errs.Error()
}

func sameRefusal(err, want error) bool {
	if err == nil || want == nil {
		return err == nil && want == nil
	}
	e, ok := errors.AsType[*rpcerr.Error](err)
	w, is := errors.AsType[*refusal](want)
	if !ok || !is || e.Tag != w.tag {
		return false
	}
	// Of several nodes whose when does not hold any may be named.
	return e.Path == w.path || e.Tag == "unknown-element"
}

func show(e *edit.Node, depth int) string {
	s := strings.Repeat("  ", depth) + fmt.Sprint(e.Schema.Name, " ", e.Op, " ", e.Keys, " ", e.Value)
	if e.Insert != edit.Stay {
		s += fmt.Sprint(" insert ", e.Insert, " ", e.Point)
	}
	for _, c := range e.Children {
		s += "\n" + show(c, depth+1)
	}
	return s
}
