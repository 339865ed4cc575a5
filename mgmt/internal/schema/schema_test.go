package schema

import (
	"strings"
	"testing"

	"vita/yang"
)

func TestRoot(t *testing.T) {
	root := Root()
	r := root.Child("", "route4")
	if r == nil || root.Child("vita-esp-gateway", "route4") != r || root.Child("other", "route4") != nil {
		t.Fatal("route4 is not found by its name")
	}
	if r.Kind != List || len(r.Keys) != 1 || r.Keys[0].Name != "id" || !r.Keys[0].IsKey || !r.Config {
		t.Errorf("route4: %+v", r)
	}
	if len(r.Unique) != 3 || r.Unique[1][0].Name != "preshared-key" {
		t.Errorf("unique of route4: %v", r.Unique)
	}
	if g := r.Child("", "gateway"); g == nil || g.Min != 1 || g.Max != 0 || g.Path() != "/vita-esp-gateway:route4/gateway" {
		t.Errorf("gateway: %+v", g)
	}
	var secrets []string
	root.Walk(func(n *Node) {
		if n.Secret {
			secrets = append(secrets, n.Path())
		}
	})
	want := "/vita-esp-gateway:route4/preshared-key /vita-esp-gateway:route6/preshared-key " +
		"/vita-esp-gateway:outbound-sa/key /vita-esp-gateway:outbound-sa/salt /vita-esp-gateway:outbound-sa/vita-esp-gateway-ext:key-rest " +
		"/vita-esp-gateway:inbound-sa/key /vita-esp-gateway:inbound-sa/salt /vita-esp-gateway:inbound-sa/vita-esp-gateway-ext:key-rest " +
		"/ietf-system:system/authentication/user/password"
	if got := strings.Join(secrets, " "); got != want {
		t.Errorf("secrets:\n%s\nwant\n%s", got, want)
	}
	if q := root.Child("", "public-interface4").Child("", "queue"); len(q.Default) != 1 || q.Default[0] != "1" {
		t.Errorf("default of queue: %v", q.Default)
	}
	if s := root.Child("", "gateway-state"); s.Config || s.Child("", "inbound-sa").Config {
		t.Error("state is configuration")
	}
	if Namespace("vita-esp-gateway") != "vita:esp-gateway" || Module("vita:esp-gateway") != "vita-esp-gateway" {
		t.Error("namespace of the gateway's module")
	}
	if Namespace("ietf-yang-types") == "" || Namespace("nothing") != "" {
		t.Error("namespaces of other modules")
	}
}

func TestChoices(t *testing.T) {
	root := Root()
	if len(root.Choices) != 1 || root.Choices[0].Name != "gateway" || root.Choices[0].Mandatory {
		t.Fatalf("choices at the root: %+v", root.Choices)
	}
	v4, v6 := root.Choices[0].Cases[0], root.Choices[0].Cases[1]
	if v4.Name != "v4" || len(v4.Nodes) != 3 || v6.Name != "v6" || len(v6.Nodes) != 3 {
		t.Errorf("cases: %+v %+v", v4, v6)
	}
	p := root.Child("", "private-interface4")
	if p.Case != v4 || !p.Within(v4) || p.Within(v6) || root.Child("", "mtu").Case != nil {
		t.Error("cases of nodes")
	}
	if len(p.Choices) != 1 || !p.Choices[0].Mandatory || p.Choices[0].Parent != p {
		t.Errorf("link: %+v", p.Choices)
	}
}

func TestOrder(t *testing.T) {
	var names []string
	for _, c := range Root().Child("", "public-interface4").Children {
		names = append(names, c.Name)
	}
	if got, want := strings.Join(names, " "), "pci ifname mac nexthop-mac ip nexthop-ip device-queue queue nat-ip vlan prefix-length"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
}

func TestMust(t *testing.T) {
	m := Root().Child("", "sa-ttl").Must
	if len(m) != 1 || m[0].Expr != ". > 4 * ../negotiation-ttl" || !strings.HasPrefix(m[0].Message, "sa-ttl must be more than four times") || strings.Contains(m[0].Message, "\n") {
		t.Errorf("%+v", m)
	}
	if a := Root().Child("", "inbound-sa").Child("", "aead").Must; len(a) != 1 {
		t.Errorf("must from a grouping: %+v", a)
	}
}

