package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"vita/appliance-image/internal/fat"
	"vita/appliance-image/internal/gpt"
	"vita/appliance-image/internal/modules"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/filesystem"
	gptread "github.com/diskfs/go-diskfs/partition/gpt"
)

func random(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	_, _ = r.Read(b) // it never fails
	return b
}

// TestDisk lets another implementation read the partition table and the file
// system.
func TestDisk(t *testing.T) {
	files := map[string][]byte{
		"/EFI/BOOT/BOOTX64.EFI":                           random(1000),
		"/EFI/Linux/vita-000001-a+1.efi":                  random(3 << 20),
		"/loader/loader.conf":                             []byte("timeout 0\n"),
		"/a file with a name of more than 26 letters.txt": []byte("x"),
		"/empty": nil,
	}
	for i := range 40 { // a folder of more than one cluster
		files["/many/file "+string('a'+rune(i%26))+string('a'+rune(i/26))] = random(i * 100)
	}
	const size = 40 << 20
	esp, err := fat.Make(size, files)
	if err != nil {
		t.Fatal(err)
	}
	parts := []gpt.Partition{
		{Name: "vita-esp", Type: gpt.TypeESP, ID: gpt.GUID{1, 2, 3}, Start: gpt.Align, Size: size},
		{Name: "vita-root-a", Type: gpt.TypeRoot, ID: gpt.GUID{4}, Start: gpt.Align + size, Size: 4 << 20},
	}
	total := int64(gpt.Align+size+4<<20) + gpt.Align
	first, last, err := gpt.Table(gpt.GUID{9}, total, parts)
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, total)
	copy(disk, first)
	copy(disk[gpt.Align:], esp)
	copy(disk[total-int64(len(last)):], last)
	name := filepath.Join(t.TempDir(), "disk")
	if err := writeSparse(name, disk); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(name); err != nil || !bytes.Equal(again, disk) {
		t.Fatalf("the sparse file differs, %v", err)
	}

	d, err := diskfs.Open(name, diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	raw, err := d.GetPartitionTable()
	if err != nil {
		t.Fatal(err)
	}
	table, ok := raw.(*gptread.Table)
	if !ok {
		t.Fatalf("a table of %T", raw)
	}
	if err := table.Verify(d.Backend, uint64(total)); err != nil {
		t.Error(err)
	}
	if p := table.Partitions[0]; p.Name != "vita-esp" || p.Type != gptread.EFISystemPartition || p.GetStart() != gpt.Align || p.GetSize() != size {
		t.Errorf("%+v", p)
	}
	if p := table.Partitions[1]; p.Name != "vita-root-a" || p.GetSize() != 4<<20 {
		t.Errorf("%+v", p)
	}
	fs, err := d.GetFilesystem(1)
	if err != nil {
		t.Fatal(err)
	}
	if fs.Type() != filesystem.TypeFat32 || strings.TrimSpace(fs.Label()) != "VITA ESP" {
		t.Errorf("type %v, label %q", fs.Type(), fs.Label())
	}
	for name, want := range files {
		if len(want) == 0 {
			continue // which that implementation cannot read
		}
		f, err := fs.OpenFile(name, os.O_RDONLY)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// It reads whole clusters; the size it has from the folder.
		info, statErr := f.Stat()
		got, err := io.ReadAll(f)
		if err != nil || statErr != nil || info.Size() != int64(len(want)) || !bytes.HasPrefix(got, want) {
			t.Errorf("%s: %d bytes, want %d, %v, %v", name, len(got), len(want), err, statErr)
		}
	}
}

func TestDiskRefuses(t *testing.T) {
	if _, err := fat.Make(1<<20, nil); err == nil {
		t.Error("a file system that is too small for FAT32")
	}
	if _, err := fat.Make(40<<20, map[string][]byte{"/big": make([]byte, 41<<20)}); err == nil {
		t.Error("a file that does not fit")
	}
	for _, p := range []gpt.Partition{{Start: 512, Size: 512}, {Start: gpt.Align, Size: 0}, {Start: gpt.Align, Size: 9 << 20}, {Start: gpt.Align, Size: 100}, {Name: strings.Repeat("n", 37), Start: gpt.Align, Size: 512}} {
		if _, _, err := gpt.Table(gpt.GUID{}, 4<<20, []gpt.Partition{p}); err == nil {
			t.Errorf("%+v", p)
		}
	}
}

// stub is a PE file with one section, room for three more, and rubbish behind.
func stub() []byte {
	b := make([]byte, 0x600)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	le.PutUint16(b[0x84:], 0x8664)
	le.PutUint16(b[0x86:], 1)
	le.PutUint32(b[0x88:], 12345) // time
	le.PutUint16(b[0x94:], 240)
	opt := b[0x98:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[32:], 4096)
	le.PutUint32(opt[36:], 512)
	le.PutUint32(opt[56:], 0x2000)
	le.PutUint32(opt[60:], 0x200+120)
	le.PutUint32(opt[108:], 16)
	h := b[0x98+240:]
	copy(h, ".text")
	le.PutUint32(h[8:], 0x100)
	le.PutUint32(h[12:], 0x1000)
	le.PutUint32(h[16:], 0x200)
	le.PutUint32(h[20:], 0x400)
	return b
}

