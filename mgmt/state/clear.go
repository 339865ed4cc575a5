package state

import (
	"strconv"
	"strings"
	"sync"

	"vita/gen"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/schema"
)

// Clearable returns a source of state whose counters can be made to begin at
// zero. Where they come from nothing is set back: what they were at that moment
// is taken from what they are, of every leaf that is a counter.
func Clearable(fill datastore.State) (cleared datastore.State, clearCounters func()) {
	z := &zero{fill: fill}
	return z.read, z.clear
}

type zero struct {
	fill datastore.State

	mu   sync.Mutex
	base *gen.Vita // the state when it was cleared; nil: never
}

func (z *zero) clear() {
	base := &gen.Vita{}
	z.fill(base, datastore.Everything)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.base = base
}

func (z *zero) read(root *gen.Vita, wants datastore.Wants) {
	z.fill(root, wants)
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.base == nil {
		return
	}
	node := schema.Root().Child("", "gateway-state")
	now, base := data.Root(root).Container(node), data.Root(z.base).Container(node)
	if now.Exists() && base.Exists() {
		subtract(node, now, base)
	}
}

// subtract takes the counters of base from those of now, in place. One that has
// become smaller has begun anew, with another engine or another entry of the
// same name, and is left alone from then on.
func subtract(node *schema.Node, now, base data.Struct) {
	for _, c := range node.Children {
		switch c.Kind {
		case schema.Leaf:
			if !strings.HasSuffix(c.Type.Name, "zero-based-counter64") {
				continue
			}
			before, ok := base.Leaf(c)
			after, ok2 := now.Leaf(c)
			if !ok || !ok2 {
				continue
			}
			a, b := number(after), number(before)
			if a < b {
				base.ClearLeaf(c)
				continue
			}
			now.SetLeaf(c, strconv.FormatUint(a-b, 10))
		case schema.Container:
			if n, b := now.Container(c), base.Container(c); n.Exists() && b.Exists() {
				subtract(c, n, b)
			}
		case schema.List:
			now.Entries(c, func(e data.Struct) bool {
				if b := base.Entry(c, e.Keys(c)); b.Exists() {
					subtract(c, e, b)
				}
				return true
			})
		}
	}
}

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
