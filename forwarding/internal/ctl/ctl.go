// Package ctl is what vitad and the engine say to each other over the control
// socket: messages of fixed size, one a packet of a SOCK_SEQPACKET socket, and
// the file descriptors that go with the greeting.
//
// Both processes run on one machine and are of one release, or part at the
// greeting; so the messages are the structs' own bytes. The package knows
// nothing of what the requests do.
package ctl

import (
	"errors"

	"vita/forwarding/tables"
	"vita/internal/arena"
)

// Kind is what a request asks for.
type Kind uint32

// The requests.
const (
	Hello     Kind = iota + 1 // Version; answered with the descriptors
	Prepare                   // Word: check the tables and open what they need
	Retire                    // Word: end what the generation before has left
	Abort                     // Word: undo Prepare
	InstallSA                 // SA, Key
	RemoveSA                  // Ref
	Shutdown
	StartCapture // Capture
	StopCapture
	Change // Word, Slots: these will be of new routes of the live tables
	Settle // Word, Slots, Idle: the live tables were changed, these have no route any more
)

// MaxSlots is how many route slots a request can name.
const MaxSlots = 64

// Request goes from vitad to the engine.
type Request struct {
	Kind    Kind
	ID      uint32 // comes back in the reply
	Version uint32 // tables.Version
	Ref     uint32
	Word    uint64 // see tables.Word

	Route      uint32 // slot
	SPI        uint32
	Queue      uint16
	Direction  tables.Direction
	KeyLen     uint8
	Salt       [4]byte
	HardTTL    int64
	MaxBytes   uint64
	MaxPackets uint64
	Seq        uint64
	Owner      uint64
	Key        [32]byte
	Capture    tables.Capture

	Slots    [MaxSlots]uint32
	SlotsLen uint32
	Idle     uint32 // 1: routes that something is sent to when they are idle came or went
}

// Code says how a request ended.
type Code uint32

// The results of requests.
const (
	OK Code = iota
	Failed
	Attached // another client is attached
	WrongVersion
	NoInterface
	PortBusy
	Unsupported
	NoRoute // the route or queue of an SA is not in the live tables
	NoSpace
)

// Reply goes from the engine to vitad.
type Reply struct {
	ID   uint32
	Code Code
	Ref  uint32
	_    uint32
	PCI  [tables.MaxLink]byte // the port that failed, by one of its names
	Name [tables.MaxLink]byte
	Text [512]byte
}

// Greeting's descriptors, in order.
const (
	FdMemory = 0                           // the shared memory
	FdPunt   = 1                           // event file: a message waits for vitad
	FdWake   = 2                           // event files, one a worker slot: look at your memory
	Fds      = FdWake + tables.WorkerSlots // how many
)

// ErrMessage says that a message has not the size of its kind.
var ErrMessage = errors.New("control message of wrong size")

// ParseRequest returns the request in a message. Its bytes are copied.
func ParseRequest(b []byte) (Request, error) {
	var r Request
	if len(b) != len(arena.Raw(&r)) {
		return r, ErrMessage
	}
	copy(arena.Raw(&r), b)
	return r, nil
}

// ParseReply returns the reply in a message.
func ParseReply(b []byte) (Reply, error) {
	var r Reply
	if len(b) != len(arena.Raw(&r)) {
		return r, ErrMessage
	}
	copy(arena.Raw(&r), b)
	return r, nil
}

// Bytes returns the message's bytes, which stay its own.
func (r *Request) Bytes() []byte { return arena.Raw(r) }

// Bytes returns the message's bytes, which stay its own.
func (r *Reply) Bytes() []byte { return arena.Raw(r) }

// MaxSize is at least the size of any message.
const MaxSize = 1024
