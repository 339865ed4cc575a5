// Package esp puts packets into ESP tunnel mode (RFC 4303) with AES-GCM
// (RFC 4106) and takes them out, in batches and in place.
//
//	outbound  inner packet                   inbound  SPI .. ICV
//	            Encapsulate (queue)                     Infer, Seen
//	            Seal (whole batch)                      Decapsulate (queue)
//	          SPI .. ICV                                Open (whole batch)
//	                                                    Mark, then Trim
//	                                                  inner packet
//
// Extended sequence numbers are always on. The package knows SAs and bytes; it
// must not know routes, outer IP headers or where packets come from.
package esp

import (
	"vita/asm/aesgcm"
	"vita/forwarding/wire"
)

// Sizes of the parts of an ESP packet, in bytes.
const (
	IVLen      = 8
	HeaderLen  = wire.ESPLen + IVLen // in front of the inner packet
	TrailerLen = 2                   // pad length and next header
	MinLen     = HeaderLen + 4 + aesgcm.TagSize
)

// BatchSize is how many packets a Batch holds.
const BatchSize = 128

// Key is the secret part of an SA.
type Key struct{ GCM aesgcm.Key }

// SetSalt sets the first four bytes of all nonces (RFC 4106, section 4). It
// comes after the key is expanded.
func (k *Key) SetSalt(salt [4]byte) { k.GCM.Room()[0] = wire.Le32(salt[:]) }

func (k *Key) salt() uint32 { return k.GCM.Room()[0] }

// padded returns the length of n bytes of payload with padding and trailer: a
// multiple of four (RFC 4303, 2.4).
func padded(n int) int { return (n + TrailerLen + 3) &^ 3 }

// Size returns the length of the ESP packet around n bytes of payload.
func Size(n int) int { return HeaderLen + padded(n) + aesgcm.TagSize }

// MaxInner returns the largest inner packet whose ESP packet, with an outer
// header of outer bytes, is at most mtu bytes long; 0 where there is none.
func MaxInner(mtu, outer int) int {
	room := mtu - outer - HeaderLen - aesgcm.TagSize
	return max(room&^3-TrailerLen, 0)
}

// Batch collects packets for one call of the cipher. It must not be copied
// once used; its memory is its own, so that nothing is allocated per packet.
type Batch struct {
	ops [BatchSize]aesgcm.Op
	aad [BatchSize][12]byte
	n   int
}

// Len returns how many packets are queued.
func (b *Batch) Len() int { return b.n }

// Reset forgets the queued packets.
func (b *Batch) Reset() { b.n = 0 }

// add queues an operation. The nonce is salt and IV (RFC 4106, section 4), the
// associated data SPI and the whole sequence number (section 5).
func (b *Batch) add(k *Key, spi uint32, seq, iv uint64, buf []byte) {
	i := b.n & (BatchSize - 1)
	op, aad := &b.ops[i], &b.aad[i]
	wire.PutBe64(aad[0:], uint64(spi)<<32|seq>>32)
	wire.PutBe32(aad[8:], uint32(seq))
	op.Key = &k.GCM
	wire.PutLe64(op.Nonce[0:], uint64(k.salt())|iv<<32)
	wire.PutLe32(op.Nonce[8:], uint32(iv>>32))
	if op.AAD == nil { // it stays
		op.AAD = aad[:]
	}
	op.Buf = buf
	b.n++
}

// trailers are padding, pad length and a next header of 0, in the order of their
// bytes, by how much padding there is (RFC 4303, 2.4: 1, 2, 3).
var trailers = [4]uint64{0, 0x0101, 0x020201, 0x03030201}

// Encapsulate writes ESP header, padding and trailer around a payload of n
// bytes that lies in p behind room for the header, and queues it. The payload
// is followed by fill zero bytes that hide its length (RFC 4303, 2.7). P has
// exactly Size(n+fill) bytes. The caller sees to it that seq is used once.
func (b *Batch) Encapsulate(k *Key, spi uint32, seq uint64, p []byte, n, fill int, next uint8) {
	h := (*[HeaderLen]byte)(p)
	wire.PutBe64(h[0:], uint64(spi)<<32|uint64(uint32(seq)))
	// The sequence number is never used twice under a key, which is all that
	// GCM asks of an IV.
	wire.PutLe64(h[wire.ESPLen:], seq)
	if fill > 0 {
		clear(p[HeaderLen+n : HeaderLen+n+fill])
		n += fill
	}
	// What is written of these eight bytes behind the trailer is the ICV's room.
	pad := uint(-n-TrailerLen) & 3
	wire.PutLe64(p[HeaderLen+n:], trailers[pad]|uint64(next)<<(8*pad+8))
	b.add(k, spi, seq, seq, p[HeaderLen:])
}

// Seal encrypts all queued packets. OK then tells of each whether it was done.
func (b *Batch) Seal() { aesgcm.Seal(b.ops[:b.n]) }

// Decapsulate queues the ESP packet p, of at least MinLen bytes, whose whole
// sequence number is taken to be seq.
func (b *Batch) Decapsulate(k *Key, seq uint64, p []byte) {
	h := (*[HeaderLen]byte)(p)
	b.add(k, wire.Be32(h[0:]), seq, wire.Le64(h[wire.ESPLen:]), p[HeaderLen:])
}

// DecapsulateAt is Decapsulate where the header has been read: buf lies behind it.
func (b *Batch) DecapsulateAt(k *Key, spi uint32, seq, iv uint64, buf []byte) {
	b.add(k, spi, seq, iv, buf)
}

// Open checks and decrypts all queued packets. Where OK is false for one,
// nothing of it may be used.
func (b *Batch) Open() { aesgcm.Open(b.ops[:b.n]) }

// OK reports whether the i-th queued packet was sealed, or was authentic.
func (b *Batch) OK(i int) bool { return b.ops[i].OK }

// Trim returns what an opened packet p, from its SPI to its ICV, carries, and
// the protocol of that; false where the trailer is not within the packet, or the
// padding is neither 1, 2, 3, ... (RFC 4303, 2.4) nor Vita's zeros.
func Trim(p []byte) (payload []byte, next uint8, ok bool) {
	b := p[HeaderLen : len(p)-aesgcm.TagSize]
	if len(b) < TrailerLen {
		return nil, 0, false
	}
	pad, next := int(b[len(b)-2]), b[len(b)-1]
	n := len(b) - TrailerLen - pad
	if n < 0 {
		return nil, 0, false
	}
	if pad == 0 {
		return b[:n], next, true
	}
	padding := b[n : len(b)-TrailerLen]
	step := byte(0)
	if padding[0] != 0 {
		step = 1
	}
	for i, c := range padding {
		if c != byte(i+1)*step {
			return nil, 0, false
		}
	}
	return b[:n], next, true
}
