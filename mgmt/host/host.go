// Package host passes settings of the machine on to the init of an appliance: its
// name, its name servers and time servers, where its log goes, and what it gives to
// forwarding alone. They are those of ietf-system (RFC 7317), and the container
// appliance of our own module.
//
// A gateway that is no appliance does not look after the machine that it runs on:
// there a commit that sets any of these is refused.
package host

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"vita/gen"
	"vita/internal/appliance"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// Host is the machine that the gateway runs on.
type Host struct {
	init appliance.Client
	log  *slog.Logger

	mu   sync.Mutex
	last appliance.Settings // that a commit has published
	more chan struct{}      // has something when they are to be sent
}

// New returns the machine of an appliance's init, or, of a client without a socket,
// one that somebody else looks after.
func New(init appliance.Client, log *slog.Logger) *Host {
	return &Host{init: init, log: log, more: make(chan struct{}, 1)}
}

// Followers go by the parts of the configuration that are about the machine.
func (h *Host) Followers() []datastore.Follower {
	var out []datastore.Follower
	for _, of := range []struct{ module, name string }{{"ietf-system", "system"}, {"vita-esp-gateway-ext", "appliance"}} {
		opened := false
		out = append(out, datastore.Follower{Module: of.module, Name: of.name, Prepare: func(root *gen.Vita) (func(), error) {
			s, err := h.settings(root)
			if opened {
				return func() { h.publish(s) }, err
			}
			// What is stored must not keep the gateway from starting: it may come
			// from another machine.
			opened = true
			if err != nil {
				h.log.Warn("the stored configuration has settings of the machine that are left alone", "error", err)
				return func() {}, nil
			}
			return func() { h.publish(s) }, nil
		}})
	}
	return out
}

func (h *Host) publish(s appliance.Settings) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = s
	select {
	case h.more <- struct{}{}:
	default: // whoever sends has not looked yet
	}
}

// setting is a value with where it is in the configuration.
type setting struct {
	path string
	one  appliance.Settings // has it alone
}

// settings reads what a configuration says of the machine.
func (h *Host) settings(root *gen.Vita) (appliance.Settings, error) {
	var s appliance.Settings
	var errs rpcerr.Errors
	for _, e := range list(root) {
		var err error
		tag := "invalid-value"
		if h.init.Socket == "" {
			tag = "operation-not-supported"
			err = errors.New("this gateway does not look after the machine that it runs on: set it there")
		} else {
			err = e.one.Check()
		}
		if err != nil {
			errs = append(errs, &rpcerr.Error{Type: rpcerr.Application, Tag: tag, Path: e.path, Message: err.Error()})
			continue
		}
		add(&s, e.one)
	}
	if len(errs) > 0 {
		return appliance.Settings{}, errs
	}
	return s, nil
}

// add adds one value to those that there are.
func add(s *appliance.Settings, one appliance.Settings) {
	s.Hostname = cmp.Or(s.Hostname, one.Hostname)
	s.DNS = append(s.DNS, one.DNS...)
	s.Search = append(s.Search, one.Search...)
	s.Timeout = cmp.Or(s.Timeout, one.Timeout)
	s.Attempts = cmp.Or(s.Attempts, one.Attempts)
	s.NTP = append(s.NTP, one.NTP...)
	s.NoNTP = s.NoNTP || one.NoNTP
	s.Syslog = append(s.Syslog, one.Syslog...)
	s.Hugepages = cmp.Or(s.Hugepages, one.Hugepages)
	s.CPUs = cmp.Or(s.CPUs, one.CPUs)
}

