// Package keeper keeps every route supplied with fresh SAs: it runs the key
// exchange (keying/ske) with each route's peers, installs what comes out of it
// in the packet engine, and takes old SAs away.
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
//	inbound   up to 4 SAs that the peer may send by
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
)

// Engine is what the keeper needs of the packet engine: *client.Client.
type Engine interface {
	InstallSA(ctx context.Context, sa client.SA) (client.SARef, error)
	Activate(ref client.SARef) error
	RemoveSA(ctx context.Context, ref client.SARef) error
	SAs() []client.SAInfo
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
	Salt  [4]byte
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

	maxInbound    = 4 // inbound SAs of a link
	engineTimeout = 2 * time.Second

	// Messages handled a second. An exchange takes two, at either end; two
	// gateways with many routes between them each initiate one for every route.
	messageRate = 100
	// Messages handled a second of one link: who poses as one gateway must not
	// keep the others out.
	linkRate = messageRate / 4
	// Exchanges begun a second, so that the peers' limit and ours are kept.
	startRate = messageRate / 5
	// Knocks a second to peers that have not answered: those that are away for
	// long must not keep the others waiting.
	retryRate = 100
	paceWait  = 50 * time.Millisecond

	// How often the keeper looks whether a packet has come by a standby's twin,
	// per thousand links begun: it looks at all SAs then.
	confirmInterval = 250 * time.Millisecond
	idleInterval    = time.Second

	// A knock is sent again while no challenge has come: the first one after a
	// start often finds no next hop yet.
	repeatInterval = time.Second
)

// Options shapes a Keeper. The zero value of a field stands for its default.
type Options struct {
	Engine Engine
	Clock  func() int64 // nanoseconds; default clock.Mono, which SAInfo's times are in
	Rand   io.Reader    // default crypto/rand.Reader
	Log    *slog.Logger // default: none
}

// Errors of Rekey.
var (
	ErrNoRoute   = errors.New("no such route")
	ErrDataPlane = errors.New("the gateway uses static SAs")
)

// Keeper keeps SAs. All its methods may be called from any goroutine.
type Keeper struct {
	engine Engine
	clock  func() int64
	random io.Reader
	log    *slog.Logger
	wake   chan struct{}

	mu         sync.Mutex
	c          Config
	configured bool
	links      map[linkKey]*link
	order      []*link // as configured, so that runs can be repeated
	index      map[peerKey]*link
	statics    map[staticKey]*staticSA
	spis       map[linkKey]uint32 // SPIs that exchanges under way have reserved
	counters   counters
	messages   bucket
	starts     bucket
	retries    bucket
	turn       int // the link that Tick begins with, so that none is always last
	confirmAt  int64
}

// New returns a keeper that does nothing until Configure.
func New(o Options) *Keeper {
	k := &Keeper{
		engine: o.Engine, clock: o.Clock, random: o.Rand, log: o.Log, wake: make(chan struct{}, 1),
		links: map[linkKey]*link{}, statics: map[staticKey]*staticSA{}, spis: map[linkKey]uint32{},
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
	k.messages = newBucket(messageRate)
	k.starts = newBucket(startRate)
	k.retries = newBucket(retryRate)
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
		timer.Reset(max(time.Duration(k.Tick()-k.clock()), time.Millisecond))
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
	for i := range k.order {
		next = min(next, k.order[(k.turn+i)%len(k.order)].tick(now))
	}
	k.turn++
	return next
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
	waiting := map[client.SARef]*link{}
	for _, l := range k.order {
		if l.standby != nil && !l.standby.certain {
			waiting[l.standby.twin.ref] = l
		}
	}
	if len(waiting) == 0 {
		return now + int64(idleInterval)
	}
	if now < k.confirmAt {
		return k.confirmAt
	}
	for _, sa := range k.engine.SAs() {
		if l := waiting[sa.Ref]; l != nil && sa.Packets > 0 {
			l.standby.certain = true
		}
	}
	k.confirmAt = now + int64(confirmInterval)*int64(1+len(k.order)/1000)
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
		if l.route.ID == route {
			l.forced, found = true, true
		}
	}
	if !found {
		return fmt.Errorf("rekey route %q: %w", route, ErrNoRoute)
	}
	k.due()
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
			out = append(out, SA{l.route.ID, l.key.queue, in.spi, in.ref, RoleInbound, in.created, in.expires, 0})
		}
		for _, o := range []struct {
			sa   *outbound
			role Role
		}{{l.active, RoleActive}, {l.queued, RoleQueued}, {l.standby, RoleStandby}} {
			if o.sa != nil {
				out = append(out, SA{l.route.ID, l.key.queue, o.sa.spi, o.sa.ref, o.role, o.sa.created, o.sa.expires, o.sa.rekey})
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
	for spi < 256 || spi == 1<<32-1 || k.usesSPI(queue, spi) {
		spi++
	}
	return spi
}

func (k *Keeper) usesSPI(queue uint16, spi uint32) bool {
	for key, reserved := range k.spis {
		if key.queue == queue && reserved == spi {
			return true
		}
	}
	for _, l := range k.order {
		if l.key.queue != queue {
			continue
		}
		for _, in := range l.inbound {
			if in.spi == spi {
				return true
			}
		}
	}
	return false
}

// bucket is a rate limit: so many a second, and as many at once.
type bucket struct {
	rate   float64
	tokens float64
	last   int64
}

func newBucket(rate float64) bucket { return bucket{rate: rate, tokens: rate} }

func (b *bucket) take(now int64) bool {
	if now > b.last {
		b.tokens = min(b.rate, b.tokens+float64(now-b.last)/1e9*b.rate)
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
