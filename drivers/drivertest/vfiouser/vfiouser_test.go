package vfiouser

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// toy is a device of a few bytes, and a register whose value it writes to memory.
type toy struct {
	bar    [64]byte
	mem    *Memory
	resets int
}

func (d *toy) Regions() [8]int { return [8]int{0: len(d.bar), 7: 256} }
func (d *toy) Vectors() int    { return 3 }
func (d *toy) Reset()          { d.resets++ }

func (d *toy) Read(region, off int, b []byte) {
	clear(b)
	if region == 0 {
		copy(b, d.bar[off:])
	}
}

func (d *toy) Write(region, off int, b []byte) {
	if region != 0 {
		return
	}
	copy(d.bar[off:], b)
	if off == 8 && len(b) == 8 { // the register at 0 goes to this address
		d.mem.Begin()
		defer d.mem.End()
		if to := d.mem.At(binary.LittleEndian.Uint64(b), 8, true); to != nil {
			copy(to, d.bar[:8])
		}
	}
}

// client is the other side of the protocol.
type client struct {
	t    *testing.T
	conn *net.UnixConn
	id   uint16
}

// start serves a toy and connects to it.
func start(t *testing.T) (*toy, *Server, *client) {
	t.Helper()
	d := &toy{}
	s, err := New(d)
	if err != nil {
		t.Fatal(err)
	}
	d.mem = &s.Memory
	path := filepath.Join(t.TempDir(), "s")
	if err := s.Listen(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, s, connect(t, path)
}

func connect(t *testing.T, path string) *client {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{t: t, conn: c}
}

func le(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch v := p.(type) {
		case int:
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case []byte:
			b = append(b, v...)
		}
	}
	return b
}

// send sends a message in two writes, so that the server must put it together.
func (c *client) send(cmd, flags int, body []byte, files ...*os.File) {
	c.t.Helper()
	c.id++
	head := make([]byte, 16)
	binary.LittleEndian.PutUint16(head, c.id)
	binary.LittleEndian.PutUint16(head[2:], uint16(cmd))
	binary.LittleEndian.PutUint32(head[4:], uint32(16+len(body)))
	binary.LittleEndian.PutUint32(head[8:], uint32(flags))
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := c.conn.WriteMsgUnix(head[:7], oob, nil); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.conn.Write(append(head[7:], body...)); err != nil {
		c.t.Fatal(err)
	}
}

// call sends a command and returns the answer's body.
func (c *client) call(cmd int, body []byte, files ...*os.File) ([]byte, error) {
	c.t.Helper()
	c.send(cmd, 0, body, files...)
	_ = c.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 1<<16)
	n, err := c.conn.Read(b)
	if err != nil {
		c.t.Fatal(err)
	}
	b = b[:n]
	if n < 16 || binary.LittleEndian.Uint16(b) != c.id || binary.LittleEndian.Uint16(b[2:]) != uint16(cmd) || binary.LittleEndian.Uint32(b[4:]) != uint32(n) {
		c.t.Fatalf("answer % x", b)
	}
	if binary.LittleEndian.Uint32(b[8:])&flagError != 0 {
		return nil, unix.Errno(binary.LittleEndian.Uint32(b[12:]))
	}
	return b[16:], nil
}

func (c *client) want(cmd int, body, want []byte, files ...*os.File) {
	c.t.Helper()
	got, err := c.call(cmd, body, files...)
	if err != nil || !bytes.Equal(got, want) {
		c.t.Fatalf("command %d: % x, %v, want % x", cmd, got, err, want)
	}
}