func TestCanonical(t *testing.T) {
	root := Root()
	for _, c := range []struct{ path, in, want string }{
		{"mtu", "1440", "1440"},
		{"mtu", " 0x5a0\n", "1440"},
		{"mtu", "010", "8"},
		{"mtu", "+5", "5"},
		{"mtu", "8924", ""},
		{"mtu", "-1", ""},
		{"mtu", "1_0", ""},
		{"mtu", "0b1", ""},
		{"mtu", "", ""},
		{"mtu", "99999999999999999999", ""},
		{"tfc", "true", "true"},
		{"tfc", " true ", ""},
		{"tfc", "1", ""},
		{"route4/spi", "256", "256"},
		{"route4/spi", "255", ""},
		{"route4/id", "site_2", "site_2"},
		{"route4/id", "ßite", "ßite"},
		{"route4/id", "site-2", ""},
		{"route4/id", "a\nb", ""},
		{"route4/id", "a\n", ""},
		{"route4/id", "", ""},
		{"route4/net", "192.168.20.77/24", "192.168.20.0/24"},
		{"route4/net", "192.168.20.0/33", ""},
		{"route6/net", "2001:DB8:0::1/32", "2001:db8::/32"},
		{"private-interface6/ip", "2001:DB8:0:0::1", "2001:db8::1"},
		{"private-interface6/ip", "2001:db8::1%eth0", ""},
		{"private-interface4/ip", "10.0.0.1", "10.0.0.1"},
		{"private-interface4/ip", "10.0.0.256", ""},
		{"private-interface4/ip", "010.0.0.1", ""},
		{"private-interface4/mac", "AA:bb:CC:00:11:22", "aa:bb:cc:00:11:22"},
		{"private-interface4/pci", "0000:02:00.0", "0000:02:00.0"},
		{"private-interface4/pci", "02:00", ""},
		{"private-interface4/ifname", "eth0", "eth0"},
		{"private-interface4/ifname", "a/b", ""},
		{"private-interface4/ifname", "a234567890123456", ""},
		{"route4/preshared-key", strings.Repeat("aA 1 2", 0) + strings.Repeat("0f ", 32), strings.Repeat("0f ", 32)},
		{"route4/preshared-key", strings.Repeat("0f", 31), ""},
		{"route4/preshared-key", strings.Repeat("0f", 33), ""},
		{"inbound-sa/aead", "a\x01", ""},
		{"inbound-sa/aead", "\xff", ""},
	} {
		n := root
		for name := range strings.SplitSeq(c.path, "/") {
			n = n.Child("", name)
		}
		got, err := n.Type.Canonical(c.in)
		if (err != nil) != (c.want == "") || got != c.want {
			t.Errorf("%s %q: %q, %v; want %q", c.path, c.in, got, err, c.want)
		}
	}
}

