package yangenc

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xmltree"
)

var update = flag.Bool("update", false, "write the golden files anew")

func parse(t testing.TB, text string) *xmltree.Element {
	t.Helper()
	e, err := xmltree.Parse([]byte(text), xmltree.Limits{})
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return e
}

// fromXML and fromJSON make a tree of a configuration.
func fromXML(t testing.TB, text string) *gen.Vita {
	t.Helper()
	e, err := DecodeXML(parse(t, text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return apply(t, e)
}

func fromJSON(t testing.TB, text string) *gen.Vita {
	t.Helper()
	e, err := DecodeJSON([]byte(text), nil)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return apply(t, e)
}

func apply(t testing.TB, e *edit.Node) *gen.Vita {
	t.Helper()
	tree := &gen.Vita{}
	if _, err := edit.Apply(tree, e, edit.Merge); err != nil {
		t.Fatal(err)
	}
	return tree
}

func toXML(t testing.TB, tree *gen.Vita, o Opts) string {
	t.Helper()
	var b bytes.Buffer
	if err := EncodeXML(&b, tree, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func toJSON(t testing.TB, tree *gen.Vita, o Opts) string {
	t.Helper()
	var b bytes.Buffer
	if err := EncodeJSON(&b, tree, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func wrap(s string) string { return "<config>" + s + "</config>" }

// TestGolden reads a configuration that uses all of the model, writes it in
// both encodings, and reads those again: the trees are the same, and so is
// the text from then on.
func TestGolden(t *testing.T) {
	in, err := os.ReadFile("testdata/all.xml")
	if err != nil {
		t.Fatal(err)
	}
	tree := fromXML(t, string(in))
	secrets := Opts{Secrets: true}
	x, j := toXML(t, tree, secrets), toJSON(t, tree, secrets)
	for name, got := range map[string]string{"all.out.xml": x, "all.out.json": j} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, want)
		}
	}
	for name, again := range map[string]*gen.Vita{"XML": fromXML(t, wrap(x)), "JSON": fromJSON(t, j)} {
		if !reflect.DeepEqual(again, tree) {
			t.Errorf("%s: another tree after the round trip", name)
		}
		if toXML(t, again, secrets) != x || toJSON(t, again, secrets) != j {
			t.Errorf("%s: another text after the round trip", name)
		}
	}
	for _, got := range []string{toXML(t, tree, Opts{}), toJSON(t, tree, Opts{})} {
		for _, secret := range []string{"preshared-key", "salt", "aabbcc", "<key>", `"key"`} {
			if strings.Contains(got, secret) {
				t.Errorf("%s is given out:\n%s", secret, got)
			}
		}
	}
}

func TestState(t *testing.T) {
	most := ^uint64(0)
	queue, spi := uint16(1), uint32(256)
	tree := &gen.Vita{GatewayState: &gen.VitaEspGateway_GatewayState{
		PrivateInterface: &gen.VitaEspGateway_GatewayState_PrivateInterface{Rxbytes: &most},
		PublicInterface:  &gen.VitaEspGateway_GatewayState_PublicInterface{},
		InboundSa: map[gen.VitaEspGateway_GatewayState_InboundSa_Key]*gen.VitaEspGateway_GatewayState_InboundSa{
			{Queue: 1, Spi: 256}: {Queue: &queue, Spi: &spi},
		},
	}}
	if got, want := toJSON(t, tree, Opts{}), `{"vita-esp-gateway:gateway-state":{"private-interface":{"rxbytes":"18446744073709551615"},"inbound-sa":[{"queue":1,"spi":256}]}}`; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got, want := toXML(t, tree, Opts{Content: ContentNonconfig}), `<gateway-state xmlns="vita:esp-gateway"><private-interface><rxbytes>18446744073709551615</rxbytes></private-interface><inbound-sa><queue>1</queue><spi>256</spi></inbound-sa></gateway-state>`; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got := toXML(t, tree, Opts{Content: ContentConfig}); got != "" {
		t.Errorf("configuration: %s", got)
	}
}

const small = `{"vita-esp-gateway:private-interface4":{"ifname":"eth0","ip":"10.0.0.1","nexthop-ip":"10.0.0.2"},` +
	`"vita-esp-gateway:public-interface4":[{"ip":"192.0.2.1","ifname":"eth1"}],` +
	`"vita-esp-gateway:route4":[{"id":"a","spi":300,"net":"10.1.0.0/16","gateway":[{"ip":"192.0.2.2"},{"ip":"192.0.2.3","queue":2}]},{"id":"b","spi":301}],` +
	`"vita-esp-gateway:mtu":1400}`

func TestOptions(t *testing.T) {
	tree := fromJSON(t, small)
	gateway := &Filter{root: &filterNode{schema: schema.Root()}} // the nodes of the gateway's first module
	for _, n := range schema.Root().Children {
		if n.Module == "vita-esp-gateway" {
			gateway.root.children = append(gateway.root.children, &filterNode{schema: n})
		}
	}
	const udp = `"vita-esp-gateway-ext:udp-encapsulation":{"enabled":false,"port":4500,"keepalive":20,"peer-moves":false}`
	for name, c := range map[string]struct {
		o    Opts
		want string
	}{
		"all":       {Opts{}, small},
		"config":    {Opts{Content: ContentConfig}, small},
		"nonconfig": {Opts{Content: ContentNonconfig}, `{}`},
		"depth 1":   {Opts{Depth: 1}, `{}`},
		"depth 2": {Opts{Depth: 2}, `{"vita-esp-gateway:private-interface4":{},"vita-esp-gateway:public-interface4":[{"ip":"192.0.2.1"}],` +
			`"vita-esp-gateway:route4":[{"id":"a"},{"id":"b"}],"vita-esp-gateway:mtu":1400}`},
		"depth 3": {Opts{Depth: 3}, strings.Replace(small, `{"ip":"192.0.2.3","queue":2}`, `{"ip":"192.0.2.3"}`, 1)},
		"defaults": {Opts{Defaults: ReportAll, Filter: gateway}, strings.NewReplacer(`"queue":2}]}`, `"queue":2}],`+udp+`}`, `"spi":301}`, `"spi":301,`+udp+`}`, `"ifname":"eth1"}`, `"ifname":"eth1","queue":1}`, `{"ip":"192.0.2.2"}`, `{"ip":"192.0.2.2","queue":1}`,
			`"vita-esp-gateway:mtu":1400`, `"vita-esp-gateway:mtu":1400,"vita-esp-gateway:protocol-port":303,"vita-esp-gateway:negotiation-ttl":5,"vita-esp-gateway:sa-ttl":600`).Replace(small)},
	} {
		if got := toJSON(t, tree, c.o); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestFilter(t *testing.T) {
	tree := fromJSON(t, `{"vita-esp-gateway:private-interface4":{"ifname":"eth0","ip":"10.0.0.1"},`+
		`"vita-esp-gateway:route4":[{"id":"a","spi":300,"preshared-key":"`+strings.Repeat("0f", 32)+`","net":"10.1.0.0/16","gateway":[{"ip":"192.0.2.2"},{"ip":"192.0.2.3","queue":2}]},{"id":"b","spi":301}],`+
		`"vita-esp-gateway:mtu":1400}`)
	const (
		private = `<private-interface4 xmlns="vita:esp-gateway"><ifname>eth0</ifname><ip>10.0.0.1</ip></private-interface4>`
		a       = `<route4 xmlns="vita:esp-gateway"><id>a</id><spi>300</spi><net>10.1.0.0/16</net><gateway><ip>192.0.2.2</ip></gateway><gateway><ip>192.0.2.3</ip><queue>2</queue></gateway></route4>`
		b       = `<route4 xmlns="vita:esp-gateway"><id>b</id><spi>301</spi></route4>`
		mtu     = `<mtu xmlns="vita:esp-gateway">1400</mtu>`
		ns      = ` xmlns="vita:esp-gateway"`
	)
	for name, c := range map[string]struct{ filter, want string }{
		"empty":                      {``, ``},
		"selection":                  {`<mtu` + ns + `/>`, mtu},
		"selection with spaces":      {`<mtu` + ns + "> \n </mtu>", mtu},
		"subtree":                    {`<route4` + ns + `/>`, a + b},
		"two":                        {`<mtu` + ns + `/><private-interface4` + ns + `/>`, private + mtu},
		"by key":                     {`<route4` + ns + `><id>b</id></route4>`, b},
		"by key, not there":          {`<route4` + ns + `><id>c</id></route4>`, ``},
		"by key, no value of it":     {`<route4` + ns + `><id>a-b</id></route4>`, ``},
		"by other leaf":              {`<route4` + ns + `><spi>300</spi></route4>`, a},
		"by other leaf, hex":         {`<route4` + ns + `><spi> 0x12c </spi></route4>`, a},
		"by two leafs":               {`<route4` + ns + `><id>a</id><spi>301</spi></route4>`, ``},
		"by default":                 {`<route4` + ns + `><gateway><queue>1</queue></gateway></route4>`, `<route4` + ns + `><id>a</id><gateway><ip>192.0.2.2</ip></gateway></route4><route4` + ns + `><id>b</id></route4>`},
		"by secret":                  {`<route4` + ns + `><preshared-key>` + strings.Repeat("0f", 32) + `</preshared-key></route4>`, ``},
		"secret":                     {`<route4` + ns + `><preshared-key/></route4>`, `<route4` + ns + `><id>a</id></route4><route4` + ns + `><id>b</id></route4>`},
		"two entries":                {`<route4` + ns + `><id>b</id></route4><route4` + ns + `><id>a</id></route4>`, a + b},
		"key and leaf":               {`<route4` + ns + `><id>a</id><net/></route4>`, `<route4` + ns + `><id>a</id><net>10.1.0.0/16</net></route4>`},
		"leaf of all":                {`<route4` + ns + `><spi/></route4>`, `<route4` + ns + `><id>a</id><spi>300</spi></route4><route4` + ns + `><id>b</id><spi>301</spi></route4>`},
		"union within an entry":      {`<route4` + ns + `><id>a</id><net/></route4><route4` + ns + `><id>a</id><spi/></route4>`, `<route4` + ns + `><id>a</id><spi>300</spi><net>10.1.0.0/16</net></route4>`},
		"inner entry":                {`<route4` + ns + `><id>a</id><gateway><ip>192.0.2.3</ip></gateway></route4>`, `<route4` + ns + `><id>a</id><gateway><ip>192.0.2.3</ip><queue>2</queue></gateway></route4>`},
		"content match at the top":   {`<mtu` + ns + `>1400</mtu>`, private + a + b + mtu},
		"and a selection":            {`<mtu` + ns + `>1400</mtu><tfc` + ns + `/>`, mtu},
		"no content match":           {`<mtu` + ns + `>1401</mtu><route4` + ns + `/>`, ``},
		"any namespace":              {`<mtu xmlns=""/>`, mtu},
		"NETCONF's, as if it were":   {`<mtu/>`, mtu},
		"another namespace":          {`<mtu xmlns="urn:x"/>`, ``},
		"unknown name":               {`<flux` + ns + `/>`, ``},
		"unknown within":             {`<route4` + ns + `><flux/></route4>`, `<route4` + ns + `><id>a</id></route4><route4` + ns + `><id>b</id></route4>`},
		"unknown content match":      {`<route4` + ns + `><flux>1</flux></route4>`, ``},
		"container":                  {`<private-interface4` + ns + `><ip/></private-interface4>`, `<private-interface4` + ns + `><ip>10.0.0.1</ip></private-interface4>`},
		"container, no match":        {`<private-interface4` + ns + `><ip>10.0.0.9</ip></private-interface4>`, ``},
		"container, nothing in it":   {`<private-interface4` + ns + `><mac/></private-interface4>`, ``},
		"attribute match":            {`<mtu` + ns + ` x="1"/>`, ``},
		"child of a leaf":            {`<mtu` + ns + `><x/></mtu>`, mtu},
		"container that isn't there": {`<private-interface6` + ns + `/>`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := SubtreeFilter(parse(t, `<filter xmlns="`+nsNETCONF+`">`+c.filter+`</filter>`))
			if err != nil {
				t.Fatal(err)
			}
			if got := toXML(t, tree, Opts{Filter: f}); got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestOperations(t *testing.T) {
	e, err := DecodeXML(parse(t, `<config xmlns:nc="`+nsNETCONF+`"><route4 xmlns="vita:esp-gateway" nc:operation="replace"><spi nc:operation="delete"/><id nc:operation="merge">a</id>`+
		`<gateway nc:operation="remove"><ip>192.0.2.1</ip><queue>not looked at</queue></gateway></route4><mtu xmlns="vita:esp-gateway" nc:operation="create">1</mtu></config>`))
	if err != nil {
		t.Fatal(err)
	}
	r := e.Children[0]
	if r.Op != edit.Replace || !slices.Equal(r.Keys, []string{"a"}) || len(r.Children) != 2 || r.Children[0].Op != edit.Delete || r.Children[1].Op != edit.Remove ||
		!slices.Equal(r.Children[1].Keys, []string{"192.0.2.1"}) || e.Children[1].Op != edit.Create || e.Children[1].Value != "1" {
		t.Errorf("%+v", r)
	}
}

func TestDecodeXMLRefuses(t *testing.T) {
	const ns = ` xmlns="vita:esp-gateway"`
	for name, c := range map[string]struct{ in, tag, path, bad string }{
		"unknown":            {`<flux` + ns + `/>`, "unknown-element", "", "flux"},
		"unknown within":     {`<route4` + ns + `><id>a</id><flux/></route4>`, "unknown-element", "/vita-esp-gateway:route4[id='a']", "flux"},
		"namespace":          {`<mtu xmlns="urn:x">1</mtu>`, "unknown-namespace", "", "mtu"},
		"no namespace":       {`<mtu>1</mtu>`, "unknown-namespace", "", "mtu"},
		"value":              {`<mtu` + ns + `>x</mtu>`, "invalid-value", "/vita-esp-gateway:mtu", "mtu"},
		"range":              {`<mtu` + ns + `>9000</mtu>`, "invalid-value", "/vita-esp-gateway:mtu", "mtu"},
		"pattern within":     {`<route4` + ns + `><net>1.2.3.4</net><id>a</id></route4>`, "invalid-value", "/vita-esp-gateway:route4[id='a']/net", "net"},
		"key value":          {`<route4` + ns + `><id>a b</id></route4>`, "invalid-value", "/vita-esp-gateway:route4/id", "id"},
		"no key":             {`<route4` + ns + `><spi>300</spi></route4>`, "missing-element", "/vita-esp-gateway:route4", "id"},
		"twice":              {`<mtu` + ns + `>1</mtu><mtu` + ns + `>2</mtu>`, "bad-element", "/vita-esp-gateway:mtu", "mtu"},
		"key twice":          {`<route4` + ns + `><id>a</id><id>b</id></route4>`, "bad-element", "/vita-esp-gateway:route4/id", "id"},
		"entry twice":        {`<route4` + ns + `><id>a</id></route4><route4` + ns + `><id>a</id></route4>`, "bad-element", "/vita-esp-gateway:route4[id='a']", "route4"},
		"entry twice, forms": {`<route6` + ns + `><id>a</id><gateway><ip>::1</ip></gateway><gateway><ip>0::1</ip></gateway></route6>`, "bad-element", "/vita-esp-gateway:route6[id='a']/gateway[ip='::1']", "gateway"},
		"two cases":          {`<private-interface4` + ns + `><pci>02:00.0</pci><ifname>a</ifname></private-interface4>`, "bad-element", "/vita-esp-gateway:private-interface4/ifname", "ifname"},
		"two families":       {`<route4` + ns + `><id>a</id></route4><route6` + ns + `><id>a</id></route6>`, "bad-element", "/vita-esp-gateway:route6", "route6"},
		"state":              {`<gateway-state` + ns + `/>`, "invalid-value", "/vita-esp-gateway:gateway-state", "gateway-state"},
		"text":               {`<route4` + ns + `>x<id>a</id></route4>`, "bad-element", "/vita-esp-gateway:route4", "route4"},
		"element in leaf":    {`<mtu` + ns + `><x/></mtu>`, "unknown-element", "/vita-esp-gateway:mtu", "x"},
		"operation":          {`<mtu` + ns + ` xmlns:nc="` + nsNETCONF + `" nc:operation="explode">1</mtu>`, "bad-attribute", "/vita-esp-gateway:mtu", "mtu"},
		"operation's space":  {`<mtu` + ns + ` operation="delete">1</mtu>`, "unknown-attribute", "/vita-esp-gateway:mtu", "mtu"},
		"attribute":          {`<mtu` + ns + ` x="1">1</mtu>`, "unknown-attribute", "/vita-esp-gateway:mtu", "mtu"},
		"operation on key":   {`<route4` + ns + ` xmlns:nc="` + nsNETCONF + `"><id nc:operation="delete">a</id></route4>`, "bad-attribute", "/vita-esp-gateway:route4/id", "id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeXML(parse(t, `<config>`+c.in+`</config>`))
			refused(t, err, c.tag, c.path, c.bad)
		})
	}
}

func refused(t *testing.T, err error, tag, path, bad string) {
	t.Helper()
	var e *rpcerr.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want %s", err, tag)
	}
	if e.Tag != tag || e.Path != path || e.BadElement != bad || e.Message == "" {
		t.Errorf("%+v\nwant %s at %s, bad element %s", e, tag, path, bad)
	}
}

func TestDecodeJSONRefuses(t *testing.T) {
	const p = "vita-esp-gateway:"
	for name, c := range map[string]struct{ in, tag, path, bad string }{
		"no JSON":          {`{`, "malformed-message", "", ""},
		"nothing":          {``, "malformed-message", "", ""},
		"more":             {`{} {}`, "malformed-message", "", ""},
		"deep":             {strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100), "malformed-message", "", ""},
		"name twice":       {`{"` + p + `mtu":1,"` + p + `mtu":2}`, "malformed-message", "", ""},
		"array":            {`[]`, "invalid-value", "", ""},
		"no module":        {`{"mtu":1}`, "unknown-element", "", "mtu"},
		"other module":     {`{"x:mtu":1}`, "unknown-element", "", "x:mtu"},
		"unknown":          {`{"` + p + `route4":[{"id":"a","flux":1}]}`, "unknown-element", "/" + p + "route4[id='a']", "flux"},
		"number as string": {`{"` + p + `mtu":"1"}`, "invalid-value", "/" + p + "mtu", "mtu"},
		"fraction":         {`{"` + p + `mtu":1.5}`, "invalid-value", "/" + p + "mtu", "mtu"},
		"exponent":         {`{"` + p + `mtu":1e-3}`, "invalid-value", "/" + p + "mtu", "mtu"},
		"null":             {`{"` + p + `mtu":null}`, "invalid-value", "/" + p + "mtu", "mtu"},
		"bool as string":   {`{"` + p + `tfc":"true"}`, "invalid-value", "/" + p + "tfc", "tfc"},
		"string as number": {`{"` + p + `route4":[{"id":1}]}`, "invalid-value", "/" + p + "route4/id", "id"},
		"list as object":   {`{"` + p + `route4":{"id":"a"}}`, "invalid-value", "/" + p + "route4", "route4"},
		"entry as string":  {`{"` + p + `route4":["a"]}`, "invalid-value", "/" + p + "route4", "route4"},
		"no key":           {`{"` + p + `route4":[{}]}`, "missing-element", "/" + p + "route4", "id"},
		"same name twice":  {`{"` + p + `route4":[{"id":"a","spi":300,"` + p + `spi":301}]}`, "bad-element", "/" + p + "route4[id='a']/spi", "spi"},
		"entry twice":      {`{"` + p + `route4":[{"id":"a"},{"id":"a"}]}`, "bad-element", "/" + p + "route4[id='a']", "route4"},
		"two cases":        {`{"` + p + `route4":[{"id":"a"}],"` + p + `route6":[{"id":"a"}]}`, "bad-element", "/" + p + "route6", "route6"},
		"state":            {`{"` + p + `gateway-state":{}}`, "invalid-value", "/" + p + "gateway-state", "gateway-state"},
		"annotation":       {`{"` + p + `mtu":1,"@` + p + `mtu":{}}`, "unknown-element", "", "@" + p + "mtu"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeJSON([]byte(c.in), nil)
			refused(t, err, c.tag, c.path, c.bad)
		})
	}
}

func TestJSONValues(t *testing.T) {
	const text = `[0,[{"a":1}],2]` // six values: two arrays, an object and three numbers
	if _, err := parseBounded([]byte(text), 6); err != nil {
		t.Error(err)
	}
	_, err := parseBounded([]byte(text), 5)
	refused(t, err, "malformed-message", "", "")
}

// TestSecretsInErrors checks that a refused secret is not repeated.
func TestSecretsInErrors(t *testing.T) {
	for _, secret := range []string{"hunter2", strings.Repeat("0f", 31)} {
		_, err := DecodeJSON([]byte(`{"vita-esp-gateway:route4":[{"id":"a","preshared-key":"`+secret+`"}]}`), nil)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
}

// TestDefaultKey has an entry without a key that has a default, as Vita takes
// it.
func TestDefaultKey(t *testing.T) {
	tree := fromJSON(t, `{"vita-esp-gateway:inbound-sa":[{"spi":1000}]}`)
	if tree.InboundSa[gen.VitaEspGateway_InboundSa_Key{Spi: 1000, Queue: 1}] == nil {
		t.Errorf("%+v", tree.InboundSa)
	}
}

// FuzzJSON and FuzzXML: what can be read is written and read again as the
// same.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(`{"vita-esp-gateway:outbound-sa":[{"spi":1000,"queue":2,"route":"ö","salt":"00 11 22 33"}]}`))
	f.Add([]byte(`{"vita-esp-gateway:private-interface6":{"ip":"::ffff:1.2.3.4","ifname":"\u0022'\\\u003c\u2028"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := DecodeJSON(text, nil)
		if err == nil {
			roundTrip(t, e)
		}
	})
}

func FuzzXML(f *testing.F) {
	text, err := os.ReadFile("testdata/all.xml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`<c><route4 xmlns="vita:esp-gateway" xmlns:n="` + nsNETCONF + `" n:operation="replace"><id>a</id></route4></c>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := xmltree.Parse(text, xmltree.Limits{Bytes: 1 << 16, Depth: 32})
		if err != nil {
			return
		}
		if _, err := SubtreeFilter(x); err != nil {
			t.Fatal(err)
		}
		if e, err := DecodeXML(x); err == nil {
			roundTrip(t, e)
		}
	})
}

func roundTrip(t *testing.T, e *edit.Node) {
	tree := &gen.Vita{}
	if _, err := edit.Apply(tree, e, edit.Merge); err != nil {
		return
	}
	o := Opts{Secrets: true}
	x, j := toXML(t, tree, o), toJSON(t, tree, o)
	if again := fromXML(t, wrap(x)); !reflect.DeepEqual(again, tree) {
		t.Fatalf("XML: %s became %s", x, toXML(t, again, o))
	}
	if again := fromJSON(t, j); !reflect.DeepEqual(again, tree) {
		t.Fatalf("JSON: %s became %s", j, toJSON(t, again, o))
	}
}

func BenchmarkEncode(b *testing.B) {
	tree := large(b, 10_000)
	for name, encode := range map[string]func(*gen.Vita) string{
		"XML":  func(v *gen.Vita) string { return toXML(b, v, Opts{}) },
		"JSON": func(v *gen.Vita) string { return toJSON(b, v, Opts{}) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(encode(tree))))
			for b.Loop() {
				encode(tree)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	tree := large(b, 10_000)
	x, j := wrap(toXML(b, tree, Opts{})), toJSON(b, tree, Opts{})
	b.Run("XML", func(b *testing.B) {
		b.SetBytes(int64(len(x)))
		for b.Loop() {
			if _, err := DecodeXML(parse(b, x)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("JSON", func(b *testing.B) {
		b.SetBytes(int64(len(j)))
		for b.Loop() {
			if _, err := DecodeJSON([]byte(j), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// large returns a tree of n routes.
func large(b *testing.B, n int) *gen.Vita {
	b.Helper()
	root := schema.Root()
	list := root.Child("", "route4")
	gw := list.Child("", "gateway")
	e := &edit.Node{Schema: root}
	for i := range n {
		id := "site" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.ReplaceAll(string([]byte{byte('0' + i/1000%10), byte('0' + i/100%10), byte('0' + i/10%10), byte('0' + i%10)}), " ", "")
		e.Children = append(e.Children, &edit.Node{Schema: list, Keys: []string{id}, Children: []*edit.Node{
			{Schema: list.Child("", "spi"), Value: "1000"},
			{Schema: list.Child("", "net"), Value: "10.0.0.0/24"},
			{Schema: gw, Keys: []string{"192.0.2.1"}, Children: []*edit.Node{{Schema: gw.Child("", "queue"), Value: "1"}}},
		}})
	}
	return apply(b, e)
}

// TestInteger reads JSON numbers with a fraction or an exponent, which may well be
// integers.
func TestInteger(t *testing.T) {
	for text, want := range map[string]string{
		"1.0": "1", "1e3": "1000", "-1.5E1": "-15", "0.012e+3": "12", "100e-2": "1", "-0.0": "0", "0e5": "0",
		"1.5": "", "1e-1": "", "1e21": "", "1e999999999999": "", "15e-1": "", "12.30e1": "123", "1e20": "100000000000000000000",
	} {
		if got, ok := integer(text); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v; want %q", text, got, ok, want)
		}
	}
}
