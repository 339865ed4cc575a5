package netconf

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"vita/mgmt/access"

	"golang.org/x/crypto/ssh"
)

func testSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testHostKey(t testing.TB) ssh.Signer { return testSigner(t) }

// listen serves s on loopback and returns its address and a client's key.
func listen(t *testing.T, s *Server) (addr string, key ssh.Signer) {
	t.Helper()
	key = testSigner(t)
	users := access.NewUsers()
	hash, err := access.HashPassword("a long password")
	if err != nil {
		t.Fatal(err)
	}
	if err := users.Add(access.User{Name: "admin", PasswordHash: hash, Keys: []string{string(ssh.MarshalAuthorizedKey(key.PublicKey()))}}); err != nil {
		t.Fatal(err)
	}
	s.o.Users = users
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String(), key
}

func sshConfig(user string, auth ...ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second}
}

func TestLogin(t *testing.T) {
	addr, key := listen(t, newServer(t))
	for _, c := range []struct {
		what string
		c    *ssh.ClientConfig
		ok   bool
	}{
		{"key", sshConfig("admin", ssh.PublicKeys(key)), true},
		{"password", sshConfig("admin", ssh.Password("a long password")), true},
		{"another key", sshConfig("admin", ssh.PublicKeys(testSigner(t))), false},
		{"wrong password", sshConfig("admin", ssh.Password("a wrong password")), false},
		{"unknown user", sshConfig("root", ssh.PublicKeys(key)), false},
		{"nothing", sshConfig("admin"), false},
	} {
		conn, err := ssh.Dial("tcp", addr, c.c)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok %v", c.what, err, c.ok)
		}
		if conn != nil {
			conn.Close()
		}
	}
}

func TestNoShell(t *testing.T) {
	addr, key := listen(t, newServer(t))
	conn, err := ssh.Dial("tcp", addr, sshConfig("admin", ssh.PublicKeys(key)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if s, err := conn.NewSession(); err == nil {
		if err := s.Shell(); err == nil {
			t.Error("got a shell")
		}
		if err := s.RequestSubsystem("sftp"); err == nil {
			t.Error("got sftp")
		}
		s.Close()
	}
	if c, err := conn.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the server forwards TCP connections")
	}
}

func TestSessionOverSSHIsServed(t *testing.T) {
	addr, key := listen(t, newServer(t))
	conn, err := ssh.Dial("tcp", addr, sshConfig("admin", ssh.PublicKeys(key)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
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
	if b, err := f.read(); err != nil || !strings.Contains(string(b), "<session-id>1</session-id>") {
		t.Fatalf("hello %q, %v", b, err)
	}
	if err := f.write([]byte(hello10)); err != nil {
		t.Fatal(err)
	}
	if err := f.write([]byte(`<rpc message-id="1" xmlns="` + nsBase + `"><close-session/></rpc>`)); err != nil {
		t.Fatal(err)
	}
	if b, err := f.read(); err != nil || !strings.Contains(string(b), "<ok/>") {
		t.Fatalf("reply %q, %v", b, err)
	}
	if _, err := f.read(); !errors.Is(err, io.EOF) {
		t.Fatalf("after close-session: %v, want the channel's end", err)
	}
}

func TestHelloIsChecked(t *testing.T) {
	for what, hello := range map[string]string{
		"no base":        `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:x</capability></capabilities></hello>`,
		"session-id":     strings.Replace(hello10, "</capabilities>", "</capabilities><session-id>4</session-id>", 1),
		"an rpc":         `<rpc message-id="1" xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><get/></rpc>`,
		"no XML":         `hello`,
		"DTD and entity": `<!DOCTYPE a [<!ENTITY b "c">]>` + hello10,
	} {
		p := newServer(t).dial(t, hello)
		if got := p.rpc("<get/>"); got != "session closed" {
			t.Errorf("%s: session goes on: %s", what, got)
		}
	}
}

func TestOldFraming(t *testing.T) {
	p := newServer(t).dial(t, hello10)
	if got := p.rpc("<lock><target><running/></target></lock>"); got != "<ok/>" {
		t.Fatal(got)
	}
	// malformed-message does not exist for base:1.0; the session ends.
	if got := p.raw("<rpc"); got != "session closed" {
		t.Fatal(got)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s := newServer(t)
	s.o.MaxSessions = 2
	s.dial(t, hello11)
	s.dial(t, hello11)
	ours, theirs := net.Pipe()
	defer ours.Close()
	s.serveSession(t.Context(), theirs, "tester", "192.0.2.1:1") // returns at once
}

func TestKilledSessionLosesItsLocks(t *testing.T) {
	s := newServer(t)
	a, b := s.dial(t, hello11), s.dial(t, hello11)
	const lock = "<lock><target><candidate/></target></lock>"
	if got := a.rpc(lock); got != "<ok/>" {
		t.Fatal(got)
	}
	if got := b.rpc(lock); !strings.Contains(got, "<error-tag>lock-denied</error-tag>") || !strings.Contains(got, "<session-id>1</session-id>") {
		t.Fatal(got)
	}
	if got := b.rpc("<kill-session><session-id>1</session-id></kill-session>"); got != "<ok/>" {
		t.Fatal(got)
	}
	if got := b.rpc(lock); got != "<ok/>" {
		t.Fatal(got)
	}
	if got := a.rpc("<get/>"); got != "session closed" {
		t.Fatal(got)
	}
}
