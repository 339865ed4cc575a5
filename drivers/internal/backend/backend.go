// Package backend opens the device that an address names: one of this machine,
// by VFIO, or one that a test provides.
package backend

import (
	"sync"

	"vita/drivers"
	"vita/drivers/internal/pci"
	"vita/drivers/internal/vfio"
)

// Source is a device that can be opened.
type Source struct {
	ID   pci.ID
	Open func() (pci.Device, error)
}

var provided = struct {
	sync.Mutex
	m map[string]Source
}{m: map[string]Source{}}

// Provide makes a device known by an address of its own, "model:a" for example,
// until what it returns is called.
func Provide(address string, s Source) (remove func()) {
	provided.Lock()
	defer provided.Unlock()
	provided.m[address] = s
	return func() {
		provided.Lock()
		defer provided.Unlock()
		delete(provided.m, address)
	}
}

// Find finds the device that c.PCI names, without touching it. Its Open takes
// it from the kernel.
func Find(c *drivers.Config) (name string, s Source, err error) {
	provided.Lock()
	s, ok := provided.m[c.PCI]
	provided.Unlock()
	if ok {
		return c.PCI, s, nil
	}
	f, err := pci.Sysfs("/sys").Find(c.PCI)
	if err != nil {
		return "", Source{}, err
	}
	return f.Address, Source{ID: f.ID, Open: func() (pci.Device, error) {
		return vfio.Open(f, vfio.Options{NoIOMMU: c.NoIOMMU, Log: c.Log})
	}}, nil
}
