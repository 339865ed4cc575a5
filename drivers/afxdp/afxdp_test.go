package afxdp

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/drivers/internal/xsk"
	"vita/internal/pktbuf"
	"vita/internal/testnet"
)

func newPair(t *testing.T, v testnet.Veth) drivertest.Veth {
	t.Helper()
	return drivertest.NewVeth(t, v, Open)
}

func TestConformance(t *testing.T) {
	for _, v := range []testnet.Veth{{MTU: 1500}, {MTU: 3400, Queues: 2}} {
		t.Run(fmt.Sprintf("mtu %d queues %d", v.MTU, v.Queues), func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Wire {
				return drivertest.Wire{MTU: v.MTU, Open: newPair(t, v).Open}
			})
		})
	}
}

// A device whose driver runs no XDP program still has the kernel run it.
func TestConformanceGenericProgram(t *testing.T) {
	all := modes
	modes = modes[1:]
	defer func() { modes = all }()
	drivertest.Run(t, func(t *testing.T) drivertest.Wire {
		return drivertest.Wire{MTU: 1500, Open: newPair(t, testnet.Veth{}).Open}
	})
}

// A pool for each queue is what an engine with several workers has; a pool for
// all ports of a worker shares one registration.
func TestQueuesAndSharedPool(t *testing.T) {
	p := newPair(t, testnet.Veth{Queues: 2})
	q := newPair(t, testnet.Veth{})
	pools := []*pktbuf.Pool{drivertest.NewPool(t, pktbuf.Options{}), drivertest.NewPool(t, pktbuf.Options{})}
	var ports []drivers.Port
	for i := range 2 {
		port, err := p.Open(0, drivers.Config{Queues: []int{i}, Pool: pools[i]})
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	for _, c := range []struct {
		queues []int
		want   error
	}{{[]int{1}, drivers.ErrBusy}, {nil, drivers.ErrBusy}, {[]int{2}, drivers.ErrUnsupported}, {[]int{-1}, drivers.ErrUnsupported}} {
		if _, err := p.Open(0, drivers.Config{Queues: c.queues, Pool: pools[0]}); !errors.Is(err, c.want) {
			t.Errorf("queues %v: %v, want %v", c.queues, err, c.want)
		}
	}
	// A second port on pool 0, on another interface: frames go from one to the
	// other without a copy.
	second, err := q.Open(0, drivers.Config{Pool: pools[0]})
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := second.(*Port); !ok || !s.queues[0].Shares() {
		t.Error("the second port registers the pool again")
	}
	farPool := drivertest.NewPool(t, pktbuf.Options{})
	far, err := q.Open(1, drivers.Config{Pool: farPool})
	if err != nil {
		t.Fatal(err)
	}
	senderPool := drivertest.NewPool(t, pktbuf.Options{})
	sender, err := p.Open(1, drivers.Config{Queues: []int{0}, Pool: senderPool})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]pktbuf.Packet, 64)
	for round := range 100 {
		k, _ := senderPool.Get()
		k.Len = 80
		f := senderPool.Bytes(k)
		clear(f)
		f[12], f[13], f[14] = 0x88, 0xb5, byte(round)
		sender.Tx([]pktbuf.Packet{k})
		sender.Flush()
		n := 0
		for deadline := time.Now().Add(30 * time.Second); n == 0 && time.Now().Before(deadline); {
			n = ports[0].Rx(b)
		}
		if n != 1 || second.Tx(b[:n]) != 1 {
			t.Fatalf("round %d: %d frames", round, n)
		}
		second.Flush()
		n = 0
		for deadline := time.Now().Add(30 * time.Second); n == 0 && time.Now().Before(deadline); {
			n = far.Rx(b)
		}
		if n != 1 || farPool.Bytes(b[0])[14] != byte(round) {
			t.Fatalf("round %d: %d frames at the far end", round, n)
		}
		farPool.Put(b[0])
		ports[0].Flush()
		far.Flush()
	}
	for _, port := range append(ports, second, far, sender) {
		if err := port.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, pool := range append(pools, farPool, senderPool) {
		if pool.Available() != pool.Frames() {
			t.Errorf("%d of %d buffers back", pool.Available(), pool.Frames())
		}
	}
	if len(devices.m) != 0 || len(registrations.m) != 0 {
		t.Errorf("%d devices and %d registrations left", len(devices.m), len(registrations.m))
	}
}

func attached(t *testing.T, ns *testnet.Namespace, name string) bool {
	return strings.Contains(ns.Run(t, "ip", "-d", "link", "show", "dev", name), "xdp")
}

func TestOpenErrors(t *testing.T) {
	p := newPair(t, testnet.Veth{MTU: 9000})
	pool := drivertest.NewPool(t, pktbuf.Options{Frames: 64})
	defer pool.Close()
	if _, err := p.Open(0, drivers.Config{Pool: pool}); !errors.Is(err, drivers.ErrUnsupported) || !strings.Contains(err.Error(), "MTU 9000") {
		t.Errorf("MTU larger than a buffer: %v", err)
	}
	large := drivertest.NewPool(t, pktbuf.Options{Frames: 64, FrameSize: 16384})
	defer large.Close()
	if _, err := p.Open(0, drivers.Config{Pool: large}); !errors.Is(err, drivers.ErrUnsupported) {
		t.Errorf("frames larger than a page: %v", err)
	}
	if _, err := newPair(t, testnet.Veth{}).Open(0, drivers.Config{Pool: pool, Tagged: true}); !errors.Is(err, drivers.ErrUnsupported) || !strings.Contains(err.Error(), "VLAN") {
		t.Errorf("tags on a veth pair: %v", err)
	}
	p.Name[0] = "none"
	if _, err := p.Open(0, drivers.Config{Pool: pool}); !errors.Is(err, drivers.ErrNoInterface) {
		t.Errorf("no such interface: %v", err)
	}
	if pool.Available() != pool.Frames() || large.Available() != large.Frames() {
		t.Error("buffers lost by a failed Open")
	}
	if attached(t, p.NS[0], "va") {
		t.Error("a failed Open leaves its program behind")
	}
}

