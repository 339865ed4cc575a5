package modules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func set(t *testing.T, dep, aliases string) (*Set, *[]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"modules.dep": dep, "modules.alias": aliases} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var loaded []string
	s.load = func(file string) error {
		loaded = append(loaded, Name(file))
		if Name(file) == "broken" {
			return unix.EINVAL
		}
		return nil
	}
	return s, &loaded
}

const (
	depText   = "virtio-net.ko: failover.ko net_failover.ko\nfailover.ko: \nnet_failover.ko: failover.ko\nbutton.ko: \nbroken.ko: \nbus.ko: \n"
	aliasText = "alias virtio:d00000001v* virtio_net\nalias acpi*:PNP0C0C:* button\nalias pci:v00008086d0000[12]*sv* broken\nalias pci:v00001AF4d*sv* bus\n"
)

func TestLoad(t *testing.T) {
	s, loaded := set(t, depText, aliasText)
	for range 2 { // the second time nothing is left to do
		if err := s.Load("virtio-net"); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"failover", "net_failover", "virtio_net"}; !slices.Equal(*loaded, want) {
		t.Errorf("%v, want %v", *loaded, want)
	}
	if err := s.Load("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := s.Load("broken"); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "broken") {
		t.Error(err)
	}
}

func TestMatch(t *testing.T) {
	s, _ := set(t, depText, aliasText)
	for modalias, want := range map[string]string{
		"virtio:d00000001v00001AF4":       "virtio_net",
		"acpi:PNP0C0C:LNXPWRBN:":          "button",
		"pci:v00008086d00001533sv0000":    "broken",
		"pci:v00008086d00003533sv0000":    "",
		"virtio:d00000002v00001AF4":       "",
		"":                                "",
		"usb:v1D6Bp0002d0601dc09dsc00":    "",
		"pci:v00001AF4d00001041sv0000123": "bus",
	} {
		if got := strings.Join(s.Match(modalias), " "); got != want {
			t.Errorf("%s: %s, want %s", modalias, got, want)
		}
	}
}

// TestColdplug: a device that a module has made appear gets its module too.
func TestColdplug(t *testing.T) {
	s, loaded := set(t, depText, aliasText)
	sys := t.TempDir()
	device := func(bus, name, modalias string) {
		dir := filepath.Join(sys, "bus", bus, "devices", name)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "modalias"), []byte(modalias+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	device("pci", "0000:00:01.0", "pci:v00001AF4d00001041sv0")
	device("pci", "0000:00:02.0", "pci:v00008086d00001533sv0")
	load := s.load
	s.load = func(file string) error {
		if Name(file) == "bus" {
			device("virtio", "virtio0", "virtio:d00000001v00001AF4")
		}
		return load(file)
	}
	never := func() bool { return false }
	if err := s.Coldplug(sys, QuickFirst, never); !errors.Is(err, unix.EINVAL) {
		t.Errorf("the broken one: %v", err)
	}
	slices.Sort(*loaded)
	if want := []string{"broken", "bus", "failover", "net_failover", "virtio_net"}; !slices.Equal(*loaded, want) {
		t.Errorf("%v, want %v", *loaded, want)
	}
	if err := s.Coldplug(sys, QuickFirst, never); err != nil || len(*loaded) != 5 {
		t.Errorf("once more: %v, %v", err, *loaded)
	}
}

// TestOrder: what waits for its hardware comes last, behind what another slow one
// has made appear, and not at all when there is enough before; or first.
func TestOrder(t *testing.T) {
	const (
		dep   = "ahci.ko: \nxhci_pci.ko: \nnvme.ko: \ndisk.ko: \n"
		alias = "alias pci:a* ahci\nalias pci:n* nvme\nalias pci:x* xhci_pci\nalias scsi:t* disk\n"
	)
	for _, c := range []struct {
		order  Order
		enough string
		want   string
	}{
		{QuickFirst, "", "nvme ahci disk xhci_pci"},
		{Quick, "", "nvme"},
		{QuickFirst, "nvme", "nvme"},
		{QuickFirst, "disk", "nvme ahci disk"},
		{SlowFirst, "", "ahci xhci_pci nvme disk"},
		{SlowFirst, "ahci", "ahci"},
	} {
		s, loaded := set(t, dep, alias)
		sys := t.TempDir()
		device := func(bus, name, modalias string) {
			dir := filepath.Join(sys, "bus", bus, "devices", name)
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "modalias"), []byte(modalias), 0o600)); err != nil {
				t.Error(err)
			}
		}
		device("pci", "0", "pci:a")
		device("pci", "1", "pci:x")
		device("pci", "2", "pci:n")
		load := s.load
		s.load = func(file string) error {
			if Name(file) == "ahci" {
				device("scsi", "0", "scsi:t")
			}
			return load(file)
		}
		if err := s.Coldplug(sys, c.order, func() bool { return slices.Contains(*loaded, c.enough) }); err != nil {
			t.Error(err)
		}
		if got := strings.Join(*loaded, " "); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestTogether: a module that two ask for at once is loaded once, and is there
// when either returns.
func TestTogether(t *testing.T) {
	s, _ := set(t, depText, aliasText)
	var mu sync.Mutex
	count := make(map[string]int)
	s.load = func(file string) error {
		time.Sleep(time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		count[Name(file)]++
		return nil
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := s.Load("virtio_net"); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if count["virtio_net"] != 1 || count["failover"] != 1 || count["net_failover"] != 1 {
				t.Errorf("%v", count)
			}
		})
	}
	all.Wait()
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct{ dep, alias string }{{"no colon\n", ""}, {": x\n", ""}, {"", "alias a\n"}, {"", "option a b\n"}} {
		dir := t.TempDir()
		for name, text := range map[string]string{"modules.dep": c.dep, "modules.alias": c.alias} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("%+v", c)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("an empty folder")
	}
}
