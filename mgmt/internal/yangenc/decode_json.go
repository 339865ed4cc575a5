package yangenc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// value is a JSON value as it stands in the text: members in their order,
// numbers as written.
type value struct {
	kind    byte // '{', '[', '"' string, '0' number, 't' boolean, 'n' null
	text    string
	members []member
	items   []value
}

type member struct {
	name  string
	value value
}

// Limits of a JSON text: each value takes up to a hundred bytes of memory.
const (
	maxJSONDepth  = 64
	maxJSONValues = 4 << 20
)

// parseJSON reads one JSON text (RFC 8259), in which no name comes twice in an
// object (RFC 7951 section 4 builds on RFC 7493).
func parseJSON(text []byte) (value, error) { return parseBounded(text, maxJSONValues) }

// parseBounded reads a JSON text of at most so many values.
func parseBounded(text []byte, values int) (value, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := parseValue(d, maxJSONDepth, &values)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("text after the end of the JSON value")
		}
	}
	if err != nil {
		return value{}, &rpcerr.Error{
			Type: rpcerr.Protocol, Tag: "malformed-message",
			Message: fmt.Sprintf("JSON, byte %d: %v", d.InputOffset(), err),
		}
	}
	return v, nil
}

func parseValue(d *json.Decoder, depth int, left *int) (value, error) {
	token, err := d.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return value{}, err
	}
	if *left--; *left < 0 {
		return value{}, errors.New("too many values")
	}
	if depth == 0 {
		return value{}, fmt.Errorf("more than %d levels", maxJSONDepth)
	}
	switch token := token.(type) {
	case nil:
		return value{kind: 'n'}, nil
	case bool:
		return value{kind: 't', text: fmt.Sprint(token)}, nil
	case json.Number:
		return value{kind: '0', text: token.String()}, nil
	case string:
		return value{kind: '"', text: token}, nil
	case json.Delim:
		v := value{kind: byte(token)}
		names := map[string]bool{}
		for d.More() {
			name := ""
			if token == '{' {
				key, err := d.Token()
				if err != nil {
					return value{}, err
				}
				name, _ = key.(string) // the decoder takes nothing else here
				if names[name] {
					return value{}, fmt.Errorf("name %q comes twice in an object", name)
				}
				names[name] = true
			}
			c, err := parseValue(d, depth-1, left)
			if err != nil {
				return value{}, err
			}
			if token == '{' {
				v.members = append(v.members, member{name, c})
			} else {
				v.items = append(v.items, c)
			}
		}
		_, err := d.Token() // the closing bracket
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return v, err
	}
	return value{}, fmt.Errorf("unexpected %v", token)
}

// DecodeJSON reads a JSON object with nodes of the top level (RFC 7951), for
// example {"vita-esp-gateway:mtu": 1440}, if at is empty, and otherwise as
// DecodeResourceJSON does.
func DecodeJSON(text []byte, at Path) (*edit.Node, error) {
	if len(at) > 0 {
		return DecodeResourceJSON(text, at)
	}
	v, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	root := &edit.Node{Schema: schema.Root()}
	return root, newBuilder(root, "").jsonObject(v)
}

// jsonObject reads the members of an object as children of the builder's node.
func (b *builder) jsonObject(v value) error {
	if v.kind != '{' {
		return fail("invalid-value", b.path(), b.node.Schema.Name, "want a JSON object")
	}
	nodes := make([]*schema.Node, len(v.members))
	for i, m := range v.members {
		if nodes[i] = b.member(m.name); nodes[i] == nil {
			continue
		}
		if nodes[i].IsKey {
			if err := b.jsonChild(nodes[i], m.value); err != nil {
				return err
			}
		}
	}
	b.identify()
	for i, m := range v.members {
		switch {
		case nodes[i] == nil:
			return b.unknown(m.name)
		case nodes[i].IsKey:
			continue
		}
		if err := b.jsonChild(nodes[i], m.value); err != nil {
			return err
		}
	}
	return b.finish()
}

// member finds the node for a member's name. At the top the name has its
// module, elsewhere it must where the module changes (RFC 7951 section 4).
func (b *builder) member(name string) *schema.Node {
	module, local, qualified := strings.Cut(name, ":")
	if !qualified {
		if b.node.Schema.Parent == nil {
			return nil
		}
		module, local = "", name
	}
	return b.node.Schema.Child(module, local)
}

