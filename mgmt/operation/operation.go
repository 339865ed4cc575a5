// Package operation holds the operations that the gateway's modules define
// beyond the protocols' own: their input is read and checked by the model, for
// both servers alike, and somebody else carries them out.
//
// The package must not know forwarding, keying or protocols' sessions.
package operation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xmltree"
	op "vita/mgmt/operational"
)

// Run carries out an operation. The input has canonical values, defaults
// included; what is returned is the output, nil for none.
type Run func(ctx context.Context, who *datastore.Session, in Input) ([]*op.Node, error)

// Input are the leafs of an operation's input that there are, by name.
type Input map[string]string

// Set are the operations that a server has. A nil Set has none.
type Set struct{ run map[*schema.Operation]Run }

// New returns a set of operations by their names, MODULE:NAME. Operations of the
// model that nobody carries out, or that are not in the model, are a defect.
func New(run map[string]Run) (*Set, error) {
	s := &Set{run: map[*schema.Operation]Run{}}
	for _, o := range schema.Operations() {
		r := run[o.Module+":"+o.Name]
		if r == nil {
			return nil, fmt.Errorf("operation %s:%s: nobody carries it out", o.Module, o.Name)
		}
		s.run[o] = r
	}
	if len(run) != len(s.run) {
		return nil, fmt.Errorf("%d operations for %d in the model", len(run), len(s.run))
	}
	return s, nil
}

// Find returns the operation of a namespace and name, or nil.
func (s *Set) Find(namespace, name string) *schema.Operation {
	if s != nil {
		for o := range s.run {
			if o.Name == name && schema.Namespace(o.Module) == namespace {
				return o
			}
		}
	}
	return nil
}

// All returns the operations in the order of their names.
func (s *Set) All() []*schema.Operation {
	if s == nil {
		return nil
	}
	all := make([]*schema.Operation, 0, len(s.run))
	for o := range s.run {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b *schema.Operation) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Do carries out an operation with an input that FromXML or FromJSON has read.
func (s *Set) Do(ctx context.Context, o *schema.Operation, who *datastore.Session, in Input) ([]*op.Node, error) {
	return s.run[o](ctx, who, in)
}

func bad(tag, element, format string, a ...any) error {
	return &rpcerr.Error{Type: rpcerr.Protocol, Tag: tag, BadElement: element, Message: fmt.Sprintf(format, a...)}
}

// reader collects the leafs of an input.
type reader struct {
	o  *schema.Operation
	in Input
}

func (r *reader) leaf(name string) (*schema.Node, error) {
	for _, n := range r.o.Input {
		if n.Name == name {
			if _, twice := r.in[name]; twice {
				return nil, bad("bad-element", name, "%s comes twice", name)
			}
			return n, nil
		}
	}
	return nil, bad("unknown-element", name, "operation %s has no parameter %s", r.o.Name, name)
}

func (r *reader) set(n *schema.Node, text string) error {
	v, err := n.Type.Canonical(text)
	if err != nil {
		return bad("invalid-value", n.Name, "%s: %v", n.Name, err)
	}
	r.in[n.Name] = v
	return nil
}

// finish adds defaults and looks for what is missing.
func (r *reader) finish() (Input, error) {
	for _, n := range r.o.Input {
		switch _, ok := r.in[n.Name]; {
		case ok:
		case len(n.Default) == 1:
			r.in[n.Name] = n.Default[0]
		case n.Mandatory:
			return nil, bad("missing-element", n.Name, "operation %s needs %s", r.o.Name, n.Name)
		}
	}
	return r.in, nil
}

// FromXML reads the input of an operation from its element.
func FromXML(o *schema.Operation, e *xmltree.Element) (Input, error) {
	r := reader{o, Input{}}
	for _, c := range e.Children {
		if c.Name.Space != e.Name.Space {
			return nil, bad("unknown-element", c.Name.Local, "operation %s has no parameter %s in that namespace", o.Name, c.Name.Local)
		}
		n, err := r.leaf(c.Name.Local)
		if err != nil {
			return nil, err
		}
		if len(c.Children) > 0 {
			return nil, bad("unknown-element", c.Children[0].Name.Local, "parameter %s has no elements", c.Name.Local)
		}
		if err := r.set(n, c.Text); err != nil {
			return nil, err
		}
	}
	return r.finish()
}

// FromJSON reads the input from a RESTCONF request's body, which may be empty
// where nothing is mandatory (RFC 8040 section 4.4.2).
func FromJSON(o *schema.Operation, body []byte) (Input, error) {
	r := reader{o, Input{}}
	if len(bytes.TrimSpace(body)) == 0 {
		return r.finish()
	}
	malformed := func(err error) error { return bad("malformed-message", "", "body: %v", err) }
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var outer map[string]json.RawMessage
	if err := d.Decode(&outer); err != nil {
		return nil, malformed(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad("malformed-message", "", "body: text after the JSON object")
	}
	inner, ok := outer[o.Module+":input"]
	if !ok || len(outer) != 1 {
		return nil, bad("malformed-message", "", `body: want {"%s:input": {...}}`, o.Module)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(inner, &members); err != nil {
		return nil, malformed(err)
	}
	for name, raw := range members {
		n, err := r.leaf(strings.TrimPrefix(name, o.Module+":"))
		if err != nil {
			return nil, err
		}
		text, err := scalar(n, raw)
		if err != nil {
			return nil, bad("invalid-value", n.Name, "%s: %v", n.Name, err)
		}
		if err := r.set(n, text); err != nil {
			return nil, err
		}
	}
	return r.finish()
}

// scalar returns a JSON value as text, if it is of the leaf's type (RFC 7951
// section 6).
func scalar(n *schema.Node, raw json.RawMessage) (string, error) {
	if n.Type.JSON() == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", fmt.Errorf("want a JSON string")
		}
		return s, nil
	}
	text := string(bytes.TrimSpace(raw))
	if strings.ContainsAny(text, `"{[.eE`) && text != "true" && text != "false" {
		return "", fmt.Errorf("%s is not of its JSON type", text)
	}
	return text, nil
}

// WriteXML writes the output as the children of a NETCONF reply.
func WriteXML(b *bytes.Buffer, o *schema.Operation, out []*op.Node) {
	for _, n := range out {
		top := *n
		top.Module = o.Module
		top.WriteXML(b)
	}
}

// WriteJSON writes the output as a RESTCONF answer.
func WriteJSON(b *bytes.Buffer, o *schema.Operation, out []*op.Node) {
	b.WriteByte('{')
	op.WriteJSON(b, "", op.Top(op.Name{Module: o.Module, Name: "output"}, out...))
	b.WriteByte('}')
}
