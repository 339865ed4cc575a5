package schema

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"vita/gen"
)

// bind finds each node's field in the generated structs. A field for which
// there is no node, or a node without a field, means that gen/ is not current.
func bind(root *Node) error {
	return bindStruct(root, reflect.TypeFor[gen.Vita]())
}

func bindStruct(n *Node, t reflect.Type) error {
	n.GoType = t
	n.children = make(map[string][]*Node, len(n.Children))
	fields := map[string]int{}
	for i := range t.NumField() {
		f := t.Field(i)
		fields[f.Tag.Get("module")+":"+f.Tag.Get("path")] = i
	}
	own := n.Children
	if n.Rank != nil {
		own = append(slices.Clip(own), n.Rank)
	}
	for _, c := range own {
		if c != n.Rank {
			n.children[c.Name] = append(n.children[c.Name], c)
		}
		i, ok := fields[c.Module+":"+c.Name]
		if !ok {
			return fmt.Errorf("%s: no field in gen.%s: run go generate", c.path, t.Name())
		}
		delete(fields, c.Module+":"+c.Name)
		c.Field = i
		if err := bindField(c, t.Field(i).Type); err != nil {
			return err
		}
	}
	for name := range fields {
		return fmt.Errorf("gen.%s: field %s is not in the model: run go generate", t.Name(), name)
	}
	return nil
}

func bindField(n *Node, t reflect.Type) error {
	wrong := fmt.Errorf("%s: a %s cannot be a Go %v: run go generate", n.path, n.Kind, t)
	switch n.Kind {
	case Container:
		if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
			return wrong
		}
		return bindStruct(n, t.Elem())
	case List:
		keyed := t.Kind() == reflect.Map && len(n.Keys) > 0
		if !keyed && (t.Kind() != reflect.Slice || len(n.Keys) > 0) || t.Elem().Kind() != reflect.Pointer {
			return wrong
		}
		if err := bindStruct(n, t.Elem().Elem()); err != nil || !keyed {
			return err
		}
		return bindKeys(n, t.Key())
	case LeafList:
		if t.Kind() != reflect.Slice {
			return wrong
		}
		n.GoType, n.Direct = t.Elem(), true
	default:
		n.GoType, n.Direct = t, true
		if t.Kind() == reflect.Pointer {
			n.GoType, n.Direct = t.Elem(), false
		}
	}
	kind := n.GoType.Kind()
	switch n.Type.Base {
	case Bool, Uint, Int:
		if kind != goKind(n.Type) || n.Kind == Leaf && n.Direct {
			return wrong
		}
	case Enum:
		return bindEnum(n)
	case Empty:
		if kind != reflect.Bool {
			return wrong
		}
	default:
		if kind != reflect.String || n.Kind == Leaf && n.Direct {
			return wrong
		}
	}
	return nil
}

// bindEnum learns the names of a generated enumeration; its zero is none.
func bindEnum(n *Node) error {
	if n.GoType.Kind() == reflect.String {
		return nil
	}
	n.Texts, n.Numbers = map[int64]string{}, map[string]int64{}
	for number, d := range gen.ΛEnum[n.GoType.Name()] {
		n.Texts[number], n.Numbers[d.Name] = d.Name, number
	}
	for _, e := range n.Type.Enums {
		if n.Numbers[e.Name] == 0 {
			return fmt.Errorf("%s: gen.%s has no %s: run go generate", n.path, n.GoType.Name(), e.Name)
		}
	}
	return nil
}

func goKind(t *Type) reflect.Kind {
	switch t.Base {
	case Bool:
		return reflect.Bool
	case Uint:
		return map[int]reflect.Kind{8: reflect.Uint8, 16: reflect.Uint16, 32: reflect.Uint32, 64: reflect.Uint64}[t.Bits]
	case Int:
		return map[int]reflect.Kind{8: reflect.Int8, 16: reflect.Int16, 32: reflect.Int32, 64: reflect.Int64}[t.Bits]
	}
	return reflect.String
}

func bindKeys(n *Node, t reflect.Type) error {
	if len(n.Keys) == 1 {
		if t != n.Keys[0].GoType {
			return fmt.Errorf("%s: key is a Go %v: run go generate", n.path, t)
		}
		return nil
	}
	for _, k := range n.Keys {
		found := false
		for i := range t.NumField() {
			if t.Field(i).Tag.Get("path") == k.Name && t.Field(i).Type == k.GoType {
				n.KeyFields = append(n.KeyFields, i)
				found = true
			}
		}
		if !found {
			return fmt.Errorf("%s: key %s is not in %v: run go generate", n.path, k.Name, t)
		}
	}
	return nil
}

// Use compiles other modules and has every package look at them in place of the
// gateway's, until restore is called. New makes an empty tree of theirs. It is
// for tests, which cannot run in parallel then.
func Use(sources map[string]string, implemented []string, features map[string][]string) (newTree func() any, restore func(), err error) {
	m, err := compileModules(sources, implemented, features)
	if err != nil {
		return nil, nil, err
	}
	t := structOf(m.root)
	if err := bindStruct(m.root, t); err != nil {
		return nil, nil, err
	}
	before := replaced.Swap(m)
	return func() any { return reflect.New(t).Interface() }, func() { replaced.Store(before) }, nil
}

// structOf makes a Go type for a node's struct, as the generator would.
func structOf(n *Node) reflect.Type {
	own := n.Children
	if n.Rank != nil {
		own = append(slices.Clip(own), n.Rank)
	}
	fields := make([]reflect.StructField, len(own))
	for i, c := range own {
		fields[i] = reflect.StructField{
			Name: "F" + strconv.Itoa(i), Type: fieldOf(c),
			Tag: reflect.StructTag(`path:"` + c.Name + `" module:"` + c.Module + `"`),
		}
	}
	return reflect.StructOf(fields)
}

func fieldOf(n *Node) reflect.Type {
	switch n.Kind {
	case Container:
		return reflect.PointerTo(structOf(n))
	case Leaf:
		if n.Type.Base == Empty {
			return reflect.TypeFor[bool]()
		}
		return reflect.PointerTo(valueOf(n.Type))
	case LeafList:
		return reflect.SliceOf(valueOf(n.Type))
	}
	entry := reflect.PointerTo(structOf(n))
	switch len(n.Keys) {
	case 0:
		return reflect.SliceOf(entry)
	case 1:
		return reflect.MapOf(valueOf(n.Keys[0].Type), entry)
	}
	fields := make([]reflect.StructField, len(n.Keys))
	for i, k := range n.Keys {
		fields[i] = reflect.StructField{Name: "K" + strconv.Itoa(i), Type: valueOf(k.Type), Tag: reflect.StructTag(`path:"` + k.Name + `"`)}
	}
	return reflect.MapOf(reflect.StructOf(fields), entry)
}

func valueOf(t *Type) reflect.Type {
	switch goKind(t) {
	case reflect.Bool:
		return reflect.TypeFor[bool]()
	case reflect.Uint8:
		return reflect.TypeFor[uint8]()
	case reflect.Uint16:
		return reflect.TypeFor[uint16]()
	case reflect.Uint32:
		return reflect.TypeFor[uint32]()
	case reflect.Uint64:
		return reflect.TypeFor[uint64]()
	case reflect.Int8:
		return reflect.TypeFor[int8]()
	case reflect.Int16:
		return reflect.TypeFor[int16]()
	case reflect.Int32:
		return reflect.TypeFor[int32]()
	case reflect.Int64:
		return reflect.TypeFor[int64]()
	}
	if t.Base == Empty {
		return reflect.TypeFor[bool]()
	}
	return reflect.TypeFor[string]()
}
