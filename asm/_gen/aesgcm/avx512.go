package main

import (
	"fmt"
	"slices"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

var zmm = []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15,
	Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31}

// mask512 leaves in k the mask of a vector that begins at byte disp of the
// stream, of which r bytes are valid; r-disp must be below 256. It uses RAX;
// RDX is zero and R13 all ones.
func mask512(k OpmaskPhysical, r Register, disp int, first bool) {
	MOVQ(r, RAX)
	if disp > 0 {
		SUBQ(I32(disp), RAX)
		CMOVQLT(RDX, RAX)
	}
	BZHIQ(RAX, R13, RAX)
	if first {
		ANDQ(I32(^0xffff), RAX)
	}
	KMOVQ(RAX, k)
}

// accumulate adds the products of d and the powers h to hi, lo and mid, after
// Karatsuba. It spoils d, t0 and t1; with folded nil it also makes the sums
// of h's halves.
func accumulate(d, h VecPhysical, folded Op, hi, lo, mid VecPhysical, t0, t1 VecPhysical, first bool) []func() {
	var l []func()
	do := func(f func()) { l = append(l, f) }
	if first {
		do(func() { VPCLMULQDQ(Imm(0x11), h, d, hi) })
		do(func() { VPCLMULQDQ(Imm(0x00), h, d, lo) })
	} else {
		do(func() { VPCLMULQDQ(Imm(0x11), h, d, t0) })
		do(func() { VPXORQ(t0, hi, hi) })
		do(func() { VPCLMULQDQ(Imm(0x00), h, d, t1) })
		do(func() { VPXORQ(t1, lo, lo) })
	}
	do(func() { VPSHUFD(Imm(0x4e), d, t0) })
	do(func() { VPXORQ(t0, d, d) })
	if folded == nil {
		do(func() { VPSHUFD(Imm(0x4e), h, t1) })
		do(func() { VPXORQ(t1, h, h) })
		folded = h
	}
	if first {
		do(func() { VPCLMULQDQ(Imm(0x00), folded, d, mid) })
	} else {
		do(func() { VPCLMULQDQ(Imm(0x00), folded, d, t0) })
		do(func() { VPXORQ(t0, mid, mid) })
	}
	return l
}

// reduce512 brings the accumulated products, lane by lane, to field elements
// in hi. It spoils all it is given but p, the polynomial.
func reduce512(hi, lo, mid, t, p VecPhysical) []func() {
	return []func(){
		func() { VPTERNLOGQ(Imm(0x96), hi, lo, mid) },
		func() { VPCLMULQDQ(Imm(0x01), lo, p, t) },
		func() { VPSHUFD(Imm(0x4e), lo, lo) },
		func() { VPTERNLOGQ(Imm(0x96), t, lo, mid) },
		func() { VPCLMULQDQ(Imm(0x01), mid, p, t) },
		func() { VPSHUFD(Imm(0x4e), mid, mid) },
		func() { VPTERNLOGQ(Imm(0x96), t, mid, hi) },
	}
}

