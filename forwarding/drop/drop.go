// Package drop lists why the engine drops packets: one list that makes the
// reasons' numbers, their counters and docs/drops.md.
//
// To add a reason, add its constant and its entry in list, and run
// "go test ./forwarding/drop -update" to write the document. The package knows
// no packet and no worker.
package drop

import (
	"strings"

	"vita/forwarding/tables"
)

// Reason says why a packet was dropped.
type Reason uint8

// The reasons, along the way of a packet.
const (
	PrivateWrongMAC Reason = iota
	PrivateEthertype
	PrivateARP
	PrivateARPOther
	OutboundMalformed
	OutboundChecksum
	OutboundMartian
	OutboundTTL
	OutboundNoRoute
	OutboundTooBig
	OutboundNoSA
	OutboundSAEnded
	OutboundNoRoom
	OutboundNoNextHop
	OutboundTxFull
	PublicWrongMAC
	PublicEthertype
	PublicARP
	PublicARPOther
	PublicMalformed
	PublicChecksum
	PublicOptions
	PublicNotForUs
	PublicFragment
	PublicProtocol
	KeyExchangeMalformed
	KeyExchangeRingFull
	KeyExchangeRate
	ESPTooShort
	ESPNoSA
	ESPSAEnded
	ESPReplay
	ESPAuthentication
	ESPTrailer
	ESPDummy
	InboundProtocol
	InboundMalformed
	InboundChecksum
	InboundMartian
	InboundPolicy
	InboundTTL
	InboundTooBig
	InboundNoNextHop
	InboundTxFull
	PrivateLocalProtocol
	InboundLocalProtocol
	LocalFragment
	PrivateICMP
	PublicICMP
	InboundICMP
	AnswerRate
	AnswerNoBuffer
	PrivateND
	PrivateNDOther
	PublicND
	PublicNDOther
	PrivateLocalNextHeader
	InboundLocalNextHeader
	PrivateICMP6
	PublicICMP6
	InboundICMP6
	InboundCongestion
	PrivateVLAN
	PublicVLAN
	UDPMalformed
	UDPKeepalive
	UDPNotESP

	// NumReasons is how many reasons there are.
	NumReasons = iota
)

var _ = [tables.MaxDrops - NumReasons]struct{}{} // the reasons fit the shared memory

// Info describes a reason for operators.
type Info struct {
	Name    string         // as counters and logs call it
	Counter tables.Counter // the model's counter that grows with it, or NoCounter
	Meaning string
	Cause   string
	Remedy  string
}

// Info returns the reason's description.
func (r Reason) Info() Info {
	if int(r) >= NumReasons {
		return Info{Name: "unknown", Counter: tables.NoCounter}
	}
	return list[r]
}

// String returns the reason's name.
func (r Reason) String() string { return r.Info().Name }

// slots numbers the reasons that are counted for each route and SA, too: those
// of packets of which it is known what route they belong to.
var slots = func() (t [NumReasons]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, r := range routed {
		t[r] = int8(i)
	}
	return t
}()

var routed = []Reason{
	OutboundTTL, OutboundTooBig, OutboundNoSA, OutboundSAEnded, OutboundNoRoom, OutboundNoNextHop,
	ESPTooShort, ESPSAEnded, ESPReplay, ESPAuthentication, ESPTrailer, ESPDummy,
	InboundProtocol, InboundMalformed, InboundChecksum, InboundMartian, InboundCongestion,
	InboundPolicy, InboundTTL, InboundTooBig, InboundNoNextHop,
}

// Slot returns a reason's place in what is counted for each route and SA, or -1
// where it has none.
func (r Reason) Slot() int { return int(slots[r]) }

// InSlot is the inverse of Slot. It reports false for a slot that is not used.
func InSlot(slot int) (Reason, bool) {
	if slot < 0 || slot >= len(routed) {
		return 0, false
	}
	return routed[slot], true
}

const none = tables.NoCounter

