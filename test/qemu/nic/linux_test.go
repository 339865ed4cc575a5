// Package nic has network cards in guests: our models under Linux's own drivers,
// and our drivers on QEMU's models and ours.
package nic

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vita/drivers/drivertest/i82599"
	"vita/test/qemu"
	"vita/test/qemu/nic/station"
)

// card is a model in a guest, and the far end of its cable.
type card struct {
	*i82599.Device
	mac [6]byte

	mu     sync.Mutex
	frames [][]byte // sent by the guest
	to     func(f []byte)
}

// newCard serves a model at a socket and returns what QEMU must be told.
func newCard(t *testing.T, number byte) (*card, []string) {
	t.Helper()
	c := &card{mac: [6]byte{0x00, 0x1b, 0x21, 0x12, 0x34, number}}
	socket := filepath.Join(t.TempDir(), "s")
	d, s, err := i82599.Serve(socket, i82599.Options{MAC: c.mac, Send: c.sent})
	if err != nil {
		t.Fatal(err)
	}
	c.Device = d
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, f := range d.Faults() {
			t.Errorf("card %d: %s", number, f)
		}
	})
	b, err := json.Marshal(map[string]any{"driver": "vfio-user-pci", "socket": map[string]string{"type": "unix", "path": socket}})
	if err != nil {
		t.Fatal(err)
	}
	return c, []string{"-device", string(b)}
}

func (c *card) sent(f []byte) {
	c.mu.Lock()
	to := c.to
	if c.to == nil {
		c.frames = append(c.frames, bytes.Clone(f))
	}
	c.mu.Unlock()
	if to != nil {
		to(f)
	}
}

// connect plugs the cable into another card, or into the test.
func (c *card) connect(to func(f []byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to, c.frames = to, nil
}

// next returns the next frame from the guest that is wanted.
func (c *card) next(t *testing.T, what string, want func(f []byte) bool) []byte {
	t.Helper()
	f, ok := c.find(10*time.Second, want)
	if !ok {
		t.Fatalf("no %s from the guest", what)
	}
	return f
}

func (c *card) find(patience time.Duration, want func(f []byte) bool) ([]byte, bool) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c.mu.Lock()
		frames := c.frames
		c.frames = nil
		c.mu.Unlock()
		for i, f := range frames {
			if want(f) {
				c.mu.Lock()
				c.frames = append(frames[i+1:], c.frames...)
				c.mu.Unlock()
				return f, true
			}
		}
	}
	return nil, false
}

// guest is a machine with two cards.
type guest struct {
	*qemu.VM
	t     *testing.T
	cards [2]*card
}

func (g *guest) run(args ...string) string {
	g.t.Helper()
	out, err := g.Run(args...)
	if err != nil {
		g.t.Fatalf("%v\n%s", err, g.Console(3000))
	}
	return out
}

// ip runs lines of the program ip.
func (g *guest) ip(lines ...string) {
	g.t.Helper()
	if _, err := g.Feed(strings.Join(lines, "\n")+"\n", "ip", "-batch", "-"); err != nil {
		g.t.Fatalf("%v\n%s", err, g.Console(3000))
	}
}

// until waits for the output of a program to have a text.
func (g *guest) until(want string, args ...string) {
	g.t.Helper()
	var out string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if out = g.run(args...); strings.Contains(out, want) {
			return
		}
	}
	g.t.Fatalf("%v: no %q in\n%s\n%s", args, want, out, g.Console(3000))
}

// statistics are those of ethtool -S.
func (g *guest) statistics(name string) map[string]int {
	g.t.Helper()
	out := make(map[string]int)
	for _, m := range regexp.MustCompile(`(?m)^\s+(\S+): (\d+)$`).FindAllStringSubmatch(g.run("ethtool", "-S", name), -1) {
		out[m[1]], _ = strconv.Atoi(m[2])
	}
	return out
}

func (g *guest) call(method string, x station.Transfer, want int) {
	g.t.Helper()
	var n int
	if err := g.Call("Station."+method, x, &n); err != nil || n != want {
		g.t.Fatalf("%s %+v: %d, want %d; %v\n%s", method, x, n, want, err, g.Console(2000))
	}
}

