package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The kernels of the tier avx2, once on 128-bit registers (AES-NI, PCLMULQDQ)
// and once on 256-bit ones (VAES, VPCLMULQDQ), from one description.
//
// There are no masks here as AVX-512 has them, and none are needed: behind the
// last byte of a packet are TagSize bytes of its own, so that its last block may
// be read and written whole. What is written behind the end are the bytes that
// were read there.
//
// A packet is a number of full chunks of eight vectors and a rest of fewer
// blocks. For each number of blocks the rest has code of its own, in which all
// powers stand at fixed places. Small packets are a rest alone; where several
// neighbours have equally many blocks they take code that runs their ciphers
// side by side.

const (
	chunkVectors = 8
	besideBlocks = 6 // packets of up to so many blocks go side by side
)

// The registers. Data are in 0 to 7, side by side in 0 to 9.
const (
	rCtr = 8 // the next counter blocks, little endian; in a rest: E(J0)
	rAcc = 9 // the hash so far
	rHi  = 10
	rLo  = 11
	rMid = 12
	rT0  = 13
	rT1  = 14
	rKey = 15
)

var (
	ymm      = []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15}
	sideKeys = []GPPhysical{R8, R9, R10, R13}
)

// kernel2 is what the code of one kernel shares.
type kernel2 struct {
	n    string // its name
	w    int    // blocks in a vector: 1 or 2
	open bool
	slow []func() // associated data of odd lengths, behind the end
}

// v is a register as wide as the kernel.
func (k *kernel2) v(i int) VecPhysical {
	if k.w == 2 {
		return ymm[i]
	}
	return xmm[i]
}

// low is the lower half of a register.
func low(x VecPhysical) VecPhysical { return x.AsX().(VecPhysical) }

func narrow(i int) VecPhysical { return xmm[i] }

func (k *kernel2) label(format string, a ...any) string {
	return k.n + "_" + fmt.Sprintf(format, a...)
}

// key loads a round key into every lane of a register.
func (k *kernel2) key(m Mem, x VecPhysical) {
	if k.w == 2 {
		VBROADCASTI128(m, x)
		return
	}
	VMOVDQU(m, x)
}

// counter makes x counter blocks of the nonces in nonce and the counters at m.
func (k *kernel2) counter(m Mem, nonce, x VecPhysical) {
	if k.w == 2 {
		VPBLENDD(Imm(0x88), m, nonce, x)
		return
	}
	VPBLENDD(Imm(0x8), m, nonce, x)
}

// rounds lists rounds from to to-1 of the registers d under the key of R8.
func (k *kernel2) rounds(d []VecPhysical, from, to int) (l []func()) {
	for r := from; r < to; r++ {
		l = append(l, func() { k.key(mem(R8, ctxRound+16*r), k.v(rKey)) })
		for _, x := range d {
			l = append(l, func() { round(r, k.v(rKey), x) })
		}
	}
	return l
}

func round(r int, key, x VecPhysical) {
	if r == 0 {
		VPXOR(key, x, x)
	} else {
		VAESENC(key, x, x)
	}
}

// finish does the rounds from the tenth on: one, or five.
func (k *kernel2) finish(label string, d []VecPhysical) {
	MOVL(mem(R8, ctxRounds), EAX)
	CMPL(EAX, Imm(10))
	JEQ(LabelRef(label))
	interleave(k.rounds(d, 10, 14), nil)
	Label(label)
	SHLQ(Imm(4), RAX)
	k.key(Mem{Base: R8, Index: RAX, Scale: 1, Disp: ctxRound}, k.v(rKey))
	for _, x := range d {
		VAESENCLAST(k.v(rKey), x, x)
	}
}

