package data

import (
	"slices"
	"testing"

	"vita/gen"
	"vita/mgmt/internal/schema"
)

func node(t *testing.T, names ...string) *schema.Node {
	t.Helper()
	n := schema.Root()
	for _, name := range names {
		if n = n.Child("", name); n == nil {
			t.Fatalf("no node %v", names)
		}
	}
	return n
}

func TestLeaf(t *testing.T) {
	tree := &gen.Vita{}
	root := Root(tree)
	for name, value := range map[string]string{"mtu": "1440", "tfc": "true", "negotiation-ttl": "7"} {
		n := node(t, name)
		if _, ok := root.Leaf(n); ok {
			t.Errorf("%s exists in an empty tree", name)
		}
		root.SetLeaf(n, value)
		if v, ok := root.Leaf(n); !ok || v != value || !root.Has(n) {
			t.Errorf("%s = %q, %v", name, v, ok)
		}
	}
	if tree.Mtu == nil || *tree.Mtu != 1440 || tree.Tfc == nil || !*tree.Tfc {
		t.Errorf("tree: %+v", tree)
	}
	root.ClearLeaf(node(t, "mtu"))
	if tree.Mtu != nil {
		t.Error("mtu is still there")
	}
	if v, ok := root.Value(node(t, "mtu")); !ok || v != "8923" {
		t.Errorf("default of mtu: %q, %v", v, ok)
	}
	if _, ok := root.Value(node(t, "data-plane")); ok {
		t.Error("data-plane has no default")
	}
}

func TestEntries(t *testing.T) {
	tree := &gen.Vita{}
	root := Root(tree)
	list := node(t, "inbound-sa")
	for _, keys := range [][]string{{"1000", "2"}, {"999", "1"}, {"1000", "1"}} {
		root.EnsureEntry(list, keys).SetLeaf(node(t, "inbound-sa", "route"), "r"+keys[0])
	}
	if len(tree.InboundSa) != 3 || *tree.InboundSa[gen.VitaEspGateway_InboundSa_Key{Spi: 1000, Queue: 2}].Route != "r1000" {
		t.Fatalf("tree: %+v", tree.InboundSa)
	}
	var got []string
	for _, e := range root.Sorted(list) {
		got = append(got, e.Keys(list)...)
	}
	if want := []string{"999", "1", "1000", "1", "1000", "2"}; !slices.Equal(got, want) {
		t.Errorf("sorted %v, want %v", got, want)
	}
	if e := root.Entry(list, []string{"1000", "1"}); !e.Exists() || !e.Same(root.EnsureEntry(list, []string{"1000", "1"})) {
		t.Error("entry is made a second time")
	}
	if root.Entry(list, []string{"1", "1"}).Exists() {
		t.Error("an entry that was never made")
	}
	for _, keys := range [][]string{{"1000", "2"}, {"999", "1"}, {"1000", "1"}, {"5", "5"}} {
		root.DeleteEntry(list, keys)
	}
	if tree.InboundSa != nil || root.Has(list) {
		t.Error("list is not empty")
	}
}

func TestPlace(t *testing.T) {
	tree := &gen.Vita{}
	route := &Place{Node: node(t, "route4"), Keys: []string{"site2"}}
	gw := &Place{Parent: route, Node: node(t, "route4", "gateway"), Keys: []string{"192.0.2.1"}}
	if gw.Find(tree).Exists() {
		t.Error("gateway exists in an empty tree")
	}
	gw.Ensure(tree)
	if tree.Route4["site2"].Gateway["192.0.2.1"] == nil || *tree.Route4["site2"].Id != "site2" {
		t.Error("gateway was not made")
	}
	if !gw.Find(tree).Exists() {
		t.Error("gateway is not found")
	}
	if got, want := gw.Child(node(t, "route4", "gateway", "queue")), "/vita-esp-gateway:route4[id='site2']/gateway[ip='192.0.2.1']/queue"; got != want {
		t.Errorf("path %s, want %s", got, want)
	}
	var nowhere *Place
	if nowhere.Path() != "" || nowhere.Schema() != schema.Root() || !nowhere.Find(tree).Exists() {
		t.Error("a nil place is not the root")
	}
}

func TestPrune(t *testing.T) {
	tree := &gen.Vita{}
	inner := &Place{Parent: &Place{Node: node(t, "gateway-state")}, Node: node(t, "gateway-state", "private-icmp4")}
	leaf := node(t, "gateway-state", "private-icmp4", "echo-request")
	inner.Ensure(tree).SetLeaf(leaf, "18446744073709551615")
	inner.Prune(tree)
	if tree.GatewayState == nil || *tree.GatewayState.PrivateIcmp4.EchoRequest != 1<<64-1 {
		t.Fatal("pruned what is not empty")
	}
	inner.Find(tree).ClearLeaf(leaf)
	if Root(tree).Has(node(t, "gateway-state")) {
		t.Error("an empty container without presence exists")
	}
	inner.Prune(tree)
	if tree.GatewayState != nil {
		t.Error("empty containers are still there")
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"a": "'a'", "it's": `"it's"`, `a"b`: `'a"b'`, `'"`: `"'"""`} {
		if got := schema.Quote(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
