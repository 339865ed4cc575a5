// Package timeline notes when the steps of a start were done, for whoever wants
// to know what a slow start has waited for.
package timeline

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

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
func (l *Line) Mark(step string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks = append(l.marks, mark{step, Uptime()})
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
