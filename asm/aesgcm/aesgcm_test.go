package aesgcm

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The tiers are compared with GCM written out from SP 800-38D below, and that
// with test case 4 of McGrew and Viega's specification, whose associated data
// is longer than the tiers take.
func TestOracleAgainstPublishedVector(t *testing.T) {
	key := unhex(t, "feffe9928665731c6d6a8f9467308308")
	nonce := unhex(t, "cafebabefacedbaddecaf888")
	aad := unhex(t, "feedfacedeadbeeffeedfacedeadbeefabaddad2")
	plain := unhex(t, "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
	want := unhex(t, "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47")
	if got := oracleSeal(t, key, nonce, aad, plain); !bytes.Equal(got, want) {
		t.Fatalf("%x\nwant\n%x", got, want)
	}
}

// oracleSeal is GCM bit by bit (SP 800-38D, sections 6.3 to 7.1), slow and
// sharing nothing with the tiers but the block cipher.
func oracleSeal(t testing.TB, key, nonce, aad, plain []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	var h, j [16]byte
	block.Encrypt(h[:], h[:])
	copy(j[:], nonce)
	counter := uint32(1)
	keystream := func() (out [16]byte) {
		binary.BigEndian.PutUint32(j[12:], counter)
		counter++
		block.Encrypt(out[:], j[:])
		return out
	}
	first := keystream()
	var out []byte
	for i := 0; i < len(plain); i += 16 {
		ks := keystream()
		for k := i; k < min(i+16, len(plain)); k++ {
			out = append(out, plain[k]^ks[k-i])
		}
	}
	pad := func(b []byte) []byte { return append(append([]byte{}, b...), make([]byte, -len(b)&15)...) }
	data := append(pad(aad), pad(out)...)
	data = binary.BigEndian.AppendUint64(data, uint64(len(aad))*8)
	data = binary.BigEndian.AppendUint64(data, uint64(len(out))*8)
	var y [16]byte
	for i := 0; i < len(data); i += 16 {
		for k := range y {
			y[k] ^= data[i+k]
		}
		y = gfMul(y, h)
	}
	for k := range y {
		y[k] ^= first[k]
	}
	return append(out, y[:]...)
}

func gfMul(x, y [16]byte) (z [16]byte) {
	v := y
	for i := range 128 {
		if x[i/8]>>(7-i%8)&1 == 1 {
			for k := range z {
				z[k] ^= v[k]
			}
		}
		lsb := v[15] & 1
		for k := 15; k > 0; k-- {
			v[k] = v[k]>>1 | v[k-1]<<7
		}
		v[0] >>= 1
		if lsb == 1 {
			v[0] ^= 0xe1
		}
	}
	return z
}

func TestBatchesAgainstOracle(t *testing.T) { onEveryTier(t, batchesAgainstOracle) }

func batchesAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	for _, keySize := range []int{16, 32} {
		var ops []Op
		var plains, wants [][]byte
		for _, n := range []int{0, 1, 4, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 1400, 1438} {
			for _, aadSize := range []int{8, 12} {
				raw := random(keySize)
				k := new(Key)
				if err := k.Expand(raw); err != nil {
					t.Fatal(err)
				}
				plain, aad := random(n), random(aadSize)
				o := Op{Key: k, AAD: aad, Buf: append(append([]byte{}, plain...), make([]byte, TagSize)...)}
				copy(o.Nonce[:], random(12))
				ops, plains = append(ops, o), append(plains, plain)
				wants = append(wants, oracleSeal(t, raw, o.Nonce[:], aad, plain))
			}
		}
		Seal(ops)
		for i := range ops {
			if !ops[i].OK || !bytes.Equal(ops[i].Buf, wants[i]) {
				t.Fatalf("key %d bytes, op %d: OK %v\n%x\nwant\n%x", keySize, i, ops[i].OK, ops[i].Buf, wants[i])
			}
		}
		Open(ops)
		for i := range ops {
			if !ops[i].OK || !bytes.Equal(ops[i].Buf[:len(plains[i])], plains[i]) {
				t.Fatalf("key %d bytes, op %d does not open", keySize, i)
			}
		}
	}
}

func TestEveryFlippedBitIsSeen(t *testing.T) { onEveryTier(t, everyFlippedBitIsSeen) }

func everyFlippedBitIsSeen(t *testing.T) {
	var k Key
	if err := k.Expand(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	sealed := []Op{{Key: &k, AAD: make([]byte, 12), Buf: make([]byte, 40+TagSize)}}
	Seal(sealed)
	for bit := range (12 + 12 + 40 + TagSize) * 8 {
		o := Op{Key: &k, AAD: make([]byte, 12), Buf: bytes.Clone(sealed[0].Buf)}
		switch i := bit / 8; {
		case i < 12:
			o.Nonce[i] ^= 1 << (bit % 8)
		case i < 24:
			o.AAD[i-12] ^= 1 << (bit % 8)
		default:
			o.Buf[i-24] ^= 1 << (bit % 8)
		}
		ops := []Op{o, {Key: &k, AAD: make([]byte, 12), Buf: bytes.Clone(sealed[0].Buf)}}
		Open(ops)
		if ops[0].OK || !ops[1].OK {
			t.Fatalf("bit %d: forged packet OK %v, its neighbour %v", bit, ops[0].OK, ops[1].OK)
		}
	}
}

func TestUnusableOpsAreRefused(t *testing.T) { onEveryTier(t, unusableOpsAreRefused) }

func unusableOpsAreRefused(t *testing.T) {
	var k, empty Key
	if err := k.Expand(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	ops := []Op{
		{Key: nil, AAD: make([]byte, 8), Buf: make([]byte, 32), OK: true},
		{Key: &empty, AAD: make([]byte, 8), Buf: make([]byte, 32), OK: true},
		{Key: &k, AAD: make([]byte, 8), Buf: make([]byte, 15), OK: true},
		{Key: &k, AAD: make([]byte, MaxAAD+1), Buf: make([]byte, 32), OK: true},
		{Key: &k, AAD: nil, Buf: nil, OK: true},
	}
	for name, f := range map[string]func([]Op){"Seal": Seal, "Open": Open} {
		for i := range ops {
			ops[i].OK = true
		}
		f(ops)
		for i := range ops {
			if ops[i].OK {
				t.Errorf("%s: op %d is OK", name, i)
			}
		}
	}
	for _, n := range []int{0, 15, 17, 24, 31, 33} {
		if k.Expand(make([]byte, n)) == nil {
			t.Errorf("key of %d bytes accepted", n)
		}
	}
	k.Clear()
	one := []Op{{Key: &k, AAD: make([]byte, 8), Buf: make([]byte, 32)}}
	if Seal(one); one[0].OK {
		t.Error("a cleared key still seals")
	}
}

func TestCallsDoNotAllocate(t *testing.T) { onEveryTier(t, callsDoNotAllocate) }

func callsDoNotAllocate(t *testing.T) {
	var k Key
	if err := k.Expand(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	ops := make([]Op, 64)
	for i := range ops {
		ops[i] = Op{Key: &k, AAD: make([]byte, 12), Buf: make([]byte, 1400+TagSize)}
	}
	if n := testing.AllocsPerRun(20, func() { Seal(ops); Open(ops) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(20, func() { ops[0].Buf[0] ^= 1; Open(ops[:1]) }); n != 0 {
		t.Fatalf("%v allocations for a forged packet", n)
	}
}
