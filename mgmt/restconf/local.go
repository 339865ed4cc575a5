package restconf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The recovery session (RFC 8341 section 3.7) is RESTCONF on a unix socket of the
// gateway's machine, for its root and for whoever runs the server: without TLS, log-in
// and rules.

// LocalUser is the name by which what is done there is known.
const LocalUser = "recovery"

// ListenLocal listens at a unix socket that only its owner can open.
func ListenLocal(path string) (net.Listener, error) {
	// What an earlier process has left is no file to keep; one that listens is.
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another process listens there", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there, and is no socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// trusted says whether the peer of a connection is root or the server's own user.
func trusted(c net.Conn) bool {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || failed != nil {
		return false
	}
	return peer.Uid == 0 || int(peer.Uid) == os.Geteuid()
}

// localListener lets nobody else in.
type localListener struct{ net.Listener }

func (l localListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || trusted(c) {
			return c, err
		}
		c.Close()
	}
}

// ServeLocal is Serve for recovery sessions, on a unix socket.
func (s *Server) ServeLocal(ctx context.Context, ln net.Listener) error {
	h := s.bounded(func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, localKey{}, true)
	})
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	err := h.Serve(localListener{ln})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("restconf, local: %w", err)
}

// running is a request in work.
type running struct {
	user string
	end  func()
}

// begin notes a request; what it returns notes its end.
func (s *Server) begin(user string, end func()) func() {
	r := &running{user, end}
	s.running.Store(r, nil)
	return func() { s.running.Delete(r) }
}

// expel ends the requests of users who are no more, streams above all.
func (s *Server) expel(names []string) {
	for _, name := range names {
		s.rates.forget(name)
	}
	s.running.Range(func(k, _ any) bool {
		if r, ok := k.(*running); ok && slices.Contains(names, r.user) {
			time.AfterFunc(expelTime, r.end)
		}
		return true
	})
}

// expelTime is what a request that ends its own user has for the answer.
const expelTime = 200 * time.Millisecond
