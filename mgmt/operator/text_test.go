package operator

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"vita/mgmt/internal/schema"
)

const goodText = `/* Site A */
private-interface4 { ifname eth1; ip 192.168.10.1; nexthop-ip "192.168.10.254"; }
route4 { // one
  spi 1001; id 'site2';
  net 192.168.20.0/24;
  preshared-key "00112233445566778899aabbccddeeff" + '00112233445566778899aabbccddeeff';
  gateway { ip 203.0.113.2; }
}
vita-esp-gateway:mtu 1400;
`

func TestReadText(t *testing.T) {
	root, err := readText(goodText)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	root.document(&b)
	for _, want := range []string{`<route4 xmlns="vita:esp-gateway"><id `, ">00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff<", ">1400<"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in %s", want, b.String())
		}
	}
	for path, line := range map[string]int{"/mtu": 9, "/route4[id=site2]/net": 5, "/route4[id=site2]": 3, "/route4[id=site2]/gateway[ip=1.1.1.1]": 3, "/tfc": 0, "/[": 0} {
		if got := root.where(path); got != line {
			t.Errorf("%s is in line %d, not %d", path, got, line)
		}
	}
}

func TestBadText(t *testing.T) {
	for text, want := range map[string]string{
		"mtu 1;\n}":                       "line 2: a brace is closed that was not opened",
		"\n\nroute4 {":                    "line 3: the brace that is opened here is not closed",
		"/* a\n":                          "line 1: a comment that begins here has no end",
		"mtu\n\"a\n\n":                    "line 2: a string that begins here has no end",
		"mtu \"\\x\";":                    `line 1: \x is no escape`,
		"mtu 1":                           "line 1: want ; or { after mtu, not the end of the text",
		"preshared-key 0011 2233;":        "line 1: want ; or { after preshared-key, not another word",
		"mtu 'a' + b;":                    "line 1: want a string between quotes after +",
		"; mtu 1;":                        "line 1: want a name, not ;",
		strings.Repeat("esp {", 100):      "more than 64 levels",
		"\xff":                            "not UTF-8",
		strings.Repeat("nonsense 1;", 99): "and more",
		"route4 { id a; id b; }":          "line 1: /route4: id comes twice",
		"mtu 1400;\nmtu 1400;":            "line 2: /mtu: it comes twice, first in line 1",
	} {
		_, err := readText(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "2233") {
			t.Errorf("a secret is in %v", err)
		}
	}
}

func TestQuoteText(t *testing.T) {
	for _, v := range []string{"", "+", "a", "a b", `a"b\c'd`, "a;b{c}", "//", "a/*b", "tab\tnewline\n", "10.0.0.0/8", "ü"} {
		all, err := parseText("x " + quoteText(v) + ";")
		if err != nil || len(all) != 1 || all[0].value != v {
			t.Errorf("%q is written %s: %v", v, quoteText(v), err)
		}
	}
}

