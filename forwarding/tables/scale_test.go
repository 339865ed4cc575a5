package tables

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"vita/asm/lpm"
)

// TestManyRoutes builds 100 000 routes of all prefix lengths, nested in each
// other, some with several nets and one the default, in memory of the default
// size, and compares lookups with a search by prefix length.
func TestManyRoutes(t *testing.T) {
	const routes, lookups = 100_000, 200_000
	for _, bits := range []int{32, 128} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(bits), 1))
			random := func() netip.Addr {
				var b [16]byte
				binary.BigEndian.PutUint64(b[:], rnd.Uint64())
				binary.BigEndian.PutUint64(b[8:], rnd.Uint64())
				if bits == 32 {
					return netip.AddrFrom4([4]byte(b[:4]))
				}
				b[0], b[1], b[2], b[3] = 0x20, 1, 0xd, 0xb8
				return netip.AddrFrom16(b)
			}
			gateway := []Gateway{{1, netip.MustParseAddr("192.0.2.1")}}
			shortest := 8
			if bits == 128 {
				gateway[0].IP, shortest = netip.MustParseAddr("2001:db8::1"), 32
			}
			nets := make(map[netip.Prefix]string)
			var all []netip.Prefix
			fresh := func(id string) netip.Prefix {
				for {
					n, err := random().Prefix(shortest + rnd.IntN(bits-shortest+1))
					if len(all) > 0 && rnd.IntN(2) == 0 { // within another
						in := all[rnd.IntN(len(all))]
						n, err = in.Addr().Prefix(in.Bits() + rnd.IntN(bits-in.Bits()+1))
					}
					if err != nil {
						t.Fatal(err)
					}
					if _, ok := nets[n]; !ok {
						nets[n] = id
						all = append(all, n)
						return n
					}
				}
			}
			s := &Spec{Routes: make([]Route, routes)}
			for i := range s.Routes {
				r := &s.Routes[i]
				*r = Route{ID: fmt.Sprint("r", i), SPI: uint32(i), Gateways: gateway}
				if i == 0 {
					n := netip.PrefixFrom(gateway[0].IP, 0).Masked()
					nets[n] = r.ID
					r.Nets = []netip.Prefix{n}
				}
				for range 1 + rnd.IntN(5)/4 {
					r.Nets = append(r.Nets, fresh(r.ID))
				}
			}
			o := Options{}
			if err := o.fill(); err != nil {
				t.Fatal(err)
			}
			mem := memory(generationRoom(o.MaxRoutes))
			if err := Build(mem, s, nil, 1, o.MaxRoutes); err != nil {
				t.Fatal(err)
			}
			tb, err := Open(mem)
			if err != nil {
				t.Fatal(err)
			}
			addrs := make([]netip.Addr, lookups)
			v4, v6, out := make([]uint32, lookups), make([][16]byte, lookups), make([]uint32, lookups)
			for i := range addrs {
				addrs[i] = random()
				if rnd.IntN(4) > 0 { // at a net's first address, or before it
					addrs[i] = all[rnd.IntN(len(all))].Addr()
					if before := addrs[i].Prev(); rnd.IntN(4) == 0 && before.IsValid() {
						addrs[i] = before
					}
				}
				v6[i] = addrs[i].As16()
				v4[i] = binary.BigEndian.Uint32(v6[i][12:])
			}
			if bits == 32 {
				tb.LPM.Lookup(out, v4)
			} else {
				tb.LPM6.Lookup(out, v6)
			}
			for i, a := range addrs {
				want := ""
				for n := bits; n >= 0 && want == ""; n-- {
					p, err := a.Prefix(n)
					if err != nil {
						t.Fatal(err)
					}
					want = nets[p]
				}
				if out[i] == lpm.Miss || tb.RouteID(int(out[i])) != want {
					t.Fatalf("%s is found in slot %d, want route %s", a, out[i], want)
				}
			}
		})
	}
}
