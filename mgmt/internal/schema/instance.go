package schema

import (
	"errors"
	"fmt"
	"strings"
)

// InstanceStep is a step of an instance-identifier.
type InstanceStep struct {
	Node *Node
	Keys []string // of a list entry or of a value of a leaf-list: canonical; nil without
}

// ParseInstance reads an instance-identifier (RFC 7950 section 9.13) and returns
// its canonical form, with modules' names for prefixes.
func ParseInstance(root *Node, s string, in Form) (string, error) {
	steps, err := InstanceSteps(root, s, in)
	if err != nil {
		return "", err
	}
	var b []byte
	for _, st := range steps {
		b = st.Node.AppendStep(b, st.Keys)
	}
	return string(b), nil
}

// AppendStep appends a step of an instance path to the path before it: the name,
// and the keys of a list entry or the value of a leaf-list, if there are any.
func (n *Node) AppendStep(b []byte, keys []string) []byte {
	b = append(b, '/')
	if n.Parent != nil && n.Parent.Module != n.Module {
		b = append(append(b, n.Module...), ':')
	}
	return AppendKeys(append(b, n.Name...), n, keys)
}

// AppendKeys appends the predicates of a list entry or of a leaf-list's value.
func AppendKeys(b []byte, n *Node, keys []string) []byte {
	for i, k := range keys {
		b = append(b, '[')
		if n.Kind == LeafList {
			b = append(b, '.')
		} else {
			b = append(b, n.Keys[i].Name...)
		}
		b = append(b, '=')
		if strings.Contains(k, "'") {
			b = append(b, Quote(k)...)
		} else {
			b = append(append(append(b, '\''), k...), '\'')
		}
		b = append(b, ']')
	}
	return b
}

// Quote puts a value between quotes as XPath has them. XPath 1.0 cannot write
// a value with both kinds of quotes; such a value comes out between double
// quotes with the inner ones doubled.
func Quote(v string) string {
	switch {
	case !strings.Contains(v, "'"):
		return "'" + v + "'"
	case !strings.Contains(v, `"`):
		return `"` + v + `"`
	}
	return `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
}

// InstanceSteps reads an instance-identifier.
func InstanceSteps(root *Node, s string, in Form) ([]InstanceStep, error) {
	malformed := fmt.Errorf("%q is no instance-identifier", clip(s))
	var out []InstanceStep
	at, rest := root, s
	for rest != "" {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, "/"); !ok {
			return nil, malformed
		}
		end := strings.IndexAny(rest, "/[")
		if end < 0 {
			end = len(rest)
		}
		name := rest[:end]
		rest = rest[end:]
		next, err := at.instanceChild(name, in)
		if err != nil {
			return nil, err
		}
		step := InstanceStep{Node: next}
		if step.Keys, rest, err = next.predicates(rest, in); err != nil {
			return nil, err
		}
		out = append(out, step)
		at = next
	}
	if len(out) == 0 {
		return nil, malformed
	}
	return out, nil
}

// EntryStep reads the predicates that name an entry of a list.
func EntryStep(list *Node, s string, in Form) ([]string, error) {
	keys, rest, err := list.predicates(s, in)
	if err == nil && (rest != "" || keys == nil) {
		err = fmt.Errorf("%q does not name an entry of %s", clip(s), list.Name)
	}
	return keys, err
}

// predicates reads the keys of an entry, or the value of a leaf-list, and returns
// what follows them.
func (n *Node) predicates(s string, in Form) (keys []string, rest string, err error) {
	malformed := fmt.Errorf("%q does not name an entry of %s", clip(s), n.Name)
	rest = s
	values := map[*Node]string{}
	for strings.HasPrefix(rest, "[") {
		var key, value string
		var ok bool
		if key, value, rest, ok = instancePredicate(rest); !ok {
			return nil, "", malformed
		}
		leaf := n
		if key != "." {
			if leaf, err = n.instanceChild(key, in); err != nil {
				return nil, "", err
			}
		}
		if _, twice := values[leaf]; twice || leaf.Type == nil || leaf != n && !leaf.IsKey || leaf == n && n.Kind != LeafList {
			return nil, "", malformed
		}
		if values[leaf], err = leaf.Type.Parse(value, Form{Prefix: in.Prefix}); err != nil {
			return nil, "", err
		}
	}
	switch {
	case n.Kind == LeafList && len(values) == 1:
		keys = []string{values[n]}
	case n.Kind == List && len(n.Keys) > 0 && len(values) == len(n.Keys):
		for _, k := range n.Keys {
			keys = append(keys, values[k])
		}
	case len(values) > 0, n.Kind == List, n.Kind == LeafList:
		return nil, "", fmt.Errorf("%q: an entry is named with all of its keys", clip(s))
	}
	return keys, rest, nil
}

// instanceChild finds a child by a name with its prefix, which may be left out
// where the module stays the same and prefixes are modules' names.
func (n *Node) instanceChild(name string, in Form) (*Node, error) {
	name = strings.TrimSpace(name)
	prefix, local, ok := strings.Cut(name, ":")
	switch {
	case ok && in.Prefix != nil:
		if prefix, ok = in.Prefix(prefix); !ok {
			return nil, fmt.Errorf("%q: its prefix is not declared", clip(name))
		}
	case ok:
	case in.Prefix != nil || n.Parent == nil:
		return nil, fmt.Errorf("%q has no prefix", clip(name))
	default:
		prefix, local = n.Module, name
	}
	if n.Kind == Leaf || n.Kind == LeafList {
		return nil, errors.New("there is nothing in a leaf")
	}
	c := n.find(prefix, local)
	if c == nil {
		return nil, fmt.Errorf("there is no %s", clip(name))
	}
	return c, nil
}

// instancePredicate reads "[name = 'value']" and returns what follows it.
func instancePredicate(s string) (key, value, rest string, ok bool) {
	key, s, ok = strings.Cut(s[1:], "=")
	s = strings.TrimLeft(s, " \t\r\n")
	if key = strings.TrimSpace(key); !ok || key == "" || s == "" || s[0] != '\'' && s[0] != '"' {
		return "", "", "", false
	}
	value, s, ok = strings.Cut(s[1:], s[:1])
	s, closed := strings.CutPrefix(strings.TrimLeft(s, " \t\r\n"), "]")
	return key, value, s, ok && closed
}