// small512 takes packets of up to 96 bytes, four at a time, which may have four
// keys, two vectors of each. The hash of two of them always goes beside the
// cipher of the next two: the processor cannot look so far ahead by itself.
func small512(rounds int, open bool) {
	n := name("small512", open, rounds)
	begin(n, n+" takes n packets, a multiple of 4, of up to 96 bytes each.")
	MOVQ(I32(ctrDwords), RAX)
	KMOVQ(RAX, K7)
	XORL(EDX, EDX)
	MOVQ(I32(-1), R13)
	VMOVDQU64(ctrFirst, Z24)
	VMOVDQU64(ctrSecond, Z25)
	VMOVDQU64(revMask, Z27)
	VMOVDQU64(poly, Z28)
	keys := []GPPhysical{R8, R9, R10, R11}
	// setUp makes counter blocks for packet p of the ops at RDI.
	setUp := func(p int) {
		MOVQ(mem(RDI, 8*p), RBX)
		MOVQ(mem(RBX, opKey), keys[p])
		VBROADCASTI32X4(mem(RBX, opNonce), zmm[2*p])
		VMOVDQA64(zmm[2*p], zmm[2*p+1])
		VMOVDQA32(Z24, K7, zmm[2*p])
		VMOVDQA32(Z25, K7, zmm[2*p+1])
	}
	cipher := func(p, q int) (l []func()) { // of packets p and q
		for r := 0; r <= rounds; r++ {
			for i, p := range []int{p, q} {
				k, a, b := []VecPhysical{Z11, Z31}[i], zmm[2*p], zmm[2*p+1]
				l = append(l, func() { VBROADCASTI32X4(mem(keys[p], ctxRound+16*r), k) })
				for _, x := range []VecPhysical{a, b} {
					l = append(l, func() {
						switch r {
						case 0:
							VPXORQ(k, x, x)
						case rounds:
							VAESENCLAST(k, x, x)
						default:
							VAESENC(k, x, x)
						}
					})
				}
			}
		}
		return l
	}
	hi, lo, mid := zmm[12:16], zmm[16:20], zmm[20:24]
	k := []OpmaskPhysical{K1, K2, K3, K4, K5, K6}
	hash := func(p, at int, label string) (l []func()) { // and output, of the ops at RDI+at
		first, second, lens := k[p%2*3], k[p%2*3+1], k[p%2*3+2]
		do := func(f ...func()) { l = append(l, f...) }
		do(func() {
			if p == 0 {
				VMOVDQA64(X0, X26)
			} else {
				VINSERTI64X2(Imm(uint64(p)), low(zmm[2*p]), Z26, Z26)
			}
		})
		do(func() {
			MOVQ(mem(RDI, at+8*p), RBX)
			MOVQ(mem(RBX, opBuf), R12)
			MOVQ(mem(RBX, opBufLen), RCX) // the leader's length is the tag's
		}, func() { mask512(first, RCX, 0, true) }, func() { mask512(second, RCX, 64, false) })
		do(func() {
			a := data512(zmm[2*p], Z8, Z9, mem(R12, -leader), first, open)
			b := data512(zmm[2*p+1], Z8, Z10, mem(R12, 64-leader), second, open)
			storeSmall(fmt.Sprintf("%s_%s%d", n, label, p), RCX, a, b, first, second, mem(R12, -leader))
		}, func() {
			// Associated data into the first lane.
			MOVQ(mem(RBX, opAADLen), R15)
			BZHIQ(R15, R13, RAX)
			KMOVQ(RAX, lens)
			MOVQ(mem(RBX, opAAD), RAX)
			VMOVDQU8_Z(mem(RAX, 0), lens, X8)
			VPXORQ(Z8, Z9, Z9)
		}, func() { VPSHUFB(Z27, Z9, Z9) }, func() { VPSHUFB(Z27, Z10, Z10) })
		do(func() { bothLengths(RCX, R15, Z8) }, func() { lengths512(RCX, 2, Z9, Z10, Z8, lens) })
		do(func() {
			// RAX blocks in all: the powers begin that much before the end.
			NEGQ(RAX)
			SHLQ(Imm(4), RAX)
			ADDQ(keys[p], RAX)
			VMOVDQU64(mem(RAX, ctxPowers+16*fullBlocks), Z8)
		})
		do(accumulate(Z9, Z8, nil, hi[p], lo[p], mid[p], Z29, Z30, true)...)
		do(func() { VMOVDQU64(mem(RAX, ctxPowers+16*fullBlocks+64), Z8) })
		do(accumulate(Z10, Z8, nil, hi[p], lo[p], mid[p], Z29, Z30, false)...)
		return l
	}
	// What the lanes of all four sum up to, and the tags.
	finish := func(at int) (l []func()) {
		do := func(f ...func()) { l = append(l, f...) }
		for _, v := range [][]VecPhysical{hi, lo, mid} {
			// Sum the four lanes of each, packet p's into lane p.
			do(
				func() { VSHUFI64X2(Imm(0x44), v[1], v[0], Z8) },
				func() { VSHUFI64X2(Imm(0xee), v[1], v[0], Z9) },
				func() { VPXORQ(Z8, Z9, Z8) },
				func() { VSHUFI64X2(Imm(0x44), v[3], v[2], Z10) },
				func() { VSHUFI64X2(Imm(0xee), v[3], v[2], Z29) },
				func() { VPXORQ(Z10, Z29, Z10) },
				func() { VSHUFI64X2(Imm(0x88), Z10, Z8, Z9) },
				func() { VSHUFI64X2(Imm(0xdd), Z10, Z8, Z29) },
				func() { VPXORQ(Z9, Z29, v[0]) })
		}
		do(reduce512(hi[0], lo[0], mid[0], Z8, Z28)...)
		do(func() { VPSHUFB(Z27, hi[0], hi[0]) }, func() { VPXORQ(Z26, hi[0], Z8) })
		for p := range 4 {
			do(func() {
				MOVQ(mem(RDI, at+8*p), RCX)
				MOVQ(mem(RCX, opBuf), RBX)
				ADDQ(mem(RCX, opBufLen), RBX)
				switch {
				case open && p == 0:
					VMOVDQU(mem(RBX, -tagSize), X9)
				case open:
					VINSERTI64X2(Imm(uint64(p)), mem(RBX, -tagSize), Z9, Z9)
				case p == 0:
					VMOVDQU(X8, mem(RBX, -tagSize))
				default:
					VEXTRACTI64X2(Imm(uint64(p)), Z8, mem(RBX, -tagSize))
				}
				if !open {
					MOVB(Imm(1), mem(RCX, opOK))
				}
			})
		}
		if open {
			do(func() {
				VPXORQ(Z8, Z9, Z8)
				VPTESTMQ(Z8, Z8, K1)
				KMOVQ(K1, RAX)
			})
			for p := range 4 {
				do(func() {
					MOVQ(mem(RDI, at+8*p), RCX)
					TESTB(Imm(3<<(2*p)), AL)
					SETEQ(mem(RCX, opOK))
				})
			}
		}
		return l
	}
	after := func(at int, label string) []func() {
		return slices.Concat(hash(2, at, label), hash(3, at, label), finish(at))
	}
	setUp(0)
	setUp(1)
	interleave(cipher(0, 1), nil)
	Label(n + "_loop")
	setUp(2)
	setUp(3)
	interleave(cipher(2, 3), slices.Concat(hash(0, 0, ""), hash(1, 0, "")))
	SUBQ(Imm(4), RSI)
	JZ(LabelRef(n + "_last"))
	ADDQ(Imm(32), RDI)
	setUp(0)
	setUp(1)
	interleave(cipher(0, 1), after(-32, "next"))
	JMP(LabelRef(n + "_loop"))
	Label(n + "_last")
	interleave(after(0, "last"), nil)
	VZEROUPPER()
	RET()
}

