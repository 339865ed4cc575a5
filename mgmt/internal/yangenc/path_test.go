package yangenc

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

func TestParseRESTCONF(t *testing.T) {
	const m = "vita-esp-gateway:"
	for in, want := range map[string]string{
		"":                                      "/",
		m + "mtu":                               "/" + m + "mtu",
		m + "route4":                            "/" + m + "route4",
		m + "route4=a":                          "/" + m + "route4[id='a']",
		m + "route4=a/gateway":                  "/" + m + "route4[id='a']/gateway",
		m + "route4=a/" + m + "gateway=1.2.3.4": "/" + m + "route4[id='a']/gateway[ip='1.2.3.4']",
		m + "route6=a/gateway=2001%3Adb8%3A0%3A%3A1/queue": "/" + m + "route6[id='a']/gateway[ip='2001:db8::1']/queue",
		m + "route6=a/gateway=2001:DB8::1":                 "/" + m + "route6[id='a']/gateway[ip='2001:db8::1']",
		m + "inbound-sa=1000,2/route":                      "/" + m + "inbound-sa[spi='1000'][queue='2']/route",
		m + "route4=gr%C3%B6%C3%9Fe":                       "/" + m + "route4[id='größe']",
		m + "gateway-state/private-icmp4":                  "/" + m + "gateway-state/private-icmp4",
	} {
		p, err := ParseRESTCONF(in)
		if err != nil || p.String() != want {
			t.Errorf("%s: %v, %v; want %s", in, p, err, want)
			continue
		}
		again, err := ParseRESTCONF(p.RESTCONF())
		if err != nil || again.String() != want {
			t.Errorf("%s: again as %s: %v, %v", in, p.RESTCONF(), again, err)
		}
		again, err = ParseInstance(want)
		if err != nil || again.String() != want {
			t.Errorf("%s: as instance: %v, %v", want, again, err)
		}
	}
	const state = "/" + m + "gateway-state/vita-esp-gateway-ext:route[id='a']/sent-bytes"
	for _, in := range []string{state, "/gateway-state/route[id=a]/sent-bytes"} { // augmented nodes without their module
		if p, err := ParseInstance(in); err != nil || p.String() != state {
			t.Errorf("%s: %v, %v", in, p, err)
		}
	}
	for in, tag := range map[string]string{
		"mtu":                         "unknown-element",
		"x:mtu":                       "unknown-element",
		m + "flux":                    "unknown-element",
		m + "mtu/x":                   "unknown-element",
		m + "mtu=1":                   "invalid-value",
		m + "route4=":                 "invalid-value",
		m + "route4=a,b":              "invalid-value",
		m + "route4=a-b":              "invalid-value",
		m + "route4/gateway=1.2.3.4":  "missing-element",
		m + "inbound-sa=1000":         "invalid-value",
		m + "inbound-sa=1,1":          "invalid-value",
		m + "route4=a/":               "invalid-value",
		m + "route4=%zz":              "invalid-value",
		m + "route4%zz":               "invalid-value",
		"/" + m + "mtu":               "invalid-value",
		m + "private-interface4=a/ip": "invalid-value",
	} {
		_, err := ParseRESTCONF(in)
		var e *rpcerr.Error
		if !errors.As(err, &e) || e.Tag != tag || e.Message == "" {
			t.Errorf("%s: %v, want %s", in, err, tag)
		}
		if errors.Is(err, ErrNotFound) != (tag == "unknown-element" && in != "mtu") {
			t.Errorf("%s: not found? %v", in, err)
		}
	}
}

