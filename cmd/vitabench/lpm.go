package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"
	"golang.org/x/sys/unix"

	"vita/asm/lpm"
)

type lpmCmd struct {
	common
	Family   int    `enum:"4,6" default:"4" help:"4 or 6."`
	Prefixes int    `default:"1000000" help:"How many prefixes."`
	Pattern  string `enum:"random,uniform,sequential,hot" default:"random" help:"Addresses looked up: in random prefixes, anywhere, in order, or 1024 again and again."`
	Batch    int    `default:"64" help:"Addresses in a call."`
}

type lpmReport struct {
	NS      float64 `json:"ns_per_lookup"`
	MinNS   float64 `json:"min_ns_per_lookup"`
	BartNS  float64 `json:"bart_ns_per_lookup"`
	BuildMS float64 `json:"build_ms"`

	UpdateUS     float64 `json:"update_us"`      // insertion or removal of a prefix, mean
	UpdateP999US float64 `json:"update_p999_us"` // of one in a thousand
	UpdateMaxUS  float64 `json:"update_max_us"`

	Bytes int `json:"bytes"`
}

// Run builds a table of random prefixes, half of them /24 (IPv6: /48) as in the
// Internet's, and looks addresses up in it and in bart's, in turn.
func (c *lpmCmd) Run() error {
	if err := c.setUp(); err != nil {
		return err
	}
	if err := errors.Join(within("prefixes", c.Prefixes, 1, 4<<20), within("batch", c.Batch, 1, 1<<20)); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	random := func() netip.Addr {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], r.Uint64())
		binary.BigEndian.PutUint64(b[8:], r.Uint64())
		if c.Family == 4 {
			return netip.AddrFrom4([4]byte(b[:4]))
		}
		b[0] = 0x20 | b[0]&0x1f
		return netip.AddrFrom16(b)
	}
	seen := make(map[netip.Prefix]bool, c.Prefixes)
	prefixes := make([]lpm.Prefix, 0, c.Prefixes)
	peer := new(bart.Table[uint32])
	for len(prefixes) < c.Prefixes {
		bits := 24
		if c.Family == 6 {
			bits = 48
		}
		if r.IntN(2) == 0 {
			bits -= r.IntN(9)
		}
		p, err := random().Prefix(bits)
		if err != nil {
			return err
		}
		if !seen[p] {
			seen[p] = true
			peer.Insert(p, uint32(len(prefixes)))
			prefixes = append(prefixes, lpm.Prefix{Net: p, Value: uint32(len(prefixes))})
		}
	}
	const lookups = 1 << 20
	addrs := make([]netip.Addr, lookups)
	for i := range addrs {
		addrs[i] = c.address(i, addrs, prefixes, random, r)
	}
	return c.compare(addrs, prefixes, peer)
}

// address chooses the i-th address.
func (c *lpmCmd) address(i int, addrs []netip.Addr, prefixes []lpm.Prefix, random func() netip.Addr, r *rand.Rand) netip.Addr {
	switch {
	case c.Pattern == "uniform":
		return random()
	case c.Pattern == "sequential" && i > 0:
		return addrs[i-1].Next()
	case c.Pattern == "hot" && i >= 1024:
		return addrs[i-1024]
	}
	p := prefixes[r.IntN(len(prefixes))].Net
	b, in := p.Addr().As16(), random().As16()
	from := 96
	if c.Family == 6 {
		from = 0
	}
	for bit := from + p.Bits(); bit < 128; bit++ {
		b[bit/8] |= in[bit/8] & (0x80 >> (bit % 8))
	}
	a := netip.AddrFrom16(b)
	if c.Family == 4 {
		a = a.Unmap()
	}
	return a
}

func (c *lpmCmd) compare(addrs []netip.Addr, prefixes []lpm.Prefix, peer *bart.Table[uint32]) error {
	var report lpmReport
	a4, a6, values := make([]uint32, len(addrs)), make([][16]byte, len(addrs)), make([]uint32, len(addrs))
	for i, a := range addrs {
		a6[i] = a.As16()
		a4[i] = binary.BigEndian.Uint32(a6[i][12:])
	}
	size, build := lpm.Size4(len(prefixes)), lpm.NewWriter4
	if c.Family == 6 {
		size, build = lpm.Size6(len(prefixes)), lpm.NewWriter6
	}
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS) // begins a page, as the engine's
	if err != nil {
		return err
	}
	start := time.Now()
	w, err := build(mem, prefixes, 0)
	if err != nil {
		return err
	}
	report.BuildMS = float64(time.Since(start).Microseconds()) / 1e3
	used, _ := w.Lines()
	report.Bytes = w.Shrink(used/8 + 4096)
	var t4 lpm.Table4
	var t6 lpm.Table6
	if c.Family == 6 {
		t6, err = lpm.Open6(mem)
	} else {
		t4, err = lpm.Open4(mem)
	}
	if err != nil {
		return err
	}
	if err := report.update(w, prefixes); err != nil {
		return err
	}
	look := func(dst []uint32, i, end int) {
		if c.Family == 6 {
			t6.Lookup(dst, a6[i:end])
		} else {
			t4.Lookup(dst, a4[i:end])
		}
	}
	look(values, 0, len(addrs))
	batch := make([]uint32, c.Batch) // as a worker has
	var ours, theirs []float64
	for range 7 {
		start := time.Now()
		for i := 0; i < len(addrs); i += c.Batch {
			look(batch, i, min(i+c.Batch, len(addrs)))
		}
		ours = append(ours, float64(time.Since(start).Nanoseconds())/float64(len(addrs)))
		start = time.Now()
		for i, a := range addrs {
			v, ok := peer.Lookup(a)
			if !ok {
				v = lpm.Miss
			}
			if v != values[i] {
				return fmt.Errorf("%v: bart finds %d, we %d", a, v, values[i])
			}
		}
		theirs = append(theirs, float64(time.Since(start).Nanoseconds())/float64(len(addrs)))
	}
	report.NS, report.MinNS, report.BartNS = median(ours), ours[0], median(theirs)
	return c.print(report,
		fmt.Sprintf("%.1f ns a lookup (best %.1f), bart %.1f; built in %.0f ms, %d bytes", report.NS, report.MinNS, report.BartNS, report.BuildMS, report.Bytes),
		fmt.Sprintf("%.1f µs an update in place (one in a thousand %.0f, longest %.0f)", report.UpdateUS, report.UpdateP999US, report.UpdateMaxUS))
}

// update takes random prefixes out and puts them in again, one change at a time,
// so that the table is in the end as it was.
func (r *lpmReport) update(w *lpm.Writer, prefixes []lpm.Prefix) error {
	const pairs = 20000
	random := rand.New(rand.NewPCG(3, 4))
	times := make([]float64, 0, 2*pairs)
	timed := func(change func() error) error {
		start := time.Now()
		err := change()
		w.Commit()
		times = append(times, float64(time.Since(start).Nanoseconds())/1e3)
		w.Reuse(w.Cut())
		return err
	}
	for range pairs {
		p := prefixes[random.IntN(len(prefixes))]
		if err := timed(func() error { return w.Delete(p.Net) }); err != nil {
			return err
		}
		if err := timed(func() error { return w.Set(p.Net, p.Value) }); err != nil {
			return err
		}
	}
	slices.Sort(times)
	for _, t := range times {
		r.UpdateUS += t / float64(len(times))
	}
	r.UpdateP999US, r.UpdateMaxUS = times[len(times)*999/1000], times[len(times)-1]
	return nil
}
