package forwarding

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/icmp"
	"vita/forwarding/neigh"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/cpu"
	"vita/internal/pktbuf"
)

const (
	batchSize  = 64                        // frames taken from a port at once
	localSize  = esp.BatchSize - batchSize // packets of our own that wait for the tunnel
	txSize     = 256                       // frames collected for a port
	sleepFor   = 50 * time.Millisecond
	tickEvery  = 10 * time.Millisecond
	syncEvery  = time.Second
	blindSleep = 200 * time.Microsecond // with a port that cannot be waited for
)

// side is one of a worker's two ports and what belongs to it.
type side struct {
	port  drivers.Port
	stats *tables.PortStats
	info  *tables.PortInfo
	kind  *sideKind
	mtu   int    // largest layer 3 packet, bytes
	vlan  uint16 // 0: none

	self     neigh.Self
	us       uint64       // how frames begin that are for us, see plain.go
	siblings []neigh.Self // other workers on the same link
	next     hop          // of the gateway's family
	other    hop          // of the other one, on the private side

	neighbours []tables.NeighbourEntry // on the link
	owner      bool                    // the worker sees to their time
	cursor     int                     // at which of them it is
	announce   int                     // times that we still tell everybody that we are there
	announceAt int64                   // when to
	down       bool                    // the port had no link when it was looked after
	fault      string                  // what the port could not do then
	resets     int                     // times that its device had been reset

	tx [txSize]pktbuf.Packet
	n  int // frames in tx
}

// sideKind says how the two sides count.
type sideKind struct {
	rxPoint, txPoint tables.Point

	vlan, wrongMAC, ethertype, malformed, arp, arpOther, nd, ndOther, noNextHop, txFull drop.Reason

	arpRequests, arpReplies, nsRequests, naReplies, added, updated tables.Counter
}

var privateKind = sideKind{
	tables.PrivateRx, tables.PrivateTx,
	drop.PrivateVLAN, drop.PrivateWrongMAC, drop.PrivateEthertype, drop.OutboundMalformed, drop.PrivateARP, drop.PrivateARPOther,
	drop.PrivateND, drop.PrivateNDOther,
	drop.InboundNoNextHop, drop.InboundTxFull,
	tables.PrivateNextHopARPRequests, tables.PrivateNextHopARPReplies,
	tables.PrivateNextHopNSRequests, tables.PrivateNextHopNAReplies,
	tables.PrivateNextHopAddressesAdded, tables.PrivateNextHopAddressesUpdated,
}

var publicKind = sideKind{
	tables.PublicRx, tables.PublicTx,
	drop.PublicVLAN, drop.PublicWrongMAC, drop.PublicEthertype, drop.PublicMalformed, drop.PublicARP, drop.PublicARPOther,
	drop.PublicND, drop.PublicNDOther,
	drop.OutboundNoNextHop, drop.OutboundTxFull,
	tables.PublicNextHopARPRequests, tables.PublicNextHopARPReplies,
	tables.PublicNextHopNSRequests, tables.PublicNextHopNAReplies,
	tables.PublicNextHopAddressesAdded, tables.PublicNextHopAddressesUpdated,
}

// assignment is a worker's part in one generation. The control goroutine makes
// it; from then on it is the worker's.
type assignment struct {
	word     uint64 // see tables.Word
	tables   *tables.Tables
	index    int  // in tables.Workers; -1: none
	v6       bool // the family of the tunnels
	private  side
	public   side
	next4    *hop // on the private side, of IPv4; its n is nil where that is not spoken
	next6    *hop // likewise, of IPv6
	onLink   netip.Prefix
	head     outerHead // of what is sent into tunnels
	outerLen int       // bytes of the outer IP header
	innerUDP int       // innerMTU where ESP is in UDP

	idle     atomic.Pointer[idleRoutes] // that something is sent to when they are idle
	nextIdle int                        // which of them is looked at next
	innerMTU int                        // largest packet that fits the tunnel, bytes
}

// What the control goroutine can ask a worker to do.
const (
	goOn = iota
	park
	stop
)

