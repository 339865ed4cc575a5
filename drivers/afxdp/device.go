package afxdp

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/netif"
)

// device is what the ports of one interface share: the program, its map of
// sockets, and the link that attaches it.
type device struct {
	key     any // netif's
	sockets *ebpf.Map
	program *ebpf.Program
	link    link.Link
	native  bool
	mode    string
	users   int
}

// devices holds the interfaces in use by this process. Only opening and closing
// take the lock.
var devices = struct {
	sync.Mutex
	m map[any]*device
}{m: map[any]*device{}}

// acquire returns the interface's device, attaching the program first where
// the interface has none of ours.
func acquire(i *netif.Interface) (*device, error) {
	key := i.Key()
	devices.Lock()
	defer devices.Unlock()
	if d := devices.m[key]; d != nil {
		d.users++
		return d, nil
	}
	d := &device{key: key, users: 1}
	if err := d.attach(i); err != nil {
		return nil, errors.Join(err, d.close())
	}
	devices.m[key] = d
	return d, nil
}

// mode is a way to attach the program.
type mode struct {
	flags  link.XDPAttachFlags
	name   string
	native bool // the device's driver runs the program: the precondition of zero copy
}

// modes are tried in order. A test shortens the list.
var modes = []mode{{link.XDPDriverMode, "native", true}, {link.XDPGenericMode, "generic", false}}

func (d *device) attach(i *netif.Interface) error {
	var err error
	d.sockets, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "vita_sockets", Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(i.Queues),
	})
	if err != nil {
		return fmt.Errorf("map of sockets: %w: %w", drivers.ErrUnsupported, err)
	}
	d.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "vita_redirect", Type: ebpf.XDP, License: "Apache-2.0", Instructions: redirect(d.sockets.FD()),
	})
	if err != nil {
		return fmt.Errorf("XDP program: %w: %w", drivers.ErrUnsupported, err)
	}
	var first error
	for _, m := range modes {
		d.link, err = attachFor(link.XDPOptions{Program: d.program, Interface: i.Index, Flags: m.flags})
		if err == nil {
			d.mode, d.native = m.name, m.native
			return nil
		}
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%w: another XDP program is attached: %w", drivers.ErrBusy, err)
		}
		if first == nil {
			first = err
		}
	}
	return fmt.Errorf("attach XDP program: native: %w; generic: %w: %w", first, err, drivers.ErrUnsupported)
}

// attachFor attaches the program. An interface that has one is tried again for
// a while: a process that has just been killed may still hold it.
func attachFor(o link.XDPOptions) (link.Link, error) {
	deadline := time.Now().Add(busyFor)
	for {
		l, err := link.AttachXDP(o)
		if err == nil || !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EEXIST) || time.Now().After(deadline) {
			return l, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// redirect is the XDP program: return bpf_redirect_map(sockets, the frame's
// receive queue, XDP_PASS). The flags are the verdict for a queue that has no
// socket; a socket that cannot take the frame drops it.
func redirect(sockets int) asm.Instructions {
	const (
		rxQueueIndex = 16 // offset in struct xdp_md, linux/bpf.h
		xdpPass      = 2
	)
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, rxQueueIndex, asm.Word),
		asm.LoadMapPtr(asm.R1, sockets),
		asm.Mov.Imm(asm.R3, xdpPass),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	}
}

// drop gives the caller's hold of the device up, and detaches the program with
// the last one.
func (d *device) drop() error {
	devices.Lock()
	defer devices.Unlock()
	d.users--
	if d.users > 0 {
		return nil
	}
	delete(devices.m, d.key)
	return d.close()
}

func (d *device) close() error {
	var errs []error
	if d.link != nil {
		errs = append(errs, d.link.Close())
	}
	if d.program != nil {
		errs = append(errs, d.program.Close())
	}
	if d.sockets != nil {
		errs = append(errs, d.sockets.Close())
	}
	return errors.Join(errs...)
}
