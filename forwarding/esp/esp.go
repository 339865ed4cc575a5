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
type Key struct {
	GCM  aesgcm.Key
	Salt [4]byte
}

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
func (b *Batch) add(k *Key, spi uint32, seq uint64, iv *[IVLen]byte, buf []byte) {
	op, aad := &b.ops[b.n], &b.aad[b.n]
	wire.PutBe32(aad[0:], spi)
	wire.PutBe32(aad[4:], uint32(seq>>32))
	wire.PutBe32(aad[8:], uint32(seq))
	op.Key = &k.GCM
	*(*[4]byte)(op.Nonce[0:4]) = k.Salt
	*(*[IVLen]byte)(op.Nonce[4:12]) = *iv
	op.AAD = aad[:]
	op.Buf = buf
	b.n++
}

// Encapsulate writes ESP header, padding and trailer around a payload of n
// bytes that lies in p behind room for the header, and queues it. The payload
// is followed by fill zero bytes that hide its length (RFC 4303, 2.7). P has
// exactly Size(n+fill) bytes. The caller sees to it that seq is used once.
func (b *Batch) Encapsulate(k *Key, spi uint32, seq uint64, p []byte, n, fill int, next uint8) {
	wire.PutBe32(p[0:], spi)
	wire.PutBe32(p[4:], uint32(seq))
	// The sequence number is never used twice under a key, which is all that
	// GCM asks of an IV.
	iv := (*[IVLen]byte)(p[wire.ESPLen:HeaderLen])
	wire.PutLe64(iv[:], seq)
	if fill > 0 {
		clear(p[HeaderLen+n : HeaderLen+n+fill])
		n += fill
	}
	end := len(p) - aesgcm.TagSize
	pad := p[HeaderLen+n : end]
	for i := range len(pad) - TrailerLen {
		pad[i] = byte(i + 1) // RFC 4303, 2.4: 1, 2, 3
	}
	pad[len(pad)-2], pad[len(pad)-1] = byte(len(pad)-TrailerLen), next
	b.add(k, spi, seq, iv, p[HeaderLen:])
}

// Seal encrypts all queued packets. OK then tells of each whether it was done.
func (b *Batch) Seal() { aesgcm.Seal(b.ops[:b.n]) }

// Decapsulate queues the ESP packet p, of at least MinLen bytes, whose whole
// sequence number is taken to be seq.
func (b *Batch) Decapsulate(k *Key, seq uint64, p []byte) {
	b.add(k, wire.Be32(p), seq, (*[IVLen]byte)(p[wire.ESPLen:HeaderLen]), p[HeaderLen:])
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
	padding := b[n : len(b)-TrailerLen]
	step := byte(0)
	if pad > 0 && padding[0] != 0 {
		step = 1
	}
	for i, c := range padding {
		if c != byte(i+1)*step {
			return nil, 0, false
		}
	}
	return b[:n], next, true
}
