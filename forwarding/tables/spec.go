// Package tables holds what the control process and the packet engine share:
// the description of a gateway (Spec), the flat tables built from it, and the
// layout of the shared memory around them.
//
// The shared memory (arena) has a fixed frame, made once when the engine
// starts, and two places for tables in it:
//
//	Header       magic, version, sizes and offsets; the word that says which
//	             generation of the tables is live
//	tables 0, 1  one live, one idle: a Generation each, built by vitad
//	SAs          one entry an SA, written by the engine; by index
//	active       for each route slot and worker the SA to send by
//	workers      for each worker its counters, statistics and epoch
//	rings        for each worker a ring of messages to vitad and one back
//	routes       for each route slot and worker what it counts
//	captures     for each worker a ring of captured packets
//
// A Generation holds no pointer, only offsets from its own start, and entries
// of fixed size. Whoever maps one checks all of it first (Open). Routes and
// workers keep their slots from one generation to the next, so that what hangs
// on a slot (SAs, counters) outlives the tables.
//
// The package knows no device and no packet, no process and no socket. Nothing
// here knows the configuration model: Spec is plain data.
package tables

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Link names an interface: exactly one field is set.
type Link struct {
	PCI    string // PCI address: the engine drives the device itself
	Ifname string // kernel interface
}

// String returns whichever name is set.
func (l Link) String() string {
	if l.PCI != "" {
		return l.PCI
	}
	return l.Ifname
}

// Interface is one side of the gateway.
type Interface struct {
	Link       Link
	MAC        [6]byte // zero: 2a:bb (private) or 3a:bb (public) and the IPv4 address, or a hash of the IPv6 address
	NextHopMAC [6]byte // zero: resolved by ARP or neighbour discovery
	IP         netip.Addr
	NextHop    netip.Addr
	VLAN       uint16 // the id of its VLAN; 0: it is in none

	// The same of the other family. Only the private interface may have them.
	OtherIP, OtherNextHop netip.Addr // both or neither
	OtherNextHopMAC       [6]byte    // zero: resolved
}

// PublicInterface is an interface to the untrusted network, with the worker
// that serves it.
type PublicInterface struct {
	Interface
	Queue       uint16     // names the worker; from 1
	DeviceQueue uint16     // the device's queue, from 1; 0: all of them
	NATIP       netip.Addr // how the peers see IP; may be unset
	PrefixLen   uint8      // of the network that IP is in: remote gateways in it are sent to directly; 0: none is
}

// Gateway is the remote end of a route for one queue.
type Gateway struct {
	Queue uint16
	IP    netip.Addr
}

// Route is one remote site.
type Route struct {
	ID       string
	SPI      uint32         // names the route in key exchange
	Nets     []netip.Prefix // of either family
	Gateways []Gateway      // in a queue without one, that of the lowest queue is used
	UDP      *UDP           // nil: ESP goes to the gateway without UDP around it
}

// UDP says how a route's ESP packets are put into UDP (RFC 3948).
type UDP struct {
	Port      uint16 // the peer's; 0: DefaultUDPPort
	Keepalive uint16 // seconds without a packet to the peer until a keepalive is sent; 0: none is
	Moves     bool   // the peer's address and port become those of its newest authentic packet
}

// Spec describes a whole gateway. Its public addresses, and so the tunnels, are
// of one family, which is that of Private.IP. What goes through the tunnels may
// be of both. The zero Spec is a gateway that does nothing.
type Spec struct {
	Private      *Interface
	Public       []PublicInterface
	Routes       []Route
	MTU          uint16 // largest inner packet, bytes; 0: DefaultMTU
	TFC          bool   // pad every inner packet to the MTU
	ProtocolPort uint16 // UDP port of key exchange; 0: DefaultProtocolPort

	ReplayWindow uint16 // of inbound SAs installed from now on; 0: DefaultReplayWindow
	Resync       bool   // look for a lost sequence number (RFC 4303, A3)
	ECN          bool   // give the outer header the inner ECN field (RFC 6040, normal mode)
	CopyDSCP     bool   // give the outer header the inner DSCP
	DSCP         uint8  // of the outer header, where the inner one is not copied
	DF           DF     // of the outer header of IPv4
	Fragment     bool   // packets of IPv4 that are too big and may be fragmented
	UDPPort      uint16 // own port of ESP in UDP; 0: DefaultUDPPort
	Dummies      uint16 // seconds without a packet to a peer until a dummy is sent; 0: none is
}

