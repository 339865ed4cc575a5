package datastore

import (
	"strings"
	"testing"

	"vita/mgmt/internal/edit"
)

// TestVersions checks that a version changes with the resource and what is in
// it, and that after more changes than are kept apart it has changed for all.
func TestVersions(t *testing.T) {
	dir := t.TempDir()
	d := opened(t, dir)
	commit := func(config string) {
		t.Helper()
		if err := d.Edit(ctx, alice, Running, decode(t, config), EditOptions{Default: edit.Merge}); err != nil {
			t.Fatal(err)
		}
	}
	const one, two = "/vita-esp-gateway:route4[id='site1']", "/vita-esp-gateway:route4[id='site2']"
	commit(private4 + public4 + route4(1) + route4(2))
	first := [3]Version{d.Version(Running, ""), d.Version(Running, one), d.Version(Running, two)}
	commit(`<route4 xmlns="vita:esp-gateway"><id>site1</id><spi>900000</spi></route4>`)
	next := [3]Version{d.Version(Running, ""), d.Version(Running, one), d.Version(Running, two)}
	if next[0] == first[0] || next[1] == first[1] || next[2] != first[2] {
		t.Errorf("%v, then %v", first, next)
	}
	var all strings.Builder
	for n := 10; n < 10+mostVersions/4; n++ {
		all.WriteString(route4(n))
	}
	commit(all.String())
	if d.Version(Running, two) == first[2] || d.Version(Running, one) != d.Version(Running, "") || len(d.versions.of) != 0 {
		t.Error("a bulk of changes does not give all resources the same version")
	}
	before := d.Version(Running, two)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if again := opened(t, dir).Version(Running, two); again.Number < before.Number {
		t.Errorf("after a restart %v, before %v", again, before)
	}
}
