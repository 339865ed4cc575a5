// Package nav lets XPath expressions walk the configuration and the state: the
// generated structs by their schema, and beside them operational data. Entries
// of lists are found by their keys.
//
// It must not know encodings or datastores.
package nav

import (
	"strconv"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xpath"
	"vita/mgmt/operational"
)

// Options say what of a tree there is to be seen.
type Options struct {
	Defaults bool // leafs that are not set and have a default (RFC 7950 section 6.4.1)
	Implicit bool // containers without presence, with what has a default in them, whether or not they are in the structs
	Secrets  bool // leafs that are not given out: never for a client's expression
	Config   bool // configuration alone
	More     []*operational.Node

	Hidden func(data.Struct, *schema.Node) bool // children whose defaults may not be seen; nil: none

	depth int // of when statements that are being evaluated
}

// Everything is what constraints look at: the accessible tree of RFC 7950 section
// 6.4.1.
func Everything() Options {
	return Options{Defaults: true, Implicit: true, Secrets: true, Config: true}
}

// Root returns the root of a tree.
func Root(tree data.Tree, o Options) *Data { return RootOf(data.Root(tree), o) }

// RootOf returns the root of a tree by its struct.
func RootOf(s data.Struct, o Options) *Data { return &Data{s: s, n: schema.Root(), o: &o} }

// At returns the container or list entry at a place, nil where there is none.
func At(tree data.Tree, p *data.Place, o Options) *Data {
	if p == nil {
		return Root(tree, o)
	}
	up := At(tree, p.Parent, o)
	if up == nil {
		return nil
	}
	if p.Node.Kind == schema.List {
		s := data.Struct{}
		if up.s.Exists() {
			s = up.s.Entry(p.Node, p.Keys)
		}
		if !s.Exists() {
			return nil
		}
		return up.Child(p.Node, s)
	}
	c := up.container(p.Node)
	if !c.s.Exists() && (!o.Implicit || p.Node.Presence) {
		return nil
	}
	return c
}

// Into returns a container within d, which need not be in the structs.
func (d *Data) Into(n *schema.Node) *Data { return d.container(n) }

// container returns a container within d, which may have no struct.
func (d *Data) container(n *schema.Node) *Data {
	if !d.s.Exists() {
		return d.Child(n, d.s)
	}
	return d.Child(n, d.s.Container(n))
}

// Data is a node of the generated structs: the root, a container, a list entry
// or a leaf.
type Data struct {
	up    *Data
	s     data.Struct // its own, or for a leaf the one that it is in
	n     *schema.Node
	o     *Options
	value string // of a value of a leaf-list
}

type id struct {
	address uintptr
	n       *schema.Node
	value   string
}

// ID implements xpath.Node. Containers that have no struct are told apart by what
// they stand in, in which each is there once.
func (d *Data) ID() any {
	at := d
	for !at.s.Exists() {
		at = at.up
	}
	return id{at.s.Address(), d.n, d.value}
}

// Up returns the node around it, nil for the root.
func (d *Data) Up() *Data { return d.up }

// Schema returns its schema node.
func (d *Data) Schema() *schema.Node { return d.n }

// Struct returns its struct, or for a leaf the one that it is in.
func (d *Data) Struct() data.Struct { return d.s }

// IsLeaf says whether it is a leaf or a value of a leaf-list.
func (d *Data) IsLeaf() bool { return d.n.HasValue() }

// Parent implements xpath.Node.
func (d *Data) Parent() xpath.Node {
	if d.up == nil {
		return nil
	}
	return d.up
}

// Name implements xpath.Node.
func (d *Data) Name() (module, local string) { return d.n.Module, d.n.Name }

// Value implements xpath.Node.
func (d *Data) Value() string {
	switch d.n.Kind {
	case schema.LeafList:
		return d.value
	case schema.Leaf:
		if d.s.Exists() {
			v, _ := d.s.Value(d.n) // it has one, or would not be there
			return v
		}
		if len(d.n.Default) == 1 {
			return d.n.Default[0]
		}
	}
	return ""
}

// Child returns a node within a container or entry, which has to exist.
func (d *Data) Child(n *schema.Node, s data.Struct) *Data { return &Data{up: d, s: s, n: n, o: d.o} }

// ChildValue returns a value of a leaf-list.
func (d *Data) ChildValue(n *schema.Node, value string) *Data { return &Data{d, d.s, n, d.o, value} }

// Children implements xpath.Node.
func (d *Data) Children(yield func(xpath.Node) bool) {
	if d.n.HasValue() {
		return
	}
	for _, c := range d.n.Children {
		if !d.each(c, yield) {
			return
		}
	}
	if d.up == nil {
		for _, n := range d.o.More {
			if !yield(&other{up: d, n: n, module: n.Module}) {
				return
			}
		}
	}
}

func (d *Data) hidden(c *schema.Node) bool { return d.o.Hidden != nil && d.o.Hidden(d.s, c) }

