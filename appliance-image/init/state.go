package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"vita/appliance-image/internal/block"
	"vita/appliance-image/internal/logring"
	"vita/appliance-image/internal/options"
	"vita/appliance-image/internal/sparse"

	"golang.org/x/sys/unix"
)

// clockFile is touched from time to time, so that a clock without a battery
// does not go back far.
const clockFile = stateDir + "/clock"

const template = shareDir + "/state.ext4.packed"

// mountState mounts the partition for all that stays. One that has never been
// written becomes an empty file system; one that holds something else is left
// alone.
func (a *appliance) mountState(work *sync.WaitGroup) error {
	a.load(forState)
	p, err := a.partition(block.State)
	if err != nil {
		return err
	}
	if p, err = a.growPartition(p); err != nil {
		a.say(logring.Warning, "the state's partition cannot grow: %v", err)
	}
	kind, err := contentOf(p.Device)
	if err != nil {
		return err
	}
	switch kind {
	case blank:
		a.say(logring.Notice, "first start: the state on %s is new", p.Device)
		z, err := os.Open(template)
		if err != nil {
			return err
		}
		if err := errors.Join(layDown(p.Device, z), z.Close()); err != nil {
			return fmt.Errorf("%s: %w", p.Device, err)
		}
	case foreign:
		return fmt.Errorf("%s holds no file system of ours: %w", p.Device, errNoState)
	}
	if err := unix.Mount(p.Device, stateDir, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "errors=remount-ro,data=ordered"); err != nil {
		return fmt.Errorf("mount %s: %w: %w", p.Device, err, errNoState)
	}
	a.keep(work, "state's size", func() { // which goes on while the state is in use
		if err := a.growFileSystem(p); err != nil {
			a.say(logring.Warning, "the state's file system cannot grow: %v", err)
		}
	})
	return nil
}

func (a *appliance) unmountState() error {
	err := unix.Unmount(stateDir, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil // it is not mounted
	}
	return err
}

func (a *appliance) partition(name string) (block.Partition, error) {
	all, err := block.Partitions("/sys")
	if err != nil {
		return block.Partition{}, err
	}
	p, ok := block.On(all, a.disk, name)
	if !ok {
		return p, fmt.Errorf("the disk %s has no partition %s", a.disk, name)
	}
	return p, nil
}

// content is what a partition holds.
type content int

const (
	blank content = iota
	ours
	foreign
)

// headSize is what is written last, so that a file system that has not been
// written wholly looks blank.
const headSize = sparse.BlockSize

func contentOf(device string) (content, error) {
	f, err := os.Open(device)
	if err != nil {
		return foreign, err
	}
	defer f.Close()
	head := make([]byte, headSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return foreign, err
	}
	const magic = 1024 + 0x38 // of ext4, in its superblock
	switch {
	case head[magic] == 0x53 && head[magic+1] == 0xef:
		return ours, nil
	case bytes.Equal(head, make([]byte, headSize)):
		return blank, nil
	}
	return foreign, nil
}

// layDown writes the empty file system.
func layDown(device string, packed io.Reader) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(sparse.Lay(f, packed), f.Close())
}

// erase overwrites a device, its head first: it looks blank from then on.
func erase(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = func() error {
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(make([]byte, headSize), 0); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := sparse.Zero(f, headSize, end); err != nil {
			return err
		}
		return f.Sync()
	}()
	return errors.Join(err, f.Close())
}

// readOptions takes the stored options, or, where there are none, those that
// the machine has been given for its first start: once all devices are there. They
// are stored when the first start has come to an administrator, see enrolling.
func (a *appliance) readOptions(devices <-chan struct{}) error {
	f, err := os.Open(optionFile)
	if err == nil {
		return errors.Join(a.options.File(f), f.Close())
	}
	a.slowToo()
	a.load(forDrives)
	<-devices
	err = a.given()
	if a.enrolled() { // but the power went before they were
		err = errors.Join(err, a.storeOptions())
	}
	return err
}

func (a *appliance) storeOptions() error {
	return writeDurably(optionFile, []byte(a.options.Text()), 0o600)
}

// given reads all sources of options, from the weakest to the strongest.
func (a *appliance) given() error {
	var errs []error
	found, _ := filepath.Glob("/sys/firmware/dmi/entries/11-*/raw") // the pattern is good
	for _, f := range found {
		if b, err := readSmall(f, 64<<10); err == nil {
			errs = append(errs, a.options.Strings(options.OEMStrings(b)))
		}
	}
	if b, err := os.ReadFile("/proc/cmdline"); err == nil {
		errs = append(errs, a.options.CommandLine(string(b)))
	}
	return errors.Join(append(errs, a.drive())...)
}

// driveLabel is that of the file system on a configuration drive.
const driveLabel = "VITA-CONF"

// drive reads vita.conf from a configuration drive, if there is one: a FAT or
// ISO 9660 file system with a label of its own.
func (a *appliance) drive() error {
	const at = "/media"
	found, err := filepath.Glob("/sys/class/block/*")
	if err != nil {
		return err
	}
	for _, sys := range found {
		name := filepath.Base(sys)
		if strings.HasPrefix(name, "dm-") {
			continue
		}
		device := "/dev/" + name
		kind := labelled(device, driveLabel)
		if kind == "" {
			continue
		}
		if err := unix.Mount(device, at, kind, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("configuration drive %s: %w", device, err)
		}
		b, err := readSmall(at+"/vita.conf", 64<<10)
		err = errors.Join(err, unix.Unmount(at, 0))
		if err != nil {
			return fmt.Errorf("configuration drive %s: %w", device, err)
		}
		a.say(logring.Notice, "options from the configuration drive %s", device)
		return a.options.File(bytes.NewReader(b))
	}
	return nil
}

// labelled returns the kind of file system of a device, if its label is the
// given one.
func labelled(device, label string) (kind string) {
	f, err := os.Open(device)
	if err != nil {
		return ""
	}
	defer f.Close()
	is := func(at int64, size int) bool {
		b := make([]byte, size)
		_, err := f.ReadAt(b, at)
		return err == nil && strings.EqualFold(strings.TrimRight(string(b), " \x00"), label)
	}
	switch {
	case is(71, 11), is(43, 11): // FAT32; FAT12 and FAT16
		return "vfat"
	case is(16*2048+40, 32): // the primary volume descriptor
		return "iso9660"
	}
	return ""
}
