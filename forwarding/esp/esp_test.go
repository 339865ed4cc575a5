package esp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"vita/asm/cksum"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

func newKey(t testing.TB, key, salt []byte) *Key {
	t.Helper()
	k := new(Key)
	if err := k.GCM.Expand(key); err != nil {
		t.Fatal(err)
	}
	k.SetSalt([4]byte(salt))
	return k
}

// seal makes one ESP packet around a payload.
func seal(k *Key, spi uint32, seq uint64, payload []byte, fill int) []byte {
	p := make([]byte, Size(len(payload)+fill))
	rand.NewChaCha8([32]byte{}).Read(p) // what was in the buffer must not matter
	copy(p[HeaderLen:], payload)
	b := new(Batch)
	b.Encapsulate(k, spi, seq, p, len(payload), fill, wire.ProtoIPv4)
	b.Seal()
	if !b.OK(0) {
		panic("not sealed")
	}
	return p
}

func open(k *Key, seq uint64, p []byte) bool {
	b := new(Batch)
	b.Decapsulate(k, seq, p)
	b.Open()
	return b.OK(0)
}

// reference seals as RFC 4106 words it, with the standard library alone.
func reference(t *testing.T, key, salt []byte, spi uint32, seq uint64, payload []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Clone(payload)
	pad := 0
	for (len(plain)+2)%4 != 0 {
		pad++
		plain = append(plain, byte(pad))
	}
	plain = append(plain, byte(pad), 4)
	iv := binary.LittleEndian.AppendUint64(nil, seq)
	aad := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, spi), seq)
	out := binary.BigEndian.AppendUint32(nil, spi)
	out = binary.BigEndian.AppendUint32(out, uint32(seq))
	out = append(out, iv...)
	return gcm.Seal(out, append(bytes.Clone(salt), iv...), plain, aad)
}

func TestSealAgainstReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		key, salt := make([]byte, 16+16*(n%2)), make([]byte, 4)
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		binary.BigEndian.PutUint32(salt, r.Uint32())
		payload := bytes.Repeat([]byte{byte(n)}, n)
		spi, seq := r.Uint32(), r.Uint64()
		k := newKey(t, key, salt)
		got, want := seal(k, spi, seq, payload, 0), reference(t, key, salt, spi, seq, payload)
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes:\n%x\nwant\n%x", n, got, want)
		}
		if len(got)%4 != 0 {
			t.Fatalf("%d bytes of payload make %d", n, len(got))
		}
		if !open(k, seq, got) {
			t.Fatalf("%d bytes do not open", n)
		}
		back, next, ok := Trim(got)
		if !ok || next != wire.ProtoIPv4 || !bytes.Equal(back, payload) {
			t.Fatalf("%d bytes come back as %x, protocol %d, %v", n, back, next, ok)
		}
	}
}

func TestFill(t *testing.T) {
	k := newKey(t, make([]byte, 16), make([]byte, 4))
	p := seal(k, 1, 1, []byte("payload"), 93)
	if len(p) != Size(100) {
		t.Fatalf("%d bytes, want %d", len(p), Size(100))
	}
	if !open(k, 1, p) {
		t.Fatal("does not open")
	}
	back, _, ok := Trim(p)
	if want := append([]byte("payload"), make([]byte, 93)...); !ok || !bytes.Equal(back, want) {
		t.Fatalf("payload %x", back)
	}
}

func TestEveryBitIsAuthenticated(t *testing.T) {
	k := newKey(t, make([]byte, 16), make([]byte, 4))
	good := seal(k, 77, 5<<32|9, []byte("payload"), 0)
	for bit := range len(good) * 8 {
		if bit/8 >= 4 && bit/8 < 8 {
			continue // the low half of the number is covered as part of the whole one
		}
		p := bytes.Clone(good)
		p[bit/8] ^= 1 << (bit % 8)
		if open(k, 5<<32|9, p) {
			t.Fatalf("bit %d changed: still authentic", bit)
		}
	}
	for _, seq := range []uint64{9, 6<<32 | 9, 5<<32 | 8} {
		if open(k, seq, bytes.Clone(good)) {
			t.Fatalf("authentic under number %#x", seq)
		}
	}
}

func TestTrim(t *testing.T) {
	for _, c := range []struct {
		pad, n int
		ok     bool
	}{{0, 2, true}, {2, 0, true}, {3, 0, false}, {255, 0, false}} {
		p := make([]byte, MinLen)
		p[HeaderLen+2], p[HeaderLen+3] = byte(c.pad), 41
		payload, next, ok := Trim(p)
		if ok != c.ok || ok && (len(payload) != c.n || next != 41) {
			t.Errorf("pad length %d: %d bytes, next %d, %v", c.pad, len(payload), next, ok)
		}
	}
	for padding, want := range map[string]bool{
		"\x01": true, "\x01\x02\x03\x04": true, "\x00\x00\x00": true, "\x02": false, "\x01\x02\x02": false, "\x00\x00\x01": false, "\x01\x01": false,
	} {
		p := append(make([]byte, HeaderLen+8), padding...)
		p = append(append(p, byte(len(padding)), 4), make([]byte, 16)...)
		if payload, _, ok := Trim(p); ok != want || ok && len(payload) != 8 {
			t.Errorf("padding %x: %d bytes, %v", padding, len(payload), ok)
		}
	}
	if _, _, ok := Trim(make([]byte, MinLen-3)); ok {
		t.Error("one byte of plaintext has a trailer")
	}
}

