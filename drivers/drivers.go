// Package drivers says what the packet engine asks of a network interface and
// finds the driver for one.
//
// A Port is one worker's share of a device: one or more receive and transmit
// queues whose buffers come from that worker's pool. All methods but Close are
// called by that one worker, in batches; nothing here locks or allocates once
// a port is open. The package and its drivers know frames, not packets: no
// protocol above Ethernet, no route, no configuration model.
package drivers

import (
	"errors"
	"fmt"
	"strings"

	"vita/internal/pktbuf"
)

// Stats are the interface counters of one port, named as in the model's
// gateway-state. The worker writes them with plain stores; the memory belongs
// to whoever opened the port and may be shared with other processes.
type Stats struct {
	RxBytes, RxPackets, RxMcast, RxBcast, RxDrop, RxErrors uint64
	TxBytes, TxPackets, TxMcast, TxBcast, TxDrop, TxErrors uint64
	RxDMAPackets                                           uint64 // frames the device wrote to memory, before any of ours was dropped
}

// Port is one worker's share of a device.
type Port interface {
	// Rx fills b with received frames, without their FCS, and returns how
	// many. The caller owns them.
	Rx(b []pktbuf.Packet) int
	// Tx takes the first n frames of b and returns n; the caller keeps the
	// rest. A frame goes back to the pool once the device has read it.
	Tx(b []pktbuf.Packet) int
	// Flush makes the device look at what Tx has queued and takes back the
	// frames of finished transmissions. The worker calls it once a round.
	Flush()
	// Sync refreshes what costs a system call: the device's own drop and
	// error counters, link state. The worker calls it about once a second.
	Sync()
	// Fd returns a descriptor that polls readable when Rx has something, or
	// -1: then a waiting worker polls the port itself. The worker asks for it
	// each time before it waits, when Rx had nothing: a driver with interrupts
	// turns them on then.
	Fd() int
	// Info describes the open port.
	Info() Info
	// Close stops the device and gives every buffer back to the pool. The
	// worker no longer uses the port when it is called.
	Close() error
}

// Info describes an open port.
type Info struct {
	Driver   string  // "af-xdp", "af-packet", "memory", ...
	Name     string  // interface name or PCI address
	MAC      [6]byte // the device's own address
	MTU      int     // largest layer 3 packet, bytes
	Queues   int     // hardware queues this port serves
	ZeroCopy bool    // the device reads and writes the pool itself
	LinkUp   bool

	LinkChanges int    // times that the link has come or gone, where the driver knows
	Speed       int    // of the link, Mbit/s; 0 = unknown
	Resets      int    // times that the device hung and was reset
	Fault       string // why nothing is received or sent any more: "" = it is
	Wanted      bool   // Linux asks for the device: the port is to be closed

	// How full the queues are, where Backlog says that the driver knows it.
	Backlog   bool
	RxWaiting int // frames received that Rx has not taken
	TxWaiting int // frames taken by Tx that the device has not sent
}

// Config asks for a port.
type Config struct {
	Driver  string       // "" = the best that works, else a driver's name
	Ifname  string       // kernel interface, for drivers that leave the NIC to the kernel
	PCI     string       // PCI address, for drivers that own the NIC
	Queues  []int        // device queues, from 0; nil = all
	Every   int          // also each so many queues further on, as far as the device has them; 0 = none
	MAC     [6]byte      // address to receive; zero = the device's own
	Tagged  bool         // frames have VLAN tags, which must be in them: what cannot see to that is ErrUnsupported
	MTU     int          // largest layer 3 packet, for devices of our own; 0 = 1500. Other devices are what the kernel made them
	RSS     *RSS         // how devices of our own spread frames; nil = evenly, by RSSKey of package nic
	NoIOMMU bool         // take devices although no IOMMU confines them to the memory that is meant for them
	Pool    *pktbuf.Pool // buffers of the worker that will own the port
	Stats   *Stats       // where the port counts; nil = private memory
	Log     func(string) // one line about a choice made at open (mode, fallback); may be nil
}

// RSSKeyLen is the length of a key of receive side scaling.
const RSSKeyLen = 40

