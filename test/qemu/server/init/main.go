// Init starts a Debian that lies on the guest's disk: systemd becomes process 1, and
// beside it, in the same root, an agent does what the test asks for.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"vita/test/qemu/guest"

	"golang.org/x/sys/unix"
)

func main() {
	err := agent()
	if len(os.Args) == 1 {
		err = start()
	}
	fmt.Println("vita guest:", err)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// agent answers, where this program has been started as such.
func agent() error {
	if len(os.Args) == 1 {
		return nil
	}
	return guest.Answer(os.NewFile(3, "port"))
}

func start() error {
	if err := guest.Prepare(); err != nil {
		return err
	}
	port, err := guest.OpenPort()
	if err != nil {
		return err
	}
	if err := os.MkdirAll("/disk", 0o755); err != nil {
		return err
	}
	for _, m := range []struct{ what, at, kind string }{
		{"/dev/vda", "/disk", "ext4"}, {"proc", "/disk/proc", "proc"}, {"sysfs", "/disk/sys", "sysfs"}, {"devtmpfs", "/disk/dev", "devtmpfs"},
	} {
		if err := unix.Mount(m.what, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
	a := exec.Command("/proc/self/exe", "agent")
	a.Env, a.Dir, a.ExtraFiles = []string{path, "DEBIAN_FRONTEND=noninteractive"}, "/", []*os.File{port}
	a.Stdout, a.Stderr = os.Stdout, os.Stderr
	a.SysProcAttr = &syscall.SysProcAttr{Chroot: "/disk", Setsid: true}
	if err := a.Start(); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if err := os.Chdir("/disk"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	const systemd = "/lib/systemd/systemd"
	return fmt.Errorf("%s: %w", systemd, unix.Exec(systemd, []string{systemd, "--log-level=warning"}, []string{path, "container="}))
}
