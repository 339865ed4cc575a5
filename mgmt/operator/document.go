package operator

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"

	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/yangenc"
)

// element is one node of a configuration that is put together by paths or read
// from a text. The one without a schema stands for the root.
type element struct {
	schema   *schema.Node
	keys     []string // of a list entry
	value    string   // of a leaf
	line     int      // in the text that it was read from
	children []*element
	index    map[string]*element // children by name and keys
}

// set enters a leaf, with the elements on the way to it and their keys.
func (e *element) set(at yangenc.Path, value string) {
	for _, step := range at {
		if step.Schema.Kind == schema.LeafList && step.Keys == nil {
			step.Keys = []string{value}
		}
		e = e.child(step.Schema, step.Keys)
	}
	e.value = value
}

// child returns a child, which it makes where there is none.
func (e *element) child(n *schema.Node, keys []string) *element {
	if c := e.find(n, keys); c != nil {
		return c
	}
	c := &element{schema: n, keys: keys, line: e.line}
	if n.Kind == schema.LeafList {
		keys = nil // the value is all that there is
	}
	for i, k := range keys {
		c.child(n.Keys[i], nil).value = k
	}
	e.add(c)
	return c
}

func (e *element) add(c *element) {
	if e.index == nil {
		e.index = map[string]*element{}
	}
	e.children = append(e.children, c)
	e.index[indexed(c.schema, c.keys)] = c
}

func (e *element) find(n *schema.Node, keys []string) *element { return e.index[indexed(n, keys)] }

// indexed makes a map's key; no value has a zero byte in it.
func indexed(n *schema.Node, keys []string) string {
	return n.Module + ":" + n.Name + "\x00" + strings.Join(keys, "\x00")
}

// document writes all of it as RESTCONF's data resource in XML.
func (e *element) document(b *bytes.Buffer) {
	b.WriteString(`<data xmlns="` + nsRESTCONF + `"`)
	for _, m := range schema.Modules() { // values of some types have prefixes
		fmt.Fprintf(b, ` xmlns:%s="%s"`, m.Name, m.Namespace)
	}
	b.WriteString(`>`)
	e.write(b)
	b.WriteString(`</data>`)
}

func (e *element) write(b *bytes.Buffer) {
	for _, c := range e.children {
		fmt.Fprintf(b, `<%s xmlns="%s">`, c.schema.Name, c.schema.Namespace)
		_ = xml.EscapeText(b, []byte(c.value)) // a bytes.Buffer takes every write
		c.write(b)
		fmt.Fprintf(b, `</%s>`, c.schema.Name)
	}
}

// readText reads a configuration in Vita's format. The error joins LineErrors,
// one for each node that is wrong.
func readText(text string) (*element, error) {
	all, err := parseText(text)
	if err != nil {
		return nil, err
	}
	r := textReader{}
	root := &element{}
	r.children(root, schema.Root(), nil, all)
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return root, nil
}

type textReader struct{ errs []error }

func (r *textReader) fail(s *statement, at yangenc.Path, format string, a ...any) {
	switch {
	case len(r.errs) < maxTextErrors:
		e := &LineError{Line: s.line, Err: fmt.Errorf(format, a...)}
		if len(at) > 0 {
			e.Path = display(at)
		}
		r.errs = append(r.errs, e)
	case len(r.errs) == maxTextErrors:
		r.errs = append(r.errs, errors.New("and more"))
	}
}

// children reads statements into e, whose schema node and path are given.
func (r *textReader) children(e *element, node *schema.Node, at yangenc.Path, all []*statement) {
	for _, s := range all {
		n := named(node, s.name)
		if n == nil {
			r.fail(s, at, "there is no %.64q here", s.name)
			continue
		}
		here := append(slices.Clip(at), yangenc.Step{Schema: n})
		switch {
		case !n.Config:
			r.fail(s, here, "it is state, and cannot be configured")
		case n.Kind == schema.List:
			r.entry(e, n, at, s)
		case n.Kind == schema.Container && (s.hasValue || !s.block):
			r.fail(s, here, "want { after its name")
		case n.HasValue() && (s.block || !s.hasValue && n.Type.Base != schema.Empty):
			r.fail(s, here, "want a value and ; after its name")
		case n.Kind == schema.LeafList:
			r.leafListValue(e, n, here, s)
		case e.find(n, nil) != nil && !n.IsKey:
			r.fail(s, here, "it comes twice, first in line %d", e.find(n, nil).line)
		case n.Kind == schema.Container:
			c := &element{schema: n, line: s.line}
			e.add(c)
			r.children(c, n, here, s.children)
		case n.IsKey: // read with the entry
		default:
			v, err := n.Type.Canonical(s.value)
			if err != nil {
				if n.Secret {
					err = errors.New("the value does not match its type")
				}
				r.fail(s, here, "%w", err)
				continue
			}
			e.add(&element{schema: n, value: v, line: s.line})
		}
	}
	r.oneCase(e, at)
}

