// Package netconf serves the configuration datastore by NETCONF (RFC 6241)
// over SSH (RFC 6242).
//
// server.go accepts connections and knows who is on them, session.go reads and
// answers messages, operations.go carries out the protocol operations,
// framing.go is the wire, errors.go the rpc-error. The package decides nothing
// about data: paths, values, edits and validation are mgmt/datastore's; who may
// log in is mgmt/access'. It must not know forwarding or keying.
package netconf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vita/mgmt/access"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/waiting"
	"vita/mgmt/monitor"
	"vita/mgmt/notify"
	"vita/mgmt/operation"

	"golang.org/x/crypto/ssh"
)

// Options shapes a Server. Datastore, Users and HostKey are required.
type Options struct {
	Datastore   *datastore.Datastore
	Users       *access.Users
	HostKey     ssh.Signer
	Monitor     *monitor.Monitor // nil: one of the server's own
	Events      *notify.Hub      // nil: nothing is told but of the server itself
	Operations  *operation.Set   // beyond the protocol's own; nil: none
	Log         *slog.Logger
	MaxSessions int // NETCONF sessions at once; default 64
	MaxMessage  int // bytes of one message; default 64 MiB
}

// Limits that no client has a reason to come near.
const (
	handshakeTime       = 20 * time.Second
	maxHandshakes       = 32 // connections that have not logged in
	maxChannels         = 8  // NETCONF sessions on one SSH connection
	maxAuthTries        = 6
	helloTime           = 30 * time.Second
	messageTime         = 2 * time.Minute  // from a message's first byte to its last
	closeTime           = 5 * time.Second  // in which a client has to follow when its session is ended
	idleTime            = 30 * time.Second // that a connection may be there without a session
	maxIdle             = 32
	defaultMaxSessions  = 64
	defaultMaxMessage   = 64 << 20
	maxUnauthedMessages = 1 << 20 // the hello's size
)

// Server is a NETCONF server. It serves until its context ends.
type Server struct {
	o      Options
	config *ssh.ServerConfig
	lastID atomic.Uint32

	helloTime, messageTime, closeTime, idleTime time.Duration

	idlers *waiting.Room // connections without a session

	mu       sync.Mutex
	sessions map[uint32]*session
	conns    map[net.Conn]string // with the user who has logged in
	wg       sync.WaitGroup
}

// New returns a server; Serve makes it listen.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Monitor == nil {
		o.Monitor = monitor.New(o.Datastore)
	}
	if o.Events == nil {
		o.Events = notify.New(0)
	}
	if o.MaxSessions == 0 {
		o.MaxSessions = defaultMaxSessions
	}
	if o.MaxMessage == 0 {
		o.MaxMessage = defaultMaxMessage
	}
	s := &Server{
		o: o, sessions: map[uint32]*session{}, conns: map[net.Conn]string{},
		helloTime: helloTime, messageTime: messageTime, closeTime: closeTime, idleTime: idleTime,
		idlers: waiting.NewRoom(maxIdle),
	}
	s.config = &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-vita",
		MaxAuthTries:  maxAuthTries,
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !s.o.Users.AcceptsKey(c.User(), key) {
				return nil, errors.New("key not accepted")
			}
			return nil, nil
		},
		PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			host, _, err := net.SplitHostPort(c.RemoteAddr().String())
			if err != nil || !s.o.Users.AcceptsPassword(c.User(), string(password), host) {
				return nil, errors.New("password not accepted")
			}
			return nil, nil
		},
		AuthLogCallback: func(c ssh.ConnMetadata, method string, err error) {
			if err != nil && method != "none" {
				s.o.Log.Info("netconf log-in refused", "user", c.User(), "method", method, "peer", c.RemoteAddr().String())
			}
		},
	}
	s.config.AddHostKey(o.HostKey)
	return s
}

// Serve accepts connections on ln until ctx ends, then ends every session and
// returns nil. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.o.Users.OnGone(s.expel)
	stop := context.AfterFunc(ctx, func() {
		ln.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.Close()
		}
	})
	defer stop()
	strangers := waiting.NewRoom(maxHandshakes)
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				s.wg.Wait()
				return nil
			}
			var ne net.Error
			if errors.As(err, &ne) && !errors.Is(err, net.ErrClosed) { // out of descriptors and the like: go on
				s.o.Log.Warn("netconf accept", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
				continue
			}
			return fmt.Errorf("netconf: accept: %w", err)
		}
		if !s.track(ctx, c) {
			c.Close()
			continue
		}
		strangers.Enter(c)
		s.wg.Go(func() {
			defer s.untrack(c)
			s.serveConn(ctx, c, func() { strangers.Leave(c) })
		})
	}
}

