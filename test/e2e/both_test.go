package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"vita/test/lab"
)

// bothConfig is a gateway with tunnels of a family and nets of both behind
// them: the first address of each pair is of IPv4.
func bothConfig(v6 bool, priv, host, net [2]string, pub, peer string) string {
	own, other := 4, 6
	if v6 {
		own, other = 6, 4
		for _, p := range []*[2]string{&priv, &host, &net} {
			p[0], p[1] = p[1], p[0]
		}
	}
	return fmt.Sprintf(`{"ietf-restconf:data": {
  "vita-esp-gateway:private-interface%[1]d": {"ifname": %[3]q, "ip": %[4]q, "nexthop-ip": %[5]q,
    "vita-esp-gateway-ext:ip%[2]d": %[6]q, "vita-esp-gateway-ext:nexthop-ip%[2]d": %[7]q},
  "vita-esp-gateway:public-interface%[1]d": [{"ip": %[8]q, "ifname": %[9]q, "nexthop-ip": %[10]q}],
  "vita-esp-gateway:route%[1]d": [{"id": "site", "net": %[11]q, "spi": 1001, "preshared-key": %[12]q, "gateway": [{"ip": %[10]q}],
    "vita-esp-gateway-ext:further-net": [{"net": %[13]q}]}],
  "vita-esp-gateway:negotiation-ttl": 1
}}`, own, other, lab.PrivIf, priv[0], host[0], priv[1], host[1], pub, lab.PubIf, peer, net[0], psk, net[1])
}

// TestBothFamilies has hosts of IPv4 and IPv6 behind gateways whose tunnels are
// of one of them: ping, traceroute by all kinds of probes, and a transfer in each
// family.
func TestBothFamilies(t *testing.T) {
	for name, v6 := range map[string]bool{"in IPv4": false, "in IPv6": true} {
		t.Run(name, func(t *testing.T) {
			l := network(t)
			if err := l.IPv6(t.Context()); err != nil {
				t.Fatal(err)
			}
			a, b := gateway(t, l, lab.GwA), gateway(t, l, lab.GwB)
			pubA, pubB := lab.PubAIP, lab.PubBIP
			if v6 {
				pubA, pubB = lab.PubA6, lab.PubB6
			}
			privA, privB := [2]string{lab.PrivAIP, lab.PrivA6}, [2]string{lab.PrivBIP, lab.PrivB6}
			hostA, hostB := [2]string{lab.HostAIP, lab.HostA6}, [2]string{lab.HostBIP, lab.HostB6}
			netA, netB := [2]string{lab.HostAIP + "/24", "2001:db8:a::/64"}, [2]string{lab.HostBIP + "/24", "2001:db8:b::/64"}
			restconf(t, a, "204", "PATCH", "", bothConfig(v6, privA, hostA, netB, pubA, pubB))
			restconf(t, b, "204", "PATCH", "", bothConfig(v6, privB, hostB, netA, pubB, pubA))
			waitForPingTo(t, l, hostB[0], 30*time.Second)
			for i, family := range []string{"-4", "-6"} {
				if lost, err := l.Ping(t.Context(), lab.HostA, hostB[i], 20, 20*time.Millisecond, "-s", "1000"); err != nil || lost != 0 {
					t.Errorf("%d packets lost, %v", lost, err)
				}
				for _, probes := range []string{"default", "icmp", "tcp"} { // default: UDP
					out, err := l.Run(t.Context(), lab.HostA, "traceroute", family, "-M", probes, "-n", "-q", "1", "-w", "4", "-m", "6", hostB[i])
					if err != nil {
						t.Fatal(err)
					}
					var hops []string
					for _, m := range regexp.MustCompile(`(?m)^\s*\d+\s+(\S+)`).FindAllStringSubmatch(out, -1) {
						hops = append(hops, m[1])
					}
					if want := privA[i] + " " + privB[i] + " " + hostB[i]; strings.Join(hops, " ") != want {
						t.Errorf("traceroute by %s shows %v, want %s", probes, hops, want)
					}
				}
				transfer(t, l, family, hostB[i])
			}
			answer := restconf(t, a, "200", "GET", "/vita-esp-gateway:gateway-state", "")
			for _, leaf := range []string{"arp-replies", "na-replies", "mtu-errors"} {
				if !regexp.MustCompile(`"` + leaf + `":"[1-9]`).MatchString(answer) {
					t.Errorf("%s has not grown: %s", leaf, answer)
				}
			}
		})
	}
}
