package test

import (
	"bytes"
	"debug/pe"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vita/appliance-image/internal/verity"
)

// Where the partitions of an image are.
const (
	mib     = 1 << 20
	rootAt  = (1 + 72) * mib
	stateAt = (1 + 72 + 80 + 80) * mib
	stateMB = 48
)

// TestNoClockNoNetwork: without a clock, without DHCP, and with a configuration
// drive and the kernel's command line instead of firmware's strings, the gateway
// starts all the same. On a disk that is larger than the image it takes the rest
// for its state.
func TestNoClockNoNetwork(t *testing.T) {
	admin := NewAdmin(t)
	dir := disk(t, "raw")
	drive(t, filepath.Join(dir, "drive.img"), "# written by hand\r\nadmin-key = "+admin.Line+"\r\n")
	kernel, words := byHand(t)
	const larger, state = 1000*mib + 512, 1000 - stateAt/mib - 1
	if err := os.Truncate(filepath.Join(dir, "disk.raw"), larger); err != nil {
		t.Fatal(err)
	}
	m := Start(t, Options{Dir: dir, NoNet: true, Args: []string{
		"-rtc", "base=1970-01-01T00:10:00", "-kernel", kernel, "-append", words + " vita.hostname=gw1970",
		"-drive", "if=none,id=conf,format=raw,readonly=on,file=" + filepath.Join(dir, "drive.img"), "-device", "virtio-blk-pci,drive=conf",
	}})
	m.Expect(t, fmt.Sprintf(`the state's partition has %d MiB now`, state), bootTime)
	m.Expect(t, `the clock says \S+ \S+: set to 202\d-`, bootTime)
	m.Expect(t, `options from the configuration drive /dev/vd`, bootTime)
	m.Expect(t, `administrator admin`, bootTime)
	m.Expect(t, `netconf ready: enp\S+ fe80::`, bootTime)
	m.Expect(t, `no address by DHCP on enp`, bootTime)
	m.Type(t, "status")
	m.Expect(t, `host gw1970`, 10*time.Second)
	m.Expect(t, `vitad runs`, 10*time.Second)
	grown := fmt.Sprintf("the state's file system has grown from %d to %d MiB", stateMB, state)
	if n := strings.Count(m.Console(1<<20), grown); n != 1 {
		t.Errorf("the console has %q %d times", grown, n)
	}

	// A factory reset needs the host's name.
	m.Type(t, "erase")
	m.Expect(t, `Enter the host's name`, 10*time.Second)
	m.Type(t, "gw")
	m.Expect(t, `nothing is changed`, 10*time.Second)
	m.Type(t, "erase")
	m.Expect(t, `Enter the host's name`, 10*time.Second)
	m.Type(t, "gw1970")
	m.Expect(t, `first start: the state on \S+ is new`, 2*bootTime)
	m.Expect(t, `administrator admin`, bootTime)
	m.Expect(t, `netconf ready`, bootTime)
	if n := strings.Count(m.Console(1<<20), grown); n != 2 {
		t.Errorf("the console has %q %d times after the reset", grown, n)
	}
}

// byHand returns what somebody needs who starts the kernel image by hand: the
// image, and the command line that is in it.
func byHand(t testing.TB) (file, words string) {
	t.Helper()
	kernel, err := unpack(t, filepath.Join(*imageDir, "vita.upgrade")).Kernel()
	if err != nil {
		t.Fatal(err)
	}
	image, err := pe.NewFile(bytes.NewReader(kernel))
	if err != nil {
		t.Fatal(err)
	}
	line, err := image.Section(".cmdline").Data()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "vita.efi")
	if err := os.WriteFile(file, kernel, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimRight(string(line), "\x00\n")
}

// drive makes a configuration drive as docs/operator/install.md does.
func drive(t testing.TB, file, text string) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "vita.conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"mformat", "-C", "-f", "1440", "-v", "VITA-CONF", "-i", file, "::"}, {"mcopy", "-i", file, conf, "::vita.conf"}} {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s (test/setup.sh installs it)", words, err, out)
		}
	}
}

// TestFlippedBit: a root of which one bit is another is not run.
func TestFlippedBit(t *testing.T) {
	dir := disk(t, "raw")
	f, err := os.OpenFile(filepath.Join(dir, "disk.raw"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	const superblock = rootAt + 1024 // of erofs, which every start reads
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, superblock+100); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, superblock+100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	m := Start(t, Options{Dir: dir, NoNet: true, Args: []string{"-no-reboot"}})
	m.Expect(t, `(?i)verity: .*corrupted`, bootTime)
	m.Expect(t, `Kernel panic - not syncing: dm-verity device corrupted`, 10*time.Second)
	m.Ended(t, 40*time.Second)
	if strings.Contains(m.Console(1<<20), "netconf") {
		t.Error("it has started")
	}
	if verity.BlockSize != 4096 {
		t.Error("the bit is in another block")
	}
}

// TestFullDisk: where the state has no room left, the gateway starts with its
// configuration, refuses to change it, and refuses an upgrade, each with an
// error that says so.
func TestFullDisk(t *testing.T) {
	s := alone(t)
	dir := s.options.Dir
	s.Type(t, "poweroff")
	s.Ended(t, time.Minute)

	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, bytes.Repeat([]byte{1}, stateMB*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	// It ends with an error when there is no room left, which is the point.
	out, _ := exec.Command("/usr/sbin/debugfs", "-w", "-R", "write "+fill+" fill", fmt.Sprintf("%s?offset=%d", filepath.Join(dir, "disk.raw"), stateAt)).CombinedOutput()
	t.Logf("%s", out)
	s.Machine = Start(t, s.options)
	s.Expect(t, `netconf ready`, bootTime)
	n := s.admin.Dial(t, s.SSH, bootTime)
	if got := n.Must(t, `<get-config><source><running/></source></get-config>`); !strings.Contains(got, "192.168.2.0/24") {
		t.Errorf("the configuration is lost: %s", got)
	}
	if out, err := s.vitactl(t, "upgrade", "--downgrade", filepath.Join(*imageDir, "vita.upgrade")); err == nil || !strings.Contains(out, "no space left") {
		t.Errorf("an upgrade: %v: %s", err, out)
	}
	// A commit may still find room in the database: then the next ones do not.
	// Whatever happens, what is acknowledged is there, and what is refused is not.
	last := ""
	var refusal error
	for i := 0; i < 200 && refusal == nil; i++ {
		net := fmt.Sprintf("10.%d.0.0/16", i+1)
		n.Must(t, `<edit-config><target><candidate/></target><config><route4 xmlns="vita:esp-gateway"><id>site2</id><net>`+net+`</net></route4></config></edit-config>`)
		if _, refusal = n.Call(`<commit/>`); refusal == nil {
			last = net
		}
	}
	t.Logf("last %q, then %v", last, refusal)
	if refusal != nil && !strings.Contains(refusal.Error(), "no space left") {
		t.Errorf("the refusal does not say why: %v", refusal)
	}
	n.Close()
	s.Kill()
	s.Machine = Start(t, s.options)
	s.Expect(t, `netconf ready`, bootTime)
	if last == "" {
		last = "192.168.2.0/24"
	}
	if got := s.admin.Dial(t, s.SSH, bootTime).Must(t, `<get-config><source><running/></source></get-config>`); !strings.Contains(got, last) {
		t.Errorf("what was acknowledged is lost: want %s in %s", last, got)
	}
}
