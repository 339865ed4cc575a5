// Package yangenc turns configuration and state into XML and JSON and back
// (RFC 7950, RFC 7951), reads paths and subtree filters, and checks every
// value that it reads against the type of its leaf.
//
// What it reads becomes an edit tree of mgmt/internal/edit, with canonical
// values; what it writes comes straight from the generated structs. It must
// not know datastores, sessions or constraints between nodes.
package yangenc

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/nacm"
)

// ErrNotFound says that a path names nothing that exists. Errors that wrap it
// wrap an *rpcerr.Error as well.
var ErrNotFound = errors.New("no such resource")

type notFound struct{ err *rpcerr.Error }

func (e notFound) Error() string   { return e.err.Error() }
func (e notFound) Unwrap() []error { return []error{ErrNotFound, e.err} }

// Path names a data node: the steps from the root of the tree. The empty Path
// is the root itself, the whole datastore.
type Path []Step

// Step is one step of a Path. Keys are canonical; a list without keys stands
// for all of its entries, and is possible as the last step only. The key of a
// leaf-list is one of its values.
type Step struct {
	Schema *schema.Node
	Keys   []string
}

// Schema returns the schema node that the path names.
func (p Path) Schema() *schema.Node {
	if len(p) == 0 {
		return schema.Root()
	}
	return p[len(p)-1].Schema
}

// Whole says whether the path names a list or leaf-list, none of its entries.
func (p Path) Whole() bool {
	if len(p) == 0 {
		return false
	}
	last := p[len(p)-1]
	return (last.Schema.Kind == schema.List || last.Schema.Kind == schema.LeafList) && len(last.Keys) == 0
}

// Config says whether the path names configuration.
func (p Path) Config() bool { return p.Schema().Config }

func badPath(tag, element, message string) error {
	return &rpcerr.Error{Type: rpcerr.Protocol, Tag: tag, BadElement: element, Message: message}
}

// step resolves the next step, whose key values are as the client wrote them.
func (p Path) step(module, name string, keys []string, last bool) (Path, error) {
	parent := p.Schema()
	n := parent.Child(module, name)
	if parent.HasValue() || n == nil {
		where := "at the top of the model"
		if len(p) > 0 {
			where = "in " + parent.Path()
		}
		if module != "" {
			name = module + ":" + name
		}
		return nil, notFound{&rpcerr.Error{
			Type: rpcerr.Protocol, Tag: "unknown-element", BadElement: name,
			Message: "there is no " + name + " " + where,
		}}
	}
	named := n.Keys
	if n.Kind == schema.LeafList {
		named = []*schema.Node{n}
	}
	switch {
	case named == nil && keys != nil:
		return nil, badPath("invalid-value", name, name+" is a "+n.Kind.String()+" and has no keys")
	case n.Kind == schema.List && keys == nil && !last:
		return nil, badPath("missing-element", n.Name, "list "+name+" needs its keys")
	case keys != nil && len(keys) != len(named):
		return nil, badPath("invalid-value", name, n.Kind.String()+" "+name+" has another number of keys")
	}
	canonical := make([]string, len(keys))
	for i, k := range keys {
		v, err := named[i].Type.Canonical(k)
		if err != nil {
			return nil, badPath("invalid-value", named[i].Name, "key "+named[i].Name+" of "+name+": "+err.Error())
		}
		canonical[i] = v
	}
	if keys == nil {
		canonical = nil
	}
	return append(p, Step{n, canonical}), nil
}

