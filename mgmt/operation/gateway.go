package operation

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strconv"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	op "vita/mgmt/operational"
	"vita/mgmt/upgrade"
)

// Gateway is what the gateway's own operations act on.
type Gateway struct {
	Store    *datastore.Datastore
	Rekey    func(route string) error // begins an exchange on all queues of a route
	Clear    func()                   // makes all counters begin at zero
	Shutdown func()                   // ends the gateway in good order, soon
	Upgrade  *upgrade.Upgrader        // of an appliance
}

// Operations returns the operations of vita-esp-gateway-ext.
func (g Gateway) Operations() (*Set, error) {
	const module = "vita-esp-gateway-ext:"
	return New(map[string]Run{
		module + "rekey": func(_ context.Context, _ *datastore.Session, in Input) ([]*op.Node, error) {
			if err := g.Rekey(in["route"]); err != nil {
				return nil, bad("invalid-value", "route", "%v", err)
			}
			return nil, nil
		},
		module + "clear-counters": func(context.Context, *datastore.Session, Input) ([]*op.Node, error) {
			g.Clear()
			return nil, nil
		},
		module + "generate-key": func(context.Context, *datastore.Session, Input) ([]*op.Node, error) {
			var key [32]byte
			_, _ = rand.Read(key[:]) // it never fails
			return []*op.Node{op.Text("preshared-key", hex.EncodeToString(key[:]))}, nil
		},
		module + "shutdown": func(context.Context, *datastore.Session, Input) ([]*op.Node, error) {
			g.Shutdown()
			return nil, nil
		},
		module + "upgrade":        g.upgrade,
		module + "upgrade-status": g.upgradeStatus,
		module + "history":        g.history,
		module + "rollback": func(_ context.Context, who *datastore.Session, in Input) ([]*op.Node, error) {
			n, err := strconv.Atoi(in["commits"])
			if err != nil {
				return nil, bad("invalid-value", "commits", "%v", err)
			}
			return nil, g.Store.Rollback(who, n)
		},
	})
}

func (g Gateway) upgrade(ctx context.Context, _ *datastore.Session, in Input) ([]*op.Node, error) {
	version, err := g.Upgrade.Fetch(ctx, in["url"], upgrade.Options{Downgrade: in["downgrade"] == "true", Restart: in["restart"] == "true"})
	if err != nil {
		return nil, failed(err)
	}
	return []*op.Node{op.Text("version", version)}, nil
}

func (g Gateway) upgradeStatus(ctx context.Context, _ *datastore.Session, _ Input) ([]*op.Node, error) {
	a, err := g.Upgrade.Status(ctx)
	if err != nil {
		return nil, failed(err)
	}
	out := []*op.Node{op.Text("version", a.Version), op.Text("slot", a.Slot), op.Bool("trial", a.Trial)}
	if a.Upgraded != "" {
		out = append(out, op.Text("upgraded", a.Upgraded), op.Text("result", a.Result))
	}
	return out, nil
}

// failed is an operation that was understood and did not succeed.
func failed(err error) error {
	return &rpcerr.Error{Type: rpcerr.Application, Tag: "operation-failed", Message: err.Error()}
}

func (g Gateway) history(_ context.Context, who *datastore.Session, in Input) ([]*op.Node, error) {
	most, err := strconv.Atoi(in["most"])
	if err != nil {
		return nil, bad("invalid-value", "most", "%v", err)
	}
	all, err := g.Store.History(who, most)
	if err != nil {
		return nil, err
	}
	var out []*op.Node
	for _, r := range all {
		n := []*op.Node{
			op.Text("id", strconv.FormatUint(r.ID, 10)), op.Time("time", r.At), op.Text("user", r.User), op.Text("transport", r.Transport),
		}
		if r.Comment != "" {
			n = append(n, op.Text("comment", r.Comment))
		}
		if in["changes"] == "true" {
			for _, c := range r.Diff() {
				leafs := []*op.Node{op.Text("path", c.Path)}
				if c.HadOld {
					leafs = append(leafs, op.Text("old", c.Old))
				}
				if c.HasNew {
					leafs = append(leafs, op.Text("new", c.New))
				}
				n = append(n, op.ListEntry("change", 0, leafs...))
			}
		}
		out = append(out, op.ListEntry("commit", 1, n...))
	}
	return out, nil
}