func TestCompare(t *testing.T) {
	u := Root().Child("", "mtu").Type
	if u.Compare("9", "10") >= 0 || u.Compare("10", "9") <= 0 || u.Compare("7", "7") != 0 {
		t.Error("numbers are not ordered by value")
	}
	i := &Type{Base: Int, Bits: 32}
	if i.Compare("-10", "9") >= 0 || i.Compare("-9", "-10") <= 0 {
		t.Error("negative numbers are not ordered by value")
	}
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, value string
		match          bool
	}{
		{`a|b`, "ab", false},
		{`^a$`, "^a$", true},
		{`a.c`, "a\nc", false},
		{`\w+`, "a+b", true},
		{`\w+`, "a_b", false},
		{`\S\D`, "ab", true},
		{`[\d\-\[]+`, "1-[", true},
		{`[a^b]`, "^", true},
		{`\p{L}\i\c`, "a_1", true},
	} {
		re, err := CompilePattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
		} else if re.MatchString(c.value) != c.match {
			t.Errorf("%s on %q: %v", c.pattern, c.value, !c.match)
		}
	}
	for _, p := range []string{`[a-z-[aeiou]]`, `a\`, `(`, `[\S]`} {
		if _, err := CompilePattern(p); err == nil {
			t.Errorf("%s is accepted", p)
		}
	}
}

// one compiles a module with a body.
func one(t *testing.T, body string, features ...string) (*Model, error) {
	t.Helper()
	src := "module m { yang-version 1.1; namespace urn:m; prefix m; " + body + " }"
	return compileModules(map[string]string{"m.yang": src}, []string{"m"}, map[string][]string{"m": features})
}

// TestUnsupported checks that what the compiler does not know, and what is wrong,
// stops it instead of being lost.
func TestUnsupported(t *testing.T) {
	for name, body := range map[string]string{
		"anydata":            `anydata a;`,
		"anyxml":             `container c { anyxml a; }`,
		"unknown statement":  `leaf a { type string; shiny true; }`,
		"unknown in type":    `leaf a { type string { shiny true; } }`,
		"unknown type":       `leaf a { type x; }`,
		"no type":            `leaf a;`,
		"no union":           `leaf a { type union; }`,
		"keyless list":       `list a { leaf b { type string; } }`,
		"key of nothing":     `list a { key c; leaf b { type string; } }`,
		"deep key":           `list a { key "c/b"; container c { leaf b { type string; } } }`,
		"unique of nothing":  `list a { key b; unique c; leaf b { type string; } }`,
		"unique in list":     `list a { key b; unique "c/d"; leaf b { type string; } list c { key d; leaf d { type string; } } }`,
		"leafref nowhere":    `leaf a { type leafref { path "../b"; } }`,
		"leafref to list":    `list b { key c; leaf c { type string; } } leaf a { type leafref { path "../b"; } }`,
		"leafref circle":     `leaf a { type leafref { path "../b"; } } leaf b { type leafref { path "../a"; } }`,
		"leafref to state":   `leaf a { type leafref { path "../b"; } } leaf b { config false; type string; }`,
		"leafref out":        `leaf a { type leafref { path "../../b"; } } leaf b { type string; }`,
		"leafref by deref":   `leaf b { type string; } leaf a { type leafref { path "deref(../b)/../b"; } }`,
		"typedef circle":     `typedef t { type u; } typedef u { type t; } leaf a { type t; }`,
		"grouping circle":    `grouping g { uses h; } grouping h { container c { uses g; } } uses g;`,
		"unknown grouping":   `uses g;`,
		"unknown refine":     `grouping g { leaf a { type string; } } uses g { refine b { default x; } }`,
		"default of no type": `leaf a { type uint8; default 256; }`,
		"default of no case": `choice c { default x; leaf a { type string; } }`,
		"default, mandatory": `choice c { default a; mandatory true; leaf a { type string; } }`,
		"wider range":        `typedef t { type uint8 { range "1..9"; } } leaf a { type t { range "0..9"; } }`,
		"ranges in disorder": `leaf a { type uint8 { range "5..6 | 1..2"; } }`,
		"range of a string":  `leaf a { type string { range "1..2"; } }`,
		"fraction digits":    `leaf a { type decimal64 { fraction-digits 19; } }`,
		"unknown enum":       `typedef t { type enumeration { enum a; } } leaf a { type t { enum b; } }`,
		"unknown base":       `leaf a { type identityref { base b; } }`,
		"unknown feature":    `leaf a { if-feature f; type string; }`,
		"feature expression": `feature f; leaf a { if-feature "f and"; type string; }`,
		"same name twice":    `leaf a { type string; } leaf a { type string; }`,
		"augment of nothing": `augment "/m:b" { leaf a { type string; } }`,
		"deviation":          `leaf a { type string; } deviation "/m:a" { deviate delete { default x; } }`,
		"bad max-elements":   `leaf-list a { type string; max-elements 0; }`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := one(t, body); err == nil {
				t.Error("compiled without an error")
			}
		})
	}
}

func TestCompileNested(t *testing.T) {
	src := `module m { yang-version 1.1; namespace urn:m; prefix m;
		container p { choice c { case x { leaf a { type int8 { range "-5..5"; } default "-0x5"; }
		choice d { leaf e { type string { length "2..3"; } } leaf f { type string; } } } leaf g { type uint64; } } }
		list l { key "k"; max-elements 3; leaf k { type string; } } }`
	m, err := compileModules(map[string]string{"m.yang": src}, []string{"m"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, l := m.root.Children[0], m.root.Children[1]
	if len(p.Choices) != 2 || l.Max != 3 {
		t.Errorf("%+v %+v", p, l)
	}
	a, e := p.Children[0], p.Children[1]
	if a.Default[0] != "-5" || !e.Within(a.Case) || a.Within(e.Case) {
		t.Errorf("a %+v, e %+v", a, e)
	}
	if _, err := a.Type.Canonical("6"); err == nil {
		t.Error("range of int8")
	}
	if _, err := e.Type.Canonical("äöüß"); err == nil {
		t.Error("length of 4")
	}
	if _, err := e.Type.Canonical("äöü"); err != nil {
		t.Error(err)
	}
}

func TestBind(t *testing.T) {
	m, err := compileModules(yang.Sources(), yang.Implemented, yang.Features)
	if err != nil {
		t.Fatal(err)
	}
	m.root.Children[0].Name = "renamed"
	if err := bind(m.root); err == nil {
		t.Error("a model that gen/ does not have is bound")
	}
}
