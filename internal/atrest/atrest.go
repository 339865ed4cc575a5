// Package atrest gives memory back to the system when a process has nothing to do.
//
// Go's collector lets the heap grow to twice what is in use before it collects,
// and what a burst of work has used stays with the process until the next burst.
// A control process that was configured in one large step, and is then asked
// nothing for weeks, would hold on to several times what it needs.
package atrest

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// worth is how much must be there to give back: a collection costs time.
	worth = 32 << 20
	// quiet is how much a process at rest may allocate between two looks.
	quiet = 4 << 20
)

// FreeMemory looks every so often whether the process is at rest, and gives back what it
// does not use, until ctx ends.
func FreeMemory(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	before := read()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := read()
		if now.idleSince(before) && now.unused() > worth {
			debug.FreeOSMemory()
			now = read()
		}
		before = now
	}
}

// heap is what the runtime says of its memory, in bytes.
type heap struct {
	allocated uint64 // ever
	live      uint64 // in use after the last collection
	objects   uint64 // in use, or not yet collected
	free      uint64 // held for use
}

// idleSince says whether the process has done next to nothing since a look before.
func (h *heap) idleSince(before *heap) bool { return h.allocated-before.allocated < quiet }

func (h *heap) unused() uint64 { return h.objects - min(h.live, h.objects) + h.free }

func read() *heap {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return &heap{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64()}
}