func TestCompare(t *testing.T) {
	read := func(text string) *element {
		t.Helper()
		e, err := readText(text)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a := read(`mtu 1400; tfc true; esp { ecn true; dscp 46; } route4 { id a; spi 1001; gateway { ip 1.1.1.1; queue 2; } } route4 { id b; }`)
	b := read(`mtu 1300; esp { ecn true; } route4 { id a; spi 1001; gateway { ip 2.2.2.2; } } route4 { id c; net 10.0.0.0/8; }`)
	c := compare(a, b)
	var deleted []string
	for _, at := range c.deleted {
		deleted = append(deleted, display(at))
	}
	slices.Sort(deleted)
	if want := []string{"/esp/dscp", "/route4[id=a]/gateway[ip=1.1.1.1]", "/route4[id=b]", "/tfc"}; !slices.Equal(deleted, want) {
		t.Errorf("deleted %q", deleted)
	}
	var merged bytes.Buffer
	c.merged.write(&merged)
	if got := merged.String(); strings.Contains(got, "1001") || strings.Contains(got, "ecn") || !strings.Contains(got, "2.2.2.2") || !strings.Contains(got, "10.0.0.0/8") || !strings.Contains(got, "1300") {
		t.Errorf("merged %s", got)
	}
	// Values of a leaf-list, and the order of rules.
	list := func(rules ...string) *element {
		text := "nacm { rule-list { name l; group a; group b;"
		for _, r := range rules {
			text += " rule { name " + r + "; action permit; }"
		}
		return read(text + " } }")
	}
	for _, order := range []struct {
		before, after  []string
		deleted, added int
	}{
		{[]string{"x", "y"}, []string{"x", "y", "z"}, 0, 1},
		{[]string{"x", "y", "z"}, []string{"x", "z"}, 1, 0},
		{[]string{"x", "y"}, []string{"y", "x"}, 2, 2},
		{[]string{"x", "y"}, []string{"x", "z", "y"}, 2, 3},
		{[]string{"x", "y"}, []string{"x", "y"}, 0, 0},
	} {
		c := compare(list(order.before...), list(order.after...))
		var merged bytes.Buffer
		c.merged.write(&merged)
		if added := strings.Count(merged.String(), "<action"); len(c.deleted) != order.deleted || added != order.added {
			t.Errorf("%v to %v: %d deleted, %s", order.before, order.after, len(c.deleted), merged.String())
		}
	}
	c = compare(read("nacm { groups { group { name g; user-name a; user-name b; } } }"), read("nacm { groups { group { name g; user-name b; user-name c; } } }"))
	merged.Reset()
	c.merged.write(&merged)
	if len(c.deleted) != 1 || display(c.deleted[0]) != "/nacm/groups/group[name=g]/user-name[.=a]" || !strings.Contains(merged.String(), "c</user-name>") {
		t.Errorf("%d deleted, %s", len(c.deleted), merged.String())
	}
	if c := compare(a, a); !c.empty() {
		t.Errorf("a configuration differs from itself: %v", c)
	}
}

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                    {""},
		"vitactl ":            {"vitactl", ""},
		"vitactl a":           {"vitactl", "a"},
		`a "b c" 'd "e' f\ g`: {"a", "b c", `d "e`, "f g"},
		`a "b c`:              {"a", "b c"},
		`a ''  x`:             {"a", "", "x"},
		`a\`:                  {`a\`},
	} {
		if got := Words(line); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestCompletePath(t *testing.T) {
	var c Completer
	for begin, want := range map[string][]string{
		"/esp/e":                     {"/esp/ecn "},
		"/mt":                        {"/mtu "},
		"/mtu/":                      nil,
		"/route4[":                   {"/route4[id="},
		"/route4[i":                  {"/route4[id="},
		"/route4[x":                  nil,
		"/route4[id=a]":              {"/route4[id=a]/", "/route4[id=a] "},
		"/route4[id=a]/gateway":      {"/route4[id=a]/gateway[ip=", "/route4[id=a]/gateway "},
		"/outbound-sa[spi=1]":        {"/outbound-sa[spi=1][queue="},
		"/outbound-sa[spi=1][q":      {"/outbound-sa[spi=1][queue="},
		"/gateway-st":                nil,
		"mtu":                        nil,
		"/nothing/":                  nil,
		"/route4[id='a/b']/mt":       nil,
		"/route4[id=a]/gateway[ip=1": nil, // nobody to ask
	} {
		if got := c.Path(context.Background(), begin); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", begin, got, want)
		}
	}
	c.State = true
	if got := c.Path(context.Background(), "/gateway-state/key-"); !slices.Equal(got, []string{"/gateway-state/key-manager/"}) {
		t.Errorf("state: %q", got)
	}
	if got := c.Value("/tfc", "t"); !slices.Equal(got, []string{"true "}) {
		t.Errorf("%q", got)
	}
	if got := c.Value("/mtu", ""); got != nil {
		t.Errorf("%q", got)
	}
}

// FuzzText: what is read and written again says the same, and errors have a line.
func FuzzText(f *testing.F) {
	f.Add(goodText)
	f.Add("mtu 1; /* */ tfc true; } \"\\")
	f.Add("route4 { id a; gateway { ip 1.1.1.1; } }")
	f.Fuzz(func(t *testing.T, text string) {
		root, err := readText(text)
		if err != nil {
			if _, ok := errors.AsType[*LineError](err); !ok {
				t.Fatalf("%v has no line", err)
			}
			return
		}
		var again strings.Builder
		print(&again, root)
		second, err := readText(again.String())
		if err != nil {
			t.Fatalf("%v in\n%s", err, again.String())
		}
		if c := compare(root, second); !c.empty() {
			t.Fatalf("%q becomes %q", text, again.String())
		}
	})
}

func print(b *strings.Builder, e *element) {
	for _, c := range e.children {
		if c.schema.Kind == schema.Leaf {
			b.WriteString(c.schema.Name + " " + quoteText(c.value) + ";")
			continue
		}
		b.WriteString(c.schema.Name + "{")
		print(b, c)
		b.WriteString("}")
	}
}

// FuzzWords: no command line and no path makes the completer fail.
func FuzzWords(f *testing.F) {
	f.Add(`vitactl set /route4[id="a`)
	f.Add(`/route4[id=a]/gateway[ip='`)
	f.Add(`/outbound-sa[spi=1][queue`)
	f.Fuzz(func(t *testing.T, line string) {
		words := Words(line)
		if len(words) == 0 {
			t.Fatal("no word")
		}
		for _, state := range []bool{false, true} {
			Completer{State: state}.Path(context.Background(), words[len(words)-1])
		}
	})
}
