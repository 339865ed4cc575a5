package yangtree

import (
	"fmt"
	"strings"
	"testing"
)

// read reads modules a, b and so on from their bodies; all are implemented.
func read(features []string, bodies ...string) (*Set, error) {
	sources := map[string]string{}
	var names []string
	for i, body := range bodies {
		name := string(rune('a' + i))
		names = append(names, name)
		sources[name+".yang"] = "module " + name + " { yang-version 1.1; namespace urn:" + name + "; prefix " + name + "; " + body + " }"
	}
	return Read(sources, Options{Implemented: names, Features: map[string][]string{"a": features}})
}

// shape writes the definitions of a tree, names of other modules with these.
func shape(list []*Statement, in *Module) string {
	var out []string
	for _, st := range list {
		if !st.IsDefinition() {
			continue
		}
		name := st.Argument
		if st.In != in && st.In != nil {
			name = st.In.Name + ":" + name
		}
		if inner := shape(st.Children, st.In); inner != "" {
			name += "(" + inner + ")"
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

func TestShape(t *testing.T) {
	const leaf = " { type string; }"
	for name, c := range map[string]struct {
		features []string
		bodies   []string
		want     string
	}{
		"uses in order":      {nil, []string{"grouping g { leaf x" + leaf + " leaf y" + leaf + " } leaf w" + leaf + " uses g; leaf z" + leaf}, "w x y z"},
		"nearest grouping":   {nil, []string{"grouping g { leaf far" + leaf + " } container c { grouping g { leaf near" + leaf + " } uses g; }"}, "c(near)"},
		"of another module":  {nil, []string{"import b { prefix x; } container c { uses x:g; }", "grouping g { uses h; } grouping h { leaf l" + leaf + " }"}, "c(l)"},
		"shorthand":          {nil, []string{"choice c { leaf x" + leaf + " case y { leaf z" + leaf + " } }"}, "c(x(x) y(z))"},
		"augment of augment": {nil, []string{"import b { prefix b; } container c; augment /a:c/b:d { leaf e" + leaf + " }", "import a { prefix a; } augment /a:c { container d; }"}, "c(b:d(a:e))"},
		"augment in uses":    {nil, []string{"grouping g { container c; } uses g { augment c { leaf x" + leaf + " } }"}, "c(x)"},
		"augment of choice":  {nil, []string{"choice c { case x { leaf y" + leaf + " } } augment /a:c { leaf z" + leaf + " }"}, "c(x(y) z(z))"},
		"without a feature":  {nil, []string{"feature f; container c { if-feature f; leaf x" + leaf + " } leaf y" + leaf}, "y"},
		"with a feature":     {[]string{"f"}, []string{"feature f; container c { if-feature f; leaf x" + leaf + " } leaf y" + leaf}, "c(x) y"},
		"not, and, or":       {[]string{"f"}, []string{`feature f; feature g; leaf x { if-feature "not (g or not f)"; } leaf y { if-feature "f and not f or g"; }`}, "x"},
		"deviation":          {nil, []string{"leaf x" + leaf + " leaf y" + leaf, "import a { prefix q; } deviation /q:x { deviate not-supported; }"}, "y"},
		"what is no data":    {nil, []string{"rpc r { input { leaf i" + leaf + " } } notification n; leaf x" + leaf}, "r((i)) n x"},
		"refined":            {nil, []string{"feature f; grouping g { leaf x" + leaf + " leaf y" + leaf + " } uses g { refine x { if-feature f; } }"}, "y"},
	} {
		s, err := read(c.features, c.bodies...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := shape(s.Module("a").Body, s.Module("a")); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestConditions(t *testing.T) {
	s, err := read(nil, `grouping g { leaf x { when "own"; type string; } choice c { when "choice"; case d { when "case"; leaf y { type string; } } } }
		container k { uses g { when "uses"; } } augment /a:k { when "augment"; leaf z { type string; } }`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var walk func(list []*Statement)
	walk = func(list []*Statement) {
		for _, st := range list {
			for _, keyword := range []string{"when", WhenOfChoice} {
				for _, w := range st.All(keyword) {
					got = append(got, fmt.Sprint(st.Argument, " ", w.Argument, " ", w.Around))
				}
			}
			walk(st.Children)
		}
	}
	walk(s.Module("a").Body)
	const want = "x own false, x uses true, c choice true, c uses true, y case true, y choice true, y uses true, z augment true"
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
}

func TestIdentities(t *testing.T) {
	s, err := read(nil, "feature f; identity one; identity two { base one; } identity three { base two; base other; } identity other; identity never { if-feature f; base one; } identity circle { base circle; }")
	if err != nil {
		t.Fatal(err)
	}
	for base, want := range map[string]string{"a:one": "[a:three a:two]", "a:two": "[a:three]", "a:other": "[a:three]", "a:three": "[]", "a:circle": "[]"} {
		if got := fmt.Sprint(s.Derived(base)); got != want {
			t.Errorf("derived from %s: %s, want %s", base, got, want)
		}
	}
	if s.Identity("a:never") || !s.Identity("a:one") {
		t.Error("which identities there are")
	}
}

func TestDeviatedBy(t *testing.T) {
	s, err := read(nil, "leaf x { type string; default 1; must y; } leaf z { type string; }",
		`import a { prefix a; } deviation /a:x { deviate replace { default 2; } deviate delete { must y; } deviate add { units u; } } deviation /a:z { deviate not-supported; }`)
	if err != nil {
		t.Fatal(err)
	}
	a := s.Module("a")
	x := a.Body[len(a.Body)-1]
	if x.Value("default") != "2" || x.Find("must") != nil || x.Value("units") != "u" || fmt.Sprint(a.DeviatedBy) != "[b]" {
		t.Errorf("%+v, deviated by %v", x, a.DeviatedBy)
	}
}

func TestRefused(t *testing.T) {
	for name, body := range map[string]string{
		"unknown import":     "import nothing { prefix n; }",
		"unknown prefix":     "container c { uses n:g; }",
		"unknown grouping":   "uses g;",
		"circle of uses":     "grouping g { container c { uses g; } } uses g;",
		"augment of nothing": "augment /a:c { leaf x { type string; } }",
		"augment twice":      "container c { leaf x { type string; } } augment /a:c { leaf x { type string; } }",
		"deviates nothing":   "deviation /a:c { deviate not-supported; }",
		"unknown deviate":    "leaf x { type string; } deviation /a:x { deviate upwards; }",
		"unknown submodule":  "include s;",
		"unknown feature":    "leaf x { if-feature f; type string; }",
		"half an expression": "feature f; leaf x { if-feature \"f or (not f\"; type string; }",
		"unknown in uses":    "grouping g { leaf x { type string; } } uses g { shiny true; }",
		"no YANG":            "leaf {",
	} {
		if _, err := read(nil, body); err == nil {
			t.Errorf("%s: %s is taken", name, body)
		}
	}
	if _, err := Read(map[string]string{}, Options{Implemented: []string{"a"}}); err == nil {
		t.Error("a module that is not there")
	}
}
