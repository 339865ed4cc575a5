package forwarding

import (
	"math/bits"

	"vita/asm/cksum"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// Nearly all frames come from a station, are for us, and carry a packet without
// options that is to be forwarded. The loops here see that by comparing a few
// words, and do all that such a packet needs. Whatever they do not see through
// they leave to the functions that know everything, and say what is wrong with
// it: classifyPrivate, classifyPublic, classifyPublic6. What passes here would
// pass there, to the same end.

// Headers are read as whole words, each byte once, and fields taken out of the
// words: the compiler makes one load of several bytes only where no other
// expression has one of them. In a word the first byte is the lowest.
const (
	unicast = 1<<49 - 1 // of a frame's first word: the destination, and whether the source is a group
	nobody  = 1 << 63   // not within it

	type4 = 0x0008 // EtherTypes
	type6 = 0xdd86
)

// header4 is an IPv4 header without options.
type header4 struct {
	x, y uint64 // version and length, TOS, total length, identification, fragment; TTL, protocol, checksum, source
	z    uint32 // destination
}

func loadHeader4(p *[wire.IPv4Len]byte) header4 {
	return header4{wire.Le64(p[0:]), wire.Le64(p[8:]), wire.Le32(p[16:])}
}

func (h *header4) plain() bool     { return uint8(h.x) == 0x45 }
func (h *header4) total() int      { return int(bits.ReverseBytes16(uint16(h.x >> 16))) }
func (h *header4) fragment() bool  { return h.x>>48&0xff3f != 0 }
func (h *header4) protocol() uint8 { return uint8(h.y >> 8) }
func (h *header4) src() uint32     { return bits.ReverseBytes32(uint32(h.y >> 32)) }
func (h *header4) dst() uint32     { return bits.ReverseBytes32(h.z) }
func (h *header4) valid() bool     { return cksum.ValidWords(h.x, h.y, h.z) }

// header6 is an IPv6 header up to its addresses.
type header6 uint64

func (h header6) plain() bool { return h&0xf0 == 0x60 }
func (h header6) length() int { return int(bits.ReverseBytes16(uint16(h >> 32))) }
func (h header6) next() uint8 { return uint8(h >> 48) }

// sortPrivate parts the frames of a batch by what they are. What is to be
// forwarded it puts, from its IP header on, into its family's part of the
// batch; m4 and m6 are how many there are of each.
func (w *worker) sortPrivate(rx []pktbuf.Packet) (m4, m6 int) {
	s := &w.a.private
	pool, own, us4, us6 := w.pool, s.self.IP, uint64(nobody), uint64(nobody)
	if s.self.Has4 {
		us4 = s.us
	}
	if s.self.Has6 {
		us6 = s.us
	}
	for _, k := range rx {
		h := pool.Head(k)
		first, kind := wire.Le64(h[:])&unicast, wire.Le16(h[12:])
		if first == us4 && kind == type4 {
			p := loadHeader4((*[wire.IPv4Len]byte)(h[wire.EthernetLen:]))
			total, src, dst := p.total(), p.src(), p.dst()
			if p.plain() && total >= wire.IPv4Len && wire.EthernetLen+total <= int(k.Len) && p.valid() &&
				!wire.Martian(src) && !wire.Martian(dst) && dst != own {
				k.Off, k.Len = k.Off+wire.EthernetLen, uint16(total) // without Ethernet's padding
				w.fwd[m4], w.addr[m4] = k, dst
				m4++
				continue
			}
		} else if first == us6 && kind == type6 {
			p := header6(wire.Le64(h[wire.EthernetLen:]))
			total := wire.IPv6Len + p.length()
			src, dst := (*[16]byte)(h[wire.EthernetLen+8:]), (*[16]byte)(h[wire.EthernetLen+24:])
			if p.plain() && wire.EthernetLen+total <= int(k.Len) && p.next() != wire.ProtoICMP6 &&
				!wire.Martian6(src) && !wire.Martian6(dst) && *dst != s.self.IP6 {
				k.Off, k.Len = k.Off+wire.EthernetLen, uint16(total)
				w.fwd6[m6], w.addr6[m6] = k, *dst
				m6++
				continue
			}
		}
		m4, m6 = w.classifyPrivate(k, m4, m6)
	}
	return m4, m6
}

// sortPublic queues the ESP packets of a batch for the cipher and returns how
// many there are. sortPublic6 is for tunnels of IPv6.
func (w *worker) sortPublic(rx []pktbuf.Packet) (m int) {
	refs := w.cameBy(rx)
	if w.a.v6 {
		return w.sortPublic6(rx, refs)
	}
	s := &w.a.public
	pool, first, own := w.pool, s.us, s.self.IP
	var run espRun
	for i, k := range rx {
		h := pool.Head(k)
		p := loadHeader4((*[wire.IPv4Len]byte)(h[wire.EthernetLen:]))
		total := p.total()
		if wire.Le64(h[:])&unicast == first && wire.Le16(h[12:]) == type4 && p.plain() &&
			p.protocol() == wire.ProtoESP && !p.fragment() && p.dst() == own &&
			total >= wire.IPv4Len && wire.EthernetLen+total <= int(k.Len) && p.valid() {
			k.Off, k.Len = k.Off+wire.EthernetLen+wire.IPv4Len, uint16(total-wire.IPv4Len)
			m = w.queueESP(&run, k, m, refs, i)
			continue
		}
		m = w.classifyPublic(k, m)
	}
	return m
}

func (w *worker) sortPublic6(rx []pktbuf.Packet, refs []uint32) (m int) {
	s := &w.a.public
	pool, first := w.pool, s.us
	var run espRun
	for i, k := range rx {
		h := pool.Head(k)
		p := header6(wire.Le64(h[wire.EthernetLen:]))
		if wire.Le64(h[:])&unicast == first && wire.Le16(h[12:]) == type6 && p.plain() &&
			p.next() == wire.ProtoESP && *(*[16]byte)(h[wire.EthernetLen+24:]) == s.self.IP6 &&
			wire.EthernetLen+wire.IPv6Len+p.length() <= int(k.Len) {
			k.Off, k.Len = k.Off+wire.EthernetLen+wire.IPv6Len, uint16(p.length())
			m = w.queueESP(&run, k, m, refs, i)
			continue
		}
		m = w.classifyPublic6(k, m)
	}
	return m
}

// plain4 puts the packet in an opened ESP packet k at place m of the batch, if it
// is plain; otherwise it returns false and has done nothing.
func (w *worker) plain4(k pktbuf.Packet, payload []byte, m int) bool {
	ecn := w.outerECN(k)
	k.Off += esp.HeaderLen
	p := loadHeader4((*[wire.IPv4Len]byte)(w.pool.Head(k)[:]))
	total, src := p.total(), p.src()
	if !p.plain() || total < wire.IPv4Len || total > len(payload) || !p.valid() ||
		wire.Martian(src) || wire.Martian(p.dst()) || ecn != wire.NotECT {
		return false
	}
	k.Len = uint16(total) // without traffic flow padding
	w.fwd[m], w.addr[m] = k, src
	return true
}

// plain6 is plain4 for a packet of IPv6, into its part of the batch.
func (w *worker) plain6(k pktbuf.Packet, payload []byte, m int) bool {
	ecn := w.outerECN(k)
	k.Off += esp.HeaderLen
	h := w.pool.Head(k)
	p := header6(wire.Le64(h[:]))
	total := wire.IPv6Len + p.length()
	src := (*[16]byte)(h[8:])
	if !p.plain() || total > len(payload) || ecn != wire.NotECT || wire.Martian6(src) || wire.Martian6((*[16]byte)(h[24:])) {
		return false
	}
	k.Len = uint16(total)
	w.fwd6[m], w.addr6[m] = k, *src
	return true
}

// ethHead is an Ethernet header, as two words that overlap.
type ethHead struct{ a, b uint64 }

// ethernetHead makes the header of frames from src to dst; typ is type4 or type6.
func ethernetHead(dst wire.MACWord, src *wire.MAC, typ uint16) ethHead {
	var f [wire.EthernetLen]byte
	to := dst.MAC()
	wire.Ethernet(f[:]).Put(&to, src, bits.ReverseBytes16(typ))
	return ethHead{wire.Le64(f[:]), wire.Le64(f[6:])}
}

func (h *ethHead) put(f *[pktbuf.HeadLen]byte) {
	wire.PutLe64(f[0:], h.a)
	wire.PutLe64(f[6:], h.b)
}

// espRun is the SA of the ESP packet before, from which the next one mostly is.
type espRun struct {
	spi    uint32
	usable bool // the SA is within its limits, and authentic packets come by it
	sa     *tables.SA
	key    *esp.Key
	index  int
	top    uint64 // its highest sequence number
}

// queueESP queues the ESP packet k, frame i of its batch, at place m of the
// cipher's, unless it is not acceptable, and returns the next place.
func (w *worker) queueESP(r *espRun, k pktbuf.Packet, m int, refs []uint32, i int) int {
	ref := uint32(0)
	if i < len(refs) {
		ref = refs[i]
	}
	if w.follows(r, k, m, ref) {
		return m + 1
	}
	return w.classifyESP(k, m, 0)
}

// follows queues the ESP packet k at place m of the cipher's batch, if its number
// is above all that were seen of its SA, and in the same span of 2^32 (see
// esp.Infer). Otherwise it returns false and has done nothing. Ref is its SA's
// reference, where that is known already.
func (w *worker) follows(r *espRun, k pktbuf.Packet, m int, ref uint32) bool {
	h := w.pool.Head(k)
	spi, low := wire.Be32(h[0:]), wire.Be32(h[4:])
	if spi != r.spi || r.sa == nil {
		if ref == 0 {
			ref = w.spis.find(spi)
		}
		i := tables.SAIndex(ref)
		if ref == 0 || i >= len(w.mem.SAs) {
			return false
		}
		sa := &w.mem.SAs[i]
		r.spi, r.sa, r.key, r.index, r.top = spi, sa, w.keys.at(i), i, sa.Seq
		r.usable = r.key != nil && !w.ended(sa, 0) && sa.Failures < esp.ResyncAfter && uint32(sa.Seq) >= uint32(sa.Replay)
	}
	if !r.usable || k.Len < esp.MinLen || low <= uint32(r.top) {
		return false
	}
	seq := r.top - uint64(uint32(r.top)) + uint64(low)
	w.crypt.DecapsulateAt(r.key, spi, seq, wire.Le64(h[8:]), w.pool.Bytes(k)[esp.HeaderLen:])
	w.fwd[m], w.sas[m], w.index[m], w.seqs[m], w.udp[m] = k, r.sa, r.index, seq, 0
	return true
}
