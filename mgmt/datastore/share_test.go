package datastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/yangenc"
)

// TestRunningIsItsOwn edits at random, commits some of it and takes other of it
// back. Running and candidate have most entries in common: whatever becomes of
// candidate, running must be what the file says, which was written by journals
// alone.
func TestRunningIsItsOwn(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	a := &watching{applier: &applier{}}
	d := open(t, t.TempDir(), a)
	if err := d.Edit(ctx, alice, Running, decode(t, private4+public4), merge); err != nil {
		t.Fatal(err)
	}
	const routes = 12
	operations := []string{"", "", "", "merge", "replace", "create", "delete", "remove"}
	op := func() string {
		if o := operations[r.IntN(len(operations))]; o != "" {
			return ` nc:operation="` + o + `"`
		}
		return ""
	}
	gateway := func() string {
		return fmt.Sprintf(`<gateway%s><queue>%d</queue><ip>203.0.113.%d</ip></gateway>`, op(), 1+r.IntN(3), 2+r.IntN(5))
	}
	route := func() string {
		n := r.IntN(routes)
		whole := fmt.Sprintf(`<spi>%d</spi><preshared-key>%064x</preshared-key><net>10.1.%d.0/24</net>`, 1000+n, r.IntN(4), n)
		if r.IntN(4) == 0 {
			whole = fmt.Sprintf(`<net>10.1.%d.0/24</net>`, r.IntN(routes))
		}
		return fmt.Sprintf(`<route4 xmlns="vita:esp-gateway"%s><id>site%d</id>%s%s</route4>`, op(), n, whole, gateway())
	}
	config := func() string {
		var b strings.Builder
		seen := map[string]bool{}
		for range 1 + r.IntN(4) {
			one := route()
			id, _, _ := strings.Cut(one, "</id>")
			id = id[strings.Index(id, "<id>"):]
			if !seen[id] {
				seen[id] = true
				b.WriteString(one)
			}
		}
		if r.IntN(5) == 0 {
			fmt.Fprintf(&b, `<mtu xmlns="vita:esp-gateway">%d</mtu>`, 1300+r.IntN(100))
		}
		return b.String()
	}
	running := xmlOf(t, d, Running)
	a.look = func() {
		if now := xmlOf(t, d, Running); now != running {
			t.Fatalf("running has changed before the commit\n%s\n%s", running, now)
		}
	}
	commits, refused := 0, 0
	for i := range 6000 {
		var err error
		changed := false // running may be
		what := r.IntN(24)
		a.fail = nil
		if r.IntN(3) == 0 {
			a.fail = errors.New("no")
		}
		switch {
		case what < 10:
			err = d.Edit(ctx, alice, Candidate, decode(t, config()), EditOptions{Default: []edit.Op{edit.Merge, edit.Merge, edit.Merge, edit.None}[r.IntN(4)]})
		case what < 12:
			err, changed = d.Edit(ctx, alice, Running, decode(t, config()), merge), true
		case what < 14:
			err = d.Edit(ctx, alice, Candidate, decode(t, config()), EditOptions{Default: edit.Merge, Test: TestOnly})
		case what < 15:
			err = d.Discard(alice)
		case what < 16:
			err = d.Rollback(alice, 1)
		case what < 18: // to be confirmed
			err, changed = d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: time.Hour}), true
		case what < 21:
			err, changed = d.CancelCommit(alice, ""), true
		default:
			err, changed = d.Commit(ctx, alice), true
		}
		now := xmlOf(t, d, Running)
		if err != nil {
			refused++
		}
		if now != running && (!changed || err != nil) {
			t.Fatalf("step %d, operation %d, error %v: running has changed\n%s\n%s", i, what, err, running, now)
		}
		if now != running {
			commits++
		}
		running = now
		if stored := stored(t, d); stored != running {
			t.Fatalf("step %d, operation %d, error %v: running is not what is stored\n%s\n%s", i, what, err, running, stored)
		}
	}
	if commits < 100 || refused < 100 {
		t.Errorf("%d commits, %d refused: the test tries too little", commits, refused)
	}
}

// watching is an applier that looks before it prepares.
type watching struct {
	*applier
	look func()
}

func (w *watching) Prepare(ctx context.Context, root *gen.Vita, j Journal) (Prepared, error) {
	if w.look != nil {
		w.look()
	}
	return w.applier.Prepare(ctx, root, j)
}

// stored returns the configuration in the primary file.
func stored(t *testing.T, d *Datastore) string {
	t.Helper()
	d.change.Lock()
	defer d.change.Unlock()
	tree := &gen.Vita{}
	f := &file{path: d.store.primary.path, db: d.store.primary.db}
	tx, err := f.db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := f.load(tx, tree); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := yangenc.EncodeXML(&b, tree, yangenc.Opts{Content: yangenc.ContentConfig, Secrets: true}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
