// Package supervise keeps programs running: it starts one again when it has
// ended, at once where it had run for a while, and ever later where it ends soon
// after each start.
package supervise

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Waits between a program's end and its next start, doubled from the first to
// the longest.
const (
	FirstWait   = 200 * time.Millisecond
	LongestWait = 30 * time.Second

	// LongEnough is how long a program must have run for the waits to begin anew.
	LongEnough = time.Minute

	// Grace is what a program has to end after it was asked to.
	Grace = 15 * time.Second
)

// Process is a running program.
type Process interface {
	Wait() error // until it ends; called once
	Ask()        // to end in good order
	Kill()
}

// Service is a program to keep running.
type Service struct {
	Name  string
	Start func() (Process, error)
	Log   func(text string)
}

// State is how a service does.
type State struct {
	Running bool
	Since   time.Time // of the start, or the end
	Starts  int
	Last    string // why it has ended the last time; "" where it never has
}

// Runner keeps one service running.
type Runner struct {
	s  Service
	mu sync.Mutex
	st State
}

// New returns a runner; Run runs it.
func New(s Service) *Runner { return &Runner{s: s} }

// State returns how the service does.
func (r *Runner) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st
}

func (r *Runner) set(running bool, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.Running, r.st.Since = running, time.Now()
	if running {
		r.st.Starts++
	} else {
		r.st.Last = why
	}
}

// Run keeps the service running until ctx ends, then ends it, and returns when
// it has.
func (r *Runner) Run(ctx context.Context) {
	wait := FirstWait
	for ctx.Err() == nil {
		began := time.Now()
		why := r.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= LongEnough {
			wait = FirstWait
		}
		r.s.Log(fmt.Sprintf("%s %s; again in %s", r.s.Name, why, wait))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, LongestWait)
	}
}

// once runs the service once, and says how it ended.
func (r *Runner) once(ctx context.Context) (why string) {
	defer func() { r.set(false, why) }()
	p, err := r.s.Start()
	if err != nil {
		return "cannot start: " + err.Error()
	}
	r.set(true, "")
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		p.Ask()
		select {
		case err = <-ended:
		case <-time.After(Grace):
			r.s.Log(r.s.Name + " does not end: killed")
			p.Kill()
			err = <-ended
		}
	}
	if err != nil {
		return "has ended: " + err.Error()
	}
	return "has ended"
}
