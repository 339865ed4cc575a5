package e2e

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"vita/test/lab"
)

// TestOnLink has two gateways on one network whose router does not exist: with
// prefix-length they find each other, and gateway-state says so.
func TestOnLink(t *testing.T) {
	l := network(t)
	a, b := gateway(t, l, lab.GwA), gateway(t, l, lab.GwB)
	config := func(priv, host, pub, peer, net string) string {
		return fmt.Sprintf(`{"ietf-restconf:data": {
  "vita-esp-gateway:private-interface4": {"ifname": %q, "ip": %q, "nexthop-ip": %q},
  "vita-esp-gateway:public-interface4": [{"ip": %q, "ifname": %q, "nexthop-ip": "203.0.113.254", "vita-esp-gateway-ext:prefix-length": 24}],
  "vita-esp-gateway:route4": [{"id": "site", "net": %q, "spi": 1001, "preshared-key": %q, "gateway": [{"ip": %q}]}],
  "vita-esp-gateway:negotiation-ttl": 1
}}`, lab.PrivIf, priv, host, pub, lab.PubIf, net, psk, peer)
	}
	restconf(t, a, "204", "PATCH", "", config(lab.PrivAIP, lab.HostAIP, lab.PubAIP, lab.PubBIP, lab.HostBIP+"/24"))
	restconf(t, b, "204", "PATCH", "", config(lab.PrivBIP, lab.HostBIP, lab.PubBIP, lab.PubAIP, lab.HostAIP+"/24"))
	waitForPing(t, l, 30*time.Second)
	// Longer than a neighbour that is used goes without being asked whether it is
	// there, however it was heard of first.
	if lost := ping(t, l, 50, 150*time.Millisecond); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
	for path, want := range map[string]string{
		lab.PubIf + "," + lab.PubBIP:   `"mac":"3a:bb:cb:00:71:02","state":"(reachable|stale|delay|probe)","age":"\d+"`,
		lab.PubIf + ",203.0.113.254":   `"ip":"203.0.113.254","state":"incomplete"\}`,
		lab.PrivIf + "," + lab.HostAIP: `"mac":"[0-9a-f:]{17}","state":"(reachable|stale|delay|probe)","age":"\d+"`,
	} {
		got := restconf(t, a, "200", "GET", "/vita-esp-gateway:gateway-state/vita-esp-gateway-ext:neighbour="+path, "")
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
