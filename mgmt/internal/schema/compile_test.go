package schema

import (
	"fmt"
	"strings"
	"testing"
)

// nodes returns the nodes of a model by their paths without modules.
func nodes(m *Model) map[string]*Node {
	all := map[string]*Node{}
	m.root.Walk(func(n *Node) { all[strings.ReplaceAll(n.Path(), "m:", "")] = n })
	return all
}

func compileOne(t *testing.T, body string, features ...string) map[string]*Node {
	t.Helper()
	m, err := one(t, body, features...)
	if err != nil {
		t.Fatal(err)
	}
	return nodes(m)
}

func TestFeatures(t *testing.T) {
	const body = `feature f; feature g; feature h { if-feature "f and not g"; }
		leaf a { if-feature f; type string; }
		leaf b { if-feature "not f or g"; type string; }
		leaf c { if-feature "(f or g) and not (f and g)"; type string; }
		leaf d { if-feature h; type string; }
		leaf e { if-feature f; if-feature g; type string; }
		grouping x { leaf y { type string; } } uses x { if-feature g; }
		container z; augment /m:z { if-feature f; leaf w { type string; } }
		choice o { case p { if-feature f; leaf p { type string; } } leaf q { if-feature g; type string; } }
		leaf k { type enumeration { enum one; enum two { if-feature g; } } }
		identity base; identity i { base base; } identity j { if-feature g; base base; } leaf l { type identityref { base base; } }`
	for features, want := range map[string]string{
		"":      "b k l z",
		"f":     "a c k l p z z/w", // h is not among the server's
		"f h":   "a c d k l p z z/w",
		"g":     "b c k l q y z",
		"f g h": "a b e k l p q y z z/w",
	} {
		all := compileOne(t, body, strings.Fields(features)...)
		for name := range strings.FieldsSeq("a b c d e k l p q y z z/w") {
			wanted := strings.Contains(" "+want+" ", " "+name+" ")
			if _, ok := all["/"+name]; ok != wanted {
				t.Errorf("with %q: %s is there: %v", features, name, ok)
			}
		}
		_, err := all["/k"].Type.Canonical("two")
		_, err2 := all["/l"].Type.Canonical("m:j")
		if g := strings.Contains(features, "g"); (err == nil) != g || (err2 == nil) != g {
			t.Errorf("with %q: %v, %v", features, err, err2)
		}
	}
}

