package esp

import "vita/forwarding/tables"

// Window is how far behind the highest sequence number a packet may come.
const Window = 128

// Infer returns the whole sequence number of a packet of which 32 bits were
// sent, given the highest one received so far (RFC 4303, appendix A2.2). It
// returns false where the number would lie before the first.
//
// The window [top-127, top] lies in one span of 2^32 numbers (case A), or
// reaches back into the one before (case B):
//
//	A  low at or above the window's bottom: same span; below: the next one
//	B  low at or above the bottom, taken modulo 2^32: the span before; else the same
func Infer(top uint64, low uint32) (seq uint64, ok bool) {
	high, topLow := uint32(top>>32), uint32(top)
	bottom := topLow - (Window - 1)
	if topLow >= Window-1 {
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
func Seen(sa *tables.SA, seq uint64) bool {
	if seq > sa.Seq {
		return false
	}
	behind := sa.Seq - seq
	return behind >= Window || sa.Window[behind>>6]>>(behind&63)&1 != 0
}

// Mark notes that the authentic packet with a sequence number has come. It
// returns false where Seen is true by now: two copies may be in one batch.
func Mark(sa *tables.SA, seq uint64) bool {
	if Seen(sa, seq) {
		return false
	}
	if seq > sa.Seq {
		shift(&sa.Window, seq-sa.Seq)
		sa.Seq = seq
	}
	behind := sa.Seq - seq
	sa.Window[behind>>6] |= 1 << (behind & 63)
	return true
}

// shift moves the 128 bits of w up by n; what passes the end is lost.
func shift(w *[2]uint64, n uint64) {
	switch {
	case n >= Window:
		w[0], w[1] = 0, 0
	case n >= 64:
		w[1], w[0] = w[0]<<(n-64), 0
	default: // shifting by 64, where n is 0, yields 0
		w[1], w[0] = w[1]<<n|w[0]>>(64-n), w[0]<<n
	}
}
