// Package nacm decides who may do what (RFC 8341): it compiles the rules of a
// configuration, and answers for a user whether an operation may be invoked, an
// event heard of, and a node read, created, changed or deleted.
//
//	Control    the policy in force, and the counters of what was denied
//	Policy     the compiled rules of one configuration
//	Access     what they come to for one user
//	Cursor     the same at a place in the data, on the way down
//
// Most rules say something about whole subtrees. A Cursor therefore knows where
// nothing further down can be decided otherwise, so that a reader of a hundred
// thousand entries asks once.
//
// The package must not know protocols or the datastore; it is told the rules as
// plain data, and asked with nodes of the schema, or with mere names.
package nacm

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"vita/mgmt/internal/schema"
)

// Ops are access operations (RFC 8341 section 3.2).
type Ops uint8

// The access operations.
const (
	Create Ops = 1 << iota
	Read
	Update
	Delete
	Exec

	AllOps = Create | Read | Update | Delete | Exec
)

// Names are the names of the access operations in the model.
var Names = map[string]Ops{"create": Create, "read": Read, "update": Update, "delete": Delete, "exec": Exec, "*": AllOps}

// Kind says what a rule is about.
type Kind uint8

// The kinds of rules. One of AnyKind has no rule-type.
const (
	AnyKind Kind = iota
	Operation
	Notification
	DataNode
)

// Rule is one rule.
type Rule struct {
	Name   string
	Module string // "*": any
	Kind   Kind
	Of     string // name of the operation or notification, or path of the data node; "*": any
	Ops    Ops
	Permit bool
}

// List is a rule-list.
type List struct {
	Name   string
	Groups []string // "*": all users that are in any group
	Rules  []Rule
}

// Group is a group of users.
type Group struct {
	Name  string
	Users []string
}

// Config is the configuration of access control.
type Config struct {
	Enabled                                bool
	ReadDefault, WriteDefault, ExecDefault bool // true: permit
	External                               bool // groups that the transport knows count too
	Groups                                 []Group
	Lists                                  []List // in their order
}

// Default is the configuration of a gateway that has none (the defaults of the
// model).
func Default() Config {
	return Config{Enabled: true, ReadDefault: true, ExecDefault: true, External: true}
}

// Session is whom is asked about.
type Session struct {
	User     string
	Groups   []string // as the transport knows them
	Recovery bool     // the recovery session: nothing is denied (section 3.7)
}

// Policy is a compiled configuration. It does not change.
type Policy struct {
	_     [0]sync.Mutex
	c     Config
	lists []list

	mu    sync.Mutex
	users map[string]*Access // by user and external groups
}

type list struct {
	groups []string
	rules  []*rule
}

// rule is a rule whose path is read.
type rule struct {
	Rule
	steps []step // of a data node; nil: any
}

// RuleError says which rule cannot be compiled.
type RuleError struct {
	List, Rule string
	Err        error
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("rule %s of rule-list %s: %v", e.Rule, e.List, e.Err)
}

// Unwrap returns what is wrong.
func (e *RuleError) Unwrap() error { return e.Err }

// Compile compiles a configuration. The error is a RuleError.
func Compile(c Config) (*Policy, error) {
	p := &Policy{c: c, users: map[string]*Access{}}
	for _, l := range c.Lists {
		out := list{groups: l.Groups}
		for _, r := range l.Rules {
			one := &rule{Rule: r}
			if r.Kind == DataNode && r.Of != "*" {
				var err error
				if one.steps, err = parsePath(r.Of); err != nil {
					return nil, &RuleError{l.Name, r.Name, err}
				}
			}
			out.rules = append(out.rules, one)
		}
		p.lists = append(p.lists, out)
	}
	return p, nil
}

// mostUsers bounds how many users' decisions are kept.
const mostUsers = 1024

