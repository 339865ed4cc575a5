package access

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const clientCAFile = "client-ca.crt"

// ClientCA returns the authorities whose certificates clients log in by, or nil
// where the state directory has none.
func ClientCA(dir string) (*x509.CertPool, error) {
	path := filepath.Join(dir, clientCAFile)
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the client CA: %w", err)
	}
	pool, err := parseCAs(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: put the CA's certificate there, or remove the file", path, err)
	}
	return pool, nil
}

// CheckClientCA says what is wrong with a PEM file of authorities.
func CheckClientCA(file []byte) error {
	_, err := parseCAs(file)
	return err
}

// StoreClientCA makes the authorities of a PEM file those that ClientCA returns.
func StoreClientCA(dir string, file []byte) error {
	if err := CheckClientCA(file); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, clientCAFile), file); err != nil {
		return fmt.Errorf("store the client CA: %w", err)
	}
	return nil
}

// parseCAs reads certificates in PEM, with text around them. A certificate that
// is no CA's would let nobody in; a private key has no business there.
func parseCAs(file []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s, not certificates alone", strings.ToLower(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("certificate %d (%s) is not a CA's", n+1, c.Subject)
		}
		pool.AddCert(c)
		n++
	}
	if n == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return pool, nil
}

var commonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// OfCertificate returns the user whom a client's certificate names, given the
// chains by which it was verified. The user's name is the subject's common name
// as it stands, and the only one; alternative names are not looked at. It is
// asked for each request, so that a certificate also expires within a connection.
func (u *Users) OfCertificate(chains [][]*x509.Certificate, now time.Time) (name string, err error) {
	valid := func(chain []*x509.Certificate) bool {
		return len(chain) > 0 && !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
	}
	i := slices.IndexFunc(chains, valid)
	if i < 0 {
		return "", errors.New("the certificate has expired")
	}
	names := 0
	for _, a := range chains[i][0].Subject.Names {
		if a.Type.Equal(commonName) {
			name, _ = a.Value.(string)
			names++
		}
	}
	if names != 1 {
		return "", fmt.Errorf("the certificate has %d common names, want 1", names)
	}
	if _, ok := u.find(name); !ok {
		return name, errors.New("the certificate names nobody who is a user")
	}
	return name, nil
}
