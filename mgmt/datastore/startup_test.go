package datastore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"vita/mgmt/internal/edit"
	"vita/mgmt/nacm"
)

const startupDir = "VITA_TEST_STARTUP_DIR"

var web = &Session{User: "web", Transport: "restconf"}

func booted(t testing.TB, dir string) *Datastore {
	t.Helper()
	d, err := Open(Options{Dir: dir, Startup: true})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func again(t testing.TB, d *Datastore) *Datastore {
	t.Helper()
	dir := d.o.Dir
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return booted(t, dir)
}

func TestStartup(t *testing.T) {
	dir := t.TempDir()
	set := func(d *Datastore, s *Session, n int) {
		t.Helper()
		if err := d.Edit(ctx, s, Running, decode(t, mtu(n)), merge); err != nil {
			t.Fatal(err)
		}
	}
	// What there is when the option is given first is what there is to begin with.
	d := open(t, dir, nil)
	set(d, alice, 1000)
	if tag(d.Copy(ctx, alice, Running, Startup)) != "invalid-value" || tag(d.DeleteStartup(alice)) != "operation-not-supported" || d.HasStartup() {
		t.Error("a startup datastore without the option")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = booted(t, dir)
	is := func(what string, name Name, want string) {
		t.Helper()
		if got := xmlOf(t, d, name); got != want {
			t.Errorf("%s: %s is %s, want %s", what, name, got, want)
		}
	}
	is("first", Startup, mtu(1000))

	// Running is not kept, startup is.
	set(d, alice, 1100)
	is("before it is saved", Startup, mtu(1000))
	d = again(t, d)
	is("after a start", Running, mtu(1000))
	is("after a start", Candidate, mtu(1000))
	set(d, alice, 1200)
	set(d, alice, 1201)
	if err := d.Copy(ctx, alice, Running, Startup); err != nil {
		t.Fatal(err)
	}
	set(d, alice, 1300)
	d = again(t, d)
	is("saved", Running, mtu(1201))
	all, err := d.History(nil, 1)
	if err != nil || len(all) != 1 || !strings.Contains(all[0].Comment, "startup") {
		t.Errorf("%v %v", all, err)
	}

	// RESTCONF saves with each edit (RFC 8040 section 1.4), and with a commit.
	set(d, alice, 1400)
	set(d, web, 1500)
	is("by RESTCONF", Startup, mtu(1500))
	if err := d.Edit(ctx, web, Candidate, decode(t, mtu(1501)), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(ctx, web); err != nil {
		t.Fatal(err)
	}
	d = again(t, d)
	is("by RESTCONF", Running, mtu(1501))

	// Other copies.
	if err := d.Replace(ctx, alice, decode(t, private4), Startup); err != nil {
		t.Fatal(err)
	}
	is("replaced", Startup, private4)
	is("replaced", Running, mtu(1501))
	if err := d.Replace(ctx, alice, decode(t, `<private-interface4 xmlns="vita:esp-gateway"><ifname>x</ifname></private-interface4>`), Startup); tag(err) != "data-missing" {
		t.Errorf("an invalid one: %v", err)
	}
	is("after a refusal", Startup, private4)
	if err := d.Validate(ctx, nil, Startup); err != nil {
		t.Error(err)
	}
	if err := d.Copy(ctx, alice, Startup, Candidate); err != nil {
		t.Fatal(err)
	}
	is("copied", Candidate, private4)
	if err := d.Edit(ctx, alice, Candidate, decode(t, mtu(1)), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Copy(ctx, alice, Candidate, Startup); err != nil {
		t.Fatal(err)
	}
	is("from candidate", Startup, private4+mtu(1))
	if err := d.Copy(ctx, alice, Startup, Running); err != nil {
		t.Fatal(err)
	}
	is("to running", Running, private4+mtu(1))
	// After a copy of something else it is saved as a whole.
	if err := d.Replace(ctx, alice, decode(t, mtu(5)), Startup); err != nil {
		t.Fatal(err)
	}
	if err := d.Copy(ctx, alice, Running, Startup); err != nil {
		t.Fatal(err)
	}
	is("saved again", Startup, private4+mtu(1))

	// Locks.
	if err := d.Lock(bob, Startup); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"copy": d.Copy(ctx, alice, Running, Startup), "delete": d.DeleteStartup(alice), "replace": d.Replace(ctx, alice, decode(t, mtu(1)), Startup),
	} {
		if tag(err) != "in-use" {
			t.Errorf("%s while another has it locked: %v", what, err)
		}
	}
	d.Release(bob)
	if err := d.DeleteStartup(alice); err != nil {
		t.Fatal(err)
	}
	is("deleted", Startup, "")
	is("deleted", Running, private4+mtu(1))
	d = again(t, d)
	is("started with nothing", Running, "")

	// Without the option it begins with what was running.
	set(d, alice, 7)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, dir, nil)
	is("without the option", Running, mtu(7))
}

// TestStartupConfirmed: a start takes what waits to be confirmed back, as it does
// with all that is not saved.
func TestStartupConfirmed(t *testing.T) {
	d := booted(t, t.TempDir())
	if err := d.Edit(ctx, alice, Candidate, decode(t, mtu(1)), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Persist: "p", Timeout: time.Hour}); err != nil {
		t.Fatal(err)
	}
	// Saving does not confirm it, and it is still there to be taken back.
	if err := d.Copy(ctx, alice, Running, Startup); err != nil {
		t.Fatal(err)
	}
	if err := d.CancelCommit(alice, "p"); err != nil {
		t.Fatal(err)
	}
	if got := xmlOf(t, d, Running); got != "" {
		t.Errorf("running is %s", got)
	}
	d = again(t, d)
	defer d.Close()
	if got := xmlOf(t, d, Running); got != mtu(1) {
		t.Errorf("running is %s", got)
	}
	if err := d.CancelCommit(alice, "p"); tag(err) != "operation-failed" {
		t.Errorf("%v", err)
	}
}

// TestStartupIsWhatWasSaved: random changes, saved now and then by what has changed
// alone.
func TestStartupIsWhatWasSaved(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	d := booted(t, t.TempDir())
	defer func() { _ = d.Close() }()
	if err := d.Edit(ctx, alice, Running, decode(t, private4), merge); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		n := 1 + random.IntN(9)
		config := route4(n)
		switch random.IntN(4) {
		case 0:
			config = fmt.Sprintf(`<route4 xmlns="vita:esp-gateway" nc:operation="remove"><id>site%d</id></route4>`, n)
		case 1:
			config = mtu(1000 + n)
		case 2:
			config = `<mtu xmlns="vita:esp-gateway" nc:operation="remove"/>`
		}
		who := alice
		if random.IntN(5) == 0 {
			who = web
		}
		if err := d.Edit(ctx, who, Running, decode(t, config), merge); err != nil {
			t.Fatal(err)
		}
		if who == alice && random.IntN(3) > 0 {
			continue
		}
		if err := d.Copy(ctx, alice, Running, Startup); err != nil {
			t.Fatal(err)
		}
		if running, startup := xmlOf(t, d, Running), xmlOf(t, d, Startup); running != startup {
			t.Fatalf("running is\n%s\nstartup\n%s", running, startup)
		}
		if random.IntN(10) == 0 {
			d = again(t, d)
		}
	}
}

