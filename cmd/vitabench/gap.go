package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"vita/asm/aesgcm"
	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/internal/cpu"
)

// How long does a worker go without polling its ports while this process, as
// the control process, commits and collects garbage? And how long is a loop on
// the same processor kept from running that does nothing but arithmetic? Worker
// and loop are processes of their own (gapchild.go) and run in turn, since they
// need the same processor.

// gapHot is how many of the routes have traffic. The others are there to be
// committed: with traffic to all of them a batch would be long by itself.
const gapHot = 64

type gapCmd struct {
	common
	Routes  int     `default:"100000" help:"Routes of each commit."`
	Commits int     `default:"400" help:"Commits during each of the two measurements."`
	Rounds  int     `default:"4" help:"Parts into which both are divided, which take turns."`
	Seconds float64 `default:"120" help:"The most that it may take: then there are fewer commits."`
	InPlace bool    `help:"Commits of one route, which change the tables in place."`
}

type gapReport struct {
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	P9999     float64 `json:"p9999_us"`
	P999999   float64 `json:"p999999_us"`
	Max       float64 `json:"max_us"`
	FloorP50  float64 `json:"floor_p50_us"`
	FloorP99  float64 `json:"floor_p99_us"`
	Floor9999 float64 `json:"floor_p9999_us"`
	Floor6    float64 `json:"floor_p999999_us"`
	FloorMax  float64 `json:"floor_max_us"`

	Routes       int     `json:"routes"`
	Commits      int     `json:"commits"`       // beside the worker
	FloorCommits int     `json:"floor_commits"` // beside the loop
	CommitMS     float64 `json:"commit_ms"`     // median, beside the worker
	Polls        uint64  `json:"polls"`
	FloorPolls   uint64  `json:"floor_polls"`
	Floor        string  `json:"floor"`
	CPU          int     `json:"cpu"`
	ControlCPUs  []int   `json:"control_cpus"`
}

// Run measures in rounds and prints what all of them have seen.
func (c *gapCmd) Run() error {
	if err := errors.Join(within("routes", c.Routes, 1, 1<<20), within("commits", c.Commits, 1, 1<<20),
		within("rounds", c.Rounds, 1, 1000), seconds(c.Seconds)); err != nil {
		return err
	}
	if c.Tier != "" { // refused here, and not by a child
		if err := aesgcm.Force(c.Tier); err != nil {
			return fmt.Errorf("--tier %q: %w", c.Tier, err)
		}
	}
	allowed, err := cpu.Allowed()
	if err != nil {
		return err
	}
	r := gapReport{Routes: c.Routes, Floor: floorKind, CPU: allowed[len(allowed)-1]}
	if len(c.CPU) > 1 {
		return fmt.Errorf("--cpu %v: want one processor", c.CPU)
	} else if len(c.CPU) == 1 {
		r.CPU = c.CPU[0]
	}
	if !slices.Contains(allowed, r.CPU) {
		return fmt.Errorf("--cpu %d: this process may run on %v", r.CPU, allowed)
	}
	// The control process has the other processors, where there are any.
	r.ControlCPUs = slices.DeleteFunc(slices.Clone(allowed), func(n int) bool { return n == r.CPU })
	if len(r.ControlCPUs) == 0 {
		r.ControlCPUs = allowed
	}
	if err := confineThreads(r.ControlCPUs); err != nil {
		return err
	}
	runtime.GOMAXPROCS(len(r.ControlCPUs))
	err = c.rounds(&r, allowed)
	runtime.GOMAXPROCS(len(allowed))
	if err = errors.Join(err, confineThreads(allowed)); err != nil {
		return err
	}
	return c.print(r,
		fmt.Sprintf("%d routes, %d commits of %.0f ms beside the worker, %d beside the floor (%s)", r.Routes, r.Commits, r.CommitMS, r.FloorCommits, r.Floor),
		"µs without a poll    p50      p99    p99.99  p99.9999       max",
		fmt.Sprintf("worker      %12.1f %8.1f %9.1f %9.1f %9.1f  of %d", r.P50, r.P99, r.P9999, r.P999999, r.Max, r.Polls),
		fmt.Sprintf("floor       %12.1f %8.1f %9.1f %9.1f %9.1f  of %d", r.FloorP50, r.FloorP99, r.Floor9999, r.Floor6, r.FloorMax, r.FloorPolls))
}

