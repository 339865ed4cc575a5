package access

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"vita/gen"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/yangenc"
)

func withUser(name string, password *string, keys ...*gen.IETFSystem_System_Authentication_User_AuthorizedKey) *gen.Vita {
	u := &gen.IETFSystem_System_Authentication_User{Name: &name, Password: password, AuthorizedKey: map[string]*gen.IETFSystem_System_Authentication_User_AuthorizedKey{}}
	for _, k := range keys {
		u.AuthorizedKey[*k.Name] = k
	}
	return &gen.Vita{System: &gen.IETFSystem_System{Authentication: &gen.IETFSystem_System_Authentication{
		User: map[string]*gen.IETFSystem_System_Authentication_User{name: u}, UserAuthenticationOrder: []string{localUsers},
	}}}
}

func keyOf(name, algorithm string, data []byte) *gen.IETFSystem_System_Authentication_User_AuthorizedKey {
	text := base64.StdEncoding.EncodeToString(data)
	return &gen.IETFSystem_System_Authentication_User_AuthorizedKey{Name: &name, Algorithm: &algorithm, KeyData: &text}
}

func TestUsersOfATree(t *testing.T) {
	key, line := newKey(t)
	hash, err := HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	u := NewUsers()
	var gone []string
	u.OnGone(func(names []string) { gone = append(gone, names...) })
	set := func(root *gen.Vita) error {
		publish, err := u.Prepare(root)
		if err == nil {
			publish()
		}
		return err
	}
	if err := set(withUser("ann", &hash, keyOf("k", "ssh-ed25519", key.Marshal()))); err != nil {
		t.Fatal(err)
	}
	if !u.AcceptsKey("ann", key) || !u.AcceptsPassword("ann", "correct horse", "a") || u.AcceptsPassword("ann", "wrong horse!", "a") {
		t.Error("ann is not who she is")
	}
	// Another password: what is remembered of the old one is forgotten.
	other, err := HashPassword("another horse")
	if err != nil {
		t.Fatal(err)
	}
	if err := set(withUser("ann", &other)); err != nil {
		t.Fatal(err)
	}
	if u.AcceptsPassword("ann", "correct horse", "a") || !u.AcceptsPassword("ann", "another horse", "a") || u.AcceptsKey("ann", key) || gone != nil {
		t.Error("the old password or key is accepted")
	}
	without := withUser("ann", &other)
	without.System.Authentication.UserAuthenticationOrder = nil
	if err := set(without); err != nil {
		t.Fatal(err)
	}
	if u.AcceptsPassword("ann", "another horse", "a") {
		t.Error("a password is accepted although local-users is not in the order")
	}
	if err := set(withUser("bob", nil)); err != nil || len(gone) != 1 || gone[0] != "ann" || u.Has("ann") || !u.Has("bob") {
		t.Errorf("%v, gone: %v", err, gone)
	}
	short := "$argon2id$v=19$m=1,t=1,p=1$AAAAAAAAAAA$" + strings.Repeat("A", 43)
	for path, root := range map[string]*gen.Vita{
		"/ietf-system:system/authentication/user[name='a b']/name":                             withUser("a b", nil),
		"/ietf-system:system/authentication/user[name='c']/password":                           withUser("c", &short),
		"/ietf-system:system/authentication/user[name='d']/authorized-key[name='k']/key-data":  withUser("d", nil, keyOf("k", "ssh-rsa", key.Marshal())),
		"/ietf-system:system/authentication/user[name='e']/authorized-key[name='k2']/key-data": withUser("e", nil, keyOf("k2", "ssh-ed25519", []byte("nonsense"))),
		"/ietf-system:system/authentication/user":                                              {},
	} {
		err := set(root)
		if e, ok := errors.AsType[*rpcerr.Error](err); !ok || e.Path != path {
			t.Errorf("%v, want %s", err, path)
		}
	}
	if !u.Has("bob") {
		t.Error("a refusal has changed the users")
	}
	// The document that init writes says the same.
	text, err := Document([]User{{Name: "ann", Keys: []string{line}, PasswordHash: hash}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := yangenc.DecodeJSON(text, nil); err != nil || !bytes.Contains(text, []byte(`"algorithm":"ssh-ed25519"`)) {
		t.Errorf("%v: %s", err, text)
	}
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || !bytes.Contains(text, []byte(base64.StdEncoding.EncodeToString(k.Marshal()))) {
		t.Errorf("%v: %s", err, text)
	}
}

func TestSeal(t *testing.T) {
	find := func(path ...string) *schema.Node {
		n := schema.Root()
		for _, name := range path {
			for _, c := range n.Children {
				if c.Name == name {
					n = c
					break
				}
			}
		}
		return n
	}
	leaf := find("system", "authentication", "user", "password")
	v, err := Seal(leaf, "$0$correct horse")
	if err != nil || strings.Contains(v, "correct") {
		t.Fatalf("%q %v", v, err)
	}
	if _, err := leaf.Type.Canonical(v); err != nil {
		t.Errorf("the hash is not of the leaf's type: %v", err)
	}
	h, err := parseHash(v)
	if err != nil || !bytes.Equal(h.compute("correct horse"), h.sum) {
		t.Errorf("%q is not its hash: %v", v, err)
	}
	for _, same := range []string{v, "", "$1$x$y"} {
		if got, err := Seal(leaf, same); err != nil || got != same {
			t.Errorf("%q becomes %q, %v", same, got, err)
		}
	}
	if got, err := Seal(find("system", "contact"), "$0$not a password"); err != nil || got != "$0$not a password" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := Seal(leaf, "$0$short"); err == nil || strings.Contains(err.Error(), "$0$") {
		t.Error(err)
	}
	for _, refused := range []string{"clear text", "$0$short", "$1$abc$" + strings.Repeat("x", 22), "$5$abc$" + strings.Repeat("x", 43), "$6$abc$" + strings.Repeat("x", 86)} {
		if _, err := leaf.Type.Canonical(refused); err == nil {
			t.Errorf("%s is taken", refused)
		} else if strings.Contains(err.Error(), refused) {
			t.Errorf("the password is in %v", err)
		}
	}
}

func TestLegacy(t *testing.T) {
	dir := t.TempDir()
	if list, err := Legacy(dir); list != nil || err != nil {
		t.Fatal(list, err)
	}
	_, line := newKey(t)
	path := filepath.Join(dir, usersFile)
	if err := os.WriteFile(path, []byte(`[{"name": "old", "authorized-keys": ["`+line+`"]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := Legacy(dir)
	if err != nil || len(list) != 1 || list[0].Name != "old" || list[0].Keys[0] != line {
		t.Fatal(list, err)
	}
	if err := LegacyDone(dir); err != nil {
		t.Fatal(err)
	}
	if list, err := Legacy(dir); list != nil || err != nil {
		t.Error(list, err)
	}
}
