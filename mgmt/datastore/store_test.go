package datastore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"vita/gen"
	"vita/mgmt/internal/edit"
)

// fill makes a folder with three commits in it.
func fill(t *testing.T) (dir, want string) {
	t.Helper()
	dir = t.TempDir()
	d := open(t, dir, nil)
	for _, config := range []string{private4 + public4, route4(1) + route4(2), route4(3) + `<route4 xmlns="vita:esp-gateway" nc:operation="delete"><id>site1</id></route4>`} {
		if err := d.Edit(ctx, alice, Running, decode(t, config), merge); err != nil {
			t.Fatal(err)
		}
	}
	want = xmlOf(t, d, Running)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, want
}

func read(t *testing.T, dir string) (config, log string, err error) {
	t.Helper()
	var b bytes.Buffer
	d, err := Open(Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&b, nil))})
	if err != nil {
		return "", b.String(), err
	}
	config = xmlOf(t, d, Running)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return config, b.String(), nil
}

// damages are ways in which a file can go bad.
var damages = map[string]func(t *testing.T, path string){
	"empty":     func(t *testing.T, path string) { truncate(t, path, 0) },
	"one byte":  func(t *testing.T, path string) { truncate(t, path, 1) },
	"cut":       func(t *testing.T, path string) { truncate(t, path, 3*4096+100) },
	"half":      func(t *testing.T, path string) { truncate(t, path, 16384) },
	"text":      func(t *testing.T, path string) { write(t, path, []byte("not a database")) },
	"zeros":     func(t *testing.T, path string) { write(t, path, make([]byte, 65536)) },
	"one value": func(t *testing.T, path string) { replace(t, path, "192.168.10.254", "192.168.10.253") },
	"one key":   func(t *testing.T, path string) { replace(t, path, "nexthop-ip", "nexthop-iq") },
	"no meta": func(t *testing.T, path string) {
		change(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketMeta) })
	},
	"no config": func(t *testing.T, path string) {
		change(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketConfig) })
	},
	"one leaf less": func(t *testing.T, path string) {
		change(t, path, func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketConfig).Delete([]byte("/vita-esp-gateway:private-interface4/ip"))
		})
	},
	"one entry less": func(t *testing.T, path string) {
		change(t, path, func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketConfig).Delete([]byte("/vita-esp-gateway:route4[id='site2']"))
		})
	},
	"half a row": func(t *testing.T, path string) {
		change(t, path, func(tx *bbolt.Tx) error {
			b, key := tx.Bucket(bucketConfig), []byte("/vita-esp-gateway:route4[id='site2']")
			row := b.Get(key)
			return b.Put(key, bytes.Clone(row[:len(row)/2]))
		})
	},
}

func truncate(t *testing.T, path string, n int64) {
	t.Helper()
	if err := os.Truncate(path, n); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(from)) {
		t.Fatalf("no %s in the file", from)
	}
	write(t, path, bytes.ReplaceAll(b, []byte(from), []byte(to)))
}

func change(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	db, err := openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	for name, damage := range damages {
		for _, file := range []string{primaryFile, mirrorFile} {
			t.Run(name+"/"+file, func(t *testing.T) {
				dir, want := fill(t)
				damage(t, filepath.Join(dir, file))
				got, log, err := read(t, dir)
				if err != nil || got != want {
					t.Fatalf("%v\n%s\nwant\n%s\n%s", err, got, want, log)
				}
				if !strings.Contains(log, "database file is corrupt") || !strings.Contains(log, "last good configuration") {
					t.Errorf("the log does not say so:\n%s", log)
				}
				aside, err := filepath.Glob(filepath.Join(dir, file+".corrupt-*"))
				if err != nil || len(aside) != 1 {
					t.Errorf("moved aside: %v, %v", aside, err)
				}
				// Both are good again.
				if got, log, err := read(t, dir); err != nil || got != want || log != "" {
					t.Errorf("second time: %v %s", err, log)
				}
			})
		}
		t.Run(name+"/both", func(t *testing.T) {
			dir, _ := fill(t)
			damage(t, filepath.Join(dir, primaryFile))
			damage(t, filepath.Join(dir, mirrorFile))
			before := names(t, dir)
			_, _, err := read(t, dir)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "restore") {
				t.Errorf("opened: %v", err)
			}
			if after := names(t, dir); !slices.Equal(before, after) {
				t.Errorf("files %v, before %v", after, before)
			}
		})
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// TestDamageAnywhere turns every page of the primary file into garbage, one at
// a time: the configuration is there all the same.
func TestDamageAnywhere(t *testing.T) {
	dir, want := fill(t)
	path := filepath.Join(dir, primaryFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(good); at += 1024 {
		bad := bytes.Clone(good)
		for i := range 512 {
			bad[at+i] ^= byte(i*7 + 1)
		}
		write(t, path, bad)
		got, log, err := read(t, dir)
		if err != nil || got != want {
			t.Fatalf("garbage at %d: %v\n%s\n%s", at, err, got, log)
		}
	}
}

func TestMissing(t *testing.T) {
	for _, file := range []string{primaryFile, mirrorFile} {
		dir, want := fill(t)
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		if got, _, err := read(t, dir); err != nil || got != want {
			t.Errorf("without %s: %v\n%s", file, err, got)
		}
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Errorf("%s was not made anew: %v", file, err)
		}
	}
}

// TestBehind has one file that missed the last commit.
func TestBehind(t *testing.T) {
	for _, file := range []string{primaryFile, mirrorFile} {
		dir, _ := fill(t)
		old, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		d := open(t, dir, nil)
		if err := d.Edit(ctx, alice, Running, decode(t, route4(9)), merge); err != nil {
			t.Fatal(err)
		}
		want := xmlOf(t, d, Running)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), old)
		if got, log, err := read(t, dir); err != nil || got != want || !strings.Contains(log, "behind") {
			t.Errorf("%s behind: %v\n%s\n%s", file, err, got, log)
		}
		if _, log, err := read(t, dir); err != nil || log != "" {
			t.Errorf("%s is still behind: %v %s", file, err, log)
		}
	}
}