func (c *gapCmd) rounds(r *gapReport, allowed []int) error {
	rounds := min(c.Rounds, c.Commits)
	part := time.Duration(c.Seconds * 1e9 / float64(2*rounds))
	begin := time.Now()
	var worker, floor histogram
	var commitMS []float64
	for i := range rounds {
		if time.Since(begin) > 2*time.Second {
			fmt.Fprintf(os.Stderr, "vitabench: gap: round %d of %d, %d commits, %.0f s\n", i+1, rounds, r.Commits+r.FloorCommits, time.Since(begin).Seconds())
		}
		commits := c.Commits*(i+1)/rounds - c.Commits*i/rounds
		// The worker has its processor first, the engine's other threads have all.
		engine := append([]int{r.CPU}, slices.DeleteFunc(slices.Clone(allowed), func(n int) bool { return n == r.CPU })...)
		h, ms, err := c.pass(commits, part, engine, true, nil)
		if err != nil {
			return fmt.Errorf("beside the worker: %w", err)
		}
		worker.merge(h)
		commitMS = append(commitMS, ms...)

		// An engine without traffic, its worker elsewhere, takes the commits,
		// and the loop takes as long a turn as the worker did.
		turn := []string{"gap-floor", "--cpu", strconv.Itoa(r.CPU), "--turn", strconv.FormatInt(worker.quantile(0.5), 10)}
		h, ms, err = c.pass(commits, part, r.ControlCPUs, false, turn)
		if err != nil {
			return fmt.Errorf("beside the floor: %w", err)
		}
		floor.merge(h)
		r.Commits, r.FloorCommits = len(commitMS), r.FloorCommits+len(ms)
	}
	r.CommitMS = median(commitMS)
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	r.P50, r.P99, r.P9999 = us(worker.quantile(0.5)), us(worker.quantile(0.99)), us(worker.quantile(0.9999))
	r.P999999, r.Max, r.Polls = us(worker.quantile(0.999999)), us(worker.Max), worker.count()
	r.FloorP50, r.FloorP99, r.Floor9999 = us(floor.quantile(0.5)), us(floor.quantile(0.99)), us(floor.quantile(0.9999))
	r.Floor6, r.FloorMax, r.FloorPolls = us(floor.quantile(0.999999)), us(floor.Max), floor.count()
	return nil
}

// pass starts an engine, commits to it, and returns what its worker has seen,
// or, where floor is given, what the process with those arguments has.
func (c *gapCmd) pass(commits int, most time.Duration, cpus []int, traffic bool, floor []string) (h *histogram, ms []float64, err error) {
	dir, err := os.MkdirTemp("", "vitabench")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(context.Background(), most+time.Minute)
	defer cancel()
	socket := filepath.Join(dir, "engine")
	args := []string{"gap-engine", "--socket", socket, "--routes", strconv.Itoa(c.Routes)}
	for _, n := range cpus {
		args = append(args, "--cpu", strconv.Itoa(n))
	}
	if c.Tier != "" {
		args = append(args, "--tier", c.Tier)
	}
	if traffic {
		args = append(args, "--traffic")
	}
	engine, err := startChild(ctx, args)
	if err != nil {
		return nil, nil, err
	}
	measured := engine
	if floor != nil {
		if measured, err = startChild(ctx, floor); err != nil {
			return nil, nil, errors.Join(err, engine.discard())
		}
	}
	ms, err = c.commits(ctx, socket, commits, time.Now().Add(most), measured)
	h, endErr := measured.end()
	if measured != engine {
		endErr = errors.Join(endErr, engine.discard())
	}
	if err = errors.Join(err, endErr); err != nil {
		return nil, nil, err
	}
	if h.count() == 0 {
		return nil, nil, errors.New("nothing was measured")
	}
	return h, ms, nil
}

