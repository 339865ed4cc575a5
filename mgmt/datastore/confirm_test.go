package datastore

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vita/mgmt/internal/edit"
)

const confirmDir = "VITA_TEST_CONFIRM" // "DIR PERSIST TIMEOUT"

// confirmForever makes a confirmed commit, says so, and waits to be killed.
func confirmForever(arg string) error {
	f := strings.Fields(arg)
	timeout, err := time.ParseDuration(f[2])
	if err != nil {
		return err
	}
	d, err := Open(Options{Dir: f[0]})
	if err != nil {
		return err
	}
	t := &testing.T{}
	if err := d.Edit(ctx, alice, Candidate, decode(t, mtu(1500)), EditOptions{Default: edit.Merge}); err != nil {
		return err
	}
	if err := d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: timeout, Persist: strings.Trim(f[1], "-")}); err != nil {
		return err
	}
	fmt.Println("committed")
	select {}
}

func mtu(n int) string { return fmt.Sprintf(`<mtu xmlns="vita:esp-gateway">%d</mtu>`, n) }

// stage merges into candidate.
func stage(t *testing.T, d *Datastore, s *Session, config string) {
	t.Helper()
	if err := d.Edit(ctx, s, Candidate, decode(t, config), EditOptions{Default: edit.Merge}); err != nil {
		t.Fatal(err)
	}
}

func running(t *testing.T, d *Datastore, want string) {
	t.Helper()
	if got := xmlOf(t, d, Running); got != want {
		t.Fatalf("running is %s, want %s", got, want)
	}
}

// eventually waits until running is as wanted.
func eventually(t *testing.T, d *Datastore, want string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if xmlOf(t, d, Running) == want {
			return
		}
	}
	running(t, d, want)
}

func opened(t *testing.T, dir string) *Datastore {
	t.Helper()
	d, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // a test may have closed it
	return d
}

// TestConfirmedCommit goes through the ways in which one ends.
func TestConfirmedCommit(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const long = time.Hour
	for name, end := range map[string]func(d *Datastore) (want string){
		"timeout": func(d *Datastore) string {
			must(d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: 30 * time.Millisecond}))
			running(t, d, mtu(1500))
			eventually(t, d, mtu(1400))
			must(d.Lock(bob, Running)) // nothing is left of it
			must(d.Unlock(bob, Running))
			return mtu(1400)
		},
		"confirmed": func(d *Datastore) string {
			must(d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: 30 * time.Millisecond}))
			must(d.Commit(ctx, alice))
			time.Sleep(60 * time.Millisecond)
			return mtu(1500)
		},
		"canceled": func(d *Datastore) string {
			must(d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: long}))
			if got := tag(d.CancelCommit(bob, "")); got != "in-use" {
				t.Errorf("another session's cancel: %s", got)
			}
			must(d.CancelCommit(alice, ""))
			if got := tag(d.CancelCommit(alice, "")); got != "operation-failed" {
				t.Errorf("cancel of nothing: %s", got)
			}
			return mtu(1400)
		},
		"session ends": func(d *Datastore) string {
			must(d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: long}))
			d.Release(alice)
			return mtu(1400)
		},
		"persistent session ends": func(d *Datastore) string {
			must(d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: long, Persist: "x"}))
			d.Release(alice)
			running(t, d, mtu(1500))
			for id, want := range map[string]string{"": "in-use", "y": "invalid-value"} {
				if got := tag(d.CommitWith(ctx, bob, CommitOptions{PersistID: id})); got != want {
					t.Errorf("commit with id %q: %s, want %s", id, got, want)
				}
			}
			if got := tag(d.Lock(bob, Running)); got != "lock-denied" {
				t.Errorf("lock: %s", got)
			}
			must(d.CommitWith(ctx, bob, CommitOptions{PersistID: "x"}))
			if got := tag(d.CommitWith(ctx, bob, CommitOptions{PersistID: "x"})); got != "invalid-value" {
				t.Errorf("confirmed twice: %s", got)
			}
			return mtu(1500)
		},
		"follow-up": func(d *Datastore) string {
			must(d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: long}))
			stage(t, d, alice, mtu(1600)+private4)
			must(d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: 30 * time.Millisecond}))
			eventually(t, d, mtu(1400)) // all of it
			return mtu(1400)
		},
		"edits of others": func(d *Datastore) string {
			must(d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: long}))
			if got := tag(d.Edit(ctx, bob, Running, decode(t, mtu(1700)), EditOptions{Default: edit.Merge})); got != "in-use" {
				t.Errorf("edit of running: %s", got)
			}
			// RFC 8040 section 1.4: a RESTCONF client's edit confirms.
			must(d.Edit(ctx, &Session{User: "carol"}, Running, decode(t, `<tfc xmlns="vita:esp-gateway">true</tfc>`), EditOptions{Default: edit.Merge}))
			d.Release(alice)
			return mtu(1500) + `<tfc xmlns="vita:esp-gateway">true</tfc>`
		},
		"pending changes stay": func(d *Datastore) string {
			must(d.CommitWith(ctx, alice, CommitOptions{Confirmed: true, Timeout: long}))
			stage(t, d, bob, `<tfc xmlns="vita:esp-gateway">true</tfc>`)
			must(d.CancelCommit(alice, ""))
			running(t, d, mtu(1400))
			must(d.Commit(ctx, bob))
			return mtu(1400) + `<tfc xmlns="vita:esp-gateway">true</tfc>`
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				d := opened(t, dir)
				stage(t, d, alice, mtu(1400))
				must(d.Commit(ctx, alice))
				stage(t, d, alice, mtu(1500))
				want := end(d)
				running(t, d, want)
				must(d.Close())
				again := opened(t, dir)
				running(t, again, want)
				if again.confirm != nil {
					t.Error("something is still to be confirmed after a restart")
				}
			})
		})
	}
}

