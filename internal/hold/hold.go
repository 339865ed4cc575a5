// Package hold lets a program be started before what it needs is there: it reads
// itself in, which takes a large part of a second on a slow machine, and then waits
// for a word of whoever has started it.
package hold

import (
	"io"
	"os"
	"os/exec"
)

// variable asks a program to wait until its standard input ends.
const variable = "VITA_HOLD"

// Here waits, where whoever has started the program wants it. It is the first thing
// that a program's main does.
func Here() {
	if os.Getenv(variable) == "" {
		return
	}
	_ = os.Unsetenv(variable)            // what the program starts does not wait
	_, _ = io.Copy(io.Discard, os.Stdin) // an input that cannot be read is none to wait for
}

// Command makes a command wait in Here, and returns what lets it go on: to be called
// once, after the command has been started, and also where it could not be.
func Command(cmd *exec.Cmd) (release func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdin = r
	cmd.Env = append(cmd.Environ(), variable+"=1")
	return func() {
		_ = r.Close() // the program has its own
		_ = w.Close() // nothing is written
	}, nil
}