// commits gives the engine its first configuration, lets the measurement begin
// and commits, with a collection after each one. Each commit is built from
// nothing and has one route less and one more than the one before.
func (c *gapCmd) commits(ctx context.Context, socket string, n int, until time.Time, measured *child) (ms []float64, err error) {
	cl, err := client.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cl.Close()) }()
	config := softCmd{Family: 4, Routes: c.Routes, Workers: 1, Key: 128}
	if err := config.configure(ctx, cl, min(c.Routes, gapHot)); err != nil {
		return nil, err
	}
	time.Sleep(100 * time.Millisecond)
	if err := measured.begin(); err != nil {
		return nil, err
	}
	for i := range n {
		if i > 0 && time.Now().After(until) {
			break
		}
		start := time.Now()
		if c.InPlace {
			if err := config.changeOne(ctx, cl, i); err != nil {
				return ms, err
			}
		} else {
			spec := config.spec()
			if last := len(spec.Routes) - 1; last >= gapHot {
				spec.Routes[last].ID = "c" + strconv.Itoa(i)
			}
			if err := commit(ctx, cl, spec); err != nil {
				return ms, err
			}
		}
		ms = append(ms, float64(time.Since(start))/1e6)
		runtime.GC()
	}
	return ms, nil
}

// changeOne makes the i-th of commits that add a route and take it away again.
func (c *softCmd) changeOne(ctx context.Context, cl *client.Client, i int) error {
	change := &tables.Change{Remove: []string{"c" + strconv.Itoa(i-1)}}
	if i%2 == 0 {
		r := c.route(c.Routes)
		r.ID = "c" + strconv.Itoa(i)
		change = &tables.Change{Set: []tables.Route{r}}
	}
	p, err := cl.PrepareChange(ctx, change)
	if err != nil {
		return err
	}
	p.Publish()
	return p.Retire(ctx)
}

func commit(ctx context.Context, cl *client.Client, spec *tables.Spec) error {
	p, err := cl.Prepare(ctx, spec)
	if err != nil {
		return err
	}
	p.Publish()
	return p.Retire(ctx)
}

// confineThreads binds all threads of this process. Those that start meanwhile
// have their binding from another one, so it looks until there is no new one.
func confineThreads(cpus []int) error {
	var set unix.CPUSet
	for _, n := range cpus {
		set.Set(n)
	}
	done := make(map[string]bool)
	for {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		fresh := false
		for _, e := range entries {
			if done[e.Name()] {
				continue
			}
			tid, err := strconv.Atoi(e.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("bind threads to %v: %w", cpus, err)
			}
			fresh, done[e.Name()] = true, true
		}
		if !fresh {
			return nil
		}
	}
}

// child is a process of this program that measures. It begins when it is given
// a line, ends when there is nothing more to read, and then says what it saw;
// so it also ends when this process dies.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser
}

func startChild(ctx context.Context, args []string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, args...)}
	c.cmd.Stderr = os.Stderr
	c.cmd.Env = os.Environ()
	if args[0] == "gap-floor" { // a signal for a goroutine that never waits would be noise of our own
		c.cmd.Env = append(c.cmd.Env, "GODEBUG=asyncpreemptoff=1")
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := c.ready(); err != nil {
		return nil, errors.Join(err, c.discard())
	}
	return c, nil
}

// ready waits until the child says that it has done what it shall.
func (c *child) ready() error {
	line := make([]byte, len(readyLine))
	if _, err := io.ReadFull(c.out, line); err != nil || string(line) != readyLine {
		return errors.Join(fmt.Errorf("%s did not start: %q", c.cmd.Args[1], line), err)
	}
	return nil
}

// begin lets the child measure, and waits until it does.
func (c *child) begin() error {
	if _, err := io.WriteString(c.in, "begin\n"); err != nil {
		return err
	}
	return c.ready()
}

// end ends the child and returns what it has measured.
func (c *child) end() (*histogram, error) {
	h := new(histogram)
	err := c.in.Close()
	if err == nil {
		err = json.NewDecoder(c.out).Decode(h)
	}
	return h, errors.Join(err, c.cmd.Wait())
}

func (c *child) discard() error {
	_, err := c.end()
	return err
}
