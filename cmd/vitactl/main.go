// Vitactl is the operator's tool: it reads and changes a gateway over RESTCONF.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"vita/mgmt/operator"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

type cli struct {
	Server       string `default:"https://localhost" env:"VITA_SERVER" help:"The gateway's RESTCONF server; unix:FILE is its recovery socket, for root of its machine." placeholder:"URL"`
	CA           string `name:"ca" env:"VITA_CA" help:"File with the certificate to trust, as tls.crt of the gateway's state directory." placeholder:"FILE" complete:"file"`
	User         string `short:"u" env:"VITA_USER" default:"admin" help:"Who asks." placeholder:"NAME"`
	PasswordFile string `env:"VITA_PASSWORD_FILE" help:"File whose first line is the password. Default: ask at the terminal." placeholder:"FILE" complete:"file"`
	Cert         string `env:"VITA_CERT" help:"File with a client's certificate in PEM, to log in by it instead of a password." placeholder:"FILE" complete:"file"`
	Key          string `env:"VITA_KEY" help:"File with the certificate's private key in PEM." placeholder:"FILE" complete:"file"`

	Config   configCmd   `cmd:"" help:"Read and change the configuration."`
	Changes  changes     `embed:"" group:"Changes, which are commands of config too:"`
	State    stateCmd    `cmd:"" help:"Print counters and other state."`
	Watch    watchCmd    `cmd:"" help:"Print a table of state with rates, again and again."`
	Top      topCmd      `cmd:"" help:"Show counters with their rates, live."`
	Capture  captureCmd  `cmd:"" help:"Write packets to a file in pcapng, as Wireshark reads it."`
	Rekey    rekeyCmd    `cmd:"" help:"Begin a key exchange for a route now."`
	Clear    clearCmd    `cmd:"" help:"Make all counters begin at zero."`
	Shutdown shutdownCmd `cmd:"" help:"End the gateway in good order."`
	Upgrade  upgradeCmd  `cmd:"" help:"Upgrade an appliance, or tell what came of it."`
	Devices  devicesCmd  `cmd:"" help:"List this machine's network cards, and whether the gateway could drive them."`
	Keygen   keygenCmd   `cmd:"" help:"Print a fresh pre-shared key."`

	Completion   completionCmd   `cmd:"" help:"Print what makes a shell complete vitactl's command lines."`
	CompleteLine completeLineCmd `cmd:"" hidden:""`
}

// session is what the commands work with.
type session struct {
	context.Context
	o operator.Options
	c *cli
}

// client connects as late as possible, so that keygen needs no gateway.
func (s *session) client() (*operator.Client, error) {
	switch {
	case strings.HasPrefix(s.c.Server, "unix:"): // the socket asks nothing
	case s.c.PasswordFile != "":
		b, err := os.ReadFile(s.c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("--password-file: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		s.o.Password = strings.TrimSuffix(line, "\r")
	case s.c.Cert != "" || s.c.Key != "":
	default:
		fmt.Fprintf(os.Stderr, "password of %s: ", s.c.User)
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return nil, fmt.Errorf("no terminal to ask at: name a --password-file, or a --cert and its --key: %w", err)
		}
		s.o.Password = string(b)
	}
	return operator.New(s.o)
}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("vitactl"), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Description("Reads and changes a Vita gateway. Paths are as /route4[id=site1]/net. The manual page vitactl(1) has examples."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &session{ctx, operator.Options{Server: c.Server, CA: c.CA, User: c.User, Cert: c.Cert, Key: c.Key}, &c}
	if err := k.Run(s); err != nil {
		fmt.Fprintln(os.Stderr, "vitactl:", err)
		os.Exit(1)
	}
}

type keygenCmd struct{}

func (*keygenCmd) Run() error {
	var key [32]byte
	rand.Read(key[:]) // never fails since Go 1.24
	fmt.Println(hex.EncodeToString(key[:]))
	return nil
}
