package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The kernels for processors with AES-NI and PCLMULQDQ, on 128-bit registers.

var xmm = []VecPhysical{X0, X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14, X15}

// reduce128 brings hi, lo and mid to a field element in hi.
func reduce128(hi, lo, mid, t, p VecPhysical) {
	VPXOR(hi, mid, mid)
	VPXOR(lo, mid, mid)
	VPCLMULQDQ(Imm(0x01), lo, p, t)
	VPSHUFD(Imm(0x4e), lo, lo)
	VPXOR(t, mid, mid)
	VPXOR(lo, mid, mid)
	VPCLMULQDQ(Imm(0x01), mid, p, t)
	VPSHUFD(Imm(0x4e), mid, mid)
	VPXOR(t, hi, hi)
	VPXOR(mid, hi, hi)
}

// block128 adds to hi, lo and mid the product of the block d and the power at
// h. It spoils d, t0 and t1.
func block128(d VecPhysical, h Mem, hi, lo, mid, t0, t1 VecPhysical) {
	VMOVDQU(h, t1)
	VPCLMULQDQ(Imm(0x11), t1, d, t0)
	VPXOR(t0, hi, hi)
	VPCLMULQDQ(Imm(0x00), t1, d, t0)
	VPXOR(t0, lo, lo)
	VPSHUFD(Imm(0x4e), d, t0)
	VPXOR(t0, d, d)
	VPSHUFD(Imm(0x4e), t1, t0)
	VPXOR(t0, t1, t1)
	VPCLMULQDQ(Imm(0x00), t1, d, t0)
	VPXOR(t0, mid, mid)
}

// powersAVX makes the table of powers from its last entry.
func powersAVX() {
	TEXT("powersAVX", NOSPLIT, "func(c *byte)")
	Pragma("noescape")
	Doc("powersAVX makes the powers of H, and the sums of their halves, from H^1, which stands in its place.")
	Load(Param("c"), RDI)
	VMOVDQU(poly, X15)
	VMOVDQU(mem(RDI, ctxPowers+31*16), X0)
	LEAQ(mem(RDI, 31*16), RSI)
	VMOVDQA(X0, X1)
	Label("powersAVX_loop")
	VPSHUFD(Imm(0x4e), X1, X2)
	VPXOR(X1, X2, X2)
	VMOVDQU(X1, mem(RSI, ctxPowers))
	VMOVDQU(X2, mem(RSI, ctxFolded))
	VPXOR(X3, X3, X3)
	VPXOR(X4, X4, X4)
	VPXOR(X5, X5, X5)
	block128(X1, mem(RDI, ctxPowers+31*16), X3, X4, X5, X6, X7)
	reduce128(X3, X4, X5, X6, X15)
	VMOVDQA(X3, X1)
	SUBQ(Imm(16), RSI)
	CMPQ(RSI, RDI)
	JGE(LabelRef("powersAVX_loop"))
	VZEROUPPER()
	RET()
}

func subWordAVX() {
	TEXT("subWordAVX", NOSPLIT, "func(w uint32) uint32")
	Doc("subWordAVX is SubWord of FIPS 197, section 5.2, without a table in memory.")
	Load(Param("w"), EAX)
	VMOVD(EAX, X0)
	VPSHUFD(Imm(0), X0, X0)
	VAESKEYGENASSIST(Imm(0), X0, X0)
	VMOVD(X0, EAX)
	Store(EAX, ReturnIndex(0))
	RET()
}

