package yangenc

import (
	"strings"

	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xmltree"
)

// nsYANG is the namespace of the attributes insert, key and value (RFC 7950
// sections 7.7.9, 7.8.6).
const nsYANG = "urn:ietf:params:xml:ns:yang:1"

var inserts = map[string]edit.Insert{"first": edit.First, "last": edit.Last, "before": edit.Before, "after": edit.After}

// insert reads the attributes that say where an entry or a value goes. node is
// nil for a key.
func (b *builder) insert(node *edit.Node, n *schema.Node, e *xmltree.Element) error {
	where, is := e.Attr(nsYANG, "insert")
	key, hasKey := e.Attr(nsYANG, "key")
	value, hasValue := e.Attr(nsYANG, "value")
	if !is && !hasKey && !hasValue || node == nil {
		return nil
	}
	bad := func(attribute, message string) error {
		return &rpcerr.Error{
			Type: rpcerr.Application, Tag: "bad-attribute", Path: b.child(n), BadAttribute: attribute, BadElement: n.Name,
			Message: "attribute " + attribute + ": " + message,
		}
	}
	var ok bool
	if node.Insert, ok = inserts[where]; !ok {
		return bad("insert", "want first, last, before or after")
	}
	relative := node.Insert == edit.Before || node.Insert == edit.After
	if relative != (hasKey || hasValue) {
		name := "key"
		if n.Kind == schema.LeafList {
			name = "value"
		}
		return &rpcerr.Error{
			Type: rpcerr.Application, Tag: "missing-attribute", Path: b.child(n), BadAttribute: name, BadElement: n.Name,
			Message: "before and after need the attribute " + name + ", first and last have none",
		}
	}
	switch {
	case hasValue:
		v, err := n.Type.Parse(value, xmlForm(e))
		if err != nil {
			return bad("value", err.Error())
		}
		node.Point = []string{v}
	case hasKey:
		keys, err := keyPredicates(n, key, xmlForm(e))
		if err != nil {
			return bad("key", err.Error())
		}
		node.Point = keys
	}
	return nil
}

// keyPredicates reads the value of the attribute key, such as
// "[ex:name='fred'][ex:surname='flintstone']".
func keyPredicates(list *schema.Node, text string, in schema.Form) ([]string, error) {
	// As the last step of an instance-identifier, in the same namespaces.
	steps, err := schema.EntryStep(list, strings.TrimSpace(text), in)
	if err != nil {
		return nil, err
	}
	return steps, nil
}

// Insert sets where the entry or value that a path names goes within an edit;
// point is the RESTCONF path of another one of the same list (RFC 8040 sections
// 4.8.5, 4.8.6).
func (p Path) Insert(root *edit.Node, insert, point string) error {
	bad := func(message string) error { return badPath("invalid-value", "", message) }
	where, ok := inserts[insert]
	if !ok {
		return bad("insert=" + insert + ": want first, last, before or after")
	}
	if len(p) == 0 || !p.Schema().ByUser || p.Whole() {
		return bad("insert: " + p.String() + " is in no list that users order")
	}
	last := p[len(p)-1]
	if relative := where == edit.Before || where == edit.After; relative != (point != "") {
		return bad("insert=before and insert=after need the parameter point, others have none")
	}
	var keys []string
	if point != "" {
		at, err := ParseRESTCONF(strings.Trim(point, "/"))
		if err != nil {
			return err
		}
		if len(at) != len(p) || at[len(at)-1].Schema != last.Schema || at[len(at)-1].Keys == nil ||
			at[:len(at)-1].String() != p[:len(p)-1].String() {
			return bad("point=" + point + " is no entry of the same list as " + p.String())
		}
		keys = at[len(at)-1].Keys
	}
	n := p.node(root)
	if n == nil {
		return bad("insert: the edit has no " + p.String())
	}
	n.Insert, n.Point = where, keys
	return nil
}
