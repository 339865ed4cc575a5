// Package lab builds a small network of namespaces on one machine: two hosts,
// two gateways and the untrusted wire between them, with real vitad and
// vita-engine processes in the gateways. The demo and the end-to-end tests run
// in it.
//
//	host-a --- gw-a --- wire --- gw-b --- host-b
//	10.10.1.2  .1  203.0.113.1  .2  10.10.2.1  .2
//
// Everything has names of its own, unique to the process, and Close takes all
// of it down again.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The hosts of a lab.
const (
	HostA = "host-a"
	GwA   = "gw-a"
	Wire  = "wire"
	GwB   = "gw-b"
	HostB = "host-b"
)

// Addresses of a lab.
const (
	HostAIP  = "10.10.1.2"
	PrivAIP  = "10.10.1.1"
	PubAIP   = "203.0.113.1"
	PubBIP   = "203.0.113.2"
	PrivBIP  = "10.10.2.1"
	HostBIP  = "10.10.2.2"
	HostBIP2 = "10.10.3.2" // behind a net of its own, for a second route
)

// Addresses of a lab for gateways of IPv6, see Lab.IPv6.
const (
	HostA6 = "2001:db8:a::2"
	PrivA6 = "2001:db8:a::1"
	PubA6  = "2001:db8:f::1"
	PubB6  = "2001:db8:f::2"
	PrivB6 = "2001:db8:b::1"
	HostB6 = "2001:db8:b::2"
)

// PrivIf and PubIf are the gateways' interfaces.
const (
	PrivIf = "priv0"
	PubIf  = "pub0"
)

// Lab is a running network.
type Lab struct {
	Dir    string // scratch directory, removed by Close
	prefix string

	mu     sync.Mutex
	spaces []string
	procs  []*Proc
	ends   []func() // what else Close has to end
}

