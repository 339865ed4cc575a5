package supervise

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a program that ends by itself after a while, or when it is asked to.
type fake struct {
	life     time.Duration
	deaf     bool // does not hear when it is asked
	end      chan struct{}
	asked    int
	killed   int
	lifeTime *time.Timer
}

func (f *fake) Wait() error {
	f.lifeTime = time.NewTimer(f.life)
	select {
	case <-f.lifeTime.C:
		return errors.New("exit status 1")
	case <-f.end:
		return nil
	}
}

func (f *fake) Ask() {
	f.asked++
	if !f.deaf {
		close(f.end)
	}
}

func (f *fake) Kill() {
	f.killed++
	close(f.end)
}

// TestBackOff: the waits double, are bounded, and begin anew after a long run.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lives := []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, LongEnough, 0, 0}
		var starts []time.Duration
		began := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		var last *fake
		r := New(Service{Name: "x", Log: func(string) {}, Start: func() (Process, error) {
			starts = append(starts, time.Since(began))
			last = &fake{life: time.Hour, end: make(chan struct{})}
			if len(starts) <= len(lives) {
				last.life = lives[len(starts)-1]
			}
			return last, nil
		}})
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		time.Sleep(10 * time.Minute)
		var waits []time.Duration
		for i := 1; i < len(starts); i++ {
			waits = append(waits, starts[i]-starts[i-1])
		}
		ms := time.Millisecond
		want := []time.Duration{
			200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, LongestWait, LongestWait,
			LongEnough + FirstWait, 400 * ms, 800 * ms,
		}
		if !slices.Equal(waits, want) {
			t.Errorf("waits %v, want %v", waits, want)
		}
		if st := r.State(); !st.Running || st.Starts != len(lives)+1 || st.Last != "has ended: exit status 1" {
			t.Errorf("%+v", st)
		}
		stop()
		<-done
		if last.asked != 1 || last.killed != 0 || r.State().Running || r.State().Last != "has ended" {
			t.Errorf("%+v %+v", last, r.State())
		}
	})
}

// TestDeaf: what does not end is killed after a grace.
func TestDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		f := &fake{life: time.Hour, deaf: true, end: make(chan struct{})}
		r := New(Service{Name: "x", Log: func(string) {}, Start: func() (Process, error) { return f, nil }})
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		synctest.Wait()
		stop()
		began := time.Now()
		<-done
		if f.killed != 1 || time.Since(began) != Grace {
			t.Errorf("killed %d times, after %s", f.killed, time.Since(began))
		}
	})
}

// TestNoProgram: what cannot be started is tried again.
func TestNoProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		tries := 0
		r := New(Service{Name: "x", Log: func(string) {}, Start: func() (Process, error) { tries++; return nil, errors.New("no such file") }})
		go r.Run(ctx)
		time.Sleep(time.Second)
		stop()
		synctest.Wait()
		if tries != 3 || r.State().Last != "cannot start: no such file" {
			t.Errorf("%d tries, %+v", tries, r.State())
		}
	})
}
