// Package logring keeps the last lines that the appliance's programs have
// logged, in memory, for the console and for senders to a syslog server.
package logring

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"
)

// Severity is that of syslog (RFC 5424, table 2).
type Severity uint8

// Severities in use.
const (
	Critical Severity = 2
	Error    Severity = 3
	Warning  Severity = 4
	Notice   Severity = 5
	Info     Severity = 6
	Debug    Severity = 7
)

// Line is one line of a log.
type Line struct {
	Seq      uint64 // from 1 on, without gaps
	At       time.Time
	Source   string // the program's name
	Severity Severity
	Text     string
}

// maxLine bounds a line: the rest of a longer one is a line of its own.
const maxLine = 4096

// Ring keeps lines up to a number of bytes. It is safe for concurrent use.
type Ring struct {
	limit int
	now   func() time.Time

	mu    sync.Mutex
	lines []Line
	bytes int
	last  uint64
	more  chan struct{} // closed when a line comes
}

// New returns an empty ring. A line counts for its text and a little more.
func New(limit int, now func() time.Time) *Ring {
	return &Ring{limit: limit, now: now, more: make(chan struct{})}
}

const overhead = 64

// Add appends a line, and forgets old ones.
func (r *Ring) Add(source string, s Severity, text string) {
	// What programs log must not move a terminal's cursor.
	text = strings.Map(func(c rune) rune {
		if c == '\t' {
			return ' '
		}
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return -1
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	r.lines = append(r.lines, Line{r.last, r.now(), source, s, text})
	r.bytes += len(text) + overhead
	for r.bytes > r.limit && len(r.lines) > 1 {
		r.bytes -= len(r.lines[0].Text) + overhead
		r.lines[0] = Line{}
		r.lines = r.lines[1:]
	}
	close(r.more)
	r.more = make(chan struct{})
}

// After returns the lines that have come after one, as far as they are kept.
func (r *Ring) After(seq uint64) []Line {
	lines, _ := r.after(seq)
	return lines
}

func (r *Ring) after(seq uint64) ([]Line, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq < r.last {
		n := int(min(r.last-seq, uint64(len(r.lines))))
		return append([]Line(nil), r.lines[len(r.lines)-n:]...), r.more
	}
	return nil, r.more
}

// Follow calls a function with lines as they come, from those after seq on,
// until ctx ends.
func (r *Ring) Follow(ctx context.Context, seq uint64, take func([]Line)) {
	for ctx.Err() == nil {
		lines, more := r.after(seq)
		if len(lines) > 0 {
			seq = lines[len(lines)-1].Seq
			take(lines)
			continue
		}
		select {
		case <-ctx.Done():
		case <-more:
		}
	}
}

// Writer returns a writer whose lines are added. A program's lines, such as
// level=WARN of slog, say how grave they are; others have the given severity.
func (r *Ring) Writer(source string, s Severity) io.Writer {
	return &writer{ring: r, source: source, severity: s}
}

type writer struct {
	ring     *Ring
	source   string
	severity Severity
	part     []byte
}

func (w *writer) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		end := len(b)
		for i, c := range b {
			if c == '\n' {
				end = i
				break
			}
		}
		room := maxLine - len(w.part)
		if end > room {
			w.part = append(w.part, b[:room]...)
			b = b[room:]
			w.flush()
			continue
		}
		w.part = append(w.part, b[:end]...)
		if end == len(b) {
			break
		}
		b = b[end+1:]
		w.flush()
	}
	return n, nil
}

func (w *writer) flush() {
	text := string(w.part)
	w.part = w.part[:0]
	if text != "" {
		w.ring.Add(w.source, SeverityOf(text, w.severity), text)
	}
}

// SeverityOf reads a line's level=LEVEL, as slog writes it near the beginning.
func SeverityOf(text string, otherwise Severity) Severity {
	head := text[:min(len(text), 80)]
	_, level, ok := strings.Cut(head, "level=")
	if !ok {
		return otherwise
	}
	level, _, _ = strings.Cut(level, " ")
	switch level {
	case "ERROR":
		return Error
	case "WARN":
		return Warning
	case "INFO":
		return Info
	case "DEBUG":
		return Debug
	}
	return otherwise
}
