package afpacket

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/drivers/internal/packetsock"
	"vita/internal/pktbuf"
	"vita/internal/testnet"
)

func newPair(t *testing.T, v testnet.Veth) drivertest.Veth {
	t.Helper()
	return drivertest.NewVeth(t, v, Open)
}

func TestConformance(t *testing.T) {
	for _, v := range []testnet.Veth{{MTU: 1500}, {MTU: 9000, Queues: 2}} {
		t.Run(fmt.Sprintf("mtu %d queues %d", v.MTU, v.Queues), func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Wire {
				return drivertest.Wire{MTU: v.MTU, Open: newPair(t, v).Open}
			})
		})
	}
}

// wait receives until n frames are there.
func wait(t *testing.T, port drivers.Port, n int) []pktbuf.Packet {
	t.Helper()
	var out []pktbuf.Packet
	b := make([]pktbuf.Packet, batchSize)
	for deadline := time.Now().Add(30 * time.Second); len(out) < n; {
		m := port.Rx(b)
		out = append(out, b[:m]...)
		if m == 0 && time.Now().After(deadline) {
			t.Fatalf("%d of %d frames", len(out), n)
		}
	}
	return out
}

// A host at the other end of a veth pair leaves checksums to a device that
// does not exist.
func TestUnfinishedChecksumsAreCompleted(t *testing.T) {
	p := newPair(t, testnet.Veth{Offloads: true})
	p.NS[0].Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", "va")
	p.NS[0].Run(t, "ip", "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:09", "dev", "va")
	pool := drivertest.NewWholePool(t, pktbuf.Options{Frames: 256})
	var stats drivers.Stats
	port, err := p.Open(1, drivers.Config{Pool: pool, Stats: &stats})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	var c net.Conn
	if err := p.NS[0].Do(func() (err error) {
		c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.2:9")))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for n := range 200 {
		if _, err := c.Write(bytes.Repeat([]byte{byte(n), 0xff}, n)[:n]); err != nil {
			t.Fatal(err)
		}
		for _, k := range wait(t, port, 1) {
			f := pool.Bytes(k)
			if got := udpSum(f); got != 0xffff {
				t.Fatalf("%d bytes: UDP checksum %#04x in a packet that sums to %#04x", n, f[40:42], got)
			}
			pool.Put(k)
		}
	}
	if stats.RxErrors != 0 || stats.RxPackets != 200 {
		t.Errorf("%+v", stats)
	}
}

// udpSum sums the pseudo header and datagram of an IPv4 frame: 0xffff if right.
func udpSum(f []byte) uint32 {
	udp := f[34:]
	b := append(append([]byte{}, f[26:34]...), 0, 17, udp[4], udp[5])
	b = append(b, udp...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return s
}

// A frame that is too long to send or to arrive is dropped and counted, and a
// header that names bytes outside the frame is refused.
func TestOversizeAndBadHeaders(t *testing.T) {
	p := newPair(t, testnet.Veth{MTU: 1500})
	p.NS[0].Run(t, "ip", "link", "set", "va", "mtu", "4000")
	pool, senderPool := drivertest.NewWholePool(t, pktbuf.Options{Frames: 256, FrameSize: 8192}), drivertest.NewWholePool(t, pktbuf.Options{Frames: 256, FrameSize: 8192})
	var stats drivers.Stats
	port, err := p.Open(1, drivers.Config{Pool: pool, Stats: &stats})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	var sent drivers.Stats
	sender, err := p.Open(0, drivers.Config{Pool: senderPool, Stats: &sent})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	for _, n := range []uint16{13, 1519, 1518, 4019} {
		k, _ := senderPool.Get()
		k.Len = n
		clear(senderPool.Bytes(k))
		if sender.Tx([]pktbuf.Packet{k}) != 1 {
			t.Fatalf("%d bytes: not taken", n)
		}
	}
	pool.PutBatch(wait(t, port, 1))
	time.Sleep(20 * time.Millisecond)
	if n := port.Rx(make([]pktbuf.Packet, 8)); n != 0 || stats.RxErrors != 0 || stats.RxPackets != 1 {
		t.Errorf("%d more frames, counters %+v", n, stats)
	}
	// 1519 bytes leave the sender and do not enter the far end, whose MTU is less.
	if sent.TxErrors != 2 || sent.TxDrop != 1 || sent.TxPackets != 1 {
		t.Errorf("sender counts %+v", sent)
	}
	var h packetsock.Header
	f := make([]byte, 60)
	h[0] = 1
	for _, c := range []struct {
		start, offset byte
		want          bool
	}{{34, 6, true}, {34, 24, true}, {34, 25, false}, {60, 0, false}, {255, 255, false}} {
		h[6], h[8] = c.start, c.offset
		if got := complete(&h, f); got != c.want {
			t.Errorf("checksum from %d, field at +%d: %v", c.start, c.offset, got)
		}
	}
}

func FuzzComplete(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 34, 0, 6, 0}, make([]byte, 60))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 255, 255, 255, 255}, []byte{})
	f.Fuzz(func(t *testing.T, header, frame []byte) {
		var h packetsock.Header
		copy(h[:], header)
		before := bytes.Clone(frame)
		if !complete(&h, frame) && !bytes.Equal(before, frame) {
			t.Fatal("refused, and changed")
		}
	})
}

