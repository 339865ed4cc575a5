package ixgbe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest/faults"
	"vita/drivers/internal/nic"
)

// on0 opens a port of card 0.
func on0(c drivers.Config) (drivers.Port, error) {
	c.PCI = name(0)
	return Open(c)
}

type station = faults.Station

func try(t testing.TB, c drivers.Config) (*station, error) {
	t.Helper()
	return faults.Try(t, on0, c)
}

func must(t testing.TB, c drivers.Config) *station {
	t.Helper()
	return faults.Must(t, on0, c)
}

// packet is a frame with an IP packet of any kind.
func packet(r *rand.Rand, to [6]byte) []byte {
	f := append(to[:], 2, 0, 0, 0, 0, 1)
	proto := []byte{6, 17, 50}[r.IntN(3)]
	if r.IntN(2) == 0 {
		f = append(f, 0x08, 0x00, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, proto, 0, 0)
		f = binary.BigEndian.AppendUint64(f, r.Uint64())
	} else {
		f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, proto, 64)
		for range 4 {
			f = binary.BigEndian.AppendUint64(f, r.Uint64())
		}
	}
	f = binary.BigEndian.AppendUint32(f, r.Uint32())
	return append(f, make([]byte, 40)...)
}

// TestSpread compares the queue that each frame arrives at with the software's
// hash, for keys and tables of several kinds.
func TestSpread(t *testing.T) {
	var key [drivers.RSSKeyLen]byte
	for i := range key {
		key[i] = byte(i*37 + 11)
	}
	for _, k := range []struct {
		name   string
		queues [][]int
		rss    *drivers.RSS
	}{
		{"as it is", [][]int{{0}, {1}, {2}, {3}}, nil},
		{"another key", [][]int{{0}, {1}, {2}}, &drivers.RSS{Key: key}},
		{"a table", [][]int{{0}, {1}}, &drivers.RSS{Key: key, Table: []uint8{0, 0, 0, 1}}},
		{"all that there are", [][]int{{0, 15}, {7, 3}}, nil},
	} {
		t.Run(k.name, func(t *testing.T) {
			c := newCable(t)
			var ports []*station
			var open []int
			for _, q := range k.queues {
				ports = append(ports, must(t, drivers.Config{Queues: q, RSS: k.rss}))
				open = append(open, q...)
			}
			rss := drivers.RSS{Key: nic.RSSKey}
			if k.rss != nil {
				rss = *k.rss
			}
			sorted := append([]int(nil), open...)
			for i := range sorted { // as many as there are fingers
				for j := range sorted[:i] {
					if sorted[i] < sorted[j] {
						sorted[i], sorted[j] = sorted[j], sorted[i]
					}
				}
			}
			var table [128]uint8
			nic.Spread(table[:], sorted, rss.Table)
			r := rand.New(rand.NewPCG(1, 2))
			count := make([]int, len(ports))
			for i := range 2000 {
				f := packet(r, c.mac(0))
				if i%10 == 0 {
					f = plain(c.mac(0), 60)
				}
				if !c.chip[0].Receive(f) {
					t.Fatalf("frame %d is not received", i)
				}
				want := uint8(sorted[0])
				if hash, ok := nic.HashFrame(&rss.Key, f, true); ok {
					want = table[hash&127]
				}
				for n, p := range ports {
					got := p.Take()
					here := bytes.IndexByte(bytesOf(k.queues[n]), want) >= 0
					if here != (len(got) == 1) || here && got[0] != string(f) {
						t.Fatalf("frame %d, which is queue %d's: port %d gets %d frames", i, want, n, len(got))
					}
					count[n] += len(got)
				}
			}
			for n, got := range count {
				if got == 0 {
					t.Errorf("port %d gets nothing: %v", n, count)
				}
			}
			// When the first port goes, the others get all, ARP too.
			ports[0].End(t)
			total := 0
			for range 500 {
				if !c.chip[0].Receive(packet(r, c.mac(0))) || !c.chip[0].Receive(plain(c.mac(0), 60)) {
					t.Fatal("not received after a port was closed")
				}
				for _, p := range ports[1:] {
					total += len(p.Take())
				}
			}
			if total != 1000 {
				t.Errorf("%d of 1000 frames arrive at the ports that are left", total)
			}
		})
	}
}

func bytesOf(queues []int) []byte {
	var b []byte
	for _, q := range queues {
		b = append(b, byte(q))
	}
	return b
}

