package esp

import "vita/forwarding/tables"

// The anti-replay window is a ring of words, after RFC 6479: bit n%64 of word
// n/64%len says that sequence number n has been seen. It has room for at least
// 64 numbers more than the window, so that the word that the highest number
// lies in never holds numbers that are still within the window, and moving on
// is clearing words. Len is a power of two.

// window returns how many numbers, the highest included, are looked at.
func window(sa *tables.SA, ring []uint64) uint64 {
	// Shared memory is not trusted for what would let replays through.
	return max(min(uint64(sa.Replay), uint64(len(ring)-1)*64), 1)
}

// Infer returns the whole sequence number of a packet of which 32 bits were
// sent, given the highest one received so far and the window's size (RFC 4303,
// appendix A2.2). It returns false where the number would lie before the first.
//
// The window [top-size+1, top] lies in one span of 2^32 numbers (case A), or
// reaches back into the one before (case B):
//
//	A  low at or above the window's bottom: same span; below: the next one
//	B  low at or above the bottom, taken modulo 2^32: the span before; else the same
func Infer(top uint64, low uint32, size uint16) (seq uint64, ok bool) {
	high, topLow := uint32(top>>32), uint32(top)
	behind := uint32(max(size, 1)) - 1
	bottom := topLow - behind
	if topLow >= behind {
		if low < bottom {
			high++
			if high == 0 {
				return 0, false // beyond the last number
			}
		}
	} else if low >= bottom {
		if high == 0 {
			return 0, false
		}
		high--
	}
	seq = uint64(high)<<32 | uint64(low)
	return seq, seq != 0
}

// Seen reports whether a sequence number was marked before, or lies before the
// window, so that it must be taken for marked.
func Seen(sa *tables.SA, ring []uint64, seq uint64) bool {
	if seq > sa.Seq {
		return false
	}
	return sa.Seq-seq >= window(sa, ring) || ring[seq>>6&uint64(len(ring)-1)]>>(seq&63)&1 != 0
}

// Mark notes that the authentic packet with a sequence number has come. It
// returns false where Seen is true by now: two copies may be in one batch.
func Mark(sa *tables.SA, ring []uint64, seq uint64) bool {
	if Seen(sa, ring, seq) {
		return false
	}
	mask := uint64(len(ring) - 1)
	if seq > sa.Seq {
		at := sa.Seq >> 6
		for n := min(seq>>6-at, uint64(len(ring))); n > 0; n-- {
			at++
			ring[at&mask] = 0
		}
		sa.Seq = seq
	}
	ring[seq>>6&mask] |= 1 << (seq & 63)
	return true
}

// Resume lets an SA go on behind a sequence number, for one that continues
// another's work: all numbers up to it count as seen.
func Resume(sa *tables.SA, ring []uint64, seq uint64) {
	for i := range ring {
		ring[i] = ^uint64(0)
	}
	ring[seq>>6&uint64(len(ring)-1)] >>= 63 - seq&63 // those behind it have not come yet
	sa.Seq = seq
}

// Resynchronisation after RFC 4303, appendix A3: where more than 2^32 packets
// were lost, the inferred upper half is wrong and no packet is authentic any
// more.
const (
	ResyncAfter  = 1024 // packets in a row that were not authentic
	ResyncEpochs = 8    // upper halves to be tried
)
