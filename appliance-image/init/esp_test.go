package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vita/appliance-image/internal/slots"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// holds says what a folder of the state holds: the text of its one file.
func holds(t *testing.T, dir, folder string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, folder, "config.db"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// TestStateComesBack: wherever the power goes while a state is kept or put back,
// doing it again gives the state from before the trial.
func TestStateComesBack(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(keepState(dir), returnState(dir)); err != nil {
		t.Fatalf("where there is nothing: %v", err)
	}
	write(t, filepath.Join(dir, current, "config.db"), "old")
	write(t, filepath.Join(dir, rollback+".new", "config.db"), "half") // the power went while it was copied
	if err := keepState(dir); err != nil || holds(t, dir, rollback) != "old" {
		t.Fatalf("kept %q, %v", holds(t, dir, rollback), err)
	}
	write(t, filepath.Join(dir, current, "config.db"), "changed on trial")
	if err := keepState(dir); err != nil || holds(t, dir, rollback) != "old" {
		t.Fatalf("a second start of the trial: kept %q, %v", holds(t, dir, rollback), err)
	}
	cut := map[string]func(){
		"before": func() {},
		"after the first step": func() {
			if err := os.Rename(filepath.Join(dir, current), filepath.Join(dir, failed)); err != nil {
				t.Fatal(err)
			}
		},
		"after a cut before": func() { write(t, filepath.Join(dir, failed, "config.db"), "rubbish") },
	}
	for name, act := range cut {
		if err := os.RemoveAll(filepath.Join(dir, failed)); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, current, "config.db"), "changed on trial")
		write(t, filepath.Join(dir, rollback, "config.db"), "old")
		act()
		for range 2 {
			if err := returnState(dir); err != nil || holds(t, dir, current) != "old" {
				t.Errorf("%s: the state is %q, %v", name, holds(t, dir, current), err)
			}
		}
		for _, left := range []string{rollback, failed} {
			if _, err := os.Stat(filepath.Join(dir, left)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s is left", name, left)
			}
		}
	}
	write(t, filepath.Join(dir, failed, "config.db"), "after the last step")
	if err := returnState(dir); err != nil || holds(t, dir, current) != "old" || holds(t, dir, failed) != "" {
		t.Error(err)
	}
}

func TestJudge(t *testing.T) {
	good := slots.Image{Number: 7, Slot: slots.B}
	tried := slots.Image{Number: 7, Slot: slots.B, Trial: true, Done: 1}
	for _, c := range []struct {
		own  slots.Image
		r    record
		want verdict
	}{
		{good, record{}, settled},
		{tried, record{Number: 7, Result: "installed"}, onTrial},
		{tried, record{Number: 7, Result: "trial"}, onTrial}, // the power went while it was tried, and there was a try left
		{tried, record{}, onTrial},                           // from the console
		{good, record{Number: 7, Result: "trial"}, proved},
		{good, record{Number: 7, Result: "confirmed"}, settled},
		{good, record{Number: 8, Result: "installed"}, cameBack}, // its kernel image was not written, or did not start
		{good, record{Number: 8, Result: "trial"}, cameBack},
		{good, record{Number: 8, Result: "returned"}, settled},
		{good, record{Number: 6, Result: "confirmed"}, settled},
	} {
		if got := judge(c.own, c.r); got != c.want {
			t.Errorf("%+v, %+v: %d, want %d", c.own, c.r, got, c.want)
		}
	}
}

// TestClearSlot: of a slot everything goes, of the other nothing.
func TestClearSlot(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"vita-000001-a.efi", "vita-000002-b+0-1.efi", "vita-000002-b.efi", "vita-000003-b+1.efi.part", "vita-000004-a+1.efi.part", "other.efi"} {
		write(t, filepath.Join(dir, name), "x")
	}
	if err := clearSlot(dir, slots.B); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got, want := strings.Join(left, " "), "other.efi vita-000001-a.efi vita-000004-a+1.efi.part"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	next := slots.Image{Number: 5, Slot: slots.B, Trial: true, Left: 1}
	if err := writeKernel(dir, next, []byte("kernel")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "vita-000005-b+1.efi")); err != nil || string(b) != "kernel" {
		t.Errorf("%q, %v", b, err)
	}
	set, err := images(dir)
	if err != nil {
		t.Fatal(err)
	}
	if i, ok := set.In(slots.B); !ok || i != next {
		t.Error(i, ok)
	}
}

func TestWriteDurably(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"one", "two"} {
		if err := writeDurably(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != text {
			t.Errorf("%q, %v", b, err)
		}
	}
	if err := writeDurably(filepath.Join(t.TempDir(), "none", "file"), nil, 0o600); err == nil {
		t.Error("written where there is no folder")
	}
}
