package modules

import (
	"bytes"
	"testing"
)

func TestPack(t *testing.T) {
	for _, size := range []int{0, 1, 100_000} {
		module := bytes.Repeat([]byte("module "), size)
		packed, err := Pack(module)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Pack(module); err != nil || !bytes.Equal(again, packed) {
			t.Errorf("%d: packed another way the next time, %v", size, err)
		}
		if got, err := unpack(packed); err != nil || !bytes.Equal(got, module) {
			t.Errorf("%d: %d bytes, %v", size, len(got), err)
		}
		for cut := range min(len(packed), 30) {
			if _, err := unpack(packed[:len(packed)-1-cut]); err == nil {
				t.Errorf("%d: without its last %d bytes", size, cut+1)
			}
		}
	}
	bomb, err := Pack(make([]byte, maxModule+1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(bomb); err == nil {
		t.Error("unpacks any amount")
	}
}

// FuzzUnpack: what comes out is bounded.
func FuzzUnpack(f *testing.F) {
	packed, err := Pack([]byte("module"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := unpack(b); err == nil && len(out) > maxModule {
			t.Errorf("%d bytes", len(out))
		}
	})
}
