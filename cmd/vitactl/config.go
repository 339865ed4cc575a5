package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"vita/mgmt/operator"
)

type configCmd struct {
	Get     getCmd     `cmd:"" help:"Print the configuration in force, or a part of it."`
	Set     setCmd     `cmd:"" help:"Stage values in the candidate."`
	Delete  deleteCmd  `cmd:"" help:"Stage the removal of a node."`
	Load    loadCmd    `cmd:"" help:"Stage a file, JSON or XML."`
	Diff    diffCmd    `cmd:"" help:"Print what the candidate would change. Secrets are not shown."`
	Commit  commitCmd  `cmd:"" help:"Put the candidate in force."`
	Discard discardCmd `cmd:"" help:"Forget what is staged."`

	History  historyCmd  `cmd:"" help:"Print who has changed what, the newest first."`
	Rollback rollbackCmd `cmd:"" help:"Stage what was in force before the last commits."`
}

type getCmd struct {
	Path      string `arg:"" optional:"" help:"What to print; default all."`
	JSON      bool   `name:"json" help:"As the server's JSON."`
	Candidate bool   `help:"What is staged instead of what is in force."`
}

func (g *getCmd) Run(s *session) error {
	from := operator.Running
	if g.Candidate {
		from = operator.Candidate
	}
	return show(s, from, g.Path, g.JSON)
}

func show(s *session, from operator.Source, path string, asJSON bool) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	lines, body, err := c.Get(s, from, path)
	if err != nil {
		return err
	}
	if asJSON {
		_, err := os.Stdout.Write(body)
		return err
	}
	for _, l := range lines {
		fmt.Println(l)
	}
	return nil
}

type setCmd struct {
	Pairs []string `arg:"" help:"PATH VALUE pairs; the value - is read from standard input." name:"path value"`
}

func (c *setCmd) Run(s *session) error {
	for i := 1; i < len(c.Pairs); i += 2 {
		if c.Pairs[i] == "-" {
			b, err := io.ReadAll(os.Stdin)
			if err != nil {
				return err
			}
			c.Pairs[i] = strings.TrimSpace(string(b))
		}
	}
	return with(s, func(o *operator.Client) error { return o.Set(s, c.Pairs...) })
}

func with(s *session, do func(*operator.Client) error) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return do(c)
}

type deleteCmd struct {
	Path string `arg:"" help:"What to remove."`
}

func (c *deleteCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error { return o.Delete(s, c.Path) })
}

type loadCmd struct {
	File    string `arg:"" type:"existingfile" help:"A document as RESTCONF's data resource has it."`
	Replace bool   `help:"In place of the candidate; default: merged into it."`
}

func (c *loadCmd) Run(s *session) error {
	b, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	return with(s, func(o *operator.Client) error { return o.Load(s, b, c.Replace) })
}

type diffCmd struct{}

func (*diffCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error {
		before, _, err := o.Get(s, operator.Running, "")
		if err != nil {
			return err
		}
		after, _, err := o.Get(s, operator.Candidate, "")
		if err != nil {
			return err
		}
		for _, l := range operator.Diff(before, after) {
			fmt.Println(l)
		}
		return nil
	})
}

type commitCmd struct{}

func (*commitCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error { return o.Commit(s) })
}

type discardCmd struct{}

func (*discardCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error { return o.Discard(s) })
}
