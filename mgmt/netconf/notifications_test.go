package netconf

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"vita/mgmt/notify"
)

var eventTime = regexp.MustCompile(`<eventTime>[^<]*</eventTime>`)

// nextEvent returns the next message, without the time of an event.
func (p *peer) nextEvent() string {
	p.t.Helper()
	if err := p.c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	b, err := p.f.read()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.c.SetReadDeadline(time.Time{}); err != nil {
		p.t.Fatal(err)
	}
	text, ok := strings.CutPrefix(string(b), `<notification xmlns="`+nsNotification+`">`)
	text, ok2 := strings.CutSuffix(text, "</notification>")
	if !ok || !ok2 || !eventTime.MatchString(text) {
		p.t.Fatalf("no notification: %s", b)
	}
	return eventTime.ReplaceAllString(text, "")
}

func (p *peer) want(part string) {
	p.t.Helper()
	if got := p.nextEvent(); !strings.Contains(got, part) {
		p.t.Errorf("%s\nwant %s", got, part)
	}
}

const subscribe = `<create-subscription xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0">`

// One session listens while another begins, changes the configuration, commits
// for a while, cancels, and is killed.
func TestNotifications(t *testing.T) {
	s := newServer(t)
	a := s.dial(t, hello11)
	if got := a.rpc(subscribe + `</create-subscription>`); got != "<ok/>" {
		t.Fatal(got)
	}
	b := s.dial(t, hello10)
	a.want(`<netconf-session-start xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"><username>tester</username><session-id>2</session-id><source-host>192.0.2.1</source-host></netconf-session-start>`)
	edit := func(mtu string) {
		t.Helper()
		if got := b.rpc(`<edit-config><target><candidate/></target><config><mtu xmlns="vita:esp-gateway">` + mtu + `</mtu></config></edit-config>`); got != "<ok/>" {
			t.Fatal(got)
		}
	}
	edit("1400")
	b.rpc(`<commit/>`)
	a.want(`<changed-by><username>tester</username><session-id>2</session-id><source-host>192.0.2.1</source-host></changed-by><datastore>running</datastore><edit><target xmlns:vita-esp-gateway="vita:esp-gateway">/vita-esp-gateway:mtu</target><operation>create</operation></edit>`)
	edit("1401")
	b.rpc(`<commit><confirmed/><confirm-timeout>500</confirm-timeout></commit>`)
	a.want(`<operation>replace</operation>`)
	a.want(`<confirm-event>start</confirm-event><timeout>500</timeout>`)
	b.rpc(`<cancel-commit/>`)
	a.want(`<changed-by><server></server></changed-by>`)
	a.want(`<confirm-event>cancel</confirm-event>`)
	// Operations go on beside the notifications.
	if got := a.rpc(`<get-config><source><running/></source></get-config>`); !strings.Contains(got, "<mtu") {
		t.Fatal(got)
	}
	c := s.dial(t, hello11)
	a.want(`<session-id>3</session-id>`)
	if got := c.rpc(`<kill-session><session-id>2</session-id></kill-session>`); got != "<ok/>" {
		t.Fatal(got)
	}
	a.want(`<killed-by>3</killed-by><termination-reason>killed</termination-reason>`)
	// A second subscription of the session is refused while there is one.
	if got := a.rpc(subscribe + `</create-subscription>`); !strings.Contains(got, "operation-failed") {
		t.Error(got)
	}
	a.rpc(`<close-session/>`)
}

// What has happened is replayed up to a time, and the session can subscribe
// again afterwards.
func TestReplay(t *testing.T) {
	s := newServer(t)
	begun := time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano)
	a := s.dial(t, hello11)
	s.o.Events.Publish(notify.InterfaceLink("eth1", "public", 1, false))
	s.o.Events.Publish(notify.InterfaceLink("eth1", "public", 1, true))
	for _, filter := range []string{
		`<filter type="subtree"><link-up xmlns="vita:esp-gateway-ext"/></filter>`,
		`<filter xmlns:x="vita:esp-gateway-ext" type="xpath" select="/x:link-up[x:interface='eth1']"/>`,
	} {
		stop := time.Now().Add(300 * time.Millisecond).UTC().Format(time.RFC3339Nano)
		if got := a.rpc(subscribe + filter + `<startTime>` + begun + `</startTime><stopTime>` + stop + `</stopTime></create-subscription>`); got != "<ok/>" {
			t.Fatal(got)
		}
		a.want(`<link-up xmlns="vita:esp-gateway-ext"><interface>eth1</interface><side>public</side><queue>1</queue></link-up>`)
		a.want(`<replayComplete xmlns="urn:ietf:params:xml:ns:netmod:notification"/>`)
		a.want(`<notificationComplete xmlns="urn:ietf:params:xml:ns:netmod:notification"/>`)
	}
}

// A subscriber that reads nothing does not hold up anybody, and neither does its
// end.
func TestSubscriberThatDoesNotRead(t *testing.T) {
	s := newServer(t)
	a := s.dial(t, hello11)
	if got := a.rpc(subscribe + `</create-subscription>`); got != "<ok/>" {
		t.Fatal(got)
	}
	for n := range 20000 {
		s.o.Events.Publish(notify.InterfaceLink("eth1", "public", uint16(n), false))
	}
	b := s.dial(t, hello11)
	if got := b.rpc(`<kill-session><session-id>1</session-id></kill-session>`); got != "<ok/>" {
		t.Fatal(got)
	}
}
