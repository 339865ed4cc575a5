// Package server tries the gateway's Debian package on a Debian with systemd.
package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	appliance "vita/appliance-image/test"
	"vita/test/qemu"
)

// packages builds the package in two versions, as make package does.
func packages(t *testing.T, dir string) {
	t.Helper()
	for _, version := range []string{"1.0.0", "1.0.1"} {
		build := exec.Command("go", "run", "./appliance-image/build", "-deb", "-out", dir, "-version", version)
		build.Dir = "../../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// disk makes a file system of the Debian that setup.sh has fetched, with the
// package's files in /root.
func disk(t *testing.T, add map[string]string) string {
	t.Helper()
	server, err := qemu.DefaultServer()
	if err != nil {
		t.Fatal(err)
	}
	root, image := filepath.Join(t.TempDir(), "root"), filepath.Join(t.TempDir(), "disk")
	run := func(words ...string) {
		t.Helper()
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", words, err, out)
		}
	}
	run("cp", "-a", server, root)
	for _, folder := range []string{"proc", "sys", "dev", "run", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	packages(t, filepath.Join(root, "root"))
	for name, text := range add {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600), os.Chmod(name, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	run("/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", root, image, "400M")
	return image
}

// port finds a free one.
func port(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

const config = `
<private-interface4 xmlns="vita:esp-gateway"><ifname>eth1</ifname><ip>192.168.1.1</ip><nexthop-ip>192.168.1.254</nexthop-ip></private-interface4>
<public-interface4 xmlns="vita:esp-gateway"><ip>203.0.113.1</ip><ifname>eth2</ifname><nexthop-ip>203.0.113.2</nexthop-ip></public-interface4>`

// TestPackage installs the package on a Debian with systemd, starts the gateway,
// manages it from outside, kills it, upgrades it, removes it, and purges it.
func TestPackage(t *testing.T) {
	admin := appliance.NewAdmin(t)
	image := disk(t, map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", "etc/group": "root:x:0:\nadm:x:4:\nsystemd-journal:x:101:\nnogroup:x:65534:\n",
		"etc/machine-id": strings.Repeat("0a", 16) + "\n", "etc/fstab": "", "var/lib/dpkg/status": "", "var/lib/dpkg/available": "",
		"root/admin.pub": admin.Line + "\n", "root/admin.password": "a password of your own\n",
	})
	ssh := port(t)
	vm := qemu.Start(t, qemu.Options{
		Init: "vita/test/qemu/server/init", Memory: 768, Boot: 2 * time.Minute,
		Modules: []string{"crc32c_generic", "virtio_blk", "ext4", "virtio_net"},
		Args: []string{
			"-drive", "if=none,id=disk,format=raw,file=" + image, "-device", "virtio-blk-pci,drive=disk",
			"-netdev", fmt.Sprintf("user,id=mgmt,hostfwd=tcp:%s-:830", ssh), "-device", "virtio-net-pci,netdev=mgmt,romfile=",
			"-netdev", "hubport,id=private,hubid=1", "-device", "virtio-net-pci,netdev=private,romfile=",
			"-netdev", "hubport,id=public,hubid=2", "-device", "virtio-net-pci,netdev=public,romfile=",
		},
	})
	run := func(words ...string) string {
		t.Helper()
		out, err := vm.Run(words...)
		if err != nil {
			log, _ := vm.Run("journalctl", "--no-pager", "-n", "60") // for whoever reads this
			t.Fatalf("%v\n%s", err, log)
		}
		return strings.TrimSpace(out)
	}
	refused := func(want string, words ...string) {
		t.Helper()
		if out, err := vm.Run(words...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %q, %v, want %q", words, out, err, want)
		}
	}
	_, _ = vm.Run("systemctl", "is-system-running", "--wait") // something that has nothing to do with us may have failed
	for _, words := range [][]string{{"addr", "add", "10.0.2.15/24", "dev", "eth0"}, {"link", "set", "eth0", "up"}} {
		run(append([]string{"ip"}, words...)...)
	}

	// Installed, it waits for its first administrator.
	run("dpkg", "--install", "/root/vita_1.0.0_amd64.deb")
	refused("inactive", "systemctl", "is-active", "vitad", "vita-engine")
	refused("disabled", "systemctl", "is-enabled", "vitad", "vita-engine")
	run("vitad", "init", "--state-dir", "/var/lib/vita", "--admin", "admin", "--ssh-key", "/root/admin.pub", "--password-file", "/root/admin.password")
	run("systemctl", "enable", "--now", "vitad")
	n := admin.Dial(t, ssh, time.Minute)
	host := n.Host
	n.Configure(t, config)
	n.Close()
	confined(t, run)

	// A killed engine, or vitad, is back, with the configuration.
	for _, unit := range []string{"vita-engine", "vitad"} {
		before := pid(run, unit)
		run("sh", "-c", "kill -9 "+before)
		await(t, unit+" again", func() bool { now := pid(run, unit); return now != "0" && now != before })
		await(t, "vitad active", func() bool { out, _ := vm.Run("systemctl", "is-active", "vitad"); return out == "active\n" })
	}
	running(t, run, admin, ssh, host)

	// The newer version takes over by itself.
	engine, vitad := pid(run, "vita-engine"), pid(run, "vitad")
	run("dpkg", "--install", "/root/vita_1.0.1_amd64.deb")
	if pid(run, "vita-engine") == engine || pid(run, "vitad") == vitad {
		t.Error("the old version runs on")
	}
	if got := run("dpkg-query", "--show", "vita"); !strings.Contains(got, "1.0.1") {
		t.Error(got)
	}
	running(t, run, admin, ssh, host)

	// Removed, it is gone but for its state; purged, that too.
	run("dpkg", "--remove", "vita")
	refused("", "test", "-e", "/usr/sbin/vitad")
	refused("inactive", "systemctl", "is-active", "vitad", "vita-engine")
	if n := processes(run); n != 0 {
		t.Errorf("%d processes are still there", n)
	}
	run("test", "-s", "/var/lib/vita/config.db")
	run("dpkg", "--purge", "vita")
	refused("", "test", "-e", "/var/lib/vita")
	const left = `for f in /etc/systemd/system/vita* /etc/systemd/system/*/vita* /lib/systemd/system/vita* /usr/*/vita* /usr/share/*/vita* /usr/share/man/*/vita* /run/vita* /var/lib/dpkg/info/vita*; do
		if [ -e "$f" ] || [ -h "$f" ]; then echo "$f"; fi
	done`
	if got := run("sh", "-c", left); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// running: it is managed, is the same one as before, and has what was configured.
func running(t *testing.T, run func(...string) string, admin appliance.Admin, ssh, host string) {
	t.Helper()
	n := admin.Dial(t, ssh, time.Minute)
	defer n.Close()
	if n.Host != host {
		t.Errorf("host key %s, was %s", n.Host, host)
	}
	if n := processes(run); n != 2 { // vitad has started no engine of its own
		t.Errorf("%d processes, want two", n)
	}
	if got := n.Must(t, `<get-config><source><running/></source></get-config>`); !strings.Contains(got, "203.0.113.2") {
		t.Errorf("the configuration is lost: %s", got)
	}
}

// confined: both have but the capabilities that they need, and their system calls
// are filtered.
func confined(t *testing.T, run func(...string) string) {
	t.Helper()
	for unit, capabilities := range map[string]string{"vitad": "0000000000000000", "vita-engine": "0000008001827000"} {
		status := run("cat", "/proc/"+pid(run, unit)+"/status")
		for field, want := range map[string]string{"CapEff": capabilities, "CapPrm": capabilities, "CapBnd": capabilities, "NoNewPrivs": "1", "Seccomp": "2"} {
			if got := regexp.MustCompile(`(?m)^` + field + `:\s+(\S+)`).FindStringSubmatch(status); got == nil || got[1] != want {
				t.Errorf("%s: %s is %q, want %s", unit, field, got, want)
			}
		}
	}
}

func processes(run func(...string) string) (n int) {
	for name := range strings.FieldsSeq(run("sh", "-c", "cat /proc/[0-9]*/comm")) {
		if name == "vitad" || name == "vita-engine" {
			n++
		}
	}
	return n
}

func pid(run func(...string) string, unit string) string {
	return run("systemctl", "show", "--value", "--property", "MainPID", unit)
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s after a minute", what)
		}
	}
}
