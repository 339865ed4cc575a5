package aesgcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/c2sp/wycheproof"
	"golang.org/x/sys/unix"
)

// onEveryTier runs a test on each tier. A machine that has what a tier needs
// must run it: nothing is skipped.
func onEveryTier(t *testing.T, f func(*testing.T)) {
	for _, tier := range tiersHere() {
		t.Run(tier, func(t *testing.T) {
			force(t, tier)
			f(t)
		})
	}
}

// TestTiersMatchProcessor asks the kernel what the processor has, so that a
// tier which is wrongly thought missing is noticed.
func TestTiersMatchProcessor(t *testing.T) {
	want := []string{"generic"}
	if info, err := os.ReadFile("/proc/cpuinfo"); runtime.GOARCH == "amd64" && err == nil {
		has := func(flags ...string) bool {
			all := strings.Fields(string(info))
			return !slices.ContainsFunc(flags, func(f string) bool { return !slices.Contains(all, f) })
		}
		if has("aes", "pclmulqdq", "avx2") {
			want = append(want, "avx2-128")
			if has("vaes", "vpclmulqdq") {
				want = append(want, "avx2-256")
			}
			if has("avx512f", "avx512bw", "avx512dq", "avx512vl", "vaes", "vpclmulqdq", "bmi2") {
				want = append(want, "avx512")
			}
		}
	}
	if got := tiersHere(); !slices.Equal(got, want) {
		t.Fatalf("tiers %v, the processor has %v", got, want)
	}
	best, width, _ := strings.Cut(want[len(want)-1], "-")
	if Tier() != best || width != "" && fmt.Sprint(Registers()) != width {
		t.Fatalf("%s on registers of %d bits in use, want %s", Tier(), Registers(), want[len(want)-1])
	}
}

