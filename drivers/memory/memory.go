// Package memory joins ports by a wire that is made of memory, so that a whole
// engine, or two, can run in a test without a device, a kernel or privileges.
//
// A Wire has two ends. An End is a device with one or more queues that Open
// finds by its name ("mem:" and up to 11 more characters); a test may also put
// frames into an End and take out what it has sent. The wire loses nothing: a
// full queue makes the sender keep its frames.
//
// Unlike the other drivers this one takes a lock, as tests touch both ends from
// their own goroutines. It does not allocate once a port is open.
package memory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/internal/pktbuf"
)

// Prefix begins the interface names that belong to this driver.
const Prefix = "mem:"

const (
	headerLen = 14 // Ethernet without a tag
	tagLen    = 4  // room for one VLAN tag on top of the MTU
	minFrame  = headerLen
)

// Options shapes a wire. The zero value of a field stands for its default.
type Options struct {
	Queues int        // queues of each end; default 1
	Depth  int        // frames a queue holds; default 1024
	MTU    int        // largest layer 3 packet; default 1500
	MAC    [2][6]byte // addresses of the ends; default 02:00:00:00:00:01 and :02
	// Steer chooses the queue a frame arrives on, modulo the number of queues.
	// The default hashes the IPv4 addresses and sends all else to queue 0.
	Steer func(frame []byte) int
}

// Wire joins two ends.
type Wire struct {
	ends  [2]*End
	names []string
}

// End is one end of a wire: a device.
type End struct {
	mu    sync.Mutex
	o     Options
	mac   [6]byte
	rings []ring
	far   *End
	lost  uint64 // frames Inject could not deliver
}

// ring holds the frames that have arrived on one queue.
type ring struct {
	slots      []slot
	head, tail uint64 // next to take, next to fill
	port       *Port  // who has opened the queue
}

type slot struct {
	data []byte
	n    int
}

var named = struct {
	sync.Mutex
	ends map[string]*End
}{ends: map[string]*End{}}

// NewWire makes a wire whose ends Open finds by the given names, which must
// begin with Prefix. The caller ends it by Close.
func NewWire(nameA, nameB string, o Options) (*Wire, error) {
	if !strings.HasPrefix(nameA, Prefix) || !strings.HasPrefix(nameB, Prefix) || nameA == nameB {
		return nil, fmt.Errorf("wire %q to %q: want two different names that begin with %q", nameA, nameB, Prefix)
	}
	w := newWire(o)
	named.Lock()
	defer named.Unlock()
	for _, n := range []string{nameA, nameB} {
		if named.ends[n] != nil {
			return nil, fmt.Errorf("wire end %q: %w", n, drivers.ErrBusy)
		}
	}
	named.ends[nameA], named.ends[nameB] = w.ends[0], w.ends[1]
	w.names = []string{nameA, nameB}
	return w, nil
}