// data512 makes output of the keystream ks for what stands at at, under a mask
// or, where k is nil, all of it, and leaves the ciphertext in c, zero beyond the
// mask. It returns where the output is: a store is the caller's.
func data512(ks, t, c VecPhysical, at Mem, k Op, open bool) (out VecPhysical) {
	m, masked := k.(OpmaskPhysical)
	switch {
	case open && masked:
		VMOVDQU8_Z(at, m, c)
		VPXORQ(c, ks, ks)
		return ks
	case open:
		VMOVDQU64(at, c)
		VPXORQ(c, ks, ks)
		return ks
	case masked:
		VMOVDQU8_Z(at, m, t)
		VPXORQ(t, ks, ks)
		VMOVDQU8_Z(ks, m, c)
		return c
	}
	VPXORQ(at, ks, c)
	return c
}

// store512 stores a vector under a mask, or where k is nil all of it. A masked
// store costs more than two whole ones on Zen 5, so where it can be avoided it
// is: see behindLeader.
func store512(v VecPhysical, k Op, at Mem) {
	if m, masked := k.(OpmaskPhysical); masked {
		VMOVDQU8(v, m, at)
		return
	}
	VMOVDQU64(v, at)
}

// behindLeader stores the first vector of a packet, all of whose bytes are the
// packet's but the leader.
func behindLeader(v VecPhysical, at Mem) {
	VEXTRACTI64X2(Imm(1), v, at.Offset(leader))
	VEXTRACTI64X4(Imm(1), v, at.Offset(2*leader))
}