// TestLinux82599 has Debian's ixgbe driver judge our model of the 82599.
func TestLinux82599(t *testing.T) {
	g := &guest{t: t}
	var args []string
	for i := range g.cards {
		c, device := newCard(t, byte(i+1))
		g.cards[i], args = c, append(args, device...)
	}
	began := time.Now()
	g.VM = qemu.Start(t, qemu.Options{
		Init: "vita/test/qemu/nic/station/init", Modules: []string{"ixgbe", "8021q", "macvlan"}, Programs: []string{"ip", "ethtool"},
		Shared: true, Append: "loglevel=7", Args: args,
	})
	t.Logf("up after %s", time.Since(began).Round(100*time.Millisecond))
	for _, part := range []struct {
		name string
		run  func(*testing.T, *guest)
	}{
		{"Probe", probe},
		{"SelfTest", selfTest},
		{"Echo", echo},
		{"Filters", filters},
		{"VLAN", vlan},
		{"Counters", counters},
		{"Link", link},
		{"Traffic", traffic},
		{"Jumbo", jumbo},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			g.t = t
			part.run(t, g)
		})
		if !ok {
			break
		}
	}
}

// probe: the driver takes the device for what it is, module and all, and
// complains of nothing.
func probe(t *testing.T, g *guest) {
	g.ip("link set eth0 up", "link set eth1 up")
	g.until("state UP", "ip", "link", "show", "eth0")
	g.until("state UP", "ip", "link", "show", "eth1")
	console := g.Console(20000)
	for _, want := range []string{"MAC: 2, PHY: ", "SFP+: 5, PBA No: VITA-MODEL", "00:1b:21:12:34:02", "eth0: NIC Link is Up 10 Gbps"} {
		if !strings.Contains(console, want) {
			t.Errorf("no %q in\n%s", want, console)
		}
	}
	for _, bad := range []string{"arning", "rror", "pre-production", "ailed"} {
		for line := range strings.Lines(console) {
			if strings.Contains(line, "ixgbe") && strings.Contains(line, bad) {
				t.Error(line)
			}
		}
	}
	if out := g.run("ethtool", "-m", "eth0"); !strings.Contains(out, "10GBASE-SR") && !strings.Contains(out, "10G Base-SR") {
		t.Errorf("module: %s", out)
	}
}

// selfTest has the driver write patterns to registers, check the EEPROM, and
// send to itself.
func selfTest(t *testing.T, g *guest) {
	out, err := g.Run("ethtool", "-t", "eth0", "offline")
	if err != nil || !strings.Contains(out, "PASS") || strings.Count(out, "\t 0\n") != 5 {
		t.Errorf("%v\n%s\n%s", err, out, g.Console(2000))
	}
}

// settle waits until the guest answers on a card: a link that has just come up
// it uses a little later.
func (g *guest) settle(c *card) {
	g.t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		c.Receive(frame(c.mac, hostMAC, 0x0800, ping(1, 0xffff, 18)))
		if _, ok := c.find(200*time.Millisecond, func(f []byte) bool { return len(f) == 60 && f[23] == 1 && f[34] == 0 }); ok {
			return
		}
	}
	g.t.Fatalf("the guest does not answer\n%s", g.Console(2000))
}

// frame makes one of a type and a length.
func frame(to, from [6]byte, kind uint16, payload []byte) []byte {
	f := append(append(bytes.Clone(to[:]), from[:]...), byte(kind>>8), byte(kind))
	f = append(f, payload...)
	for len(f) < 60 {
		f = append(f, 0)
	}
	return f
}

