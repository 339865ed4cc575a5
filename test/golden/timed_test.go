package golden

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"vita/drivers/memory"
)

// A timed case lives by a clock that the test sets: its frames come, and go, at
// the times that the pcaps have.

// stamped is a frame at its time since the gateway's start.
type stamped struct {
	at    time.Duration
	frame []byte
}

const (
	clockStart = int64(1000 * time.Second)
	clockStep  = 100 * time.Millisecond
)

// stepped is a clock that stands still until it is set.
type stepped struct{ now atomic.Int64 }

func (s *stepped) set(d time.Duration) { s.now.Store(clockStart + int64(d)) }
func (s *stepped) read() int64         { return s.now.Load() }

// play puts the frames in at their times, and returns what comes out until the
// case ends.
func (g *gateway) play(privateIn, publicIn []stamped) (privateOut, publicOut []stamped, counters string) {
	in, step := uint64(0), g.c.step
	if step == 0 {
		step = clockStep
	}
	for at := time.Duration(0); at <= g.c.until; at += step {
		g.clock.set(at)
		g.await(in) // what time calls for is done before the frames come
		for _, s := range []struct {
			end    *memory.End
			frames *[]stamped
		}{{g.private, &privateIn}, {g.public, &publicIn}} {
			for ; len(*s.frames) > 0 && (*s.frames)[0].at <= at; *s.frames = (*s.frames)[1:] {
				if !s.end.Inject((*s.frames)[0].frame) {
					g.t.Fatalf("the frame for %v does not fit the wire", at)
				}
				in++
				g.await(in)
			}
		}
		g.await(in)
		for _, f := range g.private.Drain() {
			privateOut = append(privateOut, stamped{at, f})
		}
		for _, f := range g.public.Drain() {
			publicOut = append(publicOut, stamped{at, f})
		}
	}
	if len(privateIn)+len(publicIn) > 0 {
		g.t.Fatal("the case ends before its last frame")
	}
	return privateOut, publicOut, g.counters() + g.messages()
}

// runTimed is run for a timed case.
func (c *testCase) runTimed(t *testing.T, m *management) {
	if *update {
		if err := os.MkdirAll(c.dir(), 0o755); err != nil {
			t.Fatal(err)
		}
		private, public := c.timed()
		for _, frames := range [][]stamped{private, public} {
			slices.SortStableFunc(frames, func(a, b stamped) int { return int(a.at - b.at) })
		}
		writeStamped(t, filepath.Join(c.dir(), "private-in.pcap"), private)
		writeStamped(t, filepath.Join(c.dir(), "public-in.pcap"), public)
	}
	g := start(t, c)
	privateOut, publicOut, end := g.play(readStamped(t, filepath.Join(c.dir(), "private-in.pcap")), readStamped(t, filepath.Join(c.dir(), "public-in.pcap")))
	for name, got := range map[string][]stamped{"private-out.pcap": privateOut, "public-out.pcap": publicOut} {
		name = filepath.Join(c.dir(), name)
		if *update {
			writeStamped(t, name, got)
		}
		want := readStamped(t, name)
		for i := range min(len(got), len(want)) {
			if got[i].at != want[i].at || !bytes.Equal(got[i].frame, want[i].frame) {
				t.Errorf("%s: frame %d, at %v, is\n%s\nwant, at %v,\n%s", name, i+1, got[i].at, describe(got[i].frame), want[i].at, describe(want[i].frame))
				break
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d frames, want %d", name, len(got), len(want))
		}
	}
	g.compareCounters(m, end)
}

func readStamped(t *testing.T, name string) (out []stamped) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, stamped{time.Duration(info.Timestamp.UnixNano()), data})
	}
}

func writeStamped(t *testing.T, name string, frames []stamped) {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(0, int64(f.at)), CaptureLength: len(f.frame), Length: len(f.frame)}
		if err := w.WritePacket(info, f.frame); err != nil {
			t.Fatal(err)
		}
	}
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, b.Bytes()) {
		return
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
