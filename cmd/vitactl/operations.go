package main

import (
	"fmt"

	"vita/mgmt/operator"
)

type rekeyCmd struct {
	Route string `arg:"" help:"Id of the route." complete:"route"`
}

func (c *rekeyCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error { return o.Rekey(s, c.Route) })
}

type clearCmd struct{}

func (*clearCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error { return o.ClearCounters(s) })
}

type shutdownCmd struct{}

func (*shutdownCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error { return o.Shutdown(s) })
}

type historyCmd struct {
	Most    int  `default:"20" help:"How many commits at most, up to 100."`
	Changes bool `help:"Also what each commit has changed."`
}

func (c *historyCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error {
		commits, err := o.History(s, c.Most, c.Changes)
		if err != nil {
			return err
		}
		for _, l := range commits.Lines() {
			fmt.Println(l)
		}
		return nil
	})
}

type rollbackCmd struct {
	Commits int `arg:"" default:"1" help:"How many commits to take back."`
}

func (c *rollbackCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error { return o.Rollback(s, c.Commits) })
}
