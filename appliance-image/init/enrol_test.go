package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vita/appliance-image/internal/options"
	ctl "vita/internal/appliance"
)

// TestBegin: vitad may begin when the state is there, and somebody is to be the first
// administrator; not again when that could not be made.
func TestBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAppliance()
		ctx, stop := context.WithCancel(t.Context())
		answers := make(chan ctl.Answer, 1)
		ask := func() { answers <- a.begin(ctx) }
		answer := func(want string) (an ctl.Answer) {
			t.Helper()
			time.Sleep(time.Second)
			select {
			case an = <-answers:
				b, err := json.Marshal(an)
				if err != nil || string(b) != want {
					t.Errorf("%s, %v, want %s", b, err, want)
				}
			default:
				if want != "" {
					t.Fatal("no answer")
				}
			}
			return an
		}
		go ask()
		answer("")
		a.options = options.Options{AdminKeys: []string{"key"}}
		a.enrol() // at the console, before the state is looked at
		answer("")
		a.enrolling("first administrator: bad")
		a.options = options.Options{Admin: "ann", AdminKeys: []string{"key 1", "key 2"}, AdminPassword: "secret", Hostname: "gw1"}
		a.firstBoot()
		want := `{"first":{"name":"ann","keys":"key 1\nkey 2","password":"secret"}}`
		answer(want)
		go ask() // it has been started again
		answer(want)
		if text := a.first.Load().options; !strings.Contains(text, "hostname = gw1") || strings.Contains(text, "secret") || a.options.AdminPassword != "" {
			t.Errorf("options to be stored: %q, a password that is kept: %q", text, a.options.AdminPassword)
		}
		a.enrolling("first administrator: bad")
		go ask()
		answer("")
		a.options = options.Options{AdminKeys: []string{"key"}}
		a.enrol()
		answer(`{"first":{"name":"admin","keys":"key"}}`)
		a.enrolling("first administrator: bad")
		go ask()
		answer("")
		stop()
		answer(`{"error":"the machine ends"}`)

		a = newAppliance()
		a.options.AdminPassword = "secret"
		a.firstBoot()
		if lines := a.log.After(0); len(lines) != 1 || !strings.Contains(lines[0].Text, "enter one at the console") || a.first.Load() != nil {
			t.Errorf("%v", lines)
		}
	})
}

// TestEnrolling: what vitad says of the first administrator is on the console, as
// something that can be read; what it says at other times is not.
func TestEnrolling(t *testing.T) {
	a := newAppliance()
	a.options.AdminKeys = []string{"key"}
	a.enrol()
	a.enrolling("first administrator: key 1: \x1b[2Jnot a key \u00e4" + strings.Repeat("x", 1000))
	a.enrolling("and this")
	lines := a.log.After(0)
	if len(lines) != 1 || !strings.HasPrefix(lines[0].Text, "first administrator: key 1: ?[2Jnot a key ?xx") || !strings.HasSuffix(lines[0].Text, "x: enter an administrator at the console") || len(lines[0].Text) > 600 {
		t.Errorf("%d lines, %+v", len(lines), lines)
	}
}

// TestWizardReplacesKeys: the key that is entered takes the place of those that were
// no good, and an answer that is refused changes nothing.
func TestWizardReplacesKeys(t *testing.T) {
	o := options.Options{AdminKeys: []string{"no good"}, DNS: nil}
	for _, x := range []struct{ key, typed, want string }{
		{"admin-key", "ssh-ed25519 AAAA\n", "ssh-ed25519 AAAA"},
		{"admin-key", "\n", "ssh-ed25519 AAAA"},
		{"dns", "192.0.2.1,no address\n\n", "ssh-ed25519 AAAA"},
		{"admin-key", "a\x01b\n\n", "ssh-ed25519 AAAA"},
	} {
		c := &console{out: io.Discard, in: bufio.NewReader(strings.NewReader(x.typed))}
		if err := c.option(&o, x.key, "?"); err != nil {
			t.Errorf("%q: %v", x.typed, err)
		}
		if got := strings.Join(o.AdminKeys, " "); got != x.want || len(o.DNS) > 0 {
			t.Errorf("%q: keys %q, %v", x.typed, got, o.DNS)
		}
	}
}