// multiply lists the product of d and H^e, and below it in the next lane, onto
// rHi, rLo and rMid, as wide as as says. It spoils d and rT1.
func multiply(as func(int) VecPhysical, d VecPhysical, ctx Register, e int, first bool) []func() {
	h, folded := mem(ctx, ctxPowers+16*(fullBlocks-e)), mem(ctx, ctxFolded+16*(fullBlocks-e))
	hi, lo, mid, t := as(rHi), as(rLo), as(rMid), as(rT1)
	fold := []func(){
		func() { VPSHUFD(Imm(0x4e), d, t) },
		func() { VPXOR(t, d, d) },
	}
	if first {
		return append([]func(){
			func() { VPCLMULQDQ(Imm(0x11), h, d, hi) },
			func() { VPCLMULQDQ(Imm(0x00), h, d, lo) },
		}, append(fold, func() { VPCLMULQDQ(Imm(0x00), folded, d, mid) })...)
	}
	return append([]func(){
		func() { VPCLMULQDQ(Imm(0x11), h, d, t) },
		func() { VPXOR(t, hi, hi) },
		func() { VPCLMULQDQ(Imm(0x00), h, d, t) },
		func() { VPXOR(t, lo, lo) },
	}, append(fold,
		func() { VPCLMULQDQ(Imm(0x00), folded, d, d) },
		func() { VPXOR(d, mid, mid) })...)
}

// reduce lists the reduction of what multiply has summed to one field element,
// in the 128 bits of out.
func (k *kernel2) reduce(as func(int) VecPhysical, out int) []func() {
	hi, lo, mid, p, t := as(rHi), as(rLo), as(rMid), as(rT0), as(rT1)
	l := []func(){
		func() { VMOVDQU(poly, p) },
		func() { VPXOR(hi, mid, mid) },
		func() { VPXOR(lo, mid, mid) },
		func() { VPCLMULQDQ(Imm(0x01), lo, p, t) },
		func() { VPSHUFD(Imm(0x4e), lo, lo) },
		func() { VPXOR(t, mid, mid) },
		func() { VPXOR(lo, mid, mid) },
		func() { VPCLMULQDQ(Imm(0x01), mid, p, t) },
		func() { VPSHUFD(Imm(0x4e), mid, mid) },
		func() { VPXOR(t, hi, hi) },
		func() { VPXOR(mid, hi, as(out)) },
	}
	if as(0) == Y0 {
		l = append(l,
			func() { VEXTRACTI128(Imm(1), ymm[out], xmm[rT1]) },
			func() { VPXOR(xmm[rT1], xmm[out], xmm[out]) })
	}
	return l
}

// aad loads the associated data of the op in RBX, byte-reversed, into rT0. It
// spoils R15 and RAX, and RDX where they are not 8 or 12 bytes.
func (k *kernel2) aad(label string) {
	x := xmm[rT0]
	MOVQ(mem(RBX, opAAD), R15)
	MOVQ(mem(RBX, opAADLen), RAX)
	CMPQ(RAX, Imm(8))
	JLT(LabelRef(label + "odd"))
	VMOVQ(mem(R15, 0), x)
	JEQ(LabelRef(label))
	CMPQ(RAX, Imm(12))
	JNE(LabelRef(label + "odd"))
	VPINSRD(Imm(2), mem(R15, 8), x, x)
	Label(label)
	VPSHUFB(revMask, x, x)
	k.slow = append(k.slow, func() {
		stack := Mem{Base: StackPointer}
		Label(label + "odd")
		VPXOR(x, x, x)
		VMOVDQU(x, stack)
		TESTQ(RAX, RAX)
		JZ(LabelRef(label))
		Label(label + "byte")
		MOVB(Mem{Base: R15, Index: RAX, Scale: 1, Disp: -1}, DL)
		MOVB(DL, Mem{Base: StackPointer, Index: RAX, Scale: 1, Disp: -1})
		DECQ(RAX)
		JNZ(LabelRef(label + "byte"))
		VMOVDQU(stack, x)
		JMP(LabelRef(label))
	})
}

