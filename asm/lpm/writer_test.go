package lpm

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var updates = flag.Int("updates", 40000, "random updates that TestUpdatesAgainstLinearScan makes")

// model is a table under change and what it should hold.
type model struct {
	t      testing.TB
	is4    bool
	w      *Writer
	mem    []byte
	t4     Table4
	t6     Table6
	have   []Prefix
	place  map[netip.Prefix]int // in have
	undone []func()             // what Abort has to take back, the last first
}

// newModel makes a table of prefixes with room for changes.
func newModel(t testing.TB, is4 bool, ps []Prefix, most, spare int) *model {
	t.Helper()
	m := &model{t: t, is4: is4, have: slices.Clone(ps), place: map[netip.Prefix]int{}}
	for i, p := range ps {
		m.place[p.Net] = i
	}
	build, size := NewWriter4, Size4
	if !is4 {
		build, size = NewWriter6, Size6
	}
	m.mem = memory(size(max(len(ps), most)) + spare*lineSize)
	for i := range m.mem {
		m.mem[i] = 0xa5 // it need not be clear
	}
	var err error
	if m.w, err = build(m.mem, ps, most); err != nil {
		t.Fatal(err)
	}
	m.w.Shrink(spare)
	m.reopen()
	return m
}

// reopen checks the table and opens it.
func (m *model) reopen() {
	m.t.Helper()
	var err error
	if m.is4 {
		m.t4, err = Open4(m.mem)
	} else {
		m.t6, err = Open6(m.mem)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) lookup(addrs []netip.Addr) []uint32 {
	out := make([]uint32, len(addrs))
	if m.is4 {
		in := make([]uint32, len(addrs))
		for i, a := range addrs {
			in[i] = as4(a)
		}
		m.t4.Lookup(out, in)
		return out
	}
	in := make([][16]byte, len(addrs))
	for i, a := range addrs {
		in[i] = a.As16()
	}
	m.t6.Lookup(out, in)
	return out
}

// set and remove change the writer's table and what is expected of it.
func (m *model) set(p Prefix) error {
	err := m.w.Set(p.Net, p.Value)
	i, had := m.place[p.Net]
	if had {
		old := m.have[i]
		m.have[i] = p
		m.undone = append(m.undone, func() { m.have[m.place[p.Net]] = old })
		return err
	}
	m.add(p)
	m.undone = append(m.undone, func() { m.drop(p.Net) })
	return err
}

func (m *model) remove(net netip.Prefix) error {
	err := m.w.Delete(net)
	p := m.have[m.place[net]]
	m.drop(net)
	m.undone = append(m.undone, func() { m.add(p) })
	return err
}

func (m *model) add(p Prefix) {
	m.place[p.Net] = len(m.have)
	m.have = append(m.have, p)
}

func (m *model) drop(net netip.Prefix) {
	i, last := m.place[net], len(m.have)-1
	m.have[i] = m.have[last]
	m.place[m.have[i].Net] = i
	m.have = m.have[:last]
	delete(m.place, net)
}

func (m *model) commit() {
	m.w.Commit()
	m.w.Reuse(m.w.Cut())
	m.undone = m.undone[:0]
}

func (m *model) abort() {
	m.w.Abort()
	for _, f := range slices.Backward(m.undone) {
		f()
	}
	m.undone = m.undone[:0]
}

// same compares the table with a linear scan.
func (m *model) same(addrs []netip.Addr, what string) {
	m.t.Helper()
	got := m.lookup(addrs)
	for i, a := range addrs {
		if want := linear(m.have, a); got[i] != want {
			m.t.Fatalf("%s: %v: %d, want %d", what, a, got[i], want)
		}
	}
}

// fresh compares the table with one that is built of the same prefixes, line
// for line: a change leaves no more behind than a new table has.
func (m *model) fresh() {
	m.t.Helper()
	n := &model{t: m.t, is4: m.is4, mem: memory(len(m.mem) + Size6(len(m.have)))}
	var err error
	if n.w, err = newWriter(n.mem, m.have, m.w.family, m.w.t.bits); err != nil {
		m.t.Fatal(err)
	}
	n.w.Shrink(0)
	n.reopen()
	used, _ := m.w.Lines()
	if anew, _ := n.w.Lines(); used != anew {
		m.t.Fatalf("%d lines, anew %d", used, anew)
	}
	addrs := edges(m.have)
	got, want := m.lookup(addrs), n.lookup(addrs)
	if !slices.Equal(got, want) {
		m.t.Fatal("another table than one built anew")
	}
}

// onEveryTier runs a test with the kernel, where the processor has what it
// needs, and without.
func onEveryTier(t *testing.T, f func(*testing.T)) {
	before := vector
	defer func() { vector = before }()
	for _, v := range []bool{false, true} {
		if v && (!hasVector || raceDetector) {
			continue
		}
		vector = v
		t.Run(fmt.Sprint("vector ", v), f)
	}
}

// TestUpdatesAgainstLinearScan changes tables of some hundred prefixes, which
// nest and overlap as much as they can, and compares after each commit and each
// abort what lies around the prefixes that were touched.
func TestUpdatesAgainstLinearScan(t *testing.T) {
	onEveryTier(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(21, 22))
		for done := 0; done < *updates; {
			is4 := r.IntN(2) == 0
			ps := randomSet(r, r.IntN(120), is4)
			m := newModel(t, is4, ps, []int{0, 100, 3000}[r.IntN(21)/10], 8000)
			pool := append(randomSet(r, 150, is4), ps...)
			for range 1000 {
				var touched []Prefix
				for range 1 + r.IntN(4) {
					p := pool[r.IntN(len(pool))]
					touched = append(touched, p)
					var err error
					if _, had := m.place[p.Net]; had && r.IntN(4) != 0 {
						err = m.remove(p.Net)
					} else {
						err = m.set(Prefix{p.Net, r.Uint32N(MaxValue + 1)})
					}
					if err != nil {
						t.Fatal(err)
					}
					done++
				}
				what := "commit"
				if r.IntN(8) == 0 {
					m.abort()
					what = "abort"
				} else {
					m.commit()
				}
				m.same(edges(touched), what)
			}
			m.same(edges(m.have), "end")
			m.reopen()
			m.fresh()
		}
	})
}