func TestTypes(t *testing.T) {
	all := compileOne(t, `
		typedef percent { type uint8 { range "0..100"; } default 50; }
		typedef half { type percent { range "min..50 | 60..max"; } }
		leaf half { type half; }
		leaf decimal { type decimal64 { fraction-digits 3; range "-1.5..2 | 10..max"; } }
		leaf e { type enumeration { enum "a b"; enum up { value 7; } enum down; } }
		typedef colour { type enumeration { enum red; enum green; enum blue; } }
		leaf warm { type colour { enum red; } }
		leaf bits { type bits { bit x { position 5; } bit y { position 1; } bit z; } }
		leaf binary { type binary { length "2..4"; } }
		leaf empty { type empty; }
		identity shape; identity round { base shape; } identity ball { base round; } identity wheel { base round; base toy; } identity toy;
		leaf shape { type identityref { base shape; } }
		leaf toy { type identityref { base toy; base round; } }
		leaf u { type union { type uint8; type enumeration { enum many; } type half; type string { length 3; pattern "[a-z]*"; pattern "b.*" { modifier invert-match; } } } }
		leaf ref { type leafref { path "/m:decimal"; } }
		leaf refs { type leafref { path "../list[key = current()/../half]/value"; } }
		list list { key key; leaf key { type int8; } leaf value { type ref; } typedef ref { type leafref { path "../../half"; } } leaf-list many { type string; } }
		leaf where { type instance-identifier; }
		leaf hex { type int16; }`)
	for _, c := range []struct{ leaf, in, want string }{
		{"half", "7", "7"},
		{"half", "55", ""},
		{"half", "101", ""},
		{"half", "-0", "0"},
		{"half", "-", ""},
		{"decimal", "1", "1.0"},
		{"decimal", "+1.250", "1.25"},
		{"decimal", " -0.5 ", "-0.5"},
		{"decimal", "-0", "0.0"},
		{"decimal", "1.2345", ""},
		{"decimal", "3", ""},
		{"decimal", "9223372036854775.807", "9223372036854775.807"},
		{"decimal", "9223372036854775.808", ""},
		{"decimal", ".5", ""},
		{"decimal", "1.", ""},
		{"decimal", "1e1", ""},
		{"decimal", "", ""},
		{"decimal", "1-", ""},
		{"decimal", "--1", ""},
		{"decimal", "10.000", "10.0"},
		{"decimal", "-1.501", ""},
		{"e", "a b", "a b"},
		{"e", "up", "up"},
		{"e", "a", ""},
		{"e", " up", ""},
		{"warm", "red", "red"},
		{"warm", "blue", ""},
		{"bits", "x y", "y x"},
		{"bits", "", ""},
		{"bits", " z\n", "z"},
		{"bits", "x x", "-"},
		{"bits", "w", "-"},
		{"binary", "aGFs", "aGFs"},
		{"binary", "aG\nFs bA==", "aGFsbA=="},
		{"binary", "aA==", ""},
		{"binary", "aGFsbG8=", ""},
		{"binary", "aGF", ""},
		{"binary", "aGF*", ""},
		{"empty", "", ""},
		{"empty", "x", "-"},
		{"shape", "m:ball", "m:ball"},
		{"shape", "round", "m:round"},
		{"shape", "m:shape", ""},
		{"shape", "m:toy", ""},
		{"toy", "m:wheel", "m:wheel"},
		{"toy", "m:ball", ""},
		{"u", "255", "255"},
		{"u", "many", "many"},
		{"u", "abc", "abc"},
		{"u", "bcd", ""},
		{"u", "abcd", ""},
		{"u", "0x10", "16"},
		{"ref", "2", "2.0"},
		{"ref", "2.5", ""},
		{"refs", "50", "50"},
		{"refs", "55", ""},
		{"list/value", "61", "61"},
		{"hex", "-0x10", "-16"},
		{"hex", "32768", ""},
		{"where", "/m:half", "/m:half"},
		{"where", "/m:list[key='-0x1']/value", "/m:list[key='-1']/value"},
		{"where", `/m:list[ m:key = "2" ]/m:many[.='x']`, "/m:list[key='2']/many[.='x']"},
		{"where", "", ""},
		{"where", "/", ""},
		{"where", "half", ""},
		{"where", "/half", ""},
		{"where", "/m:list", ""},
		{"where", "/m:list[key='300']", ""},
		{"where", "/m:list[value='1']", ""},
		{"where", "/m:half/x", ""},
		{"where", "/m:list[key='1'", ""},
		{"where", "/m:list[key='1'][key='1']", ""},
		{"where", "/m:none", ""},
		{"where", "/m:half[.='7']", ""},
	} {
		got, err := all["/"+c.leaf].Type.Canonical(c.in)
		bad := c.want == "-" || c.want == "" && c.leaf != "empty" && (c.leaf != "bits" || c.in != "")
		if (err != nil) != bad || !bad && got != c.want {
			t.Errorf("%s %q: %q, %v; want %q", c.leaf, c.in, got, err, c.want)
		}
	}
	if d := all["/half"].Default; len(d) != 1 || d[0] != "50" {
		t.Errorf("default of the typedef's typedef: %v", d)
	}
	if all["/list"].Rank != nil || all["/refs"].Type.Ref.Target != all["/list/value"] || all["/list/value"].Type.Ref.Target != all["/half"] {
		t.Error("targets of leafrefs")
	}
	if e := all["/e"].Type.Enums; e[0].Value != 0 || e[1].Value != 7 || e[2].Value != 8 {
		t.Errorf("values of enums: %v", e)
	}
}

