// Build makes the appliance: a disk image that boots into a gateway, and what
// upgrades one. It needs no root and no loop device, and the same sources give
// the same bytes.
//
//	disk: table | vita-esp | vita-root-a | vita-root-b | vita-state | table
//	vita-esp: systemd-boot, and a unified kernel image for each root
//	vita-root: erofs | its hash tree, whose root hash is in the kernel image
package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vita/appliance-image/internal/bundle"

	"aead.dev/minisign"
)

// Sizes of the image. The limits are those of the project.
const (
	mib        = 1 << 20
	espSize    = 72 * mib // two kernel images and a third that is being written
	rootSize   = 80 * mib // of each slot
	stateSize  = 48 * mib
	maxImage   = 300 * mib
	maxKernels = 3
)

func main() {
	out := flag.String("out", "build/image", "folder for what is made")
	version := flag.String("version", "0.0.0", "of the image")
	epoch := flag.Int64("epoch", 1735689600, "time of the sources, in seconds since 1970: the clock of an appliance does not begin before it")
	kernelDir := flag.String("kernel", "appliance-image/kernel", "folder with packages.lock and modules.list")
	key := flag.String("key", "build/upgrade.key", "minisign's secret key that signs upgrades, without a password; made where there is none. The image takes upgrades that it has signed")
	deb := flag.Bool("deb", false, "only make a Debian package of the programs")
	pinOnly := flag.Bool("pin", false, "only write packages.lock anew, from the packages that the machine's mirrors have now")
	flag.Parse()
	lock := filepath.Join(*kernelDir, "packages.lock")
	err := func() error {
		if *pinOnly {
			return repin(lock)
		}
		b := &build{out: *out, version: *version, epoch: time.Unix(*epoch, 0), keyFile: *key, lock: lock, list: filepath.Join(*kernelDir, "modules.list")}
		if *deb {
			return b.debian()
		}
		return b.run()
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

// build is one run.
type build struct {
	out, version, lock, list, keyFile string
	epoch                             time.Time

	key      minisign.PrivateKey
	work     string
	debs     map[string]string // of packages, by name
	pins     []pin
	kernel   *kernel
	programs []string
}

func (b *build) run() (err error) {
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp(b.out, "work"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	if b.key, err = signingKey(b.keyFile); err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	if err := b.packages(); err != nil {
		return err
	}
	root, err := b.makeRoot()
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	uki, err := b.makeKernel(root)
	if err != nil {
		return fmt.Errorf("kernel image: %w", err)
	}
	disk, err := b.makeDisk(root, uki)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	list, err := sbom(b.version, b.epoch, root.name.Hash, b.pins, b.programs)
	if err != nil {
		return fmt.Errorf("list of ingredients: %w", err)
	}
	qcow, err := os.Create(filepath.Join(b.out, "vita.qcow2"))
	if err != nil {
		return err
	}
	if err := errors.Join(writeQcow2(qcow, disk), qcow.Close()); err != nil {
		return err
	}
	upgrade, err := os.Create(filepath.Join(b.out, "vita.upgrade"))
	if err != nil {
		return err
	}
	if err := errors.Join(bundle.Write(upgrade, b.version, uki, root.image, b.key), upgrade.Close()); err != nil {
		return err
	}
	if err := errors.Join(
		writeSparse(filepath.Join(b.out, "vita.raw"), disk),
		os.WriteFile(filepath.Join(b.out, "vita.spdx.json"), list, 0o644),
	); err != nil {
		return err
	}
	fmt.Printf("%s: image %d MiB, root %d KiB, kernel image %d KiB, version %s\n",
		filepath.Join(b.out, "vita.raw"), len(disk)/mib, len(root.image)/1024, len(uki)/1024, b.version)
	return nil
}

// signingKey reads the key for upgrades, or makes one.
func signingKey(file string) (key minisign.PrivateKey, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		if _, key, err = minisign.GenerateKey(rand.Reader); err != nil {
			return key, err
		}
		text, err := key.MarshalText()
		if err != nil {
			return key, err
		}
		fmt.Fprintf(os.Stderr, "build: a new key for upgrades is in %s: keep it, and keep it secret\n", file)
		return key, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text, 0o600))
	}
	if err != nil {
		return key, err
	}
	if minisign.IsEncrypted(b) {
		return key, fmt.Errorf("%s has a password: take it off for the time of the build", file)
	}
	return key, key.UnmarshalText(b)
}

// packages fetches all that is pinned.
func (b *build) packages() error {
	f, err := os.Open(b.lock)
	if err != nil {
		return err
	}
	b.pins, err = readLock(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	s, err := newStore()
	if err != nil {
		return err
	}
	b.debs = make(map[string]string)
	var tools []string
	for _, p := range b.pins {
		file, err := s.fetch(p)
		if err != nil {
			return err
		}
		name := p.Name
		if strings.HasPrefix(name, "linux-image-") {
			name = "linux"
		}
		b.debs[name] = file
		if p.Use == "tool" {
			tools = append(tools, file)
		}
	}
	for _, need := range []string{"linux", "systemd-boot-efi", "ca-certificates"} {
		if b.debs[need] == "" {
			return fmt.Errorf("packages.lock has no %s", need)
		}
	}
	if b.kernel, err = readKernel(b.debs["linux"]); err != nil {
		return err
	}
	if len(b.kernel.image) == 0 {
		return fmt.Errorf("%s: no kernel in it", b.debs["linux"])
	}
	return unpack(tools, filepath.Join(b.work, "tree"))
}

// writeSparse writes a file without the zeros in it.
func writeSparse(name string, data []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	zero := make([]byte, 64<<10)
	at := int64(0)
	for c := range slices.Chunk(data, len(zero)) {
		if !slices.Equal(c, zero[:len(c)]) {
			if _, err := f.WriteAt(c, at); err != nil {
				return errors.Join(err, f.Close())
			}
		}
		at += int64(len(c))
	}
	return errors.Join(f.Truncate(at), f.Close())
}
