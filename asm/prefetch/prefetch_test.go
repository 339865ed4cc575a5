package prefetch

import "testing"

// Nothing can be seen of a prefetch but that nothing happens, whatever the
// pointers are, and that nothing is written.
func TestLines(t *testing.T) {
	Lines[int](nil, 64)
	Lines([]*int{nil}, 0)
	var a [40]uint64
	for i := range a {
		a[i] = uint64(i)
	}
	p := []*uint64{nil, &a[0], &a[39], nil}
	for size := range 400 {
		Lines(p, size)
	}
	for i := range a {
		if a[i] != uint64(i) {
			t.Fatalf("word %d became %d", i, a[i])
		}
	}
	if n := testing.AllocsPerRun(100, func() { Lines(p, 128) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkLines uses 64 places at random, each in an order of its own lines
// that the processor learns only as it goes, after asking for them or not.
func BenchmarkLines(b *testing.B) {
	type place [4][8]uint64
	far := make([]place, 1<<20)
	for i := range far {
		for l := range far[i] {
			far[i][l][0] = uint64(3*l+1) % 4
		}
	}
	for _, ask := range []bool{false, true} {
		b.Run(map[bool]string{false: "not asked for", true: "asked for"}[ask], func(b *testing.B) {
			x := uint64(1)
			var p [64]*place
			for b.Loop() {
				for i := range p {
					x = x*6364136223846793005 + 1442695040888963407
					p[i] = &far[x>>44]
				}
				if ask {
					Lines(p[:], 4*Line)
				}
				for _, p := range p {
					l := x & 3
					for range 4 {
						l = p[l][0]
					}
					x += l
				}
			}
		})
	}
}
