package nic

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/model"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// paper is a card that does what a test says, and writes down what it is asked.
type paper struct {
	Common
	t      *testing.T
	m      *model.Device
	log    []string
	uses   map[int]bool // queues whose rings the device has
	state  State
	sticky bool // its queues do not stop
	reset  error
	setup  error
	start  error
	rings  error
	sync   error
}

func (k *paper) note(format string, a ...any) { k.log = append(k.log, fmt.Sprintf(format, a...)) }

func (k *paper) Queues() int { return 4 }

func (k *paper) Rings(p *Port, _ *drivers.Config) ([]RxRing, TxRing, error) {
	var rx []RxRing
	for _, q := range p.Queues {
		rx = append(rx, &sheet{k: k, q: q})
	}
	if k.rings != nil {
		return rx, nil, k.rings
	}
	p.Vector, p.Event = k.Events.Take()
	return rx, &sheet{k: k, q: p.Queues[0]}, nil
}

func (k *paper) Start(p *Port) error {
	if !k.m.Master() {
		k.t.Error("rings for a device that may not use memory")
	}
	for _, q := range p.Queues {
		k.uses[q] = true
	}
	k.note("start %v", p.Queues)
	return k.start
}

func (k *paper) Direct() error { k.note("direct %v", k.Open()); return nil }

func (k *paper) Stop(p *Port) (bool, error) {
	k.note("stop %v", p.Queues)
	if k.sticky {
		return false, errors.New("do not stop")
	}
	for _, q := range p.Queues {
		delete(k.uses, q)
	}
	return true, nil
}

func (k *paper) Reset() error {
	k.note("reset")
	if k.reset == nil {
		clear(k.uses)
	}
	return k.reset
}

func (k *paper) Setup() error { k.note("setup"); return k.setup }

func (k *paper) Sync(*Port) (State, error) { return k.state, k.sync }

func (k *paper) Arm(*Port) { k.note("arm") }

// sheet is a ring of a queue.
type sheet struct {
	k       *paper
	q       int
	waiting int
	done    uint32
	broken  bool
}

func (s *sheet) Rx(b []pktbuf.Packet, _ *drivers.Stats) int {
	n := min(s.waiting, len(b))
	s.waiting -= n
	return n
}
func (s *sheet) Tx(b []pktbuf.Packet, _ *drivers.Stats) int { s.waiting += len(b); return len(b) }
func (s *sheet) Flush(*drivers.Stats)                       {}
func (s *sheet) Waiting() int                               { return s.waiting }
func (s *sheet) Done() uint32                               { return s.done }
func (s *sheet) Size() int                                  { return 64 }
func (s *sheet) Broken() bool                               { return s.broken }
func (s *sheet) Rewind() int                                { n := s.waiting; s.waiting = 0; return n }

func (s *sheet) Close() error {
	if s.k.uses[s.q] && s.k.m.Master() {
		s.k.t.Errorf("buffers of queue %d go back while the device may use them", s.q)
	}
	return nil
}

// desk is a card with the driver that opens its ports.
type desk struct {
	t     *testing.T
	k     *paper
	cards *Cards
	pool  *pktbuf.Pool
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, k: &paper{t: t, uses: map[int]bool{}, state: State{Up: true, Speed: 10}}, pool: newPool(t)}
	d.cards, d.k.m = cards(t, model.Options{Vectors: 2})
	d.cards.Open = func(m pci.Device, c *drivers.Config) (Card, error) {
		d.k.Begin("paper", d.k, m, c)
		return d.k, d.k.Power(2)
	}
	return d
}

func (d *desk) try(queues ...int) (*Port, error) {
	p, err := Open(d.cards, drivers.Config{PCI: "model:x", Pool: d.pool, Queues: queues})
	if err != nil {
		return nil, err
	}
	return p.(*Port), nil
}

