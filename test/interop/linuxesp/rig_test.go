package linuxesp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vita/drivers/memory"
	"vita/forwarding"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/forwardingtest"
	"vita/forwarding/tables"
	"vita/test/interop/linuxesp/peer"
	"vita/test/qemu"
	"vita/test/qemu/guest"
)

// What there is of each family: a private network with one host on each side,
// and the gateways' public addresses.
//
//	host (the test) -- engine (this process) == wire == Linux (the guest), with its host's address on lo
type addresses struct {
	host, gateway, far         netip.Addr // far: the host of the guest's network
	net, farNet                netip.Prefix
	public, peer, nextHop      netip.Addr
	headerLen                  int
	protocol, echo, echoAnswer byte
}

var families = map[int]*addresses{
	4: {
		host: netip.MustParseAddr("10.1.0.7"), gateway: netip.MustParseAddr("10.1.0.254"), far: netip.MustParseAddr("10.2.0.9"),
		net: netip.MustParsePrefix("10.1.0.0/16"), farNet: netip.MustParsePrefix("10.2.0.0/16"),
		public: netip.MustParseAddr("203.0.113.1"), peer: netip.MustParseAddr("203.0.113.2"),
		nextHop: netip.MustParseAddr("10.1.0.1"), headerLen: 20, protocol: 1, echo: 8, echoAnswer: 0,
	},
	6: {
		host: netip.MustParseAddr("2001:db8:10::7"), gateway: netip.MustParseAddr("2001:db8:10::fe"), far: netip.MustParseAddr("2001:db8:20::9"),
		net: netip.MustParsePrefix("2001:db8:10::/48"), farNet: netip.MustParsePrefix("2001:db8:20::/48"),
		public: netip.MustParseAddr("2001:db8:f::1"), peer: netip.MustParseAddr("2001:db8:f::2"),
		nextHop: netip.MustParseAddr("2001:db8:10::1"), headerLen: 40, protocol: 58, echo: 128, echoAnswer: 129,
	},
}

var (
	privateMAC = [6]byte{2, 0, 0, 0, 1, 1} // the engine's
	publicMAC  = [6]byte{2, 0, 0, 0, 2, 1}
	hostMAC    = [6]byte{2, 0, 0, 0, 1, 2}
	guestMAC   = [6]byte{2, 0, 0, 0, 2, 2}
)

const (
	toLinux   = 0xfedcba98 // SPIs
	fromLinux = 0x80000001
	port      = 7000 // of the datagrams
	encapPort = 4500
)

