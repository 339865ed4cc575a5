// Package client is what the control process holds of the packet engine: it
// prepares and publishes tables, installs SAs, exchanges messages with peers
// through the engine, and reads what the engine counts.
//
// A client attaches to an engine that runs, and leaves it running when it
// closes or dies: the engine forwards on by what was published last. The
// package must not know drivers, workers or the configuration model.
package client

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
	"vita/internal/arena"
)

// Errors that callers tell apart.
var (
	ErrNoEngine    = errors.New("no engine answers")
	ErrVersion     = errors.New("engine is of another version")
	ErrAttached    = errors.New("another client is attached to the engine")
	ErrNoInterface = errors.New("no such interface")
	ErrBusy        = errors.New("interface or queue is in use")
	ErrUnsupported = errors.New("not supported by this interface")
	ErrNoRoute     = errors.New("no such route or queue in the live tables")
	ErrNoSA        = errors.New("no such security association")
	ErrNoSpace     = errors.New("no room for another security association")
	ErrRingFull    = errors.New("the engine's message queue is full")
	ErrClosed      = errors.New("client is closed")
)

// EngineInfo describes the engine.
type EngineInfo struct {
	Pid     int
	Version string
	Started int64 // clock.Mono
	CPUs    []int // that workers are bound to; empty: not bound
	Tier    string
}

// Client is a connection to an engine. Its methods may be called by any number
// of goroutines, Receive by one at a time. Until it is attached they wait, but for
// HasRoute and Live, which have nothing to tell, and InstallSA, which fails with
// ErrNoRoute.
type Client struct {
	attached chan struct{} // closed when there is a link, or never will be
	link                   // once attached

	call struct {
		sync.Mutex // a request's way out
		id         uint32
		waiting    map[uint32]chan ctl.Reply
		failed     error
	}
	gone chan struct{} // closed when the connection has ended

	use struct { // of the memory, which stays mapped until nobody is at it
		sync.Mutex
		ended bool
		users sync.WaitGroup
	}

	state struct {
		sync.Mutex
		closed  bool
		live    *tables.Tables // of Current; nil: none
		writer  *tables.Writer // of live; nil where a client before this one has built it
		routes  map[string]int // slots of live, until there is a writer
		pending *Prepared      // prepared and not aborted, or published and not retired
	}
	rows      sync.RWMutex // held by who writes peers and ids in the live tables, against readers here
	send      sync.Mutex   // vitad's end of the rings to the workers
	capturing atomic.Bool  // there is a Capture
}

// link is what a greeting brings.
type link struct {
	conn  *net.UnixConn
	arena *arena.Arena
	mem   *tables.Memory
	punt  *eventFile
	wake  [tables.WorkerSlots]*eventFile
}

// Dial attaches to the engine that listens on a unix socket. It fails with
// ErrNoEngine, ErrVersion or ErrAttached.
func Dial(ctx context.Context, socket string) (*Client, error) {
	c := New()
	if err := c.Attach(ctx, socket); err != nil {
		return nil, err
	}
	return c, nil
}

// New returns a client that is to be attached.
func New() *Client {
	c := &Client{attached: make(chan struct{}), gone: make(chan struct{})}
	c.call.waiting = make(map[uint32]chan ctl.Reply)
	return c
}

// Attach attaches a client that is not, as Dial does, once. After a failure it may
// be tried again, unless the client has been closed.
func (c *Client) Attach(ctx context.Context, socket string) error {
	l, err := dial(ctx, socket)
	if err != nil {
		return err
	}
	live, routes, err := l.live()
	if err != nil {
		l.release()
		return err
	}
	c.state.Lock()
	defer c.state.Unlock()
	if c.state.closed || c.conn != nil {
		l.release()
		return ErrClosed
	}
	c.link, c.state.live, c.state.routes = *l, live, routes
	close(c.attached)
	go c.read()
	return nil
}

func dial(ctx context.Context, socket string) (*link, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unixpacket", socket)
	if err != nil {
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w: %w", ErrNoEngine, err)
		}
		return nil, fmt.Errorf("engine socket: %w", err)
	}
	conn, ok := nc.(*net.UnixConn)
	if !ok {
		_ = nc.Close()
		return nil, fmt.Errorf("engine socket %s is no unix socket", socket)
	}
	l := &link{conn: conn}
	if err := l.greet(ctx); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

