// Package onveth tests the log's sender on a network whose stations are slow to
// answer. It needs root.
package onveth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"vita/appliance-image/internal/logring"
	"vita/internal/testnet"

	"golang.org/x/sys/unix"
)

// patience bounds every wait: a busy machine may need some of it.
const patience = 30 * time.Second

// site is a gateway that logs, and a server on the same network that has no
// address yet: nobody answers for it.
type site struct {
	gateway, server *testnet.Namespace
	ring            *logring.Ring
	family, address string // of the server
	got             chan string
	ended           chan struct{} // closed when SendTo returns
	logged          int
}

// newSite has kept some lines, and begins to send them. An unanswered question
// for the server's hardware address is repeated twice, after retry each.
func newSite(t *testing.T, family string, lines int, retry time.Duration) *site {
	t.Helper()
	s := &site{
		gateway: testnet.New(t), server: testnet.New(t), ring: logring.New(1<<20, time.Now),
		family: family, address: "192.0.2.2", got: make(chan string, 10000), ended: make(chan struct{}),
	}
	own, listen := "192.0.2.1/24", "0.0.0.0"
	if family == "ipv6" {
		s.address, own, listen = "2001:db8::2", "2001:db8::1/64", "::"
		for _, n := range []*testnet.Namespace{s.gateway, s.server} {
			n.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=0", "net.ipv6.conf.default.accept_dad=0")
		}
	}
	s.gateway.Run(t, "ip", "link", "set", "lo", "up") // by which the kernel reports errors
	testnet.Connect(t, s.gateway, "eth0", s.server, "eth0", testnet.Veth{})
	s.gateway.Run(t, "ip", "address", "add", own, "dev", "eth0")
	s.gateway.Run(t, "sysctl", "-qw", fmt.Sprintf("net.%s.neigh.eth0.retrans_time_ms=%d", family, retry.Milliseconds()))
	var c net.PacketConn
	if err := s.server.Do(func() (err error) {
		large := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			return errors.Join(c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
			}), err)
		}}
		c, err = large.ListenPacket(t.Context(), "udp", net.JoinHostPort(listen, "514"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		for b := make([]byte, 4096); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return // closed
			}
			_, text, _ := strings.Cut(string(b[:n]), "\ufeff")
			s.got <- text
		}
	}()
	s.log(lines)
	return s
}

// send starts the sender, and returns what ends it.
func (s *site) send(t *testing.T) context.CancelFunc {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer close(s.ended)
		if err := s.gateway.Do(func() error {
			s.ring.SendTo(ctx, s.address, func() string { return "gw" })
			return nil
		}); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { stop(); <-s.ended })
	return stop
}

// line is some line: they are of several lengths.
func line(i int) string {
	return fmt.Sprint("line ", i, strings.Repeat(".", i%7*200))
}

func (s *site) log(lines int) {
	for range lines {
		s.logged++
		s.ring.Add("kernel", logring.Info, line(s.logged))
	}
}

// ip gives the server its address, or takes it, by "add" and "del".
func (s *site) ip(t *testing.T, do string) {
	t.Helper()
	bits := "/24"
	if s.family == "ipv6" {
		bits = "/64"
	}
	s.server.Run(t, "ip", "address", do, s.address+bits, "dev", "eth0")
}

// neighbour waits until the gateway's kernel says this of the server.
func (s *site) neighbour(t *testing.T, state string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		said := s.gateway.Run(t, "ip", "neighbour", "show", "to", s.address, "dev", "eth0")
		if strings.Contains(said, state) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the neighbour is %q, not %s", said, state)
		}
	}
}

// expect reads lines up to the last that was logged: all of them, in order.
func (s *site) expect(t *testing.T, from int) {
	t.Helper()
	for i := from; i <= s.logged; i++ {
		select {
		case got := <-s.got:
			if got != line(i) {
				t.Fatalf("%.10q has come, not line %d", got, i)
			}
		case <-time.After(patience):
			t.Fatalf("line %d of %d has not come", i, s.logged)
		}
	}
}

// kept is how many lines an appliance has logged by the time its network is up,
// and more than the kernel keeps for a neighbour that has not answered yet.
const kept = 700

func families(t *testing.T, f func(t *testing.T, family string)) {
	for _, family := range []string{"ipv4", "ipv6"} {
		t.Run(family, func(t *testing.T) { t.Parallel(); f(t, family) })
	}
}

// TestLateAnswer: the server's hardware address is known late. Nothing is lost,
// in particular not the oldest lines.
func TestLateAnswer(t *testing.T) {
	families(t, func(t *testing.T, family string) {
		s := newSite(t, family, kept, time.Second)
		s.send(t)
		s.neighbour(t, "INCOMPLETE")
		time.Sleep(1500 * time.Millisecond) // and is asked for a second time
		began := time.Now()
		s.ip(t, "add")
		s.expect(t, 1)
		// Not all at once: a server's socket of Linux's default size takes 256.
		if took := time.Since(began); took < 500*time.Millisecond {
			t.Errorf("%d lines within %v", kept, took)
		}
	})
}

// TestNoAnswer: nobody answers, and the kernel throws away what waits. All of it
// comes when the server is there.
func TestNoAnswer(t *testing.T) {
	families(t, func(t *testing.T, family string) {
		s := newSite(t, family, kept, 50*time.Millisecond)
		s.send(t)
		s.neighbour(t, "FAILED")
		s.ip(t, "add")
		s.expect(t, 1)
		s.ip(t, "del")
		s.gateway.Run(t, "ip", "neighbour", "flush", "dev", "eth0")
		from := s.logged + 1
		s.log(3) // fewer than the socket takes at once
		s.neighbour(t, "FAILED")
		s.log(3)
		s.ip(t, "add")
		s.expect(t, from)
	})
}

// TestStop: a sender that waits for a neighbour ends when it is told to.
func TestStop(t *testing.T) {
	families(t, func(t *testing.T, family string) {
		s := newSite(t, family, kept, time.Minute)
		stop := s.send(t)
		s.neighbour(t, "INCOMPLETE")
		time.Sleep(200 * time.Millisecond) // in which it has come to wait, nearly always
		stop()
		select {
		case <-s.ended:
		case <-time.After(patience):
			t.Error("it does not end")
		}
	})
}
