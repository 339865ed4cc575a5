package validate

import (
	"slices"
	"strconv"
	"sync"

	"vita/gen"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// rule says in Go what a must statement says in XPath. When there is an XPath
// evaluator it takes the place of holds, and reads is found from the
// expression; everything else here stays.
type rule struct {
	// holds evaluates the expression. context is the struct of the node that
	// has the statement, or for a leaf the one that the leaf is in.
	holds func(tree *gen.Vita, context data.Struct) bool

	// reads lists the leafs outside of the context that the expression
	// depends on, by their schema paths: when one of them changes, all
	// contexts are checked. For the routes it is their key, for which an entry
	// comes or goes.
	reads []string
}

// statement identifies a must statement of the model.
type statement struct{ path, expr string }

const (
	needsDataPlane = "../data-plane = 'true'"
	needsRoute     = "../route4[id = current()/route] or ../route6[id = current()/route]"
	module         = "/vita-esp-gateway:"
	private4       = module + "private-interface4/vita-esp-gateway-ext:"
	private6       = module + "private-interface6/vita-esp-gateway-ext:"
)

// rules has an entry for every must statement of the model; a test fails on
// one without.
var rules = map[statement]rule{
	{module + "sa-ttl", ". > 4 * ../negotiation-ttl"}:     {holds: saTTL},
	{module + "outbound-sa/aead", ". = 'aes-gcm-16-icv'"}: {holds: aeadOf("outbound-sa")},
	{module + "inbound-sa/aead", ". = 'aes-gcm-16-icv'"}:  {holds: aeadOf("inbound-sa")},
	{module + "outbound-sa", needsDataPlane}:              {holds: dataPlane, reads: []string{module + "data-plane"}},
	{module + "inbound-sa", needsDataPlane}:               {holds: dataPlane, reads: []string{module + "data-plane"}},
	{module + "outbound-sa", needsRoute}:                  {holds: routeOf("outbound-sa"), reads: []string{module + "route4/id", module + "route6/id"}},
	{private4 + "ip6", "../ext:nexthop-ip6"}:              {holds: beside("private-interface4", "nexthop-ip6")},
	{private4 + "nexthop-ip6", "../ext:ip6"}:              {holds: beside("private-interface4", "ip6")},
	{private4 + "nexthop-mac6", "../ext:nexthop-ip6"}:     {holds: beside("private-interface4", "nexthop-ip6")},
	{private6 + "ip4", "../ext:nexthop-ip4"}:              {holds: beside("private-interface6", "nexthop-ip4")},
	{private6 + "nexthop-ip4", "../ext:ip4"}:              {holds: beside("private-interface6", "ip4")},
	{private6 + "nexthop-mac4", "../ext:nexthop-ip4"}:     {holds: beside("private-interface6", "nexthop-ip4")},
	{module + "inbound-sa", needsRoute}:                   {holds: routeOf("inbound-sa"), reads: []string{module + "route4/id", module + "route6/id"}},
}

func saTTL(tree *gen.Vita, _ data.Struct) bool {
	root := data.Root(tree)
	return number(root, schema.Root().Child("", "sa-ttl")) > 4*number(root, schema.Root().Child("", "negotiation-ttl"))
}

// number returns a leaf that has a default.
func number(s data.Struct, leaf *schema.Node) uint64 {
	v, _ := s.Value(leaf)
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func dataPlane(tree *gen.Vita, _ data.Struct) bool {
	return tree.DataPlane != nil && *tree.DataPlane
}

// routeOf returns a rule for a list of static associations.
func routeOf(list string) func(*gen.Vita, data.Struct) bool {
	leaf := schema.Root().Child("", list).Child("", "route")
	return func(tree *gen.Vita, sa data.Struct) bool {
		id, ok := sa.Leaf(leaf)
		return !ok || tree.Route4[id] != nil || tree.Route6[id] != nil // without one it is mandatory that fails
	}
}

// beside returns a rule that demands another leaf of the same container.
func beside(container, leaf string) func(*gen.Vita, data.Struct) bool {
	n := schema.Root().Child("", container).Child("vita-esp-gateway-ext", leaf)
	return func(_ *gen.Vita, c data.Struct) bool {
		_, ok := c.Leaf(n)
		return ok
	}
}

func aeadOf(list string) func(*gen.Vita, data.Struct) bool {
	leaf := schema.Root().Child("", list).Child("", "aead")
	return func(_ *gen.Vita, sa data.Struct) bool {
		v, ok := sa.Leaf(leaf)
		return ok && v == "aes-gcm-16-icv"
	}
}

// elsewhere checks what depends on leafs that have changed, wherever it is.
// It goes through all entries of the lists concerned: those of static
// associations, which are empty where keys are negotiated.
func (k *check) elsewhere(changed map[*schema.Node]bool) {
	for id, r := range rules {
		if slices.ContainsFunc(r.reads, func(path string) bool { return changed[nodes()[path]] }) {
			k.everywhere(nil, nodes()[id.path])
		}
	}
}

// everywhere visits all entries of a list at the top.
func (k *check) everywhere(p *data.Place, list *schema.Node) {
	s := p.Find(k.tree)
	s.Entries(list, func(e data.Struct) bool {
		k.visit(&data.Place{Parent: p, Node: list, Keys: e.Keys(list)})
		return !k.full()
	})
}

// nodes returns the schema's nodes by their paths.
var nodes = sync.OnceValue(func() map[string]*schema.Node {
	m := map[string]*schema.Node{}
	schema.Root().Walk(func(n *schema.Node) { m[n.Path()] = n })
	return m
})

// must checks a must statement of a node in its context.
func (k *check) must(n *schema.Node, m schema.Must, context data.Struct, path func() string) {
	r, ok := rules[statement{n.Path(), m.Expr}]
	if ok && r.holds(k.tree, context) {
		return
	}
	e := &rpcerr.Error{
		Type: rpcerr.Application, Tag: "operation-failed", AppTag: m.AppTag, Path: path(), Message: m.Message,
	}
	if e.AppTag == "" {
		e.AppTag = "must-violation"
	}
	if e.Message == "" {
		e.Message = "must " + m.Expr
	}
	if !ok {
		e.Message = "no rule for must " + m.Expr
	}
	k.fail(e)
}
