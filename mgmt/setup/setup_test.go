package setup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vita/gen"
	"vita/mgmt/access"
	"vita/mgmt/datastore"
	"vita/mgmt/nacm"
)

func open(t *testing.T, dir string, users *access.Users) (*datastore.Datastore, *nacm.Control) {
	t.Helper()
	c := &nacm.Control{}
	d, err := datastore.Open(datastore.Options{
		Dir: dir, Access: c, Seal: access.Seal,
		Followers: []datastore.Follower{{Module: access.Module, Name: access.Node, Prepare: users.Prepare}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, c
}

func mayAll(c *nacm.Control, user string) bool {
	a := c.For(nacm.Session{User: user})
	return a.Operation("ietf-netconf", "kill-session", true) && a.Root(nacm.Update) == nil && a.Root(nacm.Read) == nil && a.Root(nacm.Delete) == nil
}

func TestFirst(t *testing.T) {
	dir := t.TempDir()
	users := access.NewUsers()
	d, c := open(t, dir, users)
	hash, err := access.HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if err := First(t.Context(), d, []access.User{{Name: "ann", PasswordHash: hash}}); err != nil {
		t.Fatal(err)
	}
	if !users.AcceptsPassword("ann", "correct horse", "x") {
		t.Error("ann cannot log in")
	}
	if !mayAll(c, "ann") || mayAll(c, "bob") {
		t.Error("ann is no administrator, or bob is one")
	}
	if err := First(t.Context(), d, []access.User{{Name: "bob", PasswordHash: hash}}); !errors.Is(err, ErrHasUsers) {
		t.Errorf("a second time: %v", err)
	}
	// It is there after a restart.
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	users = access.NewUsers()
	if _, c = open(t, dir, users); !users.AcceptsPassword("ann", "correct horse", "x") || !mayAll(c, "ann") {
		t.Error("not after a restart")
	}
}

// TestMigrate: users of an older version are administrators, once.
func TestMigrate(t *testing.T) {
	dir := t.TempDir()
	hash, err := access.HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "users.json")
	old := fmt.Sprintf(`[{"name": "ann", "password-hash": %q}, {"name": "bob", "password-hash": %q}]`, hash, hash)
	if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	users := access.NewUsers()
	d, c := open(t, dir, users)
	for round, want := range []int{2, 0} {
		if n, err := Migrate(t.Context(), d, dir); n != want || err != nil {
			t.Errorf("round %d: %d users, %v", round, n, err)
		}
	}
	for _, name := range []string{"ann", "bob"} {
		if !users.AcceptsPassword(name, "correct horse", "x") || !mayAll(c, name) {
			t.Errorf("%s is no administrator", name)
		}
	}
	if _, err := os.Stat(file + ".migrated"); err != nil {
		t.Error(err)
	}
	// Where the configuration has users, those of the file are not taken.
	if err := os.WriteFile(file, []byte(fmt.Sprintf(`[{"name": "eve", "password-hash": %q}]`, hash)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Migrate(t.Context(), d, dir); err != nil || users.Has("eve") {
		t.Errorf("%v", err)
	}
	if err := d.Read(datastore.Running, nil, func(root *gen.Vita) error {
		if n := len(root.System.Authentication.User); n != 2 {
			t.Errorf("%d users", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// names lists a folder.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func ann(t *testing.T) access.User {
	t.Helper()
	hash, err := access.HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	return access.User{Name: "ann", PasswordHash: hash}
}

// TestMake: a state directory that is missing is never there but whole, a failure
// leaves nothing, and what an attempt that was cut short has left is no harm.
func TestMake(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "a", "b")
	dir := filepath.Join(parent, "state")
	if _, err := Make(t.Context(), dir, access.User{Name: "ann", PasswordHash: "plain"}, nil); err == nil {
		t.Error("a hash that is none")
	}
	digit := ann(t)
	digit.Name = "1ann"
	if _, err := Make(t.Context(), dir, digit, nil); err == nil || !strings.Contains(err.Error(), "does not start with a digit") {
		t.Errorf("a name that no gateway takes: %v", err)
	}
	if _, err := Make(t.Context(), dir, ann(t), []byte("no certificate")); err == nil {
		t.Error("rubbish as client CA")
	}
	if left := names(t, parent); len(left) > 0 {
		t.Fatalf("after a failure there is %s", left)
	}
	if err := errors.Join(os.Mkdir(dir+Unfinished, 0o700), os.WriteFile(filepath.Join(dir+Unfinished, "config.db"), []byte("half"), 0o600), os.WriteFile(filepath.Join(dir+Unfinished, "ssh_host_ed25519_key"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	seen := make(chan []string)
	go func() { // looks as soon as it is there
		for {
			if entries, err := os.ReadDir(dir); err == nil {
				var all []string
				for _, e := range entries {
					all = append(all, e.Name())
				}
				seen <- all
				return
			}
		}
	}()
	key, err := Make(t.Context(), dir+"/", ann(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"config.db", "config.mirror.db", "ssh_host_ed25519_key", "tls.crt", "tls.key"}
	if got := <-seen; !slices.Equal(got, want) {
		t.Errorf("at first it has %s", got)
	}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("it has %s", got)
	}
	if got := names(t, parent); !slices.Equal(got, []string{"state"}) {
		t.Errorf("beside it there is %s", got)
	}
	if s, err := os.Stat(dir); err != nil || s.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", s.Mode(), err)
	}
	if now, err := access.HostKey(dir); err != nil || access.Fingerprint(now) != access.Fingerprint(key) {
		t.Errorf("another host key, %v", err)
	}
	users := access.NewUsers()
	if _, c := open(t, dir, users); !users.AcceptsPassword("ann", "correct horse", "x") || !mayAll(c, "ann") {
		t.Error("ann is no administrator")
	}
}

// TestMakeInPlace: a directory that is there keeps what the operator has put into
// it, and its users.
func TestMakeInPlace(t *testing.T) {
	dir := t.TempDir()
	if _, err := access.Certificate(dir); err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join(dir, "tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), dir, access.User{Name: "ann", PasswordHash: "plain"}, nil); err == nil {
		t.Error("a hash that is none")
	}
	if _, err := Make(t.Context(), dir, ann(t), own); err != nil { // goes on with what the failure has left
		t.Fatal(err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, "tls.crt")); err != nil || !bytes.Equal(now, own) {
		t.Errorf("another certificate, %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "client-ca.crt")); err != nil {
		t.Error(err)
	}
	if _, err := Make(t.Context(), dir, ann(t), nil); !errors.Is(err, ErrHasUsers) {
		t.Errorf("a second time: %v", err)
	}
	old := t.TempDir()
	if err := os.WriteFile(filepath.Join(old, "users.json"), []byte(`[{"name":"bob","password-hash":"`+ann(t).PasswordHash+`"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), old, ann(t), nil); !errors.Is(err, ErrHasUsers) {
		t.Errorf("users of an older version: %v", err)
	}
	if _, err := Make(t.Context(), filepath.Join(old, "users.json", "state"), ann(t), nil); err == nil {
		t.Error("a folder within a file")
	}
}
