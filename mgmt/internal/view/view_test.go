package view

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"vita/gen"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/yangenc"
	"vita/mgmt/nacm"
)

func tree() *gen.Vita {
	route := func(id, net string) *gen.VitaEspGateway_Route4 {
		return &gen.VitaEspGateway_Route4{
			Id: &id, Net: &net, Spi: new(uint32(1001)), PresharedKey: new(strings.Repeat("0", 64)),
			Gateway: map[string]*gen.VitaEspGateway_Route4_Gateway{"1.1.1.1": {Ip: new("1.1.1.1"), Queue: new(uint16(2))}},
		}
	}
	return &gen.Vita{
		Mtu: new(uint16(1400)), Tfc: new(true), Esp: &gen.VitaEspGatewayExt_Esp{Ecn: new(true), ReplayWindow: new(uint16(256))},
		Route4: map[string]*gen.VitaEspGateway_Route4{"a": route("a", "10.0.0.0/8"), "b": route("b", "11.0.0.0/8")},
		System: &gen.IETFSystem_System{Contact: new("noc"), Authentication: &gen.IETFSystem_System_Authentication{UserAuthenticationOrder: []string{"ietf-system:local-users"}}},
		Nacm: &gen.IETFNetconfAcm_Nacm{Groups: &gen.IETFNetconfAcm_Nacm_Groups{Group: map[string]*gen.IETFNetconfAcm_Nacm_Groups_Group{
			"ops": {Name: new("ops"), UserName: []string{"joe", "ann"}},
		}}},
	}
}

func cursor(t testing.TB, readDefault bool, rules ...nacm.Rule) *nacm.Cursor {
	t.Helper()
	c := nacm.Default()
	c.ReadDefault = readDefault
	c.Groups = []nacm.Group{{Name: "g", Users: []string{"joe"}}}
	for i := range rules {
		rules[i].Module, rules[i].Kind, rules[i].Ops = "*", nacm.DataNode, nacm.Read
	}
	c.Lists = []nacm.List{{Name: "l", Groups: []string{"g"}, Rules: rules}}
	p, err := nacm.Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return p.For(nacm.Session{User: "joe"}).Root(nacm.Read)
}

func shown(t testing.TB, root *gen.Vita, o yangenc.Opts) string {
	t.Helper()
	var b bytes.Buffer
	if err := yangenc.EncodeJSON(&b, root, o); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("vita-esp-gateway:", "", "vita-esp-gateway-ext:", "", "ietf-system:", "", "ietf-netconf-acm:", "").Replace(b.String())
}

func permit(path string) nacm.Rule { return nacm.Rule{Of: path, Permit: true} }
func deny(path string) nacm.Rule   { return nacm.Rule{Of: path} }

func TestView(t *testing.T) {
	const (
		order  = `"system":{"contact":"noc","authentication":{"user-authentication-order":["local-users"]}}`
		a      = `{"id":"a","spi":1001,"net":"10.0.0.0/8","gateway":[{"ip":"1.1.1.1","queue":2}]}`
		b      = `{"id":"b","spi":1001,"net":"11.0.0.0/8","gateway":[{"ip":"1.1.1.1","queue":2}]}`
		rest   = `"mtu":1400,"tfc":true,"esp":{"replay-window":256,"ecn":true},`
		routes = `"route4":[` + a + `,` + b + `],`
	)
	for what, c := range map[string]struct {
		read *nacm.Cursor
		want string
	}{
		"no rules":              {cursor(t, true), `{` + routes + rest + order + `}`},
		"a leaf":                {cursor(t, true, deny("/mtu")), `{` + routes + strings.Replace(rest, `"mtu":1400,`, "", 1) + order + `}`},
		"a container":           {cursor(t, true, deny("/esp")), `{` + routes + `"mtu":1400,"tfc":true,` + order + `}`},
		"an entry":              {cursor(t, true, deny("/route4[id='a']")), `{"route4":[` + b + `],` + rest + order + `}`},
		"a leaf of an entry":    {cursor(t, true, deny("/route4[id='a']/net")), `{"route4":[` + strings.Replace(a, `"net":"10.0.0.0/8",`, "", 1) + `,` + b + `],` + rest + order + `}`},
		"a leaf of all":         {cursor(t, true, deny("/route4/gateway/queue")), `{` + strings.ReplaceAll(routes, `,"queue":2`, "") + rest + order + `}`},
		"a list":                {cursor(t, true, deny("/route4")), `{` + rest + order + `}`},
		"nothing":               {cursor(t, false), `{}`},
		"one leaf":              {cursor(t, false, permit("/mtu")), `{"mtu":1400}`},
		"one entry":             {cursor(t, false, permit("/route4[id='b']")), `{"route4":[` + b + `]}`},
		"a leaf of one entry":   {cursor(t, false, permit("/route4[id='b']/net")), `{"route4":[{"id":"b","net":"11.0.0.0/8"}]}`},
		"what is not there":     {cursor(t, false, permit("/route4/further-net"), permit("/route4/preshared-key")), `{}`},
		"rules of access":       {cursor(t, false, permit("/nacm")), `{"nacm":{"groups":{"group":[{"name":"ops","user-name":["joe","ann"]}]}}}`},
		"a value":               {cursor(t, false, permit("/nacm/groups/group/user-name[.='ann']")), `{"nacm":{"groups":{"group":[{"name":"ops","user-name":["ann"]}]}}}`},
		"all but a value":       {cursor(t, false, deny("/nacm/groups/group/user-name[.='ann']"), permit("/nacm")), `{"nacm":{"groups":{"group":[{"name":"ops","user-name":["joe"]}]}}}`},
		"inside what is denied": {cursor(t, true, permit("/esp/ecn"), deny("/esp")), `{` + routes + `"mtu":1400,"tfc":true,"esp":{"ecn":true},` + order + `}`},
	} {
		whole := tree()
		if got := shown(t, Of(whole, c.read).Root, yangenc.Opts{}); got != strings.Replace(c.want, `"local-users"`, `"ietf-system:local-users"`, 1) && got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", what, got, c.want)
		}
		if !reflect.DeepEqual(whole, tree()) {
			t.Errorf("%s: the view has changed the tree", what)
		}
	}
}

