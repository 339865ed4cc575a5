package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vita/appliance-image/internal/logring"
	"vita/appliance-image/internal/sparse"

	"golang.org/x/sys/unix"
)

func TestKernelLine(t *testing.T) {
	for record, want := range map[string]struct {
		s logring.Severity
		t string
	}{
		"4,123,456,-;text; with more\n KEY=value\n": {logring.Warning, "text; with more"},
		"30,1,2,-;from a program\n":                 {logring.Info, "from a program"},
		"no record":                                 {logring.Info, "no record"},
		"x,1;text":                                  {logring.Info, "text"},
		"":                                          {logring.Info, ""},
	} {
		if source, s, text := kernelLine(record); source != "kernel" || s != want.s || text != want.t {
			t.Errorf("%q: %d %q", record, s, text)
		}
	}
}

func FuzzKernelLine(f *testing.F) {
	f.Add("4,123,456,-;text\n KEY=value\n")
	f.Fuzz(func(t *testing.T, record string) {
		if _, s, text := kernelLine(record); s > logring.Debug || len(text) > len(record) {
			t.Error(s, text)
		}
	})
}

func TestZombieOf(t *testing.T) {
	for stat, want := range map[string]int{
		"77 (a b) Z 1 77 77 0": 77,
		"78 (a ) Z 2) Z 1 0":   78,
		"79 (a) S 1 0":         0,
		"80 (a) Z 2 0":         0,
		"81 (a) Z":             0,
		"":                     0,
		")(":                   0,
		"x (a) Z 1":            0,
		"82 (a) Z one":         0,
	} {
		if pid, ok := zombieOf(stat, 1); ok != (want != 0) || ok && pid != want {
			t.Errorf("%q: %d %v", stat, pid, ok)
		}
	}
}

func TestPlaceName(t *testing.T) {
	for pci, want := range map[string]string{
		"0000:00:03.0": "enp0s3", "0000:01:00.1": "enp1s0f1", "0002:ff:1f.7": "enP2p255s31f7", "10000:00:01.0": "enP65536p0s1",
		"": "", "0000:00:03": "", "0000:zz:03.0": "",
		"fffff:ff:1f.7": "", // too long for the kernel
	} {
		if got := placeName(pci); got != want {
			t.Errorf("%s: %s, want %s", pci, got, want)
		}
	}
}

// TestCards reads a /sys with three cards, one of which has no place.
func TestCards(t *testing.T) {
	sys := t.TempDir()
	for name, c := range map[string]struct{ device, mac string }{
		"eth0": {"devices/pci0000:00/0000:00:04.0", "02:00:00:00:00:04"},
		"eth1": {"devices/pci0000:00/0000:00:1c.0/0000:03:00.1/virtio3", "02:00:00:00:00:03"},
		"eth2": {"devices/vmbus/1234", "02:00:00:00:00:02"},
		"lo":   {"", "00:00:00:00:00:00"},
	} {
		dir := filepath.Join(sys, "class/net", name)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "address"), []byte(c.mac+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if c.device == "" {
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Join(sys, c.device), 0o700), os.Symlink(filepath.Join(sys, c.device), filepath.Join(dir, "device"))); err != nil {
			t.Fatal(err)
		}
	}
	all, err := cards(sys)
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	for i, want := range []card{
		{"eth2", "eth2", "02:00:00:00:00:02", ""}, {"enp0s4", "eth0", "02:00:00:00:00:04", "0000:00:04.0"}, {"enp3s0f1", "eth1", "02:00:00:00:00:03", "0000:03:00.1"},
	} {
		if all[i] != want {
			t.Errorf("%+v, want %+v", all[i], want)
		}
	}
	for want, name := range map[string]string{"": "eth2", "enp0s4": "enp0s4", "eth1": "enp3s0f1", "02:00:00:00:00:04": "enp0s4", "0000:03:00.1": "enp3s0f1", "03:00.1": "enp3s0f1"} {
		if c, err := managed(all, want); err != nil || c.name != name {
			t.Errorf("%q: %+v, %v", want, c, err)
		}
	}
	if _, err := managed(all, "enp9s9"); err == nil || !strings.Contains(err.Error(), "enp3s0f1 02:00:00:00:00:03") {
		t.Error(err)
	}
	if _, err := managed(nil, ""); err == nil {
		t.Error("a card where there is none")
	}
}

