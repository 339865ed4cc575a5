package netconf

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
	"vita/mgmt/operation"
)

// operate carries out one operation and writes what belongs into the reply;
// nothing written means <ok/>.
func (n *session) operate(ctx context.Context, op *xmltree.Element, out *bytes.Buffer) error {
	if err := n.permitted(op); err != nil {
		return err
	}
	if op.Name == (xml.Name{Space: nsMonitoring, Local: "get-schema"}) {
		return n.getSchema(op, out)
	}
	if op.Name == createSubscription {
		return n.subscribe(op)
	}
	if o := n.server.o.Operations.Find(op.Name.Space, op.Name.Local); o != nil {
		in, err := operation.FromXML(o, op)
		if err != nil {
			return err
		}
		result, err := n.server.o.Operations.Do(ctx, o, n.ds, in)
		if err == nil {
			operation.WriteXML(out, o, result)
		}
		return err
	}
	if op.Name.Space != nsBase {
		return &rpcerr.Error{
			Type: "protocol", Tag: "unknown-namespace", BadElement: op.Name.Local, BadNamespace: op.Name.Space,
			Message: fmt.Sprintf("no operation <%s> in namespace %q", op.Name.Local, op.Name.Space),
		}
	}
	if op.Name.Local == "delete-config" && n.server.o.Datastore.HasStartup() {
		return n.deleteConfig(op)
	}
	switch op.Name.Local {
	case "get":
		return n.get(op, out)
	case "get-config":
		return n.getConfig(op, out)
	case "edit-config":
		return n.editConfig(ctx, op)
	case "copy-config":
		return n.copyConfig(ctx, op)
	case "validate":
		return n.validate(ctx, op)
	case "commit":
		return n.commit(ctx, op)
	case "cancel-commit":
		return n.cancelCommit(op)
	case "discard-changes":
		if _, err := params(op); err != nil {
			return err
		}
		return n.server.o.Datastore.Discard(n.ds)
	case "lock", "unlock":
		return n.lock(op)
	case "close-session":
		if _, err := params(op); err != nil {
			return err
		}
		n.server.o.Datastore.Release(n.ds)
		n.closing = true
		return nil
	case "kill-session":
		return n.killSession(op)
	}
	return &rpcerr.Error{
		Type: "protocol", Tag: "operation-not-supported", BadElement: op.Name.Local,
		Message: fmt.Sprintf("operation <%s> is not supported: its capability is not in the hello", op.Name.Local),
	}
}

// params returns the operation's parameters by name. One that is not in want,
// is in another namespace or comes twice is an error.
func params(op *xmltree.Element, want ...string) (map[string]*xmltree.Element, error) {
	p := map[string]*xmltree.Element{}
	for _, c := range op.Children {
		space := op.Name.Space
		if c.Name.Local == "with-defaults" {
			space = nsWithDefaults
		}
		if c.Name.Space != space || !slices.Contains(want, c.Name.Local) {
			return nil, &rpcerr.Error{
				Type: "protocol", Tag: "unknown-element", BadElement: c.Name.Local,
				Message: fmt.Sprintf("<%s> has no parameter <%s>", op.Name.Local, c.Name.Local),
			}
		}
		if p[c.Name.Local] != nil {
			return nil, &rpcerr.Error{
				Type: "protocol", Tag: "bad-element", BadElement: c.Name.Local,
				Message: fmt.Sprintf("<%s> twice in <%s>", c.Name.Local, op.Name.Local),
			}
		}
		p[c.Name.Local] = c
	}
	return p, nil
}

func missing(op *xmltree.Element, name string) error {
	return &rpcerr.Error{
		Type: "protocol", Tag: "missing-element", BadElement: name,
		Message: fmt.Sprintf("<%s> needs <%s>", op.Name.Local, name),
	}
}

// oneOf reads an enumeration; def stands for an absent element.
func oneOf(e *xmltree.Element, def string, values ...string) (string, error) {
	if e == nil {
		return def, nil
	}
	v := strings.TrimSpace(e.Text)
	if !slices.Contains(values, v) {
		return "", &rpcerr.Error{
			Type: "protocol", Tag: "invalid-value", BadElement: e.Name.Local,
			Message: fmt.Sprintf("<%s> is %q: want one of %s", e.Name.Local, v, strings.Join(values, ", ")),
		}
	}
	return v, nil
}

// store reads the datastore that a <source> or <target> names.
func (n *session) store(op, e *xmltree.Element, name string) (datastore.Name, error) {
	if e == nil {
		return "", missing(op, name)
	}
	if len(e.Children) != 1 {
		return "", &rpcerr.Error{
			Type: "protocol", Tag: "missing-element", BadElement: name,
			Message: fmt.Sprintf("<%s> names %d datastores, want 1", name, len(e.Children)),
		}
	}
	have := "<running/> and <candidate/>"
	if n.server.o.Datastore.HasStartup() {
		have = "<running/>, <candidate/> and <startup/>"
	}
	switch in := e.Children[0].Name; {
	case in == xml.Name{Space: nsBase, Local: "running"}:
		return datastore.Running, nil
	case in == xml.Name{Space: nsBase, Local: "candidate"}:
		return datastore.Candidate, nil
	case in == xml.Name{Space: nsBase, Local: "startup"} && n.server.o.Datastore.HasStartup():
		if op.Name.Local == "edit-config" { // RFC 6241 section 8.7.5: it is replaced as a whole
			return "", &rpcerr.Error{
				Type: "protocol", Tag: "operation-not-supported", BadElement: "startup",
				Message: "startup cannot be edited: edit running, and copy it to startup",
			}
		}
		return datastore.Startup, nil
	}
	return "", &rpcerr.Error{
		Type: "protocol", Tag: "unknown-element", BadElement: e.Children[0].Name.Local,
		Message: fmt.Sprintf("<%s>: no datastore <%s>: have %s", name, e.Children[0].Name.Local, have),
	}
}

