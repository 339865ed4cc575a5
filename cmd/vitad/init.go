package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"vita/mgmt/access"
	"vita/mgmt/setup"

	"golang.org/x/crypto/ssh"
)

type initCmd struct {
	StateDir     string `required:"" type:"path" help:"Directory for configuration, users and keys; made if missing." placeholder:"DIR"`
	Admin        string `required:"" help:"Name of the administrator." placeholder:"NAME"`
	SSHKey       string `required:"" name:"ssh-key" type:"existingfile" help:"File with the administrator's public SSH key(s), for NETCONF." placeholder:"FILE"`
	PasswordFile string `type:"existingfile" help:"File whose first line is the administrator's password, for RESTCONF. Without one, RESTCONF lets in those who have a certificate (--client-ca), else nobody." placeholder:"FILE"`
	ClientCA     string `type:"existingfile" name:"client-ca" help:"File with certificates, in PEM, of the CA whose clients log in to RESTCONF by certificate; a certificate's common name is the user's name." placeholder:"FILE"`
}

// Run makes the state directory, the first user and the server's identity.
func (c *initCmd) Run() error {
	key, err := first{"--", c.Admin, c.SSHKey, c.PasswordFile, c.ClientCA}.enrol(context.Background(), c.StateDir)
	if err != nil {
		return err
	}
	fmt.Printf("%s\nstart the gateway with: vitad run --state-dir %s\n", enrolled(c.Admin, key), c.StateDir)
	return nil
}

// begin makes the state directory where there is none, if it is said for whom. The
// service manager gets to know what came of it: nobody else can say who the
// gateway is.
func (c *runCmd) begin(ctx context.Context, log *slog.Logger) error {
	_, err := os.Stat(c.StateDir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.FirstAdmin == "" {
		return fmt.Errorf("--state-dir: %w: make it by vitad init, or by --first-admin", err)
	}
	key, err := first{"--first-", c.FirstAdmin, c.FirstSSHKey, c.FirstPasswordFile, ""}.enrol(ctx, c.StateDir)
	if err != nil {
		err = fmt.Errorf("first administrator: %w", err)
		sdNotify(log, status(err.Error()))
		return err
	}
	log.Info("the state is new", "administrator", c.FirstAdmin, "host key", access.Fingerprint(key))
	sdNotify(log, status(enrolled(c.FirstAdmin, key)))
	return nil
}

func enrolled(admin string, key ssh.Signer) string {
	return fmt.Sprintf("administrator %s, host key %s", admin, access.Fingerprint(key))
}

// status is a line for the service manager, and one alone.
func status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", "; ") }

// first is who is to be the first administrator, and the files with what they log
// in by.
type first struct {
	prefix                             string // of the options that say so
	admin, sshKey, password, clientCAs string
}

// enrol makes the state with the first administrator. It changes nothing before
// all that it was given is good.
func (f first) enrol(ctx context.Context, dir string) (ssh.Signer, error) {
	admin := access.User{Name: f.admin}
	if err := f.read("ssh-key", f.sshKey, func(b []byte) (err error) { admin.Keys, err = access.ParseKeys(b); return err }); err != nil {
		return nil, err
	}
	if f.password != "" {
		if err := f.read("password-file", f.password, func(b []byte) (err error) {
			line, _, _ := bytes.Cut(b, []byte("\n"))
			admin.PasswordHash, err = access.HashPassword(string(bytes.TrimSuffix(line, []byte("\r"))))
			return err
		}); err != nil {
			return nil, err
		}
	}
	var cas []byte
	if f.clientCAs != "" {
		if err := f.read("client-ca", f.clientCAs, func(b []byte) error { cas = b; return access.CheckClientCA(b) }); err != nil {
			return nil, err
		}
	}
	key, err := setup.Make(ctx, dir, admin, cas)
	if errors.Is(err, setup.ErrHasUsers) {
		err = fmt.Errorf("%s has users already: this is for the first one", dir)
	}
	return key, err
}

// read reads the file of an option. Errors name both.
func (f first) read(option, name string, use func([]byte) error) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("%s%s: %w", f.prefix, option, err)
	}
	if err := use(b); err != nil {
		return fmt.Errorf("%s%s %s: %w", f.prefix, option, name, err)
	}
	return nil
}