// greet says the version and takes over the shared memory.
func (l *link) greet(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if stop() {
			_ = l.conn.SetDeadline(time.Time{})
		}
	}()
	hello := ctl.Request{Kind: ctl.Hello, Version: tables.Version}
	if _, err := l.conn.Write(hello.Bytes()); err != nil {
		return fmt.Errorf("%w: greeting: %w", ErrNoEngine, err)
	}
	buf, oob := make([]byte, ctl.MaxSize), make([]byte, unix.CmsgSpace(ctl.Fds*4))
	n, oobn, _, _, err := l.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("%w: greeting: %w", ErrNoEngine, err))
	}
	fds, fdErr := descriptors(oob[:oobn])
	reply, err := ctl.ParseReply(buf[:n])
	if err == nil {
		err = replyError(&reply)
	}
	if err == nil {
		err = fdErr
	}
	if err == nil && len(fds) != ctl.Fds {
		err = fmt.Errorf("engine handed over %d descriptors, want %d", len(fds), ctl.Fds)
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	return l.takeOver(fds)
}

func descriptors(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("engine greeting: %w", err)
	}
	var fds []int
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("engine greeting: %w", err)
		}
		fds = append(fds, got...)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func (l *link) takeOver(fds []int) error {
	a, err := arena.Map(fds[ctl.FdMemory])
	if err != nil {
		closeAll(fds)
		return err
	}
	l.arena = a
	l.punt = newEventFile(fds[ctl.FdPunt])
	for i := range l.wake {
		l.wake[i] = newEventFile(fds[ctl.FdWake+i])
	}
	if l.mem, err = tables.OpenMemory(a.Bytes()); errors.Is(err, tables.ErrVersion) {
		return fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return err
}

// live returns the tables by which the engine forwards already, nil where it does
// not, and the slots of their routes.
func (l *link) live() (*tables.Tables, map[string]int, error) {
	generation, place := tables.Split(l.mem.Current())
	if generation == 0 {
		return nil, nil, nil
	}
	live, err := tables.Open(l.mem.Tables(place))
	if err != nil {
		return nil, nil, fmt.Errorf("live tables of the engine: %w", err)
	}
	routes := make(map[string]int, len(live.Routes))
	for slot := range live.Routes {
		if id := live.RouteID(slot); id != "" {
			routes[id] = slot
		}
	}
	return live, routes, nil
}

// slot returns the slot of a route in the live tables. The caller holds state.
func (c *Client) slot(route string) (int, bool) {
	if c.state.writer != nil {
		return c.state.writer.Slot(route)
	}
	slot, ok := c.state.routes[route]
	return slot, ok
}

// read passes replies to those who wait for them, until the connection ends.
func (c *Client) read() {
	buf := make([]byte, ctl.MaxSize)
	for {
		n, err := c.conn.Read(buf)
		if err == nil && n == 0 {
			err = errors.New("connection closed")
		}
		var reply ctl.Reply
		if err == nil {
			reply, err = ctl.ParseReply(buf[:n])
		}
		if err != nil {
			c.fail(fmt.Errorf("%w: %w", ErrNoEngine, err))
			_ = c.conn.Close()
			return
		}
		c.call.Lock()
		if ch, ok := c.call.waiting[reply.ID]; ok {
			delete(c.call.waiting, reply.ID)
			ch <- reply // has room for it
		}
		c.call.Unlock()
	}
}

// fail is the end of all requests.
func (c *Client) fail(err error) {
	c.call.Lock()
	defer c.call.Unlock()
	c.call.failed, c.call.waiting = err, nil
	close(c.gone)
}

// request sends one request and waits for its reply.
func (c *Client) request(ctx context.Context, r *ctl.Request) (ctl.Reply, error) {
	select {
	case <-c.attached:
	case <-ctx.Done():
		return ctl.Reply{}, fmt.Errorf("waiting for the engine: %w", ctx.Err())
	}
	ch := make(chan ctl.Reply, 1)
	c.call.Lock()
	if c.call.failed != nil {
		defer c.call.Unlock()
		return ctl.Reply{}, c.call.failed
	}
	c.call.id++
	r.ID = c.call.id
	c.call.waiting[r.ID] = ch
	_, err := c.conn.Write(r.Bytes())
	if err != nil {
		delete(c.call.waiting, r.ID)
		c.call.Unlock()
		return ctl.Reply{}, fmt.Errorf("%w: %w", ErrNoEngine, err)
	}
	c.call.Unlock()
	select {
	case reply := <-ch:
		return reply, replyError(&reply)
	case <-c.gone:
		c.call.Lock()
		defer c.call.Unlock()
		return ctl.Reply{}, c.call.failed
	case <-ctx.Done():
		c.call.Lock()
		delete(c.call.waiting, r.ID)
		c.call.Unlock()
		return ctl.Reply{}, fmt.Errorf("waiting for the engine: %w", ctx.Err())
	}
}

// PortError says which interface could not be opened.
type PortError struct {
	Link tables.Link
	Err  error // ErrNoInterface, ErrBusy or ErrUnsupported, or another, with the engine's words
}

// Error returns the engine's words.
func (e *PortError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *PortError) Unwrap() error { return e.Err }

// engineError is an error as the engine worded it, with the sentinel that its
// code stands for.
type engineError struct {
	text     string
	sentinel error
}

func (e *engineError) Error() string { return e.text }
func (e *engineError) Unwrap() error { return e.sentinel }

func replyError(r *ctl.Reply) error {
	text := tables.Text(r.Text[:])
	var sentinel error
	switch r.Code {
	case ctl.OK:
		return nil
	case ctl.Attached:
		return ErrAttached
	case ctl.WrongVersion:
		return fmt.Errorf("%w: %s", ErrVersion, text)
	case ctl.NoInterface:
		sentinel = ErrNoInterface
	case ctl.PortBusy:
		sentinel = ErrBusy
	case ctl.Unsupported:
		sentinel = ErrUnsupported
	case ctl.NoRoute:
		return ErrNoRoute
	case ctl.NoSpace:
		return ErrNoSpace
	case ctl.Failed:
	}
	err := error(&engineError{text, sentinel})
	link := tables.Link{PCI: tables.Text(r.PCI[:]), Ifname: tables.Text(r.Name[:])}
	if link != (tables.Link{}) {
		return &PortError{Link: link, Err: err}
	}
	return err
}

// Close detaches from the engine, which forwards on.
func (c *Client) Close() error {
	c.state.Lock()
	if c.state.closed {
		c.state.Unlock()
		return nil
	}
	c.state.closed = true
	attached := c.conn != nil
	c.state.Unlock()
	var err error
	if attached {
		err = c.conn.Close()
		<-c.gone
	} else {
		c.fail(ErrClosed)
	}
	c.use.Lock()
	c.use.ended = true
	c.use.Unlock()
	if !attached {
		close(c.attached) // who waits for it waits no longer
		return nil
	}
	c.use.users.Wait()
	c.release()
	return err
}

// release gives back what the greeting brought.
func (l *link) release() {
	_ = l.conn.Close() // which may be closed already
	if l.punt != nil {
		_ = l.punt.close()
	}
	for _, w := range l.wake {
		if w != nil {
			_ = w.close()
		}
	}
	if l.arena != nil {
		_ = l.arena.Close()
	}
}

// hold keeps the memory mapped until the returned function is called, or says
// that it is gone. It waits for the memory.
func (c *Client) hold() (done func(), err error) {
	<-c.attached
	c.use.Lock()
	defer c.use.Unlock()
	if c.use.ended {
		return nil, ErrClosed
	}
	c.use.users.Add(1)
	return c.use.users.Done, nil
}

// Done is closed when the engine has gone, or Close was called.
func (c *Client) Done() <-chan struct{} { return c.gone }

// Engine describes the engine.
func (c *Client) Engine() EngineInfo {
	done, err := c.hold()
	if err != nil {
		return EngineInfo{}
	}
	defer done()
	h := c.mem.Header
	e := EngineInfo{
		Pid: int(h.Pid), Version: tables.Text(h.Release[:]), Started: h.Started, Tier: tables.Text(h.Tier[:]),
	}
	for i, word := range h.CPUs {
		for ; word != 0; word &= word - 1 {
			e.CPUs = append(e.CPUs, i*64+bits.TrailingZeros64(word))
		}
	}
	return e
}

// Shutdown makes the engine stop orderly and waits until it has let go of its
// ports.
func (c *Client) Shutdown(ctx context.Context) error {
	_, err := c.request(ctx, &ctl.Request{Kind: ctl.Shutdown})
	return err
}
