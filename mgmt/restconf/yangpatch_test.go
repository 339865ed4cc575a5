package restconf

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"vita/mgmt/datastore"
)

const patchType = "Content-Type: " + mediaPatchJSON

func yangPatch(edits ...string) string {
	return `{"ietf-yang-patch:yang-patch":{"patch-id":"p1","comment":"x","edit":[` + strings.Join(edits, ",") + `]}}`
}

func TestYangPatch(t *testing.T) {
	c := serve(t)
	const data = "/restconf/data"
	create := func(id string, route string) string {
		return `{"edit-id":"` + id + `","operation":"create","target":"/vita-esp-gateway:route4=` + id + `","value":` + route + `}`
	}
	a, b := create("a", route("a", "10.1.0.0/16", 1001, "01")), create("b", route("b", "10.2.0.0/16", 1002, "02"))
	const private = `{"edit-id":"if","operation":"merge","target":"/","value":` + private + `}`
	const mtu = `{"edit-id":"m","operation":"replace","target":"/vita-esp-gateway:mtu","value":{"vita-esp-gateway:mtu":1400}}`
	const noTFC = `{"edit-id":"t","operation":"remove","target":"/vita-esp-gateway:tfc"}`

	got := c.want(200, `"ok":[null]`, "PATCH", data, yangPatch(a, b, private, mtu, noTFC), patchType)
	if got != `{"ietf-yang-patch:yang-patch-status":{"ok":[null],"patch-id":"p1"}}` {
		t.Error(got)
	}
	c.want(200, "1002", "GET", data+"/vita-esp-gateway:route4=b/spi", "")

	// An edit that fails takes all others back, and is named.
	const gone = `{"edit-id":"d","operation":"delete","target":"/vita-esp-gateway:route4=none"}`
	got = c.want(409, `"edit-id":"d"`, "PATCH", data, yangPatch(`{"edit-id":"x","operation":"delete","target":"/vita-esp-gateway:route4=a"}`, gone), patchType)
	if !strings.Contains(got, "data-missing") {
		t.Error(got)
	}
	c.want(200, "", "GET", data+"/vita-esp-gateway:route4=a", "")
	// Edits follow each other: what one makes the next may delete.
	c.want(200, "ok", "PATCH", data, yangPatch(`{"edit-id":"1","operation":"delete","target":"/vita-esp-gateway:route4=a"}`, a), patchType)
	// A constraint is of no edit alone.
	got = c.want(412, "data-not-unique", "PATCH", data, yangPatch(create("c", route("c", "10.2.0.0/16", 1009, "09")), mtu), patchType)
	if strings.Contains(got, "edit-status") {
		t.Error(got)
	}
	// Below a resource, in XML, on the candidate, with a precondition.
	c.want(200, "<ok/>", "PATCH", data+"/vita-esp-gateway:route4=a",
		`<yang-patch xmlns="`+nsPatch+`"><patch-id>x</patch-id><edit><edit-id>1</edit-id><operation>merge</operation><target>/spi</target>`+
			`<value><spi xmlns="vita:esp-gateway">1111</spi></value></edit></yang-patch>`,
		"Content-Type: "+mediaPatchXML, "Accept: "+mediaXML)
	c.want(200, "1111", "GET", data+"/vita-esp-gateway:route4=a/spi", "")
	c.want(200, "ok", "PATCH", "/restconf/ds/ietf-datastores:candidate", yangPatch(noTFC, mtu), patchType)
	c.want(412, "If-Match", "PATCH", data, yangPatch(mtu), patchType, `If-Match: "old"`)
	c.want(404, "", "PATCH", data+"/vita-esp-gateway:route4=none", yangPatch(`{"edit-id":"s","operation":"remove","target":"/net"}`), patchType)

	for edit, want := range map[string]string{
		`{"edit-id":"e","operation":"insert","target":"/vita-esp-gateway:route4=a","value":{}}`:                       "in no list that users order",
		`{"edit-id":"e","operation":"eat","target":"/vita-esp-gateway:mtu"}`:                                          "unknown",
		`{"edit-id":"e","operation":"merge","target":"vita-esp-gateway:mtu","value":{"vita-esp-gateway:mtu":1400}}`:   "begin with /",
		`{"edit-id":"e","operation":"merge","target":"/vita-esp-gateway:mtu"}`:                                        "needs a value",
		`{"edit-id":"e","operation":"delete","target":"/vita-esp-gateway:mtu","value":{}}`:                            "takes no value",
		`{"edit-id":"e","operation":"merge","target":"/vita-esp-gateway:nothing","value":{}}`:                         "nothing",
		`{"edit-id":"e","operation":"merge","target":"/vita-esp-gateway:mtu","value":{"vita-esp-gateway:mtu":99999}}`: "edit-status",
		`{"operation":"remove","target":"/vita-esp-gateway:mtu"}`:                                                     "edit-id",
		noTFC + "," + noTFC:        "edit-id",
		`{"edit-id":"e","what":1}`: "malformed-message",
		``:                         "want 1",
	} {
		c.want(400, want, "PATCH", data, yangPatch(edit), patchType)
	}
	c.want(400, "patch-id", "PATCH", data, `{"ietf-yang-patch:yang-patch":{"edit":[`+noTFC+`]}}`, patchType)
	c.want(415, "", "PUT", data, yangPatch(noTFC), patchType)
	resp, _ := c.do("OPTIONS", data, "")
	if !strings.Contains(resp.Header.Get("Accept-Patch"), mediaPatchJSON) {
		t.Error(resp.Header)
	}
}

func FuzzYangPatch(f *testing.F) {
	f.Add([]byte(yangPatch(`{"edit-id":"m","operation":"replace","target":"/vita-esp-gateway:mtu","value":{"vita-esp-gateway:mtu":1400}}`)), true)
	f.Add([]byte(yangPatch(`{"edit-id":"a","operation":"create","target":"/vita-esp-gateway:route4=a","value":`+route("a", "10.1.0.0/16", 1001, "01")+`}`)), true)
	f.Add([]byte(`<yang-patch xmlns="`+nsPatch+`"><patch-id>x</patch-id><edit><edit-id>1</edit-id><operation>remove</operation><target>/vita-esp-gateway:mtu</target></edit></yang-patch>`), false)
	c := serve(f)
	s := New(Options{Datastore: c.d, MaxBody: 1 << 16})
	f.Fuzz(func(t *testing.T, body []byte, isJSON bool) {
		r := httptest.NewRequest(http.MethodPatch, "https://h/restconf/data", bytes.NewReader(body))
		r.Header.Set("Content-Type", mediaPatchXML)
		if isJSON {
			r.Header.Set("Content-Type", mediaPatchJSON)
		}
		w := httptest.NewRecorder()
		s.onData("/data", datastore.Candidate)(w, r)
		if w.Code == http.StatusInternalServerError || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
