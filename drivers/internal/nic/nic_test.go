package nic

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vita/drivers"
	"vita/drivers/internal/backend"
	"vita/drivers/internal/dma"
	"vita/drivers/internal/model"
	"vita/drivers/internal/pci"
	"vita/internal/pktbuf"
)

// tiny is the driver of a card that does nothing but to be there.
type tiny struct {
	Card
	ring   *dma.Memory
	device pci.Device
	queues int
}

func (t *tiny) Queues() int { return t.queues }
func (t *tiny) Close() error {
	return errors.Join(t.device.Reset(), t.ring.Free())
}

func openTiny(d pci.Device, _ *drivers.Config) (Card, error) {
	ring, err := dma.Alloc(d, 4096)
	if err != nil {
		return nil, err
	}
	return &tiny{ring: ring, device: d, queues: 3}, pci.SetMaster(d, true)
}

// cards returns the tiny driver and a card for it under the address "model:x".
func cards(t *testing.T, o model.Options) (*Cards, *model.Device) {
	t.Helper()
	if o.Address == "" {
		o.Address = "model:x"
	}
	if o.ID.Vendor == 0 {
		o.ID = pci.ID{Vendor: 0x1af4, Device: 1}
	}
	d := model.New(o)
	t.Cleanup(backend.Provide(o.Address, backend.Source{ID: o.ID, Open: d.Open}))
	return &Cards{Chips: []Chip{{Vendor: 0x1af4, Device: 1, Name: "tiny"}}, Open: openTiny}, d
}

