// Package test boots the appliance's image as an operator's hypervisor
// would: by firmware, from a disk, with cables at its cards and somebody at its
// serial console. What the image is tested for is in its tests.
package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vita/test/qemu"
)

// Options shapes a machine.
type Options struct {
	Dir    string   // for its disk, firmware's memory and sockets; they stay for the next start
	Disk   string   // image in Dir; default disk.raw
	Format string   // of the image; default raw
	Drive  []string // devices of QEMU's for it, the last one with drive=disk; default one of virtio's
	OEM    []string // strings that the firmware has for the machine
	NICs   []string // words -netdev and -device of its cards
	Args   []string // further words for QEMU
	NoNet  bool     // no management network
	Guest  string   // the address there, where it is not the one that DHCP gives
}

// Machine is a machine that runs.
type Machine struct {
	SSH, HTTPS string // addresses of its NETCONF and RESTCONF servers

	cmd   *exec.Cmd
	ended chan struct{}
	tty   net.Conn

	mu   sync.Mutex
	text bytes.Buffer // of the console and QEMU
	seen int          // of the text, by Expect
}

// Start boots a machine; it is killed when the test ends.
func Start(t testing.TB, o Options) *Machine {
	t.Helper()
	m, err := open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Kill()
		if t.Failed() {
			t.Logf("console:\n%s", m.Console(6000))
		}
	})
	return m
}

func open(ctx context.Context, o Options) (*Machine, error) {
	tree, err := qemu.DefaultTree()
	if err != nil {
		return nil, err
	}
	if o.Disk == "" {
		o.Disk = "disk.raw"
	}
	if o.Format == "" {
		o.Format = "raw"
	}
	if o.Drive == nil {
		o.Drive = []string{"virtio-blk-pci,drive=disk"}
	}
	words, err := tree.Command("qemu-system-x86_64")
	if err != nil {
		return nil, err
	}
	share := func(s string) string { return filepath.Join(string(tree), "usr/share", s) }
	vars := filepath.Join(o.Dir, "vars.fd")
	if _, err := os.Stat(vars); err != nil {
		if err := copyFile(share("OVMF/OVMF_VARS_4M.fd"), vars); err != nil {
			return nil, err
		}
	}
	m := &Machine{ended: make(chan struct{})}
	serial := filepath.Join(o.Dir, "tty")
	_ = os.Remove(serial) // of the last start
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: serial, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	words = append(words,
		"-nodefaults", "-no-user-config", "-display", "none",
		"-M", "q35,kernel-irqchip=split", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "640",
		"-device", "intel-iommu,intremap=on,caching-mode=on",
		"-L", share("qemu"), "-L", share("seabios"),
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+share("OVMF/OVMF_CODE_4M.fd"),
		"-drive", "if=pflash,format=raw,unit=1,file="+vars,
		"-drive", "if=none,id=disk,format="+o.Format+",file="+filepath.Join(o.Dir, o.Disk),
		"-chardev", "socket,id=tty,path="+serial, "-serial", "chardev:tty")
	for _, d := range o.Drive {
		words = append(words, "-device", d)
	}
	words[len(words)-1] += ",bootindex=1"
	if len(o.OEM) > 0 {
		all := []string{"type=11"}
		for _, v := range o.OEM {
			all = append(all, "value="+strings.ReplaceAll(v, ",", ",,"))
		}
		words = append(words, "-smbios", strings.Join(all, ","))
	}
	if !o.NoNet {
		ssh, https, err := twoPorts()
		if err != nil {
			return nil, err
		}
		m.SSH, m.HTTPS = ssh, https
		words = append(words, "-netdev", fmt.Sprintf("user,id=mgmt,hostfwd=tcp:%s-%s:830,hostfwd=tcp:%s-%s:443", ssh, o.Guest, https, o.Guest))
	} else {
		words = append(words, "-netdev", "hubport,id=mgmt,hubid=0")
	}
	words = append(words, "-device", "virtio-net-pci,netdev=mgmt,romfile=,mac=02:00:00:00:00:01")
	words = append(append(words, o.NICs...), o.Args...)
	for _, w := range words { // sockets of a machine that was killed
		if m := localPath.FindStringSubmatch(w); m != nil {
			_ = os.Remove(m[1])
		}
	}
	if err := m.run(ctx, words, tree); err != nil {
		return nil, err
	}
	if err := l.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	if m.tty, err = l.Accept(); err != nil {
		m.Kill()
		return nil, fmt.Errorf("QEMU does not connect: %w\n%s", err, m.Console(2000))
	}
	go func() { _, _ = io.Copy(m, m.tty) }() // until it ends
	return m, nil
}