// bootLinux starts the guest and gives it its addresses.
func bootLinux(t *testing.T) *qemu.VM {
	t.Helper()
	vm := qemu.Start(t, qemu.Options{
		Init: "vita/test/interop/linuxesp/peer/init", Programs: []string{"ip"},
		Modules: []string{
			"virtio_net", "xfrm_user", "esp4", "esp6", "gcm", "ctr", "seqiv", "aesni-intel", "ghash-generic", "ghash-clmulni-intel",
			"hmac", "sha256_generic", "sha512_generic", "drbg", // a generator of random numbers for seqiv
		},
		NICs: []qemu.NIC{{MAC: guestMAC}},
	})
	for _, s := range []string{
		"net/core/netdev_max_backlog 20000", "net/core/rmem_max 67108864",
		"net/ipv6/conf/eth0/accept_ra 0", "net/ipv6/conf/eth0/accept_dad 0", "net/ipv6/conf/lo/accept_dad 0",
		"net/ipv4/conf/all/rp_filter 0", "net/ipv4/conf/eth0/rp_filter 0", "net/ipv4/icmp_ratelimit 0", "net/ipv6/icmp/ratelimit 0",
	} {
		name, value, _ := strings.Cut(s, " ")
		if err := vm.Call("Guest.WriteFile", guest.File{Name: "/proc/sys/" + name, Data: []byte(value)}, new(struct{})); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	b.WriteString("link set lo up\nlink set eth0 up\n")
	for _, f := range []int{4, 6} {
		a := families[f]
		mac := net.HardwareAddr(publicMAC[:])
		fmt.Fprintf(&b, "addr add %s/24 dev eth0%s\naddr add %s dev lo%s\n", a.peer, nodad(f), a.far, nodad(f))
		fmt.Fprintf(&b, "neigh replace %s lladdr %s dev eth0 nud permanent\nroute add %s via %s dev eth0 src %s\n", a.public, mac, a.net, a.public, a.far)
	}
	if _, err := vm.Feed(b.String(), "ip", "-batch", "-"); err != nil {
		t.Fatal(err)
	}
	return vm
}

func nodad(f int) string {
	if f == 6 {
		return " nodad"
	}
	return ""
}

// rig is one gateway of ours beside Linux, for one row.
type rig struct {
	t               *testing.T
	row             *row
	vm              *qemu.VM
	wire            *qemu.Wire
	client          *client.Client
	private, public *memory.End
	inner, outer    *addresses
	in              uint64 // frames put into the engine
	seq             uint32 // of payloads
	before          map[string]uint64

	// What must have been counted in the end.
	out, inb  volume // of our SAs
	drops     map[drop.Reason]uint64
	decrypt   uint64 // our inbound SA's errors
	sent, got volume // of Linux's SAs
	linux     map[string]uint64
	replay    uint64 // Linux's inbound SA's errors
	failed    uint64
}

// volume is what an SA has carried.
type volume struct{ packets, bytes uint64 }

func (v *volume) add(n int) {
	v.packets++
	v.bytes += uint64(n)
}

// newRig starts an engine and gives it and Linux the row's SAs.
func newRig(t *testing.T, vm *qemu.VM, r *row) *rig {
	t.Helper()
	g := &rig{t: t, row: r, vm: vm, wire: vm.Wires[0], inner: families[r.inner], outer: families[r.outer]}
	g.drops, g.linux = make(map[drop.Reason]uint64), make(map[string]uint64)
	g.startEngine()
	g.configureLinux()
	g.before = g.linuxCounters()
	g.wire.Drain()
	return g
}

func (g *rig) startEngine() {
	t := g.t
	t.Helper()
	g.client = forwardingtest.Start(t, forwarding.Options{Registry: forwardingtest.Memory(), MaxRoutes: 64, MaxSAs: 64, Announcements: -1})
	s := g.row.spec(g)
	s.Private.Link.Ifname, g.private = forwardingtest.Wire(t)
	s.Public[0].Link.Ifname, g.public = forwardingtest.Wire(t)
	forwardingtest.Configure(t, g.client, &s)
	key, salt := g.row.keys()
	if g.row.wrongKey {
		key = bytes.Repeat([]byte{9}, len(key))
	}
	for _, sa := range []client.SA{{Direction: client.Outbound, SPI: toLinux}, {Direction: client.Inbound, SPI: fromLinux}} {
		sa.Route, sa.Queue, sa.Key, sa.Salt, sa.Seq = "linux", 1, key, salt, g.row.seq
		forwardingtest.Install(t, g.client, sa)
	}
}

// spec is the row's gateway, as it is without changes of the row's own.
func (g *rig) spec() tables.Spec {
	private := tables.Interface{MAC: privateMAC, IP: g.inner.gateway, NextHop: g.inner.nextHop, NextHopMAC: hostMAC}
	if g.inner != g.outer {
		private.OtherIP, private.OtherNextHop, private.OtherNextHopMAC = private.IP, private.NextHop, hostMAC
		private.IP, private.NextHop = g.outer.gateway, g.outer.nextHop
	}
	s := tables.Spec{
		Private: &private,
		Public: []tables.PublicInterface{{
			Interface: tables.Interface{MAC: publicMAC, IP: g.outer.public, NextHop: g.outer.peer, NextHopMAC: guestMAC}, Queue: 1,
		}},
		Routes:       []tables.Route{{ID: "linux", SPI: 1, Nets: []netip.Prefix{g.inner.farNet}, Gateways: []tables.Gateway{{Queue: 1, IP: g.outer.peer}}}},
		ReplayWindow: uint16(g.row.window),
	}
	if g.row.encap {
		s.Routes[0].UDP = &tables.UDP{Port: encapPort}
	}
	return s
}

// configureLinux installs the row's policies and SAs in the guest.
func (g *rig) configureLinux() {
	r := g.row
	key, salt := r.keys()
	var b strings.Builder
	b.WriteString("xfrm state flush\nxfrm policy flush\n")
	for _, sa := range []struct {
		src, dst netip.Addr
		spi      uint32
	}{{g.outer.public, g.outer.peer, toLinux}, {g.outer.peer, g.outer.public, fromLinux}} {
		flags := "af-unspec"
		if !r.noESN {
			flags += " esn"
		}
		fmt.Fprintf(&b, "xfrm state add src %s dst %s proto esp spi %#x reqid 1 mode tunnel replay-window %d flag %s",
			sa.src, sa.dst, sa.spi, r.linuxWindow, strings.TrimSpace(flags+" "+r.flags))
		fmt.Fprintf(&b, " aead rfc4106(gcm(aes)) 0x%s 128", hex.EncodeToString(append(bytes.Clone(key), salt[:]...)))
		if r.encap {
			fmt.Fprintf(&b, " encap espinudp %d %d %s", encapPort, encapPort, map[int]string{4: "0.0.0.0", 6: "::"}[r.outer])
		}
		if r.seq > 0 {
			fmt.Fprintf(&b, " replay-seq %#x replay-seq-hi %#x replay-oseq %#x replay-oseq-hi %#x",
				uint32(r.seq), r.seq>>32, uint32(r.seq), r.seq>>32)
		}
		b.WriteString("\n")
	}
	for _, p := range []string{"out", "in", "fwd"} {
		src, dst, from, to := g.inner.net, g.inner.farNet, g.outer.public, g.outer.peer
		if p == "out" {
			src, dst, from, to = dst, src, to, from
		}
		fmt.Fprintf(&b, "xfrm policy add src %s dst %s dir %s tmpl src %s dst %s proto esp reqid 1 mode tunnel\n", src, dst, p, from, to)
	}
	if _, err := g.vm.Feed(b.String(), "ip", "-batch", "-"); err != nil {
		g.t.Fatalf("%v\n%s", err, b.String())
	}
	if r.encap {
		g.call("Peer.Encapsulate", netip.AddrPortFrom(g.outer.peer, encapPort), new(struct{}))
	}
	g.call("Peer.Listen", netip.AddrPortFrom(g.inner.far, port), new(struct{}))
}

func (g *rig) call(method string, arg, reply any) {
	g.t.Helper()
	if err := g.vm.Call(method, arg, reply); err != nil {
		g.t.Fatal(err)
	}
}

// linuxCounters returns /proc/net/xfrm_stat.
func (g *rig) linuxCounters() map[string]uint64 {
	g.t.Helper()
	var b []byte
	g.call("Guest.ReadFile", "/proc/net/xfrm_stat", &b)
	out := make(map[string]uint64)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			g.t.Fatal(err)
		}
		out[f[0]] = n
	}
	return out
}

