package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"vita/appliance-image/internal/block"
	"vita/appliance-image/internal/logring"
	"vita/appliance-image/internal/slots"

	"golang.org/x/sys/unix"
)

const (
	espDir      = "/esp"
	upgradeFile = stateDir + "/upgrade.json"
)

// trialTime is how long a new image has to prove good, unless the options say.
const trialTime = 5 * time.Minute

func (a *appliance) trialTime() time.Duration {
	if a.options.TrialSeconds > 0 {
		return time.Duration(a.options.TrialSeconds) * time.Second
	}
	return trialTime
}

// record is what is known of the last upgrade.
type record struct {
	Version string `json:"version"`
	From    string `json:"from"`
	Number  int    `json:"number"`
	Result  string `json:"result"` // installed, trial, confirmed, or returned
}

func readRecord() (r record, err error) {
	b, err := readSmall(upgradeFile, 64<<10)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

func (r record) store() error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeDurably(upgradeFile, append(b, '\n'), 0o600)
}

// withESP calls a function while the EFI system partition is mounted. Two names
// of one file, which a power cut in a change of names can leave, are no reason
// to refuse writing.
func withESP(device string, flags uintptr, f func(folder string) error) error {
	if err := unix.Mount(device, espDir, "vfat", flags|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "errors=continue,umask=0077"); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	err := f(filepath.Join(espDir, slots.Folder))
	if flags&unix.MS_RDONLY == 0 {
		d, openErr := os.Open(espDir)
		if openErr == nil {
			openErr = errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
		}
		err = errors.Join(err, openErr)
	}
	return errors.Join(err, unix.Unmount(espDir, 0))
}

// images lists the kernel images of a folder.
func images(folder string) (slots.Set, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return slots.Of(names), nil
}

// beginTrial looks whether the image that runs has proved good. If not, the
// state is copied first, and the image gets some time. If an upgrade's image
// has not proved good, and this is the old one again, the state is what it was.
func (a *appliance) beginTrial() {
	if err := a.lookAtTrial(); err != nil {
		a.say(logring.Error, "upgrade: %v", err)
	}
}

func (a *appliance) lookAtTrial() error {
	a.load(forESP)
	p, err := a.partition(block.ESP)
	if err != nil {
		return err
	}
	var set slots.Set
	if err := withESP(p.Device, unix.MS_RDONLY, func(folder string) (err error) { set, err = images(folder); return err }); err != nil {
		return err
	}
	own, ok := set.In(a.slot)
	if !ok {
		return fmt.Errorf("no kernel image for slot %s", a.slot)
	}
	r, err := readRecord()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.say(logring.Warning, "%s: %v", upgradeFile, err)
	}
	switch judge(own, r) {
	case onTrial:
		a.trial.Store(true)
		a.slowToo() // whether they work is what is tried
		a.say(logring.Notice, "version %s is on trial for %s", release, a.trialTime())
		time.AfterFunc(a.trialTime(), func() {
			if a.trial.Load() {
				a.finish(unix.LINUX_REBOOT_CMD_RESTART, "the new version has not proved good")
			}
		})
		if err := keepState(stateDir); err != nil {
			return fmt.Errorf("keep the state: %w", err)
		}
		r.Number, r.Version, r.Result = own.Number, release, "trial"
		return r.store()
	case proved:
		return a.settle(r)
	case cameBack:
		a.say(logring.Error, "the upgrade to version %s has failed: version %s is back", r.Version, release)
		if err := returnState(stateDir); err != nil {
			return fmt.Errorf("return the state: %w", err)
		}
		r.Result = "returned"
		return r.store()
	}
	if !a.enrolled() { // the record is lost, and with it how far a return had got
		return returnState(stateDir)
	}
	return os.RemoveAll(filepath.Join(stateDir, rollback))
}

// verdict is what a start means for the last upgrade.
type verdict int

const (
	settled  verdict = iota // nothing is open
	onTrial                 // this is the new image, with a try taken
	proved                  // it was confirmed, but the power went before that was noted
	cameBack                // this is the old image: the new one has not proved good
)