func (b *builder) jsonChild(n *schema.Node, v value) error {
	if err := b.admit(n); err != nil {
		return err
	}
	switch n.Kind {
	case schema.Leaf:
		return b.jsonValue(n, v)
	case schema.Container:
		return b.jsonNode(n, v)
	}
	if v.kind != '[' {
		return fail("invalid-value", b.child(n), n.Name, n.Name+": a "+n.Kind.String()+" is a JSON array")
	}
	for _, item := range v.items {
		if n.Kind == schema.LeafList {
			if err := b.jsonValue(n, item); err != nil {
				return err
			}
			continue
		}
		if err := b.jsonNode(n, item); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) jsonNode(n *schema.Node, v value) error {
	c := b.within(&edit.Node{Schema: n})
	if err := c.jsonObject(v); err != nil {
		return err
	}
	return b.add(c)
}

// jsonValue reads a leaf's value, of the JSON type that the leaf's type has (RFC
// 7951 section 6).
func (b *builder) jsonValue(n *schema.Node, v value) error {
	text, kind := v.text, v.kind
	switch {
	case kind == '[' && (len(v.items) != 1 || v.items[0].kind != 'n'), kind == '{', kind == 'n':
		return fail("invalid-value", b.child(n), n.Name, n.Name+": no value of a leaf is written like that")
	case kind == '0' && strings.ContainsAny(text, ".eE"):
		var ok bool
		if text, ok = integer(text); !ok {
			return fail("invalid-value", b.child(n), n.Name, n.Name+": "+v.text+" is no integer")
		}
	}
	_, err := b.leaf(n, edit.None, text, schema.Form{JSON: kind})
	return err
}

// integer writes a JSON number with a fraction or an exponent as an integer, if it
// is one.
func integer(text string) (string, bool) {
	sign := ""
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		sign, text = "-", rest
	}
	mantissa, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		n, err := strconv.Atoi(text[i+1:])
		if err != nil || n < -20 || n > 20 { // no leaf has a value with more digits
			return "", false
		}
		mantissa, exponent = text[:i], n
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits, point := whole+fraction, len(whole)+exponent
	for len(digits) < point {
		digits += "0"
	}
	if point < 0 {
		digits, point = strings.Repeat("0", -point)+digits, 0
	}
	if strings.Trim(digits[point:], "0") != "" {
		return "", false
	}
	whole = strings.TrimLeft(digits[:point], "0")
	if whole == "" {
		return "0", true
	}
	return sign + whole, true
}

// DecodeResourceJSON reads the body of a RESTCONF request whose target is at:
// an object with one member for the target itself. The edit has nodes without
// an operation down to it.
func DecodeResourceJSON(text []byte, at Path) (*edit.Node, error) {
	v, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	m, err := single(v)
	if err != nil {
		return nil, err
	}
	root, last := at.tree()
	if len(at) == 0 {
		if m.name != "ietf-restconf:data" {
			return nil, badPath("unknown-element", m.name, "body: want {\"ietf-restconf:data\": ...}")
		}
		return root, newBuilder(root, "").jsonObject(m.value)
	}
	n := at.Schema()
	if m.name != n.Module+":"+n.Name {
		return nil, badPath("unknown-element", m.name, "body: want {\""+n.Module+":"+n.Name+"\": ...}")
	}
	b, err := jsonInto(m, at[:len(at)-1])
	if err != nil {
		return nil, err
	}
	return graft(root, last, b, at)
}

// DecodeChildJSON reads the body of a RESTCONF POST: an object with one member
// for a child of the resource at parent, which is to be created. created is
// its path.
func DecodeChildJSON(text []byte, parent Path) (root *edit.Node, created Path, err error) {
	v, err := parseJSON(text)
	if err != nil {
		return nil, nil, err
	}
	m, err := single(v)
	if err != nil {
		return nil, nil, err
	}
	b, err := jsonInto(m, parent)
	if err != nil {
		return nil, nil, err
	}
	return child(b, parent)
}

func single(v value) (member, error) {
	if v.kind != '{' || len(v.members) != 1 {
		return member{}, badPath("malformed-message", "", "body: want a JSON object with exactly one member")
	}
	return v.members[0], nil
}

// jsonInto reads a member, whose name has its module, as a child of the node
// at parent.
func jsonInto(m member, parent Path) (*builder, error) {
	n := &edit.Node{Schema: parent.Schema()}
	b := newBuilder(n, strings.TrimSuffix(parent.String(), "/"))
	module, local, qualified := strings.Cut(m.name, ":")
	var c *schema.Node
	if qualified && !n.Schema.HasValue() {
		c = n.Schema.Child(module, local)
	}
	if c == nil {
		return nil, b.unknown(m.name)
	}
	return b, b.jsonChild(c, m.value)
}
