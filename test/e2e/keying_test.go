package e2e

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vita/asm/cksum"
	"vita/test/lab"
)

// side is one gateway's configuration with the routes' usual values, which a
// test changes.
type side struct {
	private, nexthop, public, peer string
	net, psk                       string
	spi                            int
	more                           string // further members of the datastore
	natIP                          string
}

func sideA() side {
	return side{lab.PrivAIP, lab.HostAIP, lab.PubAIP, lab.PubBIP, "10.10.2.0/24", psk, 1001, `"vita-esp-gateway:negotiation-ttl": 2, "vita-esp-gateway:sa-ttl": 20`, ""}
}

func sideB() side {
	s := sideA()
	s.private, s.nexthop, s.public, s.peer, s.net = lab.PrivBIP, lab.HostBIP, lab.PubBIP, lab.PubAIP, "10.10.1.0/24"
	return s
}

func (s side) json() string {
	nat := ""
	if s.natIP != "" {
		nat = fmt.Sprintf(`, "nat-ip": %q`, s.natIP)
	}
	next := lab.PubBIP
	if s.public == lab.PubBIP {
		next = lab.PubAIP
	}
	return fmt.Sprintf(`{"ietf-restconf:data": {
  "vita-esp-gateway:private-interface4": {"ifname": %q, "ip": %q, "nexthop-ip": %q},
  "vita-esp-gateway:public-interface4": [{"ip": %q, "ifname": %q, "nexthop-ip": %q%s}],
  "vita-esp-gateway:route4": [{"id": "site", "net": %q, "spi": %d, "preshared-key": %q, "gateway": [{"ip": %q}]}],
  %s}}`, lab.PrivIf, s.private, s.nexthop, s.public, lab.PubIf, next, nat, s.net, s.spi, s.psk, s.peer, s.more)
}

// twoGateways starts both gateways with their configurations.
func twoGateways(t *testing.T, l *lab.Lab, a, b side) (gwA, gwB *lab.Gateway) {
	t.Helper()
	gwA, gwB = gateway(t, l, lab.GwA), gateway(t, l, lab.GwB)
	restconf(t, gwA, "204", "PATCH", "", a.json())
	restconf(t, gwB, "204", "PATCH", "", b.json())
	return gwA, gwB
}

// ping sends n echo requests from host-a to host-b and returns how many were
// lost.
func ping(t *testing.T, l *lab.Lab, n int, interval time.Duration) (lost int) {
	t.Helper()
	lost, err := l.Ping(t.Context(), lab.HostA, lab.HostBIP, n, interval)
	if err != nil {
		t.Fatal(err)
	}
	return lost
}

// fivePings sends five echo requests and no more, to be found in a capture.
func fivePings(t *testing.T, l *lab.Lab) {
	t.Helper()
	if out, err := l.Run(t.Context(), lab.HostA, "ping", "-n", "-q", "-c", "5", "-i", "0.01", "-W", "3", lab.HostBIP); !strings.Contains(out, "5 packets transmitted") {
		t.Fatal(out, err)
	}
}

// silence returns what ping says where an answer comes from host-b and none shall.
func silence(t *testing.T, l *lab.Lab) string {
	t.Helper()
	out, err := l.Run(t.Context(), lab.HostA, "ping", "-n", "-q", "-c", "3", "-i", "0.1", "-W", "2", lab.HostBIP)
	if strings.Contains(out, "3 packets transmitted, 0 received") {
		return ""
	}
	return fmt.Sprint(out, err)
}

// waitForPing waits until packets come through, and returns how long it took.
func waitForPing(t *testing.T, l *lab.Lab, limit time.Duration) time.Duration {
	t.Helper()
	return waitForPingTo(t, l, lab.HostBIP, limit)
}

func waitForPingTo(t *testing.T, l *lab.Lab, to string, limit time.Duration) time.Duration {
	t.Helper()
	begun := time.Now()
	for {
		if _, err := l.Run(t.Context(), lab.HostA, "ping", "-n", "-q", "-c", "1", "-W", "1", to); err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > limit {
			t.Fatalf("no packet came through within %v", limit)
		}
	}
}

