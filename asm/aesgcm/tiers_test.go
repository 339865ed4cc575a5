package aesgcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
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
	if (Lacks() == "") != (len(want) > 1) {
		t.Errorf("lacks %q, but has %v", Lacks(), want)
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
	rounds := 1500
	if *thin {
		rounds = 60
	}
	for round := range rounds {
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

func FuzzTiers(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("nonce nonce "), []byte("12345678"), []byte("packet"), uint8(3))
	f.Add(make([]byte, 32), make([]byte, 12), make([]byte, 12), make([]byte, 1420), uint8(70))
	for i, n := range []int{0, 16, 95, 97, 127, 129, 255, 257, 495, 497, 512, 1024} { // where kernels begin and end
		f.Add(make([]byte, 16+16*(i%2)), make([]byte, 12), make([]byte, i), make([]byte, n), uint8(1+4*(i%3)))
	}
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
