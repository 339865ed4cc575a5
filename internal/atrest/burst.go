package atrest

import (
	"runtime/debug"
	"sync"
)

// burstPercent is by how much the heap may grow in a burst, in percent of what is
// in use, before it is collected; 100 is usual.
const burstPercent = 200

var burst struct {
	sync.Mutex
	running int
	usual   int
}

// Burst lets the heap grow more than usual until end is called: for work most of
// whose memory is in use until it is done, so that collections in the middle of it
// take time and find little. Bursts beside each other count as one.
func Burst() (end func()) {
	burst.Lock()
	defer burst.Unlock()
	if burst.running++; burst.running == 1 {
		burst.usual = debug.SetGCPercent(burstPercent)
	}
	return func() {
		burst.Lock()
		defer burst.Unlock()
		if burst.running--; burst.running == 0 {
			debug.SetGCPercent(burst.usual)
		}
	}
}
