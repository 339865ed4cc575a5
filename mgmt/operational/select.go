package operational

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xmltree"
)

// Select returns what a subtree filter selects of a node at the top of the
// data tree, or nil (RFC 6241 section 6). A nil filter selects everything.
func (n *Node) Select(filter *xmltree.Element) *Node {
	if filter == nil {
		return n
	}
	return n.prune(n.Module, named(filter.Children, n.Module, n.Name))
}

// Wants says whether a filter can select anything of the node of a name.
func Wants(filter *xmltree.Element, n Name) bool {
	return filter == nil || len(named(filter.Children, n.Module, n.Name)) > 0
}

// named returns the elements that match a name. One without a namespace, or
// with that of <filter> itself, matches in every one (section 6.2.1); one with
// an attribute matches nothing, since our data have none.
func named(es []*xmltree.Element, module, name string) []*xmltree.Element {
	var out []*xmltree.Element
	for _, e := range es {
		ns := e.Name.Space
		if e.Name.Local == name && len(e.Attrs) == 0 && (ns == "" || ns == nsNETCONF || ns == schema.Namespace(module)) {
			out = append(out, e)
		}
	}
	return out
}

// Within returns what the children of an element select in the node, whose
// module is given.
func (n *Node) Within(module string, filter *xmltree.Element) *Node {
	e := *filter
	e.Name.Local = n.Name
	if p := n.prune(module, []*xmltree.Element{&e}); p != nil {
		return p
	}
	return n.Cut(1)
}

const nsNETCONF = "urn:ietf:params:xml:ns:netconf:base:1.0"

// contentMatch says whether an element is a content match node (section 6.2.5).
func contentMatch(e *xmltree.Element) bool {
	return len(e.Children) == 0 && strings.TrimSpace(e.Text) != ""
}

// prune returns what elements, which match the node's name, select of it.
func (n *Node) prune(module string, es []*xmltree.Element) *Node {
	var inside []*xmltree.Element // what the elements that match ask for
	for _, e := range es {
		switch {
		case len(e.Children) == 0 && !contentMatch(e):
			return n
		case n.Kind == Leaf || n.Kind == Item:
			if contentMatch(e) && n.has(strings.TrimSpace(e.Text)) {
				return n
			}
		case n.matches(module, e):
			if !slices.ContainsFunc(e.Children, func(c *xmltree.Element) bool { return !contentMatch(c) }) {
				return n
			}
			inside = append(inside, e.Children...)
		}
	}
	if inside == nil {
		return nil
	}
	out := *n
	out.Children = nil
	for _, c := range n.Children {
		if slices.Contains(n.Keys, c.Name) { // comes along with whatever is selected
			out.Children = append(out.Children, c)
			continue
		}
		own := module
		if c.Module != "" {
			own = c.Module
		}
		if found := named(inside, own, c.Name); len(found) > 0 {
			if p := c.prune(own, found); p != nil {
				out.Children = append(out.Children, p)
			}
		}
	}
	if len(out.Children) == 0 {
		return nil
	}
	return &out
}

// matches says whether every content match node directly in e holds.
func (n *Node) matches(module string, e *xmltree.Element) bool {
	for _, m := range e.Children {
		if contentMatch(m) && !slices.ContainsFunc(n.Children, func(c *Node) bool {
			own := module
			if c.Module != "" {
				own = c.Module
			}
			return len(named([]*xmltree.Element{m}, own, c.Name)) > 0 && c.has(strings.TrimSpace(m.Text))
		}) {
			return false
		}
	}
	return true
}

// has says whether a leaf has a value. The prefix of an identity is the
// client's own.
func (n *Node) has(value string) bool {
	if n.Type == Identity {
		if _, local, ok := strings.Cut(value, ":"); ok {
			value = local
		}
	}
	return n.Value == value
}

// Errors of Find.
var (
	ErrNotFound = errors.New("there is no such resource")
	ErrPath     = errors.New("the path is malformed")
)

// Find returns the node that the segments of a RESTCONF path name, still
// percent-encoded, the first of which is n itself (RFC 8040 section 3.5.3), and
// the module that it is in.
func (n *Node) Find(segments []string) (*Node, string, error) {
	module := n.Module
	for i, segment := range segments {
		name, keys, err := parseSegment(segment)
		if err != nil {
			return nil, "", err
		}
		own, local, qualified := strings.Cut(name, ":")
		if !qualified {
			own, local = "", name
		}
		in := n.Children
		if i == 0 {
			in = []*Node{n}
		}
		var found *Node
		for _, c := range in {
			m := module
			if c.Module != "" {
				m = c.Module
			}
			if c.Name != local || qualified && own != m || !qualified && m != module {
				continue
			}
			if c.Kind == Entry && !slices.Equal(c.key(), keys) || c.Kind == Item && !slices.Equal([]string{c.Value}, keys) {
				continue
			}
			if (c.Kind == Container || c.Kind == Leaf) && keys != nil {
				return nil, "", ErrPath
			}
			found, module = c, m
			break
		}
		if found == nil {
			return nil, "", ErrNotFound
		}
		n = found
	}
	return n, module, nil
}

func parseSegment(segment string) (name string, keys []string, err error) {
	name, values, keyed := strings.Cut(segment, "=")
	if name, err = url.PathUnescape(name); err != nil || name == "" {
		return "", nil, ErrPath
	}
	if keyed {
		for v := range strings.SplitSeq(values, ",") {
			if v, err = url.PathUnescape(v); err != nil {
				return "", nil, ErrPath
			}
			keys = append(keys, v)
		}
	}
	return name, keys, nil
}

// Cut returns the node with no more than so many levels, its own counted; 0
// means all (RFC 8040 section 4.8.2). An entry's keys are always there.
func (n *Node) Cut(depth int) *Node {
	if depth == 0 || len(n.Children) == 0 {
		return n
	}
	out := *n
	out.Children = nil
	for _, c := range n.Children {
		if depth > 1 {
			out.Children = append(out.Children, c.Cut(depth-1))
		} else if slices.Contains(n.Keys, c.Name) {
			out.Children = append(out.Children, c)
		}
	}
	return &out
}

// Keep returns the node with what keep names of it: true stands for all that is
// in a node, false for the way to others. Keys of entries are always there.
func (n *Node) Keep(keep map[*Node]bool) *Node {
	if keep[n] {
		return n
	}
	out := *n
	out.Children = nil
	for _, c := range n.Children {
		if _, named := keep[c]; named {
			out.Children = append(out.Children, c.Keep(keep))
		} else if slices.Contains(n.Keys, c.Name) {
			out.Children = append(out.Children, c)
		}
	}
	return &out
}
