package yangenc

import (
	"encoding/xml"
	"net/url"
	"strings"

	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xmltree"
)

// field is a name of RESTCONF's fields parameter and what is asked for within
// it; nothing means everything.
type field struct {
	module, name string
	children     []*field
}

const maxFields = 1000

// parseFields reads the fields parameter (RFC 8040 section 4.8.3), for example
// "a/b;c(d;e/f)".
func parseFields(text string) ([]*field, error) {
	p := fieldParser{rest: text}
	out, err := p.list(0)
	if err == nil && p.rest != "" {
		err = p.bad()
	}
	return out, err
}

type fieldParser struct {
	rest  string
	count int
}

func (p *fieldParser) bad() error {
	return badPath("invalid-value", "", "fields: malformed at \""+p.rest+"\"")
}

func (p *fieldParser) list(depth int) ([]*field, error) {
	var out []*field
	for {
		f, err := p.path(depth)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
		if !strings.HasPrefix(p.rest, ";") {
			return out, nil
		}
		p.rest = p.rest[1:]
	}
}

func (p *fieldParser) path(depth int) (*field, error) {
	end := strings.IndexAny(p.rest, "/;()")
	if end < 0 {
		end = len(p.rest)
	}
	name, err := url.PathUnescape(p.rest[:end])
	if p.count++; err != nil || name == "" || depth > 64 || p.count > maxFields {
		return nil, p.bad()
	}
	f := &field{name: name}
	if module, local, ok := strings.Cut(name, ":"); ok {
		f.module, f.name = module, local
	}
	p.rest = p.rest[end:]
	switch {
	case strings.HasPrefix(p.rest, "/"):
		p.rest = p.rest[1:]
		c, err := p.path(depth + 1)
		if err != nil {
			return nil, err
		}
		f.children = []*field{c}
	case strings.HasPrefix(p.rest, "("):
		p.rest = p.rest[1:]
		if f.children, err = p.list(depth + 1); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(p.rest, ")") {
			return nil, p.bad()
		}
		p.rest = p.rest[1:]
	}
	return f, nil
}

// FieldsFilter reads the fields parameter for the resource at a path. At the
// top, names of other modules than the tree's are passed over: they select
// operational data.
func FieldsFilter(at Path, text string) (*Filter, error) {
	fields, err := parseFields(text)
	if err != nil {
		return nil, err
	}
	root := &filterNode{schema: at.Schema()}
	if root.children, err = filterNodes(at.Schema(), fields); err != nil {
		return nil, err
	}
	return &Filter{root: root}, nil
}

func filterNodes(parent *schema.Node, fields []*field) ([]*filterNode, error) {
	var out []*filterNode
	for _, f := range fields {
		var n *schema.Node
		if !parent.HasValue() {
			n = parent.Child(f.module, f.name)
		}
		if n == nil && parent.Parent == nil && f.module != "" && schema.Namespace(f.module) != "" {
			out = append(out, &filterNode{})
			continue
		}
		if n == nil {
			return nil, badPath("invalid-value", f.name, "fields: there is no "+f.name+" in "+parent.Path())
		}
		node := &filterNode{schema: n}
		var err error
		if node.children, err = filterNodes(n, f.children); err != nil {
			return nil, err
		}
		out = append(out, node)
	}
	return out, nil
}

// FieldsElement reads the fields parameter as a subtree filter for data without
// a schema, in an element for a node of the module.
func FieldsElement(module, text string) (*xmltree.Element, error) {
	fields, err := parseFields(text)
	if err != nil {
		return nil, err
	}
	root := &xmltree.Element{}
	addElements(root, module, fields)
	return root, nil
}

func addElements(parent *xmltree.Element, module string, fields []*field) {
	for _, f := range fields {
		own := module
		if f.module != "" {
			own = f.module
		}
		e := &xmltree.Element{Name: xml.Name{Space: schema.Namespace(own), Local: f.name}, Parent: parent}
		if e.Name.Space == "" {
			e.Name.Space = "of " + own // nothing has that
		}
		addElements(e, own, f.children)
		parent.Children = append(parent.Children, e)
	}
}
