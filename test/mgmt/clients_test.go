package mgmt

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	junos "github.com/Juniper/go-netconf/netconf"
	"golang.org/x/crypto/ssh"
)

const routeXML = `<route4 xmlns="vita:esp-gateway"><id>site1</id><net>10.1.0.0/16</net><spi>1001</spi>
 <preshared-key>000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f</preshared-key>
 <gateway><ip>203.0.113.1</ip><queue>2</queue></gateway><gateway><ip>203.0.113.2</ip></gateway></route4>
 <mtu xmlns="vita:esp-gateway">1440</mtu><tfc xmlns="vita:esp-gateway">true</tfc>
 <private-interface4 xmlns="vita:esp-gateway"><ifname>a &lt;b&gt; &amp;</ifname><ip>10.0.0.1</ip><nexthop-ip>10.0.0.2</nexthop-ip></private-interface4>`

func TestNcclient(t *testing.T) {
	s := start(t)
	out, err := s.python(`
with m.locked("candidate"):
    m.edit_config(target="candidate", config=config)
    m.validate(source="candidate")
    m.commit()
print(m.get_config(source="running", filter=("subtree", '<route4 xmlns="vita:esp-gateway"><id>site1</id><net/></route4>')).data_xml)
try:
    m.edit_config(target="running", config=config.replace("1440", "9999"))
    print("taken")
except RPCError as e:
    print(e.type, e.tag, e.path, e.severity)
print(m.get(filter=("xpath", "/route4[id='site1']/spi")).data_xml)
print(m.session_id, ":candidate" in m.server_capabilities)
print("state", "gateway-state" in m.get().data_xml)
`, `<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+routeXML+`</config>`)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"<net>10.1.0.0/16</net>", "<spi>1001</spi>", "application invalid-value /vita-esp-gateway:mtu error", "1 True"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "preshared-key") {
		t.Error("a secret was given out")
	}
}

func TestNcclientConfirmedCommit(t *testing.T) {
	s := start(t)
	out, err := s.python(`
import time
def mtu():
    return "1440" in m.get_config(source="running").data_xml
m.edit_config(target="candidate", config=config)
m.commit(confirmed=True, timeout="1")
print("now", mtu())
time.sleep(1.5)
print("later", mtu())
m.edit_config(target="candidate", config=config)
m.commit(confirmed=True, timeout="60", persist="id")
try:
    m.commit()
except RPCError as e:
    print(e.tag)
m.commit(persist_id="id")
print("confirmed", mtu())
print("all" if "<sa-ttl" in m.get_config(source="running", with_defaults="report-all").data_xml else "explicit")
print(m.get(with_defaults="report-all-tagged").data_xml.count('wd:default="true"') > 2)
`, `<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><mtu xmlns="vita:esp-gateway">1440</mtu></config>`)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := "now True\nlater False\nin-use\nconfirmed True\nall\nTrue\n"; out != want {
		t.Errorf("%s, want %s", out, want)
	}
}

func TestGoNetconf(t *testing.T) {
	s := start(t)
	c, err := junos.DialSSHTimeout(s.netconf, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(s.signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}, 20*time.Second)
	check(t, err)
	defer c.Close()
	if _, err := c.Exec(junos.RawMethod(`<edit-config><target><candidate/></target><config>` + routeXML + `</config></edit-config>`)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(junos.RawMethod("<commit/>")); err != nil {
		t.Fatal(err)
	}
	r, err := c.Exec(junos.MethodGetConfig("running"))
	check(t, err)
	if !strings.Contains(r.Data, "<id>site1</id>") {
		t.Fatal(r.Data)
	}
	_, err = c.Exec(junos.RawMethod("<frobnicate/>"))
	if err == nil || !strings.Contains(err.Error(), "operation <frobnicate> is not supported") {
		t.Fatalf("unknown operation: %v", err)
	}
}

func TestCurl(t *testing.T) {
	s := start(t)
	file := filepath.Join(s.dir, "body")
	check(t, os.WriteFile(file, []byte(`<data xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf">`+routeXML+`</data>`), 0o600))
	data := s.restconf + "/restconf/data"
	if status, body := s.curl("-X", "PATCH", "-H", "Content-Type: application/yang-data+xml", "--data-binary", "@"+file, data); status != "204" {
		t.Fatalf("PATCH: %s %s", status, body)
	}
	if status, body := s.curl(data + "/vita-esp-gateway:route4=site1/gateway=203.0.113.1"); status != "200" || !strings.Contains(body, `"queue":2`) {
		t.Fatalf("GET: %s %s", status, body)
	}
	if status, body := s.curl("-I", data+"/vita-esp-gateway:mtu"); status != "200" || !strings.Contains(body, "application/yang-data+json") {
		t.Fatalf("HEAD: %s %s", status, body)
	}
	if status, body := s.curl("-X", "DELETE", data+"/vita-esp-gateway:tfc"); status != "204" {
		t.Fatalf("DELETE: %s %s", status, body)
	}
	for _, version := range []string{"--http1.1", "--http2"} {
		if status, body := s.curl(version, "-H", "If-Match: \"stale\"", "-X", "DELETE", data+"/vita-esp-gateway:mtu"); status != "412" {
			t.Fatalf("stale If-Match by %s: %s %s", version, status, body)
		}
	}
	if status, body := s.curl("-u", user+":wrong", data); status != "401" {
		t.Fatalf("wrong password: %s %s", status, body)
	}
}

// TestSameConfigurationEverywhere sets one configuration in each of four ways
// and reads it in each of four, over two protocols and in two encodings; all
// sixteen give the same leaves.
func TestSameConfigurationEverywhere(t *testing.T) {
	set := map[string]func(*servers){
		"NETCONF": func(s *servers) {
			out, err := s.python(`m.edit_config(target="running", config=config)`,
				`<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+routeXML+`</config>`)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		},
		"NETCONF candidate": func(s *servers) {
			out, err := s.python("m.edit_config(target='candidate', config=config)\nm.commit()",
				`<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+routeXML+`</config>`)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		},
		"RESTCONF XML": func(s *servers) {
			s.put("application/yang-data+xml", `<data xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf">`+routeXML+`</data>`)
		},
		"RESTCONF JSON": func(s *servers) {
			s.put("application/yang-data+json", `{"ietf-restconf:data":{
			 "vita-esp-gateway:route4":[{"id":"site1","net":"10.1.0.0/16","spi":1001,
			  "preshared-key":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			  "gateway":[{"ip":"203.0.113.2"},{"queue":2,"ip":"203.0.113.1"}]}],
			 "vita-esp-gateway:mtu":1440,"vita-esp-gateway:tfc":true,
			 "vita-esp-gateway:private-interface4":{"ifname":"a <b> &","ip":"10.0.0.1","nexthop-ip":"10.0.0.2"}}}`)
		},
	}
	get := map[string]func(*servers) []string{
		"NETCONF get-config": func(s *servers) []string {
			out, err := s.python(`print(m.get_config(source="running").data_xml)`, "")
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return leavesXML(t, out)
		},
		"NETCONF candidate": func(s *servers) []string {
			out, err := s.python(`print(m.get_config(source="candidate").data_xml)`, "")
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return leavesXML(t, out)
		},
		"RESTCONF XML": func(s *servers) []string {
			_, body := s.curl("-H", "Accept: application/yang-data+xml", s.restconf+"/restconf/data?content=config")
			return leavesXML(t, body)
		},
		"RESTCONF JSON": func(s *servers) []string {
			_, body := s.curl(s.restconf + "/restconf/data?content=config")
			return leavesJSON(t, body)
		},
	}
	want := []string{
		"mtu=1440", "private-interface4/ifname=a <b> &", "private-interface4/ip=10.0.0.1", "private-interface4/nexthop-ip=10.0.0.2",
		"route4/gateway/ip=203.0.113.1", "route4/gateway/ip=203.0.113.2", "route4/gateway/queue=2",
		"route4/id=site1", "route4/net=10.1.0.0/16", "route4/spi=1001", "tfc=true",
	}
	for how, in := range set {
		s := start(t)
		in(s)
		for where, out := range get {
			if got := out(s); !reflect.DeepEqual(got, want) {
				t.Errorf("set by %s, read by %s:\n%s\nwant\n%s", how, where, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}

func (s *servers) put(media, body string) {
	s.t.Helper()
	file := filepath.Join(s.dir, "body")
	check(s.t, os.WriteFile(file, []byte(body), 0o600))
	if status, answer := s.curl("-X", "PUT", "-H", "Content-Type: "+media, "--data-binary", "@"+file, s.restconf+"/restconf/data"); status != "204" {
		s.t.Fatalf("PUT: %s %s", status, answer)
	}
}

// leavesXML lists the leaves below a <data> element, sorted.
func leavesXML(t *testing.T, doc string) []string {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(doc))
	var path, leaves []string
	text, leaf := "", false
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			slices.Sort(leaves)
			return leaves
		}
		check(t, err)
		switch e := tok.(type) {
		case xml.StartElement:
			path, text, leaf = append(path, e.Name.Local), "", true
		case xml.CharData:
			text += string(e)
		case xml.EndElement:
			if leaf && len(path) > 1 {
				leaves = append(leaves, strings.Join(path[1:], "/")+"="+text)
			}
			path, leaf = path[:len(path)-1], false
		}
	}
}

func leavesJSON(t *testing.T, doc string) []string {
	t.Helper()
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(doc))
	d.UseNumber()
	check(t, d.Decode(&m))
	var leaves []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, c := range v {
				if _, local, ok := strings.Cut(k, ":"); ok {
					k = local
				}
				walk(path+"/"+k, c)
			}
		case []any:
			for _, c := range v {
				walk(path, c)
			}
		case json.Number:
			leaves = append(leaves, path[1:]+"="+v.String())
		case string:
			leaves = append(leaves, path[1:]+"="+v)
		case bool:
			leaves = append(leaves, path[1:]+"="+map[bool]string{true: "true", false: "false"}[v])
		}
	}
	walk("", m["ietf-restconf:data"])
	slices.Sort(leaves)
	return leaves
}
