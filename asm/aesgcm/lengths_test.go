package aesgcm

import (
	"bytes"
	"crypto/cipher"
	"flag"
	"math/rand/v2"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The quick loop takes every length up to 600 and some beyond, at eight of the
// alignments in turn.
var (
	whole = flag.Bool("whole", false, "every length from 0 to 9000 at each of 64 alignments")
	thin  = flag.Bool("thin", false, "a part of all, for a processor that is interpreted")
)

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

// fencedKey returns keys off the heap that begin and end at a fence.
func fencedKeys(t testing.TB) []*Key {
	size := int(unsafe.Sizeof(Key{}))
	m := fenced(t, size)
	if len(m) < 2*size {
		m = fenced(t, 2*size)
	}
	return []*Key{(*Key)(unsafe.Pointer(&m[0])), (*Key)(unsafe.Pointer(&m[len(m)-size]))}
}

const longest = 9000

func TestEveryLength(t *testing.T) { onEveryTier(t, everyLength) }

// everyLength seals and opens packets of every length against crypto/cipher,
// each at all alignments in one batch, and of each length one right behind and
// one right before a page that cannot be touched. Associated data and keys lie
// before or behind such a page too; all other packets between bytes that must
// not change.
func everyLength(t *testing.T) {
	low, high, aadMem := fenced(t, longest+TagSize), fenced(t, longest+TagSize), fenced(t, 1)
	keys := fencedKeys(t)
	r := rand.New(rand.NewPCG(1, 1))
	content := randomBytes(r, longest)
	most := 8
	if *whole {
		most = 64
	}
	rest := make([][]byte, most)
	for i := range rest {
		rest[i] = alignedTo64(longest + TagSize + 3*64)
	}
	for _, keySize := range []int{16, 32} {
		raw := randomBytes(r, keySize)
		for _, k := range keys {
			if err := k.Expand(raw); err != nil {
				t.Fatal(err)
			}
		}
		ref := reference(t, raw)
		for n := 0; n <= longest; n++ {
			if *thin && n > 300 {
				n += int(r.Uint32N(400))
			}
			if n > 600 && !*whole {
				n += int(r.Uint32N(61))
			}
			if n > longest {
				break
			}
			nonce := [12]byte(randomBytes(r, 12))
			aadSize := 8 + n%2*4
			early, late := aadMem[:aadSize:aadSize], aadMem[len(aadMem)-aadSize:]
			copy(early, randomBytes(r, 12))
			copy(late, early)
			want := ref.Seal(nil, nonce[:], content[:n], early)
			ops := []Op{
				{Key: keys[0], Nonce: nonce, AAD: early, Buf: low[: n+TagSize : n+TagSize]},
				{Key: keys[1], Nonce: nonce, AAD: late, Buf: high[len(high)-n-TagSize:]},
			}
			at := make([]int, most) // where packets lie in rest
			for i := range most {
				at[i] = 64 + (i+n)%64
				if !*whole {
					at[i] = 64 + (8*i+n%8)%64
				}
				end := at[i] + n + TagSize
				fill(rest[i][:at[i]])
				fill(rest[i][end:])
				ops = append(ops, Op{Key: keys[i%2], Nonce: nonce, AAD: late, Buf: rest[i][at[i]:end:end]})
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
			for i, m := range rest {
				if !filled(m[:at[i]]) || !filled(m[at[i]+n+TagSize:]) {
					t.Fatalf("key %d, %d bytes at %d: wrote outside", keySize, n, at[i])
				}
			}
		}
	}
}

// alignedTo64 returns n bytes that begin at a multiple of 64.
func alignedTo64(n int) []byte {
	b := make([]byte, n+64)
	at := -int(uintptr(unsafe.Pointer(&b[0]))) & 63
	return b[at : at+n]
}

// fill and filled are about the next 128 bytes at most, on the side of the packet.
func fill(b []byte) {
	for i := range b[:min(len(b), 128)] {
		b[i] = 0xa5
	}
}

func filled(b []byte) bool {
	return bytes.Count(b[:min(len(b), 128)], []byte{0xa5}) == min(len(b), 128)
}

func TestAssociatedData(t *testing.T) { onEveryTier(t, associatedData) }

// associatedData takes every length of it, at both fences, with packets of which
// one, few and many go together.
func associatedData(t *testing.T) {
	mem := fenced(t, 1)
	r := rand.New(rand.NewPCG(3, 3))
	var refs [2]cipher.AEAD
	var keys [2]Key
	for i := range refs {
		raw := randomBytes(r, 16+16*i)
		if err := keys[i].Expand(raw); err != nil {
			t.Fatal(err)
		}
		refs[i] = reference(t, raw)
	}
	for size := range MaxAAD + 1 {
		for n := 0; n <= 300; n += 1 + n/100*12 {
			if *thin && n%7 > 0 {
				continue
			}
			early, late := mem[:size:size], mem[len(mem)-size:]
			copy(early, randomBytes(r, size))
			copy(late, early)
			plain, nonce := randomBytes(r, n), [12]byte(randomBytes(r, 12))
			for k := range keys {
				want := refs[k].Seal(nil, nonce[:], plain, late)
				for _, count := range []int{1, 9} {
					ops := make([]Op, count)
					for i := range ops {
						ops[i] = Op{Key: &keys[k], Nonce: nonce, AAD: [][]byte{early, late}[i%2], Buf: append(bytes.Clone(plain), make([]byte, TagSize)...)}
					}
					Seal(ops)
					for i := range ops {
						if !ops[i].OK || !bytes.Equal(ops[i].Buf, want) {
							t.Fatalf("%d bytes of it, packet of %d, op %d of %d: %x, want %x", size, n, i, count, ops[i].Buf, want)
						}
					}
					if size > 0 {
						ops[0].AAD = bytes.Clone(late)
						ops[0].AAD[n%size] ^= 1 << (n % 8)
					}
					Open(ops)
					for i := range ops {
						if want := size == 0 || i > 0; ops[i].OK != want {
							t.Fatalf("%d bytes of it, packet of %d, op %d of %d opens: %v", size, n, i, count, ops[i].OK)
						}
					}
				}
			}
		}
	}
}
