// Package qtest drives the devices that QEMU models, without a guest: the test
// is the processor. It reads and writes registers and configuration space by
// QEMU's qtest protocol, a line on a socket for each access, and shares the
// machine's memory with QEMU as a file.
//
//	this process                              QEMU
//	 driver ─ Window ── "readl 0xfe000008" ──► registers ─ device ─ netdev
//	 pool, rings ══ memory file (RAM of the machine) ══════╛  DMA
//
// Map puts the machine's memory in the place of the caller's: at the same
// address, with what was in it. An I/O address is an address of the machine.
//
// It needs no privileges. Interrupts are not delivered: nobody programs an
// interrupt controller.
package qtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/mmio"
	"vita/drivers/internal/pci"
)

// Options shapes a machine.
type Options struct {
	Command []string // the words that run QEMU here
	Env     []string // further environment of QEMU
	Args    []string // further words: -netdev and -device, with addr= as the slot
	Memory  int      // bytes; default 512 MiB. Pages are taken as they are used
}

// Machine is a QEMU that runs.
type Machine struct {
	dir    string
	cmd    *exec.Cmd
	ended  chan struct{}
	output strings.Builder // of QEMU; once ended is closed

	monitor net.Conn // QEMU's own prompt

	io   sync.Mutex // over the socket
	conn net.Conn
	in   *bufio.Reader
	line []byte
	fail error

	mu     sync.Mutex
	ram    int // memory file
	space  *dma.Space
	mapped map[*byte]*mapping
	bars   uint64 // next free address for registers
}

type mapping struct {
	at    uint64
	size  int
	users int
}

// Addresses of a q35 machine that has no firmware: memory starts at 0, what
// lies below lowest is left alone, and devices' registers are put below the
// interrupt controllers.
const (
	lowest   = 16 << 20
	firstBAR = 0xe0000000
	lastBAR  = 0xfe000000
)

// Start starts QEMU. It ends by Close, and with this process.
func Start(o Options) (*Machine, error) {
	if o.Memory == 0 {
		o.Memory = 512 << 20
	}
	m := &Machine{
		ended: make(chan struct{}), ram: -1, bars: firstBAR, mapped: map[*byte]*mapping{},
		space: dma.NewSpace(dma.Range{First: lowest, Last: uint64(o.Memory) - 1}),
	}
	if err := m.start(&o); err != nil {
		return nil, errors.Join(fmt.Errorf("qtest: %w", err), m.Close())
	}
	return m, nil
}

func (m *Machine) start(o *Options) error {
	var err error
	if m.dir, err = os.MkdirTemp("", "qt"); err != nil { // a socket's path must be short
		return err
	}
	if m.ram, err = unix.MemfdCreate("vita-qtest", unix.MFD_CLOEXEC); err != nil {
		return err
	}
	if err := unix.Ftruncate(m.ram, int64(o.Memory)); err != nil {
		return err
	}
	// The processor has to be there, for time to pass. It starts 16 bytes below
	// the firmware's end, with cli; hlt; jmp to hlt.
	bios := make([]byte, 64<<10)
	copy(bios[len(bios)-16:], []byte{0xfa, 0xf4, 0xeb, 0xfd})
	biosName := filepath.Join(m.dir, "bios")
	if err := os.WriteFile(biosName, bios, 0o600); err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(m.dir, "qtest"))
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	monitor, err := net.Listen("unix", filepath.Join(m.dir, "monitor"))
	if err != nil {
		return err
	}
	defer func() { _ = monitor.Close() }()
	args := append(slices.Clip(o.Command),
		"-nodefaults", "-no-user-config", "-display", "none", "-M", "q35,memory-backend=ram", "-accel", "tcg", "-bios", biosName,
		"-m", strconv.Itoa(o.Memory>>20), "-object", "memory-backend-file,id=ram,share=on,mem-path=/proc/self/fd/3,size="+strconv.Itoa(o.Memory),
		"-qtest", "unix:"+filepath.Join(m.dir, "qtest"), "-qtest-log", "/dev/null",
		"-monitor", "unix:"+filepath.Join(m.dir, "monitor"))
	args = append(args, o.Args...)
	if err := m.run(args, o.Env); err != nil {
		return err
	}
	accepted := make(chan error, 1)
	go func() {
		var err error
		if m.monitor, err = monitor.Accept(); err == nil {
			m.conn, err = l.Accept()
		}
		accepted <- err
	}()
	select {
	case err := <-accepted:
		if err != nil {
			return err
		}
	case <-m.ended:
		return fmt.Errorf("QEMU ended: %s", m.output.String())
	case <-time.After(time.Minute):
		return errors.New("QEMU does not connect")
	}
	m.in = bufio.NewReader(m.conn)
	_, err = m.ask("inl", configAddress) // QEMU connects before it has made the devices, and may refuse them
	return err
}

