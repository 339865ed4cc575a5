package test

import (
	"bytes"
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
	admin := NewAdmin(t)
	dir := disk(t, "raw")
	_, private, err := Cable(dir, "private", "virtio-net-pci", 2)
	if err != nil {
		t.Fatal(err)
	}
	_, public, err := Cable(dir, "public", "virtio-net-pci", 3)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{admin: admin, options: Options{
		Dir: dir, NICs: append(private, public...),
		OEM: []string{"vita.admin-key=" + admin.Line, "vita.admin-password=" + password},
	}}
	s.Machine = Start(t, s.options)
	s.Expect(t, `netconf ready`, bootTime)
	n := admin.Dial(t, s.SSH, bootTime)
	n.Configure(t, config(1, 2))
	n.Close()
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
	n = admin.Dial(t, s.SSH, bootTime)
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
	if got := admin.Dial(t, s.SSH, bootTime).Must(t, `<get-config><source><running/></source></get-config>`); !strings.Contains(got, last) {
		t.Errorf("what was acknowledged is lost: want %s in %s", last, got)
	}
}
