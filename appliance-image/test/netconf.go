package test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// Admin is the key of an administrator, made for a test.
type Admin struct {
	signer ssh.Signer
	Line   string // as in authorized_keys
}

// NewAdmin makes a key.
func NewAdmin(t testing.TB) Admin {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return Admin{signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " admin"}
}

// Netconf is a session.
type Netconf struct {
	Host   string // fingerprint of the server's key
	client *ssh.Client
	in     io.WriteCloser
	out    io.Reader
	buf    []byte
}

const end = "]]>]]>"

// Dial opens a session, and tries again while the server does not answer.
func (a Admin) Dial(t testing.TB, addr string, patience time.Duration) *Netconf {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		var n *Netconf
		if n, err = a.dial(addr); err == nil {
			t.Cleanup(func() { _ = n.client.Close() })
			return n
		}
	}
	t.Fatalf("no session with %s: %v", addr, err)
	return nil
}

func (a Admin) dial(addr string) (*Netconf, error) {
	n := new(Netconf)
	var err error
	n.client, err = ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: "admin", Auth: []ssh.AuthMethod{ssh.PublicKeys(a.signer)}, Timeout: 10 * time.Second,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error { n.Host = ssh.FingerprintSHA256(key); return nil },
	})
	if err != nil {
		return nil, err
	}
	s, err := n.client.NewSession()
	if err != nil {
		return nil, err
	}
	if n.in, err = s.StdinPipe(); err != nil {
		return nil, err
	}
	if n.out, err = s.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := s.RequestSubsystem("netconf"); err != nil {
		return nil, err
	}
	if _, err := n.message(); err != nil {
		return nil, err
	}
	_, err = io.WriteString(n.in, `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities></hello>`+end)
	return n, err
}

func (n *Netconf) message() (string, error) {
	b := make([]byte, 32<<10)
	for {
		if i := bytes.Index(n.buf, []byte(end)); i >= 0 {
			m := string(n.buf[:i])
			n.buf = n.buf[i+len(end):]
			return m, nil
		}
		k, err := n.out.Read(b)
		n.buf = append(n.buf, b[:k]...)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errClosed, err)
		}
	}
}

// Call sends an operation and returns the answer; rpc-error is an error.
func (n *Netconf) Call(op string) (string, error) {
	if _, err := io.WriteString(n.in, `<rpc message-id="1" xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+op+`</rpc>`+end); err != nil {
		return "", err
	}
	m, err := n.message()
	if err == nil && strings.Contains(m, "rpc-error") {
		err = fmt.Errorf("%s", m)
	}
	return m, err
}

// Must is Call where nothing may go wrong.
func (n *Netconf) Must(t testing.TB, op string) string {
	t.Helper()
	m, err := n.Call(op)
	if err != nil {
		t.Fatalf("%s\n%v", op, err)
	}
	return m
}

// Configure commits a configuration on top of what there is.
func (n *Netconf) Configure(t testing.TB, config string) {
	t.Helper()
	n.Must(t, `<edit-config><target><candidate/></target><config>`+config+`</config></edit-config>`)
	n.Must(t, `<commit/>`)
}

// Close ends the session.
func (n *Netconf) Close() { _ = n.client.Close() }