// linuxSA is what the guest says of an SA.
type linuxSA struct {
	volume
	replay, failed uint64
	text           string
}

// linuxSAs returns the guest's SAs by SPI.
func (g *rig) linuxSAs() map[uint32]linuxSA {
	g.t.Helper()
	text, err := g.vm.Run("ip", "-s", "xfrm", "state")
	if err != nil {
		g.t.Fatal(err)
	}
	out := make(map[uint32]linuxSA)
	for _, part := range strings.Split("\n"+text, "\nsrc ")[1:] {
		sa := linuxSA{text: part}
		var spi uint32
		for line := range strings.Lines(part) {
			f := strings.Fields(line)
			for i := range f[:max(len(f)-1, 0)] {
				v := f[i+1]
				switch f[i] {
				case "spi":
					v, _, _ = strings.Cut(v, "(")
					spi = uint32(number(g.t, v))
				case "replay":
					sa.replay = number(g.t, v)
				case "failed":
					sa.failed = number(g.t, v)
				}
			}
			if len(f) > 1 && strings.HasSuffix(f[0], "(bytes),") && sa.text != "" && strings.Contains(part, "lifetime current:\n\t  "+strings.TrimSpace(line)) {
				sa.bytes, sa.packets = number(g.t, strings.TrimSuffix(f[0], "(bytes),")), number(g.t, strings.TrimSuffix(f[1], "(packets)"))
			}
		}
		out[spi] = sa
	}
	return out
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// check compares all counters of both sides with what the row's traffic must
// have made. Linux may still be at the last packets.
func (g *rig) check() {
	g.t.Helper()
	g.passed()
	var errs []string
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if errs = g.differences(); len(errs) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	for _, e := range errs {
		g.t.Error(e)
	}
	for _, sa := range g.linuxSAs() {
		g.t.Log(sa.text)
	}
}

func (g *rig) differences() (errs []string) {
	differ := func(what string, got, want any) {
		if got != want {
			errs = append(errs, fmt.Sprintf("%s: %v, want %v", what, got, want))
		}
	}
	s := g.client.Counters()
	for r := range drop.Reason(drop.NumReasons) {
		differ("our drops, "+r.String(), s.Drops(r), g.drops[r])
	}
	for _, sa := range g.client.SAs() {
		want, name := g.out, "our outbound SA"
		if sa.Direction == client.Inbound {
			want, name = g.inb, "our inbound SA"
			differ(name+"'s decrypt errors", sa.DecryptErrors, g.decrypt)
		}
		differ(name, volume{sa.Packets, sa.Bytes}, want)
		differ(name+"'s other errors", sa.RxErrors+sa.ProtocolErrors, uint64(0))
	}
	after := g.linuxCounters()
	for name, n := range after {
		differ("Linux's "+name, n-g.before[name], g.linux[name])
	}
	sas := g.linuxSAs()
	differ("Linux's inbound SA", sas[toLinux].volume, g.got)
	differ("Linux's inbound SA's replays", sas[toLinux].replay, g.replay)
	differ("Linux's inbound SA's failures", sas[toLinux].failed, g.failed)
	differ("Linux's outbound SA", sas[fromLinux].volume, g.sent)
	return errs
}

// passed returns when Linux has met all frames sent to it so far: it answers
// them in order, so it sends an echo, not by the tunnel, and awaits its reply.
func (g *rig) passed() {
	g.t.Helper()
	a := families[4]
	m := echoRequest(a, a.public, a.peer, 0xffff, 0, nil)
	if err := g.wire.Send(ethernet(guestMAC, publicMAC, m)); err != nil {
		g.t.Fatal(err)
	}
	_, err := g.wire.Take(1, 5*time.Second, func(f []byte) bool {
		return len(f) >= 42 && f[12] == 8 && f[13] == 0 && f[23] == 1 && f[34] == 0 && f[38] == 0xff
	})
	if err != nil {
		g.t.Fatalf("no echo from the guest: %v", err)
	}
}

// tunnelled tells ESP packets from what else a Linux station says on a wire.
func (g *rig) tunnelled(f []byte) bool {
	at, typ := 14+9, layers.EthernetTypeIPv4
	if g.row.outer == 6 {
		at, typ = 14+6, layers.EthernetTypeIPv6
	}
	protocol := byte(50)
	if g.row.encap {
		protocol = 17
	}
	return len(f) > 54 && f[12] == byte(typ>>8) && f[13] == byte(typ) && f[at] == protocol
}

// intoEngine puts frames into one of the engine's ports and returns what has
// come out of the ports then.
func (g *rig) intoEngine(end *memory.End, frames [][]byte) (private, public [][]byte) {
	g.t.Helper()
	for len(frames) > 0 {
		n := min(len(frames), 256)
		for _, f := range frames[:n] {
			if !end.Inject(f) {
				g.t.Fatalf("a frame of %d bytes does not fit the wire", len(f))
			}
		}
		g.in += uint64(n)
		frames = frames[n:]
		for deadline, received := time.Now().Add(30*time.Second), uint64(0); received < g.in; {
			s := g.client.Counters()
			if received = s.Private.RxPackets + s.Public.RxPackets; time.Now().After(deadline) {
				g.t.Fatalf("the engine has received %d frames of %d", received, g.in)
			}
		}
		for range 2 { // turns of the worker, each of which ends before an SA is gone
			ref, err := g.client.InstallSA(g.t.Context(), client.SA{Route: "linux", Queue: 1, Direction: client.Inbound, SPI: 1, Key: make([]byte, 16)})
			if err != nil {
				g.t.Fatal(err)
			}
			if err := g.client.RemoveSA(g.t.Context(), ref); err != nil {
				g.t.Fatal(err)
			}
		}
		private, public = append(private, g.private.Drain()...), append(public, g.public.Drain()...)
	}
	return private, slices.DeleteFunc(public, g.isKeepalive)
}

// isKeepalive tells keepalives, which come when it is time for them, from what
// the row's traffic makes.
func (g *rig) isKeepalive(f []byte) bool {
	n := 14 + g.outer.headerLen
	return g.row.encap && len(f) == n+8+1 && f[n+8] == 0xff
}

func (g *rig) intoLinux(frames ...[]byte) {
	g.t.Helper()
	for _, f := range frames {
		if err := g.wire.Send(f); err != nil {
			g.t.Fatal(err)
		}
	}
}

func ethernet(to, from [6]byte, packet []byte) []byte {
	f := append(append(bytes.Clone(to[:]), from[:]...), 8, 0)
	if packet[0]>>4 == 6 {
		f[12], f[13] = 0x86, 0xdd
	}
	return append(f, packet...)
}

func serialize(l ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		panic(err)
	}
	return bytes.Clone(b.Bytes())
}

