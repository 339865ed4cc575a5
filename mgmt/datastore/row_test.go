package datastore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"vita/gen"
	"vita/mgmt/internal/edit"
)

// olden makes a file one of format 1: a row for each leaf.
func olden(t *testing.T, path string) {
	t.Helper()
	change(t, path, func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		for bucket, key := range map[string][]byte{string(bucketConfig): keySum, string(bucketStartup): keyStartup} {
			from := tx.Bucket([]byte(bucket))
			if from == nil {
				continue
			}
			tree := &gen.Vita{}
			var l loader
			if err := from.ForEach(func(k, v []byte) error { return l.row(tree, k, v) }); err != nil {
				return err
			}
			if err := tx.DeleteBucket([]byte(bucket)); err != nil {
				return err
			}
			to, err := tx.CreateBucket([]byte(bucket))
			if err != nil {
				return err
			}
			var sum [sha256.Size]byte
			for _, c := range edit.Export(tree) {
				toggle(sha256.New(), &sum, []byte(c.Path()), []byte(c.New))
				if err := to.Put([]byte(c.Path()), []byte(c.New)); err != nil {
					return err
				}
			}
			if err := meta.Put(key, bytes.Clone(sum[:])); err != nil {
				return err
			}
		}
		return meta.Put(keyFormat, []byte(formatLeafs))
	})
}

// rows returns what a bucket of a file has.
func rows(t *testing.T, path string, bucket []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	change(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			out[string(k)] = string(v)
			return nil
		})
	})
	return out
}