// oneCase refuses nodes of more than one case of a choice.
func (r *textReader) oneCase(e *element, at yangenc.Path) {
	chosen := map[*schema.Choice]*element{}
	for _, c := range e.children {
		for in := c.schema.Case; in != nil; in = in.Choice.Case {
			if other := chosen[in.Choice]; other != nil && !other.schema.Within(in) {
				here := append(slices.Clip(at), yangenc.Step{Schema: c.schema, Keys: c.keys})
				r.fail(&statement{line: c.line}, here, "it and %s, in line %d, exclude each other", other.schema.Name, other.line)
				break
			}
			chosen[in.Choice] = c
		}
	}
}

// leafListValue reads one value of a leaf-list.
func (r *textReader) leafListValue(e *element, n *schema.Node, here yangenc.Path, s *statement) {
	v, err := n.Type.Canonical(s.value)
	switch {
	case err != nil:
		r.fail(s, here, "%w", err)
	case e.find(n, []string{v}) != nil:
		r.fail(s, here, "the value comes twice, first in line %d", e.find(n, []string{v}).line)
	default:
		e.add(&element{schema: n, keys: []string{v}, value: v, line: s.line})
	}
}

// entry reads a list entry, its keys first.
func (r *textReader) entry(e *element, list *schema.Node, at yangenc.Path, s *statement) {
	here := append(slices.Clip(at), yangenc.Step{Schema: list})
	if s.hasValue || !s.block {
		r.fail(s, here, "want { after the name of a list: its keys stand in the entry")
		return
	}
	keys := make([]string, len(list.Keys))
	for i, k := range list.Keys {
		var found *statement
		for _, c := range s.children {
			if named(list, c.name) == k {
				if found != nil {
					r.fail(c, here, "%s comes twice", k.Name)
					return
				}
				found = c
			}
		}
		switch {
		case found == nil && len(k.Default) == 1:
			keys[i] = k.Default[0]
			continue
		case found == nil:
			r.fail(s, here, "the entry has no %s, which is its key", k.Name)
			return
		case !found.hasValue || found.block:
			r.fail(found, here, "want a value and ; after %s", k.Name)
			return
		}
		v, err := k.Type.Canonical(found.value)
		if err != nil {
			r.fail(found, append(here, yangenc.Step{Schema: k}), "%w", err)
			return
		}
		keys[i] = v
	}
	here[len(here)-1].Keys = keys
	if first := e.find(list, keys); first != nil {
		r.fail(s, here, "the entry comes twice, first in line %d", first.line)
		return
	}
	c := e.child(list, keys)
	c.line = s.line
	for _, k := range c.children { // its keys
		k.line = s.line
	}
	r.children(c, list, here, s.children)
}

// named finds a child by its name, with or without its module's.
func named(parent *schema.Node, name string) *schema.Node {
	module, local, qualified := strings.Cut(name, ":")
	if !qualified {
		module, local = "", name
	}
	for _, c := range parent.Children {
		if c.Name == local && (module == "" || module == c.Module) {
			return c
		}
	}
	return nil
}

// where returns the line of the text that a path was read from, or of the
// nearest node around it; 0 for none.
func (e *element) where(path string) int {
	at, err := parse(path)
	if err != nil {
		return 0
	}
	line := 0
	for _, step := range at {
		if e = e.find(step.Schema, step.Keys); e == nil {
			return line
		}
		line = e.line
	}
	return line
}