// worker forwards between one private and one public port, alone, on a thread
// of its own. Only next, request, turns and filter are touched by the control
// goroutine while it runs.
type worker struct {
	slot   int
	queue  uint16
	cpu    int // to be bound to; -1: none
	mem    *tables.Memory
	me     *tables.Worker
	active []uint32             // the worker's row: SA reference by route slot
	routes []tables.RouteCounts // likewise: what it counts
	none   tables.RouteCounts   // of a slot that is not there
	spis   *spiTable
	keys   *keyStore
	pool   *pktbuf.Pool
	clock  func() int64
	wake   int // event file that ends a sleep
	punt   int // event file that wakes vitad

	next    [2]atomic.Pointer[assignment] // by place
	request atomic.Uint32
	turns   atomic.Uint64 // done; as Rounds, but out of the other process's reach
	filter  atomic.Pointer[capture]
	parked  chan struct{}
	resume  chan struct{}
	done    chan struct{}

	capture   *capture    // nil: nothing is captured; see filter
	a         *assignment // nil: none yet
	word      uint64      // that a answers to
	now       int64       // clock.Mono at the turn's start
	lastWork  int64
	spin      spin
	accounted int64 // busy and idle time are counted up to here
	tick      int64 // when to look after next hops
	sync      int64 // when to look after ports

	rx      [batchSize]pktbuf.Packet
	fwd     [esp.BatchSize]pktbuf.Packet // of IPv4, and whatever is in the cipher's batch
	fwd6    [esp.BatchSize]pktbuf.Packet // of IPv6
	addr    [esp.BatchSize]uint32        // of fwd, looked up
	addr6   [esp.BatchSize][16]byte      // of fwd6
	value   [esp.BatchSize]uint32        // route slots found
	headers [esp.BatchSize]uint8         // bytes of what lies in front of ESP packets to be sent
	udp     [esp.BatchSize]uint32        // what received ones came in: the peer's port, and inUDP; 0: not in UDP
	ident   uint16                       // the last identification of an outer header without DF
	sas     [esp.BatchSize]*tables.SA    // of fwd
	sas6    [esp.BatchSize]*tables.SA    // of fwd6
	index   [esp.BatchSize]int           // of them
	seqs    [esp.BatchSize]uint64
	crypt   esp.Batch
	ahead   ahead // pointers to what a batch will need

	trial  esp.Batch // see resynchronise
	resync int64     // when it may be tried again

	local  [localSize]pktbuf.Packet // our own packets for the tunnel, from their IP header
	nlocal int

	sources sources // of key exchange

	announcements int // when a port comes up
	report        func(error)
	wanted        chan<- struct{} // the device of a port is asked for

	limits struct{ unreachable, tooBig, timeExceeded, echo, pmtu icmp.Limiter }

	poll     [3]unix.PollFd
	timeout  unix.Timespec
	eventBuf [8]byte
}

// start runs the worker. Its thread dies with it.
func (w *worker) start(report func(error)) {
	w.report = report
	go func() {
		runtime.LockOSThread()
		defer close(w.done)
		if w.cpu >= 0 {
			if err := cpu.Pin(w.cpu); err != nil {
				report(err)
			}
		}
		w.run()
	}()
}

func (w *worker) run() {
	for {
		if w.request.Load() != goOn && !w.obey() {
			return
		}
		if w.turn() == 0 && w.spin.over(w.now-w.lastWork) {
			w.sleep()
		}
	}
}

// obey does what the control goroutine asks; false: end.
func (w *worker) obey() bool {
	switch w.request.Load() {
	case park:
		w.parked <- struct{}{}
		<-w.resume
	case stop:
		return false
	}
	return true
}

// turn is one round of all that a worker does. It returns how many packets it
// has met.
func (w *worker) turn() int {
	w.now = w.clock()
	if w.accounted != 0 {
		w.me.Idle += uint64(w.now - w.accounted)
	}
	w.accounted = w.now
	if word := w.mem.Current(); word != w.word {
		w.adopt(word)
	}
	w.capture = w.filter.Load()
	n := 0
	if a := w.a; a != nil && a.index >= 0 {
		n += w.outbound()
		n += w.inbound()
		n += w.fromControl()
		if w.now >= w.tick {
			w.lookAfter()
		}
		w.send(&a.private)
		w.send(&a.public)
		a.private.port.Flush()
		a.public.port.Flush()
	}
	if n > 0 {
		w.lastWork = w.now
		w.accounted = w.clock()
		w.me.Busy += uint64(w.accounted - w.now)
	}
	w.turns.Store(w.turns.Load() + 1)
	w.me.Rounds++
	return n
}

// adopt turns to the generation that word names. A word that the control
// goroutine has not prepared the worker for is not obeyed.
func (w *worker) adopt(word uint64) {
	_, place := tables.Split(word)
	a := w.next[place].Load()
	if a == nil || a.word != word {
		return
	}
	w.a, w.word = a, word
	w.tick = w.now
	atomic.StoreUint64(&w.me.Epoch, word)
}

// sleep waits until a port or vitad has something, or a while has passed.
func (w *worker) sleep() {
	if w.nlocal > 0 || !w.mem.FromControl(w.slot).Arm() || w.request.Load() != goOn || w.mem.Current() != w.word && w.adoptable() {
		return
	}
	n := 1
	wait := sleepFor
	w.poll[0] = unix.PollFd{Fd: int32(w.wake), Events: unix.POLLIN}
	if a := w.a; a != nil && a.index >= 0 {
		for _, p := range [...]drivers.Port{a.private.port, a.public.port} {
			fd := p.Fd()
			if fd < 0 {
				wait = blindSleep
				continue
			}
			w.poll[n] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
			n++
		}
	}
	w.timeout = unix.NsecToTimespec(int64(wait))
	_, _ = unix.Ppoll(w.poll[:n], &w.timeout, nil) // an interrupted wait is a short one
	w.spin.slept(w.clock() - w.now)
	if w.poll[0].Revents != 0 {
		_, _ = unix.Read(w.wake, w.eventBuf[:]) // does not block; only empties the file
	}
}

