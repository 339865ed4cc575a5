package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vita/appliance-image/internal/logring"
	ctl "vita/internal/appliance"

	"golang.org/x/sys/unix"
)

// control serves what vitad may ask for, at a socket that only root reaches.
func (a *appliance) control(ctx context.Context, work *sync.WaitGroup) {
	_ = os.Remove(controlAt) // there is none
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: controlAt, Net: "unix"})
	if err != nil {
		a.say(logring.Error, "control socket: %v", err)
		return
	}
	context.AfterFunc(ctx, func() { _ = l.Close() }) // which ends Accept
	a.keep(work, "control socket", func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer func() {
					if r := recover(); r != nil {
						a.say(logring.Critical, "control socket: %v", r)
					}
				}()
				a.answer(ctx, c)
			}()
		}
	})
}

// requestTime is how long a client may take for its request.
const requestTime = 10 * time.Second

// answer serves one connection.
func (a *appliance) answer(ctx context.Context, c *net.UnixConn) {
	defer func() { _ = c.Close() }()
	_ = c.SetReadDeadline(time.Now().Add(requestTime)) // it fails where reading will
	q, err := readRequest(c)
	_ = c.SetReadDeadline(time.Time{})
	if err != nil {
		reply(c, ctl.Answer{Error: err.Error()})
		return
	}
	switch q.Do {
	case ctl.Status:
		reply(c, a.status())
	case ctl.Restart:
		reply(c, ctl.Answer{})
		a.finish(unix.LINUX_REBOOT_CMD_RESTART, "asked for over the network")
	case ctl.Upgrade:
		a.upgrade(ctx, c, q)
	case ctl.Begin:
		reply(c, a.begin(ctx))
	case ctl.Configure:
		reply(c, a.configure(q.Settings))
	default:
		reply(c, ctl.Answer{Error: fmt.Sprintf("init cannot %.40q", q.Do)})
	}
}

// readRequest reads a line byte by byte: what follows is for somebody else.
func readRequest(r io.Reader) (q ctl.Request, err error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, b); err != nil {
			return q, err
		}
		if b[0] == '\n' {
			break
		}
		if line = append(line, b[0]); len(line) > ctl.MaxLine {
			return q, errors.New("the request is too long")
		}
	}
	return ctl.ParseRequest(line)
}

func reply(c *net.UnixConn, an ctl.Answer) {
	b, err := json.Marshal(an)
	if err == nil {
		_, _ = c.Write(append(b, '\n')) // who does not listen is not told
	}
}

func (a *appliance) status() ctl.Answer {
	an := ctl.Answer{Version: release, Slot: string(a.slot), Trial: a.trial.Load()}
	if r, err := readRecord(); err == nil {
		an.Upgraded, an.Result = r.Version, r.Result
	}
	return an
}

// upgrading is true while an upgrade comes in: there is one idle slot.
var upgrading atomic.Bool

// upgrade lets a process of its own read the bundle and write it, so that
// whatever comes cannot harm process 1. Its answer is passed on when it has ended:
// whoever has that may ask for another upgrade at once.
func (a *appliance) upgrade(ctx context.Context, c *net.UnixConn, q ctl.Request) {
	if a.trial.Load() {
		reply(c, ctl.Answer{Error: "version " + release + " is still on trial: try again when it has proved good"})
		return
	}
	if !upgrading.CompareAndSwap(false, true) {
		reply(c, ctl.Answer{Error: "another upgrade is under way"})
		return
	}
	an, err := a.installApart(ctx, c, q)
	if err != nil {
		an = ctl.Answer{Error: err.Error()}
	}
	upgrading.Store(false)
	reply(c, an)
}

// installApart runs install in that process, for a client that sends the bundle.
func (a *appliance) installApart(ctx context.Context, c *net.UnixConn, q ctl.Request) (an ctl.Answer, err error) {
	f, err := c.File()
	if err != nil {
		return an, err
	}
	defer func() { _ = f.Close() }()
	args := []string{"upgrade", a.disk, string(a.slot)}
	if q.Downgrade {
		args = append(args, "downgrade")
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin"}
	cmd.Stdin, cmd.Stderr = f, a.log.Writer("upgrade", logring.Info)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return an, err
	}
	if err := children.start(cmd); err != nil {
		return an, err
	}
	text, err := io.ReadAll(io.LimitReader(out, ctl.MaxLine))
	_ = out.Close() // it may say too much
	if err == nil {
		err = json.Unmarshal(text, &an)
	}
	if ended := children.wait(cmd); ended != nil {
		a.say(logring.Error, "the upgrade was not installed: %v%s", ended, lastOf(a.log, "upgrade"))
		if err != nil || an.Error == "" { // it did not come to say why
			return an, fmt.Errorf("the upgrade was not installed: %w", ended)
		}
		return an, nil
	}
	if err != nil {
		a.say(logring.Error, "the upgrade: %v", err)
		return an, fmt.Errorf("the upgrade: %w", err)
	}
	a.say(logring.Notice, "version %s is installed, and is tried after a restart", an.Version)
	return an, nil
}

// lastOf returns the last line that a program has logged.
func lastOf(log *logring.Ring, source string) string {
	lines := log.After(0)
	for i := len(lines) - 1; i >= 0 && i > len(lines)-10; i-- {
		if lines[i].Source == source {
			return ": " + strings.TrimSpace(lines[i].Text)
		}
	}
	return ""
}
