// Package bundle reads and writes what upgrades an appliance: one file that can
// be checked while it comes in. Nothing of it but two lengths is looked at
// before its signature is verified.
//
//	magic | length, manifest | length, signature of the manifest | parts
//
// The lengths are 32 bits, little-endian. The manifest (JSON) has the sizes and
// hashes of the parts; the signature is minisign's, so that operators can check
// it by themselves.
package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"aead.dev/minisign"
)

const (
	magic        = "VITAUPG1"
	maxManifest  = 64 << 10
	maxSignature = 4 << 10
)

// Limits of the parts.
const (
	MaxKernel = 24 << 20
	MaxRoot   = 80 << 20
)

// Part says what a part must be.
type Part struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Manifest describes an image. The kernel image comes first, the root after it.
type Manifest struct {
	Version string `json:"version"`
	Kernel  Part   `json:"kernel"`
	Root    Part   `json:"root"`
}

// Errors that callers tell apart.
var (
	ErrForeign   = errors.New("this is no upgrade of an appliance")
	ErrSignature = errors.New("the signature is not that of the vendor whose key this appliance has")
	ErrDamaged   = errors.New("the upgrade is damaged")
)

// Write writes a bundle.
func Write(w io.Writer, version string, kernel, root []byte, key minisign.PrivateKey) error {
	part := func(b []byte) Part {
		sum := sha256.Sum256(b)
		return Part{int64(len(b)), hex.EncodeToString(sum[:])}
	}
	m := Manifest{version, part(kernel), part(root)}
	if err := m.check(); err != nil {
		return err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	r := minisign.NewReader(bytes.NewReader(text))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	// The comments have no time, so that the same image gives the same bytes.
	signature := r.SignWithComments(key, "vita "+version, "signature of the manifest")
	var head bytes.Buffer
	head.WriteString(magic)
	for _, b := range [][]byte{text, signature} {
		head.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(b))))
		head.Write(b)
	}
	for _, b := range [][]byte{head.Bytes(), kernel, root} {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// check refuses what no image can be.
func (m Manifest) check() error {
	if _, err := parse(m.Version); err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		Part
		most int64
	}{{"kernel", m.Kernel, MaxKernel}, {"root", m.Root, MaxRoot}} {
		if b, err := hex.DecodeString(p.SHA256); p.Size <= 0 || p.Size > p.most || err != nil || len(b) != sha256.Size {
			return fmt.Errorf("%s: %d bytes with the hash %.70q: %w", p.name, p.Size, p.SHA256, ErrDamaged)
		}
	}
	return nil
}

// Reader reads a bundle whose signature has been verified.
type Reader struct {
	Manifest Manifest
	r        io.Reader
}

// Open reads the head of a bundle, and verifies that it is signed by a key.
func Open(r io.Reader, key minisign.PublicKey) (*Reader, error) {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return nil, ErrForeign
	}
	manifest, err := block(r, maxManifest)
	if err != nil {
		return nil, err
	}
	signature, err := block(r, maxSignature)
	if err != nil {
		return nil, err
	}
	if !minisign.Verify(key, manifest, signature) {
		return nil, ErrSignature
	}
	b := &Reader{r: r}
	if err := json.Unmarshal(manifest, &b.Manifest); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return b, b.Manifest.check()
}

// block reads a length and so many bytes.
func block(r io.Reader, most uint32) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n > most {
		return nil, ErrForeign
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return b, nil
}

// Kernel reads the kernel image, which comes first.
func (b *Reader) Kernel() ([]byte, error) {
	var out bytes.Buffer
	err := b.part(&out, b.Manifest.Kernel, "kernel")
	return out.Bytes(), err
}

// Root writes the root to w, after the kernel was read. Only where it returns no
// error is what was written what was signed.
func (b *Reader) Root(w io.Writer) error { return b.part(w, b.Manifest.Root, "root") }

// Same reads again what Root has written, and says whether it is that.
func (b *Reader) Same(r io.Reader) error {
	again := &Reader{b.Manifest, r}
	return again.Root(io.Discard)
}

func (b *Reader) part(w io.Writer, p Part, name string) error {
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(w, h), b.r, p.Size); errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: it ends early: %w", name, ErrDamaged)
	} else if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != p.SHA256 {
		return fmt.Errorf("%s: the hash is another: %w", name, ErrDamaged)
	}
	return nil
}

// parse reads a version: up to four numbers with dots.
func parse(version string) (n [4]uint64, err error) {
	parts := strings.Split(version, ".")
	if len(parts) > len(n) {
		return n, fmt.Errorf("version %.40q: more than %d numbers", version, len(n))
	}
	for i, s := range parts {
		if n[i], err = strconv.ParseUint(s, 10, 32); err != nil {
			return n, fmt.Errorf("version %.40q: want numbers with dots between them, as 1.2.3", version)
		}
	}
	return n, nil
}

// Newer says whether a version is newer than another. One that is no version,
// as that of a build for tests, is older than all.
func Newer(version, than string) bool {
	a, err := parse(version)
	if err != nil {
		return false
	}
	b, err := parse(than)
	if err != nil {
		return true
	}
	for i := range a {
		if a[i] != b[i] {
			return a[i] > b[i]
		}
	}
	return false
}
