package golden

import (
	"slices"
	"time"

	"github.com/gopacket/gopacket/layers"

	"vita/forwarding/client"
	"vita/forwarding/tables"
)

// The lives of next hops, by the clock.
func init() {
	resolved := func(s *tables.Spec) { s.Public[0].NextHopMAC = [6]byte{} }
	cases = append(
		cases,
		&testCase{name: "hop", spec: with(spec, resolved), sas: sas, timed: hop4.life, until: 80 * time.Second},
		&testCase{name: "hop6", spec: with(spec6, resolved), sas: sas, timed: hop6.life, until: 80 * time.Second},
		&testCase{name: "hop-forged", spec: with(spec, resolved), sas: sas, timed: forged, until: 20 * time.Second},
		&testCase{name: "hop-forged6", spec: with(spec6, resolved), sas: sas, timed: forged6, until: 42 * time.Second},
		&testCase{name: "on-link", spec: hop4.onLinkSpec, sas: onLinkSAs, timed: hop4.onLink, until: 60 * time.Second},
		&testCase{name: "on-link6", spec: hop6.onLinkSpec, sas: onLinkSAs, timed: hop6.onLink, until: 60 * time.Second},
		&testCase{name: "announce-in4", spec: in4.spec, sas: sas, timed: nothing, until: 5 * time.Second, announcements: 2},
		&testCase{name: "announce-in6", spec: in6.spec, sas: sas, timed: nothing, until: 5 * time.Second, announcements: 2},
	)
}

func nothing() (private, public []stamped) { return nil, nil }

// station returns the Ethernet address of a numbered station.
func station(n byte) [6]byte { return [6]byte{2, 0, 0, 0, 9, n} }

// hopLife is a family's way to say what happens.
type hopLife struct {
	base   func() tables.Spec
	next   string
	on     []string // gateways on the public network
	off    string   // one that is not
	other  string   // a station that is none of ours
	prefix uint8
	nets   []string                                // behind them
	out    func(net int) []byte                    // a packet to one
	answer func(ip string, mac [6]byte) []byte     // to our request
	tell   func(ip string, mac [6]byte) []byte     // unasked, to everybody
	ask    func(ip string, mac [6]byte) []byte     // for our address
	probe  func(ip string, mac, to [6]byte) []byte // whether it is still we
}

const seconds = time.Second

func sec(f float64) time.Duration { return time.Duration(f*10) * (seconds / 10) }

var hop4 = hopLife{
	base: spec, next: "203.0.113.254", on: []string{"203.0.113.2", "203.0.113.3"}, off: "198.51.100.9", other: "203.0.113.77", prefix: 24,
	nets: []string{"10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"},
	out: func(net int) []byte {
		return toPrivate(ip{src: "10.1.0.7", dst: []string{"10.2.0.9", "10.3.0.9", "10.4.0.9"}[net], proto: 200, payload: text(20)})
	},
	answer: func(ip string, mac [6]byte) []byte { return arpFrom(publicMAC, mac, 2, ip, "203.0.113.1") },
	tell: func(ip string, mac [6]byte) []byte {
		return arpFrom([6]byte{255, 255, 255, 255, 255, 255}, mac, 1, ip, ip)
	},
	ask: func(ip string, mac [6]byte) []byte {
		return arpFrom([6]byte{255, 255, 255, 255, 255, 255}, mac, 1, ip, "203.0.113.1")
	},
	probe: func(ip string, mac, to [6]byte) []byte { return arpFrom(to, mac, 1, ip, "203.0.113.1") },
}

var hop6 = hopLife{
	base: spec6, next: publicNext6, on: []string{peer6, "2001:db8:f::3"}, off: "2001:db8:e::9", other: "2001:db8:f::77", prefix: 64,
	nets: []string{"2001:db8:20::/44", "2001:db8:30::/44", "2001:db8:40::/44"},
	out: func(net int) []byte {
		return toPrivate6(ip6{src: here6, dst: []string{there6, "2001:db8:30::9", "2001:db8:40::9"}[net], next: protoTest, payload: text(20)})
	},
	answer: func(ip string, mac [6]byte) []byte {
		return ndFrom(publicMAC6, mac, ip, public6, 136, 0x60, ip, macOption(2, mac[:]))
	},
	tell: func(ip string, mac [6]byte) []byte {
		return ndFrom([6]byte{0x33, 0x33, 0, 0, 0, 1}, mac, ip, "ff02::1", 136, 0x20, ip, macOption(2, mac[:]))
	},
	ask: func(ip string, mac [6]byte) []byte {
		return ndFrom([6]byte{0x33, 0x33, 0xff, 0, 0, 1}, mac, ip, "ff02::1:ff00:1", 135, 0, public6, macOption(1, mac[:]))
	},
	probe: func(ip string, mac, to [6]byte) []byte {
		return ndFrom(to, mac, ip, public6, 135, 0, public6, macOption(1, mac[:]))
	},
}

