package forwarding

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
)

// seat is the place of the one vitad that may be attached.
type seat struct {
	mu   sync.Mutex
	conn *net.UnixConn
	done chan struct{} // closed when the place is free again
}

const (
	greetTime  = 5 * time.Second
	detachTime = 10 * time.Second       // for a dead client's business to be finished
	deathTime  = 500 * time.Millisecond // for a killed client's process to have ended
)

// attach takes the seat for conn. While a client lives in it that fails, after
// a moment, since one that was just killed still looks alive; a dead one's is
// taken as soon as its business is finished.
func (c *seat) attach(conn *net.UnixConn) (release func(), ok bool) {
	deadline := time.Now().Add(detachTime)
	for {
		c.mu.Lock()
		if c.conn == nil {
			done := make(chan struct{})
			c.conn, c.done = conn, done
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				c.conn = nil
				c.mu.Unlock()
				close(done)
			}, true
		}
		other, done := c.conn, c.done
		c.mu.Unlock()
		if !hungUp(other, deathTime) {
			return nil, false
		}
		select {
		case <-done:
		case <-time.After(time.Until(deadline)):
			return nil, false
		}
	}
}

// disconnect ends the conversation with the client, if there is one.
func (c *seat) disconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// hungUp reports whether the other end of a connection is closed, or is within
// a while.
func hungUp(conn *net.UnixConn, within time.Duration) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	gone := true
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		_, err := unix.Poll(p, int(within.Milliseconds()))
		for errors.Is(err, unix.EINTR) {
			_, err = unix.Poll(p, int(within.Milliseconds()))
		}
		gone = err == nil && p[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR) != 0
	})
	return gone || err != nil
}

// accept serves connections until ctx ends.
func (e *Engine) accept(ctx context.Context, tasks *sync.WaitGroup) error {
	for {
		conn, err := e.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("control socket: %w", err)
			}
			e.o.Log.Warn("control socket", "error", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, perhaps: do not spin
			continue
		}
		tasks.Go(func() {
			ended := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer ended()
			defer conn.Close()
			if err := e.converse(conn); err != nil && ctx.Err() == nil {
				e.o.Log.Warn("control connection", "error", err)
			}
		})
	}
}

// converse is a connection from greeting to end.
func (e *Engine) converse(conn *net.UnixConn) error {
	pid, err := peer(conn)
	if err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(greetTime))
	buf := make([]byte, ctl.MaxSize)
	n, err := conn.Read(buf)
	if err != nil || n == 0 {
		return nil // only looked whether somebody is here
	}
	r, err := ctl.ParseRequest(buf[:n])
	if err == nil && r.Kind != ctl.Hello {
		err = errors.New("no greeting")
	}
	if err != nil || r.Version != tables.Version {
		return e.reply(conn, &r, ctl.WrongVersion, fmt.Errorf("engine has %d, client %d", tables.Version, r.Version), nil)
	}
	release, ok := e.client.attach(conn)
	if !ok {
		return e.reply(conn, &r, ctl.Attached, errors.New("another client is attached"), nil)
	}
	defer release()
	defer e.finish()
	if err := e.reply(conn, &r, ctl.OK, nil, e.greeting()); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Time{})
	e.o.Log.Info("client attached", "pid", pid)
	defer e.o.Log.Info("client detached", "pid", pid)
	for {
		n, err := conn.Read(buf)
		if err != nil || n == 0 {
			return nil
		}
		r, err := ctl.ParseRequest(buf[:n])
		clear(buf[:n]) // it may have held a key
		if err != nil {
			return err
		}
		if err := e.handle(conn, &r); err != nil {
			return err
		}
	}
}

// peer checks whose process is at the other end: ours or root's may control
// the engine.
func peer(conn *net.UnixConn) (pid int32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, fmt.Errorf("peer credentials: %w", credErr)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Getuid() {
		return 0, fmt.Errorf("process %d of user %d may not control the engine", cred.Pid, cred.Uid)
	}
	return cred.Pid, nil
}

// greeting returns the control message with the descriptors that a client gets.
func (e *Engine) greeting() []byte {
	fds := make([]int, ctl.Fds)
	fds[ctl.FdMemory], fds[ctl.FdPunt] = e.arena.Fd(), e.punt
	copy(fds[ctl.FdWake:], e.wake[:])
	return unix.UnixRights(fds...)
}

// handle does what a request asks, and answers.
func (e *Engine) handle(conn *net.UnixConn, r *ctl.Request) error {
	defer clear(r.Key[:])
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	code := ctl.Failed
	switch r.Kind {
	case ctl.Prepare:
		err = e.prepare(r.Word)
	case ctl.Retire:
		err = e.retire(r.Word)
	case ctl.Abort:
		e.abort(r.Word)
	case ctl.InstallSA:
		r.Ref, code, err = e.installSA(r)
	case ctl.RemoveSA:
		e.removeSA(r.Ref)
	case ctl.StartCapture:
		err = e.startCapture(&r.Capture)
	case ctl.StopCapture:
		e.stopCapture()
	case ctl.Change:
		err = e.change(r)
	case ctl.Settle:
		err = e.settle(r)
	case ctl.Shutdown:
		for _, w := range e.workers {
			if w != nil {
				e.end(w)
			}
		}
		e.pending = nil // its ports went with the workers
		defer e.stop()
	case ctl.Hello:
		err = errors.New("second greeting")
	default:
		err = fmt.Errorf("unknown request %d", r.Kind)
	}
	if err == nil {
		code = ctl.OK
	}
	return e.reply(conn, r, code, err, nil)
}

// reply answers a request.
func (e *Engine) reply(conn *net.UnixConn, r *ctl.Request, code ctl.Code, err error, oob []byte) error {
	a := ctl.Reply{ID: r.ID, Code: code, Ref: r.Ref}
	if err != nil {
		tables.SetText(a.Text[:], err.Error())
		if pe, ok := errors.AsType[*portError](err); ok {
			tables.SetText(a.PCI[:], pe.link.PCI)
			tables.SetText(a.Name[:], pe.link.Ifname)
		}
		switch {
		case errors.Is(err, drivers.ErrNoInterface):
			a.Code = ctl.NoInterface
		case errors.Is(err, drivers.ErrBusy):
			a.Code = ctl.PortBusy
		case errors.Is(err, drivers.ErrUnsupported):
			a.Code = ctl.Unsupported
		}
	}
	_ = conn.SetWriteDeadline(time.Now().Add(greetTime)) // a client that does not read is as good as dead
	_, _, werr := conn.WriteMsgUnix(a.Bytes(), oob, nil)
	if errors.Is(werr, syscall.EPIPE) || errors.Is(werr, syscall.ECONNRESET) {
		return nil
	}
	return werr
}

// finish brings to an end what a client has left half done: what it had
// published stays, what it had not is undone.
func (e *Engine) finish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopCapture() // nobody is there to read it
	c := e.pending
	if c == nil {
		return
	}
	if e.mem.Current() != c.word {
		e.abort(c.word)
		return
	}
	if err := e.retire(c.word); err != nil {
		e.o.Log.Error("finish a generation", "error", err)
	}
}
