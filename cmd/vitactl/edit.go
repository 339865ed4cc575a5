package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"vita/mgmt/operator"

	"golang.org/x/term"
)

type editCmd struct {
	Editor string `env:"VISUAL,EDITOR" default:"vi" help:"The editor, with its arguments." placeholder:"COMMAND"`
}

func (c *editCmd) Run(s *session) error {
	return with(s, func(o *operator.Client) error {
		diff, err := o.Edit(s, operator.Editing{Open: c.open, Again: again})
		if err != nil {
			return err
		}
		for _, l := range diff {
			fmt.Println(l)
		}
		if len(diff) > 0 {
			fmt.Fprintln(os.Stderr, "staged: vitactl commit puts it in force, vitactl discard forgets it")
		}
		return nil
	})
}

// open runs the editor, whose command may have arguments, on a file.
func (c *editCmd) open(ctx context.Context, file string) error {
	words := strings.Fields(c.Editor)
	if len(words) == 0 {
		words = []string{"vi"}
	}
	e := exec.CommandContext(ctx, words[0], append(words[1:], file)...)
	e.Stdin, e.Stdout, e.Stderr = os.Stdin, os.Stdout, os.Stderr
	return e.Run()
}

// again asks whether to go on editing; without a terminal nobody can answer.
func again(problem error, staged bool) bool {
	fmt.Fprintln(os.Stderr, problem)
	if staged {
		fmt.Fprintln(os.Stderr, "it is staged all the same, but cannot be committed so.")
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false
	}
	fmt.Fprint(os.Stderr, "edit again? [Y/n] ")
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	return err == nil && !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "n")
}
