// Package timeline notes when the steps of a start were done, for whoever wants
// to know what a slow start has waited for.
package timeline

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// File is where the program before init leaves what it has noted.
const File = "/run/vita-timeline"

// Line is a list of steps and times. Its zero value is empty.
type Line struct {
	mu    sync.Mutex
	marks []mark
}

type mark struct {
	step string
	at   time.Duration // since the kernel's start
}

// Uptime is the time since the kernel's start.
func Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// Mark notes that a step is done now.
func (l *Line) Mark(step string) { l.add(step, Uptime()) }

func (l *Line) add(step string, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks = append(l.marks, mark{step, at})
}

// Text is what Parse reads: a line for each step, with its time in microseconds.
func (l *Line) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, m := range l.marks {
		fmt.Fprintf(&b, "%d %s\n", m.at.Microseconds(), m.step)
	}
	return b.String()
}

// Parse adds the steps of a text.
func (l *Line) Parse(text string) error {
	for line := range strings.Lines(text) {
		number, step, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		us, err := strconv.ParseUint(number, 10, 50)
		if !ok || err != nil {
			return fmt.Errorf("timeline: line %q: want microseconds and a step", line)
		}
		l.add(step, time.Duration(us)*time.Microsecond)
	}
	return nil
}

// String is for people: each step with the seconds since the kernel's start.
func (l *Line) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	words := make([]string, len(l.marks))
	for i, m := range l.marks {
		words[i] = fmt.Sprintf("%s %.2f", m.step, m.at.Seconds())
	}
	return strings.Join(words, ", ")
}
