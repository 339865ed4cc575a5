//go:build ignore

// Gen writes counter_list.go from the list below: one line a leaf, in the
// model's order. Run it by "go generate ./forwarding/tables".
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"os"
	"strings"
)

const nextHop = `
arp-requests      ARP requests for the interface's address, received and answered.
arp-replies       ARP replies from the next hop, received.
arp-errors        ARP packets that were malformed or not for IPv4 on Ethernet.
ns-requests       Neighbour solicitations for the interface's address, received and answered.
na-replies        Neighbour advertisements from the next hop, received.
nd-errors         Neighbour discovery packets that failed the checks of RFC 4861.
addresses-added   Times the next hop's Ethernet address was learnt for the first time.
addresses-updated Times the next hop's Ethernet address changed.
`

const icmp4 = `
rxerrors                            ICMP packets with a wrong length or checksum.
protocol-errors                     Packets to the gateway itself whose protocol it does not speak.
type-not-implemented-errors         ICMP packets of a type the gateway does not know.
code-not-implemented-errors         ICMP packets of a known type with a code the gateway does not know.
destination-unreachable             Destination unreachable messages received, any code.
net-unreachable                     Destination unreachable, code 0.
host-unreachable                    Destination unreachable, code 1.
protocol-unreachable                Destination unreachable, code 2.
port-unreachable                    Destination unreachable, code 3.
fragmentation-needed                Destination unreachable, code 4.
source-route-failed                 Destination unreachable, code 5.
time-exceeded                       Time exceeded messages received, any code.
transit-ttl-exceeded                Time exceeded, code 0.
fragment-reassembly-time-exceeded   Time exceeded, code 1.
parameter-problem                   Parameter problem messages received.
redirect                            Redirect messages received, any code; none is obeyed.
redirect-net                        Redirect, code 0.
redirect-host                       Redirect, code 1.
redirect-tos-net                    Redirect, code 2.
redirect-tos-host                   Redirect, code 3.
echo-request                        Echo requests received.
`

const icmp6 = `
rxerrors                            ICMPv6 packets with a wrong length or checksum.
protocol-errors                     Packets to the gateway itself whose next header it does not speak.
type-not-implemented-errors         ICMPv6 packets of a type the gateway does not know.
code-not-implemented-errors         ICMPv6 packets of a known type with a code the gateway does not know.
destination-unreachable             Destination unreachable messages received, any code.
net-unreachable                     Destination unreachable, code 0.
destination-denied                  Destination unreachable, code 1.
scope-denied                        Destination unreachable, code 2.
host-unreachable                    Destination unreachable, code 3.
port-unreachable                    Destination unreachable, code 4.
source-denied                       Destination unreachable, code 5.
net-denied                          Destination unreachable, code 6.
packet-too-big                      Packet too big messages received.
time-exceeded                       Time exceeded messages received, any code.
transit-hop-limit-exceeded          Time exceeded, code 0.
fragment-reassembly-time-exceeded   Time exceeded, code 1.
parameter-problem                   Parameter problem messages received, any code.
header-field-problem                Parameter problem, code 0.
next-header-problem                 Parameter problem, code 1.
option-problem                      Parameter problem, code 2.
echo-request                        Echo requests received.
`

var list = []struct{ container, leaves string }{
	{"private-next-hop", nextHop},
	{"public-next-hop", nextHop},
	{"private-dispatch", `
ethertype-errors Frames at the private interface that carry neither ARP nor a protocol the gateway forwards.
`},
	{"public-dispatch", `
rxerrors         Packets at the public interface too short or malformed to be told apart.
ethertype-errors Frames at the public interface that carry neither ARP nor a protocol the gateway speaks.
protocol-errors  Packets to the gateway that are neither ESP nor key exchange nor ICMP.
fragment-errors  Fragments at the public interface; the gateway does not reassemble.
`},
	{"inbound-dispatch", `
protocol-errors Packets out of the tunnel that are not of a protocol the gateway forwards.
`},
	{"outbound-ttl", `
protocol-errors Packets from the private network without a well-formed IP header.
checksum-errors Packets from the private network with a wrong IP header checksum.
`},
	{"inbound-ttl", `
protocol-errors Packets out of the tunnel without a well-formed IP header.
checksum-errors Packets out of the tunnel with a wrong IP header checksum.
`},
	{"private-router", `
rxerrors     Packets from the private network that could not be routed because they were malformed.
route-errors Packets from the private network without a route, or whose route has no outbound SA.
mtu-errors   Packets from the private network too big for the tunnel.
`},
	{"public-router", `
route-errors ESP packets whose SPI is not that of an inbound SA.
`},
	{"private-icmp4", icmp4},
	{"private-icmp6", icmp6},
	{"public-icmp4", icmp4},
	{"public-icmp6", icmp6},
	{"inbound-icmp4", icmp4},
	{"inbound-icmp6", icmp6},
}

var words = map[string]string{
	"arp": "ARP", "ns": "NS", "na": "NA", "nd": "ND", "ttl": "TTL", "mtu": "MTU", "tos": "TOS",
	"icmp4": "ICMP4", "icmp6": "ICMP6", "rxerrors": "RxErrors",
}

func name(parts ...string) string {
	var b strings.Builder
	for w := range strings.SplitSeq(strings.Join(parts, "-"), "-") {
		if s, ok := words[w]; ok {
			b.WriteString(s)
		} else {
			b.WriteString(strings.ToUpper(w[:1]) + w[1:])
		}
	}
	return b.String()
}

func main() {
	var enum, table bytes.Buffer
	first := true
	for _, c := range list {
		for line := range strings.Lines(strings.TrimSpace(c.leaves)) {
			leaf, doc, ok := strings.Cut(line, " ")
			if !ok {
				log.Fatalf("%s: %q has no description", c.container, line)
			}
			id := name(c.container, leaf)
			fmt.Fprintf(&enum, "\t%s", id)
			if first {
				fmt.Fprint(&enum, " Counter = iota")
				first = false
			}
			fmt.Fprintln(&enum)
			fmt.Fprintf(&table, "\t%s: {%q, %q},\n", id, "gateway-state/"+c.container+"/"+leaf, strings.TrimSpace(doc))
		}
	}
	src := fmt.Sprintf(`// Code generated by gen.go; DO NOT EDIT.

package tables

// The counters, in the model's order. Path and Doc say what each one is.
const (
%s
	// NumCounters is how many there are.
	NumCounters = iota
)

var counterList = [NumCounters]counterInfo{
%s}
`, enum.String(), table.String())
	out, err := format.Source([]byte(src))
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("counter_list.go", out, 0o644); err != nil {
		log.Fatal(err)
	}
}