func newPool(t *testing.T) *pktbuf.Pool {
	t.Helper()
	p, err := pktbuf.NewPool(pktbuf.Options{Frames: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// TestShares opens and closes ports of one card and looks at what is mapped,
// when the card is reset, and who leads.
func TestShares(t *testing.T) {
	c, d := cards(t, model.Options{})
	pools := []*pktbuf.Pool{newPool(t), newPool(t)}
	open := func(pool, queue int) *Share {
		t.Helper()
		s, err := c.Acquire(&drivers.Config{PCI: "model:x", Pool: pools[pool], Queues: []int{queue}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a := open(0, 1)
	if !a.Leads() || !d.Master() || d.Mapped() != 2 || d.At(a.IOVA, 16*4096) == nil || d.At(a.IOVA+1, 16*4096) != nil {
		t.Fatalf("first port: leads %v, master %v, %d ranges mapped", a.Leads(), d.Master(), d.Mapped())
	}
	b := open(1, 0)
	if a.Leads() || !b.Leads() || d.Mapped() != 3 || a.Card != b.Card || a.IOVA == b.IOVA {
		t.Fatalf("second port: leads %v, %d ranges mapped", b.Leads(), d.Mapped())
	}
	e := open(1, 2)
	if d.Mapped() != 3 || e.IOVA != b.IOVA || !slices.Equal(a.Others(), []int{0, 2}) {
		t.Fatalf("third port: %d ranges mapped, others %v", d.Mapped(), a.Others())
	}
	if err := b.Release(); err != nil || !a.Leads() || d.Mapped() != 3 || d.Resets() != 0 {
		t.Fatalf("%v: leads %v, %d ranges mapped, %d resets", err, a.Leads(), d.Mapped(), d.Resets())
	}
	if err := e.Release(); err != nil || d.Mapped() != 2 {
		t.Fatalf("%v: %d ranges mapped", err, d.Mapped())
	}
	if err := a.Release(); err != nil || d.Mapped() != 0 || d.Resets() != 1 || d.Master() {
		t.Fatalf("%v: %d ranges mapped, %d resets", err, d.Mapped(), d.Resets())
	}
	if err := open(0, 0).Release(); err != nil { // and again
		t.Fatal(err)
	}
}

func TestAcquireRefuses(t *testing.T) {
	pool := newPool(t)
	for _, k := range []struct {
		name    string
		options model.Options
		config  drivers.Config
		err     error
		says    string
	}{
		{"another device", model.Options{ID: pci.ID{Vendor: 0x8086, Device: 0x1234}}, drivers.Config{}, drivers.ErrUnknownDevice, "device 8086:1234"},
		{"too many queues", model.Options{}, drivers.Config{Queues: []int{3}}, drivers.ErrUnsupported, "queue 4: the device has 3"},
		{"a queue twice", model.Options{}, drivers.Config{Queues: []int{0, 0}}, drivers.ErrBusy, ""},
		{"no memory for the device", model.Options{MapFail: errors.New("out of it")}, drivers.Config{}, nil, "out of it"},
		{"no such device", model.Options{}, drivers.Config{PCI: "0000:ff:1f.7"}, drivers.ErrNoInterface, "0000:ff:1f.7"},
		{"no address", model.Options{}, drivers.Config{PCI: "eth0"}, nil, "is no PCI address"},
	} {
		t.Run(k.name, func(t *testing.T) {
			c, d := cards(t, k.options)
			if k.config.PCI == "" {
				k.config.PCI = "model:x"
			}
			k.config.Pool = pool
			_, err := c.Acquire(&k.config)
			if err == nil || k.err != nil && !errors.Is(err, k.err) || !strings.Contains(err.Error(), k.says) {
				t.Fatalf("%v", err)
			}
			if d.Mapped() != 0 || d.Master() {
				t.Fatalf("%d ranges mapped, master %v", d.Mapped(), d.Master())
			}
			if o, err := d.Open(); err != nil {
				t.Fatalf("the device stays open: %v", err)
			} else if err := o.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestQueuesOfOwnDevices(t *testing.T) {
	for _, k := range []struct {
		c    drivers.Config
		want []int
	}{
		{drivers.Config{}, []int{0}},
		{drivers.Config{Queues: []int{1}, Every: 3}, []int{1}},
		{drivers.Config{Queues: []int{5}}, []int{5}},
		{drivers.Config{Queues: []int{0, 2}}, []int{0, 2}},
	} {
		if got := QueuesOf(&k.c); !slices.Equal(got, k.want) {
			t.Errorf("%+v: %v", k.c, got)
		}
	}
}

// TestToeplitz has the examples of the specification of receive side scaling.
func TestToeplitz(t *testing.T) {
	for _, k := range []struct {
		from, to           string
		fromPort, toPort   uint16
		addresses, andPort uint32
	}{
		{"66.9.149.187", "161.142.100.80", 2794, 1766, 0x323e8fc2, 0x51ccc178},
		{"199.92.111.2", "65.69.140.83", 14230, 4739, 0xd718262a, 0xc626b0ea},
		{"24.19.198.95", "12.22.207.184", 12898, 38024, 0xd2d0a5de, 0x5c2b394a},
		{"38.27.205.30", "209.142.163.6", 48228, 2217, 0x82989176, 0xafc7327f},
		{"153.39.163.191", "202.188.127.2", 44251, 1303, 0x5d1809c5, 0x10e828a2},
		{"3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", 2794, 1766, 0x2cc18cd5, 0x40207d3d},
		{"3ffe:501:8::260:97ff:fe40:efab", "ff02::1", 14230, 4739, 0x0f0c461c, 0xdde51bbf},
		{"3ffe:1900:4545:3:200:f8ff:fe21:67cf", "fe80::200:f8ff:fe21:67cf", 44251, 38024, 0x4b61e985, 0x02d1feef},
	} {
		for _, tag := range []bool{false, true} {
			f := tcp(k.from, k.to, k.fromPort, k.toPort, tag)
			if h, ok := HashFrame(&RSSKey, f, false); !ok || h != k.addresses {
				t.Errorf("%s to %s: %#x, want %#x", k.from, k.to, h, k.addresses)
			}
			if h, ok := HashFrame(&RSSKey, f, true); !ok || h != k.andPort {
				t.Errorf("%s to %s with ports: %#x, want %#x", k.from, k.to, h, k.andPort)
			}
		}
	}
	f := tcp("66.9.149.187", "161.142.100.80", 2794, 1766, false)
	f[14+6] = 0x20 // a fragment
	if h, ok := HashFrame(&RSSKey, f, true); !ok || h != 0x323e8fc2 {
		t.Errorf("fragment: %#x", h)
	}
	for n := range f { // shorter ones never fail
		_, _ = HashFrame(&RSSKey, f[:n], true)
	}
	if _, ok := HashFrame(&RSSKey, append(make([]byte, 12), 8, 6, 0, 1), true); ok {
		t.Error("ARP has a hash")
	}
}

func tcp(from, to string, fromPort, toPort uint16, tag bool) []byte {
	a, b := netip.MustParseAddr(from), netip.MustParseAddr(to)
	f := make([]byte, 12)
	if tag {
		f = append(f, 0x81, 0, 0, 5)
	}
	if a.Is4() {
		f = append(f, 8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0)
	} else {
		f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64)
	}
	f = append(append(f, a.AsSlice()...), b.AsSlice()...)
	f = binary.BigEndian.AppendUint16(f, fromPort)
	f = binary.BigEndian.AppendUint16(f, toPort)
	return append(f, make([]byte, 16)...)
}

func TestSpread(t *testing.T) {
	for _, k := range []struct {
		queues []int
		want   []uint8
		table  string
	}{
		{[]int{0}, nil, "0000000000000000"},
		{[]int{2, 5, 7}, nil, "0205070205070205"},
		{[]int{2, 5, 7}, []uint8{0, 0, 1, 2}, "0202050702020507"},
		{[]int{2}, []uint8{0, 1, 2}, "0202020202020202"},
		{nil, nil, "0000000000000000"},
	} {
		table := make([]uint8, 8)
		Spread(table, k.queues, k.want)
		if got := hex.EncodeToString(table); got != k.table {
			t.Errorf("%v by %v: %s, want %s", k.queues, k.want, got, k.table)
		}
	}
}

// port writes down what recovery has it do.
type port struct {
	m    Member
	log  *[]string
	name string
}

func (p *port) note(what string) { *p.log = append(*p.log, p.name+" "+what) }
func (p *port) Halt()            { p.note("halts") }
func (p *port) ResetCard()       { p.note("resets") }
func (p *port) Restart()         { p.note("restarts") }
func (p *port) flush() {
	if p.m.Pending() {
		p.m.Step(p)
	}
}

func TestRecovery(t *testing.T) {
	var r Recovery
	var log []string
	ports := make([]*port, 3)
	for i := range ports {
		ports[i] = &port{m: r.Join(), log: &log, name: fmt.Sprint(i)}
	}
	expect := func(want string) {
		t.Helper()
		if got := strings.Join(log, ", "); got != want {
			t.Fatalf("%s\nwant %s", got, want)
		}
		log = nil
	}
	a, b, c := ports[0], ports[1], ports[2]
	a.flush()
	expect("")
	r.Ask()
	r.Ask() // the second one finds it under way
	a.flush()
	a.flush()
	b.flush()
	expect("0 halts, 1 halts")
	c.flush()
	expect("2 halts, 2 resets, 2 restarts")
	// Another hang before the others have started again.
	r.Ask()
	a.flush()
	c.flush()
	expect("2 halts")
	b.flush()
	expect("1 resets, 1 restarts")
	a.flush()
	c.flush()
	a.flush()
	expect("0 restarts, 2 restarts")
	// One that leaves does not keep the others waiting.
	r.Ask()
	a.flush()
	c.flush()
	b.m.Leave(b)
	expect("0 halts, 2 halts, 1 resets")
	a.flush()
	r.Ask() // while c has not started
	c.m.Leave(c)
	a.flush()
	expect("0 restarts, 0 halts, 0 resets, 0 restarts")
	r.Ask()
	a.flush()
	expect("0 halts, 0 resets, 0 restarts")
	r.Ask()
	a.m.Leave(a)
	d := &port{m: r.Join(), log: &log, name: "3"}
	d.flush()
	expect("")
	if r.Resets() != 6 {
		t.Errorf("%d resets", r.Resets())
	}
}
