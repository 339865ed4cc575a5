package edit

import (
	"slices"
	"sync"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/nav"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xpath"
)

// conditions are the when statements of the model.
type conditions struct {
	root *schema.Node
	// order has the nodes with a when: one whose condition looks at another comes
	// behind that.
	order []*schema.Node
	// on says, for a leaf, which nodes have to be looked at when it changes.
	on map[*schema.Node][]dependent
}

type dependent struct {
	n   *schema.Node
	own bool // those in the entry of the leaf, or below, alone
}

var (
	conditionsMu  sync.Mutex
	conditionsNow *conditions
)

// conditional returns the conditions of the model in use.
func conditional() *conditions {
	conditionsMu.Lock()
	defer conditionsMu.Unlock()
	root := schema.Root()
	if conditionsNow != nil && conditionsNow.root == root {
		return conditionsNow
	}
	c := &conditions{root: root, on: map[*schema.Node][]dependent{}}
	reads := map[*schema.Node][]xpath.Read{}
	root.Walk(func(n *schema.Node) {
		if len(n.When) == 0 || !n.Config {
			return
		}
		seen := map[xpath.Read]bool{}
		for i, e := range nav.Whens(n, n.When) {
			context := n
			if n.When[i].Around {
				context = n.Parent
			}
			for _, r := range e.Reads(context) {
				if r.Node.Config && !seen[r] {
					seen[r] = true
					reads[n] = append(reads[n], r)
					c.on[r.Node] = append(c.on[r.Node], dependent{n, r.Own})
				}
			}
		}
	})
	// Those that others look at come first.
	state := map[*schema.Node]bool{}
	var visit func(n *schema.Node)
	visit = func(n *schema.Node) {
		if state[n] {
			return
		}
		state[n] = true
		for _, r := range reads[n] {
			for at := r.Node; at != nil; at = at.Parent {
				if reads[at] != nil || len(at.When) > 0 {
					visit(at)
				}
			}
		}
		c.order = append(c.order, n)
	}
	root.Walk(func(n *schema.Node) {
		if len(n.When) > 0 && n.Config {
			visit(n)
		}
	})
	conditionsNow = c
	return c
}

// Settle removes the nodes whose when does not hold any more after the changes of
// a journal (RFC 7950 section 8.2), and returns the journal of that. If the
// changes have made or set such a node themselves it is an error instead (section
// 8.3.2), unless they are lenient; nothing is removed then.
func Settle(tree data.Tree, j Journal, lenient bool) (Journal, error) {
	c := conditional()
	if len(c.order) == 0 || len(j) == 0 {
		return nil, nil
	}
	s := &settler{conditions: c, ed: editor{tree: tree}, changes: j, lenient: lenient, open: map[*schema.Node]map[string]*data.Place{}}
	for i := range j {
		s.changed(&j[i])
	}
	// Removals concern only nodes that come later, unless the modules have
	// conditions in a circle, which is not followed forever.
	for range mostRounds {
		for _, n := range c.order {
			places := s.open[n]
			delete(s.open, n)
			for _, path := range sortedKeys(places) {
				if err := s.check(n, places[path]); err != nil {
					s.ed.journal.Undo(tree)
					return nil, err
				}
			}
		}
		if len(s.open) == 0 {
			break
		}
	}
	return s.ed.journal, nil
}

const mostRounds = 100

func sortedKeys(m map[string]*data.Place) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

type settler struct {
	*conditions
	ed      editor
	changes Journal // of the edit
	lenient bool
	open    map[*schema.Node]map[string]*data.Place // where nodes are to be looked at: what they stand in
}

func (s *settler) look(n *schema.Node, in *data.Place) {
	if s.open[n] == nil {
		s.open[n] = map[string]*data.Place{}
	}
	s.open[n][in.Path()] = in
}

// changed notes what has to be looked at since a leaf has changed.
func (s *settler) changed(c *Change) {
	if c.HasNew {
		if len(c.Leaf.When) > 0 {
			s.look(c.Leaf, c.Place)
		}
		for p := c.Place; p != nil; p = p.Parent {
			if len(p.Node.When) > 0 {
				s.look(p.Node, p.Parent)
			}
		}
	}
	for _, d := range s.on[c.Leaf] {
		var from *data.Place
		if d.own {
			from = c.Place.Entry()
		}
		at := from.Find(s.ed.tree)
		if !at.Exists() {
			continue // gone with all that is in it
		}
		from.Below(at, d.n.Parent, func(p *data.Place, in data.Struct) bool {
			if in.Has(d.n) {
				s.look(d.n, p)
			}
			return true
		})
	}
}

// check looks at a node in a place, at all of its entries or values.
func (s *settler) check(n *schema.Node, in *data.Place) error {
	if st := in.Find(s.ed.tree); !st.Exists() || !st.Has(n) {
		return nil
	}
	data.Own(s.ed.tree, in)
	st := in.Find(s.ed.tree)
	context := nav.At(s.ed.tree, in, nav.Everything())
	if context == nil {
		return nil
	}
	start := len(s.ed.journal)
	switch n.Kind {
	case schema.LeafList:
		var kept []string
		for _, v := range st.Values(n) {
			if context.AppliesTo(n, context.ChildValue(n, v)) {
				kept = append(kept, v)
			} else if s.touched(n, in, v, nil) {
				return notThere(ValuePath(in, n, v), n)
			}
		}
		if len(kept) == 0 {
			s.ed.clear(in, st, n)
		} else {
			s.ed.set(in, st, n, joined(kept))
		}
	case schema.List:
		for _, e := range st.Sorted(n) {
			if context.AppliesTo(n, context.Child(n, e)) {
				continue
			}
			at := &data.Place{Parent: in, Node: n, Keys: e.Keys(n)}
			if s.touched(n, in, "", at.Keys) {
				return notThere(at.Path(), n)
			}
			s.ed.removeEntry(at, st)
		}
	default:
		if context.Applies(n) {
			return nil
		}
		if s.touched(n, in, "", nil) {
			return notThere(in.Child(n), n)
		}
		s.ed.remove(in, st, n)
	}
	in.Prune(s.ed.tree)
	for i := start; i < len(s.ed.journal); i++ {
		s.changed(&s.ed.journal[i])
	}
	return nil
}

func notThere(path string, n *schema.Node) error {
	e := rpcerr.New("unknown-element", path, "%s is not there under the conditions that it has (when): %s", n.Name, n.When[0].Expr)
	e.BadElement = n.Name
	return e
}

// touched says whether the edit itself has made or set something of a node.
func (s *settler) touched(n *schema.Node, in *data.Place, value string, keys []string) bool {
	if s.lenient {
		return false
	}
	for i := range s.changes {
		c := &s.changes[i]
		if !c.HasNew {
			continue
		}
		if c.Leaf == n && c.Place.Same(in) {
			if n.Kind != schema.LeafList || !c.HadOld || !slices.Contains(split(c.Old), value) {
				return true
			}
		}
		for p := c.Place; p != nil; p = p.Parent {
			if p.Node == n && p.Parent.Same(in) && (keys == nil || slices.Equal(p.Keys, keys)) {
				return true
			}
		}
	}
	return false
}
