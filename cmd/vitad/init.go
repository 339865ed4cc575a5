package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"vita/mgmt/access"
	"vita/mgmt/datastore"
	"vita/mgmt/setup"
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
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	if old, err := access.Legacy(c.StateDir); err != nil || len(old) > 0 {
		return errors.Join(err, fmt.Errorf("%s has users already: init is for the first one", c.StateDir))
	}
	file, err := os.ReadFile(c.SSHKey)
	if err != nil {
		return fmt.Errorf("--ssh-key: %w", err)
	}
	admin := access.User{Name: c.Admin}
	if admin.Keys, err = access.ParseKeys(file); err != nil {
		return fmt.Errorf("--ssh-key %s: %w", c.SSHKey, err)
	}
	if c.PasswordFile != "" {
		b, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return fmt.Errorf("--password-file: %w", err)
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		if admin.PasswordHash, err = access.HashPassword(string(bytes.TrimSuffix(line, []byte("\r")))); err != nil {
			return fmt.Errorf("--password-file %s: %w", c.PasswordFile, err)
		}
	}
	if c.ClientCA != "" {
		b, err := os.ReadFile(c.ClientCA)
		if err != nil {
			return fmt.Errorf("--client-ca: %w", err)
		}
		if err := access.StoreClientCA(c.StateDir, b); err != nil {
			return fmt.Errorf("--client-ca %s: %w", c.ClientCA, err)
		}
	}
	key, err := access.HostKey(c.StateDir)
	if err != nil {
		return err
	}
	if _, err := access.Certificate(c.StateDir); err != nil {
		return err
	}
	store, err := datastore.Open(datastore.Options{Dir: c.StateDir})
	if err != nil {
		return err
	}
	err = setup.First(context.Background(), store, []access.User{admin})
	if errors.Is(err, setup.ErrHasUsers) {
		err = fmt.Errorf("%s has users already: init is for the first one", c.StateDir)
	}
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	fmt.Printf("administrator %s, host key %s\nstart the gateway with: vitad run --state-dir %s\n",
		c.Admin, access.Fingerprint(key), c.StateDir)
	return nil
}
