package beside

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

func TestDo(t *testing.T) {
	for n := 1; n < 6; n++ {
		var sum, calls atomic.Int64
		Do(n, func(part int) { sum.Add(int64(part)); calls.Add(1) })
		if calls.Load() != int64(n) || sum.Load() != int64(n*(n-1)/2) {
			t.Errorf("%d parts: %d calls, sum %d", n, calls.Load(), sum.Load())
		}
	}
	if n := Parts(); n < 1 || n > most {
		t.Errorf("%d parts", n)
	}
}

// TestPanic has one part panic: all others are done when the caller hears of it.
func TestPanic(t *testing.T) {
	for bad := range 4 {
		var calls atomic.Int64
		said := func() (said any) {
			defer func() { said = recover() }()
			Do(4, func(part int) {
				if part == bad {
					panic(fmt.Sprint("part ", part))
				}
				calls.Add(1)
			})
			return nil
		}()
		if text := fmt.Sprint(said); !strings.Contains(text, fmt.Sprint("part ", bad)) || calls.Load() != 3 {
			t.Errorf("part %d: %d others, %v", bad, calls.Load(), said)
		}
	}
}
