package schema

import (
	"fmt"
	"reflect"

	"vita/gen"
)

// bind finds each node's field in the generated structs. A field for which
// there is no node, or a node without a field, means that gen/ is not current.
func bind(root *Node) error {
	return bindStruct(root, reflect.TypeFor[gen.Vita]())
}

func bindStruct(n *Node, t reflect.Type) error {
	n.GoType = t
	n.children = make(map[string]*Node, len(n.Children))
	fields := map[string]int{}
	for i := range t.NumField() {
		f := t.Field(i)
		fields[f.Tag.Get("module")+":"+f.Tag.Get("path")] = i
	}
	for _, c := range n.Children {
		if n.children[c.Name] != nil {
			return fmt.Errorf("%s: two modules have a node of that name here", c.path)
		}
		n.children[c.Name] = c
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
		if t.Kind() != reflect.Map || t.Elem().Kind() != reflect.Pointer {
			return wrong
		}
		if err := bindStruct(n, t.Elem().Elem()); err != nil {
			return err
		}
		return bindKeys(n, t.Key())
	default:
		if t.Kind() != reflect.Pointer || t.Elem().Kind() != n.Type.goKind() {
			return wrong
		}
		n.GoType = t.Elem()
		return nil
	}
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