func arpFrom(dst, mac [6]byte, op uint16, sender, target string) []byte {
	f := arpFrame(dst, op, sender, target)
	copy(f[6:], mac[:])
	copy(f[22:], mac[:])
	return f
}

func ndFrom(dst, mac [6]byte, from, to string, typ, flags uint8, target string, option []byte) []byte {
	f := ndFrame(dst, from, to, 255, typ, flags, target, option...)
	copy(f[6:], mac[:])
	return f
}

// life is that of the public next hop: asked for until it answers, confirmed,
// told to be another station that does not answer, found again, confirmed.
func (h hopLife) life() (private, public []stamped) {
	out := func(at float64) { private = append(private, stamped{sec(at), h.out(0)}) }
	hear := func(at float64, f []byte) { public = append(public, stamped{sec(at), f}) }
	out(0.2) // dropped: nobody has answered
	out(1.5) // nor now
	hear(2.5, h.answer(h.next, station(1)))
	out(2.6)
	hear(10, h.tell(h.next, station(2))) // takes over: used, and probed, in vain
	out(10)
	out(12.5)
	out(13.5)                                // it is gone
	hear(13.6, h.answer(h.next, station(1))) // asked by broadcast
	out(13.7)
	hear(20, h.ask(h.next, station(1)))            // no news: nothing changes
	hear(25, h.answer(h.next, station(1)))         // nor here: it only counts for an answer if we have asked
	hear(43.8, h.answer(h.next, station(1)))       // to the probe at 43.6
	hear(60, h.probe(h.next, station(3), h.own())) // a new address, by a request to us
	out(60.1)                                      //
	hear(60.2, h.answer(h.next, station(3)))       // confirmed
	hear(70, h.answer(h.other, station(4)))        // of nobody that we know
	out(70.1)
	return private, public
}

func (h hopLife) own() [6]byte {
	if h.prefix == 24 {
		return publicMAC
	}
	return publicMAC6
}

var onLinkSAs = []client.SA{
	{Route: "site2", Queue: 1, Direction: client.Outbound, SPI: 0x1000, Key: key, Salt: salt},
	{Route: "site3", Queue: 1, Direction: client.Outbound, SPI: 0x1001, Key: key, Salt: salt},
	{Route: "site4", Queue: 1, Direction: client.Outbound, SPI: 0x1002, Key: key, Salt: salt},
}

func (h hopLife) onLinkSpec() tables.Spec {
	s := h.base()
	s.Public[0].NextHopMAC, s.Public[0].PrefixLen = [6]byte{}, h.prefix
	s.Routes = []tables.Route{route("site2", h.on[0], h.nets[0]), route("site3", h.on[1], h.nets[1]), route("site4", h.off, h.nets[2])}
	return s
}

// onLink has two gateways on the public network and one behind its router.
func (h hopLife) onLink() (private, public []stamped) {
	out := func(at float64, nets ...int) {
		for _, n := range nets {
			private = append(private, stamped{sec(at), h.out(n)})
		}
	}
	hear := func(at float64, f []byte) { public = append(public, stamped{sec(at), f}) }
	// All three are asked for at the start. One does not answer: after three
	// requests nobody asks any more, until there is a packet for it.
	hear(0.1, h.answer(h.on[0], station(2)))
	hear(0.1, h.answer(h.next, station(254)))
	out(0.5, 0, 1, 2, 0, 2, 1)
	out(5, 1, 1, 1) // one request
	hear(5.1, h.answer(h.on[1], station(3)))
	out(5.2, 0, 1, 2)
	// The router is asked again as it is always in use. A gateway that has not
	// been heard of for long is asked when packets are sent to it, and not before.
	hear(30.5, h.answer(h.next, station(254)))
	out(40, 0, 2)
	out(44, 0)
	hear(45.3, h.answer(h.on[0], station(2)))
	out(50, 0, 1) // the second has been silent since 5.1
	hear(56, h.tell(h.on[1], station(33)))
	out(57, 0, 1, 2)
	return private, public
}

