package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vita/mgmt/access"
	"vita/mgmt/datastore"

	"github.com/alecthomas/kong"
	"golang.org/x/crypto/ssh"
)

// keyLine is a public key as a file has it.
func keyLine(t *testing.T) []byte {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.MarshalAuthorizedKey(key)
}

func TestInitTakesAClientCA(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := access.Certificate(dir); err != nil {
		t.Fatal(err)
	}
	c := initCmd{StateDir: filepath.Join(dir, "state"), Admin: "admin", SSHKey: write("key.pub", keyLine(t)), ClientCA: write("empty", nil)}
	if err := c.Run(); err == nil || !strings.Contains(err.Error(), "--client-ca") {
		t.Fatalf("a file without a certificate: %v", err)
	}
	if _, err := os.Stat(c.StateDir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a state after a refusal, %v", err)
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

// manager is a service manager: it returns what it was told since it was asked last.
func manager(t *testing.T) (told func() string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	return func() string {
		b := make([]byte, 4096)
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		n, _ := c.Read(b) // nothing where it is told nothing
		return string(b[:n])
	}
}

// pipe is a file that can be read once.
func pipe(t *testing.T, text string) (name string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", r.Fd())
}

// TestRunBegins: a run makes the state of a first start, from what it can read but
// once, or says why not, to the service manager too, and leaves nothing then. Later
// ones do not look at what they were told for it.
func TestRunBegins(t *testing.T) {
	told := manager(t)
	dir := filepath.Join(t.TempDir(), "state")
	log := slog.New(slog.DiscardHandler)
	fails := func(c runCmd, want string, tells bool) {
		t.Helper()
		c.StateDir = dir
		err := c.begin(t.Context(), log)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if said := told(); tells && (!strings.HasPrefix(said, "STATUS=first administrator: ") || !strings.Contains(said, want) || strings.Contains(said, "\n")) || !tells && said != "" {
			t.Errorf("told: %q", said)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
			t.Errorf("there is %v, %v", left, err)
		}
	}
	key := string(keyLine(t))
	fails(runCmd{}, "vitad init", false)
	fails(runCmd{FirstAdmin: "ann", FirstSSHKey: pipe(t, "nonsense\nREADY=1\n")}, "--first-ssh-key", true)
	fails(runCmd{FirstAdmin: "ann", FirstSSHKey: filepath.Join(dir, "none\nREADY=1")}, "no such file", true)
	fails(runCmd{FirstAdmin: "ann", FirstSSHKey: pipe(t, key), FirstPasswordFile: pipe(t, "short\n")}, "at least 8", true)
	fails(runCmd{FirstAdmin: "\x01\n", FirstSSHKey: pipe(t, key)}, "name", true)

	c := runCmd{StateDir: dir, FirstAdmin: "ann", FirstSSHKey: pipe(t, key), FirstPasswordFile: pipe(t, "correct horse\r\nmore")}
	if err := c.begin(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	host, _, err := c.identity()
	if err != nil {
		t.Fatal(err)
	}
	if said, want := told(), "STATUS=administrator ann, host key "+access.Fingerprint(host); said != want {
		t.Errorf("told %q, want %q", said, want)
	}
	if left, err := os.ReadFile(c.FirstPasswordFile); err != nil || len(left) > 0 {
		t.Errorf("%q is left of the password, %v", left, err)
	}
	users := access.NewUsers()
	store, err := datastore.Open(datastore.Options{Dir: dir, Followers: []datastore.Follower{{Module: access.Module, Name: access.Node, Prepare: users.Prepare}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	if err != nil || !users.AcceptsKey("ann", public) || !users.AcceptsPassword("ann", "correct horse", "x") || users.Len() != 1 {
		t.Errorf("ann cannot log in, %d users, %v", users.Len(), err)
	}
	again := runCmd{StateDir: dir, FirstAdmin: "eve", FirstSSHKey: filepath.Join(dir, "none")}
	if err := again.begin(t.Context(), log); err != nil {
		t.Error(err)
	}
	if said := told(); said != "" {
		t.Errorf("told %q the second time", said)
	}
}

// TestOptionsOfRun: the first administrator has a name and a key.
func TestOptionsOfRun(t *testing.T) {
	for args, want := range map[string]string{
		"":                                    "",
		"--first-admin a --first-ssh-key k":   "",
		"--first-admin a":                     "first-ssh-key",
		"--first-ssh-key k":                   "first-admin",
		"--first-admin a --first-client-ca k": "unknown flag",
	} {
		var c cli
		k, err := kong.New(&c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.Parse(append([]string{"run", "--state-dir", "/none"}, strings.Fields(args)...))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
