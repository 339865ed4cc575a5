package setup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
