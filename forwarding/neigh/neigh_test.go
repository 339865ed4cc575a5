package neigh

import (
	"testing"
	"time"

	"vita/forwarding/wire"
)

var (
	ownMAC  = wire.MAC{2, 0, 0, 0, 0, 1}
	nextMAC = wire.MAC{2, 0, 0, 0, 0, 2}
)

func newHop() *Hop {
	return &Hop{MAC: ownMAC, IP: 0x0a000001, NextHop: 0x0a000002, Cell: new(Cell)}
}

func arp(op uint16, mac *wire.MAC, sender, target uint32) wire.ARP {
	b := make([]byte, wire.ARPLen)
	wire.PutARP(b, op, mac, sender, &wire.MAC{}, target)
	return b
}

func TestDue(t *testing.T) {
	h := newHop()
	s := int64(time.Second)
	for _, c := range []struct {
		at    int64
		found bool
		want  bool
	}{
		{100 * s, false, true},
		{100*s + 1, false, false},
		{101*s - 1, false, false},
		{101 * s, false, true},
		{102 * s, true, true},
		{103 * s, true, false},
		{107*s - 1, true, false},
		{107 * s, true, true},
		{112 * s, true, true},
	} {
		if c.found {
			h.Cell.Store(&nextMAC)
		}
		if got := h.Due(c.at); got != c.want {
			t.Errorf("at %d: due %v, want %v", c.at, got, c.want)
		}
	}
	h.Static = true
	if h.Due(1000 * s) {
		t.Error("a configured address is asked for")
	}
}

func TestHandle(t *testing.T) {
	other := wire.MAC{2, 0, 0, 0, 0, 3}
	group := wire.MAC{3, 0, 0, 0, 0, 3}
	for name, c := range map[string]struct {
		a      wire.ARP
		want   Verdict
		learnt bool
	}{
		"reply of the next hop":      {arp(wire.ARPReply, &nextMAC, 0x0a000002, 0x0a000001), Verdict{Reply: true, Change: Added}, true},
		"request of the next hop":    {arp(wire.ARPRequest, &nextMAC, 0x0a000002, 0x0a000001), Verdict{Request: true, Change: Added}, true},
		"next hop asks for another":  {arp(wire.ARPRequest, &nextMAC, 0x0a000002, 0x0a000009), Verdict{Change: Added}, true},
		"another asks for us":        {arp(wire.ARPRequest, &other, 0x0a000003, 0x0a000001), Verdict{Request: true}, false},
		"another asks for another":   {arp(wire.ARPRequest, &other, 0x0a000003, 0x0a000009), Verdict{}, false},
		"reply of another":           {arp(wire.ARPReply, &other, 0x0a000003, 0x0a000001), Verdict{}, false},
		"group address as sender":    {arp(wire.ARPReply, &group, 0x0a000002, 0x0a000001), Verdict{}, false},
		"no address as sender":       {arp(wire.ARPRequest, &wire.MAC{}, 0x0a000002, 0x0a000001), Verdict{}, false},
		"probe (RFC 5227) for ours":  {arp(wire.ARPRequest, &other, 0, 0x0a000001), Verdict{Request: true}, false},
		"neither request nor reply":  {arp(3, &nextMAC, 0x0a000002, 0x0a000001), Verdict{}, false},
		"somebody else says it's us": {arp(wire.ARPReply, &other, 0x0a000001, 0x0a000001), Verdict{}, false},
	} {
		h := newHop()
		if got := h.Handle(c.a); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		mac, ok := h.Cell.Load()
		if ok != c.learnt || ok && mac != nextMAC {
			t.Errorf("%s: the next hop is %x, %v", name, mac, ok)
		}
	}
}

func TestChangeOfAddress(t *testing.T) {
	h := newHop()
	for i, c := range []struct {
		mac  wire.MAC
		want Change
	}{{nextMAC, Added}, {nextMAC, Same}, {ownMAC, Updated}, {nextMAC, Updated}} {
		if got := h.Handle(arp(wire.ARPReply, &c.mac, 0x0a000002, 0x0a000001)).Change; got != c.want {
			t.Errorf("step %d: %d, want %d", i, got, c.want)
		}
	}
	h.Static = true
	h.Handle(arp(wire.ARPReply, &ownMAC, 0x0a000002, 0x0a000001))
	if mac, _ := h.Cell.Load(); mac != nextMAC {
		t.Error("a configured address was overwritten")
	}
}

func TestFrames(t *testing.T) {
	h := newHop()
	f := make([]byte, FrameLen)
	h.Request(f)
	a, ok := wire.ParseARP(f[wire.EthernetLen:])
	if e := wire.Ethernet(f); !ok || *e.Dst() != broadcast || *e.Src() != ownMAC || e.Type() != wire.TypeARP ||
		a.Op() != wire.ARPRequest || *a.SenderMAC() != ownMAC || a.SenderIP() != h.IP || a.TargetIP() != h.NextHop {
		t.Errorf("request %x", f)
	}
	wire.Ethernet(f).Put(&broadcast, &nextMAC, wire.TypeARP)
	wire.PutARP(f[14:], wire.ARPRequest, &nextMAC, h.NextHop, &wire.MAC{}, h.IP)
	h.Answer(f)
	a, ok = wire.ParseARP(f[wire.EthernetLen:])
	if e := wire.Ethernet(f); !ok || *e.Dst() != nextMAC || *e.Src() != ownMAC || a.Op() != wire.ARPReply ||
		*a.SenderMAC() != ownMAC || a.SenderIP() != h.IP || a.TargetIP() != h.NextHop {
		t.Errorf("answer %x", f)
	}
}
