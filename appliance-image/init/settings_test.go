package main

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"vita/appliance-image/internal/options"
	ctl "vita/internal/appliance"
)

// TestWish: what the configuration says goes before what was told at the first
// start, thing by thing, and that before DHCP.
func TestWish(t *testing.T) {
	addr := netip.MustParseAddr
	pages := 0
	told1 := options.Options{
		Hostname: "first", DNS: []netip.Addr{addr("192.0.2.1")}, NTP: []string{"ntp.first"}, Syslog: []string{"192.0.2.5"}, Hugepages: 4, CPUs: "1", AdminPassword: "secret",
	}
	all := ctl.Settings{
		Hostname: "configured", DNS: []netip.Addr{addr("2001:db8::1"), addr("fe80::1%enp0s2")}, Search: []string{"a.example", "b.example"}, Timeout: 2, Attempts: 3,
		NTP: []string{"ntp.configured:123"}, Syslog: []string{"192.0.2.6:514"}, Hugepages: &pages, CPUs: "2-3",
	}
	offered := []netip.Addr{addr("10.0.2.3")}
	off := ctl.Settings{NoNTP: true, NTP: all.NTP}
	for name, c := range map[string]struct {
		o    options.Options
		s    ctl.Settings
		want wish
	}{
		"nothing":    {options.Options{}, ctl.Settings{}, wish{hostname: "vita", resolver: "nameserver 10.0.2.3\n"}},
		"first":      {told1, ctl.Settings{}, wish{"first", "nameserver 192.0.2.1\n", told1.NTP, told1.Syslog, 4, "1"}},
		"configured": {told1, all, wish{"configured", "nameserver 2001:db8::1\nnameserver fe80::1%enp0s2\nsearch a.example b.example\noptions timeout:2\noptions attempts:3\n", all.NTP, all.Syslog, 0, "2-3"}},
		"one thing":  {told1, ctl.Settings{Hostname: "configured"}, wish{"configured", "nameserver 192.0.2.1\n", told1.NTP, told1.Syslog, 4, "1"}},
		"search":     {options.Options{}, ctl.Settings{Search: []string{"a.example"}}, wish{hostname: "vita", resolver: "nameserver 10.0.2.3\nsearch a.example\n"}},
		"no time":    {told1, off, wish{"first", "nameserver 192.0.2.1\n", nil, told1.Syslog, 4, "1"}},
	} {
		a := newAppliance()
		a.told.setOptions(c.o)
		a.told.tell(func(x *told) { x.settings, x.offered = c.s, offered })
		if got := a.told.wish(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v\nwant %+v", name, got, c.want)
		}
		if a.told.options.AdminPassword != "" {
			t.Errorf("%s: the password is kept", name)
		}
	}
}

// TestSettingsStay: they are there after a restart; a file that is damaged, or was
// made by somebody else, is left aside.
func TestSettingsStay(t *testing.T) {
	name := filepath.Join(t.TempDir(), "settings.json")
	a := newAppliance()
	a.readSettings(name)
	if lines := a.log.After(0); len(lines) > 0 {
		t.Errorf("no file: %s", lines[0].Text)
	}
	s := ctl.Settings{Hostname: "gw1", NTP: []string{"192.0.2.1:123"}}
	if err := storeSettings(name, s); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(name)
	if err != nil || before.Mode().Perm() != 0o600 {
		t.Fatal(before, err)
	}
	if err := storeSettings(name, s); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(name); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same is written again: %v", err)
	}
	a.readSettings(name)
	if got := a.told.settings; !reflect.DeepEqual(got, s) {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"", "{", `{"hostname":"a b"}`, `{"shell":"x"}`, `{"hostname":"` + strings.Repeat(" ", 2*ctl.MaxLine) + `"}`} {
		if err := os.WriteFile(name, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		b := newAppliance()
		b.readSettings(name)
		if lines := b.log.After(0); len(lines) != 1 || !strings.Contains(lines[0].Text, name) || !reflect.DeepEqual(b.told.settings, ctl.Settings{}) {
			t.Errorf("%.20q: %+v, %d lines", bad, b.told.settings, len(lines))
		}
	}
	if an := a.configure(nil); an.Error == "" {
		t.Error("a request without settings")
	}
}

// TestSendTo: servers that stay are not sent everything again.
func TestSendTo(t *testing.T) {
	a := newAppliance()
	var did []string
	a.send = func(server string) context.CancelFunc {
		did = append(did, "+"+server)
		return func() { did = append(did, "-"+server) }
	}
	for _, c := range []struct{ servers, want []string }{
		{[]string{"a", "b"}, []string{"+a", "+b"}},
		{[]string{"b", "c"}, []string{"-a", "+c"}},
		{[]string{"c", "b"}, nil},
		{nil, []string{"-b", "-c"}},
		{[]string{"a"}, []string{"+a"}},
	} {
		did = nil
		a.sendTo(c.servers)
		if !slices.Equal(did, c.want) {
			t.Errorf("%v: %v, want %v", c.servers, did, c.want)
		}
	}
}

func TestSpare(t *testing.T) {
	for _, c := range []struct {
		list, online string
		ok           bool
	}{
		{"1", "0-1", true}, {"2-3", "0,2-4", true}, {"0-1", "0-1", false}, {"2", "0-1", false}, {"1-", "0-3", false}, {"1", "", false},
	} {
		if err := spare(c.list, c.online); (err == nil) != c.ok {
			t.Errorf("%s of %s: %v", c.list, c.online, err)
		}
	}
}
