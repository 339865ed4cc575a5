// Package cpu binds threads to processors.
//
// It must not know what runs on them.
package cpu

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Pin binds the calling thread to one processor. The caller has locked its
// goroutine to the thread, and lets that thread die with it.
func Pin(n int) error {
	var set unix.CPUSet
	set.Set(n)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind thread to cpu %d: %w", n, err)
	}
	return nil
}

// Confine binds the calling thread, and every thread it starts from now on, to
// the given processors. A program calls it before it has started others.
func Confine(cpus []int) error {
	var set unix.CPUSet
	for _, n := range cpus {
		set.Set(n)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind process to cpus %v: %w", cpus, err)
	}
	return nil
}

// Allowed returns the processors that the calling thread may run on.
func Allowed() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read cpu affinity: %w", err)
	}
	var out []int
	for n := range len(set) * 64 {
		if set.IsSet(n) {
			out = append(out, n)
		}
	}
	return out, nil
}

// Node returns the NUMA node of a processor; false where the kernel does not say.
func Node(n int) (int, bool) {
	dirs, err := filepath.Glob(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/node[0-9]*", n))
	if err != nil || len(dirs) != 1 {
		return 0, false
	}
	node, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dirs[0]), "node"))
	return node, err == nil && node >= 0
}

// ParseList reads a list as the kernel writes it: "0", "2-3", "0,2-3,7".
func ParseList(s string) ([]int, error) {
	const most = 1024
	var out []int
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, ranged := strings.Cut(strings.TrimSpace(part), "-")
		first, err := strconv.ParseUint(lo, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("cpu list %q: %q is no number", s, lo)
		}
		last := first
		if ranged {
			if last, err = strconv.ParseUint(hi, 10, 16); err != nil {
				return nil, fmt.Errorf("cpu list %q: %q is no number", s, hi)
			}
		}
		if last < first || last >= most {
			return nil, fmt.Errorf("cpu list %q: range %q: want ascending and below %d", s, part, most)
		}
		for n := first; n <= last; n++ {
			if slices.Contains(out, int(n)) {
				return nil, fmt.Errorf("cpu list %q: %d is named twice", s, n)
			}
			out = append(out, int(n))
		}
	}
	return out, nil
}