// RSS says how a device spreads frames over the queues that ports have opened:
// by a hash of their addresses. The first port of a device decides.
type RSS struct {
	Key   [RSSKeyLen]byte
	Table []uint8 // for each value of the hash's lowest bits, which of the open queues; nil = evenly
}

// QueuesOf returns the queues that the port is to serve, of a device with n.
func (c *Config) QueuesOf(n int) []int {
	var out []int
	if c.Queues == nil {
		for q := range n {
			out = append(out, q)
		}
		return out
	}
	for _, first := range c.Queues {
		out = append(out, first)
		for q := first + c.Every; c.Every > 0 && q < n; q += c.Every {
			out = append(out, q)
		}
	}
	return out
}

// Errors that callers tell apart. Drivers wrap them with the interface's name.
var (
	ErrNoInterface = errors.New("no such interface")
	ErrBusy        = errors.New("interface or queue is in use")
	ErrUnsupported = errors.New("not supported by this interface")
	// ErrUnknownDevice says that a driver does not know a PCI device.
	ErrUnknownDevice = fmt.Errorf("no driver for the device: %w", ErrUnsupported)
)

// Chip is a PCI device that a driver knows.
type Chip struct {
	Vendor, Device uint16
	Name           string // as the data sheet calls it
}

// Opener opens a port of one driver.
type Opener func(Config) (Port, error)

// Registry lists the drivers of a program, in order of preference. Programs
// fill it once at start, so that a binary holds only the drivers it names.
type Registry struct {
	names   []string
	openers []Opener
	links   []Link
	chips   [][]Chip
}

// Link is the way an interface is named.
type Link int

// The ways to name an interface.
const (
	LinkIfname Link = iota // by kernel interface name
	LinkPCI                // by PCI address
)

// Register adds a driver for interfaces named by link; chips are the PCI devices
// that it knows.
func (r *Registry) Register(name string, link Link, o Opener, chips ...Chip) {
	r.chips = append(r.chips, chips)
	r.names = append(r.names, name)
	r.links = append(r.links, link)
	r.openers = append(r.openers, o)
}

// Find returns the driver for a PCI device, and what the device is called.
func (r *Registry) Find(vendor, device uint16) (driver, name string, ok bool) {
	for i, chips := range r.chips {
		for _, c := range chips {
			if c.Vendor == vendor && c.Device == device {
				return r.names[i], c.Name, true
			}
		}
	}
	return "", "", false
}

// known lists the PCI devices that drivers know.
func (r *Registry) known() string {
	var out []string
	for i, chips := range r.chips {
		for _, c := range chips {
			out = append(out, fmt.Sprintf("%s (%04x:%04x, %s)", c.Name, c.Vendor, c.Device, r.names[i]))
		}
	}
	return strings.Join(out, ", ")
}

// Open opens a port by the named driver, or by the first registered one that
// takes it: ErrUnsupported sends the search on to the next, any other error
// ends it. Of PCI devices that a driver knows, that driver has the last word.
func (r *Registry) Open(c Config) (Port, error) {
	link, name := LinkIfname, c.Ifname
	if c.PCI != "" {
		link, name = LinkPCI, c.PCI
	}
	if (c.Ifname == "") == (c.PCI == "") {
		return nil, errors.New("open port: exactly one of interface name and PCI address must be given")
	}
	var last error
	for i, o := range r.openers {
		if c.Driver != "" && c.Driver != r.names[i] || c.Driver == "" && r.links[i] != link {
			continue
		}
		p, err := o(c)
		if err == nil {
			return p, nil
		}
		if errors.Is(err, ErrUnknownDevice) && c.Driver == "" {
			last = fmt.Errorf("%s: %w: have drivers for %s", name, err, r.known())
			continue
		}
		last = fmt.Errorf("%s: %s: %w", name, r.names[i], err)
		if link == LinkPCI {
			return nil, last
		}
		if !errors.Is(err, ErrUnsupported) || c.Driver != "" {
			return nil, last
		}
		if c.Log != nil {
			c.Log(last.Error())
		}
	}
	if last != nil {
		return nil, last
	}
	if c.Driver != "" {
		return nil, fmt.Errorf("%s: unknown driver %q: have %v", name, c.Driver, r.names)
	}
	return nil, fmt.Errorf("%s: no driver for it in this program: %w: have %v", name, ErrUnsupported, r.names)
}
