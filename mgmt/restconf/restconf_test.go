package restconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vita/gen"
	"vita/mgmt/access"
	"vita/mgmt/capture"
	"vita/mgmt/datastore"
)

// nothing is a forwarding plane that takes every configuration, except one
// with an interface named "missing0".
type nothing struct{}

func (nothing) Prepare(_ context.Context, root *gen.Vita, _ datastore.Journal) (datastore.Prepared, error) {
	if p := root.PrivateInterface4; p != nil && p.Ifname != nil && *p.Ifname == "missing0" {
		return nil, fmt.Errorf("interface missing0: no such interface")
	}
	return nothing{}, nil
}
func (nothing) Publish() {}
func (nothing) Abort()   {}

const password = "a long password"

// client talks to a server over TLS on loopback.
type client struct {
	t    testing.TB
	url  string
	http *http.Client
	d    *datastore.Datastore

	captures *captures
}

func serve(t testing.TB) *client {
	t.Helper()
	dir := t.TempDir()
	d, err := datastore.Open(datastore.Options{Dir: dir, Applier: nothing{}, State: func(root *gen.Vita, _ datastore.Wants) {
		n := uint64(1 << 60)
		root.GatewayState = &gen.VitaEspGateway_GatewayState{
			PrivateRouter: &gen.VitaEspGateway_GatewayState_PrivateRouter{RouteErrors: &n},
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	users := access.NewUsers()
	hash, err := access.HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	if err := users.Add(access.User{Name: "admin", PasswordHash: hash}); err != nil {
		t.Fatal(err)
	}
	cert, err := access.Certificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	engine := &captures{ended: make(chan struct{}, 10)}
	go func() {
		done <- New(Options{Datastore: d, Users: users, Certificate: cert, MaxBody: 1 << 20, Captures: capture.New(engine), Upgrades: upgrades{}}).Serve(ctx, ln)
	}()
	pem, err := os.ReadFile(filepath.Join(dir, "tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &client{t, "https://" + ln.Addr().String(), &http.Client{Transport: tr}, d, engine}
}

// do sends a request; headers are "Name: value".
func (c *client) do(method, path, body string, headers ...string) (*http.Response, string) {
	c.t.Helper()
	r, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.SetBasicAuth("admin", password)
	if body != "" {
		r.Header.Set("Content-Type", mediaJSON)
		if strings.HasPrefix(body, "<") {
			r.Header.Set("Content-Type", mediaXML)
		}
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Set(k, v)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, strings.TrimSpace(string(b))
}

// want sends a request and demands a status and, unless it is "", text that
// the answer holds.
func (c *client) want(status int, contains, method, path, body string, headers ...string) string {
	c.t.Helper()
	resp, got := c.do(method, path, body, headers...)
	if resp.StatusCode != status || !strings.Contains(got, contains) {
		c.t.Errorf("%s %s: %s\n%s\nwant %d and %q", method, path, resp.Status, got, status, contains)
	}
	return got
}

const psk = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e"

// private is what any route needs to stand beside it.
const private = `{"ietf-restconf:data":{"vita-esp-gateway:private-interface4":{"ifname":"eth0","ip":"10.0.0.1","nexthop-ip":"10.0.0.2"}}}`

func route(id, net string, spi int, key string) string {
	return fmt.Sprintf(`{"vita-esp-gateway:route4":[{"id":%q,"net":%q,"spi":%d,"preshared-key":%q,"gateway":[{"ip":"203.0.113.9"}]}]}`, id, net, spi, psk+key)
}

func TestDiscovery(t *testing.T) {
	c := serve(t)
	resp, body := c.do("GET", "/.well-known/host-meta", "")
	if resp.Header.Get("Content-Type") != "application/xrd+xml" || !strings.Contains(body, `<Link rel="restconf" href="/restconf"/>`) {
		t.Fatalf("%v %s", resp.Header, body)
	}
	if resp.TLS.Version != tls.VersionTLS13 || resp.ProtoMajor != 2 {
		t.Fatalf("TLS %x, %s", resp.TLS.Version, resp.Proto)
	}
	c.want(200, `"yang-library-version"`, "GET", "/restconf", "")
	c.want(200, `<restconf xmlns=`, "GET", "/restconf", "", "Accept: "+mediaXML)
	c.want(200, `"ietf-netconf:commit":[null]`, "GET", "/restconf/operations", "")
	c.want(404, `"ietf-restconf:errors"`, "GET", "/restconf/nothing", "")
}

func TestOldTLSIsRefused(t *testing.T) {
	c := serve(t)
	tr := c.http.Transport.(*http.Transport).Clone()
	tr.TLSClientConfig.MaxVersion = tls.VersionTLS12
	if _, err := (&http.Client{Transport: tr}).Get(c.url + "/restconf"); err == nil {
		t.Fatal("TLS 1.2 was accepted")
	}
}

func TestAuthentication(t *testing.T) {
	c := serve(t)
	for _, h := range []string{"Authorization: Basic YWRtaW46d3JvbmcgcGFzc3dvcmQ=", "Authorization: Bearer x"} {
		resp, body := c.do("GET", "/restconf/data", "", h)
		if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" || !strings.Contains(body, "access-denied") {
			t.Errorf("%s: %s %s", h, resp.Status, body)
		}
	}
}

func TestResourceLife(t *testing.T) {
	c := serve(t)
	const site1 = "/restconf/data/vita-esp-gateway:route4=site1"
	c.want(409, "missing-choice", "POST", "/restconf/data", route("site1", "10.1.0.0/16", 1001, "01"))
	c.want(204, "", "PATCH", "/restconf/data", private)
	c.want(404, "invalid-value", "GET", site1, "")
	resp, body := c.do("POST", "/restconf/data", route("site1", "10.1.0.0/16", 1001, "01"))
	if resp.StatusCode != http.StatusCreated || !strings.HasSuffix(resp.Header.Get("Location"), site1) {
		t.Fatalf("POST: %s %v %s", resp.Status, resp.Header, body)
	}
	c.want(409, "data-exists", "POST", "/restconf/data", route("site1", "10.1.0.0/16", 1001, "01"))
	got := c.want(200, `"net":"10.1.0.0/16"`, "GET", site1, "")
	if strings.Contains(got, psk) {
		t.Fatalf("the key is given out: %s", got)
	}
	c.want(200, `<net>10.1.0.0/16</net>`, "GET", site1, "", "Accept: "+mediaXML)
	resp, body = c.do("HEAD", site1, "")
	if resp.StatusCode != http.StatusOK || body != "" || resp.Header.Get("Content-Type") != mediaJSON {
		t.Fatalf("HEAD: %s %q", resp.Status, body)
	}
	c.want(204, "", "PUT", site1, route("site1", "10.7.0.0/16", 1007, "07"))
	c.want(200, `"spi":1007`, "GET", site1, "")
	c.want(201, "", "PUT", "/restconf/data/vita-esp-gateway:route4=site2", route("site2", "10.2.0.0/16", 1002, "02"))
	c.want(204, "", "PATCH", site1, `{"vita-esp-gateway:route4":[{"id":"site1","spi":1011}]}`)
	c.want(200, `"net":"10.7.0.0/16"`, "GET", site1, "")
	c.want(200, `1011`, "GET", site1+"/spi", "")
	c.want(204, "", "PUT", site1+"/spi", `{"vita-esp-gateway:spi":1012}`)
	c.want(204, "", "PUT", site1+"/spi", `<spi xmlns="vita:esp-gateway">1013</spi>`)
	c.want(200, `1013`, "GET", site1+"/spi", "")
	c.want(201, "", "POST", site1, `{"vita-esp-gateway:gateway":[{"ip":"203.0.113.8","queue":2}]}`)
	c.want(204, "", "DELETE", site1+"/gateway=203.0.113.8", "")
	c.want(204, "", "DELETE", site1, "")
	c.want(404, "", "DELETE", site1, "")
	c.want(404, "", "PATCH", site1, `{"vita-esp-gateway:route4":[{"id":"site1","spi":1011}]}`)
}

// TestOrder inserts and moves entries and values of what users order, in NACM's
// rules and in the methods of authentication.
func TestOrder(t *testing.T) {
	c := serve(t)
	const nacm = "/restconf/data/ietf-netconf-acm:nacm"
	list := func(name string) string { return `{"ietf-netconf-acm:rule-list":[{"name":"` + name + `"}]}` }
	order := func(want string) {
		t.Helper()
		var names []string
		for _, m := range regexp.MustCompile(`"name":"([^"]*)"`).FindAllStringSubmatch(c.want(200, "", "GET", nacm, ""), -1) {
			names = append(names, m[1])
		}
		if got := strings.Join(names, " "); got != want {
			t.Fatalf("order %q, want %q", got, want)
		}
	}
	point := func(name string) string {
		return "&point=" + url.QueryEscape("/ietf-netconf-acm:nacm/rule-list="+name)
	}
	c.want(204, "", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"ietf-netconf-acm:nacm":{"enable-nacm":false}}}`)
	c.want(201, "", "POST", nacm, list("b"))
	c.want(201, "", "POST", nacm, list("d"))
	c.want(201, "", "POST", nacm+"?insert=first", list("a"))
	c.want(201, "", "PUT", nacm+"/rule-list=c?insert=before"+point("d"), list("c"))
	c.want(201, "", "POST", nacm+"?insert=after"+point("d"), list("e"))
	order("a b c d e")
	c.want(204, "", "PUT", nacm+"/rule-list=e?insert=first", list("e"))
	c.want(204, "", "PUT", nacm+"/rule-list=a?insert=after"+point("c"), list("a"))
	c.want(204, "", "PUT", nacm+"/rule-list=c", list("c"))
	order("e b c a d")
	for query, says := range map[string]string{
		"?insert=middle": "first, last", "?insert=before": "point", "?insert=first" + point("a"): "point", "?point=x": "first, last",
		"?insert=after" + point("z"): "does not exist", "?insert=after&point=%2Fietf-netconf-acm:nacm": "no entry of the same list",
	} {
		c.want(400, says, "POST", nacm+query, list("x"))
	}
	c.want(400, "in no list that users order", "POST", "/restconf/data?insert=first", route("site1", "10.1.0.0/16", 1001, "01"))
	patch := func(edits string) string {
		return `{"ietf-yang-patch:yang-patch":{"patch-id":"p","edit":[` + edits + `]}}`
	}
	c.want(200, `"ok"`, "PATCH", nacm, patch(`
		{"edit-id":"1","operation":"move","target":"/rule-list=d","where":"before","point":"/rule-list=e"},
		{"edit-id":"2","operation":"insert","target":"/rule-list=f","where":"after","point":"/rule-list=d","value":`+list("f")+`},
		{"edit-id":"3","operation":"insert","target":"/rule-list=g","value":`+list("g")+`},
		{"edit-id":"4","operation":"move","target":"/rule-list=b","where":"last"}`), "Content-Type: "+mediaPatchJSON)
	order("d f e c a g b")
	for edit, says := range map[string]string{
		`{"edit-id":"1","operation":"move","target":"/rule-list=z","where":"first"}`:                             "data-missing",
		`{"edit-id":"1","operation":"insert","target":"/rule-list=a","where":"first","value":` + list("a") + `}`: "data-exists",
		`{"edit-id":"1","operation":"move","target":"/rule-list=a","where":"after","point":"/rule-list=z"}`:      "missing-instance",
	} {
		if _, body := c.do("PATCH", nacm, patch(edit), "Content-Type: "+mediaPatchJSON); !strings.Contains(body, says) {
			t.Errorf("%s: %s, want %s", edit, body, says)
		}
	}
	c.want(204, "", "PUT", nacm, `{"ietf-netconf-acm:nacm":{"rule-list":[{"name":"g"},{"name":"a"},{"name":"n"},{"name":"d"}]}}`)
	order("g a n d")

	const methods = "/restconf/data/ietf-system:system/authentication"
	c.want(204, "", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"ietf-system:system":{"authentication":{"user-authentication-order":["local-users"]}}}}`)
	c.want(412, "must", "POST", methods+"?insert=first", `{"ietf-system:user-authentication-order":["ietf-system:radius"]}`)
	c.want(200, `["ietf-system:local-users"]`, "GET", methods+"/user-authentication-order=ietf-system%3Alocal-users", "")
	c.want(204, "", "DELETE", methods+"/user-authentication-order=ietf-system%3Alocal-users", "")
	c.want(400, "LIST=VALUE", "DELETE", methods+"/user-authentication-order", "")
}

func TestDatastoreResource(t *testing.T) {
	c := serve(t)
	c.want(204, "", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"vita-esp-gateway:mtu":1440,"vita-esp-gateway:tfc":true}}`)
	c.want(200, `"vita-esp-gateway:mtu":1440`, "GET", "/restconf/data?content=config", "")
	c.want(204, "", "PUT", "/restconf/data", `<data xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"><mtu xmlns="vita:esp-gateway">1400</mtu></data>`)
	if got := c.want(200, `1400`, "GET", "/restconf/data?content=config", ""); strings.Contains(got, "tfc") {
		t.Fatalf("PUT merged: %s", got)
	}
	c.want(405, "", "DELETE", "/restconf/data", "")
	got := c.want(200, `"route-errors":"1152921504606846976"`, "GET", "/restconf/data?content=nonconfig", "")
	if strings.Contains(got, "mtu") {
		t.Fatalf("configuration among state: %s", got)
	}
	var v any
	if err := json.Unmarshal([]byte(got), &v); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	c := serve(t)
	const mtu = "/restconf/data/vita-esp-gateway:mtu"
	c.want(204, "", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"vita-esp-gateway:mtu":1440}}`)
	for _, q := range []struct {
		status                       int
		contains, method, path, body string
		headers                      []string
	}{
		{400, "invalid-value", "PUT", mtu, `{"vita-esp-gateway:mtu":9000}`, nil},
		{400, "invalid-value", "PUT", mtu, `{"vita-esp-gateway:mtu":"1440"}`, nil},
		{400, "invalid-value", "PUT", mtu, `{"vita-esp-gateway:mtu":1e-3}`, nil},
		{400, "", "PUT", mtu, `{"vita-esp-gateway:tfc":true}`, nil},
		{400, "malformed-message", "PUT", mtu, `{"vita-esp-gateway:mtu":`, nil},
		{400, "malformed-message", "PUT", mtu, `<mtu`, nil},
		{400, "malformed-message", "PUT", mtu, `{"vita-esp-gateway:mtu":1} x`, nil},
		{400, "unknown-element", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"vita-esp-gateway:nonsense":1}}`, nil},
		{400, "", "GET", "/restconf/data/vita-esp-gateway:nonsense", "", nil},
		{400, "", "GET", "/restconf/data/vita-esp-gateway:route4", "", nil},
		{400, "", "GET", "/restconf/data/mtu", "", nil},
		{400, "", "GET", "/restconf/data/vita-esp-gateway:route4=a,b", "", nil},
		{400, "invalid-value", "GET", mtu + "?deep=1", "", nil},
		{400, "invalid-value", "GET", mtu + "?content=some", "", nil},
		{400, "invalid-value", "GET", mtu + "?depth=0", "", nil},
		{400, "invalid-value", "GET", mtu + "?content=all&content=config", "", nil},
		{406, "", "GET", mtu, "", []string{"Accept: text/html"}},
		{415, "", "PUT", mtu, "x", []string{"Content-Type: text/plain"}},
		{415, "", "PUT", mtu, "mtu=1", []string{"Content-Type: application/x-www-form-urlencoded"}},
		{413, "too-big", "PUT", mtu, `{"vita-esp-gateway:mtu":` + strings.Repeat(" ", 1<<20) + `1}`, nil},
		{412, "must-violation", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"vita-esp-gateway:sa-ttl":20}}`, nil},
		{409, "data-missing", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"vita-esp-gateway:route4":[{"id":"x"}]}}`, nil},
		{500, "missing0", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"vita-esp-gateway:private-interface4":{"ifname":"missing0","ip":"10.0.0.1","nexthop-ip":"10.0.0.2"}}}`, nil},
		{400, "", "PUT", "/restconf/data/vita-esp-gateway:route4=site1", route("site2", "10.2.0.0/16", 1002, "02"), nil},
		{400, "", "PUT", "/restconf/data/vita-esp-gateway:gateway-state/private-router/route-errors", `{"vita-esp-gateway:route-errors":"1"}`, nil},
		{405, "", "TRACE", mtu, "", nil},
	} {
		c.want(q.status, q.contains, q.method, q.path, q.body, q.headers...)
	}
	c.want(200, `1440`, "GET", mtu, "") // nothing of it has changed anything
	got := c.want(200, `1440`, "GET", "/restconf/data?content=config", "")
	if strings.Contains(got, "route4") || strings.Contains(got, "private-interface4") {
		t.Fatalf("a refused edit left something: %s", got)
	}
}

func TestErrorsInXML(t *testing.T) {
	c := serve(t)
	got := c.want(400, `<errors xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"><error>`, "PUT", "/restconf/data/vita-esp-gateway:mtu",
		`{"vita-esp-gateway:mtu":9000}`, "Accept: "+mediaXML)
	if !strings.Contains(got, `<error-path xmlns:vita-esp-gateway="vita:esp-gateway">/vita-esp-gateway:mtu</error-path>`) {
		t.Fatal(got)
	}
}

