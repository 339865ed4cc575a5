// Package access knows who may log in: users with SSH public keys and password
// hashes, and the server's own SSH host key and TLS certificate.
//
// Users are those of ietf-system's authentication subtree (RFC 7317) in the
// running configuration: config.go takes them over with each commit. The package
// knows no protocol: NETCONF and RESTCONF ask it about credentials and decide
// nothing themselves. What a user may do once inside is not decided here either.
package access

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// ErrUserExists says that there is a user of the name.
var ErrUserExists = errors.New("user exists already")

// User is one account.
type User struct {
	Name         string   `json:"name"`
	Keys         []string `json:"authorized-keys,omitempty"` // authorized_keys lines, options refused
	PasswordHash string   `json:"password-hash,omitempty"`   // PHC string, argon2id
}

// Users is the set of accounts. It is safe for concurrent use.
type Users struct {
	throttle throttle
	turns    turns

	mu        sync.RWMutex
	users     []User
	passwords bool   // log-ins by password are on
	verified  *cache // of the passwords that the users have now
	gone      []func(names []string)
}

// NewUsers returns a set of accounts.
func NewUsers(list ...User) *Users { return &Users{users: list, passwords: true, verified: &cache{}} }

// userName is what POSIX shells and every SSH client take without quoting.
var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)

func (u User) check() error {
	if !userName.MatchString(u.Name) {
		return fmt.Errorf("user name %q: want 1 to 32 letters, digits, '.', '_' or '-', not starting with a digit", u.Name)
	}
	for i, line := range u.Keys {
		if _, err := parseKey(line); err != nil {
			return fmt.Errorf("user %s: key %d: %w", u.Name, i+1, err)
		}
	}
	if u.PasswordHash != "" {
		if _, err := parseHash(u.PasswordHash); err != nil {
			return fmt.Errorf("user %s: password hash: %w", u.Name, err)
		}
	}
	if len(u.Keys) == 0 && u.PasswordHash == "" {
		return fmt.Errorf("user %s has neither a key nor a password", u.Name)
	}
	return nil
}

// parseKey reads one authorized_keys line. Options such as command="" would
// promise restrictions that this server does not have, so they are refused.
func parseKey(line string) (ssh.PublicKey, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return nil, fmt.Errorf("not an SSH public key: %w", err)
	case len(options) > 0:
		return nil, fmt.Errorf("options (%s) are not supported", options[0])
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("more than one key in a line")
	}
	return key, nil
}

// ParseKeys returns the keys of an authorized_keys or .pub file, a line each.
func ParseKeys(file []byte) ([]string, error) {
	var keys []string
	for line := range strings.SplitSeq(string(file), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, err := parseKey(line); err != nil {
			return nil, fmt.Errorf("key %d: %w", len(keys)+1, err)
		}
		keys = append(keys, line)
	}
	if len(keys) == 0 {
		return nil, errors.New("no SSH public key in it")
	}
	return keys, nil
}

// Add makes one more account.
func (u *Users) Add(n User) error {
	if err := n.check(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if slices.ContainsFunc(u.users, func(o User) bool { return o.Name == n.Name }) {
		return fmt.Errorf("user %s: %w", n.Name, ErrUserExists)
	}
	u.users = append(slices.Clone(u.users), n)
	return nil
}

// Set makes others the accounts. passwords says whether there are log-ins by
// password at all. Sessions of users who are gone end.
func (u *Users) Set(list []User, passwords bool) {
	u.mu.Lock()
	var gone []string
	for _, o := range u.users {
		if !slices.ContainsFunc(list, func(n User) bool { return n.Name == o.Name }) {
			gone = append(gone, o.Name)
		}
	}
	u.users, u.passwords, u.verified = list, passwords, &cache{}
	tell := u.gone
	u.mu.Unlock()
	if len(gone) > 0 {
		for _, fn := range tell {
			fn(gone)
		}
	}
}

// OnGone has fn told the names of users who are no more. It must not wait.
func (u *Users) OnGone(fn func(names []string)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gone = append(slices.Clip(u.gone), fn)
}

// Len returns how many accounts there are.
func (u *Users) Len() int {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return len(u.users)
}

// Has says whether there is a user of a name.
func (u *Users) Has(name string) bool {
	_, ok := u.find(name)
	return ok
}

func (u *Users) find(name string) (User, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	i := slices.IndexFunc(u.users, func(o User) bool { return o.Name == name })
	if i < 0 {
		return User{}, false
	}
	return u.users[i], true
}

// AcceptsKey reports whether key is one of the user's.
func (u *Users) AcceptsKey(name string, key ssh.PublicKey) bool {
	one, ok := u.find(name)
	if !ok {
		return false
	}
	wire := key.Marshal()
	return slices.ContainsFunc(one.Keys, func(line string) bool {
		k, err := parseKey(line)
		return err == nil && bytes.Equal(k.Marshal(), wire)
	})
}

// writeFile replaces a file so that a crash leaves the old or the new one
// whole; only the owner can read it.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once the rename has happened, as it should
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
