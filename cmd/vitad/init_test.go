package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vita/mgmt/access"

	"golang.org/x/crypto/ssh"
)

func TestInitTakesAClientCA(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := access.Certificate(dir); err != nil {
		t.Fatal(err)
	}
	c := initCmd{StateDir: filepath.Join(dir, "state"), Admin: "admin", SSHKey: write("key.pub", ssh.MarshalAuthorizedKey(key)), ClientCA: write("empty", nil)}
	if err := c.Run(); err == nil || !strings.Contains(err.Error(), "--client-ca") {
		t.Fatalf("a file without a certificate: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.StateDir, "config.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a configuration after a refusal, %v", err)
	}
	c.ClientCA = filepath.Join(dir, "tls.crt")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(); err == nil || !strings.Contains(err.Error(), "has users already") {
		t.Fatalf("a second time: %v", err)
	}
	if pool, err := access.ClientCA(c.StateDir); pool == nil || err != nil {
		t.Fatal(pool, err)
	}
}
