package main

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vita/internal/pktbuf"
)

// Inbound alone: packets cannot be sealed before the measurement and opened
// again and again, for each may come once. So a worker seals some hundred to
// thousand, which are kept, and then opens them; only the second is measured.

// keepSize is how many bytes are kept: few enough for a processor's second
// cache, so that fetching them costs little.
const keepSize = 512 << 10

// replay is what is kept, and the time that handing it out has taken.
type replay struct {
	frames         []byte
	ends           []int // of each frame in frames
	next           int   // the frame handed out next
	out            bool  // they are being handed out
	wall           time.Time
	cpu            int64
	packets, bytes int64 // that had been through before

	done struct { // of all that was handed out, until the last was through
		packets, bytes, wall, cpu atomic.Int64
	}
}

// replaying says whether kept frames are handed out. Where the last has gone
// through the worker, new ones are to be made.
func (l *loop) replaying() bool {
	r := &l.kept
	switch {
	case !r.out && len(r.frames) >= keepSize:
		r.out, r.next = true, 0
		r.packets, r.bytes = l.packets.Load(), l.bytes.Load()
		r.cpu, r.wall = threadTime(), time.Now()
		l.last = r.wall
	case r.out && r.next == len(r.ends): // the turn after the one that took the last
		wall, packets := int64(time.Since(r.wall)), l.packets.Load()-r.packets
		r.done.wall.Add(wall)
		r.done.cpu.Add(threadTime() - r.cpu)
		r.done.packets.Add(packets)
		if packets > 0 {
			l.fastest(wall * 1000 / packets)
		}
		r.done.bytes.Add(l.bytes.Load() - r.bytes)
		r.out, r.frames, r.ends = false, r.frames[:0], r.ends[:0]
	}
	return r.out
}

func (l *loop) keep(f []byte) {
	l.kept.frames = append(l.kept.frames, f...)
	l.kept.ends = append(l.kept.ends, len(l.kept.frames))
}

// replay hands frames out.
func (l *loop) replay(b []pktbuf.Packet) int {
	r := &l.kept
	if !r.out {
		return 0
	}
	for i := range b {
		if r.next == len(r.ends) {
			return i
		}
		k, ok := l.pool.Get()
		if !ok {
			return i
		}
		start := 0
		if r.next > 0 {
			start = r.ends[r.next-1]
		}
		f := r.frames[start:r.ends[r.next]]
		k.Len = uint16(len(f))
		copy(l.pool.Bytes(k), f)
		b[i] = k
		r.next++
	}
	return len(b)
}

// threadTime is the processor time of the calling thread.
func threadTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail with these arguments
	return ts.Nano()
}
