package cksum

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// slow is RFC 1071 word by word.
func slow(b []byte, initial uint32) uint16 {
	s := uint64(initial)
	for i := 0; i < len(b); i += 2 {
		w := uint64(b[i]) << 8
		if i+1 < len(b) {
			w |= uint64(b[i+1])
		}
		s += w
	}
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

func TestSumAgainstWordByWord(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 4096)
	for i := range buf {
		buf[i] = byte(r.Uint32())
	}
	ones := make([]byte, 4096)
	for i := range ones {
		ones[i] = 0xff
	}
	for n := range 2100 {
		for _, b := range [][]byte{buf[n%7 : n%7+n], ones[:n], make([]byte, n)} {
			for _, initial := range []uint32{0, 1, 0xffff, 0x1fffe, 0xffffffff, r.Uint32()} {
				if got, want := Sum(b, initial), slow(b, initial); got != want {
					t.Fatalf("length %d, initial %#x: %#04x, want %#04x", n, initial, got, want)
				}
			}
		}
	}
}

// The example of RFC 1071, section 3: the sum is ddf2.
func TestRFC1071Example(t *testing.T) {
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}
	if got := Sum(b, 0); got != ^uint16(0xddf2) {
		t.Fatalf("%#04x", got)
	}
}

func TestPseudoHeaders(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		var s4, d4 [4]byte
		var s6, d6 [16]byte
		for i := range s6 {
			s6[i], d6[i] = byte(r.Uint32()), byte(r.Uint32())
		}
		copy(s4[:], s6[:])
		copy(d4[:], d6[:])
		n := r.Uint32()
		p4 := append(append(append([]byte{}, s4[:]...), d4[:]...), 0, 17, byte(n>>8), byte(n))
		if got, want := Sum(nil, Pseudo4(s4, d4, 17, uint16(n))), slow(p4, 0); got != want {
			t.Fatalf("IPv4: %#04x, want %#04x", got, want)
		}
		p6 := append(append([]byte{}, s6[:]...), d6[:]...)
		p6 = binary.BigEndian.AppendUint32(p6, n)
		p6 = append(p6, 0, 0, 0, 58)
		if got, want := Sum(nil, Pseudo6(s6, d6, 58, n)), slow(p6, 0); got != want {
			t.Fatalf("IPv6: %#04x, want %#04x", got, want)
		}
	}
}

// An update must leave data that validates, and must equal the full sum but
// for the two forms of zero (RFC 1624, section 3).
// Words agrees with Sum, for words of few and of many carries.
func TestWords(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for range 100_000 {
		var b [20]byte
		for i := range b {
			b[i] = byte(r.Uint32())
			if r.IntN(3) == 0 {
				b[i] = 0xff
			}
		}
		w := func(i int) uint32 { return binary.BigEndian.Uint32(b[i:]) }
		if got, want := Words(w(0), w(4), w(8), w(12), w(16)), Sum(b[:], 0); got != want {
			t.Fatalf("% x: %#x, want %#x", b, got, want)
		}
	}
}

func TestUpdateEqualsRecomputation(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	edge := []uint16{0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff}
	pick := func() uint16 {
		if r.IntN(2) == 0 {
			return edge[r.IntN(len(edge))]
		}
		return uint16(r.Uint32())
	}
	for range 200000 {
		b := make([]byte, 20)
		b[0] = 0x45 // some non-zero word, as in every IPv4 header
		for i := 2; i < 20; i += 2 {
			binary.BigEndian.PutUint16(b[i:], pick())
		}
		b[10], b[11] = 0, 0
		sum := Sum(b, 0)
		old, now := binary.BigEndian.Uint16(b[8:]), pick()
		binary.BigEndian.PutUint16(b[8:], now)
		sum = Update16(sum, old, now)
		old32, now32 := binary.BigEndian.Uint32(b[12:]), uint32(pick())<<16|uint32(pick())
		binary.BigEndian.PutUint32(b[12:], now32)
		sum = Update32(sum, old32, now32)
		if want := Sum(b, 0); sum != want {
			t.Fatalf("updated %#04x, recomputed %#04x", sum, want)
		}
		binary.BigEndian.PutUint16(b[10:], sum)
		if !Valid(b, 0) {
			t.Fatalf("% x does not validate", b)
		}
		b[8] ^= 0x10
		if Valid(b, 0) {
			t.Fatalf("% x validates though a bit is wrong", b)
		}
	}
}

func BenchmarkSum1500(b *testing.B) {
	buf := make([]byte, 1500)
	b.SetBytes(1500)
	for b.Loop() {
		Sum(buf, 0)
	}
}

func TestValidWords(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	good := 0
	for range 100_000 {
		var b [20]byte
		for i := range b {
			b[i] = []byte{0, 0xff, byte(rnd.Uint32())}[rnd.IntN(3)]
		}
		if rnd.IntN(2) == 0 {
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], Sum(b[:], 0))
		}
		got := ValidWords(binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:]))
		if want := Valid(b[:], 0); got != want {
			t.Fatalf("% x: %v, want %v", b, got, want)
		} else if want {
			good++
		}
	}
	if good < 10_000 {
		t.Errorf("only %d good ones", good)
	}
	if !ValidWords(1<<64-1, 1<<64-1, 1<<32-1) || ValidWords(0, 0, 0) {
		t.Error("all ones are zero in ones' complement, all zeros are no sum of a header")
	}
}
