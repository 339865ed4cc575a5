package operator

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"vita/internal/pcapng"
)

func section(t testing.TB, packets int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapng.NewWriter(&b, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddInterface(pcapng.Interface{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	for range packets {
		if err := w.Write(pcapng.Packet{Time: time.Unix(1, 0), Data: make([]byte, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// TestCopyBlocks: a capture that breaks off leaves whole blocks.
func TestCopyBlocks(t *testing.T) {
	all := section(t, 3)
	var whole bytes.Buffer
	if n, err := copyBlocks(&whole, bytes.NewReader(all)); err != nil || n != 3 || !bytes.Equal(whole.Bytes(), all) {
		t.Errorf("%d packets, %v", n, err)
	}
	two := section(t, 2)
	for cut := len(two) + 1; cut < len(all); cut++ {
		var out bytes.Buffer
		n, err := copyBlocks(&out, bytes.NewReader(all[:cut]))
		if !errors.Is(err, io.ErrUnexpectedEOF) || n != 2 || !bytes.Equal(out.Bytes(), two) {
			t.Fatalf("cut at %d: %d packets, %d bytes, %v", cut, n, out.Len(), err)
		}
	}
	for _, bad := range []string{"\x06\x00\x00\x00\x0b\x00\x00\x00", "\x06\x00\x00\x00\x0e\x00\x00\x00", "<html><body>"} {
		if _, err := copyBlocks(io.Discard, strings.NewReader(bad+strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "no capture") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzCopyBlocks: whatever the server sends, whole blocks or nothing comes out.
func FuzzCopyBlocks(f *testing.F) {
	f.Add(section(f, 2))
	f.Add([]byte("\x06\x00\x00\x00\x00\x00\x00\x80"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		_, err := copyBlocks(&out, bytes.NewReader(b))
		if !bytes.HasPrefix(b, out.Bytes()) || err == nil && out.Len() != len(b) {
			t.Fatalf("%d of %d bytes, %v", out.Len(), len(b), err)
		}
	})
}
