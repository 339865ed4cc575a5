package lpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/gaissmai/bart"
)

// memory returns n bytes that begin at a cache line.
func memory(n int) []byte {
	w := make([][lineSize]byte, n/lineSize+2)
	b := unsafe.Slice(&w[0][0], len(w)*lineSize)
	if off := int(uintptr(unsafe.Pointer(&w[0])) % lineSize); off != 0 {
		b = b[lineSize-off:]
	}
	return b[:n:n]
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func as4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// lookup builds a table of ps and looks addrs up, all in one batch.
func lookup(t testing.TB, ps []Prefix, addrs []netip.Addr, is4 bool) []uint32 {
	t.Helper()
	out := make([]uint32, len(addrs))
	if is4 {
		mem := memory(Size4(len(ps)))
		used, err := Build4(mem, ps)
		if err != nil {
			t.Fatal(err)
		}
		table, err := Open4(mem[:used])
		if err != nil {
			t.Fatal(err)
		}
		in := make([]uint32, len(addrs))
		for i, a := range addrs {
			in[i] = as4(a)
		}
		table.Lookup(out, in)
		return out
	}
	mem := memory(Size6(len(ps)))
	used, err := Build6(mem, ps)
	if err != nil {
		t.Fatal(err)
	}
	table, err := Open6(mem[:used])
	if err != nil {
		t.Fatal(err)
	}
	in := make([][16]byte, len(addrs))
	for i, a := range addrs {
		in[i] = a.As16()
	}
	table.Lookup(out, in)
	return out
}

func linear(ps []Prefix, a netip.Addr) uint32 {
	best, value := -1, uint32(Miss)
	for _, p := range ps {
		if p.Net.Contains(a) && p.Net.Bits() > best {
			best, value = p.Net.Bits(), p.Value
		}
	}
	return value
}

// edges returns the addresses where the answer can change: first and last of
// every prefix, and their neighbours.
func edges(ps []Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range ps {
		first := p.Net.Addr()
		b := first.AsSlice()
		for i := p.Net.Bits(); i < len(b)*8; i++ {
			b[i/8] |= 0x80 >> (i % 8)
		}
		last, _ := netip.AddrFromSlice(b)
		out = append(out, first, last)
		if a := first.Prev(); a.IsValid() {
			out = append(out, a)
		}
		if a := last.Next(); a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

func randomAddr(r *rand.Rand, is4 bool) netip.Addr {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:], r.Uint64())
	binary.NativeEndian.PutUint64(b[8:], r.Uint64())
	if is4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}

// randomSet makes n different prefixes, many of them inside one another.
func randomSet(r *rand.Rand, n int, is4 bool) []Prefix {
	maxBits := 128
	if is4 {
		maxBits = 32
	}
	seen := map[netip.Prefix]bool{}
	var out []Prefix
	for tries := 0; len(out) < n && tries < 10*n; tries++ {
		a := randomAddr(r, is4)
		if len(out) > 0 && r.IntN(4) != 0 { // inside or beside one we have
			b := out[r.IntN(len(out))].Net.Addr().AsSlice()
			from := r.IntN(maxBits)
			x := a.AsSlice()
			for i := from; i < maxBits; i++ {
				b[i/8] = b[i/8]&^(0x80>>(i%8)) | x[i/8]&(0x80>>(i%8))
			}
			a, _ = netip.AddrFromSlice(b)
		}
		p := netip.PrefixFrom(a, r.IntN(maxBits+1)).Masked()
		if !seen[p] {
			seen[p] = true
			out = append(out, Prefix{p, r.Uint32N(MaxValue + 1)})
		}
	}
	return out
}

func TestEveryPrefixLength(t *testing.T) {
	for _, c := range []struct {
		base    string
		maxBits int
	}{
		{"10.170.85.201", 32},
		{"255.255.255.255", 32},
		{"0.0.0.0", 32},
		{"2001:db8:aaaa:5555:cccc:3333:9999:6789", 128},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 128},
		{"::", 128},
	} {
		a := netip.MustParseAddr(c.base)
		var all []Prefix
		for n := 0; n <= c.maxBits; n++ {
			p := Prefix{netip.PrefixFrom(a, n).Masked(), uint32(n)}
			all = append(all, p)
			check(t, []Prefix{p}, edges([]Prefix{p}), a.Is4())
		}
		check(t, all, edges(all), a.Is4()) // all of them, nested
	}
}

// What Vita gets wrong: a prefix whose length is no multiple of 8.
func TestPrefixWithinAByte(t *testing.T) {
	ps := []Prefix{{pfx("10.10.16.0/20"), 1}}
	got := lookup(t, ps, []netip.Addr{netip.MustParseAddr("10.10.17.1"), netip.MustParseAddr("10.10.32.1")}, true)
	if got[0] != 1 || got[1] != Miss {
		t.Fatalf("10.10.17.1 → %d, 10.10.32.1 → %d; want 1 and a miss", got[0], got[1])
	}
}

