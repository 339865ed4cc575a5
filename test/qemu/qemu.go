// Package qemu boots virtual machines for tests: a stock Debian kernel and an
// initramfs that the test makes, whose init is a Go program of the test (package
// guest). The test talks to it by calls, and to its network cards by frames.
//
// QEMU and the kernel come from unpacked Debian packages (test/setup-vm.sh).
// Code is interpreted (TCG): a guest boots in some 4 s and is about ten times
// slower than its host.
package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vita/internal/cpio"
	"vita/test/qemu/guest"
)

// Options shapes a machine. Zero fields stand for defaults.
type Options struct {
	Init     string            // import path of the init program; required
	Modules  []string          // of the kernel, loaded in this order with what they need
	Programs []string          // of the tree, put into /bin with their libraries
	Files    map[string]string // further files: path in the guest, path here
	NICs     []NIC
	CPUs     int           // default 2
	Model    string        // of the processor, as QEMU's -cpu takes it; default max: all that TCG has
	Memory   int           // MiB; default 512
	Shared   bool          // the memory can be reached by other processes: device models
	Append   string        // to the kernel's command line
	Args     []string      // to QEMU's: further devices, disks, firmware
	Boot     time.Duration // how long the guest may take until it answers; default 60 s
	Life     time.Duration // after which the machine is killed; default 10 minutes
	Tree     Tree          // default: DefaultTree
	Kernel   Kernel        // default: DefaultKernel
}

// VM is a running machine.
type VM struct {
	Wires []*Wire // of the NICs, in their order

	dir    string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when QEMU has
	err    error         // how it ended; once ended is closed
	client *rpc.Client
	output bytes.Buffer // of QEMU itself; once ended is closed
}

// Start boots a machine that ends with the test. Where something goes wrong the
// test fails with the end of the guest's console.
func Start(t testing.TB, o Options) *VM {
	t.Helper()
	vm, err := Open(context.WithoutCancel(t.Context()), o) // which ends before the cleanups, of which Close is one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Errorf("%v\n%s", err, vm.Console(4000))
		}
	})
	return vm
}

// Open boots a machine. It ends by Close, at the end of ctx, and with this
// process.
func Open(ctx context.Context, o Options) (*VM, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	vm := &VM{ended: make(chan struct{})}
	var err error
	// A socket's path must be short.
	if vm.dir, err = os.MkdirTemp("", "vm"); err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	if err := vm.start(ctx, &o); err != nil {
		err = fmt.Errorf("qemu: %w\n%s", err, vm.Console(4000))
		return nil, errors.Join(err, vm.Close())
	}
	return vm, nil
}

func (o *Options) complete() (err error) {
	if o.Init == "" {
		return errors.New("no init program")
	}
	if o.CPUs == 0 {
		o.CPUs = 2
	}
	if o.Model == "" {
		o.Model = "max"
	}
	if o.Memory == 0 {
		o.Memory = 512
	}
	if o.Boot == 0 {
		o.Boot = time.Minute
	}
	if o.Life == 0 {
		o.Life = 10 * time.Minute
	}
	if o.Tree == "" {
		if o.Tree, err = DefaultTree(); err != nil {
			return err
		}
	}
	if o.Kernel == "" {
		o.Kernel, err = DefaultKernel()
	}
	return err
}

// initramfs writes what the kernel unpacks and returns its path.
func (vm *VM) initramfs(o *Options) (string, error) {
	init := filepath.Join(vm.dir, "init")
	build := exec.Command("go", "build", "-trimpath", "-o", init, o.Init)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", o.Init, err, out)
	}
	paths := map[string]string{"/init": init}
	programs, err := o.Tree.closure(o.Programs)
	if err != nil {
		return "", err
	}
	maps.Copy(paths, programs)
	maps.Copy(paths, o.Files)
	modules, err := o.Kernel.modules(append([]string{"virtio_pci", "virtio_console"}, o.Modules...))
	if err != nil {
		return "", err
	}
	var list strings.Builder
	for _, m := range modules {
		inside := "/lib/modules/" + filepath.Base(m)
		paths[inside] = m
		list.WriteString(inside + "\n")
	}
	files, err := filesOf(paths)
	if err != nil {
		return "", err
	}
	files = append(files,
		cpio.Entry{Path: guest.ModulesFile, Mode: cpio.File | 0o644, Data: []byte(list.String())},
		cpio.Entry{Path: "/dev/console", Mode: cpio.Char | 0o600, Dev: 1})
	name := filepath.Join(vm.dir, "initramfs")
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	return name, errors.Join(cpio.Write(f, files), f.Close())
}

