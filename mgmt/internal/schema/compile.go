package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vita/internal/yangtree"
	"vita/yang"
)

// Model is a compiled set of modules.
type Model struct {
	root       *Node
	set        *yangtree.Set
	namespaces map[string]string // by module
	modules    map[string]string // by namespace; those with nodes in the tree
	listed     []Embedded
	operations []*Operation
}

func compile() (*Model, error) {
	m, err := compileModules(yang.Sources(), yang.Implemented, yang.Features)
	if err != nil {
		return nil, err
	}
	return m, bind(m.root)
}

// compileModules compiles the data nodes of the implemented modules. sources
// holds them and all that they import.
func compileModules(sources map[string]string, implemented []string, features map[string][]string) (*Model, error) {
	set, err := yangtree.Read(sources, yangtree.Options{Implemented: implemented, Features: features})
	if err != nil {
		return nil, err
	}
	m := &Model{
		root:       &Node{Kind: Container, Config: true},
		set:        set,
		namespaces: map[string]string{},
		modules:    map[string]string{},
	}
	for _, mod := range set.Modules {
		m.namespaces[mod.Name] = mod.Namespace
		is := slices.Contains(set.Implemented, mod)
		if is {
			m.modules[mod.Namespace] = mod.Name
		}
		m.listed = append(m.listed, describe(set, mod, sources[mod.File], is))
	}
	c := compiler{model: m, set: set}
	for _, mod := range set.Implemented {
		if err := c.children(m.root, mod.Body, nil); err != nil {
			return nil, err
		}
		for _, st := range mod.Body {
			if st.Keyword == "rpc" {
				if err := c.operation(mod, st); err != nil {
					return nil, err
				}
			}
		}
	}
	if err := c.finish(m.root); err != nil {
		return nil, err
	}
	for _, o := range m.operations {
		for _, n := range o.Input {
			if err := c.finishOne(n); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

type compiler struct {
	model *Model
	set   *yangtree.Set

	defaults map[*Node]*pendingDefault // of leafs, until their types are linked
}

type pendingDefault struct {
	values []*yangtree.Statement
}

// children compiles the definitions of a module, container, list or case.
func (c *compiler) children(parent *Node, list []*yangtree.Statement, in *Case) error {
	for _, st := range list {
		var err error
		switch st.Keyword {
		case "choice":
			err = c.choice(parent, st, in)
		case "container", "list", "leaf", "leaf-list":
			err = c.node(parent, st, in)
		case "anydata", "anyxml":
			return st.Errorf("it has no schema: nodes of this kind are not supported")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// operation compiles an operation of a module and its input.
func (c *compiler) operation(mod *yangtree.Module, st *yangtree.Statement) error {
	o := &Operation{Module: mod.Name, Name: st.Argument}
	c.model.operations = append(c.model.operations, o)
	var itself Node
	if err := itself.access(st); err != nil {
		return err
	}
	o.DenyAll = itself.DenyAll
	input := st.Find("input")
	if input == nil {
		return nil
	}
	in := &Node{Name: "input", Module: o.Module, Kind: Container, Config: true, path: "/" + o.Module + ":" + o.Name + "/input"}
	if err := c.children(in, input.Children, nil); err != nil {
		return err
	}
	for _, n := range in.Children {
		if n.Kind != Leaf || n.Case != nil || len(n.Must) > 0 || len(n.When) > 0 || n.DenyAll {
			return fmt.Errorf("%s: an operation's input is plain leafs: teach mgmt/operation", n.path)
		}
	}
	o.Input = in.Children
	return nil
}

// passwords are the hashes of users' passwords, which ietf-system lets everybody
// read that may read at all.
const passwords = "/ietf-system:system/authentication/user/password"

// statements are those that a definition may have: any other is refused, since
// it would otherwise be lost.
var statements = map[string]string{
	"container": "must when presence",
	"list":      "must when key unique min-elements max-elements ordered-by",
	"leaf":      "must when type units default mandatory",
	"leaf-list": "must when type units default min-elements max-elements ordered-by",
	"choice":    "default mandatory",
	"case":      "",
}

func known(st *yangtree.Statement) error {
	may := strings.Fields(statements[st.Keyword])
	for _, s := range st.Children {
		switch s.Keyword {
		case "description", "reference", "status", "if-feature": // for people, or decided
		case "config":
		default:
			if !s.IsDefinition() && !strings.Contains(s.Keyword, ":") && !slices.Contains(may, s.Keyword) && s.Keyword != yangtree.WhenOfChoice {
				return s.Errorf("not known in a %s", st.Keyword)
			}
		}
	}
	return nil
}

func (c *compiler) config(parent *Node, st *yangtree.Statement) bool {
	return parent.Config && st.Value("config") != "false"
}

func (c *compiler) choice(parent *Node, st *yangtree.Statement, in *Case) error {
	if err := known(st); err != nil {
		return err
	}
	choice := &Choice{
		Name: st.Argument, Module: st.In.Name, Mandatory: st.Value("mandatory") == "true", Config: c.config(parent, st),
		Parent: parent, Case: in, When: whens(st, yangtree.WhenOfChoice, st.In.Name),
	}
	parent.Choices = append(parent.Choices, choice)
	for _, s := range st.Children {
		if s.Keyword != "case" {
			continue
		}
		if err := known(s); err != nil {
			return err
		}
		one := &Case{Name: s.Argument, Choice: choice}
		choice.Cases = append(choice.Cases, one)
		before := parent.Config
		parent.Config = choice.Config
		err := c.children(parent, s.Children, one)
		parent.Config = before
		if err != nil {
			return err
		}
	}
	if d := st.Find("default"); d != nil {
		_, name, err := d.Resolve(d.Argument)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(choice.Cases, func(o *Case) bool { return o.Name == name })
		if i < 0 || choice.Mandatory {
			return d.Errorf("it is none of the cases, or the choice is mandatory")
		}
		choice.Default = choice.Cases[i]
	}
	return nil
}

func (c *compiler) node(parent *Node, st *yangtree.Statement, in *Case) error {
	if err := known(st); err != nil {
		return err
	}
	n := &Node{
		Name: st.Argument, Module: st.In.Name, Namespace: st.In.Namespace, Parent: parent, Case: in,
		Config:    c.config(parent, st),
		Mandatory: st.Keyword == "leaf" && st.Value("mandatory") == "true",
		Presence:  st.Find("presence") != nil,
	}
	if parent.find(n.Module, n.Name) != nil {
		return st.Errorf("%s has a node of that name already", parent.path)
	}
	n.path = parent.path + "/" + n.QName()
	for at := in; at != nil; at = at.Choice.Case {
		at.Nodes = append(at.Nodes, n)
	}
	parent.Children = append(parent.Children, n)
	n.Must, n.When = musts(st, n.Module), whens(st, "when", n.Module)
	if err := n.access(st); err != nil {
		return err
	}
	switch st.Keyword {
	case "leaf":
		n.Kind = Leaf
		n.Secret = n.DenyAll || n.path == passwords
		return c.leaf(n, st)
	case "leaf-list":
		n.Kind = LeafList
		n.Secret = n.DenyAll
		if err := n.elements(st); err != nil {
			return err
		}
		return c.leaf(n, st)
	case "list":
		n.Kind = List
	default:
		n.Kind = Container
	}
	if err := c.children(n, st.Children, nil); err != nil {
		return err
	}
	if n.Kind == List {
		return c.list(n, st)
	}
	return nil
}

func (c *compiler) leaf(n *Node, st *yangtree.Statement) error {
	ts := st.Find("type")
	if ts == nil {
		return st.Errorf("it has no type")
	}
	t, def, err := c.newType(ts, n.Module, 0)
	if err != nil {
		return err
	}
	n.Type = t
	defaults := st.All("default")
	if len(defaults) == 0 && def != nil {
		defaults = []*yangtree.Statement{def}
	}
	if n.Mandatory || n.Kind == LeafList && n.Min > 0 || len(defaults) == 0 {
		return nil
	}
	if c.defaults == nil {
		c.defaults = map[*Node]*pendingDefault{}
	}
	c.defaults[n] = &pendingDefault{values: defaults}
	return nil
}

// elements reads what lists and leaf-lists have.
func (n *Node) elements(st *yangtree.Statement) error {
	n.ByUser = st.Value("ordered-by") == "user" && n.Config
	for _, s := range st.Children {
		to := &n.Min
		switch s.Keyword {
		case "min-elements":
		case "max-elements":
			if to = &n.Max; s.Argument == "unbounded" {
				continue
			}
		default:
			continue
		}
		v, err := strconv.ParseUint(s.Argument, 10, 32)
		if err != nil || to == &n.Max && v == 0 {
			return s.Errorf("want a number")
		}
		*to = v
	}
	return nil
}

func (c *compiler) list(n *Node, st *yangtree.Statement) error {
	if err := n.elements(st); err != nil {
		return err
	}
	for name := range strings.FieldsSeq(st.Value("key")) {
		k, err := n.descendant(name)
		if err != nil || k.Parent != n {
			return st.Errorf("key %s is no leaf directly in the list", name)
		}
		k.IsKey = true
		n.Keys = append(n.Keys, k)
	}
	if len(n.Keys) == 0 && n.Config {
		return st.Errorf("a list of configuration needs a key")
	}
	for _, u := range st.All("unique") {
		var leafs []*Node
		for name := range strings.FieldsSeq(u.Argument) {
			l, err := n.descendant(name)
			if err != nil {
				return u.Errorf("%w", err)
			}
			leafs = append(leafs, l)
		}
		n.Unique = append(n.Unique, leafs)
	}
	if n.ByUser {
		n.Rank = &Node{
			Name: RankName, Module: n.Module, Namespace: n.Namespace, Kind: Leaf, Parent: n, Config: true,
			Type: rankType, path: n.path + "/" + RankName,
		}
	}
	return nil
}

// RankName is the name of the leaf that orders the entries of a list.
const RankName = "vita-rank"

var rankType = func() *Type {
	t := builtin["uint64"]
	t.Name = "uint64"
	return &t
}()

// descendant finds a leaf that a key or unique statement names.
func (n *Node) descendant(path string) (*Node, error) {
	at := n
	for name := range strings.SplitSeq(path, "/") {
		if _, after, ok := strings.Cut(name, ":"); ok {
			name = after
		}
		i := slices.IndexFunc(at.Children, func(c *Node) bool { return c.Name == name })
		if i < 0 || at != n && at.Kind != Container {
			return nil, fmt.Errorf("there is no leaf %s", path)
		}
		at = at.Children[i]
	}
	if at.Kind != Leaf {
		return nil, fmt.Errorf("%s is no leaf", path)
	}
	return at, nil
}

// finish links the types of leafs below a node, and reads their defaults.
func (c *compiler) finish(root *Node) error {
	var first error
	root.Walk(func(n *Node) {
		if first == nil {
			first = c.finishOne(n)
		}
	})
	return first
}

func (c *compiler) finishOne(n *Node) error {
	if !n.HasValue() {
		return nil
	}
	if err := c.link(n, n.Type, 0); err != nil {
		return err
	}
	d := c.defaults[n]
	if d == nil {
		return nil
	}
	for _, st := range d.values {
		v, err := n.Type.Parse(st.Argument, Form{Prefix: prefixes(st, st.Module.Name)})
		if err != nil {
			return st.Errorf("%s: %w", n.path, err)
		}
		n.Default = append(n.Default, v)
	}
	return nil
}

// musts compiles the must statements of a node that is in a module.
func musts(st *yangtree.Statement, module string) []Must {
	var list []Must
	for _, m := range st.All("must") {
		list = append(list, Must{
			Expr: m.Argument, Prefix: prefixes(m, module), AppTag: m.Value("error-app-tag"),
			Message: strings.Join(strings.Fields(m.Value("error-message")), " "),
		})
	}
	return list
}

func whens(st *yangtree.Statement, keyword, module string) []When {
	var list []When
	for _, w := range st.All(keyword) {
		list = append(list, When{Expr: w.Argument, Prefix: prefixes(w, module), Around: w.Around})
	}
	return list
}

// access finds NACM's extensions (RFC 8341 section 4.4), whatever prefix the
// module knows them by. Other extensions are not compiled.
func (n *Node) access(st *yangtree.Statement) error {
	for _, x := range st.Children {
		if !strings.Contains(x.Keyword, ":") {
			continue
		}
		m, name, err := x.Resolve(x.Keyword)
		if err != nil {
			return err
		}
		if m.Name == "ietf-netconf-acm" {
			n.DenyAll = n.DenyAll || name == "default-deny-all"
			n.DenyWrite = n.DenyWrite || name == "default-deny-write"
		}
	}
	return nil
}