func memfd(t *testing.T, size int64) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSession(t *testing.T) {
	d, s, c := start(t)
	c.want(cmdVersion, []byte("\x00\x00\x01\x00{}\x00"), []byte("\x00\x00\x00\x00"+versionAnswer))
	c.want(cmdDeviceInfo, le(16, 0, 0, 0), le(16, devicePCI|deviceReset, 9, 5))
	c.want(cmdRegionInfo, le(32, 0, 0, 0, 0, 0, 0, 0), le(32, 3, 0, 0, 64, 0, 0, 0))
	c.want(cmdRegionInfo, le(32, 0, 1, 0, 0, 0, 0, 0), le(32, 0, 1, 0, 0, 0, 0, 0))
	c.want(cmdIRQInfo, le(16, 0, 2, 0), le(16, irqFlagEventfd|irqFlagNoResize, 2, 3))
	c.want(cmdIRQInfo, le(16, 0, 0, 0), le(16, 0, 0, 0))

	// Registers, and memory that the device writes to.
	access := func(off uint64, n int) []byte { return le(off, 0, n) }
	c.want(cmdRegionWrite, append(access(0, 8), "register"...), access(0, 8))
	c.want(cmdRegionRead, access(2, 4), append(access(2, 4), "gist"...))
	f := memfd(t, 3*4096)
	const at = uint64(1 << 32)
	c.want(cmdDMAMap, le(32, mapRead|mapWrite, uint64(4096), at, uint64(8192)), nil, f)
	c.want(cmdRegionWrite, le(uint64(8), 0, 8, at+4096), access(8, 8))
	got := make([]byte, 8)
	if _, err := f.ReadAt(got, 8192); err != nil || string(got) != "register" {
		t.Fatalf("in the client's memory: %q, %v", got, err)
	}
	s.Memory.Begin()
	for _, k := range []struct {
		addr uint64
		n    int
		ok   bool
	}{{at, 8192, true}, {at, 8193, false}, {at - 1, 1, false}, {at + 8191, 1, true}, {at + 8192, 1, false}, {at, -1, false}, {0, 0, false}, {^uint64(0), 8, false}} {
		if b := s.Memory.At(k.addr, k.n, true); (b != nil) != k.ok {
			t.Errorf("%d bytes at %#x: %v", k.n, k.addr, b != nil)
		}
	}
	s.Memory.End()
	// What is only to be read, beside it.
	c.want(cmdDMAMap, le(32, mapRead, uint64(0), at+8192, uint64(4096)), nil, f)
	s.Memory.Begin()
	if s.Memory.At(at+8192, 1, true) != nil || s.Memory.At(at+8192, 1, false) == nil {
		t.Error("a mapping to be read can be written, or not be read")
	}
	s.Memory.End()
	if n := len(s.Memory.files); n != 1 {
		t.Errorf("the file is mapped %d times", n)
	}
	c.want(cmdDMAUnmap, le(24, 0, at, uint64(8192)), le(24, 0, at, uint64(8192)))
	s.Memory.Begin()
	if s.Memory.At(at, 1, false) != nil || s.Memory.At(at+8192, 1, false) == nil {
		t.Error("other memory was unmapped than was said")
	}
	s.Memory.End()

	c.want(cmdDMAUnmap, le(24, 0, uint64(0), ^uint64(0)), le(24, 0, uint64(0), ^uint64(0)))
	if n := len(s.Memory.files); n != 0 {
		t.Errorf("%d files are mapped still", n)
	}

	// Interrupts: two with one message, then one is taken away.
	events := make([]*os.File, 2)
	for i := range events {
		fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		events[i] = os.NewFile(uintptr(fd), "event")
		t.Cleanup(func() { _ = events[i].Close() })
	}
	irqs := func(flags, start, count int) []byte { return le(20, flags|setActionTrigger, irqMSIX, start, count) }
	c.want(cmdSetIRQs, irqs(setDataEventfd, 1, 2), nil, events...)
	if s.Interrupt(0) || !s.Interrupt(1) || !s.Interrupt(2) || s.Interrupt(3) || s.Interrupt(-1) {
		t.Error("other interrupts than were set")
	}
	c.want(cmdSetIRQs, irqs(setDataEventfd, 1, 1), nil)
	c.want(cmdSetIRQs, irqs(setDataNone, 2, 1), nil)
	if s.Interrupt(1) {
		t.Error("an interrupt that was taken away")
	}
	for i, want := range []byte{1, 2} {
		if n, err := events[i].Read(got); n != 8 || err != nil || got[0] != want {
			t.Errorf("event %d: % x, %v, want %d", i, got, err, want)
		}
	}
	c.want(cmdSetIRQs, irqs(setDataNone, 0, 0), nil)
	if s.Interrupt(2) {
		t.Error("an interrupt after all were turned off")
	}
	c.want(cmdDeviceReset, nil, nil)
	if d.resets != 1 {
		t.Errorf("%d resets", d.resets)
	}
	// A write that wants no answer, before a read.
	c.send(cmdRegionWrite, flagNoReply, append(access(0, 2), "RE"...))
	c.want(cmdRegionRead, access(0, 4), append(access(0, 4), "REgi"...))
}