func (m *Machine) run(words, env []string) error {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	ram := os.NewFile(uintptr(mustDup(m.ram)), "ram")
	defer ram.Close()
	cmd.ExtraFiles = []*os.File{ram}
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &m.output, &m.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		defer cancel()
		runtime.LockOSThread() // the signal comes when the starting thread ends
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(m.ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	m.cmd = cmd
	return nil
}

func mustDup(fd int) int {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1 // which fails where it is used
	}
	return n
}

// ask sends a command with its numbers, and returns the number that is answered.
// It does not allocate where all is well: the suite counts what a driver does.
func (m *Machine) ask(command string, numbers ...uint64) (uint64, error) {
	m.io.Lock()
	defer m.io.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	m.line = append(m.line[:0], command...)
	for _, n := range numbers {
		m.line = strconv.AppendUint(append(m.line, " 0x"...), n, 16)
	}
	m.line = append(m.line, '\n')
	if err := m.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, m.broken(err)
	}
	if _, err := m.conn.Write(m.line); err != nil {
		return 0, m.broken(err)
	}
	for {
		line, err := m.in.ReadSlice('\n')
		if err != nil {
			return 0, m.broken(err)
		}
		line = bytes.TrimSpace(line)
		if bytes.HasPrefix(line, []byte("IRQ ")) {
			continue
		}
		rest, ok := bytes.CutPrefix(line, []byte("OK"))
		if !ok {
			return 0, fmt.Errorf("qtest: %s: %s", bytes.TrimSpace(m.line), line)
		}
		return hex(rest), nil
	}
}

// hex reads " 0x1f"; what is no number is 0.
func hex(b []byte) (v uint64) {
	_, digits, _ := bytes.Cut(b, []byte("x"))
	for _, c := range digits {
		d := bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)
		if d < 0 {
			break
		}
		v = v<<4 | uint64(d)
	}
	return v
}

func (m *Machine) broken(err error) error {
	said := ""
	select {
	case <-m.ended:
		said = ": " + strings.TrimSpace(m.output.String())
	case <-time.After(time.Second):
	}
	m.fail = fmt.Errorf("qtest: QEMU does not answer: %w%s", err, said)
	return m.fail
}

// Monitor has QEMU carry out a command as at its prompt.
func (m *Machine) Monitor(command string) error {
	if err := m.monitor.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := m.monitor.Write([]byte(command + "\n")); err != nil {
		return err
	}
	// The prompt follows; there is one before the first command as well.
	var said []byte
	for buf := make([]byte, 4096); !bytes.Contains(said, []byte(command)) || !bytes.HasSuffix(said, []byte("(qemu) ")); {
		n, err := m.monitor.Read(buf)
		if err != nil {
			return fmt.Errorf("qtest: %s: %w", command, err)
		}
		said = append(said, buf[:n]...)
	}
	if bytes.Contains(said, []byte("Error")) {
		return fmt.Errorf("qtest: %s: %s", command, said)
	}
	return nil
}

// Cable pulls the cable of a Pair, or plugs it in again.
func (m *Machine) Cable(in bool) error {
	state := map[bool]string{true: "on", false: "off"}[in]
	return errors.Join(m.Monitor("set_link net0 "+state), m.Monitor("set_link net1 "+state))
}

// Alive reports whether QEMU still answers.
func (m *Machine) Alive() bool {
	m.io.Lock()
	defer m.io.Unlock()
	return m.fail == nil
}

// Close ends QEMU. Memory that is still mapped stays readable.
func (m *Machine) Close() error {
	var errs []error
	for _, c := range []net.Conn{m.monitor, m.conn} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if m.cmd != nil {
		_ = m.cmd.Process.Kill() // or it has ended
		<-m.ended
	}
	if m.ram >= 0 {
		errs = append(errs, unix.Close(m.ram))
		m.ram = -1
	}
	if m.dir != "" {
		errs = append(errs, os.RemoveAll(m.dir))
	}
	return errors.Join(errs...)
}

const (
	configAddress = 0xcf8 // of PCI 3.0, 3.2.2.3.2
	configData    = 0xcfc
	page          = 4096
)

// Device is one device of the machine, on bus 0. It is open as long as the
// machine runs.
type Device struct {
	m    *Machine
	slot int
	id   pci.ID
	bars [6]*mmio.Window
	own  map[*byte]bool
}

