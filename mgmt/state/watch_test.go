package state

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/mgmt/notify"
)

// heard returns what a subscription has, as XML, without namespaces.
func heard(t *testing.T, s *notify.Subscription) string {
	t.Helper()
	var out []string
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		e, _, err := s.Next(ctx)
		cancel()
		if err != nil {
			return strings.Join(out, " ")
		}
		var b bytes.Buffer
		e.Content.WriteXML(&b)
		out = append(out, strings.ReplaceAll(b.String(), ` xmlns="vita:esp-gateway-ext"`, ""))
	}
}

func TestWatchLinks(t *testing.T) {
	hub := notify.New(0)
	s := hub.Subscribe(time.Time{}, time.Time{})
	w := watcher{hub: hub}
	ports := []client.PortInfo{{Queue: 1, Name: "eth0", LinkUp: true}, {Queue: 1, Public: true, Name: "eth1", LinkUp: false}}
	n := func(drop.Reason) uint64 { return 0 }
	w.look(ports, n)
	if got := heard(t, s); got != "<link-down><interface>eth1</interface><side>public</side><queue>1</queue></link-down>" {
		t.Error(got) // one that is up from the beginning is no news
	}
	ports[0].LinkUp, ports[1].LinkUp = false, true
	w.look(ports, n)
	w.look(ports, n)
	if got := heard(t, s); got != "<link-down><interface>eth0</interface><side>private</side><queue>1</queue></link-down> <link-up><interface>eth1</interface><side>public</side><queue>1</queue></link-up>" {
		t.Error(got)
	}
	w.look(nil, n) // closed, and opened again
	w.look(ports[1:], n)
	if got := heard(t, s); got != "" {
		t.Error(got)
	}
}

func TestWatchStorms(t *testing.T) {
	hub := notify.New(0)
	s := hub.Subscribe(time.Time{}, time.Time{})
	w := watcher{hub: hub}
	total := uint64(1_000_000)
	look := func(packets ...uint64) string {
		t.Helper()
		for _, p := range packets {
			total += p
			w.look(nil, func(r drop.Reason) uint64 {
				if r == drop.ESPReplay {
					return total
				}
				return 0
			})
		}
		return heard(t, s)
	}
	if got := look(0, 99, 99, 50); got != "" {
		t.Error(got)
	}
	if got := look(100, 5000, 20); got != "<storm><reason>esp-replay</reason><state>begun</state><packets>100</packets></storm>" {
		t.Error(got)
	}
	if got := look(0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 9, 9, 9, 9, 9, 9, 9, 9, 9); got != "" {
		t.Error(got)
	}
	if got := look(9, 9); got != "<storm><reason>esp-replay</reason><state>over</state><packets>5220</packets></storm>" {
		t.Error(got)
	}
	total = 10 // another engine counts from the beginning
	if got := look(50, 5); got != "" {
		t.Error(got)
	}
}