// New builds the network. It needs root.
func New(ctx context.Context) (l *Lab, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root: run as root")
	}
	dir, err := os.MkdirTemp("", "vita-lab-")
	if err != nil {
		return nil, err
	}
	l = &Lab{Dir: dir, prefix: fmt.Sprintf("vita%d-", os.Getpid())}
	built := l
	defer func() {
		if err != nil {
			built.Close()
		}
	}()
	for _, ns := range []string{HostA, GwA, Wire, GwB, HostB} {
		if err := command(ctx, "ip", "netns", "add", l.prefix+ns); err != nil {
			return nil, err
		}
		l.spaces = append(l.spaces, ns)
		// No router solicitations and the like: whatever is on the wire is ours.
		for _, args := range [][]string{
			{"sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"},
			{"ip", "link", "set", "lo", "up"},
		} {
			if _, err := l.Run(ctx, ns, args...); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range []struct{ ns, dev, peerNS, peer string }{
		{HostA, "eth0", GwA, PrivIf},
		{GwA, PubIf, Wire, "a"},
		{GwB, PubIf, Wire, "b"},
		{HostB, "eth0", GwB, PrivIf},
	} {
		if err := command(ctx, "ip", "link", "add", c.dev, "netns", l.prefix+c.ns, "type", "veth",
			"peer", "name", c.peer, "netns", l.prefix+c.peerNS); err != nil {
			return nil, err
		}
		for _, e := range [][2]string{{c.ns, c.dev}, {c.peerNS, c.peer}} {
			if _, err := l.Run(ctx, e[0], "ip", "link", "set", "dev", e[1], "up"); err != nil {
				return nil, err
			}
			// Frames between veths may carry unfinished checksums and be
			// larger than the MTU; on a real wire they are not.
			if _, err := l.Run(ctx, e[0], "ethtool", "-K", e[1], "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range [][]string{
		{Wire, "ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"},
		{Wire, "ip", "link", "set", "dev", "a", "master", "br0"},
		{Wire, "ip", "link", "set", "dev", "b", "master", "br0"},
		{Wire, "ip", "link", "set", "br0", "up"},
		{HostA, "ip", "addr", "add", HostAIP + "/24", "dev", "eth0"},
		{HostA, "ip", "route", "add", "default", "via", PrivAIP},
		{HostB, "ip", "addr", "add", HostBIP + "/24", "dev", "eth0"},
		{HostB, "ip", "addr", "add", HostBIP2 + "/32", "dev", "lo"},
		{HostB, "ip", "route", "add", "default", "via", PrivBIP},
	} {
		if _, err := l.Run(ctx, c[0], c[1:]...); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// IPv6 gives the two hosts, which have IPv4 alone, addresses and routes of IPv6
// too. Their gateways still have none but what the programs under test bring.
func (l *Lab) IPv6(ctx context.Context) error {
	for _, h := range []struct{ host, ip, via string }{{HostA, HostA6, PrivA6}, {HostB, HostB6, PrivB6}} {
		for _, args := range [][]string{
			{"sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=0", "net.ipv6.conf.eth0.dad_transmits=0", "net.ipv6.conf.eth0.disable_ipv6=0"},
			{"ip", "addr", "add", h.ip + "/64", "dev", "eth0", "nodad"},
			{"ip", "-6", "route", "add", "default", "via", h.via},
		} {
			if _, err := l.Run(ctx, h.host, args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close ends what the lab started and removes it.
func (l *Lab) Close() {
	l.mu.Lock()
	procs, spaces, ends := l.procs, l.spaces, l.ends
	l.procs, l.spaces, l.ends = nil, nil, nil
	l.mu.Unlock()
	for _, p := range slices.Backward(procs) {
		p.Stop(5 * time.Second)
	}
	for _, end := range ends {
		end()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, ns := range spaces {
		// What still runs in a namespace of ours was started in it by us: an
		// engine that outlived its vitad.
		if out, err := output(ctx, "ip", "netns", "pids", l.prefix+ns); err == nil {
			for f := range strings.FieldsSeq(out) {
				if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
					_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
				}
			}
		}
		_ = command(ctx, "ip", "netns", "del", l.prefix+ns) // nothing more can be done about it
	}
	_ = os.RemoveAll(l.Dir)
}

// NS returns the name of a host's namespace.
func (l *Lab) NS(host string) string { return l.prefix + host }

// Run runs a command on a host and returns its standard output.
func (l *Lab) Run(ctx context.Context, host string, args ...string) (string, error) {
	return output(ctx, append([]string{"ip", "netns", "exec", l.prefix + host}, args...)...)
}

func command(ctx context.Context, args ...string) error {
	_, err := output(ctx, args...)
	return err
}

func output(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, tool(args[0]), args[1:]...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s%s", strings.Join(args, " "), err, strings.TrimSpace(out.String()), strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// tool finds a program also where only root's PATH would look.
func tool(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, name); fileExists(p) {
			return p
		}
	}
	return name
}

func fileExists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

// Proc is a process that the lab started on a host.
type Proc struct {
	Cmd  *exec.Cmd
	Log  string // path of what it printed
	done chan struct{}
	err  error
}

// Start runs a command on a host in the background; its output goes to a file
// named after name.
func (l *Lab) Start(host, name string, env []string, args ...string) (*Proc, error) {
	log, err := os.OpenFile(filepath.Join(l.Dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := exec.Command(tool("ip"), append([]string{"netns", "exec", l.prefix + host}, args...)...)
	c.Env = append(os.Environ(), env...)
	c.Stdout, c.Stderr = log, log
	// A group of its own: Ctrl-C reaches the lab, which ends things in order.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		return nil, err
	}
	p := &Proc{Cmd: c, Log: log.Name(), done: make(chan struct{})}
	go func() {
		p.err = c.Wait()
		close(p.done)
	}()
	l.mu.Lock()
	l.procs = append(l.procs, p)
	l.mu.Unlock()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Err waits for the process's end and returns its exit error.
func (p *Proc) Err() error {
	<-p.done
	return p.err
}

// Kill ends the process by SIGKILL, as kill -9 does.
func (p *Proc) Kill() {
	_ = p.Cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// Stop ends the process by SIGTERM, after the grace period by SIGKILL.
func (p *Proc) Stop(grace time.Duration) {
	_ = p.Cmd.Process.Signal(syscall.SIGTERM) // likewise
	select {
	case <-p.done:
	case <-time.After(grace):
		p.Kill()
	}
}

// Tail returns the last lines of what the process printed.
func (p *Proc) Tail(n int) string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
