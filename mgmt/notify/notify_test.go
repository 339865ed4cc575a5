package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	op "vita/mgmt/operational"
)

func event(n int) *op.Node {
	return gateway("events-lost", op.Text("count", fmt.Sprint(n)))
}

// read returns what a subscription comes to until it has to wait.
func read(t *testing.T, s *Subscription) string {
	t.Helper()
	var out []string
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		e, what, err := s.Next(ctx)
		cancel()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			return strings.Join(append(out, "..."), " ")
		}
		switch what {
		case Happened:
			out = append(out, e.Content.Children[0].Value)
		case Lost:
			out = append(out, "lost:"+e.Content.Children[0].Value)
		case ReplayComplete:
			out = append(out, "replayed")
		case Complete:
			return strings.Join(append(out, "complete"), " ")
		}
	}
}

func TestSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(4)
		begun := time.Now()
		publish := func(from, to int) {
			for n := from; n <= to; n++ {
				time.Sleep(time.Second)
				h.Publish(event(n))
			}
		}
		early := h.Subscribe(time.Time{}, time.Time{})
		publish(1, 3)
		fresh := h.Subscribe(time.Time{}, time.Time{})
		whole := h.Subscribe(begun, time.Time{})
		from := h.Subscribe(begun.Add(2*time.Second), time.Time{})
		past := h.Subscribe(begun, begun.Add(2*time.Second))
		future := h.Subscribe(begun, begun.Add(5500*time.Millisecond))
		for want, s := range map[string]*Subscription{
			"1 2 3 ...": early, "...": fresh, "1 2 3 replayed ...": whole, "2 3 replayed ...": from, "1 2 replayed complete": past,
		} {
			if got := read(t, s); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		publish(4, 6)
		if got := read(t, fresh); got != "4 5 6 ..." {
			t.Error(got)
		}
		if got := read(t, future); got != "3 replayed 4 5 complete" && got != "lost:2 3 replayed 4 5 complete" {
			t.Error(got) // 1 and 2 had no more room
		}
		publish(7, 12)
		if got := read(t, early); got != "lost:5 9 10 11 12 ..." {
			t.Error(got)
		}
		if got := read(t, h.Subscribe(begun, time.Time{})); got != "9 10 11 12 replayed ..." {
			t.Error(got)
		}
		if created, aged := h.LogStart(); !created.Equal(begun) || aged.Before(begun.Add(8*time.Second)) {
			t.Error(created, aged)
		}
		// A stop in the future ends a subscription on which nothing happens.
		waiting := h.Subscribe(time.Now(), time.Now().Add(time.Minute))
		if got := read(t, waiting); got != "12 replayed ..." && got != "replayed ..." {
			t.Error(got)
		}
		if _, what, err := waiting.Next(t.Context()); what != Complete || err != nil {
			t.Error(what, err)
		}
	})
}

