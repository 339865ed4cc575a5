// Package keeper keeps every route supplied with fresh SAs: it runs a key
// exchange (keying/exchange) with each route's peers, installs what comes out of
// it in the packet engine, and takes old SAs away.
//
// Each route has its own SAs for each queue; the state of one such pair is a
// link. A link has
//
//	active    the outbound SA that packets are sent by
//	queued    one that we have initiated: it takes the active one's place after
//	          1.5 × negotiation-ttl, as the peer may install its end late
//	standby   one that the peer has initiated, whose agreement may be lost: it
//	          takes the active one's place once a packet has come by its twin,
//	          which shows that the peer has it too; or when nothing else is left
//	inbound   up to 6 SAs that the peer may send by
//
// So no packet is ever sent by an SA that the peer might not have, as long as
// there is another. When a peer initiates and we have not done so lately, we
// initiate too: it may have been restarted, and know none of our SAs any more.
//
// Time and random come from outside, and nothing here sleeps but Run, so that
// tests run hours of it in a moment. The package knows neither packets nor
// YANG; keys pass through and are not kept.
package keeper

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/internal/clock"
	"vita/keying/exchange"
)

// Engine is what the keeper needs of the packet engine: *client.Client.
type Engine interface {
	InstallSA(ctx context.Context, sa client.SA) (client.SARef, error)
	Activate(ref client.SARef) error
	RemoveSA(ctx context.Context, ref client.SARef) error
	SAs() []client.SAInfo
	Use(ref client.SARef) (client.Use, bool)
	Send(m client.Message) error
}

// Route is one remote site.
type Route struct {
	ID       string
	SPI      uint32 // names the route in key exchange
	PSK      [32]byte
	Gateways []tables.Gateway // in a queue without one, that of the lowest queue is used
}

// StaticSA is an SA that the operator has configured.
type StaticSA struct {
	Route string
	SPI   uint32
	Queue uint16
	Key   [16]byte
	Rest  [16]byte // of a key for AES-256, which Key begins; zero: AES-128
	Salt  [4]byte
}

// key returns the whole key, which the caller wipes.
func (sa *StaticSA) key() []byte {
	key := append(make([]byte, 0, 32+len(sa.Salt)), sa.Key[:]...)
	if sa.Rest != [16]byte{} {
		key = append(key, sa.Rest[:]...)
	}
	return key
}

// Config is the keeper's share of the gateway's configuration.
type Config struct {
	Routes         []Route
	Local          map[uint16]netip.Addr // our address, as peers see it, by queue
	Port           uint16                // UDP port of key exchange; 0: 303
	NegotiationTTL time.Duration         // 0: 5 s
	SATTL          time.Duration         // 0: 600 s
	DataPlane      bool                  // no key exchange: use Outbound and Inbound
	Outbound       []StaticSA
	Inbound        []StaticSA
}

const (
	defaultPort           = tables.DefaultProtocolPort
	defaultNegotiationTTL = 5 * time.Second
	defaultSATTL          = 600 * time.Second

	maxInbound    = 6 // inbound SAs of a link
	engineTimeout = 2 * time.Second

	// Messages handled a second, of all links: what a flood may cost at most.
	// Those that open an exchange, which anybody can make, count apart.
	messageRate = 4000
	openingRate = 2000
	// Messages of a kind handled a second of one link: who poses as one gateway
	// neither keeps the others out, nor by one kind of message the other kinds.
	linkRate = 20
	// Exchanges begun a second: with 10 000 routes a gateway that was restarted
	// has them all back within a minute.
	startRate = 250
	// Knocks a second to peers that have not answered: those that are away for
	// long must not keep the others waiting.
	retryRate = 100

	// How often the keeper looks whether a packet has come by a standby's twin,
	// and how often at the SAs in use.
	confirmInterval = 250 * time.Millisecond
	confirmMost     = 1000 // with more of them it looks less often
	watchInterval   = time.Second
	watchMost       = 2000                  // links at a time: where there are more, each is looked at less often
	restInterval    = 10 * time.Millisecond // between two looks at the timers
	idleInterval    = time.Second

	// An outbound SA is replaced once it has carried so much, and stops at
	// twice that. SP 800-38D bounds a key by 2^32 random IVs; ours are
	// counted, and the bound is a precaution.
	softPackets = 1 << 32
	softBytes   = 1 << 44

	// A peer that we send to and hear nothing from for so many negotiation-ttl
	// may have lost its SAs: we ask it by an exchange, at first then, later
	// ever more seldom, as the traffic may just be one-way.
	silence = 2

	// A knock is sent again while no challenge has come: the first one after a
	// start often finds no next hop yet.
	repeatInterval = time.Second
)

