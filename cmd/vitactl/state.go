package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"vita/mgmt/operator"

	"golang.org/x/term"
)

type stateCmd struct {
	What string `arg:"" optional:"" help:"A table: interfaces, devices, routes, associations, neighbours, workers, drops, counters; or a path, whose leafs are printed a line each. Default: all tables." complete:"state"`
	JSON bool   `name:"json" help:"As JSON."`
}

func (c *stateCmd) Run(s *session) error {
	switch {
	case strings.HasPrefix(c.What, "/"):
		return show(s, operator.State, c.What, c.JSON)
	case c.What == "" && c.JSON:
		return show(s, operator.State, "", true)
	}
	names := []string{c.What}
	if c.What == "" {
		names, _ = operator.Tables()
	}
	return with(s, func(o *operator.Client) error {
		for i, name := range names {
			t, err := o.Table(s, name)
			switch {
			case err != nil:
				return err
			case c.JSON:
				_, err := os.Stdout.Write(t.JSON())
				return err
			case len(names) > 1 && len(t.Rows) == 0:
				continue
			case len(names) > 1:
				if i > 0 {
					fmt.Println()
				}
				fmt.Println(name + ":")
			}
			t.Write(os.Stdout, nil, 0)
		}
		return nil
	})
}

type watchCmd struct {
	What     string        `arg:"" help:"A table, as state has them." complete:"table"`
	Interval time.Duration `default:"2s" help:"Time between two looks."`
	Rounds   int           `help:"End after so many; default: on Ctrl-C."`
}

func (c *watchCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error {
		return o.Watch(s, os.Stdout, c.What, operator.TopOptions{
			Interval: c.Interval, Rounds: c.Rounds, Screen: term.IsTerminal(int(os.Stdout.Fd())),
		})
	})
}

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