// TestRefusals: what is wrong is answered by an error and changes nothing.
func TestRefusals(t *testing.T) {
	_, s, c := start(t)
	f := memfd(t, 8192)
	c.want(cmdDMAMap, le(32, mapRead, uint64(0), uint64(4096), uint64(4096)), nil, f)
	for _, k := range []struct {
		name  string
		cmd   int
		body  []byte
		files []*os.File
		want  unix.Errno
	}{
		{"no such command", 99, nil, nil, unix.ENOTSUP},
		{"version of nothing", cmdVersion, nil, nil, unix.EINVAL},
		{"short device info", cmdDeviceInfo, le(16), nil, unix.EINVAL},
		{"no such region", cmdRegionInfo, le(32, 0, 9, 0, 0, 0, 0, 0), nil, unix.EINVAL},
		{"no such interrupt", cmdIRQInfo, le(16, 0, 5, 0), nil, unix.EINVAL},
		{"read over the end", cmdRegionRead, le(uint64(60), 0, 5), nil, unix.EINVAL},
		{"read far away", cmdRegionRead, le(^uint64(0), 0, 4), nil, unix.EINVAL},
		{"read of nothing", cmdRegionRead, le(uint64(0), 0, 0), nil, unix.EINVAL},
		{"read of a region that is not there", cmdRegionRead, le(uint64(0), 3, 4), nil, unix.EINVAL},
		{"read of no region", cmdRegionRead, le(uint64(0), -1, 4), nil, unix.EINVAL},
		{"write of less than is said", cmdRegionWrite, le(uint64(0), 0, 8, 1), nil, unix.EINVAL},
		{"write of more than is said", cmdRegionWrite, le(uint64(0), 0, 4, 1, 2), nil, unix.EINVAL},
		{"short access", cmdRegionWrite, le(uint64(0)), nil, unix.EINVAL},
		{"short mapping", cmdDMAMap, le(32, mapRead), []*os.File{f}, unix.EINVAL},
		{"mapping over the file's end", cmdDMAMap, le(32, mapRead, uint64(4096), uint64(1<<20), uint64(8192)), []*os.File{f}, unix.EINVAL},
		{"mapping over another", cmdDMAMap, le(32, mapRead, uint64(0), uint64(0), uint64(8192)), []*os.File{f}, unix.EINVAL},
		{"mapping of nothing", cmdDMAMap, le(32, mapRead, uint64(0), uint64(1<<20), uint64(0)), []*os.File{f}, unix.EINVAL},
		{"mapping over the end of addresses", cmdDMAMap, le(32, mapRead, uint64(0), ^uint64(0)-100, uint64(4096)), []*os.File{f}, unix.EINVAL},
		{"offset over the end of files", cmdDMAMap, le(32, mapRead, ^uint64(0)-100, uint64(1<<20), uint64(4096)), []*os.File{f}, unix.EINVAL},
		{"short unmapping", cmdDMAUnmap, le(24), nil, unix.EINVAL},
		{"interrupts behind the last", cmdSetIRQs, le(20, setDataEventfd|setActionTrigger, irqMSIX, 3, 1), []*os.File{f}, unix.EINVAL},
		{"interrupts over the end", cmdSetIRQs, le(20, setDataEventfd|setActionTrigger, irqMSIX, 1, -1), []*os.File{f}, unix.EINVAL},
		{"fewer files than interrupts", cmdSetIRQs, le(20, setDataEventfd|setActionTrigger, irqMSIX, 0, 2), []*os.File{f}, unix.EINVAL},
		{"interrupts to be masked", cmdSetIRQs, le(20, setDataNone|8, irqMSIX, 0, 1), nil, unix.EINVAL},
		{"interrupts by truth values", cmdSetIRQs, le(20, setDataBool|setActionTrigger, irqMSIX, 0, 1), nil, unix.ENOTSUP},
		{"INTx", cmdSetIRQs, le(20, setDataEventfd|setActionTrigger, 0, 0, 1), []*os.File{f}, unix.EINVAL},
		{"short interrupts", cmdSetIRQs, le(20), nil, unix.EINVAL},
	} {
		if b, err := c.call(k.cmd, k.body, k.files...); !errors.Is(err, k.want) {
			t.Errorf("%s: % x, %v, want %v", k.name, b, err, k.want)
		}
	}
	if n, m := len(s.Memory.maps), len(s.Memory.files); n != 1 || m != 1 {
		t.Errorf("%d mappings of %d files, want the first", n, m)
	}
	for i := range s.irqs {
		if s.Interrupt(i) {
			t.Errorf("interrupt %d was set", i)
		}
	}
}

