// Package setup writes the first configuration of a gateway: who may log in, and
// what they may do.
package setup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"vita/mgmt/access"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/yangenc"

	"vita/gen"
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
