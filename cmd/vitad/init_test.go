package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vita/internal/appliance"
	"vita/mgmt/access"
	"vita/mgmt/datastore"

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

// machine is the init of an appliance, which answers each request to begin with the
// next of these.
func machine(t *testing.T, answers ...appliance.Answer) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "init")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for _, a := range answers {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadBytes('\n')
			if q, err := appliance.ParseRequest(line); err != nil || q.Do != appliance.Begin {
				a.Error = "want begin"
			}
			b, _ := json.Marshal(a) // it has nothing that cannot be
			_, _ = c.Write(append(b, '\n'))
			_ = c.Close()
		}
	}()
	return socket
}

// TestRunBegins: a run makes the state of a first start, for whom the machine's init
// says, or says why not, to that init too, and leaves nothing then. Where there is a
// state, it is looked at no sooner than the init lets it.
func TestRunBegins(t *testing.T) {
	told := manager(t)
	dir := filepath.Join(t.TempDir(), "state")
	log := slog.New(slog.DiscardHandler)
	key := string(keyLine(t))
	long := strings.Repeat("# "+strings.Repeat("<", 1000)+"\n", 128) + key // as large as what init reads, and written longer
	for want, a := range map[string]appliance.Answer{
		"vitad init":            {},
		"the machine ends":      {Error: "the machine ends"},
		"not an SSH public key": {First: &appliance.Administrator{Name: "ann", Keys: "nonsense"}},
		"no SSH public key":     {First: &appliance.Administrator{Name: "ann"}},
		"at least 8":            {First: &appliance.Administrator{Name: "ann", Keys: key, Password: "short"}},
		"READY=1":               {First: &appliance.Administrator{Name: "ann\nREADY=1", Keys: key}},
	} {
		err := (&runCmd{StateDir: dir, Appliance: machine(t, a)}).begin(t.Context(), log)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if said := told(); a.First != nil && (!strings.HasPrefix(said, "STATUS=first administrator: ") || !strings.Contains(said, want) || strings.Contains(said, "\n")) || a.First == nil && said != "" {
			t.Errorf("told: %q", said)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
			t.Errorf("there is %v, %v", left, err)
		}
	}
	if err := (&runCmd{StateDir: dir}).begin(t.Context(), log); err == nil || !strings.Contains(err.Error(), "vitad init") {
		t.Errorf("no appliance: %v", err)
	}

	c := runCmd{StateDir: dir, Appliance: machine(t,
		appliance.Answer{First: &appliance.Administrator{Name: "ann", Keys: long, Password: "correct horse"}},
		appliance.Answer{First: &appliance.Administrator{Name: "eve", Keys: "nonsense"}}, appliance.Answer{}, appliance.Answer{Error: "not yet"})}
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
	for range 2 {
		if err := c.begin(t.Context(), log); err != nil {
			t.Error(err)
		}
		if said := told(); said != "" {
			t.Errorf("told %q where there is a state", said)
		}
	}
	if err := c.begin(t.Context(), log); err == nil {
		t.Error("begins though the init refuses")
	}
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "silent")) // nothing is answered
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.Appliance = l.Addr().String()
	if err := c.begin(ctx, log); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the end of the wait", err)
	}
}