var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// TestPools opens ports with addresses of their own: each gets what is for its
// address, and all get what is for all.
func TestPools(t *testing.T) {
	c := newCable(t)
	mac := func(i byte) [6]byte { return [6]byte{2, 0, 0, 0, 0x10, i} }
	ports := map[int]*station{}
	for _, q := range []int{0, 1, 5, 63} {
		ports[q] = must(t, drivers.Config{Queues: []int{q}, MAC: mac(byte(q))})
	}
	r := rand.New(rand.NewPCG(1, 2))
	look := func(f []byte, want ...int) {
		t.Helper()
		if got := c.chip[0].Receive(f); got != (len(want) > 0) {
			t.Fatalf("received: %v, want queues %v", got, want)
		}
		for q, p := range ports {
			n := 0
			for _, w := range want {
				if w == q {
					n = 1
				}
			}
			if got := p.Take(); len(got) != n || n == 1 && got[0] != string(f) {
				t.Fatalf("queue %d gets %d frames, want %d", q, len(got), n)
			}
		}
	}
	for range 100 {
		for q := range ports {
			look(packet(r, mac(byte(q))), q)
		}
	}
	look(packet(r, broadcast), 0, 1, 5, 63)
	look(packet(r, [6]byte{0x33, 0x33, 0xff, 1, 2, 3}), 0, 1, 5, 63)
	look(packet(r, mac(2)))
	look(packet(r, c.mac(0))) // the device's own, which no port has
	// Each sends.
	for q, p := range ports {
		before := p.Stats.TxPackets
		p.Put(40, 100)
		p.Flush()
		if w := p.Info().TxWaiting; w != 0 || p.Stats.TxPackets-before != 40 {
			t.Errorf("queue %d: %d frames wait", q, w)
		}
	}
	for _, k := range []struct {
		name string
		c    drivers.Config
		err  error
		says string
	}{
		{"an address that another has", drivers.Config{Queues: []int{2}, MAC: mac(5)}, drivers.ErrBusy, "queue 6's"},
		{"a queue that another has", drivers.Config{Queues: []int{5}, MAC: mac(9)}, drivers.ErrBusy, "queue 6"},
		{"a queue that is not there", drivers.Config{Queues: []int{64}, MAC: mac(9)}, drivers.ErrUnsupported, "queue 65"},
		{"no address", drivers.Config{Queues: []int{2}}, drivers.ErrUnsupported, "an address and a queue each"},
		{"with tags", drivers.Config{Queues: []int{2}, MAC: mac(9), Tagged: true}, drivers.ErrUnsupported, "VLAN"},
	} {
		if _, err := try(t, k.c); !errors.Is(err, k.err) || !strings.Contains(err.Error(), k.says) {
			t.Errorf("%s: %v", k.name, err)
		}
	}
	// One goes, and comes back.
	ports[5].End(t)
	delete(ports, 5)
	look(packet(r, mac(5)))
	look(packet(r, broadcast), 0, 1, 63)
	ports[5] = must(t, drivers.Config{Queues: []int{5}, MAC: mac(5)})
	look(packet(r, mac(5)), 5)
}

// TestAddresses: ports that share the hash may have addresses beside the
// device's own, and get what is for any of them.
func TestAddresses(t *testing.T) {
	c := newCable(t)
	a, b := [6]byte{2, 0, 0, 0, 0, 0xa}, [6]byte{2, 0, 0, 0, 0, 0xb}
	ports := []*station{must(t, drivers.Config{Queues: []int{0}, Every: 2, MAC: a}), must(t, drivers.Config{Queues: []int{1}, Every: 2, MAC: b, Tagged: true})}
	r := rand.New(rand.NewPCG(3, 4))
	n := 0
	for range 200 {
		for _, mac := range [][6]byte{a, b} {
			if !c.chip[0].Receive(packet(r, mac)) {
				t.Fatal("not received")
			}
		}
		n += len(ports[0].Take()) + len(ports[1].Take())
	}
	if n != 400 {
		t.Errorf("%d of 400 frames arrive", n)
	}
	// A tag stays in the frame, which may be longer by it.
	f := append(append(bytes.Clone(b[:]), 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 7, 0x88, 0xb5), make([]byte, 1500)...)
	if !c.chip[0].Receive(f) {
		t.Fatal("a frame with a tag is not received")
	}
	if got := append(ports[0].Take(), ports[1].Take()...); len(got) != 1 || got[0] != string(f) {
		t.Errorf("%d frames with a tag arrive", len(got))
	}
	ports[1].End(t)
	if c.chip[0].Receive(packet(r, b)) || !c.chip[0].Receive(packet(r, a)) {
		t.Error("the address of a port that is closed is still received, or another's is not")
	}
	ports[0].Take()
}

// TestTwoWays: the first port decides how frames go to queues.
func TestTwoWays(t *testing.T) {
	newCable(t)
	must(t, drivers.Config{Queues: []int{0}})
	p := must(t, drivers.Config{Queues: []int{1}, MAC: [6]byte{2, 0, 0, 0, 0, 1}})
	if p.Info().Queues != 1 {
		t.Errorf("%+v", p.Info())
	}
	if _, err := try(t, drivers.Config{Queues: []int{16}}); !errors.Is(err, drivers.ErrUnsupported) || !strings.Contains(err.Error(), "has 16") {
		t.Errorf("%v", err)
	}
}
