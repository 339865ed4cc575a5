package access

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func newKey(t testing.TB) (ssh.PublicKey, string) {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return k, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func TestCredentials(t *testing.T) {
	key, line := newKey(t)
	other, _ := newKey(t)
	hash, err := HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	u := NewUsers()
	if err := u.Add(User{Name: "admin", Keys: []string{line}, PasswordHash: hash}); err != nil {
		t.Fatal(err)
	}
	if err := u.Add(User{Name: "admin", Keys: []string{line}}); !errors.Is(err, ErrUserExists) {
		t.Fatalf("second admin: %v", err)
	}
	for _, c := range []struct {
		what string
		got  bool
		want bool
	}{
		{"own key", u.AcceptsKey("admin", key), true},
		{"other key", u.AcceptsKey("admin", other), false},
		{"unknown user's key", u.AcceptsKey("root", key), false},
		{"right password", u.AcceptsPassword("admin", "correct horse", "a"), true},
		{"right password, remembered", u.AcceptsPassword("admin", "correct horse", "a"), true},
		{"wrong password", u.AcceptsPassword("admin", "correct horsf", "a"), false},
		{"unknown user's password", u.AcceptsPassword("root", "correct horse", "a"), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	_, line := newKey(t)
	u := NewUsers()
	for _, c := range []struct {
		user User
		want string
	}{
		{User{Name: "", Keys: []string{line}}, "user name"},
		{User{Name: "a b", Keys: []string{line}}, "user name"},
		{User{Name: "9a", Keys: []string{line}}, "user name"},
		{User{Name: "a"}, "neither a key nor a password"},
		{User{Name: "a", Keys: []string{"ssh-ed25519 nonsense"}}, "not an SSH public key"},
		{User{Name: "a", Keys: []string{`command="x" ` + line}}, "options"},
		{User{Name: "a", PasswordHash: "$1$old"}, "argon2id"},
		{User{Name: "a", PasswordHash: "$argon2id$v=19$m=99999999,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA"}, "out of bounds"},
	} {
		if err := u.Add(c.user); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.user, err, c.want)
		}
	}
	if u.Len() != 0 {
		t.Fatalf("%d users after refusals", u.Len())
	}
}

func TestDamagedUsersFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, usersFile), []byte(`[{"name":"adm`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Legacy(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("%v", err)
	}
}

func TestThrottleDelaysAfterFailures(t *testing.T) {
	var th throttle
	now := time.Unix(1000, 0)
	for range freeFailures {
		if !th.allow(now, "k") {
			t.Fatal("refused too early")
		}
		th.failed(now, "k")
	}
	if th.allow(now, "k") {
		t.Fatal("sixth attempt at once was allowed")
	}
	if !th.allow(now, "other") {
		t.Fatal("another key is delayed")
	}
	if !th.allow(now.Add(time.Second), "k") {
		t.Fatal("attempt after the delay was refused")
	}
	for i := range 100_000 {
		th.failed(now, "name "+string(rune(i)))
	}
	if len(th.seen) > maxTracked+1 {
		t.Fatalf("%d entries tracked", len(th.seen))
	}
}

func TestIdentityIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	a, err := HostKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := HostKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if string(a.PublicKey().Marshal()) != string(b.PublicKey().Marshal()) {
		t.Fatal("a second start has another host key")
	}
	c, err := Certificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Certificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Certificate[0]) != string(d.Certificate[0]) {
		t.Fatal("a second start has another certificate")
	}
	for _, f := range []string{"tls.key", "ssh_host_ed25519_key"} {
		st, err := os.Stat(filepath.Join(dir, f))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", f, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "tls.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Certificate(dir); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Fatalf("certificate without key: %v", err)
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err == nil && (h.memory > 1<<20 || h.time > 16 || len(h.sum) != hashLen) {
			t.Fatalf("accepted %+v", h)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	_, line := newKey(f)
	f.Add([]byte(line + "\n# comment\n\n"))
	f.Add([]byte(`command="x" ` + line))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := ParseKeys(b)
		if err != nil {
			return
		}
		for _, k := range keys {
			if _, err := parseKey(k); err != nil {
				t.Fatalf("%q came out and does not go in: %v", k, err)
			}
		}
	})
}
