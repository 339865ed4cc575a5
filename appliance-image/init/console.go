package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"vita/appliance-image/internal/block"
	"vita/appliance-image/internal/logring"
	"vita/appliance-image/internal/options"
	"vita/appliance-image/internal/timeline"

	"golang.org/x/sys/unix"
)

// consoles serves the menu at the serial port and at the screen. Whoever is
// there is present: the menu asks for no password, and has no shell.
func (a *appliance) consoles(ctx context.Context) {
	for _, name := range []string{"/dev/ttyS0", "/dev/tty1"} {
		f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			continue // the machine has none
		}
		context.AfterFunc(ctx, func() { _ = f.Close() }) // which ends reading
		go func() {
			defer func() {
				if r := recover(); r != nil {
					a.say(logring.Critical, "console %s has failed: %v", name, r)
				}
			}()
			a.menu(f)
		}()
	}
}

// maxAnswer is what is read of a line.
const maxAnswer = 8 << 10

// menu talks to whoever is at a console, until it is closed.
func (a *appliance) menu(tty io.ReadWriter) {
	c := &console{out: tty, in: bufio.NewReaderSize(tty, maxAnswer)}
	for {
		line, err := c.ask("")
		if errors.Is(err, errTooLong) {
			c.printf("%v\n", err)
			continue
		} else if err != nil {
			return
		}
		var word string
		word, c.rest, _ = strings.Cut(line, " ")
		command, ok := commands[word]
		if !ok {
			c.help()
			continue
		}
		if err := command.run(a, c); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			c.printf("%v\n", err)
		}
	}
}

// console is one end of a terminal.
type console struct {
	out  io.Writer
	in   *bufio.Reader
	rest string // of the line that has the command
}

func (c *console) printf(format string, args ...any) {
	// The terminal may be gone: then reading says so.
	_, _ = fmt.Fprintf(c.out, format, args...)
}

var errTooLong = errors.New("the line is too long")

func (c *console) ask(question string) (string, error) {
	c.printf("%s", question)
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = c.in.ReadSlice('\n')
		}
		if err == nil {
			err = errTooLong
		}
		return "", err
	}
	return strings.TrimSpace(string(line)), err
}

func (c *console) help() {
	c.printf("\nVita appliance %s. Commands:\n", release)
	for _, name := range order {
		c.printf("  %-9s %s\n", name, commands[name].help)
	}
}

type command struct {
	help string
	run  func(a *appliance, c *console) error
}

var order = []string{"status", "log", "setup", "reboot", "poweroff", "other", "erase"}

var commands map[string]command

func init() { // commands print commands
	commands = map[string]command{
		"status":   {"how the gateway does, and where it is managed", (*appliance).showStatus},
		"log":      {fmt.Sprintf("the last %d lines of the log; log 500: the last 500", logLines), (*appliance).showLog},
		"setup":    {"the first administrator, and the management network", (*appliance).wizard},
		"reboot":   {"restart the machine", func(a *appliance, _ *console) error { a.finish(unix.LINUX_REBOOT_CMD_RESTART, "console"); return nil }},
		"poweroff": {"turn the machine off", func(a *appliance, _ *console) error { a.finish(unix.LINUX_REBOOT_CMD_POWER_OFF, "console"); return nil }},
		"other":    {"restart once with the other slot's image", (*appliance).bootOther},
		"erase":    {"factory reset: configuration, users and keys are lost", (*appliance).factoryReset},
	}
}

func (a *appliance) showStatus(c *console) error {
	c.printf("version %s, slot %s of %s, up %.0f s, %s\n", release, a.slot, a.disk, timeline.Uptime().Seconds(), time.Now().UTC().Format(time.RFC3339))
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		total, available := memory(string(b))
		c.printf("memory: %d MiB in use of %d\n", (total-available)/1024, total/1024)
	}
	if a.trial.Load() {
		c.printf("this image is on trial\n")
	}
	w := a.told.wish()
	c.printf("host %s, management %s\n", w.hostname, a.reach())
	c.printf("time servers: %s\n", first(strings.Join(w.ntp, " "), "none"))
	if said := a.clock.Load(); said != nil && len(w.ntp) > 0 {
		c.printf("  %s\n", *said)
	}
	c.printf("log servers: %s\n", first(strings.Join(w.syslog, " "), "none"))
	if sum, err := fingerprint(vitaDir + "/tls.crt"); err == nil {
		c.printf("certificate of RESTCONF: sha256 %s\n", sum)
	}
	c.printf("start, in seconds since the kernel's: %s\n", &a.times)
	a.serving.Lock()
	defer a.serving.Unlock()
	for i, s := range a.services {
		st := s.State()
		how := "does not run"
		if st.Running {
			how = "runs"
		}
		c.printf("%s %s since %s, %d starts %s\n", a.names[i], how, st.Since.UTC().Format(time.RFC3339), st.Starts, st.Last)
	}
	return nil
}

