package mgmt

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	scrapli "github.com/scrapli/scrapligo/driver/netconf"
	"github.com/scrapli/scrapligo/driver/opoptions"
	"github.com/scrapli/scrapligo/driver/options"
	"github.com/scrapli/scrapligo/response"
	"github.com/scrapli/scrapligo/transport"
)

// scrapligo opens a session by a password.
func (s *servers) scrapligo(user, password string) *scrapli.Driver {
	s.t.Helper()
	host, port, err := net.SplitHostPort(s.netconf)
	check(s.t, err)
	n, err := strconv.Atoi(port)
	check(s.t, err)
	d, err := scrapli.NewDriver(host, options.WithPort(n), options.WithAuthUsername(user), options.WithAuthPassword(password),
		options.WithAuthNoStrictKey(), options.WithTransportType(transport.StandardTransport), options.WithTimeoutOps(20*time.Second))
	check(s.t, err)
	check(s.t, d.Open())
	s.t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestScrapligo configures, asks and subscribes by scrapligo. It has no way to
// read the notifications of RFC 5277, but has to keep its replies apart from them.
func TestScrapligo(t *testing.T) {
	s := start(t)
	c, other := s.scrapligo(user, password), s.scrapligo(second, secondPassword)
	good := func(r *response.NetconfResponse, err error) string {
		t.Helper()
		check(t, err)
		if r.Failed != nil {
			t.Fatalf("%v: %s", r.Failed, r.Result)
		}
		return r.Result
	}
	bad := func(r *response.NetconfResponse, err error, tag string) {
		t.Helper()
		check(t, err)
		if r.Failed == nil || !strings.Contains(r.Result, "<error-tag>"+tag+"</error-tag>") {
			t.Errorf("%v %s, want %s", r.Failed, r.Result, tag)
		}
	}
	if !c.ServerHasCapability("urn:ietf:params:netconf:capability:candidate:1.0") || c.SelectedVersion != scrapli.V1Dot1 || c.SessionID() == other.SessionID() {
		t.Errorf("sessions %d and %d, version %s, %v", c.SessionID(), other.SessionID(), c.SelectedVersion, c.ServerCapabilities())
	}
	good(c.RPC(opoptions.WithFilter(`<create-subscription xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"/>`)))

	good(c.Lock("candidate"))
	r, err := other.Lock("candidate")
	bad(r, err, "lock-denied")
	good(c.EditConfig("candidate", `<config>`+routeXML+`</config>`))
	good(c.Validate("candidate"))
	if got := good(other.GetConfig("running")); strings.Contains(got, "site1") {
		t.Errorf("in force before the commit: %s", got)
	}
	good(c.Commit())
	good(c.Unlock("candidate"))
	good(other.Lock("candidate"))
	if got := good(other.GetConfig("running", opoptions.WithFilter(`<route4 xmlns="vita:esp-gateway"><id>site1</id><net/></route4>`))); !strings.Contains(got, "<net>10.1.0.0/16</net>") || strings.Contains(got, "1440") {
		t.Errorf("by subtree: %s", got)
	}
	if got := good(other.Get("/route4[id='site1']/spi", opoptions.WithFilterType("xpath"))); !strings.Contains(got, "<spi>1001</spi>") {
		t.Errorf("by XPath: %s", got)
	}

	good(c.RPC(opoptions.WithFilter(`<rekey xmlns="vita:esp-gateway-ext"><route>site1</route></rekey>`)))
	if did := <-s.did; did != "rekey site1" {
		t.Error(did)
	}
	r, err = c.RPC(opoptions.WithFilter(`<rekey xmlns="vita:esp-gateway-ext"><route>site9</route></rekey>`))
	bad(r, err, "invalid-value")
	good(other.EditConfig("candidate", `<config><mtu xmlns="vita:esp-gateway">1300</mtu></config>`))
	good(other.Discard())
	good(other.Unlock("candidate"))
	r, err = c.EditConfig("running", `<config><mtu xmlns="vita:esp-gateway">9999</mtu></config>`)
	bad(r, err, "invalid-value")
	good(c.EditConfig("candidate", `<config><mtu xmlns="vita:esp-gateway">1300</mtu></config>`))
	good(c.Commit(opoptions.WithCommitConfirmed(), opoptions.WithCommitConfirmTimeout(60), opoptions.WithCommitConfirmedPersist("later")))
	good(c.Commit(opoptions.WithCommitConfirmedPersistID("later")))
	if got := good(c.GetConfig("running")); !strings.Contains(got, "<mtu xmlns=\"vita:esp-gateway\">1300</mtu>") {
		t.Error(got)
	}
}
