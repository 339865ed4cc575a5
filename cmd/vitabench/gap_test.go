package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// asProgram makes the test's own binary act as vitabench, which starts itself.
const asProgram = "VITABENCH_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// vitabench runs the program.
func vitabench(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), asProgram+"=1"), &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func TestGap(t *testing.T) {
	out, errs, err := vitabench(t, "gap", "--routes", "200", "--commits", "6", "--rounds", "2", "--json")
	if err != nil {
		t.Fatal(err, errs)
	}
	var r gapReport
	d := json.NewDecoder(strings.NewReader(out))
	if err := d.Decode(&r); err != nil || d.More() {
		t.Fatalf("not one object (%v): %s", err, out)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(out), &fields); err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{
		{"p50_us", "p99_us", "p9999_us", "p999999_us", "max_us"},
		{"floor_p50_us", "floor_p99_us", "floor_p9999_us", "floor_p999999_us", "floor_max_us"},
	} {
		last := 0.0
		for _, name := range names {
			v, ok := fields[name].(float64)
			if !ok || v <= 0 || v < last {
				t.Errorf("%s: %v after %v", name, fields[name], last)
			}
			last = v
		}
	}
	if r.Commits != 6 || r.FloorCommits != 6 || r.Routes != 200 || r.Polls == 0 || r.FloorPolls == 0 || r.CommitMS <= 0 {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(r.ControlCPUs, []int{r.CPU}) && slices.Contains(r.ControlCPUs, r.CPU) {
		t.Errorf("the control process has processor %d too: %v", r.CPU, r.ControlCPUs)
	}
	// A turn of the loop is made as long as one of the worker. Where the
	// machine is busy both are rough.
	if r.FloorP50 > 20*r.P50 || r.P50 > 20*r.FloorP50 {
		t.Errorf("turns of %v and %v µs are not alike", r.P50, r.FloorP50)
	}
}

// Commits in place are much faster than those that build the tables.
func TestGapInPlace(t *testing.T) {
	ms := func(more ...string) float64 {
		out, errs, err := vitabench(t, append([]string{"gap", "--routes", "20000", "--commits", "4", "--rounds", "1", "--json"}, more...)...)
		var r gapReport
		if err := errors.Join(err, json.Unmarshal([]byte(out), &r)); err != nil {
			t.Fatal(err, errs)
		}
		return r.CommitMS
	}
	if inPlace, anew := ms("--in-place"), ms(); inPlace <= 0 || inPlace > anew/2 {
		t.Errorf("%.3f ms in place, %.3f ms anew", inPlace, anew)
	}
}

// The time is kept whatever the number of commits.
func TestGapEndsInTime(t *testing.T) {
	out, errs, err := vitabench(t, "gap", "--routes", "10", "--commits", "1000000", "--rounds", "1", "--seconds", "0.5", "--json")
	var r gapReport
	if err != nil || json.Unmarshal([]byte(out), &r) != nil {
		t.Fatal(err, errs, out)
	}
	if r.Commits == 0 || r.Commits >= 1000000 || r.FloorCommits == 0 {
		t.Errorf("%d and %d commits", r.Commits, r.FloorCommits)
	}
}

func TestOptionsAreRefusedByName(t *testing.T) {
	for _, args := range [][]string{
		{"gap", "--routes", "0"},
		{"gap", "--routes", "many"},
		{"gap", "--commits", "-1"},
		{"gap", "--rounds", "0"},
		{"gap", "--seconds", "NaN"},
		{"gap", "--cpu", "4000"},
		{"gap", "--cpu", "0,0"},
		{"gap", "--tier", "sse"},
		{"gap", "--loops", "1"},
		{"softbench", "--direction", "sideways"},
		{"aead", "--key", "129"},
		{"lpm", "--prefixes", "x"},
		{"lpm", "--prefixes", "0"},
		{"aead", "--batch", "0"},
		{"aead", "--sizes", "64,-1"},
		{"softbench", "--workers", "0"},
		{"softbench", "--seconds", "-1"},
		{"softbench", "--size", "9"},
	} {
		out, errs, err := vitabench(t, args...)
		if err == nil || !strings.Contains(errs, args[1]) || strings.HasPrefix(out, "{") {
			t.Errorf("%v: %v, stdout %q, stderr %q", args, err, out, errs)
		}
	}
}

func TestHistogram(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var all, other histogram
	var times []int64
	for i := range 100000 {
		ns := int64(r.Uint64() >> (r.IntN(63) + 1))
		if top := largest(bucket(ns)); top < ns || float64(top) > float64(ns)*1.02 {
			t.Fatalf("%d is counted as at most %d", ns, top)
		}
		times = append(times, ns)
		if i%2 == 0 {
			all.add(ns)
		} else {
			other.add(ns)
		}
	}
	all.merge(&other)
	slices.Sort(times)
	for _, q := range []float64{0, 0.5, 0.99, 0.9999, 0.999999, 1} {
		want := times[min(int(q*float64(len(times))), len(times)-1)]
		if got := all.quantile(q); float64(got) < float64(want)*0.98 || float64(got) > float64(want)*1.02 {
			t.Errorf("quantile %v: %d, want %d", q, got, want)
		}
	}
	if all.Max != times[len(times)-1] || all.quantile(1) != all.Max || all.count() != 100000 {
		t.Errorf("max %d of %d", all.Max, all.count())
	}
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing: %d", got)
	}
	all.add(-5) // a clock that goes back must not break it
	if all.Counts[0] == 0 {
		t.Error("a negative time is lost")
	}
}