// TestConfirmedCommitSurvivesKill kills a process with a confirmed commit
// pending, and starts another.
func TestConfirmedCommitSurvivesKill(t *testing.T) {
	for _, c := range []struct {
		name, persist, timeout string
		wait                   time.Duration
		first, then            string
	}{
		{"of a session", "-", "1h", 0, mtu(1400), mtu(1400)},
		{"persistent", "id", "1500ms", 0, mtu(1500), mtu(1400)},
		{"persistent, over while down", "id", "50ms", 100 * time.Millisecond, mtu(1400), mtu(1400)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			d := opened(t, dir)
			stage(t, d, alice, mtu(1400))
			if err := d.Commit(ctx, alice); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), confirmDir+"="+dir+" "+c.persist+" "+c.timeout)
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			said, _ := bufio.NewReader(out).ReadString('\n')
			if said != "committed\n" {
				t.Fatalf("child says %q", said)
			}
			_ = child.Process.Kill() // SIGKILL; it may have ended by a failure, which the next line shows
			_ = child.Wait()
			time.Sleep(c.wait)
			d = opened(t, dir)
			// A busy machine may come here when the time is over.
			if got, early := xmlOf(t, d, Running), time.Since(begun) < time.Second; got != c.first && (early || got != c.then) {
				t.Errorf("running is %s, want %s", got, c.first)
			}
			eventually(t, d, c.then)
			if got := xmlOf(t, d, Candidate); got != c.then {
				t.Errorf("candidate is %s", got)
			}
		})
	}
}

func TestHistory(t *testing.T) {
	dir := t.TempDir()
	d := opened(t, dir)
	for n := 1400; n < 1400+historyKept+5; n++ {
		stage(t, d, alice, mtu(n))
		if err := d.Commit(ctx, alice); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/" + primaryFile); err != nil { // the other file has it too
		t.Fatal(err)
	}
	d = opened(t, dir)
	all, err := d.History(nil, 1000)
	if err != nil || len(all) != historyKept {
		t.Fatalf("%d commits, %v", len(all), err)
	}
	first := all[0]
	if diff := first.Diff(); first.User != alice.User || !first.Complete || len(diff) != 1 ||
		diff[0] != (Change{Path: "/vita-esp-gateway:mtu", Old: "1503", New: "1504", HadOld: true, HasNew: true}) {
		t.Fatalf("%v %+v", first, diff)
	}
	stage(t, d, bob, route4(1)+private4+public4)
	if err := d.Commit(ctx, bob); err != nil {
		t.Fatal(err)
	}
	all, err = d.History(nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all[0].Diff() {
		if strings.HasSuffix(c.Path, "preshared-key") && c.New != "" {
			t.Error("the history tells a secret")
		}
	}
	if err := d.Rollback(bob, 3); err != nil {
		t.Fatal(err)
	}
	if got := xmlOf(t, d, Candidate); got != mtu(1502) {
		t.Errorf("rolled back to %s", got)
	}
	if err := d.Commit(ctx, bob); err != nil {
		t.Fatal(err)
	}
	running(t, d, mtu(1502))
	if err := d.Rollback(bob, 1); err != nil { // the rollback itself
		t.Fatal(err)
	}
	if err := d.Commit(ctx, bob); err != nil || !strings.Contains(xmlOf(t, d, Running), "<route4") {
		t.Errorf("the route is not back: %v", err)
	}
	for _, n := range []int{0, -1, historyKept + 1} {
		if tag(d.Rollback(bob, n)) != "invalid-value" {
			t.Errorf("rollback %d was taken", n)
		}
	}
}

func FuzzRecord(f *testing.F) {
	d, err := Open(Options{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	if err := d.Edit(ctx, alice, Candidate, decode(&testing.T{}, route4(1)+private4+public4), EditOptions{Default: edit.Merge}); err != nil {
		f.Fatal(err)
	}
	rec := &Record{User: "a", At: time.Unix(1, 0)}
	f.Add(rec.encode(d.pending))
	f.Add((&confirmation{deadline: time.Unix(1, 0), persist: "x", undo: d.pending}).encode())
	if err := d.Close(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRecord(1, b); err == nil && r.Complete {
			if again, err := decodeRecord(1, r.encode(r.journal)); err != nil || len(again.journal) != len(r.journal) {
				t.Fatalf("%v %v", again, err)
			}
		}
		_, _ = decodeConfirmation(b) // must not panic
	})
}
