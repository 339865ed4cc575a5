package devmapper

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// TestMessage looks at the bytes as linux/dm-ioctl.h has them. That the kernel
// takes them is tested by every start of an appliance.
func TestMessage(t *testing.T) {
	b, err := message("vita-root", "verity", "1 a b", 800)
	if err != nil {
		t.Fatal(err)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	if len(b) != 312+48 || u32(0) != 4 || u32(12) != uint32(len(b)) || u32(16) != 312 || u32(20) != 1 || u32(28) != 1 {
		t.Errorf("header % x", b[:48])
	}
	if string(b[48:58]) != "vita-root\x00" {
		t.Errorf("name %q", b[48:58])
	}
	spec := b[312:]
	if binary.LittleEndian.Uint64(spec) != 0 || binary.LittleEndian.Uint64(spec[8:]) != 800 || binary.LittleEndian.Uint32(spec[20:]) != 48 ||
		!bytes.HasPrefix(spec[24:], []byte("verity\x00")) || string(spec[40:48]) != "1 a b\x00\x00\x00" {
		t.Errorf("target % x", spec)
	}
	if b, err = message("x", "", "ignored", 1); err != nil || len(b) != 312 || u32(20) != 0 {
		t.Errorf("without a table: %d bytes, %v", len(b), err)
	}
	for _, bad := range [][2]string{{strings.Repeat("n", 128), "verity"}, {"n", strings.Repeat("k", 16)}} {
		if _, err := message(bad[0], bad[1], "", 0); err == nil {
			t.Errorf("%q", bad)
		}
	}
}

func TestCreateWithoutControl(t *testing.T) {
	if _, err := Create(t.TempDir()+"/none", "x", "verity", "", 1); err == nil {
		t.Error("made")
	}
}
