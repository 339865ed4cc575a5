package timeline

import (
	"testing"
	"time"
)

func TestLine(t *testing.T) {
	var l, next Line
	l.add("kernel", 3250*time.Millisecond)
	l.add("root found", 4*time.Second+6*time.Millisecond)
	if err := next.Parse(l.Text()); err != nil {
		t.Fatal(err)
	}
	next.add("ready", 9*time.Second)
	if got, want := next.String(), "kernel 3.25, root found 4.01, ready 9.00"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, bad := range []string{"\n", "1\n", "x y\n", "-1 y\n", "99999999999999999 y\n"} {
		if err := l.Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
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
