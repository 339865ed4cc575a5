package restconf

import "testing"

func TestValidate(t *testing.T) {
	c := serve(t)
	const (
		ds       = "/restconf/ds/ietf-datastores:candidate"
		validate = "/restconf/operations/ietf-netconf:validate"
		of       = `{"ietf-netconf:input":{"source":{"candidate":[null]}}}`
		xmlOf    = `<input xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><source><candidate/></source></input>`
		asXML    = "Content-Type: application/yang-data+xml"
	)
	c.want(204, "", "POST", validate, of)
	c.want(204, "", "POST", validate, xmlOf, asXML)
	c.want(204, "", "PATCH", ds, `{"ietf-restconf:data":{"vita-esp-gateway:private-interface4":{"ifname":"eth0"}}}`)
	c.want(409, "private-interface4", "POST", validate, of)
	c.want(409, "private-interface4", "POST", validate, xmlOf, asXML)
	c.want(204, "", "POST", validate, `{"ietf-netconf:input":{"source":{"running":[null]}}}`)
	for _, body := range []string{"", "{", "{}", `{"ietf-netconf:input":{"source":{}}}`, `{"ietf-netconf:input":{"source":{"startup":[null]}}}`, `{"ietf-netconf:input":{"source":{"running":[null],"candidate":[null]}}}`, `{"x":1}`} {
		c.want(400, "", "POST", validate, body)
	}
	for _, body := range []string{"<input/>", "<", `<input xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><source/></input>`} {
		c.want(400, "", "POST", validate, body, asXML)
	}
	c.want(405, "", "GET", validate, "")
	c.want(200, "ietf-netconf:validate", "GET", "/restconf/operations", "")
}
