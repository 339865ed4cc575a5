package pcapng

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 123456789, time.UTC)

// sample is a section with all kinds of blocks.
func sample(t testing.TB, packets ...Packet) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, "test")
	if err != nil {
		t.Fatal(err)
	}
	for i, in := range []Interface{
		{Name: "public-rx", Description: "queue 1", LinkType: Ethernet, Snap: 2000},
		{Name: "inner-inbound", LinkType: Raw},
	} {
		if got, err := w.AddInterface(in); err != nil || got != i {
			t.Fatal(got, err)
		}
	}
	for _, p := range packets {
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteStatistics(0, start.Add(time.Second), 7, 3); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// blocks checks the structure that all blocks have and returns their types and
// bodies.
func blocks(t testing.TB, b []byte) (types []uint32, bodies [][]byte) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < 12 {
			t.Fatalf("%d bytes are no block", len(b))
		}
		n := binary.LittleEndian.Uint32(b[4:])
		if n%4 != 0 || n < 12 || int(n) > len(b) || binary.LittleEndian.Uint32(b[n-4:]) != n {
			t.Fatalf("block %x of length %d", b[:4], n)
		}
		types, bodies = append(types, binary.LittleEndian.Uint32(b)), append(bodies, b[8:n-4])
		b = b[n:]
	}
	return types, bodies
}

// options reads options until their end.
func options(t testing.TB, b []byte) map[uint16]string {
	t.Helper()
	all := map[uint16]string{}
	for len(b) > 0 {
		code, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if code == optEnd {
			if n != 0 || len(b) != 4 {
				t.Fatalf("end of options: %x", b)
			}
			return all
		}
		all[code] = string(b[4 : 4+n])
		b = b[4+(n+3)&^3:]
	}
	t.Fatal("options without an end")
	return nil
}

func TestOptions(t *testing.T) {
	b := sample(t, Packet{Time: start, Data: []byte("abcde"), Length: 60, Direction: Received, Comment: "dropped: esp-replay"})
	types, bodies := blocks(t, b)
	if len(types) != 5 || types[0] != blockSection || types[1] != blockInterface || types[3] != blockPacket || types[4] != blockStatistics {
		t.Fatalf("blocks %x", types)
	}
	if o := options(t, bodies[0][16:]); o[optApplication] != "test" {
		t.Errorf("%v", o)
	}
	if o := options(t, bodies[1][8:]); o[optName] != "public-rx" || o[optDescription] != "queue 1" || o[optResolution] != "\x09" {
		t.Errorf("%v", o)
	}
	if o := options(t, bodies[3][20+8:]); o[optComment] != "dropped: esp-replay" || o[optFlags] != "\x01\x00\x00\x00" {
		t.Errorf("%v", o)
	}
	if o := options(t, bodies[4][12:]); o[optReceived] != "\x07\x00\x00\x00\x00\x00\x00\x00" || o[optDropped] != "\x03\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("%v", o)
	}
}

func TestRefusals(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, "")
	if err != nil {
		t.Fatal(err)
	}
	n := b.Len()
	if err := w.Write(Packet{}); !errors.Is(err, ErrInterface) {
		t.Error(err)
	}
	if err := w.WriteStatistics(0, start, 0, 0); !errors.Is(err, ErrInterface) {
		t.Error(err)
	}
	if _, err := w.AddInterface(Interface{LinkType: Raw}); err != nil {
		t.Fatal(err)
	}
	n2 := b.Len()
	if err := w.Write(Packet{Data: make([]byte, MaxPacket+1)}); err == nil {
		t.Error("a packet of any size is taken")
	}
	if err := w.Write(Packet{Interface: -1}); !errors.Is(err, ErrInterface) {
		t.Error(err)
	}
	if b.Len() != n2 || n2 <= n {
		t.Error("what was refused has been written")
	}
}

// failing takes n writes.
type failing struct{ n int }

func (f *failing) Write(b []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func TestErrorsStay(t *testing.T) {
	w, err := NewWriter(&failing{1}, "x")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.AddInterface(Interface{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	}
	if _, err := NewWriter(&failing{0}, "x"); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

// FuzzRoundTrip lets gopacket read what was written.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("packet"), "comment", uint16(6), int64(0), uint8(1), false)
	f.Add([]byte{}, "", uint16(0), int64(1e18), uint8(0), true)
	f.Add([]byte("abc"), "", uint16(1), int64(5), uint8(2), true)
	f.Fuzz(func(t *testing.T, data []byte, comment string, length uint16, after int64, direction uint8, raw bool) {
		if len(data) > MaxPacket {
			return
		}
		k := Packet{Time: start.Add(time.Duration(uint64(after) % 1e18)), Data: data, Length: int(length), Direction: Direction(direction % 3), Comment: comment}
		if raw {
			k.Interface = 1
		}
		b := sample(t, k, k)
		blocks(t, b)
		r, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, info, err := r.ReadPacketData()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) || !info.Timestamp.Equal(k.Time) || info.Length != max(int(length), len(data)) || info.InterfaceIndex != k.Interface {
				t.Fatalf("%x %+v, want %x %+v", got, info, data, k)
			}
		}
		if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if in, err := r.Interface(1); err != nil || in.LinkType != layers.LinkTypeRaw || in.Name != "inner-inbound" {
			t.Fatalf("%+v %v", in, err)
		}
		if in, err := r.Interface(0); err != nil || in.Statistics.PacketsReceived != 7 || in.Statistics.PacketsDropped != 3 {
			t.Fatalf("%+v %v", in, err)
		}
	})
}

// TestWireshark lets the program that operators use read it.
func TestWireshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("tshark is not installed: run make setup")
		}
		t.Skip("tshark is not installed: run make setup")
	}
	name := filepath.Join(t.TempDir(), "x.pcapng")
	ip := []byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 50, 0x62, 0x96, 10, 1, 0, 1, 10, 2, 0, 1}
	b := sample(t, Packet{Time: start, Data: append(make([]byte, 12), append([]byte{8, 0}, ip...)...), Direction: Sent, Comment: "dropped: esp-replay"},
		Packet{Time: start, Interface: 1, Data: ip})
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-n", "-r", name, "-T", "fields", "-e", "frame.interface_name", "-e", "ip.dst", "-e", "frame.comment").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "public-rx\t10.2.0.1\tdropped: esp-replay\ninner-inbound\t10.2.0.1") {
		t.Errorf("%v\n%s", err, out)
	}
}
