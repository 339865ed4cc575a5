package pci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"vita/drivers"
)

// Sysfs is where the kernel describes devices: "/sys", or a tree of a test.
type Sysfs string

// Function is a device as the kernel sees it.
type Function struct {
	Address string
	ID      ID
	Class   uint32   // class, subclass, interface
	Driver  string   // the kernel's driver for it; "" = none
	Group   string   // its IOMMU group; "" = no IOMMU
	Shares  []string // other devices of the group
	Node    int      // NUMA node; -1 = unknown
	Netdevs []string // the kernel's network interfaces on it
	Link    string   // of its first network interface: "up", "down"; "" = unknown
}

// NetworkClass is the class of network controllers, in the upper 8 bits.
const NetworkClass = 0x02

func (s Sysfs) device(address string) string {
	return filepath.Join(string(s), "bus/pci/devices", address)
}

// word reads a file of one word; one that is not there is "".
func word(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func number(name string, bits int) (uint64, error) {
	v, err := strconv.ParseUint(word(name), 0, bits)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// base returns the last part of what a link leads to; "" where there is none.
func base(name string) string {
	to, err := os.Readlink(name)
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// Find describes the device at an address.
func (s Sysfs) Find(address string) (*Function, error) {
	address, err := Normal(address)
	if err != nil {
		return nil, err
	}
	dir := s.device(address)
	if _, err := os.Stat(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no device at PCI address %s: 'vitactl devices' or lspci list those that are there: %w", address, drivers.ErrNoInterface)
		}
		return nil, err
	}
	f := &Function{Address: address, Node: -1}
	for _, n := range []struct {
		file string
		to   *uint16
	}{{"vendor", &f.ID.Vendor}, {"device", &f.ID.Device}, {"subsystem_vendor", &f.ID.SubVendor}, {"subsystem_device", &f.ID.SubDevice}} {
		v, err := number(filepath.Join(dir, n.file), 16)
		if err != nil {
			return nil, err
		}
		*n.to = uint16(v)
	}
	class, err := number(filepath.Join(dir, "class"), 24)
	if err != nil {
		return nil, err
	}
	f.Class = uint32(class)
	if v, err := number(filepath.Join(dir, "revision"), 8); err == nil {
		f.ID.Revision = uint8(v)
	}
	if n, err := strconv.Atoi(word(filepath.Join(dir, "numa_node"))); err == nil {
		f.Node = n
	}
	f.Driver, f.Group = base(filepath.Join(dir, "driver")), base(filepath.Join(dir, "iommu_group"))
	if f.Group != "" {
		others, err := os.ReadDir(filepath.Join(dir, "iommu_group/devices"))
		if err != nil {
			return nil, err
		}
		for _, o := range others {
			if o.Name() != address {
				f.Shares = append(f.Shares, o.Name())
			}
		}
	}
	nets, _ := os.ReadDir(filepath.Join(dir, "net")) // there is none without a network driver
	for _, n := range nets {
		f.Netdevs = append(f.Netdevs, n.Name())
	}
	if len(f.Netdevs) > 0 {
		switch word(filepath.Join(dir, "net", f.Netdevs[0], "operstate")) {
		case "up":
			f.Link = "up"
		case "down", "lowerlayerdown", "notpresent":
			f.Link = "down"
		}
	}
	return f, nil
}

// List describes all network controllers.
func (s Sysfs) List() ([]*Function, error) {
	all, err := os.ReadDir(filepath.Join(string(s), "bus/pci/devices"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a machine without PCI
	}
	if err != nil {
		return nil, err
	}
	var out []*Function
	for _, d := range all {
		if class, err := number(filepath.Join(s.device(d.Name()), "class"), 24); err != nil || class>>16 != NetworkClass {
			continue // or it has just been taken away
		}
		f, err := s.Find(d.Name())
		if errors.Is(err, drivers.ErrNoInterface) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// write writes a word to a file of the kernel, which must be there. There is
// nothing to truncate, and who is confined by Landlock may not.
func write(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Bind takes a device from the driver that it has and gives it to another one
// of the kernel's, by its driver_override, so that no other device is concerned.
// What it returns gives the device back to the driver that had it, unless somebody
// has taken it meanwhile.
func (s Sysfs) Bind(f *Function, driver string) (restore func() error, err error) {
	dir := s.device(f.Address)
	before := f.Driver
	if before == driver {
		return func() error { return nil }, nil
	}
	override := word(filepath.Join(dir, "driver_override"))
	if override == "(null)" {
		override = ""
	}
	now := func() string { return base(filepath.Join(dir, "driver")) }
	give := func(from, override, to string) error {
		if from != "" {
			err := write(filepath.Join(dir, "driver/unbind"), f.Address)
			if err != nil && now() == from { // and nobody has done it meanwhile
				return fmt.Errorf("take %s from the kernel's driver %s: %w", f.Address, from, err)
			}
		}
		if err := write(filepath.Join(dir, "driver_override"), override+"\n"); err != nil {
			return fmt.Errorf("name a driver for %s: %w", f.Address, err)
		}
		if to == "" {
			return nil
		}
		if err := write(filepath.Join(string(s), "bus/pci/drivers_probe"), f.Address); err != nil {
			return fmt.Errorf("give %s to the kernel's driver %s: %w", f.Address, to, err)
		}
		return nil
	}
	restore = func() error {
		if at := now(); at != "" && at != driver {
			return nil // somebody has taken it
		}
		err := give(now(), override, before)
		if _, gone := os.Stat(dir); errors.Is(gone, fs.ErrNotExist) {
			return nil // it was taken out of the machine
		}
		return err
	}
	if err := give(before, driver, driver); err != nil {
		return nil, errors.Join(err, give(now(), override, before))
	}
	if got := now(); got != driver {
		err := fmt.Errorf("%s did not go to the kernel's driver %s: is it loaded (modprobe %s)?", f.Address, driver, driver)
		return nil, errors.Join(err, give(now(), override, before))
	}
	return restore, nil
}
