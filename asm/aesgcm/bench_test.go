package aesgcm

import (
	"strconv"
	"strings"
	"testing"
)

// Benchmarks of a batch of 64 packets of one size under one key, for each tier.
func BenchmarkAEAD(b *testing.B) {
	for _, tier := range tiersHere() {
		for _, bits := range []int{128, 256} {
			for _, size := range []int{40, 64, 96, 128, 256, 576, 1420, 8192} {
				for name, f := range map[string]func([]Op){"seal": Seal, "open": Open} {
					b.Run(tier+"/"+name+strconv.Itoa(bits)+"/"+strconv.Itoa(size), func(b *testing.B) {
						force(b, tier)
						var k Key
						if err := k.Expand(make([]byte, bits/8)); err != nil {
							b.Fatal(err)
						}
						ops := make([]Op, 64)
						for i := range ops {
							ops[i] = Op{Key: &k, AAD: make([]byte, 12), Buf: make([]byte, size+TagSize)}
						}
						b.SetBytes(int64(64 * size))
						for b.Loop() {
							f(ops)
						}
						b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/packet")
					})
				}
			}
		}
	}
}

// tiersHere lists what this processor has. The tier avx2 stands for as many as it
// has widths of registers.
func tiersHere() []string {
	var l []string
	for _, t := range []tier{genericTier, avx2Tier, avx512Tier} {
		if missing(t) != "" {
			continue
		}
		if t == avx2Tier {
			l = append(l, "avx2-128")
			if hasWide() {
				l = append(l, "avx2-256")
			}
			continue
		}
		l = append(l, t.String())
	}
	return l
}

// force chooses one of these, or the best of a tier, for the rest of a test.
func force(t testing.TB, name string) {
	t.Helper()
	before, wideBefore := Tier(), wide
	name, bits, _ := strings.Cut(name, "-")
	if err := Force(name); err != nil {
		t.Fatal(err)
	}
	if bits != "" {
		n, err := strconv.Atoi(bits)
		if err == nil {
			err = ForceRegisters(n)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		wide = wideBefore
		if err := Force(before); err != nil {
			t.Fatal(err)
		}
	})
}