// memory reads /proc/meminfo: what there is, and what programs could still have,
// in KiB.
func memory(text string) (total, available uint64) {
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		n, err := strconv.ParseUint(w[1], 10, 48)
		if err != nil {
			continue
		}
		switch w[0] {
		case "MemTotal:":
			total = n
		case "MemAvailable:":
			available = n
		}
	}
	return total, min(available, total)
}

// fingerprint is a certificate's, as openssl prints it.
func fingerprint(file string) (string, error) {
	b, err := readSmall(file, 64<<10)
	if err != nil {
		return "", err
	}
	p, _ := pem.Decode(b)
	if p == nil {
		return "", errors.New("no certificate")
	}
	sum := sha256.Sum256(p.Bytes)
	return strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":")), nil
}

// logLines is what fits a screen.
const logLines = 40

func (a *appliance) showLog(c *console) error {
	n := logLines
	if rest := strings.TrimSpace(c.rest); rest != "" {
		var err error
		if n, err = strconv.Atoi(rest); err != nil || n < 1 {
			return fmt.Errorf("log %.20q: say how many lines, such as: log 500", rest)
		}
	}
	lines := a.log.After(0)
	for _, l := range lines[max(0, len(lines)-n):] {
		c.printf("%s %s: %s\n", l.At.UTC().Format("15:04:05.000"), l.Source, l.Text)
	}
	return nil
}

// option asks for an option until the answer is good, or is none.
func (c *console) option(o *options.Options, key, question string) error {
	for {
		answer, err := c.ask(question + ": ")
		if err != nil || answer == "" {
			return err
		}
		changed := *o
		if key == "admin-key" { // those so far may be why there is no administrator
			changed.AdminKeys = nil
		}
		if err := changed.Strings([]string{options.Prefix + key + "=" + answer}); err != nil {
			c.printf("%v\n", err)
			continue
		}
		*o = changed
		return nil
	}
}

// wizard asks for what a zero-touch start would have brought along.
func (a *appliance) wizard(c *console) error {
	if _, err := os.Stat(stateDir + "/machine-id"); err != nil {
		return errNoState
	}
	o := a.options
	c.printf("An empty line leaves a thing as it is.\n")
	o.Address, o.Gateway, o.DNS = nil, nil, nil
	enrolled := a.enrolled() || a.first.Load() != nil // or vitad is at it
	for _, q := range []struct{ key, question string }{
		{"hostname", "host name"},
		{"management", "management interface: name, MAC or PCI address"},
		{"address", "its address with prefix length, or dhcp"},
		{"gateway", "router"},
		{"dns", "name servers"},
		{"ntp", "time servers"},
		{"admin", "name of the administrator"},
		{"admin-key", "the administrator's public SSH key, one line"},
	} {
		if q.key == "admin" && enrolled {
			break
		}
		if err := c.option(&o, q.key, q.question); err != nil {
			return err
		}
	}
	a.options = o
	if err := a.storeOptions(); err != nil {
		return err
	}
	a.told.setOptions(o)
	if err := a.apply(); err != nil {
		return err
	}
	if !enrolled && len(o.AdminKeys) > 0 {
		a.enrol()
	}
	c.printf("stored; the network is as told after the next restart\nname, name servers and time servers that are configured over the network go before these\n")
	return nil
}

// factoryReset forgets everything. It can only be had here: over the network
// nobody can be sure to be the owner of the machine.
func (a *appliance) factoryReset(c *console) error {
	p, err := a.partition(block.State)
	if err != nil {
		return err
	}
	answer, err := c.ask("This erases configuration, users and keys. Enter the host's name, " + a.hostname() + ", to go on: ")
	if err != nil {
		return err
	}
	if answer != a.hostname() {
		c.printf("nothing is changed\n")
		return nil
	}
	a.say(logring.Critical, "factory reset, from the console")
	if err := erase(p.Device); err != nil {
		return err
	}
	// What is still in memory of the old file system must not be written.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		return err
	}
	select {}
}
