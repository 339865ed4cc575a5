package access

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestClientCAIsChecked(t *testing.T) {
	dir := t.TempDir()
	if pool, err := ClientCA(dir); pool != nil || err != nil {
		t.Fatalf("without a file: %v %v", pool, err)
	}
	if _, err := Certificate(dir); err != nil {
		t.Fatal(err)
	}
	cert, err := os.ReadFile(filepath.Join(dir, "tls.crt")) // a CA's, self-signed
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ file, says string }{
		"empty":         {"", "no certificate"},
		"no PEM":        {"a CA", "no certificate"},
		"a key as well": {string(cert) + string(key), "private key"},
		"damaged":       {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "certificate 1"},
	} {
		if err := StoreClientCA(dir, []byte(c.file)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
		if err := os.WriteFile(filepath.Join(dir, clientCAFile), []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ClientCA(dir); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), clientCAFile) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
	if err := StoreClientCA(dir, append([]byte("My CA\n"), cert...)); err != nil {
		t.Fatal(err)
	}
	if pool, err := ClientCA(dir); pool == nil || err != nil {
		t.Fatal(pool, err)
	}
}

func TestUserOfCertificate(t *testing.T) {
	_, line := newKey(t)
	u := NewUsers()
	if err := u.Add(User{Name: "admin", Keys: []string{line}}); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	later := now.Add(time.Hour)
	cert := func(until time.Time, names ...string) *x509.Certificate {
		c := &x509.Certificate{NotAfter: until, EmailAddresses: []string{"admin"}, DNSNames: []string{"admin"}}
		for _, n := range names {
			c.Subject.Names = append(c.Subject.Names, pkix.AttributeTypeAndValue{Type: commonName, Value: n})
		}
		return c
	}
	ca := &x509.Certificate{NotAfter: later}
	for what, c := range map[string]struct {
		chains [][]*x509.Certificate
		says   string
	}{
		"good":              {[][]*x509.Certificate{{cert(later, "admin"), ca}}, ""},
		"another chain":     {[][]*x509.Certificate{{cert(later, "admin"), {}}, {cert(later, "admin"), ca}}, ""},
		"expired":           {[][]*x509.Certificate{{cert(now.Add(-1), "admin"), ca}}, "expired"},
		"the CA has":        {[][]*x509.Certificate{{cert(later, "admin"), {NotAfter: now.Add(-1)}}}, "expired"},
		"no chain":          {nil, "expired"},
		"unknown":           {[][]*x509.Certificate{{cert(later, "root"), ca}}, "nobody"},
		"in capitals":       {[][]*x509.Certificate{{cert(later, "Admin"), ca}}, "nobody"},
		"a zero at the end": {[][]*x509.Certificate{{cert(later, "admin\x00"), ca}}, "nobody"},
		"two names":         {[][]*x509.Certificate{{cert(later, "root", "admin"), ca}}, "2 common names"},
		"none":              {[][]*x509.Certificate{{cert(later), ca}}, "0 common names"},
	} {
		name, err := u.OfCertificate(c.chains, now)
		if c.says == "" {
			if name != "admin" || err != nil {
				t.Errorf("%s: %q %v", what, name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q %v, want %q", what, name, err, c.says)
		}
	}
}

func FuzzParseCAs(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if pool, err := parseCAs(b); (pool == nil) == (err == nil) {
			t.Fatalf("%v %v", pool, err)
		}
	})
}