// each yields the nodes of a schema node within d.
func (d *Data) each(c *schema.Node, yield func(xpath.Node) bool) bool {
	if c.Secret && !d.o.Secrets || !c.Config && d.o.Config {
		return true
	}
	exists := d.s.Exists()
	switch c.Kind {
	case schema.Leaf:
		ok := exists && d.s.Has(c)
		if !ok && d.o.Defaults {
			ok = len(c.Default) == 1 && d.InUse(c) && !d.hidden(c)
		}
		return !ok || yield(d.Child(c, d.s))
	case schema.LeafList:
		var values []string
		if exists {
			values = d.s.Values(c)
		}
		if values == nil && d.o.Defaults && c.Default != nil && d.InUse(c) && !d.hidden(c) {
			values = c.Default
		}
		for _, v := range values {
			if !yield(d.ChildValue(c, v)) {
				return false
			}
		}
		return true
	case schema.Container:
		if exists && d.s.Has(c) || d.o.Implicit && !c.Presence && c.Config && d.InUse(c) {
			return yield(d.container(c))
		}
		return true
	}
	if !exists || d.s.Len(c) == 0 {
		return true
	}
	for _, e := range d.s.Sorted(c) {
		if !yield(d.Child(c, e)) {
			return false
		}
	}
	return true
}

// Named implements xpath.Node.
func (d *Data) Named(module, local string, yield func(xpath.Node) bool) {
	if d.n.HasValue() {
		return
	}
	for _, c := range d.n.Children {
		if c.Name == local && (module == "" || module == c.Module) && !d.each(c, yield) {
			return
		}
	}
	if d.up == nil {
		for _, n := range d.o.More {
			if n.Name == local && (module == "" || module == n.Module) && !yield(&other{up: d, n: n, module: n.Module}) {
				return
			}
		}
	}
}

// Lookup implements xpath.Node: all keys of the list have to be there.
func (d *Data) Lookup(module, local string, keys []xpath.Key, resolve xpath.Resolve) ([]xpath.Node, bool) {
	if d.n.HasValue() {
		return nil, true
	}
	var list *schema.Node
	for _, c := range d.n.Children {
		if c.Name == local && c.Kind == schema.List && (module == "" || module == c.Module) {
			list = c
		}
	}
	if list == nil || len(list.Keys) == 0 || !list.Config && d.o.Config {
		return nil, false
	}
	values := make([]string, len(list.Keys))
	for i, k := range list.Keys {
		found := false
		for _, given := range keys {
			if given.Local != k.Name || given.Module != "" && given.Module != k.Module {
				continue
			}
			switch v := given.Value.(type) {
			case string:
				c, err := k.Type.Parse(v, schema.Form{Prefix: resolve})
				if err != nil {
					c, err = k.Type.Canonical(v)
				}
				if err != nil || (k.Type.Base == schema.Uint || k.Type.Base == schema.Int) && c != v {
					return nil, true // equal to no value
				}
				values[i], found = c, true
			case float64:
				if k.Type.Base != schema.Uint && k.Type.Base != schema.Int {
					continue // several strings are the same number
				}
				c, err := k.Type.Canonical(strconv.FormatFloat(v, 'f', -1, 64))
				if err != nil {
					return nil, true
				}
				values[i], found = c, true
			}
		}
		if !found {
			return nil, false
		}
	}
	if !d.s.Exists() {
		return nil, true
	}
	if e := d.s.Entry(list, values); e.Exists() {
		return []xpath.Node{d.Child(list, e)}, true
	}
	return nil, true
}

// other is a node of operational data.
type other struct {
	up     xpath.Node
	n      *operational.Node
	module string
}

func (o *other) ID() any                      { return o.n }
func (o *other) Parent() xpath.Node           { return o.up }
func (o *other) Name() (module, local string) { return o.module, o.n.Name }

func (o *other) Value() string {
	if o.n.Type == operational.Identity {
		return o.n.IdentityModule + ":" + o.n.Value
	}
	return o.n.Value
}

func (o *other) Children(yield func(xpath.Node) bool) {
	for _, c := range o.n.Children {
		module := o.module
		if c.Module != "" {
			module = c.Module
		}
		if !yield(&other{o, c, module}) {
			return
		}
	}
}

func (o *other) Named(module, local string, yield func(xpath.Node) bool) {
	o.Children(func(c xpath.Node) bool {
		m, l := c.Name()
		return l != local || module != "" && module != m || yield(c)
	})
}

func (*other) Lookup(string, string, []xpath.Key, xpath.Resolve) ([]xpath.Node, bool) {
	return nil, false
}

// Split parts the nodes of both kinds, as an expression has selected them. Of
// operational data it returns the trees with what was selected and the keys of
// the entries around it.
func Split(nodes []xpath.Node) (own []*Data, more []*operational.Node) {
	keep := map[*operational.Node]bool{} // true: with all that is in it
	var roots []*operational.Node
	for _, n := range nodes {
		switch n := n.(type) {
		case *Data:
			own = append(own, n)
			if n.up == nil { // everything
				for _, m := range n.o.More {
					roots = append(roots, m)
					keep[m] = true
				}
			}
		case *other:
			keep[n.n] = true
			for at := n; ; {
				up, ok := at.up.(*other)
				if !ok {
					roots = append(roots, at.n)
					break
				}
				if _, known := keep[up.n]; !known {
					keep[up.n] = false
				}
				at = up
			}
		}
	}
	seen := map[*operational.Node]bool{}
	for _, r := range roots {
		if !seen[r] {
			seen[r] = true
			more = append(more, r.Keep(keep))
		}
	}
	return own, more
}
