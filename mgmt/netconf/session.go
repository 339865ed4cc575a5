package netconf

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vita/internal/atrest"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/monitor"
	"vita/mgmt/notify"
)

// Namespaces and capabilities of RFC 6241 and RFC 6022.
const (
	nsBase       = "urn:ietf:params:xml:ns:netconf:base:1.0"
	nsMonitoring = "urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"

	nsWithDefaults = "urn:ietf:params:xml:ns:yang:ietf-netconf-with-defaults"

	base10 = "urn:ietf:params:netconf:base:1.0"
	base11 = "urn:ietf:params:netconf:base:1.1"
)

// burstMessage is of how many bytes a message is worth a burst of memory.
const burstMessage = 1 << 20

// limits for the XML of one message.
func (s *Server) limits() xmltree.Limits {
	return xmltree.Limits{Bytes: s.o.MaxMessage, Depth: 64}
}

// session is one NETCONF session. Its operations run one after the other, in
// the order of their arrival (RFC 6241 section 4.5).
type session struct {
	server  *Server
	ch      io.ReadWriteCloser
	f       *framer
	ds      *datastore.Session
	watch   *monitor.Session
	closing bool        // close-session was answered
	greeted atomic.Bool // the peer's hello has come

	ctx        context.Context // ends with the session
	after      func()          // to be done once the reply is written
	subscribed atomic.Bool
	pumps      sync.WaitGroup // of notifications
	killedBy   atomic.Uint32  // the session that has killed this one
	expelled   atomic.Bool    // its user is no more
	late       atomic.Bool    // the hello, or the rest of a message, has not come in time
}

