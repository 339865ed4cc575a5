package e2e

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vita/drivers"
	"vita/drivers/afxdp"
	"vita/forwarding"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/forwardingtest"
	"vita/forwarding/tables"
	"vita/internal/pktbuf"
	"vita/internal/testnet"
)

// farPort is one queue of a device at the other end of a cable.
type farPort struct {
	t    *testing.T
	port drivers.Port
	pool *pktbuf.Pool
}

func openQueue(t *testing.T, ns *testnet.Namespace, ifname string, queue int) *farPort {
	t.Helper()
	pool, err := pktbuf.NewPool(pktbuf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &farPort{t: t, pool: pool}
	if err := ns.Do(func() (err error) {
		f.port, err = afxdp.Open(drivers.Config{Ifname: ifname, Queues: []int{queue}, Pool: pool})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.port.Close()
		_ = pool.Close()
	})
	return f
}

func (f *farPort) send(frame []byte) {
	f.t.Helper()
	k, ok := f.pool.Get()
	if !ok {
		f.t.Fatal("no buffer")
	}
	k.Len = uint16(len(frame))
	copy(f.pool.Bytes(k), frame)
	if f.port.Tx([]pktbuf.Packet{k}) != 1 {
		f.t.Fatal("the frame was not taken")
	}
	f.port.Flush()
}

// receive returns the frames that come within a while, or as soon as there are n.
func (f *farPort) receive(n int, within time.Duration) (out [][]byte) {
	b := make([]pktbuf.Packet, 64)
	for deadline := time.Now().Add(within); len(out) < n && time.Now().Before(deadline); {
		m := f.port.Rx(b)
		for _, k := range b[:m] {
			out = append(out, bytes.Clone(f.pool.Bytes(k)))
			f.pool.Put(k)
		}
		if m == 0 {
			f.port.Flush()
			time.Sleep(100 * time.Microsecond)
		}
	}
	return out
}

// TestQueues has two workers on real devices with several queues, by AF_XDP: a
// worker takes what arrives at its queues of the private device, sends it by its
// own SA of the route, from its own address and queue, and opens what comes back
// there. What belongs to the other worker it does not take.
func TestQueues(t *testing.T) {
	gw, private, public := testnet.New(t), testnet.New(t), testnet.New(t)
	testnet.Connect(t, gw, "priv0", private, "host0", testnet.Veth{Queues: 3}) // the third is the first worker's too
	testnet.Connect(t, gw, "pub0", public, "net0", testnet.Veth{Queues: 2})
	reg := new(drivers.Registry)
	reg.Register("af-xdp", drivers.LinkIfname, func(c drivers.Config) (p drivers.Port, err error) {
		err = gw.Do(func() error {
			p, err = afxdp.Open(c)
			return err
		})
		return p, err
	})
	c := forwardingtest.Start(t, forwarding.Options{Registry: reg, MaxRoutes: 64, MaxSAs: 64, Announcements: -1})

	addr, station := netip.MustParseAddr, [6]byte{2, 0, 0, 0, 1, 1}
	own := []netip.Addr{addr("203.0.113.1"), addr("203.0.113.2")}
	spec := &tables.Spec{
		Private: &tables.Interface{Link: tables.Link{Ifname: "priv0"}, IP: addr("10.1.0.254"), NextHop: addr("10.1.0.1"), NextHopMAC: station},
		Routes: []tables.Route{{
			ID: "site", SPI: 1001, Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			Gateways: []tables.Gateway{{Queue: 1, IP: addr("203.0.113.11")}, {Queue: 2, IP: addr("203.0.113.12")}},
		}},
	}
	for i := range uint16(2) {
		spec.Public = append(spec.Public, tables.PublicInterface{
			Interface: tables.Interface{Link: tables.Link{Ifname: "pub0"}, IP: own[i], NextHop: addr("203.0.113.254"), NextHopMAC: station},
			Queue:     i + 1, DeviceQueue: i + 1,
		})
	}
	forwardingtest.Configure(t, c, spec)
	for i := range uint16(2) {
		for _, d := range []client.Direction{client.Outbound, client.Inbound} {
			forwardingtest.Install(t, c, client.SA{Route: "site", Queue: i + 1, Direction: d, SPI: 1000 + uint32(i), Key: []byte("0123456789abcdef")})
		}
	}
	var hosts, nets [2]*farPort
	for i := range 2 {
		hosts[i], nets[i] = openQueue(t, private, "host0", i), openQueue(t, public, "net0", i)
	}

	privateMAC := []byte{0x2a, 0xbb, 10, 1, 0, 254}
	inner := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(inner, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: station[:], DstMAC: privateMAC, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: 200, SrcIP: addr("10.1.0.7").AsSlice(), DstIP: addr("10.2.0.9").AsSlice()},
		gopacket.Payload("through the queue")); err != nil {
		t.Fatal(err)
	}
	const frames = 40
	var sealed [2][][]byte
	for i := range 2 {
		for range frames {
			hosts[i].send(inner.Bytes())
		}
		sealed[i] = nets[i].receive(frames, 5*time.Second)
		if other := nets[1-i].receive(1, 50*time.Millisecond); len(sealed[i]) != frames || len(other) != 0 {
			t.Fatalf("queue %d: %d frames came out there, %d at the other", i, len(sealed[i]), len(other))
		}
		for n, f := range sealed[i] {
			if from, _ := netip.AddrFromSlice(f[26:30]); from != own[i] || f[33] != byte(11+i) || binary.BigEndian.Uint32(f[34:]) != 1000+uint32(i) || binary.BigEndian.Uint32(f[38:]) != uint32(n+1) {
				t.Fatalf("queue %d, frame %d: %x", i, n, f[:42])
			}
		}
	}
	turned := func(f []byte) []byte { // as the peer would send it back
		f = bytes.Clone(f)
		copy(f[0:6], f[6:12])
		copy(f[6:12], station[:])
		var dst [4]byte
		copy(dst[:], f[30:34])
		copy(f[30:34], f[26:30])
		copy(f[26:30], dst[:])
		return f
	}
	for i := range 2 {
		nets[1-i].send(turned(sealed[i][0])) // at the other's queue: not for that worker
		for _, f := range sealed[i][1:] {
			nets[i].send(turned(f))
		}
		in := hosts[i].receive(frames-1, 5*time.Second)
		if other := hosts[1-i].receive(1, 50*time.Millisecond); len(in) != frames-1 || len(other) != 0 {
			t.Fatalf("queue %d: %d frames came in there, %d at the other", i, len(in), len(other))
		}
	}
	third := openQueue(t, private, "host0", 2)
	for range frames {
		third.send(inner.Bytes())
	}
	if got := nets[0].receive(frames, 5*time.Second); len(got) != frames || got[0][29] != 1 {
		t.Errorf("%d frames from the third queue came out", len(got))
	}
	s := c.Counters()
	if n := s.Drops(drop.PublicWrongMAC); n != 2 {
		t.Errorf("%d frames for another worker were dropped, want 2", n)
	}
	if len(s.Workers) != 2 || s.Workers[0].Busy == 0 || s.Workers[1].Busy == 0 {
		t.Errorf("workers %+v", s.Workers)
	}
	for _, sa := range c.SAs() {
		want := uint64(frames)
		switch {
		case sa.Direction == client.Inbound:
			want--
		case sa.Queue == 1:
			want += frames // of the third queue
		}
		if sa.Packets != want || sa.Queue != uint16(sa.SPI-1000)+1 {
			t.Errorf("%+v", sa)
		}
	}
	for _, port := range c.Ports() {
		queues := 1
		if port.Queue == 1 && !port.Public {
			queues = 2
		}
		if port.Driver != "af-xdp" || port.Queues != queues {
			t.Errorf("%+v", port)
		}
	}
}
