// Package xmltree reads XML of strangers into a small tree, within limits.
//
// It takes what NETCONF and RESTCONF use: elements, attributes, namespaces and
// text. A document type declaration is refused (RFC 6241 section 3), and with
// it everything that makes XML dangerous; processing instructions and
// comments are skipped. It knows no protocol and no model.
package xmltree

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Element is one element. Names of elements and attributes carry the
// namespace itself, not the prefix.
type Element struct {
	Name     xml.Name
	Attrs    []xml.Attr // without namespace declarations
	Children []*Element
	Text     string // all character data directly within the element
	Parent   *Element

	prefixes []xml.Attr // namespace declarations: Name.Local is the prefix, "" the default
}

// Limits bounds a document. A zero field stands for its default.
type Limits struct {
	Bytes    int // default 64 MiB
	Depth    int // default 64
	Elements int // default 4 Mi, which is as many as several 100 000 list entries have
	Attrs    int // of one element, and namespace declarations in force at it; default 256 each
}

// Lookup returns the namespace that a prefix stands for within the element,
// as content such as an instance-identifier needs it. "" asks for the default
// namespace.
func (e *Element) Lookup(prefix string) (namespace string, ok bool) {
	if prefix == "xml" {
		return "http://www.w3.org/XML/1998/namespace", true
	}
	for ; e != nil; e = e.Parent {
		for _, p := range e.prefixes {
			if p.Name.Local == prefix {
				return p.Value, true
			}
		}
	}
	return "", false
}

// Attr returns the value of an attribute.
func (e *Element) Attr(namespace, name string) (value string, ok bool) {
	for _, a := range e.Attrs {
		if a.Name.Local == name && a.Name.Space == namespace {
			return a.Value, true
		}
	}
	return "", false
}

// Parse reads one document.
func Parse(document []byte, limits Limits) (*Element, error) {
	if limits.Bytes == 0 {
		limits.Bytes = 64 << 20
	}
	if limits.Depth == 0 {
		limits.Depth = 64
	}
	if limits.Elements == 0 {
		limits.Elements = 4 << 20
	}
	if limits.Attrs == 0 {
		limits.Attrs = 256
	}
	if len(document) > limits.Bytes {
		return nil, fmt.Errorf("document of %d bytes: at most %d are taken", len(document), limits.Bytes)
	}
	d := xml.NewDecoder(bytes.NewReader(document))
	d.Strict = true
	d.CharsetReader = func(charset string, r io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("encoding %s is not supported: use UTF-8", charset)
	}
	var root, at *Element
	var text [][]byte // of the open elements, outermost first; those behind are kept to be used again
	var made slab
	depth, elements, declarations := 0, 0, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if depth++; depth > limits.Depth {
				return nil, fmt.Errorf("line %d: more than %d levels of elements", line(d), limits.Depth)
			}
			if elements++; elements > limits.Elements {
				return nil, fmt.Errorf("more than %d elements", limits.Elements)
			}
			e := made.element(token.Name, at)
			if len(token.Attr) > limits.Attrs {
				return nil, fmt.Errorf("line %d: <%s> has more than %d attributes", line(d), token.Name.Local, limits.Attrs)
			}
			if err := e.attributes(token.Attr); err != nil {
				return nil, fmt.Errorf("line %d: %w", line(d), err)
			}
			if declarations += len(e.prefixes); declarations > limits.Attrs {
				return nil, fmt.Errorf("line %d: more than %d namespace declarations around <%s>", line(d), limits.Attrs, token.Name.Local)
			}
			if err := e.declared(); err != nil {
				return nil, fmt.Errorf("line %d: %w", line(d), err)
			}
			switch {
			case at != nil:
				at.Children = append(at.Children, e)
			case root != nil:
				return nil, fmt.Errorf("line %d: second root element <%s>", line(d), token.Name.Local)
			default:
				root = e
			}
			at = e
			if len(text) < depth {
				text = append(text, nil)
			}
			text[depth-1] = text[depth-1][:0]
		case xml.EndElement:
			at.Text = string(text[depth-1])
			declarations -= len(at.prefixes)
			at = at.Parent
			depth--
		case xml.CharData:
			if at == nil {
				if len(bytes.TrimSpace(token)) > 0 {
					return nil, fmt.Errorf("line %d: text outside of the root element", line(d))
				}
				continue
			}
			text[depth-1] = append(text[depth-1], token...)
		case xml.Directive:
			return nil, fmt.Errorf("line %d: document type declarations are not allowed", line(d))
		}
	}
	if root == nil {
		return nil, errors.New("document without an element")
	}
	return root, nil
}

// slab makes the elements of a document some at a time: a large one has a million,
// of which most are like those before them.
type slab struct{ free []Element }

func (s *slab) element(name xml.Name, parent *Element) *Element {
	if len(s.free) == 0 {
		s.free = make([]Element, 64)
	}
	e := &s.free[0]
	s.free = s.free[1:]
	e.Name, e.Parent = name, parent
	if parent != nil && len(parent.Children) > 0 {
		before := parent.Children[len(parent.Children)-1]
		if n := len(before.Children); n > 0 && before.Name == name {
			e.Children = make([]*Element, 0, min(n, 64))
		}
	}
	return e
}

func line(d *xml.Decoder) int {
	l, _ := d.InputPos()
	return l
}

// attributes splits attributes from namespace declarations.
func (e *Element) attributes(attrs []xml.Attr) error {
	for i, a := range attrs {
		for _, b := range attrs[:i] {
			if a.Name == b.Name {
				return fmt.Errorf("attribute %s comes twice in <%s>", a.Name.Local, e.Name.Local)
			}
		}
		switch {
		case a.Name.Space == "" && a.Name.Local == "xmlns":
			e.prefixes = append(e.prefixes, xml.Attr{Value: a.Value})
		case a.Name.Space == "xmlns":
			if a.Value == "" {
				return fmt.Errorf("prefix %s stands for no namespace", a.Name.Local)
			}
			e.prefixes = append(e.prefixes, xml.Attr{Name: xml.Name{Local: a.Name.Local}, Value: a.Value})
		default:
			e.Attrs = append(e.Attrs, a)
		}
	}
	return nil
}

// declared refuses prefixes without a declaration, which encoding/xml leaves
// in the name as they are.
func (e *Element) declared() error {
	if err := e.known(e.Name); err != nil {
		return err
	}
	for _, a := range e.Attrs {
		if err := e.known(a.Name); err != nil {
			return err
		}
	}
	return nil
}

func (e *Element) known(name xml.Name) error {
	if strings.Contains(name.Local, ":") {
		return fmt.Errorf("name %q has more than one colon", name.Local)
	}
	if name.Space == "" || name.Space == "http://www.w3.org/XML/1998/namespace" {
		return nil
	}
	for at := e; at != nil; at = at.Parent {
		for _, p := range at.prefixes {
			if p.Value == name.Space {
				return nil
			}
		}
	}
	return fmt.Errorf("prefix %q of %s is not declared", name.Space, name.Local)
}
