package mgmt

import (
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// cpu is what this process, and so the servers, has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	check(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestFloodOfPasswords guesses by both protocols from one address. The user who
// is guessed at goes on where he works, and another logs in for the first time.
func TestFloodOfPasswords(t *testing.T) {
	s := start(t)
	data := s.restconf + "/restconf/data?content=config"
	if status, body := s.curl(data); status != "200" { // has logged in
		t.Fatal(status, body)
	}
	bad := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}, Timeout: 10 * time.Second}
	tr := &http.Transport{TLSClientConfig: s.tls("h2"), ForceAttemptHTTP2: true, DialContext: bad.DialContext, MaxConnsPerHost: 20}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	before := cpu(t)
	var wg sync.WaitGroup
	for range 300 {
		wg.Go(func() {
			r, err := http.NewRequest(http.MethodGet, data, nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.SetBasicAuth(user, "a wrong password")
			a, err := c.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			a.Body.Close()
			if a.StatusCode != http.StatusUnauthorized {
				t.Errorf("a wrong password: %s", a.Status)
			}
		})
	}
	for range 20 { // six tries each
		wg.Go(func() {
			conn, err := bad.Dial("tcp", s.netconf)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, _, _, err := ssh.NewClientConn(conn, s.netconf, &ssh.ClientConfig{
				User: user, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
				Auth: []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) { return "a wrong password", nil }), 6)},
			}); err == nil {
				t.Error("a wrong password was taken")
			}
		})
	}
	// Meanwhile and from elsewhere, the user by password, and one who is new here.
	if status, body := s.curl(data); status != "200" {
		t.Error("the user, by RESTCONF: ", status, body)
	}
	if status, body := s.curl("-u", second+":"+secondPassword, data); status != "200" {
		t.Error("another user, by RESTCONF: ", status, body)
	}
	s.scrapligo(user, password)
	wg.Wait()
	// Hundreds of hashes would take a minute; the address has a handful of them.
	if used := cpu(t) - before; used > 15*time.Second {
		t.Errorf("the flood took %v of processor time", used)
	}
	s.scrapligo(second, secondPassword)
}
