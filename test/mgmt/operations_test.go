package mgmt

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOperations carries out the gateway's own operations by ncclient and curl,
// in XML and in JSON, and has libyang read what they answer.
func TestOperations(t *testing.T) {
	s := start(t)
	out, err := s.python(`
from ncclient.xml_ import to_ele
def do(op):
    try:
        return m.dispatch(to_ele(op)).xml.replace("\n", " ")
    except RPCError as e:
        return "%s %s %s" % (e.type, e.tag, e.message)
ns = 'xmlns="vita:esp-gateway-ext"'
m.edit_config(target="running", config=config)
print("1", do('<rekey %s><route>site1</route></rekey>' % ns))
print("2", do('<rekey %s><route>nowhere</route></rekey>' % ns))
print("3", do('<rekey %s/>' % ns))
print("4", do('<rekey %s><route>site1</route><force/></rekey>' % ns))
print("5", do('<clear-counters %s/>' % ns))
print("6", do('<generate-key %s/>' % ns))
print("7", do('<history %s><most>0</most></history>' % ns))
print("8", do('<history %s><changes>true</changes></history>' % ns))
print("9", do('<explode %s/>' % ns))
`, `<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+routeXML+`</config>`)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	answers := strings.Split(out, "\n")
	for n, want := range []string{
		"<ok/>", "protocol invalid-value no such route", "protocol missing-element operation rekey needs route",
		"protocol unknown-element operation rekey has no parameter force", "<ok/>",
		`<preshared-key xmlns="vita:esp-gateway-ext">`, "protocol invalid-value most: 0 is out of range: want 1..100",
		"<path>/vita-esp-gateway:route4[id=&#39;site1&#39;]/preshared-key</path><new></new>", "protocol unknown-namespace",
	} {
		if !strings.Contains(answers[n], want) {
			t.Errorf("%s\nwant %s", answers[n], want)
		}
	}
	for _, want := range []string{"rekey site1", "clear"} {
		if got := <-s.did; got != want {
			t.Errorf("did %s, want %s", got, want)
		}
	}
	post := func(operation string, args ...string) string {
		t.Helper()
		status, body := s.curl(append([]string{"-X", "POST", s.restconf + "/restconf/operations/vita-esp-gateway-ext:" + operation}, args...)...)
		return status + " " + body
	}
	const jsonBody, xmlBody = "Content-Type: application/yang-data+json", "Content-Type: application/yang-data+xml"
	for _, c := range []struct{ got, want string }{
		{post("rekey", "-H", jsonBody, "-d", `{"vita-esp-gateway-ext:input":{"route":"site1"}}`), "204"},
		{post("rekey", "-H", xmlBody, "-d", `<input xmlns="vita:esp-gateway-ext"><route>site1</route></input>`), "204"},
		{post("shutdown"), "204"},
		{post("rekey"), "400"},
		{post("rekey", "-H", jsonBody, "-d", `{"route":"site1"}`), "400"},
		{post("rekey", "-H", jsonBody, "-d", `{"vita-esp-gateway-ext:input":{"route":7}}`), "400"},
		{post("rekey", "-H", xmlBody, "-d", `<input><route>site1</route></input>`), "400"},
		{post("history", "-H", jsonBody, "-d", `{"vita-esp-gateway-ext:input":{"most":"3"}}`), "400"},
		{post("rollback", "-H", jsonBody, "-d", `{"vita-esp-gateway-ext:input":{"commits":9}}`), "400"},
		{post("explode"), "404"},
	} {
		if !strings.HasPrefix(c.got, c.want) {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
	// What operations answer is what their modules say.
	for media, file := range map[string]string{"json": "history.json", "xml": "history.xml"} {
		body := strings.TrimPrefix(post("history", "-H", "Accept: application/yang-data+"+media, "-H", jsonBody, "-d", `{"vita-esp-gateway-ext:input":{"changes":true}}`), "200 ")
		for _, want := range []string{"site1", "netconf-ssh", user} {
			if !strings.Contains(body, want) {
				t.Errorf("no %s in %s", want, body)
			}
		}
		path := filepath.Join(s.dir, file)
		switch media {
		case "json":
			body = strings.Replace(body, "vita-esp-gateway-ext:output", "vita-esp-gateway-ext:history", 1)
		case "xml":
			body = strings.NewReplacer("<output ", "<history ", "</output>", "</history>").Replace(body)
		}
		check(t, os.WriteFile(path, []byte(body), 0o600))
		lint, err := exec.Command("yanglint", "-t", "reply", "-p", "../../yang/ietf", "-p", "../../yang",
			"../../yang/vita-esp-gateway.yang", "../../yang/vita-esp-gateway-ext.yang", path).CombinedOutput()
		if err != nil {
			t.Errorf("libyang refuses %s: %v\n%s", body, err, lint)
		}
	}
	status, body := s.curl(s.restconf + "/restconf/operations")
	if status != "200" || !strings.Contains(body, `"vita-esp-gateway-ext:rekey":[null]`) {
		t.Error(status, body)
	}
}

// TestOperatorGoesBack takes commits back by what vitactl does.
func TestOperatorGoesBack(t *testing.T) {
	s := start(t)
	c := s.operator()
	ctx := t.Context()
	for _, mtu := range []string{"1400", "1410", "1420"} {
		check(t, c.Set(ctx, "/mtu", mtu))
		check(t, c.Commit(ctx))
	}
	commits, err := c.History(ctx, 2, true)
	check(t, err)
	got := commits.Lines()
	for i, want := range []string{"admin by restconf", "  - /mtu 1410", "  + /mtu 1420", "admin by restconf", "  - /mtu 1400", "  + /mtu 1410"} {
		if i >= len(got) || !strings.HasSuffix(got[i], want) {
			t.Fatalf("%s\nwant %s", strings.Join(got, "\n"), want)
		}
	}
	check(t, c.Rollback(ctx, 2))
	check(t, c.Commit(ctx))
	if _, body := s.curl(s.restconf + "/restconf/data/vita-esp-gateway:mtu"); !strings.Contains(body, ":1400") {
		t.Error(body)
	}
	if err := c.Rollback(ctx, 99); err == nil || !strings.Contains(fmt.Sprint(err), "the history has 4 commits") {
		t.Error(err)
	}
}
