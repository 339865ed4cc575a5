package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// memory is a partition in memory.
type memory []byte

func (m memory) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(b, m[at:]), nil
}

func (m memory) WriteAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[at:], b), nil
}

const size = 34 << 20

func made(t testing.TB) memory {
	t.Helper()
	b, err := Make(size, map[string][]byte{
		"/EFI/Linux/vita-000001-a.efi": bytes.Repeat([]byte("kernel"), 20000), "/EFI/BOOT/BOOTX64.EFI": []byte("loader"), "/loader/loader.conf": []byte("timeout 0"), "/empty": nil,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entry returns where a cluster stands in the first table.
func entry(m memory, cluster int) []byte { return m[reserved*sectorSize+4*cluster:] }

func TestReclaim(t *testing.T) {
	m := made(t)
	whole := bytes.Clone(m)
	if n, err := Reclaim(m); n != 0 || err != nil || !bytes.Equal(m, whole) {
		t.Fatalf("where nothing is lost: %d, %v", n, err)
	}
	// A chain of three without a name, behind all others, in both tables.
	tableSectors := int(binary.LittleEndian.Uint32(m[36:]))
	const first = 50000
	for i := range 3 {
		next := uint32(first + i + 1)
		if i == 2 {
			next = endOfChain
		}
		for table := range 2 {
			binary.LittleEndian.PutUint32(entry(m, first+i)[table*tableSectors*sectorSize:], next)
		}
	}
	if n, err := Reclaim(m); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	copy(whole[sectorSize+488:], "\xff\xff\xff\xff\xff\xff\xff\xff")
	if !bytes.Equal(m, whole) {
		t.Error("something else has changed")
	}
}

// TestReclaimBesideOthers: what another implementation has written, renamed and
// removed is all there afterwards, and nothing of it is taken for lost.
func TestReclaimBesideOthers(t *testing.T) {
	if _, err := exec.LookPath("mcopy"); err != nil && os.Getenv("CI") == "" {
		t.Skip("no mtools: test/setup.sh installs them")
	}
	dir := t.TempDir()
	disk, kernel := filepath.Join(dir, "disk"), filepath.Join(dir, "kernel")
	big := bytes.Repeat([]byte("another kernel "), 300000)
	if err := errors.Join(os.WriteFile(disk, made(t), 0o600), os.WriteFile(kernel, big, 0o600)); err != nil {
		t.Fatal(err)
	}
	run := func(words ...string) string {
		t.Helper()
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", words, err, out)
		}
		return string(out)
	}
	reclaim := func() int {
		t.Helper()
		f, err := os.OpenFile(disk, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		n, err := Reclaim(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return n
	}
	run("mcopy", "-i", disk, kernel, "::EFI/Linux/vita-000002-b+1.efi.part")
	run("mren", "-i", disk, "::EFI/Linux/vita-000002-b+1.efi.part", "vita-000002-b+1.efi")
	run("mdel", "-i", disk, "::EFI/Linux/vita-000001-a.efi")
	run("mmd", "-i", disk, "::EFI/more")
	for i := range 40 { // a folder that grows
		run("mcopy", "-i", disk, kernel, fmt.Sprintf("::EFI/more/a longer name, the %dth", i))
		if i%2 == 0 {
			run("mdel", "-i", disk, fmt.Sprintf("::EFI/more/a longer name, the %dth", i))
		}
		if i == 3 {
			if err := os.WriteFile(kernel, []byte("small"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	before, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if n := reclaim(); n != 0 {
		t.Errorf("%d clusters are taken for lost", n)
	}
	if after, err := os.ReadFile(disk); err != nil || !bytes.Equal(before, after) {
		t.Errorf("something has changed, %v", err)
	}
	// Its entry is gone, as if the power went before it was written.
	short := bytes.Index(before, []byte("VITA-0"))
	if short < 0 {
		t.Fatal("the short name of the kernel image is not found")
	}
	before[short] = 0xe5
	if err := os.WriteFile(disk, before, 0o600); err != nil {
		t.Fatal(err)
	}
	want := (len(big) + sectorSize - 1) / sectorSize
	if n := reclaim(); n != want {
		t.Errorf("%d clusters are found, want the %d of the file", n, want)
	}
	if n := reclaim(); n != 0 {
		t.Errorf("%d clusters are found again", n)
	}
	if out := run("mdir", "-i", disk, "::EFI/more"); !strings.Contains(out, "the 39th") {
		t.Errorf("the other files: %s", out)
	}
}

// TestTwoNames: a file with two names, as a power cut in a change of names leaves
// it, keeps its data.
func TestTwoNames(t *testing.T) {
	m := made(t)
	// The label's entry of the root becomes a second name of the first file there.
	root := (reserved + 2*int(binary.LittleEndian.Uint32(m[36:]))) * sectorSize
	at := bytes.Index(m[root:], []byte("VITA ESP   \x08"))
	kernel := bytes.Index(m, []byte("kernel"))
	cluster := (kernel-root)/sectorSize + firstCluster
	e := m[root+at:]
	copy(e, shortEntry("SECOND  EFI", attrArchive, uint32(cluster), 120000))
	before := bytes.Clone(m)
	if n, err := Reclaim(m); n != 0 || err != nil || !bytes.Equal(m, before) {
		t.Errorf("%d, %v", n, err)
	}
}

func TestReclaimRefuses(t *testing.T) {
	for name, harm := range map[string]func(m memory){
		"no signature":  func(m memory) { m[510] = 0 },
		"sector size":   func(m memory) { m[12] = 16 },
		"no table":      func(m memory) { binary.LittleEndian.PutUint32(m[36:], 0) },
		"a huge table":  func(m memory) { binary.LittleEndian.PutUint32(m[36:], 1<<30) },
		"few clusters":  func(m memory) { binary.LittleEndian.PutUint32(m[32:], 1000) },
		"out of bounds": func(m memory) { binary.LittleEndian.PutUint32(entry(m, firstCluster), 0x0ffffff0) },
	} {
		m := made(t)
		harm(m)
		before := bytes.Clone(m)
		if n, err := Reclaim(m); err == nil || n != 0 || !bytes.Equal(m, before) {
			t.Errorf("%s: %d, %v", name, n, err)
		} else if !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Reclaim(memory(nil)); err == nil {
		t.Error("nothing")
	}
}

// FuzzReclaim changes bytes of what describes the file system, and of its
// folders: whatever they say, it ends, and stays within the partition.
func FuzzReclaim(f *testing.F) {
	whole := made(f)
	root := (reserved + 2*int(binary.LittleEndian.Uint32(whole[36:]))) * sectorSize
	f.Add(uint16(13), []byte{2}, uint16(0), []byte{})
	f.Add(uint16(0), []byte{}, uint16(32), []byte("FOLDER     \x10"))
	f.Fuzz(func(t *testing.T, at uint16, head []byte, where uint16, folders []byte) {
		if int(at)+len(head) > sectorSize || int(where)+len(folders) > 16*sectorSize {
			return
		}
		m := memory(bytes.Clone(whole))
		copy(m[at:], head)
		copy(m[root+int(where):], folders)
		_, _ = Reclaim(m) // it must return
	})
}