// storeSmall stores both vectors of a small packet of which r bytes are left.
func storeSmall(label string, r Register, a, b VecPhysical, ka, kb OpmaskPhysical, at Mem) {
	CMPQ(r, Imm(64))
	JLT(LabelRef(label + "_part"))
	behindLeader(a, at)
	JEQ(LabelRef(label + "_stored"))
	CMPQ(r, Imm(80))
	JNE(LabelRef(label + "_second"))
	VMOVDQU(b.AsX(), at.Offset(64)) // one block more: 64 bytes in all
	JMP(LabelRef(label + "_stored"))
	Label(label + "_second")
	store512(b, kb, at.Offset(64))
	JMP(LabelRef(label + "_stored"))
	Label(label + "_part")
	store512(a, ka, at)
	Label(label + "_stored")
}

// lengths512 adds t, the lengths in every lane, to the last block of a part of
// the stream that has r bytes left in m vectors: to a or b, the last two. It
// leaves in RAX how many blocks the part has, and spoils RBX, R12 and k.
func lengths512(r Register, m int, a, b, t VecPhysical, k OpmaskPhysical) {
	LEAQ(mem(r, 15), RAX)
	SHRQ(Imm(4), RAX)
	LEAQ(Mem{Base: RAX, Index: RAX, Scale: 1, Disp: -8 * (m - 2)}, R12)
	MOVL(U32(3), EBX)
	SHLXQ(R12, RBX, RBX)
	KMOVQ(RBX, k)
	VPXORQ(t, a, k, a)
	KSHIFTRQ(Imm(8), k, k)
	VPXORQ(t, b, k, b)
	INCQ(RAX)
}

// bothLengths makes t the block of both lengths, in bits, in every lane, the
// packet's in the lower half. It spoils RAX.
func bothLengths(bufLen, aadLen Register, t VecPhysical) {
	LEAQ(mem(bufLen, -tagSize), RAX)
	VMOVQ(RAX, t.AsX())
	VPINSRQ(Imm(1), aadLen, t.AsX(), t.AsX())
	VPSLLQ(Imm(3), t.AsX(), t.AsX())
	VSHUFI64X2(Imm(0), t, t, t)
}

// aes512 lists the encryption of m vectors of counter blocks, which Z24 holds
// the next of, in place Z0 to Zm-1.
func aes512(m, rounds int) []func() {
	var l []func()
	do := func(f func()) { l = append(l, f) }
	for i := range m {
		do(func() { VPSHUFB(Z26, Z24, zmm[i]) })
		do(func() { VPADDD(Z25, Z24, Z24) })
	}
	for r := 0; r <= rounds; r++ {
		do(func() { VBROADCASTI32X4(mem(R8, ctxRound+16*r), Z16) })
		for i := range m {
			switch r {
			case 0:
				do(func() { VPXORQ(Z16, zmm[i], zmm[i]) })
			case rounds:
				do(func() { VAESENCLAST(Z16, zmm[i], zmm[i]) })
			default:
				do(func() { VAESENC(Z16, zmm[i], zmm[i]) })
			}
		}
	}
	return l
}

