package main

import (
	"log/slog"
	"path/filepath"
	"strings"

	"vita/internal/confine"
)

// needs is what vitad keeps once it listens and has its engine: the folder of its
// state, and no capability. It starts nothing, opens no device, and reads nothing
// of what other programs keep.
func (c *runCmd) needs() confine.Needs {
	return confine.Needs{
		Read: []string{
			"/etc/localtime", "/usr/share/zoneinfo", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf",
			"/etc/os-release", "/usr/lib/os-release", "/etc/ssl", "/usr/share/ca-certificates", "/proc", "/sys/devices/system/cpu",
		},
		Write:  []string{c.StateDir},
		Remove: []string{filepath.Dir(c.recovery())},
	}
}

func (c *runCmd) confine(log *slog.Logger) error {
	if c.Confine == "off" {
		log.Warn("not confined: --confine off")
		return nil
	}
	missing, err := confine.Apply(c.needs())
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		log.Warn("the kernel confines vitad but in part", "missing", strings.Join(missing, "; "))
	}
	return nil
}
