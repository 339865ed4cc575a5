package schema

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	goyang "github.com/openconfig/goyang/pkg/yang"

	"vita/yang"
)

// model is a compiled set of modules.
type model struct {
	root       *Node
	namespaces map[string]string // by module
	modules    map[string]string // by namespace; those with nodes in the tree
	listed     []Embedded
	operations []*Operation
}

func compile() (*model, error) {
	m, err := compileModules(yang.Sources(), yang.Implemented)
	if err != nil {
		return nil, err
	}
	if err := bind(m.root); err != nil {
		return nil, err
	}
	return m, nil
}

// compileModules compiles the data nodes of the implemented modules. sources
// holds them and all that they import.
func compileModules(sources map[string]string, implemented []string) (*model, error) {
	ms := goyang.NewModules()
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if err := ms.Parse(sources[name], name); err != nil {
			return nil, err
		}
	}
	if errs := ms.Process(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	m := &model{
		root:       &Node{Kind: Container, Config: true},
		namespaces: map[string]string{},
		modules:    map[string]string{},
	}
	for name, mod := range ms.Modules {
		m.namespaces[mod.Name] = mod.Namespace.Name
		if slices.Contains(implemented, mod.Name) {
			m.modules[mod.Namespace.Name] = mod.Name
		}
		if name == mod.Name { // otherwise NAME@REVISION, the same once more
			m.listed = append(m.listed, describe(mod, sources, slices.Contains(implemented, name)))
		}
	}
	slices.SortFunc(m.listed, func(a, b Embedded) int { return strings.Compare(a.Name, b.Name) })
	for _, name := range implemented {
		entry, errs := ms.GetModule(name)
		if len(errs) > 0 {
			return nil, errors.Join(errs...)
		}
		c := compiler{model: m}
		if err := c.children(m.root, entry, nil); err != nil {
			return nil, err
		}
		if err := c.operations(entry); err != nil {
			return nil, err
		}
	}
	return m, nil
}

type compiler struct{ model *model }

