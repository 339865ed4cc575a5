// Package golden drives a whole packet engine over wires of memory: frames
// from files go in at both ports, and what comes out, and every counter, must
// be what the files beside them say.
//
// A case is a folder of testdata/ with private-in.pcap and public-in.pcap,
// private-out.pcap and public-out.pcap, and counters.txt. "go test
// ./test/golden -update" records outputs and counters anew; look at the
// difference before committing it. Inputs are written by the same flag from the
// functions in cases_test.go, except those recorded from other programs.
package golden

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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
)

var update = flag.Bool("update", false, "record testdata anew")

func TestGolden(t *testing.T) {
	m := serveManagement(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.timed != nil {
				c.runTimed(t, m)
				return
			}
			c.run(t, m)
		})
	}
}

func (c *testCase) dir() string { return filepath.Join("testdata", c.name) }

func (c *testCase) run(t *testing.T, m *management) {
	if *update {
		if err := os.MkdirAll(c.dir(), 0o755); err != nil {
			t.Fatal(err)
		}
		if c.input != nil {
			private, public := c.input()
			write(t, filepath.Join(c.dir(), "private-in.pcap"), private)
			write(t, filepath.Join(c.dir(), "public-in.pcap"), public)
		}
	}
	g := start(t, c)
	privateIn, publicIn := g.inputs()
	privateOut, publicOut, end := g.feed(privateIn, publicIn)
	g.compare("private-out.pcap", privateOut)
	g.compare("public-out.pcap", publicOut)
	g.compareCounters(m, end)
}

// compareCounters checks the counters against their file, or writes it.
func (g *gateway) compareCounters(m *management, end string) {
	g.t.Helper()
	name := filepath.Join(g.c.dir(), "counters.txt")
	if *update {
		if err := os.WriteFile(name, []byte(end), 0o644); err != nil {
			g.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		g.t.Fatal(err)
	}
	if string(want) != end {
		g.t.Errorf("counters are\n%s\nwant\n%s", end, want)
	}
	g.compareState(m, string(want))
}

// gateway is a running engine with one private and one public wire.
type gateway struct {
	t               *testing.T
	c               *testCase
	client          *client.Client
	private, public *memory.End
	clock           stepped // of a timed case
}

func start(t *testing.T, c *testCase) *gateway {
	t.Helper()
	g := &gateway{t: t, c: c}
	o := forwarding.Options{Registry: forwardingtest.Memory(), MaxRoutes: 64, MaxSAs: 64, Announcements: -1}
	if c.timed != nil {
		g.clock.set(0)
		o.Clock = g.clock.read
		if c.announcements > 0 {
			o.Announcements = c.announcements
		}
	}
	g.client = forwardingtest.Start(t, o)
	s := c.spec()
	s.Private.Link.Ifname, g.private = forwardingtest.Wire(t)
	s.Public[0].Link.Ifname, g.public = forwardingtest.Wire(t)
	forwardingtest.Configure(t, g.client, &s)
	for _, sa := range c.sas {
		forwardingtest.Install(t, g.client, sa)
	}
	return g
}

// inputs reads the frames that go in.
func (g *gateway) inputs() (private, public [][]byte) {
	if g.c.recorded != "" {
		return nil, read(g.t, g.c.recorded)
	}
	return read(g.t, filepath.Join(g.c.dir(), "private-in.pcap")), read(g.t, filepath.Join(g.c.dir(), "public-in.pcap"))
}

// feed puts the frames in one by one, in turn, and collects what comes out
// after each, so that the order is always the same. Those of a batch case it
// puts in all at once, at either port.
func (g *gateway) feed(privateIn, publicIn [][]byte) (private, public [][]byte, counters string) {
	in := uint64(0)
	if g.c.batch {
		for _, s := range []struct {
			end    *memory.End
			frames [][]byte
		}{{g.private, privateIn}, {g.public, publicIn}} {
			if !s.end.Inject(s.frames...) {
				g.t.Fatal("the frames do not fit the wire")
			}
			in += uint64(len(s.frames))
			g.await(in)
			private = append(private, g.private.Drain()...)
			public = append(public, g.public.Drain()...)
		}
		return private, public, g.counters() + g.messages()
	}
	for lead := range slices.Chunk(publicIn[:g.c.lead], 512) { // what the wire takes
		if !g.public.Inject(lead...) {
			g.t.Fatal("the frames do not fit the wire")
		}
		in += uint64(len(lead))
		g.await(in)
	}
	publicIn = publicIn[g.c.lead:]
	for i := range max(len(privateIn), len(publicIn)) {
		for _, s := range []struct {
			end    *memory.End
			frames [][]byte
		}{{g.private, privateIn}, {g.public, publicIn}} {
			if i >= len(s.frames) {
				continue
			}
			if !s.end.Inject(s.frames[i]) {
				g.t.Fatalf("frame %d does not fit the wire", i)
			}
			in++
			g.await(in)
			private = append(private, g.private.Drain()...)
			public = append(public, g.public.Drain()...)
		}
	}
	return private, public, g.counters() + g.messages()
}

// await returns when n frames have been received and the worker has since done
// two whole turns, the second of which sends what the first may have left for
// the tunnel.
func (g *gateway) await(n uint64) {
	g.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for received := uint64(0); received < n; {
		s := g.client.Counters()
		received = s.Private.RxPackets + s.Public.RxPackets
		if time.Now().After(deadline) {
			g.t.Fatalf("%d frames received, want %d", received, n)
		}
	}
	for range 2 {
		// Removing an SA waits until the worker has ended its turn.
		ref, err := g.client.InstallSA(g.t.Context(), client.SA{Route: g.c.spec().Routes[0].ID, Queue: 1, Direction: client.Inbound, SPI: 1, Key: key})
		if err != nil {
			g.t.Fatal(err)
		}
		if err := g.client.RemoveSA(g.t.Context(), ref); err != nil {
			g.t.Fatal(err)
		}
	}
}

// counters lists everything that is not zero.
func (g *gateway) counters() string {
	var b strings.Builder
	s := g.client.Counters()
	for _, p := range []struct {
		name  string
		stats client.Stats
	}{{"private-interface", s.Private}, {"public-interface", s.Public}} {
		v := reflect.ValueOf(p.stats)
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && v.Field(i).Uint() != 0 {
				fmt.Fprintf(&b, "%s/%s %d\n", p.name, strings.ToLower(f.Name), v.Field(i).Uint())
			}
		}
	}
	if g.c.timed != nil {
		for _, n := range g.client.Neighbours() {
			side := "private"
			if n.Public {
				side = "public"
			}
			fmt.Fprintf(&b, "neighbour %s %s: %s %x\n", side, n.IP, n.State, n.MAC)
		}
	}
	for c := range tables.Counter(tables.NumCounters) {
		if n := s.Get(c); n != 0 {
			fmt.Fprintf(&b, "%s %d\n", strings.TrimPrefix(c.Path(), "gateway-state/"), n)
		}
	}
	for r := range drop.Reason(drop.NumReasons) {
		if n := s.Drops(r); n != 0 {
			fmt.Fprintf(&b, "drop %s %d\n", r, n)
		}
	}
	for _, sa := range g.client.SAs() {
		direction := "inbound"
		if sa.Direction == client.Outbound {
			direction = "outbound"
		}
		fmt.Fprintf(&b, "sa %s %d: seq %d, packets %d, bytes %d, rxerrors %d, protocol-errors %d, decrypt-errors %d\n",
			direction, sa.SPI, sa.Seq, sa.Packets, sa.Bytes, sa.RxErrors, sa.ProtocolErrors, sa.DecryptErrors)
		for _, d := range sa.Drops {
			fmt.Fprintf(&b, "sa %s %d drop %s %d\n", direction, sa.SPI, d.Reason, d.Packets)
		}
	}
	for _, r := range g.client.Routes() {
		fmt.Fprintf(&b, "route %s: sent-packets %d, sent-bytes %d, received-packets %d, received-bytes %d\n",
			r.Route, r.SentPackets, r.SentBytes, r.ReceivedPackets, r.ReceivedBytes)
		for _, d := range r.Drops {
			fmt.Fprintf(&b, "route %s drop %s %d\n", r.Route, d.Reason, d.Packets)
		}
	}
	return b.String()
}

