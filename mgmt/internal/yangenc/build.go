package yangenc

import (
	"slices"
	"strings"

	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// builder makes the nodes of an edit for both encodings, checks their values,
// and finds what comes twice or does not go together.
type builder struct {
	node     *edit.Node
	base     string                           // instance path of node without its keys
	path     string                           // and with them, once they are known
	keys     []string                         // of a list entry, by the order of its keys
	hasKey   []bool                           // which of them were seen
	seen     map[*schema.Node]bool            // leafs and containers within node
	entries  map[*schema.Node]map[string]bool // list entries within node
	deleting bool                             // node or one above it is deleted: values do not matter
}

func newBuilder(n *edit.Node, path string, deleting bool) *builder {
	b := &builder{node: n, base: path, path: path, deleting: deleting}
	if n.Schema.Kind == schema.List {
		b.keys = make([]string, len(n.Schema.Keys))
		b.hasKey = make([]bool, len(n.Schema.Keys))
	}
	return b
}

func (b *builder) child(n *schema.Node) string { return b.path + "/" + n.QName() }

// fail returns an error of the request about an element or member.
func fail(tag, path, element, message string) error {
	return &rpcerr.Error{Type: rpcerr.Application, Tag: tag, Path: path, BadElement: element, Message: message}
}

func (b *builder) unknown(name string) error {
	where := "at the top of the model"
	if b.path != "" {
		where = "in " + b.path
	}
	return fail("unknown-element", b.path, name, "there is no "+name+" "+where)
}

// admit checks that a child may be in an edit, and may be here once more.
func (b *builder) admit(n *schema.Node) error {
	if !n.Config {
		return fail("invalid-value", b.child(n), n.Name, n.Name+" is state and cannot be written")
	}
	if n.Kind == schema.List || n.Kind == schema.LeafList {
		return nil
	}
	if b.seen[n] {
		return fail("bad-element", b.child(n), n.Name, n.Name+" comes twice")
	}
	if b.seen == nil {
		b.seen = map[*schema.Node]bool{}
	}
	b.seen[n] = true
	return nil
}

// leaf adds a leaf, or a value of a leaf-list, in any of its lexical forms.
func (b *builder) leaf(n *schema.Node, op edit.Op, text string, in schema.Form) (*edit.Node, error) {
	deleting := (b.deleting || op == edit.Delete || op == edit.Remove) && n.Kind == schema.Leaf
	value := ""
	if !deleting || n.IsKey {
		v, err := n.Type.Parse(text, in)
		if err != nil {
			return nil, fail("invalid-value", b.child(n), n.Name, n.Name+": "+redact(n, text, err.Error()))
		}
		value = v
	}
	if !n.IsKey {
		if n.Kind == schema.LeafList {
			if err := b.once(n, value); err != nil {
				return nil, err
			}
		}
		e := &edit.Node{Schema: n, Op: op, Value: value}
		b.node.Children = append(b.node.Children, e)
		return e, nil
	}
	for i, k := range b.node.Schema.Keys {
		if k == n {
			b.keys[i], b.hasKey[i] = value, true
		}
	}
	return nil, nil //nolint:nilnil // keys are no nodes of an edit
}

// once refuses an entry or a value that comes twice.
func (b *builder) once(n *schema.Node, key string) error {
	if b.entries == nil {
		b.entries = map[*schema.Node]map[string]bool{}
	}
	if b.entries[n] == nil {
		b.entries[n] = map[string]bool{}
	}
	if b.entries[n][key] {
		keys := strings.Split(key, schema.Separator)
		return fail("bad-element", entryPath(b.child(n), n, keys), n.Name, "the entry comes twice")
	}
	b.entries[n][key] = true
	return nil
}

// redact keeps secrets out of messages, which are logged.
func redact(n *schema.Node, text, message string) string {
	if n.Secret && text != "" && strings.Contains(message, text) {
		return "the value does not match its type"
	}
	return message
}

// finish completes a list entry's keys, and checks what came together.
func (b *builder) finish() error {
	n := b.node.Schema
	for i, k := range n.Keys {
		switch {
		case b.hasKey[i]:
		case len(k.Default) == 1: // Vita lets such keys be left out
			b.keys[i] = k.Default[0]
		default:
			return fail("missing-element", b.path, k.Name, "an entry of "+n.Name+" needs its key "+k.Name)
		}
	}
	b.node.Keys = b.keys
	return b.oneCase()
}

// oneCase refuses nodes of more than one case of a choice.
func (b *builder) oneCase() error {
	if len(b.node.Schema.Choices) == 0 {
		return nil
	}
	chosen := map[*schema.Choice]*edit.Node{}
	for _, c := range b.node.Children {
		if c.Op == edit.Delete || c.Op == edit.Remove {
			continue
		}
		for in := c.Schema.Case; in != nil; in = in.Choice.Case {
			other := chosen[in.Choice]
			if other != nil && !other.Schema.Within(in) {
				return fail("bad-element", b.child(c.Schema), c.Schema.Name,
					c.Schema.Name+" and "+other.Schema.Name+" exclude each other")
			}
			chosen[in.Choice] = c
		}
	}
	return nil
}

// add adds a finished container or list entry.
func (b *builder) add(c *builder) error {
	n := c.node.Schema
	if n.Kind == schema.List {
		if err := b.once(n, strings.Join(c.node.Keys, schema.Separator)); err != nil {
			return err
		}
	}
	b.node.Children = append(b.node.Children, c.node)
	return nil
}

// identify adds the keys of a list entry to its path, if all were seen, so
// that errors of what is in it name the entry.
func (b *builder) identify() {
	if n := b.node.Schema; n.Kind == schema.List && !slices.Contains(b.hasKey, false) {
		b.path = entryPath(b.base, n, b.keys)
	}
}

func entryPath(base string, list *schema.Node, keys []string) string {
	var s strings.Builder
	s.WriteString(base)
	schema.WriteKeys(&s, list, keys)
	return s.String()
}
