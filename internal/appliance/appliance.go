// Package appliance is how vitad asks the appliance's init for what only that may
// do, settings of the machine among it: one request a connection of a unix socket,
// as a line of JSON, followed by an upgrade's bytes where it is one; and one answer.
package appliance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
)

// Kinds of requests.
const (
	Status    = "status"
	Upgrade   = "upgrade" // the bundle follows, until the client closes its direction
	Restart   = "restart"
	Configure = "configure" // the machine, by Settings
	Begin     = "begin"     // answered when vitad may look at its state
)

// Request is what is asked for.
type Request struct {
	Do        string    `json:"do"`
	Downgrade bool      `json:"downgrade,omitempty"` // take a version that is not newer
	Settings  *Settings `json:"settings,omitempty"`
}

// Administrator is who is to be the first one.
type Administrator struct {
	Name     string `json:"name"`
	Keys     string `json:"keys"` // public SSH keys, a line each
	Password string `json:"password,omitempty"`
}

// Answer is what came of it.
type Answer struct {
	Error    string `json:"error,omitempty"`
	Version  string `json:"version,omitempty"`  // that runs, or that was installed
	Slot     string `json:"slot,omitempty"`     // that runs
	Trial    bool   `json:"trial,omitempty"`    // it has not proved good yet
	Upgraded string `json:"upgraded,omitempty"` // version of the last upgrade
	Result   string `json:"result,omitempty"`   // of the last upgrade: installed, trial, confirmed or returned

	First *Administrator `json:"first,omitempty"` // to begin with: there is no state yet
}

// MaxLine bounds a request, and maxAnswer an answer, which may have keys.
const (
	MaxLine   = 16 << 10
	maxAnswer = 1 << 20
)

// Client asks the init at a socket. The zero value, without a socket, is that of
// a gateway that is no appliance.
type Client struct{ Socket string }

// ErrNone says that there is nobody to ask.
var ErrNone = errors.New("this gateway is no appliance: it is upgraded as what it was installed as")

// Ask asks for something; bundle is nil but for an upgrade.
func (c Client) Ask(ctx context.Context, q Request, bundle io.Reader) (Answer, error) {
	var a Answer
	if c.Socket == "" {
		return a, ErrNone
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.Socket, Net: "unix"})
	if err != nil {
		return a, fmt.Errorf("the appliance's init: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // which ends what waits
	defer stop()
	line, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return a, err
	}
	var sent error
	if bundle != nil {
		// The other end may refuse what it has seen and stop reading: then its
		// answer says why. A bundle that breaks off is told from its end by its
		// own lengths.
		_, sent = io.Copy(conn, bundle)
	}
	if err := conn.CloseWrite(); err != nil && sent == nil {
		sent = err
	}
	text, err := bufio.NewReader(io.LimitReader(conn, maxAnswer)).ReadBytes('\n')
	if err != nil {
		return a, errors.Join(ctx.Err(), sent, fmt.Errorf("the appliance's init does not answer: %w", err))
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("the answer of the appliance's init: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}
