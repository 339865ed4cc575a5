package clock

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMonoIsTheSystemsClock(t *testing.T) {
	for range 100 {
		var before, after unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
			t.Fatal(err)
		}
		got := Mono()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &after); err != nil {
			t.Fatal(err)
		}
		const slack = int64(time.Millisecond)
		if got < before.Nano()-slack || got > after.Nano()+slack {
			t.Fatalf("Mono() = %d, want within %d and %d", got, before.Nano(), after.Nano())
		}
	}
}

func TestMonoNeverGoesBack(t *testing.T) {
	last := Mono()
	for range 10000 {
		now := Mono()
		if now < last {
			t.Fatalf("Mono went from %d to %d", last, now)
		}
		last = now
	}
}

func BenchmarkMono(b *testing.B) {
	for b.Loop() {
		Mono()
	}
}
