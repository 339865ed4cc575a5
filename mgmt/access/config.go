package access

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"vita/gen"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// Names of nodes of ietf-system.
const (
	Module = "ietf-system"
	Node   = "system"

	localUsers = "ietf-system:local-users"
	clear      = "$0$" // before a password in clear text
)

func refused(user, rest, format string, a ...any) error {
	return &rpcerr.Error{
		Type: rpcerr.Application, Tag: "invalid-value", Message: fmt.Sprintf(format, a...),
		Path: "/ietf-system:system/authentication/user[name=" + schema.Quote(user) + "]" + rest,
	}
}

// Prepare reads the users of a configuration, and returns what makes them those
// that may log in. It is a datastore's Follower.
//
// A configuration without any is refused where there are some: whoever replaces all
// of a configuration by one that was made for another gateway does not mean that.
func (u *Users) Prepare(root *gen.Vita) (publish func(), err error) {
	list, passwords, err := FromTree(root)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 && u.Len() > 0 {
		return nil, &rpcerr.Error{
			Type: rpcerr.Application, Tag: "operation-failed", Path: "/ietf-system:system/authentication/user",
			Message: "no user would be left to log in: keep one, or put ietf-system and ietf-netconf-acm into what replaces the configuration",
		}
	}
	return func() { u.Set(list, passwords) }, nil
}

// FromTree returns the users that a configuration has, and whether they may log in
// by password (RFC 7317: the leaf-list user-authentication-order).
func FromTree(root *gen.Vita) (list []User, passwords bool, err error) {
	if root.System == nil || root.System.Authentication == nil {
		return nil, false, nil
	}
	a := root.System.Authentication
	for _, e := range a.User {
		one := User{Name: *e.Name}
		if !userName.MatchString(one.Name) {
			return nil, false, refused(one.Name, "/name", "a user's name has 1 to 32 letters, digits, '.', '_' or '-', and does not start with a digit")
		}
		if e.Password != nil {
			one.PasswordHash = *e.Password
			if _, err := parseHash(one.PasswordHash); err != nil {
				return nil, false, refused(one.Name, "/password", "the hash is not one of argon2id: %v", err)
			}
		}
		for _, k := range e.AuthorizedKey {
			line, err := lineOf(k)
			if err != nil {
				return nil, false, refused(one.Name, "/authorized-key[name="+schema.Quote(*k.Name)+"]/key-data", "%v", err)
			}
			one.Keys = append(one.Keys, line)
		}
		slices.Sort(one.Keys)
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return list, slices.Contains(a.UserAuthenticationOrder, localUsers), nil
}

// lineOf returns a key as a line of authorized_keys.
func lineOf(k *gen.IETFSystem_System_Authentication_User_AuthorizedKey) (string, error) {
	if k.Algorithm == nil || k.KeyData == nil {
		return "", errors.New("the key has no algorithm or no data")
	}
	wire, err := base64.StdEncoding.DecodeString(*k.KeyData)
	if err != nil {
		return "", err
	}
	key, err := ssh.ParsePublicKey(wire)
	switch {
	case err != nil:
		return "", fmt.Errorf("it is no public key of SSH: %w", err)
	case key.Type() != *k.Algorithm:
		return "", fmt.Errorf("the key is of %s, not of %s", key.Type(), *k.Algorithm)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

// Seal makes a hash of a password that comes in clear text, so that nothing keeps
// it: path is the schema path of the leaf. Other values stay as they are. It is a
// datastore's Seal.
func Seal(leaf *schema.Node, value string) (string, error) {
	password, is := strings.CutPrefix(value, clear)
	if !is || leaf.Path() != "/ietf-system:system/authentication/user/password" {
		return value, nil
	}
	return HashPassword(password)
}

// Document returns a configuration with users, in JSON, whose members are those at
// the top of the data. They may log in by password.
func Document(list []User) ([]byte, error) {
	type key struct {
		Name      string `json:"name"`
		Algorithm string `json:"algorithm"`
		Data      string `json:"key-data"`
	}
	type user struct {
		Name     string `json:"name"`
		Password string `json:"password,omitempty"`
		Keys     []key  `json:"authorized-key,omitempty"`
	}
	var users []user
	for _, one := range list {
		out := user{Name: one.Name, Password: one.PasswordHash}
		for i, line := range one.Keys {
			k, err := parseKey(line)
			if err != nil {
				return nil, err
			}
			out.Keys = append(out.Keys, key{fmt.Sprintf("key%d", i+1), k.Type(), base64.StdEncoding.EncodeToString(k.Marshal())})
		}
		users = append(users, out)
	}
	return json.Marshal(map[string]any{"ietf-system:system": map[string]any{
		"authentication": map[string]any{"user-authentication-order": []string{localUsers}, "user": users},
	}})
}

// usersFile is where users were before they were in the configuration.
const usersFile = "users.json"

// Legacy returns the users of a state directory that an older version has made,
// none where it has no such file.
func Legacy(dir string) ([]User, error) {
	path := filepath.Join(dir, usersFile)
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read users: %w", err)
	}
	var list []User
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: restore it, or remove it and run vitad init again", path, err)
	}
	for _, one := range list {
		if err := one.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return list, nil
}

// LegacyDone puts that file aside, since the configuration has what was in it.
func LegacyDone(dir string) error {
	return os.Rename(filepath.Join(dir, usersFile), filepath.Join(dir, usersFile+".migrated"))
}
