package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"vita/asm/aesgcm"
	"vita/drivers"
	"vita/forwarding"
	"vita/internal/clock"
	"vita/internal/cpu"
	"vita/internal/pktbuf"
)

// readyLine is what a child says when it can be used.
const readyLine = "ready\n"

// histogram counts times by size: exactly below 128 ns, above in steps of less
// than two per cent.
type histogram struct {
	Counts [58 * 64]uint64
	Max    int64
}

func bucket(ns int64) int {
	n := uint64(max(ns, 0))
	shift := max(bits.Len64(n)-7, 0)
	return shift*64 + int(n>>shift)
}

// largest is the largest time of a bucket.
func largest(b int) int64 {
	if b < 128 {
		return int64(b)
	}
	shift := b/64 - 1
	return int64(b-shift*64+1)<<shift - 1
}

func (h *histogram) add(ns int64) {
	h.Counts[bucket(ns)]++
	h.Max = max(h.Max, ns)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
	h.Max = max(h.Max, o.Max)
}

func (h *histogram) count() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// quantile is the time that the share q of all is not above.
func (h *histogram) quantile(q float64) int64 {
	total := h.count()
	above := uint64(float64(total) * (1 - q)) // how many may be above
	for i := len(h.Counts) - 1; i >= 0; i-- {
		if h.Counts[i] > above {
			return min(largest(i), h.Max)
		}
		above -= h.Counts[i]
	}
	return 0
}

// recorder is what a child measures with.
type recorder struct {
	histogram
	on   atomic.Bool
	some atomic.Bool // there is a time in it
	last int64       // of the turn before; 0: there was none
}

// turn notes that a turn begins.
func (r *recorder) turn() {
	if !r.on.Load() {
		r.last = 0
		return
	}
	now := clock.Mono()
	if r.last != 0 {
		r.add(now - r.last)
		if !r.some.Load() {
			r.some.Store(true)
		}
	}
	r.last = now
}

// follow says that this child is ready, and does what its parent says on
// standard input. The returned channel is closed where nothing more comes.
func (r *recorder) follow() (<-chan struct{}, error) {
	if _, err := io.WriteString(os.Stdout, readyLine); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer r.on.Store(false)
		in := bufio.NewReader(os.Stdin)
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
		r.on.Store(true)
		for until := time.Now().Add(30 * time.Second); !r.some.Load(); time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				return // the parent sees the end of this process
			}
		}
		if _, err := io.WriteString(os.Stdout, readyLine); err != nil {
			return
		}
		_, _ = in.ReadString('\n') // the end, however it comes
	}()
	return ended, nil
}

// gapEngineCmd is the engine process, set up as vita-engine is.
type gapEngineCmd struct {
	common
	Socket  string
	Routes  int
	Traffic bool
}

// gapPort is a private port that notes when it is polled.
type gapPort struct {
	*privatePort
	times *recorder
	quiet bool
}

func (p *gapPort) Rx(b []pktbuf.Packet) int {
	p.times.turn()
	if p.quiet {
		return 0
	}
	return p.privatePort.Rx(b)
}

// Run serves until the parent ends or says so.
func (c *gapEngineCmd) Run() error {
	if c.Tier != "" {
		if err := aesgcm.Force(c.Tier); err != nil {
			return err
		}
	}
	if len(c.CPU) > 0 {
		if err := confineThreads(c.CPU); err != nil {
			return err
		}
	}
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(2 << 30)
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	times := new(recorder)
	ls := &loops{traffic: traffic{sizes: []int{60}, routes: min(c.Routes, gapHot)}, byPool: map[*pktbuf.Pool]*loop{}}
	registry := new(drivers.Registry)
	registry.Register("bench", drivers.LinkIfname, func(d drivers.Config) (drivers.Port, error) {
		p, err := ls.open(d)
		if private, ok := p.(*privatePort); ok {
			return &gapPort{privatePort: private, times: times, quiet: !c.Traffic}, nil
		}
		return p, err
	})
	engine, err := forwarding.New(forwarding.Options{
		Socket: c.Socket, Registry: registry, CPUs: c.CPU, Hugepages: true, MaxRoutes: max(2*c.Routes, 256), MaxSAs: 4 * gapHot,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended, err := times.follow()
	if err != nil {
		return err
	}
	go func() {
		<-ended
		cancel()
	}()
	if err := engine.Serve(ctx); err != nil {
		return err
	}
	var packets int64
	for _, l := range ls.byPool {
		packets += l.packets.Load()
	}
	if polls := times.count(); c.Traffic && uint64(packets) < polls {
		return fmt.Errorf("only %d packets in %d polls came through", packets, polls)
	}
	return json.NewEncoder(os.Stdout).Encode(&times.histogram) // all workers have ended
}

// gapFloorCmd is the floor: a loop that does a fixed amount of arithmetic, as
// long as a worker's turn, and reads the clock.
type gapFloorCmd struct {
	common
	Turn int64 // nanoseconds
}

// floorKind says what the floor is. The clock is read without a system call,
// the loop neither allocates nor calls, and its process collects no garbage and
// sends itself no signals: it does what a C loop would do.
const floorKind = "go loop, clock by vdso"

// floorSink keeps the arithmetic from being left out.
var floorSink uint64

func spin(n int64) {
	x := floorSink | 1
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	floorSink = x
}

// Run measures until the parent ends or says so.
func (c *gapFloorCmd) Run() error {
	if len(c.CPU) != 1 || c.Turn < 1 {
		return fmt.Errorf("--cpu %v --turn %d: want one processor, at least 1", c.CPU, c.Turn)
	}
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	if err := cpu.Pin(c.CPU[0]); err != nil {
		return err
	}
	// The fastest of many tries has not been disturbed.
	const try = 1000
	best := int64(1 << 62)
	for range 2000 {
		start := clock.Mono()
		spin(try)
		best = min(best, clock.Mono()-start)
	}
	n := max(c.Turn*try/max(best, 1), 1)
	times := new(recorder)
	ended, err := times.follow()
	if err != nil {
		return err
	}
	for {
		select {
		case <-ended:
			return json.NewEncoder(os.Stdout).Encode(&times.histogram)
		default:
		}
		times.turn()
		spin(n)
	}
}
