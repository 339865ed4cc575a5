package yangenc

import (
	"encoding/xml"
	"slices"
	"strings"

	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xmltree"
)

const (
	nsNETCONF  = "urn:ietf:params:xml:ns:netconf:base:1.0"
	nsRESTCONF = "urn:ietf:params:xml:ns:yang:ietf-restconf"
)

// DecodeXML reads the children of a <config> element with their operation
// attributes.
func DecodeXML(config *xmltree.Element) (*edit.Node, error) {
	root := &edit.Node{Schema: schema.Root()}
	b := newBuilder(root, "")
	if err := b.xmlChildren(config, true); err != nil {
		return nil, err
	}
	return root, nil
}

// xmlChildren reads the elements within e as children of the builder's node.
// ops says whether operation attributes are allowed.
func (b *builder) xmlChildren(e *xmltree.Element, ops bool) error {
	if strings.TrimSpace(e.Text) != "" {
		return fail("bad-element", b.path(), e.Name.Local, "text where "+e.Name.Local+" has elements")
	}
	// Keys first, wherever they are, so that errors name the entry.
	for _, c := range e.Children {
		if n := b.lookup(c); n != nil && n.IsKey {
			if err := b.xmlChild(n, c, ops); err != nil {
				return err
			}
		}
	}
	b.identify()
	entries := ahead{b: b, from: e.Children, ops: ops}
	for i, c := range e.Children {
		n := b.lookup(c)
		switch {
		case n == nil && schema.Module(c.Name.Space) == "":
			return &rpcerr.Error{
				Type: rpcerr.Application, Tag: "unknown-namespace", Path: b.path(), BadElement: c.Name.Local, BadNamespace: c.Name.Space,
				Message: "element " + c.Name.Local + ": namespace \"" + c.Name.Space + "\" is unknown",
			}
		case n == nil:
			return b.unknown(c.Name.Local)
		case n.IsKey:
			continue
		}
		var err error
		if isEntry(n) {
			err = b.xmlAdd(n, c, ops, entries.at(i))
		} else {
			err = b.xmlChild(n, c, ops)
		}
		if err != nil {
			return err
		}
	}
	return b.finish()
}

func isEntry(n *schema.Node) bool { return n != nil && n.Kind == schema.List && n.Config }

func (b *builder) lookup(c *xmltree.Element) *schema.Node {
	module := schema.Module(c.Name.Space)
	if module == "" {
		return nil
	}
	return b.node.Schema.Child(module, c.Name.Local)
}

func (b *builder) xmlChild(n *schema.Node, e *xmltree.Element, ops bool) error {
	if err := b.admit(n); err != nil {
		return err
	}
	if !n.HasValue() {
		return b.xmlAdd(n, e, ops, b.xmlInner(n, e, ops))
	}
	op, err := b.operation(n, e, ops)
	if err != nil {
		return err
	}
	if len(e.Children) > 0 {
		return b.unknownIn(n, e.Children[0].Name.Local)
	}
	if tag, ok := e.Attr(nsDefault, "default"); ok && (tag == "true" || tag == "1") {
		return b.toDefault(n, op, e)
	}
	leaf, err := b.leaf(n, op, e.Text, xmlForm(e))
	if err != nil || !ops {
		return err
	}
	return b.insert(leaf, n, e)
}

// inner is a container or list entry that was read, and is not yet among what is
// around it.
type inner struct {
	b   *builder
	err error
}

// xmlInner reads a container or list entry. It only looks at b.
func (b *builder) xmlInner(n *schema.Node, e *xmltree.Element, ops bool) inner {
	op, err := b.operation(n, e, ops)
	if err != nil {
		return inner{err: err}
	}
	c := b.within(&edit.Node{Schema: n, Op: op})
	c.deleting = c.deleting || op == edit.Delete || op == edit.Remove
	return inner{c, c.xmlChildren(e, ops)}
}

// xmlAdd adds what xmlInner has read.
func (b *builder) xmlAdd(n *schema.Node, e *xmltree.Element, ops bool, in inner) error {
	if in.err != nil {
		return in.err
	}
	if ops {
		if err := b.insert(in.b.node, n, e); err != nil {
			return err
		}
	}
	return b.add(in.b)
}

// xmlForm is how values in an element are written: prefixes are those declared
// there.
func xmlForm(e *xmltree.Element) schema.Form {
	return schema.Form{Prefix: func(prefix string) (string, bool) {
		ns, _ := e.Lookup(prefix)
		module := schema.ModuleOf(ns)
		return module, module != ""
	}}
}

// toDefault reads a leaf that the client says has its default: it is not to be
// set (RFC 6243 section 4.5.2).
func (b *builder) toDefault(n *schema.Node, op edit.Op, e *xmltree.Element) error {
	v, err := n.Type.Parse(e.Text, xmlForm(e))
	if err != nil || n.Kind != schema.Leaf || !isDefault(n, v) || n.IsKey || op == edit.Delete || op == edit.Remove {
		return fail("invalid-value", b.child(n), n.Name, n.Name+" is said to be a default, and has another value")
	}
	_, err = b.leaf(n, edit.Remove, e.Text, xmlForm(e))
	return err
}

func (b *builder) unknownIn(leaf *schema.Node, name string) error {
	return fail("unknown-element", b.child(leaf), name, "element "+name+" within leaf "+leaf.Name)
}

