// Package data reads and writes the generated structs by the nodes of the
// schema, and names places in them.
//
// It is the only package that reaches into the structs by reflection. Values
// go in and out as canonical text. It must not know edits, constraints or
// encodings, and it checks nothing: its callers hand it what the schema's
// types have accepted.
package data

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"vita/mgmt/internal/schema"
)

// Struct is a container or list entry: a struct of package gen that can be
// written to. The zero Struct is none.
type Struct struct{ v reflect.Value }

// Tree is the root of a tree: a *gen.Vita, in tests what schema.Use gives, or a
// Sharing of one.
type Tree any

// Root returns the root of a tree.
func Root(tree Tree) Struct {
	if s, ok := tree.(*Sharing); ok {
		tree = s.tree
	}
	return Struct{reflect.ValueOf(tree).Elem()}
}

// Exists says whether s is a struct at all.
func (s Struct) Exists() bool { return s.v.IsValid() }

// Same says whether two Structs are the very same one in memory.
func (s Struct) Same(o Struct) bool {
	return s.Exists() && o.Exists() && s.v.Addr().Pointer() == o.v.Addr().Pointer()
}

// Address tells structs apart: it is the same for the very same one in memory.
func (s Struct) Address() uintptr { return s.v.Addr().Pointer() }

// Leaf returns the value of a leaf, without regard to defaults: of a leaf-list
// all of its values, with schema.Separator between them.
func (s Struct) Leaf(leaf *schema.Node) (value string, ok bool) {
	f := s.v.Field(leaf.Field)
	switch {
	case leaf.Kind == schema.LeafList:
		return strings.Join(s.Values(leaf), schema.Separator), f.Len() > 0
	case leaf.Direct:
		return text(leaf, f), !f.IsZero()
	case f.IsNil():
		return "", false
	}
	return text(leaf, f.Elem()), true
}

// Value returns the value of a leaf, or its default, without regard to what
// the default depends on.
func (s Struct) Value(leaf *schema.Node) (value string, ok bool) {
	if v, ok := s.Leaf(leaf); ok {
		return v, true
	}
	if leaf.Kind == schema.Leaf && len(leaf.Default) == 1 {
		return leaf.Default[0], true
	}
	return "", false
}

// SetLeaf gives a leaf a canonical value, or a leaf-list all of its values.
func (s Struct) SetLeaf(leaf *schema.Node, value string) {
	f := s.v.Field(leaf.Field)
	switch {
	case leaf.Kind == schema.LeafList:
		s.SetValues(leaf, strings.Split(value, schema.Separator))
	case leaf.Direct:
		set(leaf, f, value)
	default:
		p := reflect.New(leaf.GoType)
		set(leaf, p.Elem(), value)
		f.Set(p)
	}
}

// ClearLeaf removes a leaf, or all values of a leaf-list.
func (s Struct) ClearLeaf(leaf *schema.Node) { s.v.Field(leaf.Field).SetZero() }

// Values returns the values of a leaf-list in their order.
func (s Struct) Values(list *schema.Node) []string {
	f := s.v.Field(list.Field)
	if f.Len() == 0 {
		return nil
	}
	values := make([]string, f.Len())
	for i := range values {
		values[i] = text(list, f.Index(i))
	}
	return values
}

// SetValues gives a leaf-list its values.
func (s Struct) SetValues(list *schema.Node, values []string) {
	f := s.v.Field(list.Field)
	if len(values) == 0 {
		f.SetZero()
		return
	}
	all := reflect.MakeSlice(f.Type(), len(values), len(values))
	for i, v := range values {
		set(list, all.Index(i), v)
	}
	f.Set(all)
}

// Container returns a container. One without presence does not exist where it is
// empty.
func (s Struct) Container(c *schema.Node) Struct {
	p := s.v.Field(c.Field)
	if p.IsNil() {
		return Struct{}
	}
	return Struct{p.Elem()}
}

// EnsureContainer returns a container and makes it where it does not exist.
func (s Struct) EnsureContainer(c *schema.Node) Struct {
	p := s.v.Field(c.Field)
	if p.IsNil() {
		p.Set(reflect.New(c.GoType))
	}
	return Struct{p.Elem()}
}