// ordered returns an entry's children in the order of their statements, those
// that other modules augment it with behind its own.
func ordered(e *goyang.Entry) []*goyang.Entry {
	list := slices.Collect(maps.Values(e.Dir))
	own, _ := position(e)
	slices.SortFunc(list, func(a, b *goyang.Entry) int {
		fa, la := position(a)
		fb, lb := position(b)
		if c := strings.Compare(fa, fb); c != 0 {
			switch own {
			case fa:
				return -1
			case fb:
				return 1
			}
			return c
		}
		if la != lb {
			return la - lb
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

// position returns file and line of an entry's statement.
func position(e *goyang.Entry) (file string, line int) {
	if e.Node == nil || e.Node.Statement() == nil {
		return "", 0
	}
	parts := strings.Split(e.Node.Statement().Location(), ":") // file:line:column
	if len(parts) < 3 {
		return "", 0
	}
	line, err := strconv.Atoi(parts[len(parts)-2])
	if err != nil {
		return "", 0
	}
	return strings.Join(parts[:len(parts)-2], ":"), line
}

// children compiles the children of a module, container, list or case.
func (c *compiler) children(parent *Node, e *goyang.Entry, in *Case) error {
	for _, child := range ordered(e) {
		if child.Kind == goyang.NotificationEntry || child.RPC != nil {
			continue // no data nodes: see mgmt/notify and operations below
		}
		var err error
		if child.IsChoice() {
			err = c.choice(parent, child, in)
		} else {
			err = c.node(parent, child, in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// operations compiles the operations of a module and their input.
func (c *compiler) operations(module *goyang.Entry) error {
	for _, e := range ordered(module) {
		if e.RPC == nil {
			continue
		}
		o := &Operation{Name: e.Name}
		var err error
		if o.Module, err = e.InstantiatingModule(); err != nil {
			return err
		}
		c.model.operations = append(c.model.operations, o)
		if e.RPC.Input == nil {
			continue
		}
		in := &Node{Name: "input", Module: o.Module, Kind: Container, Config: true, path: "/" + o.Module + ":" + o.Name + "/input"}
		if err := c.children(in, e.RPC.Input, nil); err != nil {
			return err
		}
		for _, n := range in.Children {
			if n.Kind != Leaf || n.Case != nil || len(n.Must) > 0 || n.Secret {
				return fmt.Errorf("%s: an operation's input is plain leafs: teach mgmt/operation", n.path)
			}
		}
		o.Input = in.Children
	}
	return nil
}

func (c *compiler) choice(parent *Node, e *goyang.Entry, in *Case) error {
	if err := known(e); err != nil {
		return err
	}
	if len(e.Default) > 0 {
		return unsupported(e, "a choice's default")
	}
	choice := &Choice{
		Name: e.Name, Mandatory: e.Mandatory == goyang.TSTrue, Config: !e.ReadOnly(),
		Parent: parent, Case: in,
	}
	var err error
	if choice.Module, err = e.InstantiatingModule(); err != nil {
		return err
	}
	parent.Choices = append(parent.Choices, choice)
	for _, entry := range ordered(e) {
		if !entry.IsCase() {
			return unsupported(entry, "a choice's child that is no case")
		}
		if err := known(entry); err != nil {
			return err
		}
		one := &Case{Name: entry.Name, Choice: choice}
		choice.Cases = append(choice.Cases, one)
		if err := c.children(parent, entry, one); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) node(parent *Node, e *goyang.Entry, in *Case) error {
	if err := known(e); err != nil {
		return err
	}
	n := &Node{
		Name: e.Name, Parent: parent, Config: !e.ReadOnly(), Case: in,
		Mandatory: e.Mandatory == goyang.TSTrue,
	}
	var err error
	if n.Module, err = e.InstantiatingModule(); err != nil {
		return err
	}
	n.Namespace = c.model.namespaces[n.Module]
	n.path = parent.path + "/" + n.QName()
	for at := in; at != nil; at = at.Choice.Case {
		at.Nodes = append(at.Nodes, n)
	}
	parent.Children = append(parent.Children, n)
	if n.Must, err = musts(e, n.Module); err != nil {
		return err
	}
	if n.Secret, err = secret(e); err != nil {
		return err
	}
	n.DenyAll = n.Secret
	switch {
	case e.IsLeaf():
		n.Kind = Leaf
		return c.leaf(n, e)
	case e.IsList():
		n.Kind = List
	case e.IsContainer():
		n.Kind = Container
	default:
		return unsupported(e, e.Kind.String())
	}
	if err := c.children(n, e, nil); err != nil {
		return err
	}
	if n.Kind == List {
		return c.list(n, e)
	}
	return nil
}

func (c *compiler) leaf(n *Node, e *goyang.Entry) error {
	t, err := newType(e.Type)
	if err != nil {
		return fmt.Errorf("%s: %w", n.path, err)
	}
	n.Type = t
	def := e.DefaultValues()
	if n.Mandatory || len(def) == 0 {
		return nil
	}
	v, err := t.Canonical(def[0])
	if err != nil {
		return fmt.Errorf("%s: default: %w", n.path, err)
	}
	n.Default = []string{v}
	return nil
}

func (c *compiler) list(n *Node, e *goyang.Entry) error {
	if e.ListAttr.OrderedByUser {
		return unsupported(e, "ordered-by user")
	}
	n.Min, n.Max = e.ListAttr.MinElements, e.ListAttr.MaxElements
	if n.Max == ^uint64(0) {
		n.Max = 0
	}
	for name := range strings.FieldsSeq(e.Key) {
		k, err := childLeaf(n, name)
		if err != nil {
			return err
		}
		k.IsKey = true
		n.Keys = append(n.Keys, k)
	}
	if len(n.Keys) == 0 {
		return unsupported(e, "a list without a key")
	}
	for _, u := range e.Extra["unique"] {
		v, ok := u.(*goyang.Value)
		if !ok {
			return unsupported(e, fmt.Sprintf("unique of type %T", u))
		}
		var leafs []*Node
		for name := range strings.FieldsSeq(v.Name) {
			l, err := childLeaf(n, name)
			if err != nil {
				return err
			}
			leafs = append(leafs, l)
		}
		n.Unique = append(n.Unique, leafs)
	}
	return nil
}

// childLeaf finds a leaf that a key or unique statement names.
func childLeaf(n *Node, name string) (*Node, error) {
	if _, after, ok := strings.Cut(name, ":"); ok {
		name = after
	}
	for _, c := range n.Children {
		if c.Name == name && c.Module == n.Module && c.Kind == Leaf {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%s: %q is no leaf directly in the list", n.path, name)
}

// known refuses statements that would otherwise be lost.
func known(e *goyang.Entry) error {
	for _, keyword := range slices.Sorted(maps.Keys(e.Extra)) {
		switch keyword {
		case "must", "unique": // compiled
		case "description", "reference", "status", "config", "mandatory", "default", "type", "units", "key",
			"max-elements", "min-elements", "ordered-by": // in the entry itself, or for people
		default:
			if len(e.Extra[keyword]) > 0 {
				return unsupported(e, keyword)
			}
		}
	}
	return nil
}

func unsupported(e *goyang.Entry, what string) error {
	return fmt.Errorf("%s: %s is not supported yet: teach mgmt/internal/schema and mgmt/validate", e.Path(), what)
}

// musts compiles the must statements of a node that is in a module.
func musts(e *goyang.Entry, module string) ([]Must, error) {
	var list []Must
	for _, x := range e.Extra["must"] {
		m, ok := x.(*goyang.Must)
		if !ok {
			return nil, unsupported(e, fmt.Sprintf("must of type %T", x))
		}
		must := Must{Expr: m.Name, Prefix: func(prefix string) (string, bool) {
			if prefix == "" { // also where the statement is in a grouping (RFC 7950 section 6.4.1)
				return module, true
			}
			in := goyang.FindModuleByPrefix(m, prefix)
			if in == nil {
				return "", false
			}
			return in.Name, true
		}}
		if m.ErrorMessage != nil {
			must.Message = strings.Join(strings.Fields(m.ErrorMessage.Name), " ")
		}
		if m.ErrorAppTag != nil {
			must.AppTag = m.ErrorAppTag.Name
		}
		list = append(list, must)
	}
	return list, nil
}

// secret finds nacm:default-deny-all (RFC 8341 section 4.4), whatever prefix
// the module knows it by. Other extensions are not compiled.
func secret(e *goyang.Entry) (bool, error) {
	for _, x := range e.Exts {
		prefix, name, ok := strings.Cut(x.Keyword, ":")
		if !ok {
			continue
		}
		m := goyang.FindModuleByPrefix(e.Node, prefix)
		if m == nil {
			return false, fmt.Errorf("%s: prefix of extension %s is unknown", e.Path(), x.Keyword)
		}
		if m.Name == "ietf-netconf-acm" && name == "default-deny-all" {
			return true, nil
		}
	}
	return false, nil
}