// judge compares the image that runs with what is noted of the last upgrade.
func judge(own slots.Image, r record) verdict {
	open := r.Result == "installed" || r.Result == "trial"
	switch {
	case own.Trial:
		return onTrial
	case open && r.Number == own.Number:
		return proved
	case open:
		return cameBack
	}
	return settled
}

// confirm makes the image that runs the one that is started from now on.
func (a *appliance) confirm() {
	if !a.trial.Load() {
		return
	}
	err := func() error {
		p, err := a.partition(block.ESP)
		if err != nil {
			return err
		}
		if err := withESP(p.Device, 0, func(folder string) error {
			set, err := images(folder)
			if err != nil {
				return err
			}
			own, ok := set.In(a.slot)
			if !ok {
				return fmt.Errorf("no kernel image for slot %s", a.slot)
			}
			return os.Rename(filepath.Join(folder, own.Name()), filepath.Join(folder, own.Good().Name()))
		}); err != nil {
			return err
		}
		a.trial.Store(false)
		r, err := readRecord()
		if err != nil {
			return err
		}
		return a.settle(r)
	}()
	if err != nil {
		a.say(logring.Error, "confirm the upgrade: %v", err)
		return
	}
	a.say(logring.Notice, "version %s has proved good", release)
}

// settle ends an upgrade that has gone well. The copy goes before that is noted:
// the other way round a power cut would leave a copy that nobody wants.
func (a *appliance) settle(r record) error {
	if err := os.RemoveAll(filepath.Join(stateDir, rollback)); err != nil {
		return err
	}
	r.Result = "confirmed"
	return r.store()
}

// Folders within the state.
const (
	current  = "vita"     // the gateway's
	rollback = "rollback" // as it was before a trial
	failed   = "failed"   // of a trial that failed
)

// keepState copies the gateway's state, unless that has been done.
func keepState(dir string) error {
	kept, now := filepath.Join(dir, rollback), filepath.Join(dir, current)
	if _, err := os.Stat(kept); err == nil {
		return nil
	}
	if _, err := os.Stat(now); errors.Is(err, os.ErrNotExist) {
		return nil // there is nothing yet
	}
	fresh := kept + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := copyFolder(now, fresh); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return errors.Join(os.Rename(fresh, kept), syncFolder(dir))
}

// returnState puts the copy back, if there is one. It can be cut short anywhere
// and done again.
func returnState(dir string) error {
	kept, now, old := filepath.Join(dir, rollback), filepath.Join(dir, current), filepath.Join(dir, failed)
	if _, err := os.Stat(kept); errors.Is(err, os.ErrNotExist) {
		return os.RemoveAll(old)
	}
	if _, err := os.Stat(now); err == nil {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
		if err := os.Rename(now, old); err != nil {
			return err
		}
	}
	if err := os.Rename(kept, now); err != nil {
		return err
	}
	return errors.Join(syncFolder(dir), os.RemoveAll(old))
}

// copyFolder copies plain files, durably.
func copyFolder(from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue // sockets
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		in, err := os.Open(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		out, err := os.OpenFile(filepath.Join(to, e.Name()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
		if err != nil {
			return errors.Join(err, in.Close())
		}
		_, err = io.Copy(out, in)
		if err := errors.Join(err, out.Sync(), out.Close(), in.Close()); err != nil {
			return err
		}
	}
	return syncFolder(to)
}

// bootOther lets the other slot's image be tried once, from the console.
func (a *appliance) bootOther(c *console) error {
	p, err := a.partition(block.ESP)
	if err != nil {
		return err
	}
	err = withESP(p.Device, 0, func(folder string) error {
		set, err := images(folder)
		if err != nil {
			return err
		}
		other, ok := set.In(a.slot.Other())
		if !ok {
			return fmt.Errorf("slot %s is empty", a.slot.Other())
		}
		next, err := set.Next(other.Slot)
		if err != nil {
			return err
		}
		return os.Rename(filepath.Join(folder, other.Name()), filepath.Join(folder, next.Name()))
	})
	if err != nil {
		return err
	}
	c.printf("slot %s is tried once\n", a.slot.Other())
	a.finish(unix.LINUX_REBOOT_CMD_RESTART, "console")
	return nil
}
