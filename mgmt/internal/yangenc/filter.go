package yangenc

import (
	"slices"
	"strings"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xmltree"
)

// Filter selects parts of a tree (RFC 6241 sections 6 and 8.9). It is made by
// SubtreeFilter or PickFilter.
type Filter struct {
	root   *filterNode
	picked *picked
}

// filterNode is an element of a subtree filter: a containment node where it
// has children, a content match node where it is a leaf with text, otherwise
// a selection node.
type filterNode struct {
	schema   *schema.Node // nil: nothing in the model has that name
	children []*filterNode
	match    bool
	value    string // of a content match node, canonical where that can be
}

// SubtreeFilter reads a <filter> element. An element without a namespace
// matches nodes of its name in every namespace (section 6.2.1); attributes
// other than those of NETCONF itself are not in the model's data, so that an
// element with an attribute match selects nothing.
func SubtreeFilter(filter *xmltree.Element) (*Filter, error) {
	root := &filterNode{schema: schema.Root()}
	for _, c := range filter.Children {
		// The namespace of <filter> itself is inherited by elements that
		// do not say otherwise, which section 6.2.1 counts as none.
		root.children = append(root.children, newFilterNode(root.schema, c))
	}
	return &Filter{root: root}, nil
}

func newFilterNode(parent *schema.Node, e *xmltree.Element) *filterNode {
	f := &filterNode{}
	if parent != nil && !parent.HasValue() {
		switch module := schema.Module(e.Name.Space); {
		case module != "":
			f.schema = parent.Child(module, e.Name.Local)
		case e.Name.Space == "" || e.Name.Space == nsNETCONF:
			for _, c := range parent.Children {
				if c.Name == e.Name.Local {
					f.schema = c
				}
			}
		}
	}
	if len(e.Attrs) > 0 {
		f.schema = nil
	}
	for _, c := range e.Children {
		f.children = append(f.children, newFilterNode(f.schema, c))
	}
	if text := strings.TrimSpace(e.Text); text != "" && len(e.Children) == 0 {
		f.match, f.value = true, text
		if f.schema != nil && f.schema.HasValue() {
			if v, err := f.schema.Type.Parse(e.Text, xmlForm(e)); err == nil {
				f.value = v
			} else if v, err := f.schema.Type.Parse(text, xmlForm(e)); err == nil {
				f.value = v
			}
		}
	}
	return f
}

// matches says whether all content match nodes directly in f hold for s.
// A secret matches nothing: otherwise it could be found out by guessing.
func (f *filterNode) matches(s data.Struct) bool {
	for _, c := range f.children {
		if !c.match {
			continue
		}
		if c.schema == nil || !c.schema.HasValue() || c.schema.Secret {
			return false
		}
		if c.schema.Kind == schema.LeafList {
			if !s.Exists() || !slices.Contains(s.Values(c.schema), c.value) {
				return false
			}
			continue
		}
		if v, ok := valueOf(s, c.schema); !ok || v != c.value {
			return false
		}
	}
	return true
}

// valueOf returns a leaf's value or default; s may be none.
func valueOf(s data.Struct, leaf *schema.Node) (string, bool) {
	if s.Exists() {
		return s.Value(leaf)
	}
	if len(leaf.Default) == 1 {
		return leaf.Default[0], true
	}
	return "", false
}

// all says whether f selects everything within what it matches: where it has
// no children, or content match nodes only (section 6.2.5).
func (f *filterNode) all() bool {
	for _, c := range f.children {
		if !c.match {
			return false
		}
	}
	return true
}

// keys returns the keys of the only list entry that f can match, or nil.
func (f *filterNode) keys() []string {
	keys := make([]string, len(f.schema.Keys))
	for i, k := range f.schema.Keys {
		found := false
		for _, c := range f.children {
			if c.match && c.schema == k {
				keys[i], found = c.value, true
			}
		}
		if !found {
			return nil
		}
		if _, err := k.Type.Canonical(keys[i]); err != nil {
			return nil // matches nothing, and cannot be looked up
		}
	}
	return keys
}

// selection is what is selected within a struct: everything, or what any of
// some filter nodes select.
type selection struct {
	all    bool
	nodes  []*filterNode
	picked *picked // in place of nodes
}

var everything = selection{all: true}

// of returns the filter nodes for a child.
func (sel selection) of(n *schema.Node) []*filterNode {
	var out []*filterNode
	for _, f := range sel.nodes {
		if f.schema == n {
			out = append(out, f)
		}
	}
	return out
}

// values returns a function that says which values of a leaf-list are selected,
// sel being what is selected of it; nil: all.
func (sel selection) values() func(string) bool {
	if sel.all {
		return nil
	}
	for _, f := range sel.nodes {
		if !f.match {
			return nil
		}
	}
	return func(v string) bool {
		return slices.ContainsFunc(sel.nodes, func(f *filterNode) bool { return f.value == v })
	}
}

// within returns what filter nodes for a container or list entry select in it,
// and whether any of them matches it at all.
func within(fs []*filterNode, s data.Struct) (sel selection, ok bool) {
	for _, f := range fs {
		if !f.matches(s) {
			continue
		}
		ok = true
		if f.all() {
			return everything, true
		}
		sel.nodes = append(sel.nodes, f.children...)
	}
	return sel, ok
}

// Wants returns a function that says of each child of a top-level container, by
// its name, whether an encoding of the resource at a path could show it; nil
// where it shows nothing of the container. It may say so of too many: an XPath
// filter is known only when it is evaluated.
func Wants(container string, at Path, o Opts) func(child string) bool {
	if o.Content == ContentConfig || len(at) > 0 && at[0].Schema.Name != container {
		return nil
	}
	if len(at) > 1 {
		return func(child string) bool { return child == at[1].Schema.Name }
	}
	all := func(string) bool { return true }
	if o.Filter == nil || o.Filter.root == nil {
		return all
	}
	nodes := o.Filter.root.children
	if len(at) == 0 {
		nodes = nil
		for _, f := range o.Filter.root.children {
			if f.schema == nil || f.schema.Name != container {
				continue
			}
			if f.all() {
				return all
			}
			nodes = append(nodes, f.children...)
		}
	}
	if nodes == nil {
		return nil
	}
	return func(child string) bool {
		return slices.ContainsFunc(nodes, func(f *filterNode) bool { return f.schema != nil && f.schema.Name == child })
	}
}