// TestDefaultsOfWhatIsHidden: a leaf that is hidden does not show with its default.
func TestDefaultsOfWhatIsHidden(t *testing.T) {
	v := Of(tree(), cursor(t, true, deny("/mtu"), deny("/esp/replay-window"), deny("/sa-ttl"), deny("/nacm")))
	got := shown(t, v.Root, yangenc.Opts{Defaults: yangenc.ReportAll, Hidden: v.Hidden})
	for _, hidden := range []string{`"mtu"`, "replay-window", "sa-ttl", "nacm"} {
		if strings.Contains(got, hidden) {
			t.Errorf("%s shows in %s", hidden, got)
		}
	}
	for _, there := range []string{`"negotiation-ttl":5`, `"dscp":"0"`} {
		if !strings.Contains(got, there) {
			t.Errorf("%s does not show in %s", there, got)
		}
	}
	empty := Of(&gen.Vita{}, cursor(t, true, deny("/esp/replay-window")))
	if got := shown(t, empty.Root, yangenc.Opts{Defaults: yangenc.ReportAll, Hidden: empty.Hidden}); strings.Contains(got, "replay-window") || !strings.Contains(got, "dscp") {
		t.Error(got)
	}
}

// TestShared: what no rule concerns is not copied.
func TestShared(t *testing.T) {
	whole := tree()
	v := Of(whole, cursor(t, true, deny("/esp/ecn"), deny("/route6[id='x']")))
	if reflect.ValueOf(v.Root.Route4).Pointer() != reflect.ValueOf(whole.Route4).Pointer() || v.Root.System != whole.System {
		t.Error("what no rule concerns is copied")
	}
	if v.Root.Esp == whole.Esp {
		t.Error("esp is not copied")
	}
	if v := Of(whole, nil); v.Root != whole {
		t.Error("who may read everything gets a copy")
	}
	if !v.Hidden(data.Root(v.Root.Esp), schema.Root().Child("", "esp").Child("", "ecn")) {
		t.Error("ecn is not said to be hidden")
	}
}

// BenchmarkView is a user whom a rule about something else concerns, who reads
// 100 000 routes.
func BenchmarkView(b *testing.B) {
	whole := &gen.Vita{Route4: map[string]*gen.VitaEspGateway_Route4{}}
	for i := range 100_000 {
		id := "r" + strings.Repeat("0", i%7) + string(rune('a'+i%26)) + strings.Repeat("x", i%3) + string(rune('0'+i%10))
		whole.Route4[id] = &gen.VitaEspGateway_Route4{Id: &id}
	}
	for name, rule := range map[string]nacm.Rule{"elsewhere": deny("/mtu"), "one of them": deny("/route4[id='r0']"), "a leaf of each": deny("/route4/net")} {
		read := cursor(b, true, rule)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Of(whole, read)
			}
		})
	}
}
