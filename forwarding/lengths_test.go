package forwarding

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"vita/drivers/memory"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// Longest-prefix match through the whole plane: every length, of both families,
// out and in. asm/lpm compares lookups with a linear scan; here it is what
// becomes of packets that counts.

// flipped returns an address with one bit, counted from the first, the other way.
func flipped(a netip.Addr, bit int) netip.Addr {
	b := a.AsSlice()
	b[bit/8] ^= 0x80 >> (bit % 8)
	out, _ := netip.AddrFromSlice(b)
	return out
}

// plain is a packet between two addresses of a family.
func plain(src, dst netip.Addr) []byte {
	if src.Is4() {
		return frame{src: src.String(), to: dst.String(), proto: 200, payload: make([]byte, 8)}.bytes()[wire.EthernetLen:]
	}
	return packet6(src.String(), dst.String(), 200, 64, make([]byte, 8))
}

// lengths is a family with what the tests need of it.
type lengths struct {
	name string
	base netip.Addr // of which all nets are parts
	host netip.Addr // in the private network
}

var bothLengths = []lengths{
	{"IPv4", addr("10.85.170.85"), addr("192.168.1.7")},
	{"IPv6", addr("2001:db8:5a5a:a5a5:5a5a:a5a5:5a5a:a5a5"), addr("2001:db8:a::7")},
}

// spiOf returns the SPI of a frame that went out.
func (k bothWays) spiOf(f []byte) uint32 { return wire.ESP(f[k.header:]).SPI() }

// newLengthsRig is an engine with room for much, and what newRigBoth has but for
// its route, which is not applied yet.
func newLengthsRig(t *testing.T, o Options) *rig {
	t.Helper()
	r := newEngine(t, o)
	r.spec = newRigBoth(t, false).spec
	r.spec.Routes = nil
	r.spec.Private.Link.Ifname, r.private = newWire(t, memory.Options{})
	r.spec.Public[0].Link.Ifname, r.public = newWire(t, memory.Options{})
	return r
}

// TestEveryLengthNested has a route for each prefix length of one address, each
// within the one before. An address whose first differing bit is the n-th
// belongs to the route of length n, and to no other, both out and in.
func TestEveryLengthNested(t *testing.T) {
	k := bothKinds["in IPv4"]
	for _, l := range bothLengths {
		t.Run(l.name, func(t *testing.T) {
			r := newLengthsRig(t, Options{MaxRoutes: 256, MaxSAs: 512})
			bits := l.base.BitLen()
			for n := range bits + 1 {
				r.spec.Routes = append(r.spec.Routes, tables.Route{
					ID: fmt.Sprint("n", n), SPI: uint32(1000 + n), Gateways: []tables.Gateway{{Queue: 1, IP: addr("203.0.113.2")}},
					Nets: []netip.Prefix{netip.PrefixFrom(l.base, n).Masked()},
				})
			}
			r.apply()
			for n := range bits + 1 {
				r.install(client.SA{Route: fmt.Sprint("n", n), Direction: client.Outbound, SPI: uint32(n + 1)})
				r.install(client.SA{Route: fmt.Sprint("n", n), Direction: client.Inbound, SPI: uint32(n + 1)})
			}
			w, goOn := r.still()
			defer goOn()
			for n := range bits + 1 {
				a := l.base
				if n < bits {
					a = flipped(a, n)
				}
				r.private.Inject(k.out(plain(l.host, a)))
				w.turn()
				if got := r.public.Drain(); len(got) != 1 || k.spiOf(got[0]) != uint32(n+1) {
					t.Errorf("%s, of length %d: %d packets went out, %x", a, n, len(got), got)
				}
				// It may come from there by the same route alone.
				before := w.me.Drops[drop.InboundPolicy]
				next, in := uint8(4), plain(a, l.host)
				if !a.Is4() {
					next = 41
				}
				others := uint64(0)
				for m := max(n-1, 0); m <= min(n+1, bits); m++ {
					p := newRemote(t, uint32(m+1))
					r.public.Inject(k.sealed(p, uint64(n+1), in, next))
					if m != n {
						others++
					}
				}
				w.turn()
				if got := r.private.Drain(); len(got) != 1 || w.me.Drops[drop.InboundPolicy] != before+others {
					t.Errorf("%s, of length %d: %d packets came in, %d were not let in, want %d", a, n, len(got), w.me.Drops[drop.InboundPolicy]-before, others)
				}
			}
		})
	}
}

