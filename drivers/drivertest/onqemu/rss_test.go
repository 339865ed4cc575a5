package onqemu

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/nic"
	"vita/drivers/internal/pci"
	"vita/drivers/internal/qtest"
	"vita/drivers/virtio"
	"vita/internal/pktbuf"
	"vita/internal/testnet"
	"vita/test/qemu"
)

// tap is a QEMU with a virtio-net of several queues, at the end of a kernel
// interface: no other end that QEMU has gives it more than one.
type tap struct {
	*qtest.Device
	socket int // to and from the interface
}

func newTap(t *testing.T, queues int, options string) *tap {
	t.Helper()
	tree, err := qemu.DefaultTree()
	if err != nil {
		t.Fatal(err)
	}
	words, env, err := tree.Emulator()
	if err != nil {
		t.Fatal(err)
	}
	ns := testnet.New(t)
	m, err := qtest.Start(qtest.Options{
		Command: append([]string{"nsenter", "--net=" + ns.Path()}, words...), Env: env,
		Args: []string{
			"-netdev", fmt.Sprintf("tap,id=net0,ifname=tap0,queues=%d,script=no,downscript=no,vhost=off", queues),
			"-device", "virtio-net-pci-non-transitional,netdev=net0,mq=on,addr=04.0,mac=52:54:00:00:00:01,romfile=," + options,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	x := &tap{socket: -1}
	if x.Device, err = m.Device(4); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Provide(x.Address(), backend.Source{ID: x.ID(), Open: func() (pci.Device, error) { return x.Device, nil }}))
	ns.Run(t, "ip", "link", "set", "tap0", "up")
	if err := ns.Do(func() error {
		dev, err := net.InterfaceByName("tap0")
		if err != nil {
			return err
		}
		all := bits.ReverseBytes16(unix.ETH_P_ALL)
		if x.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return unix.Bind(x.socket, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index})
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(x.socket) })
	return x
}

// packet is an IPv4 packet of TCP or UDP between random addresses and ports.
func packet(r *rand.Rand, proto byte) []byte {
	f := append([]byte{0x52, 0x54, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, proto, 0, 0}, make([]byte, 48)...)
	binary.BigEndian.PutUint64(f[26:], r.Uint64())
	binary.BigEndian.PutUint32(f[34:], r.Uint32())
	if proto == 6 {
		f[46] = 5 << 4
	}
	return f
}

// TestVirtioQueues has frames spread over the ports of a device of QEMU's: by
// RSS, which is compared with a hash made here, and without, where the device
// chooses; and frames sent by each.
func TestVirtioQueues(t *testing.T) {
	const queues = 4
	for _, k := range []struct {
		options string
		rss     bool
	}{{"rss=on", true}, {"rss=on,packed=on", true}, {"rss=off", false}} {
		t.Run(k.options, func(t *testing.T) {
			x := newTap(t, queues, k.options)
			rss := &drivers.RSS{Table: []uint8{2, 0, 1, 3, 1, 1, 0, 2}}
			r := rand.New(rand.NewPCG(3, 4))
			for i := range rss.Key {
				rss.Key[i] = byte(r.Uint32())
			}
			pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 4096})
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			var ports []drivers.Port
			for q := range queues {
				p, err := virtio.Open(drivers.Config{PCI: x.Address(), Pool: pool, Queues: []int{q}, RSS: rss})
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := p.Close(); err != nil {
						t.Error(err)
					}
				}()
				ports = append(ports, p)
			}
			came := make([]int, queues)
			batch := make([]pktbuf.Packet, 8)
			for n := range 400 {
				f := packet(r, []byte{6, 17}[n%2])
				if _, err := unix.Write(x.socket, f); err != nil {
					t.Fatal(err)
				}
				got := -1
				for end := time.Now().Add(30 * time.Second); got < 0; {
					for q, p := range ports {
						m := p.Rx(batch)
						for _, b := range batch[:m] {
							if string(pool.Bytes(b)) == string(f) {
								got = q
							}
						}
						pool.PutBatch(batch[:m])
					}
					if time.Now().After(end) {
						t.Fatalf("frame %d does not come", n)
					}
				}
				hash, _ := nic.HashFrame(&rss.Key, f, true)
				if want := int(rss.Table[hash&7]); k.rss && got != want {
					t.Fatalf("frame %d comes by queue %d, want %d", n, got, want)
				}
				came[got]++
			}
			for q, c := range came {
				if c < 20 {
					t.Errorf("queue %d got %d of 400 frames", q, c)
				}
			}
			in := make([]byte, 2048)
			for q, p := range ports {
				b, _ := pool.Get()
				f := packet(r, 17)
				b.Len = uint16(copy(pool.Bytes(pktbuf.Packet{Frame: b.Frame, Off: b.Off, Len: uint16(len(f))}), f))
				if p.Tx([]pktbuf.Packet{b}) != 1 {
					t.Fatal("not taken")
				}
				for end := time.Now().Add(30 * time.Second); ; {
					p.Flush()
					if n, err := unix.Read(x.socket, in); err == nil && string(in[:n]) == string(f) {
						break
					}
					if time.Now().After(end) {
						t.Fatalf("nothing is sent by queue %d", q)
					}
				}
			}
		})
	}
}
