package nacm

import (
	"slices"

	"vita/mgmt/operational"
)

// Prune returns what of a node at the top of the data may be read, nil for
// nothing. A node that may not be read stands where something within it may, with
// the keys of entries.
func (a *Access) Prune(n *operational.Node) *operational.Node {
	if n == nil {
		return nil
	}
	return a.Root(Read).prune(n, n.Module)
}

// named returns the cursor at a node of operational data, whose module is given.
func (c *Cursor) named(n *operational.Node, module string) *Cursor {
	return c.Named(module, n.Name, func(key string) (string, bool) {
		if key == "." && n.Kind == operational.Item {
			return n.Value, true
		}
		for _, k := range n.Children {
			if k.Name == key && slices.Contains(n.Keys, key) {
				return k.Value, true
			}
		}
		return "", false
	})
}

func (c *Cursor) prune(n *operational.Node, module string) *operational.Node {
	c = c.named(n, module)
	if c == nil {
		return n
	}
	if c.None() {
		return nil
	}
	out := *n
	out.Children = nil
	inside := false
	for _, k := range n.Children {
		own := module
		if k.Module != "" {
			own = k.Module
		}
		p := c.prune(k, own)
		isKey := slices.Contains(n.Keys, k.Name)
		if p == nil && isKey {
			p = k
		}
		if p != nil {
			out.Children = append(out.Children, p)
			inside = inside || !isKey
		}
	}
	if !inside && !c.Permits() {
		return nil
	}
	return &out
}
