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

	"vita/internal/appliance"
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
	admin := access.User{Name: c.Admin}
	var clientCA []byte
	for _, f := range []struct {
		option, name string
		use          func(b []byte) error
	}{
		{"ssh-key", c.SSHKey, func(b []byte) (err error) { admin.Keys, err = access.ParseKeys(b); return err }},
		{"password-file", c.PasswordFile, func(b []byte) (err error) {
			line, _, _ := bytes.Cut(b, []byte("\n"))
			admin.PasswordHash, err = access.HashPassword(string(bytes.TrimSuffix(line, []byte("\r"))))
			return err
		}},
		{"client-ca", c.ClientCA, func(b []byte) error { clientCA = b; return access.CheckClientCA(b) }},
	} {
		if f.name == "" {
			continue
		}
		b, err := os.ReadFile(f.name)
		if err != nil {
			return fmt.Errorf("--%s: %w", f.option, err)
		}
		if err := f.use(b); err != nil {
			return fmt.Errorf("--%s %s: %w", f.option, f.name, err)
		}
	}
	key, err := setup.Make(context.Background(), c.StateDir, admin, clientCA)
	if errors.Is(err, setup.ErrHasUsers) {
		return fmt.Errorf("%s has users already: init is for the first one", c.StateDir)
	} else if err != nil {
		return err
	}
	fmt.Printf("%s\nstart the gateway with: vitad run --state-dir %s\n", enrolled(c.Admin, key), c.StateDir)
	return nil
}

// begin waits until the state directory may be looked at, and makes it at the first
// start of an appliance, whose init knows for whom. The init gets to know what came
// of it, as a service manager does.
func (c *runCmd) begin(ctx context.Context, log *slog.Logger) error {
	var who *appliance.Administrator
	if c.Appliance != "" {
		a, err := appliance.Client{Socket: c.Appliance}.Ask(ctx, appliance.Request{Do: appliance.Begin}, nil)
		if err != nil {
			return err
		}
		who = a.First
	}
	_, err := os.Stat(c.StateDir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if who == nil {
		return fmt.Errorf("--state-dir: %w: make it by vitad init", err)
	}
	key, err := enrol(ctx, c.StateDir, *who)
	if err != nil {
		err = fmt.Errorf("first administrator: %w", err)
		sdNotify(log, status(err.Error()))
		return err
	}
	log.Info("the state is new", "administrator", who.Name, "host key", access.Fingerprint(key))
	sdNotify(log, status(enrolled(who.Name, key)))
	return nil
}

func enrol(ctx context.Context, dir string, who appliance.Administrator) (key ssh.Signer, err error) {
	admin := access.User{Name: who.Name}
	if admin.Keys, err = access.ParseKeys([]byte(who.Keys)); err != nil {
		return nil, err
	}
	if who.Password != "" {
		if admin.PasswordHash, err = access.HashPassword(who.Password); err != nil {
			return nil, err
		}
	}
	return setup.Make(ctx, dir, admin, nil)
}

func enrolled(admin string, key ssh.Signer) string {
	return fmt.Sprintf("administrator %s, host key %s", admin, access.Fingerprint(key))
}

// status is a line for the service manager, and one alone.
func status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", "; ") }