// writeText writes the members of an answer in Vita's format. Keys come first.
func writeText(b *strings.Builder, at *schema.Node, object []byte, indent string) error {
	var m map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(object))
	if err := d.Decode(&m); err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	named := map[string]json.RawMessage{}
	for k, v := range m {
		if _, local, ok := strings.Cut(k, ":"); ok {
			k = local
		}
		named[k] = v
	}
	children := slices.Concat(at.Keys, slices.DeleteFunc(slices.Clone(at.Children), func(n *schema.Node) bool { return n.IsKey }))
	for _, n := range children {
		v, ok := named[n.Name]
		if !ok {
			continue
		}
		block := func(inner []byte) error {
			b.WriteString(indent + n.Name + " {\n")
			err := writeText(b, n, inner, indent+"  ")
			b.WriteString(indent + "}\n")
			return err
		}
		var err error
		switch n.Kind {
		case schema.Container:
			err = block(v)
		case schema.List:
			var entries []json.RawMessage
			if err = json.Unmarshal(v, &entries); err == nil {
				for _, e := range entries {
					if err = block(e); err != nil {
						break
					}
				}
			}
		case schema.Leaf:
			err = writeValue(b, indent, n, v)
		case schema.LeafList:
			var values []json.RawMessage
			if err = json.Unmarshal(v, &values); err == nil {
				for _, one := range values {
					if err = writeValue(b, indent, n, one); err != nil {
						break
					}
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeValue writes a leaf, or a value of a leaf-list.
func writeValue(b *strings.Builder, indent string, n *schema.Node, v json.RawMessage) error {
	text := string(v)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(v, &text); err != nil {
			return err
		}
	}
	if n.Type.Base == schema.Empty {
		b.WriteString(indent + n.Name + ";\n")
		return nil
	}
	b.WriteString(indent + n.Name + " " + quoteText(text) + ";\n")
	return nil
}

// change is what turns one configuration into another: what is deleted, and what
// is merged after that.
type change struct {
	deleted []yangenc.Path
	merged  *element
}

// compare returns what turns a into b.
func compare(a, b *element) change {
	c := change{merged: &element{}}
	c.within(nil, a, b)
	return c
}

func (c *change) empty() bool { return len(c.deleted) == 0 && len(c.merged.children) == 0 }

func (c *change) within(at yangenc.Path, a, b *element) {
	path := func(e *element) yangenc.Path {
		return append(slices.Clip(at), yangenc.Step{Schema: e.schema, Keys: e.keys})
	}
	anew := reordered(a, b)
	for _, old := range a.children {
		if (b.find(old.schema, old.keys) == nil || anew[old.schema]) && !old.schema.IsKey {
			c.deleted = append(c.deleted, path(old))
		}
	}
	for _, e := range b.children {
		old := a.find(e.schema, e.keys)
		if anew[e.schema] {
			old = nil
		}
		switch {
		case old == nil:
			c.add(path(e), e)
		case e.schema.Kind == schema.Leaf && old.value != e.value:
			c.merged.set(path(e), e.value)
		case !e.schema.HasValue():
			c.within(path(e), old, e)
		}
	}
}

// reordered returns the lists, ordered by the user, whose entries are not those of a,
// without some and with more behind them. They are written anew.
func reordered(a, b *element) map[*schema.Node]bool {
	left := map[*schema.Node][]string{} // entries of a that b still has
	for _, e := range a.children {
		if e.schema.ByUser && b.find(e.schema, e.keys) != nil {
			left[e.schema] = append(left[e.schema], indexed(e.schema, e.keys))
		}
	}
	out := map[*schema.Node]bool{}
	for _, e := range b.children {
		if want := left[e.schema]; len(want) > 0 {
			if want[0] != indexed(e.schema, e.keys) {
				out[e.schema] = true
			}
			left[e.schema] = want[1:]
		}
	}
	return out
}

// add merges an element with all that is in it.
func (c *change) add(at yangenc.Path, e *element) {
	in := c.merged
	for _, step := range at[:len(at)-1] {
		in = in.child(step.Schema, step.Keys)
	}
	in.add(e)
}

// patch writes a change as a YANG Patch (RFC 8072).
func (c *change) patch() []byte {
	var b bytes.Buffer
	b.WriteString(`<yang-patch xmlns="urn:ietf:params:xml:ns:yang:ietf-yang-patch"><patch-id>vitactl</patch-id>`)
	for i, at := range c.deleted {
		fmt.Fprintf(&b, `<edit><edit-id>%d</edit-id><operation>remove</operation><target>/`, i)
		_ = xml.EscapeText(&b, []byte(at.RESTCONF())) // a bytes.Buffer takes every write
		b.WriteString(`</target></edit>`)
	}
	if len(c.merged.children) > 0 {
		b.WriteString(`<edit><edit-id>merge</edit-id><operation>merge</operation><target>/</target><value>`)
		c.merged.document(&b)
		b.WriteString(`</value></edit>`)
	}
	b.WriteString(`</yang-patch>`)
	return b.Bytes()
}
