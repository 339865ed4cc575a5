package datastore

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/yangenc"
)

// many returns n routes that are valid together.
func many(n int) string {
	var b strings.Builder
	b.WriteString(private4 + public4)
	for i := range n {
		fmt.Fprintf(&b, `<route4 xmlns="vita:esp-gateway"><id>site%d</id><spi>%d</spi><preshared-key>%064x</preshared-key><net>%d.%d.%d.0/24</net><gateway><ip>203.0.113.2</ip></gateway></route4>`,
			i, 1000+i, i, 20+i/65536, i/256%256, i%256)
	}
	return b.String()
}

// last is route n of many's kind.
func last(n int) string {
	return strings.TrimPrefix(many(n+1), many(n))
}

// TestScale checks that one route more costs about the same in a small
// configuration and in a large one, so that nothing walks all of it.
func TestScale(t *testing.T) {
	fastest := func(n int) time.Duration {
		d := open(t, t.TempDir(), nil)
		if err := d.Edit(ctx, alice, Running, decode(t, many(n)), EditOptions{Default: edit.Replace}); err != nil {
			t.Fatal(err)
		}
		<-d.store.mirrored
		d.store.primary.db.NoSync, d.store.mirror.db.NoSync = true, true // the disk is not what is measured
		more := decode(t, last(n))
		less := at(t, fmt.Sprintf("/route4[id=site%d]", n)).Delete()
		best := time.Hour
		for range 20 {
			for _, e := range []*edit.Node{more, less} {
				start := time.Now()
				if err := d.Edit(ctx, alice, Running, e, merge); err != nil {
					t.Fatal(err)
				}
				best = min(best, time.Since(start))
			}
		}
		return best
	}
	small, large := fastest(100), fastest(10_000)
	t.Logf("one route of 100: %v, of 10000: %v", small, large)
	if large > 10*small && large > 5*time.Millisecond {
		t.Errorf("one route takes %v with 100 routes and %v with 10000", small, large)
	}
}

func at(t testing.TB, path string) yangenc.Path {
	t.Helper()
	p, err := yangenc.ParseInstance(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			d := open(b, dir, nil)
			e := decode(b, many(n))
			start := time.Now()
			if err := d.Edit(ctx, alice, Running, e, EditOptions{Default: edit.Replace}); err != nil {
				b.Fatal(err)
			}
			load := time.Since(start)
			<-d.store.mirrored
			mirrored := time.Since(start)
			more := decode(b, last(n))
			less := at(b, fmt.Sprintf("/route4[id=site%d]", n)).Delete()
			i := 0
			for b.Loop() {
				one := more
				if i++; i%2 == 0 {
					one = less
				}
				if err := d.Edit(ctx, alice, Candidate, one, merge); err != nil {
					b.Fatal(err)
				}
				if err := d.Commit(ctx, alice); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			_ = d.Read(Running, nil, func(*gen.Vita) error { return nil })
			if err := d.Close(); err != nil {
				b.Fatal(err)
			}
			start = time.Now()
			open(b, dir, nil)
			b.ReportMetric(load.Seconds(), "load-s")
			b.ReportMetric(mirrored.Seconds(), "mirrored-s")
			b.ReportMetric(time.Since(start).Seconds(), "open-s")
			b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MB")
		})
	}
}