func TestPlausible(t *testing.T) {
	least := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		now  time.Time
		want bool
	}{{least, true}, {least.Add(-time.Second), false}, {time.Unix(0, 0), false}, {least.AddDate(19, 0, 0), true}, {least.AddDate(44, 0, 0), false}} {
		if got := plausible(c.now, least); got != c.want {
			t.Errorf("%s: %v", c.now, got)
		}
	}
}

func TestMemory(t *testing.T) {
	if total, available := memory("MemTotal:         600000 kB\nMemFree: 1 kB\nMemAvailable:  400000 kB\nrubbish\n"); total != 600000 || available != 400000 {
		t.Error(total, available)
	}
	if total, available := memory("MemAvailable: 5 kB\nMemTotal: x kB\n"); total != 0 || available != 0 {
		t.Error(total, available)
	}
}

// FuzzMenu: whatever is typed, the menu answers and ends with the input.
func FuzzMenu(f *testing.F) {
	f.Add("status\nlog\nlog 7\nhelp\n\n")
	f.Add("erase\nx\nother\n" + strings.Repeat("x", maxAnswer+10))
	f.Fuzz(func(_ *testing.T, typed string) {
		for _, harmful := range []string{"reboot", "poweroff", "setup", "other", "erase"} { // they act on the machine
			typed = strings.ReplaceAll(typed, harmful, "")
		}
		a := &appliance{log: logring.New(1<<10, time.Now)}
		a.menu(terminal{strings.NewReader(typed), io.Discard})
	})
}

// terminal is somebody who types.
type terminal struct {
	io.Reader
	io.Writer
}