func keyCounter(t *testing.T, g *lab.Gateway, leaf string) int {
	t.Helper()
	out, err := g.Vitactl(t.Context(), "state", "/gateway-state/key-manager/"+leaf)
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(strings.TrimSpace(out), " ")
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("%s: %q", leaf, out)
	}
	return n
}

// TestRekeyOnABadWire loses a tenth of the key exchange, doubles a tenth of
// everything and delays by 200 ms with reordering. No data packet is lost.
func TestRekeyOnABadWire(t *testing.T) {
	l := network(t)
	n, err := l.Impair(t.Context(), lab.Impairment{KeyLoss: 0.1, Duplicate: 0.1, Delay: 180 * time.Millisecond, Jitter: 40 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := twoGateways(t, l, sideA(), sideB())
	waitForPing(t, l, 30*time.Second)
	before := keyCounter(t, a, "keypairs-negotiated")
	if lost := ping(t, l, 2500, 20*time.Millisecond); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
	if got := keyCounter(t, a, "keypairs-negotiated") - before; got < 3 {
		t.Errorf("%d exchanges in 50 s with sa-ttl 20", got)
	}
	forwarded, lost, doubled, failed := n.Counts()
	t.Logf("wire: %d forwarded, %d key exchange messages lost, %d doubled", forwarded, lost, doubled)
	if doubled == 0 || failed != 0 {
		t.Errorf("the wire was not as bad as it should be, or worse: %d doubled, %d failed", doubled, failed)
	}
}

// TestRestartOfAWholeGateway ends one gateway, engine and all its SAs, and
// starts it again. Packets come through again soon after it is back, though
// the other end still has SAs by which it sends.
func TestRestartOfAWholeGateway(t *testing.T) {
	l := network(t)
	_, b := twoGateways(t, l, sideA(), sideB())
	waitForPing(t, l, 30*time.Second)
	time.Sleep(5 * time.Second) // an exchange right after another says nothing of a restart
	b.Vitad().Stop(15 * time.Second)
	start(t, b)
	took := waitForPing(t, l, 30*time.Second)
	if took > 8*time.Second { // negotiation-ttl, ping's own second or two, and a busy machine's
		t.Errorf("packets come through only %v after the restart", took)
	}
	t.Logf("packets come through %v after the restart", took)
	if lost := ping(t, l, 200, 20*time.Millisecond); lost != 0 {
		t.Errorf("%d packets lost afterwards", lost)
	}
}

// TestNAT puts a NAT in front of gw-a.
func TestNAT(t *testing.T) {
	l := network(t)
	if _, err := l.Impair(t.Context(), lab.Impairment{NAT: [4]byte{198, 51, 100, 7}}); err != nil {
		t.Fatal(err)
	}
	a, b := sideA(), sideB()
	a.natIP, b.peer = "198.51.100.7", "198.51.100.7"
	twoGateways(t, l, a, b)
	waitForPing(t, l, 30*time.Second)
	if lost := ping(t, l, 100, 20*time.Millisecond); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
}

// TestWrongKeys gives the two ends different ideas of the route. No SA comes
// about, the reason is counted where it belongs, and no key is logged.
func TestWrongKeys(t *testing.T) {
	other := strings.Repeat("5a", 32)
	for _, c := range []struct {
		what, leaf string
		change     func(*side)
	}{
		{"pre-shared key", "authentication-errors", func(s *side) { s.psk = other }},
		{"SPI", "route-errors", func(s *side) { s.spi = 1002 }},
		{"gateway address", "route-errors", func(s *side) { s.peer = "203.0.113.77" }},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := network(t)
			wrong := sideA()
			c.change(&wrong)
			a, b := twoGateways(t, l, wrong, sideB())
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			g := b
			if c.what == "gateway address" {
				g = a // who has the wrong address gets messages that it does not know
			}
			for keyCounter(t, g, c.leaf) == 0 {
				if ctx.Err() != nil {
					t.Fatalf("%s is 0", c.leaf)
				}
				time.Sleep(200 * time.Millisecond)
			}
			if n := keyCounter(t, a, "keypairs-negotiated") + keyCounter(t, b, "keypairs-negotiated"); n != 0 {
				t.Errorf("%d exchanges succeeded", n)
			}
			if out := silence(t, l); out != "" {
				t.Errorf("packets come through: %s", out)
			}
			for _, g := range []*lab.Gateway{a, b} {
				if log := g.Vitad().Tail(1000); strings.Contains(log, psk[:16]) || strings.Contains(log, other[:16]) {
					t.Errorf("a key is in the log of %s", g.Host)
				}
			}
		})
	}
}

