package mgmt

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// yanglint has libyang check an instance document of the standard modules.
func (s *servers) yanglint(file, doc string) {
	s.t.Helper()
	path := filepath.Join(s.dir, file)
	check(s.t, os.WriteFile(path, []byte(doc), 0o600))
	modules := "../../yang/ietf/"
	out, err := exec.Command("yanglint", "-t", "get", "-p", modules, "-p", "../../yang",
		modules+"ietf-datastores@2018-02-14.yang", modules+"ietf-yang-library@2019-01-04.yang",
		modules+"ietf-netconf-monitoring@2010-10-04.yang", "../../yang/vita-esp-gateway.yang", path).CombinedOutput()
	if err != nil {
		s.t.Errorf("libyang refuses %s: %v\n%s\n%s", file, err, out, doc)
	}
}

// TestDiscoveryIsValid has libyang read what the servers say about themselves,
// by both protocols and in both encodings.
func TestDiscoveryIsValid(t *testing.T) {
	s := start(t)
	out, err := s.python(`
m.lock("running")
from lxml import etree
for ns, roots in (("ietf-netconf-monitoring", ["netconf-state"]), ("ietf-yang-library", ["yang-library", "modules-state"])):
    for root in roots:
        got = m.get(filter=("subtree", '<%s xmlns="urn:ietf:params:xml:ns:yang:%s"/>' % (root, ns)))
        print(etree.tostring(got.data_ele[0]).decode())
`, "")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.yanglint("netconf.xml", out)
	for _, want := range []string{
		"<username>" + user + "</username>", "<source-host>127.0.0.1</source-host>", "<in-rpcs>2</in-rpcs>",
		"<global-lock><locked-by-session>1</locked-by-session>", "<identifier>vita-esp-gateway</identifier>",
		"<conformance-type>implement</conformance-type>", "<feature>candidate</feature>",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out), ""), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	for _, root := range []string{"ietf-netconf-monitoring:netconf-state", "ietf-yang-library:yang-library", "ietf-yang-library:modules-state"} {
		status, body := s.curl(s.restconf + "/restconf/data/" + root)
		if status != "200" {
			t.Fatalf("%s: %s %s", root, status, body)
		}
		s.yanglint("restconf.json", body)
		if status, body = s.curl("-H", "Accept: application/yang-data+xml", s.restconf+"/restconf/data/"+root); status != "200" {
			t.Fatalf("%s: %s %s", root, status, body)
		}
		s.yanglint("restconf.xml", body)
	}
}

// TestDiscoveryIsConsistent compares the library's identity where it is told:
// in the hello, in both forms of the library, and by the API resource.
func TestDiscoveryIsConsistent(t *testing.T) {
	s := start(t)
	_, id := s.curl(s.restconf + "/restconf/data/ietf-yang-library:yang-library/content-id")
	_, set := s.curl(s.restconf + "/restconf/data/ietf-yang-library:modules-state/module-set-id")
	value := func(json string) string { return strings.Split(json, `"`)[3] }
	out, err := s.python("print('\\n'.join(m.server_capabilities))", "")
	check(t, err)
	for _, want := range []string{"yang-library:1.1?revision=2019-01-04&content-id=" + value(id), "module-set-id=" + value(set)} {
		if !strings.Contains(out, want) {
			t.Errorf("hello without %s:\n%s", want, out)
		}
	}
	_, version := s.curl(s.restconf + "/restconf/yang-library-version")
	_, revision := s.curl(s.restconf + "/restconf/data/ietf-yang-library:yang-library/module-set=all/module=ietf-yang-library/revision")
	if value(version) != value(revision) {
		t.Errorf("yang-library-version %s, the library has %s", version, revision)
	}
	status, body := s.curl(s.restconf + "/restconf/data?content=nonconfig")
	if status != "200" || !strings.Contains(body, `"ietf-netconf-monitoring:netconf-state":{`) {
		t.Errorf("the datastore resource has no operational data of others: %s %s", status, body)
	}
	for path, want := range map[string]string{
		"ietf-yang-library:yang-library/module-set=none": "404",
		"ietf-yang-library:yang-library=x":               "400",
		"ietf-yang-library:yang-library?content=config":  "404",
	} {
		if status, body := s.curl(s.restconf + "/restconf/data/" + path); status != want {
			t.Errorf("%s: %s %s, want %s", path, status, body, want)
		}
	}
	if status, body := s.curl("-X", "DELETE", s.restconf+"/restconf/data/ietf-yang-library:yang-library"); status != "405" {
		t.Errorf("DELETE of the library: %s %s", status, body)
	}
}

// TestGetSchema fetches every module that the server lists, and compares it
// with the file.
func TestGetSchema(t *testing.T) {
	s := start(t)
	out, err := s.python(`
import re
state = m.get(filter=("subtree", '<netconf-state xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"><schemas/></netconf-state>')).data_xml
for name, version in re.findall("<identifier>(.*?)</identifier><version>(.*?)</version>", state):
    text = m.get_schema(name, version).data
    on_disk = [f for f in ("../../yang/%s.yang" % name, "../../yang/ietf/%s@%s.yang" % (name, version)) if __import__("os").path.exists(f)]
    print(name, version, open(on_disk[0]).read() == text)
for bad in (("nothing", None), ("ietf-netconf", "1999-01-01")):
    try:
        m.get_schema(*bad)
        print("taken")
    except RPCError as e:
        print(e.tag)
`, "")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(out, "False") || strings.Contains(out, "taken") || strings.Count(out, "True") < 9 || strings.Count(out, "invalid-value") != 2 {
		t.Error(out)
	}
}

// TestYangcli lets yangcli connect, load the modules by get-schema, and edit.
func TestYangcli(t *testing.T) {
	s := start(t)
	out := s.yangcli(user, password, `
merge /private-interface4 -- ifname='eth0' ip='10.0.0.1' nexthop-ip='10.0.0.2'
create /route4[id='site1'] -- net='10.1.0.0/16'
discard-changes
merge /private-interface4 -- ifname='eth0' ip='10.0.0.1' nexthop-ip='10.0.0.2'
commit
sget-config source=running /private-interface4
show modules
`)
	for _, want := range []string{"Current module-set-id", "nexthop-ip 10.0.0.2", "vita-esp-gateway@2"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if status, body := s.curl(s.restconf + "/restconf/data/vita-esp-gateway:private-interface4/ip"); status != "200" || !strings.Contains(body, "10.0.0.1") {
		t.Errorf("after yangcli's commit: %s %s", status, body)
	}
}

// yangcli runs a script with yangcli, logged in as somebody.
func (s *servers) yangcli(name, password, script string) string {
	s.t.Helper()
	_, port, err := net.SplitHostPort(s.netconf)
	check(s.t, err)
	file := filepath.Join(s.dir, "script")
	check(s.t, os.WriteFile(file, []byte(script), 0o600))
	c := exec.Command("yangcli", "--server=127.0.0.1", "--ncport="+port, "--user="+name, "--password="+password,
		"--batch-mode", "--run-script="+file, "--log-level=info")
	c.Env = append(os.Environ(), "HOME="+s.dir) // where it keeps the modules
	out, err := c.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
