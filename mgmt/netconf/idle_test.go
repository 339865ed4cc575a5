package netconf

import (
	"io"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestIdleConnectionsAreEnded has clients that log in and open no session, or
// nothing but channels, and one that has a session and then none.
func TestIdleConnectionsAreEnded(t *testing.T) {
	s := newServer(t)
	s.idleTime = 500 * time.Millisecond
	addr, key := listen(t, s)
	dial := func() *ssh.Client {
		t.Helper()
		c, err := ssh.Dial("tcp", addr, sshConfig("admin", ssh.PublicKeys(key)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ended := func(what string, c *ssh.Client, within time.Duration) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			_ = c.Wait()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(within):
			t.Errorf("%s: the connection is still there", what)
		}
	}
	begun := time.Now()
	silent, channels := dial(), dial()
	for range 3 { // the channels ask for nothing
		if _, err := channels.NewSession(); err != nil && time.Since(begun) < s.idleTime {
			t.Fatal(err)
		}
	}
	var busy *ssh.Client
	session := func() (io.Closer, *framer, error) {
		n, err := busy.NewSession()
		if err != nil {
			return nil, nil, err
		}
		in, err := n.StdinPipe()
		if err != nil {
			return nil, nil, err
		}
		out, err := n.StdoutPipe()
		if err != nil {
			return nil, nil, err
		}
		if err := n.RequestSubsystem("netconf"); err != nil {
			return nil, nil, err
		}
		f := newFramer(pipe{out, in}, 1<<20)
		_, err = f.read()
		return n, f, err
	}
	var first io.Closer
	for try := 0; ; try++ { // a busy machine may take longer for the first one than it has
		var err error
		busy = dial()
		if first, _, err = session(); err == nil {
			break
		}
		if try == 10 {
			t.Fatal(err)
		}
	}
	second, f, err := session()
	if err != nil {
		t.Fatal(err)
	}
	ended("nothing said", silent, 30*time.Second)
	if d := time.Since(begun); d < s.idleTime {
		t.Errorf("it was ended after %v", d)
	}
	ended("channels without a subsystem", channels, 30*time.Second)
	first.Close()
	time.Sleep(2 * s.idleTime)
	if err := f.write([]byte(hello11)); err != nil {
		t.Errorf("a connection with a session was ended: %v", err)
	}
	second.Close()
	ended("its sessions have ended", busy, 30*time.Second)
}

// TestTooManyIdleConnections: the oldest goes, and there is room for who comes.
func TestTooManyIdleConnections(t *testing.T) {
	s := newServer(t)
	addr, key := listen(t, s)
	all := make([]*ssh.Client, maxIdle+1)
	for i := range all {
		c, err := ssh.Dial("tcp", addr, sshConfig("admin", ssh.PublicKeys(key)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all[i] = c
	}
	// A client is through before the server has seen it, so that the oldest may be
	// one of a few.
	done := make(chan error, 8)
	for _, c := range all[:8] {
		go func() { done <- c.Wait() }()
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("the oldest is still there")
	}
	if _, err := all[maxIdle].NewSession(); err != nil {
		t.Errorf("the newest: %v", err)
	}
}
