package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"vita/appliance-image/internal/fat"
	"vita/appliance-image/internal/gpt"
	"vita/appliance-image/internal/sparse"
	"vita/appliance-image/internal/verity"
	"vita/internal/cpio"

	"aead.dev/minisign"
)

// root is a root partition.
type root struct {
	image []byte // data and hash tree
	name  verity.Root
}

// programs of the root partition, by the packages they are built from.
var programs = map[string]string{
	"vita-init":   "./appliance-image/init",
	"vitad":       "./cmd/vitad",
	"vita-engine": "./cmd/vita-engine",
	"vitactl":     "./cmd/vitactl",
}

// Identifiers that have no reason to differ from image to image.
const (
	rootUUID  = "76697461-726f-6f74-8000-000000000001"
	stateUUID = "76697461-7374-6174-8000-000000000002"
	hashSeed  = "76697461-7365-6564-8000-000000000003"
)

// makeRoot fills a folder and makes a read-only file system of it.
func (b *build) makeRoot() (*root, error) {
	dir := filepath.Join(b.work, "root")
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "state", "esp", "media", "etc/ssl/certs", "usr/bin", "usr/share/vita"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	for name, pkg := range programs {
		if err := b.goBuild(filepath.Join(dir, "usr/bin", name), pkg); err != nil {
			return nil, err
		}
	}
	names, err := b.moduleNames(places...)
	if err != nil {
		return nil, err
	}
	mods, err := b.kernel.pick(names)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"etc/os-release":       []byte(b.osRelease()),
		"etc/passwd":           []byte("root:x:0:0:root:/:/nonexistent\n"),
		"etc/group":            []byte("root:x:0:\n"),
		"etc/hosts":            []byte("127.0.0.1 localhost\n::1 localhost\n"),
		"etc/nsswitch.conf":    []byte("hosts: files dns\n"),
		"usr/share/vita/epoch": []byte(strconv.FormatInt(b.epoch.Unix(), 10) + "\n"),
	}
	public, ok := b.key.Public().(minisign.PublicKey)
	if !ok {
		return nil, errors.New("the key for upgrades has no public part")
	}
	if files["usr/share/vita/upgrade.pub"], err = public.MarshalText(); err != nil {
		return nil, err
	}
	for name, data := range mods {
		files[filepath.Join("usr/lib/modules", name)] = data
	}
	if files["etc/ssl/certs/ca-certificates.crt"], err = certificates(b.debs["ca-certificates"]); err != nil {
		return nil, err
	}
	if files["usr/share/vita/state.ext4.packed"], err = b.stateTemplate(); err != nil {
		return nil, err
	}
	for name, data := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644)); err != nil {
			return nil, err
		}
	}
	for link, to := range map[string]string{
		"sbin": "usr/bin", "bin": "usr/bin", "lib": "usr/lib",
		"etc/resolv.conf": "/run/resolv.conf", "etc/machine-id": "/run/machine-id", "etc/hostname": "/run/hostname",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			return nil, err
		}
	}
	return b.seal(dir)
}

