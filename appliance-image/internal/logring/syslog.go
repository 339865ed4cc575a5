package logring

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"
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

// SendTo sends lines to a syslog server by UDP (RFC 5426), those that are kept
// first, until ctx ends. What does not arrive is lost, as syslog is; while the
// server's name cannot be resolved, or there is no network, lines wait.
func (r *Ring) SendTo(ctx context.Context, server string, host func() string) {
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(strings.Trim(server, "[]"), "514")
	}
	const patience = 5 * time.Second
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close() // nothing is buffered
		}
	}()
	r.Follow(ctx, 0, func(lines []Line) {
		for _, l := range lines {
			for ctx.Err() == nil {
				if conn == nil {
					c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "udp", server)
					if err != nil {
						wait(ctx, patience)
						continue
					}
					conn = c
				}
				if _, err := conn.Write([]byte(l.Format(host()))); err == nil {
					break
				}
				_ = conn.Close()
				conn = nil
				wait(ctx, time.Second)
			}
		}
	})
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
