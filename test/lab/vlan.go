package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Verdicts of a program at a tcx hook, and the offset of the VLAN tag in what it
// gets (struct __sk_buff); linux/bpf.h.
const (
	tcxPass = 0
	tcxDrop = 2

	skbVLANPresent = 20
	skbVLANTCI     = 24
)

// VLAN puts an interface of a host into a VLAN until the lab is closed: the
// kernel pushes a tag onto what it sends, and pops it off what it receives,
// where others are dropped. A VLAN device would do the same, and not every
// kernel has them. The tag lies beside the frame in the kernel's memory, as
// devices that offload tags have it.
func (l *Lab) VLAN(host, dev string, id uint16) error {
	out := asm.Instructions{
		asm.LoadImm(asm.R2, int64(binary.NativeEndian.Uint16([]byte{0x81, 0})), asm.DWord),
		asm.Mov.Imm(asm.R3, int32(id)),
		asm.FnSkbVlanPush.Call(),
		asm.Mov.Imm(asm.R0, tcxPass),
		asm.Return(),
	}
	in := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, skbVLANPresent, asm.Word),
		asm.JEq.Imm(asm.R2, 0, "drop"),
		asm.LoadMem(asm.R2, asm.R1, skbVLANTCI, asm.Word),
		asm.And.Imm(asm.R2, 0xfff),
		asm.JNE.Imm(asm.R2, int32(id), "drop"),
		asm.FnSkbVlanPop.Call(),
		asm.Mov.Imm(asm.R0, tcxPass),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxDrop).WithSymbol("drop"),
		asm.Return(),
	}
	return l.visit(host, func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		for _, p := range []struct {
			code asm.Instructions
			hook ebpf.AttachType
		}{{out, ebpf.AttachTCXEgress}, {in, ebpf.AttachTCXIngress}} {
			program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: p.code})
			if err != nil {
				return fmt.Errorf("VLAN %d on %s: %w", id, dev, err)
			}
			attached, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: program, Attach: p.hook})
			err = errors.Join(err, program.Close()) // the link keeps it
			if err != nil {
				return fmt.Errorf("VLAN %d on %s: %w", id, dev, err)
			}
			l.mu.Lock()
			l.ends = append(l.ends, func() { _ = attached.Close() }) // it ends with the interface, too
			l.mu.Unlock()
		}
		return nil
	})
}
