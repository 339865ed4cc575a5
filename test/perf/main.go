// Command perf runs every measurement of vitabench, and ipsec-mb beside ours,
// and writes down what they said: all of it as JSON, the essence as tables and,
// if asked, a chart. bench.sh builds what it needs.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"vita/internal/cpu"
)

type options struct {
	bench, ipsecMB, out, doc string
	cpu                      int
	most                     time.Duration
	quick                    bool
}

// run is one run of everything, as it is written down.
type run struct {
	Started string    `json:"started"`
	Machine string    `json:"machine"`
	Go      string    `json:"go"`
	Load    [2]string `json:"load"` // before and after
	CPU     int       `json:"cpu"`
	Steps   []*step   `json:"steps"`
	Peers   []peer    `json:"ipsec_mb,omitempty"`
	Missing []string  `json:"missing,omitempty"` // what was not measured, and why
}

// step is one measurement, taken several times.
type step struct {
	Group   string           `json:"group"`
	Name    string           `json:"name"`
	Args    []string         `json:"args"`
	Results []map[string]any `json:"results"`
}

func main() {
	var o options
	flag.StringVar(&o.bench, "vitabench", "build/vitabench", "the program")
	flag.StringVar(&o.ipsecMB, "ipsecmb", "", "the harness of ipsec-mb; none: it is left out")
	flag.StringVar(&o.out, "out", "build/bench", "folder for what is written")
	flag.StringVar(&o.doc, "doc", "", "document whose measured part is written anew, and beside it a chart; none: neither")
	flag.IntVar(&o.cpu, "cpu", -1, "processor to measure on; default: the last one allowed")
	flag.DurationVar(&o.most, "most", 14*time.Minute, "what has not begun by then is left out")
	flag.BoolVar(&o.quick, "quick", false, "everything once and briefly: a trial, not a measurement")
	flag.Parse()
	if err := o.run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "perf:", err)
		os.Exit(1)
	}
}

func (o *options) run(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	allowed, err := cpu.Allowed()
	if err != nil {
		return err
	}
	if o.cpu < 0 {
		o.cpu = allowed[len(allowed)-1]
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	start := time.Now()
	r := &run{
		Started: start.UTC().Format(time.RFC3339), Machine: machine(), Go: runtime.Version(), CPU: o.cpu,
		Load: [2]string{load()},
	}
	ctx, cancel := context.WithDeadline(context.Background(), start.Add(o.most))
	defer cancel()
	var tiers []string
	for _, tier := range []string{"avx512", "avx2"} {
		if _, err := o.measure(ctx, []string{"aead", "--tier", tier, "--sizes", "64", "--rounds", "1"}); err != nil {
			r.Missing = append(r.Missing, "tier "+tier+": "+err.Error())
			continue
		}
		tiers = append(tiers, tier)
	}
	failed := 0
	for _, g := range plan(o.cpu, allowed, tiers, o.quick) {
		for round := range g.rounds {
			for _, s := range g.steps {
				fmt.Fprintf(os.Stderr, "perf: %4.0f s: %s %s, %d of %d\n", time.Since(start).Seconds(), s.Group, s.Name, round+1, g.rounds)
				result, err := o.measure(ctx, s.Args)
				if err != nil {
					r.Missing = append(r.Missing, fmt.Sprintf("%s %s: %v", s.Group, s.Name, err))
					failed++
					continue
				}
				s.Results = append(s.Results, result)
			}
		}
		r.Steps = append(r.Steps, g.steps...)
	}
	if o.ipsecMB == "" {
		r.Missing = append(r.Missing, "ipsec-mb: not installed")
	} else if r.Peers, err = o.beside(ctx); err != nil {
		r.Missing = append(r.Missing, "ipsec-mb: "+err.Error())
		failed++
	}
	r.Load[1] = load()
	if err := r.write(o, start); err != nil {
		return err
	}
	if failed > 0 { // without a tier or ipsec-mb the run is whole all the same
		return fmt.Errorf("not measured: %s", strings.Join(r.Missing, "; "))
	}
	if o.doc == "" {
		return nil
	}
	svg := strings.TrimSuffix(o.doc, ".md") + ".svg"
	return errors.Join(
		os.WriteFile(svg, []byte(r.chart()), 0o644),
		insert(o.doc, r.tables()+"\n![ns a packet]("+filepath.Base(svg)+")\n"),
	)
}

// write writes the run's JSON and the tables.
func (r *run) write(o *options, start time.Time) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	name := filepath.Join(o.out, start.UTC().Format("20060102T150405")+".json")
	tables := r.tables()
	errs := []error{
		os.WriteFile(name, append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(o.out, "tables.md"), []byte(tables), 0o644),
	}
	fmt.Print(tables)
	fmt.Fprintln(os.Stderr, "perf: written:", name)
	return errors.Join(errs...)
}

