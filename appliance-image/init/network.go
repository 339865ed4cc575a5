package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vita/appliance-image/internal/logring"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// dataNet is the network namespace of the data plane: all cards but the
// management interface are there, so that neither the engine can take that one
// nor the kernel answer on the others.
type dataNet struct{ handle netns.NsHandle }

// newDataNet makes the namespace. It lives as long as its handle.
func newDataNet() (*dataNet, error) {
	d := new(dataNet)
	err := onThread(func() (err error) {
		if d.handle, err = netns.New(); err != nil {
			return err
		}
		for _, c := range []string{"all", "default"} {
			// The kernel must not speak on the data plane's interfaces by itself.
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+c+"/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return d, nil
}

// run runs a function within the namespace: what it starts stays there.
func (d *dataNet) run(f func() error) error {
	if d == nil {
		return errors.New("there is no network namespace for the data plane")
	}
	return onThread(func() error {
		if err := netns.Set(d.handle); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs a function on a thread of its own, which ends with it, so that
// nobody else inherits its namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		done <- f()
	}()
	return <-done
}

// card is a network interface of the machine.
type card struct {
	name string // by its place, which stays when others are added
	old  string // as the kernel has named it
	mac  string
	pci  string // address; "" where it has none
}

// cards lists the interfaces that stand for devices, in the order of their
// places.
func cards(sys string) ([]card, error) {
	found, err := filepath.Glob(filepath.Join(sys, "class/net/*/device"))
	if err != nil {
		return nil, err
	}
	var out []card
	for _, f := range found {
		dir := filepath.Dir(f)
		c := card{old: filepath.Base(dir)}
		c.name = c.old
		if b, err := os.ReadFile(filepath.Join(dir, "address")); err == nil {
			c.mac = strings.TrimSpace(string(b))
		}
		if real, err := filepath.EvalSymlinks(f); err == nil {
			if all := pciAddress.FindAllString(real, -1); len(all) > 0 {
				c.pci = all[len(all)-1]
				if n := placeName(c.pci); n != "" {
					c.name = n
				}
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b card) int { return strings.Compare(a.pci+" "+a.old, b.pci+" "+b.old) })
	for i := range out { // two of one place, as cards of more ports on one function have them
		for j := range i {
			if out[j].name == out[i].name {
				out[i].name = out[i].old
			}
		}
	}
	return out, nil
}

var pciAddress = regexp.MustCompile(`[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]`)

// placeName makes a name of a PCI address, as other systems name cards:
// 0000:01:00.1 is enp1s0f1. Function 0 has no number.
func placeName(pci string) string {
	domain, rest, _ := strings.Cut(pci, ":")
	bus, rest, _ := strings.Cut(rest, ":")
	slot, function, ok := strings.Cut(rest, ".")
	if !ok {
		return ""
	}
	var n [4]uint64
	for i, s := range []string{domain, bus, slot, function} {
		v, err := strconv.ParseUint(s, 16, 32)
		if err != nil {
			return ""
		}
		n[i] = v
	}
	name := "en"
	if n[0] != 0 {
		name += fmt.Sprintf("P%d", n[0])
	}
	name += fmt.Sprintf("p%ds%d", n[1], n[2])
	if n[3] != 0 {
		name += fmt.Sprintf("f%d", n[3])
	}
	if len(name) > 15 { // what the kernel takes
		return ""
	}
	return name
}

// managed picks the management interface: the one that is named, by its name,
// MAC or PCI address, or the first.
func managed(all []card, want string) (card, error) {
	if len(all) == 0 {
		return card{}, errors.New("the machine has no network card that is known")
	}
	if want == "" {
		return all[0], nil
	}
	var have []string
	for _, c := range all {
		if strings.EqualFold(want, c.mac) || want == c.name || want == c.old || want == c.pci || "0000:"+want == c.pci {
			return c, nil
		}
		have = append(have, c.name+" "+c.mac)
	}
	return card{}, fmt.Errorf("no management interface %s, only: %s", want, strings.Join(have, ", "))
}

// network parts the cards, and brings up the management interface.
func (a *appliance) network(ctx context.Context, work *sync.WaitGroup) (err error) {
	if lo, err := netlink.LinkByName("lo"); err == nil {
		err = netlink.LinkSetUp(lo)
		if err != nil {
			return err
		}
	}
	all, err := cards("/sys")
	if err != nil {
		return err
	}
	m, err := managed(all, a.options.Management)
	if err != nil {
		// A wrong name must not lock the operator out.
		if a.options.Management == "" || len(all) == 0 {
			return err
		}
		a.say(logring.Error, "%v; taking %s", err, all[0].name)
		m = all[0]
	}
	for _, c := range all {
		if err := a.place(c, c.old == m.old); err != nil {
			a.say(logring.Error, "interface %s: %v", c.name, err)
		}
	}
	a.manage.Store(&m.name)
	link, err := netlink.LinkByName(m.name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if len(a.options.Address) == 0 {
		a.note("management interface %s by DHCP", m.name)
		a.keep(work, "DHCP", func() { a.dhcp(ctx, link) })
		return nil
	}
	var errs []error
	for _, p := range a.options.Address {
		errs = append(errs, netlink.AddrReplace(link, &netlink.Addr{IPNet: ipnet(p)}))
	}
	for _, g := range a.options.Gateway {
		errs = append(errs, a.defaultRoute(link, g))
	}
	a.note("management interface %s, %v", m.name, a.options.Address)
	return errors.Join(errs...)
}

// place gives a card its name, and moves it where it belongs.
func (a *appliance) place(c card, management bool) error {
	link, err := netlink.LinkByName(c.old)
	if err != nil {
		return err
	}
	if c.name != c.old {
		if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, c.name)); err != nil {
			return err
		}
	}
	if management {
		return nil
	}
	a.note("interface %s is the data plane's: %s, PCI %s", c.name, c.mac, c.pci)
	return netlink.LinkSetNsFd(link, int(a.data.handle))
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (a *appliance) defaultRoute(link netlink.Link, gateway netip.Addr) error {
	every := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gateway.Is6() {
		every = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipnet(every), Gw: gateway.AsSlice()})
}

// dhcp keeps a lease for the management interface. Without one the gateway goes
// on: it can be reached by its IPv6 link-local address, and at the console.
func (a *appliance) dhcp(ctx context.Context, link netlink.Link) {
	name := link.Attrs().Name
	wait, told := time.Second, false
	for ctx.Err() == nil {
		lease, err := a.lease(ctx, name)
		if err == nil {
			wait, told = time.Second, false
			until := a.applyLease(link, lease)
			a.renew(ctx, name, link, lease, until)
			continue
		}
		if !told {
			told = true
			a.say(logring.Warning, "no address by DHCP on %s yet: %v", name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Minute)
	}
}

func (a *appliance) lease(ctx context.Context, name string) (*nclient4.Lease, error) {
	c, err := nclient4.New(name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(4))
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // nothing is buffered
	return c.Request(ctx, dhcpv4.WithOption(dhcpv4.OptHostName(a.hostname())))
}

// renew asks for more time, again and again, until the lease is lost.
func (a *appliance) renew(ctx context.Context, name string, link netlink.Link, lease *nclient4.Lease, until time.Time) {
	for ctx.Err() == nil {
		// Half of what is left, as RFC 2131, section 4.4.5, has it of T1.
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(time.Until(until)/2, 10*time.Second)):
		}
		if time.Now().After(until) {
			return
		}
		c, err := nclient4.New(name, nclient4.WithTimeout(2*time.Second))
		if err != nil {
			continue
		}
		fresh, err := c.Renew(ctx, lease)
		_ = c.Close()
		if err == nil {
			lease, until = fresh, a.applyLease(link, fresh)
		}
	}
}

const (
	leastLease = time.Minute
	mostLease  = 7 * 24 * time.Hour
)

// applyLease configures what a server has given, and returns until when. All of
// it is a stranger's word.
func (a *appliance) applyLease(link netlink.Link, l *nclient4.Lease) (until time.Time) {
	ack := l.ACK
	lifetime := min(max(ack.IPAddressLeaseTime(time.Hour), leastLease), mostLease)
	until = time.Now().Add(lifetime)
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	bits, total := ack.SubnetMask().Size()
	if !ok || total != 32 || bits == 0 || !ip.IsGlobalUnicast() {
		a.say(logring.Warning, "DHCP gives an address that is none: %s", ack.YourIPAddr)
		return until
	}
	p := netip.PrefixFrom(ip, bits)
	old, _ := addresses(link, unix.AF_INET) // none: nothing to take away
	for _, o := range old {
		if !o.IP.Equal(ack.YourIPAddr) {
			_ = netlink.AddrDel(link, &o) // a stale address does less harm than a lost one
		}
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipnet(p), ValidLft: int(lifetime.Seconds()), PreferedLft: int(lifetime.Seconds())}); err != nil {
		a.say(logring.Error, "address %s: %v", p, err)
		return until
	}
	a.note("DHCP: %s for %s", p, lifetime)
	for _, r := range ack.Router()[:min(1, len(ack.Router()))] {
		if g, ok := netip.AddrFromSlice(r.To4()); ok && g.IsGlobalUnicast() {
			if err := a.defaultRoute(link, g); err != nil {
				a.say(logring.Error, "router %s: %v", g, err)
			}
		}
	}
	var dns []netip.Addr
	for _, d := range ack.DNS() {
		if s, ok := netip.AddrFromSlice(d.To4()); ok && len(dns) < 3 {
			dns = append(dns, s)
		}
	}
	a.told.tell(func(t *told) { t.offered = dns })
	if err := a.resolve(); err != nil {
		a.say(logring.Error, "%v", err)
	}
	return until
}

// reach says where the gateway is managed.
func (a *appliance) reach() string {
	name := a.manage.Load()
	if name == nil {
		return "no management interface"
	}
	link, err := netlink.LinkByName(*name)
	if err != nil {
		return err.Error()
	}
	all, err := addresses(link, unix.AF_UNSPEC)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, x := range all {
		out = append(out, x.IP.String())
	}
	if len(out) == 0 {
		out = append(out, "no address yet")
	}
	return *name + " " + strings.Join(out, " ")
}

func addresses(link netlink.Link, family int) ([]netlink.Addr, error) {
	return whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, family) })
}

// whole lists something of the kernel's, and again as long as that says that it has
// changed meanwhile, so that some of it may be missing.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 100 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
