package access

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// people is a set of two users with passwords.
func people(t *testing.T) *Users {
	t.Helper()
	u := NewUsers()
	for _, name := range []string{"admin", "second"} {
		hash, err := HashPassword("password of " + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Add(User{Name: name, PasswordHash: hash}); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// atOnce makes so many attempts at once and returns how many computed a hash.
func atOnce(u *Users, n int, name, password, from string) (hashes, accepted int64) {
	before := computed.Load()
	var ok atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if u.AcceptsPassword(strings.ReplaceAll(name, "#", fmt.Sprint(i)), password, from) {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	return computed.Load() - before, ok.Load()
}

func TestFloodCostsFewHashes(t *testing.T) {
	u := people(t)
	for _, name := range []string{"admin", "guess#"} { // one name, and many
		if n, ok := atOnce(u, 300, name, "a wrong password", "192.0.2.66"); n > freeFailures+2 || ok != 0 {
			t.Errorf("%s: 300 attempts at once: %d hashes, %d accepted", name, n, ok)
		}
	}
	if n, _ := atOnce(u, 50, strings.Repeat("x", 1<<20), "a wrong password", "192.0.2.1"); n != 0 {
		t.Errorf("impossible names: %d hashes", n)
	}
	if n, ok := atOnce(u, 100, "second", "password of second", "192.0.2.1"); n != 1 || ok != 100 {
		t.Errorf("100 right ones at once: %d hashes, %d accepted", n, ok)
	}
	if n, _ := atOnce(u, 50, "guess#", "a wrong password", "2001:db8::1"); n > freeFailures+2 {
		t.Errorf("%d hashes", n)
	}
	u.throttle.goOn()
	if u.AcceptsPassword("second", "another wrong one", "2001:db8::2") || u.AcceptsPassword("admin", "password of admin", "2001:db8::3") {
		t.Error("another address of the same /64 is not delayed")
	}
}

func TestFloodLocksOutNobodyWhoWorks(t *testing.T) {
	u := people(t)
	const home, elsewhere = "192.0.2.1", "192.0.2.66"
	if !u.AcceptsPassword("admin", "password of admin", home) {
		t.Fatal("right password refused")
	}
	atOnce(u, 20, "admin", "a wrong password", elsewhere)
	atOnce(u, 20, "guess#", "a wrong password", home)
	u.throttle.goOn()
	u.verified.forget() // as after some minutes
	if !u.AcceptsPassword("admin", "password of admin", home) {
		t.Error("who has logged in before is locked out by others' failures")
	}
	u.verified.forget()
	if u.AcceptsPassword("admin", "password of admin", elsewhere) {
		t.Error("the flood's address is not delayed")
	}
	u.verified.forget()
	if u.AcceptsPassword("second", "password of second", home) {
		t.Error("a newcomer at an address that guesses is not delayed")
	}
	if !u.AcceptsPassword("second", "password of second", "192.0.2.2") {
		t.Error("another user at another address is locked out")
	}
	// Guessing where the user works is slowed down too.
	if n, _ := atOnce(u, 50, "admin", "a wrong password", home); n > freeFailures+2 {
		t.Errorf("%d hashes", n)
	}
	u.throttle.goOn()
	if u.AcceptsPassword("admin", "password of admin", home) {
		t.Error("guessing at the user's own address is not slowed down")
	}
}

// TestHashesAreBounded looks at how many are computed at once.
func TestHashesAreBounded(t *testing.T) {
	u := people(t)
	stop := make(chan struct{})
	var wg, watch sync.WaitGroup
	most := 0
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				most = max(most, len(hashing))
			}
		}
	})
	for i := range 12 {
		wg.Go(func() { u.AcceptsPassword("admin", "a wrong password", fmt.Sprintf("192.0.2.%d", i)) })
	}
	wg.Wait()
	close(stop)
	watch.Wait()
	if most < 1 || most > 2 {
		t.Errorf("%d hashes at once, want 1 or 2", most)
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::/64",
		"fe80::1%eth0": "fe80::/64", "pipe": "pipe",
	} {
		if got := network(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// goOn makes those who have failed too often guess as long as it takes for the
// longest delay.
func (t *throttle) goOn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, f := range t.seen {
		if f.n >= freeFailures {
			t.seen[k] = failures{n: freeFailures + 10, last: time.Now()}
		}
	}
}

// forget empties the cache.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = nil
}
