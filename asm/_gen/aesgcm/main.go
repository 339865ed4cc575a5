// Command aesgcm writes the amd64 kernels of asm/aesgcm.
//
// GCM (SP 800-38D) is laid out here as two streams of blocks that run side by
// side, so that one vector of four blocks serves both:
//
//	counter blocks   J0   J0+1  J0+2  ...  J0+n
//	GHASH blocks     AAD  C1    C2    ...  Cn    lengths
//
// The packet's bytes are addressed from 16 before its start, and the first
// lane of the first vector is masked out: it yields E(J0), which masks the tag,
// and takes the associated data. GHASH block i of N is multiplied by H^(N-i),
// so the vectors of powers are loaded from place 32-N of a table in falling
// order, and all products of up to 32 blocks share one reduction.
//
// Field elements are kept byte-reversed, with H multiplied by x beforehand, so
// that the bit order of GCM needs no shift after a carry-less product; what is
// left of the reduction is two products with the constant 0xc2 << 56.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The layout of the context and of Op, which asm/aesgcm asserts.
const (
	ctxPowers   = 0                 // H^32 .. H^1, then zeros
	ctxRounds   = 40 * 16           // how many rounds the cipher has
	ctxRound    = ctxRounds + 16    // the key schedule
	ctxFolded   = ctxRounds + 256   // for each of H^32 .. H^1 both halves' sum
	ctxSmall    = ctxPowers + 24*16 // what a small packet needs lies from here on ...
	ctxSmallEnd = ctxRounds + 192   // ... to here, with a key of 128 bits
	opKey       = 0                 // in Op
	opNonce     = 8                 //
	opAAD       = 24                //
	opAADLen    = 32                //
	opBuf       = 48                //
	opBufLen    = 56                //
	opOK        = 72                //
	tagSize     = 16                //
	fullVectors = 8                 // vectors of a full chunk
	fullBlocks  = 4 * fullVectors   //
	fullBytes   = 16 * fullBlocks   //
	maxInPart   = fullBytes - 16    // stream bytes of a part with its lengths
	leader      = 16                // stream bytes in front of the packet's
	ctrDwords   = 0x8888            // the last dword of each lane
)

func main() {
	constants()
	for _, rounds := range []int{10, 14} {
		for _, open := range []bool{false, true} {
			small512(rounds, open)
			large512(rounds, open)
		}
	}
	powersAVX()
	subWordAVX()
	prefetch()
	for _, w := range []int{1, 2} {
		for _, open := range []bool{false, true} {
			avx2(w, open)
		}
	}
	cpuFeatures()
	Generate()
}

var (
	revMask, ctrSwap, ctrFirst, ctrSecond, ctrLE, ctrFour, poly Mem // of every tier, or of avx512
	ctrLE2, ctrOnes, ctrTwos, ctrBE, ctrWithFirst, tailMask     Mem // of avx2
)

func constants() {
	table := func(name string, size int, f func(at int) byte) Mem {
		m := GLOBL(name, RODATA|NOPTR)
		for q := 0; q < size; q += 8 {
			var v uint64
			for b := range 8 {
				v |= uint64(f(q+b)) << (8 * b)
			}
			DATA(q, U64(v))
		}
		return m
	}
	lanes := func(name string, f func(lane, i int) byte) Mem {
		return table(name, 64, func(at int) byte { return f(at/16, at%16) })
	}
	revMask = lanes("reverse", func(_, i int) byte { return byte(15 - i) })
	ctrSwap = lanes("counterSwap", func(_, i int) byte {
		if i >= 12 {
			return byte(27 - i)
		}
		return byte(i)
	})
	ctrFirst = lanes("counterFirst", func(l, i int) byte {
		if i == 15 {
			return byte(1 + l)
		}
		return 0
	})
	ctrSecond = lanes("counterSecond", func(l, i int) byte {
		if i == 15 {
			return byte(5 + l)
		}
		return 0
	})
	ctrLE = lanes("counterLittle", func(l, i int) byte {
		if i == 12 {
			return byte(1 + l)
		}
		return 0
	})
	ctrFour = lanes("counterFour", func(_, i int) byte {
		if i == 12 {
			return 4
		}
		return 0
	})
	ctrLE2 = lanes("counterLittle2", func(l, i int) byte {
		if i == 12 {
			return byte(2 + l)
		}
		return 0
	})
	ctrOnes = lanes("counterOnes", func(_, i int) byte {
		if i == 12 {
			return 1
		}
		return 0
	})
	ctrTwos = lanes("counterTwos", func(_, i int) byte {
		if i == 12 {
			return 2
		}
		return 0
	})
	// Counters in the packet's order: 1 and 1, then 2 and so on.
	ctrBE = table("counterBig", 10*16, func(at int) byte {
		if at%16 == 15 {
			return byte(max(1, at/16))
		}
		return 0
	})
	// 2 and 1, 4 and 1, 6 and 1.
	ctrWithFirst = table("counterWithFirst", 6*16, func(at int) byte {
		switch at % 32 {
		case 15:
			return byte(2 + at/16)
		case 31:
			return 1
		}
		return 0
	})
	// From 32-n on the mask of n bytes.
	tailMask = table("tailMask", 3*16, func(at int) byte {
		if at < 32 {
			return 0xff
		}
		return 0
	})
	poly = lanes("polynomial", func(_, i int) byte {
		switch i {
		case 15:
			return 0xc2
		case 0:
			return 1
		}
		return 0
	})
}

func mem(base Register, disp int) Mem { return Mem{Base: base, Disp: disp} }

// name makes a kernel's name from what it does.
func name(what string, open bool, rounds int) string {
	n := what
	if open {
		n += "Open"
	} else {
		n += "Seal"
	}
	switch rounds {
	case 10:
		n += "128"
	case 14:
		n += "256"
	}
	return n
}

// begin starts a kernel over n ops.
func begin(n, doc string) {
	TEXT(n, NOSPLIT, "func(ops **byte, n int)")
	Pragma("noescape")
	Doc(doc)
	Load(Param("ops"), RDI)
	Load(Param("n"), RSI)
}

// interleave emits two lists of instructions in proportion.
func interleave(a, b []func()) {
	i, k := 0, 0
	for i < len(a) || k < len(b) {
		if k >= len(b) || i < len(a) && i*len(b) <= k*len(a) {
			a[i]()
			i++
		} else {
			b[k]()
			k++
		}
	}
}
