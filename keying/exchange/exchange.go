// Package exchange is what the keeper asks of a key exchange: the narrow door
// between keying/keeper, which knows the life of SAs, and a protocol, which
// knows messages. keying/ske is one protocol behind it; another one stands
// beside that without a change of the keeper's rules.
//
// A protocol is pure: messages and points in time come in, messages and keys
// go out. It has no socket, no timer and no SA.
package exchange

import (
	"errors"
	"io"
	"net/netip"
	"time"
)

// Params are what both ends of a route have in common.
type Params struct {
	SPI    uint32 // of the route
	PSK    [32]byte
	Local  netip.Addr // our own address, as the peer sees it
	Remote netip.Addr
}

// NumKinds is how many kinds of messages a protocol may have.
const NumKinds = 8

// Head is what a message says of itself before anything about it is verified.
type Head struct {
	SPI  uint32 // of the route
	Kind uint8  // below NumKinds; 0: what opens an exchange, and takes no secret to make
	Name string // of the kind, for logs
}

// Protocol makes the exchanges of a protocol and tells its messages apart.
type Protocol interface {
	// Parse returns the head of a message of the right form, else ErrMessage.
	Parse(message []byte) (Head, error)
	// New returns the exchange of one route and queue, which waits for each
	// answer as long as wait and takes its random bytes from random.
	New(p Params, wait time.Duration, random io.Reader) Exchange
}

// Keys are the secrets of one SA: AES-GCM's key and salt (RFC 4106).
type Keys struct {
	Key  [16]byte
	Salt [4]byte
}

// Pair is what an exchange yields, as one end sees it.
type Pair struct {
	InboundSPI  uint32 // our choice
	OutboundSPI uint32 // the peer's choice
	Inbound     Keys
	Outbound    Keys
}

// Wipe overwrites the keys.
func (p *Pair) Wipe() { p.Inbound, p.Outbound = Keys{}, Keys{} }

// Event says what a message has brought about.
type Event uint8

// The events.
const (
	Nothing   Event = iota
	Invited         // the peer wants to begin; Reply lets it go on
	Advanced        // our exchange goes on with Reply
	Responded       // an exchange of the peer's has yielded Pair; install it, then send Reply
	Initiated       // an exchange of ours has yielded Pair
)

// Outcome is what became of a message.
type Outcome struct {
	Event Event
	Reply []byte // to be sent to the message's sender; nil: nothing
	Pair  Pair   // for Responded and Initiated; the caller wipes it
}

// Exchange is the key exchange of one route and queue with one peer, in both
// roles. Points in time are nanoseconds of any monotonic clock. Its methods
// are called by one goroutine at a time.
type Exchange interface {
	// Start begins an exchange, in place of one of ours that is under way, and
	// returns its first message. InboundSPI names the SA on which we shall
	// receive; after an exchange that came to nothing it is the same again.
	Start(now int64, inboundSPI uint32) []byte
	// Repeat returns the first message again while it was not answered, else
	// nil.
	Repeat() []byte
	// Active reports whether an exchange of ours is under way, and until when
	// it waits.
	Active() (deadline int64, ok bool)
	// Awaits reports whether a message of that kind can be of use now. Receive
	// refuses others at no cost.
	Awaits(kind uint8) bool
	// Stop ends our exchange and wipes its secrets.
	Stop()
	// Receive takes a message in. One that is refused changes nothing.
	// InboundSPI chooses the SPI of the SA on which we shall receive, for an
	// exchange that the peer has begun.
	Receive(now int64, message []byte, inboundSPI func() uint32) (Outcome, error)
}

// Reasons to refuse a message. Each is a counter of its own.
var (
	ErrMessage        = errors.New("malformed or unexpected message")
	ErrVersion        = errors.New("protocol version not supported")
	ErrParameter      = errors.New("AEAD not supported")
	ErrAuthentication = errors.New("message not authentic")
	ErrPublicKey      = errors.New("invalid public key")
)