// TestOtherVersion has intact files with something that the model does not
// know: they are neither used nor thrown away.
func TestOtherVersion(t *testing.T) {
	dir, _ := fill(t)
	f, err := openFile(filepath.Join(dir, primaryFile), &gen.Vita{})
	if err != nil {
		t.Fatal(err)
	}
	err = f.db.Update(func(tx *bbolt.Tx) error {
		key, value := []byte("/vita-esp-gateway:flux-capacitor"), []byte("on")
		toggle(sha256.New(), &f.sum, key, value)
		if err := tx.Bucket(bucketConfig).Put(key, value); err != nil {
			return err
		}
		return f.put(tx, newBatch(nil), f.seq+1, extra{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(t, dir); err == nil || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "flux-capacitor") {
		t.Errorf("opened: %v", err)
	}
	if n := names(t, dir); len(n) != 2 {
		t.Errorf("files: %v", n)
	}
}

func TestInUse(t *testing.T) {
	dir, _ := fill(t)
	open(t, dir, nil)
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := open(t, dir, nil)
	if err := d.Edit(ctx, alice, Running, decode(t, private4), merge); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{"": os.ModeDir | 0o700, primaryFile: 0o600, mirrorFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v, want %v", path, info.Mode(), err, want)
		}
	}
}

// TestLeftover has a file whose making was cut short.
func TestLeftover(t *testing.T) {
	dir, want := fill(t)
	write(t, filepath.Join(dir, mirrorFile+".new"), []byte("garbage"))
	if err := os.Remove(filepath.Join(dir, mirrorFile)); err != nil {
		t.Fatal(err)
	}
	if got, _, err := read(t, dir); err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	if n := names(t, dir); len(n) != 2 {
		t.Errorf("files: %v", n)
	}
}

// TestMirrorGone has the second file fail under way: commits go on.
func TestMirrorGone(t *testing.T) {
	dir, want := fill(t)
	d := open(t, dir, nil)
	<-d.store.mirrored
	if err := d.store.mirror.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{8, 9} {
		if err := d.Edit(ctx, alice, Running, decode(t, route4(n)), merge); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _, err := read(t, dir); err != nil || got != want+route4(8)+route4(9) {
		t.Errorf("%v\n%s", err, got)
	}
}

// TestPrimaryFails has a commit that cannot be stored: nothing has happened.
func TestPrimaryFails(t *testing.T) {
	dir, want := fill(t)
	a := &applier{}
	d := open(t, dir, a)
	if err := d.store.primary.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Edit(ctx, alice, Running, decode(t, route4(8)), merge); tag(err) != "operation-failed" {
		t.Errorf("edit: %v", err)
	}
	if a.aborted != 1 || a.published != 0 || xmlOf(t, d, Running) != want || xmlOf(t, d, Candidate) != want {
		t.Error("something has changed")
	}
}

// FuzzLoad: whatever stands in a file, a leaf of the model or an error comes
// of it.
func FuzzLoad(f *testing.F) {
	f.Add("/vita-esp-gateway:route4[id='site2']/gateway[ip='192.0.2.1']/queue", "2")
	f.Add("/vita-esp-gateway:mtu", "1400")
	f.Add("/vita-esp-gateway:gateway-state/key-manager/rxerrors", "1")
	f.Add("/vita-esp-gateway:route4/id", "a")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, path, value string) {
		tree := &gen.Vita{}
		var l loader
		for range 2 { // the second time by the place that was kept
			if err := l.add(tree, path, value); err != nil {
				return
			}
		}
		if j := edit.Export(tree); len(j) == 0 {
			t.Errorf("%s = %q left nothing", path, value)
		}
	})
}