// TestOldFormat opens files of format 1, one or both: configuration, startup and
// history are there, and both files are of the new format from then on.
func TestOldFormat(t *testing.T) {
	for _, old := range [][]string{{primaryFile, mirrorFile}, {primaryFile}, {mirrorFile}} {
		dir, want := fill(t)
		d, err := Open(Options{Dir: dir, Startup: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Edit(ctx, alice, Running, decode(t, route4(7)), merge); err != nil { // startup has it not
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		config, startup := rows(t, filepath.Join(dir, primaryFile), bucketConfig), rows(t, filepath.Join(dir, primaryFile), bucketStartup)
		for _, file := range old {
			olden(t, filepath.Join(dir, file))
		}
		got, log, err := read(t, dir)
		if err != nil || got != want+route4(7) || !strings.Contains(log, "older format") {
			t.Fatalf("%v: %v\n%s\n%s", old, err, got, log)
		}
		for _, file := range []string{primaryFile, mirrorFile} {
			if now := rows(t, filepath.Join(dir, file), bucketConfig); !equal(now, config) {
				t.Errorf("%v: %s has\n%q\nwant\n%q", old, file, now, config)
			}
			if now := rows(t, filepath.Join(dir, file), bucketStartup); !equal(now, startup) {
				t.Errorf("%v: startup in %s is\n%q\nwant\n%q", old, file, now, startup)
			}
		}
		if _, log, err := read(t, dir); err != nil || log != "" {
			t.Errorf("second time: %v %s", err, log)
		}
		d, err = Open(Options{Dir: dir, Startup: true})
		if err != nil {
			t.Fatal(err)
		}
		if all, err := d.History(alice, 10); err != nil || len(all) < 4 || xmlOf(t, d, Running) != want {
			t.Errorf("%v: %d commits, %v\n%s", old, len(all), err, xmlOf(t, d, Running))
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func equal(a, b map[string]string) bool {
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return len(a) == len(b)
}

// TestRows makes and changes entries, and looks at their rows.
func TestRows(t *testing.T) {
	row := func(leafs ...string) string {
		var b []byte
		for _, s := range leafs {
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		}
		return string(b)
	}
	dir := t.TempDir()
	d := open(t, dir, nil)
	for _, config := range []string{
		private4 + public4 + route4(1),
		route4(2) + `<mtu xmlns="vita:esp-gateway">1400</mtu>`,
		`<route4 xmlns="vita:esp-gateway"><id>site1</id><spi>4711</spi></route4><mtu xmlns="vita:esp-gateway" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="delete"/>`,
		`<route4 xmlns="vita:esp-gateway" nc:operation="delete"><id>site2</id></route4>`,
	} {
		if err := d.Edit(ctx, alice, Running, decode(t, config), merge); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{primaryFile, mirrorFile} {
		all := rows(t, filepath.Join(dir, file), bucketConfig)
		const key = "/vita-esp-gateway:route4[id='site1']"
		got := all[key]
		if !strings.Contains(got, row("/id", "site1")) || !strings.Contains(got, row("/spi", "4711")) {
			t.Errorf("%s: the row of site1 is %q", file, got)
		}
		last := ""
		if err := eachLeaf([]byte(got), func(name, _ []byte) error {
			if string(name) <= last {
				t.Errorf("%s: %s comes after %s", file, name, last)
			}
			last = string(name)
			return nil
		}); err != nil {
			t.Error(err)
		}
		for k, v := range all {
			if strings.Contains(k, "site2") || strings.Contains(k, "mtu") || v == "" {
				t.Errorf("%s: %s is there: %q", file, k, v)
			}
			if strings.HasPrefix(k, key+"/") && !strings.HasSuffix(k, "]") {
				t.Errorf("%s: a row of its own for %s", file, k)
			}
		}
	}
}

// TestRowDamaged has rows that no datastore has written, in a file whose checksum
// is right.
func TestRowDamaged(t *testing.T) {
	for name, value := range map[string]string{
		"empty":           "",
		"cut":             "\x03/id\x05site",
		"no value":        "\x03/id",
		"giant":           "\x03/id\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"no number":       "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"no leaf":         "\x00\x01x",
		"twice":           "\x03/id\x05site2\x03/id\x05site2",
		"not sorted":      "\x04/spi\x041234\x03/id\x05site2",
		"another's":       "\x24/gateway[ip='192.0.2.1']/queue/x/y/zz\x011",
		"not of an entry": "\x03mtu\x041400",
	} {
		var l loader
		tree := &gen.Vita{}
		if err := l.row(tree, []byte("/vita-esp-gateway:route4[id='site2']"), []byte(value)); err == nil {
			t.Errorf("%s: taken", name)
		} else if name != "not of an entry" && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := merged([]byte(value), nil); (name == "empty" || name == "cut" || name == "giant") && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: merged: %v", name, err)
		}
	}
}

// FuzzRow: whatever stands in a row, the leafs of one entry or an error come of it,
// and a change of it keeps the others.
func FuzzRow(f *testing.F) {
	f.Add("/vita-esp-gateway:route4[id='site2']", []byte("\x03/id\x05site2\x04/spi\x041234"))
	f.Add("/vita-esp-gateway:route4[id='site2']/gateway[ip='192.0.2.1']", []byte("\x03/ip\x09192.0.2.1"))
	f.Add("/vita-esp-gateway:route4[id='a/b']", []byte("\x00\x01x"))
	f.Add("/vita-esp-gateway:mtu", []byte("1400"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		tree := &gen.Vita{}
		var l loader
		if l.row(tree, []byte(key), value) != nil || !isEntry([]byte(key)) {
			return
		}
		n := 0
		if err := eachLeaf(value, func(_, _ []byte) error { n++; return nil }); err != nil || n == 0 {
			t.Fatalf("%q = %q was taken: %d leafs, %v", key, value, n, err)
		}
		all, err := merged(value, []leafChange{{name: []byte("/zzz"), value: []byte("1"), has: true}})
		if err != nil {
			t.Fatal(err)
		}
		var text arena
		if again := encodeRow(all[:n], &text); !bytes.Equal(again, canonical(value)) {
			t.Errorf("%q comes back as %q", value, again)
		}
	})
}

// canonical writes the lengths in a row in their shortest form.
func canonical(row []byte) (out []byte) {
	_ = eachLeaf(row, func(name, value []byte) error {
		for _, s := range [][]byte{name, value} {
			out = append(binary.AppendUvarint(out, uint64(len(s))), s...)
		}
		return nil
	})
	return out
}
