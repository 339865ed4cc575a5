package nacm

import (
	"errors"
	"fmt"
	"strings"

	"vita/mgmt/internal/schema"
)

// step is a step of a rule's path. Keys that are not named stand for all.
type step struct {
	module, name string
	keys         []key
}

type key struct {
	name, value string // "." for a value of a leaf-list
	user        bool   // the value is that of the variable USER
}

const mostSteps = 64

// parsePath reads a node-instance-identifier (RFC 8341, module ietf-netconf-acm).
// The prefix of a name is a module's name, or the prefix that the module gives
// itself; a name without one is in the module of the step before, at the top in
// the module that has it.
func parsePath(path string) ([]step, error) {
	var steps []step
	at := schema.Root() // nil where the schema has no more to say
	module := ""
	rest := path
	for rest != "" {
		if rest[0] != '/' || len(steps) == mostSteps {
			return nil, fmt.Errorf("path %.80q is malformed: want /MODULE:NAME[KEY='VALUE']/NAME", path)
		}
		rest = rest[1:]
		end := strings.IndexAny(rest, "/[")
		if end < 0 {
			end = len(rest)
		}
		prefix, name, qualified := strings.Cut(strings.TrimSpace(rest[:end]), ":")
		rest = rest[end:]
		switch {
		case qualified:
			if module = moduleOf(prefix); module == "" {
				return nil, fmt.Errorf("path %.80q: there is no module %q", path, prefix)
			}
		case len(steps) == 0:
			name = prefix
			if module = topModule(name); module == "" {
				return nil, fmt.Errorf("path %.80q: %q needs its module, as in /MODULE:%s", path, name, name)
			}
		default:
			name = prefix
			if at != nil { // as operators write paths: names are mostly unique
				module = nearest(at, module, name)
			}
		}
		if name == "" {
			return nil, fmt.Errorf("path %.80q: a name is missing", path)
		}
		one := step{module: module, name: name}
		var err error
		if one.keys, rest, err = predicates(rest); err != nil {
			return nil, fmt.Errorf("path %.80q: %w", path, err)
		}
		if at, err = one.check(at, len(steps) == 0); err != nil {
			return nil, fmt.Errorf("path %.80q: %w", path, err)
		}
		steps = append(steps, one)
	}
	if len(steps) == 0 {
		return nil, errors.New(`a path names a node: "*" or no path stand for all`)
	}
	return steps, nil
}

// check finds the step in the schema, and makes its keys canonical. Nodes of
// modules without a schema are not checked.
func (s *step) check(at *schema.Node, top bool) (*schema.Node, error) {
	if at == nil || top && !hasNodes(s.module) {
		return nil, nil
	}
	n := at.Child(s.module, s.name)
	if n == nil {
		return nil, fmt.Errorf("there is no %s:%s", s.module, s.name)
	}
	for i, k := range s.keys {
		var of *schema.Node
		if k.name == "." && n.Type != nil {
			of = n
		}
		for _, leaf := range n.Keys {
			if leaf.Name == k.name {
				of = leaf
			}
		}
		if of == nil {
			return nil, fmt.Errorf("%s is no key of %s", k.name, n.Name)
		}
		if !k.user {
			v, err := of.Type.Canonical(k.value)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", k.name, err)
			}
			s.keys[i].value = v
		}
	}
	return n, nil
}

// hasNodes says whether a module has nodes in the tree of the schema.
func hasNodes(module string) bool {
	for _, n := range schema.Root().Children {
		if n.Module == module {
			return true
		}
	}
	return false
}

func moduleOf(prefix string) string {
	if schema.Namespace(prefix) != "" {
		return prefix
	}
	for _, m := range schema.Modules() {
		if m.Prefix == prefix {
			return m.Name
		}
	}
	return ""
}

func topModule(name string) string {
	for _, n := range schema.Root().Children {
		if n.Name == name {
			return n.Module
		}
	}
	return ""
}

func nearest(at *schema.Node, module, name string) string {
	if at.Child(module, name) == nil {
		for _, c := range at.Children {
			if c.Name == name {
				return c.Module
			}
		}
	}
	return module
}

// predicates reads [name = 'value'] as often as it comes, and returns what
// follows.
func predicates(s string) (keys []key, rest string, err error) {
	malformed := errors.New("a predicate is malformed: want [KEY='VALUE']")
	for strings.HasPrefix(s, "[") {
		name, after, ok := strings.Cut(s[1:], "=")
		name, after = strings.TrimSpace(name), strings.TrimLeft(after, " \t\r\n")
		if _, local, qualified := strings.Cut(name, ":"); qualified {
			name = local
		}
		if !ok || name == "" || after == "" {
			return nil, "", malformed
		}
		k := key{name: name}
		if v, isUser := strings.CutPrefix(after, "$USER"); isUser {
			k.user, after = true, v
		} else {
			quote := after[:1]
			if quote != "'" && quote != `"` {
				return nil, "", malformed
			}
			if k.value, after, ok = strings.Cut(after[1:], quote); !ok {
				return nil, "", malformed
			}
		}
		if after, ok = strings.CutPrefix(strings.TrimLeft(after, " \t\r\n"), "]"); !ok {
			return nil, "", malformed
		}
		keys = append(keys, k)
		s = after
	}
	return keys, s, nil
}
