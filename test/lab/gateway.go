package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Admin is the administrator of every gateway in a lab; the key is made anew
// for each lab.
const (
	Admin         = "admin"
	AdminPassword = "open sesame in a lab"
)

// Ports of the management servers, in each gateway's own namespace.
const (
	NETCONFPort  = "830"
	RESTCONFPort = "443"
)

// Gateway is a host of the lab that runs vitad and vita-engine.
type Gateway struct {
	Lab   *Lab
	Host  string // GwA or GwB
	State string // state directory
	build string // where the programs are
	vitad *Proc
	flags []string
}

// KeyFile returns the administrator's private key, made at first use.
func (l *Lab) KeyFile() (string, error) {
	path := filepath.Join(l.Dir, "admin-key")
	if fileExists(path) {
		return path, nil
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return "", err
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(sshPub), 0o600); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

// NewGateway initialises a gateway's state directory with the programs from
// the folder build. flags are added to each vitad run.
func (l *Lab) NewGateway(ctx context.Context, host, build string, flags ...string) (*Gateway, error) {
	build, err := filepath.Abs(build)
	if err != nil {
		return nil, err
	}
	g := &Gateway{Lab: l, Host: host, State: filepath.Join(l.Dir, host), build: build, flags: flags}
	key, err := l.KeyFile()
	if err != nil {
		return nil, err
	}
	password := filepath.Join(l.Dir, "password")
	if err := os.WriteFile(password, []byte(AdminPassword+"\n"), 0o600); err != nil {
		return nil, err
	}
	_, err = l.Run(ctx, host, filepath.Join(build, "vitad"), "init", "--state-dir", g.State,
		"--admin", Admin, "--ssh-key", key+".pub", "--password-file", password)
	return g, err
}

// Start runs vitad and returns when it says that it is ready.
func (g *Gateway) Start(ctx context.Context) error {
	sock := filepath.Join(g.Lab.Dir, g.Host+".notify")
	_ = os.Remove(sock) // left over from the start before
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: sock, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer ready.Close()
	args := append([]string{
		filepath.Join(g.build, "vitad"), "run", "--state-dir", g.State,
		"--netconf", "127.0.0.1:" + NETCONFPort, "--restconf", "127.0.0.1:" + RESTCONFPort,
	}, g.flags...)
	g.vitad, err = g.Lab.Start(g.Host, "vitad-"+g.Host, []string{"NOTIFY_SOCKET=" + sock}, args...)
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("vitad on %s is not ready: %w\n%s", g.Host, err, g.vitad.Tail(20))
		}
		select {
		case <-g.vitad.Done():
			return fmt.Errorf("vitad on %s ended at its start: %w\n%s", g.Host, g.vitad.Err(), g.vitad.Tail(20))
		default:
		}
		if err := ready.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return err
		}
		n, err := ready.Read(buf)
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				continue
			}
			return err
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return nil
		}
	}
}

// Vitad returns the running control process.
func (g *Gateway) Vitad() *Proc { return g.vitad }

// Vitactl runs the operator's tool on the gateway.
func (g *Gateway) Vitactl(ctx context.Context, args ...string) (string, error) {
	all := append([]string{
		filepath.Join(g.build, "vitactl"),
		"--server", "https://localhost:" + RESTCONFPort, "--ca", filepath.Join(g.State, "tls.crt"),
		"--user", Admin, "--password-file", filepath.Join(g.Lab.Dir, "password"),
	}, args...)
	return g.Lab.Run(ctx, g.Host, all...)
}

// Curl makes a RESTCONF request by curl. path is relative to /restconf/data;
// a body is sent as JSON unless contentType says otherwise. It returns the
// status and the answer's body.
func (g *Gateway) Curl(ctx context.Context, method, path, contentType, body string) (status, answer string, err error) {
	args := []string{
		"curl", "-sS", "--max-time", "30", "--cacert", filepath.Join(g.State, "tls.crt"),
		"-u", Admin + ":" + AdminPassword, "-X", method, "-w", "\n%{http_code}",
	}
	if contentType == "" {
		contentType = "application/yang-data+json"
	}
	args = append(args, "-H", "Accept: "+contentType)
	if body != "" {
		file := filepath.Join(g.Lab.Dir, g.Host+".body")
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			return "", "", err
		}
		args = append(args, "-H", "Content-Type: "+contentType, "--data-binary", "@"+file)
	}
	out, err := g.Lab.Run(ctx, g.Host, append(args, "https://localhost:"+RESTCONFPort+"/restconf/data"+path)...)
	if err != nil {
		return "", "", err
	}
	i := strings.LastIndexByte(out, '\n')
	return out[i+1:], strings.TrimSpace(out[:max(i, 0)]), nil
}