// TestUpdatesUntilFull fills the room for changes: what does not fit is refused
// and leaves the table as it was, and once something has gone there is room.
func TestUpdatesUntilFull(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	for _, is4 := range []bool{true, false} {
		m := newModel(t, is4, randomSet(r, 50, is4), 0, 40)
		refused := 0
		for i := range 3000 {
			p := randomSet(r, 1, is4)[0]
			if len(m.have) > 20 && r.IntN(3) == 0 {
				p = m.have[r.IntN(len(m.have))]
				if err := m.remove(p.Net); err != nil && !errors.Is(err, ErrSpace) {
					t.Fatal(err)
				} else if err != nil {
					refused++
					m.abort()
				} else {
					m.commit()
				}
			} else if err := m.set(p); errors.Is(err, ErrSpace) {
				refused++
				m.abort()
			} else if err != nil {
				t.Fatal(err)
			} else {
				m.commit()
			}
			if i%100 == 0 {
				m.same(edges(m.have), "in between")
			}
		}
		if refused == 0 {
			t.Fatal("nothing was refused: there was too much room")
		}
		used, _ := m.w.Lines()
		m.reopen()
		m.fresh()
		for _, p := range slices.Clone(m.have) {
			if err := m.remove(p.Net); err != nil {
				t.Fatal(err)
			}
			m.commit()
		}
		if left, _ := m.w.Lines(); left != 0 || used == 0 {
			t.Fatalf("%d lines of %d are left in a table without prefixes", left, used)
		}
		t.Logf("%d updates refused", refused)
	}
}

func TestWriterRefuses(t *testing.T) {
	m := newModel(t, true, nil, 0, 10)
	for _, c := range []struct {
		err  error
		want error
	}{
		{m.w.Set(pfx("10.0.0.1/8"), 1), ErrPrefix},
		{m.w.Set(pfx("2001:db8::/32"), 1), ErrPrefix},
		{m.w.Set(pfx("10.0.0.0/8"), Miss), ErrPrefix},
		{m.w.Delete(pfx("10.0.0.0/8")), ErrPrefix},
		{m.w.Delete(netip.Prefix{}), ErrPrefix},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%v, want %v", c.err, c.want)
		}
	}
}