func TestMaxInner(t *testing.T) {
	for mtu := range 2000 {
		n := MaxInner(mtu, 20)
		if n > 0 && 20+Size(n) > mtu {
			t.Fatalf("mtu %d: %d bytes become %d", mtu, n, 20+Size(n))
		}
		if 20+Size(n+1) <= mtu {
			t.Fatalf("mtu %d: %d bytes would fit too", mtu, n+1)
		}
	}
	if n := MaxInner(1500, 20); n != 1446 {
		t.Errorf("mtu 1500: %d", n)
	}
}

// TestVitaPackets opens what two real Vita nodes sent each other.
func TestVitaPackets(t *testing.T) {
	f, err := os.Open("../../test/golden/testdata/vita/ske.pcap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	keys := map[byte]*Key{ // by the last byte of the sender's address
		1: newKey(t, unhex("b6da32d05a936975574dc122654fce91"), unhex("b6efc7e9")),
		2: newKey(t, unhex("6a4211c792fd1550c75f1d9e65430b9f"), unhex("50aaa3af")),
	}
	sas := map[byte]*tables.SA{1: {Replay: 128}, 2: {Replay: 128}}
	opened := 0
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if wire.Ethernet(data).Type() != wire.TypeIPv4 {
			continue
		}
		p, check := wire.ParseIPv4(data[14:])
		if check != wire.Good || p.Protocol() != wire.ProtoESP {
			continue
		}
		from := byte(p.Src())
		e := p.Payload()
		seq, ok := Infer(sas[from].Seq, wire.ESP(e).SeqLow(), 128)
		if !ok || !open(keys[from], seq, e) || !Mark(sas[from], sas[from].Window[:], seq) {
			t.Fatalf("packet %d from .%d does not open", seq, from)
		}
		inner, next, ok := Trim(e)
		if !ok || next != wire.ProtoIPv4 {
			t.Fatalf("packet %d from .%d: next header %d", seq, from, next)
		}
		if ip, check := wire.ParseIPv4(inner); check != wire.Good || !cksum.Valid(ip[:20], 0) {
			t.Fatalf("packet %d from .%d: inner packet %x", seq, from, inner)
		}
		opened++
	}
	if opened != 24 {
		t.Fatalf("%d packets, want 24", opened)
	}
}

func TestInfer(t *testing.T) {
	for _, c := range []struct {
		top  uint64
		low  uint32
		want uint64 // 0: refused
	}{
		// RFC 4303, A2.1, case A: the window lies in one span.
		{0x5_00001000, 0x00001000, 0x5_00001000},
		{0x5_00001000, 0x00001000 - 127, 0x5_00001000 - 127},
		{0x5_00001000, 0x00001000 - 128, 0x6_00001000 - 128},
		{0x5_00001000, 0xffffffff, 0x5_ffffffff},
		{0x5_00001000, 0, 0x6_00000000},
		{0x5_0000007f, 0, 0x5_00000000}, // the window's bottom is 0
		// Case B: it reaches into the span before.
		{0x5_0000007e, 0xffffffff, 0x4_ffffffff},
		{0x5_0000007e, 0, 0x5_00000000},
		{0x5_00000000, 0xffffff81, 0x4_ffffff81},
		{0x5_00000000, 0xffffff80, 0x5_ffffff80},
		// Around the first span.
		{0, 1, 1},
		{0, 0, 0},
		{0, 0xffffffff, 0},
		{10, 0xffffffff, 0},
		{0, 0x7fffffff, 0x7fffffff},
		{0xffffffff_ffffffff, 0, 0},
		{0xffffffff_ffffffff, 0xffffff80, 0xffffffff_ffffff80},
	} {
		got, ok := Infer(c.top, c.low, 128)
		if ok != (c.want != 0) || ok && got != c.want {
			t.Errorf("Infer(%#x, %#x) = %#x, %v, want %#x", c.top, c.low, got, ok, c.want)
		}
	}
}