// TestBrokenSessions: a client that breaks the framing, or goes in the middle of
// a message, ends its session alone.
func TestBrokenSessions(t *testing.T) {
	for _, k := range []struct {
		name string
		b    []byte
	}{
		{"smaller than a header", le(1<<16|1, 15, 0, 0)},
		{"larger than a message", le(1<<16|1, 1<<30, 0, 0)},
		{"a reply", le(1<<16|1, 20, 1, 0, 0)},
		{"half a header", le(1<<16|1, 20)},
		{"half a body", le(1<<16|1, 24, 0, 0, 0)},
	} {
		t.Run(k.name, func(t *testing.T) {
			s, err := New(&toy{})
			if err != nil {
				t.Fatal(err)
			}
			here, there := pair(t)
			if _, err := here.Write(k.b); err != nil {
				t.Fatal(err)
			}
			_ = here.CloseWrite()
			if err := s.ServeConn(there); err == nil {
				t.Error("no error")
			}
		})
	}
}

func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := [2]*net.UnixConn{}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = c.Close() })
	}
	return ends[0], ends[1]
}

// FuzzSession feeds a session with bytes.
func FuzzSession(f *testing.F) {
	message := func(cmd int, body []byte) []byte { return append(le(cmd<<16|7, 16+len(body), 0, 0), body...) }
	f.Add(message(cmdVersion, []byte("\x00\x00\x01\x00{}\x00")))
	f.Add(append(message(cmdRegionWrite, le(uint64(8), 0, 8, uint64(1))), message(cmdRegionRead, le(uint64(60), 0, 4))...))
	f.Add(append(message(cmdDMAMap, le(32, 3, uint64(0), uint64(4096), uint64(4096))), message(cmdDMAUnmap, le(24, 0, uint64(0), ^uint64(0)))...))
	f.Add(message(cmdSetIRQs, le(20, setDataNone|setActionTrigger, irqMSIX, 0, 3)))
	f.Add(append(message(cmdRegionInfo, le(32, 0, 7, 0, 0, 0, 0, 0)), message(cmdIRQInfo, le(16, 0, 2, 0))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &toy{}
		s, err := New(d)
		if err != nil {
			t.Fatal(err)
		}
		d.mem = &s.Memory
		here, there := pair(t)
		go func() {
			_, _ = here.Write(b)
			_ = here.CloseWrite()
		}()
		go func() { // answers must not fill the socket
			sink := make([]byte, 1<<16)
			for {
				if _, err := here.Read(sink); err != nil {
					return
				}
			}
		}()
		_ = s.ServeConn(there)
		if len(s.Memory.maps)+len(s.Memory.files) != 0 {
			t.Error("mappings are left")
		}
	})
}