func (s *Server) track(ctx context.Context, c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	s.conns[c] = ""
	return true
}

// known notes who has logged in on a connection; it fails where that is no user any
// more, as one whom a commit has removed just now.
func (s *Server) known(c net.Conn, user string) bool {
	s.mu.Lock()
	s.conns[c] = user
	s.mu.Unlock()
	return s.o.Users.Has(user)
}

// expelTime is what a session that ends its own user has for the reply.
const expelTime = 200 * time.Millisecond

// expel ends the connections of users who are no more.
func (s *Server) expel(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.sessions {
		if slices.Contains(names, n.ds.User) {
			n.expelled.Store(true)
		}
	}
	for c, user := range s.conns {
		if slices.Contains(names, user) {
			time.AfterFunc(expelTime, func() { c.Close() })
		}
	}
}

func (s *Server) untrack(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serveConn serves one SSH connection; authed is called once when its log-in
// is over, either way.
func (s *Server) serveConn(ctx context.Context, c net.Conn, authed func()) {
	if err := c.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		authed()
		return
	}
	conn, channels, requests, err := ssh.NewServerConn(c, s.config)
	authed()
	if err != nil {
		s.o.Log.Debug("netconf ssh handshake", "peer", c.RemoteAddr().String(), "error", err)
		return
	}
	defer conn.Close()
	if err := c.SetDeadline(time.Time{}); err != nil {
		return
	}
	if !s.known(c, conn.User()) {
		return
	}
	idle := newIdle(c, s.idlers, s.idleTime)
	defer idle.stop()
	go ssh.DiscardRequests(requests)

	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxChannels)
	for nc := range channels {
		if nc.ChannelType() != "session" {
			_ = nc.Reject(ssh.UnknownChannelType, "only NETCONF sessions are served") // the peer may be gone already
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = nc.Reject(ssh.ResourceShortage, "too many sessions on this connection")
			continue
		}
		ch, reqs, err := nc.Accept()
		if err != nil {
			<-slots
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer ch.Close()
			if !waitForSubsystem(reqs) {
				return
			}
			idle.begin()
			defer idle.end()
			go ssh.DiscardRequests(reqs)
			ended := &channel{Channel: ch, conn: c, grace: s.closeTime}
			s.serveSession(ctx, ended, conn.User(), c.RemoteAddr().String())
			ended.stop()
			// A client that waits for the exit status sees an orderly end.
			_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
		})
	}
}

// channel is an SSH channel whose Close ends the session whatever the client
// does: one that does not answer the end, or does not even read it, loses its
// connection a little later.
type channel struct {
	ssh.Channel
	conn  net.Conn
	grace time.Duration

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func (c *channel) Close() error {
	c.mu.Lock()
	if c.timer == nil && !c.over {
		c.timer = time.AfterFunc(c.grace, func() { c.conn.Close() })
	}
	c.mu.Unlock()
	return c.Channel.Close()
}

// stop says that the session has ended.
func (c *channel) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// waitForSubsystem answers channel requests until the client has asked for
// "netconf" (RFC 6242 section 3); everything else, a shell above all, is
// refused.
func waitForSubsystem(reqs <-chan *ssh.Request) bool {
	timeout := time.NewTimer(handshakeTime)
	defer timeout.Stop()
	for {
		select {
		case <-timeout.C:
			return false
		case r, ok := <-reqs:
			if !ok {
				return false
			}
			var p struct{ Name string }
			wanted := r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &p) == nil && p.Name == "netconf"
			if err := r.Reply(wanted, nil); err != nil {
				return false
			}
			if wanted {
				return true
			}
		}
	}
}

// add enters a session under a new id; it fails when there are too many.
func (s *Server) add(n *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= s.o.MaxSessions {
		return false
	}
	n.ds.ID = s.lastID.Add(1)
	s.sessions[n.ds.ID] = n
	return true
}

func (s *Server) remove(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, n.ds.ID)
}

// kill ends the session id on behalf of another; it reports whether it exists.
// The locks are gone when it returns.
func (s *Server) kill(id, by uint32) bool {
	s.mu.Lock()
	n, ok := s.sessions[id]
	s.mu.Unlock()
	if ok {
		n.killedBy.Store(by)
		s.o.Datastore.Release(n.ds)
		n.ch.Close()
	}
	return ok
}