func TestParseInstance(t *testing.T) {
	const m = "/vita-esp-gateway:"
	for in, want := range map[string]string{
		"":                                 "/",
		"/":                                "/",
		"/route4[id=site1]/gateway":        m + "route4[id='site1']/gateway",
		"/gateway-state/private-interface": m + "gateway-state/private-interface",
		"/route4":                          m + "route4",
		`/route4[id="a"]`:                  m + "route4[id='a']",
		`/route4[ id = 'a' ]/net`:          m + "route4[id='a']/net",
		m + "route4[vita-esp-gateway:id='a']/vita-esp-gateway:net": m + "route4[id='a']/net",
		"/inbound-sa[queue=2][spi=1000]":                           m + "inbound-sa[spi='1000'][queue='2']",
		"/inbound-sa[spi=1000]":                                    m + "inbound-sa[spi='1000'][queue='1']",
		"mtu":                                                      m + "mtu",
		"/route6[id=a]/gateway[ip=2001:db8::1]":                    m + "route6[id='a']/gateway[ip='2001:db8::1']",
	} {
		p, err := ParseInstance(in)
		if err != nil || p.String() != want {
			t.Errorf("%s: %v, %v; want %s", in, p, err, want)
		}
	}
	for _, in := range []string{
		"/flux", "/route4[id=a", "/route4[id]", "/route4[=a]", "/route4[id='a]", "/route4[id='a'x]", "/route4[id=a][id=b]",
		"/route4[spi=300]", "/route4[id=a][spi=300]", "/route4[id=a]x", "/mtu[id=a]", "/mtu/", "//mtu", "/route4/net", "/outbound-sa[queue=1]",
	} {
		if p, err := ParseInstance(in); err == nil {
			t.Errorf("%s is taken as %v", in, p)
		}
	}
}

