// Vitad is the control process of a gateway: it serves NETCONF and RESTCONF,
// keeps the configuration, negotiates keys, and drives a vita-engine, which it
// starts where none runs.
package main

import (
	"fmt"
	"log/slog"
	"os"

	"vita/mgmt/datastore"

	"github.com/alecthomas/kong"
)

type cli struct {
	Init initCmd `cmd:"" help:"Set up a state directory with its first administrator."`
	Run  runCmd  `cmd:"" help:"Run the gateway's control process."`
}

func main() {
	datastore.Ahead()
	var c cli
	k := kong.Parse(&c,
		kong.Name("vitad"),
		kong.Description("Control process of the Vita ESP gateway: NETCONF, RESTCONF, key exchange."),
		kong.UsageOnError(),
	)
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "vitad:", err)
		os.Exit(1)
	}
}

// level is a log level given by name.
type level string

func (l level) logger() (*slog.Logger, error) {
	var v slog.Level
	if err := v.UnmarshalText([]byte(l)); err != nil {
		return nil, fmt.Errorf("--log-level %s: want debug, info, warn or error", string(l))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: v})), nil
}
