package timeline

import (
	"testing"
	"time"
)

func TestString(t *testing.T) {
	l := Line{marks: []mark{{"kernel", 3250 * time.Millisecond}, {"root found", 4*time.Second + 6*time.Millisecond}, {"ready", 9 * time.Second}}}
	if got, want := l.String(), "kernel 3.25, root found 4.01, ready 9.00"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestMark(t *testing.T) {
	var l Line
	l.Mark("a")
	time.Sleep(time.Millisecond)
	l.Mark("b")
	if a, b := l.marks[0].at, l.marks[1].at; a <= 0 || b < a+time.Millisecond {
		t.Errorf("%s, %s", a, b)
	}
}