// tap makes a tap interface with queues, which, unlike veth, notes the queue a
// frame has come by, and returns a file for each.
func tap(t *testing.T, ns *testnet.Namespace, name string, queues int) []*os.File {
	t.Helper()
	var out []*os.File
	for range queues {
		if err := ns.Do(func() error {
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			out = append(out, os.NewFile(uintptr(fd), "tap"))
			ifr, err := unix.NewIfreq(name)
			if err != nil {
				return err
			}
			ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE)
			return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, f := range out {
			_ = f.Close()
		}
	})
	return out
}

// A port for one queue receives that queue's frames alone.
func TestQueues(t *testing.T) {
	p := drivertest.Veth{NS: [2]*testnet.Namespace{testnet.New(t)}, Name: [2]string{"tap0"}, With: Open}
	wires := tap(t, p.NS[0], "tap0", 3)
	var ports []drivers.Port
	var pools []*pktbuf.Pool
	for q := range 3 {
		pool := drivertest.NewWholePool(t, pktbuf.Options{Frames: 256})
		port, err := p.Open(0, drivers.Config{Pool: pool, Queues: []int{q}})
		if err != nil {
			t.Fatal(err)
		}
		defer port.Close()
		ports, pools = append(ports, port), append(pools, pool)
	}
	for queue, want := range map[int]error{1: drivers.ErrBusy, 10000: drivers.ErrUnsupported, -1: drivers.ErrUnsupported} {
		if _, err := p.Open(0, drivers.Config{Pool: pools[0], Queues: []int{queue}}); !errors.Is(err, want) {
			t.Errorf("queue %d: %v, want %v", queue, err, want)
		}
	}
	for q, w := range wires {
		f := make([]byte, 60)
		f[12], f[13], f[14] = 0x88, 0xb5, byte(q)
		for range q + 1 {
			if _, err := w.Write(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for q, port := range ports {
		got := wait(t, port, q+1)
		for _, k := range got {
			if f := pools[q].Bytes(k); int(f[14]) != q {
				t.Errorf("queue %d: a frame of queue %d", q, f[14])
			}
			pools[q].Put(k)
		}
		if len(got) != q+1 {
			t.Errorf("queue %d: %d frames", q, len(got))
		}
	}
}

// A VLAN tag that the kernel has taken off a frame is in it again, so that the
// frame does not look like untagged traffic; as is one that nobody took off.
func TestTagsAreInTheFrames(t *testing.T) {
	p := newPair(t, testnet.Veth{})
	pool, senderPool := drivertest.NewWholePool(t, pktbuf.Options{Frames: 256}), drivertest.NewWholePool(t, pktbuf.Options{Frames: 256})
	port, err := p.Open(1, drivers.Config{Pool: pool, Tagged: true})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	sender, err := p.Open(0, drivers.Config{Pool: senderPool})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	tags := []string{
		"\x81\x00\x00\x05\x88\xb5",                 // an ordinary one
		"\x88\xb5\x00\x00\x00\x00",                 // none
		"\x81\x00\xef\xfe\x88\xb5",                 // with a priority
		"\x88\xa8\x00\x07\x81\x00\x00\x08\x88\xb5", // two
	}
	for i, tag := range tags {
		k, _ := senderPool.Get()
		k.Len = uint16(80 + i)
		f := senderPool.Bytes(k)
		clear(f)
		f[0], f[6] = 2, 4
		copy(f[12:], tag)
		f[len(f)-1] = byte(i)
		sender.Tx([]pktbuf.Packet{k})
	}
	got := wait(t, port, len(tags))
	for i, k := range got {
		f := pool.Bytes(k)
		if len(f) != 80+i || f[0] != 2 || f[6] != 4 || f[len(f)-1] != byte(i) || string(f[12:12+len(tags[i])]) != tags[i] {
			t.Errorf("frame %d of %d bytes: % x", i, len(f), f[:22])
		}
	}
	pool.PutBatch(got)
}

func TestOpenErrors(t *testing.T) {
	p := newPair(t, testnet.Veth{MTU: 9000})
	pool := drivertest.NewWholePool(t, pktbuf.Options{Frames: 64})
	if _, err := p.Open(0, drivers.Config{Pool: pool}); !errors.Is(err, drivers.ErrUnsupported) {
		t.Errorf("MTU larger than a buffer: %v", err)
	}
	p.Name[0] = "none"
	if _, err := p.Open(0, drivers.Config{Pool: pool}); !errors.Is(err, drivers.ErrNoInterface) {
		t.Errorf("no such interface: %v", err)
	}
}
