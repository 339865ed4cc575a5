package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vita/appliance-image/internal/block"
	"vita/appliance-image/internal/bundle"
	"vita/appliance-image/internal/fat"
	"vita/appliance-image/internal/slots"
	ctl "vita/internal/appliance"

	"aead.dev/minisign"
	"golang.org/x/sys/unix"
)

// vendorKey is whose upgrades an appliance takes.
const vendorKey = shareDir + "/upgrade.pub"

// runUpgrade is the process that installs an upgrade: it reads the bundle from
// the client that vitad is, and answers it.
func runUpgrade(args []string, in io.Reader, out io.Writer) int {
	var an ctl.Answer
	version, err := install(args, in)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		an.Error = err.Error()
	}
	an.Version = version
	b, marshalErr := json.Marshal(an)
	if marshalErr == nil {
		_, marshalErr = out.Write(append(b, '\n'))
	}
	if err != nil || marshalErr != nil {
		return 1
	}
	return 0
}

// install takes these steps, each of which can be the last one before the power
// goes, without harm to the slot that runs:
//
//  1. the signature is verified, then the kernel image is read and checked;
//  2. the idle slot's kernel image is removed: nobody starts what is half there;
//  3. the root is written to the idle slot, and read again;
//  4. what is installed is noted, for the restart that follows;
//  5. the kernel image is written under a name that the boot loader does not
//     take, and gets its name, with one try.
func install(args []string, in io.Reader) (version string, err error) {
	if len(args) < 2 {
		return "", errors.New("upgrade: want the disk and the slot that runs")
	}
	own := slots.Slot(args[1])
	idle := own.Other()
	key, err := minisign.PublicKeyFromFile(vendorKey)
	if err != nil {
		return "", fmt.Errorf("the vendor's key: %w", err)
	}
	b, err := bundle.Open(in, key)
	if err != nil {
		return "", err
	}
	m := b.Manifest
	if !bundle.Newer(m.Version, release) && !slices.Contains(args[2:], "downgrade") {
		return "", fmt.Errorf("version %s is not newer than %s, which runs: ask for a downgrade, if it is meant", m.Version, release)
	}
	all, err := block.Partitions("/sys")
	if err != nil {
		return "", err
	}
	esp, found := block.On(all, args[0], block.ESP)
	root, foundRoot := block.On(all, args[0], idle.Partition())
	if !found || !foundRoot {
		return "", fmt.Errorf("the disk %s has no partition for an upgrade", args[0])
	}
	if uint64(m.Root.Size) > root.Size {
		return "", fmt.Errorf("the root has %d bytes, the slot only %d", m.Root.Size, root.Size)
	}
	kernel, err := b.Kernel()
	if err != nil {
		return "", err
	}
	if err := reclaim(esp.Device); err != nil {
		fmt.Fprintln(os.Stderr, "room on the EFI system partition:", err) // there may be enough
	}
	if err := withESP(esp.Device, 0, func(folder string) error { return clearSlot(folder, idle) }); err != nil {
		return "", fmt.Errorf("clear slot %s: %w", idle, err)
	}
	if err := writeRoot(root.Device, b); err != nil {
		return "", fmt.Errorf("slot %s: %w", idle, err)
	}
	err = withESP(esp.Device, 0, func(folder string) error {
		set, err := images(folder)
		if err != nil {
			return err
		}
		next, err := set.Next(idle)
		if err != nil {
			return err
		}
		r := record{Version: m.Version, From: release, Number: next.Number, Result: "installed"}
		if err := r.store(); err != nil {
			return err
		}
		return writeKernel(folder, next, kernel)
	})
	return m.Version, err
}

// reclaim frees what power cuts have lost of the EFI system partition.
func reclaim(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	lost, err := fat.Reclaim(f)
	if lost > 0 {
		fmt.Fprintln(os.Stderr, lost, "clusters that no file had are free again")
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// clearSlot removes a slot's kernel images, and what is left of one that was
// being written.
func clearSlot(folder string, slot slots.Slot) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		i, ok := slots.Parse(strings.TrimSuffix(e.Name(), partSuffix))
		if ok && i.Slot == slot {
			if err := os.Remove(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// partSuffix makes a name one that the boot loader does not take. It belongs to
// the image's number and slot, so that what a power cut leaves of it goes with
// them, and no sooner: it may be another name of the same file.
const partSuffix = ".part"

func writeKernel(folder string, i slots.Image, kernel []byte) error {
	name := filepath.Join(folder, i.Name())
	part := name + partSuffix
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(kernel)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, name)
}

// writeRoot writes the root to a partition and reads it again: what the disk has
// kept must be what was signed.
func writeRoot(device string, b *bundle.Reader) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = b.Root(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // or memory would be compared
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = b.Same(f)
	}
	return errors.Join(err, f.Close())
}