// editConfig changes a datastore (RFC 6241 section 7.2). Every edit is taken
// whole or not at all, so each error-option comes to rollback-on-error.
func (n *session) editConfig(ctx context.Context, op *xmltree.Element) error {
	p, err := params(op, "target", "default-operation", "test-option", "error-option", "config")
	if err != nil {
		return err
	}
	to, err := n.store(op, p["target"], "target")
	if err != nil {
		return err
	}
	def, err := oneOf(p["default-operation"], "merge", "merge", "replace", "none")
	if err != nil {
		return err
	}
	test, err := oneOf(p["test-option"], "test-then-set", "test-then-set", "set", "test-only")
	if err != nil {
		return err
	}
	if _, err := oneOf(p["error-option"], "stop-on-error", "stop-on-error", "continue-on-error", "rollback-on-error"); err != nil {
		return err
	}
	if p["config"] == nil {
		return missing(op, "config")
	}
	e, err := yangenc.DecodeXML(p["config"])
	if err != nil {
		return err
	}
	o := datastore.EditOptions{Default: map[string]edit.Op{"merge": edit.Merge, "replace": edit.Replace, "none": edit.None}[def]}
	switch test {
	case "test-then-set":
		o.Test = datastore.TestThenSet
	case "set":
		o.Test = datastore.Set
	case "test-only":
		o.Test = datastore.TestOnly
	}
	return n.server.o.Datastore.Edit(ctx, n.ds, to, e, o)
}

// copyConfig replaces a whole datastore (RFC 6241 section 7.3).
func (n *session) copyConfig(ctx context.Context, op *xmltree.Element) error {
	p, err := params(op, "target", "source")
	if err != nil {
		return err
	}
	to, err := n.store(op, p["target"], "target")
	if err != nil {
		return err
	}
	if config := inline(p["source"]); config != nil {
		e, err := yangenc.DecodeXML(config)
		if err != nil {
			return err
		}
		return n.server.o.Datastore.Replace(ctx, n.ds, e, to)
	}
	from, err := n.store(op, p["source"], "source")
	if err != nil {
		return err
	}
	if from == to {
		return &rpcerr.Error{
			Type: "protocol", Tag: "invalid-value", BadElement: "target",
			Message: "source and target are the same datastore",
		}
	}
	return n.server.o.Datastore.Copy(ctx, n.ds, from, to)
}

// deleteConfig empties the startup datastore, the one that can be deleted (RFC 6241
// section 7.4).
func (n *session) deleteConfig(op *xmltree.Element) error {
	p, err := params(op, "target")
	if err != nil {
		return err
	}
	to, err := n.store(op, p["target"], "target")
	if err != nil {
		return err
	}
	if to != datastore.Startup {
		return &rpcerr.Error{
			Type: "protocol", Tag: "operation-not-supported", BadElement: string(to),
			Message: string(to) + " cannot be deleted",
		}
	}
	return n.server.o.Datastore.DeleteStartup(n.ds)
}

// inline returns the <config> of a source that carries its own, or nil.
func inline(source *xmltree.Element) *xmltree.Element {
	if source != nil && len(source.Children) == 1 && source.Children[0].Name == (xml.Name{Space: nsBase, Local: "config"}) {
		return source.Children[0]
	}
	return nil
}

// validate checks a datastore or a configuration in the request (RFC 6241
// section 8.6.4.1).
func (n *session) validate(ctx context.Context, op *xmltree.Element) error {
	p, err := params(op, "source")
	if err != nil {
		return err
	}
	if config := inline(p["source"]); config != nil {
		e, err := yangenc.DecodeXML(config)
		if err != nil {
			return err
		}
		return n.server.o.Datastore.Edit(ctx, n.ds, datastore.Candidate, e,
			datastore.EditOptions{Default: edit.Replace, Test: datastore.TestOnly})
	}
	from, err := n.store(op, p["source"], "source")
	if err != nil {
		return err
	}
	return n.server.o.Datastore.Validate(ctx, n.ds, from)
}

// lock takes or gives back a datastore's lock (RFC 6241 sections 7.5, 7.6).
func (n *session) lock(op *xmltree.Element) error {
	p, err := params(op, "target")
	if err != nil {
		return err
	}
	name, err := n.store(op, p["target"], "target")
	if err != nil {
		return err
	}
	if op.Name.Local == "lock" {
		return n.server.o.Datastore.Lock(n.ds, name)
	}
	return n.server.o.Datastore.Unlock(n.ds, name)
}

// killSession ends another session (RFC 6241 section 7.9).
func (n *session) killSession(op *xmltree.Element) error {
	p, err := params(op, "session-id")
	if err != nil {
		return err
	}
	if p["session-id"] == nil {
		return missing(op, "session-id")
	}
	text := strings.TrimSpace(p["session-id"].Text)
	id, err := strconv.ParseUint(text, 10, 32)
	switch {
	case err != nil || id == 0:
		err = fmt.Errorf("%q is no session id", text)
	case uint32(id) == n.ds.ID:
		err = fmt.Errorf("session %d is this one: use close-session", id)
	case !n.server.kill(uint32(id), n.ds.ID):
		err = fmt.Errorf("there is no session %d", id)
	default:
		return nil
	}
	return &rpcerr.Error{Type: "protocol", Tag: "invalid-value", BadElement: "session-id", Message: err.Error()}
}
