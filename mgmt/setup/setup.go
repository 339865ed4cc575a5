// Package setup writes the first configuration of a gateway: who may log in, and
// what they may do.
package setup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"vita/mgmt/access"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/yangenc"

	"vita/gen"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
)

// ErrHasUsers says that a gateway has users already.
var ErrHasUsers = errors.New("there are users already")

// rules let the members of the group admin do everything. Others may do what the
// defaults of the model say: read what is not sensitive.
func rules(admins []string) map[string]any {
	return map[string]any{"ietf-netconf-acm:nacm": map[string]any{
		"groups": map[string]any{"group": []any{map[string]any{"name": "admin", "user-name": admins}}},
		"rule-list": []any{map[string]any{
			"name": "admin", "group": []string{"admin"},
			"rule": []any{map[string]any{
				"name": "everything", "module-name": "*", "access-operations": "*", "action": "permit",
				"comment": "Administrators may do everything.",
			}},
		}},
	}}
}

// First makes users, all of them administrators, in a configuration that has none.
func First(ctx context.Context, store *datastore.Datastore, users []access.User) error {
	has := false
	err := store.Read(datastore.Running, nil, func(root *gen.Vita) error {
		has = root.System != nil && root.System.Authentication != nil && len(root.System.Authentication.User) > 0
		return nil
	})
	switch {
	case err != nil:
		return err
	case has:
		return ErrHasUsers
	}
	document, err := access.Document(users)
	if err != nil {
		return err
	}
	var names []string
	for _, u := range users {
		names = append(names, u.Name)
	}
	acl, err := json.Marshal(rules(names))
	if err != nil {
		return err
	}
	var edits []*edit.Node
	for _, text := range [][]byte{document, acl} {
		e, err := yangenc.DecodeJSON(text, nil)
		if err != nil {
			return err
		}
		edits = append(edits, e)
	}
	return store.Edits(ctx, &datastore.Session{User: "vitad", Recovery: true}, datastore.Running, edits, datastore.EditOptions{Default: edit.Merge})
}

// Unfinished is what the name of a state directory that is being made ends with.
const Unfinished = ".new"

// Make makes the state of a gateway: its first administrator, and the identity of
// its servers, of which it returns the host key. What authorities have issued lets
// clients in, unless clientCA is nil.
//
// A directory that is not there yet is made whole or not at all, and durable: a
// power cut leaves nothing but one that the next attempt removes. In one that is
// there, certificates of the operator may be; what an attempt has left of it the
// next one goes on with.
func Make(ctx context.Context, dir string, admin access.User, clientCA []byte) (ssh.Signer, error) {
	dir = filepath.Clean(dir)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return fill(ctx, dir, admin, clientCA)
	}
	fresh, parent := dir+Unfinished, filepath.Dir(dir)
	if err := os.RemoveAll(fresh); err != nil {
		return nil, err
	}
	if err := errors.Join(os.MkdirAll(parent, 0o700), os.Mkdir(fresh, 0o700)); err != nil {
		return nil, err
	}
	key, err := fill(ctx, fresh, admin, clientCA) // which makes each file durable, and its name
	if err == nil {
		err = os.Rename(fresh, dir)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(fresh))
	}
	return key, syncFolder(parent)
}

// fill makes the state in a directory that has no users. They come last.
func fill(ctx context.Context, dir string, admin access.User, clientCA []byte) (ssh.Signer, error) {
	if old, err := access.Legacy(dir); err != nil {
		return nil, err
	} else if len(old) > 0 {
		return nil, ErrHasUsers
	}
	if clientCA != nil {
		if err := access.StoreClientCA(dir, clientCA); err != nil {
			return nil, err
		}
	}
	var key ssh.Signer
	var store *datastore.Datastore
	var all errgroup.Group // each of them waits for the disk, several times
	all.Go(func() (err error) { key, err = access.HostKey(dir); return err })
	all.Go(func() error { _, err := access.Certificate(dir); return err })
	all.Go(func() (err error) {
		// A user whom no gateway takes must not be in the first configuration of one.
		users := datastore.Follower{Module: access.Module, Name: access.Node, Prepare: access.NewUsers().Prepare}
		store, err = datastore.Open(datastore.Options{Dir: dir, Followers: []datastore.Follower{users}})
		return err
	})
	err := all.Wait()
	if store == nil {
		return nil, err
	}
	if err == nil {
		err = First(ctx, store, []access.User{admin})
	}
	return key, errors.Join(err, store.Close())
}

func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Migrate takes over the users of a state directory that an older version has made,
// and puts their file aside. What they could do they still can: they are all
// administrators. It returns how many there were.
func Migrate(ctx context.Context, store *datastore.Datastore, dir string) (int, error) {
	old, err := access.Legacy(dir)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	if err := First(ctx, store, old); err != nil && !errors.Is(err, ErrHasUsers) {
		return 0, fmt.Errorf("take over the users: %w", err)
	}
	return len(old), access.LegacyDone(dir)
}
