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
	const often = 10 // turns a millisecond: a worker that sleeps has fewer, one that does not many more
	turns := func(r *rig, d time.Duration) (n, most uint64) {
		rounds := &r.engine.mem.Workers[0].Rounds
		before, begin := atomic.LoadUint64(rounds), time.Now()
		time.Sleep(d)
		return atomic.LoadUint64(rounds) - before, often * uint64(time.Since(begin).Milliseconds())
	}
	r := newRigWith(t, Options{})
	r.settle()
	if n, most := turns(r, 300*time.Millisecond); n > most {
		t.Errorf("%d turns of a worker that should sleep, want %d at most", n, most)
	}
	r = newRigWith(t, Options{BusyPoll: true})
	r.settle()
	for begin := time.Now(); ; { // others may have its processor now and then, but not for ever
		n, most := turns(r, 20*time.Millisecond)
		if n > 3*most {
			break
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("%d turns of a worker that should not sleep, want more than %d", n, 3*most)
		}
	}
}
