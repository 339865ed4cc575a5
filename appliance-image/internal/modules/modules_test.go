package modules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
	if err := s.Coldplug(sys); !errors.Is(err, unix.EINVAL) {
		t.Errorf("the broken one: %v", err)
	}
	slices.Sort(*loaded)
	if want := []string{"broken", "bus", "failover", "net_failover", "virtio_net"}; !slices.Equal(*loaded, want) {
		t.Errorf("%v, want %v", *loaded, want)
	}
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
