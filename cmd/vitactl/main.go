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
	"time"

	"vita/mgmt/operator"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

type cli struct {
	Server       string `default:"https://localhost" env:"VITA_SERVER" help:"The gateway's RESTCONF server." placeholder:"URL"`
	CA           string `name:"ca" env:"VITA_CA" help:"File with the certificate to trust, as tls.crt of the gateway's state directory." placeholder:"FILE"`
	User         string `short:"u" env:"VITA_USER" default:"admin" help:"Who asks." placeholder:"NAME"`
	PasswordFile string `env:"VITA_PASSWORD_FILE" help:"File whose first line is the password. Default: ask at the terminal." placeholder:"FILE"`

	Config   configCmd   `cmd:"" help:"Read and change the configuration."`
	State    stateCmd    `cmd:"" help:"Print counters and other state."`
	Top      topCmd      `cmd:"" help:"Show counters with their rates, live."`
	Capture  captureCmd  `cmd:"" help:"Write packets to a file in pcapng, as Wireshark reads it."`
	Rekey    rekeyCmd    `cmd:"" help:"Begin a key exchange for a route now."`
	Clear    clearCmd    `cmd:"" help:"Make all counters begin at zero."`
	Shutdown shutdownCmd `cmd:"" help:"End the gateway in good order."`
	Keygen   keygenCmd   `cmd:"" help:"Print a fresh pre-shared key."`
}

// session is what the commands work with.
type session struct {
	context.Context
	o operator.Options
	c *cli
}

// client connects as late as possible, so that keygen needs no gateway.
func (s *session) client() (*operator.Client, error) {
	if s.c.PasswordFile != "" {
		b, err := os.ReadFile(s.c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("--password-file: %w", err)
		}
		s.o.Password, _, _ = strings.Cut(string(b), "\n")
	} else {
		fmt.Fprintf(os.Stderr, "password of %s: ", s.c.User)
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return nil, fmt.Errorf("no terminal to ask at: name a --password-file: %w", err)
		}
		s.o.Password = string(b)
	}
	return operator.New(s.o)
}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("vitactl"), kong.UsageOnError(),
		kong.Description("Reads and changes a Vita gateway. Paths are as /route4[id=site1]/net."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &session{ctx, operator.Options{Server: c.Server, CA: c.CA, User: c.User}, &c}
	if err := k.Run(s); err != nil {
		fmt.Fprintln(os.Stderr, "vitactl:", err)
		os.Exit(1)
	}
}

type stateCmd struct {
	Path string `arg:"" optional:"" help:"What to print; default /gateway-state."`
	JSON bool   `name:"json" help:"As the server's JSON."`
}

func (c *stateCmd) Run(s *session) error { return show(s, operator.State, c.Path, c.JSON) }

type topCmd struct {
	Interval time.Duration `default:"1s" help:"Time between two looks."`
	Rounds   int           `help:"End after so many; default: on Ctrl-C."`
	Each     bool          `help:"Also what is counted of each route and security association."`
}

func (c *topCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error {
		return o.Top(s, os.Stdout, operator.TopOptions{
			Interval: c.Interval, Rounds: c.Rounds, Screen: term.IsTerminal(int(os.Stdout.Fd())), Each: c.Each,
		})
	})
}

type keygenCmd struct{}

func (*keygenCmd) Run() error {
	var key [32]byte
	rand.Read(key[:]) // never fails since Go 1.24
	fmt.Println(hex.EncodeToString(key[:]))
	return nil
}
