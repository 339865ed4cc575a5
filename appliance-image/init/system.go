package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vita/appliance-image/internal/logring"
	"vita/appliance-image/internal/modules"
	ctl "vita/internal/appliance"

	"golang.org/x/sys/unix"
)

// mounts makes what programs expect of a Linux system. /dev, /proc, /sys and
// /run are there already.
func mounts() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		kind, at string
		flags    uintptr
		data     string
	}{
		{"tmpfs", "/tmp", safe, "mode=0700,size=64m"},
		{"cgroup2", "/sys/fs/cgroup", safe, ""},
		{"securityfs", "/sys/kernel/security", safe, ""},
		{"hugetlbfs", "/dev/hugepages", safe, "mode=0700"},
		{"tmpfs", "/dev/shm", safe, "mode=0700"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return errors.Join(os.Setenv("PATH", "/usr/bin"), os.MkdirAll(runDir, 0o700))
}

// harden sets what the kernel does not by itself. What a kernel does not have
// is no error.
func (a *appliance) harden() {
	unix.Umask(0o077)
	for name, value := range map[string]string{
		"kernel/kptr_restrict": "2", "kernel/dmesg_restrict": "1", "kernel/yama/ptrace_scope": "2", "kernel/sysrq": "0",
		"kernel/unprivileged_bpf_disabled": "1", "net/core/bpf_jit_harden": "2", "kernel/kexec_load_disabled": "1",
		"fs/suid_dumpable": "0", "kernel/core_pattern": "|/none", "kernel/panic_on_oops": "1", "kernel/modprobe": "\n", // no module but those that init loads
		"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/all/accept_redirects": "0", "net/ipv4/conf/all/accept_source_route": "0",
		"net/ipv6/conf/all/forwarding": "0", "net/ipv6/conf/all/accept_redirects": "0", "vm/overcommit_memory": "0",
	} {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
			a.note("%s: %v", name, err)
		}
	}
}

// hugepages reserves what is asked for, while memory is still whole: at most half
// of it, since a machine without any could not even be told better.
func (a *appliance) hugepages() {
	n := a.told.wish().hugepages
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		total, _ := memory(string(b))
		if most := int(total / 1024 / 2 / 2); n > most {
			a.say(logring.Warning, "huge pages: %d would be more than half of the memory: %d", n, most)
			n = most
		}
	}
	if a.pages = n; n == 0 {
		return
	}
	a.note("huge pages: %d", n)
	const file = "/proc/sys/vm/nr_hugepages"
	want := strconv.Itoa(n)
	if err := os.WriteFile(file, []byte(want), 0); err != nil {
		a.say(logring.Error, "huge pages: %v", err)
		return
	}
	if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) != want {
		a.say(logring.Warning, "huge pages: only %s of %s", strings.TrimSpace(string(b)), want)
	}
}

// processors decides which processors the engine has for itself. Those that are not
// there would keep it from starting, and with it the whole gateway.
func (a *appliance) processors() {
	list := a.told.wish().cpus
	if list == "" {
		return
	}
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err == nil {
		err = spare(list, strings.TrimSpace(string(b)))
	}
	if err != nil {
		a.say(logring.Error, "processors %s: %v: the engine shares all of them", list, err)
		return
	}
	a.cpus = list
}

// spare says whether a machine can spare some of its processors.
func spare(list, online string) error {
	have, err := ctl.CPUs(online)
	if err != nil {
		return err
	}
	want, err := ctl.CPUs(list)
	if err != nil {
		return err
	}
	for _, c := range want {
		if !slices.Contains(have, c) {
			return fmt.Errorf("the machine has only %s", online)
		}
	}
	if len(want) == len(have) {
		return errors.New("none would be left for anything else")
	}
	return nil
}

// loader is what loads modules.
type loader interface {
	Load(name string) error
	Coldplug(sys string, order modules.Order, enough func() bool) error
}

// Modules that no device asks for, each loaded by whoever needs it: by VFIO the
// packet engine takes cards, the others are for the power button and for the file
// systems. The kernel cannot ask for the checksum by itself.
var (
	forVFIO   = []string{"vfio_pci", "vfio_iommu_type1"}
	forButton = []string{"evdev"}
	forState  = []string{"crc32c_generic", "ext4"}
	forESP    = []string{"vfat", "nls_cp437", "nls_ascii"}
	forDrives = []string{"vfat", "nls_cp437", "nls_ascii", "isofs"}
)

func (a *appliance) load(names []string) {
	for _, name := range names {
		if err := a.modules.Load(name); err != nil {
			a.say(logring.Warning, "%v", err)
		}
	}
}

