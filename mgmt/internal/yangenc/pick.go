package yangenc

import (
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/nav"
	"vita/mgmt/internal/schema"
)

// picked is what an XPath filter selects of a struct: all of it, or leafs and
// parts of structs within it.
type picked struct {
	s     data.Struct
	all   bool
	leafs map[*schema.Node]map[string]bool // with the values of a leaf-list
	kids  map[*schema.Node][]*picked
	index map[uintptr]*picked // the kids by their structs
}

func (p *picked) selection() selection { return selection{all: p.all, picked: p} }

// PickFilter selects single nodes of a tree, with all that is in them. It holds
// for the very tree that the nodes are of.
func PickFilter(nodes []*nav.Data) *Filter {
	root := &picked{}
	for _, n := range nodes {
		root.add(n)
	}
	return &Filter{picked: root}
}

func (p *picked) add(n *nav.Data) {
	if n.IsLeaf() {
		at := p.at(n.Up())
		if at.leafs == nil {
			at.leafs = map[*schema.Node]map[string]bool{}
		}
		if at.leafs[n.Schema()] == nil {
			at.leafs[n.Schema()] = map[string]bool{}
		}
		at.leafs[n.Schema()][n.Value()] = true
		return
	}
	p.at(n).all = true
}

// at returns what is picked of a struct, p being the root.
func (p *picked) at(n *nav.Data) *picked {
	up := n.Up()
	if up == nil {
		return p
	}
	in := p.at(up)
	if in.index == nil {
		in.index, in.kids = map[uintptr]*picked{}, map[*schema.Node][]*picked{}
	}
	s := n.Struct()
	if k := in.index[s.Address()]; k != nil {
		return k
	}
	k := &picked{s: s}
	in.index[s.Address()] = k
	in.kids[n.Schema()] = append(in.kids[n.Schema()], k)
	return k
}

// picked writes the children of s, which is node's, that a filter has picked.
func (w *walker) picked(node *schema.Node, s data.Struct, p *picked, level int) {
	for _, c := range node.Children {
		if c.IsKey || !w.wanted(c) {
			continue
		}
		if c.Kind == schema.LeafList {
			w.leafList(c, s, func(v string) bool { return p.leafs[c][v] })
			continue
		}
		if c.Kind == schema.Leaf {
			if v, ok := w.value(s, c); ok && p.leafs[c] != nil {
				w.flush()
				w.leaf(s, c, v)
			}
			continue
		}
		kids := p.kids[c]
		if len(kids) == 0 {
			continue
		}
		w.around(func() {
			if c.Kind == schema.List {
				w.out.beginList(c)
			}
		}, func() {
			if c.Kind == schema.List {
				w.out.endList()
			}
		}, func() {
			for _, k := range kids {
				w.around(func() { w.out.begin(c) }, func() { w.out.end(c) }, func() {
					w.children(c, k.s, k.selection(), level+1)
				})
			}
		})
	}
}
