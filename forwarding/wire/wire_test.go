package wire

import (
	"bytes"
	"testing"

	"vita/asm/cksum"
)

// The example of RFC 1071-style tutorials: a header whose checksum is known.
var header = []byte{
	0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61,
	0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
}

func packet(n int) []byte { return append(bytes.Clone(header), make([]byte, n-len(header))...) }

func TestParseIPv4(t *testing.T) {
	good := packet(0x73 + 5) // with padding behind it
	p, c := ParseIPv4(good)
	if c != Good || len(p) != 0x73 {
		t.Fatalf("ParseIPv4 = %d bytes, %d", len(p), c)
	}
	if p.HeaderLen() != 20 || p.TotalLen() != 0x73 || !p.DF() || p.Fragment() || p.LaterFragment() || p.TTL() != 64 ||
		p.Protocol() != ProtoUDP || p.Src() != 0xc0a80001 || p.Dst() != 0xc0a800c7 || len(p.Payload()) != 0x73-20 {
		t.Fatalf("fields of %x are misread", []byte(p[:20]))
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   Check
	}{
		"version":         {func(b []byte) []byte { b[0] = 0x65; return b }, Malformed},
		"header length":   {func(b []byte) []byte { b[0] = 0x44; return b }, Malformed},
		"cut header":      {func(b []byte) []byte { return b[:19] }, Malformed},
		"cut packet":      {func(b []byte) []byte { return b[:0x72] }, Malformed},
		"short total":     {func(b []byte) []byte { b[3] = 19; return b }, Malformed},
		"options beyond":  {func(b []byte) []byte { b[0] = 0x4f; b[3] = 59; return b }, Malformed},
		"empty":           {func([]byte) []byte { return nil }, Malformed},
		"checksum":        {func(b []byte) []byte { b[11]++; return b }, BadChecksum},
		"damaged address": {func(b []byte) []byte { b[13] ^= 1; return b }, BadChecksum},
	} {
		if _, got := ParseIPv4(c.change(packet(0x73))); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestPutIPv4(t *testing.T) {
	b := make([]byte, 0x73)
	PutIPv4(b, 0x73, true, 64, ProtoUDP, 0xc0a80001, 0xc0a800c7)
	if !bytes.Equal(b[:20], header) {
		t.Fatalf("header %x, want %x", b[:20], header)
	}
}

func TestDecrementTTL(t *testing.T) {
	p, _ := ParseIPv4(packet(0x73))
	for ttl := 63; ttl >= 0; ttl-- {
		p.DecrementTTL()
		if int(p.TTL()) != ttl || !cksum.Valid(p[:20], 0) {
			t.Fatalf("TTL %d, checksum right: %v; want %d", p.TTL(), cksum.Valid(p[:20], 0), ttl)
		}
	}
}

func TestARP(t *testing.T) {
	b := make([]byte, ARPLen)
	PutARP(b, ARPReply, &MAC{1, 2, 3, 4, 5, 6}, 0x0a000001, &MAC{7, 8, 9, 10, 11, 12}, 0x0a000002)
	a, ok := ParseARP(b)
	if !ok || a.Op() != ARPReply || *a.SenderMAC() != (MAC{1, 2, 3, 4, 5, 6}) || a.SenderIP() != 0x0a000001 || a.TargetIP() != 0x0a000002 {
		t.Fatalf("%x is misread", b)
	}
	for i := range 6 {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, ok := ParseARP(bad); ok {
			t.Errorf("byte %d changed: still taken for IPv4 on Ethernet", i)
		}
	}
	if _, ok := ParseARP(b[:27]); ok {
		t.Error("27 bytes are taken for a packet")
	}
}

func TestMartian(t *testing.T) {
	for a, want := range map[uint32]bool{
		0x00000001: true, 0x01000000: false, 0x7f000001: true, 0x80000000: false, 0xdfffffff: false,
		0xe0000001: true, 0xffffffff: true, 0x0a000001: false,
	} {
		if Martian(a) != want {
			t.Errorf("Martian(%#x) = %v", a, !want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(packet(0x73))
	f.Add(make([]byte, ARPLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, c := ParseIPv4(b); c == Good {
			if p.HeaderLen() > len(p) || p.TotalLen() != len(p) {
				t.Fatalf("header of %d bytes, total %d, in %d", p.HeaderLen(), p.TotalLen(), len(p))
			}
			_ = p.Payload()
		}
		if a, ok := ParseARP(b); ok {
			_, _, _, _ = a.Op(), a.SenderIP(), a.SenderMAC(), a.TargetIP()
		}
	})
}

// TestLowerTTL compares with what RFC 1624 says, for every checksum.
func TestLowerTTL(t *testing.T) {
	for sum := range 1 << 16 {
		b := [4]byte{64, 17, byte(sum >> 8), byte(sum)}
		LowerTTL(&b)
		want := cksum.Update16(uint16(sum), 64<<8|17, 63<<8|17)
		if b[0] != 63 || b[1] != 17 || Be16(b[2:]) != want {
			t.Fatalf("checksum %#x becomes % x, want %#x", sum, b, want)
		}
	}
}
