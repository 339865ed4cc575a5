package nav

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"vita/gen"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xpath"
	"vita/mgmt/operational"
)

// tree has n routes, site0 to site(n-1), each with two gateways.
func tree(n int) *gen.Vita {
	t := &gen.Vita{}
	root := data.Root(t)
	list := schema.Root().Child("", "route4")
	gateway := list.Child("", "gateway")
	for i := range n {
		e := root.EnsureEntry(list, []string{fmt.Sprintf("site%d", i)})
		e.SetLeaf(list.Child("", "spi"), fmt.Sprint(1000+i))
		e.SetLeaf(list.Child("", "preshared-key"), "secret")
		e.EnsureEntry(gateway, []string{"192.0.2.1"}).SetLeaf(gateway.Child("", "queue"), "2")
		e.EnsureEntry(gateway, []string{"192.0.2.2"})
	}
	root.SetLeaf(schema.Root().Child("", "mtu"), "1400")
	return t
}

func resolve(prefix string) (string, bool) {
	return map[string]string{"v": "vita-esp-gateway", "l": "ietf-yang-library"}[prefix], prefix == "" || prefix == "v" || prefix == "l"
}

func compile(t testing.TB, text string) *xpath.Expr {
	t.Helper()
	e, err := xpath.Compile(text, resolve)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}

func more() []*operational.Node {
	return []*operational.Node{operational.Top(operational.Name{Module: "ietf-yang-library", Name: "yang-library"},
		operational.ListEntry("module", 1, operational.Text("name", "a"), operational.Text("revision", "2020")),
		operational.ListEntry("module", 1, operational.Text("name", "b"), operational.Text("revision", "2021")))}
}

