package forwarding

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/memory"
)

// ailing is a port whose device fails when the test says so.
type ailing struct {
	drivers.Port
	state *ailment
}

type ailment struct {
	mu     sync.Mutex
	fault  string
	resets int
}

func (p *ailing) Info() drivers.Info {
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	i := p.Port.Info()
	i.Fault, i.Resets = p.state.fault, p.state.resets
	return i
}

// lines takes what an engine logs.
type lines struct {
	mu  sync.Mutex
	all string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all += string(b)
	return len(b), nil
}

func (l *lines) await(t *testing.T, what string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		n := strings.Count(l.all, what)
		l.mu.Unlock()
		if n == 1 {
			return
		}
		if n > 1 || time.Now().After(end) {
			t.Fatalf("%d lines say %q:\n%s", n, what, l.all)
		}
	}
}

// TestFailingDeviceIsReported: the log says once that a device has failed, that
// it was reset, and that it works again.
func TestFailingDeviceIsReported(t *testing.T) {
	state, log := new(ailment), new(lines)
	reg := new(drivers.Registry)
	reg.Register("memory", drivers.LinkIfname, func(c drivers.Config) (drivers.Port, error) {
		p, err := memory.Open(c)
		if err != nil {
			return nil, err
		}
		return &ailing{p, state}, nil
	})
	newRigWith(t, Options{Registry: reg, Log: slog.New(slog.NewTextHandler(log, nil))})
	set := func(fault string, resets int) {
		state.mu.Lock()
		defer state.mu.Unlock()
		state.fault, state.resets = fault, resets
	}
	set("device does not answer", 0)
	log.await(t, privateName(log)+": device does not answer")
	set("", 1)
	log.await(t, privateName(log)+" works again")
	log.await(t, privateName(log)+" hung and was reset, 1 times so far")
}

// privateName returns the name of the private port, which was opened first.
func privateName(l *lines) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, after, _ := strings.Cut(l.all, "msg=\"port opened\" interface=")
	name, _, _ := strings.Cut(after, " ")
	return name
}
