package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"vita/mgmt/operator"
)

type configCmd struct {
	Get     getCmd  `cmd:"" help:"Print the configuration in force, or a part of it."`
	Changes changes `embed:""`
}

// changes are the commands that change the configuration, and look at changes.
type changes struct {
	Set      setCmd      `cmd:"" help:"Stage values in the candidate."`
	Delete   deleteCmd   `cmd:"" help:"Stage the removal of a node."`
	Edit     editCmd     `cmd:"" help:"Edit the candidate in an editor."`
	Load     loadCmd     `cmd:"" help:"Stage a file, JSON or XML."`
	Import   importCmd   `cmd:"" help:"Stage a file in Vita's own configuration format."`
	Validate validateCmd `cmd:"" help:"Check the candidate as a commit would."`
	Diff     diffCmd     `cmd:"" help:"Print what the candidate would change. Secrets are not shown."`
	Commit   commitCmd   `cmd:"" help:"Put the candidate in force."`
	Discard  discardCmd  `cmd:"" help:"Forget what is staged."`
	History  historyCmd  `cmd:"" help:"Print who has changed what, the newest first."`
	Rollback rollbackCmd `cmd:"" help:"Stage what was in force before the last commits."`
}

type getCmd struct {
	Path      string `arg:"" optional:"" help:"What to print; default all." complete:"path"`
	JSON      bool   `name:"json" help:"As the server's JSON."`
	Text      bool   `help:"All of it in Vita's own configuration format, as import and edit have it."`
	Candidate bool   `help:"What is staged instead of what is in force."`
}

func (g *getCmd) Run(s *session) error {
	from := operator.Running
	if g.Candidate {
		from = operator.Candidate
	}
	if !g.Text {
		return show(s, from, g.Path, g.JSON)
	}
	if g.Path != "" && g.Path != "/" {
		return errors.New("--text prints all of the configuration: leave the path out")
	}
	return with(s, func(o *operator.Client) error {
		text, err := o.Text(s, from)
		fmt.Print(text)
		return err
	})
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
	Pairs []string `arg:"" help:"PATH VALUE pairs; the value - is read from standard input." name:"path value" complete:"pairs"`
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
	Path string `arg:"" help:"What to remove." complete:"path"`
}

func (c *deleteCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error { return o.Delete(s, c.Path) })
}

type loadCmd struct {
	How  string `arg:"" enum:"merge,replace" help:"merge: into the candidate; replace: in its place."`
	File string `arg:"" help:"A document as RESTCONF's data resource or NETCONF's <config> has it; - is standard input." complete:"file"`
}

func (c *loadCmd) Run(s *session) error {
	b, err := read(c.File)
	if err != nil {
		return err
	}
	return with(s, func(o *operator.Client) error { return o.Load(s, b, c.How == "replace") })
}

// read reads a file, or standard input for -.
func read(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(file)
}

type importCmd struct {
	File    string `arg:"" help:"A configuration of Vita; - is standard input." complete:"file"`
	Replace bool   `help:"In place of the candidate; default: merged into it."`
}

func (c *importCmd) Run(s *session) error {
	b, err := read(c.File)
	if err != nil {
		return err
	}
	return with(s, func(o *operator.Client) error {
		if err := o.Import(s, string(b), c.Replace); err != nil {
			var all []string
			for line := range strings.SplitSeq(err.Error(), "\n") {
				all = append(all, c.File+": "+line)
			}
			return errors.New(strings.Join(all, "\n"))
		}
		return nil
	})
}

type validateCmd struct{}

func (*validateCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error { return o.Validate(s) })
}

type diffCmd struct{}

func (*diffCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error {
		diff, err := o.Staged(s)
		for _, l := range diff {
			fmt.Println(l)
		}
		return err
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