// fold512 sums the lanes of Z17 into Z30, the hash so far.
func fold512() []func() {
	return []func(){
		func() { VEXTRACTI64X4(Imm(1), Z17, Y20) },
		func() { VPXORQ(Y20, Y17, Y17) },
		func() { VEXTRACTI64X2(Imm(1), Y17, X20) },
		func() { VPXORQ(X20, X17, X30) },
	}
}

// hashFull512 lists the hashing of a full chunk, whose reflected ciphertext is
// in Z8 to Z15, into Z30.
func hashFull512() []func() {
	l := []func(){func() { VPXORQ(Z30, Z8, Z8) }}
	for i := range fullVectors {
		l = append(l, func() { VMOVDQU64(mem(R8, ctxPowers+64*i), Z22) })
		l = append(l, accumulate(zmm[8+i], Z22, mem(R8, ctxFolded+64*i), Z17, Z18, Z19, Z20, Z21, i == 0)...)
	}
	l = append(l, reduce512(Z17, Z18, Z19, Z20, Z28)...)
	return append(l, fold512()...)
}

// hashLast512 is the same for the last part, of m vectors. The powers begin at
// R10, and the tag's lanes stay unreduced.
func hashLast512(m int) {
	VPXORQ(Z30, Z8, Z8)
	for i := range m {
		VMOVDQU64(mem(R10, 64*i), Z22)
		for _, f := range accumulate(zmm[8+i], Z22, nil, Z17, Z18, Z19, Z20, Z21, i == 0) {
			f()
		}
	}
}

// last512 does what comes after the cipher for the last part of a packet.
func last512(m int, first, open bool) {
	if first {
		VMOVDQA64(X0, X29)
	}
	k := []OpmaskPhysical{K1, K2, K3, K4}
	for i := range m {
		var mask Op
		switch {
		case i >= m-3:
			mask = k[m-1-i]
			mask512(k[m-1-i], RCX, 64*i, first && i == 0)
		case first && i == 0:
			mask = K6 // all but the leader
		}
		out := data512(zmm[i], Z20, zmm[8+i], mem(R12, 64*i), mask, open)
		if mask == Op(K6) {
			behindLeader(out, mem(R12, 0))
		} else {
			store512(out, mask, mem(R12, 64*i))
		}
		VPSHUFB(Z27, zmm[8+i], zmm[8+i])
	}
	lengths512(RCX, m, zmm[8+m-2], zmm[8+m-1], Z31, K5)
	SHLQ(Imm(4), RAX)
	LEAQ(mem(R8, ctxPowers+16*fullBlocks), R10)
	SUBQ(RAX, R10)
	hashLast512(m)
}

// full512 does what comes after the cipher for a full chunk.
func full512(first, open bool) {
	if first {
		VMOVDQA64(X0, X29)
	}
	MOVL(U32(64), EBX)
	LEAQ(mem(RCX, -(fullBytes-64)), RAX) // 49 at least: it may end in the last vector
	CMPQ(RAX, RBX)
	CMOVQGT(RBX, RAX)
	BZHIQ(RAX, R13, RAX)
	KMOVQ(RAX, K1)
	for i := range fullVectors {
		var mask Op
		switch {
		case i == fullVectors-1:
			mask = K1
		case first && i == 0:
			mask = K6
		}
		out := data512(zmm[i], Z20, zmm[8+i], mem(R12, 64*i), mask, open)
		if mask == Op(K6) {
			behindLeader(out, mem(R12, 0))
		} else {
			store512(out, mask, mem(R12, 64*i))
		}
		VPSHUFB(Z27, zmm[8+i], zmm[8+i])
	}
	ADDQ(I32(fullBytes), R12)
	SUBQ(I32(fullBytes), RCX)
}

