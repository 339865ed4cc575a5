package notify

import (
	"net"
	"strconv"
	"time"

	op "vita/mgmt/operational"
)

// The events of RFC 6470: what happens in the management servers themselves.
// Their capabilities do not change while they run, so that there is no
// netconf-capability-change.

// Session is whom an event is about. The zero Session is the server itself.
type Session struct {
	ID   uint32 // 0: not one of NETCONF
	User string
	Peer string // its address, with or without a port
}

const baseModule = "ietf-netconf-notifications"

func base(name string, children ...*op.Node) *op.Node {
	return op.Top(op.Name{Module: baseModule, Name: name}, children...)
}

// leafs are those of the grouping common-session-parms.
func (s Session) leafs() []*op.Node {
	out := []*op.Node{op.Text("username", s.User), op.Number("session-id", s.ID)}
	host, _, err := net.SplitHostPort(s.Peer)
	if err != nil {
		host = s.Peer
	}
	if net.ParseIP(host) != nil { // source-host is an address
		out = append(out, op.Text("source-host", host))
	}
	return out
}

// by is a container that says who has changed something.
func (s Session) by() []*op.Node {
	if s == (Session{}) {
		return []*op.Node{op.Empty("server")}
	}
	return s.leafs()
}

// SessionStart tells that a NETCONF session has begun.
func SessionStart(s Session) *op.Node { return base("netconf-session-start", s.leafs()...) }

// SessionEnd tells that one has ended, and why: "closed", "killed", "dropped",
// "timeout", "bad-hello" or "other". KilledBy is the session that has killed it.
func SessionEnd(s Session, killedBy uint32, reason string) *op.Node {
	n := s.leafs()
	if killedBy != 0 {
		n = append(n, op.Number("killed-by", killedBy))
	}
	return base("netconf-session-end", append(n, op.Text("termination-reason", reason))...)
}

// Edit is a node of the configuration that was changed.
type Edit struct {
	Target    string // instance-identifier as JSON has it (RFC 7951 section 6.11)
	Operation string // create, delete, merge, replace
}

// ConfigChange tells that a datastore was changed.
func ConfigChange(by Session, datastore string, edits []Edit) *op.Node {
	n := []*op.Node{op.Group("changed-by", by.by()...), op.Text("datastore", datastore)}
	for _, e := range edits {
		n = append(n, op.ListEntry("edit", 0, op.Instance("target", e.Target), op.Text("operation", e.Operation)))
	}
	return base("netconf-config-change", n...)
}

// ConfirmedCommit tells what becomes of a confirmed commit: "start", "extend",
// "complete", "cancel" or "timeout". Timeout is given with the first two.
func ConfirmedCommit(by Session, event string, timeout time.Duration) *op.Node {
	n := by.leafs()
	if event == "timeout" {
		n = nil // nobody does that
	}
	n = append(n, op.Text("confirm-event", event))
	if event == "start" || event == "extend" {
		n = append(n, &op.Node{Name: "timeout", Kind: op.Leaf, Type: op.Bare, Value: strconv.Itoa(int(timeout.Round(time.Second) / time.Second))})
	}
	return base("netconf-confirmed-commit", n...)
}