// packetAVX takes packets of any size, one after the other: eight blocks of
// cipher at a time, and GHASH in a pass of its own, after sealing or before
// opening, of up to 32 blocks a reduction.
//
//	RBX op  R8 context  R12 next byte  RCX bytes left  X15 counter block
//	X8 X9 X10 products  X11 X12 temporary  X13 reverse  X14 polynomial
func packetAVX(open bool) {
	n := name("packetAVX", open, 0)
	const tail = 0 // a block in the frame for what is not a whole block
	TEXT(n, NOSPLIT, "func(ops **byte, n int)")
	Pragma("noescape")
	Doc(n + " takes n packets of any size.")
	AllocLocal(32)
	Load(Param("ops"), RDI)
	Load(Param("n"), RSI)
	Label(n + "_loop")
	VMOVDQU(revMask, X13)
	VMOVDQU(poly, X14)
	MOVQ(mem(RDI, 0), RBX)
	MOVQ(mem(RBX, opKey), R8)
	if !open {
		cipherAVX(n)
	}
	hashAVX(n)
	// E(J0), into the tag.
	MOVL(U32(1), EAX)
	BSWAPL(EAX)
	VMOVDQU(mem(RBX, opNonce), X0)
	VPINSRD(Imm(3), EAX, X0, X0)
	MOVL(mem(R8, ctxRounds), EDX)
	LEAQ(mem(R8, ctxRound), R9)
	VPXOR(mem(R9, 0), X0, X0)
	Label(n + "_j0")
	ADDQ(Imm(16), R9)
	DECL(EDX)
	JZ(LabelRef(n + "_j0last"))
	VAESENC(mem(R9, 0), X0, X0)
	JMP(LabelRef(n + "_j0"))
	Label(n + "_j0last")
	VAESENCLAST(mem(R9, 0), X0, X0)
	VPSHUFB(X13, X8, X8)
	VPXOR(X0, X8, X8)
	MOVQ(mem(RBX, opBuf), R12)
	ADDQ(mem(RBX, opBufLen), R12)
	if open {
		VPXOR(mem(R12, -tagSize), X8, X8)
		VPTEST(X8, X8)
		SETEQ(mem(RBX, opOK))
		cipherAVX(n)
	} else {
		VMOVDQU(X8, mem(R12, -tagSize))
		MOVB(Imm(1), mem(RBX, opOK))
	}
	ADDQ(Imm(8), RDI)
	DECQ(RSI)
	JNZ(LabelRef(n + "_loop"))
	VPXOR(X0, X0, X0)
	VMOVDQU(X0, Mem{Base: StackPointer, Disp: tail}) // no keystream stays on the stack
	VZEROUPPER()
	RET()
}

// cipherAVX encrypts the packet in counter mode.
func cipherAVX(n string) {
	stack := Mem{Base: StackPointer}
	MOVQ(mem(RBX, opBuf), R12)
	MOVQ(mem(RBX, opBufLen), RCX)
	SUBQ(Imm(tagSize), RCX)
	JZ(LabelRef(n + "_ctrend"))
	VMOVDQU(mem(RBX, opNonce), X15)
	VMOVDQU(ctrSwap, X9)
	MOVL(U32(2), EAX)
	VPINSRD(Imm(3), EAX, X15, X15)
	VMOVDQU(ctrFour, X10)
	VPSRLD(Imm(2), X10, X10) // one, in the last dword
	Label(n + "_ctr")
	for i := range 8 {
		VPSHUFB(X9, X15, xmm[i])
		VPADDD(X10, X15, X15)
	}
	MOVL(mem(R8, ctxRounds), EDX)
	LEAQ(mem(R8, ctxRound), R9)
	VMOVDQU(mem(R9, 0), X11)
	for i := range 8 {
		VPXOR(X11, xmm[i], xmm[i])
	}
	Label(n + "_round")
	ADDQ(Imm(16), R9)
	VMOVDQU(mem(R9, 0), X11)
	DECL(EDX)
	JZ(LabelRef(n + "_lastround"))
	for i := range 8 {
		VAESENC(X11, xmm[i], xmm[i])
	}
	JMP(LabelRef(n + "_round"))
	Label(n + "_lastround")
	for i := range 8 {
		VAESENCLAST(X11, xmm[i], xmm[i])
	}
	CMPQ(RCX, Imm(128))
	JLT(LabelRef(n + "_short"))
	for i := range 8 {
		VPXOR(mem(R12, 16*i), xmm[i], xmm[i])
		VMOVDQU(xmm[i], mem(R12, 16*i))
	}
	ADDQ(I32(128), R12)
	SUBQ(I32(128), RCX)
	JNZ(LabelRef(n + "_ctr"))
	JMP(LabelRef(n + "_ctrend"))
	// Fewer than eight blocks: whole ones, then bytes.
	Label(n + "_short")
	for i := range 8 {
		VMOVDQA(xmm[i], X0)
		CMPQ(RCX, Imm(16))
		JLT(LabelRef(n + "_bytes"))
		if i == 7 {
			break
		}
		VPXOR(mem(R12, 0), X0, X0)
		VMOVDQU(X0, mem(R12, 0))
		ADDQ(Imm(16), R12)
		SUBQ(Imm(16), RCX)
	}
	Label(n + "_bytes")
	TESTQ(RCX, RCX)
	JZ(LabelRef(n + "_ctrend"))
	VMOVDQU(X0, stack)
	Label(n + "_byte")
	MOVB(Mem{Base: StackPointer, Index: RCX, Scale: 1, Disp: -1}, AL)
	XORB(AL, Mem{Base: R12, Index: RCX, Scale: 1, Disp: -1})
	DECQ(RCX)
	JNZ(LabelRef(n + "_byte"))
	Label(n + "_ctrend")
}

