package main

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"vita/internal/confine"
)

// needs is what the engine keeps once it listens: the devices, and nothing of the
// file system but its socket's folder. What it opens later are network cards and
// memory.
func needs(socket string, noIOMMU bool) confine.Needs {
	n := confine.Needs{
		Capabilities: slices.Clone(confine.Engine),
		Read:         []string{"/sys", "/proc"},
		Write:        []string{filepath.Dir(socket)},
		// Cards are bound to vfio-pci, and given back, by files of sysfs.
		Devices:  []string{"/dev/vfio", "/dev/iommu", "/sys/bus/pci", "/sys/devices"},
		Syscalls: []string{"ioctl", "bpf", "mbind", "get_mempolicy", "set_mempolicy", "mlock2", "mlockall", "setpriority", "sched_setscheduler", "sched_setattr", "sched_getattr"},
	}
	if noIOMMU {
		n.Capabilities = append(n.Capabilities, cap.SYS_ADMIN) // to learn at what address a page is
	}
	return n
}

// confined confines the engine and says what the kernel could not do.
func confined(socket string, noIOMMU bool, log *slog.Logger) error {
	missing, err := confine.Apply(needs(socket, noIOMMU))
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		log.Warn("the kernel confines the engine but in part", "missing", strings.Join(missing, "; "))
	}
	return nil
}
