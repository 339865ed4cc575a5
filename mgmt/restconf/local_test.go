package restconf

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListenLocal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	ln, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if _, err := ListenLocal(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second one: %v", err)
	}
	// What a process that was killed has left is in nobody's way.
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	ln.Close()
	if ln, err = ListenLocal(path); err != nil {
		t.Fatal(err)
	}
	ln.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenLocal(file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("in the place of a file: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
		t.Errorf("the file is gone: %v", err)
	}
}

// TestTrusted: the server's own user is, and nobody who comes by another way.
func TestTrusted(t *testing.T) {
	ln, err := ListenLocal(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	theirs, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if !trusted(theirs) {
		t.Error("the server's own user is not trusted")
	}
	theirs.Close()
	if trusted(theirs) {
		t.Error("a connection of which nothing is known is trusted")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if trusted(a) {
		t.Error("a pipe is trusted")
	}
}
