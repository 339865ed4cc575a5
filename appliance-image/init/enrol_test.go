package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vita/appliance-image/internal/options"
)

// untold is an appliance at its first start, which has been told of an administrator.
func untold(o options.Options) *appliance {
	a := newAppliance()
	a.options = o
	a.firstBoot()
	return a
}

// TestTellAdministrator: a program gets to know who the first administrator is to
// be by its arguments, and what they log in by by files that are empty once read.
func TestTellAdministrator(t *testing.T) {
	a := untold(options.Options{Admin: "ann", AdminKeys: []string{"key 1", "key 2"}, AdminPassword: "secret", Hostname: "gw1"})
	if a.options.AdminPassword != "" {
		t.Error("the password is kept")
	}
	if text := a.first.Load().options; !strings.Contains(text, "hostname = gw1") || strings.Contains(text, "secret") {
		t.Errorf("options to be stored: %q", text)
	}
	run := func() string {
		t.Helper()
		cmd := exec.Command("sh", "-c", `echo "$@"; cat "$4" "$6" "$4" "$6" 2>&1; ls /proc/self/fd | grep -c .`, "sh")
		told, err := a.tellAdministrator(cmd)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		cmd.Stdout = &out
		if err := errors.Join(cmd.Start(), func() error { told(); return cmd.Wait() }()); err != nil {
			t.Fatal(err)
		}
		for _, f := range cmd.ExtraFiles {
			if err := f.Close(); err == nil {
				t.Error("a pipe is still open")
			}
		}
		return out.String()
	}
	const want = "--first-admin ann --first-ssh-key /proc/self/fd/3 --first-password-file /proc/self/fd/4\nkey 1\nkey 2\nsecret\n"
	for range 2 { // it may be started again
		if got := run(); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != strings.Count(want, "\n")+1 {
			t.Errorf("%q, want %q", got, want)
		}
	}

	// Without a password there is one file, and nobody to tell of no argument at all.
	a = untold(options.Options{AdminKeys: []string{"key"}})
	cmd := exec.Command("true")
	told, err := a.tellAdministrator(cmd)
	if err != nil || strings.Join(cmd.Args[1:], " ") != "--first-admin admin --first-ssh-key /proc/self/fd/3" {
		t.Errorf("%q, %v", cmd.Args, err)
	}
	told()
	a = untold(options.Options{Admin: "ann", AdminPassword: "secret"})
	cmd = exec.Command("true")
	if _, err := a.tellAdministrator(cmd); err != nil || len(cmd.Args) > 1 || a.first.Load() != nil {
		t.Errorf("%q, %v", cmd.Args, err)
	}
	if lines := a.log.After(0); len(lines) != 1 || !strings.Contains(lines[0].Text, "enter one at the console") {
		t.Errorf("%v", lines)
	}
}

// TestAwaitAdministrator: nothing is started before it is known who the first
// administrator is to be, nor again when that could not be made.
func TestAwaitAdministrator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := untold(options.Options{})
		ctx, stop := context.WithCancel(t.Context())
		awaited := make(chan error, 1)
		await := func() { awaited <- a.awaitAdministrator(ctx) }
		waits := func(want bool) {
			t.Helper()
			time.Sleep(time.Second)
			select {
			case err := <-awaited:
				if want || err != nil {
					t.Errorf("waits no more, %v", err)
				}
			default:
				if !want {
					t.Fatal("waits")
				}
			}
		}
		go await()
		waits(true)
		a.options.AdminKeys = []string{"key"}
		a.enrol()
		waits(false)
		go await()
		waits(false)
		a.enrolling("first administrator: bad")
		go await()
		waits(true)
		stop()
		time.Sleep(time.Second)
		if err := <-awaited; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestEnrolling: what vitad says of the first administrator is on the console, as
// something that can be read; what it says at other times is not.
func TestEnrolling(t *testing.T) {
	a := untold(options.Options{AdminKeys: []string{"key"}})
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