func at(t testing.TB, path string) Path {
	t.Helper()
	p, err := ParseInstance(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExists(t *testing.T) {
	tree := fromJSON(t, small)
	for path, want := range map[string]bool{
		"/": true, "/mtu": true, "/tfc": false, "/route4": true, "/route6": false, "/route4[id=a]": true, "/route4[id=c]": false,
		"/route4[id=a]/gateway": true, "/route4[id=b]/gateway": false, "/route4[id=c]/gateway": false, "/route4[id=a]/gateway[ip=192.0.2.3]/queue": true,
		"/route4[id=a]/gateway[ip=192.0.2.2]/queue": false, "/private-interface4": true, "/private-interface6": false, "/private-interface6/ip": false,
	} {
		if got := at(t, path).Exists(tree); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if !at(t, "/mtu").Config() || at(t, "/gateway-state").Config() || !at(t, "/").Config() {
		t.Error("Config")
	}
}

func TestEncodeResource(t *testing.T) {
	tree := fromJSON(t, strings.Replace(small, `"id":"a"`, `"id":"a","preshared-key":"`+strings.Repeat("0f", 32)+`"`, 1))
	const (
		ns = ` xmlns="vita:esp-gateway"`
		b  = `<route4` + ns + `><id>b</id><spi>301</spi></route4>`
	)
	for path, want := range map[string][2]string{
		"/mtu":                                {`{"vita-esp-gateway:mtu":1400}`, `<mtu` + ns + `>1400</mtu>`},
		"/route4[id=b]":                       {`{"vita-esp-gateway:route4":[{"id":"b","spi":301}]}`, b},
		"/route4[id=b]/spi":                   {`{"vita-esp-gateway:spi":301}`, `<spi` + ns + `>301</spi>`},
		"/route4[id=a]/gateway[ip=192.0.2.3]": {`{"vita-esp-gateway:gateway":[{"ip":"192.0.2.3","queue":2}]}`, `<gateway` + ns + `><ip>192.0.2.3</ip><queue>2</queue></gateway>`},
		"/route4[id=a]/gateway":               {`{"vita-esp-gateway:gateway":[{"ip":"192.0.2.2"},{"ip":"192.0.2.3","queue":2}]}`, ""},
		"/public-interface4":                  {`{"vita-esp-gateway:public-interface4":[{"ip":"192.0.2.1","ifname":"eth1"}]}`, `<public-interface4` + ns + `><ip>192.0.2.1</ip><ifname>eth1</ifname></public-interface4>`},
		"/private-interface4":                 {`{"vita-esp-gateway:private-interface4":{"ifname":"eth0","ip":"10.0.0.1","nexthop-ip":"10.0.0.2"}}`, `<private-interface4` + ns + `><ifname>eth0</ifname><ip>10.0.0.1</ip><nexthop-ip>10.0.0.2</nexthop-ip></private-interface4>`},
		"/":                                   {`{"ietf-restconf:data":` + small + `}`, `<data xmlns="` + nsRESTCONF + `">` + toXML(t, tree, Opts{}) + `</data>`},
	} {
		var j, x bytes.Buffer
		if err := EncodeResourceJSON(&j, tree, at(t, path), Opts{}); err != nil || j.String() != want[0] {
			t.Errorf("%s: %v\n%s\nwant\n%s", path, err, j.String(), want[0])
		}
		err := EncodeResourceXML(&x, tree, at(t, path), Opts{})
		if (err != nil) != (want[1] == "") || x.String() != want[1] {
			t.Errorf("%s: %v\n%s\nwant\n%s", path, err, x.String(), want[1])
		}
	}
	for path, found := range map[string]bool{
		"/tfc": false, "/route4[id=c]": false, "/route4[id=c]/spi": false, "/route6": false, "/private-interface6": false, "/route4[id=b]/gateway": false,
		"/route4[id=a]/preshared-key": true,
	} {
		for _, encode := range []func(*bytes.Buffer) error{
			func(b *bytes.Buffer) error { return EncodeResourceJSON(b, tree, at(t, path), Opts{}) },
			func(b *bytes.Buffer) error { return EncodeResourceXML(b, tree, at(t, path), Opts{}) },
		} {
			var b bytes.Buffer
			err := encode(&b)
			var e *rpcerr.Error
			if !errors.As(err, &e) || errors.Is(err, ErrNotFound) == found || b.Len() > 0 {
				t.Errorf("%s: %v %s", path, err, b.String())
			}
			if found && e.Tag != "access-denied" {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	// Content and depth.
	var b1 bytes.Buffer
	if err := EncodeResourceJSON(&b1, tree, at(t, "/mtu"), Opts{Content: ContentNonconfig}); !errors.Is(err, ErrNotFound) {
		t.Errorf("state of a configuration leaf: %v", err)
	}
	b1.Reset()
	if err := EncodeResourceJSON(&b1, tree, at(t, "/route4[id=a]"), Opts{Depth: 2}); err != nil ||
		b1.String() != `{"vita-esp-gateway:route4":[{"id":"a","spi":300,"net":"10.1.0.0/16","gateway":[{"ip":"192.0.2.2"},{"ip":"192.0.2.3"}]}]}` {
		t.Errorf("depth: %v %s", err, b1.String())
	}
}

// TestDecodeResource decodes what was encoded, at the same place, and puts it
// there.
func TestDecodeResource(t *testing.T) {
	tree := fromJSON(t, small)
	for _, path := range []string{"/", "/mtu", "/private-interface4", "/private-interface4/ip", "/route4[id=a]", "/route4[id=a]/id", "/route4[id=a]/gateway[ip=192.0.2.3]", "/route4[id=a]/gateway[ip=192.0.2.3]/queue"} {
		p := at(t, path)
		var j, x bytes.Buffer
		if err := errors.Join(EncodeResourceJSON(&j, tree, p, Opts{}), EncodeResourceXML(&x, tree, p, Opts{})); err != nil {
			t.Fatal(err)
		}
		fromJ, err := DecodeResourceJSON(j.Bytes(), p)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		fromX, err := DecodeResourceXML(parse(t, x.String()), p)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, e := range []*edit.Node{fromJ, fromX} {
			p.SetOp(e, edit.Replace)
			again := fromJSON(t, small)
			changes, err := edit.Apply(again, e, edit.None)
			if err != nil || len(changes) != 0 {
				t.Errorf("%s: putting it back: %v, %d changes", path, err, len(changes))
			}
		}
	}
	const m = "vita-esp-gateway:"
	for name, c := range map[string]struct{ path, json, xml string }{
		"another node": {"/mtu", `{"` + m + `tfc":true}`, `<tfc xmlns="vita:esp-gateway">true</tfc>`},
		"no module":    {"/mtu", `{"mtu":1}`, `<mtu>1</mtu>`},
		"two":          {"/mtu", `{"` + m + `mtu":1,"` + m + `tfc":true}`, ``},
		"nothing":      {"/mtu", `{}`, ``},
		"another key":  {"/route4[id=a]", `{"` + m + `route4":[{"id":"b"}]}`, `<route4 xmlns="vita:esp-gateway"><id>b</id></route4>`},
		"two entries":  {"/route4[id=a]", `{"` + m + `route4":[{"id":"a"},{"id":"b"}]}`, ``},
		"no entry":     {"/route4[id=a]", `{"` + m + `route4":[]}`, ``},
		"no data":      {"/", `{"` + m + `mtu":1}`, `<mtu xmlns="vita:esp-gateway">1</mtu>`},
		"bad value":    {"/mtu", `{"` + m + `mtu":9999}`, `<mtu xmlns="vita:esp-gateway">9999</mtu>`},
		"an operation": {"/mtu", ``, `<mtu xmlns="vita:esp-gateway" xmlns:n="` + nsNETCONF + `" n:operation="delete">1</mtu>`},
		"broken":       {"/mtu", `{"` + m + `mtu":`, ``},
		"state":        {"/gateway-state", `{"` + m + `gateway-state":{}}`, `<gateway-state xmlns="vita:esp-gateway"/>`},
		"a list":       {"/route4", `{"` + m + `route4":[{"id":"a"}]}`, `<route4 xmlns="vita:esp-gateway"><id>a</id></route4>`},
	} {
		if c.json != "" {
			if e, err := DecodeResourceJSON([]byte(c.json), at(t, c.path)); err == nil {
				t.Errorf("%s: JSON is taken: %+v", name, e)
			}
		}
		if c.xml != "" {
			if e, err := DecodeResourceXML(parse(t, c.xml), at(t, c.path)); err == nil {
				t.Errorf("%s: XML is taken: %+v", name, e)
			}
		}
	}
}

func TestDecodeChild(t *testing.T) {
	const m = "vita-esp-gateway:"
	for name, c := range map[string]struct{ parent, json, xml, created string }{
		"entry":         {"/", `{"` + m + `route4":[{"id":"c","spi":400}]}`, `<route4 xmlns="vita:esp-gateway"><spi>400</spi><id>c</id></route4>`, "/" + m + "route4[id='c']"},
		"leaf":          {"/", `{"` + m + `tfc":true}`, `<tfc xmlns="vita:esp-gateway">true</tfc>`, "/" + m + "tfc"},
		"inner entry":   {"/route4[id=b]", `{"` + m + `gateway":[{"ip":"192.0.2.9"}]}`, `<gateway xmlns="vita:esp-gateway"><ip>192.0.2.9</ip></gateway>`, "/" + m + "route4[id='b']/gateway[ip='192.0.2.9']"},
		"container":     {"/", `{"` + m + `private-interface6":{"ip":"::1"}}`, `<private-interface6 xmlns="vita:esp-gateway"><ip>::1</ip></private-interface6>`, "/" + m + "private-interface6"},
		"what is there": {"/", `{"` + m + `mtu":1}`, `<mtu xmlns="vita:esp-gateway">1</mtu>`, "data-exists"},
		"entry there":   {"/", `{"` + m + `route4":[{"id":"a"}]}`, `<route4 xmlns="vita:esp-gateway"><id>a</id></route4>`, "data-exists"},
		"below a leaf":  {"/mtu", `{"` + m + `mtu":1}`, `<mtu xmlns="vita:esp-gateway">1</mtu>`, "unknown-element"},
		"unknown":       {"/", `{"` + m + `flux":1}`, `<flux xmlns="vita:esp-gateway"/>`, "unknown-element"},
		"no module":     {"/route4[id=b]", `{"spi":1}`, `<spi>1</spi>`, "unknown-element"},
		"a key":         {"/route4[id=b]", `{"` + m + `id":"b"}`, `<id xmlns="vita:esp-gateway">b</id>`, "invalid-value"},
		"two entries":   {"/", `{"` + m + `route4":[{"id":"c"},{"id":"d"}]}`, ``, "invalid-value"},
	} {
		for kind, decode := range map[string]func() (*edit.Node, Path, error){
			"JSON": func() (*edit.Node, Path, error) { return DecodeChildJSON([]byte(c.json), at(t, c.parent)) },
			"XML":  func() (*edit.Node, Path, error) { return DecodeChildXML(parse(t, c.xml), at(t, c.parent)) },
		} {
			if kind == "XML" && c.xml == "" {
				continue
			}
			tree := fromJSON(t, small)
			e, created, err := decode()
			if err == nil {
				_, err = edit.Apply(tree, e, edit.None)
			}
			var re *rpcerr.Error
			switch {
			case errors.As(err, &re):
				if re.Tag != c.created {
					t.Errorf("%s, %s: %v, want %s", name, kind, err, c.created)
				}
			case err != nil || created.String() != c.created || !created.Exists(tree):
				t.Errorf("%s, %s: %v, %v, want %s", name, kind, created, err, c.created)
			}
		}
	}
}

func TestDelete(t *testing.T) {
	for _, path := range []string{"/mtu", "/route4[id=a]", "/route4", "/route4[id=a]/gateway[ip=192.0.2.2]", "/private-interface4", "/private-interface4/ip"} {
		tree := fromJSON(t, small)
		p := at(t, path)
		if _, err := edit.Apply(tree, p.Delete(), edit.None); err != nil || p.Exists(tree) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := edit.Apply(tree, p.Delete(), edit.None); err == nil {
			t.Errorf("%s: deleted twice", path)
		}
	}
	tree := fromJSON(t, small)
	e := &edit.Node{Schema: schema.Root()}
	Path(nil).SetOp(e, edit.Replace)
	if _, err := edit.Apply(tree, e, edit.None); err != nil || toJSON(t, tree, Opts{}) != "{}" {
		t.Errorf("replace by nothing: %v", err)
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"vita-esp-gateway:route4=a/gateway=1.2.3.4/queue", "/vita-esp-gateway:inbound-sa[spi='1000'][queue='2']/route", "/route4[id=site1]", "vita-esp-gateway:route6=%C3%B6/gateway=%3A%3A1", "/",
	} {
		f.Add(s)
	}
	tree := &gen.Vita{}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Path, error){ParseRESTCONF, ParseInstance} {
			p, err := parse(s)
			if err != nil {
				continue
			}
			p.Exists(tree)
			for what, again := range map[string]func() (Path, error){
				"RESTCONF": func() (Path, error) { return ParseRESTCONF(p.RESTCONF()) },
				"instance": func() (Path, error) { return ParseInstance(p.String()) },
			} {
				if q, err := again(); err != nil || q.String() != p.String() {
					t.Fatalf("%q: %s, %s: %v, %v", s, p, what, q, err)
				}
			}
		}
	})
}

func FuzzFields(f *testing.F) {
	for _, s := range []string{"a/b;c(d;e/f)", "vita-esp-gateway:route4/gateway(ip;queue);mtu", "((", "a()", "%41;%"} {
		f.Add(s)
	}
	tree := fromJSON(f, small)
	f.Fuzz(func(t *testing.T, text string) {
		for _, at := range []string{"", "vita-esp-gateway:route4=a"} {
			p, err := ParseRESTCONF(at)
			if err != nil {
				t.Fatal(err)
			}
			filter, err := FieldsFilter(p, text)
			if err != nil {
				continue
			}
			var b bytes.Buffer
			if err := EncodeResourceJSON(&b, tree, p, Opts{Filter: filter}); err != nil || !json.Valid(b.Bytes()) {
				t.Fatalf("%q: %v %s", text, err, b.Bytes())
			}
		}
		_, _ = FieldsElement("", text) // must not panic
	})
}