// large512 takes packets of any size, one after the other; what the processor
// overlaps of two is enough, since each fills its units. A packet is a number
// of full chunks and a last part of 2, 4, 6 or 8 vectors; hashing lags one
// chunk behind the cipher.
func large512(rounds int, open bool) {
	n := name("large512", open, rounds)
	begin(n, n+" takes n packets of any size.")
	MOVQ(I32(ctrDwords), RAX)
	KMOVQ(RAX, K7)
	MOVQ(I32(^0xffff), RAX)
	KMOVQ(RAX, K6)
	XORL(EDX, EDX)
	MOVQ(I32(-1), R13)
	VMOVDQU64(ctrLE, Z23)
	VMOVDQU64(ctrFour, Z25)
	VMOVDQU64(ctrSwap, Z26)
	VMOVDQU64(revMask, Z27)
	VMOVDQU64(poly, Z28)
	Label(n + "_loop")
	MOVQ(mem(RDI, 0), RBX)
	MOVQ(mem(RBX, opKey), R8)
	MOVQ(mem(RBX, opBuf), R12)
	MOVQ(mem(RBX, opBufLen), RCX) // the leader is as long as the tag
	MOVQ(mem(RBX, opAADLen), R15)
	MOVQ(mem(RBX, opAAD), R9)
	VBROADCASTI32X4(mem(RBX, opNonce), Z24)
	VMOVDQA32(Z23, K7, Z24)
	SUBQ(Imm(leader), R12)
	bothLengths(RCX, R15, Z31)
	BZHIQ(R15, R13, RAX)
	KMOVQ(RAX, K1)
	VMOVDQU8_Z(mem(R9, 0), K1, X30)
	VPSHUFB(X27, X30, X30)
	CMPQ(RCX, I32(maxInPart))
	JGT(LabelRef(n + "_chunk"))
	choose := func(prefix string) {
		for _, m := range []int{2, 4, 6} {
			CMPQ(RCX, I32(64*m-16))
			JLE(LabelRef(fmt.Sprintf("%s_%s%d", n, prefix, m)))
		}
	}
	choose("only")
	for _, m := range []int{8, 6, 4, 2} {
		Label(fmt.Sprintf("%s_only%d", n, m))
		interleave(aes512(m, rounds), nil)
		last512(m, true, open)
		if m != 2 {
			JMP(LabelRef(n + "_tag"))
		}
	}
	Label(n + "_tag")
	interleave(reduce512(Z17, Z18, Z19, Z20, Z28), nil)
	interleave(fold512(), nil)
	VPSHUFB(X27, X30, X30)
	VPXORQ(X29, X30, X0)
	MOVQ(mem(RDI, 0), RBX)
	MOVQ(mem(RBX, opBuf), R12)
	ADDQ(mem(RBX, opBufLen), R12)
	if open {
		VPXOR(mem(R12, -tagSize), X0, X0)
		VPTEST(X0, X0)
		SETEQ(mem(RBX, opOK))
	} else {
		VMOVDQU(X0, mem(R12, -tagSize))
		MOVB(Imm(1), mem(RBX, opOK))
	}
	ADDQ(Imm(8), RDI)
	DECQ(RSI)
	JNZ(LabelRef(n + "_loop"))
	VZEROUPPER()
	RET()

	Label(n + "_chunk")
	interleave(aes512(fullVectors, rounds), nil)
	full512(true, open)
	CMPQ(RCX, I32(maxInPart))
	JLE(LabelRef(n + "_rest"))
	Label(n + "_next")
	interleave(aes512(fullVectors, rounds), hashFull512())
	full512(false, open)
	CMPQ(RCX, I32(maxInPart))
	JGT(LabelRef(n + "_next"))
	Label(n + "_rest")
	TESTQ(RCX, RCX)
	CMOVQLT(RDX, RCX)
	choose("rest")
	for _, m := range []int{8, 6, 4, 2} {
		Label(fmt.Sprintf("%s_rest%d", n, m))
		interleave(aes512(m, rounds), hashFull512())
		last512(m, false, open)
		JMP(LabelRef(n + "_tag"))
	}
}