func (s *Server) serveSession(ctx context.Context, ch io.ReadWriteCloser, user, peer string) {
	n := &session{
		server: s,
		ch:     ch,
		f:      newFramer(ch, maxUnauthedMessages),
		ds:     &datastore.Session{User: user, Transport: "netconf-ssh", Peer: peer},
	}
	if !s.add(n) {
		s.o.Log.Warn("netconf session refused: too many", "user", user, "peer", peer, "limit", s.o.MaxSessions)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	n.ctx = ctx
	defer func() {
		cancel()
		if n.subscribed.Load() {
			ch.Close() // a notification that nobody reads would hold it
		}
		n.pumps.Wait()
	}()
	n.watch = s.o.Monitor.Begin(n.ds)
	defer func() { n.watch.End(n.greeted.Load() && !n.closing) }()
	log := s.o.Log.With("session", n.ds.ID, "user", user, "peer", peer)
	defer s.remove(n)
	defer s.o.Datastore.Release(n.ds)
	late := time.AfterFunc(s.helloTime, func() {
		if !n.greeted.Load() {
			n.late.Store(true)
			ch.Close()
		}
	})
	defer late.Stop()
	if err := n.hello(); err != nil {
		s.o.Monitor.BadHello()
		n.ended("bad-hello")
		log.Info("netconf session ended before it began", "error", err)
		return
	}
	n.f.limit = s.o.MaxMessage
	n.f.within, n.f.slow = s.messageTime, func() {
		n.late.Store(true)
		ch.Close()
	}
	log.Info("netconf session started")
	s.o.Events.Publish(notify.SessionStart(n.who()))
	err := n.run(ctx)
	switch {
	case n.late.Load():
		err = fmt.Errorf("a message was not whole %v after it had begun", s.messageTime)
	case errors.Is(err, io.EOF):
		err = nil
	}
	n.ended("dropped")
	log.Info("netconf session ended", "error", err)
}

func (n *session) who() notify.Session {
	return notify.Session{ID: n.ds.ID, User: n.ds.User, Peer: n.ds.Peer}
}

// ended tells of the session's end; reason holds unless there is a better one.
func (n *session) ended(reason string) {
	by := n.killedBy.Load()
	switch {
	case n.closing:
		reason = "closed"
	case by != 0:
		reason = "killed"
	case n.late.Load():
		reason = "timeout"
	}
	n.server.o.Events.Publish(notify.SessionEnd(n.who(), by, reason))
}

// hello exchanges capabilities and settles the framing (RFC 6241 section 8.1).
func (n *session) hello() error {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<hello xmlns="%s"><capabilities>`, nsBase)
	for _, c := range n.server.o.Monitor.Capabilities() {
		b.WriteString("<capability>")
		escape(&b, c)
		b.WriteString("</capability>")
	}
	fmt.Fprintf(&b, "</capabilities><session-id>%d</session-id></hello>", n.ds.ID)
	if err := n.f.write(b.Bytes()); err != nil {
		return err
	}
	msg, err := n.f.read()
	if err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	root, err := xmltree.Parse(msg, n.server.limits())
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if root.Name != (xml.Name{Space: nsBase, Local: "hello"}) {
		return fmt.Errorf("first message is <%s>, not <hello>", root.Name.Local)
	}
	var theirs []string
	for _, list := range root.Children {
		switch list.Name.Local {
		case "capabilities":
			for _, c := range list.Children {
				theirs = append(theirs, strings.TrimSpace(c.Text))
			}
		case "session-id":
			return errors.New("hello of a client carries a session-id")
		}
	}
	switch {
	case slices.Contains(theirs, base11):
		n.f.chunked = true
	case !slices.Contains(theirs, base10):
		return errors.New("no base capability in common")
	}
	n.greeted.Store(true)
	return nil
}

func (n *session) run(ctx context.Context) error {
	for !n.closing {
		msg, err := n.f.read()
		if errors.Is(err, errTooLarge) {
			// What follows cannot be told from the rest of it: the session ends.
			_ = n.f.write(refusal(nil, &rpcerr.Error{
				Type: "transport", Tag: "too-big",
				Message: fmt.Sprintf("message is larger than %d bytes: the session ends", n.f.limit),
			}))
		}
		if err != nil {
			return err
		}
		if n.killedBy.Load() != 0 || n.late.Load() || n.expelled.Load() {
			return io.EOF // the client sends although its session is over
		}
		reply, err := n.answer(ctx, msg)
		if err != nil {
			return err
		}
		if err := n.f.write(reply); err != nil {
			return err
		}
		if n.after != nil {
			n.after()
			n.after = nil
		}
	}
	return nil
}

// answer returns the rpc-reply of one message. An error ends the session
// without one.
func (n *session) answer(ctx context.Context, msg []byte) ([]byte, error) {
	good := false
	defer func() {
		if !good {
			n.watch.BadRPC()
		}
	}()
	if len(msg) > burstMessage {
		defer atrest.Burst()()
	}
	rpc, err := xmltree.Parse(msg, n.server.limits())
	if err != nil {
		// malformed-message must not be sent to base:1.0 peers (RFC 6241
		// appendix A); for them nothing but the end of the session is left.
		if !n.f.chunked {
			return nil, fmt.Errorf("message: %w", err)
		}
		return refusal(nil, &rpcerr.Error{Type: "rpc", Tag: "malformed-message", Message: err.Error()}), nil
	}
	if rpc.Name != (xml.Name{Space: nsBase, Local: "rpc"}) {
		return refusal(nil, &rpcerr.Error{
			Type: "rpc", Tag: "unknown-element", BadElement: rpc.Name.Local,
			Message: fmt.Sprintf("a client's message is <rpc> in namespace %s", nsBase),
		}), nil
	}
	if !slices.ContainsFunc(rpc.Attrs, func(a xml.Attr) bool { return a.Name == xml.Name{Local: "message-id"} }) {
		return refusal(rpc, &rpcerr.Error{
			Type: "rpc", Tag: "missing-attribute", BadAttribute: "message-id", BadElement: "rpc",
			Message: "<rpc> needs the attribute message-id",
		}), nil
	}
	if len(rpc.Children) != 1 {
		return refusal(rpc, &rpcerr.Error{
			Type: "rpc", Tag: "operation-failed",
			Message: fmt.Sprintf("<rpc> holds %d operations, want 1", len(rpc.Children)),
		}), nil
	}
	good = true
	n.watch.RPC()
	var out bytes.Buffer
	beginReply(&out, rpc)
	body := out.Len()
	if err := n.guarded(ctx, rpc.Children[0], &out); err != nil {
		n.watch.Refused()
		out.Truncate(body)
		writeErrors(&out, err)
	} else if out.Len() == body {
		out.WriteString("<ok/>")
	}
	out.WriteString(endReply)
	return out.Bytes(), nil
}

// guarded is operate, whose panics become an error and a line in the log: a
// defect of ours must neither be silent nor take the other sessions along.
func (n *session) guarded(ctx context.Context, op *xmltree.Element, out *bytes.Buffer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			n.server.o.Log.Error("netconf operation failed inside", "operation", op.Name.Local, "panic", p, "stack", string(debug.Stack()))
			err = errors.New("the server failed inside: see its log")
		}
	}()
	return n.operate(ctx, op, out)
}

const endReply = "</rpc-reply>"

// beginReply begins a reply with the rpc's own attributes (RFC 6241 section 4.2).
func beginReply(b *bytes.Buffer, rpc *xmltree.Element) {
	fmt.Fprintf(b, `<rpc-reply xmlns="%s"`, nsBase)
	if rpc != nil {
		writeAttrs(b, rpc.Attrs)
	}
	b.WriteByte('>')
}

// refusal is a reply that says nothing but an error.
func refusal(rpc *xmltree.Element, err error) []byte {
	var b bytes.Buffer
	beginReply(&b, rpc)
	writeErrors(&b, err)
	b.WriteString(endReply)
	return b.Bytes()
}

// writeAttrs gives back attributes; those in a namespace get a prefix of ours,
// for the peer's own prefix need not be declared where we write.
func writeAttrs(b *bytes.Buffer, attrs []xml.Attr) {
	for i, a := range attrs {
		switch {
		case a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns":
			continue
		case a.Name.Space == "":
			fmt.Fprintf(b, ` %s="`, a.Name.Local)
		default:
			fmt.Fprintf(b, ` xmlns:n%d="`, i)
			escape(b, a.Name.Space)
			fmt.Fprintf(b, `" n%d:%s="`, i, a.Name.Local)
		}
		escape(b, a.Value)
		b.WriteByte('"')
	}
}

// escape writes s as XML character data or attribute value.
func escape(b *bytes.Buffer, s string) {
	_ = xml.EscapeText(b, []byte(s)) // a bytes.Buffer takes every write
}