// DF says how the outer header's flag "do not fragment" is set.
type DF uint8

// The ways to set it (RFC 4301, 8.1).
const (
	DFSet DF = iota
	DFClear
	DFCopy
)

// Defaults of a Spec, as in the model.
const (
	DefaultMTU          = 8923
	DefaultProtocolPort = 303
	DefaultReplayWindow = 128
	DefaultUDPPort      = 4500
)

// Limits of the anti-replay window, in packets.
const (
	MinReplayWindow = 64
	MaxReplayWindow = 4096
)

// Limits that the layout sets.
const (
	MaxWorkers = 16  // public interfaces
	MaxLink    = 64  // bytes of an interface's name
	MaxID      = 255 // bytes of a route's id

	MaxVLAN = 4094
)

// ErrSpec wraps every complaint about a Spec's content.
var ErrSpec = errors.New("gateway cannot be built")

func specError(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrSpec, fmt.Errorf(format, a...))
}

// Validate checks what the layout relies on. It is no substitute for the
// model's own rules, whose messages name the configuration's leaves.
func (s *Spec) Validate() error {
	if s.Private == nil && len(s.Public) > 0 {
		return specError("public interfaces without a private one")
	}
	if n := s.ReplayWindow; n != 0 && (n < MinReplayWindow || n > MaxReplayWindow) {
		return specError("replay window %d: want %d to %d", n, MinReplayWindow, MaxReplayWindow)
	}
	if s.DSCP > 63 || s.DF > DFCopy {
		return specError("DSCP %d, DF %d: not within their ranges", s.DSCP, s.DF)
	}
	if s.usesUDP() && s.udpPort() == s.protocolPort() {
		return specError("port %d is that of key exchange and of ESP in UDP: they must differ", s.udpPort())
	}
	v6 := s.v6()
	if s.Private != nil {
		if err := s.Private.validate("private interface", v6); err != nil {
			return err
		}
		if err := s.Private.validateOther(v6); err != nil {
			return err
		}
	}
	if len(s.Public) > MaxWorkers {
		return specError("%d public interfaces: at most %d", len(s.Public), MaxWorkers)
	}
	queues := make(map[uint16]bool)
	for i := range s.Public {
		p := &s.Public[i]
		if err := p.validate(fmt.Sprintf("public interface %s", p.IP), v6); err != nil {
			return err
		}
		if p.OtherIP.IsValid() || p.OtherNextHop.IsValid() {
			return specError("public interface %s: has an address of the other family", p.IP)
		}
		if p.NATIP.IsValid() && !of(v6, p.NATIP) {
			return specError("public interface %s: nat-ip %s is not %s", p.IP, p.NATIP, familyName(v6))
		}
		if int(p.PrefixLen) > p.IP.BitLen() {
			return specError("public interface %s: a prefix of %d bits", p.IP, p.PrefixLen)
		}
		if p.Queue == 0 || queues[p.Queue] {
			return specError("public interface %s: queue %d is not from 1, or used twice", p.IP, p.Queue)
		}
		queues[p.Queue] = true
	}
	return s.validateRoutes(v6)
}

// usesUDP reports whether any route puts ESP into UDP.
func (s *Spec) usesUDP() bool {
	return slices.ContainsFunc(s.Routes, func(r Route) bool { return r.UDP != nil })
}

func (s *Spec) udpPort() uint16      { return cmp.Or(s.UDPPort, DefaultUDPPort) }
func (s *Spec) protocolPort() uint16 { return cmp.Or(s.ProtocolPort, DefaultProtocolPort) }