// seal makes erofs and the hash tree.
func (b *build) seal(dir string) (*root, error) {
	file := filepath.Join(b.work, "root.erofs")
	if err := b.tool("mkfs.erofs", nil, "-zlz4hc,9", "-C65536", "-T"+strconv.FormatInt(b.epoch.Unix(), 10), "-U"+rootUUID, "--all-root", "-x-1", file, dir); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	data = append(data, make([]byte, -len(data)&(verity.BlockSize-1))...)
	tree, name, err := verity.Build(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	image := append(data, tree...)
	if len(image) > rootSize {
		return nil, fmt.Errorf("%d bytes are more than the %d of a slot", len(image), rootSize)
	}
	return &root{image, name}, nil
}

func (b *build) moduleNames(at ...string) ([]string, error) {
	list, err := os.ReadFile(b.list)
	if err != nil {
		return nil, err
	}
	return readList(string(list), at...)
}

// osRelease says what the system is. The boot loader orders kernel images by
// it: all of them are alike, so that only the names of their files count.
func (b *build) osRelease() string {
	return "ID=vita\nNAME=\"Vita\"\nPRETTY_NAME=\"Vita " + b.version + "\"\nIMAGE_ID=vita\nVITA_VERSION=" + b.version + "\n"
}

// goBuild builds a program the same way wherever it is built.
func (b *build) goBuild(out, pkg string) error {
	ldflags := "-s -w -buildid="
	if pkg == "./appliance-image/init" || pkg == "./cmd/vita-engine" {
		ldflags += " -X main.release=" + b.version
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	b.programs = append(b.programs, out)
	return nil
}

// tool runs a program of the pinned packages, by their own libraries.
func (b *build) tool(name string, env []string, args ...string) error {
	tree := filepath.Join(b.work, "tree")
	var program string
	for _, d := range []string{"usr/bin", "usr/sbin", "bin", "sbin"} {
		if f := filepath.Join(tree, d, name); hash(f) != "" {
			program = f
		}
	}
	if program == "" {
		return fmt.Errorf("no %s in the pinned packages", name)
	}
	libs := filepath.Join(tree, "lib/x86_64-linux-gnu") + ":" + filepath.Join(tree, "usr/lib/x86_64-linux-gnu")
	loader := filepath.Join(tree, "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
	cmd := exec.Command(loader, append([]string{"--library-path", libs, program}, args...)...)
	cmd.Env = append([]string{"LC_ALL=C", "TZ=UTC"}, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// stateTemplate is an empty file system for the state, which init writes at the
// first boot and at a factory reset.
func (b *build) stateTemplate() ([]byte, error) {
	file := filepath.Join(b.work, "state.ext4")
	conf := filepath.Join(b.work, "mke2fs.conf")
	if err := os.WriteFile(conf, []byte("[defaults]\n\tbase_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr\n\tblocksize = 4096\n\tinode_size = 256\n\tinode_ratio = 16384\n[fs_types]\n\text4 = {\n\t\tfeatures = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize\n\t}\n"), 0o644); err != nil {
		return nil, err
	}
	env := []string{"MKE2FS_CONFIG=" + conf, "E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(b.epoch.Unix(), 10)}
	if err := b.tool("mke2fs", env, "-q", "-t", "ext4", "-L", "vita-state", "-m", "0", "-U", stateUUID,
		"-E", "hash_seed="+hashSeed+",lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", "-J", "size=4", file, strconv.Itoa(stateSize/1024)+"k"); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	err = sparse.Pack(&packed, data)
	return packed.Bytes(), err
}

// certificates are those of the authorities that Mozilla trusts, for upgrades
// by https.
func certificates(deb string) ([]byte, error) {
	var all bytes.Buffer
	err := each(deb, func(p string) bool {
		return strings.HasPrefix(p, "/usr/share/ca-certificates/mozilla/") && strings.HasSuffix(p, ".crt")
	},
		func(_ string, _ *tar.Header, r io.Reader) error {
			_, err := io.Copy(&all, r)
			return err
		})
	if err == nil && all.Len() == 0 {
		err = fmt.Errorf("%s: no certificates", deb)
	}
	return all.Bytes(), err
}

// commandLine is the kernel's. It is part of the signed and measured image:
// nobody can add to it where Secure Boot is on.
//
// The second line shortens a start: the kernel does not test its own ciphers, of
// which only dm-verity and the signatures of modules use any, nor a derivation of
// keys that nothing uses, for which it would first wait until the initial file
// system is unpacked; it has no events of kprobes, and no file system for tracing,
// whose ten thousand files nothing opens and which took 9 MB. Programs that want huge
// pages ask for them: the runtime of Go touches a few bytes in many places, and each
// would become 2 MiB.
const commandLine = "console=tty0 console=ttyS0,115200 quiet loglevel=4 panic=10 oops=panic lockdown=integrity " +
	"cryptomgr.notests initcall_blacklist=crypto_kdf108_init,init_kprobe_trace,tracer_init_tracefs transparent_hugepage=madvise " +
	"intel_iommu=on iommu=pt no_timer_check vsyscall=none slab_nomerge init_on_alloc=1 vita.root="

// makeKernel makes the unified kernel image.
func (b *build) makeKernel(r *root) ([]byte, error) {
	program, err := os.ReadFile(filepath.Join(b.work, "root/usr/bin/vita-init"))
	if err != nil {
		return nil, err
	}
	common, err := b.moduleNames("early")
	if err != nil {
		return nil, err
	}
	rare, err := b.moduleNames("rare")
	if err != nil {
		return nil, err
	}
	mods, err := b.kernel.early(common, rare)
	if err != nil {
		return nil, err
	}
	entries := []cpio.Entry{{Path: "/init", Mode: cpio.File | 0o755, Data: program}, {Path: "/dev/console", Mode: cpio.Char | 0o600, Dev: 1}}
	for _, name := range sorted(mods) {
		entries = append(entries, cpio.Entry{Path: "/modules/" + name, Mode: cpio.File | 0o644, Data: mods[name]})
	}
	var initrd bytes.Buffer
	if err := cpio.Write(&initrd, entries); err != nil {
		return nil, err
	}
	stub, err := b.bootFile("linuxx64.efi.stub")
	if err != nil {
		return nil, err
	}
	return makeUKI(stub, []section{
		{".osrel", []byte(b.osRelease())},
		{".cmdline", []byte(commandLine + r.name.String())},
		{".uname", []byte(b.kernel.version)},
		{".initrd", initrd.Bytes()},
		{".linux", b.kernel.image},
	})
}

// bootFile is a file of systemd's boot loader.
func (b *build) bootFile(name string) (data []byte, err error) {
	err = each(b.debs["systemd-boot-efi"], func(p string) bool { return p == "/usr/lib/systemd/boot/efi/"+name },
		func(_ string, _ *tar.Header, r io.Reader) (err error) {
			data, err = io.ReadAll(r)
			return err
		})
	if err == nil && data == nil {
		err = fmt.Errorf("systemd-boot-efi has no %s", name)
	}
	return data, err
}

// loaderConf lets the boot loader start the newest image that has tries left,
// at once, and nobody change a command line.
const loaderConf = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\nrandom-seed-mode off\n"

// makeDisk puts all together.
func (b *build) makeDisk(r *root, uki []byte) ([]byte, error) {
	if maxKernels*len(uki) > espSize-3*mib {
		return nil, fmt.Errorf("%d kernel images of %d bytes do not fit into the EFI system partition", maxKernels, len(uki))
	}
	loader, err := b.bootFile("systemd-bootx64.efi")
	if err != nil {
		return nil, err
	}
	esp, err := fat.Make(espSize, map[string][]byte{
		"/EFI/BOOT/BOOTX64.EFI":        loader,
		"/EFI/Linux/vita-000001-a.efi": uki,
		"/loader/loader.conf":          []byte(loaderConf),
	})
	if err != nil {
		return nil, err
	}
	id := func(n byte) gpt.GUID {
		g := gpt.GUID{'v', 'i', 't', 'a', '-', 'a', 0x40, 'p', 0x80, 'l', 'i', 'a', 'n', 'c', 'e', n}
		return g
	}
	var parts []gpt.Partition
	at := int64(gpt.ReservedFirst)
	add := func(name string, kind gpt.GUID, size int64) int64 {
		start := at
		parts = append(parts, gpt.Partition{Name: name, Type: kind, ID: id(byte(len(parts) + 1)), Start: start, Size: size})
		at += size
		return start
	}
	espAt := add("vita-esp", gpt.TypeESP, espSize)
	rootAt := add("vita-root-a", gpt.TypeRoot, rootSize)
	add("vita-root-b", gpt.TypeRoot, rootSize)
	add("vita-state", gpt.TypeState, stateSize)
	size := at + gpt.Align // the last table takes less
	first, last, err := gpt.Table(id(0), size, parts)
	if err != nil {
		return nil, err
	}
	if size > maxImage {
		return nil, fmt.Errorf("the image has %d bytes, more than %d", size, maxImage)
	}
	disk := make([]byte, size)
	copy(disk, first)
	copy(disk[espAt:], esp)
	copy(disk[rootAt:], r.image)
	copy(disk[size-int64(len(last)):], last)
	return disk, nil
}

func sorted(m map[string][]byte) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