// Many publish and many read: each reader sees each event once and in order, or
// is told that it was too slow.
func TestConcurrent(t *testing.T) {
	h := New(1000)
	var readers, writers sync.WaitGroup
	const each, total = 500, 4 * 500
	for range 5 {
		s := h.Subscribe(time.Time{}, time.Time{})
		readers.Go(func() {
			seen := map[string]bool{}
			lost := 0
			for len(seen)+lost < total {
				e, what, err := s.Next(t.Context())
				switch {
				case err != nil:
					t.Error(err)
					return
				case what == Lost:
					var n int
					_, _ = fmt.Sscan(e.Content.Children[0].Value, &n)
					lost += n
				default:
					v := e.Content.Children[0].Value
					if seen[v] {
						t.Errorf("%s twice", v)
					}
					seen[v] = true
				}
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			for n := range each {
				h.Publish(event(w*each + n))
			}
		})
	}
	writers.Wait()
	readers.Wait()
}

func TestPublishCostsTheSameWithSubscriptions(t *testing.T) {
	h := New(16)
	content := event(1)
	alone := testing.AllocsPerRun(100, func() { h.Publish(content) })
	for range 1000 {
		h.Subscribe(time.Time{}, time.Time{})
	}
	if many := testing.AllocsPerRun(100, func() { h.Publish(content) }); many != alone {
		t.Errorf("%v allocations with a thousand subscriptions, %v without", many, alone)
	}
	var none *Hub
	none.Publish(content)
}

func TestContents(t *testing.T) {
	s := Session{ID: 7, User: "admin", Peer: "192.0.2.1:999"}
	l := Link{"site2", 1, "203.0.113.2"}
	for _, c := range []struct {
		n         *op.Node
		xml, json string
	}{
		{
			SessionEnd(s, 3, "killed"),
			`<netconf-session-end xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"><username>admin</username><session-id>7</session-id><source-host>192.0.2.1</source-host><killed-by>3</killed-by><termination-reason>killed</termination-reason></netconf-session-end>`,
			`"ietf-netconf-notifications:netconf-session-end":{"username":"admin","session-id":7,"source-host":"192.0.2.1","killed-by":3,"termination-reason":"killed"}`,
		},
		{
			ConfigChange(Session{}, "running", []Edit{{"/vita-esp-gateway:route4[id='a/b']/vita-esp-gateway-ext:further-net[net='::/0']", "create"}}),
			`<netconf-config-change xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"><changed-by><server></server></changed-by><datastore>running</datastore><edit><target xmlns:vita-esp-gateway="vita:esp-gateway" xmlns:vita-esp-gateway-ext="vita:esp-gateway-ext">/vita-esp-gateway:route4[vita-esp-gateway:id=&#39;a/b&#39;]/vita-esp-gateway-ext:further-net[vita-esp-gateway-ext:net=&#39;::/0&#39;]</target><operation>create</operation></edit></netconf-config-change>`,
			`"ietf-netconf-notifications:netconf-config-change":{"changed-by":{"server":[null]},"datastore":"running","edit":[{"target":"/vita-esp-gateway:route4[id='a/b']/vita-esp-gateway-ext:further-net[net='::/0']","operation":"create"}]}`,
		},
		{
			ConfirmedCommit(s, "start", 90*time.Second),
			`<netconf-confirmed-commit xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"><username>admin</username><session-id>7</session-id><source-host>192.0.2.1</source-host><confirm-event>start</confirm-event><timeout>90</timeout></netconf-confirmed-commit>`, ``,
		},
		{
			ConfirmedCommit(Session{}, "timeout", 0),
			`<netconf-confirmed-commit xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"><confirm-event>timeout</confirm-event></netconf-confirmed-commit>`, ``,
		},
		{
			Association(l, 300, 301, true),
			`<association-rekeyed xmlns="vita:esp-gateway-ext"><route>site2</route><queue>1</queue><peer>203.0.113.2</peer><inbound-spi>300</inbound-spi><outbound-spi>301</outbound-spi></association-rekeyed>`,
			`"vita-esp-gateway-ext:association-rekeyed":{"route":"site2","queue":1,"peer":"203.0.113.2","inbound-spi":300,"outbound-spi":301}`,
		},
		{InterfaceLink("eth1", "public", 2, false), ``, `"vita-esp-gateway-ext:link-down":{"interface":"eth1","side":"public","queue":2}`},
		{Storm("esp-replay", 1<<40, true), ``, `"vita-esp-gateway-ext:storm":{"reason":"esp-replay","state":"over","packets":"1099511627776"}`},
	} {
		var x, j bytes.Buffer
		c.n.WriteXML(&x)
		op.WriteJSON(&j, "", c.n)
		if c.xml != "" && x.String() != c.xml {
			t.Errorf("%s\nwant %s", &x, c.xml)
		}
		if c.json != "" && j.String() != c.json {
			t.Errorf("%s\nwant %s", &j, c.json)
		}
	}
}