// TestForms checks what depends on how a value comes: prefixes of XML, types of
// JSON.
func TestForms(t *testing.T) {
	all := compileOne(t, `identity base; identity i { base base; } leaf id { type identityref { base base; } }
		leaf where { type instance-identifier; } leaf big { type uint64; } leaf flag { type boolean; } leaf nothing { type empty; }
		leaf u { type union { type uint8; type string; type empty; } }`)
	xml := Form{Prefix: func(p string) (string, bool) { return "m", p == "" || p == "x" }}
	for _, c := range []struct {
		leaf, in string
		form     Form
		want     string
	}{
		{"id", "x:i", xml, "m:i"},
		{"id", "i", xml, "m:i"},
		{"id", "m:i", xml, ""},
		{"id", "i", Form{JSON: '"'}, "m:i"},
		{"where", "/x:id", xml, "/m:id"},
		{"where", "/m:id", xml, ""},
		{"where", "/id", xml, ""},
		{"big", "1", Form{JSON: '0'}, ""},
		{"big", "1", Form{JSON: '"'}, "1"},
		{"flag", "true", Form{JSON: 't'}, "true"},
		{"flag", "true", Form{JSON: '"'}, ""},
		{"nothing", "", Form{JSON: '"'}, ""},
		{"u", "1", Form{JSON: '0'}, "1"},
		{"u", "256", Form{JSON: '0'}, ""},
		{"u", "x", Form{JSON: '"'}, "x"},
	} {
		got, err := all["/"+c.leaf].Type.Parse(c.in, c.form)
		if (err == nil) != (c.want != "") || got != c.want {
			t.Errorf("%s %q: %q, %v; want %q", c.leaf, c.in, got, err, c.want)
		}
	}
	if _, err := all["/nothing"].Type.Parse("", Form{JSON: '['}); err != nil {
		t.Error(err)
	}
}

func TestGroupings(t *testing.T) {
	all := compileOne(t, `
		typedef t { type uint8; }
		grouping outer {
			typedef t { type int8; }
			container c { when "../flag"; leaf a { type t; default -1; } uses inner { when "a = 1"; refine b { default 2; must ". > 1"; } augment d { leaf e { type t; } } } }
			leaf flag { type empty; }
		}
		grouping inner { leaf b { type t; default 1; } container d; choice o { leaf f { type t; } case g { leaf g { type t; } leaf h { type t; } } } leaf-list ll { type t; } list l { key k; leaf k { type t; } } }
		container top { uses outer { refine c { presence "it is there"; } refine c/ll { min-elements 1; max-elements 2; } refine c/a { mandatory true; } refine c/l { config false; } } }
		augment "/top/c/o/g" { when "x"; leaf i { type t; } }
		augment "/top/c/o" { leaf j { type t; } }
		deviation /top/c/b { deviate replace { default 3; } deviate add { must "true()"; } }
		deviation /top/c/o/g/h { deviate not-supported; }`)
	for path, check := range map[string]func(n *Node) bool{
		"/top/c":   func(n *Node) bool { return n.Presence && len(n.When) == 1 && !n.When[0].Around },
		"/top/c/a": func(n *Node) bool { return n.Mandatory && n.Default == nil && n.Type.Base == Int },
		"/top/c/b": func(n *Node) bool {
			return n.Default[0] == "3" && len(n.Must) == 2 && n.Type.Base == Uint && n.When[0].Around
		},
		"/top/c/d/e": func(n *Node) bool { return n.Type.Base == Int && len(n.When) == 0 },
		"/top/c/f":   func(n *Node) bool { return n.Case.Name == "f" && len(n.When) == 1 && len(n.Case.Choice.When) == 1 },
		"/top/c/g":   func(n *Node) bool { return n.Case.Name == "g" && len(n.Case.Nodes) == 2 },
		"/top/c/i":   func(n *Node) bool { return n.Case.Name == "g" && len(n.When) == 1 && n.When[0].Around },
		"/top/c/j":   func(n *Node) bool { return n.Case.Name == "j" },
		"/top/c/ll":  func(n *Node) bool { return n.Min == 1 && n.Max == 2 && n.Kind == LeafList },
		"/top/c/l/k": func(n *Node) bool { return !n.Config },
		"/top/flag":  func(n *Node) bool { return n.Type.Base == Empty },
		"/top/c/d":   func(n *Node) bool { return !n.Presence && n.When[0].Expr == "a = 1" },
	} {
		n := all[path]
		if n == nil || !check(n) {
			t.Errorf("%s: %+v", path, n)
		}
	}
	if all["/top/c/h"] != nil {
		t.Error("what a deviation takes away is there")
	}
}