// ClearContainer removes a container with all that is in it.
func (s Struct) ClearContainer(c *schema.Node) { s.v.Field(c.Field).SetZero() }

// Len returns the number of a list's entries.
func (s Struct) Len(list *schema.Node) int { return s.v.Field(list.Field).Len() }

// Entry returns a list's entry by its canonical keys.
func (s Struct) Entry(list *schema.Node, keys []string) Struct {
	m := s.v.Field(list.Field)
	if m.Len() == 0 {
		return Struct{}
	}
	e := m.MapIndex(key(list, m.Type().Key(), keys))
	if !e.IsValid() {
		return Struct{}
	}
	return Struct{e.Elem()}
}

// EnsureEntry returns a list's entry and makes it, with its key leafs, where
// it does not exist.
func (s Struct) EnsureEntry(list *schema.Node, keys []string) Struct {
	if e := s.Entry(list, keys); e.Exists() {
		return e
	}
	m := s.v.Field(list.Field)
	if m.IsNil() {
		m.Set(reflect.MakeMap(m.Type()))
	}
	p := reflect.New(list.GoType)
	e := Struct{p.Elem()}
	for i, k := range list.Keys {
		e.SetLeaf(k, keys[i])
	}
	m.SetMapIndex(key(list, m.Type().Key(), keys), p)
	return e
}

// DeleteEntry removes a list's entry with all that is in it.
func (s Struct) DeleteEntry(list *schema.Node, keys []string) {
	m := s.v.Field(list.Field)
	if m.Len() == 0 {
		return
	}
	m.SetMapIndex(key(list, m.Type().Key(), keys), reflect.Value{})
	if m.Len() == 0 {
		m.SetZero()
	}
}

// Entries calls fn for every entry of a list, in no order, until fn returns
// false. fn must not change the list.
func (s Struct) Entries(list *schema.Node, fn func(Struct) bool) {
	f := s.v.Field(list.Field)
	if f.Kind() == reflect.Slice {
		for i := range f.Len() {
			if !fn(Struct{f.Index(i).Elem()}) {
				return
			}
		}
		return
	}
	for it := f.MapRange(); it.Next(); {
		if !fn(Struct{it.Value().Elem()}) {
			return
		}
	}
}

// Sorted returns a list's entries in the user's order, or in that of their keys.
func (s Struct) Sorted(list *schema.Node) []Struct {
	if list.Rank != nil {
		return s.ranked(list)
	}
	all := make([]sortable, 0, s.Len(list))
	first := list.Keys[0]
	s.Entries(list, func(e Struct) bool {
		key, _ := e.Leaf(first) // an entry has its keys
		all = append(all, sortable{prefix(first.Type, key), key, e})
		return true
	})
	slices.SortFunc(all, func(a, b sortable) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		if c := first.Type.Compare(a.key, b.key); c != 0 || len(list.Keys) == 1 {
			return c
		}
		for _, k := range list.Keys[1:] {
			x, _ := a.s.Leaf(k)
			y, _ := b.s.Leaf(k)
			if c := k.Type.Compare(x, y); c != 0 {
				return c
			}
		}
		return 0
	})
	out := make([]Struct, len(all))
	for i := range all {
		out[i] = all[i].s
	}
	return out
}

// sortable is an entry of a list that is being sorted: a list may have 100 000, and
// most comparisons end with the first bytes of the first key.
type sortable struct {
	prefix uint64
	key    string
	s      Struct
}

// prefix returns a number by which values of a type compare as by Compare, but for
// those that have the same one.
func prefix(t *schema.Type, v string) uint64 {
	var p uint64
	switch t.Base {
	case schema.Int:
		return 0
	case schema.Uint:
		p = uint64(len(v)) // the longer, the larger
		for i := range 7 {
			p = p<<8 | uint64(byteAt(v, i))
		}
	default:
		for i := range 8 {
			p = p<<8 | uint64(byteAt(v, i))
		}
	}
	return p
}

func byteAt(s string, i int) byte {
	if i < len(s) {
		return s[i]
	}
	return 0
}