// lengths makes x the block of both lengths of the op in RBX. It spoils RAX.
func lengths(x VecPhysical) {
	MOVQ(mem(RBX, opBufLen), RAX)
	SUBQ(Imm(tagSize), RAX)
	VMOVQ(RAX, x)
	VPINSRQ(Imm(1), mem(RBX, opAADLen), x, x)
	VPSLLQ(Imm(3), x, x)
}

// rest makes output and hash of the last b blocks of the op in RBX: at R12, RCX
// bytes, their keystream in d. The hash goes into register out. Something has
// been summed before if summed, else rAcc is what the first block takes on.
func (k *kernel2) rest(b int, ctx Register, d []VecPhysical, summed bool, out int) {
	acc := !summed
	m := (b + k.w - 1) / k.w
	odd := k.w == 2 && b%2 == 1
	if !odd {
		// The lengths go first, since this clears upper lanes.
		lengths(xmm[rT0])
		if b == 0 {
			VPXOR(xmm[rAcc], xmm[rT0], xmm[rT0])
		}
		interleave(multiply(narrow, xmm[rT0], ctx, 1, !summed), nil)
		summed = true
	}
	for i := range m {
		at, x, t, mask := mem(R12, 16*k.w*i), d[i], k.v(rT0), k.v(rKey)
		last := i == m-1
		if last {
			// The last block is valid in part, and alone in its vector if odd.
			window := Mem{Base: R11, Index: RAX, Scale: 1}
			if odd || k.w == 1 {
				x, t, mask = low(x), low(t), low(mask)
				window = window.Offset(16)
			}
			MOVL(U32(uint32(16*b)), EAX)
			SUBQ(RCX, RAX)
			VMOVDQU(window, mask)
			VPAND(mask, x, x)
		}
		if k.open {
			VMOVDQU(at, t)
			VPXOR(t, x, x)
			VMOVDQU(x, at)
			if last {
				VPAND(mask, t, t)
			}
			VPSHUFB(revMask, t, t)
		} else {
			VPXOR(at, x, x)
			VMOVDQU(x, at)
			if last {
				VPAND(mask, x, x)
			}
			VPSHUFB(revMask, x, t)
		}
		if i == 0 && acc {
			VPXOR(k.v(rAcc), k.v(rT0), k.v(rT0))
		}
		if odd && last {
			lengths(xmm[rT1])
			VINSERTI128(Imm(1), xmm[rT1], ymm[rT0], ymm[rT0])
		}
		interleave(multiply(k.v, k.v(rT0), ctx, b+1-k.w*i, !summed), nil)
		summed = true
	}
	as := k.v
	if b == 0 {
		as = narrow
	}
	interleave(k.reduce(as, out), nil)
}

// tagPlace makes RAX point behind the packet.
func tagPlace() Mem {
	MOVQ(mem(RBX, opBuf), RAX)
	ADDQ(mem(RBX, opBufLen), RAX)
	return mem(RAX, -tagSize)
}

// tag ends the op in RBX, whose hash is in register hash. E(J0) in x has taken
// on the tag that came where this opens.
func (k *kernel2) tag(hash int, x VecPhysical) {
	VPSHUFB(revMask, xmm[hash], xmm[hash])
	VPXOR(xmm[hash], x, x)
	if k.open {
		VPTEST(x, x)
		SETEQ(mem(RBX, opOK))
		return
	}
	VMOVDQU(x, tagPlace())
	MOVB(Imm(1), mem(RBX, opOK))
}

