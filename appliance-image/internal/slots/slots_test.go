package slots

import (
	"slices"
	"testing"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]Image{
		"vita-000001-a.efi":       {Number: 1, Slot: A},
		"vita-000007-b+2-1.efi":   {Number: 7, Slot: B, Trial: true, Left: 2, Done: 1},
		"vita-000007-b+1.efi":     {Number: 7, Slot: B, Trial: true, Left: 1},
		"vita-999999-b+0-1.efi":   {Number: 999999, Slot: B, Trial: true, Done: 1},
		"vita-000001-c.efi":       {},
		"vita-1-a.efi":            {},
		"vita-000001-a.efi.part":  {},
		"xvita-000001-a.efi":      {},
		"vita-000001-a+.efi":      {},
		"vita-000001-a+99999.efi": {},
		"":                        {},
	} {
		got, ok := Parse(name)
		if got != want || ok != (want != Image{}) {
			t.Errorf("%s: %+v %v", name, got, ok)
		}
		if ok && got.Name() != name {
			t.Errorf("%s becomes %s", name, got.Name())
		}
	}
}

func TestSet(t *testing.T) {
	s := Of([]string{"vita-000003-b+0-1.efi", "other", "vita-000001-a.efi", "vita-000002-b.efi"})
	if i, ok := s.In(B); !ok || i.Number != 3 {
		t.Error(i, ok)
	}
	if _, ok := s.In("c"); ok {
		t.Error("found in no slot")
	}
	n, err := s.Next(B)
	if err != nil || n.Name() != "vita-000004-b+1.efi" || n.Good().Name() != "vita-000004-b.efi" {
		t.Error(n, err)
	}
	if _, err := Of([]string{"vita-999999-a.efi"}).Next(B); err == nil {
		t.Error("a number of seven digits")
	}
	names := []string{n.Name(), "vita-000001-a.efi"}
	if slices.Sort(names); names[1] != n.Name() {
		t.Error("the boot loader would not prefer the new one")
	}
	for _, s := range []Slot{A, B} {
		if got, err := OfPartition(s.Other().Other().Partition()); err != nil || got != s {
			t.Error(got, err)
		}
	}
	if _, err := OfPartition("vita-state"); err == nil {
		t.Error("the state is no slot")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("vita-000007-b+2-1.efi")
	f.Fuzz(func(t *testing.T, name string) {
		i, ok := Parse(name)
		if !ok {
			return
		}
		if again, ok := Parse(i.Name()); !ok || again != i {
			t.Errorf("%q: %+v becomes %+v", name, i, again)
		}
	})
}
