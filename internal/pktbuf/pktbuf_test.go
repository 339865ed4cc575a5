package pktbuf

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestPoolHandsOutEachFrameOnce(t *testing.T) {
	p, err := NewPool(Options{Frames: 8, FrameSize: 2048})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	seen := map[uint32]bool{}
	var all []Packet
	for range 8 {
		k, ok := p.Get()
		if !ok || seen[k.Frame] {
			t.Fatalf("frame %d: ok %v, seen %v", k.Frame, ok, seen[k.Frame])
		}
		seen[k.Frame] = true
		all = append(all, k)
	}
	if _, ok := p.Get(); ok {
		t.Fatal("a ninth frame out of eight")
	}
	p.PutBatch(all)
	if p.Available() != 8 {
		t.Fatalf("%d frames free after all went back, want 8", p.Available())
	}
}

func TestBytesEndWithTheFrame(t *testing.T) {
	p, err := NewPool(Options{Frames: 2, FrameSize: 2048})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	k, _ := p.Get()
	k.Len = 100
	b := p.Bytes(k)
	if len(b) != 100 || cap(b) != 2048-Headroom {
		t.Fatalf("len %d cap %d, want 100 and %d", len(b), cap(b), 2048-Headroom)
	}
	b[0] = 0xaa
	k = k.Grow(14)
	if g := p.Bytes(k); len(g) != 114 || g[14] != 0xaa {
		t.Fatalf("grown packet: len %d, byte 14 %#x", len(g), g[14])
	}
	if back, ok := p.At(p.Offset(k), int(k.Len)); !ok || back != k {
		t.Fatalf("At(Offset) = %+v %v, want %+v", back, ok, k)
	}
}

func TestAtRefusesWhatADeviceMustNotSay(t *testing.T) {
	p, err := NewPool(Options{Frames: 2, FrameSize: 2048})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []struct {
		off uint64
		n   int
	}{{4096, 1}, {2047, 2}, {0, -1}, {0, 2049}, {1 << 60, 10}} {
		if _, ok := p.At(c.off, c.n); ok {
			t.Errorf("At(%d, %d) accepted", c.off, c.n)
		}
	}
}

func TestSecondPutPanics(t *testing.T) {
	p, err := NewPool(Options{Frames: 2, FrameSize: 2048})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	k, _ := p.Get()
	p.Put(k)
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	p.Put(k)
}

func TestGetAndPutDoNotAllocate(t *testing.T) {
	p, err := NewPool(Options{Frames: 64, FrameSize: 2048})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if n := testing.AllocsPerRun(100, func() {
		k, _ := p.Get()
		_ = p.Bytes(k)
		p.Put(k)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{FrameSize: 3000}, {FrameSize: 1024}, {Frames: -1}, {FrameSize: 65536}} {
		if _, err := NewPool(o); err == nil {
			t.Errorf("%+v accepted", o)
		}
	}
}

// TestNode finds the policy of the pool's memory, and that the pages are there,
// in what the kernel says of the mapping.
func TestNode(t *testing.T) {
	if _, err := os.Stat("/proc/self/numa_maps"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("this kernel knows no NUMA nodes: what is asked for here cannot be tested")
		}
		t.Skip("this kernel knows no NUMA nodes")
	}
	for node, want := range map[int]string{0: " default ", 1: " prefer:0 "} {
		p, err := NewPool(Options{Frames: 64, Node: node})
		if err != nil {
			t.Fatal(err)
		}
		maps, err := os.ReadFile("/proc/self/numa_maps")
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(maps), fmt.Sprintf("\n%x", p.Addr()))
		line, _, _ = strings.Cut(line, "\n")
		pages := 0
		for w := range strings.FieldsSeq(line) {
			_, _ = fmt.Sscanf(w, "anon=%d", &pages)
		}
		if !strings.HasPrefix(line, want) || pages < 65 { // more: of a neighbour that it became one with
			t.Errorf("node %d: %q, want%sand 65 pages", node, line, want)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := NewPool(Options{Frames: 64, Node: 5000}); err == nil {
		_ = p.Close()
		t.Error("memory of a node that cannot be")
	}
}