func (w *worker) adoptable() bool {
	word := w.mem.Current()
	_, place := tables.Split(word)
	a := w.next[place].Load()
	return a != nil && a.word == word
}

// lookAfter does what time calls for: requests for next hops, the ports' slow
// counters.
func (w *worker) lookAfter() {
	w.tick = w.now + int64(tickEvery)
	a := w.a
	for _, s := range [...]*side{&a.private, &a.public} {
		w.lookAfterHops(s)
	}
	if idle := a.idle.Load(); len(idle.slots) > 0 {
		w.lookAtIdle(idle)
	}
	if w.now < w.sync {
		return
	}
	w.sync = w.now + int64(syncEvery)
	for _, s := range [...]*side{&a.private, &a.public} {
		s.port.Sync()
		i := s.port.Info()
		if i.LinkUp && s.down && (s == &a.public || s.owner) {
			s.announce = w.announcements
		}
		s.down = !i.LinkUp
		if i.Wanted {
			select {
			case w.wanted <- struct{}{}:
			default: // it is known
			}
		}
		if i.Fault != s.fault || i.Resets != s.resets {
			w.reportPort(s, &i)
		}
		s.info.LinkUp, s.info.Backlog, s.info.Fault = bit(i.LinkUp), bit(i.Backlog), faultOf(&i)
		atomic.StoreUint32(&s.info.Resets, uint32(i.Resets))
		atomic.StoreUint32(&s.info.RxWait, uint32(i.RxWaiting))
		atomic.StoreUint32(&s.info.TxWait, uint32(i.TxWaiting))
	}
}

// reportPort tells the log that a device has failed, works again, or was reset.
// It allocates, which so rare an event may.
func (w *worker) reportPort(s *side, i *drivers.Info) {
	switch {
	case i.Fault != "":
		w.report(fmt.Errorf("%s: %s", i.Name, i.Fault))
	case s.fault != "":
		w.report(fmt.Errorf("%s works again", i.Name))
	}
	if i.Resets != s.resets {
		w.report(fmt.Errorf("%s hung and was reset, %d times so far", i.Name, i.Resets))
	}
	s.fault, s.resets = i.Fault, i.Resets
}

// push queues a frame for a port.
func (w *worker) push(s *side, k pktbuf.Packet) {
	if s.vlan != 0 {
		if k.Off < wire.VLANLen {
			w.drop(k, drop.OutboundNoRoom)
			return
		}
		k = w.tag(s, k)
	}
	if s.n == len(s.tx) {
		w.send(s)
	}
	s.tx[s.n] = k
	s.n++
}

// send hands the queued frames to the port, and drops what it does not take.
func (w *worker) send(s *side) {
	if s.n == 0 {
		return
	}
	if w.capture != nil {
		w.captureTx(s)
	}
	taken := s.port.Tx(s.tx[:s.n])
	for _, k := range s.tx[taken:s.n] {
		s.stats.TxDrop++
		w.drop(k, s.kind.txFull)
	}
	s.n = 0
}

// reasonCounter is the model's counter of each drop reason.
var reasonCounter = func() (t [drop.NumReasons]tables.Counter) {
	for r := range t {
		t[r] = drop.Reason(r).Info().Counter
	}
	return t
}()

// note counts a reason.
func (w *worker) note(r drop.Reason) {
	w.me.Drops[r]++
	if c := reasonCounter[r]; c != tables.NoCounter {
		w.me.Counters[c]++
	}
}

// drop counts a reason and gives the packet's buffer back.
func (w *worker) drop(k pktbuf.Packet, r drop.Reason) {
	w.note(r)
	if w.capture != nil {
		w.captureDrop(k, r)
	}
	w.pool.Put(k)
}

// own takes a buffer for a packet of our own of n bytes.
func (w *worker) own(n int) (pktbuf.Packet, []byte, bool) {
	k, ok := w.pool.Get()
	if !ok {
		w.note(drop.AnswerNoBuffer)
		return k, nil, false
	}
	k.Len = uint16(n)
	if w.capture != nil {
		w.capture.origin[k.Frame] = pktbuf.Packet{}
	}
	return k, w.pool.Bytes(k), true
}

// frameOf checks what all frames must have: a header, a station as its source,
// and us or a group as its destination. It drops others.
func (w *worker) frameOf(s *side, k pktbuf.Packet) (f wire.Ethernet, group, ok bool) {
	f = wire.Ethernet(w.pool.Bytes(k))
	if len(f) < wire.EthernetLen {
		w.drop(k, s.kind.malformed)
		return nil, false, false
	}
	group = f[0]&1 != 0
	if f[6]&1 != 0 || !group && *f.Dst() != s.self.MAC {
		if f[6]&1 != 0 || !w.forSibling(s, k, f) {
			w.drop(k, s.kind.wrongMAC)
		}
		return nil, false, false
	}
	return f, group, true
}