// ParseRESTCONF reads the part of a URI that follows "/restconf/data/", still
// percent-encoded (RFC 8040 section 3.5.3), for example
// "vita-esp-gateway:route4=site2/gateway=203.0.113.2". "" is the root.
func ParseRESTCONF(path string) (Path, error) {
	var p Path
	if path == "" {
		return p, nil
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		name, values, keyed := strings.Cut(segment, "=")
		name, err := url.PathUnescape(name)
		if err != nil || name == "" {
			return nil, badPath("invalid-value", segment, "path: segment "+segment+" is malformed")
		}
		var keys []string
		if keyed {
			for v := range strings.SplitSeq(values, ",") {
				v, err := url.PathUnescape(v)
				if err != nil {
					return nil, badPath("invalid-value", segment, "path: segment "+segment+" is malformed")
				}
				keys = append(keys, v)
			}
		}
		module, local, qualified := strings.Cut(name, ":")
		if !qualified {
			module, local = "", name
			if i == 0 {
				return nil, badPath("unknown-element", name, "the first name of a path needs its module, for example vita-esp-gateway:"+name)
			}
		}
		if p, err = p.step(module, local, keys, i == len(segments)-1); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// ParseInstance reads a path with predicates: an instance-identifier as in
// RFC 7951 section 6.11 ("/vita-esp-gateway:route4[id='site2']/net"), or the
// form that Vita takes, where modules and quotes may be left out
// ("/route4[id=site2]/net"). "/" and "" are the root.
func ParseInstance(path string) (Path, error) {
	var p Path
	rest := strings.TrimPrefix(path, "/")
	for rest != "" {
		end := strings.IndexAny(rest, "/[")
		if end < 0 {
			end = len(rest)
		}
		name := rest[:end]
		rest = rest[end:]
		predicates := map[string]string{}
		for strings.HasPrefix(rest, "[") {
			key, value, after, err := predicate(rest)
			if err != nil {
				return nil, err
			}
			if _, twice := predicates[key]; twice {
				return nil, badPath("invalid-value", key, "path: key "+key+" comes twice")
			}
			predicates[key] = value
			rest = after
		}
		if rest != "" && (rest[0] != '/' || rest == "/") {
			return nil, badPath("invalid-value", name, "path: malformed after "+name)
		}
		rest = strings.TrimPrefix(rest, "/")
		module, local, qualified := strings.Cut(name, ":")
		if !qualified {
			module, local = "", name
			for _, c := range p.Schema().Children { // names are unique, whatever module augments them
				if c.Name == name {
					module = c.Module
				}
			}
		}
		keys, err := ordered(p.Schema().Child(module, local), predicates)
		if err != nil {
			return nil, err
		}
		if p, err = p.step(module, local, keys, rest == ""); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// predicate reads "[name=value]" and returns what follows it.
func predicate(s string) (key, value, rest string, err error) {
	malformed := badPath("invalid-value", "", "path: malformed predicate "+s)
	key, s, ok := strings.Cut(s[1:], "=")
	key = strings.TrimSpace(key)
	if _, local, qualified := strings.Cut(key, ":"); qualified {
		key = local
	}
	s = strings.TrimLeft(s, " ")
	if !ok || key == "" || s == "" {
		return "", "", "", malformed
	}
	if q := s[:1]; q == "'" || q == `"` {
		value, s, ok = strings.Cut(s[1:], q)
		s = strings.TrimLeft(s, " ")
		if !ok || !strings.HasPrefix(s, "]") {
			return "", "", "", malformed
		}
		return key, value, s[1:], nil
	}
	value, s, ok = strings.Cut(s, "]")
	if !ok {
		return "", "", "", malformed
	}
	return key, strings.TrimRight(value, " "), s, nil
}

// ordered brings predicates into the order of a list's keys. Keys with a
// default may be left out.
func ordered(n *schema.Node, predicates map[string]string) ([]string, error) {
	if n == nil || len(predicates) == 0 {
		return nil, nil
	}
	if v, ok := predicates["."]; ok && n.Kind == schema.LeafList && len(predicates) == 1 {
		return []string{v}, nil
	}
	var keys []string
	for _, k := range n.Keys {
		v, ok := predicates[k.Name]
		switch {
		case !ok && len(k.Default) == 1:
			v = k.Default[0]
		case !ok:
			return nil, badPath("missing-element", k.Name, "list "+n.Name+" needs its key "+k.Name)
		}
		delete(predicates, k.Name)
		keys = append(keys, v)
	}
	for name := range predicates {
		return nil, badPath("invalid-value", name, name+" is no key of "+n.Name)
	}
	return keys, nil
}

// String returns the path as an instance-identifier (RFC 7951 section 6.11),
// "/" for the root.
func (p Path) String() string {
	if len(p) == 0 {
		return "/"
	}
	var b []byte
	for _, s := range p {
		b = s.Schema.AppendStep(b, s.Keys)
	}
	return string(b)
}

// RESTCONF returns the path as ParseRESTCONF reads it.
func (p Path) RESTCONF() string {
	var b strings.Builder
	for i, s := range p {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(s.Schema.QName())
		for j, k := range s.Keys {
			if j == 0 {
				b.WriteByte('=')
			} else {
				b.WriteByte(',')
			}
			b.WriteString(percent(k))
		}
	}
	return b.String()
}

// percent encodes everything but the unreserved characters of RFC 3986.
func percent(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// find returns the struct that the path names, or for a leaf or a whole list
// the one that it is in.
func (p Path) find(tree data.Tree) data.Struct {
	s := data.Root(tree)
	for _, step := range p {
		switch {
		case !s.Exists() || step.Schema.HasValue() || step.Schema.Kind == schema.List && step.Keys == nil:
			return s
		case step.Schema.Kind == schema.List:
			s = s.Entry(step.Schema, step.Keys)
		default:
			s = s.Container(step.Schema)
		}
	}
	return s
}

// Access returns what may be done at the path, given what may at the root.
func (p Path) Access(root *nacm.Cursor) *nacm.Cursor {
	for _, step := range p {
		if step.Keys != nil {
			root = root.Entry(step.Schema, step.Keys)
		} else {
			root = root.Child(step.Schema)
		}
	}
	return root
}

// frames returns the structs down to what the path names, the root first.
func (p Path) frames(tree data.Tree) []frame {
	out := []frame{{schema.Root(), data.Root(tree)}}
	for _, step := range p {
		s := out[len(out)-1].s
		switch {
		case step.Schema.HasValue() || step.Schema.Kind == schema.List && step.Keys == nil:
			return out
		case !s.Exists():
		case step.Schema.Kind == schema.List:
			s = s.Entry(step.Schema, step.Keys)
		default:
			s = s.Container(step.Schema)
		}
		out = append(out, frame{step.Schema, s})
	}
	return out
}

// Exists says whether what the path names exists in a tree. Containers exist
// where there is something in them.
func (p Path) Exists(tree data.Tree) bool {
	s := p.find(tree)
	if len(p) == 0 || !s.Exists() {
		return s.Exists()
	}
	last := p[len(p)-1]
	switch {
	case last.Schema.Kind == schema.LeafList && last.Keys != nil:
		return slices.Contains(s.Values(last.Schema), last.Keys[0])
	case last.Schema.HasValue() || last.Schema.Kind == schema.List && last.Keys == nil:
		return s.Has(last.Schema)
	case last.Schema.Kind == schema.Container:
		return last.Schema.Presence || !s.Empty(last.Schema)
	}
	return true
}

// tree returns an edit with nodes along the path, and the last of them.
func (p Path) tree() (root, last *edit.Node) {
	root = &edit.Node{Schema: schema.Root()}
	last = root
	for _, s := range p {
		n := &edit.Node{Schema: s.Schema, Keys: s.Keys}
		if s.Schema.Kind == schema.LeafList && s.Keys != nil {
			n.Value, n.Keys = s.Keys[0], nil
		}
		last.Children = append(last.Children, n)
		last = n
	}
	return root, last
}

// Edit returns an edit with nodes along the path, none of which has an operation.
func (p Path) Edit() *edit.Node {
	root, _ := p.tree()
	return root
}

// Delete returns an edit that deletes what the path names.
func (p Path) Delete() *edit.Node {
	root, last := p.tree()
	last.Op = edit.Delete
	return root
}

// SetOp sets the operation of the node that the path names within an edit.
func (p Path) SetOp(root *edit.Node, op edit.Op) {
	if n := p.node(root); n != nil {
		n.Op = op
	}
}

// node returns the node that the path names within an edit, or nil.
func (p Path) node(root *edit.Node) *edit.Node {
	at := root
	for _, s := range p {
		i := slices.IndexFunc(at.Children, func(c *edit.Node) bool {
			if c.Schema.Kind == schema.LeafList {
				return c.Schema == s.Schema && len(s.Keys) == 1 && c.Value == s.Keys[0]
			}
			return c.Schema == s.Schema && slices.Equal(c.Keys, s.Keys)
		})
		if i < 0 {
			return nil
		}
		at = at.Children[i]
	}
	return at
}
