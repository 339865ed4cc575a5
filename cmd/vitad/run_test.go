package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vita/internal/appliance"
)

// begun is a gateway with a state, whose engine is yet to come.
func begun(t *testing.T) *runCmd {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := enrol(t.Context(), dir, appliance.Administrator{Name: "ann", Keys: string(keyLine(t))}); err != nil {
		t.Fatal(err)
	}
	return &runCmd{StateDir: dir, Netconf: "127.0.0.1:0", Restconf: "127.0.0.1:0", Confine: "off", LogLevel: "error"}
}

// all is what a service manager has been told so far.
func all(told func() string) (lines string) {
	for {
		said := told()
		if said == "" {
			return lines
		}
		lines += said + "\n"
	}
}

// TestEngineEnds: sessions are served while the engine starts. Where it ends instead,
// so does vitad, which says why, and never that it is ready.
func TestEngineEnds(t *testing.T) {
	c, told := begun(t), manager(t)
	c.Engine = filepath.Join(t.TempDir(), "engine")
	if err := os.WriteFile(c.Engine, []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	if err := c.Run(); err == nil || err.Error() != "vita-engine ended at its start: exit status 3" {
		t.Error(err)
	}
	if said := all(told); !strings.Contains(said, "X_VITA_NETCONF=1\n") || strings.Contains(said, "READY=1") {
		t.Errorf("told %q", said)
	}
	if _, err := os.Stat(c.routesUp()); err == nil {
		t.Error("knows which routes were up, of no engine")
	}
}

// TestEndWithoutEngine: who ends vitad before it has an engine need not wait for one.
func TestEndWithoutEngine(t *testing.T) {
	c, told := begun(t), manager(t)
	c.Appliance = machine(t, appliance.Answer{}) // which would start an engine
	ended := make(chan error)
	go func() { ended <- c.Run() }()
	for !strings.Contains(told(), "X_VITA_NETCONF=1") {
		select {
		case err := <-ended:
			t.Fatalf("it has ended, %v", err)
		default:
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(engineStart / 2):
		t.Fatal("vitad waits for an engine")
	}
	if said := all(told); strings.Contains(said, "READY=1") {
		t.Errorf("told %q", said)
	}
}