// measure runs vitabench once.
func (o *options) measure(ctx context.Context, args []string) (map[string]any, error) {
	out, err := output(ctx, o.bench, append(args, "--json"))
	if err != nil {
		return nil, err
	}
	result := make(map[string]any)
	return result, json.Unmarshal(out, &result)
}

// output runs a program that has three minutes.
func output(ctx context.Context, program string, args []string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, errors.New("no time left")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = errors.New("took too long")
		}
		return nil, fmt.Errorf("%w: %.300s", err, strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), nil
}

// group holds measurements that are compared: they take turns.
type group struct {
	rounds int
	steps  []*step
}

// plan lists all that is measured.
func plan(on int, allowed []int, tiers []string, quick bool) []group {
	rounds, seconds, routes, prefixes := 3, "1", []int{1, 1000, 100000}, []string{"1000000", "200000"}
	commitRoutes, gap, aeadRounds := []int{10, 1000, 10000, 100000}, []string{"gap"}, "200"
	if quick {
		rounds, seconds, routes, prefixes = 1, "0.2", []int{1, 100}, []string{"1000", "1000"}
		commitRoutes, gap, aeadRounds = []int{10}, []string{"gap", "--routes", "100", "--commits", "4", "--seconds", "5"}, "3"
	}
	bound := []string{"--cpu", strconv.Itoa(on)}
	add := func(g *group, name string, args ...string) {
		g.steps = append(g.steps, &step{Group: args[0], Name: name, Args: args})
	}
	soft := group{rounds: rounds}
	plane := func(name string, args ...string) {
		add(&soft, name, append(append([]string{"softbench", "--seconds", seconds}, args...), bound...)...)
	}
	for _, family := range []string{"4", "6"} {
		for _, size := range []string{"60", "576", "1454", "imix"} {
			plane("duplex v"+family+" "+size, "--family", family, "--size", size)
		}
	}
	for _, direction := range []string{"outbound", "inbound"} {
		for _, size := range []string{"60", "imix"} {
			plane(direction+" v4 "+size, "--direction", direction, "--size", size)
		}
	}
	for _, n := range routes {
		if n > 1 { // one route is the first of all
			plane(fmt.Sprintf("duplex v4 60, %d routes", n), "--routes", strconv.Itoa(n))
		}
	}
	if len(allowed) > 1 {
		other := allowed[0]
		if other == on {
			other = allowed[1]
		}
		add(&soft, "duplex v4 60, 2 workers", "softbench", "--seconds", seconds, "--workers", "2", "--cpu", fmt.Sprintf("%d,%d", on, other))
	}
	plane("duplex v4 60, tier generic", "--tier", "generic")

	aead, lpm, gaps, commit := group{rounds: 1}, group{rounds: 1}, group{rounds: 1}, group{rounds: 1}
	for _, tier := range tiers {
		for _, op := range []string{"seal", "open"} {
			for _, key := range []string{"128", "256"} {
				add(&aead, fmt.Sprintf("%s %s, %s", op, key, tier),
					append([]string{"aead", "--op", op, "--key", key, "--tier", tier, "--rounds", aeadRounds}, bound...)...)
			}
		}
	}
	for _, pattern := range []string{"random", "uniform", "sequential", "hot"} {
		add(&lpm, prefixes[0]+" IPv4, "+pattern, append([]string{"lpm", "--prefixes", prefixes[0], "--pattern", pattern}, bound...)...)
	}
	for _, pattern := range []string{"random", "hot"} {
		add(&lpm, prefixes[1]+" IPv6, "+pattern, append([]string{"lpm", "--family", "6", "--prefixes", prefixes[1], "--pattern", pattern}, bound...)...)
	}
	add(&gaps, "worker and floor", append(gap, bound...)...)
	for _, n := range commitRoutes {
		add(&commit, fmt.Sprintf("%d routes", n), "commit", "--routes", strconv.Itoa(n))
	}
	return []group{soft, aead, lpm, gaps, commit}
}

// machine names the processor.
func machine() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return fmt.Sprintf("%s, %d processors", strings.TrimSpace(value), runtime.NumCPU())
		}
	}
	return runtime.GOARCH
}

// load is what else the machine had to do.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
