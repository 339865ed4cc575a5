package mgmt

import (
	"encoding/base64"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// withRules starts the servers with a configuration and a second user, whose rules
// hide route site1 and everything of access control, and let it change mtu and
// rekey.
func withRules(t *testing.T) *servers {
	t.Helper()
	s := startAs(t, t.TempDir(), how{access: true, state: counting()})
	s.must("204", "PATCH", "/data", `{"ietf-restconf:data": {
	  "ietf-system:system": {"authentication": {"user": [{"name": "second", "password": "$0$`+secondPassword+`"}]}},
	  "ietf-netconf-acm:nacm": {
	    "groups": {"group": [{"name": "operator", "user-name": ["second"]}]},
	    "rule-list": [{"name": "operator", "group": ["operator"], "rule": [
	      {"name": "hide", "path": "/vita-esp-gateway:route4[id='site1']", "action": "deny"},
	      {"name": "mtu", "path": "/vita-esp-gateway:mtu", "access-operations": "create read update", "action": "permit"},
	      {"name": "rekey", "module-name": "vita-esp-gateway-ext", "rpc-name": "rekey", "access-operations": "exec", "action": "permit"},
	      {"name": "links", "module-name": "vita-esp-gateway-ext", "notification-name": "link-down", "action": "deny"}]}]},
	  "vita-esp-gateway:private-interface4": {"ifname": "eth0", "ip": "10.0.0.1", "nexthop-ip": "10.0.0.2"},
	  "vita-esp-gateway:route4": [
	    {"id": "site1", "net": "10.1.0.0/16", "spi": 1001, "preshared-key": "`+strings.Repeat("01", 32)+`", "gateway": [{"ip": "203.0.113.2"}]},
	    {"id": "site2", "net": "10.2.0.0/16", "spi": 1002, "preshared-key": "`+strings.Repeat("02", 32)+`", "gateway": [{"ip": "203.0.113.3"}]}]}}`)
	return s
}

func (s *servers) must(status, method, path, body string) string {
	s.t.Helper()
	args := []string{"-X", method, s.restconf + "/restconf" + path, "-H", "Content-Type: application/yang-data+json"}
	if body != "" {
		args = append(args, "-d", body)
	}
	got, answer := s.curl(args...)
	if got != status {
		s.t.Fatalf("%s %s: %s %s", method, path, got, answer)
	}
	return answer
}

// as makes a request as the second user, and returns status, headers and body.
func (s *servers) as(method, path, body string, headers ...string) (status, answer string) {
	s.t.Helper()
	args := []string{"-i", "-u", second + ":" + secondPassword, "-X", method, s.restconf + "/restconf" + path}
	for _, h := range append(headers, "Content-Type: application/yang-data+json") {
		args = append(args, "-H", h)
	}
	if body != "" {
		args = append(args, "-d", body)
	}
	return s.curl(args...)
}

const asSecond = `username="` + second + `", password="` + secondPassword + `"`

// TestRulesByCurl has what a user with rules gets from RESTCONF.
func TestRulesByCurl(t *testing.T) {
	s := withRules(t)
	for _, c := range []struct{ method, path, body, status, has, hasNot string }{
		{"GET", "/data?content=config", "", "200", "site2", "site1"},
		{"GET", "/data", "", "200", "", "ietf-netconf-acm:nacm"},
		{"GET", "/data?with-defaults=report-all", "", "200", `"mtu"`, "read-default"},
		{"GET", "/data?fields=vita-esp-gateway:route4(id)", "", "200", "site2", "site1"},
		{"GET", "/data?depth=2", "", "200", "route4", "site1"},
		{"GET", "/ds/ietf-datastores:candidate", "", "200", "site2", "site1"},
		{"GET", "/data/ietf-system:system", "", "200", "second", "argon2id"},
		{"GET", "/data/ietf-netconf-acm:nacm", "", "404", "", "nacm/"},
		{"GET", "/data/vita-esp-gateway:route4=site1", "", "404", "", ""},
		{"GET", "/data/vita-esp-gateway:route4=none", "", "404", "", ""},
		{"GET", "/data/vita-esp-gateway:route4=site2/net", "", "200", "10.2.0.0", ""},
		{"DELETE", "/data/vita-esp-gateway:route4=site1", "", "404", "", ""},
		{"DELETE", "/data/vita-esp-gateway:route4=site2", "", "403", "/vita-esp-gateway:route4[id='site2']", ""},
		{"PUT", "/data/vita-esp-gateway:route4=site1/net", `{"vita-esp-gateway:net": "10.1.0.0/16"}`, "403", "access-denied", "error-path"},
		{"PATCH", "/data/vita-esp-gateway:route4=site1", `{"vita-esp-gateway:route4": [{"id": "site1"}]}`, "404", "", ""},
		{"POST", "/data", `{"vita-esp-gateway:route4": [{"id": "site1"}]}`, "403", "access-denied", "error-path"},
		{"POST", "/data", `{"vita-esp-gateway:route4": [{"id": "none"}]}`, "403", "access-denied", ""},
		{"PUT", "/data/vita-esp-gateway:mtu", `{"vita-esp-gateway:mtu": 1400}`, "201", "", ""},
		{"PUT", "/data/vita-esp-gateway:mtu", `{"vita-esp-gateway:mtu": 1300}`, "204", "", ""},
		{"DELETE", "/data/vita-esp-gateway:mtu", "", "403", "/vita-esp-gateway:mtu", ""},
		{"PUT", "/data/vita-esp-gateway:tfc", `{"vita-esp-gateway:tfc": true}`, "403", "/vita-esp-gateway:tfc", ""},
		{"PUT", "/data", `{"ietf-restconf:data": {}}`, "403", "access-denied", "site1"},
		{"POST", "/operations/vita-esp-gateway-ext:rekey", `{"vita-esp-gateway-ext:input": {"route": "site1"}}`, "204", "", ""},
		{"POST", "/operations/vita-esp-gateway-ext:shutdown", "", "403", "/vita-esp-gateway-ext:shutdown", ""},
		{"POST", "/operations/vita-esp-gateway-ext:clear-counters", "", "403", "", ""},
		{"POST", "/operations/vita-esp-gateway-ext:history", `{"vita-esp-gateway-ext:input": {"changes": true}}`, "200", "site2", "site1"},
		{"POST", "/operations/vita-esp-gateway-ext:rollback", `{"vita-esp-gateway-ext:input": {"commits": 2}}`, "403", "access-denied", "site1"},
		{"POST", "/operations/ietf-netconf:commit", "", "204", "", ""},
	} {
		status, answer := s.as(c.method, c.path, c.body)
		if status != c.status || !strings.Contains(answer, c.has) || c.hasNot != "" && strings.Contains(answer, c.hasNot) {
			t.Errorf("%s %s: %s, want %s with %q and without %q\n%s", c.method, c.path, status, c.status, c.has, c.hasNot, answer)
		}
	}
	capture, answer := s.curl("-u", second+":"+secondPassword, s.restconf+"/vita/capture?point=dropped")
	if capture != "403" || !strings.Contains(answer, "capture") {
		t.Errorf("capture: %s %s", capture, answer)
	}
	// YANG Patch: none of the edits, and which one it was.
	status, answer := s.as("PATCH", "/data", `{"ietf-yang-patch:yang-patch": {"patch-id": "p", "edit": [
	  {"edit-id": "good", "operation": "replace", "target": "/vita-esp-gateway:mtu", "value": {"vita-esp-gateway:mtu": 1200}},
	  {"edit-id": "bad", "operation": "delete", "target": "/vita-esp-gateway:route4=site1"}]}}`, "Content-Type: application/yang-patch+json")
	if status != "403" || !strings.Contains(answer, `"bad"`) || strings.Contains(answer, "error-path") {
		t.Errorf("%s %s", status, answer)
	}
	if answer := s.must("200", "GET", "/data/vita-esp-gateway:mtu", ""); !strings.Contains(answer, "1300") {
		t.Error(answer)
	}
	// What was denied is counted; rollback, the two captures and operations.
	var counted struct {
		N map[string]any `json:"ietf-netconf-acm:nacm"`
	}
	check(t, json.Unmarshal([]byte(s.must("200", "GET", "/data/ietf-netconf-acm:nacm?content=nonconfig", "")), &counted))
	if n := counted.N; n["denied-operations"] != 3.0 || n["denied-data-writes"] == 0.0 || n["denied-notifications"] != 0.0 {
		t.Errorf("%v", n)
	}
}

var etag = regexp.MustCompile(`(?mi)^etag: (.*?)\r?$`)

// TestTagsDoNotTell: what a user cannot read changes, and no entity tag does.
func TestTagsDoNotTell(t *testing.T) {
	s := withRules(t)
	tag := func(path string) string {
		t.Helper()
		_, answer := s.as("GET", path, "")
		if m := etag.FindStringSubmatch(answer); m != nil {
			return m[1]
		}
		t.Fatalf("no ETag of %s: %s", path, answer)
		return ""
	}
	paths := []string{"/data?content=config", "/data/vita-esp-gateway:route4=site2", "/ds/ietf-datastores:candidate", "/ds/ietf-datastores:candidate/vita-esp-gateway:route4=site2"}
	before := map[string]string{}
	for _, p := range paths {
		before[p] = tag(p)
	}
	s.must("204", "PATCH", "/data/vita-esp-gateway:route4=site1", `{"vita-esp-gateway:route4": [{"id": "site1", "spi": 2001}]}`)
	for _, p := range paths {
		if after := tag(p); after != before[p] {
			t.Errorf("%s: the tag was %s and is %s", p, before[p], after)
		}
	}
	if status, answer := s.as("GET", paths[0], "", "If-None-Match: "+before[paths[0]]); status != "304" {
		t.Errorf("%s %s", status, answer)
	}
	if status, answer := s.as("PUT", "/data/vita-esp-gateway:mtu", `{"vita-esp-gateway:mtu": 1400}`, "If-Match: "+tag("/data/vita-esp-gateway:mtu")); status != "412" && status != "404" {
		t.Logf("%s %s", status, answer) // it is not there: no tag matches
	}
	s.must("204", "PATCH", "/data/vita-esp-gateway:route4=site2", `{"vita-esp-gateway:route4": [{"id": "site2", "spi": 2002}]}`)
	for _, p := range paths {
		if after := tag(p); after == before[p] {
			t.Errorf("%s: the tag is the same although what it is of has changed", p)
		}
	}
	if status, answer := s.as("PATCH", "/data", `{"ietf-restconf:data": {"vita-esp-gateway:mtu": 1400}}`, "If-Match: "+before[paths[0]]); status != "412" {
		t.Errorf("a stale tag: %s %s", status, answer)
	}
	if status, answer := s.as("PATCH", "/data", `{"ietf-restconf:data": {"vita-esp-gateway:mtu": 1400}}`, "If-Match: "+tag(paths[0])); status != "204" {
		t.Errorf("the tag: %s %s", status, answer)
	}
}

// TestRulesByNcclient has what a user with rules gets from NETCONF.
func TestRulesByNcclient(t *testing.T) {
	s := withRules(t)
	out, err := s.pythonAs(asSecond, `
import ncclient.xml_
def fails(what, tag, call):
    try:
        call()
    except RPCError as e:
        print(what, e.tag, e.path or "-") if e.tag != tag else None
        assert e.tag == tag, (what, e.tag, e.message)
        assert "site1" not in str(e.message) + str(e.path), e.message
        return e
    assert False, what + " is permitted"
config = m.get_config("running").data_xml
assert "site2" in config and "site1" not in config and "nacm" not in config and "argon2id" not in config, config
for select in ["//*[.='site1']", "/route4[id='site1']", "/route4[net='10.1.0.0/16']", "//nacm", "/system/authentication/user/password"]:
    found = m.get_config("running", filter=("xpath", select)).data_xml
    assert "site1" not in found and "nacm" not in found and "argon2id" not in found, (select, found)
assert "site2" in m.get_config("running", filter=("xpath", "/route4[1]")).data_xml
sub = '<route4 xmlns="vita:esp-gateway"><id>site1</id></route4>'
assert "site1" not in m.get_config("running", filter=("subtree", sub)).data_xml
gw = '<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">%s</config>'
route = '<route4 xmlns="vita:esp-gateway" nc:operation="%s"><id>%s</id></route4>'
for op in ["create", "delete", "remove", "merge"]:
    fails(op + " of what is hidden", "access-denied", lambda: m.edit_config(target="candidate", config=gw % (route % (op, "site1"))))
e = fails("tfc", "access-denied", lambda: m.edit_config(target="candidate", config=gw % '<tfc xmlns="vita:esp-gateway">true</tfc>'))
assert "tfc" in e.path, e.path
m.edit_config(target="candidate", config=gw % '<mtu xmlns="vita:esp-gateway">1400</mtu>')
m.commit()
fails("kill-session", "access-denied", lambda: m.kill_session("1"))
fails("shutdown", "access-denied", lambda: m.dispatch(ncclient.xml_.to_ele('<shutdown xmlns="vita:esp-gateway-ext"/>')))
m.dispatch(ncclient.xml_.to_ele('<rekey xmlns="vita:esp-gateway-ext"><route>site1</route></rekey>'))
fails("copy", "access-denied", lambda: m.copy_config(source="running", target="candidate"))
state = m.get().data_xml
assert "netconf-state" in state and "site1" not in state.split("gateway-state")[0], state
print("good")
`, "")
	if err != nil || !strings.Contains(out, "good") {
		t.Fatalf("%v: %s", err, out)
	}
	// An administrator may do all of it.
	out, err = s.python(`
assert "site1" in m.get_config("running").data_xml
assert "nacm" in m.get_config("running").data_xml
m.copy_config(source="running", target="candidate")
print("good")
`, "")
	if err != nil || !strings.Contains(out, "good") {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestEventsAreJudged: of each subscriber, and when they are sent.
func TestEventsAreJudged(t *testing.T) {
	s := withRules(t)
	from := time.Now().Add(-time.Second).UTC().Format("2006-01-02T15:04:05Z")
	s.must("204", "PATCH", "/data/vita-esp-gateway:route4=site1", `{"vita-esp-gateway:route4": [{"id": "site1", "spi": 2001}]}`)
	s.must("204", "PATCH", "/data", `{"ietf-restconf:data": {"vita-esp-gateway:tfc": true, "vita-esp-gateway:route4": [{"id": "site1", "spi": 2003}]}}`)
	stream := func(login string) string {
		out, err := exec.Command("curl", "-sSN", "--max-time", "2", "--cacert", filepath.Join(s.dir, "tls.crt"), "-u", login,
			"-G", "--data-urlencode", "start-time="+from, s.restconf+"/restconf/streams/NETCONF/json").Output()
		if len(out) == 0 {
			t.Fatalf("no events: %v", err)
		}
		return string(out)
	}
	if all := stream(user + ":" + password); strings.Count(all, "site1") < 2 || !strings.Contains(all, "vita-esp-gateway:tfc") {
		t.Errorf("an administrator hears %s", all)
	}
	if some := stream(second + ":" + secondPassword); strings.Contains(some, "site1") || !strings.Contains(some, "vita-esp-gateway:tfc") {
		t.Errorf("the second user hears %s", some)
	}
	if n := s.must("200", "GET", "/data/ietf-netconf-acm:nacm/denied-notifications", ""); strings.Contains(n, ":0}") {
		t.Error(n)
	}
}

// TestRecoverySession: by the local socket, whatever the rules say.
func TestRecoverySession(t *testing.T) {
	s := startAs(t, t.TempDir(), how{access: true, state: counting()})
	local := func(method, path, body string) (status, answer string) {
		args := []string{"-sS", "--max-time", "10", "--unix-socket", s.recovery, "-X", method, "http://gateway/restconf" + path, "-H", "Content-Type: application/yang-data+json", "-w", "\n%{http_code}"}
		if body != "" {
			args = append(args, "-d", body)
		}
		out, err := exec.Command("curl", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		i := strings.LastIndexByte(string(out), '\n')
		return string(out[i+1:]), string(out[:i])
	}
	// The administrators lock themselves out.
	s.must("204", "DELETE", "/data/ietf-netconf-acm:nacm/rule-list=admin", "")
	if status, answer := s.curl("-X", "DELETE", s.restconf+"/restconf/data/ietf-netconf-acm:nacm/groups"); status != "404" && status != "403" {
		t.Fatalf("%s %s", status, answer)
	}
	if status, answer := local("PUT", "/data/ietf-netconf-acm:nacm/enable-nacm", `{"ietf-netconf-acm:enable-nacm": false}`); status != "201" {
		t.Fatalf("%s %s", status, answer)
	}
	s.must("200", "GET", "/data/ietf-netconf-acm:nacm", "")
	status, answer := local("POST", "/operations/vita-esp-gateway-ext:history", `{"vita-esp-gateway-ext:input": {"most": 1}}`)
	if status != "200" || !strings.Contains(answer, `"user":"recovery"`) {
		t.Errorf("%s %s", status, answer)
	}
	// No password makes a recovery session elsewhere.
	if status, _ := s.curl("-u", "recovery:", s.restconf+"/restconf/data"); status != "401" {
		t.Errorf("%s", status)
	}
}

// TestUsersOfTheConfiguration: users come, change their passwords, and go.
func TestUsersOfTheConfiguration(t *testing.T) {
	s := withRules(t)
	const users = "/data/ietf-system:system/authentication/user"
	login := func(name, password string) string {
		status, _ := s.curl("-u", name+":"+password, s.restconf+"/restconf/data/vita-esp-gateway:route4=site2")
		return status
	}
	if got := login(second, secondPassword); got != "200" {
		t.Fatal(got)
	}
	// Neither the password nor its hash is to be had, of the candidate either.
	s.must("201", "PUT", "/ds/ietf-datastores:candidate/ietf-system:system/authentication/user=third", `{"ietf-system:user": [{"name": "third", "password": "$0$a third password"}]}`)
	for _, path := range []string{"/data", "/ds/ietf-datastores:candidate"} {
		if got := s.must("200", "GET", path, ""); strings.Contains(got, "third password") || strings.Contains(got, "argon2id") {
			t.Error(got)
		}
	}
	if got := login("third", "a third password"); got != "401" {
		t.Errorf("before the commit: %s", got)
	}
	s.must("204", "POST", "/operations/ietf-netconf:commit", "")
	if got := login("third", "a third password"); got != "200" {
		t.Errorf("after the commit: %s", got)
	}
	if got := s.must("200", "POST", "/operations/vita-esp-gateway-ext:history", `{"vita-esp-gateway-ext:input": {"changes": true}}`); strings.Contains(got, "third password") || strings.Contains(got, "argon2id") || !strings.Contains(got, "third") {
		t.Error(got)
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "*.db"))
	check(t, err)
	if out, err := exec.Command("grep", append([]string{"-c", "-a", "a third password"}, files...)...).Output(); err == nil {
		t.Errorf("the password is on disk: %s", out)
	}
	// A password that is changed is not good any more, though it was a moment ago.
	s.must("204", "PUT", users+"=second/password", `{"ietf-system:password": "$0$quite another password"}`)
	if old, new := login(second, secondPassword), login(second, "quite another password"); old != "401" || new != "200" {
		t.Errorf("the old password %s, the new one %s", old, new)
	}
	for body, want := range map[string]string{
		`{"ietf-system:password": "$0$short"}`:                                "pattern",
		`{"ietf-system:password": "$6$salt$` + strings.Repeat("x", 86) + `"}`: "argon2id",
		`{"ietf-system:password": "clear"}`:                                   "pattern",
	} {
		if status, answer := s.curl("-X", "PUT", s.restconf+"/restconf"+users+"=second/password", "-H", "Content-Type: application/yang-data+json", "-d", body); status != "400" || strings.Contains(answer, "short") || strings.Contains(answer, "salt") || !strings.Contains(answer, want) && !strings.Contains(answer, "does not match") {
			t.Errorf("%s: %s %s", body, status, answer)
		}
	}
	// Keys, by ssh.
	pub := base64.StdEncoding.EncodeToString(s.signer.PublicKey().Marshal())
	s.must("201", "PUT", users+"=third/authorized-key=laptop", `{"ietf-system:authorized-key": [{"name": "laptop", "algorithm": "ssh-ed25519", "key-data": "`+pub+`"}]}`)
	if out, err := s.pythonAs(`username="third", key_filename="`+s.keyFile+`"`, "print(m.session_id)", ""); err != nil {
		t.Errorf("by key: %v %s", err, out)
	}
	if status, answer := s.curl("-X", "PUT", s.restconf+"/restconf"+users+"=third/authorized-key=bad", "-H", "Content-Type: application/yang-data+json", "-d", `{"ietf-system:authorized-key": [{"name": "bad", "algorithm": "ssh-rsa", "key-data": "`+pub+`"}]}`); status != "400" || !strings.Contains(answer, "authorized-key[name='bad']/key-data") {
		t.Errorf("%s %s", status, answer)
	}
	// Without the method nobody logs in by password.
	s.must("204", "DELETE", "/data/ietf-system:system/authentication/user-authentication-order=ietf-system%3Alocal-users", "")
	if got := login(user, password); got != "401" {
		t.Errorf("without local-users: %s", got)
	}
}

// TestSessionsOfRemovedUsersEnd: those of NETCONF, and event streams.
func TestSessionsOfRemovedUsersEnd(t *testing.T) {
	s := withRules(t)
	stream := exec.Command("curl", "-sSN", "--max-time", "60", "--cacert", filepath.Join(s.dir, "tls.crt"), "-u", second+":"+secondPassword, s.restconf+"/restconf/streams/NETCONF/json")
	check(t, stream.Start())
	done := make(chan error, 2)
	go func() { done <- stream.Wait() }()
	go func() {
		out, err := s.pythonAs(asSecond, `
import os, time
open("`+s.dir+`/ready", "w").close()
for i in range(200):
    time.sleep(0.1)
    try:
        m.get_config("running")
    except Exception as e:
        print("ended", flush=True)
        os._exit(0) # else ncclient asks the closed session to close, and waits for an answer
`, "")
		if !strings.Contains(out, "ended") {
			t.Errorf("the session goes on: %v %s", err, out)
		}
		done <- nil
	}()
	for range 100 {
		if ready, err := filepath.Glob(filepath.Join(s.dir, "ready")); err == nil && len(ready) > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	begun := time.Now()
	s.must("204", "DELETE", "/data/ietf-system:system/authentication/user=second", "")
	for range 2 {
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			t.Fatal("a session of a user who is no more goes on")
		}
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
}

// TestRulesByYangcli: another client meets a denial.
func TestRulesByYangcli(t *testing.T) {
	s := withRules(t)
	out := s.yangcli(second, secondPassword, `
sget-config source=running /route4
kill-session session-id=1
`)
	if !strings.Contains(out, "access-denied") && !strings.Contains(out, "access denied") || !strings.Contains(out, "site2") || strings.Contains(out, "site1") {
		t.Errorf("%s", out)
	}
}

// TestNcclientStartup saves by ncclient, and starts anew.
func TestNcclientStartup(t *testing.T) {
	dir := t.TempDir()
	t.Run("first", func(t *testing.T) {
		s := startAs(t, dir, how{access: true, startup: true, state: counting()})
		out, err := s.python(`
assert ":startup" in m.server_capabilities
gw = '<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><mtu xmlns="vita:esp-gateway">%d</mtu></config>'
m.edit_config(target="running", config=gw % 1400)
m.copy_config(source="running", target="startup")
m.edit_config(target="running", config=gw % 1300)
assert "1400" in m.get_config("startup").data_xml
try:
    m.edit_config(target="startup", config=gw % 1200)
    assert False
except RPCError as e:
    assert e.tag == "operation-not-supported", e.tag
with m.locked("startup"):
    pass
m.validate("startup")
print("good")
`, "")
		if err != nil || !strings.Contains(out, "good") {
			t.Fatalf("%v: %s", err, out)
		}
	})
	s := startAs(t, dir, how{access: true, startup: true, state: counting()})
	if got := s.must("200", "GET", "/data/vita-esp-gateway:mtu", ""); !strings.Contains(got, "1400") {
		t.Error(got)
	}
	// The administrator's key is that of the first start.
	if out, err := s.pythonAs(`username="`+user+`", password="`+password+`"`, `m.delete_config("startup"); print(m.get_config("startup").data_xml.count("mtu"))`, ""); err != nil || !strings.HasPrefix(out, "0") {
		t.Errorf("%v: %s", err, out)
	}
}
