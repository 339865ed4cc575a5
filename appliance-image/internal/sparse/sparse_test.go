package sparse

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// device makes one that has been used before, but for its first block.
func device(t testing.TB, size int) *os.File {
	t.Helper()
	b := bytes.Repeat([]byte{0xee}, size)
	clear(b[:BlockSize])
	name := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func content(t testing.TB, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sample() []byte {
	data := make([]byte, 40*BlockSize)
	for _, at := range []int{0, 5, 6, 39} {
		copy(data[at*BlockSize+at:], "vita")
	}
	return data
}

// TestLay: what is laid down is what was packed, whatever was there, and what
// lies behind it stays.
func TestLay(t *testing.T) {
	data := sample()
	var packed bytes.Buffer
	if err := Pack(&packed, data); err != nil {
		t.Fatal(err)
	}
	f := device(t, len(data)+2*BlockSize)
	if err := Lay(f, &packed); err != nil {
		t.Fatal(err)
	}
	got := content(t, f)
	if !bytes.Equal(got[:len(data)], data) {
		t.Error("other data")
	}
	if !bytes.Equal(got[len(data):], bytes.Repeat([]byte{0xee}, 2*BlockSize)) {
		t.Error("what lies behind has changed")
	}
}

// TestWholeOrNot: cut short or damaged anywhere, the first block stays empty.
func TestWholeOrNot(t *testing.T) {
	data := sample()
	var packed bytes.Buffer
	if err := Pack(&packed, data); err != nil {
		t.Fatal(err)
	}
	for cut := range packed.Len() {
		f := device(t, len(data))
		if err := Lay(f, bytes.NewReader(packed.Bytes()[:cut])); err == nil {
			t.Fatalf("cut at %d: no error", cut)
		}
		if !bytes.Equal(content(t, f)[:BlockSize], make([]byte, BlockSize)) {
			t.Fatalf("cut at %d: the first block is there", cut)
		}
	}
	if err := Lay(device(t, len(data)-BlockSize), &packed); err == nil {
		t.Error("a device that is too small")
	}
	for _, bad := range [][]byte{nil, make([]byte, 2*BlockSize), make([]byte, 100)} {
		if err := Pack(new(bytes.Buffer), bad); err == nil {
			t.Errorf("%d bytes are packed", len(bad))
		}
	}
}

func FuzzLay(f *testing.F) {
	pack := func(numbers ...uint64) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		for i, n := range numbers {
			_ = binary.Write(z, binary.LittleEndian, n)
			if i > 0 {
				_, _ = z.Write(bytes.Repeat([]byte{7}, BlockSize))
			}
		}
		_ = z.Close()
		return b.Bytes()
	}
	f.Add(pack(8*BlockSize, BlockSize, 7*BlockSize, 0))
	f.Add(pack(8*BlockSize, 8*BlockSize, 0))
	f.Add(pack(8*BlockSize, 1, 0))
	f.Add(pack(1<<63, 0))
	f.Add(pack(0, 1<<62, 0))
	f.Add(pack(0, 16*BlockSize, 0))
	f.Fuzz(func(t *testing.T, packed []byte) {
		d := device(t, 9*BlockSize)
		err := Lay(d, bytes.NewReader(packed))
		got := content(t, d)
		if len(got) != 9*BlockSize {
			t.Fatalf("the device has %d bytes", len(got))
		}
		if err != nil && !bytes.Equal(got[:BlockSize], make([]byte, BlockSize)) {
			t.Fatalf("%v, but the first block is there", err)
		}
	})
}