var operations = map[string]edit.Op{
	"merge": edit.Merge, "replace": edit.Replace, "create": edit.Create, "delete": edit.Delete, "remove": edit.Remove,
}

// operation reads an element's attributes. Any but NETCONF's operation is
// refused: an attribute that asks for something must not be passed over.
func (b *builder) operation(n *schema.Node, e *xmltree.Element, ops bool) (edit.Op, error) {
	op := edit.None
	for _, a := range e.Attrs {
		bad := &rpcerr.Error{
			Type: rpcerr.Application, Tag: "unknown-attribute", Path: b.child(n),
			BadAttribute: a.Name.Local, BadElement: n.Name,
		}
		switch {
		case a.Name == xml.Name{Space: nsNETCONF, Local: "operation"} && ops:
			o, ok := operations[a.Value]
			if !ok {
				bad.Tag = "bad-attribute"
				bad.Message = "operation \"" + a.Value + "\": want merge, replace, create, delete or remove"
				return 0, bad
			}
			if n.IsKey && o != edit.Merge {
				bad.Tag = "bad-attribute"
				bad.Message = "an operation on a key: put it on the list's element"
				return 0, bad
			}
			op = o
		case a.Name == xml.Name{Space: nsDefault, Local: "default"} && ops && n.Kind == schema.Leaf:
			switch a.Value {
			case "true", "1", "false", "0":
			default:
				bad.Tag, bad.Message = "bad-attribute", "attribute default is no boolean"
				return 0, bad
			}
		case a.Name.Space == nsYANG && ops && (n.Kind == schema.List || n.Kind == schema.LeafList) &&
			(a.Name.Local == "insert" || a.Name.Local == "key" && n.Kind == schema.List || a.Name.Local == "value" && n.Kind == schema.LeafList):
			if !n.ByUser {
				bad.Message = "attribute " + a.Name.Local + ": " + n.Name + " is ordered by the system"
				return 0, bad
			}
		case a.Name.Local == "operation" && ops:
			bad.Message = "attribute operation is not in namespace " + nsNETCONF
			return 0, bad
		default:
			bad.Message = "attribute " + a.Name.Local + " is unknown here"
			return 0, bad
		}
	}
	return op, nil
}

// DecodeResourceXML reads the body of a RESTCONF request whose target is at:
// an element for the target itself. The edit has nodes without an operation
// down to it.
func DecodeResourceXML(e *xmltree.Element, at Path) (*edit.Node, error) {
	root, last := at.tree()
	if len(at) == 0 {
		if e.Name != (xml.Name{Space: nsRESTCONF, Local: "data"}) {
			return nil, badPath("unknown-element", e.Name.Local, "body: want <data> of module ietf-restconf")
		}
		return root, newBuilder(root, "").xmlChildren(e, false)
	}
	n := at.Schema()
	if e.Name != (xml.Name{Space: n.Namespace, Local: n.Name}) {
		return nil, badPath("unknown-element", e.Name.Local, "body: want <"+n.Name+" xmlns=\""+n.Namespace+"\">")
	}
	parent, err := at.xmlInto(e, at[:len(at)-1])
	if err != nil {
		return nil, err
	}
	return graft(root, last, parent, at)
}

// DecodeChildXML reads the body of a RESTCONF POST: an element for a child of
// the resource at parent, which is to be created. created is its path.
func DecodeChildXML(e *xmltree.Element, parent Path) (root *edit.Node, created Path, err error) {
	b, err := parent.xmlInto(e, parent)
	if err != nil {
		return nil, nil, err
	}
	return child(b, parent)
}

// xmlInto reads an element as a child of the node at parent.
func (p Path) xmlInto(e *xmltree.Element, parent Path) (*builder, error) {
	n := &edit.Node{Schema: parent.Schema()}
	b := newBuilder(n, strings.TrimSuffix(parent.String(), "/"))
	c := b.lookup(e)
	if n.Schema.HasValue() || c == nil {
		return nil, b.unknown(e.Name.Local)
	}
	return b, b.xmlChild(c, e, false)
}

// graft puts the one child that a builder has read into the place of last,
// the node at the end of root's only branch.
func graft(root, last *edit.Node, read *builder, at Path) (*edit.Node, error) {
	n := at.Schema()
	if n.IsKey { // the builder keeps keys apart
		last.Value = read.keys[slices.Index(n.Parent.Keys, n)]
		return root, nil
	}
	if len(read.node.Children) != 1 {
		return nil, badPath("invalid-value", n.Name, "body: want exactly one "+n.Name)
	}
	c := read.node.Children[0]
	if !slices.Equal(c.Keys, last.Keys) || n.Kind == schema.LeafList && c.Value != last.Value {
		return nil, badPath("invalid-value", n.Name, "body: the keys are not those of the target")
	}
	last.Value, last.Children = c.Value, c.Children
	return root, nil
}

// child makes an edit that creates the one node that a builder has read.
func child(read *builder, parent Path) (*edit.Node, Path, error) {
	if len(read.node.Children) != 1 {
		return nil, nil, badPath("invalid-value", "", "body: want exactly one child of the target, which is no key")
	}
	root, last := parent.tree()
	c := read.node.Children[0]
	c.Op = edit.Create
	last.Children = append(last.Children, c)
	keys := c.Keys
	if c.Schema.Kind == schema.LeafList {
		keys = []string{c.Value}
	}
	return root, append(slices.Clone(parent), Step{c.Schema, keys}), nil
}