func TestWriterCountsPrefixes(t *testing.T) {
	for _, c := range []struct{ n, most, want int }{{0, 0, 16}, {16, 0, 16}, {17, 0, 256}, {300, 0, 1 << (manyBits - 5)}, {3, 50000, 65536}, {1 << 13, 0, 1 << 15}} {
		var ps []Prefix
		for i := range c.n {
			ps = append(ps, Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), uint32(i)})
		}
		m := newModel(t, true, ps, c.most, 0)
		if n, most := m.w.Prefixes(); n != c.n || most != c.want {
			t.Errorf("%d prefixes, at most %d: %d and %d, want %d", c.n, c.most, n, most, c.want)
		}
	}
}

// TestReadersSeeOldOrNew has readers at it while prefixes come, go and change
// their values. Each address has few answers that it may have; which one a
// reader gets can change at any time, but it is never another. Lines are reused
// once every reader has begun a new batch.
func TestReadersSeeOldOrNew(t *testing.T) {
	onEveryTier(t, func(t *testing.T) {
		for _, is4 := range []bool{true, false} {
			readWhileChanging(t, is4)
		}
	})
}

func readWhileChanging(t *testing.T, is4 bool) {
	r := rand.New(rand.NewPCG(25, 26))
	ps := randomSet(r, 200, is4)
	m := newModel(t, is4, ps, 0, 4000)
	addrs := edges(ps)[:256]
	// Prefix i has the values 2i and 2i+1; half of them stay as they are.
	valid := make([]map[uint32]bool, len(addrs))
	for i, a := range addrs {
		valid[i] = map[uint32]bool{}
		in := slices.Collect(func(yield func(int) bool) {
			for k, p := range ps {
				if p.Net.Contains(a) && !yield(k) {
					return
				}
			}
		})
		slices.SortFunc(in, func(a, b int) int { return ps[b].Net.Bits() - ps[a].Net.Bits() })
		fixed := false
		for _, k := range in {
			valid[i][uint32(2*k)] = true
			if fixed = k%2 == 1; fixed {
				break
			}
			valid[i][uint32(2*k+1)] = true
		}
		if !fixed {
			valid[i][Miss] = true
		}
	}
	for k, p := range ps {
		if err := m.set(Prefix{p.Net, uint32(2 * k)}); err != nil {
			t.Fatal(err)
		}
	}
	m.commit()

	const readers = 2
	var turns [readers]atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for n := range readers {
		wg.Go(func() {
			for !stop.Load() {
				for i, v := range m.lookup(addrs) {
					if !valid[i][v] {
						t.Errorf("%v: %d, want one of %v", addrs[i], v, valid[i])
						stop.Store(true)
						break
					}
				}
				turns[n].Add(1)
				runtime.Gosched()
			}
		})
	}
	var waiting []uint32
	var since [readers]uint64
	there := make(map[int]bool)
	for k := range ps {
		there[k] = true
	}
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end) && !stop.Load(); {
		for range 1 + r.IntN(3) {
			if used, all := m.w.Lines(); used > all/2 {
				break // until the readers have moved on
			}
			k := 2 * r.IntN(len(ps)/2)
			var err error
			if there[k] && r.IntN(2) == 0 {
				err = m.w.Delete(ps[k].Net)
				there[k] = false
			} else {
				err = m.w.Set(ps[k].Net, uint32(2*k+r.IntN(2)))
				there[k] = true
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		m.w.Commit()
		passed := true
		for n := range since {
			passed = passed && turns[n].Load() > since[n]+1
		}
		if !passed {
			runtime.Gosched()
		}
		if passed {
			m.w.Reuse(waiting)
			waiting = m.w.Cut()
			for n := range since {
				since[n] = turns[n].Load()
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	m.reopen()
	for n := range turns {
		t.Logf("reader %d: %d batches", n, turns[n].Load())
	}
}

// TestNeverNone has one commit put in a prefix and take out another around the
// same address, of all kinds of length: a reader always finds one of them.
func TestNeverNone(t *testing.T) {
	onEveryTier(t, func(t *testing.T) {
		a := slices.Repeat([]uint32{as4(netip.MustParseAddr("10.1.2.3"))}, 16) // enough for the kernel
		for _, pair := range [][2]string{{"0.0.0.0/2", "10.1.2.0/24"}, {"8.0.0.0/5", "10.0.0.0/12"}, {"10.0.0.0/8", "10.1.2.3/32"}, {"0.0.0.0/2", "0.0.0.0/4"}} {
			m := newModel(t, true, []Prefix{{pfx(pair[0]), 0}}, 0, 400)
			var stop atomic.Bool
			var turns atomic.Uint64
			var wg sync.WaitGroup
			wg.Go(func() {
				for out := make([]uint32, len(a)); !stop.Load(); {
					if m.t4.Lookup(out, a); slices.Max(out) > 1 {
						t.Errorf("%v: %v", pair, out)
						stop.Store(true)
					}
					turns.Add(1)
				}
			})
			for i := 1; i < 300 && !stop.Load(); i++ {
				err := errors.Join(m.w.Delete(pfx(pair[(i+1)%2])), m.w.Set(pfx(pair[i%2]), uint32(i%2)))
				if err != nil {
					t.Fatal(err)
				}
				m.w.Commit()
				for since := turns.Load(); turns.Load() < since+2 && !stop.Load(); { // as between two changes of an engine's
					runtime.Gosched()
				}
				m.w.Reuse(m.w.Cut())
			}
			stop.Store(true)
			wg.Wait()
		}
	})
}

// FuzzWriter takes its input as changes of a small table, of prefixes that have
// much in common, and compares it with a linear scan.
func FuzzWriter(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{1, 200, 31, 7, 1, 200, 32, 8, 1, 201, 32, 9, 1, 202, 32, 10, 1, 203, 32, 11, 1, 204, 32, 12, 0, 200, 31, 0})
	f.Add([]byte{3, 0, 128, 1, 3, 1, 128, 1, 3, 2, 128, 1, 3, 3, 128, 1, 3, 4, 128, 1, 3, 5, 127, 1, 2, 5, 127, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		in = in[:min(len(in), 400)]
		for _, is4 := range []bool{true, false} {
			m := newModel(t, is4, nil, 0, 2000)
			var touched []Prefix
			for i := 0; i+4 <= len(in); i += 4 {
				a := [16]byte{in[i+1] & 3 << 5, in[i+1] & 0x81, in[i+1] >> 3, in[i+1]}
				a[7], a[8], a[15] = in[i+1]&0x11, in[i+1]&0x44, in[i+1]
				addr, width := netip.AddrFrom16(a), 129
				if is4 {
					addr, width = netip.AddrFrom4([4]byte(a[:4])), 33
				}
				p := Prefix{netip.PrefixFrom(addr, int(in[i+2])%width).Masked(), uint32(in[i+3])}
				touched = append(touched, p)
				var err error
				if _, had := m.place[p.Net]; had && in[i]&1 == 0 {
					err = m.remove(p.Net)
				} else {
					err = m.set(p)
				}
				switch {
				case errors.Is(err, ErrSpace) || in[i]&0x30 == 0x30:
					m.abort()
				case err != nil:
					t.Fatal(err)
				case in[i]&2 == 0:
					m.commit()
				}
			}
			m.commit()
			m.same(edges(touched), "end")
			m.reopen()
			m.fresh()
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	r := rand.New(rand.NewPCG(27, 28))
	for _, is4 := range []bool{true, false} {
		ps := randomSet(r, 20000, is4)
		m := newModel(b, is4, ps, 0, 20000)
		b.Run(fmt.Sprint("IPv4 ", is4), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				p := ps[i%len(ps)]
				if err := errors.Join(m.w.Delete(p.Net), m.w.Set(p.Net, p.Value)); err != nil {
					b.Fatal(err)
				}
				m.w.Commit()
				m.w.Reuse(m.w.Cut())
			}
		})
	}
}