// Device returns the device in a slot of bus 0.
func (m *Machine) Device(slot int) (*Device, error) {
	d := &Device{m: m, slot: slot, own: map[*byte]bool{}}
	var err error
	if d.id, err = pci.ReadID(d); err != nil {
		return nil, err
	}
	if pci.Gone(d) {
		return nil, fmt.Errorf("qtest: slot %d: %w", slot, drivers.ErrNoInterface)
	}
	return d, nil
}

// Address returns the device's address in the machine.
func (d *Device) Address() string {
	return fmt.Sprintf("qtest:%s:%02x.0", filepath.Base(d.m.dir), d.slot)
}

// ID returns what the device is.
func (d *Device) ID() pci.ID { return d.id }

// Physical says that there is no IOMMU.
func (d *Device) Physical() bool { return true }

// Node returns no NUMA node.
func (d *Device) Node() int { return -1 }

// words are the commands for accesses, by their size.
var words = [9]struct{ in, out, read, write string }{
	1: {"inb", "outb", "readb", "writeb"},
	2: {"inw", "outw", "readw", "writew"},
	4: {"inl", "outl", "readl", "writel"},
	8: {"", "", "readq", "writeq"},
}

func (d *Device) config(off int) uint64 { return uint64(1<<31 | d.slot<<11 | off&0xfc) }

// ReadConfig reads configuration space.
func (d *Device) ReadConfig(off, size int) (uint32, error) {
	if _, err := d.m.ask("outl", configAddress, d.config(off)); err != nil {
		return 0, err
	}
	v, err := d.m.ask(words[size].in, configData+uint64(off&3))
	return uint32(v), err
}

// WriteConfig writes configuration space.
func (d *Device) WriteConfig(off, size int, v uint32) error {
	if _, err := d.m.ask("outl", configAddress, d.config(off)); err != nil {
		return err
	}
	_, err := d.m.ask(words[size].out, configData+uint64(off&3), uint64(v))
	return err
}

// BAR gives a register range an address, as firmware does, and returns a window
// to it (PCI 3.0, 6.2.5.1).
func (d *Device) BAR(n int) (*mmio.Window, error) {
	if n < 0 || n >= len(d.bars) {
		return nil, fmt.Errorf("%s: BAR %d", d.Address(), n)
	}
	if d.bars[n] != nil {
		return d.bars[n], nil
	}
	reg := pci.BAR0 + 4*n
	if err := d.WriteConfig(reg, 4, ^uint32(0)); err != nil {
		return nil, err
	}
	mask, err := d.ReadConfig(reg, 4)
	if err != nil {
		return nil, err
	}
	if mask == 0 || mask&1 != 0 {
		return nil, fmt.Errorf("%s: BAR %d is no memory", d.Address(), n)
	}
	size := uint64(-(mask &^ 15)) & 0xffffffff
	d.m.mu.Lock()
	at := (d.m.bars + size - 1) &^ (size - 1)
	d.m.bars = at + size
	d.m.mu.Unlock()
	if at+size > lastBAR {
		return nil, fmt.Errorf("%s: no addresses left for BAR %d", d.Address(), n)
	}
	if err := d.WriteConfig(reg, 4, uint32(at)); err != nil {
		return nil, err
	}
	if mask>>1&3 == 2 { // of 64 bits
		if err := d.WriteConfig(reg+4, 4, 0); err != nil {
			return nil, err
		}
	}
	command, err := d.ReadConfig(pci.Command, 2)
	if err != nil {
		return nil, err
	}
	if err := d.WriteConfig(pci.Command, 2, command|pci.CommandMemory); err != nil {
		return nil, err
	}
	d.bars[n] = mmio.Handled(int(size), &registers{d.m, at})
	return d.bars[n], nil
}

type registers struct {
	m  *Machine
	at uint64
}

// Load answers with ones once QEMU does not, as a machine does for a device
// that is gone.
func (r *registers) Load(off, size int) uint64 {
	v, err := r.m.ask(words[size].read, r.at+uint64(off))
	if err != nil {
		return ^uint64(0) >> (64 - 8*size)
	}
	return v
}

func (r *registers) Store(off, size int, v uint64) {
	_, _ = r.m.ask(words[size].write, r.at+uint64(off), v)
}

