// Package testnet makes network namespaces and veth pairs for tests.
//
// A namespace here has no name: it is a file descriptor, so that it ends with
// its test, and with the process however that ends. It needs root and ip of
// iproute2.
package testnet

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of a test.
type Namespace struct {
	file *os.File
}

// New makes an empty namespace with IPv6 off and the loopback interface down,
// so that nothing in it sends of its own accord. It ends with the test.
func New(t testing.TB) *Namespace {
	t.Helper()
	n := &Namespace{}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		var err error
		if n.file, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		for _, c := range []string{"all", "default"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+c+"/disable_ipv6", []byte("1"), 0); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	t.Cleanup(func() { _ = n.file.Close() })
	return n
}

// onThread runs f on an operating system thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not reused
		done <- f()
	}()
	return <-done
}

// Do runs f on a thread inside the namespace. Sockets and processes that f
// makes stay there. F must not call t.Fatal.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return f()
	})
}

// Path names the namespace for ip and nsenter, as long as the test runs.
func (n *Namespace) Path() string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(n.file.Fd()))
}

// Run runs a command inside the namespace and returns what it prints.
func (n *Namespace) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Veth shapes a pair of virtual Ethernet interfaces. The zero value of a field
// stands for its default.
type Veth struct {
	MTU      int  // default 1500
	Queues   int  // receive and transmit queues of each end; default 1
	Offloads bool // leave checksum and segmentation offloads on
}

// Connect makes a veth pair, one end in each namespace, and brings it up.
func Connect(t testing.TB, a *Namespace, nameA string, b *Namespace, nameB string, v Veth) {
	t.Helper()
	if v.MTU == 0 {
		v.MTU = 1500
	}
	if v.Queues == 0 {
		v.Queues = 1
	}
	mtu, queues := strconv.Itoa(v.MTU), strconv.Itoa(v.Queues)
	a.Run(t, "ip", "link", "add", nameA, "mtu", mtu, "numrxqueues", queues, "numtxqueues", queues, "type", "veth",
		"peer", "name", nameB, "mtu", mtu, "numrxqueues", queues, "numtxqueues", queues, "netns", b.Path())
	for _, e := range []struct {
		n    *Namespace
		name string
	}{{a, nameA}, {b, nameB}} {
		if !v.Offloads {
			e.n.Run(t, "ethtool", "-K", e.name, "rx", "off", "tx", "off", "tso", "off", "gso", "off", "gro", "off")
		}
		e.n.Run(t, "ip", "link", "set", e.name, "up")
	}
}
