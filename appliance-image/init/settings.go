package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"vita/appliance-image/internal/logring"
	"vita/appliance-image/internal/options"
	ctl "vita/internal/appliance"

	"golang.org/x/sys/unix"
)

// settingsFile has what vitad has sent last. It holds from the next start on before
// vitad runs, and where vitad does not come up: its log then reaches its servers.
const settingsFile = stateDir + "/settings.json"

// told is what the machine has been told, by whom, and what has been made of it.
type told struct {
	mu       sync.Mutex
	options  options.Options // at the first start, or at the console
	settings ctl.Settings    // by the configuration, which goes before
	offered  []netip.Addr    // name servers, by DHCP, which goes last
	senders  map[string]context.CancelFunc
	apply    sync.Mutex    // held by whoever makes the machine what was told
	asked    []string      // time servers, as of the last apply
	time     chan struct{} // has something when there are others
}

// wish is what the machine is to be.
type wish struct {
	hostname    string
	resolver    string   // file of resolv.conf(5)
	ntp, syslog []string // servers
	hugepages   int
	cpus        string
}

func (t *told) wish() (w wish) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, s := t.options, t.settings
	w.hostname = first(s.Hostname, o.Hostname, "vita")
	w.ntp = o.NTP
	if s.NoNTP {
		w.ntp = nil
	} else if len(s.NTP) > 0 {
		w.ntp = s.NTP
	}
	w.syslog = o.Syslog
	if len(s.Syslog) > 0 {
		w.syslog = s.Syslog
	}
	w.hugepages = o.Hugepages
	if s.Hugepages != nil {
		w.hugepages = *s.Hugepages
	}
	w.cpus = first(s.CPUs, o.CPUs)

	var b strings.Builder
	servers := t.offered
	if len(s.DNS) > 0 {
		servers = s.DNS
	} else if len(o.DNS) > 0 {
		servers = o.DNS
	}
	for _, a := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(s.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(s.Search, " "))
	}
	if s.Timeout > 0 {
		fmt.Fprintf(&b, "options timeout:%d\n", s.Timeout)
	}
	if s.Attempts > 0 {
		fmt.Fprintf(&b, "options attempts:%d\n", s.Attempts)
	}
	w.resolver = b.String()
	return w
}

// first returns the first of some words that is not empty.
func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// setOptions tells what the machine was told at its first start, or at the console.
func (t *told) setOptions(o options.Options) {
	o.AdminPassword = ""
	t.tell(func(t *told) { t.options = o })
}

// tell changes what was told.
func (t *told) tell(change func(t *told)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t)
}

func (a *appliance) hostname() string { return a.told.wish().hostname }

// readSettings takes the settings of the last time. Where they cannot be read the
// machine is as it was told at its first start, until vitad runs.
func (a *appliance) readSettings(name string) {
	b, err := readSmall(name, ctl.MaxLine+1)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var s ctl.Settings
	if err == nil {
		s, err = ctl.ParseSettings(b)
	}
	if err != nil {
		a.say(logring.Warning, "%s: %v", name, err)
		return
	}
	a.told.tell(func(t *told) { t.settings = s })
}

// configure takes settings from vitad, as the answer to its request, and keeps
// them.
func (a *appliance) configure(s *ctl.Settings) (an ctl.Answer) {
	if s == nil { // what is in it has been checked with the request
		return ctl.Answer{Error: "the request has no settings"}
	}
	before := a.told.wish()
	a.told.tell(func(t *told) { t.settings = *s })
	err := errors.Join(a.apply(), storeSettings(settingsFile, *s))
	if w := a.told.wish(); w.hugepages != before.hugepages || w.cpus != before.cpus {
		a.say(logring.Notice, "huge pages (%d) and processors (%q) are as configured from the next restart on", w.hugepages, w.cpus)
	}
	if err != nil {
		an.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return an
}

// storeSettings writes them where they are others than those that are there.
func storeSettings(name string, s ctl.Settings) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if old, err := readSmall(name, ctl.MaxLine+1); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return writeDurably(name, b, 0o600)
}

// apply makes the machine what it is wanted to be, as far as that can be done while
// it runs. It does what it can.
func (a *appliance) apply() error {
	a.told.apply.Lock()
	defer a.told.apply.Unlock()
	w := a.told.wish()
	a.sendTo(w.syslog)
	err := errors.Join(a.setName(w.hostname), a.setResolver(w.resolver))
	if !slices.Equal(a.told.asked, w.ntp) {
		a.told.asked = w.ntp
		select {
		case a.told.time <- struct{}{}:
		default: // it is to look already
		}
	}
	return err
}

// Where programs look for what apply writes.
const (
	hostnameFile = "/run/hostname"
	resolverFile = "/run/resolv.conf"
)

func (a *appliance) setName(name string) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil && unix.ByteSliceToString(u.Nodename[:]) == name {
		return nil
	}
	a.note("this is host %s", name)
	return errors.Join(replace(hostnameFile, name+"\n"), unix.Sethostname([]byte(name)))
}

// setResolver tells programs whom to ask for names.
func (a *appliance) setResolver(text string) error {
	if old, err := os.ReadFile(resolverFile); err == nil && string(old) == text {
		return nil
	}
	a.note("names: %s", first(strings.TrimSuffix(text, "\n"), "nobody to ask"))
	return replace(resolverFile, text)
}

// resolve is setResolver with what has been told.
func (a *appliance) resolve() error {
	a.told.apply.Lock()
	defer a.told.apply.Unlock()
	return a.setResolver(a.told.wish().resolver)
}

// replace replaces a file in memory that others may be reading.
func replace(name, text string) error {
	if err := os.WriteFile(name+".new", []byte(text), 0o444); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// sendTo makes some servers those that the log goes to. Those that it goes to
// already do not get twice what they have.
func (a *appliance) sendTo(servers []string) {
	t := &a.told
	for _, server := range slices.Sorted(maps.Keys(t.senders)) {
		if !slices.Contains(servers, server) {
			a.note("the log goes to %s no more", server)
			t.senders[server]()
			delete(t.senders, server)
		}
	}
	for _, server := range servers {
		if t.senders[server] == nil {
			a.note("the log goes to %s", server)
			t.senders[server] = a.send(server)
		}
	}
}