func TestSeveralModules(t *testing.T) {
	sources := map[string]string{
		"a.yang": `module a { yang-version 1.1; namespace urn:a; prefix a; include a-sub; import b { prefix bee; }
			container c { leaf x { type bee:t; } uses sub; } }`,
		"a-sub.yang": `submodule a-sub { yang-version 1.1; belongs-to a { prefix x; } grouping sub { leaf s { type x:here; } } typedef here { type string { length 1; } }
			augment "/x:c" { leaf y { type x:here; } } container own; }`,
		"b.yang": `module b { yang-version 1.1; namespace urn:b; prefix b; import a { prefix a; } typedef t { type enumeration { enum one; } }
			identity base; augment "/a:c" { leaf x { type t; } leaf-list z { type t; ordered-by user; default one; } list l { key k; ordered-by user; leaf k { type t; } } } }`,
	}
	m, err := compileModules(sources, []string{"a", "b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	m.root.Walk(func(n *Node) { got = append(got, n.Path()) })
	if want := "[/a:c /a:c/x /a:c/s /a:c/y /a:c/b:x /a:c/b:z /a:c/b:l /a:c/b:l/k /a:own]"; fmt.Sprint(got) != want {
		t.Errorf("%v\nwant %s", got, want)
	}
	if err := bindStruct(m.root, structOf(m.root)); err != nil {
		t.Fatal(err)
	}
	c := m.root.Child("", "c")
	if c.Child("", "x") == c.Child("b", "x") || c.Child("b", "x").Module != "b" || c.Child("", "z") != nil {
		t.Error("two nodes of a name in two modules")
	}
	if l := c.Child("b", "l"); l.Rank == nil || l.Rank.Path() != "/a:c/b:l/vita-rank" || l.Child("", RankName) != nil {
		t.Error("rank of a list that users order")
	}
	if _, err := compileModules(map[string]string{"a.yang": sources["a.yang"], "b.yang": sources["b.yang"]}, []string{"a", "b"}, nil); err == nil {
		t.Error("a module without its submodule")
	}
	if _, err := compileModules(map[string]string{"b.yang": sources["b.yang"]}, []string{"b"}, nil); err == nil {
		t.Error("a module without what it imports")
	}
}

// TestStandardModules looks at what the gateway has of NACM and of ietf-system.
func TestStandardModules(t *testing.T) {
	nacm := Root().Child("ietf-netconf-acm", "nacm")
	rules := nacm.Child("", "rule-list")
	rule := rules.Child("", "rule")
	if !nacm.DenyAll || nacm.Secret || rules.Rank == nil || rule.Rank == nil {
		t.Errorf("nacm: %+v", nacm)
	}
	for path, want := range map[string]string{"*": "*", "read create": "create read", "create  update exec read delete": "create read update delete exec"} {
		if got, err := rule.Child("", "access-operations").Type.Canonical(path); err != nil || got != want {
			t.Errorf("access-operations %q: %q, %v", path, got, err)
		}
	}
	if c := rule.Choices[0]; c.Name != "rule-type" || len(c.Cases) != 3 || rule.Child("", "action").Type.Base != Enum {
		t.Errorf("rule: %+v", rule)
	}
	system := Root().Child("ietf-system", "system")
	auth := system.Child("", "authentication")
	order := auth.Child("", "user-authentication-order")
	if !auth.DenyWrite || !order.ByUser || order.Kind != LeafList || order.Type.Base != Identity {
		t.Errorf("authentication: %+v", auth)
	}
	if _, err := order.Type.Canonical("ietf-system:local-users"); err != nil {
		t.Error(err)
	}
	if _, err := order.Type.Canonical("ietf-system:radius"); err != nil {
		t.Error(err) // an identity is there without the feature of its use
	}
	for _, name := range []string{"radius", "clock"} {
		if system.Child("", name) != nil {
			t.Errorf("%s is there", name)
		}
	}
	if kind := system.Child("", "ntp").Child("", "server").Child("", "association-type").Type; kind.Base != Enum {
		t.Errorf("association-type: %+v", kind)
	} else if _, err := kind.Canonical("peer"); err == nil {
		t.Error("a gateway would be a peer of time servers")
	}
	if user := auth.Child("", "user"); user.Child("", "password") == nil || user.Child("", "authorized-key") == nil {
		t.Error("users")
	}
	for _, o := range Operations() {
		if o.Module == "ietf-system" {
			t.Errorf("operation %s is there, and nobody carries it out", o.Name)
		}
	}
}

func TestXPathValues(t *testing.T) {
	path := Root().Child("ietf-netconf-acm", "nacm").Child("", "rule-list").Child("", "rule").Child("", "path").Type
	xml := Form{Prefix: func(p string) (string, bool) { return "vita-esp-gateway", p == "g" }}
	for in, want := range map[string]string{
		"/g:route4[g:id='g:x']/g:net":   "/vita-esp-gateway:route4[vita-esp-gateway:id='g:x']/vita-esp-gateway:net",
		"/g:a/b[g:c=\"x\"][2]/d[.='y']": "/vita-esp-gateway:a/b[vita-esp-gateway:c=\"x\"][2]/d[.='y']",
		"/":                             "/",
		"/g:*":                          "",
		"child::g:a":                    "",
		"g:a":                           "",
		"/a":                            "",
		"/g:a/":                         "",
		"/g:a[b]":                       "",
		"/g:a[b='c'":                    "",
		"/g:a:b":                        "",
		"//g:a":                         "",
		"/h:route4":                     "",
		"/a[.=\"x":                      "",
		"":                              "",
	} {
		got, err := path.Parse(in, xml)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	if got, err := path.Canonical("/vita-esp-gateway:route4"); err != nil || got != "/vita-esp-gateway:route4" {
		t.Errorf("%q, %v", got, err)
	}
	if got := fmt.Sprint(XPathModules("/vita-esp-gateway:a/ietf-system:b[x:c='ietf-netconf-acm:d']/vita-esp-gateway:e")); got != "[vita-esp-gateway ietf-system]" {
		t.Error(got)
	}
}

// FuzzValues reads hostile values of the types that have a syntax of their own.
func FuzzValues(f *testing.F) {
	for _, s := range []string{
		"/vita-esp-gateway:route4[id='a']/net", "/ietf-netconf-acm:nacm/rule-list[name=\"x\"][1]", "/a:b[.='c']", "//", "[", "/x:y[", "/x:y[z='", "-1.50", "+0x1F", "ietf-system:radius", "a:b:c", "::",
	} {
		f.Add(s)
	}
	m, err := compileModules(map[string]string{"m.yang": `module m { yang-version 1.1; namespace urn:m; prefix m; identity b; identity i { base b; }
		leaf d { type decimal64 { fraction-digits 4; } } leaf b { type binary; } leaf u { type union { type int8; type identityref { base b; } type instance-identifier; type string; } }
		leaf i { type instance-identifier; } list l { key "a b"; leaf a { type uint8; } leaf b { type string; } leaf-list c { type string; } } }`}, []string{"m"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	types := []*Type{Root().Child("ietf-netconf-acm", "nacm").Child("", "rule-list").Child("", "rule").Child("", "path").Type}
	for _, n := range m.root.Children {
		if n.HasValue() {
			types = append(types, n.Type)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, typ := range types {
			v, err := typ.Canonical(s)
			if err != nil {
				continue
			}
			if again, err := typ.Canonical(v); err != nil || again != v {
				t.Errorf("%s: %q becomes %q becomes %q, %v", typ.Name, s, v, again, err)
			}
			_, _ = typ.Parse(s, Form{Prefix: func(p string) (string, bool) { return "m", len(p) < 3 }}) // must not panic
		}
	})
}