// Reset resets the function (PCI Express 3.0, 6.6.2).
func (d *Device) Reset() error {
	const deviceCapabilities, deviceControl, flr, initiate = 4, 8, 1 << 28, 1 << 15
	at := 0
	if err := pci.EachCapability(d, func(id uint8, where int) bool {
		if id == pci.CapExpress {
			at = where
		}
		return at == 0
	}); err != nil {
		return err
	}
	if at == 0 {
		return fmt.Errorf("%s: no reset of the function: %w", d.Address(), drivers.ErrUnsupported)
	}
	able, err := d.ReadConfig(at+deviceCapabilities, 4)
	if err != nil {
		return err
	}
	if able&flr == 0 {
		return fmt.Errorf("%s: no reset of the function: %w", d.Address(), drivers.ErrUnsupported)
	}
	var before [6]uint32
	for i := range before {
		if before[i], err = d.ReadConfig(pci.BAR0+4*i, 4); err != nil {
			return err
		}
	}
	command, err := d.ReadConfig(pci.Command, 2)
	if err != nil {
		return err
	}
	control, err := d.ReadConfig(at+deviceControl, 2)
	if err != nil {
		return err
	}
	if err := d.WriteConfig(at+deviceControl, 2, control|initiate); err != nil {
		return err
	}
	time.Sleep(time.Millisecond) // the specification asks hardware for 100
	for i := range before {
		if err := d.WriteConfig(pci.BAR0+4*i, 4, before[i]); err != nil {
			return err
		}
	}
	return d.WriteConfig(pci.Command, 2, command&^pci.CommandMaster)
}

// Vectors returns 0.
func (d *Device) Vectors() int { return 0 }

// Interrupts are not delivered.
func (d *Device) Interrupts(fds []int) error {
	if len(fds) > 0 {
		return fmt.Errorf("%s: interrupts: %w", d.Address(), drivers.ErrUnsupported)
	}
	return nil
}

// Map puts memory of the machine in the place of b. Memory that another device
// of the machine has mapped has its address already.
func (d *Device) Map(b []byte) (uint64, error) {
	m := d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(b) == 0 || uintptr(unsafe.Pointer(&b[0]))%page != 0 {
		return 0, fmt.Errorf("%s: %d bytes to be mapped do not start with a page", d.Address(), len(b))
	}
	if x := m.mapped[&b[0]]; x != nil {
		if len(b) != x.size || d.own[&b[0]] {
			return 0, fmt.Errorf("%s: memory is mapped already", d.Address())
		}
		x.users++
		d.own[&b[0]] = true
		return x.at, nil
	}
	size := (len(b) + page - 1) &^ (page - 1)
	at, err := m.space.Take(uint64(size), page)
	if err != nil {
		return 0, err
	}
	if err := m.exchange(b, size, unix.MAP_SHARED|unix.MAP_FIXED, m.ram, at); err != nil {
		m.space.Give(at)
		return 0, err
	}
	m.mapped[&b[0]] = &mapping{at: at, size: len(b), users: 1}
	d.own[&b[0]] = true
	return at, nil
}

// exchange replaces the memory below b, whose content stays.
func (m *Machine) exchange(b []byte, size, flags, fd int, at uint64) error {
	whole := unsafe.Slice(&b[0], size) // to the end of its last page
	content := append([]byte(nil), whole...)
	if _, err := unix.MmapPtr(fd, int64(at), unsafe.Pointer(&b[0]), uintptr(size), unix.PROT_READ|unix.PROT_WRITE, flags); err != nil {
		return fmt.Errorf("qtest: map %d bytes: %w", size, err)
	}
	copy(whole, content)
	return nil
}

// Unmap puts memory of this process back.
func (d *Device) Unmap(b []byte) error {
	m := d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(b) == 0 || !d.own[&b[0]] || m.mapped[&b[0]].size != len(b) {
		return fmt.Errorf("%s: %d bytes to be unmapped were not mapped", d.Address(), len(b))
	}
	delete(d.own, &b[0])
	x := m.mapped[&b[0]]
	if x.users--; x.users > 0 {
		return nil
	}
	delete(m.mapped, &b[0])
	size := (len(b) + page - 1) &^ (page - 1)
	if err := m.exchange(b, size, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, -1, 0); err != nil {
		return err
	}
	m.space.Give(x.at)
	return nil
}

// Close ends the driver's use of the device, which can be opened again.
func (d *Device) Close() error {
	if len(d.own) > 0 {
		return errors.New(d.Address() + ": closed with memory mapped")
	}
	return nil
}

// Pair starts a machine with two devices of a model of QEMU's, in slots 4 and 6
// (an igb has 8 virtual functions, 16 and 17 slots further on), that are joined
// by a hub. A hub keeps frames in order and, up to 10 000, those that the
// receiver has no buffers for; sockets between the two would not.
func Pair(o Options, model string) (*Machine, error) {
	for i := range 2 {
		o.Args = append(o.Args,
			"-netdev", fmt.Sprintf("hubport,id=net%d,hubid=0", i),
			"-device", fmt.Sprintf("%s,netdev=net%d,addr=%02x.0,mac=52:54:00:00:00:%02x,romfile=", model, i, 4+2*i, 1+i))
	}
	return Start(o)
}