func TestOptions(t *testing.T) {
	c := serve(t)
	for path, want := range map[string]string{
		"/restconf/data":                                "OPTIONS, HEAD, GET, POST, PUT, PATCH",
		"/restconf/data/vita-esp-gateway:mtu":           "OPTIONS, HEAD, GET, POST, PUT, PATCH, DELETE",
		"/restconf/data/vita-esp-gateway:gateway-state": "OPTIONS, HEAD, GET",
	} {
		resp, _ := c.do("OPTIONS", path, "")
		if got := resp.Header.Get("Allow"); got != want {
			t.Errorf("OPTIONS %s: Allow %q, want %q", path, got, want)
		}
		if patch := resp.Header.Get("Accept-Patch"); (patch != "") != strings.Contains(want, "PATCH") {
			t.Errorf("OPTIONS %s: Accept-Patch %q", path, patch)
		}
	}
}

func TestCandidate(t *testing.T) {
	c := serve(t)
	const ds = "/restconf/ds/ietf-datastores:candidate"
	c.want(204, "", "PATCH", ds, `{"ietf-restconf:data":{"vita-esp-gateway:mtu":1300}}`)
	c.want(200, "1300", "GET", ds+"/vita-esp-gateway:mtu", "")
	c.want(404, "", "GET", "/restconf/data/vita-esp-gateway:mtu?content=config", "")
	c.want(204, "", "POST", "/restconf/operations/ietf-netconf:commit", "")
	c.want(200, "1300", "GET", "/restconf/data/vita-esp-gateway:mtu", "")
	c.want(204, "", "DELETE", ds+"/vita-esp-gateway:mtu", "")
	c.want(204, "", "POST", "/restconf/operations/ietf-netconf:discard-changes", "")
	c.want(200, "1300", "GET", ds+"/vita-esp-gateway:mtu", "")
	c.want(400, "", "POST", "/restconf/operations/ietf-netconf:commit", `{"ietf-netconf:input":{}}`)
}

