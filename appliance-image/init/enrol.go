package main

import (
	"context"
	"os"
	"strings"
	"time"

	"vita/appliance-image/internal/logring"
	ctl "vita/internal/appliance"
)

// administrator is who is to be the first one. It is in memory alone, since a
// password may be, until vitad has made the state with it.
type administrator struct {
	ctl.Administrator
	options string // to be stored when there is one
}

func (a *appliance) enrolled() bool {
	_, err := os.Stat(vitaDir)
	return err == nil
}

// firstBoot lets vitad begin: with the state that is there, or with who is to be the
// first administrator, where that is known.
func (a *appliance) firstBoot() {
	defer close(a.mayBegin)
	if a.enrolled() {
		return
	}
	if len(a.options.AdminKeys) == 0 {
		a.say(logring.Notice, "no administrator: enter one at the console")
		return
	}
	a.enrol()
}

// enrol lets vitad make its state with what the machine was told: a program of its
// own for that would cost a second on a slow machine.
func (a *appliance) enrol() {
	o := &a.options
	a.first.Store(&administrator{
		ctl.Administrator{Name: first(o.Admin, "admin"), Keys: strings.Join(o.AdminKeys, "\n"), Password: o.AdminPassword},
		o.Text(),
	})
	o.AdminPassword = ""
}

// begin answers vitad when it may look at its state: when that is mounted, and what
// an upgrade on trial would change is kept. Where there is none, it waits for an
// administrator.
func (a *appliance) begin(ctx context.Context) ctl.Answer {
	ends := ctl.Answer{Error: "the machine ends"}
	select {
	case <-ctx.Done():
		return ends
	case <-a.mayBegin:
	}
	for !a.enrolled() {
		if who := a.first.Load(); who != nil {
			return ctl.Answer{First: &who.Administrator}
		}
		select {
		case <-ctx.Done():
			return ends
		case <-time.After(500 * time.Millisecond):
		}
	}
	return ctl.Answer{}
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
