package data

import (
	"reflect"
	"slices"

	"vita/mgmt/internal/schema"
)

// Shallow returns a copy of a struct that shares what is in it.
func (s Struct) Shallow() Struct {
	p := reflect.New(s.v.Type())
	p.Elem().Set(s.v)
	return Struct{p.Elem()}
}

// Tree returns the tree that a struct is the root of.
func (s Struct) Tree() Tree { return s.v.Addr().Interface() }

// PutContainer puts a struct in the place of a container.
func (s Struct) PutContainer(c *schema.Node, in Struct) { s.v.Field(c.Field).Set(in.v.Addr()) }

// Sift gives a list other entries: for each what pick returns in its place, none
// for those to be left out. The list that there was stays as it is.
func (s Struct) Sift(list *schema.Node, pick func(entry Struct) Struct) {
	f := s.v.Field(list.Field)
	if f.Kind() == reflect.Slice {
		out := reflect.MakeSlice(f.Type(), 0, f.Len())
		for i := range f.Len() {
			if e := pick(Struct{f.Index(i).Elem()}); e.Exists() {
				out = reflect.Append(out, e.v.Addr())
			}
		}
		f.Set(out)
		return
	}
	out := reflect.MakeMapWithSize(f.Type(), f.Len())
	for it := f.MapRange(); it.Next(); {
		if e := pick(Struct{it.Value().Elem()}); e.Exists() {
			out.SetMapIndex(it.Key(), e.v.Addr())
		}
	}
	f.Set(out)
}

// SiftValues leaves out of a leaf-list what pick does not want.
func (s Struct) SiftValues(list *schema.Node, pick func(string) bool) {
	s.SetValues(list, slices.DeleteFunc(s.Values(list), func(v string) bool { return !pick(v) }))
}