func TestUKI(t *testing.T) {
	sections := []section{{".osrel", []byte("ID=vita\n")}, {".cmdline", []byte("quiet")}, {".linux", random(5000)}}
	b, err := makeUKI(stub(), sections)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if f.TimeDateStamp != 0 || len(f.Sections) != 4 {
		t.Errorf("%+v", f.FileHeader)
	}
	end := uint32(0)
	for i, s := range f.Sections {
		if s.VirtualAddress < end || s.VirtualAddress%4096 != 0 {
			t.Errorf("%s at %x, the one before ends at %x", s.Name, s.VirtualAddress, end)
		}
		end = s.VirtualAddress + s.VirtualSize
		if i == 0 {
			continue
		}
		data, err := s.Data()
		if want := sections[i-1]; err != nil || s.Name != want.name || !bytes.Equal(data[:s.VirtualSize], want.data) {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	if size := f.OptionalHeader.(*pe.OptionalHeader64).SizeOfImage; size < end || size%4096 != 0 {
		t.Errorf("image of %x bytes, sections up to %x", size, end)
	}
	for name, bad := range map[string][]byte{"empty": nil, "no PE": make([]byte, 0x600), "cut": stub()[:0x300], "offset": append([]byte("MZ"), bytes.Repeat([]byte{0xff}, 0x600)...)} {
		if _, err := makeUKI(bad, sections); err == nil {
			t.Error(name)
		}
	}
	if _, err := makeUKI(stub(), append(sections, sections...)); err == nil {
		t.Error("more sections than there is room for")
	}
	if _, err := makeUKI(stub(), []section{{".toolongname", nil}}); err == nil {
		t.Error("a long name")
	}
}

// TestQcow2 reads an image as QEMU's document describes it. QEMU itself reads
// it in the tests of the appliance.
func TestQcow2(t *testing.T) {
	const cluster = 64 << 10
	for _, size := range []int{cluster, 3*cluster + 512, 9000 * cluster} { // the last has two tables
		disk := make([]byte, size)
		copy(disk[size-512:], random(512))
		copy(disk[size/2:], random(100))
		var b bytes.Buffer
		if err := writeQcow2(&b, disk); err != nil {
			t.Fatal(err)
		}
		f := b.Bytes()
		be := binary.BigEndian
		if string(f[:4]) != "QFI\xfb" || be.Uint32(f[4:]) != 3 || be.Uint32(f[20:]) != 16 || be.Uint64(f[24:]) != uint64(size) || len(f)%cluster != 0 {
			t.Fatalf("header % x", f[:104])
		}
		got := make([]byte, size)
		l1 := f[be.Uint64(f[40:]):]
		counts := map[uint64]int{0: 1, be.Uint64(f[40:]): 1, be.Uint64(f[48:]): 1}
		const mask = 1<<56 - 512
		for i := range int(be.Uint32(f[36:])) {
			at := be.Uint64(l1[8*i:]) & mask
			counts[at]++
			for j := range cluster / 8 {
				if c := be.Uint64(f[at+uint64(8*j):]) & mask; c != 0 {
					counts[c]++
					copy(got[(i*cluster/8+j)*cluster:], f[c:c+cluster])
				}
			}
		}
		if !bytes.Equal(got, disk) {
			t.Errorf("%d bytes: other data", size)
		}
		block := be.Uint64(f[be.Uint64(f[48:]):])
		counts[block]++
		for c := range len(f) / cluster {
			if n := int(be.Uint16(f[block+uint64(2*c):])); n != counts[uint64(c)*cluster] || n != 1 {
				t.Errorf("%d bytes: cluster %d is counted %d times, used %d times", size, c, n, counts[uint64(c)*cluster])
			}
		}
	}
}

func TestLock(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	pins, err := readLock(strings.NewReader("# comment\n\nlinux 1.0 " + hash + " pool/x.deb image\n"))
	if err != nil || len(pins) != 1 || pins[0] != (pin{"linux", "1.0", hash, "pool/x.deb", "image"}) {
		t.Error(pins, err)
	}
	for _, bad := range []string{"linux 1.0 " + hash + " pool/x.deb", "linux 1.0 beef pool/x.deb image", "linux 1.0 " + hash + " pool/x.deb other"} {
		if _, err := readLock(strings.NewReader(bad)); err == nil {
			t.Error(bad)
		}
	}
	f, err := os.Open("../kernel/packages.lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if pins, err := readLock(f); err != nil || len(pins) < 10 {
		t.Errorf("the project's own: %d, %v", len(pins), err)
	}
}

// TestPick: what a module needs comes before it, and what says so is what
// package modules reads.
func TestPick(t *testing.T) {
	k := &kernel{version: "6", modules: map[string]*module{
		"a": {file: "a.ko", data: []byte("A"), depends: []string{"b"}, softpre: []string{"s", "builtin"}, aliases: []string{"pci:v1*", "of:x y"}},
		"b": {file: "b.ko", data: []byte("B"), depends: []string{"c"}},
		"c": {file: "c.ko", data: []byte("C")},
		"s": {file: "s.ko", data: []byte("S")},
		"x": {file: "x.ko", data: []byte("X")},
	}}
	files, err := k.pick([]string{"a", "c"})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, []string{"a.ko", "b.ko", "c.ko", "modules.alias", "modules.dep", "s.ko"}) {
		t.Error(got)
	}
	if got, want := string(files["modules.dep"]), "a.ko: s.ko c.ko b.ko\nb.ko: c.ko\nc.ko: \ns.ko: \n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := string(files["modules.alias"]), "alias pci:v1* a\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := k.pick([]string{"none"}); err == nil {
		t.Error("a module that is none")
	}
	early, err := k.early([]string{"c"}, []string{"b", "x"})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(early)); !slices.Equal(got, []string{"b.ko.gz", "c.ko", "modules.alias", "modules.dep", "x.ko.gz"}) {
		t.Error(got)
	}
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := modules.Open(dir); err != nil || len(s.Match("pci:v12")) != 1 {
		t.Error(err)
	}
}

