package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func data(blocks int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, blocks*BlockSize)
	_, _ = r.Read(b) // it never fails
	return b
}

// TestTree follows the path of a block's hash from the block to the root, for
// trees of one, two and three levels.
func TestTree(t *testing.T) {
	for _, blocks := range []int{1, 2, 127, 128, 129, 300, 128*128 + 1} {
		d := data(blocks)
		tree, root, err := Build(bytes.NewReader(d))
		if err != nil || root.Blocks != uint64(blocks) {
			t.Fatal(root, err)
		}
		// The levels, from the data on; on disk the last one comes first.
		sizes := []int{(blocks + 127) / 128}
		for sizes[len(sizes)-1] > 1 {
			sizes = append(sizes, (sizes[len(sizes)-1]+127)/128)
		}
		total := 0
		for _, n := range sizes {
			total += n
		}
		if len(tree) != total*BlockSize {
			t.Fatalf("%d blocks: a tree of %d bytes, want %d", blocks, len(tree), total*BlockSize)
		}
		for _, n := range []int{0, blocks / 2, blocks - 1} {
			h := sha256.Sum256(d[n*BlockSize:][:BlockSize])
			end := len(tree)
			for _, size := range sizes {
				level := tree[end-size*BlockSize : end]
				end -= size * BlockSize
				if !bytes.Equal(level[n*32:][:32], h[:]) {
					t.Fatalf("%d blocks: the hash of block %d is not where it belongs", blocks, n)
				}
				n /= 128
				h = sha256.Sum256(level[n*BlockSize:][:BlockSize])
			}
			if h != root.Hash {
				t.Fatalf("%d blocks: the path does not end at the root", blocks)
			}
		}
		whole := append(d, tree...)
		if !root.Is(bytes.NewReader(whole)) {
			t.Errorf("%d blocks: not recognised", blocks)
		}
		whole[len(d)] ^= 1
		if root.Is(bytes.NewReader(whole)) || root.Is(bytes.NewReader(whole[:len(d)])) {
			t.Errorf("%d blocks: recognised though it is another", blocks)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, n := range []int{0, 1, BlockSize + 1} {
		if _, _, err := Build(bytes.NewReader(make([]byte, n))); err == nil {
			t.Errorf("%d bytes", n)
		}
	}
}

func TestRoot(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	r, err := ParseRoot(hash + ":77")
	if err != nil || r.Blocks != 77 || hex.EncodeToString(r.Hash[:]) != hash || r.String() != hash+":77" || r.Sectors() != 77*8 {
		t.Error(r, err)
	}
	want := "1 /dev/vda2 /dev/vda2 4096 4096 77 77 sha256 " + hash + " - 1 panic_on_corruption"
	if got := r.Table("/dev/vda2"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, bad := range []string{"", hash, hash + ":", hash + ":0", hash + ":-1", hash + ":5000000", hash[2:] + ":1", "x" + hash[1:] + ":1", hash + ":1:1"} {
		if _, err := ParseRoot(bad); err == nil {
			t.Errorf("%q", bad)
		}
	}
}

func FuzzParseRoot(f *testing.F) {
	f.Add(strings.Repeat("0a", 32) + ":77")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRoot(s); err == nil {
			if again, err := ParseRoot(r.String()); err != nil || again != r {
				t.Errorf("%q: %v, %v", s, again, err)
			}
		}
	})
}
