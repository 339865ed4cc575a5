package edit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"vita/gen"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// n makes a node of an edit from a short form: "name", "name=value" for a
// leaf, "name=key,key" for an entry; an operation may follow after a space.
func n(parent *schema.Node, text string, children ...func(*schema.Node) *Node) *Node {
	name, op, _ := strings.Cut(text, " ")
	name, value, keyed := strings.Cut(name, "=")
	s := parent.Child("", name)
	if s == nil {
		panic("no node " + name)
	}
	e := &Node{Schema: s}
	for o := None; o <= Remove; o++ {
		if op == o.String() {
			e.Op = o
		}
	}
	switch {
	case s.Kind == schema.List && keyed:
		e.Keys = strings.Split(value, ",")
	case s.Kind == schema.Leaf:
		e.Value = value
	}
	for _, c := range children {
		e.Children = append(e.Children, c(s))
	}
	return e
}

func in(text string, children ...func(*schema.Node) *Node) func(*schema.Node) *Node {
	return func(parent *schema.Node) *Node { return n(parent, text, children...) }
}

func root(children ...func(*schema.Node) *Node) *Node {
	e := &Node{Schema: schema.Root()}
	for _, c := range children {
		e.Children = append(e.Children, c(e.Schema))
	}
	return e
}

// dump returns a tree as lines of leaf paths and values.
func dump(tree *gen.Vita) string {
	var b strings.Builder
	for _, c := range Export(tree) {
		fmt.Fprintf(&b, "%s=%s\n", strings.ReplaceAll(c.Path(), "vita-esp-gateway:", ""), c.New)
	}
	return b.String()
}

