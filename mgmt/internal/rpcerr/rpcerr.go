// Package rpcerr holds the errors that management clients see: those of RFC
// 6241 appendix A, with the additions of RFC 7950 section 15. Both servers
// write them, each in its own encoding.
//
// It must not know the model, the datastore or a protocol's framing.
package rpcerr

import (
	"fmt"
	"strings"
)

// Values of Error.Type.
const (
	Transport   = "transport"
	RPC         = "rpc"
	Protocol    = "protocol"
	Application = "application"
)

// Error is one rpc-error. Empty fields are left out of what a client gets;
// an empty Type means application, an empty Severity error.
type Error struct {
	Type     string // transport, rpc, protocol or application
	Tag      string // error-tag
	AppTag   string // error-app-tag
	Severity string // error or warning
	Path     string // instance path, e.g. /vita-esp-gateway:route4[id='x']/net
	Message  string // for people

	// error-info
	BadElement, BadAttribute, BadNamespace string
	SessionID                              string
	NonUnique                              []string // instance paths of the leafs that are not unique
	MissingChoice                          string   // name of a mandatory choice (RFC 7950 section 15.6)
}

// Error returns the message with the tag and the path.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Tag)
	if e.Path != "" {
		b.WriteString(" at " + e.Path)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

// Errors is more than one error of one request.
type Errors []*Error

// Error returns all errors, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As the single errors.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// New returns an application error with a tag, an instance path (or "") and
// a message.
func New(tag, path, format string, args ...any) *Error {
	return &Error{Type: Application, Tag: tag, Path: path, Message: fmt.Sprintf(format, args...)}
}
