package host

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"vita/gen"
	"vita/internal/appliance"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/yangenc"
)

func tree(t *testing.T, text string) *gen.Vita {
	t.Helper()
	root := &gen.Vita{}
	e, err := yangenc.DecodeJSON([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edit.Apply(root, e, edit.Merge); err != nil {
		t.Fatal(err)
	}
	return root
}

const whole = `{"ietf-system:system": {
  "hostname": "gw1", "location": "the cellar",
  "ntp": {"server": [
    {"name": "b", "udp": {"address": "192.0.2.7"}},
    {"name": "a", "udp": {"address": "ntp.example.net"}},
    {"name": "z", "udp": {"address": "2001:db8::7", "port": 1123}, "prefer": true}]},
  "dns-resolver": {"search": ["z.example", "a.example"], "options": {"timeout": 2, "attempts": 3}, "server": [
    {"name": "z", "udp-and-tcp": {"address": "192.0.2.53"}},
    {"name": "a", "udp-and-tcp": {"address": "2001:db8::53"}}]}},
 "vita-esp-gateway-ext:appliance": {"hugepages": 0, "cpus": "2-3", "syslog": [{"address": "192.0.2.6", "port": 1514}, {"address": "192.0.2.5"}]}}`

// asInit says what an init gets.
const asInit = `{"hostname":"gw1","dns":["192.0.2.53","2001:db8::53"],"search":["z.example","a.example"],"timeout":2,"attempts":3,` +
	`"ntp":["[2001:db8::7]:1123","ntp.example.net:123","192.0.2.7:123"],"syslog":["192.0.2.5:514","192.0.2.6:1514"],"hugepages":0,"cpus":"2-3"}`

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestSettings(t *testing.T) {
	h := New(appliance.Client{Socket: "x"}, quiet())
	for text, want := range map[string]string{
		whole: asInit, `{}`: `{}`,
		`{"ietf-system:system":{"ntp":{}}}`: `{}`,
		`{"ietf-system:system":{"ntp":{"enabled":false,"server":[{"name":"a","udp":{"address":"a.example"}}]}}}`: `{"ntp":["a.example:123"],"no-ntp":true}`,
	} {
		s, err := h.settings(tree(t, text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if b, err := json.Marshal(s); err != nil || string(b) != want {
			t.Errorf("%s\nbecomes %s, %v", text, b, err)
		}
	}
	// What the model takes and init does not.
	_, err := h.settings(tree(t, `{"ietf-system:system":{"hostname":"gw1","dns-resolver":{"server":[{"name":"a","udp-and-tcp":{"address":"fe80::1%größer"}}]}},"vita-esp-gateway-ext:appliance":{"cpus":"3-1"}}`))
	all, ok := errors.AsType[rpcerr.Errors](err)
	if !ok || len(all) != 2 || all[0].Path != "/ietf-system:system/dns-resolver/server[name='a']/udp-and-tcp/address" || all[1].Path != "/vita-esp-gateway-ext:appliance/cpus" || all[0].Tag != "invalid-value" {
		t.Errorf("%v", err)
	}
}

// TestNoAppliance: each setting of the machine is refused by its path, but what is
// stored does not keep a gateway from starting.
func TestNoAppliance(t *testing.T) {
	h := New(appliance.Client{}, quiet())
	f := h.Followers()
	if len(f) != 2 || f[0].Name != "system" || f[1].Name != "appliance" {
		t.Fatalf("%+v", f)
	}
	for _, one := range f {
		publish, err := one.Prepare(tree(t, whole))
		if err != nil {
			t.Fatalf("a stored configuration: %v", err)
		}
		publish()
		_, err = one.Prepare(tree(t, whole))
		all, ok := errors.AsType[rpcerr.Errors](err)
		if !ok || len(all) != 15 {
			t.Fatalf("%d: %v", len(all), err)
		}
		for _, e := range all {
			if e.Tag != "operation-not-supported" || e.Path == "" || strings.Contains(e.Path, "location") {
				t.Errorf("%+v", e)
			}
		}
		if _, err := one.Prepare(tree(t, `{"ietf-system:system": {"location": "the cellar"}}`)); err != nil {
			t.Error(err)
		}
	}
	if err := h.Run(t.Context()); err != nil || !reflect.DeepEqual(h.last, appliance.Settings{}) {
		t.Errorf("%v, %+v", err, h.last)
	}
}

// TestRun: init gets what is stored, what is committed, and what it could not do
// again.
func TestRun(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, answers := make(chan string), make(chan string)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			got <- line
			fmt.Fprintln(c, <-answers)
			c.Close()
		}
	}()
	expect := func(settings, answer string) {
		t.Helper()
		select {
		case line := <-got:
			if want := `{"do":"configure","settings":` + settings + "}\n"; line != want {
				t.Errorf("init gets\n%swant\n%s", line, want)
			}
			answers <- answer
		case <-time.After(30 * time.Second):
			t.Fatal("init gets nothing")
		}
	}
	var log strings.Builder
	h := New(appliance.Client{Socket: socket}, slog.New(slog.NewTextHandler(&log, nil)))
	f := h.Followers()
	publish := func(text string) {
		t.Helper()
		p, err := f[0].Prepare(tree(t, text))
		if err != nil {
			t.Fatal(err)
		}
		p()
	}
	publish(`{}`)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	expect(`{}`, `{}`)
	publish(whole)
	expect(asInit, `{"error":"the disk is full"}`)
	expect(asInit, `{"error":"the disk is full"}`)
	expect(asInit, `{}`)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "the disk is full"); n != 1 {
		t.Errorf("logged %d times: %s", n, log.String())
	}
}
