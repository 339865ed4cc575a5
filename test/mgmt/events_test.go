package mgmt

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vita/mgmt/notify"
)

// TestNcclientNotifications has ncclient subscribe, with a replay, and libyang
// check every event against its module.
func TestNcclientNotifications(t *testing.T) {
	s := start(t)
	begun := time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano)
	link := notify.Link{Route: "site2", Queue: 1, Peer: "203.0.113.2"}
	who := notify.Session{ID: 7, User: "admin", Peer: "192.0.2.1:1"}
	s.events.Publish(notify.Association(link, 300, 301, false))
	s.events.Publish(notify.Association(link, 302, 303, true))
	s.events.Publish(notify.AssociationExpired(link, 303))
	s.events.Publish(notify.PeerUnreachable(link, true))
	s.events.Publish(notify.PeerUnreachable(link, false))
	s.events.Publish(notify.InterfaceLink("eth1", "public", 1, true))
	s.events.Publish(notify.InterfaceLink("eth1", "public", 1, false))
	s.events.Publish(notify.Storm("esp-replay", 12345, false))
	s.events.Publish(notify.ConfirmedCommit(notify.Session{}, "timeout", 0))
	s.events.Publish(notify.ConfirmedCommit(who, "extend", time.Minute))
	s.events.Publish(notify.SessionEnd(who, 3, "killed"))
	s.events.Publish(notify.ConfigChange(who, "running", []notify.Edit{{Target: "/vita-esp-gateway:mtu", Operation: "replace"}}))
	s.events.Publish(notify.ConfigChange(notify.Session{}, "running", nil))
	out, err := s.python(`
m.create_subscription(start_time="`+begun+`")
m.edit_config(target="running", config=config)
while True:
    n = m.take_notification(timeout=5)
    print("EVENT", n.notification_xml.replace("\n", " "))
    if "further" in n.notification_xml:
        break
`, `<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+strings.Replace(routeXML, "</route4>", `<further-net xmlns="vita:esp-gateway-ext"><net>2001:db8::/32</net></further-net></route4>`, 1)+
		`<esp xmlns="vita:esp-gateway-ext"><replay-window>1024</replay-window></esp></config>`)
	if err != nil && !strings.Contains(out, "EVENT") {
		t.Fatalf("%v\n%s", err, out)
	}
	// What the targets of a change name is looked for there.
	_, running := s.curl("-H", "Accept: application/yang-data+xml", s.restconf+"/restconf/data?content=config")
	data := filepath.Join(s.dir, "data.xml")
	running = strings.TrimSuffix(running[strings.Index(running, ">")+1:], "</data>")
	check(t, os.WriteFile(data, []byte(running), 0o600))
	seen := 0
	for line := range strings.SplitSeq(out, "\n") {
		text, ok := strings.CutPrefix(line, "EVENT ")
		if !ok || strings.Contains(text, "replayComplete") {
			continue
		}
		seen++
		_, content, _ := strings.Cut(text, "</eventTime>")
		content = strings.TrimSuffix(strings.TrimSpace(content), "</notification>")
		file := filepath.Join(s.dir, "event.xml")
		check(t, os.WriteFile(file, []byte(content), 0o600))
		lint, err := exec.Command("yanglint", "-t", "notif", "-O", data, "-p", "../../yang/ietf", "-p", "../../yang",
			"../../yang/ietf/ietf-netconf-notifications@2012-02-06.yang", "../../yang/vita-esp-gateway.yang", "../../yang/vita-esp-gateway-ext.yang", file).CombinedOutput()
		if err != nil {
			t.Errorf("libyang refuses %s: %v\n%s", content, err, lint)
		}
	}
	if seen < 15 { // those above, the session's beginning, and its edit
		t.Errorf("%d events:\n%s", seen, out)
	}
}

// TestCurlEvents finds the stream where RFC 8040 says, and reads it as
// server-sent events in both encodings: what was, and what comes.
func TestCurlEvents(t *testing.T) {
	s := start(t)
	begun := time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano)
	s.events.Publish(notify.InterfaceLink("eth1", "public", 1, false))
	s.events.Publish(notify.InterfaceLink("eth2", "public", 2, false))
	for encoding, want := range map[string][]string{
		"json": {`"vita-esp-gateway-ext:link-down":{"interface":"eth2","side":"public","queue":2}`, `"ietf-netconf-notifications:netconf-config-change":{"changed-by":{"username":"admin"`},
		"xml":  {`<link-down xmlns="vita:esp-gateway-ext"><interface>eth2</interface><side>public</side><queue>2</queue></link-down>`, `<netconf-config-change xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"><changed-by><username>admin`},
	} {
		status, body := s.curl(s.restconf + "/restconf/data/ietf-restconf-monitoring:restconf-state/streams/stream=NETCONF/access=" + encoding + "/location")
		var location map[string]string
		if err := json.Unmarshal([]byte(body), &location); status != "200" || err != nil {
			t.Fatal(status, body, err)
		}
		filter := "/vita-esp-gateway-ext:link-down[vita-esp-gateway-ext:queue=2] or /ietf-netconf-notifications:netconf-config-change"
		c := exec.Command("curl", "-sSNG", "--max-time", "20", "--cacert", filepath.Join(s.dir, "tls.crt"), "-u", user+":"+password,
			"-H", "Accept: text/event-stream", "--data-urlencode", "start-time="+begun, "--data-urlencode", "filter="+filter,
			s.restconf+location["ietf-restconf-monitoring:location"])
		out, err := c.StdoutPipe()
		check(t, err)
		check(t, c.Start())
		lines := bufio.NewScanner(out)
		next := func() string {
			for lines.Scan() {
				if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
					return text
				}
			}
			return "the stream has ended"
		}
		if got := next(); !strings.Contains(got, want[0]) || strings.Contains(got, "eth1") {
			t.Errorf("%s\nwant %s", got, want[0])
		}
		if status, body := s.curl("-X", "PUT", "-H", "Content-Type: application/yang-data+json", "-d", `{"vita-esp-gateway:mtu":`+map[string]string{"json": "1400", "xml": "1401"}[encoding]+`}`, s.restconf+"/restconf/data/vita-esp-gateway:mtu"); status[0] != '2' {
			t.Fatal(status, body)
		}
		if got := next(); !strings.Contains(got, want[1]) {
			t.Errorf("%s\nwant %s", got, want[1])
		}
		check(t, c.Process.Kill())
		_ = c.Wait() // it was killed
	}
	for query, want := range map[string]string{"start-time=now": "400", "stop-time=2026-01-01T00:00:00Z": "400", "filter=///": "400", "depth=1": "400", "start-time=2999-01-01T00:00:00Z": "400"} {
		if status, body := s.curl(s.restconf + "/restconf/streams/NETCONF/json?" + query); status != want {
			t.Errorf("%s: %s %s", query, status, body)
		}
	}
	if status, _ := s.curl("-H", "Accept: application/yang-data+json", s.restconf+"/restconf/streams/NETCONF/json"); status != "406" {
		t.Error(status)
	}
	if status, _ := s.curl("-u", "admin:wrong", s.restconf+"/restconf/streams/NETCONF/json"); status != "401" {
		t.Error(status)
	}
	if status, body := s.curl(s.restconf + "/restconf/data/nc-notifications:netconf/streams"); status != "200" || !strings.Contains(body, `"replaySupport":true`) {
		t.Error(status, body)
	}
}
