package access

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"
)

// HostKey returns the SSH host key of a state directory, made at first use.
func HostKey(dir string) (ssh.Signer, error) {
	path := filepath.Join(dir, "ssh_host_ed25519_key")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make the SSH host key: %w", err)
		}
		block, err := ssh.MarshalPrivateKey(key, "vita")
		if err != nil {
			return nil, fmt.Errorf("encode the SSH host key: %w", err)
		}
		b = pem.EncodeToMemory(block)
		if err := writeFile(path, b); err != nil {
			return nil, fmt.Errorf("store the SSH host key: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("read the SSH host key: %w", err)
	}
	s, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: restore it, or remove it to get a new host key", path, err)
	}
	return s, nil
}

// Certificate returns the TLS certificate of a state directory. At first use
// it makes a self-signed one (P-256, ten years) for the host's name, localhost
// and the loopback addresses; an operator may put another one in its place.
func Certificate(dir string) (tls.Certificate, error) {
	certPath, keyPath := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	_, certErr := os.Stat(certPath)
	_, keyErr := os.Stat(keyPath)
	// The certificate is written last, so that alone a missing one means that
	// the pair was never complete.
	if errors.Is(certErr, fs.ErrNotExist) {
		if err := makeCertificate(certPath, keyPath); err != nil {
			return tls.Certificate{}, fmt.Errorf("make the TLS certificate: %w", err)
		}
	} else if errors.Is(keyErr, fs.ErrNotExist) {
		return tls.Certificate{}, fmt.Errorf("%s has no key %s beside it: restore it, or remove the certificate to get a new pair", certPath, keyPath)
	}
	c, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		return c, fmt.Errorf("load %s: %w", certPath, err)
	}
	return c, nil
}

func makeCertificate(certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "vita"
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-24 * time.Hour), // clients' clocks differ
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true, // lets a client trust this very file as its CA
		DNSNames:              []string{name, "localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})); err != nil {
		return err
	}
	return writeFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Fingerprint returns a host key's SHA-256 fingerprint, as ssh-keygen prints it.
func Fingerprint(key ssh.Signer) string { return ssh.FingerprintSHA256(key.PublicKey()) }
