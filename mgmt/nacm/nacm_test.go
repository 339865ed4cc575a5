package nacm

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"vita/mgmt/internal/schema"
	op "vita/mgmt/operational"
)

const gw = "vita-esp-gateway"

// config returns a configuration with one group "ops" of the user joe, and one
// rule-list of it.
func config(rules ...Rule) Config {
	c := Default()
	c.Groups = []Group{{"ops", []string{"joe"}}, {"other", []string{"ann"}}}
	c.Lists = []List{{Name: "l", Groups: []string{"ops"}, Rules: rules}}
	return c
}

func compile(t testing.TB, c Config) *Policy {
	t.Helper()
	p, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOperations has every step of RFC 8341 section 3.4.4.
func TestOperations(t *testing.T) {
	any := func(permit bool) Rule { return Rule{Module: "*", Ops: AllOps, Permit: permit} }
	with := func(change func(*Config), rules ...Rule) Config {
		c := config(rules...)
		change(&c)
		return c
	}
	same := func(*Config) {}
	joe, ann, nobody := Session{User: "joe"}, Session{User: "ann"}, Session{User: "nobody"}
	for _, c := range []struct {
		step         string
		c            Config
		s            Session
		module, name string
		denyAll      bool
		want         bool
	}{
		{"1 disabled", with(func(c *Config) { c.Enabled = false }, any(false)), joe, netconfModule, "kill-session", true, true},
		{"2 recovery", config(any(false)), Session{User: "joe", Recovery: true}, netconfModule, "kill-session", true, true},
		{"3 close-session", config(any(false)), joe, netconfModule, "close-session", false, true},
		{"3 another module's close-session", config(any(false)), joe, "m", "close-session", false, false},
		{"4 no external groups", with(same, any(false)), Session{User: "x", Groups: []string{"other"}}, "m", "o", false, true},
		{"4 external groups", with(same, any(false)), Session{User: "x", Groups: []string{"ops"}}, "m", "o", false, false},
		{"4 external groups off", with(func(c *Config) { c.External = false }, any(false)), Session{User: "x", Groups: []string{"ops"}}, "m", "o", false, true},
		{"5 no groups: rules for all do not count", with(func(c *Config) { c.Lists[0].Groups = []string{"*"} }, any(false)), nobody, "m", "o", false, true},
		{"6 another group's list", config(any(false)), ann, "m", "o", false, true},
		{"6 all groups' list", with(func(c *Config) { c.Lists[0].Groups = []string{"*"} }, any(false)), ann, "m", "o", false, false},
		{"7 lists in order", with(func(c *Config) {
			c.Lists = append([]List{{"first", []string{"ops"}, []Rule{any(true)}}}, c.Lists...)
		}, any(false)), joe, netconfModule, "kill-session", true, true},
		{"7 rules in order", config(Rule{Module: "m", Ops: Exec, Permit: false}, any(true)), joe, "m", "o", false, false},
		{"7 module", config(Rule{Module: "other", Ops: Exec}), joe, "m", "o", false, true},
		{"7 name", config(Rule{Module: "m", Kind: Operation, Of: "o", Ops: Exec}), joe, "m", "o", false, false},
		{"7 another name", config(Rule{Module: "m", Kind: Operation, Of: "p", Ops: Exec}), joe, "m", "o", false, true},
		{"7 every name", config(Rule{Module: "m", Kind: Operation, Of: "*", Ops: Exec}), joe, "m", "o", false, false},
		{"7 a rule of data", config(Rule{Module: "m", Kind: DataNode, Of: "*", Ops: AllOps}), joe, "m", "o", false, true},
		{"7 a rule of events", config(Rule{Module: "m", Kind: Notification, Of: "*", Ops: AllOps}), joe, "m", "o", false, true},
		{"7 without exec", config(Rule{Module: "m", Ops: Create | Read | Update | Delete}), joe, "m", "o", false, true},
		{"8 permit", config(Rule{Module: "m", Kind: Operation, Of: "o", Ops: Exec, Permit: true}), joe, "m", "o", true, true},
		{"10 default-deny-all", config(), joe, "m", "o", true, false},
		{"11 kill-session", config(), joe, netconfModule, "kill-session", false, false},
		{"11 delete-config", config(), joe, netconfModule, "delete-config", false, false},
		{"11 permitted", config(Rule{Module: netconfModule, Kind: Operation, Of: "kill-session", Ops: Exec, Permit: true}), joe, netconfModule, "kill-session", false, true},
		{"12 permit", config(), joe, netconfModule, "lock", false, true},
		{"12 deny", with(func(c *Config) { c.ExecDefault = false }), joe, netconfModule, "lock", false, false},
	} {
		if got := compile(t, c.c).For(c.s).Operation(c.module, c.name, c.denyAll); got != c.want {
			t.Errorf("%s: %v", c.step, got)
		}
	}
}

// TestNotifications has every step of RFC 8341 section 3.4.6.
func TestNotifications(t *testing.T) {
	deny := Rule{Module: "*", Ops: AllOps}
	off := config(deny)
	off.Enabled = false
	closed := config()
	closed.ReadDefault = false
	joe := Session{User: "joe"}
	for _, c := range []struct {
		step         string
		c            Config
		s            Session
		module, name string
		denyAll      bool
		want         bool
	}{
		{"1 disabled", off, joe, "m", "n", true, true},
		{"2 recovery", config(deny), Session{User: "joe", Recovery: true}, "m", "n", true, true},
		{"3 replayComplete", config(deny), joe, "nc-notifications", "replayComplete", false, true},
		{"3 notificationComplete", config(deny), joe, "nc-notifications", "notificationComplete", false, true},
		{"3 others of the module", config(deny), joe, "nc-notifications", "other", false, false},
		{"5 no groups", config(deny), Session{User: "x"}, "m", "n", false, true},
		{"7 any rule", config(deny), joe, "m", "n", false, false},
		{"7 by name", config(Rule{Module: "m", Kind: Notification, Of: "n", Ops: Read}), joe, "m", "n", false, false},
		{"7 another name", config(Rule{Module: "m", Kind: Notification, Of: "o", Ops: Read}), joe, "m", "n", false, true},
		{"7 a rule of operations", config(Rule{Module: "m", Kind: Operation, Of: "*", Ops: AllOps}), joe, "m", "n", false, true},
		{"7 without read", config(Rule{Module: "m", Ops: Exec | Update}), joe, "m", "n", false, true},
		{"8 permit", config(Rule{Module: "m", Kind: Notification, Of: "*", Ops: Read, Permit: true}), joe, "m", "n", true, true},
		{"10 default-deny-all", config(), joe, "m", "n", true, false},
		{"11 permit", config(), joe, "m", "n", false, true},
		{"11 deny", closed, joe, "m", "n", false, false},
	} {
		if got := compile(t, c.c).For(c.s).Notification(c.module, c.name, c.denyAll); got != c.want {
			t.Errorf("%s: %v", c.step, got)
		}
	}
}

// at finds the cursor of a path as rules have them.
func at(t testing.TB, a *Access, o Ops, path string) *Cursor {
	t.Helper()
	steps, err := parsePath(path)
	if err != nil {
		t.Fatal(err)
	}
	c := a.Root(o)
	n := schema.Root()
	for _, s := range steps {
		if n = n.Child(s.module, s.name); n == nil {
			t.Fatalf("%s is not in the schema", path)
		}
		if len(s.keys) == 0 {
			c = c.Child(n)
			continue
		}
		keys := make([]string, len(n.Keys))
		for i, k := range s.keys {
			keys[i] = k.value
		}
		c = c.Entry(n, keys)
	}
	return c
}

// TestData has every step of RFC 8341 section 3.4.5.
func TestData(t *testing.T) {
	data := func(module, path string, o Ops, permit bool) Rule {
		return Rule{Module: module, Kind: DataNode, Of: path, Ops: o, Permit: permit}
	}
	deny := Rule{Module: "*", Ops: AllOps}
	off := config(deny)
	off.Enabled = false
	closed, open := config(), config()
	closed.ReadDefault, open.WriteDefault = false, true
	joe := Session{User: "joe"}
	const (
		route  = "/vita-esp-gateway:route4[id='a']"
		net    = route + "/net"
		ext    = "/vita-esp-gateway:route4[id='a']/vita-esp-gateway-ext:udp-encapsulation/port"
		state  = "/vita-esp-gateway:gateway-state/key-manager"
		secret = route + "/preshared-key"
	)
	for _, c := range []struct {
		step string
		c    Config
		s    Session
		op   Ops
		path string
		want bool
	}{
		{"1 disabled", off, joe, Delete, net, true},
		{"2 recovery", config(deny), Session{User: "joe", Recovery: true}, Delete, net, true},
		{"4 no groups", config(deny), Session{User: "x"}, Read, net, true},
		{"6 any rule", config(deny), joe, Read, net, false},
		{"6 module of the node", config(Rule{Module: "vita-esp-gateway-ext", Ops: Read}), joe, Read, ext, false},
		{"6 module of what is around it", config(Rule{Module: gw, Ops: Read}), joe, Read, ext, true},
		{"6 path, the node", config(data("*", net, Read, false)), joe, Read, net, false},
		{"6 path, further up", config(data("*", route, Read, false)), joe, Read, net, false},
		{"6 path, further down", config(data("*", net, Read, false)), joe, Read, route, true},
		{"6 path and module", config(data("vita-esp-gateway-ext", route, Read, false)), joe, Read, net, true},
		{"6 path and module, augmented", config(data("vita-esp-gateway-ext", route, Read, false)), joe, Read, ext, false},
		{"6 another entry", config(data("*", "/vita-esp-gateway:route4[id='b']", Read, false)), joe, Read, net, true},
		{"6 all entries", config(data("*", "/vita-esp-gateway:route4", Read, false)), joe, Read, net, false},
		{"6 all entries, by prefix", config(data("*", "/gateway:route4/gateway:net", Read, false)), joe, Read, net, false},
		{"6 every path", config(data("*", "*", Read, false)), joe, Read, net, false},
		{"6 user", config(data("*", "/route4[id=$USER]", Read, false)), joe, Read, "/vita-esp-gateway:route4[id='joe']/net", false},
		{"6 another user", config(data("*", "/route4[id=$USER]", Read, false)), joe, Read, net, true},
		{"6 a rule of operations", config(Rule{Module: "*", Kind: Operation, Of: "*", Ops: AllOps}), joe, Read, net, true},
		{"6 a rule of events", config(Rule{Module: "*", Kind: Notification, Of: "*", Ops: AllOps}), joe, Read, net, true},
		{"6 without read", config(Rule{Module: "*", Ops: AllOps &^ Read}), joe, Read, net, true},
		{"6 in order", config(data("*", route, Read, false), Rule{Module: "*", Ops: AllOps, Permit: true}), joe, Read, net, false},
		{"6 in order, the other way", config(Rule{Module: "*", Ops: AllOps, Permit: true}, data("*", route, Read, false)), joe, Read, net, true},
		{"6 a part of what is denied", config(data("*", net, Read, true), data("*", route, Read, false)), joe, Read, net, true},
		{"6 create", config(data("*", route, Create, true)), joe, Create, net, true},
		{"6 create is not update", config(data("*", route, Create, true)), joe, Update, net, false},
		{"6 update", config(data("*", route, Update, true)), joe, Update, net, true},
		{"6 delete", config(data("*", route, Delete, true)), joe, Delete, net, true},
		{"6 exec is no access to data", config(Rule{Module: "*", Ops: Exec, Permit: true}), joe, Update, net, false},
		{"9 default-deny-all, read", config(), joe, Read, secret, false},
		{"9 what stands beside it", config(), joe, Read, net, true},
		{"10 default-deny-all, write", open, joe, Update, secret, false},
		{"10 permitted by a rule", config(data("*", secret, Update, true)), joe, Update, secret, true},
		{"11 read-default permit", config(), joe, Read, state, true},
		{"11 read-default deny", closed, joe, Read, state, false},
		{"12 write-default deny", config(), joe, Create, net, false},
		{"12 write-default permit", open, joe, Create, net, true},
	} {
		a := compile(t, c.c).For(c.s)
		for range 2 { // the second time from what is remembered
			if got := at(t, a, c.op, c.path).Permits(); got != c.want {
				t.Errorf("%s: %v", c.step, got)
			}
		}
	}
}

// TestAskedOnce: where nothing further down is decided otherwise, a cursor says so.
func TestAskedOnce(t *testing.T) {
	deny := func(path string) Rule { return Rule{Module: "*", Kind: DataNode, Of: path, Ops: Read} }
	p := compile(t, config(deny("/gateway-state"), deny("/route6[id='a']")))
	root := p.For(Session{User: "joe"}).Root(Read)
	top := func(name string) *schema.Node {
		for _, n := range schema.Root().Children {
			if n.Name == name {
				return n
			}
		}
		t.Fatal(name)
		return nil
	}
	if c := root.Child(top("esp")); c != nil {
		t.Errorf("esp: %+v", c)
	}
	if c := root.Child(top("gateway-state")); !c.None() {
		t.Errorf("gateway-state: %+v", c)
	}
	// The keys of routes are secret: the schema decides within each, but all alike.
	if c, ok := root.Alike(top("route4")); !ok || c.None() {
		t.Errorf("route4: %v %+v", ok, c)
	}
	if a, b := root.Entry(top("route4"), []string{"a"}), root.Entry(top("route4"), []string{"b"}); a != b {
		t.Error("entries that no rule tells apart have two cursors")
	}
	if _, ok := root.Alike(top("route6")); ok {
		t.Error("route6: a rule is about one entry")
	}
	if a, b := root.Entry(top("route6"), []string{"a"}), root.Entry(top("route6"), []string{"b"}); !a.None() || b.None() {
		t.Error("route6: the rule hits the wrong entry")
	}
	admin := compile(t, config(Rule{Module: "*", Ops: AllOps, Permit: true})).For(Session{User: "joe"})
	for _, o := range []Ops{Create, Read, Update, Delete} {
		if admin.Root(o) != nil {
			t.Error("who may everything is asked for each node")
		}
	}
	one := p.For(Session{User: "joe"})
	if allocs := testing.AllocsPerRun(100, func() {
		if one.Root(Read).Child(top("esp")) != nil {
			t.Fatal("esp")
		}
	}); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestPrune(t *testing.T) {
	tree := op.Top(op.Name{Module: "ietf-netconf-monitoring", Name: "netconf-state"},
		op.Group("sessions",
			op.ListEntry("session", 1, op.Number("session-id", 1), op.Text("username", "joe")),
			op.ListEntry("session", 1, op.Number("session-id", 2), op.Text("username", "ann"))),
		op.Group("statistics", op.Number("in-sessions", 2)))
	show := func(n *op.Node) string {
		var b strings.Builder
		var walk func(*op.Node)
		walk = func(n *op.Node) {
			b.WriteString(" " + n.Name + n.Value)
			for _, c := range n.Children {
				walk(c)
			}
		}
		if n != nil {
			walk(n)
		}
		return strings.TrimSpace(b.String())
	}
	const state = "/ietf-netconf-monitoring:netconf-state"
	closed := config(Rule{Module: "*", Kind: DataNode, Of: state + "/sessions/session[session-id='1']/username", Ops: Read, Permit: true})
	closed.ReadDefault = false
	for want, c := range map[string]Config{
		"netconf-state sessions session session-id1 usernamejoe session session-id2 usernameann statistics in-sessions2": config(),
		"": config(Rule{Module: "ietf-netconf-monitoring", Ops: Read}),
		"netconf-state sessions session session-id1 usernamejoe session session-id2 statistics in-sessions2": config(Rule{Module: "*", Kind: DataNode, Of: state + "/sessions/session[session-id='2']/username", Ops: Read}),
		"netconf-state statistics in-sessions2":                  config(Rule{Module: "*", Kind: DataNode, Of: state + "/sessions", Ops: Read}),
		"netconf-state sessions session session-id1 usernamejoe": closed,
	} {
		if got := show(compile(t, c).For(Session{User: "joe"}).Prune(tree)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestBadPaths(t *testing.T) {
	for path, want := range map[string]string{
		"":                             "a path names a node",
		"route4":                       "malformed",
		"/":                            "needs its module",
		"/nothing":                     "needs its module",
		"/m:x":                         `no module "m"`,
		"/vita-esp-gateway:nothing":    "there is no vita-esp-gateway:nothing",
		"/route4[id='a'":               "malformed",
		"/route4[id=a]":                "malformed",
		"/route4[='a']":                "malformed",
		"/route4[net='a']":             "net is no key",
		"/route4[id='a b']":            "key id",
		"/route4/":                     "a name is missing",
		"/route4[id='a']x":             "malformed",
		"/mtu/x":                       "there is no",
		strings.Repeat("/route4", 100): "there is no",
		"/ietf-yang-library:a" + strings.Repeat("/b", 100): "malformed",
	} {
		c := config(Rule{Name: "r", Module: "*", Kind: DataNode, Of: path, Ops: Read})
		_, err := Compile(c)
		if e, ok := errors.AsType[*RuleError](err); !ok || e.List != "l" || e.Rule != "r" || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", path, err, want)
		}
	}
}

func TestControl(t *testing.T) {
	var c Control
	if a := c.For(Session{User: "joe"}); a != nil {
		t.Error("without a policy something is denied")
	}
	c.Set(compile(t, config(Rule{Module: "*", Ops: AllOps})))
	if c.For(Session{User: "joe"}).Operation("m", "o", false) {
		t.Error("the policy is not in force")
	}
	c.DeniedOperation()
	c.DeniedWrite()
	c.DeniedNotification()
	c.DeniedNotification()
	if o, w, n := c.Denied(); o != 1 || w != 1 || n != 2 {
		t.Error(o, w, n)
	}
	var no *Control
	no.DeniedOperation()
	no.DeniedWrite()
	no.DeniedNotification()
	if no.For(Session{}) != nil {
		t.Error("no control denies")
	}
}

// TestManyUsers: what is remembered of users is bounded.
func TestManyUsers(t *testing.T) {
	p := compile(t, config())
	for i := range 3 * mostUsers {
		p.For(Session{User: fmt.Sprint(i)})
	}
	if n := len(p.users); n > mostUsers {
		t.Error(n)
	}
}

// FuzzPath: a path is refused, or hits what it names.
func FuzzPath(f *testing.F) {
	f.Add("/vita-esp-gateway:route4[id='a']/net")
	f.Add("/gateway:route4[id=$USER]")
	f.Add(`/outbound-sa[spi="1"][queue='1']`)
	f.Add("/ietf-netconf-monitoring:netconf-state/sessions/session[session-id='1']")
	f.Fuzz(func(t *testing.T, path string) {
		p, err := Compile(config(Rule{Module: "*", Kind: DataNode, Of: path, Ops: AllOps, Permit: true}))
		if err != nil {
			return
		}
		a := p.For(Session{User: "joe"})
		c := a.Root(Create) // nothing else permits
		if c.Permits() {
			return // "*"
		}
		for _, s := range p.lists[0].rules[0].steps {
			c = c.Named(s.module, s.name, func(k string) (string, bool) {
				for _, one := range s.keys {
					if one.name == k && one.user {
						return "joe", true
					} else if one.name == k {
						return one.value, true
					}
				}
				return "", false
			})
		}
		twice := false
		for _, s := range p.lists[0].rules[0].steps {
			seen := map[string]string{}
			for _, k := range s.keys {
				v, again := seen[k.name]
				twice = twice || again && v != k.value
				seen[k.name] = k.value
			}
		}
		if !c.Permits() && !twice {
			t.Fatalf("%q does not hit what it names", path)
		}
	})
}
