// Package early finds the root of an appliance. The kernel starts init from the
// memory file system inside the unified kernel image; there init lets early load
// the modules for the disk, find the root partition that the image's command line
// names by its hash, put dm-verity over it, and make it the root of all files. It
// reads nothing that anybody could have changed but the top of a hash tree.
package early

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vita/appliance-image/internal/block"
	"vita/appliance-image/internal/devmapper"
	"vita/appliance-image/internal/modules"
	"vita/appliance-image/internal/timeline"
	"vita/appliance-image/internal/verity"

	"golang.org/x/sys/unix"
)

// always are the modules that no device asks for. The kernel cannot ask for the
// checksum that others use, since nothing answers it here. The first is faster,
// where the processor has what it needs.
var always = []string{"sha256_ssse3", "crc32c_generic", "dm_verity", "erofs"}

// patience is how long disks may take to appear.
const patience = 60 * time.Second

// Root makes the image's root the root of all files, and returns where that is.
// After an error the machine has none.
func Root(times *timeline.Line) (p block.Partition, err error) {
	times.Mark("kernel")
	for _, m := range []struct{ kind, at, data string }{{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", "mode=0755"}, {"tmpfs", "/run", "mode=0755"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return p, err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return p, fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	// The kernel waits for its readers shorter, at the cost of whoever runs: nobody
	// yet. The rest of init takes that back.
	_ = os.WriteFile("/sys/kernel/rcu_expedited", []byte("1"), 0)
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return p, err
	}
	root, err := rootOf(string(line))
	if err != nil {
		return p, err
	}
	set, err := modules.Open("/modules")
	if err != nil {
		return p, err
	}
	others, all := make(chan error, 1), make(chan struct{})
	go func() {
		others <- loadAlways(set)
		_ = set.Load("ext4") // for the state, which says what is missing
		close(all)
	}()
	if p, err = find(root, set); err != nil {
		return p, err
	}
	if err := <-others; err != nil {
		return p, err
	}
	times.Mark("root found")
	dev, err := devmapper.Create("/dev/mapper/control", "vita-root", "verity", root.Table(p.Device), root.Sectors())
	if err != nil {
		return p, err
	}
	const at = "/root"
	if err := os.MkdirAll(at, 0o755); err != nil {
		return p, err
	}
	if err := unix.Mount(fmt.Sprintf("/dev/dm-%d", unix.Minor(dev)), at, "erofs", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		return p, fmt.Errorf("mount the root: %w", err)
	}
	<-all
	if err := switchRoot(at); err != nil {
		return p, err
	}
	times.Mark("root mounted")
	ahead("/usr/bin/vitad", "/usr/bin/vita-engine")
	return p, nil
}

// ahead lets the kernel read programs while others run: page by page, as they come
// to need them, they would wait for each.
func ahead(files ...string) {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue // init says what is missing
		}
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED) // only advice
		_ = f.Close()                                           // only read
	}
}

func loadAlways(set *modules.Set) error {
	for i, name := range always {
		if err := set.Load(name); err != nil && i > 0 {
			return err
		}
	}
	return nil
}

// rootOf finds the word vita.root=HASH:BLOCKS in the kernel's command line. A
// second one, which somebody may have added, is an error.
func rootOf(line string) (root verity.Root, err error) {
	n := 0
	for word := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(word, "vita.root="); ok {
			if root, err = verity.ParseRoot(v); err != nil {
				return root, err
			}
			n++
		}
	}
	if n != 1 {
		return root, fmt.Errorf("the command line has %d words vita.root=, want one", n)
	}
	return root, nil
}

// find waits for the partition that a root names: in either slot, of any disk.
func find(root verity.Root, set *modules.Set) (p block.Partition, err error) {
	ok := false
	look := func() bool {
		p, ok = lookFor(root)
		return ok
	}
	var troubles error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if troubles = errors.Join(troubles, set.Coldplug("/sys", modules.QuickFirst, look)); ok || look() {
			return p, nil
		}
	}
	return p, errors.Join(fmt.Errorf("no partition %s or %s holds the root %s", block.RootA, block.RootB, root), troubles)
}

func lookFor(root verity.Root) (block.Partition, bool) {
	all, _ := block.Partitions("/sys") // its pattern is good
	for _, p := range all {
		if p.Name != block.RootA && p.Name != block.RootB {
			continue
		}
		f, err := os.Open(p.Device)
		if err != nil {
			continue
		}
		is := root.Is(f)
		_ = f.Close() // only read
		if is {
			return p, true
		}
	}
	return block.Partition{}, false
}

// switchRoot makes the folder at the root of all files.
func switchRoot(at string) error {
	for _, m := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := unix.Mount(m, filepath.Join(at, m), "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m, err)
		}
	}
	// What lies in the memory file system would keep its memory for good. Of init it
	// goes on to need most.
	for _, f := range []string{"/modules", "/init"} {
		if err := os.RemoveAll(f); err != nil {
			return err
		}
	}
	if err := os.Chdir(at); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}