// ranked returns entries in the order of their ranks, those of the same rank,
// which only a damaged file can have, in that of their keys.
func (s Struct) ranked(list *schema.Node) []Struct {
	type ranked struct {
		rank uint64
		s    Struct
	}
	all := make([]ranked, 0, s.Len(list))
	s.Entries(list, func(e Struct) bool {
		all = append(all, ranked{e.Rank(list), e})
		return true
	})
	slices.SortFunc(all, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), slices.Compare(a.s.Keys(list), b.s.Keys(list)))
	})
	out := make([]Struct, len(all))
	for i, r := range all {
		out[i] = r.s
	}
	return out
}

// Rank returns the rank of an entry of a list that is ordered by the user.
func (s Struct) Rank(list *schema.Node) uint64 {
	p := s.v.Field(list.Rank.Field)
	if p.IsNil() {
		return 0
	}
	return p.Elem().Uint()
}

// Keys returns the keys of an entry.
func (s Struct) Keys(list *schema.Node) []string {
	keys := make([]string, len(list.Keys))
	for i, k := range list.Keys {
		keys[i], _ = s.Leaf(k) // an entry has its keys
	}
	return keys
}

// Has says whether a child exists: a leaf with a value, a list with an entry,
// a container with presence or with something in it.
func (s Struct) Has(child *schema.Node) bool {
	f := s.v.Field(child.Field)
	switch {
	case child.Kind == schema.List || child.Kind == schema.LeafList:
		return f.Len() > 0
	case child.Kind == schema.Leaf && child.Direct:
		return !f.IsZero()
	case f.IsNil():
		return false
	case child.Kind == schema.Container:
		return child.Presence || !Struct{f.Elem()}.Empty(child)
	}
	return true
}

// Empty says whether nothing exists within a struct, which is node's.
func (s Struct) Empty(node *schema.Node) bool {
	return !slices.ContainsFunc(node.Children, s.Has)
}

// InCase says whether defaults of what stands in a case within a struct are in
// use: something of it exists, or it is the default of its choice and none of the
// others exists; outside of choices they always are (RFC 7950 sections 7.6.1,
// 7.9.3). s may be none.
func InCase(in *schema.Case, s Struct) bool {
	for ; in != nil; in = in.Choice.Case {
		if s.Exists() && slices.ContainsFunc(in.Nodes, s.Has) {
			continue
		}
		if in.Choice.Default != in || s.Exists() && slices.ContainsFunc(in.Choice.Cases, func(c *schema.Case) bool {
			return slices.ContainsFunc(c.Nodes, s.Has)
		}) {
			return false
		}
	}
	return true
}

func key(list *schema.Node, t reflect.Type, keys []string) reflect.Value {
	k := reflect.New(t).Elem()
	if list.KeyFields == nil {
		set(list.Keys[0], k, keys[0])
		return k
	}
	for i, f := range list.KeyFields {
		set(list.Keys[i], k.Field(f), keys[i])
	}
	return k
}

func text(leaf *schema.Node, v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		if leaf.Type.Base == schema.Empty {
			return ""
		}
		return strconv.FormatBool(v.Bool())
	case reflect.String:
		return v.String()
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if leaf.Texts != nil {
			return leaf.Texts[v.Int()]
		}
		return strconv.FormatInt(v.Int(), 10)
	}
	return strconv.FormatUint(v.Uint(), 10)
}

// set parses a canonical value, which cannot fail.
func set(leaf *schema.Node, v reflect.Value, value string) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(value == "true" || leaf.Type.Base == schema.Empty)
	case reflect.String:
		v.SetString(value) // those who read messages see to it that no value keeps one alive
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if leaf.Numbers != nil {
			v.SetInt(leaf.Numbers[value])
			return
		}
		i, err := strconv.ParseInt(value, 10, 64)
		must(err, value)
		v.SetInt(i)
	default:
		u, err := strconv.ParseUint(value, 10, 64)
		must(err, value)
		v.SetUint(u)
	}
}

func must(err error, value string) {
	if err != nil {
		panic("data: value " + strconv.Quote(value) + " was not checked by its type")
	}
}
