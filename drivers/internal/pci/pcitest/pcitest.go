// Package pcitest makes trees like sysfs for tests.
package pcitest

import (
	"os"
	"path/filepath"
	"testing"
)

// Card is a device of a tree.
type Card struct {
	Address string
	Files   map[string]string // name and content, without the line's end
	Driver  string
	Group   string
}

// NIC returns a network card with the files that every device has.
func NIC(address, vendor, device string) Card {
	return Card{Address: address, Files: map[string]string{
		"vendor": vendor, "device": device, "subsystem_vendor": vendor, "subsystem_device": "0x0001",
		"class": "0x020000", "revision": "0x01", "numa_node": "-1", "driver_override": "(null)",
	}}
}

// With returns the card with one more file.
func (c Card) With(name, content string) Card {
	files := map[string]string{name: content}
	for n, v := range c.Files {
		if n != name {
			files[n] = v
		}
	}
	c.Files = files
	return c
}

// Tree makes a tree of cards and returns its path.
func Tree(t *testing.T, cards ...Card) string {
	t.Helper()
	root := t.TempDir()
	write := func(content string, path ...string) {
		name := filepath.Join(append([]string{root}, path...)...)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to string, path ...string) {
		if err := os.Symlink(filepath.Join(root, to), filepath.Join(append([]string{root}, path...)...)); err != nil {
			t.Fatal(err)
		}
	}
	write("", "bus/pci/drivers_probe")
	if err := os.MkdirAll(filepath.Join(root, "bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range cards {
		dir := filepath.Join("bus/pci/devices", c.Address)
		for n, v := range c.Files {
			write(v, dir, n)
		}
		if c.Driver != "" {
			write("", "bus/pci/drivers", c.Driver, "unbind")
			link("bus/pci/drivers/"+c.Driver, dir, "driver")
		}
		if c.Group != "" {
			group := filepath.Join("kernel/iommu_groups", c.Group)
			if err := os.MkdirAll(filepath.Join(root, group, "devices"), 0o755); err != nil {
				t.Fatal(err)
			}
			link(dir, group, "devices", c.Address)
			link(group, dir, "iommu_group")
		}
	}
	return root
}

// Content returns a file of a tree.
func Content(t *testing.T, root, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