// single does the rest of a packet, of b blocks.
func (k *kernel2) single(b int) {
	m := (b + k.w - 1) / k.w
	odd := k.w == 2 && b%2 == 1
	Label(k.label("rest%d", b))
	var d []VecPhysical
	for i := range m {
		d = append(d, k.v(i))
	}
	interleave(k.counters(d), nil)
	j0 := xmm[rCtr] // the counter is not needed any more
	VMOVDQU(mem(RBX, opNonce), j0)
	VPBLENDD(Imm(0x8), ctrBE, j0, j0)
	if odd {
		VINSERTI128(Imm(1), j0, ymm[m-1], ymm[m-1])
	} else {
		d = append(d, k.v(rCtr))
	}
	interleave(k.rounds(d, 0, 10), nil)
	k.finish(k.label("last%d", b), d)
	if odd {
		VEXTRACTI128(Imm(1), ymm[m-1], j0)
	}
	if k.open {
		VPXOR(tagPlace(), j0, j0)
	}
	k.rest(b, R8, d, false, rAcc)
	k.tag(rAcc, j0)
	JMP(LabelRef(k.label("done")))
}

// abreast is how many packets of b blocks go side by side.
func (k *kernel2) abreast(b int) int { return min(len(sideKeys), 10/(b/k.w+1)) }

// beside does several packets of b blocks each, if the next ones are such.
func (k *kernel2) beside(b int) {
	p, per, m := k.abreast(b), b/k.w+1, (b+k.w-1)/k.w
	odd := k.w == 2 && b%2 == 1
	Label(k.label("beside%d", b))
	if p == 1 {
		JMP(LabelRef(k.label("alone")))
		return
	}
	CMPQ(RSI, Imm(uint64(p)))
	JLT(LabelRef(k.label("alone")))
	for q := 1; q < p; q++ {
		MOVQ(mem(RDI, 8*q), RBX)
		MOVQ(mem(RBX, opBufLen), RCX)
		DECQ(RCX)
		SHRQ(Imm(4), RCX)
		CMPQ(RCX, RAX)
		JNE(LabelRef(k.label("alone")))
	}
	d := make([][]VecPhysical, p)
	var all []VecPhysical
	for q := range p {
		MOVQ(mem(RDI, 8*q), RBX)
		MOVQ(mem(RBX, opKey), sideKeys[q])
		k.key(mem(RBX, opNonce), k.v(rT0))
		for i := range per {
			x := k.v(q*per + i)
			switch {
			case i == m: // E(J0) alone
				k.counter(ctrBE, k.v(rT0), x)
			case i == m-1 && odd: // and in the last lane
				k.counter(ctrWithFirst.Offset(32*i), k.v(rT0), x)
			default:
				k.counter(ctrBE.Offset(32+16*k.w*i), k.v(rT0), x)
			}
			d[q] = append(d[q], x)
		}
		all = append(all, d[q]...)
	}
	turn := 0
	each := func(at func(ctx Register) Mem, f func(key, x VecPhysical)) {
		for q := range p {
			key := k.v([]int{rT0, rT1, rKey}[turn%3])
			turn++
			k.key(at(sideKeys[q]), key)
			for _, x := range d[q] {
				f(key, x)
			}
		}
	}
	rounds := func(from, to int) {
		for r := from; r < to; r++ {
			each(func(ctx Register) Mem { return mem(ctx, ctxRound+16*r) },
				func(key, x VecPhysical) { round(r, key, x) })
		}
	}
	rounds(0, 10)
	MOVL(mem(R8, ctxRounds), EAX)
	CMPL(EAX, Imm(10))
	JEQ(LabelRef(k.label("beside%dlast", b)))
	rounds(10, 14)
	Label(k.label("beside%dlast", b))
	SHLQ(Imm(4), RAX)
	each(func(ctx Register) Mem { return Mem{Base: ctx, Index: RAX, Scale: 1, Disp: ctxRound} },
		func(key, x VecPhysical) { VAESENCLAST(key, x, x) })
	for q := range p {
		MOVQ(mem(RDI, 8*q), RBX)
		MOVQ(mem(RBX, opBuf), R12)
		MOVQ(mem(RBX, opBufLen), RCX)
		SUBQ(Imm(tagSize), RCX)
		j0, spill := low(d[q][per-1]), Mem{Base: StackPointer, Disp: 16 + 16*q}
		if odd {
			j0 = xmm[rT0]
			VEXTRACTI128(Imm(1), d[q][m-1], j0)
		}
		if k.open {
			VPXOR(tagPlace(), j0, j0)
		}
		if odd {
			VMOVDQU(j0, spill)
		}
		k.aad(k.label("beside%daad%d", b, q))
		interleave(multiply(narrow, xmm[rT0], sideKeys[q], b+2, true), nil)
		k.rest(b, sideKeys[q], d[q], true, rHi)
		if odd {
			VMOVDQU(spill, j0)
		}
		k.tag(rHi, j0)
	}
	ADDQ(Imm(uint64(8*p)), RDI)
	SUBQ(Imm(uint64(p)), RSI)
	JNZ(LabelRef(k.label("loop")))
	JMP(LabelRef(k.label("end")))
}

