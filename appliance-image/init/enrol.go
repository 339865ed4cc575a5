package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"vita/appliance-image/internal/logring"
)

// administrator is who is to be the first one. It is in memory alone, since a
// password may be, until vitad has made the state with it.
type administrator struct {
	name, keys, password string
	options              string // to be stored when there is one
}

func (a *appliance) enrolled() bool {
	_, err := os.Stat(vitaDir)
	return err == nil
}

// firstBoot makes the first administrator, where there is none.
func (a *appliance) firstBoot() {
	if a.enrolled() {
		return
	}
	if len(a.options.AdminKeys) == 0 {
		a.say(logring.Notice, "no administrator: enter one at the console")
		return // vitad waits for one
	}
	a.enrol()
}

// enrol lets vitad make its state when it starts: a program of its own for that
// would cost a second on a slow machine.
func (a *appliance) enrol() {
	o := &a.options
	a.first.Store(&administrator{first(o.Admin, "admin"), strings.Join(o.AdminKeys, "\n") + "\n", o.AdminPassword, o.Text()})
	o.AdminPassword = ""
}

// awaitAdministrator waits until there is somebody who may configure, or is to be:
// without one there is no state that vitad could start with.
func (a *appliance) awaitAdministrator(ctx context.Context) error {
	for !a.enrolled() && a.first.Load() == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

// tellAdministrator tells vitad who the first administrator is to be, where there
// is none. It goes by pipes, in which nothing is left once it is read. What it
// returns is to be called when vitad has been started, or could not be.
func (a *appliance) tellAdministrator(cmd *exec.Cmd) (told func(), err error) {
	who := a.first.Load()
	if who == nil || a.enrolled() {
		return func() {}, nil
	}
	tell := func(option, text string) error {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
		cmd.Args = append(cmd.Args, option, fmt.Sprintf("/proc/self/fd/%d", 2+len(cmd.ExtraFiles)))
		go func() {
			_, _ = w.WriteString(text) // where vitad ends before it has read it, it says why
			_ = w.Close()
		}()
		return nil
	}
	told = func() {
		for _, f := range cmd.ExtraFiles {
			_ = f.Close() // it was for vitad, and for reading
		}
	}
	cmd.Args = append(cmd.Args, "--first-admin", who.name)
	err = tell("--first-ssh-key", who.keys)
	if err == nil && who.password != "" {
		err = tell("--first-password-file", who.password+"\n")
	}
	if err != nil {
		told()
	}
	return told, err
}

// enrolling takes what vitad says while there is no administrator: it is about the
// first one. Once there is one, what the machine was told is stored. Until then a
// start is the first one, and asks again: for the password, which is not stored.
func (a *appliance) enrolling(status string) {
	who := a.first.Swap(nil)
	if who == nil {
		return
	}
	if !a.enrolled() {
		a.say(logring.Error, "%s: enter an administrator at the console", printable(status))
		return
	}
	a.say(logring.Notice, "%s", printable(status))
	if _, err := os.Stat(optionFile); err == nil {
		return // by who has entered it at the console
	}
	if err := writeDurably(optionFile, []byte(who.options), 0o600); err != nil {
		a.say(logring.Error, "options: %v", err)
	}
}

// printable is a line that does a terminal no harm.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 500)])
}