// TestValues evaluates expressions with what XPath 1.0 says they are.
func TestValues(t *testing.T) {
	root := Root(tree(12), Options{Defaults: true, More: more()})
	for _, c := range []struct {
		text string
		want any
	}{
		{"1 + 2 * 3", 7.0},
		{"-(2 - 5) mod 2", 1.0},
		{"5 mod -2", 1.0},
		{"-5 mod 2", -1.0},
		{"1 div 0", math.Inf(1)},
		{"7 div 2", 3.5},
		{"1 < 2 and 2 <= 2 or false()", true},
		{"1 = 1.0", true},
		{"'1' = 1", true},
		{"'a' < 'b'", false}, // numbers, and these are none
		{"not(true()) = false()", true},
		{"string(1.50)", "1.5"},
		{"string(-0)", "0"},
		{"string(1 div 0)", "Infinity"},
		{"string(number('x'))", "NaN"},
		{"number(' 12 ')", 12.0},
		{"number('1e3') = number('1e3')", false},
		{"concat('a', 1, true())", "a1true"},
		{"substring('12345', 2, 3)", "234"},
		{"substring('12345', 1.5, 2.6)", "234"},
		{"substring('12345', 0, 3)", "12"},
		{"substring('12345', 0 div 0)", ""},
		{"substring-before('a=b', '=')", "a"},
		{"substring-after('a=b', '=')", "b"},
		{"normalize-space('  a  b ')", "a b"},
		{"translate('bar', 'abc', 'AB')", "BAr"},
		{"translate('--aaa--','abc-','ABC')", "AAA"},
		{"string-length('\u00e4\u00f6')", 2.0},
		{"round(-2.5)", -2.0},
		{"floor(-2.5)", -3.0},
		{"ceiling(2.1)", 3.0},
		{"re-match('10.2.0.0', '[0-9.]+')", true},
		{"re-match('10.2.0.0x', '[0-9.]+')", false},
		{"count(/route4)", 12.0},
		{"count(/v:route4/v:gateway)", 24.0},
		{"count(//gateway)", 24.0},
		{"count(/route4 | /route4)", 12.0},
		{"count(//*)", 12 + 24*2.0 + 24 + 24 + 1 + 3 + 7},
		{"count(/route4[id='site3'])", 1.0},
		{"count(/route4[id='site3' and spi=1003])", 1.0},
		{"count(/route4['site3'=id][spi=1])", 0.0},
		{"count(/route4[id='none'])", 0.0},
		{"count(/route4[id!='site3'])", 11.0},
		{"count(/route4[position() < 4])", 3.0},
		{"string(/route4[2]/id)", "site1"},
		{"string(/route4[last()]/id)", "site9"}, // in the order of the keys
		{"string(/route4[gateway/queue=2][2]/id)", "site1"},
		{"count(/route4[id=/route4[3]/id])", 1.0},
		{"count(//queue/ancestor::route4)", 12.0},
		{"count(//queue[.=2]/..)", 12.0},
		{"name(//queue/ancestor::*[1])", "vita-esp-gateway:gateway"},
		{"string(/route4[5]/preceding-sibling::route4[1]/id)", "site11"},
		{"string(/route4[5]/following-sibling::route4[1]/id)", "site3"},
		{"string(/route4[5]/gateway[1]/following::route4[1]/id)", "site3"},
		{"string(/route4[5]/gateway[1]/preceding::route4[1]/id)", "site11"},
		{"string(/route4[5]/preceding::id[1])", "site11"},
		{"count(/route4[5]/preceding::* | /route4[5]/following::* | /route4[5]/ancestor::* | /route4[5]/descendant-or-self::*) = count(//*)", true},
		{"count(/route4[5]/preceding::*) + count(/route4[5]/following::*) + count(/route4[5]/descendant-or-self::*) = count(//*)", true},
		{"count(/following::*) + count(/preceding::*)", 0.0},
		{"count(/route4/preshared-key)", 0.0}, // a secret
		{"count(//node()[.='secret'])", 0.0},
		{"sum(/route4/gateway/queue)", 36.0}, // the default is 1
		{"string(/mtu)", "1400"},
		{"/mtu > 1399", true},
		{"string(/sa-ttl)", "600"},
		{"boolean(/nothing)", false},
		{"/nothing = /nothing", false},
		{"local-name(/l:yang-library/l:module)", "module"},
		{"namespace-uri(/mtu)", "vita:esp-gateway"},
		{"string(/l:yang-library/l:module[l:name='b']/revision)", "2021"},
		{"count(/self::node())", 1.0},
		{"count(/mtu/text())", 0.0},
		{"count(@x)", 0.0},
		{"count(current()/route4)", 12.0},
		{"(/route4)[3]/id = 'site10'", true},
		{"count(/route4/descendant::ip)", 24.0},
		{"count(/route4[1]/descendant-or-self::*)", 9.0},
	} {
		v, err := compile(t, c.text).Value(root)
		if n, ok := v.([]xpath.Node); ok {
			t.Errorf("%s: %d nodes", c.text, len(n))
		} else if err != nil || v != c.want {
			t.Errorf("%s = %v (%v), want %v", c.text, v, err, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, text := range []string{
		"", "/route4[", "1 +", "foo()", "count()", "x:mtu", "'open", "/mtu]", "a b", "!", "$v", "a:", "()",
		strings.Repeat("(", 1000), "concat('a')", strings.Repeat("a", 20000),
	} {
		if _, err := xpath.Compile(text, resolve); err == nil {
			t.Errorf("%.40q was compiled", text)
		}
	}
}

// TestWorkIsBounded has an expression that looks at all nodes for each of them.
func TestWorkIsBounded(t *testing.T) {
	root := Root(tree(300), Options{})
	start := time.Now()
	_, err := compile(t, "count(//*[count(//*[count(//*) > 1]) > 1])").Value(root)
	if err == nil || time.Since(start) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// TestLookup checks that the index and a walk find the same.
func TestLookup(t *testing.T) {
	root := Root(tree(30), Options{})
	for _, pair := range [][2]string{
		{"/route4[id='site7']", "/route4[concat(id, '')='site7']"},
		{"/route4[id='site7'][1]", "/route4[concat(id, '')='site7'][1]"},
		{"/route4[id='site7'][2]", "/route4[concat(id, '')='site7'][2]"},
		{"/route4[v:id='site7']/gateway[ip='192.0.2.2']", "/route4[concat(id, '')='site7']/gateway[concat(ip, '')='192.0.2.2']"},
		{"/route4[l:id='site7']", "/nothing"},
		{"/route4[id='site7'][id='site8']", "/nothing"},
		{"/route4[id=current()/route4/id]", "/route4"},
		{"/route4[id=true()]", "/route4"},
		{"/route4[id=7]", "/nothing"},
		{"/route4[7][id='site15']", "/route4[7][concat(id, '')='site15']"},
	} {
		var got [2][]any
		for i, text := range pair {
			nodes, err := compile(t, text).Select(root)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				got[i] = append(got[i], n.ID())
			}
		}
		if !slices.Equal(got[0], got[1]) {
			t.Errorf("%s gives %v, %s gives %v", pair[0], got[0], pair[1], got[1])
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	root := Root(tree(100_000), Options{})
	e := compile(b, "/v:route4[v:id='site77777']/v:spi")
	for b.Loop() {
		if n, err := e.Select(root); err != nil || len(n) != 1 {
			b.Fatal(n, err)
		}
	}
}

// FuzzExpression evaluates what it is given on a small tree.
// TestReads asks what an expression depends on: "own" where it is the context's
// own entry, or one around it.
func TestReads(t *testing.T) {
	gateway := schema.Root().Child("", "route4").Child("", "gateway")
	for text, want := range map[string]string{
		"true()":                      "",
		"queue > 1":                   "gateway/queue own",
		"string()":                    "gateway/ip own",
		"../gateway":                  "gateway/ip, route4/id own",
		"../spi = 7 or not(queue)":    "gateway/queue own, route4/id own, route4/spi own",
		"/v:mtu":                      "mtu own",
		"/v:route4[v:id = 'a']/v:spi": "route4/id, route4/spi",
		"count(/v:route4[v:id = current()/ip]) > 1":  "gateway/ip own, route4/id",
		"../../mtu + sum(../../route4/spi)":          "mtu own, route4/id, route4/id own, route4/spi",
		"ancestor::route4/spi":                       "route4/id own, route4/spi own",
		"../following-sibling::route4/net | self::*": "gateway/ip own, route4/id, route4/id own, route4/net",
		"//v:nat-ip": "public-interface4/nat-ip, public-interface6/nat-ip",
		"count(following::v:no-such | preceding::no-such)": "",
	} {
		var got []string
		for _, r := range compile(t, text).Reads(gateway) {
			name := r.Node.Name
			if r.Node.Parent.Name != "" {
				name = r.Node.Parent.Name + "/" + name
			}
			if r.Own {
				name += " own"
			}
			got = append(got, name)
		}
		slices.Sort(got)
		if text == "//v:nat-ip" { // and the keys of every list on the way
			got = slices.DeleteFunc(got, func(s string) bool { return !strings.Contains(s, "nat-ip") })
		}
		if g := strings.Join(got, ", "); g != want {
			t.Errorf("%s: %s\nwant %s", text, g, want)
		}
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		"/v:route4[v:id='site1']/gateway[2]/ip | //queue", "count(//*[. = current()/mtu]) div 2 - -1 mod 3", "'a' != \"b\" or .//..",
		"substring(concat(/mtu, 'x'), 1 div 0, -1)", "ancestor-or-self::node()[last()]/@*", "translate(normalize-space(), 'ab', '')",
	} {
		f.Add(s)
	}
	root := Root(tree(3), Options{Defaults: true, More: more()})
	f.Fuzz(func(t *testing.T, text string) {
		e, err := xpath.Compile(text, resolve)
		if err != nil {
			return
		}
		v, err := e.Value(root)
		if err != nil {
			return
		}
		if nodes, ok := v.([]xpath.Node); ok {
			seen := map[any]bool{}
			for _, n := range nodes {
				if seen[n.ID()] {
					t.Fatalf("%q gives a node twice", text)
				}
				seen[n.ID()] = true
				if n.Value() == "secret" {
					t.Fatalf("%q gives a secret", text)
				}
			}
			own, others := Split(nodes)
			if len(own) == 0 && len(others) == 0 && len(nodes) > 0 {
				t.Fatalf("%q: nodes are lost", text)
			}
		}
	})
}
