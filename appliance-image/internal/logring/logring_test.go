package logring

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

func at() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 123456789, time.UTC) }

func texts(lines []Line) string {
	var all []string
	for _, l := range lines {
		all = append(all, l.Text)
	}
	return strings.Join(all, "|")
}

func TestForgets(t *testing.T) {
	r := New(3*(overhead+1), at)
	for _, c := range "abcde" {
		r.Add("x", Info, string(c))
	}
	for seq, want := range map[uint64]string{0: "c|d|e", 2: "c|d|e", 3: "d|e", 4: "e", 5: "", 99: ""} {
		if got := texts(r.After(seq)); got != want {
			t.Errorf("after %d: %s, want %s", seq, got, want)
		}
	}
	r.Add("x", Info, strings.Repeat("l", 1000)) // more than the ring's limit: kept alone
	if n := len(r.After(0)); n != 1 {
		t.Errorf("%d lines", n)
	}
}

func TestWriter(t *testing.T) {
	r := New(1<<20, at)
	w := r.Writer("vitad", Notice)
	for _, s := range []string{"time=x level=WARN msg=a", "\n\nlevel=ERROR b\nplain", " text\nlevel=NONE\x1b[2Jc\td\xff\n", strings.Repeat("y", maxLine+3), "\n", "no end"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	lines := r.After(0)
	want := []struct {
		s Severity
		t string
	}{{Warning, "time=x level=WARN msg=a"}, {Error, "level=ERROR b"}, {Notice, "plain text"}, {Notice, "level=NONE[2Jc d?"}, {Notice, strings.Repeat("y", maxLine)}, {Notice, "yyy"}}
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %s", len(lines), texts(lines))
	}
	for i, w := range want {
		if lines[i].Severity != w.s || lines[i].Text != w.t || lines[i].Source != "vitad" || lines[i].Seq != uint64(i+1) {
			t.Errorf("line %d: %+v", i, lines[i])
		}
	}
}

func TestFormat(t *testing.T) {
	l := Line{Seq: 1, At: at(), Source: "vita d", Severity: Warning, Text: "größer"}
	if got, want := l.Format("gw 1"), "<132>1 2026-11-26T12:00:00.123456Z gw1 vitad - - - \ufeffgrößer"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	l = Line{Text: strings.Repeat("ö", maxDatagram)}
	if got := l.Format(""); len(got) > maxDatagram || !strings.HasPrefix(got, "<128>1 ") || !strings.Contains(got, " - - - - - ") || strings.ContainsRune(got, '\ufffd') {
		t.Errorf("%d bytes, %.60q", len(got), got)
	}
}

// TestSendTo: a server gets what has been logged before and after.
func TestSendTo(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := New(1<<20, at)
	r.Add("a", Info, "before")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.SendTo(ctx, c.LocalAddr().String(), func() string { return "gw" }); close(done) }()
	b := make([]byte, 4096)
	for _, want := range []string{"before", "after"} {
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := c.ReadFrom(b)
		if err != nil || !strings.HasSuffix(string(b[:n]), want) {
			t.Fatalf("%q, %v", b[:n], err)
		}
		r.Add("a", Info, "after")
	}
	stop()
	<-done
}

// FuzzWriter: what comes out is a line each, printable and bounded, whatever
// pieces it came in.
func FuzzWriter(f *testing.F) {
	f.Add([]byte("level=INFO a\nb\x1b[31m\n"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		r := New(1<<20, at)
		w := r.Writer("x", Info)
		for len(b) > 0 {
			n := min(int(cut)+1, len(b))
			if _, err := w.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		for _, l := range r.After(0) {
			if m := l.Format("h"); len(m) > maxDatagram || strings.ContainsAny(m, "\n\r\x1b\x00") {
				t.Fatalf("%q", m)
			}
		}
	})
}