func (d *desk) open(queues ...int) *Port {
	d.t.Helper()
	p, err := d.try(queues...)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

// asked compares what the card was asked since this was last looked at.
func (d *desk) asked(want ...string) {
	d.t.Helper()
	if !slices.Equal(d.k.log, want) {
		d.t.Errorf("the card was asked: %q, want %q", d.k.log, want)
	}
	d.k.log = nil
}

// TestClosing closes ports of cards that stop, and of those that do not: in the
// end no buffer goes back that the device may reach.
func TestClosing(t *testing.T) {
	failed := errors.New("no reset")
	for _, k := range []struct {
		name   string
		sticky bool
		reset  error
		last   bool
		asked  string
		says   string
		master bool // that the device may use memory after
		resets int  // when the other port has worked on
		fault  bool // and what it says then
	}{
		{name: "stops", asked: "stop [1]", master: true},
		{name: "sticks", sticky: true, asked: "stop [1], reset", says: "do not stop", resets: 1},
		{name: "sticks and has no reset", sticky: true, reset: failed, asked: "stop [1], reset", says: "do not stop\nno reset", resets: 1, fault: true},
		{name: "went away", sticky: true, reset: ErrGone, asked: "stop [1], reset", resets: 1, fault: true},
		{name: "the last one", last: true, asked: "stop [1], reset"},
		{name: "the last one, sticks", sticky: true, last: true, asked: "stop [1], reset"},
		{name: "the last one, no reset", reset: failed, sticky: true, last: true, asked: "stop [1], reset", says: "no reset"},
	} {
		t.Run(k.name, func(t *testing.T) {
			d := newDesk(t)
			var other *Port
			if !k.last {
				other = d.open(0)
			}
			p := d.open(1)
			d.k.log, d.k.sticky, d.k.reset = nil, k.sticky, k.reset
			err := p.Close()
			if got := fmt.Sprint(err); k.says == "" && err != nil || err != nil && got != k.says || err == nil && k.says != "" {
				t.Errorf("%v, want %q", err, k.says)
			}
			if got := strings.Join(d.k.log, ", "); got != k.asked {
				t.Errorf("the card was asked: %s, want %s", got, k.asked)
			}
			if d.k.m.Master() != k.master {
				t.Errorf("master %v", d.k.m.Master())
			}
			if k.last {
				return
			}
			for range 2 {
				other.Flush()
				other.Sync()
			}
			if i := other.Info(); i.Resets != k.resets || (i.Fault != "") != k.fault || i.LinkUp == k.fault || d.k.m.Master() == k.fault {
				t.Errorf("%+v, master %v", i, d.k.m.Master())
			}
			if err := other.Close(); err != nil || d.k.m.Master() || d.k.m.Mapped() != 0 {
				t.Errorf("%v, master %v, %d ranges mapped", err, d.k.m.Master(), d.k.m.Mapped())
			}
		})
	}
}

// TestOpening has ports that cannot be opened beside one that works on, which
// must not notice.
func TestOpening(t *testing.T) {
	failed := errors.New("has failed")
	for _, k := range []struct {
		name  string
		fail  func(*paper)
		asked []string
	}{
		{"no rings", func(k *paper) { k.rings = failed }, nil},
		{"no start", func(k *paper) { k.start = failed }, []string{"start [1]", "stop [1]"}},
		{"no state", func(k *paper) { k.sync = failed }, []string{"start [1]", "direct [0 1]", "stop [1]"}},
	} {
		t.Run(k.name, func(t *testing.T) {
			d := newDesk(t)
			p := d.open(0)
			d.asked("start [0]", "direct [0]")
			k.fail(d.k)
			if _, err := d.try(1); !errors.Is(err, failed) {
				t.Errorf("%v", err)
			}
			d.asked(k.asked...)
			d.k.rings, d.k.start, d.k.sync = nil, nil, nil
			p.Sync()
			p.Flush()
			if i := p.Info(); i.Resets != 0 || i.Fault != "" || !d.k.m.Master() {
				t.Errorf("%+v", i)
			}
			q := d.open(1) // its queue, and its interrupt, are free again
			if q.Event.Fd() < 0 {
				t.Error("no interrupt")
			}
			for _, p := range []*Port{q, p} {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestOpeningHalted opens a port of a card that uses no memory: one that waits
// for its reset, and one whose last port was closed a moment ago.
func TestOpeningHalted(t *testing.T) {
	d := newDesk(t)
	a, b := d.open(0), d.open(1)
	d.k.sticky = true
	if b.Close() == nil {
		t.Error("a queue that does not stop is not told of")
	}
	d.k.sticky, d.k.log = false, nil
	b = d.open(1)
	if d.asked(); b.Tx(make([]pktbuf.Packet, 1)) != 0 || b.Fd() != -1 {
		t.Error("a port works while its card does not")
	}
	a.Flush()
	b.Flush()
	d.asked("reset", "setup", "start [1]")
	a.Flush()
	d.asked("start [0]")
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	held, err := d.cards.Acquire(&drivers.Config{PCI: "model:x", Pool: d.pool, Queues: []int{3}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	d.k.log = nil
	c := d.open(0)
	if d.asked(); d.k.m.Master() {
		t.Error("the card reaches memory")
	}
	c.Flush()
	if d.asked("reset", "setup", "start [0]"); !d.k.m.Master() || c.Info().Resets != 2 {
		t.Errorf("%+v", c.Info())
	}
	if err := errors.Join(c.Close(), held.Release()); err != nil {
		t.Error(err)
	}
}

// TestWatching has a port look after its card.
func TestWatching(t *testing.T) {
	d := newDesk(t)
	p := d.open(0, 2)
	rx, tx := p.rings[1].(*sheet), p.tx.(*sheet)
	resets := 0
	expect := func(what string, now bool) {
		t.Helper()
		p.Sync()
		p.Flush()
		if now {
			resets++
		}
		if n := p.Info().Resets; n != resets {
			t.Fatalf("%s: %d resets, want %d", what, n, resets)
		}
	}
	expect("nothing to do", false)
	tx.waiting = 3
	expect("something waits", false)
	tx.done++
	expect("something was sent", false)
	expect("nothing was sent", true)
	if p.stats.TxDrop != 3 || tx.waiting != 0 {
		t.Errorf("%+v", p.stats)
	}
	tx.waiting, d.k.state.Up = 3, false
	for range 3 {
		expect("no link", false)
	}
	d.k.state.Up, tx.waiting = true, 0
	expect("a link", false)
	rx.broken = true
	expect("a receiver lies", true)
	rx.broken, tx.broken = false, true
	expect("a sender lies", true)
	tx.broken, d.k.state.Broken = false, true
	expect("the device says so", true)
	d.k.state.Broken, d.k.setup = false, errors.New("no setup")
	tx.broken = true
	expect("and does not come back", true)
	if i := p.Info(); i.Fault == "" || i.LinkUp || d.k.m.Master() {
		t.Errorf("%+v, master %v", i, d.k.m.Master())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestLinkChanges counts them, also where nobody looked.
func TestLinkChanges(t *testing.T) {
	d := newDesk(t)
	d.k.state.Blinked = true // before the port was there
	p := d.open(0)
	for i, k := range []struct {
		state   State
		changes int
	}{
		{State{Up: true, Speed: 10}, 0},
		{State{Up: false, Speed: 10, Blinked: true}, 1},
		{State{Up: false}, 1},
		{State{Up: true, Speed: 100}, 2},
		{State{Up: true, Speed: 100, Blinked: true}, 4},
	} {
		d.k.state = k.state
		p.Sync()
		speed := k.state.Speed
		if !k.state.Up {
			speed = 0
		}
		if got := p.Info(); got.LinkChanges != k.changes || got.LinkUp != k.state.Up || got.Speed != speed {
			t.Errorf("%d: %+v", i, got)
		}
	}
	d.k.sync = ErrGone
	p.Sync()
	if i := p.Info(); i.LinkUp || i.Fault == "" || d.k.m.Master() {
		t.Errorf("%+v, master %v", i, d.k.m.Master())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestTurns takes frames from several queues, none of which keeps the others
// from their turn.
func TestTurns(t *testing.T) {
	d := newDesk(t)
	p := d.open(0, 1, 2)
	for _, r := range p.rings {
		r.(*sheet).waiting = 40
	}
	b := make([]pktbuf.Packet, 30)
	for range 3 {
		if n := p.Rx(b); n != 30 {
			t.Fatalf("%d frames", n)
		}
	}
	for q, r := range p.rings {
		if n := r.Waiting(); n != 10 {
			t.Errorf("queue %d: %d frames wait", q, n)
		}
	}
	if i := p.Info(); i.RxWaiting != 30 || i.Queues != 3 {
		t.Errorf("%+v", i)
	}
	wakes := func(want bool) {
		t.Helper()
		var b [8]byte
		if n, _ := unix.Read(p.Fd(), b[:]); n == 8 != want {
			t.Errorf("the worker is woken: %v, want %v", n == 8, want)
		}
	}
	wakes(true) // some wait still
	for p.Rx(b) > 0 {
	}
	wakes(false)
	d.asked("start [0 1 2]", "direct [0 1 2]", "arm", "arm")
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestWanted: all ports of a device that the system asks for say so, also when
// they cannot do anything else any more.
func TestWanted(t *testing.T) {
	d := newDesk(t)
	ports := []*Port{d.open(0), d.open(1)}
	look := func(want bool) {
		t.Helper()
		for i, p := range ports {
			if p.Sync(); p.Info().Wanted != want {
				t.Errorf("port %d: wanted %v", i, !want)
			}
		}
	}
	look(false)
	d.k.Lose()
	d.k.m.Want()
	look(true)
	for _, p := range ports {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
