package block

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestPartitions reads a /sys as the kernel lays it out.
func TestPartitions(t *testing.T) {
	sys := t.TempDir()
	write := func(name, text string) {
		f := filepath.Join(sys, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(f), 0o700), os.WriteFile(f, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []struct{ disk, part, name, removable string }{
		{"sda", "sda1", "vita-state", "1"}, {"vdb", "vdb2", "vita-root-a", "0"}, {"vdb", "vdb1", "vita-esp", "0"}, {"vdb", "vdb3", "", "0"},
	} {
		dir := "devices/pci/" + p.disk + "/" + p.part
		write("devices/pci/"+p.disk+"/removable", p.removable+"\n")
		write(dir+"/partition", "1\n")
		write(dir+"/size", "8\n")
		uevent := "MAJOR=8\nDEVNAME=" + p.part + "\nDEVTYPE=partition\n"
		if p.name != "" {
			uevent += "PARTNAME=" + p.name + "\n"
		}
		write(dir+"/uevent", uevent)
		if err := os.MkdirAll(filepath.Join(sys, "class/block"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(sys, dir), filepath.Join(sys, "class/block", p.part)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Partitions(sys)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	want := []Partition{
		{Name: ESP, Device: "/dev/vdb1", Disk: "vdb", Size: 4096},
		{Name: RootA, Device: "/dev/vdb2", Disk: "vdb", Size: 4096},
		{Name: State, Device: "/dev/sda1", Disk: "sda", Removable: true, Size: 4096},
	}
	for i, w := range want {
		if all[i] != w {
			t.Errorf("%+v, want %+v", all[i], w)
		}
	}
	if p, ok := On(all, "vdb", RootA); !ok || p.Device != "/dev/vdb2" {
		t.Error(p, ok)
	}
	if p, ok := On(all, "vdb", State); ok {
		t.Error(p)
	}
}
