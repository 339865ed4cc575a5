package translate

import (
	"context"
	"errors"

	"vita/forwarding/tables"
	"vita/gen"
	"vita/keying/keeper"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
)

// mostChanged is how many routes are changed one by one. More of them are as
// fast to build anew, and then come into force all at once.
const mostChanged = 256

// changedRoutes returns the ids of the routes that changes are about, or false
// where they are about anything else, too many, or nothing is known of them.
func (a *Applier) changedRoutes(m *model, changes datastore.Journal) (ids []string, ok bool) {
	if a.live == nil || len(changes) == 0 {
		return nil, false
	}
	seen := map[string]bool{}
	for i := range changes {
		p := changes[i].Place
		for p != nil && p.Parent != nil {
			p = p.Parent
		}
		if p == nil || p.Node.Name != "route"+m.digit || len(p.Keys) != 1 {
			return nil, false
		}
		if id := p.Keys[0]; !seen[id] {
			if len(ids) == mostChanged {
				return nil, false
			}
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids, true
}

// prepareChange makes a change of some routes ready. It fails with
// tables.ErrRebuild where that is not possible.
func (a *Applier) prepareChange(ctx context.Context, root *gen.Vita, changes datastore.Journal) (datastore.Prepared, error) {
	m := family(root)
	ids, ok := a.changedRoutes(&m, changes)
	if !ok {
		return nil, tables.ErrRebuild
	}
	change := new(tables.Change)
	var keys []keeper.Route
	var gone []string
	for _, id := range ids {
		r, ok := m.route(id)
		if !ok {
			gone = append(gone, id)
			continue
		}
		t, err := m.tunnel(a.live, id, r)
		if err != nil {
			return nil, err
		}
		k, err := m.keyed(&t, r.psk)
		if err != nil {
			return nil, err
		}
		change.Set, keys = append(change.Set, t), append(keys, k)
	}
	a.retiring.Wait() // until then what the last change took out of use is not free
	for _, id := range gone {
		if a.engine.HasRoute(id) { // else it came and went before it was committed
			change.Remove = append(change.Remove, id)
		}
	}
	p, err := a.engine.PrepareChange(ctx, change)
	if err != nil {
		return nil, m.changeError(change, err)
	}
	return &prepared{a, p, func() { a.keeper.Change(keys, change.Remove) }}, nil
}

// changeError gives a refusal the path of the net that it is about.
func (m *model) changeError(c *tables.Change, err error) error {
	if ne, ok := errors.AsType[*tables.NetError](err); ok {
		for i := range c.Set {
			if c.Set[i].ID == ne.Route {
				r, _ := m.route(ne.Route)
				return m.netTaken(ne.Route, r, c.Set[i].Nets, ne.Net, ne.Owner)
			}
		}
	}
	if errors.Is(err, tables.ErrRebuild) {
		return err
	}
	return &rpcerr.Error{Type: "application", Tag: "operation-failed", Message: err.Error()}
}