// messages lists the key exchange messages that wait for vitad.
func (g *gateway) messages() string {
	var b strings.Builder
	ctx, cancel := context.WithTimeout(g.t.Context(), 50*time.Millisecond) // they are there already
	defer cancel()
	err := g.client.Receive(ctx, func(m client.Message) {
		fmt.Fprintf(&b, "message from %s, queue %d, %d bytes\n", m.Peer, m.Queue, len(m.Payload))
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		g.t.Error(err)
	}
	return b.String()
}

// compare checks what came out against a file, or writes it.
func (g *gateway) compare(name string, got [][]byte) {
	g.t.Helper()
	name = filepath.Join(g.c.dir(), name)
	if *update {
		write(g.t, name, got)
	}
	want := read(g.t, name)
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			g.t.Errorf("%s: frame %d is\n%s\nwant\n%s", name, i+1, describe(got[i]), describe(want[i]))
			return
		}
	}
	if len(got) != len(want) {
		g.t.Errorf("%s: %d frames, want %d", name, len(got), len(want))
	}
}

func describe(f []byte) string {
	return gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default).Dump()
}

func read(t *testing.T, name string) (out [][]byte) {
	t.Helper()
	for _, f := range readStamped(t, name) {
		out = append(out, f.frame)
	}
	return out
}

// write writes frames a second apart.
func write(t *testing.T, name string, frames [][]byte) {
	t.Helper()
	var out []stamped
	for i, f := range frames {
		out = append(out, stamped{time.Duration(i) * time.Second, f})
	}
	writeStamped(t, name, out)
}