func check(t testing.TB, ps []Prefix, addrs []netip.Addr, is4 bool) {
	t.Helper()
	got := lookup(t, ps, addrs, is4)
	for i, a := range addrs {
		if want := linear(ps, a); got[i] != want {
			t.Fatalf("%v in %v: %d, want %d", a, ps, got[i], want)
		}
	}
}

func TestRandomSetsAgainstLinearScan(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 60 {
		for _, is4 := range []bool{true, false} {
			ps := randomSet(r, r.IntN(60), is4)
			addrs := edges(ps)
			for range 50 {
				addrs = append(addrs, randomAddr(r, is4))
			}
			check(t, ps, addrs, is4)
		}
	}
}

func TestLargeSetsAgainstBart(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, is4 := range []bool{true, false} {
		ps := randomSet(r, 30000, is4)
		var oracle bart.Table[uint32]
		for _, p := range ps {
			oracle.Insert(p.Net, p.Value)
		}
		addrs := edges(ps)
		for range 20000 {
			addrs = append(addrs, randomAddr(r, is4))
		}
		got := lookup(t, ps, addrs, is4)
		hits := 0
		for i, a := range addrs {
			want, ok := oracle.Lookup(a)
			if !ok {
				want = Miss
			} else {
				hits++
			}
			if got[i] != want {
				t.Fatalf("%v: %d, want %d", a, got[i], want)
			}
		}
		if hits < len(ps) {
			t.Fatalf("only %d of %d lookups hit", hits, len(addrs))
		}
	}
}

