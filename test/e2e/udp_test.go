package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"vita/test/lab"
)

// dropped reads how many packets a gateway has dropped for a reason.
func dropped(t *testing.T, g *lab.Gateway, reason string) int {
	t.Helper()
	path := "/gateway-state/drop[reason=" + reason + "]/packets"
	out, err := g.Vitactl(t.Context(), "state", path)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(out)
	n, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		t.Fatalf("%s: %q", path, out)
	}
	return n
}

// TestUDPEncapsulation puts ESP into UDP between two gateways, one of which is
// behind a NAT and sends keepalives.
func TestUDPEncapsulation(t *testing.T) {
	l := network(t)
	if _, err := l.Impair(t.Context(), lab.Impairment{NAT: [4]byte{198, 51, 100, 7}}); err != nil {
		t.Fatal(err)
	}
	sa, sb := sideA(), sideB()
	sa.natIP, sb.peer = "198.51.100.7", "198.51.100.7"
	a, b := twoGateways(t, l, sa, sb)
	waitForPing(t, l, 30*time.Second)

	// The gateway that does not send keepalives follows the manual.
	text, err := os.ReadFile("../../docs/operator/udp-encapsulation.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, m := range regexp.MustCompile(`(?m)^vitactl (config .*)$`).FindAllStringSubmatch(string(text), -1) {
		ran++
		if out, err := b.Vitactl(t.Context(), strings.Fields(strings.Replace(m[1], "site2", "site", 1))...); err != nil {
			t.Errorf("%s: %s %v", m[0], out, err)
		}
	}
	if ran < 8 {
		t.Errorf("%d commands ran", ran)
	}
	route := func(g *lab.Gateway, udp string) {
		t.Helper()
		restconf(t, g, "204", "PATCH", "", `{"ietf-restconf:data":{"vita-esp-gateway:route4":[{"id":"site","vita-esp-gateway-ext:udp-encapsulation":`+udp+`}]}}`)
	}
	route(b, `{"keepalive": 0}`)
	route(a, `{"enabled": true, "keepalive": 1}`)
	waitForPing(t, l, 30*time.Second)
	if lost := ping(t, l, 100, 10*time.Millisecond); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
	transfer(t, l, "-4", lab.HostBIP)
	file := filepath.Join(l.Dir, "udp.pcapng")
	start := time.Now()
	p, wait := background(t, l, b, "udp", "capture", "--point", "public-rx,public-tx", "--protocol", "udp", "--seconds", "120", "-w", file)
	begun(t, file)
	fivePings(t, l)
	const keepalive = `^public-rx\t198.51.100.7\t203.0.113.2\t4500\t4500\tUDPENCAP$`
	want := map[string]int{
		`^public-rx\t198.51.100.7\t203.0.113.2\t4500\t4500\tESP$`: 5,
		`^public-tx\t203.0.113.2\t198.51.100.7\t4500\t4500\tESP$`: 5,
		keepalive: 2,
	}
	fields := []string{"frame.interface_name", "ip.src", "ip.dst", "udp.srcport", "udp.dstport", "_ws.col.Protocol"}
	captured(t, p, file, want, fields...)
	wait()
	took := time.Since(start)
	lines := tshark(t, file, fields...)
	for pattern, want := range want {
		if n := matching(lines, pattern); n != want && pattern != keepalive {
			t.Errorf("%s: %d packets, want %d: %q", pattern, n, want, lines)
		}
	}
	if n := matching(lines, keepalive); n < 2 || n > int(took.Seconds())+1 {
		t.Errorf("%d keepalives, one a second, within %v: %q", n, took, lines)
	}
	if n := dropped(t, b, "udp-keepalive"); n == 0 {
		t.Error("no keepalive has arrived")
	}
	if n := dropped(t, a, "udp-keepalive"); n != 0 {
		t.Errorf("%d keepalives from the gateway that is to send none", n)
	}
	if out, err := b.Vitactl(t.Context(), "state", "/gateway-state/route[id=site]/moved-peer[queue=1]"); err != nil || !strings.Contains(out, "address 198.51.100.7") || !strings.Contains(out, "port 4500") {
		t.Errorf("where the peer is: %s %v", out, err)
	}

	// A port for two purposes is refused.
	answer := restconf(t, a, "500", "PATCH", "", `{"ietf-restconf:data":{"vita-esp-gateway-ext:esp":{"udp-port":303}}}`)
	if !strings.Contains(answer, "esp/udp-port") || !strings.Contains(answer, "protocol-port") {
		t.Errorf("port 303: %s", answer)
	}
}
