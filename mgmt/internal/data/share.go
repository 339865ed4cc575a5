package data

import (
	"reflect"
	"strings"

	"vita/mgmt/internal/schema"
)

// Sharing is a tree that has the entries of its lists at the top in common with
// another one, all but those that were written to since: a copy that costs next
// to nothing where two large trees differ by little. Root takes it for a tree.
//
// Only Own keeps the other tree from changing: whoever writes to what is in an
// entry of a list at the top calls it first, and takes no Struct from before.
type Sharing struct {
	tree Tree
	own  map[*schema.Node]map[string]bool // by keys: entries that the other tree does not have
	last *Place                           // what Own was called for the last time
	gave *Place                           // what Give has given the last time
}

// Share returns a copy of a tree that shares its entries.
func Share(tree Tree) *Sharing {
	from := Root(tree)
	s := &Sharing{tree: reflect.New(from.v.Type()).Interface(), own: map[*schema.Node]map[string]bool{}}
	to := Root(s.tree)
	for _, c := range schema.Root().Children {
		switch {
		case !c.Config:
		case c.Kind == schema.List:
			to.v.Field(c.Field).Set(cloneMap(from.v.Field(c.Field)))
		default:
			to.take(from, c)
		}
	}
	return s
}

// Tree returns the tree itself, to be read.
func (s *Sharing) Tree() Tree { return s.tree }

// Own makes the entry of a list at the top that a place is, or is in, the tree's
// own, if the tree shares it. There need not be one yet. Other trees share nothing.
func Own(tree Tree, p *Place) {
	s, ok := tree.(*Sharing)
	if !ok || p == nil || p == s.last {
		return
	}
	s.last = p
	for p.Parent != nil {
		p = p.Parent
	}
	if p.Node.Kind != schema.List || s.owns(p) {
		return
	}
	if s.own[p.Node] == nil {
		s.own[p.Node] = map[string]bool{}
	}
	s.own[p.Node][joined(p.Keys)] = true
	root := Root(s.tree)
	if e := root.Entry(p.Node, p.Keys); e.Exists() {
		root.put(p, e.clone(p.Node))
	}
}

func (s *Sharing) owns(p *Place) bool { return s.own[p.Node][joined(p.Keys)] }

// Give makes another tree equal to this one, as far as places say where they
// differ, and shares what is given. It returns false for a place that is in no
// entry of a list at the top: what is there is not shared.
func (s *Sharing) Give(to Tree, p *Place) bool {
	if p == nil {
		return false
	}
	for p.Parent != nil {
		p = p.Parent
	}
	if p.Node.Kind != schema.List {
		return false
	}
	if p == s.gave { // changes of one entry follow each other
		return true
	}
	s.gave = p
	root := Root(to)
	if e := Root(s.tree).Entry(p.Node, p.Keys); e.Exists() {
		root.put(p, e)
	} else {
		root.DeleteEntry(p.Node, p.Keys)
	}
	return true
}

// Given says that all entries are shared again: every one that was written to has
// been given.
func (s *Sharing) Given() {
	clear(s.own)
	s.last, s.gave = nil, nil
}

// joined makes a map key of a list's keys.
func joined(keys []string) string {
	if len(keys) == 1 {
		return keys[0]
	}
	return strings.Join(keys, schema.Separator)
}

// put puts an entry into a list of the root.
func (s Struct) put(p *Place, entry Struct) {
	m := s.v.Field(p.Node.Field)
	if m.IsNil() {
		m.Set(reflect.MakeMap(m.Type()))
	}
	m.SetMapIndex(key(p.Node, m.Type().Key(), p.Keys), entry.v.Addr())
}

// clone returns a copy of a struct with all that is in it. Values of leafs are
// shared: to give one another value is to put a new one in its place.
func (s Struct) clone(node *schema.Node) Struct {
	c := s.Shallow()
	for _, n := range node.Children {
		if n.Kind == schema.Container || n.Kind == schema.List {
			c.take(s, n)
		}
	}
	return c
}

// take makes a child a copy of another struct's.
func (s Struct) take(from Struct, n *schema.Node) {
	f := from.v.Field(n.Field)
	to := s.v.Field(n.Field)
	switch {
	case n.HasValue() || f.IsNil():
		to.Set(f)
	case n.Kind == schema.Container:
		to.Set(Struct{f.Elem()}.clone(n).v.Addr())
	case f.Kind() == reflect.Map:
		m := reflect.MakeMapWithSize(f.Type(), f.Len())
		for it := f.MapRange(); it.Next(); {
			m.SetMapIndex(it.Key(), Struct{it.Value().Elem()}.clone(n).v.Addr())
		}
		to.Set(m)
	default: // a list without keys, which is no configuration
		to.Set(f)
	}
}

// cloneMap returns a map with the same entries.
func cloneMap(m reflect.Value) reflect.Value {
	if m.Kind() != reflect.Map || m.IsNil() {
		return m
	}
	c := reflect.MakeMapWithSize(m.Type(), m.Len())
	for it := m.MapRange(); it.Next(); {
		c.SetMapIndex(it.Key(), it.Value())
	}
	return c
}