func (vm *VM) start(ctx context.Context, o *Options) error {
	kernel, err := o.Kernel.image()
	if err != nil {
		return err
	}
	initrd, err := vm.initramfs(o)
	if err != nil {
		return err
	}
	words, env, err := o.Tree.Emulator()
	if err != nil {
		return err
	}
	control := filepath.Join(vm.dir, "control")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: control, Net: "unix"})
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	words = append(words,
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-M", "q35", "-accel", "tcg,thread=multi", "-cpu", o.Model, "-smp", strconv.Itoa(o.CPUs), "-m", strconv.Itoa(o.Memory),
		"-kernel", kernel, "-initrd", initrd,
		// A loaded host lets timer interrupts come late, which the kernel must
		// not take for broken ones. A panic ends QEMU.
		"-append", "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable "+o.Append,
		"-chardev", "file,id=console,path="+vm.console(), "-serial", "chardev:console",
		"-chardev", "socket,id=control,path="+control,
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=control,name="+guest.Port)
	for i, n := range o.NICs {
		w, netdev, err := NewWire(vm.dir, "net"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		vm.Wires = append(vm.Wires, w)
		model := n.Model
		if model == "" {
			model = "virtio-net-pci"
		}
		device := fmt.Sprintf("%s,netdev=net%d,mac=%s,romfile=", model, i, net.HardwareAddr(n.MAC[:]))
		if n.Args != "" {
			device += "," + n.Args
		}
		words = append(words, "-netdev", netdev, "-device", device)
	}
	if o.Shared {
		words = append(words, "-object", fmt.Sprintf("memory-backend-memfd,id=memory,size=%dM,share=on", o.Memory), "-machine", "memory-backend=memory")
	}
	words = append(words, o.Args...)
	return vm.boot(ctx, o, words, env, l)
}

// boot starts QEMU and waits until the guest answers.
func (vm *VM) boot(ctx context.Context, o *Options, words, env []string, l *net.UnixListener) error {
	life, cancel := context.WithTimeout(ctx, o.Life)
	vm.cmd = exec.CommandContext(life, words[0], words[1:]...)
	vm.cmd.Env = append(os.Environ(), env...)
	vm.cmd.Stdout, vm.cmd.Stderr = &vm.output, &vm.output
	vm.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		defer cancel()
		// The signal comes when the thread ends that has started the process:
		// this one lives as long as QEMU, locked.
		runtime.LockOSThread()
		err := vm.cmd.Start()
		started <- err
		if err == nil {
			vm.err = vm.cmd.Wait()
			close(vm.ended)
		}
	}()
	if err := <-started; err != nil {
		vm.cmd = nil
		return err
	}
	if err := l.SetDeadline(time.Now().Add(o.Boot)); err != nil {
		return err
	}
	conn, err := l.Accept()
	if err != nil {
		return fmt.Errorf("QEMU does not connect: %w", err)
	}
	vm.client = rpc.NewClient(conn)
	// QEMU takes what is said before the guest has opened its end.
	answer := vm.client.Go("Guest.ReadFile", "/proc/version", new([]byte), make(chan *rpc.Call, 1))
	select {
	case <-answer.Done:
		return answer.Error
	case <-vm.ended:
		return fmt.Errorf("QEMU ended: %w", vm.err)
	case <-time.After(o.Boot):
		return fmt.Errorf("the guest does not answer after %s", o.Boot)
	}
}

// Call calls a method of the init program's services.
func (vm *VM) Call(method string, arg, reply any) error {
	call := vm.client.Go(method, arg, reply, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return fmt.Errorf("%s in the guest: %w", method, call.Error)
		}
		return nil
	case <-vm.ended:
		return fmt.Errorf("%s: the machine has ended: %w", method, vm.err)
	}
}

// Run runs a program in the guest and returns what it has written.
func (vm *VM) Run(args ...string) (string, error) { return vm.Feed("", args...) }

// Feed is Run for a program that reads.
func (vm *VM) Feed(stdin string, args ...string) (string, error) {
	var r guest.Result
	if err := vm.Call("Guest.Run", guest.Command{Args: args, Stdin: stdin}, &r); err != nil {
		return "", err
	}
	if r.Error != "" {
		return r.Output, fmt.Errorf("%s: %s: %s", strings.Join(args, " "), r.Error, strings.TrimSpace(r.Output))
	}
	return r.Output, nil
}

func (vm *VM) console() string { return filepath.Join(vm.dir, "console") }

// Console returns the end, of at most n bytes, of what the guest has written to
// its console, and QEMU's own words once it has ended.
func (vm *VM) Console(n int) string {
	b, err := os.ReadFile(vm.console())
	if err != nil {
		b = []byte(err.Error())
	}
	b = b[max(len(b)-n, 0):]
	select {
	case <-vm.ended:
		b = append(b, vm.output.Bytes()...)
	default:
	}
	return string(b)
}

// Close turns the machine off, or kills it where that takes long, and removes
// its files. It returns an error where the machine has ended before by itself.
func (vm *VM) Close() error {
	var errs []error
	if vm.cmd != nil {
		errs = append(errs, vm.end())
	}
	for _, w := range vm.Wires {
		errs = append(errs, w.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(vm.dir))...)
}

func (vm *VM) end() error {
	select {
	case <-vm.ended:
		return fmt.Errorf("qemu: the machine had ended: %w", vm.err)
	default:
	}
	if vm.client != nil {
		vm.client.Go("Guest.PowerOff", struct{}{}, new(struct{}), make(chan *rpc.Call, 1))
		select {
		case <-vm.ended:
			_ = vm.client.Close() // its other end is gone
			return nil
		case <-time.After(5 * time.Second):
		}
	}
	_ = vm.cmd.Process.Kill() // or it has ended meanwhile
	<-vm.ended
	if vm.client == nil {
		return nil // boot has said what went wrong
	}
	return errors.Join(errors.New("qemu: the guest did not turn itself off"), vm.client.Close())
}