func TestList(t *testing.T) {
	text := "# comment\na early\nb root\nc rare\n\n"
	if names, err := readList(text, "early", "rare"); err != nil || !slices.Equal(names, []string{"a", "c"}) {
		t.Error(names, err)
	}
	if names, err := readList(text, "root"); err != nil || !slices.Equal(names, []string{"b"}) {
		t.Error(names, err)
	}
	for _, bad := range []string{"a", "a late", "a early x"} {
		if _, err := readList(bad, "root"); err == nil {
			t.Error(bad)
		}
	}
}

func TestSBOM(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pins := []pin{{"linux", "6.1+2", strings.Repeat("0a", 32), "x", "image"}, {"erofs-utils", "1.5", strings.Repeat("0b", 32), "x", "tool"}}
	b, err := sbom("1.0", time.Unix(0, 0), [32]byte{1}, pins, []string{self})
	if err != nil {
		t.Fatal(err)
	}
	var doc spdx
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Creation.Created != "1970-01-01T00:00:00Z" || len(doc.Packages) != len(doc.Relationships) {
		t.Errorf("%+v", doc.Creation)
	}
	ids := make(map[string]bool)
	purls := make(map[string]bool)
	for _, p := range doc.Packages {
		if ids[p.ID] {
			t.Errorf("%s twice", p.ID)
		}
		ids[p.ID] = true
		for _, r := range p.Refs {
			purls[r.Locator] = true
		}
	}
	for _, want := range []string{"pkg:deb/debian/linux@6.1%2B2?arch=amd64&distro=bookworm", "pkg:golang/stdlib@" + strings.TrimPrefix(runtime.Version(), "go")} {
		if !purls[want] {
			t.Errorf("no %s", want)
		}
	}
	for _, r := range doc.Relationships[1:] {
		if !ids[r.From] || !ids[r.To] {
			t.Errorf("%+v", r)
		}
	}
}

// TestDeb lets dpkg read the package.
func TestDeb(t *testing.T) {
	b := &build{version: "1.2.3", epoch: time.Unix(1790000000, 0)}
	files := map[string][]byte{"/usr/sbin/vitad": []byte("#!/bin/sh\necho it runs\n"), "/lib/systemd/system/vitad.service": []byte("[Unit]\n"), "/usr/share/doc/vita/copyright": []byte("x")}
	data, err := b.makeDeb(files)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.makeDeb(files); err != nil || !bytes.Equal(again, data) {
		t.Error("not the same bytes", err)
	}
	deb := filepath.Join(t.TempDir(), "vita.deb")
	if err := os.WriteFile(deb, data, 0o600); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	run := func(words ...string) string {
		t.Helper()
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", words, err, out)
		}
		return string(out)
	}
	if got := run("dpkg-deb", "--field", deb, "Package", "Version", "Architecture"); got != "Package: vita\nVersion: 1.2.3\nArchitecture: amd64\n" {
		t.Errorf("%q", got)
	}
	run("dpkg-deb", "--raw-extract", deb, to)
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got := run(filepath.Join(to, "usr/sbin/vitad")); got != "it runs\n" {
		t.Errorf("%q", got)
	}
	for _, script := range []string{"postinst", "postrm", "prerm"} {
		run("sh", "-n", filepath.Join(to, "DEBIAN", script))
	}
	check := exec.Command("md5sum", "--check", "--quiet", "DEBIAN/md5sums")
	check.Dir = to
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func FuzzUKI(f *testing.F) {
	f.Add(stub())
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := makeUKI(b, []section{{".linux", []byte("kernel")}})
		if err == nil && len(out) < 6 {
			t.Error("lost")
		}
	})
}
