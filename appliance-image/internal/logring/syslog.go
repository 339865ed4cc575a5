package logring

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// facility is local0 (RFC 5424, table 1).
const facility = 16

// nilValue stands where there is nothing to say.
const nilValue = "-"

// maxDatagram is what every receiver of syslog over UDP should take (RFC 5426,
// section 3.2).
const maxDatagram = 2048

// Format returns a line as a message of RFC 5424.
func (l Line) Format(host string) string {
	head := "<" + strconv.Itoa(facility*8+int(l.Severity)) + ">1 " + l.At.UTC().Format("2006-01-02T15:04:05.000000Z") +
		" " + word(host, 255) + " " + word(l.Source, 48) + " - - - \ufeff"
	m := head + l.Text
	if len(m) > maxDatagram {
		m = strings.ToValidUTF8(m[:maxDatagram], "")
	}
	return m
}

// word is a string as a header field: printable ASCII without spaces.
func word(s string, most int) string {
	s = strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f {
			return -1
		}
		return c
	}, s)
	if s == "" {
		return nilValue
	}
	return s[:min(len(s), most)]
}

// Lines go in portions, with a pause after each: a server's socket takes a few
// hundred at once, and so does the kernel while it asks for a neighbour's
// hardware address: of more it drops the oldest without a word, and all senders
// share that.
const (
	portion = 16
	pause   = 20 * time.Millisecond
)

// SendTo sends lines to a syslog server by UDP (RFC 5426), those that are kept
// first, until ctx ends. What is lost beyond this machine is lost, as syslog is;
// while the server's name cannot be resolved, there is no network or nobody who
// answers, lines wait. Some may come twice after that.
func (r *Ring) SendTo(ctx context.Context, server string, host func() string) {
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(strings.Trim(server, "[]"), "514")
	}
	const patience = 5 * time.Second
	dialer := net.Dialer{Timeout: patience, Control: reportAll}
	var gone uint64 // the last line that has left this machine
	for ctx.Err() == nil {
		conn, err := dialer.DialContext(ctx, "udp", server)
		if err != nil {
			wait(ctx, patience)
			continue
		}
		gone = r.sendBy(ctx, conn, gone, host)
		wait(ctx, time.Second)
	}
}

// reportAll has the kernel report what it keeps to itself otherwise: that a
// neighbour did not answer, and what waited for it is thrown away.
func reportAll(network, _ string, c syscall.RawConn) error {
	level, option := unix.SOL_IP, unix.IP_RECVERR
	if network == "udp6" {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }), err)
}

// sendBy sends lines after one until there is an error, and returns the last of
// those that have left.
func (r *Ring) sendBy(ctx context.Context, conn net.Conn, gone uint64, host func() string) uint64 {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // also while Write waits; nothing is buffered
	r.Follow(ctx, gone, func(lines []Line) {
		for some := range slices.Chunk(lines, portion) {
			for _, l := range some {
				if _, err := conn.Write([]byte(l.Format(host()))); err != nil {
					stop()
					return
				}
			}
			if !haveLeft(ctx, conn) {
				stop()
				return
			}
			gone = some[len(some)-1].Seq
		}
	})
	return gone
}

// haveLeft waits until nothing of what was written to a socket is in this machine
// any more, and reports whether that went without an error.
func haveLeft(ctx context.Context, conn net.Conn) bool {
	udp, ok := conn.(syscall.Conn)
	if !ok {
		return false // what net dials is one
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return false
	}
	// A neighbour fails to answer after three seconds. A card that still has it
	// after this time does not say what it has sent.
	for end := time.Now().Add(10 * time.Second); ; {
		wait(ctx, pause)
		var queued, failed int
		var err1, err2 error
		err := raw.Control(func(fd uintptr) { // in this order: what is thrown away is reported before
			queued, err1 = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
			failed, err2 = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		})
		if errors.Join(err, err1, err2) != nil || failed != 0 || ctx.Err() != nil {
			return false
		}
		if queued == 0 || time.Now().After(end) {
			return true
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
