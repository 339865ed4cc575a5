package atrest

import (
	"runtime/debug"
	"testing"
)

// TestBurst has bursts in each other: the percentage is the usual one after the last.
func TestBurst(t *testing.T) {
	now := func() int {
		n := debug.SetGCPercent(100)
		debug.SetGCPercent(n)
		return n
	}
	usual := now()
	one := Burst()
	two := Burst()
	for i, end := range []func(){one, two} {
		if n := now(); n != burstPercent {
			t.Errorf("before the end of %d: %d", i+1, n)
		}
		end()
	}
	if n := now(); n != usual {
		t.Errorf("afterwards: %d, %d before", n, usual)
	}
}