// Options shapes a Keeper. The zero value of a field stands for its default,
// but for Engine and Protocol, which must be given.
type Options struct {
	Engine   Engine
	Protocol exchange.Protocol
	Clock    func() int64 // nanoseconds; default clock.Mono, which SAInfo's times are in
	Rand     io.Reader    // default crypto/rand.Reader
	Log      *slog.Logger // default: none
	Event    func(Event)  // is told of events, and must not wait; default: nobody is
}

// Errors of Rekey.
var (
	ErrNoRoute   = errors.New("no such route")
	ErrDataPlane = errors.New("the gateway uses static SAs")
)

// Keeper keeps SAs. All its methods may be called from any goroutine.
type Keeper struct {
	engine   Engine
	protocol exchange.Protocol
	clock    func() int64
	random   io.Reader
	log      *slog.Logger
	event    func(Event)
	wake     chan struct{}

	mu         sync.Mutex
	c          Config
	configured bool
	links      map[linkKey]*link
	order      []*link // as configured, so that runs can be repeated
	index      map[peerKey]*link
	statics    map[staticKey]*staticSA
	timers     timers
	waiting    map[*link]struct{} // links whose standby is not certain
	reserved   map[linkKey]uint32 // SPIs of exchanges under way
	spis       map[spiKey]int     // inbound SPIs in use or reserved
	counters   counters
	openings   bucket
	messages   bucket
	logs       bucket
	knocks     bucket // repeated ones
	starts     pacer
	retries    pacer
	next       int64 // when Tick is to be called, as it said the last time
	confirmAt  int64
	watchAt    int64
	watchFrom  int // the link that comes next
}

// spiKey is what an inbound SA is found by.
type spiKey struct {
	queue uint16
	spi   uint32
}

// New returns a keeper that does nothing until Configure.
func New(o Options) *Keeper {
	k := &Keeper{
		engine: o.Engine, protocol: o.Protocol, clock: o.Clock, random: o.Rand, log: o.Log, event: o.Event, wake: make(chan struct{}, 1),
		links: map[linkKey]*link{}, index: map[peerKey]*link{}, statics: map[staticKey]*staticSA{}, waiting: map[*link]struct{}{},
		reserved: map[linkKey]uint32{}, spis: map[spiKey]int{},
	}
	if k.clock == nil {
		k.clock = clock.Mono
	}
	if k.random == nil {
		k.random = rand.Reader
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	k.openings = newBucket(openingRate)
	k.messages = newBucket(messageRate)
	k.logs = newBucket(logRate)
	k.knocks = newBucket(retryRate)
	k.starts = pacer{every: int64(time.Second) / startRate, burst: startRate / 10}
	k.retries = pacer{every: int64(time.Second) / retryRate, burst: retryRate / 10}
	return k
}

// Run does what is due, when it is due, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-k.wake:
		}
		timer.Reset(max(time.Duration(k.Tick()-k.clock()), restInterval))
	}
}

// Tick does what is due now and returns when something is due next.
func (k *Keeper) Tick() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	next := now + int64(idleInterval)
	if k.c.DataPlane {
		k.installStatic()
		return next
	}
	next = min(next, k.confirm(now))
	if now >= k.watchAt {
		k.watchAt = now + int64(watchInterval)
		for range min(len(k.order), watchMost) {
			if k.watchFrom >= len(k.order) {
				k.watchFrom = 0
			}
			k.order[k.watchFrom].watch(now)
			k.watchFrom++
		}
	}
	for l := k.timers.first(); l != nil && l.due <= now; l = k.timers.first() {
		k.timers.set(l, max(l.tick(now), now+1))
	}
	if l := k.timers.first(); l != nil {
		next = min(next, l.due)
	}
	k.next = next
	return next
}

// settled does at once what a message has made due for a link, and wakes Run
// only if it would look too late.
func (k *Keeper) settled(l *link, now int64) {
	k.timers.set(l, max(l.tick(now), now+1))
	if l.due < k.next-int64(restInterval) {
		k.due()
	}
}

// soon makes the next Tick look at a link.
func (k *Keeper) soon(l *link) {
	k.timers.set(l, 0)
	k.due()
}