// devices loads the drivers of the machine's devices, beside the rest of the
// start. The first channel is closed when the network cards have theirs, and
// there is VFIO; the second one when all devices have. The slow ones wait until
// the gateway is up, unless somebody is in a hurry for them: then they are loaded
// beside the others, since most of their time is waiting.
func (a *appliance) devices(ctx context.Context, work *sync.WaitGroup) (cards, all <-chan struct{}) {
	quick, slow := make(chan struct{}), make(chan struct{})
	never := func() bool { return false }
	a.keep(work, "devices", func() {
		func() {
			defer close(quick)
			if err := a.modules.Coldplug("/sys", modules.Quick, never); err != nil {
				a.note("modules: %v", err)
			}
			a.load(forVFIO)
			a.times.Mark("cards")
		}()
		a.watchdog(ctx) // none of the slow ones brings it
	})
	a.keep(work, "slow devices", func() {
		defer close(slow)
		select {
		case <-a.hurry:
		case <-time.After(patience):
		}
		if err := a.modules.Coldplug("/sys", modules.SlowFirst, never); err != nil {
			a.note("modules: %v", err)
		}
		a.load(forButton)
		<-quick
		a.keep(work, "power button", func() { a.powerButton(ctx) })
	})
	return quick, slow
}

// patience is how long slow devices wait for a gateway that does not come up.
const patience = 15 * time.Second

// slowToo lets the slow devices have their drivers now.
func (a *appliance) slowToo() { a.hurryOnce.Do(func() { close(a.hurry) }) }

// sane lets the clock not begin before the image was made, or the state was
// last used: certificates and key exchange need some time.
func (a *appliance) sane() {
	least := time.Unix(0, 0)
	if b, err := os.ReadFile(shareDir + "/epoch"); err == nil {
		if s, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			least = time.Unix(s, 0)
		}
	}
	if s, err := os.Stat(clockFile); err == nil && s.ModTime().After(least) {
		least = s.ModTime()
	}
	if now := time.Now(); !plausible(now, least) {
		a.say(logring.Warning, "the clock says %s: set to %s", now.UTC().Format(time.DateTime), least.UTC().Format(time.DateTime))
		a.setClock(least)
	}
}

// plausible says whether a clock can be right. Clocks without a battery begin
// somewhere in the past, which firmware and kernel may take for the next century.
func plausible(now, least time.Time) bool {
	return !now.Before(least) && now.Before(least.AddDate(20, 0, 0))
}

func (a *appliance) setClock(to time.Time) {
	v := unix.NsecToTimeval(to.UnixNano())
	if err := unix.Settimeofday(&v); err != nil {
		a.say(logring.Error, "set the clock: %v", err)
	}
}

// identity makes the machine's id, which stays.
func (a *appliance) identity() error {
	const file = stateDir + "/machine-id"
	id, err := os.ReadFile(file)
	if err != nil || len(bytes.TrimSpace(id)) != 32 {
		raw := make([]byte, 16)
		if _, err := unix.Getrandom(raw, 0); err != nil { // waits until there is entropy
			return err
		}
		raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80 // as machine-id(5) has it
		id = []byte(hex.EncodeToString(raw) + "\n")
		if err := writeDurably(file, id, 0o444); err != nil {
			return fmt.Errorf("machine id: %w", err)
		}
	}
	return os.WriteFile("/run/machine-id", id, 0o444)
}

// writeDurably replaces a file, or leaves the old one, whatever happens.
func writeDurably(name string, data []byte, mode os.FileMode) error {
	temp := name + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, name); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(name))
}

func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// kernelLog copies the kernel's messages, from those of the start on.
func (a *appliance) kernelLog(ctx context.Context) {
	f, err := os.Open("/dev/kmsg")
	if err != nil {
		a.note("%v", err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = f.Close() }) // which ends Read
	defer stop()
	b := make([]byte, 8192)
	for {
		n, err := f.Read(b)
		if errors.Is(err, unix.EPIPE) {
			continue // messages were overwritten before they were read
		}
		if err != nil {
			return
		}
		a.log.Add(kernelLine(string(b[:n])))
	}
}

// kernelLine reads a record of /dev/kmsg: PRIORITY,SEQUENCE,...;TEXT\n and lines
// with details.
func kernelLine(record string) (source string, s logring.Severity, text string) {
	head, text, ok := strings.Cut(record, ";")
	if !ok {
		return "kernel", logring.Info, record
	}
	text, _, _ = strings.Cut(text, "\n")
	first, _, _ := strings.Cut(head, ",")
	n, err := strconv.Atoi(first)
	if err != nil || n < 0 {
		return "kernel", logring.Info, text
	}
	return "kernel", logring.Severity(n & 7), text
}

// reap takes note of the ends of processes that nobody waits for: those that
// have lost their parents. Those that init has started itself are waited for
// where they were started.
func (a *appliance) reap(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
		found, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
		for _, f := range found {
			b, err := os.ReadFile(f)
			if err != nil {
				continue
			}
			if pid, orphan := zombieOf(string(b), 1); orphan && !children.has(pid) {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // gone already: as good
			}
		}
	}
}

// zombieOf reads /proc/PID/stat: whether a process has ended, and a parent has
// not asked how yet.
func zombieOf(stat string, parent int) (pid int, ok bool) {
	open, shut := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || shut < open {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(stat[:open]))
	w := strings.Fields(stat[shut+1:])
	if err != nil || len(w) < 2 {
		return 0, false
	}
	p, err := strconv.Atoi(w[1])
	return pid, err == nil && w[0] == "Z" && p == parent
}

// readSmall reads a file, up to a bound.
func readSmall(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}