var localPath = regexp.MustCompile(`local\.path=([^,]+)`)

// run starts QEMU, which ends with this process.
func (m *Machine) run(ctx context.Context, words []string, tree qemu.Tree) error {
	m.cmd = exec.CommandContext(ctx, words[0], words[1:]...)
	m.cmd.Env = append(os.Environ(), "QEMU_MODULE_DIR="+filepath.Join(string(tree), "usr/lib/x86_64-linux-gnu/qemu"))
	m.cmd.Stdout, m.cmd.Stderr = m, m
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the signal comes when the thread ends
		err := m.cmd.Start()
		started <- err
		if err == nil {
			_ = m.cmd.Wait() // how it ended is on the console
			close(m.ended)
		}
	}()
	return <-started
}

// Write takes what the console says.
func (m *Machine) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(b)
}

// Console returns the end of what the console has said.
func (m *Machine) Console(n int) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.text.Bytes()
	return string(b[max(0, len(b)-n):])
}

// Expect waits until the console says something, behind what was expected
// before, and returns the parts of it that are in brackets.
func (m *Machine) Expect(t testing.TB, pattern string, timeout time.Duration) []string {
	t.Helper()
	r := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(timeout); ; time.Sleep(20 * time.Millisecond) {
		m.mu.Lock()
		rest := m.text.Bytes()[m.seen:]
		if at := r.FindSubmatchIndex(rest); at != nil {
			var out []string
			for i := 0; i < len(at); i += 2 {
				out = append(out, string(rest[at[i]:at[i+1]]))
			}
			m.seen += at[1]
			m.mu.Unlock()
			return out
		}
		m.mu.Unlock()
		select {
		case <-m.ended:
			t.Fatalf("the machine has ended; no %q", pattern)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q after %s", pattern, timeout)
		}
	}
}

// Type enters a line at the console.
func (m *Machine) Type(t testing.TB, line string) {
	t.Helper()
	if _, err := m.tty.Write([]byte(line + "\n")); err != nil {
		t.Fatal(err)
	}
}

// Kill cuts the power.
func (m *Machine) Kill() {
	_ = m.cmd.Process.Kill() // it may have ended
	<-m.ended
	if m.tty != nil {
		_ = m.tty.Close()
	}
}

// Ended waits until the machine has turned itself off.
func (m *Machine) Ended(t testing.TB, timeout time.Duration) {
	t.Helper()
	select {
	case <-m.ended:
	case <-time.After(timeout):
		t.Fatalf("the machine is not off after %s", timeout)
	}
}

// twoPorts finds two free ports of this machine.
func twoPorts() (a, b string, err error) {
	var l [2]net.Listener
	for i := range l {
		if l[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", "", err
		}
		defer func() { _ = l[i].Close() }()
	}
	return l[0].Addr().String(), l[1].Addr().String(), nil
}

func copyFile(from, to string) error {
	// cp keeps holes.
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Cable returns the words for a card whose other end the test holds.
func Cable(dir, id, model string, mac byte) (*qemu.Wire, []string, error) {
	w, netdev, err := qemu.NewWire(dir, id)
	return w, []string{"-netdev", netdev, "-device", card(model, id, mac)}, err
}

// Between returns the words for two cards with a cable between them.
func Between(dir, id, model string, macs [2]byte) (a, b []string) {
	end := func(n int) string { return filepath.Join(dir, id+strconv.Itoa(n)) }
	words := func(n int) []string {
		return []string{
			"-netdev", fmt.Sprintf("dgram,id=%s,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s", id, end(n), end(1-n)),
			"-device", card(model, id, macs[n]),
		}
	}
	return words(0), words(1)
}

func card(model, id string, mac byte) string {
	return fmt.Sprintf("%s,netdev=%s,romfile=,mac=02:00:00:00:00:%02x", model, id, mac)
}

var errClosed = errors.New("the session is closed")

// Timeline returns the steps of a machine's start, which has come to its end.
func (m *Machine) Timeline(t testing.TB) string {
	t.Helper()
	m.Type(t, "status")
	return m.Expect(t, `start, in seconds since the kernel's: kernel \S+, root found .*, network \S+, ready [\d.]+`, 10*time.Second)[0]
}