var floodSize = flag.Int("flood", 100_000, "messages of TestFlood; a million in the soak")

// forged returns a frame to gw-a's key exchange port in gw-b's name.
func forged(payload []byte) []byte {
	from, to := netip.MustParseAddr(lab.PubBIP).As4(), netip.MustParseAddr(lab.PubAIP).As4()
	f := append([]byte{0x3a, 0xbb, to[0], to[1], to[2], to[3], 0x3a, 0xbb, from[0], from[1], from[2], from[3], 8, 0},
		0x45, 0, 0, byte(28+len(payload)), 0, 0, 0, 0, 64, 17, 0, 0)
	f = append(append(f, from[:]...), to[:]...)
	binary.BigEndian.PutUint16(f[24:], cksum.Sum(f[14:34], 0))
	u := append([]byte{1, 47, 1, 47, 0, byte(8 + len(payload)), 0, 0}, payload...)
	binary.BigEndian.PutUint16(u[6:], cksum.Sum(u, cksum.Pseudo4(from, to, 17, uint16(len(u)))))
	return append(f, u...)
}

// TestFlood sends knocks and proposals in the other gateway's name, and
// messages of no sense, faster than they are handled. The route goes on
// rekeying, and no packet is lost.
func TestFlood(t *testing.T) {
	l := network(t)
	a, b := twoGateways(t, l, sideA(), sideB())
	waitForPing(t, l, 30*time.Second)
	fd, err := l.PacketSocket(lab.Wire, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	frames := [][]byte{
		forged([]byte{0, 0, 3, 0xe9, 11, 0, 0, 0, 0, 0, 0, 5}),
		forged(append([]byte{0, 0, 3, 0xe9, 13}, make([]byte, 83)...)),
		forged([]byte{0, 0, 3, 0xe9, 99}),
		forged(append([]byte{0, 0, 4, 0, 13}, make([]byte, 83)...)), // no such route
	}
	before := [2]int{keyCounter(t, a, "keypairs-negotiated"), keyCounter(t, b, "keypairs-negotiated")}
	const span = 40 * time.Second
	sent := make(chan error, 1)
	go func() {
		ticks := time.NewTicker(span / 1000)
		defer ticks.Stop()
		n := 0
		for range 1000 {
			<-ticks.C
			for range *floodSize / 1000 {
				if _, err := unix.Write(fd, frames[n%len(frames)]); err != nil {
					sent <- err
					return
				}
				n++
			}
		}
		sent <- nil
	}()
	if lost := ping(t, l, int(span/(20*time.Millisecond)), 20*time.Millisecond); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	// With sa-ttl 20 an SA is replaced after 10 to 12.5 s.
	for i, g := range []*lab.Gateway{a, b} {
		if got := keyCounter(t, g, "keypairs-negotiated") - before[i]; got < 3 {
			t.Errorf("%s: %d exchanges in %v", g.Host, got, span)
		}
	}
	counts := map[string]int{}
	all := 0
	for _, leaf := range []string{"route-errors", "protocol-errors", "authentication-errors", "vita-esp-gateway-ext:rate-errors"} {
		counts[leaf] = keyCounter(t, a, leaf)
		all += counts[leaf]
		if counts[leaf] == 0 {
			t.Errorf("%s is 0", leaf)
		}
	}
	if n := keyCounter(t, a, "rxerrors"); n != all {
		t.Errorf("rxerrors is %d, and the reasons are %v", n, counts)
	}
	t.Logf("%d of %d messages refused: %v", all, *floodSize, counts)
}
