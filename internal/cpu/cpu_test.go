package cpu

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
)

func TestParseList(t *testing.T) {
	for s, want := range map[string][]int{
		"": nil, "0": {0}, "2-3": {2, 3}, "0,2-3,7": {0, 2, 3, 7}, " 1 , 4": {1, 4},
	} {
		got, err := ParseList(s)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseList(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"a", "1-", "-1", "3-2", "1,1", "0-1,1", "5000", ",", "1-2-3"} {
		if got, err := ParseList(s); err == nil {
			t.Errorf("ParseList(%q) = %v, want an error", s, got)
		}
	}
}

func FuzzParseList(f *testing.F) {
	for _, s := range []string{"", "0", "0,2-3,7", "1-", "9999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseList(s)
		if err != nil && got != nil {
			t.Fatal("a list came with an error")
		}
		if len(got) > 1024 {
			t.Fatalf("%d processors", len(got))
		}
	})
}

func TestPin(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the bound thread dies with the goroutine
		cpus, err := Allowed()
		if err != nil || len(cpus) == 0 {
			done <- err
			return
		}
		last := cpus[len(cpus)-1]
		if err := Pin(last); err != nil {
			done <- err
			return
		}
		now, err := Allowed()
		if !slices.Equal(now, []int{last}) {
			t.Errorf("bound to %d, may run on %v", last, now)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestNode compares with the other way to ask the kernel.
func TestNode(t *testing.T) {
	cpus, err := Allowed()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range cpus {
		node, ok := Node(n)
		list, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/node/node%d/cpulist", node))
		if !ok {
			if _, err := os.Stat("/sys/devices/system/node/node0/cpulist"); err == nil {
				t.Errorf("cpu %d has no node, though there are some", n)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if of, err := ParseList(string(list)); err != nil || !slices.Contains(of, n) {
			t.Errorf("cpu %d should be of node %d, which has %q", n, node, list)
		}
	}
	if node, ok := Node(99999); ok {
		t.Errorf("cpu 99999 is of node %d", node)
	}
}
