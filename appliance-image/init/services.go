package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"vita/appliance-image/internal/logring"
	"vita/appliance-image/internal/supervise"
	"vita/appliance-image/internal/timeline"
	"vita/internal/confine"
	"vita/internal/hold"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// pids are those of the processes that init has started and waits for.
type pids struct {
	mu sync.Mutex
	m  map[int]bool
}

var children = pids{m: make(map[int]bool)}

func (p *pids) has(pid int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.m[pid]
}

// start starts a command, so that reap knows of it from the first moment on.
func (p *pids) start(cmd *exec.Cmd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	p.m[cmd.Process.Pid] = true
	return nil
}

func (p *pids) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, cmd.Process.Pid)
	return err
}

// process is a running program for the supervisor.
type process struct{ cmd *exec.Cmd }

func (p process) Wait() error { return children.wait(p.cmd) }
func (p process) Ask()        { _ = p.cmd.Process.Signal(unix.SIGTERM) } // it may have ended
func (p process) Kill()       { _ = p.cmd.Process.Kill() }

// program returns the command of one of the image's programs, which logs into
// the ring.
func (a *appliance) program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join("/usr/bin", name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}
	w := a.log.Writer(name, logring.Info)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.WaitDelay = 2 * time.Second // for a grandchild that holds its output open
	return cmd
}

// serveVitad keeps vitad running, which asks when it may look at the state, and waits
// for the engine by itself. When it has ended, so may the engine: that must be there
// when vitad takes its leave.
func (a *appliance) serveVitad(ctx context.Context, work *sync.WaitGroup, ended func()) {
	a.keep(work, "notifications", func() { a.notifications(ctx) })
	a.service(ctx, work, ended, supervise.Service{
		Name: "vitad",
		Start: func() (supervise.Process, error) {
			a.ready.Store(false)
			cmd := a.program("vitad", "run", "--state-dir", vitaDir, "--engine-socket", engineSock, "--keep-engine",
				"--recovery", runDir+"/recovery.sock", "--appliance", controlAt, "--netconf", "[::]:830", "--restconf", "[::]:443")
			cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notifySock)
			if err := onThread(func() error { return leaving(confine.Control, cmd) }); err != nil {
				return nil, err
			}
			return process{cmd}, nil
		},
	})
}

// engine returns what starts the packet engine. The first one begins at once, so that
// it reads itself in while init gets ready what it needs, and waits until it is called
// for.
func (a *appliance) engine() func() (supervise.Process, error) {
	args := []string{"--socket", engineSock}
	if a.cpus != "" {
		args = append(args, "--cpus", a.cpus)
	}
	if a.pages > 0 {
		args = append(args, "--hugepages")
	}
	return ahead(func() *exec.Cmd { return a.program("vita-engine", args...) }, func(cmd *exec.Cmd) error {
		if err := a.data.run(func() error { return leaving(confine.Engine, cmd) }); err != nil {
			return err
		}
		a.isolate(cmd.Process.Pid)
		return nil
	})
}

// ahead starts a program at once, which waits. What is returned lets it go on, and
// starts another each further time.
func ahead(command func() *exec.Cmd, start func(*exec.Cmd) error) func() (supervise.Process, error) {
	first := command()
	release, err := hold.Command(first)
	if err == nil {
		err = start(first)
	}
	return func() (supervise.Process, error) {
		if cmd := first; cmd != nil {
			first = nil
			if release != nil {
				release()
			}
			return process{cmd}, err
		}
		cmd := command()
		return process{cmd}, start(cmd)
	}
}

// serveEngine keeps the packet engine running.
func (a *appliance) serveEngine(ctx context.Context, work *sync.WaitGroup, start func() (supervise.Process, error)) {
	a.service(ctx, work, func() {}, supervise.Service{Name: "vita-engine", Start: start})
}

func (a *appliance) service(ctx context.Context, work *sync.WaitGroup, then func(), s supervise.Service) {
	s.Log = func(text string) { a.say(logring.Error, "%s", text) }
	r := supervise.New(s)
	a.serving.Lock()
	at, _ := slices.BinarySearch(a.names, s.Name)
	a.services, a.names = slices.Insert(a.services, at, r), slices.Insert(a.names, at, s.Name)
	a.serving.Unlock()
	a.keep(work, s.Name, func() { r.Run(ctx); then() })
}

// leaving starts a command that has no capabilities but these and the one to give
// some up, from a thread that ends afterwards. The programs take from themselves
// what they do not need, but that takes long where it is done in many threads.
func leaving(keep []cap.Value, cmd *exec.Cmd) error {
	for c := range cap.MaxBits() {
		if c == cap.SETPCAP || slices.Contains(keep, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("capability %v: %w", c, err)
		}
	}
	return children.start(cmd)
}

// isolate gives the engine processors that no other program runs on.
func (a *appliance) isolate(pid int) {
	const dir = "/sys/fs/cgroup/engine"
	if a.cpus == "" {
		return
	}
	_ = os.MkdirAll(dir, 0o755) // writing into it says why there is none
	for _, w := range []struct{ file, value string }{
		{"/sys/fs/cgroup/cgroup.subtree_control", "+cpuset"},
		{dir + "/cpuset.cpus", a.cpus},
		{dir + "/cpuset.cpus.partition", "isolated"},
		{dir + "/cgroup.procs", fmt.Sprint(pid)},
	} {
		if err := os.WriteFile(w.file, []byte(w.value), 0); err != nil {
			// The engine runs all the same, beside others.
			a.say(logring.Warning, "processors %s: %v", a.cpus, err)
			return
		}
	}
}

// notifications reads what vitad says by the protocol of sd_notify(3), of which
// STATUS matters here, and three steps: that sessions are served, that the stored
// configuration is in force, or could not be applied yet, and that all is well.
func (a *appliance) notifications(ctx context.Context) {
	_ = os.Remove(notifySock) // there is none
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notifySock, Net: "unixgram"})
	if err != nil {
		a.say(logring.Error, "notifications: %v", err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // which ends Read
	defer stop()
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		lines := strings.Split(string(b[:n]), "\n")
		for _, l := range lines {
			if status, ok := strings.CutPrefix(l, "STATUS="); ok {
				a.enrolling(status)
			}
		}
		if slices.Contains(lines, "X_VITA_NETCONF=1") && !a.ready.Swap(true) {
			if !a.started.Load() {
				a.times.Mark("ready")
			}
			a.say(logring.Notice, "netconf ready: %s, %.1f s after the kernel's start", a.reach(), timeline.Uptime().Seconds())
		}
		if slices.Contains(lines, "READY=1") && !a.started.Swap(true) {
			a.slowToo()
			a.times.Mark("in force")
			a.note("start, in seconds since the kernel's: %s", &a.times)
		}
		if slices.Contains(lines, "X_VITA_HEALTH=1") && !a.healthy.Swap(true) {
			a.note("the gateway is healthy, %.1f s after the kernel's start", timeline.Uptime().Seconds())
			a.confirm()
		}
	}
}
