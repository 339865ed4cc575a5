package netconf

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// begin opens a session over SSH and returns its framing, past the hellos.
func begin(t *testing.T, addr string, key ssh.Signer, hello string) *framer {
	t.Helper()
	conn, err := ssh.Dial("tcp", addr, sshConfig("admin", ssh.PublicKeys(key)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s, err := conn.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestSubsystem("netconf"); err != nil {
		t.Fatal(err)
	}
	f := newFramer(pipe{out, in}, 1<<20)
	if _, err := f.read(); err != nil {
		t.Fatal(err)
	}
	if hello != "" {
		if err := f.write([]byte(hello)); err != nil {
			t.Fatal(err)
		}
		f.chunked = strings.Contains(hello, base11)
	}
	return f
}

// endsWithin checks that the server ends the channel in time.
func endsWithin(t *testing.T, f *framer, d time.Duration) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := f.read()
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, io.EOF) {
			t.Errorf("%v, want the channel's end", err)
		}
	case <-time.After(d):
		t.Errorf("the session is still there after %v", d)
	}
}

// TestSlowClientsAreEnded has clients that stop in the middle of what they say,
// and one that is silent between two messages, which is its right.
func TestSlowClientsAreEnded(t *testing.T) {
	// Short is what a client must not take: a busy one may need longer for a hello.
	const short = 500 * time.Millisecond
	const get = `<rpc message-id="1" xmlns="` + nsBase + `"><get/></rpc>`
	for what, c := range map[string]struct{ hello, begin string }{
		"no hello":                   {"", ""},
		"half a hello":               {"", hello11[:40]},
		"half a chunk header":        {hello11, "\n#1"},
		"half a chunk":               {hello11, "\n#500\n<rpc"},
		"no end of chunks":           {hello11, "\n#4\n<rpc"},
		"half a message, old way":    {hello10, "<rpc"},
		"half a mark of the old way": {hello10, get + "]]>]]"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if c.hello == "" {
				s.helloTime = short
			} else {
				s.messageTime = short
			}
			addr, key := listen(t, s)
			f := begin(t, addr, key, c.hello)
			_, _ = f.w.Write([]byte(c.begin)) // which fails where the session has ended already
			endsWithin(t, f, 30*time.Second)
		})
	}
	for what, hello := range map[string]string{"chunks": hello11, "old framing": hello10} {
		t.Run("silence is allowed, "+what, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.messageTime = short
			addr, key := listen(t, s)
			f := begin(t, addr, key, hello)
			if !f.chunked { // some clients end a message by a line feed
				if _, err := f.w.Write([]byte("\n\n")); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * s.messageTime)
			if err := f.write([]byte(get)); err != nil {
				t.Fatal(err)
			}
			if b, err := f.read(); err != nil || !strings.Contains(string(b), "<data>") {
				t.Fatalf("%.80q %v", b, err)
			}
		})
	}
}

// deaf is a connection whose client stops to read what the server says.
type deaf struct {
	net.Conn
	stopped chan struct{}
	over    chan struct{} // the test
}

func (d *deaf) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	select {
	case <-d.stopped: // what has come meanwhile is lost
		<-d.over
	default:
	}
	return n, err
}

// TestClientThatIgnoresItsEnd kills a session whose client neither reads nor
// closes: it loses its connection, and its place is free again.
func TestClientThatIgnoresItsEnd(t *testing.T) {
	s := newServer(t)
	s.closeTime = 300 * time.Millisecond
	addr, key := listen(t, s)
	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	d := &deaf{Conn: tcp, stopped: make(chan struct{}), over: make(chan struct{})}
	defer close(d.over)
	conn, channels, requests, err := ssh.NewClientConn(d, addr, sshConfig("admin", ssh.PublicKeys(key)))
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	go func() {
		for range channels {
		}
	}()
	ch, reqs, err := conn.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"netconf"})); err != nil || !ok {
		t.Fatal(ok, err)
	}
	f := newFramer(ch, 1<<20)
	if _, err := f.read(); err != nil {
		t.Fatal(err)
	}
	if err := f.write([]byte(hello11)); err != nil {
		t.Fatal(err)
	}
	killer := begin(t, addr, key, hello11)
	close(d.stopped)
	kill := `<rpc message-id="1" xmlns="` + nsBase + `"><kill-session><session-id>1</session-id></kill-session></rpc>`
	if err := killer.write([]byte(kill)); err != nil {
		t.Fatal(err)
	}
	if b, err := killer.read(); err != nil || !strings.Contains(string(b), "<ok/>") {
		t.Fatalf("%s %v", b, err)
	}
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		n, there := len(s.sessions), s.sessions[1] != nil
		s.mu.Unlock()
		if n == 1 && !there {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("the killed session is still one of %d", n)
		}
	}
}

// TestTooBigIsSaid has a client announce more than the server takes.
func TestTooBigIsSaid(t *testing.T) {
	s := newServer(t)
	s.o.MaxMessage = 1000
	addr, key := listen(t, s)
	for what, c := range map[string]struct{ hello, message string }{
		"a chunk":         {hello11, "\n#4294967295\n<rpc"},
		"chunks":          {hello11, "\n#600\n" + strings.Repeat(" ", 600) + "\n#600\n"},
		"the old framing": {hello10, "<rpc>" + strings.Repeat(" ", 1100) + ">"},
	} {
		t.Run(what, func(t *testing.T) {
			f := begin(t, addr, key, c.hello)
			if _, err := f.w.Write([]byte(c.message)); err != nil {
				t.Fatal(err)
			}
			if b, err := f.read(); err != nil || !strings.Contains(string(b), "<error-tag>too-big</error-tag>") {
				t.Fatalf("%s %v", b, err)
			}
			endsWithin(t, f, 30*time.Second)
		})
	}
}