// header makes an IP header in front of what follows.
func header(src, dst netip.Addr, protocol byte, tos byte, df bool) gopacket.SerializableLayer {
	if src.Is4() {
		l := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, TOS: tos, Id: 77, Protocol: layers.IPProtocol(protocol), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		if df {
			l.Flags = layers.IPv4DontFragment
		}
		return l
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, TrafficClass: tos, NextHeader: layers.IPProtocol(protocol), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func echoRequest(a *addresses, src, dst netip.Addr, id, seq uint16, payload []byte) []byte {
	h := header(src, dst, a.protocol, 0, false)
	if l, ok := h.(*layers.IPv6); ok {
		m := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(a.echo, 0)}
		if err := m.SetNetworkLayerForChecksum(l); err != nil {
			panic(err)
		}
		return serialize(h, m, &layers.ICMPv6Echo{Identifier: id, SeqNumber: seq}, gopacket.Payload(payload))
	}
	return serialize(h, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(a.echo, 0), Id: id, Seq: seq}, gopacket.Payload(payload))
}

// datagram makes a UDP packet from our host to the guest's.
func (g *rig) datagram(seq uint32, n int, tos byte, df bool) []byte {
	h := header(g.inner.host, g.inner.far, 17, tos, df)
	u := &layers.UDP{SrcPort: port, DstPort: port}
	l, ok := h.(gopacket.NetworkLayer)
	if !ok {
		panic("no network layer")
	}
	if err := u.SetNetworkLayerForChecksum(l); err != nil {
		panic(err)
	}
	return serialize(h, u, gopacket.Payload(peer.Pattern(seq, n)))
}
