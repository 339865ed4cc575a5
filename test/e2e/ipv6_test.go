package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"vita/test/lab"
)

func config6(priv, host, pub, peer, net string) string {
	return fmt.Sprintf(`{"ietf-restconf:data": {
  "vita-esp-gateway:private-interface6": {"ifname": %q, "ip": %q, "nexthop-ip": %q},
  "vita-esp-gateway:public-interface6": [{"ip": %q, "ifname": %q, "nexthop-ip": %q}],
  "vita-esp-gateway:route6": [{"id": "site", "net": %q, "spi": 1001, "preshared-key": %q, "gateway": [{"ip": %q}]}],
  "vita-esp-gateway:negotiation-ttl": 1,
  "vita-esp-gateway:sa-ttl": 12,
  "vita-esp-gateway-ext:esp": {"replay-window": 1024, "resynchronise": true, "ecn": true, "dscp": "copy"}
}}`, lab.PrivIf, priv, host, pub, lab.PubIf, peer, net, psk, peer)
}

// TestIPv6 is the scenario's main part for gateways of IPv6: keys, ping,
// traceroute, a transfer that needs path MTU discovery, and rekeys under
// traffic without loss.
func TestIPv6(t *testing.T) {
	l := network(t)
	if err := l.IPv6(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, b := gateway(t, l, lab.GwA), gateway(t, l, lab.GwB)
	restconf(t, a, "204", "PATCH", "", config6(lab.PrivA6, lab.HostA6, lab.PubA6, lab.PubB6, "2001:db8:b::/64"))
	restconf(t, b, "204", "PATCH", "", config6(lab.PrivB6, lab.HostB6, lab.PubB6, lab.PubA6, "2001:db8:a::/64"))
	waitForPingTo(t, l, lab.HostB6, 30*time.Second)
	lose := func(n int, interval time.Duration, options ...string) int {
		t.Helper()
		lost, err := l.Ping(t.Context(), lab.HostA, lab.HostB6, n, interval, options...)
		if err != nil {
			t.Fatal(err)
		}
		return lost
	}
	if lost := lose(20, 20*time.Millisecond, "-s", "1000"); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
	out, err := l.Run(t.Context(), lab.HostA, "traceroute", "-6", "-n", "-q", "1", "-w", "4", "-m", "6", lab.HostB6)
	if err != nil {
		t.Fatal(err)
	}
	var hops []string
	for _, m := range regexp.MustCompile(`(?m)^\s*\d+\s+(\S+)`).FindAllStringSubmatch(out, -1) {
		hops = append(hops, m[1])
	}
	if want := lab.PrivA6 + " " + lab.PrivB6 + " " + lab.HostB6; strings.Join(hops, " ") != want {
		t.Errorf("traceroute shows %v, want %s", hops, want)
	}
	transfer(t, l, "-6", lab.HostB6)
	if lost := lose(1500, 10*time.Millisecond); lost != 0 {
		t.Errorf("%d packets were lost across rekeys", lost)
	}
	answer := restconf(t, a, "200", "GET", "/vita-esp-gateway:gateway-state", "")
	for _, leaf := range []string{"keypairs-negotiated", "mtu-errors", "na-replies", "ns-requests"} {
		if !regexp.MustCompile(`"` + leaf + `":"[1-9]`).MatchString(answer) {
			t.Errorf("%s has not grown: %s", leaf, answer)
		}
	}
	for _, want := range []string{`"direction":"inbound"`, `"direction":"outbound"`, `"route":"site"`, `"last-use":"`, `"side":"private"`, `"side":"public"`, `"vita-esp-gateway-ext:crypto-tier":"`} {
		if !strings.Contains(answer, want) {
			t.Errorf("no %s in gateway-state: %s", want, answer)
		}
	}
	drops := restconf(t, a, "200", "GET", "/vita-esp-gateway:gateway-state/vita-esp-gateway-ext:drop=outbound-too-big", "")
	if !regexp.MustCompile(`"packets":"[1-9]`).MatchString(drops) {
		t.Errorf("outbound-too-big has not grown: %s", drops)
	}
}

// transfer sends by TCP from one host to the other, with segments that at
// first are too big for the tunnel.
func transfer(t *testing.T, l *lab.Lab, family, to string) {
	t.Helper()
	server, err := l.Start(lab.HostB, "iperf3", nil, "iperf3", "-s", "-1")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop(time.Second)
	for try := 0; ; try++ { // the server needs a moment to listen; with -J its absence would be no error
		_, err := l.Run(t.Context(), lab.HostA, "iperf3", family, "-c", to, "-n", "20M", "--connect-timeout", "1000")
		if err == nil {
			return
		}
		if try == 10 || t.Context().Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