func TestLockOfAnotherIsRespected(t *testing.T) {
	c := serve(t)
	c.want(204, "", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"vita-esp-gateway:tfc":true}}`)
	if err := c.d.Lock(&datastore.Session{ID: 9, User: "other"}, datastore.Running); err != nil {
		t.Fatal(err)
	}
	const mtu = `{"vita-esp-gateway:mtu":1300}`
	const in = "/restconf/data/vita-esp-gateway:mtu"
	c.want(409, "in-use", "PATCH", "/restconf/data", `{"ietf-restconf:data":`+mtu+`}`)
	c.want(409, `"session-id":"9"`, "PUT", in, mtu)
	c.want(409, "in-use", "POST", "/restconf/data", mtu)
	c.want(409, "in-use", "DELETE", "/restconf/data/vita-esp-gateway:tfc", "")
	c.want(409, "in-use", "POST", "/restconf/operations/ietf-netconf:commit", "")
	c.want(200, "", "GET", "/restconf/data", "") // a lock keeps writers out, not readers
	// The candidate is another datastore.
	c.want(201, "", "PUT", "/restconf/ds/ietf-datastores:candidate/vita-esp-gateway:mtu", mtu)
}

func TestMissingChoiceIsNamed(t *testing.T) {
	c := serve(t)
	bad := route("site1", "10.1.0.0/16", 1001, "01")
	c.want(409, `"missing-choice":"link"`, "POST", "/restconf/data", bad)
	c.want(409, `<missing-choice xmlns="urn:ietf:params:xml:ns:yang:1">link</missing-choice>`, "POST", "/restconf/data", bad, "Accept: "+mediaXML)
}

func FuzzRequest(f *testing.F) {
	f.Add("GET", "/vita-esp-gateway:route4=a%2Cb/gateway=1.2.3.4?content=config&depth=3", []byte(""), true)
	f.Add("PUT", "/vita-esp-gateway:mtu", []byte(`{"vita-esp-gateway:mtu":1440}`), true)
	f.Add("PATCH", "", []byte(`<data xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"><mtu xmlns="vita:esp-gateway">1400</mtu></data>`), false)
	f.Add("POST", "", []byte(route("a", "10.0.0.0/8", 1001, "01")), true)
	f.Add("DELETE", "/vita-esp-gateway:outbound-sa=256,1/key", []byte{}, true)
	c := serve(f)
	s := New(Options{Datastore: c.d, MaxBody: 1 << 16})
	f.Fuzz(func(t *testing.T, method, target string, body []byte, isJSON bool) {
		h := methods[method]
		r, err := http.NewRequest(http.MethodGet, "https://h/restconf/data"+target, bytes.NewReader(body))
		if h == nil || err != nil || !strings.HasPrefix(r.URL.EscapedPath(), "/restconf/data") {
			return
		}
		r.Method = method
		r.Header.Set("Content-Type", mediaXML)
		if isJSON {
			r.Header.Set("Content-Type", mediaJSON)
		}
		w := httptest.NewRecorder()
		s.onData("/data", datastore.Candidate)(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
	})
}