// hashAVX hashes associated data, ciphertext and lengths into X8. R10 is the
// place of the next block's power, R11 how many blocks there are before the
// next reduction, R13 how many in all.
func hashAVX(n string) {
	stack := Mem{Base: StackPointer}
	clear := func() {
		for _, x := range xmm[8:11] {
			VPXOR(x, x, x)
		}
	}
	part := func() { // the next up to 32 blocks
		MOVL(U32(fullBlocks), R11L)
		CMPQ(R13, R11)
		CMOVQLT(R13, R11)
		SUBQ(R11, R13)
		MOVQ(R11, RAX)
		SHLQ(Imm(4), RAX)
		LEAQ(mem(R8, ctxPowers+16*fullBlocks), R10)
		SUBQ(RAX, R10)
		clear()
	}
	MOVQ(mem(RBX, opBuf), R12)
	MOVQ(mem(RBX, opBufLen), RCX)
	SUBQ(Imm(tagSize), RCX)
	LEAQ(mem(RCX, 15+32), R13)
	SHRQ(Imm(4), R13)
	part()
	MOVQ(mem(RBX, opAAD), R9)
	MOVQ(mem(RBX, opAADLen), RAX)
	CMPQ(RAX, Imm(8))
	JLT(LabelRef(n + "_aad"))
	VMOVQ(mem(R9, 0), X0)
	JEQ(LabelRef(n + "_hash"))
	CMPQ(RAX, Imm(12))
	JNE(LabelRef(n + "_aad"))
	VPINSRD(Imm(2), mem(R9, 8), X0, X0)
	JMP(LabelRef(n + "_hash"))
	Label(n + "_aad")
	VPXOR(X0, X0, X0)
	VMOVDQU(X0, stack)
	TESTQ(RAX, RAX)
	JZ(LabelRef(n + "_hash"))
	Label(n + "_aadbyte")
	MOVB(Mem{Base: R9, Index: RAX, Scale: 1, Disp: -1}, DL)
	MOVB(DL, Mem{Base: StackPointer, Index: RAX, Scale: 1, Disp: -1})
	DECQ(RAX)
	JNZ(LabelRef(n + "_aadbyte"))
	VMOVDQU(stack, X0)
	Label(n + "_hash")
	VPSHUFB(X13, X0, X0)
	block128(X0, mem(R10, 0), X8, X9, X10, X11, X12)
	ADDQ(Imm(16), R10)
	VPXOR(X1, X1, X1) // the hash so far, where it goes into the next block
	DECQ(R11)
	JNZ(LabelRef(n + "_hashed"))
	reduce128(X8, X9, X10, X11, X14)
	VMOVDQA(X8, X1)
	part()
	Label(n + "_hashed")
	CMPQ(RCX, Imm(16))
	JLT(LabelRef(n + "_hashshort"))
	VPSHUFB(X13, X1, X1)
	VPXOR(mem(R12, 0), X1, X0)
	ADDQ(Imm(16), R12)
	SUBQ(Imm(16), RCX)
	JMP(LabelRef(n + "_hash"))
	Label(n + "_hashshort")
	TESTQ(RCX, RCX)
	JZ(LabelRef(n + "_lengths"))
	VPXOR(X0, X0, X0)
	VMOVDQU(X0, stack)
	Label(n + "_hashbyte")
	MOVB(Mem{Base: R12, Index: RCX, Scale: 1, Disp: -1}, AL)
	MOVB(AL, Mem{Base: StackPointer, Index: RCX, Scale: 1, Disp: -1})
	DECQ(RCX)
	JNZ(LabelRef(n + "_hashbyte"))
	VPSHUFB(X13, X1, X1)
	VPXOR(stack, X1, X0)
	JMP(LabelRef(n + "_hash"))
	Label(n + "_lengths")
	MOVQ(mem(RBX, opBufLen), RAX)
	SUBQ(Imm(tagSize), RAX)
	VMOVQ(RAX, X0)
	VPINSRQ(Imm(1), mem(RBX, opAADLen), X0, X0)
	VPSLLQ(Imm(3), X0, X0)
	VPXOR(X1, X0, X0)
	block128(X0, mem(R10, 0), X8, X9, X10, X11, X12)
	reduce128(X8, X9, X10, X11, X14)
}

// prefetch brings what small packets need of their keys into the cache.
func prefetch() {
	TEXT("prefetchKeys", NOSPLIT, "func(keys **byte, n int)")
	Pragma("noescape")
	Doc("prefetchKeys asks for the parts of n contexts, at least one, that a small packet needs.")
	Load(Param("keys"), RDI)
	Load(Param("n"), RSI)
	Label("prefetchKeys_loop")
	MOVQ(mem(RDI, 0), RAX)
	for at := ctxSmall; at < ctxSmallEnd; at += 64 {
		if at == ctxPowers+36*16 {
			continue // of the zeros, which packets of more than three blocks do not need
		}
		PREFETCHT0(mem(RAX, at))
	}
	ADDQ(Imm(8), RDI)
	DECQ(RSI)
	JNZ(LabelRef("prefetchKeys_loop"))
	RET()
}
