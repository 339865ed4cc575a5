// Package guest is what runs inside a virtual machine of package qemu: process
// 1, which loads the kernel's modules, and then does what the test asks for.
//
// The init program of a test is a main function that calls Serve with the
// services of the test, whose methods have the form that net/rpc asks for. The
// service Guest is always there.
package guest

import (
	"bytes"
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What the host and the guest must agree on.
const (
	Port        = "vita.control" // name of the virtio port
	ModulesFile = "/modules"     // the modules to load, a path a line, in order
)

// Ready is what the init program writes to the console before it serves.
const Ready = "vita guest: ready"

// Serve makes the guest usable, serves the test's calls, and turns the machine
// off when the host has closed the control channel. It does not return. What
// goes wrong it writes to the console.
func Serve(services ...any) {
	err := serve(services)
	if err != nil {
		fmt.Println("vita guest:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // process 1 must not end
}

func serve(services []any) error {
	if err := Prepare(); err != nil {
		return err
	}
	port, err := OpenPort()
	if err != nil {
		return err
	}
	fmt.Println(Ready)
	return Answer(port, services...)
}

// Prepare mounts what programs expect and loads the kernel's modules.
func Prepare() error {
	if err := os.Setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"); err != nil {
		return err
	}
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"tmpfs", "/tmp"},
		{"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	list, err := os.ReadFile(ModulesFile)
	if err != nil {
		return err
	}
	for path := range strings.FieldsSeq(string(list)) {
		if err := load(path); err != nil {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	return nil
}

// Answer serves the test's calls until the host closes the control channel.
func Answer(port *os.File, services ...any) error {
	s := rpc.NewServer()
	for _, service := range append(services, new(Guest)) {
		if err := s.Register(service); err != nil {
			return err
		}
	}
	s.ServeConn(port)
	return nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// OpenPort opens the control channel, which may appear a little late.
func OpenPort() (*os.File, error) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name") // the pattern is good
		for _, n := range names {
			if b, err := os.ReadFile(n); err != nil || string(bytes.TrimSpace(b)) != Port {
				continue
			}
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no virtio port %s", Port)
}

// Guest is the service that every init program has.
type Guest struct{}

// Command is a program to run.
type Command struct {
	Args  []string
	Stdin string
}

// Result is what a program has said.
type Result struct {
	Output string // of both streams
	Error  string // how it ended, if not well
}

// Run runs a program to its end.
func (*Guest) Run(c Command, r *Result) error {
	if len(c.Args) == 0 {
		return errors.New("no command")
	}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Stdin = strings.NewReader(c.Stdin)
	out, err := cmd.CombinedOutput()
	r.Output = string(out)
	if err != nil {
		r.Error = err.Error()
	}
	return nil
}

// Daemon is a program that goes on, and the file for what it writes.
type Daemon struct {
	Args []string
	Log  string
}

// Start starts a program.
func (*Guest) Start(d Daemon, _ *struct{}) error {
	if len(d.Args) == 0 {
		return errors.New("no command")
	}
	log, err := os.Create(d.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(d.Args[0], d.Args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // the log has what it says
	return nil
}

// ReadFile returns a file.
func (*Guest) ReadFile(name string, data *[]byte) (err error) {
	*data, err = os.ReadFile(name)
	return err
}

// File is a file and what is in it.
type File struct {
	Name string
	Data []byte
}

// WriteFile writes a file, such as a setting below /proc/sys.
func (*Guest) WriteFile(f File, _ *struct{}) error { return os.WriteFile(f.Name, f.Data, 0o644) }

// PowerOff turns the machine off. The call may end without an answer.
func (*Guest) PowerOff(struct{}, *struct{}) error {
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
