package datastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
)

const (
	netconf = "urn:ietf:params:xml:ns:netconf:base:1.0"

	private4 = `<private-interface4 xmlns="vita:esp-gateway"><ifname>eth0</ifname><ip>192.168.10.1</ip><nexthop-ip>192.168.10.254</nexthop-ip></private-interface4>`
	public4  = `<public-interface4 xmlns="vita:esp-gateway"><ip>203.0.113.1</ip><ifname>eth1</ifname><nexthop-ip>203.0.113.254</nexthop-ip></public-interface4>`
)

// route4 is a valid route with number n.
func route4(n int) string {
	return fmt.Sprintf(`<route4 xmlns="vita:esp-gateway"><id>site%d</id><spi>%d</spi><preshared-key>%064x</preshared-key><net>10.%d.%d.0/24</net><gateway><ip>203.0.113.2</ip></gateway></route4>`,
		n, 1000+n, n, n/256, n%256)
}

// decode makes an edit of the XML within a <config>; nc: is NETCONF's namespace.
func decode(t testing.TB, config string) *edit.Node {
	t.Helper()
	e, err := xmltree.Parse([]byte(`<config xmlns="`+netconf+`" xmlns:nc="`+netconf+`">`+config+`</config>`), xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := yangenc.DecodeXML(e)
	if err != nil {
		t.Fatalf("%v in %.200s", err, config)
	}
	return n
}

func xmlOf(t testing.TB, d *Datastore, name Name) string {
	t.Helper()
	var b bytes.Buffer
	err := d.Read(name, nil, func(root *gen.Vita) error {
		return yangenc.EncodeXML(&b, root, yangenc.Opts{Content: yangenc.ContentConfig, Secrets: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// applier records what is applied, and fails when told to.
type applier struct {
	sync.Mutex
	fail               error
	prepared, inForce  string
	published, aborted int
}

func (a *applier) Prepare(_ context.Context, root *gen.Vita, _ Journal) (Prepared, error) {
	a.Lock()
	defer a.Unlock()
	if a.fail != nil {
		return nil, a.fail
	}
	var b bytes.Buffer
	if err := yangenc.EncodeXML(&b, root, yangenc.Opts{Secrets: true}); err != nil {
		return nil, err
	}
	a.prepared = b.String()
	return a, nil
}

func (a *applier) Publish() {
	a.Lock()
	defer a.Unlock()
	a.inForce = a.prepared
	a.published++
}

func (a *applier) Abort() {
	a.Lock()
	defer a.Unlock()
	a.aborted++
}

func open(t testing.TB, dir string, a Applier) *Datastore {
	t.Helper()
	d, err := Open(Options{Dir: dir, Applier: a})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // some tests close it themselves
	return d
}

func tag(err error) string {
	if e, ok := errors.AsType[*rpcerr.Error](err); ok {
		return e.Tag
	}
	return fmt.Sprint(err)
}

var (
	ctx   = context.Background()
	alice = &Session{ID: 1, User: "alice"}
	bob   = &Session{ID: 2, User: "bob"}
	merge = EditOptions{Default: edit.Merge}
)

func TestCommit(t *testing.T) {
	a := &applier{}
	dir := t.TempDir()
	d := open(t, dir, a)
	if err := d.Start(ctx); err != nil || a.published != 1 || a.inForce != "" {
		t.Fatalf("start with nothing: %v, %+v", err, a)
	}
	// In several steps, of which the first ones leave candidate invalid.
	for _, config := range []string{route4(1), public4, private4} {
		if err := d.Edit(ctx, alice, Candidate, decode(t, config), merge); err != nil {
			t.Fatal(err)
		}
		if xmlOf(t, d, Running) != "" {
			t.Fatal("running has changed before the commit")
		}
	}
	want := private4 + public4 + route4(1)
	if got := xmlOf(t, d, Candidate); got != want {
		t.Fatalf("candidate\n%s\nwant\n%s", got, want)
	}
	if err := d.Validate(ctx, nil, Candidate); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if got := xmlOf(t, d, Running); got != want || a.inForce != want {
		t.Fatalf("running\n%s\nin force\n%s\nwant\n%s", got, a.inForce, want)
	}
	if err := d.Commit(ctx, alice); err != nil || a.published != 2 {
		t.Errorf("a commit of nothing: %v, published %d times", err, a.published)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	b := &applier{}
	d = open(t, dir, b)
	if got := xmlOf(t, d, Running); got != want {
		t.Errorf("after reopening\n%s\nwant\n%s", got, want)
	}
	if err := d.Start(ctx); err != nil || b.inForce != want {
		t.Errorf("start: %v, in force\n%s", err, b.inForce)
	}
}

func TestCommitInvalid(t *testing.T) {
	a := &applier{}
	d := open(t, t.TempDir(), a)
	if err := d.Edit(ctx, alice, Candidate, decode(t, route4(1)), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(ctx, nil, Candidate); tag(err) != "data-missing" {
		t.Errorf("validate: %v", err)
	}
	if err := d.Commit(ctx, alice); tag(err) != "data-missing" {
		t.Errorf("commit: %v", err)
	}
	if xmlOf(t, d, Running) != "" || a.published != 0 {
		t.Error("an invalid configuration is running")
	}
	if xmlOf(t, d, Candidate) != route4(1) {
		t.Error("candidate has lost what was edited")
	}
	if err := d.Discard(alice); err != nil || xmlOf(t, d, Candidate) != "" {
		t.Errorf("discard: %v", err)
	}
}

func TestCommitCannotBeApplied(t *testing.T) {
	a := &applier{}
	d := open(t, t.TempDir(), a)
	if err := d.Edit(ctx, alice, Running, decode(t, private4), merge); err != nil {
		t.Fatal(err)
	}
	a.fail = errors.New("interface eth1: no such device")
	if err := d.Edit(ctx, alice, Candidate, decode(t, public4), merge); err != nil {
		t.Fatal(err)
	}
	err := d.Commit(ctx, alice)
	if tag(err) != "operation-failed" || !strings.Contains(err.Error(), "no such device") {
		t.Errorf("commit: %v", err)
	}
	if err := d.Edit(ctx, alice, Running, decode(t, public4), merge); tag(err) != "operation-failed" {
		t.Errorf("edit of running: %v", err)
	}
	if xmlOf(t, d, Running) != private4 || xmlOf(t, d, Candidate) != private4+public4 {
		t.Error("something has changed")
	}
	a.fail = nil
	if err := d.Commit(ctx, alice); err != nil {
		t.Error(err)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := d.Edit(stopped, alice, Running, decode(t, route4(1)), merge); tag(err) != "operation-failed" || a.aborted != 1 {
		t.Errorf("cancelled: %v, aborted %d", err, a.aborted)
	}
	if xmlOf(t, d, Running) != private4+public4 {
		t.Error("a cancelled edit is running")
	}
}

// TestEditRunning edits running while candidate has pending changes: those
// stay, on top of the new running.
func TestEditRunning(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(d.Edit(ctx, alice, Running, decode(t, private4+public4+route4(1)+route4(2)), merge))
	must(d.Edit(ctx, alice, Candidate, decode(t, route4(3)+
		`<route4 xmlns="vita:esp-gateway" nc:operation="delete"><id>site2</id></route4><mtu xmlns="vita:esp-gateway">1400</mtu>`), merge))
	must(d.Edit(ctx, bob, Running, decode(t, route4(4)+
		`<route4 xmlns="vita:esp-gateway" nc:operation="delete"><id>site1</id></route4><mtu xmlns="vita:esp-gateway">1300</mtu>`), merge))
	mtu := func(n int) string { return fmt.Sprintf(`<mtu xmlns="vita:esp-gateway">%d</mtu>`, n) }
	if got, want := xmlOf(t, d, Running), private4+public4+route4(2)+route4(4)+mtu(1300); got != want {
		t.Errorf("running\n%s\nwant\n%s", got, want)
	}
	if got, want := xmlOf(t, d, Candidate), private4+public4+route4(3)+route4(4)+mtu(1400); got != want {
		t.Errorf("candidate\n%s\nwant\n%s", got, want)
	}
	// One that fails leaves both as they are.
	before := xmlOf(t, d, Candidate)
	if err := d.Edit(ctx, bob, Running, decode(t, `<sa-ttl xmlns="vita:esp-gateway">20</sa-ttl>`), merge); tag(err) != "operation-failed" {
		t.Errorf("must: %v", err)
	}
	if err := d.Edit(ctx, bob, Running, decode(t, `<route4 xmlns="vita:esp-gateway" nc:operation="create"><id>site2</id></route4>`), merge); tag(err) != "data-exists" {
		t.Errorf("create: %v", err)
	}
	if xmlOf(t, d, Candidate) != before {
		t.Error("candidate has changed")
	}
	must(d.Commit(ctx, alice))
	if got := xmlOf(t, d, Running); got != before {
		t.Errorf("running after the commit\n%s\nwant\n%s", got, before)
	}
	must(d.Edit(ctx, alice, Candidate, decode(t, mtu(9)), merge))
	must(d.Discard(alice))
	if xmlOf(t, d, Candidate) != before {
		t.Error("discard")
	}
}

func TestTestOnly(t *testing.T) {
	a := &applier{}
	d := open(t, t.TempDir(), a)
	if err := d.Edit(ctx, alice, Candidate, decode(t, private4), merge); err != nil {
		t.Fatal(err)
	}
	for _, name := range []Name{Running, Candidate} {
		o := EditOptions{Default: edit.Replace, Test: TestOnly}
		if err := d.Edit(ctx, alice, name, decode(t, private4+public4+route4(1)), o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Edit(ctx, alice, name, decode(t, route4(1)), o); tag(err) != "data-missing" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if xmlOf(t, d, Running) != "" || xmlOf(t, d, Candidate) != private4 || a.published != 0 {
		t.Error("a test has changed something")
	}
}

func TestLocks(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	web := &Session{User: "carol", Transport: "restconf"}
	if err := d.Lock(alice, Running); err != nil {
		t.Fatal(err)
	}
	err := d.Lock(bob, Running)
	var e *rpcerr.Error
	if !errors.As(err, &e) || e.Tag != "lock-denied" || e.SessionID != "1" {
		t.Errorf("second lock: %v", err)
	}
	for what, err := range map[string]error{
		"edit":   d.Edit(ctx, web, Running, decode(t, private4), merge),
		"commit": d.Commit(ctx, bob),
		"copy":   d.Copy(ctx, bob, Candidate, Running),
	} {
		if !errors.As(err, &e) || e.Tag != "in-use" || e.SessionID != "1" {
			t.Errorf("%s while locked: %v", what, err)
		}
	}
	if err := d.Edit(ctx, alice, Running, decode(t, private4), merge); err != nil {
		t.Errorf("edit by the holder: %v", err)
	}
	if tag(d.Unlock(bob, Running)) != "operation-failed" {
		t.Error("unlocked by another")
	}
	if err := d.Unlock(alice, Running); err != nil {
		t.Error(err)
	}
	// A candidate with changes cannot be locked; the lock's end discards.
	if err := d.Edit(ctx, bob, Candidate, decode(t, public4), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Lock(alice, Candidate); !errors.As(err, &e) || e.Tag != "lock-denied" || e.SessionID != "0" {
		t.Errorf("lock of a changed candidate: %v", err)
	}
	if err := d.Discard(bob); err != nil {
		t.Fatal(err)
	}
	if err := d.Lock(bob, Candidate); err != nil {
		t.Fatal(err)
	}
	if tag(d.Edit(ctx, alice, Candidate, decode(t, public4), merge)) != "in-use" || tag(d.Discard(alice)) != "in-use" || tag(d.Commit(ctx, alice)) != "in-use" {
		t.Error("candidate is changed in spite of the lock")
	}
	if err := d.Edit(ctx, bob, Candidate, decode(t, public4), merge); err != nil {
		t.Fatal(err)
	}
	d.Release(bob)
	if xmlOf(t, d, Candidate) != private4 {
		t.Error("changes of a locked candidate outlive the session")
	}
	if err := d.Lock(alice, Candidate); err != nil {
		t.Errorf("the lock outlives the session: %v", err)
	}
	if tag(d.Lock(alice, "startup")) != "invalid-value" || tag(d.Validate(ctx, nil, "x")) != "invalid-value" {
		t.Error("datastores that do not exist")
	}
}

func TestCopy(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	if err := d.Edit(ctx, alice, Candidate, decode(t, private4), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Copy(ctx, alice, Candidate, Running); err != nil || xmlOf(t, d, Running) != private4 {
		t.Errorf("to running: %v", err)
	}
	if err := d.Edit(ctx, alice, Candidate, decode(t, public4), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Copy(ctx, alice, Running, Candidate); err != nil || xmlOf(t, d, Candidate) != private4 {
		t.Errorf("to candidate: %v", err)
	}
	if tag(d.Copy(ctx, alice, Running, Running)) != "invalid-value" {
		t.Error("a copy of running to itself")
	}
}

func TestState(t *testing.T) {
	d, err := Open(Options{Dir: t.TempDir(), State: func(root *gen.Vita, _ Wants) {
		n := uint64(7)
		root.GatewayState = &gen.VitaEspGateway_GatewayState{PrivateRouter: &gen.VitaEspGateway_GatewayState_PrivateRouter{RouteErrors: &n}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, with := range []bool{true, false} {
		var b bytes.Buffer
		var wants Wants
		if with {
			wants = Everything
		}
		if err := d.Read(Running, wants, func(root *gen.Vita) error { return yangenc.EncodeJSON(&b, root, yangenc.Opts{}) }); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(b.String(), `"route-errors":"7"`); got != with {
			t.Errorf("state %v: %s", with, b.String())
		}
	}
}

// TestConcurrent has readers and writers at work at once: no reader sees a
// half commit. It is meant for the race detector.
func TestConcurrent(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	if err := d.Edit(ctx, alice, Running, decode(t, private4+public4), merge); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for _, name := range []Name{Running, Candidate} {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_ = d.Read(name, Everything, func(root *gen.Vita) error {
					if len(root.Route4)%2 != 0 {
						t.Errorf("%s has %d routes: half a commit", name, len(root.Route4))
					}
					return nil
				})
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			for i := range 10 {
				n := 100*w + 2*i
				if err := d.Edit(ctx, alice, Running, decode(t, route4(n)+route4(n+1)), merge); err != nil {
					t.Error(err)
				}
				if err := d.Edit(ctx, bob, Candidate, decode(t, route4(1000+n)+route4(1001+n)), merge); err != nil {
					t.Error(err)
				}
				if w == 1 && i%3 == 0 {
					if err := d.Discard(bob); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if n := strings.Count(xmlOf(t, d, Running), "<route4 "); n != 40 {
		t.Errorf("%d routes, want 40", n)
	}
}
