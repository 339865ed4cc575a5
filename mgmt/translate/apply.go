package translate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/gen"
	"vita/keying/keeper"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/beside"
	"vita/mgmt/internal/rpcerr"
)

// retireTime bounds the wait for workers to leave the tables of the last
// commit. They do so within one batch; only a stuck engine takes longer.
const retireTime = 10 * time.Second

// Applier applies configurations to an engine and a keeper. It is the
// datastore's way to both.
type Applier struct {
	engine *client.Client
	keeper *keeper.Keeper
	log    *slog.Logger

	live     *tables.Spec // what is in force, without routes; nil: nothing is, by us
	retiring sync.WaitGroup
}

// NewApplier returns an Applier.
func NewApplier(engine *client.Client, k *keeper.Keeper, log *slog.Logger) *Applier {
	return &Applier{engine: engine, keeper: k, log: log}
}

// Prepare does everything that may fail. Where nothing but some routes has
// changed it makes that change ready, whose cost does not follow from how many
// there are; else it opens ports and builds the tables beside the live ones.
// What it returns is published or aborted.
func (a *Applier) Prepare(ctx context.Context, root *gen.Vita, changes datastore.Journal) (datastore.Prepared, error) {
	p, err := a.prepareChange(ctx, root, changes)
	if err == nil || !errors.Is(err, tables.ErrRebuild) {
		return p, err
	}
	spec, err := Spec(root)
	if err != nil {
		return nil, err
	}
	a.retiring.Wait() // until then the idle tables are not idle
	var keys keeper.Config
	var engine *client.Prepared
	var failed error
	done := false
	defer func() {
		if !done && engine != nil {
			engine.Abort()
		}
	}()
	beside.Do(2, func(part int) {
		if part == 0 {
			keys, err = Keying(root, spec)
		} else {
			engine, failed = a.engine.Prepare(ctx, spec)
		}
	})
	if err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, engineError(spec, failed)
	}
	done = true
	live := *spec
	live.Routes = nil
	return &prepared{a, engine, func() {
		a.keeper.Configure(keys)
		a.live = &live
		if keys.DataPlane { // static SAs come and go with routes: those are for Configure
			a.live = nil
		}
	}}, nil
}

// Wait returns once no published change is left to retire.
func (a *Applier) Wait() { a.retiring.Wait() }

type prepared struct {
	a    *Applier
	p    *client.Prepared
	keys func() // tells the keeper
}

// Publish makes the change live. The routes are there before keys for them
// are negotiated.
func (p *prepared) Publish() {
	p.p.Publish()
	p.keys()
	p.a.retiring.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), retireTime)
		defer cancel()
		if err := p.p.Retire(ctx); err != nil {
			p.a.log.Error("the engine has not left the tables of the last commit", "error", err)
		}
	})
}

// Abort forgets the change.
func (p *prepared) Abort() { p.p.Abort() }

// engineError gives an engine's refusal the path of the interface it is about.
func engineError(s *tables.Spec, err error) error {
	e := &rpcerr.Error{Type: "application", Tag: "operation-failed", Message: err.Error()}
	if pe, ok := errors.AsType[*client.PortError](err); ok {
		e.Path = linkPath(s, pe.Link)
		if errors.Is(err, client.ErrBusy) {
			e.Tag = "resource-denied"
		}
	}
	return e
}

func linkPath(s *tables.Spec, l tables.Link) string {
	leaf := "ifname"
	if l.PCI != "" {
		leaf = "pci"
	}
	if s.Private == nil {
		return ""
	}
	digit := "4"
	if !s.Private.IP.Is4() {
		digit = "6"
	}
	if s.Private.Link == l {
		return "/" + module + ":private-interface" + digit + "/" + leaf
	}
	for _, p := range s.Public {
		if p.Link == l {
			return fmt.Sprintf("/%s:public-interface%s[ip='%s']/%s", module, digit, p.IP, leaf)
		}
	}
	return ""
}
