package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"vita/mgmt/operator"
)

type upgradeCmd struct {
	From      string `arg:"" optional:"" help:"File of this machine, or an address https://... that the gateway fetches it from. Default: print what runs, and what came of the last upgrade." placeholder:"FILE|URL" complete:"file"`
	Downgrade bool   `help:"Take a version that is not newer than what runs, too."`
	NoRestart bool   `help:"Only install it: it is tried at the next restart."`
}

func (c *upgradeCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error {
		if c.From == "" {
			lines, err := o.UpgradeStatus(s)
			for _, l := range lines {
				fmt.Println(l)
			}
			return err
		}
		version, err := c.install(s, o)
		if err != nil {
			return err
		}
		if c.NoRestart {
			fmt.Printf("version %s is installed, and is tried at the next restart\n", version)
		} else {
			fmt.Printf("version %s is installed; the gateway restarts with it, and returns to what it had if it does not come up\n", version)
		}
		return nil
	})
}

func (c *upgradeCmd) install(s *session, o *operator.Client) (version string, err error) {
	if strings.HasPrefix(c.From, "https://") || strings.HasPrefix(c.From, "http://") {
		return o.UpgradeFrom(s, c.From, c.Downgrade, !c.NoRestart)
	}
	f, err := os.Open(c.From)
	if err != nil {
		return "", err
	}
	version, err = o.Upgrade(s, f, c.Downgrade, !c.NoRestart)
	return version, errors.Join(err, f.Close())
}