// list returns what a configuration says of the machine, value by value.
func list(root *gen.Vita) (out []setting) {
	take := func(path string, one appliance.Settings) { out = append(out, setting{path, one}) }
	if sys := root.System; sys != nil {
		const at = "/ietf-system:system"
		if v := sys.Hostname; v != nil {
			take(at+"/hostname", appliance.Settings{Hostname: *v})
		}
		if sys.Ntp != nil {
			takeNTP(take, at+"/ntp", sys.Ntp)
		}
		if sys.DnsResolver != nil {
			takeDNS(take, at+"/dns-resolver", sys.DnsResolver)
		}
	}
	if a := root.Appliance; a != nil {
		const at = "/vita-esp-gateway-ext:appliance"
		for _, address := range slices.Sorted(maps.Keys(a.Syslog)) {
			e := a.Syslog[address]
			take(at+"/syslog[address="+schema.Quote(address)+"]", appliance.Settings{Syslog: []string{hostPort(e.Address, e.Port, 514)}})
		}
		if v := a.Hugepages; v != nil {
			take(at+"/hugepages", appliance.Settings{Hugepages: new(int(*v))})
		}
		if v := a.Cpus; v != nil {
			take(at+"/cpus", appliance.Settings{CPUs: *v})
		}
	}
	return out
}

func takeNTP(take func(string, appliance.Settings), at string, ntp *gen.IETFSystem_System_Ntp) {
	take(at, appliance.Settings{NoNTP: ntp.Enabled != nil && !*ntp.Enabled})
	preferred := func(name string) int {
		if v := ntp.Server[name].Prefer; v != nil && *v {
			return 0
		}
		return 1
	}
	names := slices.SortedFunc(maps.Keys(ntp.Server), func(a, b string) int {
		return cmp.Or(cmp.Compare(preferred(a), preferred(b)), cmp.Compare(a, b))
	})
	for _, name := range names {
		if e := ntp.Server[name]; e.Udp != nil {
			take(at+"/server[name="+schema.Quote(name)+"]/udp", appliance.Settings{NTP: []string{hostPort(e.Udp.Address, e.Udp.Port, 123)}})
		}
	}
}

func takeDNS(take func(string, appliance.Settings), at string, dns *gen.IETFSystem_System_DnsResolver) {
	for _, d := range dns.Search {
		take(at+"/search[.="+schema.Quote(d)+"]", appliance.Settings{Search: []string{d}})
	}
	rank := func(name string) uint64 {
		if r := dns.Server[name].VitaRank; r != nil {
			return *r
		}
		return 0
	}
	names := slices.SortedFunc(maps.Keys(dns.Server), func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	for _, name := range names {
		e := dns.Server[name]
		if e.UdpAndTcp == nil || e.UdpAndTcp.Address == nil {
			continue // which the model does not let be
		}
		// What is no address is the zero one, and refused as that.
		a, _ := netip.ParseAddr(*e.UdpAndTcp.Address)
		take(at+"/server[name="+schema.Quote(name)+"]/udp-and-tcp/address", appliance.Settings{DNS: []netip.Addr{a}})
	}
	if o := dns.Options; o != nil {
		if v := o.Timeout; v != nil {
			take(at+"/options/timeout", appliance.Settings{Timeout: int(*v)})
		}
		if v := o.Attempts; v != nil {
			take(at+"/options/attempts", appliance.Settings{Attempts: int(*v)})
		}
	}
}

func hostPort(host *string, port *uint16, otherwise uint16) string {
	if host == nil { // which the model does not let be
		return ""
	}
	if port != nil {
		otherwise = *port
	}
	return net.JoinHostPort(*host, strconv.Itoa(int(otherwise)))
}

// How long init may take, and after how long it is told again what it could not do.
const (
	patience = 20 * time.Second
	leastGap = time.Second
	mostGap  = time.Minute
)

// Run tells init what the machine is to be, with the first configuration and after
// each commit, until ctx ends.
func (h *Host) Run(ctx context.Context) error {
	if h.init.Socket == "" {
		return nil
	}
	gap, told := leastGap, ""
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.more:
			gap, told = leastGap, ""
		case <-again:
			gap = min(2*gap, mostGap)
		}
		again = nil
		err := h.tell(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if text := err.Error(); text != told {
			told = text
			h.log.Error("the machine is not as configured", "error", err)
		}
		again = time.After(gap)
	}
}

func (h *Host) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	h.mu.Lock()
	s := h.last
	h.mu.Unlock()
	_, err := h.init.Ask(ctx, appliance.Request{Do: appliance.Configure, Settings: &s}, nil)
	return err
}
