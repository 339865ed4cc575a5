// Package mgmt tests the management servers with the clients that operators
// use: ncclient, scrapligo, curl and Juniper's go-netconf, over loopback.
package mgmt

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vita/gen"
	"vita/keying/keeper"
	"vita/mgmt/access"
	"vita/mgmt/capture"
	"vita/mgmt/datastore"
	"vita/mgmt/monitor"
	"vita/mgmt/nacm"
	"vita/mgmt/netconf"
	"vita/mgmt/notify"
	"vita/mgmt/operation"
	"vita/mgmt/restconf"
	"vita/mgmt/setup"

	"golang.org/x/crypto/ssh"
)

// nothing is a forwarding plane that takes every configuration.
type nothing struct{}

func (nothing) Prepare(context.Context, *gen.Vita, datastore.Journal) (datastore.Prepared, error) {
	return nothing{}, nil
}
func (nothing) Publish() {}
func (nothing) Abort()   {}

// servers are both servers on one datastore.
type servers struct {
	t            *testing.T
	dir, keyFile string
	signer       ssh.Signer
	netconf      string // host:port
	restconf     string // https://localhost:port
	events       *notify.Hub
	did          chan string // operations that were carried out
	recovery     string      // path of the local socket
}

const (
	user     = "admin"
	password = "a long password"

	second         = "second" // another user
	secondPassword = "another long password"
)

func start(t *testing.T) *servers {
	t.Helper()
	return startIn(t, t.TempDir())
}

// startIn starts the servers on a state directory that may hold files already.
func startIn(t *testing.T, dir string) *servers {
	t.Helper()
	return startWith(t, dir, func(root *gen.Vita) { root.GatewayState = &gen.VitaEspGateway_GatewayState{} })
}

// startWith starts them with some state.
func startWith(t *testing.T, dir string, state func(*gen.Vita)) *servers {
	t.Helper()
	return startAs(t, dir, how{state: state})
}

// how are ways in which the servers are started.
type how struct {
	state   func(*gen.Vita)
	access  bool // as vitad does: users and rules are in the configuration
	startup bool
}

func startAs(t *testing.T, dir string, h how) *servers {
	t.Helper()
	s := &servers{t: t, dir: dir}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	sshPub, err := ssh.NewPublicKey(pub)
	check(t, err)
	s.signer, err = ssh.NewSignerFromKey(key)
	check(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	check(t, err)
	s.keyFile = filepath.Join(s.dir, "key")
	check(t, os.WriteFile(s.keyFile, pem.EncodeToMemory(block), 0o600))

	users := access.NewUsers()
	hash, err := access.HashPassword(password)
	check(t, err)
	admin := access.User{Name: user, PasswordHash: hash, Keys: []string{string(ssh.MarshalAuthorizedKey(sshPub))}}
	if !h.access {
		check(t, users.Add(admin))
		hash, err = access.HashPassword(secondPassword)
		check(t, err)
		check(t, users.Add(access.User{Name: second, PasswordHash: hash}))
	}
	clientCA, err := access.ClientCA(s.dir)
	check(t, err)
	host, err := access.HostKey(s.dir)
	check(t, err)
	cert, err := access.Certificate(s.dir)
	check(t, err)
	s.events = notify.New(0)
	o := datastore.Options{Dir: s.dir, Applier: nothing{}, Events: notify.Configuration{Hub: s.events}, State: func(root *gen.Vita, _ datastore.Wants) { h.state(root) }, Startup: h.startup}
	if h.access {
		o.Access, o.Seal = &nacm.Control{}, access.Seal
		o.Followers = []datastore.Follower{{Module: access.Module, Name: access.Node, Prepare: users.Prepare}}
	}
	d, err := datastore.Open(o)
	check(t, err)
	t.Cleanup(func() { d.Close() })
	if h.access && users.Len() == 0 {
		check(t, setup.First(t.Context(), d, []access.User{admin}))
	}
	check(t, d.Start(t.Context()))

	ctx, cancel := context.WithCancel(context.Background())
	serve := func(fn func(context.Context, net.Listener) error) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		done := make(chan error, 1)
		go func() { done <- fn(ctx, ln) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return ln.Addr().String()
	}
	s.did = make(chan string, 8)
	operations, err := operation.Gateway{
		Store: d,
		Rekey: func(route string) error {
			if route != "site1" {
				return keeper.ErrNoRoute
			}
			s.did <- "rekey " + route
			return nil
		},
		Clear: func() { s.did <- "clear" }, Shutdown: func() { s.did <- "shutdown" },
	}.Operations()
	check(t, err)
	watch := monitor.New(d)
	watch.Add(restconf.Streams(s.events))
	s.netconf = serve(netconf.New(netconf.Options{Datastore: d, Monitor: watch, Events: s.events, Operations: operations, Users: users, HostKey: host}).Serve)
	rest := restconf.New(restconf.Options{Datastore: d, Monitor: watch, Events: s.events, Operations: operations, Users: users, Certificate: cert, ClientCA: clientCA, Captures: noCaptures{}})
	_, port, err := net.SplitHostPort(serve(rest.Serve))
	check(t, err)
	s.restconf = "https://localhost:" + port
	if h.access {
		s.recovery = filepath.Join(s.dir, "recovery.sock")
		ln, err := restconf.ListenLocal(s.recovery)
		check(t, err)
		done := make(chan error, 1)
		go func() { done <- rest.ServeLocal(ctx, ln) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	return s
}

// noCaptures are packet captures that nobody can have.
type noCaptures struct{}

func (noCaptures) Ask(url.Values) (*capture.Capture, error) {
	return nil, errors.New("no packets here")
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// python runs a script with a connected ncclient manager m; config is its
// standard input. ncclient is Debian's: test/setup.sh installs it.
func (s *servers) python(script, stdin string) (string, error) {
	return s.pythonAs(`username="`+user+`", key_filename="`+s.keyFile+`"`, script, stdin)
}

// pythonAs runs it with another log-in, as arguments of ncclient's connect.
func (s *servers) pythonAs(login, script, stdin string) (string, error) {
	_, port, _ := net.SplitHostPort(s.netconf)
	c := exec.Command("/usr/bin/python3", "-c", `
import sys
from ncclient import manager
from ncclient.operations import RPCError
config = sys.stdin.read()
with manager.connect(host="127.0.0.1", port=`+port+`, `+login+`,
        hostkey_verify=False, allow_agent=False, look_for_keys=False, timeout=30) as m:
`+indented(script))
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	return string(out), err
}

func indented(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ") + "\n"
}

// curl makes a RESTCONF request and returns status and body.
func (s *servers) curl(args ...string) (status, body string) {
	s.t.Helper()
	all := append([]string{"-sS", "--max-time", "30", "--cacert", filepath.Join(s.dir, "tls.crt"), "-u", user + ":" + password, "-w", "\n%{http_code}"}, args...)
	out, err := exec.Command("curl", all...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("curl %v: %v: %s", args, err, out)
	}
	i := strings.LastIndexByte(string(out), '\n')
	return string(out[i+1:]), strings.TrimSpace(string(out[:i]))
}