// TestEveryLengthAlone has one route, of each length in turn: the first and the
// last address of its net are in it, those before and behind are not.
func TestEveryLengthAlone(t *testing.T) {
	for _, l := range bothLengths {
		t.Run(l.name, func(t *testing.T) {
			r := newRigBoth(t, true)
			k := bothKinds["in IPv6"]
			nets := map[bool]string{true: "2001:db8:b::/48", false: "10.2.0.0/16"} // of the other family
			r.spec.Routes[0].Nets = []netip.Prefix{mustPrefix(nets[l.base.Is4()])}
			r.apply()
			r.install(client.SA{Direction: client.Outbound, SPI: 4711})
			for n := range l.base.BitLen() + 1 {
				net := netip.PrefixFrom(l.base, n).Masked()
				r.spec.Routes[0].Nets[0] = net
				r.apply()
				w, goOn := r.still()
				first := net.Addr()
				last := first
				for bit := n; bit < l.base.BitLen(); bit++ {
					last = flipped(last, bit)
				}
				for _, a := range []netip.Addr{first.Prev(), first, last, last.Next(), l.base} {
					if !a.IsValid() || martian(a) {
						continue
					}
					r.private.Inject(k.out(plain(l.host, a)))
					w.turn()
					if got := len(r.public.Drain()); (got == 1) != net.Contains(a) {
						t.Errorf("net %s: %d packets to %s went out", net, got, a)
					}
					r.private.Drain() // net unreachable
				}
				goOn()
			}
		})
	}
}

func martian(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return wire.Martian(wire.Be32(b[:]))
	}
	b := a.As16()
	return wire.Martian6(&b)
}

// TestManyRoutesThroughThePlane has 100 000 routes with a net of each family,
// and default routes besides: packets to a thousand of them, and to what lies
// just beside, take the right one.
func TestManyRoutesThroughThePlane(t *testing.T) {
	const routes, used = 100_000, 1000
	r := newLengthsRig(t, Options{MaxRoutes: 1 << 18, MaxSAs: 1 << 12})
	net4 := func(i int) netip.Prefix { // 20.0.0.0/24, 20.0.2.0/24 and so on: what is between belongs to nobody
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 20<<24+uint32(i)<<9)
		return netip.PrefixFrom(netip.AddrFrom4(b), 24)
	}
	net6 := func(i int) netip.Prefix {
		b := addr("2001:db8::").As16()
		binary.BigEndian.PutUint32(b[4:], uint32(i)<<1)
		return netip.PrefixFrom(netip.AddrFrom16(b), 64)
	}
	for i := range routes {
		r.spec.Routes = append(r.spec.Routes, tables.Route{
			ID: fmt.Sprint("r", i), SPI: uint32(1000 + i), Gateways: []tables.Gateway{{Queue: 1, IP: addr("203.0.113.2")}},
			Nets: []netip.Prefix{net4(i), net6(i)},
		})
	}
	r.spec.Routes = append(r.spec.Routes, tables.Route{
		ID: "rest", SPI: 1, Gateways: []tables.Gateway{{Queue: 1, IP: addr("203.0.113.2")}}, Nets: []netip.Prefix{mustPrefix("0.0.0.0/0"), mustPrefix("::/0")},
	})
	r.apply()
	r.install(client.SA{Route: "rest", Direction: client.Outbound, SPI: 7})
	for i := 0; i < routes; i += routes / used {
		r.install(client.SA{Route: fmt.Sprint("r", i), Direction: client.Outbound, SPI: uint32(1000 + i)})
	}
	w, goOn := r.still()
	defer goOn()
	k := bothKinds["in IPv4"]
	for i := 0; i < routes; i += routes / used {
		for _, c := range []struct {
			net  netip.Prefix
			host netip.Addr
			hit  byte // the last byte of its own address
		}{{net4(i), bothLengths[0].host, 255}, {net6(i), bothLengths[1].host, 255}} {
			b := c.net.Addr().AsSlice()
			b[len(b)-1] = c.hit
			in, _ := netip.AddrFromSlice(b)
			beside := flipped(in, c.net.Bits()-1) // the next net, which nobody has
			r.private.Inject(k.out(plain(c.host, in)), k.out(plain(c.host, beside)))
			w.turn()
			got := r.public.Drain()
			if len(got) != 2 || k.spiOf(got[0]) != uint32(1000+i) || k.spiOf(got[1]) != 7 {
				t.Fatalf("net %s: %d packets went out: %x", c.net, len(got), got)
			}
		}
	}
}