func (i *Interface) validate(what string, v6 bool) error {
	if (i.Link.PCI == "") == (i.Link.Ifname == "") {
		return specError("%s: exactly one of pci and ifname must be set", what)
	}
	if len(i.Link.String()) > MaxLink {
		return specError("%s: link name %q is longer than %d bytes", what, i.Link, MaxLink)
	}
	if !of(v6, i.IP) || !of(v6, i.NextHop) {
		return specError("%s: ip %s and next hop %s must be %s", what, i.IP, i.NextHop, familyName(v6))
	}
	if i.VLAN > MaxVLAN {
		return specError("%s: VLAN %d: want 1 to %d, or 0 for none", what, i.VLAN, MaxVLAN)
	}
	if i.MAC[0]&1 != 0 || i.NextHopMAC[0]&1 != 0 {
		return specError("%s: a MAC address is a group address", what)
	}
	return nil
}

// validateOther checks what an interface has of the other family than the
// gateway's.
func (i *Interface) validateOther(v6 bool) error {
	switch {
	case !i.OtherIP.IsValid() && !i.OtherNextHop.IsValid() && i.OtherNextHopMAC == [6]byte{}:
		return nil
	case !of(!v6, i.OtherIP) || !of(!v6, i.OtherNextHop):
		return specError("private interface: ip %s and next hop %s must both be %s", i.OtherIP, i.OtherNextHop, familyName(!v6))
	case i.OtherNextHopMAC[0]&1 != 0:
		return specError("private interface: a MAC address is a group address")
	}
	return nil
}

func (s *Spec) validateRoutes(v6 bool) error {
	ids, nets := make(map[string]bool, len(s.Routes)), make(map[netip.Prefix]string)
	for i := range s.Routes {
		r := &s.Routes[i]
		if r.ID == "" || len(r.ID) > MaxID {
			return specError("route %q: id must have 1 to %d bytes", r.ID, MaxID)
		}
		if ids[r.ID] {
			return specError("route %q is given twice", r.ID)
		}
		ids[r.ID] = true
		if len(r.Nets) == 0 || len(r.Gateways) == 0 {
			return specError("route %q: needs a net and a gateway", r.ID)
		}
		for _, n := range r.Nets {
			if !n.IsValid() || !of(v6, n.Addr()) && !of(!v6, n.Addr()) {
				return specError("route %q: net %s is none", r.ID, n)
			}
			if s.Private != nil && !s.Private.OtherIP.IsValid() && !of(v6, n.Addr()) {
				return specError("route %q: net %s: the private interface has no address of %s", r.ID, n, familyName(!v6))
			}
			n = n.Masked()
			if other, ok := nets[n]; ok {
				return &NetError{r.ID, n, other}
			}
			nets[n] = r.ID
		}
		queues := make(map[uint16]bool, len(r.Gateways))
		for _, g := range r.Gateways {
			if !of(v6, g.IP) || g.Queue == 0 || queues[g.Queue] {
				return specError("route %q: gateway %s, queue %d: must be %s, its queue from 1 and used once", r.ID, g.IP, g.Queue, familyName(v6))
			}
			queues[g.Queue] = true
		}
	}
	return nil
}

// gatewayFor returns the route's remote address for a worker: that of its own
// queue, else that of the lowest.
func (r *Route) gatewayFor(queue uint16) netip.Addr {
	best := r.Gateways[0]
	for _, g := range r.Gateways {
		if g.Queue == queue {
			return g.IP
		}
		if g.Queue < best.Queue {
			best = g
		}
	}
	return best.IP
}

// mac returns the interface's own address, by the default rule where none is set.
func (i *Interface) mac(prefix byte) [6]byte {
	if i.MAC != [6]byte{} {
		return i.MAC
	}
	if isV6(i.IP) {
		h := murmur3(i.IP.As16())
		return [6]byte{prefix, 0xbb, byte(h), byte(h >> 8), byte(h >> 16), byte(h >> 24)}
	}
	a := i.IP.As4()
	return [6]byte{prefix, 0xbb, a[0], a[1], a[2], a[3]}
}
