package nacm

import (
	"sync"

	"vita/mgmt/internal/schema"
)

// Cursor is what may be done at a place of the data, and within it, by one access
// operation. A nil Cursor permits everything from there on.
type Cursor struct {
	a      *Access
	write  bool
	schema *schema.Node // nil where there is no schema
	module string       // of the node
	denied bool         // the model denies it unless a rule permits it, here or further up
	rules  []live       // those that hit this node, or can hit one within it, in order

	verdict verdict
	plain   bool // everything from here on is permitted but secrets

	mu   sync.Mutex
	kids map[child]*Cursor
}

// live is a rule of whose path so many steps are matched. With all of them
// matched it hits the node, and what is within, as far as its module goes.
type live struct {
	*rule
	at int
}

func (l live) whole() bool { return l.at == len(l.steps) }

// verdict says how far a decision goes.
type verdict uint8

const (
	mixed verdict = iota // it has to be asked further down
	all                  // everything from here on is permitted
	none                 // nothing is
)

type child struct{ module, name string }

// open returns nil in the place of a cursor that permits everything.
func (c *Cursor) open() *Cursor {
	if c != nil && c.verdict == all {
		return nil
	}
	return c
}

// None says that nothing is permitted from here on.
func (c *Cursor) None() bool { return c != nil && c.verdict == none }

// Plain says that everything from here on is permitted, but for secrets, which
// nobody can read.
func (c *Cursor) Plain() bool { return c == nil || c.plain }

// Permits says whether the node itself may be accessed (section 3.4.5).
func (c *Cursor) Permits() bool {
	if c == nil {
		return true
	}
	for _, r := range c.rules {
		if r.whole() && (r.Module == "*" || r.Module == c.module) {
			return r.Permit
		}
	}
	return !c.denied && c.byDefault()
}

func (c *Cursor) byDefault() bool {
	if c.write {
		return c.a.policy.c.WriteDefault
	}
	return c.a.policy.c.ReadDefault
}

// Child returns the cursor at a child that is not an entry of a list, or at a
// list as a whole.
func (c *Cursor) Child(n *schema.Node) *Cursor {
	if c == nil || c.verdict == none {
		return c
	}
	return c.step(n.Module, n.Name, n, nil).open()
}

// Alike returns the cursor that all entries of a list, or values of a leaf-list,
// share; ok is false where some rule tells them apart.
func (c *Cursor) Alike(list *schema.Node) (shared *Cursor, ok bool) {
	if c == nil || c.verdict == none {
		return c, true
	}
	for _, r := range c.rules {
		if !r.whole() && r.steps[r.at].is(list.Module, list.Name) && len(r.steps[r.at].keys) > 0 {
			return nil, false
		}
	}
	return c.Child(list), true
}

// Entry returns the cursor at an entry of a list, or a value of a leaf-list, by
// its keys.
func (c *Cursor) Entry(list *schema.Node, keys []string) *Cursor {
	if c == nil || c.verdict == none {
		return c
	}
	return c.step(list.Module, list.Name, list, func(name string) (string, bool) {
		for i, k := range list.Keys {
			if k.Name == name {
				return keys[i], true
			}
		}
		if name == "." && len(list.Keys) == 0 && len(keys) == 1 {
			return keys[0], true
		}
		return "", false
	}).open()
}

// Named returns the cursor at a child that no schema is known of. value returns
// the values of an entry's keys; nil where it has none.
func (c *Cursor) Named(module, name string, value func(key string) (string, bool)) *Cursor {
	if c == nil || c.verdict == none {
		return c
	}
	return c.step(module, name, nil, value).open()
}