func newWire(o Options) *Wire {
	if o.Queues == 0 {
		o.Queues = 1
	}
	if o.Depth == 0 {
		o.Depth = 1024
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	if o.MAC == ([2][6]byte{}) {
		o.MAC = [2][6]byte{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}
	}
	if o.Steer == nil {
		o.Steer = hash
	}
	w := &Wire{}
	for i := range w.ends {
		e := &End{o: o, mac: o.MAC[i], rings: make([]ring, o.Queues)}
		for q := range e.rings {
			e.rings[q].slots = make([]slot, o.Depth)
			region := make([]byte, o.Depth*e.maxFrame())
			for s := range e.rings[q].slots {
				e.rings[q].slots[s].data = region[s*e.maxFrame() : (s+1)*e.maxFrame()]
			}
		}
		w.ends[i] = e
	}
	w.ends[0].far, w.ends[1].far = w.ends[1], w.ends[0]
	return w
}

func (e *End) maxFrame() int { return e.o.MTU + headerLen + tagLen }

// hash steers by the sum of the IPv4 addresses' bytes.
func hash(f []byte) int {
	if len(f) < headerLen+20 || f[12] != 8 || f[13] != 0 {
		return 0
	}
	h := 0
	for _, b := range f[headerLen+12 : headerLen+20] {
		h += int(b)
	}
	return h
}

// End returns end 0 or 1.
func (w *Wire) End(i int) *End { return w.ends[i] }

// Close makes the ends' names free again. Open ports stay usable.
func (w *Wire) Close() error {
	named.Lock()
	defer named.Unlock()
	for _, n := range w.names {
		delete(named.ends, n)
	}
	w.names = nil
	return nil
}

// Inject lets frames arrive at the end, as if the far end had sent them: all at
// once, so that they are received together as far as a batch goes. It reports
// false where a frame's length is not valid or its queue is full.
func (e *End) Inject(frames ...[]byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := true
	for _, f := range frames {
		if len(f) < minFrame || len(f) > e.maxFrame() || !e.push(f) {
			e.lost++
			all = false
		}
	}
	return all
}

// Drain takes out all frames that the end has sent and the far end has not yet
// received, queue by queue.
func (e *End) Drain() [][]byte {
	f := e.far
	f.mu.Lock()
	defer f.mu.Unlock()
	var out [][]byte
	for q := range f.rings {
		r := &f.rings[q]
		for ; r.head != r.tail; r.head++ {
			s := r.at(r.head)
			out = append(out, slices.Clone(s.data[:s.n]))
		}
	}
	return out
}

func (r *ring) at(i uint64) *slot { return &r.slots[i%uint64(len(r.slots))] }

// push stores a frame of valid length. The caller holds e.mu.
func (e *End) push(frame []byte) bool {
	q := e.o.Steer(frame) % len(e.rings)
	r := &e.rings[max(q, -q)]
	if r.tail-r.head == uint64(len(r.slots)) {
		return false
	}
	s := r.at(r.tail)
	s.n = copy(s.data, frame)
	r.tail++
	if r.port != nil {
		r.port.signal()
	}
	return true
}

// Port is an open end, or some queues of one.
type Port struct {
	end    *End
	name   string
	pool   *pktbuf.Pool
	stats  *drivers.Stats
	queues []int
	next   int // the queue Rx looks at first
	fd     int // eventfd
	raised bool
	lost   uint64
	one    [8]byte
	count  [8]byte // as read from fd
}

// Pair makes two ports joined by a wire of their own that no name leads to.
// Either pool may be nil: then that side is driven by Inject and Drain of the
// other port, and its port is nil.
func Pair(poolA, poolB *pktbuf.Pool, o Options) (a, b *Port, err error) {
	w := newWire(o)
	if poolA != nil {
		if a, err = w.ends[0].open(drivers.Config{Ifname: "a", Pool: poolA}); err != nil {
			return nil, nil, err
		}
	}
	if poolB != nil {
		if b, err = w.ends[1].open(drivers.Config{Ifname: "b", Pool: poolB}); err != nil {
			if a != nil {
				err = errors.Join(err, a.Close())
			}
			return nil, nil, err
		}
	}
	return a, b, nil
}

// Open opens queues of the end named by c.Ifname. A name without Prefix is
// ErrUnsupported, so that a registry goes on to the next driver.
func Open(c drivers.Config) (drivers.Port, error) {
	if !strings.HasPrefix(c.Ifname, Prefix) {
		return nil, fmt.Errorf("name does not begin with %q: %w", Prefix, drivers.ErrUnsupported)
	}
	named.Lock()
	e := named.ends[c.Ifname]
	named.Unlock()
	if e == nil {
		return nil, drivers.ErrNoInterface
	}
	p, err := e.open(c)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (e *End) open(c drivers.Config) (*Port, error) {
	if room := c.Pool.FrameSize() - pktbuf.Headroom; e.maxFrame() > room {
		return nil, fmt.Errorf("MTU %d needs %d bytes, a buffer has %d: %w", e.o.MTU, e.maxFrame(), room, drivers.ErrUnsupported)
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &Port{end: e, name: c.Ifname, pool: c.Pool, stats: c.Stats, queues: c.QueuesOf(len(e.rings)), fd: fd}
	if p.stats == nil {
		p.stats = new(drivers.Stats)
	}
	p.one[0] = 1
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, q := range p.queues {
		if q < 0 || q >= len(e.rings) {
			err = fmt.Errorf("queue %d of %d: %w", q, len(e.rings), drivers.ErrUnsupported)
		} else if e.rings[q].port != nil {
			err = fmt.Errorf("queue %d: %w", q, drivers.ErrBusy)
		}
		if err != nil {
			return nil, errors.Join(err, unix.Close(fd))
		}
	}
	p.lost = e.lost
	for _, q := range p.queues {
		r := &e.rings[q]
		if r.port = p; r.head != r.tail {
			p.signal()
		}
	}
	return p, nil
}

// signal makes Fd readable. The caller holds the end's lock.
func (p *Port) signal() {
	if !p.raised {
		_, err := unix.Write(p.fd, p.one[:])
		p.raised = err == nil
	}
}

// Rx takes frames from the port's queues in turn.
func (p *Port) Rx(b []pktbuf.Packet) int {
	e := p.end
	e.mu.Lock()
	defer e.mu.Unlock()
	n, empty := 0, true
	for i := range p.queues {
		r := &e.rings[p.queues[(p.next+i)%len(p.queues)]]
		for ; n < len(b) && r.head != r.tail; r.head++ {
			k, ok := p.pool.Get()
			if !ok {
				break // the frame waits in its queue
			}
			s := r.at(r.head)
			k.Len = uint16(s.n)
			copy(p.pool.Bytes(k), s.data[:s.n])
			p.stats.CountRx(s.data[:s.n])
			b[n] = k
			n++
		}
		empty = empty && r.head == r.tail
	}
	p.next++
	if empty && p.raised {
		_, err := unix.Read(p.fd, p.count[:])
		p.raised = err != nil
	}
	return n
}

// Tx copies frames to the far end. A frame of invalid length is dropped and
// counted as a transmit error.
func (p *Port) Tx(b []pktbuf.Packet) int {
	far := p.end.far
	far.mu.Lock()
	defer far.mu.Unlock()
	for i, k := range b {
		f := p.pool.Bytes(k)
		switch {
		case len(f) < minFrame || len(f) > far.maxFrame():
			p.stats.TxErrors++
		case !far.push(f):
			return i
		default:
			p.stats.CountTx(f)
		}
		p.pool.Put(k)
	}
	return len(b)
}

// Flush has nothing to do: Tx delivers at once.
func (p *Port) Flush() {}

// Sync takes over what Inject could not deliver, as dropped frames of the port
// that serves queue 0.
func (p *Port) Sync() {
	p.end.mu.Lock()
	defer p.end.mu.Unlock()
	if slices.Contains(p.queues, 0) {
		p.stats.RxDrop += p.end.lost - p.lost
		p.lost = p.end.lost
	}
}

// Fd returns an eventfd that is readable while frames wait.
func (p *Port) Fd() int { return p.fd }

// Info describes the port.
func (p *Port) Info() drivers.Info {
	e := p.end
	e.mu.Lock()
	defer e.mu.Unlock()
	i := drivers.Info{Driver: "memory", Name: p.name, MAC: e.mac, MTU: e.o.MTU, Queues: len(p.queues), LinkUp: true, Backlog: true}
	for _, q := range p.queues {
		i.RxWaiting += int(e.rings[q].tail - e.rings[q].head)
	}
	return i
}

// Stats returns the port's counters.
func (p *Port) Stats() *drivers.Stats { return p.stats }

// Inject lets a frame arrive at the port's end; see End.Inject.
func (p *Port) Inject(frame []byte) bool { return p.end.Inject(frame) }

// Drain takes out what the port's end has sent; see End.Drain.
func (p *Port) Drain() [][]byte { return p.end.Drain() }

// Close gives the queues up and discards what waits in them. The port holds no
// buffer of the pool.
func (p *Port) Close() error {
	p.end.mu.Lock()
	defer p.end.mu.Unlock()
	for _, q := range p.queues {
		r := &p.end.rings[q]
		r.port, r.head = nil, r.tail
	}
	p.queues = nil
	if p.fd < 0 {
		return nil
	}
	fd := p.fd
	p.fd = -1
	return unix.Close(fd)
}