// TestInferFindsEverySender: whatever the receiver has missed, up to nearly
// 2^32 packets, and whatever is late within the window, is inferred.
func TestInferFindsEverySender(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		size := 64 + r.Int64N(4096-64+1)
		top := r.Uint64() >> (r.Uint32N(40) + 1)
		step := int64(r.Uint64N(1<<32-uint64(size)-1)) - (size - 1)
		if r.Uint32N(2) == 0 {
			step = r.Int64N(5000) - (size - 1)
		}
		if int64(top)+step <= 0 {
			continue
		}
		seq := uint64(int64(top) + step)
		if got, ok := Infer(top, uint32(seq), uint16(size)); !ok || got != seq {
			t.Fatalf("top %#x, sent %#x: inferred %#x, %v", top, seq, got, ok)
		}
	}
}

// TestReplayAgainstList compares windows of all sizes with a list of what came.
func TestReplayAgainstList(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 5))
		sa := &tables.SA{Replay: []uint16{64, 65, 100, 127, 128, 192, 193, 256, 1000, 4095, 4096}[seed%11]}
		ring := sa.Window[:]
		if sa.Replay > tables.SmallWindow {
			ring = make([]uint64, 128)
		}
		size := uint64(sa.Replay)
		came := make(map[uint64]bool)
		var top uint64
		for range 5000 {
			seq := top + uint64(r.Uint32N(3*uint32(size)/2))
			if r.Uint32N(500) == 0 {
				seq = top + r.Uint64N(1<<34)
			}
			if back := uint64(r.Uint32N(5 * uint32(size) / 4)); r.Uint32N(8) != 0 {
				if back > top {
					continue
				}
				seq = top - back + uint64(r.Uint32N(3))
			}
			if seq == 0 {
				continue
			}
			want := !came[seq] && (seq > top || top-seq < size)
			if Seen(sa, ring, seq) == want || Mark(sa, ring, seq) != want {
				t.Fatalf("seed %d, window %d: number %d with top %d: want accepted %v", seed, size, seq, top, want)
			}
			if want {
				came[seq] = true
				top = max(top, seq)
			}
			if sa.Seq != top {
				t.Fatalf("top %d, want %d", sa.Seq, top)
			}
		}
	}
}

// TestResume: what an SA has continued behind has been seen, what comes next has
// not, wherever in a word of the window the number lies.
func TestResume(t *testing.T) {
	for _, size := range []uint16{64, 128, 4096} {
		for seq := uint64(1)<<32 - 70; seq < 1<<32+70; seq++ {
			sa := &tables.SA{Replay: size}
			ring := sa.Window[:]
			if size > tables.SmallWindow {
				ring = make([]uint64, 128)
			}
			Resume(sa, ring, seq)
			for back := range uint64(size) + 1 {
				if Mark(sa, ring, seq-back) {
					t.Fatalf("window %d at %#x: %d behind is taken", size, seq, back)
				}
			}
			for _, ahead := range []uint64{3, 1, 2, 64, 200, 137} {
				if !Mark(sa, ring, seq+ahead) || Mark(sa, ring, seq+ahead) {
					t.Fatalf("window %d at %#x: %d ahead is not taken, or twice", size, seq, ahead)
				}
			}
		}
	}
}

// TestDamagedWindow: a size that the ring has no room for lets nothing through
// twice.
func TestDamagedWindow(t *testing.T) {
	sa := &tables.SA{Replay: 65535}
	for seq := uint64(1); seq < 2000; seq++ {
		if !Mark(sa, sa.Window[:], seq) {
			t.Fatal(seq)
		}
		for back := range min(seq, 400) {
			if Mark(sa, sa.Window[:], seq-back) {
				t.Fatalf("%d passes again at %d", seq-back, seq)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	k := newKey(f, make([]byte, 16), make([]byte, 4))
	f.Add(uint64(0), seal(k, 77, 1, []byte("payload"), 0))
	f.Add(uint64(1<<32), make([]byte, MinLen))
	f.Fuzz(func(t *testing.T, top uint64, p []byte) {
		if len(p) < MinLen {
			return
		}
		// Whatever has been opened, or not, Trim stays within it.
		seq, ok := Infer(top, wire.ESP(p).SeqLow(), 128)
		if ok && seq < top && top-seq >= 128 && seq>>32 == top>>32 {
			t.Fatalf("top %#x: inferred %#x, which is before the window", top, seq)
		}
		authentic := open(k, seq, p)
		if authentic && wire.ESP(p).SPI() != 77 {
			t.Fatal("a forged packet is authentic")
		}
		Trim(p)
	})
}

func BenchmarkEncapsulate(b *testing.B) {
	for _, n := range []int{60, 576, 1440} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			k := newKey(b, make([]byte, 16), make([]byte, 4))
			bt := new(Batch)
			bufs := make([][]byte, 64)
			for i := range bufs {
				bufs[i] = make([]byte, Size(n))
			}
			b.SetBytes(int64(n))
			seq := uint64(0)
			for b.Loop() {
				if seq++; bt.Len() == 64 {
					bt.Seal()
					bt.Reset()
				}
				bt.Encapsulate(k, 1, seq, bufs[bt.Len()], n, 0, 4)
			}
		})
	}
}