// forged has what must not be taken for the next hop's word.
func forged() (private, public []stamped) {
	hear := func(at float64, f []byte) { public = append(public, stamped{sec(at), f}) }
	const next, us = "203.0.113.254", "203.0.113.1"
	all := [6]byte{255, 255, 255, 255, 255, 255}
	hear(0.1, arpFrom(publicMAC, [6]byte{3, 0, 0, 0, 9, 1}, 2, next, us)) // a group's address
	hear(0.1, arpFrom(publicMAC, [6]byte{}, 2, next, us))                 // none
	hear(0.2, arpFrom(publicMAC, station(1), 3, next, us))                // neither request nor reply
	hear(0.2, arpFrom([6]byte{2, 9}, station(1), 2, next, us))            // to another station
	hear(0.3, arpFrom(publicMAC, station(1), 2, us, us))                  // in our name
	hear(0.3, arpFrom(publicMAC, station(1), 2, "203.0.113.253", us))     // in another's
	hear(0.4, ethernet(publicMAC, layers.EthernetTypeARP, text(28)))      // nonsense
	hear(0.5, arpFrom(publicMAC, station(1), 2, next, us)[:14+27])        // cut
	private = append(private, stamped{sec(0.6), hop4.out(0)})             // dropped
	hear(0.7, hop4.tell(next, station(1)))                                // unasked, but asked for: used, then probed
	private = append(private, stamped{sec(0.8), hop4.out(0)})             //
	hear(1, hop4.answer(next, station(1)))                                // confirmed
	hear(5, arpFrom(all, [6]byte{3, 0, 0, 0, 9, 1}, 1, next, next))       // a group's address
	hear(6, arpFrom(publicMAC, station(7), 2, "203.0.113.253", us))       // of another
	private = append(private, stamped{sec(7), hop4.out(0)})               // as before
	hear(8, hop4.answer(next, station(8)))                                // nobody has asked: used, and probed
	private = append(private, stamped{sec(8.5), hop4.out(0)})             //
	hear(9, hop4.answer(next, station(1)))                                // the answer comes from the one before
	return append(private, stamped{sec(10), hop4.out(0)}), public
}

// forged6 has the same, and the rows of RFC 4861's table (appendix C).
func forged6() (private, public []stamped) {
	hear := func(at float64, f []byte) { public = append(public, stamped{sec(at), f}) }
	out := func(at float64) { private = append(private, stamped{sec(at), hop6.out(0)}) }
	advert := func(n byte, flags uint8) []byte {
		mac := station(n)
		return ndFrom(publicMAC6, mac, publicNext6, public6, 136, flags, publicNext6, macOption(2, mac[:]))
	}
	bare := ndFrom(publicMAC6, station(1), publicNext6, public6, 136, 0x60, publicNext6, nil)
	group := [6]byte{3, 0, 0, 0, 9, 1}
	hops := slices.Clone(advert(1, 0x60))
	hops[21] = 254 // not from the link
	code := slices.Clone(advert(1, 0x60))
	code[55] = 1
	const solicited, override = 0x40, 0x20
	hear(0.1, hops)
	hear(0.1, code)
	hear(0.2, ndFrom(publicMAC6, group, publicNext6, public6, 136, 0x60, publicNext6, macOption(2, group[:])))
	hear(0.2, bare)                                                                                                  // without an address there is nothing to know
	hear(0.3, ndFrom(publicMAC6, station(1), stranger6, public6, 136, 0x60, stranger6, macOption(2, stationMAC[:]))) // of another
	hear(0.3, ndFrom([6]byte{0x33, 0x33, 0, 0, 0, 1}, station(1), publicNext6, "ff02::1", 136, 0x60, publicNext6, macOption(2, stationMAC[:])))
	out(0.4)                // dropped
	hear(0.5, advert(1, 0)) // neither flag: known, and to be probed
	out(0.5)
	hear(1, advert(1, solicited)) // confirmed
	hear(2, advert(2, 0))         // another answers: not taken over, but the first is probed
	out(2)
	hear(2.3, advert(1, solicited))
	hear(3, advert(3, solicited)) // the same with the flag of an answer
	out(3)
	hear(3.3, bare) // confirms the one that is known
	hear(4, advert(4, override))
	out(4) // taken over, and probed
	hear(4.3, advert(4, solicited|override))
	hear(5, advert(5, solicited|override)) // taken over, and confirmed
	out(5)
	hear(6, hops)
	out(6)
	out(40) // stale since 35, and probed: nobody has answered
	return private, public
}