var list = [NumReasons]Info{
	PrivateWrongMAC: {
		"private-wrong-mac", none,
		"A frame at the private interface was addressed to another station, or sent from a group address.",
		"A switch floods frames whose destination it has not learnt, or a neighbour holds an old address for the gateway.",
		"None if it stays rare. Otherwise compare the neighbour's ARP entry with the interface's mac.",
	},
	PrivateEthertype: {
		"private-ethertype", tables.PrivateDispatchEthertypeErrors,
		"A frame at the private interface carried neither IPv4 or IPv6, as far as the interface has an address of it, nor ARP.",
		"Spanning tree, LLDP, a family that is not configured or VLAN-tagged frames on the private network.",
		"None, or give the private interface an address of the other family too (ip6 or ip4).",
	},
	PrivateARP: {
		"private-arp", tables.PrivateNextHopARPErrors,
		"An ARP packet at the private interface was too short, or not for IPv4 on Ethernet.",
		"A faulty or hostile station.",
		"Capture ARP on the private network and find its sender.",
	},
	PrivateARPOther: {
		"private-arp-other", none,
		"An ARP packet at the private interface did not concern the gateway.",
		"Ordinary ARP between other stations, which is broadcast.",
		"None.",
	},
	OutboundMalformed: {
		"outbound-malformed", tables.OutboundTTLProtocolErrors,
		"A packet from the private network had no well-formed IP header: its version or a length in it is wrong.",
		"A faulty sender, or a device that cuts frames.",
		"Find the sender by a capture on the private network.",
	},
	OutboundChecksum: {
		"outbound-checksum", tables.OutboundTTLChecksumErrors,
		"A packet from the private network had a wrong IPv4 header checksum.",
		"Damage on the way, or a sender on the same machine that leaves checksums to the network card.",
		"On virtual interfaces turn transmit checksum offload off at the sender.",
	},
	OutboundMartian: {
		"outbound-martian", tables.PrivateRouterRxErrors,
		"A packet from the private network had a source or destination that may not be forwarded: multicast, broadcast, loopback, link-local of IPv6, or none at all; or it came in a group frame.",
		"Multicast and broadcast applications on the private network; the tunnel carries neither.",
		"None, if nothing needs multicast across the tunnel.",
	},
	OutboundTTL: {
		"outbound-ttl", none,
		"A packet from the private network had a TTL or hop limit of 0 or 1. Its sender was told (ICMP 11/0, ICMPv6 3/0).",
		"A traceroute, or a routing loop.",
		"If it grows fast, look for a loop between the private router and the gateway.",
	},
	OutboundNoRoute: {
		"outbound-no-route", tables.PrivateRouterRouteErrors,
		"The destination of a packet from the private network lies in no route's net. Its sender was told (ICMP 3/0, ICMPv6 1/0).",
		"A route is missing, or the private router sends the gateway what is not meant for the tunnel.",
		"Add the route, or correct the private router's.",
	},
	OutboundTooBig: {
		"outbound-too-big", tables.PrivateRouterMTUErrors,
		"A packet from the private network does not fit the tunnel. If it forbids fragmentation, its sender was told (ICMP 3/4, ICMPv6 2/0).",
		"Ordinary path MTU discovery; or a sender that does not do it. The limit is the interface's, the setting mtu, or what routers between the gateways have said of the path within the last ten minutes.",
		"None if connections work. Otherwise check that ICMP 3/4 or ICMPv6 2/0 reaches the senders, or lower the MTU on the private network.",
	},
	OutboundNoSA: {
		"outbound-no-sa", tables.PrivateRouterRouteErrors,
		"The route has no outbound security association yet.",
		"Key exchange has not completed: the peer is unreachable, or the keys differ.",
		"Look at the key-manager counters, and ping the peer's public address.",
	},
	OutboundSAEnded: {
		"outbound-sa-ended", tables.PrivateRouterRouteErrors,
		"The route's outbound security association has reached a hard limit (time, bytes, packets or sequence number) and no new one is in place.",
		"The peer stopped answering key exchange, or vitad is not running.",
		"Start vitad; look at the key-manager counters.",
	},
	OutboundNoRoom: {
		"outbound-no-room", tables.PrivateRouterRxErrors,
		"A packet's buffer has no room for the tunnel headers or the padding.",
		"The driver leaves too little space; this is a defect.",
		"Report it with the driver's name and the MTU.",
	},
	OutboundNoNextHop: {
		"outbound-no-next-hop", none,
		"The Ethernet address of the public next hop, or of a remote gateway on the public network, is not known.",
		"It does not answer ARP or neighbour solicitations: wrong nexthop-ip or prefix-length, link down, wrong VLAN. One packet or a few are dropped where a gateway is sent to after a long silence.",
		"Look for what is incomplete in gateway-state/neighbour; check nexthop-ip and the link.",
	},
	OutboundTxFull: {
		"outbound-tx-full", none,
		"The transmit queue of the public interface was full.",
		"More traffic than the interface can send.",
		"Use a faster link, or more queues.",
	},
	PublicWrongMAC: {
		"public-wrong-mac", none,
		"A frame at the public interface was addressed to another station, or sent from a group address.",
		"A switch floods frames whose destination it has not learnt.",
		"None if it stays rare. Otherwise compare the neighbour's ARP entry with the interface's mac.",
	},
	PublicEthertype: {
		"public-ethertype", tables.PublicDispatchEthertypeErrors,
		"A frame at the public interface carried neither the gateway's family, IPv4 or IPv6, nor ARP.",
		"Spanning tree, LLDP or the other family on the public network.",
		"None, or keep these protocols off the port.",
	},
	PublicARP: {
		"public-arp", tables.PublicNextHopARPErrors,
		"An ARP packet at the public interface was too short, or not for IPv4 on Ethernet.",
		"A faulty or hostile station.",
		"Capture ARP on the public network and find its sender.",
	},
	PublicARPOther: {
		"public-arp-other", none,
		"An ARP packet at the public interface did not concern the gateway.",
		"Ordinary ARP between other stations, which is broadcast.",
		"None.",
	},
	PublicMalformed: {
		"public-malformed", tables.PublicDispatchRxErrors,
		"A packet at the public interface had no well-formed IP header.",
		"A faulty or hostile sender.",
		"None; the packet had no effect.",
	},
	PublicChecksum: {
		"public-checksum", tables.PublicDispatchRxErrors,
		"A packet at the public interface had a wrong IPv4 header checksum.",
		"Damage on the way.",
		"If it grows, look for a faulty link or device on the path.",
	},
	PublicOptions: {
		"public-options", tables.PublicDispatchRxErrors,
		"A packet at the public interface carried IPv4 options.",
		"A scanner or an exotic sender; no IPsec peer sends them.",
		"None.",
	},
	PublicNotForUs: {
		"public-not-for-us", none,
		"A packet at the public interface was addressed to another IP address.",
		"The upstream router sends a whole net to the gateway, or broadcasts on the link.",
		"None, or narrow the upstream route.",
	},
	PublicFragment: {
		"public-fragment", tables.PublicDispatchFragmentErrors,
		"A fragment arrived at the public interface. The gateway does not reassemble.",
		"The path to the peer has a smaller MTU than the peer's public interface, and the peer lets outer packets be fragmented.",
		"Lower mtu on the peer until its packets fit the path.",
	},
	PublicProtocol: {
		"public-protocol", tables.PublicDispatchProtocolErrors,
		"A packet to the gateway's public address was neither ESP nor key exchange nor ICMP.",
		"Scans; or the peer uses another protocol-port.",
		"Compare protocol-port on both gateways.",
	},
	KeyExchangeMalformed: {
		"key-exchange-malformed", tables.PublicDispatchRxErrors,
		"A key exchange datagram had a wrong UDP length or checksum.",
		"Damage on the way, a scan, or a sender on the same machine that leaves checksums to the network card.",
		"On virtual interfaces turn transmit checksum offload off at the sender.",
	},
	KeyExchangeRingFull: {
		"key-exchange-ring-full", none,
		"A key exchange datagram was dropped because vitad did not read fast enough.",
		"vitad is not running or overloaded, or somebody floods the key exchange port.",
		"Start vitad; the exchange repeats by itself. Filter the flood upstream.",
	},
	KeyExchangeRate: {
		"key-exchange-rate", none,
		"A key exchange datagram was dropped because many were waiting for vitad, and more than 100 a second came from its address.",
		"Somebody floods the key exchange port in that address's name, or vitad is overloaded.",
		"Filter the flood upstream; the exchanges of other gateways go on.",
	},
	ESPTooShort: {
		"esp-too-short", tables.PublicDispatchRxErrors,
		"An ESP packet was shorter than any valid one.",
		"Damage, or a hostile sender.",
		"None; the packet had no effect.",
	},
	ESPNoSA: {
		"esp-no-sa", tables.PublicRouterRouteErrors,
		"An ESP packet's SPI belongs to no inbound security association of this interface.",
		"The peer still sends by an association that has ended, for example after a restart; or somebody else sends ESP.",
		"It ends with the next key exchange. If it does not, compare routes and preshared keys.",
	},
	ESPSAEnded: {
		"esp-sa-ended", none,
		"An ESP packet came by an inbound security association that has reached a hard limit.",
		"The peer's lifetime is longer, or key exchange fails.",
		"Set the same sa-ttl on both gateways; look at the key-manager counters.",
	},
	ESPReplay: {
		"esp-replay", none,
		"An ESP packet was received before, or is too old for the anti-replay window.",
		"Packets overtake each other by more than the window, or somebody repeats them.",
		"If it grows without an attack, find what reorders packets on the path, or raise replay-window.",
	},
	ESPAuthentication: {
		"esp-authentication", none,
		"An ESP packet was not authentic.",
		"Damage, a forged packet, or keys that differ.",
		"If all packets of an association fail, compare keys; a new key exchange repairs it.",
	},
	ESPTrailer: {
		"esp-trailer", none,
		"An authentic ESP packet had a pad length beyond its start, or padding that is neither 1, 2, 3, ... nor zeros.",
		"A defect of the peer.",
		"Report it with the peer's make and version.",
	},
	ESPDummy: {
		"esp-dummy", none,
		"A dummy packet (next header 59), sent to hide traffic patterns.",
		"The peer is configured to send them.",
		"None; this is as it should be.",
	},
	InboundProtocol: {
		"inbound-protocol", tables.InboundDispatchProtocolErrors,
		"An authentic ESP packet carried neither IPv4 nor IPv6, or a family of which the private interface has no address.",
		"The peer sends another protocol into the tunnel, or has routes of both families.",
		"Compare the routes of both gateways, and give the private interface an address of the other family (ip6 or ip4).",
	},
	InboundMalformed: {
		"inbound-malformed", tables.InboundTTLProtocolErrors,
		"A packet out of the tunnel had no well-formed IP header.",
		"A faulty sender behind the peer.",
		"Find the sender by a capture in the peer's network.",
	},
	InboundChecksum: {
		"inbound-checksum", tables.InboundTTLChecksumErrors,
		"A packet out of the tunnel had a wrong IPv4 header checksum.",
		"A faulty sender behind the peer.",
		"Find the sender by a capture in the peer's network.",
	},
	InboundMartian: {
		"inbound-martian", none,
		"A packet out of the tunnel had a source or destination that may not be forwarded.",
		"A faulty or hostile sender behind the peer.",
		"Find the sender by a capture in the peer's network.",
	},
	InboundPolicy: {
		"inbound-policy", none,
		"The source of a packet out of the tunnel does not lie in the nets of the route by which it came.",
		"The peer sends from nets that the route here does not list, or a host behind it forges addresses.",
		"Compare the routes' nets on both gateways.",
	},
	InboundTTL: {
		"inbound-ttl", none,
		"A packet out of the tunnel had a TTL or hop limit of 0 or 1. Its sender was told (ICMP 11/0, ICMPv6 3/0).",
		"A traceroute, or a routing loop through the tunnel.",
		"If it grows fast, look for a loop.",
	},
	InboundTooBig: {
		"inbound-too-big", none,
		"A packet out of the tunnel is larger than the private interface's MTU. If it forbids fragmentation, its sender was told (ICMP 3/4, ICMPv6 2/0).",
		"The private interface has a smaller MTU than the tunnel.",
		"Lower mtu on the peer, or raise the private interface's.",
	},
	InboundNoNextHop: {
		"inbound-no-next-hop", none,
		"The Ethernet address of the private next hop is not known.",
		"The next hop does not answer ARP or neighbour solicitations: wrong nexthop-ip, link down, wrong VLAN.",
		"Check nexthop-ip and the link; private-next-hop/arp-replies or na-replies must grow.",
	},
	InboundTxFull: {
		"inbound-tx-full", none,
		"The transmit queue of the private interface was full.",
		"More traffic than the interface can send.",
		"Use a faster link, or more queues.",
	},
	PrivateLocalProtocol: {
		"private-local-protocol", tables.PrivateICMP4ProtocolErrors,
		"A packet from the private network to the gateway's own address was of a protocol it does not speak. Its sender was told (ICMP 3/2).",
		"Scans, or somebody expects a service at the private address.",
		"None. Management listens on other interfaces.",
	},
	InboundLocalProtocol: {
		"inbound-local-protocol", tables.InboundICMP4ProtocolErrors,
		"A packet out of the tunnel to the gateway's own address was of a protocol it does not speak. Its sender was told (ICMP 3/2).",
		"Scans, or a traceroute that ends at the gateway.",
		"None.",
	},
	LocalFragment: {
		"local-fragment", none,
		"A fragment was addressed to the gateway's private address. The gateway does not reassemble.",
		"A ping larger than the path's MTU.",
		"None; ping with smaller packets.",
	},
	PrivateICMP: {
		"private-icmp", tables.PrivateICMP4RxErrors,
		"An ICMP packet to the private address was too short or had a wrong checksum.",
		"Damage, or a sender that leaves checksums to the network card.",
		"On virtual interfaces turn transmit checksum offload off at the sender.",
	},
	PublicICMP: {
		"public-icmp", tables.PublicICMP4RxErrors,
		"An ICMP packet to the public address was too short or had a wrong checksum.",
		"Damage, or a hostile sender.",
		"None.",
	},
	InboundICMP: {
		"inbound-icmp", tables.InboundICMP4RxErrors,
		"An ICMP packet out of the tunnel to the private address was too short or had a wrong checksum.",
		"Damage behind the peer.",
		"None.",
	},
	AnswerRate: {
		"answer-rate", none,
		"An ICMP answer was not sent because of the rate limit (100 a second for each kind and worker).",
		"Many packets that call for an answer: a scan, a flood, a traceroute with short intervals.",
		"None; the limit protects the gateway.",
	},
	AnswerNoBuffer: {
		"answer-no-buffer", none,
		"The gateway had something to send of its own (ARP, neighbour discovery, ICMP, key exchange) and no buffer free.",
		"The interfaces' queues hold all buffers: heavy overload.",
		"None if rare; it ends with the overload.",
	},
	PrivateND: {
		"private-nd", tables.PrivateNextHopNDErrors,
		"A neighbour solicitation or advertisement at the private interface failed the checks of RFC 4861: hop limit, checksum, addresses or the lengths of its options.",
		"A faulty or hostile station.",
		"Capture ICMPv6 on the private network and find its sender.",
	},
	PrivateNDOther: {
		"private-nd-other", none,
		"A neighbour or router discovery packet at the private interface did not concern the gateway.",
		"Ordinary discovery between other stations, and router advertisements, which are multicast.",
		"None.",
	},
	PublicND: {
		"public-nd", tables.PublicNextHopNDErrors,
		"A neighbour solicitation or advertisement at the public interface failed the checks of RFC 4861: hop limit, checksum, addresses or the lengths of its options.",
		"A faulty or hostile station.",
		"Capture ICMPv6 on the public network and find its sender.",
	},
	PublicNDOther: {
		"public-nd-other", none,
		"A neighbour or router discovery packet at the public interface did not concern the gateway.",
		"Ordinary discovery between other stations, and router advertisements, which are multicast.",
		"None.",
	},
	PrivateLocalNextHeader: {
		"private-local-next-header", tables.PrivateICMP6ProtocolErrors,
		"A packet from the private network to the gateway's own address had a next header it does not speak. Its sender was told (ICMPv6 4/1).",
		"Scans, or somebody expects a service at the private address.",
		"None. Management listens on other interfaces.",
	},
	InboundLocalNextHeader: {
		"inbound-local-next-header", tables.InboundICMP6ProtocolErrors,
		"A packet out of the tunnel to the gateway's own address had a next header it does not speak. Its sender was told (ICMPv6 4/1).",
		"Scans, or a traceroute that ends at the gateway.",
		"None.",
	},
	PrivateICMP6: {
		"private-icmp6", tables.PrivateICMP6RxErrors,
		"An ICMPv6 packet to the private address was too short or had a wrong checksum.",
		"Damage, or a sender that leaves checksums to the network card.",
		"On virtual interfaces turn transmit checksum offload off at the sender.",
	},
	PublicICMP6: {
		"public-icmp6", tables.PublicICMP6RxErrors,
		"An ICMPv6 packet to the public address was too short or had a wrong checksum.",
		"Damage, or a hostile sender.",
		"None.",
	},
	InboundICMP6: {
		"inbound-icmp6", tables.InboundICMP6RxErrors,
		"An ICMPv6 packet out of the tunnel to the private address was too short or had a wrong checksum.",
		"Damage behind the peer.",
		"None.",
	},
	InboundCongestion: {
		"inbound-congestion", none,
		"An ESP packet was marked by a router that is congested (ECN), and the packet in it cannot carry the mark: its sender does not know ECN. Dropping it is how such a sender is told (RFC 6040, 4.2).",
		"Congestion on the path between the gateways, where the peer marks outer headers as capable of ECN.",
		"None, or more bandwidth.",
	},
	PrivateVLAN: {
		"private-vlan", none,
		"A frame at the private interface was not in the interface's VLAN: its tag had another id, or there was none; or it had one where the interface is in no VLAN.",
		"The switch's port carries more VLANs than the gateway is in, or the setting vlan differs from the switch's.",
		"None, if the switch is meant to send them. Otherwise let the port carry one VLAN, tagged where vlan is set.",
	},
	PublicVLAN: {
		"public-vlan", none,
		"A frame at the public interface was not in the interface's VLAN: its tag had another id, or there was none; or it had one where the interface is in no VLAN.",
		"The switch's port carries more VLANs than the gateway is in, or the setting vlan differs from the switch's.",
		"None, if the switch is meant to send them. Otherwise let the port carry one VLAN, tagged where vlan is set.",
	},
	UDPMalformed: {
		"udp-malformed", tables.PublicDispatchRxErrors,
		"A datagram to the port of ESP in UDP had a wrong UDP length.",
		"Damage on the way, or a scan.",
		"None; the packet had no effect.",
	},
	UDPKeepalive: {
		"udp-keepalive", none,
		"A NAT keepalive: a datagram of one byte (RFC 3948, 2.3), sent so that address translators on the way do not forget the peer.",
		"The peer, or the gateway, is behind an address translator.",
		"None; this is as it should be.",
	},
	UDPNotESP: {
		"udp-not-esp", tables.PublicDispatchProtocolErrors,
		"A datagram to the port of ESP in UDP carried four zero bytes in front, which mark it as IKE (RFC 3948, 2.2).",
		"The peer tries to negotiate keys by IKE, which the gateway does not speak.",
		"Configure the peer for vita-ske, or for keys that are set by hand.",
	},
}

// Markdown returns the text of docs/drops.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("# Why packets are dropped\n\n" +
		"Generated from the list in `forwarding/drop`; do not edit. Every packet that the gateway\n" +
		"neither forwards nor answers is counted under one of these reasons. Where the model has a\n" +
		"counter that grows with the reason, it is named.\n")
	for i := range list {
		e := &list[i]
		b.WriteString("\n## " + e.Name + "\n\n" + e.Meaning + "\n\n")
		if e.Counter != none {
			b.WriteString("- Counter: `" + e.Counter.Path() + "`\n")
		}
		b.WriteString("- Likely cause: " + e.Cause + "\n- Remedy: " + e.Remedy + "\n")
	}
	return b.String()
}