func TestForceRefusesUnknownTier(t *testing.T) {
	for _, name := range []string{"", "none", "sse", "AVX512"} {
		if err := Force(name); !errors.Is(err, ErrTier) || name != "" && !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A key of another tier must not be taken for one of ours.
func TestKeyOfAnotherTier(t *testing.T) {
	all := tiersHere()
	for _, a := range all {
		for _, b := range all {
			force(t, a)
			var k Key
			if err := k.Expand(make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
			force(t, b)
			ops := []Op{{Key: &k, AAD: make([]byte, 8), Buf: make([]byte, 32)}}
			if Seal(ops); ops[0].OK != (a == b || a[:4] == b[:4]) { // both widths have the same keys
				t.Errorf("key of %s on %s: OK %v", a, b, ops[0].OK)
			}
			if err := k.Expand(make([]byte, 32)); err != nil {
				t.Fatal(err)
			}
			if Seal(ops); !ops[0].OK {
				t.Errorf("key of %s expanded anew on %s: not sealed", a, b)
			}
		}
	}
}

func TestGenericPlacesAreUsedAgain(t *testing.T) {
	force(t, "generic")
	keys := make([]Key, 100)
	for round := range 3 {
		for i := range keys {
			if err := keys[i].Expand(bytes.Repeat([]byte{byte(i)}, 16)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range keys {
			ops := []Op{{Key: &keys[i], AAD: make([]byte, 8), Buf: make([]byte, 32)}}
			want := reference(t, bytes.Repeat([]byte{byte(i)}, 16)).Seal(nil, make([]byte, 12), make([]byte, 16), make([]byte, 8))
			if Seal(ops); !bytes.Equal(ops[0].Buf, want) {
				t.Fatalf("round %d, key %d", round, i)
			}
		}
	}
	if n := len(*generic.aeads.Load()); n > 1000 {
		t.Fatalf("%d places for 100 keys", n)
	}
	for i := range keys {
		keys[i].Clear()
	}
}

func reference(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// fenced returns n bytes of memory, of whole pages, between two that cannot be
// touched.
func fenced(t testing.TB, n int) []byte {
	t.Helper()
	page := unix.Getpagesize()
	n = (n + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, n+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	for _, fence := range [][]byte{m[:page], m[page+n:]} {
		if err := unix.Mprotect(fence, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return m[page : page+n : page+n]
}

func TestEveryLength(t *testing.T) { onEveryTier(t, everyLength) }

// everyLength seals and opens packets of every length against crypto/cipher,
// each at several alignments in one batch, the first right behind and the
// second right before a page that cannot be touched, the associated data
// likewise, and the rest between bytes that must not change. The keys lie off
// the heap.
func everyLength(t *testing.T) {
	const longest = 9000
	low, high, aadMem := fenced(t, longest+TagSize), fenced(t, longest+TagSize), fenced(t, 1)
	keyMem := fenced(t, int(unsafe.Sizeof(Key{})))
	k := (*Key)(unsafe.Pointer(&keyMem[len(keyMem)-int(unsafe.Sizeof(Key{}))]))
	r := rand.New(rand.NewPCG(1, 1))
	offsets := []int{1, 4, 15, 32, 63}
	rest := make([][]byte, len(offsets))
	for i := range rest {
		rest[i] = make([]byte, longest+TagSize+256)
	}
	content := randomBytes(r, longest)
	for _, keySize := range []int{16, 32} {
		raw := randomBytes(r, keySize)
		if err := k.Expand(raw); err != nil {
			t.Fatal(err)
		}
		ref := reference(t, raw)
		for n := 0; n <= longest; n++ {
			if n > 2200 {
				n += int(r.Uint32N(61))
			}
			if n > longest {
				break
			}
			nonce := [12]byte(randomBytes(r, 12))
			aad := aadMem[len(aadMem)-8-n%2*4:]
			copy(aad, randomBytes(r, 12))
			want := ref.Seal(nil, nonce[:], content[:n], aad)
			ops := []Op{
				{Key: k, Nonce: nonce, AAD: aad, Buf: low[: n+TagSize : n+TagSize]},
				{Key: k, Nonce: nonce, AAD: aad, Buf: high[len(high)-n-TagSize:]},
			}
			for i, o := range offsets {
				for b := range 64 {
					rest[i][o+n+TagSize+b] = 0xa5
				}
				ops = append(ops, Op{Key: k, Nonce: nonce, AAD: aad, Buf: rest[i][o : o+n+TagSize : o+n+TagSize]})
			}
			for i := range ops {
				copy(ops[i].Buf, content[:n])
			}
			Seal(ops)
			for i := range ops {
				if !ops[i].OK || !bytes.Equal(ops[i].Buf, want) {
					t.Fatalf("key %d, %d bytes, op %d: OK %v\n%x\nwant\n%x", keySize, n, i, ops[i].OK, ops[i].Buf, want)
				}
			}
			forged := n % len(ops)
			ops[forged].Buf[n+n%TagSize] ^= 1 << (n % 8)
			Open(ops)
			for i := range ops {
				if ops[i].OK == (i == forged) || i != forged && !bytes.Equal(ops[i].Buf[:n], content[:n]) {
					t.Fatalf("key %d, %d bytes, op %d opens: OK %v, forged %d", keySize, n, i, ops[i].OK, forged)
				}
			}
			for i, o := range offsets {
				for b := range 64 {
					if rest[i][o+n+TagSize+b] != 0xa5 || b < o && rest[i][b] != 0 {
						t.Fatalf("key %d, %d bytes at %d: wrote outside", keySize, n, o)
					}
				}
			}
		}
	}
}

func TestMixedBatches(t *testing.T) { onEveryTier(t, mixedBatches) }

// mixedBatches takes batches of any mix of keys, lengths and forged packets.
func mixedBatches(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	var keys [9]Key
	var refs [9]cipher.AEAD
	for i := range keys {
		raw := randomBytes(r, 16+16*(i%2))
		if err := keys[i].Expand(raw); err != nil {
			t.Fatal(err)
		}
		refs[i] = reference(t, raw)
	}
	for round := range 1500 {
		ops := make([]Op, r.IntN(140))
		plain, want := make([][]byte, len(ops)), make([][]byte, len(ops))
		most := []int{8, 97, 113, 600, 1500, 9000}[round%6]
		for i := range ops {
			n, k := r.IntN(most), r.IntN(len(keys))
			if round%3 == 0 {
				k &^= 1 // keys of one size
			}
			plain[i] = randomBytes(r, n)
			ops[i] = Op{Key: &keys[k], AAD: randomBytes(r, r.IntN(MaxAAD+1)), Buf: append(bytes.Clone(plain[i]), make([]byte, TagSize)...)}
			copy(ops[i].Nonce[:], randomBytes(r, 12))
			want[i] = refs[k].Seal(nil, ops[i].Nonce[:], plain[i], ops[i].AAD)
			if r.IntN(30) == 0 {
				ops[i].Key = nil
			}
		}
		Seal(ops)
		forged := make([]bool, len(ops))
		for i := range ops {
			if ops[i].OK != (ops[i].Key != nil) || ops[i].OK && !bytes.Equal(ops[i].Buf, want[i]) {
				t.Fatalf("round %d, op %d of %d, %d bytes: OK %v", round, i, len(ops), len(plain[i]), ops[i].OK)
			}
			if forged[i] = r.IntN(8) == 0; forged[i] {
				ops[i].Buf[r.IntN(len(ops[i].Buf))] ^= 1 << r.IntN(8)
			}
		}
		Open(ops)
		for i := range ops {
			good := ops[i].Key != nil && !forged[i]
			if ops[i].OK != good || good && !bytes.Equal(ops[i].Buf[:len(plain[i])], plain[i]) {
				t.Fatalf("round %d, op %d of %d opens: OK %v, want %v", round, i, len(ops), ops[i].OK, good)
			}
		}
	}
}

func TestPublishedVectors(t *testing.T) { onEveryTier(t, publishedVectors) }

// publishedVectors are those of McGrew and Viega's specification of GCM, which
// NIST took over, with nonces of 96 bits and no associated data.
func publishedVectors(t *testing.T) {
	const key, nonce = "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888"
	const plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
	zero := strings.Repeat("00", 16)
	for _, c := range []struct{ name, key, nonce, plain, sealed string }{
		{"1", zero, zero[:24], "", "58e2fccefa7e3061367f1d57a4e7455a"},
		{"2", zero, zero[:24], zero, "0388dace60b6a392f328c2b971b2fe78" + "ab6e47d42cec13bdf53a67b21257bddf"},
		{
			"3", key, nonce, plain, "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985" +
				"4d5c2af327cd64a62cf35abd2ba6fab4",
		},
		{"13", zero + zero, zero[:24], "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{"14", zero + zero, zero[:24], zero, "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919"},
		{
			"15", key + key, nonce, plain, "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad" +
				"b094dac5d93471bdec1a502270e3cc6c",
		},
	} {
		vector(t, c.name, unhex(t, c.key), unhex(t, c.nonce), nil, unhex(t, c.plain), unhex(t, c.sealed), true)
	}
}

// vector checks one published vector: alone, and among others in a batch, where
// small packets take another kernel.
func vector(t *testing.T, name string, key, nonce, aad, plain, sealed []byte, valid bool) {
	t.Helper()
	var k Key
	if err := k.Expand(key); err != nil {
		t.Fatal(err)
	}
	defer k.Clear()
	for _, n := range []int{1, 5} {
		seal, open := make([]Op, n), make([]Op, n)
		for i := range n {
			seal[i] = Op{Key: &k, Nonce: [12]byte(nonce), AAD: aad, Buf: append(bytes.Clone(plain), make([]byte, TagSize)...)}
			open[i] = Op{Key: &k, Nonce: [12]byte(nonce), AAD: aad, Buf: bytes.Clone(sealed)}
		}
		Seal(seal)
		Open(open)
		for i := range n {
			if got := bytes.Equal(seal[i].Buf, sealed); !seal[i].OK || got != valid {
				t.Errorf("%s: sealed %x, want %x (valid: %v)", name, seal[i].Buf, sealed, valid)
			}
			if open[i].OK != valid || valid && !bytes.Equal(open[i].Buf[:len(plain)], plain) {
				t.Errorf("%s: opens: %v", name, open[i].OK)
			}
		}
	}
}

func TestWycheproof(t *testing.T) { onEveryTier(t, wycheproofVectors) }

func wycheproofVectors(t *testing.T) {
	f, err := fs.ReadFile(wycheproof.TestVectors, "aes_gcm_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TestGroups []struct {
			IVSize, KeySize, TagSize int
			Tests                    []struct {
				TcID                                int
				Key, IV, AAD, Msg, CT, Tag, Comment string
				Result                              string
			}
		}
	}
	if err := json.Unmarshal(f, &file); err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, g := range file.TestGroups {
		for _, c := range g.Tests {
			if g.IVSize != 96 || g.TagSize != 128 || g.KeySize == 192 || len(c.AAD) > 2*MaxAAD {
				continue // not what ESP has
			}
			vector(t, fmt.Sprint(c.TcID, " ", c.Comment), unhex(t, c.Key), unhex(t, c.IV), unhex(t, c.AAD), unhex(t, c.Msg), unhex(t, c.CT+c.Tag), c.Result == "valid")
			done++
		}
	}
	if done < 100 {
		t.Fatalf("only %d vectors fit", done)
	}
}

func FuzzTiers(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("nonce nonce "), []byte("12345678"), []byte("packet"), uint8(3))
	f.Add(make([]byte, 32), make([]byte, 12), make([]byte, 12), make([]byte, 1420), uint8(70))
	f.Fuzz(func(t *testing.T, key, nonce, aad, plain []byte, count uint8) {
		if len(key) != 16 && len(key) != 32 || len(nonce) != 12 || len(aad) > MaxAAD {
			return
		}
		ref := reference(t, key)
		for _, tier := range tiersHere() {
			force(t, tier)
			var k Key
			if err := k.Expand(key); err != nil {
				t.Fatal(err)
			}
			ops := make([]Op, count)
			for i := range ops {
				n := len(plain) * (i + 1) / len(ops)
				ops[i] = Op{Key: &k, Nonce: [12]byte(nonce), AAD: aad, Buf: append(bytes.Clone(plain[:n]), make([]byte, TagSize)...)}
			}
			Seal(ops)
			for i := range ops {
				n := len(ops[i].Buf) - TagSize
				if want := ref.Seal(nil, nonce, plain[:n], aad); !ops[i].OK || !bytes.Equal(ops[i].Buf, want) {
					t.Fatalf("%s: op %d of %d is %s, want %s", tier, i, count, hex.EncodeToString(ops[i].Buf), hex.EncodeToString(want))
				}
			}
			Open(ops)
			for i := range ops {
				if n := len(ops[i].Buf) - TagSize; !ops[i].OK || !bytes.Equal(ops[i].Buf[:n], plain[:n]) {
					t.Fatalf("%s: op %d of %d does not open", tier, i, count)
				}
			}
			k.Clear()
		}
	})
}