func TestMenu(t *testing.T) {
	var out bytes.Buffer
	a := &appliance{log: logring.New(1<<10, time.Now), end: make(chan ending, 1)}
	a.log.Add("vitad", logring.Info, "hello")
	a.menu(terminal{strings.NewReader("what\nlog\nstatus\n" + strings.Repeat("x", 2*maxAnswer) + "\npoweroff\n"), &out})
	for _, want := range []string{"Commands:", "vitad: hello", "no management interface", "too long"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if e := <-a.end; e.how != unix.LINUX_REBOOT_CMD_POWER_OFF {
		t.Error(e)
	}
}

// TestLog: the last lines, as many as are asked for and there are.
func TestLog(t *testing.T) {
	a := &appliance{log: logring.New(1<<20, time.Now)}
	for n := range 60 {
		a.log.Add("kernel", logring.Info, fmt.Sprint("line ", n+1))
	}
	for typed, want := range map[string]int{
		"log": 40, "log 50": 50, "log  1 ": 1, "log 60": 60, "log 99999": 60,
		"log 0": 0, "log -1": 0, "log x": 0, "log 5 5": 0, "log 99999999999999999999": 0, "logs": 0,
	} {
		var out bytes.Buffer
		a.menu(terminal{strings.NewReader(typed + "\n"), &out})
		lines := strings.Count(out.String(), "kernel: line ")
		if lines != want || want > 0 && !strings.HasSuffix(out.String(), " line 60\n") {
			t.Errorf("%q: %d lines, want %d\n%.200s", typed, lines, want, out.String())
		}
		if refused := strings.Contains(out.String(), "such as: log 500"); refused != (want == 0 && typed != "logs") {
			t.Errorf("%q: %s", typed, out.String())
		}
	}
}

func TestPressed(t *testing.T) {
	event := func(kind, code uint16, value uint32) []byte {
		e := make([]byte, 24)
		binary.LittleEndian.PutUint16(e[16:], kind)
		binary.LittleEndian.PutUint16(e[18:], code)
		binary.LittleEndian.PutUint32(e[20:], value)
		return e
	}
	sync := event(0, 0, 0)
	if !pressed(append(append([]byte(nil), sync...), event(1, 116, 1)...)) {
		t.Error("not seen")
	}
	for _, b := range [][]byte{nil, sync, event(1, 116, 0), event(1, 28, 1), event(1, 116, 1)[:23]} {
		if pressed(b) {
			t.Errorf("% x", b)
		}
	}
}

// TestStateDevice: a new device becomes a file system, one that was not written
// wholly is new again, one with something else is left alone, and what is erased
// is new.
func TestStateDevice(t *testing.T) {
	device := filepath.Join(t.TempDir(), "device")
	image := bytes.Repeat([]byte("vita"), 3*headSize/4)
	image[1024+0x38], image[1024+0x39] = 0x53, 0xef
	var z bytes.Buffer
	if err := sparse.Pack(&z, image); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(device, make([]byte, len(image)), 0o600); err != nil {
		t.Fatal(err)
	}
	is := func(want content) {
		t.Helper()
		if got, err := contentOf(device); err != nil || got != want {
			t.Errorf("content %d, want %d, %v", got, want, err)
		}
	}
	is(blank)
	for _, cut := range []int{0, 10, z.Len() - 9} {
		if err := layDown(device, bytes.NewReader(z.Bytes()[:cut])); err == nil {
			t.Errorf("cut at %d: no error", cut)
		}
		is(blank)
	}
	if err := layDown(device, &z); err != nil {
		t.Fatal(err)
	}
	is(ours)
	if got, err := os.ReadFile(device); err != nil || !bytes.Equal(got, image) {
		t.Errorf("other data, %v", err)
	}
	if err := erase(device); err != nil {
		t.Fatal(err)
	}
	is(blank)
	if got, err := os.ReadFile(device); err != nil || !bytes.Equal(got, make([]byte, len(image))) {
		t.Errorf("not all is erased, %v", err)
	}
	if err := os.WriteFile(device, []byte(strings.Repeat("x", headSize)), 0o600); err != nil {
		t.Fatal(err)
	}
	is(foreign)
	if _, err := contentOf(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no device")
	}
}

func TestLabelled(t *testing.T) {
	for kind, at := range map[string]int{"vfat": 71, "iso9660": 16*2048 + 40} {
		b := make([]byte, 64<<10)
		copy(b[at:], "VITA-CONF  ")
		name := filepath.Join(t.TempDir(), "device")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := labelled(name, driveLabel); got != kind {
			t.Errorf("%s: %s", kind, got)
		}
		if got := labelled(name, "OTHER"); got != "" {
			t.Errorf("another label: %s", got)
		}
	}
	if got := labelled(filepath.Join(t.TempDir(), "none"), driveLabel); got != "" {
		t.Error(got)
	}
}

func TestBlocksOf(t *testing.T) {
	super := make([]byte, 1024)
	if n := blocksOf(super); n != 0 {
		t.Errorf("an empty one: %d", n)
	}
	le := binary.LittleEndian
	le.PutUint16(super[0x38:], 0xef53)
	le.PutUint32(super[0x18:], 2)
	le.PutUint32(super[4:], 12288)
	le.PutUint32(super[0x150:], 1)
	if n := blocksOf(super); n != 12288 {
		t.Errorf("%d", n)
	}
	le.PutUint32(super[0x60:], 0x80)
	if n := blocksOf(super); n != 1<<32+12288 {
		t.Errorf("64 bits: %d", n)
	}
	le.PutUint32(super[0x18:], 0)
	if n := blocksOf(super); n != 0 {
		t.Errorf("small blocks: %d", n)
	}
}
