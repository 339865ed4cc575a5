package mgmt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vita/mgmt/access"
)

// authority issues clients' certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	check(t, err)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// issue returns curl's options for a certificate of its own.
func (a *authority) issue(name string, until time.Duration, use x509.ExtKeyUsage) []string {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(until),
		ExtKeyUsage: []x509.ExtKeyUsage{use}, KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{user}, EmailAddresses: []string{user + "@example.net"},
	}, a.cert, key.Public(), a.key)
	check(a.t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	check(a.t, err)
	f, err := os.CreateTemp(a.dir, "cert")
	check(a.t, err)
	check(a.t, pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	check(a.t, pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	check(a.t, f.Close())
	return []string{"--cert", f.Name(), "--key", f.Name()}
}

// TestClientCertificates logs in to RESTCONF by curl with certificates, with
// passwords, and with both.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "ours") // the same name, another key
	check(t, access.StoreClientCA(dir, ours.pem))
	s := startIn(t, dir)
	const client, hour = x509.ExtKeyUsageClientAuth, time.Hour
	good := ours.issue(user, hour, client)
	pass := func(user, password string) []string { return []string{"-u", user + ":" + password} }
	both := func(cert []string, more ...string) []string { return append(append([]string{}, cert...), more...) }
	for what, c := range map[string]struct {
		args []string
		want string // the status; "" for a handshake that fails
	}{
		"right":                                {good, "200"},
		"right, HTTP/1.1":                      {both(good, "--http1.1"), "200"},
		"nothing":                              {nil, "401"},
		"a password":                           {pass(user, password), "200"},
		"unknown user":                         {ours.issue("nobody", hour, client), "401"},
		"no name":                              {ours.issue("", hour, client), "401"},
		"another CA":                           {theirs.issue(user, hour, client), ""},
		"expired":                              {ours.issue(user, -time.Minute, client), ""},
		"a server's certificate":               {ours.issue(user, hour, x509.ExtKeyUsageServerAuth), ""},
		"with the user's password":             {both(good, pass(user, password)...), "200"},
		"with a wrong password":                {both(good, pass(user, "wrong")...), "401"},
		"another's password":                   {both(ours.issue(second, hour, client), pass(user, password)...), "401"},
		"nobody's, with a password":            {both(ours.issue("nobody", hour, client), pass(user, password)...), "401"},
		"with a header that is not understood": {both(good, "-H", "Authorization: Bearer x"), "401"},
		"another CA's, with a password":        {both(theirs.issue(user, hour, client), pass(user, password)...), ""},
	} {
		args := append([]string{"-sS", "--max-time", "30", "--cacert", filepath.Join(dir, "tls.crt"), "-o", "/dev/null", "-w", "%{http_code}", s.restconf + "/restconf/data?content=config"}, c.args...)
		out, err := exec.Command("curl", args...).Output()
		if c.want == "" {
			if err == nil || string(out) != "000" {
				t.Errorf("%s: %s %v, want a failed handshake", what, out, err)
			}
		} else if err != nil || string(out) != c.want {
			t.Errorf("%s: %s %v, want %s", what, out, err, c.want)
		}
	}
	// The history has the certificate's user.
	args := append([]string{"-sS", "--cacert", filepath.Join(dir, "tls.crt"), "-X", "PUT", "-H", "Content-Type: " + mediaJSON, "-d", `{"vita-esp-gateway:mtu":1400}`, s.restconf + "/restconf/data/vita-esp-gateway:mtu"}, ours.issue(second, hour, client)...)
	if out, err := exec.Command("curl", args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%s %v", out, err)
	}
	commits, err := s.operator().History(t.Context(), 1, false)
	check(t, err)
	if got := strings.Join(commits.Lines(), "\n"); !strings.Contains(got, second+" by restconf") {
		t.Errorf("history: %s", got)
	}
}

// Without a CA a certificate is not asked for, and says nothing.
func TestNoClientCA(t *testing.T) {
	s := start(t)
	if status, _ := s.curl(append(newAuthority(t, "any").issue(second, time.Hour, x509.ExtKeyUsageClientAuth), s.restconf+"/restconf/data")...); status != "200" {
		t.Error(status)
	}
	out, err := exec.Command("curl", append([]string{"-sS", "--cacert", filepath.Join(s.dir, "tls.crt"), "-o", "/dev/null", "-w", "%{http_code}", s.restconf + "/restconf/data"},
		newAuthority(t, "any").issue(user, time.Hour, x509.ExtKeyUsageClientAuth)...)...).Output()
	if err != nil || string(out) != "401" {
		t.Errorf("%s %v", out, err)
	}
}
