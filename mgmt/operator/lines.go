package operator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"vita/mgmt/internal/schema"
)

// Line is one leaf: its path as an operator writes it, and its value.
type Line struct{ Path, Value string }

// String returns the line as "config set" takes it.
func (l Line) String() string {
	if l.Value == "" || strings.ContainsAny(l.Value, " \t\n'\"") {
		return l.Path + " '" + strings.ReplaceAll(l.Value, "'", `'\''`) + "'"
	}
	return l.Path + " " + l.Value
}

// lines flattens an answer of the server: the members of a JSON object
// (RFC 7951) that is at the given schema node, whose own path is prefix. Lines
// come in the schema's order, list entries in that of their keys or the user's.
func lines(at *schema.Node, prefix string, object []byte) ([]Line, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("the server's answer is no JSON object: %w", err)
	}
	return members(nil, at, prefix, m)
}

func members(out []Line, at *schema.Node, prefix string, m map[string]any) (_ []Line, err error) {
	named := map[string]any{}
	for k, v := range m {
		if _, local, ok := strings.Cut(k, ":"); ok {
			k = local
		}
		named[k] = v
	}
	for _, child := range at.Children {
		v, ok := named[child.Name]
		if !ok {
			continue
		}
		if out, err = value(out, child, prefix+"/"+child.Name, v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// scalar is a leaf's value for people: that of the type empty, [null], is nothing.
func scalar(v any) string {
	if _, empty := v.([]any); empty {
		return ""
	}
	return fmt.Sprint(v)
}

func value(out []Line, n *schema.Node, path string, v any) (_ []Line, err error) {
	switch n.Kind {
	case schema.Leaf:
		return append(out, Line{path, scalar(v)}), nil
	case schema.LeafList:
		values, ok := v.([]any)
		if !ok {
			break
		}
		for _, one := range values {
			out = append(out, Line{path, scalar(one)})
		}
		return out, nil
	case schema.Container:
		if m, ok := v.(map[string]any); ok {
			return members(out, n, path, m)
		}
	case schema.List:
		entries, ok := v.([]any)
		if !ok {
			break
		}
		type entry struct {
			key string
			m   map[string]any
		}
		var all []entry
		for _, e := range entries {
			m, ok := e.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("the server's answer: an entry of %s is no object", path)
			}
			var key strings.Builder
			for _, k := range n.Keys {
				fmt.Fprintf(&key, "[%s=%v]", k.Name, m[k.Name])
			}
			all = append(all, entry{key.String(), m})
		}
		if !n.ByUser { // whose order says something
			slices.SortStableFunc(all, func(a, b entry) int { return strings.Compare(a.key, b.key) })
		}
		for _, e := range all {
			if out, err = members(out, n, path+e.key, e.m); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("the server's answer: %s is not a %s", path, n.Kind)
}

// Diff returns the lines of a and b that differ, marked - and +.
func Diff(a, b []Line) []string {
	before := map[string]string{}
	for _, l := range a {
		before[l.Path] = l.Value
	}
	after := map[string]string{}
	for _, l := range b {
		after[l.Path] = l.Value
	}
	var out []string
	for _, l := range a {
		if v, ok := after[l.Path]; !ok || v != l.Value {
			out = append(out, "- "+l.String())
		}
	}
	for _, l := range b {
		if v, ok := before[l.Path]; !ok || v != l.Value {
			out = append(out, "+ "+l.String())
		}
	}
	return out
}