// counters lists the making of the next counter blocks.
func (k *kernel2) counters(d []VecPhysical) (l []func()) {
	inc := ctrOnes
	if k.w == 2 {
		inc = ctrTwos
	}
	for _, x := range d {
		l = append(l,
			func() { VPSHUFB(ctrSwap, k.v(rCtr), x) },
			func() { VPADDD(inc, k.v(rCtr), k.v(rCtr)) })
	}
	return l
}

// hashChunk lists the hashing of the full chunk at R12+disp into rAcc.
func (k *kernel2) hashChunk(disp int) (l []func()) {
	for i := range chunkVectors {
		d := k.v(rT0)
		l = append(l,
			func() { VMOVDQU(mem(R12, disp+16*k.w*i), d) },
			func() { VPSHUFB(revMask, d, d) })
		if i == 0 {
			l = append(l, func() { VPXOR(k.v(rAcc), d, d) })
		}
		l = append(l, multiply(k.v, d, R8, k.w*(chunkVectors-i), i == 0)...)
	}
	return append(l, k.reduce(k.v, rAcc)...)
}

// chunk does the cipher of a full chunk, beside it what hash lists.
func (k *kernel2) chunk(label string, hash []func()) {
	var d []VecPhysical
	for i := range chunkVectors {
		d = append(d, k.v(i))
	}
	// Twice, so that the hash goes with all rounds.
	CMPL(mem(R8, ctxRounds), Imm(10))
	JNE(LabelRef(k.label("%s256", label)))
	for _, rounds := range []int{10, 14} {
		if rounds == 14 {
			JMP(LabelRef(k.label("%sout", label)))
			Label(k.label("%s256", label))
		}
		l := append(k.counters(d), k.rounds(d, 0, rounds)...)
		l = append(l, func() { k.key(mem(R8, ctxRound+16*rounds), k.v(rKey)) })
		for _, x := range d {
			l = append(l, func() { VAESENCLAST(k.v(rKey), x, x) })
		}
		interleave(l, hash)
	}
	Label(k.label("%sout", label))
	for i, x := range d {
		VPXOR(mem(R12, 16*k.w*i), x, x)
		VMOVDQU(x, mem(R12, 16*k.w*i))
	}
	ADDQ(I32(int32(k.chunkBytes())), R12)
	SUBQ(I32(int32(k.chunkBytes())), RCX)
}

func (k *kernel2) chunkBytes() int { return 16 * k.w * chunkVectors }

// branch jumps to prefix and the number of blocks in RAX, from from to to-1.
func (k *kernel2) branch(prefix string, from, to int) {
	if to-from == 1 {
		JMP(LabelRef(k.label("%s%d", prefix, from)))
		return
	}
	mid := (from + to) / 2
	CMPQ(RAX, Imm(uint64(mid)))
	lower := k.label("%sbelow%d", prefix, mid)
	JLT(LabelRef(lower))
	k.branch(prefix, mid, to)
	Label(lower)
	k.branch(prefix, from, mid)
}