var (
	hostMAC   = [6]byte{2, 0, 0, 0, 0, 9}
	broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

func checksum(b []byte) uint16 {
	s := uint32(0)
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// ping is an echo request from 192.0.2.9 to 192.0.2.n.
func ping(n byte, sequence uint16, size int) []byte {
	b := make([]byte, 28+size)
	copy(b, "\x45\x00\x00\x00\x00\x00\x40\x00\x40\x01\x00\x00\xc0\x00\x02\x09\xc0\x00\x02")
	b[19] = n
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
	b[20] = 8
	binary.BigEndian.PutUint16(b[26:], sequence)
	for i := range size {
		b[28+i] = byte(i * 7)
	}
	binary.BigEndian.PutUint16(b[22:], checksum(b[20:]))
	return b
}

// exchange sends an echo request, possibly with a tag, and checks its answer.
func (g *guest) exchange(c *card, to [6]byte, n byte, sequence uint16, size, vlan int) {
	g.t.Helper()
	request := ping(n, sequence, size)
	out := frame(to, hostMAC, 0x0800, request)
	skip := 14
	if vlan > 0 {
		out = frame(to, hostMAC, 0x8100, append([]byte{byte(vlan >> 8), byte(vlan), 8, 0}, request...))
		skip = 18
	}
	if !c.Receive(out) {
		g.t.Fatalf("request of %d bytes is not received: %v", len(out), c.Faults())
	}
	answer := c.next(g.t, "echo reply", func(f []byte) bool {
		return len(f) >= len(request)+skip && bytes.Equal(f[:6], hostMAC[:]) && f[skip+9] == 1 && f[skip+20] == 0 &&
			binary.BigEndian.Uint16(f[skip+26:]) == sequence
	})
	if vlan > 0 && (binary.BigEndian.Uint16(answer[12:]) != 0x8100 || binary.BigEndian.Uint16(answer[14:]) != uint16(vlan)) {
		g.t.Errorf("reply without its tag: % x", answer[:20])
	}
	if !bytes.Equal(answer[skip+28:skip+28+size], request[28:]) {
		g.t.Errorf("reply %d of %d bytes has another content", sequence, size)
	}
}

func echo(t *testing.T, g *guest) {
	g.ip("addr add 192.0.2.1/24 dev eth0", "neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0")
	g.settle(g.cards[0])
	for i := range uint16(300) { // more than once round a ring
		g.exchange(g.cards[0], g.cards[0].mac, 1, i, int(i)*1472/299, 0)
	}
}

// received returns how many frames the guest's kernel has got from a card.
func (g *guest) received(name string) int {
	g.t.Helper()
	return g.statistics(name)["rx_packets"]
}

// filters sends to addresses that the guest wants and to such that it does not.
func filters(t *testing.T, g *guest) {
	c := g.cards[0]
	g.ip("link add link eth0 name mv0 address 02:00:00:00:77:01 type macvlan mode bridge", "link set mv0 up",
		"maddr add 01:00:5e:00:11:22 dev eth0")
	before := g.received("eth0")
	wanted := 0
	for _, k := range []struct {
		to   [6]byte
		want bool
	}{
		{c.mac, true},
		{broadcast, true},
		{[6]byte{2, 0, 0, 0, 0x77, 1}, true},
		{[6]byte{2, 0, 0, 0, 0x77, 2}, false},
		{[6]byte{1, 0, 0x5e, 0, 0x11, 0x22}, true},
		{[6]byte{1, 0, 0x5e, 0, 0x11, 0x32}, false},
		{[6]byte{1, 0, 0x5e, 0, 0x21, 0x22}, false},
		{[6]byte{0x33, 0x33, 0, 0, 0, 1}, true}, // all nodes
	} {
		for range 3 {
			if got := c.Receive(frame(k.to, hostMAC, 0x88b5, nil)); got != k.want {
				t.Errorf("frame to % x received: %v", k.to, got)
			}
			if k.want {
				wanted++
			}
		}
	}
	time.Sleep(200 * time.Millisecond)
	if got := g.received("eth0") - before; got != wanted {
		t.Errorf("%d frames reach the kernel, want %d", got, wanted)
	}
	g.ip("link set eth0 promisc on")
	if !c.Receive(frame([6]byte{2, 0, 0, 0, 0x77, 2}, hostMAC, 0x88b5, nil)) {
		t.Error("promiscuous mode lets nothing in")
	}
	g.ip("link set eth0 promisc off", "link del mv0")
}

func vlan(t *testing.T, g *guest) {
	c := g.cards[0]
	g.ip("link add link eth0 name eth0.7 type vlan id 7", "link set eth0.7 up", "addr add 192.0.2.65/26 dev eth0.7",
		"route add 192.0.2.9/32 dev eth0.7", "neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0.7")
	for i := range uint16(20) {
		g.exchange(c, c.mac, 65, i, 100+int(i)*60, 7)
	}
	if c.Receive(frame(c.mac, hostMAC, 0x8100, []byte{0, 8, 8, 0})) {
		t.Error("a frame of a VLAN that the guest has not is received")
	}
	g.ip("link del eth0.7")
}

// counters compares the driver's statistics, from the device's registers, with
// what was sent.
func counters(t *testing.T, g *guest) {
	c := g.cards[0]
	time.Sleep(2100 * time.Millisecond) // the driver takes the device's counters over every 2 s
	g.exchange(c, c.mac, 1, 1, 64, 0)
	before := g.statistics("eth0")
	want := map[string]int{}
	for i := range uint16(10) {
		g.exchange(c, c.mac, 1, i, 18, 0)
		want["rx_packets"]++
		want["rx_pkts_nic"]++
		want["rx_bytes"] += 60
		want["rx_bytes_nic"] += 60 + 4
	}
	for i := range 90 {
		f := frame(c.mac, hostMAC, 0x88b5, make([]byte, 46+i*14))
		switch i % 3 {
		case 1:
			copy(f, broadcast[:])
			want["broadcast"]++
		case 2:
			copy(f, "\x33\x33\x00\x00\x00\x01")
			want["multicast"]++
		}
		want["rx_packets"]++
		want["rx_pkts_nic"]++
		want["rx_bytes"] += len(f)
		want["rx_bytes_nic"] += len(f) + 4
		if !c.Receive(f) {
			t.Fatalf("frame %d is not received", i)
		}
	}
	if c.Receive(frame(c.mac, hostMAC, 0x88b5, make([]byte, 1600))) {
		t.Error("a frame that is too long is received")
	}
	time.Sleep(2100 * time.Millisecond)
	after := g.statistics("eth0")
	for k, n := range want {
		if got := after[k] - before[k]; got != n {
			t.Errorf("%s: %d, want %d", k, got, n)
		}
	}
	// The kernel sends a packet of its own from time to time, which it counts too.
	packets, bytes := after["tx_packets"]-before["tx_packets"], after["tx_bytes"]-before["tx_bytes"]
	if got := after["tx_pkts_nic"] - before["tx_pkts_nic"]; got != packets || packets < 10 {
		t.Errorf("tx_pkts_nic: %d, want %d", got, packets)
	}
	if got := after["tx_bytes_nic"] - before["tx_bytes_nic"]; got != bytes+4*packets {
		t.Errorf("tx_bytes_nic: %d, want %d", got, bytes+4*packets)
	}
	queues := 0
	for k, n := range after {
		if strings.HasPrefix(k, "rx_queue_") && strings.HasSuffix(k, "_packets") {
			queues += n - before[k]
		}
	}
	if queues != want["rx_packets"] || after["rx_missed_errors"] != 0 {
		t.Errorf("%d packets of all queues, want %d; %d missed", queues, want["rx_packets"], after["rx_missed_errors"])
	}
}

func link(t *testing.T, g *guest) {
	for range 2 {
		g.cards[0].SetLink(false)
		g.until("NO-CARRIER", "ip", "link", "show", "eth0")
		g.cards[0].SetLink(true)
		g.until("LOWER_UP", "ip", "link", "show", "eth0")
	}
	g.settle(g.cards[0])
	g.ip("link set eth0 down", "link set eth0 up", "neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0")
	g.settle(g.cards[0])
}

// traffic joins both cards, puts each into a namespace, and has the kernel send
// by TCP, with checksums and segments made by the device, and by UDP.
func traffic(t *testing.T, g *guest) {
	a, b := g.cards[0], g.cards[1]
	a.connect(func(f []byte) { b.Receive(f) })
	b.connect(func(f []byte) { a.Receive(f) })
	g.ip("netns add a", "netns add b", "link set eth0 netns a", "link set eth1 netns b")
	for i, n := range []string{"a", "b"} {
		for _, l := range []string{"link set eth%d up", "addr add 198.51.100.1%d/24 dev eth%[1]d", "addr add 2001:db8::1%d/64 dev eth%[1]d nodad"} {
			g.run(append([]string{"ip", "-n", n}, strings.Fields(fmt.Sprintf(l, i))...)...)
		}
	}
	g.until("state UP", "ip", "-n", "a", "link", "show", "eth0")
	g.until("state UP", "ip", "-n", "b", "link", "show", "eth1")
	for _, address := range []string{"198.51.100.11:7", "[2001:db8::11]:7"} {
		g.call("Datagrams", station.Transfer{From: "a", To: "b", Address: address, Count: 200, Largest: 8000}, 200)
		began := time.Now()
		g.call("Stream", station.Transfer{From: "a", To: "b", Address: address, Bytes: 8 << 20}, 8<<20)
		t.Logf("8 MiB to %s in %s", address, time.Since(began).Round(time.Millisecond))
	}
	out := g.run("ip", "netns", "exec", "b", "ethtool", "-S", "eth1")
	t.Log(regexp.MustCompile(`(rx_packets|rx_queue_[01]_packets|rx_csum_offload_errors|rx_missed_errors|rx_no_dma_resources): \d+`).FindAllString(out, -1))
	// A loaded guest may miss some, as on a machine.
	if !strings.Contains(out, "rx_csum_offload_errors: 0\n") {
		t.Errorf("errors in\n%s", out)
	}
}

func jumbo(t *testing.T, g *guest) {
	g.run("ip", "-n", "a", "link", "set", "eth0", "mtu", "9000")
	g.run("ip", "-n", "b", "link", "set", "eth1", "mtu", "9000")
	g.until("state UP", "ip", "-n", "a", "link", "show", "eth0")
	g.until("state UP", "ip", "-n", "b", "link", "show", "eth1")
	g.call("Datagrams", station.Transfer{From: "a", To: "b", Address: "198.51.100.11:7", Count: 100, Largest: 8972}, 100)
	g.call("Stream", station.Transfer{From: "b", To: "a", Address: "198.51.100.10:7", Bytes: 4 << 20}, 4<<20)
}