func start(t testing.TB) *gen.Vita {
	t.Helper()
	tree := &gen.Vita{}
	_, err := Apply(tree, root(
		in("mtu=1400"),
		in("private-interface4", in("ifname=eth0"), in("ip=10.0.0.1")),
		in("route4=a", in("spi=300"), in("gateway=192.0.2.1"), in("gateway=192.0.2.2", in("queue=2"))),
		in("route4=b", in("spi=301")),
		in("inbound-sa=1000,1", in("route=a")),
	), Merge)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

const started = `/private-interface4/ifname=eth0
/private-interface4/ip=10.0.0.1
/route4[id='a']/id=a
/route4[id='a']/spi=300
/route4[id='a']/gateway[ip='192.0.2.1']/ip=192.0.2.1
/route4[id='a']/gateway[ip='192.0.2.2']/ip=192.0.2.2
/route4[id='a']/gateway[ip='192.0.2.2']/queue=2
/route4[id='b']/id=b
/route4[id='b']/spi=301
/mtu=1400
/inbound-sa[spi='1000'][queue='1']/spi=1000
/inbound-sa[spi='1000'][queue='1']/queue=1
/inbound-sa[spi='1000'][queue='1']/route=a
`

func TestApply(t *testing.T) {
	for name, c := range map[string]struct {
		edit    *Node
		def     Op
		gone    string // lines of started that are gone
		added   string // lines that came
		tag, at string // or the error
	}{
		"nothing":                     {edit: root(), def: Merge},
		"merge leaf":                  {edit: root(in("mtu=1300")), def: Merge, gone: "/mtu=1400", added: "/mtu=1300"},
		"merge same":                  {edit: root(in("mtu=1400")), def: Merge},
		"merge entry":                 {edit: root(in("route4=a", in("spi=302"))), def: Merge, gone: "/route4[id='a']/spi=300", added: "/route4[id='a']/spi=302"},
		"merge new entry":             {edit: root(in("route4=c")), def: Merge, added: "/route4[id='c']/id=c"},
		"create leaf":                 {edit: root(in("tfc=true create")), def: None, added: "/tfc=true"},
		"create leaf that is":         {edit: root(in("mtu=1 create")), def: Merge, tag: "data-exists", at: "/mtu"},
		"create entry that is":        {edit: root(in("route4=a create")), def: Merge, tag: "data-exists", at: "/route4[id='a']"},
		"create container that is":    {edit: root(in("private-interface4 create", in("mac=0"))), def: Merge, tag: "data-exists", at: "/private-interface4"},
		"create inherited":            {edit: root(in("route4=a", in("spi=1"))), def: Create, tag: "data-exists", at: "/route4[id='a']"},
		"create within entry":         {edit: root(in("route4=a", in("gateway=192.0.2.3 create", in("queue=3")))), def: None, added: "/route4[id='a']/gateway[ip='192.0.2.3']/ip=192.0.2.3 /route4[id='a']/gateway[ip='192.0.2.3']/queue=3"},
		"delete leaf":                 {edit: root(in("mtu delete")), def: Merge, gone: "/mtu=1400"},
		"delete leaf that is not":     {edit: root(in("tfc delete")), def: Merge, tag: "data-missing", at: "/tfc"},
		"delete entry that is not":    {edit: root(in("route4=x delete")), def: Merge, tag: "data-missing", at: "/route4[id='x']"},
		"delete container":            {edit: root(in("private-interface4 delete")), def: Merge, gone: "/private-interface4/ifname=eth0 /private-interface4/ip=10.0.0.1"},
		"delete container that isn't": {edit: root(in("private-interface6 delete")), def: Merge, tag: "data-missing", at: "/private-interface6"},
		"delete inner entry":          {edit: root(in("route4=a", in("gateway=192.0.2.2 delete"))), def: None, gone: "/route4[id='a']/gateway[ip='192.0.2.2']/ip=192.0.2.2 /route4[id='a']/gateway[ip='192.0.2.2']/queue=2"},
		"delete whole list":           {edit: root(in("inbound-sa delete")), def: Merge, gone: "/inbound-sa[spi='1000'][queue='1']/spi=1000 /inbound-sa[spi='1000'][queue='1']/queue=1 /inbound-sa[spi='1000'][queue='1']/route=a"},
		"delete empty list":           {edit: root(in("outbound-sa delete")), def: Merge, tag: "data-missing", at: "/outbound-sa"},
		"merge whole list":            {edit: root(in("outbound-sa merge")), def: Merge, tag: "missing-element", at: "/outbound-sa"},
		"remove what is not":          {edit: root(in("tfc remove"), in("route4=x remove"), in("private-interface6 remove"), in("outbound-sa remove")), def: Merge},
		"remove leaf":                 {edit: root(in("mtu remove")), def: Merge, gone: "/mtu=1400"},
		"key delete":                  {edit: root(in("route4=a", in("id delete"))), def: Merge, tag: "invalid-value", at: "/route4[id='a']/id"},
		"key change":                  {edit: root(in("route4=a", in("id=z"))), def: Merge, tag: "invalid-value", at: "/route4[id='a']/id"},
		"key the same":                {edit: root(in("route4=a", in("id=a"))), def: Merge},
		"none of what is not":         {edit: root(in("route4=x", in("spi=1 merge"))), def: None, tag: "data-missing", at: "/route4[id='x']"},
		"none of a leaf that is not":  {edit: root(in("tfc=true")), def: None, tag: "data-missing", at: "/tfc"},
		"none of a leaf":              {edit: root(in("mtu=1")), def: None},
		"none into container":         {edit: root(in("private-interface4", in("mac=0 merge"))), def: None, added: "/private-interface4/mac=0"},
		"none into empty container":   {edit: root(in("private-interface6", in("ip delete"))), def: None, tag: "data-missing", at: "/private-interface6/ip"},
		"replace entry":               {edit: root(in("route4=a replace", in("gateway=192.0.2.2"))), def: Merge, gone: "/route4[id='a']/spi=300 /route4[id='a']/gateway[ip='192.0.2.1']/ip=192.0.2.1 /route4[id='a']/gateway[ip='192.0.2.2']/queue=2"},
		"replace container":           {edit: root(in("private-interface4 replace", in("ip=10.0.0.2"))), def: Merge, gone: "/private-interface4/ifname=eth0 /private-interface4/ip=10.0.0.1", added: "/private-interface4/ip=10.0.0.2"},
		"replace with nothing":        {edit: root(in("private-interface4 replace")), def: Merge, gone: "/private-interface4/ifname=eth0 /private-interface4/ip=10.0.0.1"},
		"choice within":               {edit: root(in("private-interface4", in("pci=02:00.0"))), def: Merge, gone: "/private-interface4/ifname=eth0", added: "/private-interface4/pci=02:00.0"},
		"other case by leaf":          {edit: root(in("private-interface6", in("ip=2001:db8::1"))), def: Merge, gone: allOf("/private-interface4", "/route4"), added: "/private-interface6/ip=2001:db8::1"},
		"other case by entry":         {edit: root(in("route6=a")), def: Merge, gone: allOf("/private-interface4", "/route4"), added: "/route6[id='a']/id=a"},
		"other case by nothing":       {edit: root(in("private-interface6")), def: Merge},
		"other case removed":          {edit: root(in("route6=a remove")), def: Merge},
		"all or nothing":              {edit: root(in("mtu=1"), in("route6=a"), in("tfc delete")), def: Merge, tag: "data-missing", at: "/tfc"},
		"failure in new container":    {edit: root(in("private-interface6", in("ip=1"), in("mac delete"))), def: Merge, tag: "data-missing", at: "/private-interface6/mac"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, again := start(t), start(t)
			before := dump(tree)
			if before != started {
				t.Fatalf("started with\n%s", before)
			}
			j, err := Apply(tree, c.edit, c.def)
			want := map[string]bool{}
			if c.tag != "" {
				var e *rpcerr.Error
				if !errors.As(err, &e) || e.Tag != c.tag || strings.ReplaceAll(e.Path, "vita-esp-gateway:", "") != c.at {
					t.Errorf("error %v, want %s at %s", err, c.tag, c.at)
				}
				if got := dump(tree); got != before || len(j) > 0 {
					t.Errorf("a failed edit has changed\n%s\nto\n%s", before, got)
				}
				if !reflect.DeepEqual(tree, again) {
					t.Error("a failed edit has left something behind")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(before) {
				want[strings.TrimSpace(line)] = true
			}
			for line := range strings.FieldsSeq(c.gone) {
				if !want[line] {
					t.Fatalf("%s was not there", line)
				}
				delete(want, line)
			}
			for line := range strings.FieldsSeq(c.added) {
				want[line] = true
			}
			after := dump(tree)
			for line := range strings.Lines(after) {
				if !want[strings.TrimSpace(line)] {
					t.Errorf("unexpected %s", line)
				}
				delete(want, strings.TrimSpace(line))
			}
			for line := range want {
				t.Errorf("missing %s", line)
			}
			check(t, j, tree, again)
		})
	}
}

// allOf returns the lines of started that begin with any of some paths.
func allOf(prefixes ...string) string {
	var b strings.Builder
	for line := range strings.Lines(started) {
		for _, p := range prefixes {
			if strings.HasPrefix(line, p) {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// check carries a journal out on a tree as it was before, and takes it back
// on both.
func check(t *testing.T, j Journal, after, before *gen.Vita) {
	t.Helper()
	first := dump(before)
	j.Redo(before)
	if !reflect.DeepEqual(before, after) {
		t.Fatalf("redo:\n%s\nwant\n%s", dump(before), dump(after))
	}
	for _, tree := range []*gen.Vita{before, after} {
		j.Undo(tree)
		if got := dump(tree); got != first {
			t.Fatalf("undo:\n%s\nwant\n%s", got, first)
		}
	}
	if !reflect.DeepEqual(before, after) {
		t.Fatal("undo leaves different trees")
	}
	j.Redo(after)
}

func TestReplaceRoot(t *testing.T) {
	tree := start(t)
	j, err := Apply(tree, root(in("mtu=1400"), in("route4=b", in("spi=301"))), Replace)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := dump(tree), "/route4[id='b']/id=b\n/route4[id='b']/spi=301\n/mtu=1400\n"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	for _, c := range j {
		if c.HasNew {
			t.Errorf("%s was set, though it was there", c.Path())
		}
	}
	check(t, j, tree, start(t))
	if _, err := Apply(tree, &Node{Schema: schema.Root(), Op: Delete}, Merge); err != nil || dump(tree) != "" {
		t.Errorf("delete of everything: %v\n%s", err, dump(tree))
	}
	if !reflect.DeepEqual(tree, &gen.Vita{}) {
		t.Errorf("something is left: %+v", tree)
	}
}

func TestState(t *testing.T) {
	seven := uint64(7)
	tree := &gen.Vita{GatewayState: &gen.VitaEspGateway_GatewayState{KeyManager: &gen.VitaEspGateway_GatewayState_KeyManager{RouteErrors: &seven}}}
	if len(Export(tree)) != 0 {
		t.Error("state is exported")
	}
	if _, err := Apply(tree, root(), Replace); err != nil || tree.GatewayState == nil {
		t.Errorf("a replace has removed state: %v", err)
	}
}

func TestRebase(t *testing.T) {
	apply := func(tree *gen.Vita, e *Node) Journal {
		t.Helper()
		j, err := Apply(tree, e, Merge)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	for name, c := range map[string]struct {
		pending, other *Node
		want           string
	}{
		"apart": {root(in("mtu=1")), root(in("tfc=true")), strings.Replace(started, "/mtu=1400\n", "/mtu=1\n/tfc=true\n", 1)},
		"both delete": {
			root(in("route4=b delete")), root(in("route4=b delete")),
			strings.Replace(started, "/route4[id='b']/id=b\n/route4[id='b']/spi=301\n", "", 1),
		},
		"delete over change": {
			root(in("route4=b delete")), root(in("route4=b", in("net=10.0.0.0/8"))),
			strings.Replace(started, "/route4[id='b']/id=b\n/route4[id='b']/spi=301\n", "", 1),
		},
		"change over delete": {
			root(in("route4=b", in("spi=305"))), root(in("route4=b delete")),
			strings.Replace(started, "spi=301", "spi=305", 1),
		},
		"clear over delete": {
			root(in("private-interface4", in("ip delete"))), root(in("private-interface4 delete")),
			strings.Replace(started, "/private-interface4/ifname=eth0\n/private-interface4/ip=10.0.0.1\n", "", 1),
		},
		"other family": {
			root(in("route4=c")), root(in("private-interface6", in("ip=2001:db8::1"))),
			"/route4[id='c']/id=c\n/mtu=1400\n" + started[strings.Index(started, "/inbound-sa"):],
		},
		"other family, container": {
			root(in("private-interface4", in("mac=0"))), root(in("route6=a")),
			"/private-interface4/mac=0\n/mtu=1400\n" + started[strings.Index(started, "/inbound-sa"):],
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree, reference := start(t), start(t)
			pending := apply(tree, c.pending)
			pending.Undo(tree)
			other := apply(tree, c.other)
			other.Redo(reference)
			rebased := pending.Rebase(tree)
			if got := dump(tree); got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
			check(t, rebased, tree, reference)
		})
	}
}

// TestRandom makes random edits and takes their journals back and forth: the
// trees stay equal, structs and all.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	value := func(s *schema.Node) string {
		switch s.Type.Base {
		case schema.Bool:
			return fmt.Sprint(r.IntN(2) == 0)
		case schema.Uint:
			return fmt.Sprint(1 + r.IntN(3))
		case schema.Enum:
			return s.Type.Enums[r.IntN(len(s.Type.Enums))].Name
		}
		return string(rune('a' + r.IntN(3))) // kept as text
	}
	var random func(s *schema.Node, depth int) *Node
	random = func(s *schema.Node, depth int) *Node {
		e := &Node{Schema: s}
		if r.IntN(4) == 0 && s.Parent != nil {
			e.Op = []Op{Merge, Replace, Remove, Remove}[r.IntN(4)]
		}
		for _, k := range s.Keys {
			e.Keys = append(e.Keys, value(k))
		}
		if s.HasValue() {
			e.Value = value(s)
		}
		chosen := map[*schema.Choice]*schema.Case{}
		for _, c := range s.Children {
			if !c.Config || c.IsKey || r.IntN(3) == 0 {
				continue
			}
			if c.Case != nil {
				if o := chosen[c.Case.Choice]; o != nil && o != c.Case {
					continue
				}
				chosen[c.Case.Choice] = c.Case
			}
			e.Children = append(e.Children, random(c, depth+1))
		}
		return e
	}
	tree, mirror := &gen.Vita{}, &gen.Vita{}
	var done []Journal
	var dumps []string
	for range 300 {
		dumps = append(dumps, dump(tree))
		j, err := Apply(tree, random(schema.Root(), 0), []Op{Merge, Replace, Merge}[r.IntN(3)])
		if err != nil {
			t.Fatal(err)
		}
		j.Redo(mirror)
		if !reflect.DeepEqual(tree, mirror) {
			t.Fatalf("redo:\n%s\nwant\n%s", dump(mirror), dump(tree))
		}
		if tree.Route4 != nil && tree.Route6 != nil {
			t.Fatal("both cases of a choice")
		}
		done = append(done, j)
	}
	fresh := &gen.Vita{}
	Export(tree).Redo(fresh)
	if !reflect.DeepEqual(tree, fresh) {
		t.Fatal("export")
	}
	for i, j := range slices.Backward(done) {
		j.Undo(tree)
		if dump(tree) != dumps[i] {
			t.Fatalf("undo of edit %d", i)
		}
	}
	if !reflect.DeepEqual(tree, &gen.Vita{}) {
		t.Fatal("something is left")
	}
}