// TestStartupIsJudged: who may copy, and what.
func TestStartupIsJudged(t *testing.T) {
	d, err := Open(Options{Dir: t.TempDir(), Access: &nacm.Control{}, Startup: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	joe := &Session{ID: 7, User: "joe"}
	setRules(t, d, "", "permit create /vita-esp-gateway:mtu", "permit read")
	if err := d.Edit(ctx, rescue, Running, decode(t, private4), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Copy(ctx, joe, Running, Startup); err != nil { // nothing but the operation is asked for
		t.Error(err)
	}
	if err := d.Edit(ctx, joe, Candidate, decode(t, mtu(1)), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Copy(ctx, joe, Candidate, Startup); err != nil {
		t.Errorf("what he may create: %v", err)
	}
	if err := d.Replace(ctx, joe, decode(t, mtu(1)), Startup); tag(err) != "access-denied" {
		t.Errorf("what he may not delete: %v", err)
	}
}

// TestDamagedStartup: a file in which the startup configuration is damaged is as
// damaged as one in which the other is.
func TestDamagedStartup(t *testing.T) {
	dir := t.TempDir()
	d := booted(t, dir)
	if err := d.Edit(ctx, web, Running, decode(t, mtu(1234)), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(dir, primaryFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketStartup).Put([]byte("/vita-esp-gateway:mtu"), []byte("4321"))
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	d = booted(t, dir)
	defer d.Close()
	if got := xmlOf(t, d, Running); got != mtu(1234) {
		t.Errorf("running is %s", got)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "*.corrupt-*"))
	if err != nil || len(aside) != 1 {
		t.Errorf("%v %v", aside, err)
	}
}

// saveForever is the child of TestStartupKill: commit n makes mtu n, and every
// third is saved.
func saveForever(dir string) error {
	d, err := Open(Options{Dir: dir, Startup: true})
	if err != nil {
		return err
	}
	t := &testing.T{}
	first := 0
	if _, err := fmt.Sscanf(xmlOf(t, d, Running), `<mtu xmlns="vita:esp-gateway">%d</mtu>`, &first); err != nil && xmlOf(t, d, Running) != "" {
		return err
	}
	fmt.Println("ready")
	for n := first + 1; ; n++ {
		if n%3 == 0 {
			fmt.Println("begin", n)
		}
		who := alice
		if n%6 == 0 {
			who = web
		}
		if err := d.Edit(ctx, who, Running, decode(t, mtu(n)), EditOptions{Default: edit.Replace}); err != nil {
			return err
		}
		if n%6 == 3 {
			if err := d.Copy(ctx, alice, Running, Startup); err != nil {
				return err
			}
		}
		if n%3 == 0 {
			fmt.Println("confirmed", n)
		}
	}
}

// TestStartupKill: what was saved is there after kill -9, whole.
func TestStartupKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 30 {
		cmd := exec.Command(self, "-test.run=^$")
		cmd.Env = append(os.Environ(), startupDir+"="+dir)
		began, confirmed := runChild(t, cmd, time.Duration(1+random.IntN(30_000))*time.Microsecond)
		d := booted(t, dir)
		n := 0
		got := xmlOf(t, d, Running)
		if got != "" {
			if _, err := fmt.Sscanf(got, `<mtu xmlns="vita:esp-gateway">%d</mtu>`, &n); err != nil {
				t.Fatalf("round %d: %v: %s", round, err, got)
			}
		}
		if n%3 != 0 || confirmed > 0 && n < confirmed || began > 0 && n > began {
			t.Fatalf("round %d: it begins with %d, %d was saved, %d was begun", round, n, confirmed, began)
		}
		if startup := xmlOf(t, d, Startup); startup != got {
			t.Fatalf("round %d: startup is %s, running %s", round, startup, got)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