// avx2 writes a kernel of the tier avx2.
//
//	RDI ops  RSI how many  RBX op  R8 context  R12 next byte  RCX bytes left  R11 masks
func avx2(w int, open bool) {
	k := &kernel2{n: name([]string{"", "aesni", "vaes"}[w], open, 0), w: w, open: open}
	TEXT(k.n, NOSPLIT, "func(ops **byte, n int)")
	Pragma("noescape")
	Doc(k.n + " takes n packets of any size.")
	AllocLocal(80) // associated data, and E(J0) of those side by side
	Load(Param("ops"), RDI)
	Load(Param("n"), RSI)
	LEAQ(tailMask, R11)
	Label(k.label("loop"))
	MOVQ(mem(RDI, 0), RBX)
	MOVQ(mem(RBX, opBufLen), RAX)
	DECQ(RAX)
	SHRQ(Imm(4), RAX) // blocks of data: the tag is one
	LEAQ(mem(RAX, -1), RCX)
	CMPQ(RCX, Imm(besideBlocks-1))
	JHI(LabelRef(k.label("alone")))
	k.branch("beside", 1, besideBlocks+1)

	Label(k.label("alone"))
	MOVQ(mem(RDI, 0), RBX)
	MOVQ(mem(RBX, opKey), R8)
	MOVQ(mem(RBX, opBuf), R12)
	MOVQ(mem(RBX, opBufLen), RCX)
	SUBQ(Imm(tagSize), RCX)
	k.aad(k.label("aad"))
	interleave(append(multiply(narrow, xmm[rT0], R8, 1, true), k.reduce(narrow, rAcc)...), nil)
	k.key(mem(RBX, opNonce), k.v(rCtr))
	k.counter(ctrLE2, k.v(rCtr), k.v(rCtr))
	CMPQ(RCX, I32(int32(k.chunkBytes())))
	JLT(LabelRef(k.label("rest")))
	if open {
		Label(k.label("next"))
		k.chunk("chunk", k.hashChunk(0))
		CMPQ(RCX, I32(int32(k.chunkBytes())))
		JGE(LabelRef(k.label("next")))
	} else {
		k.chunk("first", nil)
		Label(k.label("next"))
		CMPQ(RCX, I32(int32(k.chunkBytes())))
		JLT(LabelRef(k.label("pending")))
		k.chunk("chunk", k.hashChunk(-k.chunkBytes()))
		JMP(LabelRef(k.label("next")))
		Label(k.label("pending"))
		interleave(k.hashChunk(-k.chunkBytes()), nil)
	}
	Label(k.label("rest"))
	LEAQ(mem(RCX, 15), RAX)
	SHRQ(Imm(4), RAX)
	k.branch("rest", 0, chunkVectors*w+1)
	for b := range chunkVectors*w + 1 {
		k.single(b)
	}
	for b := range besideBlocks {
		k.beside(b + 1)
	}
	Label(k.label("done"))
	ADDQ(Imm(8), RDI)
	DECQ(RSI)
	JNZ(LabelRef(k.label("loop")))
	Label(k.label("end"))
	VPXOR(Y0, Y0, Y0) // nothing secret stays on the stack
	VMOVDQU(Y0, Mem{Base: StackPointer, Disp: 16})
	VMOVDQU(Y0, Mem{Base: StackPointer, Disp: 48})
	VZEROUPPER()
	RET()
	for _, f := range k.slow {
		f()
	}
}

// cpuFeatures asks for what golang.org/x/sys/cpu tells of only where there is
// AVX-512.
func cpuFeatures() {
	TEXT("leaf7", NOSPLIT, "func() uint32")
	Doc("leaf7 is ECX of CPUID's leaf 7, which a processor with AVX2 has.")
	MOVL(U32(7), EAX)
	XORL(ECX, ECX)
	CPUID()
	Store(ECX, ReturnIndex(0))
	RET()
}
