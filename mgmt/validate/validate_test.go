package validate

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	goyang "github.com/openconfig/goyang/pkg/yang"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/yangenc"
	"vita/yang"
)

const key = "00112233445566778899aabbccddeeff"

func apply(t testing.TB, tree *gen.Vita, json string, def edit.Op) edit.Journal {
	t.Helper()
	e, err := yangenc.DecodeJSON([]byte(json), nil)
	if err != nil {
		t.Fatal(err)
	}
	j, err := edit.Apply(tree, e, def)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func build(t testing.TB, json string) *gen.Vita {
	t.Helper()
	tree := &gen.Vita{}
	apply(t, tree, json, edit.Merge)
	return tree
}

func private(v int) string {
	a := map[int]string{4: `"ip":"10.0.0.1","nexthop-ip":"10.0.0.2"`, 6: `"ip":"2001:db8::1","nexthop-ip":"2001:db8::2"`}[v]
	return fmt.Sprintf(`"vita-esp-gateway:private-interface%d":{"ifname":"eth0",%s}`, v, a)
}

func public(v int, more string) string {
	a := map[int]string{4: `"ip":"192.0.2.1","nexthop-ip":"192.0.2.2"`, 6: `"ip":"2001:db8:1::1","nexthop-ip":"2001:db8:1::2"`}[v]
	return fmt.Sprintf(`{"ifname":"eth1",%s%s}`, a, more)
}

func route(v int, id string, spi, psk, net int, gateways string) string {
	a := map[int]string{4: fmt.Sprintf("10.%d.0.0/16", net), 6: fmt.Sprintf("2001:db8:%x::/48", net)}[v]
	return fmt.Sprintf(`{"id":%q,"spi":%d,"preshared-key":"%064x","net":%q,"gateway":[%s]}`, id, spi, psk, a, gateways)
}

func gateway(v, n int, more string) string {
	a := map[int]string{4: fmt.Sprintf("192.0.2.%d", n), 6: fmt.Sprintf("2001:db8:2::%d", n)}[v]
	return fmt.Sprintf(`{"ip":%q%s}`, a, more)
}

func sa(more string) string {
	return `{"route":"r1","spi":1000,"queue":1,"aead":"aes-gcm-16-icv","key":"` + key + `","salt":"00112233"` + more + `}`
}

// complete is a configuration with everything, for a family. drop and with
// exchange text in it.
func complete(v int, replace ...string) string {
	s := fmt.Sprintf(`{%s,"vita-esp-gateway:public-interface%d":[%s],"vita-esp-gateway:route%d":[%s],"vita-esp-gateway:data-plane":true,`+
		`"vita-esp-gateway:outbound-sa":[%s],"vita-esp-gateway:inbound-sa":[%s]}`,
		private(v), v, public(v, ""), v, route(v, "r1", 1001, 1, 1, gateway(v, 1, "")), sa(""), sa(""))
	return strings.NewReplacer(replace...).Replace(s)
}

// bothFamilies is a configuration for a family with nets of both.
func bothFamilies(v int) string {
	other := 10 - v
	a := map[int]string{4: "10.0.0.1", 6: "2001:db8::1"}[other]
	return complete(v, `"ifname":"eth0"`, fmt.Sprintf(`"ifname":"eth0","vita-esp-gateway-ext:ip%d":%q,"vita-esp-gateway-ext:nexthop-ip%d":"%s1"`, other, a, other, a),
		`"id":"r1"`, `"id":"r1","vita-esp-gateway-ext:further-net":[{"net":"10.99.0.0/16"},{"net":"2001:db8:99::/48"},{"net":"::/0"}]`)
}

func TestValid(t *testing.T) {
	for name, json := range map[string]string{
		"empty":      `{}`,
		"IPv4":       complete(4),
		"IPv6":       complete(6),
		"both in 4":  bothFamilies(4),
		"both in 6":  bothFamilies(6),
		"times":      `{"vita-esp-gateway:sa-ttl":21}`,
		"no routes":  `{` + private(4) + `}`,
		"two queues": `{` + private(4) + `,"vita-esp-gateway:public-interface4":[` + public(4, "") + `,` + strings.Replace(public(4, `,"queue":2`), "192.0.2.1", "192.0.2.9", 1) + `]}`,
		"same gateway queue in two routes": `{` + private(4) + `,"vita-esp-gateway:route4":[` +
			route(4, "a", 300, 1, 1, gateway(4, 1, "")) + `,` + route(4, "b", 301, 2, 2, gateway(4, 1, "")) + `]}`,
	} {
		if errs := Tree(build(t, json)); errs != nil {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

// broken has, for each constraint of the model, a configuration that breaks it
// and nothing else. The key names the constraint: kind and schema path.
var broken = func() map[string]struct{ json, tag, appTag, path string } {
	type b = struct{ json, tag, appTag, path string }
	m := map[string]b{
		"must /sa-ttl: . > 4 * ../negotiation-ttl": {`{"vita-esp-gateway:sa-ttl":20}`, "operation-failed", "must-violation", "/vita-esp-gateway:sa-ttl"},
	}
	for _, v := range []int{4, 6} {
		p := fmt.Sprintf("/private-interface%d", v)
		for leaf, drop := range map[string]string{"ip": `"ip":`, "nexthop-ip": `"nexthop-ip":`} {
			json := `{` + regexp.MustCompile(`(,?)`+drop+`"[^"]*"`).ReplaceAllString(private(v), "") + `}`
			m["mandatory "+p+"/"+leaf] = b{json, "data-missing", "", "/vita-esp-gateway:" + p[1:] + "/" + leaf}
		}
		m["choice "+p+"/link"] = b{`{` + strings.Replace(private(v), `"ifname":"eth0",`, "", 1) + `}`, "data-missing", "missing-choice", "/vita-esp-gateway:" + p[1:]}

		other, a := 10-v, map[int]string{6: "10.0.0.9", 4: "2001:db8::9"}[v]
		ext := p + "/vita-esp-gateway-ext:"
		for leaf, needs := range map[string]string{"ip": "nexthop-ip", "nexthop-ip": "ip", "nexthop-mac": "nexthop-ip"} {
			leaf, needs := fmt.Sprint(leaf, other), fmt.Sprint(needs, other)
			value := a
			if strings.HasPrefix(leaf, "nexthop-mac") {
				value = "02:00:00:00:00:01"
			}
			m["must "+ext+leaf+": ../ext:"+needs] = b{
				`{` + strings.Replace(private(v), `"ifname"`, fmt.Sprintf(`"vita-esp-gateway-ext:%s":%q,"ifname"`, leaf, value), 1) + `}`,
				"operation-failed", "must-violation", "/vita-esp-gateway:" + p[1:] + "/vita-esp-gateway-ext:" + leaf,
			}
		}

		p = fmt.Sprintf("/public-interface%d", v)
		list := func(entries string) string {
			return `{` + private(v) + `,"vita-esp-gateway:` + p[1:] + `":[` + entries + `]}`
		}
		ip := map[int]string{4: "192.0.2.1", 6: "2001:db8:1::1"}[v]
		at := "/vita-esp-gateway:" + p[1:] + "[ip='" + ip + "']"
		m["mandatory "+p+"/nexthop-ip"] = b{list(`{"ifname":"eth1","ip":"` + ip + `"}`), "data-missing", "", at + "/nexthop-ip"}
		m["choice "+p+"/link"] = b{list(strings.Replace(public(v, ""), `"ifname":"eth1",`, "", 1)), "data-missing", "missing-choice", at}
		m["unique "+p+": queue"] = b{
			list(public(v, "") + `,` + strings.Replace(public(v, `,"queue":1`), ip, ip+"1", 1)),
			"operation-failed", "data-not-unique", "/vita-esp-gateway:" + p[1:] + "[ip='" + ip + "1']",
		}

		p = fmt.Sprintf("/route%d", v)
		list = func(entries string) string {
			return `{` + private(v) + `,"vita-esp-gateway:` + p[1:] + `":[` + entries + `]}`
		}
		good := route(v, "a", 300, 1, 1, gateway(v, 1, ""))
		at = "/vita-esp-gateway:" + p[1:] + "[id='a']"
		for _, leaf := range []string{"spi", "preshared-key", "net"} {
			m["mandatory "+p+"/"+leaf] = b{list(regexp.MustCompile(`"`+leaf+`":("[^"]*"|\d+),`).ReplaceAllString(good, "")), "data-missing", "", at + "/" + leaf}
		}
		m["min-elements "+p+"/gateway"] = b{list(route(v, "a", 300, 1, 1, "")), "operation-failed", "too-few-elements", at + "/gateway"}
		second := "/vita-esp-gateway:" + p[1:] + "[id='b']"
		for leaf, other := range map[string]string{
			"spi":           route(v, "b", 300, 2, 2, gateway(v, 1, "")),
			"preshared-key": route(v, "b", 301, 1, 2, gateway(v, 1, "")),
			"net":           route(v, "b", 301, 2, 1, gateway(v, 1, "")),
		} {
			m["unique "+p+": "+leaf] = b{list(good + `,` + other), "operation-failed", "data-not-unique", second}
		}
		gw := map[int]string{4: "192.0.2.2", 6: "2001:db8:2::2"}[v]
		m["unique "+p+"/gateway: queue"] = b{
			list(route(v, "a", 300, 1, 1, gateway(v, 1, "")+`,`+gateway(v, 2, `,"queue":1`))),
			"operation-failed", "data-not-unique", at + "/gateway[ip='" + gw + "']",
		}
	}
	for _, name := range []string{"outbound-sa", "inbound-sa"} {
		p := "/" + name
		with := func(entries string) string {
			return `{` + private(4) + `,"vita-esp-gateway:route4":[` + route(4, "r1", 300, 1, 1, gateway(4, 1, "")) + `],"vita-esp-gateway:data-plane":true,"vita-esp-gateway:` + name + `":[` + entries + `]}`
		}
		at := "/vita-esp-gateway:" + name + "[spi='1000'][queue='1']"
		for _, leaf := range []string{"route", "aead", "key", "salt"} {
			m["mandatory "+p+"/"+leaf] = b{
				with(strings.Replace(strings.Replace(regexp.MustCompile(`"`+leaf+`":"[^"]*"`).ReplaceAllString(sa(""), ""), ",,", ",", 1), "{,", "{", 1)),
				"data-missing", "", at + "/" + leaf,
			}
		}
		for leaf, json := range m { // a value that came last leaves a comma behind
			json.json = strings.ReplaceAll(json.json, ",}", "}")
			m[leaf] = json
		}
		m["must "+p+"/aead: . = 'aes-gcm-16-icv'"] = b{with(strings.Replace(sa(""), "gcm-16", "gcm-12", 1)), "operation-failed", "must-violation", at + "/aead"}
		m["must "+p+": ../data-plane = 'true'"] = b{strings.Replace(with(sa("")), `data-plane":true`, `data-plane":false`, 1), "operation-failed", "must-violation", at}
		m["must "+p+": ../route4[id = current()/route] or ../route6[id = current()/route]"] = b{
			with(strings.Replace(sa(""), `"r1"`, `"r2"`, 1)), "operation-failed", "must-violation", at,
		}
	}
	const users, rule = "/ietf-system:system/authentication", "/ietf-netconf-acm:nacm/rule-list[name='l']/rule[name='r']"
	m["must "+users+`/user-authentication-order: (. != "sys:radius" or ../../radius/server)`] = b{
		`{"ietf-system:system":{"authentication":{"user-authentication-order":["ietf-system:local-users","ietf-system:radius"]}}}`,
		"operation-failed", "must-violation", users + "/user-authentication-order[.='ietf-system:radius']",
	}
	for leaf, other := range map[string]string{"algorithm": `"key-data":"aGFsbG8="`, "key-data": `"algorithm":"ssh-ed25519"`} {
		m["mandatory "+users+"/user/authorized-key/"+leaf] = b{
			`{"ietf-system:system":{"authentication":{"user":[{"name":"u","authorized-key":[{"name":"k",` + other + `}]}]}}}`,
			"data-missing", "", users + "/user[name='u']/authorized-key[name='k']/" + leaf,
		}
	}
	const system = "/ietf-system:system"
	of := func(what string) string { return `{"ietf-system:system":{` + what + `}}` }
	many := func(n int, entry string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(entry, i))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	m["choice "+system+"/ntp/server/transport"] = b{of(`"ntp":{"server":[{"name":"t"}]}`), "data-missing", "missing-choice", system + "/ntp/server[name='t']"}
	m["mandatory "+system+"/ntp/server/udp/address"] = b{of(`"ntp":{"server":[{"name":"t","udp":{"port":1}}]}`), "data-missing", "", system + "/ntp/server[name='t']/udp/address"}
	m["max-elements "+system+"/ntp/server"] = b{of(`"ntp":{"server":` + many(9, `{"name":"%d","udp":{"address":"192.0.2.1"}}`) + `}`), "operation-failed", "too-many-elements", system + "/ntp/server"}
	m["choice "+system+"/dns-resolver/server/transport"] = b{of(`"dns-resolver":{"server":[{"name":"t"}]}`), "data-missing", "missing-choice", system + "/dns-resolver/server[name='t']"}
	m["max-elements "+system+"/dns-resolver/server"] = b{of(`"dns-resolver":{"server":` + many(4, `{"name":"%d","udp-and-tcp":{"address":"192.0.2.1"}}`) + `}`), "operation-failed", "too-many-elements", system + "/dns-resolver/server"}
	m["max-elements "+system+"/dns-resolver/search"] = b{of(`"dns-resolver":{"search":` + many(7, `"d%d.example"`) + `}`), "operation-failed", "too-many-elements", system + "/dns-resolver/search"}
	m["max-elements /vita-esp-gateway-ext:appliance/syslog"] = b{`{"vita-esp-gateway-ext:appliance":{"syslog":` + many(9, `{"address":"192.0.2.%d"}`) + `}}`, "operation-failed", "too-many-elements", "/vita-esp-gateway-ext:appliance/syslog"}
	m["mandatory /ietf-netconf-acm:nacm/rule-list/rule/action"] = b{
		`{"ietf-netconf-acm:nacm":{"rule-list":[{"name":"l","rule":[{"name":"r"}]}]}}`, "data-missing", "", rule + "/action",
	}
	m["unique /outbound-sa: route queue"] = b{
		`{` + private(4) + `,"vita-esp-gateway:route4":[` + route(4, "r1", 300, 1, 1, gateway(4, 1, "")) + `],"vita-esp-gateway:data-plane":true,"vita-esp-gateway:outbound-sa":[` +
			sa("") + `,` + strings.Replace(sa(""), "1000", "1001", 1) + `]}`,
		"operation-failed", "data-not-unique", "/vita-esp-gateway:outbound-sa[spi='1001'][queue='1']",
	}
	return m
}()

func TestBroken(t *testing.T) {
	for name, c := range broken {
		t.Run(name, func(t *testing.T) {
			errs := Tree(build(t, c.json))
			if len(errs) != 1 {
				t.Fatalf("%d errors, want 1: %v", len(errs), errs)
			}
			e := errs[0]
			if e.Tag != c.tag || e.AppTag != c.appTag || e.Path != c.path || e.Message == "" {
				t.Errorf("%+v\nwant %s %s at %s", e, c.tag, c.appTag, c.path)
			}
			if (c.appTag == "data-not-unique") != (len(e.NonUnique) > 0) || (c.appTag == "missing-choice") != (e.MissingChoice != "") {
				t.Errorf("error-info: %+v", e)
			}
		})
	}
}

// TestEveryConstraint walks the compiled model: each constraint in it has a
// configuration above that is seen to break it.
func TestEveryConstraint(t *testing.T) {
	want := map[string]bool{}
	short := func(n *schema.Node) string { return strings.Replace(n.Path(), "vita-esp-gateway:", "", 1) }
	visit := func(n *schema.Node) {
		if !n.Config {
			return
		}
		for _, m := range n.Must {
			want["must "+short(n)+": "+m.Expr] = true
		}
		alone := n.Case != nil && len(n.Case.Nodes) == 1 // the case exists only by the leaf
		if p := n.Parent; p != nil && p.Case != nil && len(p.Case.Nodes) == 1 && len(p.Children) == 1 {
			alone = true // or by the container that has nothing else
		}
		if n.Mandatory && !n.IsKey && !alone { // an entry without a key cannot be decoded
			want["mandatory "+short(n)] = true
		}
		if n.Min > 0 {
			want["min-elements "+short(n)] = true
		}
		if n.Max > 0 {
			want["max-elements "+short(n)] = true
		}
		for _, u := range n.Unique {
			var names []string
			for _, l := range u {
				names = append(names, l.Name)
			}
			want["unique "+short(n)+": "+strings.Join(names, " ")] = true
		}
		for _, c := range n.Choices {
			if c.Mandatory {
				want["choice "+short(n)+"/"+c.Name] = true
			}
		}
	}
	visit(schema.Root())
	schema.Root().Walk(visit)
	for name := range want {
		if _, ok := broken[name]; !ok {
			t.Errorf("no test breaks %s", name)
		}
	}
	for name := range broken {
		if !want[name] {
			t.Errorf("%s is not in the model", name)
		}
	}
}

// TestElsewhere compares what changes are checked elsewhere with what the
// statements say to a reader.
func TestElsewhere(t *testing.T) {
	sas := []string{"/vita-esp-gateway:inbound-sa", "/vita-esp-gateway:outbound-sa"}
	want := map[string][]string{
		"/vita-esp-gateway:data-plane": sas,
		"/vita-esp-gateway:route4/id":  sas,
		"/vita-esp-gateway:route6/id":  sas,
	}
	got := map[string][]string{}
	for leaf, lists := range constraintsOf().elsewhere {
		for _, l := range lists {
			if !slices.Contains(got[leaf.Path()], l.Path()) {
				got[leaf.Path()] = append(got[leaf.Path()], l.Path())
			}
		}
		slices.Sort(got[leaf.Path()])
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
}

// source returns the text of a module.
func source(name string) string {
	for file, text := range yang.Sources() {
		if n, _, _ := strings.Cut(strings.TrimSuffix(file, ".yang"), "@"); n == name {
			return text
		}
	}
	return ""
}

// TestEveryStatement walks the text of the gateway's modules: a keyword that
// constrains data, and that nobody has thought of, fails.
func TestEveryStatement(t *testing.T) {
	constrains := map[string]string{
		"must": "here", "mandatory": "here", "unique": "here", "min-elements": "here", "max-elements": "here",
		"choice": "here and in edit", "case": "here and in edit", "key": "yangenc", "type": "schema", "range": "schema", "pattern": "schema",
		"config": "yangenc", "default": "data", "nacm:default-deny-all": "schema", "nacm:default-deny-write": "schema",
		"deviation": "schema", "deviate": "schema", "feature": "schema", "if-feature": "schema", "ordered-by": "edit", "identity": "schema", "base": "schema",
		"leaf-list": "schema", "enum": "schema", "bit": "schema", "length": "schema", "presence": "data",
	}
	harmless := strings.Fields("module yang-version namespace prefix import organization contact description revision typedef units " +
		"grouping uses container list leaf error-message revision augment notification rpc input output extension reference value position")
	var statements []*goyang.Statement
	for _, name := range yang.Implemented {
		s, err := goyang.Parse(source(name), name+".yang")
		if err != nil {
			t.Fatal(err)
		}
		statements = append(statements, s...)
	}
	seen := map[string]bool{}
	var walk func(s *goyang.Statement)
	walk = func(s *goyang.Statement) {
		seen[s.Keyword] = true
		if constrains[s.Keyword] == "" && !slices.Contains(harmless, s.Keyword) {
			t.Errorf("%s: nobody checks %s", s.Location(), s.Keyword)
		}
		for _, c := range s.SubStatements() {
			walk(c)
		}
	}
	for _, s := range statements {
		walk(s)
	}
	if !seen["must"] || !seen["unique"] {
		t.Error("the walk did not reach the model")
	}
}

// TestIncremental checks that a Checker that is told of changes says the same
// as one that looks at the whole tree.
func TestIncremental(t *testing.T) {
	tree := build(t, complete(4))
	c := New(tree)
	step := func(what, json string, def edit.Op, want ...string) {
		t.Helper()
		j := apply(t, tree, json, def)
		c.Touch(j)
		errs := c.Check(j)
		var got []string
		for _, e := range errs {
			got = append(got, e.Path)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		if whole := Tree(tree); (whole == nil) != (errs == nil) {
			t.Errorf("%s: the whole tree: %v", what, whole)
		}
		if len(want) > 0 {
			j.Undo(tree)
			c.Touch(j)
		}
	}
	r2 := `{"vita-esp-gateway:route4":[` + route(4, "r2", 1002, 2, 2, gateway(4, 1, "")) + `]}`
	step("second route", r2, edit.Merge)
	step("spi of the first", `{"vita-esp-gateway:route4":[{"id":"r2","spi":1001}]}`, edit.Merge, "/vita-esp-gateway:route4[id='r2']")
	step("its own spi again", `{"vita-esp-gateway:route4":[{"id":"r2","spi":1003}]}`, edit.Merge)
	step("the spi that is free now", `{"vita-esp-gateway:route4":[{"id":"r1","spi":1002}]}`, edit.Merge)
	step("data-plane off", `{"vita-esp-gateway:data-plane":false}`, edit.Merge,
		"/vita-esp-gateway:inbound-sa[spi='1000'][queue='1']", "/vita-esp-gateway:outbound-sa[spi='1000'][queue='1']")
	step("the other family", `{"vita-esp-gateway:route6":[`+route(6, "r1", 300, 1, 1, gateway(6, 1, ""))+`]}`, edit.Merge,
		"/vita-esp-gateway:private-interface6", "/vita-esp-gateway:private-interface6/ip", "/vita-esp-gateway:private-interface6/nexthop-ip")
	del := func(path string) edit.Journal {
		t.Helper()
		p, err := yangenc.ParseInstance(path)
		if err != nil {
			t.Fatal(err)
		}
		j, err := edit.Apply(tree, p.Delete(), edit.None)
		if err != nil {
			t.Fatal(err)
		}
		c.Touch(j)
		return j
	}
	for path, want := range map[string]int{
		"/route4[id=r1]":                       2, // both associations
		"/route4[id=r1]/gateway[ip=192.0.2.1]": 1,
		"/route4[id=r2]/preshared-key":         1,
		"/private-interface4":                  3,
		"/private-interface4/ifname":           1,
		"/data-plane":                          2,
		"/inbound-sa":                          0,
		"/route4[id=r2]":                       0,
	} {
		j := del(path)
		errs := c.Check(j)
		if len(errs) != want {
			t.Errorf("without %s: %v, want %d errors", path, errs, want)
		}
		if whole := Tree(tree); len(whole) != want {
			t.Errorf("without %s: the whole tree: %v", path, whole)
		}
		j.Undo(tree)
		c.Touch(j)
	}
}

// TestHints turns values round often enough for the hints to be made anew.
func TestHints(t *testing.T) {
	tree := build(t, `{`+private(4)+`,"vita-esp-gateway:route4":[`+route(4, "a", 300, 1, 1, gateway(4, 1, ""))+`,`+route(4, "b", 301, 2, 2, gateway(4, 1, ""))+`]}`)
	c := New(tree)
	for i := range 5000 {
		j := apply(t, tree, fmt.Sprintf(`{"vita-esp-gateway:route4":[{"id":"a","spi":%d}]}`, 1000+i), edit.Merge)
		c.Touch(j)
		if errs := c.Check(j); errs != nil {
			t.Fatal(errs)
		}
	}
	if len(c.hints) > 4500 {
		t.Errorf("%d hints for two routes", len(c.hints))
	}
	j := apply(t, tree, `{"vita-esp-gateway:route4":[{"id":"a","spi":301}]}`, edit.Merge)
	c.Touch(j)
	if errs := c.Check(j); len(errs) != 1 {
		t.Errorf("spi of b: %v", errs)
	}
}

func TestManyErrors(t *testing.T) {
	var list []string
	for i := range 200 {
		list = append(list, fmt.Sprintf(`{"id":"r%d"}`, i))
	}
	if n := len(Tree(build(t, `{"vita-esp-gateway:route4":[`+strings.Join(list, ",")+`]}`))); n != mostErrors {
		t.Errorf("%d errors, want %d", n, mostErrors)
	}
}
