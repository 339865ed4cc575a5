package forwarding

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestSpinAdapts(t *testing.T) {
	s := newSpin(false)
	if s.over(int64(spinFirst)) || !s.over(int64(spinFirst)+1) {
		t.Errorf("the first limit is %d", s.limit)
	}
	for range 10 { // packets come right after it has gone to sleep
		s.slept(s.limit)
	}
	if s.limit != int64(spinMost) {
		t.Errorf("with short sleeps the limit becomes %v, want %v", time.Duration(s.limit), spinMost)
	}
	for range 5 { // neither soon nor late
		s.slept(10 * s.limit)
	}
	if s.limit != int64(spinMost) {
		t.Errorf("with sleeps in between it becomes %v", time.Duration(s.limit))
	}
	for range 20 {
		s.slept(int64(sleepFor))
	}
	if want := int64(sleepFor) / 16; s.limit > want || s.limit < int64(spinLeast) {
		t.Errorf("with long sleeps it becomes %v", time.Duration(s.limit))
	}
	p := newSpin(true)
	p.slept(1)
	p.slept(int64(time.Hour))
	if p.over(int64(time.Hour)) {
		t.Error("a worker that polls sleeps after an hour")
	}
}

// TestIdleWorkers counts the turns of workers without packets.
func TestIdleWorkers(t *testing.T) {
	turns := func(busy bool) uint64 {
		r := newRigWith(t, Options{BusyPoll: busy})
		r.settle()
		me := &r.engine.mem.Workers[0]
		begin := atomic.LoadUint64(&me.Rounds)
		time.Sleep(300 * time.Millisecond)
		return atomic.LoadUint64(&me.Rounds) - begin
	}
	if n := turns(false); n > 3000 {
		t.Errorf("%d turns in 300 ms of a worker that should sleep", n)
	}
	if n := turns(true); n < 10_000 {
		t.Errorf("%d turns in 300 ms of a worker that should not", n)
	}
}
