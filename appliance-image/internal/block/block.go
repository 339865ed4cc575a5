// Package block finds the partitions of the appliance's disk by the names that
// they have in its partition table.
package block

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Names of the partitions.
const (
	ESP   = "vita-esp"
	RootA = "vita-root-a"
	RootB = "vita-root-b"
	State = "vita-state"
)

// Partition is a partition that the kernel has found.
type Partition struct {
	Name      string // in the partition table
	Device    string // such as /dev/vda1
	Disk      string // the kernel's name of the disk, such as vda
	Removable bool
	Size      uint64 // in bytes
}

// Partitions lists all partitions with a name, those of fixed disks first.
// Sys is /sys.
func Partitions(sys string) ([]Partition, error) {
	found, err := filepath.Glob(filepath.Join(sys, "class/block/*/partition"))
	if err != nil {
		return nil, err
	}
	var out []Partition
	for _, f := range found {
		dir := filepath.Dir(f)
		b, err := os.ReadFile(filepath.Join(dir, "uevent"))
		if err != nil {
			continue // it has gone meanwhile
		}
		v := Uevent(b)
		if v["PARTNAME"] == "" || v["DEVNAME"] == "" {
			continue
		}
		p := Partition{Name: v["PARTNAME"], Device: "/dev/" + v["DEVNAME"]}
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			parent := filepath.Dir(real)
			p.Disk = filepath.Base(parent)
			b, _ := os.ReadFile(filepath.Join(parent, "removable")) // no file: not removable
			p.Removable = strings.TrimSpace(string(b)) == "1"
		}
		if b, err := os.ReadFile(filepath.Join(dir, "size")); err == nil {
			sectors, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 54) // the kernel writes a number
			p.Size = sectors * 512
		}
		out = append(out, p)
	}
	slices.SortStableFunc(out, func(a, b Partition) int {
		switch {
		case a.Removable == b.Removable:
			return strings.Compare(a.Device, b.Device)
		case a.Removable:
			return 1
		}
		return -1
	})
	return out, nil
}

// On returns the partition of a name that lies on a disk.
func On(all []Partition, disk, name string) (Partition, bool) {
	for _, p := range all {
		if p.Disk == disk && p.Name == name {
			return p, true
		}
	}
	return Partition{}, false
}

// Uevent reads a file uevent: KEY=VALUE lines.
func Uevent(b []byte) map[string]string {
	v := make(map[string]string)
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), "="); ok {
			v[key] = value
		}
	}
	return v
}
