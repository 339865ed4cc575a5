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
	node       *edit.Node
	above      *builder       // of the node around it; nil for the outermost
	base       string         // instance path of the outermost
	keys       []string       // of a list entry, by the order of its keys
	identified bool           // all of them are known
	seen       []*schema.Node // keys, leafs and containers within node
	entries    []listed       // within node, of each list
	deleting   bool           // node or one above it is deleted: values do not matter
}

// listed are the entries of a list, or the values of a leaf-list, that were seen. Most
// lists within lists have one.
type listed struct {
	list  *schema.Node
	first string
	more  map[string]bool
}

// newBuilder returns the builder of the outermost node, whose instance path is
// given.
func newBuilder(n *edit.Node, path string) *builder {
	b := &builder{node: n, base: path}
	if n.Schema.Kind == schema.List {
		b.keys = make([]string, len(n.Schema.Keys))
	}
	return b
}

// within returns the builder of a node within b's.
func (b *builder) within(n *edit.Node) *builder {
	c := newBuilder(n, "")
	c.above, c.deleting = b, b.deleting
	return c
}

// path returns the instance path of the builder's node, without keys until all are
// known. It is for errors alone.
func (b *builder) path() string {
	if b.above == nil && !b.identified {
		return b.base
	}
	var room [128]byte
	return string(b.appendPath(room[:0]))
}

func (b *builder) appendPath(p []byte) []byte {
	var keys []string
	if b.identified {
		keys = b.keys
	}
	if b.above == nil {
		return schema.AppendKeys(append(p, b.base...), b.node.Schema, keys)
	}
	return b.node.Schema.AppendStep(b.above.appendPath(p), keys)
}

func (b *builder) child(n *schema.Node) string { return b.path() + "/" + n.QName() }

// fail returns an error of the request about an element or member.
func fail(tag, path, element, message string) error {
	return &rpcerr.Error{Type: rpcerr.Application, Tag: tag, Path: path, BadElement: element, Message: message}
}

func (b *builder) unknown(name string) error {
	where := "at the top of the model"
	path := b.path()
	if path != "" {
		where = "in " + path
	}
	return fail("unknown-element", path, name, "there is no "+name+" "+where)
}

// admit checks that a child may be in an edit, and may be here once more.
func (b *builder) admit(n *schema.Node) error {
	if !n.Config {
		return fail("invalid-value", b.child(n), n.Name, n.Name+" is state and cannot be written")
	}
	if n.Kind == schema.List || n.Kind == schema.LeafList {
		return nil
	}
	if slices.Contains(b.seen, n) {
		return fail("bad-element", b.child(n), n.Name, n.Name+" comes twice")
	}
	if b.seen == nil {
		b.seen = make([]*schema.Node, 0, 8)
	}
	b.seen = append(b.seen, n)
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
	b.keys[slices.Index(b.node.Schema.Keys, n)] = value
	return nil, nil //nolint:nilnil // keys are no nodes of an edit
}

// once refuses an entry or a value that comes twice.
func (b *builder) once(n *schema.Node, key string) error {
	i := slices.IndexFunc(b.entries, func(e listed) bool { return e.list == n })
	if i < 0 {
		b.entries = append(b.entries, listed{list: n, first: key})
		return nil
	}
	of := &b.entries[i]
	if key == of.first || of.more[key] {
		path := n.AppendStep([]byte(b.path()), strings.Split(key, schema.Separator))
		return fail("bad-element", string(path), n.Name, "the entry comes twice")
	}
	if of.more == nil {
		of.more = map[string]bool{}
	}
	of.more[key] = true
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
		case slices.Contains(b.seen, k):
		case len(k.Default) == 1: // Vita lets such keys be left out
			b.keys[i] = k.Default[0]
		default:
			return fail("missing-element", b.path(), k.Name, "an entry of "+n.Name+" needs its key "+k.Name)
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

// identify notes whether all keys of a list entry were seen: errors of what is in
// it name the entry then.
func (b *builder) identify() {
	b.identified = !slices.ContainsFunc(b.node.Schema.Keys, func(k *schema.Node) bool { return !slices.Contains(b.seen, k) })
}