// An interface that has a program of somebody else's is busy, and keeps it. One
// whose program goes away meanwhile is not.
func TestForeignProgram(t *testing.T) {
	p := newPair(t, testnet.Veth{})
	pool := drivertest.NewPool(t, pktbuf.Options{})
	defer pool.Close()
	foreign, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	var l link.Link
	if err := p.NS[0].Do(func() error {
		i, err := net.InterfaceByName(p.Name[0])
		if err != nil {
			return err
		}
		l, err = link.AttachXDP(link.XDPOptions{Program: foreign, Interface: i.Index, Flags: link.XDPDriverMode})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(0, drivers.Config{Pool: pool}); !errors.Is(err, drivers.ErrBusy) {
		t.Errorf("%v, want %v", err, drivers.ErrBusy)
	}
	if !attached(t, p.NS[0], "va") {
		t.Error("the foreign program was taken off")
	}
	gone := time.AfterFunc(100*time.Millisecond, func() { _ = l.Close() })
	defer gone.Stop()
	port, err := p.Open(0, drivers.Config{Pool: pool})
	if err != nil {
		t.Fatalf("after the foreign program has gone: %v", err)
	}
	if err := port.Close(); err != nil {
		t.Error(err)
	}
}

// The address a port asks for is taken in by the kernel as long as it is open.
func TestWantedAddress(t *testing.T) {
	p := newPair(t, testnet.Veth{})
	pool := drivertest.NewPool(t, pktbuf.Options{})
	defer pool.Close()
	port, err := p.Open(0, drivers.Config{Pool: pool, MAC: [6]byte{0x2a, 0xbb, 10, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	detail := func() string { return p.NS[0].Run(t, "ip", "-d", "link", "show", "dev", "va") }
	on := detail()
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	if off := detail(); !strings.Contains(on, "promiscuity 1") || !strings.Contains(on, "allmulti 1") ||
		!strings.Contains(off, "promiscuity 0") || !strings.Contains(off, "allmulti 0") {
		t.Errorf("while open:\n%s\nafter Close:\n%s", on, off)
	}
}

const helperVariable = "VITA_TEST_OPEN_AND_WAIT"

// A process that is killed leaves nothing attached.
func TestKilledProcessLeavesNothing(t *testing.T) {
	if os.Getenv(helperVariable) != "" { // this is the process to be killed
		_, err := Open(drivers.Config{Ifname: "va", Pool: drivertest.NewPool(t, pktbuf.Options{})})
		fmt.Println("opened:", err)
		select {}
	}
	p := newPair(t, testnet.Veth{})
	cmd := exec.Command(os.Args[0], "-test.run=TestKilledProcessLeavesNothing")
	cmd.Env = append(os.Environ(), helperVariable+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.NS[0].Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "opened: <nil>\n" {
		t.Errorf("%q %v", line, err)
	}
	if !attached(t, p.NS[0], "va") {
		t.Error("no program is attached while the port is open")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(30 * time.Second); attached(t, p.NS[0], "va"); {
		if time.Now().After(deadline) {
			t.Fatal("the program of the killed process is still attached")
		}
	}
	pool := drivertest.NewPool(t, pktbuf.Options{})
	defer pool.Close()
	port, err := p.Open(0, drivers.Config{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
}

// What the kernel writes into the rings is not believed.
func TestHostileDescriptors(t *testing.T) {
	p := newPair(t, testnet.Veth{})
	pool := drivertest.NewPool(t, pktbuf.Options{Frames: 256})
	defer pool.Close()
	var stats drivers.Stats
	opened, err := p.Open(0, drivers.Config{Pool: pool, Stats: &stats})
	if err != nil {
		t.Fatal(err)
	}
	port, ok := opened.(*Port)
	if !ok {
		t.Fatalf("%T", opened)
	}
	k, _ := pool.Get() // ours: the kernel does not have it
	size := uint64(pool.FrameSize())
	bad := []uint64{pool.Offset(k), size * 256, 1 << 63, size - 10}
	rx, done := &port.queues[0].Rx, &port.queues[0].Completion
	for i, a := range bad {
		rx.Set(i, xsk.Desc{Addr: a, Len: 100})
		done.Set(i, a)
	}
	rx.Pretend(len(bad))
	done.Pretend(len(bad))
	b := make([]pktbuf.Packet, 8)
	if n := port.Rx(b); n != 0 || stats.RxErrors != uint64(len(bad)) {
		t.Errorf("%d frames, %d errors, want 0 and %d", n, stats.RxErrors, len(bad))
	}
	port.Flush()
	if stats.TxErrors != uint64(len(bad)) {
		t.Errorf("%d transmit errors, want %d", stats.TxErrors, len(bad))
	}
	pool.Put(k)
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	if pool.Available() != pool.Frames() {
		t.Errorf("%d of %d buffers back", pool.Available(), pool.Frames())
	}
}