// due makes Run look again.
func (k *Keeper) due() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// confirm looks for packets on the twins of standby SAs, and returns when to
// look again.
func (k *Keeper) confirm(now int64) int64 {
	if len(k.waiting) == 0 {
		return now + int64(idleInterval)
	}
	if now < k.confirmAt {
		return k.confirmAt
	}
	for l := range k.waiting {
		o := l.standby
		if o == nil || o.certain {
			delete(k.waiting, l)
			continue
		}
		if sa, ok := k.engine.Use(o.twin.ref); ok && sa.Packets > 0 {
			o.certain = true
			delete(k.waiting, l)
			k.soon(l)
		}
	}
	k.confirmAt = now + int64(confirmInterval)*int64(1+len(k.waiting)/confirmMost)
	return k.confirmAt
}

// Rekey begins an exchange for the route at once, on all its queues.
func (k *Keeper) Rekey(route string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.c.DataPlane {
		return fmt.Errorf("rekey route %q: %w", route, ErrDataPlane)
	}
	found := false
	for _, l := range k.order {
		if l.key.route == route {
			l.forced, found = true, true
			k.soon(l)
		}
	}
	if !found {
		return fmt.Errorf("rekey route %q: %w", route, ErrNoRoute)
	}
	return nil
}

// Role says what an SA of the keeper's is for at the moment.
type Role string

// The roles.
const (
	RoleInbound Role = "inbound"
	RoleActive  Role = "active"
	RoleQueued  Role = "queued"
	RoleStandby Role = "standby"
	RoleStatic  Role = "static"
)

// SA describes an SA, without its key. Times are those of Options.Clock.
type SA struct {
	Route   string
	Queue   uint16
	SPI     uint32
	Ref     client.SARef
	Role    Role
	Created int64
	Expires int64 // 0: never
	Rekey   int64 // outbound: when the next exchange begins
}

// SAs returns the SAs that the keeper has installed.
func (k *Keeper) SAs() []SA {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []SA
	for _, l := range k.order {
		for _, in := range l.inbound {
			out = append(out, SA{l.key.route, l.key.queue, in.spi, in.ref, RoleInbound, in.created, in.expires, 0})
		}
		for _, o := range []struct {
			sa   *outbound
			role Role
		}{{l.active, RoleActive}, {l.queued, RoleQueued}, {l.standby, RoleStandby}} {
			if o.sa != nil {
				out = append(out, SA{l.key.route, l.key.queue, o.sa.spi, o.sa.ref, o.role, o.sa.created, o.sa.expires, o.sa.rekey})
			}
		}
	}
	for _, s := range k.statics {
		if s.ref != 0 {
			out = append(out, SA{Route: s.sa.Route, Queue: s.sa.Queue, SPI: s.sa.SPI, Ref: s.ref, Role: RoleStatic})
		}
	}
	return out
}

// engineContext bounds one request to the engine.
func engineContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), engineTimeout)
}

// install gives the engine an SA.
func (k *Keeper) install(sa client.SA) (client.SARef, error) {
	ctx, cancel := engineContext()
	defer cancel()
	return k.engine.InstallSA(ctx, sa)
}

// remove takes an SA from the engine. One that cannot be removed ends by its
// hard limit.
func (k *Keeper) remove(ref client.SARef) {
	ctx, cancel := engineContext()
	defer cancel()
	if err := k.engine.RemoveSA(ctx, ref); err != nil {
		k.log.Warn("cannot remove an SA", "ref", ref, "error", err)
	}
}

// uniform returns a random duration below limit.
func (k *Keeper) uniform(limit time.Duration) time.Duration {
	return time.Duration(float64(limit) * float64(k.random32()) / (1 << 32))
}

func (k *Keeper) random32() uint32 {
	var b [4]byte
	if _, err := io.ReadFull(k.random, b[:]); err != nil {
		k.log.Error("no random bytes", "error", err)
	}
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// newSPI chooses an SPI for an inbound SA that no other of the queue has. 0 to
// 255 are reserved (RFC 4303, section 2.1).
func (k *Keeper) newSPI(queue uint16) uint32 {
	spi := k.random32()
	for spi < 256 || spi == 1<<32-1 || k.spis[spiKey{queue, spi}] > 0 {
		spi++
	}
	return spi
}

// use and unuse keep count of inbound SPIs.
func (k *Keeper) use(queue uint16, spi uint32) { k.spis[spiKey{queue, spi}]++ }

func (k *Keeper) unuse(queue uint16, spi uint32) {
	key := spiKey{queue, spi}
	if k.spis[key]--; k.spis[key] <= 0 {
		delete(k.spis, key)
	}
}
