package main

import (
	"os/exec"
	"testing"
)

// TestAhead: a program begins before its time, once, and each start lets go one.
func TestAhead(t *testing.T) {
	begun := 0
	cat := func() *exec.Cmd { return exec.CommandContext(t.Context(), "cat") } // its input ends when it is let go
	start := ahead(cat, func(cmd *exec.Cmd) error {
		begun++
		return cmd.Start()
	})
	for n := range 3 {
		if want := max(1, n); begun != want {
			t.Fatalf("%d have begun, want %d", begun, want)
		}
		p, err := start()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	}
	start = ahead(func() *exec.Cmd { return exec.CommandContext(t.Context(), "/nonexistent") }, (*exec.Cmd).Start)
	for range 2 {
		if _, err := start(); err == nil {
			t.Error("what is not there can be started")
		}
	}
}