// The worst sets: prefixes that share nothing below the direct part, and
// alternating values that make a run of every leaf.
func TestSizeSuffices(t *testing.T) {
	for n := range 300 {
		var v4, v6, dense []Prefix
		for i := range n {
			a := netip.AddrFrom4([4]byte{byte(i >> 8), byte(i), 0x80, 1})
			v4 = append(v4, Prefix{netip.PrefixFrom(a, 32), uint32(i)})
			v6 = append(v6, Prefix{netip.PrefixFrom(netip.AddrFrom16([16]byte{byte(i >> 8), byte(i), 15: 1}), 128), uint32(i)})
			dense = append(dense, Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 7), byte(i << 1)}), 32), uint32(i)})
		}
		for _, set := range [][]Prefix{v4, dense} {
			if _, err := Build4(memory(Size4(n)), set); err != nil {
				t.Fatalf("IPv4, %d: %v", n, err)
			}
		}
		if _, err := Build6(memory(Size6(n)), v6); err != nil {
			t.Fatalf("IPv6, %d: %v", n, err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	mem := memory(Size4(4))
	for _, c := range []struct {
		ps   []Prefix
		want error
	}{
		{[]Prefix{{pfx("10.0.0.1/8"), 1}}, ErrPrefix},
		{[]Prefix{{pfx("2001:db8::/32"), 1}}, ErrPrefix},
		{[]Prefix{{netip.Prefix{}, 1}}, ErrPrefix},
		{[]Prefix{{pfx("10.0.0.0/8"), Miss}}, ErrPrefix},
		{[]Prefix{{pfx("10.0.0.0/8"), 1}, {pfx("11.0.0.0/8"), 1}, {pfx("10.0.0.0/8"), 2}}, ErrDuplicate},
	} {
		if _, err := Build4(mem, c.ps); !errors.Is(err, c.want) {
			t.Errorf("%v: %v, want %v", c.ps, err, c.want)
		}
	}
	if _, err := Build4(mem[:100], nil); !errors.Is(err, ErrSpace) {
		t.Errorf("small memory: %v", err)
	}
	if _, err := Build4(mem[1:], nil); !errors.Is(err, ErrSpace) {
		t.Errorf("unaligned memory: %v", err)
	}
	if _, err := Build6(mem, []Prefix{{pfx("10.0.0.0/8"), 1}}); !errors.Is(err, ErrPrefix) {
		t.Errorf("IPv4 prefix in a table of IPv6: %v", err)
	}
}

func TestZeroTableMisses(t *testing.T) {
	var t4 Table4
	var t6 Table6
	dst := []uint32{1, 2}
	t4.Lookup(dst, []uint32{3})
	t6.Lookup(dst[1:], make([][16]byte, 1))
	if dst[0] != Miss || dst[1] != Miss {
		t.Fatalf("%v", dst)
	}
}

// sample is a small table that has everything: short prefixes, blocks, and both
// kinds of bucket.
func sample(t testing.TB, is4 bool) []byte {
	t.Helper()
	mem := memory(Size6(16))
	ps := []Prefix{{pfx("0.0.0.0/0"), 7}, {pfx("10.1.2.0/24"), 2}, {pfx("10.1.128.0/17"), 3}, {pfx("11.0.0.0/13"), 4}}
	f, hosts := Build4, "10.1.2.%d/32"
	if !is4 {
		ps = []Prefix{{pfx("::/0"), 7}, {pfx("2001:db8::/32"), 2}, {pfx("2001:db8:1::/48"), 3}, {pfx("2002:db8::/32"), 3}, {pfx("2002:db8::1/128"), 5}}
		f, hosts = Build6, "2001:db8::%d/128"
	}
	for i := range 9 {
		ps = append(ps, Prefix{pfx(fmt.Sprintf(hosts, i)), uint32(100 + i)})
	}
	n, err := f(mem, ps)
	if err != nil {
		t.Fatal(err)
	}
	return mem[:n]
}

// Places in the samples, of k = 12.
const (
	sampleDirect = headerSize + 4<<(minBits-shortLess)
	sampleLines  = sampleDirect + 4<<minBits
)

func TestOpenRefusesDamage(t *testing.T) {
	le := binary.LittleEndian
	root := sampleDirect + 4*0x0a0 // of 10.0.0.0/12
	put := func(at int, v uint32) func([]byte) []byte {
		return func(m []byte) []byte { le.PutUint32(m[at:], v); return m }
	}
	// bucketAt returns the place of the bucket that the sample's last line is.
	bucketAt := func(m []byte) []byte { return m[len(m)-lineSize:] }
	damage := map[string]func(m []byte) []byte{
		"empty":              func([]byte) []byte { return nil },
		"cut":                func(m []byte) []byte { return m[:len(m)-1] },
		"magic":              func(m []byte) []byte { m[0]++; return m },
		"version":            func(m []byte) []byte { m[hdrVersion]++; return m },
		"family":             func(m []byte) []byte { m[hdrFamily] = 6; return m },
		"too few bits":       put(hdrBits, minBits-1),
		"too many bits":      put(hdrBits, 40),
		"line count":         put(hdrLines, 1<<29),
		"size":               func(m []byte) []byte { m[hdrSize]++; return m },
		"short entry":        put(headerSize, lineFlag|1),
		"line of no number":  put(root, lineFlag),
		"line too far":       put(root, lineFlag|1000),
		"bucket too far":     put(root, lineFlag|bucketFlag|1000),
		"line reached twice": put(root+4, lineFlag|1),
		"own child":          put(sampleLines, lineFlag|1),
		"no entry":           func(m []byte) []byte { le.PutUint32(bucketAt(m)[16:], 0); return m },
		"line in a bucket":   func(m []byte) []byte { le.PutUint32(bucketAt(m)[16:], lineFlag|1); return m },
		"long prefix":        func(m []byte) []byte { bucketAt(m)[32] = 32; return m },
		"line inherited":     func(m []byte) []byte { le.PutUint32(bucketAt(m)[36:], lineFlag|1); return m },
		"not aligned":        func(m []byte) []byte { c := memory(len(m) + 1)[1:]; copy(c, m); return c },
		"too deep": func([]byte) []byte {
			m := memory(sampleLines + 6*lineSize)
			copy(m, sample(t, true)[:sampleLines])
			le.PutUint32(m[hdrLines:], 6)
			le.PutUint64(m[hdrSize:], uint64(len(m)))
			for i := range 6 { // 12 bits and 6 times 4 are more than 32
				le.PutUint32(m[sampleLines+i*lineSize:], lineFlag|uint32(i+2)%7)
			}
			le.PutUint32(m[root:], lineFlag|1)
			return m
		},
	}
	for name, f := range damage {
		if _, err := Open4(f(sample(t, true))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := sample(t, false)
	long := 0
	for at := sampleLines; at < len(m); at += 4 {
		e := le.Uint32(m[at:])
		bucket := sampleLines + int(e&lineMask-1)*lineSize
		if e&^lineMask != lineFlag|bucketFlag || bucket >= len(m) || le.Uint32(m[bucket+56:]) == 0 {
			continue
		}
		long++ // a bucket with another line
		for name, v := range map[string]uint32{"other line too far": 1000, "own other line": e & lineMask} {
			m := sample(t, false)
			le.PutUint32(m[bucket+56:], v)
			if _, err := Open6(m); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if long == 0 {
		t.Error("no long bucket in the sample")
	}
	if _, err := Open4(sample(t, true)); err != nil {
		t.Error(err)
	}
	if _, err := Open6(m); err != nil {
		t.Error(err)
	}
}

// Memory shared with another process can change after Open has checked it.
func TestLookupsSurviveLaterDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for range 200 {
		m4, m6 := sample(t, true), sample(t, false)
		t4, err4 := Open4(m4)
		t6, err6 := Open6(m6)
		if err4 != nil || err6 != nil {
			t.Fatal(err4, err6)
		}
		a4 := []uint32{as4(netip.MustParseAddr("10.1.2.3")), 0, ^uint32(0), r.Uint32()}
		a6 := [][16]byte{netip.MustParseAddr("2001:db8::1").As16(), {}, randomAddr(r, false).As16()}
		for i := range 100 {
			for _, m := range [][]byte{m4, m6} {
				if i == 0 { // every path leads into the lines
					for at := sampleDirect; at < sampleLines; at += 4 {
						binary.LittleEndian.PutUint32(m[at:], lineFlag|r.Uint32N(2)*bucketFlag|r.Uint32N(16))
					}
				}
				at := sampleLines + r.IntN((len(m)-sampleLines)/4)*4
				switch r.IntN(3) {
				case 0: // on to some line
					binary.LittleEndian.PutUint32(m[at:], lineFlag|r.Uint32N(16))
				case 1: // far beyond all
					binary.LittleEndian.PutUint32(m[at:], r.Uint32())
				default:
					m[at] = byte(r.Uint32())
				}
			}
			out := make([]uint32, 4)
			t4.Lookup(out, a4)
			t6.Lookup(out, a6)
			for _, v := range out {
				if v > Miss {
					t.Fatalf("value %#x", v)
				}
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	// Only what follows the direct entries, and a few of those, is fuzzed: 16
	// KiB of input would leave the fuzzer little but zeros to change.
	full4, full6 := sample(f, true), sample(f, false)
	f.Add(full4[:headerSize], uint32(lineFlag|1), full4[sampleLines:])
	f.Add(full6[:headerSize], uint32(lineFlag|1), full6[sampleLines:])
	f.Add(full6[:headerSize], uint32(lineFlag|bucketFlag|2), full6[sampleLines:])
	f.Add([]byte{}, uint32(0), []byte{})
	room := memory(sampleLines + 1<<16)
	f.Fuzz(func(t *testing.T, header []byte, direct uint32, rest []byte) {
		rest = rest[:min(len(rest), 1<<16)]
		mem := room[:sampleLines+len(rest)]
		clear(mem[:sampleLines])
		copy(mem[:headerSize], header)
		copy(mem[sampleLines:], rest)
		for _, i := range []int{0, 0x0a0, 0xfff, 0x200} {
			binary.LittleEndian.PutUint32(mem[sampleDirect+4*i:], direct)
			direct += uint32(len(rest) & 3)
		}
		addrs := []uint32{0, 1, 0x0a010203, 0xffffffff, uint32(len(rest)) * 2654435761}
		out := make([]uint32, len(addrs))
		if table, err := Open4(mem); err == nil {
			table.Lookup(out, addrs)
		}
		if table, err := Open6(mem); err == nil {
			table.Lookup(out, [][16]byte{{}, {0x20, 0x01, 0x0d, 0xb8, 15: 1}, {0: 255, 15: 255}})
		}
		// Unchecked, as after a change by the other process.
		damaged := views(mem, minBits, len(rest)/lineSize)
		lookup4(&damaged, out, addrs)
		lookup6(&damaged, out[:3], [][16]byte{{}, {0x20, 0x01, 0x0d, 0xb8, 15: 1}, {0: 255, 15: 255}})
		for _, v := range out {
			if v > Miss {
				t.Fatalf("value %#x", v)
			}
		}
	})
}

func TestLookupDoesNotAllocate(t *testing.T) {
	t4, err := Open4(sample(t, true))
	if err != nil {
		t.Fatal(err)
	}
	dst, addrs := make([]uint32, 64), make([]uint32, 64)
	if n := testing.AllocsPerRun(100, func() { t4.Lookup(dst, addrs) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	r := rand.New(rand.NewPCG(17, 18))
	for _, n := range []int{1, 100, 100000} {
		seen := map[netip.Prefix]bool{}
		var ps []Prefix
		var addrs []uint32
		for len(ps) < n {
			p := netip.PrefixFrom(randomAddr(r, true), 16+r.IntN(9)).Masked()
			if !seen[p] {
				seen[p] = true
				ps = append(ps, Prefix{p, uint32(len(ps))})
				addrs = append(addrs, as4(p.Addr())|r.Uint32N(200))
			}
		}
		for len(addrs) < 64 || len(addrs)%64 != 0 {
			addrs = append(addrs, addrs[r.IntN(len(addrs))])
		}
		mem := memory(Size4(n))
		if _, err := Build4(mem, ps); err != nil {
			b.Fatal(err)
		}
		table, err := Open4(mem)
		if err != nil {
			b.Fatal(err)
		}
		dst := make([]uint32, 64)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for i := 0; b.Loop(); i += 64 {
				at := i % len(addrs)
				table.Lookup(dst, addrs[at:at+64])
			}
		})
	}
}