func TestWithDefaults(t *testing.T) {
	c := serve(t)
	c.want(204, "", "PATCH", "/restconf/data", `{"ietf-restconf:data":{"vita-esp-gateway:mtu":8923}}`)
	const data = "/restconf/data?content=config&with-defaults="
	c.want(200, `"vita-esp-gateway:mtu":8923`, "GET", data+"explicit", "")
	c.want(200, `"vita-esp-gateway:sa-ttl":600`, "GET", data+"report-all", "")
	c.want(200, `"vita-esp-gateway:sa-ttl":600,"@vita-esp-gateway:sa-ttl":{"ietf-netconf-with-defaults:default":true}`, "GET", data+"report-all-tagged", "")
	c.want(200, ` wd:default="true">600</sa-ttl>`, "GET", data+"report-all-tagged", "", "Accept: "+mediaXML)
	if got := c.want(200, "", "GET", data+"trim", ""); strings.Contains(got, "mtu") {
		t.Error(got)
	}
	c.want(400, "invalid-value", "GET", data+"all", "")
	const leaf = "/restconf/data/vita-esp-gateway:sa-ttl"
	c.want(404, "", "GET", leaf, "")
	c.want(200, "600", "GET", leaf+"?with-defaults=report-all", "")
	c.want(404, "", "GET", "/restconf/data/vita-esp-gateway:mtu?with-defaults=trim", "")
}

// TestConfirmedCommitOfAnother follows RFC 8040 section 1.4.
func TestConfirmedCommitOfAnother(t *testing.T) {
	c := serve(t)
	other := &datastore.Session{ID: 9, User: "other"}
	commit := func(o datastore.CommitOptions) {
		t.Helper()
		o.Confirmed = true
		if err := c.d.CommitWith(t.Context(), other, o); err != nil {
			t.Fatal(err)
		}
	}
	const in, mtu = "/restconf/data/vita-esp-gateway:mtu", `{"vita-esp-gateway:mtu":1300}`
	commit(datastore.CommitOptions{Persist: "x"})
	c.want(409, "in-use", "PUT", in, mtu)
	if err := c.d.CancelCommit(other, "x"); err != nil {
		t.Fatal(err)
	}
	commit(datastore.CommitOptions{})
	c.want(201, "", "PUT", in, mtu) // confirms
	c.d.Release(other)
	c.want(200, "1300", "GET", in, "")
}