// For returns what the rules come to for a session. A nil Access permits
// everything.
func (p *Policy) For(s Session) *Access {
	if p == nil || !p.c.Enabled || s.Recovery {
		return nil
	}
	key := s.User
	if p.c.External {
		key += "\x00" + strings.Join(s.Groups, "\x00")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.users[key]
	if a == nil {
		a = p.access(s)
		if len(p.users) >= mostUsers {
			clear(p.users)
		}
		p.users[key] = a
	}
	return a
}

// access collects the rules that are about a user (section 3.4.4, steps 4 to 7).
func (p *Policy) access(s Session) *Access {
	var groups []string
	for _, g := range p.c.Groups {
		if slices.Contains(g.Users, s.User) {
			groups = append(groups, g.Name)
		}
	}
	if p.c.External {
		groups = append(groups, s.Groups...)
	}
	a := &Access{policy: p, user: s.User}
	if len(groups) == 0 {
		return a
	}
	for _, l := range p.lists {
		if slices.ContainsFunc(l.groups, func(g string) bool { return g == "*" || slices.Contains(groups, g) }) {
			a.rules = append(a.rules, l.rules...)
		}
	}
	return a
}

// Access is what a policy comes to for one user. A nil Access permits
// everything.
type Access struct {
	policy *Policy
	user   string
	rules  []*rule

	mu    sync.Mutex
	roots [Exec]*Cursor // by access operation
}

// Modules of operations that are special to RFC 8341.
const netconfModule = "ietf-netconf"

// Operation says whether an operation may be invoked (section 3.4.4). denyAll
// says that the model denies it unless a rule permits it.
func (a *Access) Operation(module, name string, denyAll bool) bool {
	switch {
	case a == nil, module == netconfModule && name == "close-session":
		return true
	}
	for _, r := range a.rules {
		if (r.Module == "*" || r.Module == module) && (r.Kind == AnyKind || r.Kind == Operation && (r.Of == "*" || r.Of == name)) && r.Ops&Exec != 0 {
			return r.Permit
		}
	}
	switch {
	case denyAll:
		return false
	case module == netconfModule && (name == "kill-session" || name == "delete-config"):
		return false
	}
	return a.policy.c.ExecDefault
}

// Notification says whether an event may be heard of (section 3.4.6).
func (a *Access) Notification(module, name string, denyAll bool) bool {
	if a == nil || module == "nc-notifications" && (name == "replayComplete" || name == "notificationComplete") {
		return true
	}
	for _, r := range a.rules {
		if (r.Module == "*" || r.Module == module) && (r.Kind == AnyKind || r.Kind == Notification && (r.Of == "*" || r.Of == name)) && r.Ops&Read != 0 {
			return r.Permit
		}
	}
	return !denyAll && a.policy.c.ReadDefault
}

// Root returns the cursor at the root of the data for one access operation. nil
// permits everything.
func (a *Access) Root(op Ops) *Cursor {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := 0
	for op>>i != 1 {
		i++
	}
	if a.roots[i] == nil {
		a.roots[i] = a.root(op, schema.Root())
	}
	return a.roots[i].open()
}

func (a *Access) root(op Ops, root *schema.Node) *Cursor {
	c := &Cursor{a: a, write: op != Read, schema: root}
	for _, r := range a.rules {
		if r.Ops&op != 0 && (r.Kind == AnyKind || r.Kind == DataNode) {
			c.rules = append(c.rules, live{r, 0})
		}
	}
	return c.settle()
}

// Control holds the policy in force. It is safe for concurrent use; a nil Control
// permits everything.
type Control struct {
	policy atomic.Pointer[Policy]

	operations, writes, notifications atomic.Uint32
}

// Set puts a policy in force.
func (c *Control) Set(p *Policy) { c.policy.Store(p) }

// For returns what the policy in force comes to for a session.
func (c *Control) For(s Session) *Access {
	if c == nil {
		return nil
	}
	return c.policy.Load().For(s)
}

// DeniedOperation counts an operation that was denied.
func (c *Control) DeniedOperation() {
	if c != nil {
		c.operations.Add(1)
	}
}

// DeniedWrite counts a request to alter a datastore that was denied.
func (c *Control) DeniedWrite() {
	if c != nil {
		c.writes.Add(1)
	}
}

// DeniedNotification counts an event that was dropped for a subscription.
func (c *Control) DeniedNotification() {
	if c != nil {
		c.notifications.Add(1)
	}
}

// Denied returns the counters.
func (c *Control) Denied() (operations, writes, notifications uint32) {
	if c == nil {
		return 0, 0, 0
	}
	return c.operations.Load(), c.writes.Load(), c.notifications.Load()
}