func (c *Cursor) step(module, name string, n *schema.Node, value func(string) (string, bool)) *Cursor {
	// Entries that no rule tells from others share a cursor.
	special := false
	if value != nil {
		for _, r := range c.rules {
			if !r.whole() && r.steps[r.at].is(module, name) && len(r.steps[r.at].keys) > 0 && c.matches(r.steps[r.at], value) {
				special = true
			}
		}
	}
	id := child{module, name}
	if !special {
		if value == nil { // a list as a whole: rules for single entries do not hit it
			value = nothing
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if k := c.kids[id]; k != nil {
			return k
		}
	}
	k := &Cursor{a: c.a, write: c.write, module: module, schema: n, denied: c.denied}
	if n != nil {
		k.denied = k.denied || n.DenyAll || n.DenyWrite && c.write
	}
	for _, r := range c.rules {
		switch {
		case r.whole():
			k.rules = append(k.rules, r)
		case r.steps[r.at].is(module, name) && c.matches(r.steps[r.at], value):
			k.rules = append(k.rules, live{r.rule, r.at + 1})
		}
	}
	k.settle()
	if !special {
		if c.kids == nil {
			c.kids = map[child]*Cursor{}
		}
		c.kids[id] = k
	}
	return k
}

func nothing(string) (string, bool) { return "", false }

func (s *step) is(module, name string) bool { return s.name == name && s.module == module }

// matches says whether the keys that a step names have its values.
func (c *Cursor) matches(s step, value func(string) (string, bool)) bool {
	for _, k := range s.keys {
		want := k.value
		if k.user {
			want = c.a.user
		}
		if v, ok := value(k.name); !ok || v != want {
			return false
		}
	}
	return true
}

// settle finds out whether everything from here on is decided alike, and forgets
// the rules that nothing gets to.
func (c *Cursor) settle() *Cursor {
	permits, denies := false, false
	decided := false
	for i, r := range c.rules {
		if r.whole() && !c.has(r.Module) || !r.whole() && !c.leads(r) {
			continue
		}
		if r.Permit {
			permits = true
		} else {
			denies = true
		}
		if r.whole() && c.only(r.Module) {
			c.rules = c.rules[: i+1 : i+1]
			decided = true
			break
		}
	}
	denied := denies // by rules
	if !decided {
		switch {
		case !c.byDefault() || c.denied:
			denies = true
		case c.schema == nil || !holds(c.schema, c.write):
			permits = true
		default:
			permits, denies = true, true
		}
	}
	// Secrets are the one thing that the model denies and no reader asks for.
	c.plain = !denies || permits && !denied && c.byDefault() && !c.denied && c.schema != nil && !of(c.schema).denyMore
	switch {
	case !denies:
		c.verdict = all
	case !permits:
		c.verdict = none
	}
	return c
}

// has says whether a module may have nodes at the cursor or within.
func (c *Cursor) has(module string) bool {
	return module == "*" || module == c.module || c.schema == nil || c.schema.Parent == nil || modules(c.schema)[module]
}

// only says whether all nodes at the cursor and within are in a module.
func (c *Cursor) only(module string) bool {
	if module == "*" {
		return true
	}
	return c.schema != nil && c.schema.Parent != nil && module == c.module && len(modules(c.schema)) == 1
}

// leads says whether a rule's next step can be a child.
func (c *Cursor) leads(r live) bool {
	next := r.steps[r.at]
	if c.schema == nil || c.schema.Parent == nil && !hasNodes(next.module) {
		return true
	}
	for _, n := range c.schema.Children {
		if n.Name == next.name && n.Module == next.module {
			return true
		}
	}
	return false
}

// facts are what is known of a schema node and all that is within it.
type facts struct {
	modules             map[string]bool
	denyAll, denyWrites bool
	denyMore            bool // default-deny-all of something that is no secret
}

var known sync.Map // *schema.Node: *facts

func of(n *schema.Node) *facts {
	if v, ok := known.Load(n); ok {
		if f, ok := v.(*facts); ok {
			return f
		}
	}
	f := &facts{modules: map[string]bool{}, denyAll: n.DenyAll, denyWrites: n.DenyAll || n.DenyWrite, denyMore: n.DenyAll && !n.Secret}
	if n.Parent != nil {
		f.modules[n.Module] = true
	}
	for _, c := range n.Children {
		in := of(c)
		for m := range in.modules {
			f.modules[m] = true
		}
		f.denyAll, f.denyWrites, f.denyMore = f.denyAll || in.denyAll, f.denyWrites || in.denyWrites, f.denyMore || in.denyMore
	}
	known.Store(n, f)
	return f
}

func modules(n *schema.Node) map[string]bool { return of(n).modules }

// holds says whether the model denies access to something at a node or within.
func holds(n *schema.Node, write bool) bool {
	if write {
		return of(n).denyWrites
	}
	return of(n).denyAll
}
