package forwarding

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"vita/drivers"
	"vita/drivers/memory"
	"vita/forwarding/client"
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
	wanted bool

	opened, closed int
}

// open opens a port of memory that ails so.
func (a *ailment) open(c drivers.Config) (drivers.Port, error) {
	p, err := memory.Open(c)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened++
	return &ailing{p, a}, nil
}

func (p *ailing) Close() error {
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	p.state.closed++
	return p.Port.Close()
}

func (p *ailing) Info() drivers.Info {
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	i := p.Port.Info()
	i.Fault, i.Resets, i.Wanted = p.state.fault, p.state.resets, p.state.wanted
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
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
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
	reg.Register("memory", drivers.LinkIfname, state.open)
	r := newRigWith(t, Options{Registry: reg, Log: slog.New(slog.NewTextHandler(log, nil))})
	told := func(fault string, resets int) { // to clients
		t.Helper()
		var p client.PortInfo
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if p = r.client.Ports()[0]; p.Fault == fault && p.Resets == resets {
				return
			}
		}
		t.Errorf("%+v, want fault %q, %d resets", p, fault, resets)
	}
	told("", 0)
	set := func(fault string, resets int) {
		state.mu.Lock()
		defer state.mu.Unlock()
		state.fault, state.resets = fault, resets
	}
	set("device does not answer", 0)
	log.await(t, privateName(log)+": device does not answer")
	told("device does not answer", 0)
	set("", 1)
	log.await(t, privateName(log)+" works again")
	log.await(t, privateName(log)+" hung and was reset, 1 times so far")
	told("", 1)
}

// privateName returns the name of the private port, which was opened first.
func privateName(l *lines) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, after, _ := strings.Cut(l.all, "msg=\"port opened\" interface=")
	name, _, _ := strings.Cut(after, " ")
	return name
}

// TestDeviceGivenBack: a device that the system asks for is closed, and nothing
// opens it before the configuration names it anew.
func TestDeviceGivenBack(t *testing.T) {
	state, log := new(ailment), new(lines)
	reg := new(drivers.Registry)
	reg.Register("memory", drivers.LinkIfname, state.open)
	r := newRigWith(t, Options{Registry: reg, Log: slog.New(slog.NewTextHandler(log, nil))})
	expect := func(opened, closed int) {
		t.Helper()
		state.mu.Lock()
		defer state.mu.Unlock()
		if state.opened != opened || state.closed != closed {
			t.Errorf("%d ports opened, %d closed, want %d and %d", state.opened, state.closed, opened, closed)
		}
	}
	expect(2, 0)
	state.mu.Lock()
	state.wanted = true
	state.mu.Unlock()
	log.await(t, "device given back to the system: its interface carries nothing until it is configured anew\" interface="+r.spec.Private.Link.Ifname)
	log.await(t, "devices_given_back=2")
	log.await(t, privateName(log)+": given back to the system, which has asked for the device")
	expect(2, 2)
	state.mu.Lock()
	state.wanted = false
	state.mu.Unlock()
	for _, p := range r.client.Ports() {
		if p.LinkUp || p.Driver != "memory" || p.MTU == 0 || !strings.HasPrefix(p.Fault, "given back") {
			t.Errorf("%+v", p)
		}
	}
	r.apply() // of the same again
	expect(2, 2)
	name, _ := newWire(t, memory.Options{})
	r.spec.Private.Link.Ifname = name
	r.apply()
	expect(3, 2)
	if lost := r.engine.lost.Load(); lost != 0 {
		t.Errorf("%d buffers lost", lost)
	}
}
