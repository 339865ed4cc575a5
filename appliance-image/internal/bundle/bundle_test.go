package bundle

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"aead.dev/minisign"
)

var kernel, root = bytes.Repeat([]byte("kernel "), 1000), bytes.Repeat([]byte("root "), 2000)

func made(t testing.TB) (b []byte, key minisign.PublicKey) {
	t.Helper()
	key, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Write(&out, "1.2.3", kernel, root, private); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := Write(&again, "1.2.3", kernel, root, private); err != nil || !bytes.Equal(again.Bytes(), out.Bytes()) {
		t.Fatal("not the same bytes", err)
	}
	return out.Bytes(), key
}

// read reads a bundle to its end.
func read(b []byte, key minisign.PublicKey) error {
	r, err := Open(bytes.NewReader(b), key)
	if err != nil {
		return err
	}
	if _, err := r.Kernel(); err != nil {
		return err
	}
	return r.Root(io.Discard)
}

func TestRead(t *testing.T) {
	b, key := made(t)
	r, err := Open(bytes.NewReader(b), key)
	if err != nil || r.Manifest.Version != "1.2.3" {
		t.Fatal(r, err)
	}
	if k, err := r.Kernel(); err != nil || !bytes.Equal(k, kernel) {
		t.Error("another kernel", err)
	}
	var out bytes.Buffer
	if err := r.Root(&out); err != nil || !bytes.Equal(out.Bytes(), root) {
		t.Error("another root", err)
	}
	if err := r.Same(&out); err != nil {
		t.Error(err)
	}
	if err := r.Same(bytes.NewReader(make([]byte, len(root)))); !errors.Is(err, ErrDamaged) {
		t.Errorf("zeros: %v", err)
	}
}

// TestDamage: a bit that is flipped anywhere, and a file that ends anywhere, is
// an error; and so is another vendor's key.
func TestDamage(t *testing.T) {
	b, key := made(t)
	head := len(b) - len(kernel) - len(root)
	for i := range b {
		if i > head+100 && i < len(b)-100 && i%97 != 0 {
			continue
		}
		bad := bytes.Clone(b)
		bad[i] ^= 1 << (i % 8)
		// Of the signature's text some bits mean nothing: those of a comment
		// that is not signed, and the last ones of base64.
		comment := bytes.Index(b, []byte("untrusted comment: "))
		if err := read(bad, key); err == nil && (i < comment || i >= head) {
			t.Fatalf("byte %d of %d: no error", i, len(b))
		}
		if err := read(b[:i], key); err == nil {
			t.Fatalf("cut at %d: no error", i)
		}
	}
	other, _, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := read(b, other); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	key, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		version      string
		kernel, root []byte
	}{{"one", kernel, root}, {"1.2.3.4.5", kernel, root}, {"1", nil, root}, {"1", kernel, nil}, {"1", make([]byte, MaxKernel+1), root}} {
		if err := Write(io.Discard, c.version, c.kernel, c.root, private); err == nil {
			t.Errorf("%s, %d and %d bytes", c.version, len(c.kernel), len(c.root))
		}
	}
	long := append([]byte(magic), binary.LittleEndian.AppendUint32(nil, maxManifest+1)...)
	if _, err := Open(bytes.NewReader(long), key); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
	if _, err := Open(strings.NewReader("#!/bin/sh"), key); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"1.2.3", "1.2.2", true}, {"1.10", "1.9", true}, {"1.2.3", "1.2.3", false}, {"1.2", "1.2.0.0", false}, {"0.9", "1", false}, {"1", "devel", true}, {"devel", "1", false}} {
		if got := Newer(c.a, c.b); got != c.want {
			t.Errorf("%s newer than %s: %v", c.a, c.b, got)
		}
	}
}

func FuzzOpen(f *testing.F) {
	b, key := made(f)
	f.Add(b[:2000])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := Open(bytes.NewReader(b), key); err == nil && r.Manifest.check() != nil {
			t.Error("a manifest that was not checked")
		}
	})
}
