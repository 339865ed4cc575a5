// Package forwarding is the packet engine: workers that move packets between a
// private and a public port through ESP tunnels, and the control goroutine that
// changes what they work by.
//
// Files follow the packet: worker.go has a worker's loop, outbound.go and
// inbound.go the two ways through it, plain.go the short way of packets with
// which nothing is special, outer.go the headers around them, ahead.go what is
// fetched before it is needed, local.go what is meant for the gateway itself. generation.go, sa.go and workers.go are the control goroutine's,
// control.go its conversation with vitad. The engine knows tables and SAs; it
// must not know the configuration model, key exchange, or any network service.
package forwarding

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vita/asm/aesgcm"
	"vita/drivers"
	"vita/forwarding/tables"
	"vita/internal/arena"
	"vita/internal/clock"
)

// Options shapes an engine. Zero fields stand for defaults.
type Options struct {
	Socket    string            // path of the unix socket for vitad; required
	Registry  *drivers.Registry // drivers to open ports with; required
	CPUs      []int             // processors to bind workers to, in turn; nil: not bound
	Hugepages bool              // ask for huge pages for packet buffers
	BusyPoll  bool              // workers never sleep
	MaxRoutes int               // default: see tables.Options
	MaxSAs    int               // default: see tables.Options
	Release   string            // version of the program, for EngineInfo
	Log       *slog.Logger      // default: no log

	Announcements int          // of our addresses, where a port comes up; default 2, below 0: none
	Clock         func() int64 // the workers' clock; default clock.Mono
}

// Engine is a packet engine. New makes it, Serve runs it.
type Engine struct {
	o        Options
	arena    *arena.Arena
	mem      *tables.Memory
	listener *net.UnixListener
	punt     int
	wake     [tables.WorkerSlots]int
	keys     *keyStore
	lost     atomic.Int64 // buffers that ended workers did not give back
	stop     context.CancelFunc
	wanted   chan struct{} // a worker has a device that the system asks for

	mu      sync.Mutex // held by whoever does control work
	current *tables.Tables
	pending *change
	workers [tables.WorkerSlots]*worker
	ports   []*handle // all that are open
	saIndex saIndex

	capture   *tables.Capture // nil: none
	given     int             // devices that the system has asked for, and got
	slotsUsed int             // route slots from here on have never had a route

	client seat
}

// New makes an engine that does nothing yet: it has its memory and listens on
// its socket, whose file it creates for its own user alone. It fails where
// another engine answers there.
func New(o Options) (*Engine, error) {
	if o.Socket == "" || o.Registry == nil {
		return nil, errors.New("engine: socket and drivers must be given")
	}
	if o.Announcements == 0 {
		o.Announcements = 2 // RFC 5227, section 1.1
	}
	if o.Clock == nil {
		o.Clock = clock.Mono
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	to := tables.Options{MaxRoutes: o.MaxRoutes, MaxSAs: o.MaxSAs}
	size, err := tables.Size(to)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e := &Engine{o: o, punt: -1, wanted: make(chan struct{}, 1)}
	for i := range e.wake {
		e.wake[i] = -1
	}
	if err := e.setUp(size, to); err != nil {
		return nil, errors.Join(fmt.Errorf("engine: %w", err), e.free())
	}
	return e, nil
}

// setUp takes what an engine holds as long as it lives.
func (e *Engine) setUp(size int, to tables.Options) (err error) {
	if e.arena, err = arena.Create(size); err != nil {
		return err
	}
	if e.mem, err = tables.Format(e.arena.Bytes(), to); err != nil {
		return err
	}
	h := e.mem.Header
	h.Pid, h.Started = uint32(os.Getpid()), clock.Mono()
	tables.SetText(h.Release[:], e.o.Release)
	tables.SetText(h.Tier[:], aesgcm.Tier())
	for _, n := range e.o.CPUs {
		if n < 0 || n >= len(h.CPUs)*64 {
			return fmt.Errorf("cpu %d: want 0 to %d", n, len(h.CPUs)*64-1)
		}
		h.CPUs[n/64] |= 1 << (n % 64)
	}
	if e.keys, err = newKeyStore(len(e.mem.SAs)); err != nil {
		return err
	}
	e.saIndex = newSAIndex(len(e.mem.SAs), int(e.mem.Header.MaxRoutes))
	if e.punt, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("event file: %w", err)
	}
	for i := range e.wake {
		if e.wake[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return fmt.Errorf("event file: %w", err)
		}
	}
	e.listener, err = listen(e.o.Socket)
	return err
}

// listen makes the socket. A socket file that nobody answers at is of an
// engine that died, and is replaced.
func listen(path string) (*net.UnixListener, error) {
	addr := &net.UnixAddr{Name: path, Net: "unixpacket"}
	if c, err := net.DialUnix("unixpacket", nil, addr); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("another engine answers at %s", path)
	} else if errors.Is(err, unix.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("old socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unixpacket", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	// Between the two calls others could connect: each one's user is checked.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// free gives back what setUp has taken.
func (e *Engine) free() error {
	var errs []error
	if e.listener != nil {
		if err := e.listener.Close(); !errors.Is(err, net.ErrClosed) { // Serve has closed it
			errs = append(errs, err)
		}
	}
	for _, fd := range append(e.wake[:], e.punt) {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	if e.keys != nil {
		errs = append(errs, e.keys.close())
	}
	if e.arena != nil {
		errs = append(errs, e.arena.Close())
	}
	return errors.Join(errs...)
}

// Serve forwards packets and answers vitad until ctx ends or vitad asks for
// the end. Then all workers have stopped and all ports are closed.
func (e *Engine) Serve(ctx context.Context) error {
	ctx, e.stop = context.WithCancel(ctx)
	defer e.stop()
	var tasks sync.WaitGroup
	tasks.Go(func() {
		<-ctx.Done()
		_ = e.listener.Close() // ends accept; the file goes with it
		e.client.disconnect()
	})
	tasks.Go(func() {
		sweeps := time.NewTicker(10 * time.Second)
		defer sweeps.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-sweeps.C:
				e.sweep()
			case <-e.wanted:
				e.giveBack()
			}
		}
	})
	if lacks := aesgcm.Lacks(); lacks != "" {
		e.o.Log.Warn("encryption is slow: the processor lacks what the fast implementations need", "crypto", aesgcm.Tier(), "lacks", lacks)
	}
	e.o.Log.Info("engine ready", "socket", e.o.Socket, "crypto", aesgcm.Tier())
	err := e.accept(ctx, &tasks)
	e.stop()
	tasks.Wait()
	e.mu.Lock()
	for _, w := range e.workers {
		if w != nil {
			e.end(w)
		}
	}
	e.mu.Unlock()
	return errors.Join(err, e.free())
}
